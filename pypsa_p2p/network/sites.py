"""Where prosumers sit on the physical grid, and where a community's surplus leaves it."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, MarketError, listed
from pypsa_p2p.common.names import GRID_BUS, PROSUMER, PROSUMER_CARRIER, SLACK
from pypsa_p2p.common.tables import first_scenario
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
    """

    bus: pd.Series
    connection: pd.Series
    part: pd.Index

    @property
    def connections(self) -> pd.Index:
        """Buses at which surplus leaves."""
        return pd.Index(self.connection.unique(), dtype=object)


def read_sites(n: pypsa.Network, prosumers: pd.Index) -> Sites:
    """Grid buses of all prosumers, and the connection of each one's part of the grid.

    The connection is the bus of the generator whose `control` is "Slack" (its prosumer's
    `grid_bus`, where it is hers by now); else the first of the part's buses.

    Raises
    ------
    MarketError
        A prosumer without a place on the grid.
    DataError
        A grid bus that the network does not have, or that is a prosumer's.
    """
    buses = first_scenario(n, "Bus")
    bus = _grid_buses(buses, prosumers)
    parts = nx.Graph()
    parts.add_nodes_from(buses.index[buses["carrier"] != PROSUMER_CARRIER])
    for component in branches(n):
        for ends in ports(n, component).values():
            nx.add_path(parts, ends)
    connection = pd.Series(index=bus.index, dtype=object)
    reached: set[str] = set()
    for part in nx.connected_components(parts):
        here = bus.isin(part)
        if here.any():
            connection[here] = _connection(n, buses, part)
            reached |= part
    within = buses.index[buses.index.isin(reached)]
    return Sites(bus=bus, connection=connection, part=within)


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
    generators = first_scenario(n, "Generator")
    slack = generators.loc[generators["control"] == SLACK, "bus"]
    places = slack.where(slack.isin(part), slack.map(buses.get(GRID_BUS, {})))
    places = places[places.isin(part)]
    return str(places.iloc[0]) if len(places) else next(b for b in buses.index if b in part)
