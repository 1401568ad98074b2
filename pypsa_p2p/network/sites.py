"""Where prosumers sit on the physical grid, and where a community's surplus leaves it."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, MarketError, listed
from pypsa_p2p.common.names import (
    CONNECTION,
    CONTRACT_CARRIERS,
    GRID_BUS,
    PROSUMER,
    PROSUMER_CARRIER,
    SLACK,
)
from pypsa_p2p.common.tables import carrier_names, first_scenario
from pypsa_p2p.network.ownership import branches, ports


@dataclass(frozen=True, kw_only=True)
class Sites:
    """Prosumers on the physical grid (MODEL.md §6).

    Attributes
    ----------
    bus : Series (prosumer)
        The grid bus at which her net import leaves the grid and what she sells enters it.
    connection : Series (prosumer)
        The bus at which the surplus of her connected part of the grid leaves it.
    part : Index
        Buses of the parts of the grid that have prosumers.
    retail : Series (name)
        Whose each retail contract is: a Generator at her bus, whose power the grid brings from her
        connection, or takes there.
    """

    bus: pd.Series
    connection: pd.Series
    part: pd.Index
    retail: pd.Series

    @property
    def connections(self) -> pd.Index:
        """Buses at which surplus leaves."""
        return pd.Index(self.connection.unique(), dtype=object)


def read_sites(n: pypsa.Network, prosumers: pd.Index) -> Sites:
    """Grid buses of all prosumers, and the connection of each one's part of the grid.

    The connection is the bus noted (see `note_connections`); else that of the generator whose
    `control` is "Slack" (its prosumer's `grid_bus`, where it is hers by now); else of the
    part's first generator that is nobody's, as in PyPSA; else the first of its buses.

    Raises
    ------
    MarketError
        A prosumer without a place on the grid.
    DataError
        A grid bus that the network does not have, or that is a prosumer's.
    """
    buses = first_scenario(n, "Bus")
    bus = _grid_buses(buses, prosumers)
    connection, reached = _connections(n, buses, bus)
    within = buses.index[buses.index.isin(reached)]
    contracts = carrier_names(n, "Generator", *CONTRACT_CARRIERS)
    retail = first_scenario(n, "Generator")["bus"].reindex(contracts)
    return Sites(bus=bus, connection=connection, part=within, retail=retail)


def note_connections(n: pypsa.Network) -> None:
    """Note where the parts of the grid are connected, in a column of the prosumers' buses.

    A solve of PyPSA makes one generator of every part of a network its slack, and those behind a
    prosumer's bus look as if the user had chosen them: so it is noted before. What is noted stays.
    """
    buses = first_scenario(n, "Bus")
    bus = buses.get(GRID_BUS, pd.Series(dtype=object)).astype(object).fillna("")
    bus = bus[bus.isin(buses.index[buses["carrier"] != PROSUMER_CARRIER])]
    if bus.empty:
        return
    found, _ = _connections(n, buses, bus)
    static = n.c["Bus"].static
    static[CONNECTION] = static.index.get_level_values("name").map(found).fillna("").astype(object)


def _connections(
    n: pypsa.Network, buses: pd.DataFrame, bus: pd.Series
) -> tuple[pd.Series, set[str]]:
    """The connection of the part of each of some grid buses, and all buses of these parts."""
    parts = nx.Graph()
    parts.add_nodes_from(buses.index[buses["carrier"] != PROSUMER_CARRIER])
    for component in branches(n):
        for ends in ports(n, component).values():
            nx.add_path(parts, ends)
    noted = buses.get(CONNECTION, pd.Series(dtype=object)).reindex(bus.index)
    connection = pd.Series(index=bus.index, dtype=object)
    reached: set[str] = set()
    for part in nx.connected_components(parts):
        here = bus.isin(part)
        if here.any():
            known = noted[here & noted.isin(part)]
            connection[here] = known.iloc[0] if len(known) else _connection(n, buses, part)
            reached |= part
    return connection, reached


def _grid_buses(buses: pd.DataFrame, prosumers: pd.Index) -> pd.Series:
    column = buses[GRID_BUS] if GRID_BUS in buses else pd.Series("", buses.index)
    bus = column.reindex(prosumers).fillna("").astype(object).rename_axis(PROSUMER)
    nowhere = bus.index[bus == ""]
    if len(nowhere):
        raise MarketError(
            f"Prosumers {listed(nowhere)} have no place on the grid, which delivery='grid' needs: "
            "give add_prosumers a grid_bus, use assign_prosumers, or set delivery='trades'."
        )
    known = bus.isin(buses.index)
    if not known.all():
        raise DataError(
            f"Prosumers {listed(bus.index[~known])}: grid_bus {listed(bus[~known])} is not a bus "
            "of the network. Add the bus or correct the name."
        )
    hers = bus.isin(buses.index[buses["carrier"] == PROSUMER_CARRIER])
    if hers.any():
        raise DataError(
            f"Prosumers {listed(bus.index[hers])}: grid_bus {listed(bus[hers])} is a prosumer's "
            "own bus, not one of the grid. Name a bus of the physical grid."
        )
    return bus


def _connection(n: pypsa.Network, buses: pd.DataFrame, part: set[str]) -> str:
    """Of a slack, else of the part's first generator, else its first bus."""
    generators = first_scenario(n, "Generator")
    slack = generators.loc[generators["control"] == SLACK, "bus"]
    places = slack.where(slack.isin(part), slack.map(buses.get(GRID_BUS, {})))
    for found in (places, generators["bus"]):
        here = found[found.isin(part)]
        if len(here):
            return str(here.iloc[0])
    return next(bus for bus in buses.index if bus in part)
