"""Which prosumers trade with each other: pairs given, all, or neighbours on the grid."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from itertools import combinations

import networkx as nx
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.names import (
    AC,
    DC,
    GRID_BUS,
)
from pypsa_p2p.common.tables import first_scenario
from pypsa_p2p.network.edge_values import (
    require_pairs,
    sorted_pairs,
)
from pypsa_p2p.network.ownership import branches, ports

EDGES = "give pairs of prosumers, a networkx.Graph, 'complete' or 'grid'"


def read_pairs(n: pypsa.Network, edges: object, prosumers: pd.Index) -> pd.MultiIndex:
    """The edges as distinct pairs of prosumers (bus0, bus1)."""
    if isinstance(edges, str):
        found = _named_pairs(n, edges, prosumers)
        _warn_of_islands(found, prosumers)
    elif isinstance(edges, nx.Graph):
        found = list(edges.edges())
    elif isinstance(edges, Iterable) and not isinstance(edges, Mapping):
        found = list(edges)
    else:
        raise DataError(f"Argument edges is {shown(edges)}: {EDGES}.")
    warned = isinstance(edges, str) and len(prosumers) > 0
    if not found and not warned:
        raise DataError(
            "Argument edges has no pair: give one at least. The network has the prosumers "
            f"{listed(prosumers) or 'none'}."
        )
    pairs = require_pairs(found, "edges")
    first, second = pairs.get_level_values(0), pairs.get_level_values(1)
    unknown = first.append(second).unique().difference(prosumers, sort=False)
    if len(unknown):
        raise DataError(
            f"Argument edges has {listed(unknown)}, which is no prosumer: add her first."
        )
    selves = first[first == second]
    if len(selves):
        raise DataError(
            f"Argument edges joins {listed(selves.unique())} to herself: leave that out."
        )
    if not pairs.is_unique:
        repeated = pairs[pairs.duplicated()]
        raise DataError(f"Argument edges repeats {listed(repeated)}: give each pair once.")
    return pairs[~sorted_pairs(pairs).duplicated()]


def _named_pairs(n: pypsa.Network, edges: str, prosumers: pd.Index) -> list[tuple[str, str]]:
    if edges == "complete":
        return list(combinations(prosumers, 2))
    if edges == "grid":
        return _grid_pairs(n, prosumers)
    raise DataError(f"Argument edges is {shown(edges)}: {EDGES}.")


def _warn_of_islands(pairs: list[tuple[str, str]], prosumers: pd.Index) -> None:
    """Name who can trade with nobody, and who only among themselves."""
    graph = nx.Graph(pairs)
    graph.add_nodes_from(prosumers)
    islands = sorted(nx.connected_components(graph), key=len, reverse=True)
    alone = [name for name in prosumers if graph.degree[name] == 0]
    if alone:
        warnings.warn(
            f"Prosumers {listed(alone)} can trade with nobody: no way on the grid leads from them "
            "to another. Give pairs of prosumers, or let them be.",
            stacklevel=4,
        )
    apart = [listed(sorted(island)) for island in islands if len(island) > 1]
    if len(apart) > 1:
        warnings.warn(
            f"Prosumers trade in {len(apart)} groups that no edge joins: {'; '.join(apart)}.",
            stacklevel=4,
        )


def _grid_pairs(n: pypsa.Network, prosumers: pd.Index) -> list[tuple[str, str]]:
    """Pairs of prosumers at one bus of the grid, or joined by it with nobody in between."""
    if prosumers.empty:
        return []
    buses = first_scenario(n, "Bus").reindex(columns=[GRID_BUS], fill_value="")
    grid_bus = buses.loc[prosumers, GRID_BUS].fillna("")
    without = grid_bus.index[grid_bus == ""]
    if len(without):
        raise DataError(
            f"Prosumer {listed(without)} has no grid_bus, so edges='grid' cannot place her: "
            "set it, or give pairs."
        )
    grid = _electric_grid(n, set(grid_bus))
    for empty in list(nx.connected_components(grid.subgraph(set(grid) - set(grid_bus)))):
        grid.add_edges_from(combinations(nx.node_boundary(grid, empty), 2))
    grid.add_edges_from((bus, bus) for bus in grid_bus)
    at = {bus: list(group.index) for bus, group in grid_bus.groupby(grid_bus)}
    order = {name: place for place, name in enumerate(prosumers)}
    return [
        (one, other)
        for one in prosumers
        for bus in grid[grid_bus[one]]
        for other in at.get(bus, [])
        if order[one] < order[other]
    ]


def _electric_grid(n: pypsa.Network, places: set[str]) -> nx.Graph:
    """Buses that carry electricity, and what active branches join: no fuels, no heat."""
    carrier = first_scenario(n, "Bus")["carrier"]
    grid = nx.Graph()
    for component in branches(n):
        for ends in ports(n, component).values():
            grid.add_edges_from(combinations(ends, 2))
    electric = {AC, DC, *carrier.reindex(list(places)).dropna()}
    passive = {
        bus
        for component in n.passive_branch_components
        for ends in ports(n, component).values()
        for bus in ends
    }
    return nx.Graph(grid.subgraph(passive | set(carrier.index[carrier.isin(electric)])))
