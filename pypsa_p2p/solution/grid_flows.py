"""The physical grid of a network alone, what a market injects into it, and its AC power flow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import networkx as nx
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError, MarketError, listed
from pypsa_p2p.common.names import (
    CONSUMPTION,
    DC,
    GRID_BUS,
    NAME,
    PROSUMER,
    SCENARIO,
    SLACK,
    SNAPSHOT,
)
from pypsa_p2p.common.tables import carrier_names, dynamic_values, first_scenario
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import NOBODY, bus_columns
from pypsa_p2p.network.sites import Sites, read_sites

BUS: Final = "bus"
BRANCH: Final = "branch"

Array = np.ndarray[Any, Any]

_ASSETS: Final = ("Generator", "Load", "StorageUnit", "Store")
_BRANCHES: Final = ("Line", "Transformer")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The physical grid, without what is behind prosumers' meters.

    Attributes
    ----------
    place : Series (bus)
        Where on the grid each bus of the network is seen: itself, or its owner's grid bus.
    buses : Index (bus)
        Buses of the grid that lines and transformers reach, or that prosumers sit at.
    branches : DataFrame
        Its lines and transformers: columns component, name, bus0, bus1.
    slacks, held : list of str
        Buses that balance their part of the grid, and others whose voltage is held.
    """

    place: pd.Series
    buses: pd.Index
    branches: pd.DataFrame
    slacks: list[str]
    held: list[str]

    @property
    def by_component(self) -> dict[str, pd.Index]:
        """Names of the branches of each class."""
        branches = self.branches
        return {
            component: pd.Index(branches.loc[branches["component"] == component, "name"])
            for component in _BRANCHES
        }

    @property
    def labels(self) -> pd.Index:
        """Names of all branches; with their class where two classes share a name."""
        names = pd.Index(self.branches["name"], name=BRANCH, dtype=object)
        if names.is_unique:
            return names
        both = self.branches["component"] + " " + self.branches["name"]
        return pd.Index(both, name=BRANCH, dtype=object)


def read_grid(n: pypsa.Network, data: MarketData) -> Grid:
    """The grid of a network, with a slack in every part that lines and transformers connect.

    Raises
    ------
    MarketError
        Prosumers without a place on the grid.
    DataError
        Branches without impedance.
    """
    sites, place = _places(n, data)
    branches = _branches(n, data, place.index[place.index == place])
    reached = {*branches["bus0"], *branches["bus1"], *sites.bus}
    buses = pd.Index([bus for bus in place.index if bus in reached], name=BUS, dtype=object)
    generators = first_scenario(n, "Generator").loc[data.names("Generator")]
    at = {
        control: list(place.reindex(generators.loc[generators["control"] == control, "bus"]))
        for control in (SLACK, "PV")
    }
    slacks = _slacks(buses, branches, [*sites.connections, *at[SLACK]])
    held = [bus for bus in dict.fromkeys(at["PV"]) if bus in reached.difference(slacks)]
    return Grid(place=place, buses=buses, branches=branches, slacks=slacks, held=held)


def _places(n: pypsa.Network, data: MarketData) -> tuple[Sites, pd.Series]:
    """The prosumers' sites, and where each bus is seen on the grid."""
    column = first_scenario(n, "Bus").reindex(data.prosumers).get(GRID_BUS, pd.Series(dtype=object))
    nowhere = data.prosumers[~column.reindex(data.prosumers).fillna("").astype(bool)]
    if len(nowhere):
        raise MarketError(
            f"Prosumers {listed(nowhere)} have no place on the grid, so that what they trade has "
            "no power flow: give add_prosumers a grid_bus, or use assign_prosumers."
        )
    sites = data.sites or read_sites(n, data.prosumers)
    owners = data.owners
    place = owners.map(sites.bus.to_dict())
    place = place.where(owners != NOBODY, pd.Series(owners.index, owners.index)).astype(object)
    behind = sites.bus[(owners.reindex(sites.bus) != NOBODY).to_numpy()]
    if len(behind):
        raise MarketError(
            f"grid_bus {listed(behind.unique())} of prosumers {listed(behind.index)} is connected "
            "to a prosumer's own bus, so that it lies behind her meter. Let trades be the only "
            "connection between prosumers and the grid."
        )
    return sites, place


