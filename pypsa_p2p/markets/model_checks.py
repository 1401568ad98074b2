"""What of a user's own PyPSA model a market refuses: impedances, curves, limits by bus."""

from __future__ import annotations

import logging

import networkx as nx
import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, MarketError, listed, shown
from pypsa_p2p.common.names import DC, GRID_BUS, NAME, PROSUMER_CARRIER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import as_numbers, dynamic_values, first_scenario
from pypsa_p2p.network.assets import CAPACITIES, extendable_names
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import NOBODY

logger = logging.getLogger(__name__)

_PER_BUS = "nom_max_"  # columns of buses that limit what is built there, before the carrier


def check_weightings(n: pypsa.Network, data: MarketData) -> None:
    """Hours of all kinds are numbers: those of stores make energy, those of generators emissions.

    Raises
    ------
    DataError
    """
    weightings = n.snapshot_weightings.loc[data.snapshots]
    for kind in map(str, weightings):
        hours = as_numbers("n.snapshot_weightings", weightings[kind], kind)
        bad = weightings.index[~(np.isfinite(hours) & (hours >= 0))]
        if len(bad):
            raise DataError(
                f"n.snapshot_weightings[{kind!r}] is missing, infinite or negative in snapshot "
                f"{listed(bad)}: give hours of at least 0."
            )


def require_extendable(n: pypsa.Network, component: str) -> None:
    """Refuse capacities that are set, as those to build may be, where none is built.

    Raises
    ------
    DataError
    """
    static, capacity = n.c[component].static, CAPACITIES.get(component, "")
    if f"{capacity}_set" not in static:
        return
    given = static[f"{capacity}_set"].notna() & ~static[f"{capacity}_extendable"].astype(bool)
    if given.any():
        raise DataError(
            f"{component} {listed(static.index[given])}: {capacity}_set is for capacities to "
            f"build, but {capacity}_extendable is False. Put it into {capacity}."
        )


def check_emissions(n: pypsa.Network, data: MarketData) -> None:
    """PyPSA divides by the efficiency of generators whose emissions it limits.

    Raises
    ------
    DataError
    """
    names = data.names("Generator")
    limits = n.c["GlobalConstraint"].static
    if "type" not in limits or not (limits["type"] == "primary_energy").any() or not len(names):
        return
    efficiency = dynamic_values(n, "Generator", "efficiency", names, data.snapshots)
    none = names[(efficiency == 0.0).any([SCENARIO, SNAPSHOT]).to_numpy()]
    if len(none):
        raise DataError(
            f"Generator {listed(none)}: efficiency is 0, by which PyPSA divides where a "
            "GlobalConstraint limits emissions. Give it its efficiency, or p_max_pu = 0."
        )


def warn_of_losses(n: pypsa.Network, data: MarketData) -> None:
    """Say which Links of the grid stand still because nothing can supply what they lose.

    Where all that is sold over trades is bought, nothing is left over for the grid.
    """
    names = data.names("Link")
    names = names[(data.owner_of("Link").sel({NAME: names}) == NOBODY).to_numpy()]
    if not len(names):
        return
    efficiency = dynamic_values(n, "Link", "efficiency", names, data.snapshots, default=1.0)
    lossy = names[(efficiency != 1.0).any([SCENARIO, SNAPSHOT]).to_numpy()]
    if len(lossy):
        logger.warning(
            "Link %s of the grid loses or makes energy. With surplus=False only generators of the "
            "grid's own can supply that, and without them it stands still: allow a surplus, "
            "surplus=True, or give the Link to a prosumer.",
            listed(lossy),
        )


def require_no_curves(n: pypsa.Network, component: str) -> None:
    """Refuse costs or efficiencies along a curve, which PyPSA knows from 1.4 on.

    Raises
    ------
    MarketError
    """
    for attribute, curves in getattr(n.c[component], "piecewise", {}).items():
        if not curves.empty:
            names = curves.columns.get_level_values("name").unique()
            raise MarketError(
                f"{component} {listed(names)}: a piecewise {attribute} is not available in a "
                "market. Give every asset a number, or make a step of the curve an asset."
            )


