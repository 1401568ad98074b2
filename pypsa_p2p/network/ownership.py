"""Whose is what: every bus and asset behind a prosumer's meter belongs to her."""

from __future__ import annotations

import networkx as nx
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError, MarketError, listed
from pypsa_p2p.common.names import NAME, PROSUMER_CARRIER, TRADE_CARRIER
from pypsa_p2p.common.tables import first_scenario

#: Owner of what belongs to no prosumer (the physical grid, say).
NOBODY = ""


def bus_owners(n: pypsa.Network) -> pd.Series:
    """The prosumer each bus belongs to, (buses,); NOBODY for buses of the grid.

    A bus that lines, links, transformers or processes (p2p Links apart) connect to a
    prosumer's bus lies behind her meter and is hers, with all that stands there.

    Raises
    ------
    MarketError
        Two prosumers connected by anything but a p2p Link: what flows there would be neither
        trade nor anybody's own.
    """
    buses = first_scenario(n, "Bus")
    prosumers = set(buses.index[buses["carrier"] == PROSUMER_CARRIER])
    graph = nx.Graph()
    graph.add_nodes_from(buses.index)
    for component in branches(n):
        for name, ends in ports(n, component).items():
            graph.add_edges_from(((component, name), bus) for bus in ends)
    owners = dict.fromkeys(buses.index, NOBODY)
    for connected in nx.connected_components(graph):
        inside = prosumers & connected
        if len(inside) > 1:
            between = [name for name in connected if isinstance(name, tuple)]
            raise MarketError(
                f"Prosumers {listed(sorted(inside))} are connected by "
                f"{listed(' '.join(b) for b in sorted(between))} besides their trades. Give each "
                "a bus of her own (assign_prosumers) or make the connection a trade (add_trades)."
            )
        for prosumer in inside:
            owners.update((bus, prosumer) for bus in connected if bus in owners)
    return pd.Series(owners, index=buses.index, dtype=object)


def asset_owners(n: pypsa.Network, component: str, owners: pd.Series) -> xr.DataArray:
    """The prosumer each component of a class belongs to, dims (name); NOBODY where none."""
    names = pd.Index(first_scenario(n, component).index, name=NAME, dtype=object)
    return _owners_of(n, component, owners, names)


def _owners_of(
    n: pypsa.Network, component: str, owners: pd.Series, names: pd.Index
) -> xr.DataArray:
    static = first_scenario(n, component)
    buses = static["bus" if "bus" in static else "bus0"].reindex(names)
    values = buses.map(owners).fillna(NOBODY).to_numpy(object)
    return xr.DataArray(values, coords={NAME: names})


def own_names(n: pypsa.Network, component: str) -> pd.Index:
    """Names of the active components of a class, trade edges left out."""
    if component not in n.all_components:
        return pd.Index([], dtype=object)
    static = first_scenario(n, component)
    if static.empty:
        return pd.Index([], dtype=object)
    chosen: pd.Series = static["active"].astype(bool)
    if component == "Link":
        chosen &= static["carrier"] != TRADE_CARRIER
    return pd.Index(static.index[chosen], name=NAME, dtype=object)


def own_assets(n: pypsa.Network, owners: pd.Series) -> dict[str, xr.DataArray]:
    """By class, the owner of each active component, trade edges left out; dims (name)."""
    classes = [c for c in sorted(n.one_port_components | n.branch_components) if len(n.c[c].static)]
    return {c: _owners_of(n, c, owners, own_names(n, c)) for c in classes}


def bus_columns(static: pd.DataFrame) -> list[str]:
    """Columns of a static table that name buses, as they stand: "bus", "bus0", "bus1", "bus2"...

    >>> bus_columns(pd.DataFrame(columns=["bus0", "bus1", "carrier", "bus_type", "bus10"]))
    ['bus0', 'bus1', 'bus10']
    """
    return [
        column
        for column in map(str, static)
        if column == "bus" or (column.startswith("bus") and column[3:].isdigit())
    ]


def require_buses(n: pypsa.Network, component: str) -> None:
    """Refuse components of a class that stand where no bus is.

    Raises
    ------
    DataError
    """
    static = first_scenario(n, component)
    for column in bus_columns(static):
        buses = static[column]
        first = column in ("bus", "bus0", "bus1")
        known = buses.isin(first_scenario(n, "Bus").index)
        if not first:
            known |= buses.fillna("") == ""
        if not known.all():
            culprits = static.index[~known]
            raise DataError(
                f"{component} {listed(culprits)}: {column} {listed(buses[~known])} is not a bus of "
                "the network. Add the bus or correct the name."
            )


def branches(n: pypsa.Network) -> list[str]:
    """Classes of components present that connect several buses."""
    classes = [*n.passive_branch_components, *n.controllable_branch_components]
    return [component for component in classes if len(n.c[component].static)]


def ports(n: pypsa.Network, component: str) -> dict[str, list[str]]:
    """Buses each active component of a class connects, trade edges left out."""
    static = first_scenario(n, component)
    static = static[static["active"].astype(bool)]
    if "carrier" in static:
        static = static[static["carrier"] != TRADE_CARRIER]
    rows = zip(static.index, static[bus_columns(static)].to_numpy(object), strict=True)
    return {name: [bus for bus in ends if isinstance(bus, str) and bus] for name, ends in rows}
