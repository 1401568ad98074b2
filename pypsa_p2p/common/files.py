"""Tables that come back from files as they were.

PyPSA's files leave out time series that hold nothing but PyPSA's default. Where the series of the
same component in another scenario is kept, those left out come back as nan. Series of a market
therefore never hold the default alone: they are off it by a rounding error, which no solver sees.
And they list rows in the order of an index' labels, which PyPSA sorts when it looks for
sub-networks: `in_order` undoes that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from pypsa_p2p.common.names import SCENARIO, SNAPSHOT

Numbers = npt.NDArray[np.float64]

#: The smallest number that is not 0, and the largest below 1.
ABOVE_ZERO = float(np.finfo(float).tiny)
BELOW_ONE = float(np.nextafter(1.0, 0.0))


def off_default(values: Numbers, default: float) -> Numbers:
    """Series (snapshot, column) none of which holds the default alone."""
    other = ABOVE_ZERO if default == 0 else float(np.nextafter(default, np.inf))
    return np.where((values == default).all(axis=0), other, values)


def limits_off_default(lower: xr.DataArray, upper: xr.DataArray) -> tuple[xr.DataArray, ...]:
    """`p_min_pu` and `p_max_pu` none of whose varying series hold 0, or 1, alone.

    Where they are equal they stay equal, and the lower one stays below.
    """
    if SCENARIO not in {*lower.dims, *upper.dims}:
        return lower, upper
    lower, upper = xr.broadcast(lower, upper)
    lowest = _alone(lower, 0.0)
    lower = lower.where(~lowest, ABOVE_ZERO)
    upper = upper.where(~(lowest & (upper == 0)), ABOVE_ZERO)
    highest = _alone(upper, 1.0)
    upper = upper.where(~highest, BELOW_ONE)
    lower = lower.where(~(highest & (lower == 1)), BELOW_ONE)
    return lower, upper


def in_order(index: pd.Index) -> pd.MultiIndex:
    """The same rows, with the labels inside the index in order of appearance.

    PyPSA's search for sub-networks sorts those of the buses, and its files then sort the buses,
    and scenarios everywhere, by name.

    >>> rows = pd.MultiIndex.from_product([["windy", "calm"], ["b", "a"]])
    >>> [list(labels) for labels in in_order(rows).levels]
    [['windy', 'calm'], ['b', 'a']]
    """
    columns = [index.get_level_values(level) for level in range(index.nlevels)]
    levels: Any = [column.unique() for column in columns]
    codes: Any = [level.get_indexer(row) for level, row in zip(levels, columns, strict=True)]
    return pd.MultiIndex(levels=levels, codes=codes, names=index.names)


def _alone(values: xr.DataArray, default: float) -> xr.DataArray:
    """Which series hold the default alone, where not all scenarios' do."""
    times = [dim for dim in values.dims if dim == SNAPSHOT]
    blank = (values == default).all(times)
    return blank & ~blank.all(SCENARIO)