def check_impedances(n: pypsa.Network) -> None:
    """Kirchhoff's law needs impedances around every cycle, and voltages to compare them.

    Raises
    ------
    DataError
    """
    grid = nx.MultiGraph()
    for component in [c for c in sorted(n.passive_branch_components) if len(n.c[c].static)]:
        static = first_scenario(n, component)
        active = static[static["active"].astype(bool)]
        _check_voltages(n, component, active)
        ends = zip(active["bus0"], active["bus1"], active.index, strict=True)
        grid.add_edges_from((one, other, (component, name)) for one, other, name in ends)
    if not len(grid):
        return
    bridges = {frozenset(ends) for ends in nx.bridges(grid)}
    carrier = first_scenario(n, "Bus")["carrier"]
    of_direct = set(carrier.index[carrier == DC])
    for one, other, (component, name) in grid.edges(keys=True):
        branch = first_scenario(n, component).loc[[name]]
        attribute = "r" if {one, other} <= of_direct else "x"
        value = float(as_numbers(component, branch[attribute], attribute).item())
        typed = "type" in branch and bool(branch["type"].item())
        if typed or (np.isfinite(value) and (value != 0.0 or frozenset((one, other)) in bridges)):
            continue
        raise DataError(
            f"{component} {shown(name)}: {attribute} is {value:g}, but flows follow impedances "
            f"where there are several ways. Give it its {attribute} (PyPSA's default is 0)."
        )


def _check_voltages(n: pypsa.Network, component: str, active: pd.DataFrame) -> None:
    voltage = first_scenario(n, "Bus")["v_nom"]
    for end in ("bus0", "bus1"):
        at = as_numbers("Bus", voltage.reindex(active[end]), "v_nom")
        bad = active[~(np.isfinite(at) & (at > 0))]
        if len(bad):
            raise DataError(
                f"Bus {listed(bad[end].unique())}: v_nom must be a number above 0 where "
                f"{component} {listed(bad.index)} leads. Give it its nominal voltage, kV."
            )


def check_limits_at_buses(n: pypsa.Network) -> None:
    """Limits for what stands at a bus hold for it wherever it has moved, or are refused.

    Raises
    ------
    MarketError
    """
    buses = first_scenario(n, "Bus")
    if GRID_BUS not in buses:
        return
    prosumers = buses[buses["carrier"] == PROSUMER_CARRIER]
    _check_global_constraints(n, prosumers[GRID_BUS])
    limits = [column for column in map(str, buses) if column.startswith(_PER_BUS)]
    if not limits:
        return
    place = pd.Series(buses.index, buses.index)
    place[prosumers.index] = prosumers[GRID_BUS]
    built = _to_build(n)
    for column in limits:
        limited = built["bus"].isin(buses.index[buses[column].notna()])
        of_it = built[limited & (built["carrier"] == column[len(_PER_BUS) :])]
        several = of_it.groupby(of_it["bus"].map(place))["bus"].nunique()
        shared = several.index[several > 1]
        if len(shared):
            raise MarketError(
                f"Bus {listed(shared)}: {column} limits what several prosumers, or the grid, "
                "build there together. Give each one's bus a limit in that column and clear it "
                "here, or assign all of it to one."
            )


def _to_build(n: pypsa.Network) -> pd.DataFrame:
    """Bus and carrier of what stands at one bus and is to be built."""
    tables = [pd.DataFrame(columns=["bus", "carrier"])]
    for component in sorted(n.one_port_components.intersection(CAPACITIES)):
        names = extendable_names(n, component)
        tables.append(first_scenario(n, component).loc[names, ["bus", "carrier"]])
    return pd.concat(tables)


def _check_global_constraints(n: pypsa.Network, grid_bus: pd.Series) -> None:
    constraints = n.c["GlobalConstraint"].static
    if "bus" not in constraints:
        return
    moved = constraints["bus"].isin(set(grid_bus) - {""}).to_numpy()
    names = constraints.index.get_level_values("name")[moved].unique()
    if len(names):
        bus = constraints["bus"][moved].iloc[0]
        hers = grid_bus.index[grid_bus == bus]
        raise MarketError(
            f"GlobalConstraint {listed(names)} is for assets at bus {bus!r}, which stand at "
            f"{listed(hers)} by now. Name that bus: n.global_constraints.loc[{names[0]!r}, 'bus'] "
            f"= {hers[0]!r}."
        )
