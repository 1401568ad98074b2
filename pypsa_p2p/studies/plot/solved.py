"""What pictures read of a solved market: its results, and what is usual of them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.common.tables import ONLY_SCENARIO
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.results import results


def solved(n: pypsa.Network) -> tuple[MarketData, xr.Dataset]:
    """The market's data, and its results."""
    r = results(n)
    return read_market(n, pd.Index(r["snapshot"].to_numpy())), r


def require_label(dimension: str, label: object, known: pd.Index) -> None:
    """A label of the dimension, or None."""
    if label is None or (isinstance(label, Hashable) and label in known):
        return
    if list(known) == [ONLY_SCENARIO]:
        raise MarketError(f"The network has no scenarios: leave scenario={shown(label)} out.")
    raise MarketError(f"There is no {dimension} {shown(label)}; take one of {listed(known)}.")


def between_pairs(r: xr.Dataset, data: MarketData) -> xr.DataArray:
    """What each buys of each, MW: where they trade twice, day ahead and in real time together."""
    quantity, ahead_of = r["quantity"], data.ahead_of
    twice = np.flatnonzero(ahead_of >= 0)
    whole = quantity.transpose(..., TRADE).copy()
    whole[..., ahead_of[twice]] += quantity.transpose(..., TRADE).to_numpy()[..., twice]
    return whole.isel({TRADE: np.setdiff1d(np.arange(ahead_of.size), twice)})


def typical(
    values: xr.DataArray, data: MarketData, scenario: str | None, snapshot: Any
) -> xr.DataArray:
    """Expectation over scenarios and mean over hours, or the values of the one named.

    Of what is there: NaN, a price that does not exist, has no weight in a mean.
    """
    if scenario is not None:
        values = values.sel({SCENARIO: scenario})
    if snapshot is not None:
        values = values.sel({SNAPSHOT: snapshot})
    weight = data.probability * data.weighting
    left = [dim for dim in weight.dims if dim in values.dims]
    gone = {dim: 0 for dim in weight.dims if dim not in left}  # any will do: weights are relative
    return values.weighted(weight.isel(gone)).mean(left)
