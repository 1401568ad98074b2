"""What gives power in pandapower networks: generators, external grids, storage, dc lines."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.names import CONTROLLABLE
from pypsa_p2p.network.pandapower.tables import (
    PANDAPOWER_INDEX,
    PANDAPOWER_TABLE,
    UNLIMITED,
    Losses,
    add_rows,
    flag_column,
    names_of,
    number_column,
    on_buses,
    phase_sum,
    unused_names,
)

GENERATOR_TABLES: Final = ("ext_grid", "gen", "sgen", "asymmetric_sgen")
SUPPLY_TABLES: Final = (*GENERATOR_TABLES, "xward", "dcline", "storage")
_STATIC: Final = ("sgen", "asymmetric_sgen")


def add_supply(
    n: pypsa.Network, net: Any, bus_of: pd.Series, lost: Losses, *, set_points: bool
) -> None:
    """Add all that gives or moves active power, or holds a voltage.

    With `set_points` False nothing has a ``p_set``, so that `n.optimize()` is free to choose, but
    for storage that is not controllable: its limits alone do not hold it.
    """
    names = names_of(net, SUPPLY_TABLES)
    for table in GENERATOR_TABLES:
        _add_generators(n, table, on_buses(net, table, names[table], bus_of, lost), lost)
    _add_sources_behind_wards(n, on_buses(net, "xward", names["xward"], bus_of, lost, note=False))
    _add_dc_lines(n, net, names["dcline"], bus_of, lost)
    _add_storage(n, on_buses(net, "storage", names["storage"], bus_of, lost), lost)
    if not set_points:
        for component in ("Generator", "Link"):
            n.c[component].static["p_set"] = np.nan
        if len(n.storage_units):
            n.storage_units.loc[n.storage_units[CONTROLLABLE], "p_set"] = np.nan


def _add_generators(n: pypsa.Network, table: str, rows: pd.DataFrame, lost: Losses) -> None:
    """Add external grids (slack), generators (PV or slack) and static generators (PQ)."""
    scaling = number_column(rows, "scaling", 1.0)
    p_set = number_column(rows, "p_mw", 0.0) * scaling
    q_set = number_column(rows, "q_mvar", 0.0) * scaling
    if table == "asymmetric_sgen":
        lost.add("asymmetric sgen, now the sum of its phases", rows["name"][rows["active"]])
        p_set, q_set = phase_sum(rows, "p", "mw"), phase_sum(rows, "q", "mvar")
    free = flag_column(rows, CONTROLLABLE, table not in _STATIC)
    external = table == "ext_grid"
    slack = flag_column(rows, "slack", False) | external
    curve = flag_column(rows, "reactive_capability_curve", False)
    lost.add("reactive capability curve, of which q_min and q_max stay", rows["name"][curve])
    add_rows(
        n,
        "Generator",
        rows,
        control=np.where(slack, "Slack", "PQ" if table in _STATIC else "PV"),
        p_set=p_set,
        q_set=q_set,
        q_min=number_column(rows, "min_q_mvar", -np.inf),
        q_max=number_column(rows, "max_q_mvar", np.inf),
        **_limits(rows, free, p_set, external=external),
        **{CONTROLLABLE: free | external},
    )
    if "vm_pu" in rows:
        _hold_voltage(n, rows, rows["vm_pu"])


def _hold_voltage(n: pypsa.Network, rows: pd.DataFrame, voltage: pd.Series) -> None:
    """Give the buses of what is in service the voltage it holds, per unit."""
    on = rows["active"]
    n.buses.loc[rows["pypsa_bus"][on], "v_mag_pu_set"] = voltage[on].to_numpy(float)


def _limits(
    rows: pd.DataFrame, free: pd.Series, p_set: pd.Series, *, external: bool
) -> dict[str, pd.Series]:
    """Limits of active power as PyPSA has them: p_nom times p_min_pu and p_max_pu.

    As in pandapower, a generator that is not free (controllable) keeps its set point, and an
    external grid that is not has no limits.
    """
    low = number_column(rows, "min_p_mw", -UNLIMITED)
    high = number_column(rows, "max_p_mw", UNLIMITED)
    low = low.where(free, -UNLIMITED if external else p_set)
    high = high.where(free, UNLIMITED if external else p_set)
    p_nom = low.abs().clip(lower=high.abs())
    share = p_nom.where(p_nom > 0, 1.0)
    return {"p_nom": p_nom, "p_min_pu": low / share, "p_max_pu": high / share}


# --- what holds a voltage without giving power --------------------------------------------------


def _add_condensers(
    n: pypsa.Network,
    rows: pd.DataFrame,
    voltage: pd.Series,
    low: pd.Series | float = -np.inf,
    high: pd.Series | float = np.inf,
) -> None:
    """Add generators that hold a voltage (per unit) and give no active power."""
    zero = pd.Series(0.0, rows.index)
    add_rows(
        n,
        "Generator",
        rows,
        control="PV",
        p_set=zero,
        p_nom=zero,
        q_min=zero + low,
        q_max=zero + high,
        **{CONTROLLABLE: False},
    )
    _hold_voltage(n, rows, voltage)


def _add_sources_behind_wards(n: pypsa.Network, rows: pd.DataFrame) -> None:
    """Add the voltage source of each extended ward, at the bus behind its impedance."""
    if rows.empty:
        return
    branches = n.lines[n.lines[PANDAPOWER_TABLE] == "xward"]
    behind = pd.Series(branches["bus1"].to_numpy(), branches[PANDAPOWER_INDEX].astype(int))
    rows = rows[rows.index.isin(behind.index)]
    _add_condensers(n, rows.assign(pypsa_bus=behind[rows.index]), rows["vm_pu"])


def _add_dc_lines(
    n: pypsa.Network, net: Any, names: pd.Series, bus_of: pd.Series, lost: Losses
) -> None:
    """Add dc lines: a Link, a Load of the constant loss, and two generators hold the voltages.

    As in pandapower, p1 = -(p0 (1 - loss_percent / 100) - loss_mw) at the end that receives, and a
    line whose set point is not positive runs from ``to_bus`` to ``from_bus``.
    """
    rows = net["dcline"]
    at_bus = rows["from_bus"].isin(bus_of.index) & rows["to_bus"].isin(bus_of.index)
    lost.add("dcline on a bus out of service", names[~at_bus])
    rows = rows[at_bus]
    if rows.empty:
        return
    rows = rows.assign(
        name=names[rows.index],
        active=flag_column(rows, "in_service", True),
        **{PANDAPOWER_TABLE: "dcline", PANDAPOWER_INDEX: rows.index},
    )
    ends = {side: rows[f"{side}_bus"].map(bus_of) for side in ("from", "to")}
    forward = rows["p_mw"] > 0
    giver = rows.assign(pypsa_bus=ends["from"].where(forward, ends["to"]))
    taker = rows.assign(pypsa_bus=ends["to"].where(forward, ends["from"]))
    add_rows(
        n,
        "Link",
        giver,
        "bus0",
        bus1=taker["pypsa_bus"],
        p_set=rows["p_mw"].abs(),
        p_nom=number_column(rows, "max_p_mw", UNLIMITED),
        efficiency=1 - rows["loss_percent"] / 100,
    )
    lossy = taker[taker["loss_mw"] != 0]
    lossy = lossy.assign(name=unused_names(net, lossy["name"] + " loss"))
    add_rows(n, "Load", lossy, p_set=lossy["loss_mw"])
    for side, bus in ends.items():
        end = rows.assign(pypsa_bus=bus, name=unused_names(net, rows["name"] + f" {side}"))
        low = number_column(rows, f"min_q_{side}_mvar", -np.inf)
        high = number_column(rows, f"max_q_{side}_mvar", np.inf)
        _add_condensers(n, end, rows[f"vm_{side}_pu"], low, high)


def _add_storage(n: pypsa.Network, rows: pd.DataFrame, lost: Losses) -> None:
    """Add storage: pandapower counts charging as positive, PyPSA discharging.

    Without limits of energy it may hold any; what is not controllable keeps its set point, in
    either direction of which it has the power.
    """
    scaling = number_column(rows, "scaling", 1.0)
    p_set = -number_column(rows, "p_mw", 0.0) * scaling
    free = flag_column(rows, CONTROLLABLE, False)
    turned = rows.assign(
        min_p_mw=-number_column(rows, "max_p_mw", UNLIMITED),
        max_p_mw=-number_column(rows, "min_p_mw", -UNLIMITED),
    )
    limits = _limits(turned, free, p_set, external=False)
    limits["p_min_pu"] = limits["p_min_pu"].where(free, -1.0)
    limits["p_max_pu"] = limits["p_max_pu"].where(free, 1.0)
    energy = number_column(rows, "max_e_mwh", UNLIMITED)
    charge = number_column(rows, "soc_percent", np.nan)
    lost.add(
        "storage without state of charge, now half full",
        rows["name"][charge.isna() & rows["active"]],
    )
    add_rows(
        n,
        "StorageUnit",
        rows,
        control="PQ",
        p_set=p_set,
        q_set=-number_column(rows, "q_mvar", 0.0) * scaling,
        max_hours=energy / limits["p_nom"].where(limits["p_nom"] > 0, 1.0),
        state_of_charge_initial=charge.fillna(50.0) / 100 * energy,
        **limits,
        **{CONTROLLABLE: free},
    )
