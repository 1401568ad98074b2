"""What pictures read of a solved market: its results, and what is usual of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import networkx as nx
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.common.tables import ONLY_SCENARIO, first_scenario
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.results import results

_SEED: Final = 7  # of layouts without coordinates


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Traded:
    """What is drawn of a solved market: expectations and means, or one scenario or snapshot.

    Attributes
    ----------
    amounts : mapping
        What is sold, MW, by seller and buyer.
    price, net_import : Series
        By prosumer, EUR/MWh and MW.
    where : mapping
        Coordinates of prosumers.
    edges : list
        Pairs of prosumers who may trade.
    """

    amounts: Mapping[tuple[str, str], float]
    price: pd.Series
    net_import: pd.Series
    where: Mapping[str, np.ndarray]
    edges: list[tuple[str, str]]


def traded(n: pypsa.Network, scenario: str | None, snapshot: Any) -> Traded:
    """What pictures of trades show of a solved market."""
    data, r = solved(n)
    require_label(SCENARIO, scenario, data.scenarios)
    require_label(SNAPSHOT, snapshot, data.snapshots)

    def usual(values: xr.DataArray) -> xr.DataArray:
        return typical(values, data, scenario, snapshot)

    bought = usual(between_pairs(r, data).clip(min=0.0))
    sellers, buyers = (bought[end].to_numpy().tolist() for end in ("seller", "buyer"))
    return Traded(
        amounts=dict(
            zip(zip(sellers, buyers, strict=True), bought.to_numpy().tolist(), strict=True)
        ),
        price=usual(r["nodal_price"]).transpose(PROSUMER).to_series(),
        net_import=usual(r["net_import"]).transpose(PROSUMER).to_series(),
        where=_positions(n, data),
        edges=list(zip(data.bus0.to_numpy(), data.bus1.to_numpy(), strict=True)),
    )


def _positions(n: pypsa.Network, data: MarketData) -> dict[str, np.ndarray]:
    """Coordinates of the prosumers: their buses', or a spring layout where those coincide."""
    place = first_scenario(n, "Bus").loc[data.prosumers, ["x", "y"]].astype(float)
    if not place.isna().any(axis=None) and not place.round(9).duplicated().any():
        return {str(who): row.to_numpy() for who, row in place.iterrows()}
    graph = nx.Graph()
    graph.add_nodes_from(data.prosumers)
    graph.add_edges_from(zip(data.bus0.to_numpy(), data.bus1.to_numpy(), strict=True))
    return {str(who): xy for who, xy in nx.spring_layout(graph, seed=_SEED).items()}