def _branches(n: pypsa.Network, data: MarketData, buses: pd.Index) -> pd.DataFrame:
    """Active lines and transformers of the grid: columns component, name, bus0, bus1."""
    frames = []
    for component in _BRANCHES:
        static = first_scenario(n, component).reindex(data.names(component))
        static = static[static["bus0"].isin(buses)]
        carrier = static["bus0"].map(first_scenario(n, "Bus")["carrier"])
        direct = static.index[carrier == DC]
        if len(direct):
            raise MarketError(
                f"{component} {listed(direct)} joins DC buses, but the power flow is one of AC: "
                "model it as a Link between the AC buses at its ends."
            )
        untyped = static["type"].fillna("") == ""
        bare = static.index[untyped & (static["x"] == 0) & (static["r"] == 0)]
        if len(bare):
            raise DataError(
                f"{component} {listed(bare)} has neither resistance r nor reactance x, which a "
                "power flow needs. Give it one, or a type."
            )
        ends = {end: static[end].to_numpy(object) for end in ("bus0", "bus1")}
        frames.append(pd.DataFrame({"component": component, "name": list(static.index), **ends}))
    return pd.concat(frames, ignore_index=True).astype(object)


def _slacks(buses: pd.Index, branches: pd.DataFrame, wanted: list[str]) -> list[str]:
    """One bus of each connected part: the first wanted of them, else the part's first."""
    graph = nx.Graph()
    graph.add_nodes_from(buses)
    graph.add_edges_from(zip(branches["bus0"], branches["bus1"], strict=True))
    order = [*wanted, *buses]
    return [next(bus for bus in order if bus in part) for part in nx.connected_components(graph)]


def read_injections(
    n: pypsa.Network, data: MarketData, grid: Grid, taken: xr.DataArray, tangent: float
) -> Array:
    """P + iQ into every bus of the grid, (scenario, snapshot, bus), MW and MVar.

    P = what the grid's own assets and links give, less what prosumers take from it; Q = q_set of
    all assets, and -tangent times the consumption of loads without q_set.
    """
    power = np.zeros((len(data.scenarios), len(data.snapshots), len(grid.buses)), dtype=complex)
    ordered = taken.transpose(SCENARIO, SNAPSHOT, PROSUMER)
    _add(power, -ordered.to_numpy(), ordered.indexes[PROSUMER], grid)
    for component in _ASSETS:
        names = data.names(component)
        if names.empty:
            continue
        bus = first_scenario(n, component)["bus"].reindex(names).to_numpy(object)
        active, reactive, sign = (
            _series(n, data, component, attribute, names) for attribute in ("p", "q_set", "sign")
        )
        on_grid = np.isin(bus, grid.buses)
        _add(power, sign * (active * on_grid + 1j * reactive), bus, grid)
    for component in sorted(n.controllable_branch_components):
        for names, bus, port in _ends_on(n, data, component, grid):
            _add(power, -_series(n, data, component, port, names), bus, grid)
    if tangent:
        _add_by_power_factor(power, n, data, grid, tangent)
    return power


def _series(
    n: pypsa.Network, data: MarketData, component: str, attribute: str, names: pd.Index
) -> Array:
    values = dynamic_values(n, component, attribute, names, data.snapshots)
    return values.transpose(SCENARIO, SNAPSHOT, NAME).to_numpy()


def _add(power: Array, values: Array, bus: Any, grid: Grid) -> None:
    """Add values (scenario, snapshot, k) where these k buses are seen on the grid."""
    at = grid.buses.get_indexer(pd.Index(grid.place.reindex(bus)))
    np.add.at(power.T, at[at >= 0], values.T[at >= 0])


def _ends_on(
    n: pypsa.Network, data: MarketData, component: str, grid: Grid
) -> Iterator[tuple[pd.Index, Array, str]]:
    """Links (or the like) by port: their names, the buses of the grid, the port's power."""
    static = first_scenario(n, component).reindex(data.names(component))
    for column in bus_columns(static):
        here = static[column].isin(grid.buses)
        if here.any():
            at = static.loc[here, column]
            yield pd.Index(at.index, name=NAME), at.to_numpy(object), f"p{column[3:]}"


def _add_by_power_factor(
    power: Array, n: pypsa.Network, data: MarketData, grid: Grid, tangent: float
) -> None:
    """Q of loads without `q_set`, less that of what elastic demand sheds at their buses."""
    loads = data.names("Load")
    given = (_series(n, data, "Load", "q_set", loads) != 0).any(axis=(0, 1))
    bus = first_scenario(n, "Load")["bus"].reindex(loads).to_numpy(object)
    consumption = _series(n, data, "Load", "p", loads)
    _add(power, -1j * tangent * consumption[..., ~given], bus[~given], grid)
    elastic = carrier_names(n, "Generator", *CONSUMPTION)
    at = first_scenario(n, "Generator")["bus"].reindex(elastic).to_numpy(object)
    sheds = ~np.isin(at, bus[given])
    shed = _series(n, data, "Generator", "p", elastic)
    _add(power, 1j * tangent * shed[..., sheds], at[sheds], grid)
