"""What lies behind the meter at a bus of the grid: buses that only converters lead to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import AC, DC, PROSUMER_CARRIER, TRADE_CARRIER
from pypsa_p2p.common.tables import first_scenario
from pypsa_p2p.network.ownership import bus_columns, bus_owners

#: How models without power flow name electricity, in small letters.
ELECTRICITY = ("electricity", "electric", "power", "low voltage")
ONE_PORTS = ("Generator", "Load", "StorageUnit", "Store")
CONVERTERS = ("Link", "Process")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Connected buses that are no places of the grid, the places they touch, and by what."""

    buses: frozenset[str]
    places: frozenset[str]
    branches: tuple[tuple[str, str], ...]  # (class, name)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Places of the grid, where prosumers can sit, and the parts that are none."""

    places: frozenset[str]
    parts: tuple[Part, ...]

    def behind(self, place: str) -> list[Part]:
        """Parts that touch this place alone."""
        return [part for part in self.parts if part.places == {place}]

    def shared(self, place: str) -> list[Part]:
        """Parts that touch this place, and others."""
        return [part for part in self.parts if place in part.places and len(part.places) > 1]

    def part_of(self, bus: str) -> Part | None:
        """The part a bus belongs to; None for a place."""
        return next((part for part in self.parts if bus in part.buses), None)


def read_places(n: pypsa.Network, named: Iterable[str] | None, assets: Iterable[str]) -> Places:
    """Places and parts of what no prosumer owns yet.

    Places are buses of carrier AC, buses at lines and transformers, DC buses that join several
    of them, and, on islands without any of these, the buses of a carrier `named`, or of the only
    one. All others are parts: heat, gas, batteries, and whatever Links and Processes lead to.

    Parameters
    ----------
    named : iterable of str, or None
        Buses somebody asks for.
    assets : iterable of str
        Buses with assets that get an owner.

    Raises
    ------
    DataError
        Assets on an island of several carriers none of which was named.
    """
    carrier = first_scenario(n, "Bus")["carrier"]
    owners = bus_owners(n)
    free = set(owners.index[(owners == "") & (carrier != PROSUMER_CARRIER)])
    graph = _graph(n, free)
    places = {bus for bus in free if carrier[bus] == AC} | _at_passive_branches(n) & free
    wanted, occupied = set(() if named is None else named), set(assets)
    for part in _parts(graph, free, places):
        if len(part.places) > 1:
            places |= {bus for bus in part.buses if carrier[bus] == DC}
        elif not part.places:
            places |= _places_of_island(part, carrier, wanted, occupied)
    return Places(places=frozenset(places), parts=tuple(_parts(graph, free, places)))


def ends(n: pypsa.Network, component: str) -> pd.DataFrame:
    """One row for every end of the components of a class: component, asset, column, bus."""
    static = first_scenario(n, component)
    if component == "Link":
        static = static[static["carrier"] != TRADE_CARRIER]
    frames = [
        pd.DataFrame({"asset": static.index, "column": column, "bus": static[column].to_numpy()})
        for column in bus_columns(static)
    ]
    rows = pd.concat([pd.DataFrame(columns=["asset", "column", "bus"]), *frames]).astype(object)
    kept = rows[rows["bus"].fillna("") != ""]
    return kept.assign(component=component).reset_index(drop=True)


def all_ends(n: pypsa.Network, components: Iterable[str]) -> pd.DataFrame:
    """`ends` of several classes; those that this PyPSA does not have are left out."""
    known = [component for component in components if component in n.all_components]
    return pd.concat([ends(n, component) for component in known], ignore_index=True)


def _graph(n: pypsa.Network, free: set[str]) -> nx.Graph:
    """Buses, and branches as nodes (component, name) between them."""
    rows = all_ends(n, sorted(n.branch_components))
    graph = nx.Graph()
    graph.add_nodes_from(free)
    names = zip(rows["component"], rows["asset"], strict=True)
    graph.add_edges_from(zip(names, rows["bus"], strict=True))
    return graph


def _at_passive_branches(n: pypsa.Network) -> set[str]:
    return set(all_ends(n, sorted(n.passive_branch_components))["bus"])


def _parts(graph: nx.Graph, free: set[str], places: set[str]) -> list[Part]:
    rest = graph.subgraph([node for node in graph if node not in places])
    found = []
    for connected in nx.connected_components(rest):
        buses = {node for node in connected if not isinstance(node, tuple)}
        if not buses or not buses <= free:
            continue
        branches = [node for node in connected if isinstance(node, tuple)]
        touched = {bus for branch in branches for bus in graph[branch]} & places
        between = [branch for branch in branches if set(graph[branch]) & places]
        part = Part(
            buses=frozenset(buses), places=frozenset(touched), branches=tuple(sorted(between))
        )
        found.append(part)
    return found


def _places_of_island(
    part: Part, carrier: pd.Series, wanted: set[str], occupied: set[str]
) -> set[str]:
    here = carrier[sorted(part.buses)]
    chosen = set(here[here.index.isin(wanted)])
    chosen = chosen or set(here[here.str.lower().isin(ELECTRICITY)]) or set(here)
    if not wanted & part.buses and len(chosen) > 1:
        if part.buses & occupied:
            raise DataError(
                f"Argument owner: buses {listed(sorted(part.buses))}, of the carriers "
                f"{listed(sorted(chosen))}, are connected to no AC bus, so that any of them may be "
                "a prosumer's. Name those that are: owner=[...]."
            )
        return set()
    return set(here.index[here.isin(chosen)])
