"""Assets of prosumers given back to the grid."""

from __future__ import annotations

import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import (
    CARRIERS,
    CONTRACT_CARRIERS,
    NAME,
    PROSUMER_COLUMNS,
    RETAIL_CAPACITY,
    TRADE_CARRIER,
    TRADE_COLUMNS,
)
from pypsa_p2p.common.tables import first_scenario, remove
from pypsa_p2p.common.values import require_network
from pypsa_p2p.network.assignment.originals import ORIGINAL, restore
from pypsa_p2p.network.ownership import bus_columns
from pypsa_p2p.network.prosumers import prosumer_names
from pypsa_p2p.network.retail_contracts import contracts_of, remove_contracts
from pypsa_p2p.network.trades import trade_edges


def release_prosumers(n: pypsa.Network) -> None:
    """Undo `assign_prosumers`: all assets back to the grid, and nothing of the market left.

    Prosumers who were assigned go, with their trades and retail contracts; what stands at their
    buses returns to the buses of the grid that they were assigned at. Set points come back, and so
    does the solution that the network had before: none, if it had none. What was changed otherwise
    is kept, costs or capacities for example.

    Parameters
    ----------
    n : pypsa.Network
        Changed in place; with or without a solved market; also as read from a file.

    Raises
    ------
    DataError
        No prosumer of this network was assigned, or her bus of the grid is gone; `n` is then as
        it was.

    Notes
    -----
    Prosumers made by `add_prosumers` stay, with the trades among them; a solution of theirs goes
    unless it is older than the assignment.

    Scenarios stay: PyPSA cannot take them from a network. Those set since the assignment are as
    if they had been set without it. For a market in scenarios and the network without, assign on
    a copy, ``n.copy()``.

    Examples
    --------
    >>> import pypsa
    >>> from pypsa_p2p.network.assignment.assigning import assign_prosumers
    >>> n = pypsa.Network()
    >>> n.add("Bus", "north")
    >>> n.add("Generator", "wind", bus="north", p_nom=10)
    >>> assign_prosumers(n, "bus")
    >>> release_prosumers(n)
    >>> n.generators.bus["wind"], list(n.buses.index), n.meta
    ('north', ['north'], {})
    """
    require_network(n)
    grid_bus = _assigned(n)
    remove_contracts(n, grid_bus.index, *CONTRACT_CARRIERS)
    _return_assets(n, grid_bus)
    edges = trade_edges(n)
    gone = edges.index[edges[["bus0", "bus1"]].isin(grid_bus.index).any(axis=1)]
    remove(n, "Link", gone)
    remove(n, "Bus", grid_bus.index)
    carriers = n.meta[ORIGINAL]["carriers"]
    columns = n.meta[ORIGINAL]["types"]
    if prosumer_names(n).empty:
        _drop(n, "Bus", columns, *PROSUMER_COLUMNS)
    if trade_edges(n).empty:
        _drop(n, "Link", columns, *TRADE_COLUMNS)
    if contracts_of(n, *CONTRACT_CARRIERS).empty:
        _drop(n, "Generator", columns, RETAIL_CAPACITY)
    restore(n)
    _remove_carriers(n, carriers)


def _assigned(n: pypsa.Network) -> pd.Series:
    """Buses of the grid of the prosumers who were assigned and are still there."""
    buses = n.components.buses.names
    grid_bus = pd.Series(n.meta.get(ORIGINAL, {}).get("grid_bus", {}), dtype=object)
    grid_bus = grid_bus[grid_bus.index.isin(buses)]
    if grid_bus.empty:
        raise DataError(
            "The network has no prosumers to release: none was made by assign_prosumers. Those of "
            'add_prosumers are removed with n.remove("Bus", ...) and what stands at their buses.'
        )
    lost = grid_bus[~grid_bus.isin(buses)]
    if len(lost):
        raise DataError(
            f"Assets of prosumer {listed(lost.index)} came from bus {listed(lost.unique())}, which "
            "the network no longer has: add it first."
        )
    return grid_bus


def _return_assets(n: pypsa.Network, grid_bus: pd.Series) -> None:
    """Attach all that stands at the prosumers' buses, trades apart, to those of the grid."""
    for component in sorted(n.one_port_components | n.branch_components):
        static = n.components[component].static
        mine = static["carrier"] != TRADE_CARRIER if component == "Link" else True
        for column in bus_columns(static):
            hers = static[column].isin(grid_bus.index) & mine
            static[column] = static[column].where(~hers, static[column].map(grid_bus))


def _drop(n: pypsa.Network, component: str, kept: dict[str, dict[str, str]], *names: str) -> None:
    """Drop columns and series of prosumers, if there were none before."""
    c = n.components[component]
    gone = [name for name in names if name not in kept.get(component, {})]
    c.static = c.static.drop(columns=[name for name in gone if name in c.static])
    for name in gone:
        c.dynamic.pop(name, None)


def _remove_carriers(n: pypsa.Network, before: list[str]) -> None:
    used: set[object] = set()
    for component in n.all_components - {"Carrier"}:
        static = first_scenario(n, component)
        used |= set(static.get("carrier", ()))
    known = n.components.carriers.static.index.unique(NAME)
    gone = [name for name in CARRIERS if name in known and name not in (*before, *used)]
    remove(n, "Carrier", gone)
