"""What has no closed form: refused by name, before anything is solved."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import (
    CONTRACT_CARRIERS,
    ELASTIC_DEMAND_CARRIER,
    NAME,
)
from pypsa_p2p.common.tables import carrier_names, first_scenario, unusual_attributes
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.designs import CentralizedMarket, PeerToPeerMarket
from pypsa_p2p.network.assets import extendable_names
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import NOBODY

#: Components of prosumers that the closed form knows, and what of generators.
_KNOWN_COMPONENTS = ("Generator", "Load")
_KNOWN_ATTRIBUTES = {
    "bus", "carrier", "efficiency", "p_nom", "p_min_pu", "p_max_pu",
    "marginal_cost", "marginal_cost_quadratic",
}  # fmt: skip
_EXACT = "reports have a closed form"


def check_design(market: Market) -> None:
    """Refuse designs in which prices are not linear in reports."""
    if type(market) not in (PeerToPeerMarket, CentralizedMarket):
        raise MarketError(
            f"Reports need PeerToPeerMarket() or CentralizedMarket(), not {shown(market)}."
        )
    refused = {
        f"risk={market.risk!r}": (market.risk is not None, "leave risk and contracts out"),
        "surplus=True": (market.surplus, "take surplus=False"),
        f"delivery={market.delivery!r}": (market.delivery != "trades", "take delivery='trades'"),
    }
    ahead = "take here_and_now=()"
    refused[f"here_and_now={market.here_and_now!r}"] = (len(market.here_and_now) > 0, ahead)
    compares = getattr(market, "compares", False)
    refused["welfare and participation"] = (compares, "leave them out")
    weights = getattr(market, "weights", None)
    refused["unequal weights"] = (weights is not None, "take the variational equilibrium")
    for option, (bad, way) in refused.items():
        if bad:
            raise MarketError(
                f"{option}: {_EXACT} only in risk-neutral markets that trade all they sell; {way}."
            )


def check_network(n: pypsa.Network, data: MarketData) -> None:
    """Refuse networks in which costs are not quadratic, or hours depend on each other."""
    congested = data.edges[np.asarray((data.congestion.to_numpy() > 0).any(axis=0))]
    if len(congested):
        raise MarketError(
            f"Trade edges {listed(congested)} have congestion > 0: {_EXACT} without; set "
            "n.links['congestion'] = 0."
        )
    if data.charged:
        raise MarketError(
            f"Trades have fees, which keep prices apart: {_EXACT} without; set fee=0."
        )
    ahead = data.edges[np.asarray(data.day_ahead.to_numpy(), dtype=bool)]
    if len(ahead):
        raise MarketError(
            f"Trade edges {listed(ahead)} are decided day ahead, alike in all scenarios: {_EXACT} "
            "without; set n.links['decided'] = 'real-time'."
        )
    if data.closed is not None:
        raise MarketError(f"own_surplus closes trades by the hour: {_EXACT} without it.")
    for component in sorted(n.one_port_components | n.branch_components):
        names = owned(data, component)
        if component not in _KNOWN_COMPONENTS and len(names):
            raise MarketError(
                f"{component} {listed(names)}: {_EXACT} where prosumers have loads and generators "
                "alone, without storage or branches of their own; remove it."
            )
        built = names.intersection(extendable_names(n, component))
        if component in _KNOWN_COMPONENTS and len(built):
            raise MarketError(
                f"{component} {listed(built)}: {_EXACT} where capacities are given; fix it."
            )
    names = owned(data, "Generator")
    retail = names.intersection(carrier_names(n, "Generator", *CONTRACT_CARRIERS))
    if len(retail):
        raise MarketError(
            f"Generator {listed(retail)} is a contract of retail or imbalance, whose price holds "
            f"whatever is reported: {_EXACT} without; remove it."
        )
    for attribute, culprits in unusual_attributes(n, "Generator", _KNOWN_ATTRIBUTES, names).items():
        raise MarketError(
            f"Generator {listed(culprits)} has {attribute!r}: {_EXACT} without; clear it."
        )
    elastic_of_each(n, data)


def owned(data: MarketData, component: str) -> pd.Index:
    """Names of the active components of a class that are prosumers'; an idle grid may stand by."""
    owner = data.owner_of(component)
    return data.names(component)[np.asarray(owner.to_numpy() != NOBODY)]


def elastic_of_each(n: pypsa.Network, data: MarketData) -> pd.Index:
    """Name of each prosumer's elastic demand, (N,), whose target she reports."""
    elastic = data.names("Generator").intersection(
        carrier_names(n, "Generator", ELASTIC_DEMAND_CARRIER), sort=False
    )
    owner = data.owner_of("Generator").sel({NAME: elastic}).to_numpy()
    whose = pd.Series(elastic, index=owner)
    bad = [who for who in data.prosumers if (owner == who).sum() != 1]
    if bad:
        raise MarketError(
            f"Prosumer {listed(bad)} has not one elastic demand, of which to report the target: "
            "add prosumers with add_prosumers(n, ..., utility_quadratic=...)."
        )
    return pd.Index(whose.reindex(data.prosumers).to_numpy(), name=NAME)


def load_of_each(n: pypsa.Network, data: MarketData) -> pd.Index:
    """Name of a load at each prosumer's elastic demand, (N,), which holds her target."""
    loads = first_scenario(n, "Load").loc[data.names("Load")]
    first = loads.reset_index().drop_duplicates("bus").set_index("bus").iloc[:, 0]
    found = first.reindex(data.prosumers)
    if found.isna().any():
        raise MarketError(
            f"Prosumer {listed(found.index[found.isna()])} has no load at her bus, whose p_set is "
            "her target: add one."
        )
    return pd.Index(found.to_numpy(), name=NAME)


def check_connected(data: MarketData, r: xr.Dataset) -> None:
    """Refuse trades at their capacity, and communities that are no single market."""
    price = np.nan_to_num(r["nodal_price"].to_numpy())
    size = np.abs(price).max(initial=0.0)
    full = np.nan_to_num(r["capacity_price"].to_numpy()) > ACCURACY.sampled * size
    if full.any():
        trades = r["trade"].to_numpy()[full.any(axis=(0, 1))]
        raise MarketError(
            f"Trades {listed(trades)} are at their capacity, so that prices at their ends do not "
            "move together: raise capacity; or, where prices of trades earn money in a circle at "
            "any capacity, make them agree."
        )
    graph = nx.Graph()
    graph.add_nodes_from(data.prosumers)
    graph.add_edges_from(zip(data.bus0.to_numpy(), data.bus1.to_numpy(), strict=True))
    parts = [sorted(map(str, part)) for part in nx.connected_components(graph)]
    if len(parts) > 1:
        least = min(parts, key=len)
        raise MarketError(
            f"Prosumers {listed(least)} have no trades with the others, a market by themselves: "
            "add trades, or look at each part on a network of its own."
        )
