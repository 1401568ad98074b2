"""pandapower networks as PyPSA networks.

Equivalent circuits of the branches are left to two kept converters, pandapower's `to_ppc` and
PyPSA's `import_from_pypower_ppc`. Everything those two lose on the way (names, separate loads and
generators, limits, costs, coordinates, what is out of service) is read from pandapower's tables.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.network.pandapower.branches import BRANCH_TABLES, add_branches, branch_case
from pypsa_p2p.network.pandapower.costs import add_costs
from pypsa_p2p.network.pandapower.demand import DEMAND_TABLES, add_demand
from pypsa_p2p.network.pandapower.islands import prepare_islands
from pypsa_p2p.network.pandapower.supply import SUPPLY_TABLES, add_supply
from pypsa_p2p.network.pandapower.tables import (
    PANDAPOWER_INDEX,
    PANDAPOWER_TABLE,
    Losses,
    flag_column,
    names_of,
    number_column,
    tables_of,
)

_NEEDED: Final = {  # its own power flow has no answer without
    "load": ("p_mw", "q_mvar"),
    "sgen": ("p_mw",),
    "storage": ("p_mw",),
    "gen": ("p_mw", "vm_pu"),
    "ext_grid": ("vm_pu",),
    "line": ("length_km", "r_ohm_per_km", "x_ohm_per_km"),
}
_CONVERTED: Final = {
    *("bus", "switch", "shunt", "poly_cost", "pwl_cost"),
    *BRANCH_TABLES,
    *DEMAND_TABLES,
    *SUPPLY_TABLES,
}


def from_pandapower(net: Any, *, set_points: bool = True) -> pypsa.Network:
    """Convert a pandapower network to a PyPSA network.

    Buses, lines, two- and three-winding transformers, impedances, switches, loads, motors, static
    generators, generators, external grids, storage, shunts, wards, dc lines and costs are
    converted; `n.pf()` then gives the voltages and flows of
    `pandapower.runpp(calculate_voltage_angles=True)`, angles relative to the slack bus. Names are
    pandapower's where they are given and unique, else the table and index ("load 3"); columns
    ``pandapower_table`` and ``pandapower_index`` say where a component comes from. What is out of
    service is there with ``active=False``; what no generator supplies is left out, as
    pandapower's power flow does. docs/conversions.md says what becomes of each element, and how
    exactly.

    Parameters
    ----------
    net : pandapowerNet
        Left unchanged.
    set_points : bool, default True
        Whether generators, storage and dc lines carry their active power as ``p_set``. `n.pf()`
        needs it; but PyPSA's `n.optimize()` *fixes* every dispatch that has a ``p_set`` and
        so is infeasible with losses left out: pass False (or set ``n.generators["p_set"] = nan``)
        for an optimal power flow, and for a market with storage, dc lines or an external grid whose
        set points are not to be kept: `assign_prosumers` clears ``p_set`` of generators that are
        ``controllable``, of nothing else. Storage that is not controllable keeps it in any case.

    Returns
    -------
    pypsa.Network
        Power in MW and MVar, voltages in kV and per unit, costs in EUR/MWh (``marginal_cost`` =
        cp1), EUR/MW2h (``marginal_cost_quadratic`` = cp2) and EUR/h (column ``fixed_cost`` = cp0).
        Generators have columns ``q_min`` and ``q_max`` (MVar), which PyPSA does not enforce, and
        ``controllable``, pandapower's own, by default True of generators and False of static ones;
        True of every external grid, whose limits are all that pandapower's flag is about.
        Ratings (``s_nom``, MVA) are pandapower's; those of many IEEE cases are dummies, 9900 MVA
        and more, and limit nothing. What has no rating or limit gets 1e6. Where transformers have
        vector groups (phase shifts of 30 degrees and more), from which PyPSA's power flow does not
        start well, these are in the transformers' column ``vector_group`` instead of
        ``phase_shift``, and the buses' column ``v_ang_offset`` (degrees) is what pandapower's
        angles have beyond PyPSA's; nothing else depends on it.

    Raises
    ------
    DataError
        pandapower is not installed, `net` is not one of its networks or has no bus in service, a
        number is missing that it needs, or pandapower itself cannot build the branches.

    Warns
    -----
    UserWarning
        Once, naming every element that could not be carried over as it was.
    """
    _check_is_pandapower(net)
    lost = Losses()
    n = pypsa.Network(name=str(net.get("name") or ""))
    n.add("Carrier", "AC")
    case = branch_case(net)
    bus_of = _add_buses(n, net, case, lost)
    add_branches(n, net, case, bus_of, lost)
    add_supply(n, net, bus_of, lost, set_points=set_points)
    add_costs(n, net, lost)
    add_demand(n, net, bus_of, lost)
    prepare_islands(n, net, lost, set_points=set_points)
    _note_unknown_tables(net, lost)
    lost.add("option for pandapower's power flow, not looked at", net.get("user_pf_options") or {})
    lost.warn()
    return n


def _check_is_pandapower(net: object) -> None:
    """Refuse anything but a pandapower network with a bus in service."""
    try:
        from pandapower.auxiliary import pandapowerNet  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise DataError(
            "from_pandapower needs pandapower, which is not installed. Install it with "
            'pip install "pypsa-p2p[pandapower]".'
        ) from error
    if not isinstance(net, pandapowerNet):
        raise DataError(
            f"from_pandapower needs a pandapower network, not a {type(net).__name__}. Pass what "
            "pandapower.networks.case14(), pandapower.from_json(...) and the like return."
        )
    if not net.bus["in_service"].astype(bool).any():
        raise DataError("The pandapower network has no bus in service. Add one, or switch one on.")
    _check_buses(net)
    for table, columns in _NEEDED.items():
        rows = net[table][flag_column(net[table], "in_service", True)]
        if "bus" in rows:
            rows = rows[rows["bus"].isin(net.bus.index[net.bus["in_service"].astype(bool)])]
        for column in columns:
            number = pd.to_numeric(rows[column], errors="coerce").astype(float)
            bad = rows.index[~np.isfinite(number) | ((column == "length_km") & (number <= 0))]
            if len(bad):
                raise DataError(
                    f"{table} {listed(names_of(net, [table])[table][bad])}: {column} is missing or "
                    "no usable number. Give one, or take the element out of service."
                )


def _check_buses(net: Any) -> None:
    """Refuse elements in service at buses that the network does not have."""
    for table, every in tables_of(net):
        rows = every[flag_column(every, "in_service", True)]
        for column in rows.columns[rows.columns.isin(("bus", "from_bus", "to_bus"))]:
            lost = rows.index[~rows[column].isin(net.bus.index)]
            if len(lost):
                names = names_of(net, [table])[table][lost]
                raise DataError(
                    f"{table} {listed(names)}: {column} {listed(rows.loc[lost, column].unique())} "
                    "is not in the pandapower network. Add the bus, or take the element out."
                )


# --- buses --------------------------------------------------------------------------------------


def _add_buses(n: pypsa.Network, net: Any, case: Any, lost: Losses) -> pd.Series:
    """Add the buses in service; return the name of each by pandapower's index.

    Buses joined by a closed switch without impedance are one bus, called by the first of them.
    """
    bus = net.bus[net.bus["in_service"].astype(bool)]
    names = names_of(net, ["bus"])["bus"]
    lost.add("bus out of service", names.drop(bus.index))
    node = pd.Series(case["lookups"]["bus"][bus.index.to_numpy()], bus.index)
    first = node.drop_duplicates()
    bus_of = node.map(pd.Series(names[first.index].to_numpy(), first.to_numpy()))
    merged = bus_of[names[bus.index] != bus_of]
    lost.add("buses merged by closed switches", names[merged.index] + " into " + merged)
    kept = bus.loc[first.index]
    x, y = _coordinates(net, kept.index, lost)
    n.add(
        "Bus",
        list(names[kept.index]),
        v_nom=kept["vn_kv"].to_numpy(float),
        v_mag_pu_min=number_column(kept, "min_vm_pu", 0.0).to_numpy(),
        v_mag_pu_max=number_column(kept, "max_vm_pu", np.inf).to_numpy(),
        x=x,
        y=y,
        **{PANDAPOWER_TABLE: "bus", PANDAPOWER_INDEX: kept.index.to_numpy()},
    )
    return bus_of


def _coordinates(net: Any, buses: pd.Index, lost: Losses) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of buses, 0 where none are given; GeoJSON points or a `bus_geodata` table."""
    points = pd.DataFrame(0.0, index=buses, columns=["x", "y"])
    old = net.get("bus_geodata")
    if old is not None and len(old):
        points.update(old[["x", "y"]].astype(float))
    if "geo" in net.bus:
        for index, text in net.bus.loc[buses, "geo"].items():
            if isinstance(text, str) and text:
                try:
                    place = [float(value) for value in json.loads(text)["coordinates"][:2]]
                    points.loc[index] = place
                except (ValueError, TypeError, KeyError):
                    lost.add("coordinates that are no GeoJSON point, left out", [f"bus {index}"])
    return points["x"].to_numpy(), points["y"].to_numpy()


# --- what is left -------------------------------------------------------------------------------


def _note_unknown_tables(net: Any, lost: Losses) -> None:
    """Note rows in service of tables this module has no counterpart for."""
    for table, rows in tables_of(net):
        if table not in _CONVERTED:
            present = rows.index[flag_column(rows, "in_service", True)]
            names = names_of(net, [table])[table]
            lost.add(f"{table}, which has no counterpart here", names[present])
