"""One network solved by pandapower and, converted, by PyPSA: how far apart the answers are."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.network.pandapower.conversion import from_pandapower
from pypsa_p2p.network.pandapower.islands import ANGLE_OFFSET
from pypsa_p2p.network.pandapower.tables import PANDAPOWER_INDEX, PANDAPOWER_TABLE

TOLERANCE = 1e-6
LARGE_LOAD = 1000.0  # MW; beyond it rounding keeps a power flow from 1e-9 MW
#: Of every table of branches: the end of a converted name, its port, and pandapower's side.
PORTS = {
    "line": (("", 0, "from"), ("", 1, "to")),
    "impedance": (("", 0, "from"), ("", 1, "to")),
    "trafo": (("", 0, "hv"), ("", 1, "lv")),
    "trafo3w": ((" hv", 0, "hv"), (" mv", 1, "mv"), (" lv", 1, "lv")),
}


@dataclass(frozen=True, kw_only=True)
class PowerFlows:
    """Largest differences between two AC power flows; ``start`` is where PyPSA's began."""

    start: str
    converged: bool
    voltage: float  # per unit
    angle: float  # degrees
    flow: float  # MW or MVar
    losses: float  # MW, of all branches together
    total_losses: float  # MW, pandapower's

    @property
    def worst(self) -> float:
        return max(self.voltage, self.angle, self.flow, self.losses) if self.converged else np.inf


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Optimal cost of the DC power flow on both sides, EUR/h; nan where it failed.

    ``with_shunts`` is ours where the conductance of shunts is added as loads of that power at
    nominal voltage: pandapower's linear power flow counts it, PyPSA's optimisation does not.
    """

    ours: float
    theirs: float
    with_shunts: float


def solve_pandapower(net: Any) -> bool:
    """Run pandapower's power flow, as exactly as it goes; whether it has a solution."""
    import pandapower  # noqa: PLC0415  (optional)

    for tolerance in (1e-11, 1e-9):  # MVA; the first is beyond rounding in large networks
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pandapower.runpp(
                    net, calculate_voltage_angles=True, tolerance_mva=tolerance, numba=False
                )
        except Exception:  # whatever it raises: it found no solution
            continue
        return True
    return False


def compare_power_flows(net: Any, n: pypsa.Network) -> PowerFlows:
    """Solve the converted network from PyPSA's flat start; if that leads elsewhere, from linear."""
    result = _compare_from("flat", net, n)
    return result if result.worst < TOLERANCE else _compare_from("linear", net, n)


def _compare_from(start: str, net: Any, n: pypsa.Network) -> PowerFlows:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if start == "linear":
            n.lpf()
        exact = 1e-9 if n.loads["p_set"].sum() < LARGE_LOAD else 1e-7
        solution = n.pf(x_tol=exact, use_seed=start == "linear")
    voltage, angle = voltage_differences(net, n)
    flow, losses, total = flow_differences(net, n)
    return PowerFlows(
        start=start,
        converged=bool(solution["converged"].to_numpy().all()),
        voltage=voltage,
        angle=angle,
        flow=flow,
        losses=losses,
        total_losses=total,
    )


def voltage_differences(net: Any, n: pypsa.Network) -> tuple[float, float]:
    """Largest differences of magnitudes (per unit) and angles (degrees) over all solved buses."""
    buses = n.buses[n.buses[PANDAPOWER_TABLE] == "bus"]
    theirs = net.res_bus.loc[buses[PANDAPOWER_INDEX].astype(int)].set_index(buses.index)
    ours = n.buses_t.v_mag_pu.loc["now", buses.index]
    solved = theirs["vm_pu"].notna()
    offset = n.buses[ANGLE_OFFSET] if ANGLE_OFFSET in n.buses else pd.Series(0.0, n.buses.index)
    angle = np.degrees(n.buses_t.v_ang.loc["now", buses.index]) + offset[buses.index]
    reference = n.sub_networks["slack_bus"].reindex(buses["sub_network"]).set_axis(buses.index)
    turned = angle - theirs["va_degree"] + theirs["va_degree"].reindex(reference).to_numpy()
    turned = (turned + 180.0) % 360.0 - 180.0
    return _largest((ours - theirs["vm_pu"])[solved]), _largest(turned[solved])


