"""What takes power in pandapower networks: loads, motors, wards and shunts.

Constant power becomes a PyPSA Load, constant impedance a ShuntImpedance of the same power at
nominal voltage: g = p / v_n^2 and b = -q / v_n^2, in siemens with MW, MVar and kV.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import CONTROLLABLE
from pypsa_p2p.network.pandapower.tables import (
    Losses,
    add_rows,
    flag_column,
    names_of,
    number_column,
    on_buses,
    phase_sum,
    unused_names,
)

DEMAND_TABLES: Final = ("load", "motor", "asymmetric_load", "ward", "xward")
SHUNT_TABLES: Final = ("shunt", "ward", "xward")


def add_demand(n: pypsa.Network, net: Any, bus_of: pd.Series, lost: Losses) -> None:
    """Add loads and shunts: all that takes constant power or has a constant impedance."""
    names = names_of(net, DEMAND_TABLES)
    shunts = names_of(net, SHUNT_TABLES)
    _add_loads(n, net, names["load"], bus_of, lost)
    _add_motors(n, net, names["motor"], bus_of, lost)
    _add_asymmetric(n, net, names["asymmetric_load"], bus_of, lost)
    _add_shunts(n, net, shunts["shunt"], bus_of, lost)
    for table in ("ward", "xward"):
        rows = on_buses(net, table, names[table], bus_of, lost)
        add_rows(n, "Load", rows, p_set=rows["ps_mw"], q_set=rows["qs_mvar"])
        _add_impedances(
            n, rows.assign(name=shunts[table][rows.index]), rows["pz_mw"], rows["qz_mvar"]
        )


def _add_loads(
    n: pypsa.Network, net: Any, names: pd.Series, bus_of: pd.Series, lost: Losses
) -> None:
    """Add loads: the share of constant impedance apart, constant current as constant power."""
    rows = on_buses(net, "load", names, bus_of, lost)
    scaling = number_column(rows, "scaling", 1.0)
    current = rows.filter(regex="^const_i_").fillna(0.0).ne(0.0).any(axis=1)
    lost.add("load of constant current, now of constant power", rows["name"][current])
    free = flag_column(rows, CONTROLLABLE, False) & rows["active"]
    lost.add("controllable load, now fixed", rows["name"][free])
    p = number_column(rows, "p_mw", 0.0) * scaling
    q = number_column(rows, "q_mvar", 0.0) * scaling
    both = number_column(rows, "const_z_percent", 0.0)  # of p and q alike until pandapower 3.0
    p_share = number_column(rows, "const_z_p_percent", 0.0).where(both == 0, both) / 100
    q_share = number_column(rows, "const_z_q_percent", 0.0).where(both == 0, both) / 100
    add_rows(n, "Load", rows, p_set=p * (1 - p_share), q_set=q * (1 - q_share))
    split = rows[(p_share != 0) | (q_share != 0)]
    split = split.assign(name=unused_names(net, split["name"] + " at constant impedance"))
    _add_impedances(n, split, (p * p_share)[split.index], (q * q_share)[split.index])


def _add_motors(
    n: pypsa.Network, net: Any, names: pd.Series, bus_of: pd.Series, lost: Losses
) -> None:
    """Add motors: p = p_mech / efficiency, loaded and scaled, q = p tan(arccos(cos phi))."""
    rows = on_buses(net, "motor", names, bus_of, lost)
    loading = number_column(rows, "loading_percent", 100.0) / 100
    efficiency = number_column(rows, "efficiency_percent", 100.0) / 100
    p = rows["pn_mech_mw"] / efficiency * loading * number_column(rows, "scaling", 1.0)
    cos_phi = number_column(rows, "cos_phi", 1.0)
    add_rows(n, "Load", rows, p_set=p, q_set=np.abs(p) * np.sqrt(1 / cos_phi**2 - 1))


def _add_asymmetric(
    n: pypsa.Network, net: Any, names: pd.Series, bus_of: pd.Series, lost: Losses
) -> None:
    """Add asymmetric loads as the sum of their phases, as in a balanced power flow."""
    rows = on_buses(net, "asymmetric_load", names, bus_of, lost)
    lost.add("asymmetric load, now the sum of its phases", rows["name"][rows["active"]])
    add_rows(n, "Load", rows, p_set=phase_sum(rows, "p", "mw"), q_set=phase_sum(rows, "q", "mvar"))


def _add_shunts(
    n: pypsa.Network, net: Any, names: pd.Series, bus_of: pd.Series, lost: Losses
) -> None:
    """Add shunts: power at rated voltage times the step, or what a table says of the step."""
    rows = on_buses(net, "shunt", names, bus_of, lost)
    step = number_column(rows, "step", 1.0)
    p = number_column(rows, "p_mw", 0.0) * step
    q = number_column(rows, "q_mvar", 0.0) * step
    tabulated = rows.index[flag_column(rows, "step_dependency_table", False)]
    if len(tabulated):
        p[tabulated], q[tabulated] = _tabulated(net, rows.loc[tabulated])
    _add_impedances(n, rows, p, q, number_column(rows, "vn_kv", np.nan))


def _tabulated(net: Any, shunts: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """p and q of shunts at their steps, MW and MVar, by pandapower's table of them."""
    key = ["id_characteristic", "step"]
    table = pd.DataFrame(
        net.get("shunt_characteristic_table", []), columns=[*key, "p_mw", "q_mvar"]
    )
    chosen = shunts[["id_characteristic_table", "step"]].astype(float).set_axis(key, axis=1)
    found = chosen.reset_index().merge(table.astype(float).drop_duplicates(key), how="left", on=key)
    power = found.set_axis(shunts.index)[["p_mw", "q_mvar"]]
    missing = power.isna().any(axis=1)
    if missing.any():
        raise DataError(
            f"shunt {listed(shunts.loc[missing, 'name'])}: shunt_characteristic_table has no power "
            "for its step. Add the row, or set step_dependency_table to False."
        )
    return power["p_mw"], power["q_mvar"]


def _add_impedances(
    n: pypsa.Network,
    rows: pd.DataFrame,
    p: pd.Series,
    q: pd.Series,
    rated: pd.Series | None = None,
) -> None:
    """Add what takes p and q (MW, MVar) at rated voltage (kV), the bus's where none is given."""
    voltage = rows["pypsa_bus"].map(n.buses["v_nom"]).astype(float)
    if rated is not None:
        voltage = rated.fillna(voltage)
    add_rows(n, "ShuntImpedance", rows, g=p / voltage**2, b=-q / voltage**2)
