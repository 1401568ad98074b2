"""Numbers of trade edges in every form they may be given: by pair, by direction, by snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import SNAPSHOT, TRADE
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.common.values import as_array, is_sequence, refuse, scalar

Flags = npt.NDArray[np.bool_]

EdgeValue = float | Mapping[tuple[str, str], Any] | pd.Series | pd.DataFrame | xr.DataArray
"""A number for all edges, or numbers by a pair of prosumers, by snapshot, or by both."""

#: Dimensions of a DataArray by pair: who buys, and from whom.
BUYER, SELLER = "buyer", "seller"
_EDGE, _DIRECTION = "edge", "buyer, seller"


def symmetric(
    value: object,
    argument: str,
    edges: pd.MultiIndex,
    prosumers: pd.Index,
    snapshots: pd.Index,
) -> Numbers:
    """One number of at least 0 for each sorted pair, given in either or both of its orders.

    Returns
    -------
    (E,), or (T, E) where it is given by snapshot.
    """
    given = _given(value, argument, edges, prosumers, snapshots)
    coordinates = {SNAPSHOT: snapshots, _EDGE: edges}
    if isinstance(given, xr.DataArray):
        values = given
    else:
        by_edge = _with_pairs(given, sorted_pairs(_pairs_of(given)))
        values, others = (
            as_array(_distinct(by_edge, kept), argument, coordinates) for kept in ("first", "last")
        )
        unlike = f"{argument} differs between the two orders"
        refuse(values != others, unlike, "it belongs to the edge: give it once, or alike")
    refuse(values < 0, f"{argument} is negative", "it must be at least 0")
    return _full(values, len(edges))


def directed(
    value: object,
    argument: str,
    pairs: pd.MultiIndex,
    prosumers: pd.Index,
    snapshots: pd.Index,
    *,
    signed: bool = True,
    either_order: bool = False,
) -> Numbers:
    """The number of each end of every edge, who buys from the other: bus0's, bus1's.

    At least 0, unless it is `signed`. With `either_order`, what is given for one order of a pair
    alone holds for both.

    Returns
    -------
    (2, E), or (2, T, E) where it is given by snapshot.
    """
    given = _given(value, argument, sorted_pairs(pairs), prosumers, snapshots)
    both = pairs.append(pairs.swaplevel())
    if not isinstance(given, xr.DataArray):
        if either_order:
            given = _in_both_orders(given)
        given = as_array(given, argument, {SNAPSHOT: snapshots, _DIRECTION: both})
    if not signed:
        refuse(given < 0, f"{argument} is negative", "it must be at least 0")
    values = _full(given, len(both))
    return np.stack(np.split(values, 2, axis=-1))


def require_pairs(pairs: Iterable[Any], argument: str) -> pd.MultiIndex:
    """Pairs of names as an index of two levels.

    Raises
    ------
    DataError
        One is no pair of names.
    """
    found = list(pairs)
    wrong = [pair for pair in found if not _is_pair(pair)]
    if wrong:
        raise DataError(f"Argument {argument} has {listed(wrong)}: it must be a pair of names.")
    return pd.MultiIndex.from_arrays([[str(pair[side]) for pair in found] for side in (0, 1)])


def sorted_pairs(pairs: pd.Index) -> pd.MultiIndex:
    """The pairs with their two names in alphabetical order."""
    one, other = (np.asarray(pairs.get_level_values(level), dtype=object) for level in (0, 1))
    swap = one > other
    return pd.MultiIndex.from_arrays([np.where(swap, other, one), np.where(swap, one, other)])


def _full(values: xr.DataArray, count: int) -> Numbers:
    """(count,) or (T, count) of an array with or without the dimensions of snapshots and pairs."""
    array = values.to_numpy()
    if list(values.dims) == [SNAPSHOT]:
        array = array[:, None]
    lead = array.shape[:-1] if array.ndim else ()
    return np.array(np.broadcast_to(array, (*lead, count)))


def _given(
    value: object,
    argument: str,
    edges: pd.MultiIndex,
    prosumers: pd.Index,
    snapshots: pd.Index,
) -> xr.DataArray | pd.Series | pd.DataFrame:
    """What holds for all edges as numbers; else values as they are by pair, or snapshot x pair."""
    value = scalar(value)
    match value:
        case xr.DataArray():
            return _of_array(value, argument, edges, prosumers, snapshots)
        case pd.DataFrame():
            if _has_pairs(value.columns):
                pairs = require_pairs(value.columns, argument)
                return _unrepeated(value.astype(object).set_axis(pairs, axis=1), argument)
            return _of_matrix(value, argument, edges, prosumers)
        case pd.Series() if _is_by_snapshot(value.index, snapshots):
            return as_array(value, argument, {SNAPSHOT: snapshots})
        case pd.Series() | Mapping():
            return _of_pairs(value, argument, snapshots)
    return as_array(value, argument, {})


def _of_array(
    array: xr.DataArray,
    argument: str,
    edges: pd.MultiIndex,
    prosumers: pd.Index,
    snapshots: pd.Index,
) -> xr.DataArray | pd.Series | pd.DataFrame:
    """An array over snapshots, over buyer and seller or trade, or over both."""
    dims = set(map(str, array.dims))
    if dims == {SNAPSHOT}:
        return as_array(array, argument, {SNAPSHOT: snapshots})
    if dims - {SNAPSHOT} == {TRADE} and {BUYER, SELLER} <= set(array.coords):
        pairs = zip(array[BUYER].to_numpy(), array[SELLER].to_numpy(), strict=True)
        return _frame(array, TRADE, require_pairs(pairs, argument), argument)
    if dims - {SNAPSHOT} != {BUYER, SELLER}:
        raise DataError(
            f"Argument {argument} has the dimensions {listed(array.dims)}: it may have {SNAPSHOT}, "
            f"and besides {BUYER} and {SELLER}, or {TRADE} with these two as coordinates."
        )
    names = [array.indexes.get(end, pd.RangeIndex(array.sizes[end])) for end in (BUYER, SELLER)]
    for axis, labels in zip(("buyers", "sellers"), names, strict=True):
        _require_prosumers(labels, axis, argument, prosumers)
    stacked = array.transpose(..., BUYER, SELLER)
    flat = xr.DataArray(
        stacked.to_numpy().reshape(*stacked.shape[:-2], -1),
        dims=[*stacked.dims[:-2], TRADE],
        coords={SNAPSHOT: stacked.indexes[SNAPSHOT]} if SNAPSHOT in stacked.indexes else None,
    )
    given = _frame(flat, TRADE, pd.MultiIndex.from_product(names), argument)
    return _of_edges(given, edges)


def _frame(
    array: xr.DataArray, along: str, pairs: pd.MultiIndex, argument: str
) -> pd.Series | pd.DataFrame:
    """Values by pair, or snapshot x pair, as they are."""
    values = array.transpose(..., along).to_numpy().astype(object)
    if values.ndim == 1:
        return _unrepeated(pd.Series(values, index=pairs, dtype=object), argument)
    if SNAPSHOT not in array.indexes:
        raise DataError(
            f"Argument {argument} has no labels along {SNAPSHOT!r}: add them with assign_coords, "
            "so that values meet the right snapshots."
        )
    return _unrepeated(pd.DataFrame(values, array.indexes[SNAPSHOT], pairs), argument)


def _of_matrix(
    matrix: pd.DataFrame, argument: str, edges: pd.MultiIndex, prosumers: pd.Index
) -> pd.Series:
    """A matrix buyer x seller; what it has beyond the edges does not matter."""
    for axis, labels in (("rows", matrix.index), ("columns", matrix.columns)):
        _require_prosumers(labels, axis, argument, prosumers)
    index = pd.MultiIndex.from_product([matrix.index, matrix.columns])
    found = _of_edges(pd.Series(matrix.to_numpy().ravel(), index=index, dtype=object), edges)
    assert isinstance(found, pd.Series)
    return found


def _of_edges(given: pd.Series | pd.DataFrame, edges: pd.MultiIndex) -> pd.Series | pd.DataFrame:
    """What is given for an edge, of a value for every two prosumers."""
    pairs = _pairs_of(given)
    missing = given.isna().to_numpy()
    there = ~(missing.all(axis=0) if missing.ndim > 1 else missing)
    return _taken(given, sorted_pairs(pairs).isin(edges) & there)


def _of_pairs(
    value: Mapping[Any, Any] | pd.Series, argument: str, snapshots: pd.Index
) -> pd.Series | pd.DataFrame:
    """Numbers by ordered pair, each one number or a number for each snapshot."""
    index = require_pairs(value.keys(), argument)
    raw = value.to_numpy() if isinstance(value, pd.Series) else list(value.values())
    if not any(isinstance(one, pd.Series | xr.DataArray) or is_sequence(one) for one in raw):
        return _unrepeated(pd.Series(list(raw), index=index, dtype=object), argument)
    columns = []
    for pair, one in zip(index, raw, strict=True):
        array = as_array(one, f"{argument} of {pair}", {SNAPSHOT: snapshots})
        columns.append(np.broadcast_to(array.to_numpy(), len(snapshots)))
    frame = pd.DataFrame(np.stack(columns, axis=1), snapshots, index)
    return _unrepeated(frame, argument)


def _unrepeated(given: pd.Series | pd.DataFrame, argument: str) -> pd.Series | pd.DataFrame:
    pairs = _pairs_of(given)
    if not pairs.is_unique:
        repeated = listed(pairs[pairs.duplicated()].unique())
        raise DataError(f"Argument {argument} repeats {repeated}: give each pair once.")
    return given


def _require_prosumers(labels: pd.Index, axis: str, argument: str, prosumers: pd.Index) -> None:
    """Refuse rows or columns of a matrix that are not prosumers, each once."""
    unknown = labels[~labels.isin(prosumers)]
    if len(unknown) or not labels.is_unique:
        wrong = unknown if len(unknown) else labels[labels.duplicated()]
        raise DataError(
            f"Argument {argument} has the {axis} {listed(wrong)}: name prosumers, each once."
        )


def _pairs_of(given: pd.Series | pd.DataFrame) -> pd.MultiIndex:
    pairs = given.index if isinstance(given, pd.Series) else given.columns
    assert isinstance(pairs, pd.MultiIndex)
    return pairs


def _with_pairs(given: pd.Series | pd.DataFrame, pairs: pd.MultiIndex) -> Any:
    return given.set_axis(pairs, axis="columns" if isinstance(given, pd.DataFrame) else "index")


def _distinct(given: pd.Series | pd.DataFrame, kept: Any) -> pd.Series | pd.DataFrame:
    """The first, or the last, of what is given for one edge."""
    return _taken(given, ~_pairs_of(given).duplicated(keep=kept))


def _in_both_orders(given: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    """With each pair that is given in one order only in the other one, too."""
    pairs = _pairs_of(given)
    swapped = _with_pairs(given, pairs.swaplevel())
    others = _taken(swapped, ~_pairs_of(swapped).isin(pairs))
    along: Any = "columns" if isinstance(given, pd.DataFrame) else "index"
    return pd.concat([given, others], axis=along)


def _taken(given: pd.Series | pd.DataFrame, chosen: Flags) -> pd.Series | pd.DataFrame:
    """What is given for some of the pairs."""
    return given.loc[:, chosen] if isinstance(given, pd.DataFrame) else given[chosen]


def _has_pairs(columns: pd.Index) -> bool:
    """Whether columns are pairs; those of a matrix are prosumers."""
    return columns.nlevels == 2 or (len(columns) > 0 and all(map(_is_pair, columns)))


def _is_by_snapshot(index: pd.Index, snapshots: pd.Index) -> bool:
    return index.nlevels == snapshots.nlevels and bool(index.isin(snapshots).any())


def _is_pair(pair: object) -> bool:
    return (
        isinstance(pair, (tuple, list, np.ndarray))
        and len(pair) == 2
        and all(isinstance(name, str) for name in pair)
    )