def flow_differences(net: Any, n: pypsa.Network) -> tuple[float, float, float]:
    """Largest difference of flows (MW, MVar) into both ends; of all losses (MW); the losses."""
    flow, ours, theirs = 0.0, 0.0, 0.0
    for branches in (n.c.lines, n.c.transformers):
        if branches.static.empty:
            continue
        for table, ports in PORTS.items():
            own = branches.static[branches.static[PANDAPOWER_TABLE] == table]
            ours += sum(_flow(n, branches, own.index, f"p{port}").sum() for port in (0, 1))
            for ending, port, side in ports:
                at_port = own[own.index.str.endswith(ending)]
                flow = max(flow, _port_difference(net, n, branches, at_port, port, side))
    for table in PORTS:
        theirs += net[f"res_{table}"]["pl_mw"].sum() if len(net[table]) else 0.0
    return flow, abs(float(ours - theirs)), float(theirs)


def _port_difference(
    net: Any, n: pypsa.Network, branches: Any, own: pd.DataFrame, port: int, side: str
) -> float:
    largest = 0.0
    for table, rows in own.groupby(PANDAPOWER_TABLE):
        flows = net[f"res_{table}"].loc[rows[PANDAPOWER_INDEX].astype(int)]
        for kind, unit in (("p", "mw"), ("q", "mvar")):
            ours = _flow(n, branches, rows.index, f"{kind}{port}")
            theirs = flows[f"{kind}_{side}_{unit}"].fillna(0.0)
            largest = max(largest, _largest(ours.to_numpy() - theirs.to_numpy()))
    return largest


def _flow(n: pypsa.Network, branches: Any, names: pd.Index, attribute: str) -> pd.Series:
    """Flow into one end of branches, with what the shunt at an uneven branch's end takes."""
    flow = branches.dynamic[attribute].loc["now"].reindex(names).fillna(0.0)
    if attribute.endswith("1") and not n.shunt_impedances.empty:
        shunt = n.shunt_impedances_t[attribute[0]].loc["now"]
        extra = shunt.reindex(names + " bus1").fillna(0.0).to_numpy()
        flow = flow + extra * (-1.0 if attribute == "q1" else 1.0)
    return flow


def _largest(values: Any) -> float:
    """Largest magnitude; infinite where a value is missing, 0 of nothing."""
    values = np.abs(np.asarray(values, dtype=float))
    return float(np.where(np.isfinite(values), values, np.inf).max(initial=0.0))


def compare_costs(net: Any) -> Costs:
    """DC optimal power flow on both sides, all ratings in force, fixed costs included."""
    n = without_inactive(net)
    ours = _optimal_cost(n)
    shunts = n.shunt_impedances[n.shunt_impedances["g"] != 0]
    if shunts.empty:
        return Costs(ours=ours, theirs=_pandapower_cost(net), with_shunts=ours)
    power = shunts["g"] * shunts["bus"].map(n.buses["v_nom"]) ** 2
    names = "conductance of " + shunts.index
    n.add("Load", names, bus=shunts["bus"].to_numpy(), p_set=power.to_numpy())
    return Costs(ours=ours, theirs=_pandapower_cost(net), with_shunts=_optimal_cost(n))


def without_inactive(net: Any) -> pypsa.Network:
    """The network to optimise: PyPSA 1.2 stumbles over what is out of service."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        n = from_pandapower(net, set_points=False)
    for component in n.components:
        if "active" in component.static and not component.static.empty:
            n.remove(component.name, component.static.index[~component.static["active"]])
    return n


def _optimal_cost(n: pypsa.Network) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status, _ = n.optimize(include_objective_constant=False, log_to_console=False)
    fixed = float(n.generators["fixed_cost"].sum())
    return float(n.objective) + fixed if status == "ok" else np.nan


def _pandapower_cost(net: Any) -> float:
    import pandapower  # noqa: PLC0415  (optional)

    rated = copy.deepcopy(net)
    for table in ("line", "trafo", "trafo3w"):
        limits = rated[table].get("max_loading_percent", pd.Series(np.nan, rated[table].index))
        rated[table]["max_loading_percent"] = limits.fillna(100.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pandapower.rundcopp(rated)
        except Exception:  # whatever it raises: it found no optimum
            return np.nan
    return float(rated.res_cost)
