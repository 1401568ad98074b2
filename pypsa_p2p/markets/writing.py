"""Writing a solution to the network's tables, the PyPSA way."""

from __future__ import annotations

import linopy
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import KEPT_DUALS, NAME, RECIPROCITY1, SCENARIO, SNAPSHOT
from pypsa_p2p.common.pypsa_state import Objective, set_objective
from pypsa_p2p.common.tables import (
    Numbers,
    dynamic_values,
    first_scenario,
    scenarios_and_names,
)
from pypsa_p2p.formulation.rows import sum_at
from pypsa_p2p.formulation.trading import NODAL_BALANCE, QUANTITY1
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Vector

_DIMS = (SCENARIO, NAME, SNAPSHOT)  # PyPSA's order


def write_solution(n: pypsa.Network, data: MarketData, *, plain: bool) -> None:
    """Write what the model's solution says to the network, as ``n.optimize`` does."""
    if plain:
        write_plain_solution(n, data)
        return
    n.optimize.assign_solution()
    n.optimize.assign_duals()
    n.optimize.post_processing()


def write_plain_solution(n: pypsa.Network, data: MarketData) -> None:
    """Dispatch, trades and prices of a model of generators, loads and p2p Links only.

    What PyPSA's `assign_solution`, `assign_duals` and `post_processing` write, at once: those
    merge p1 into its table column by column, which takes longer than solving does.
    """
    m = n.model
    output = _by_scenario(m["Generator-p"].solution, data)
    write_table(n, data, "Generator", "p", output)
    load = dynamic_values(n, "Load", "p_set", first_scenario(n, "Load").index, data.snapshots)
    write_table(n, data, "Load", "p", load)
    injection = _at_buses(n, output, "Generator", "bus") - _at_buses(n, load, "Load", "bus")
    if len(data.edges):
        p0, p1 = (_by_scenario(m[name].solution, data) for name in ("Link-p", QUANTITY1))
        for attribute, power in {"p": p0, "p0": p0, "p1": p1}.items():
            write_table(n, data, "Link", attribute, power)
        injection -= _at_buses(n, p0, "Link", "bus0") + _at_buses(n, p1, "Link", "bus1")
        _write_trade_prices(n, data, m)
    balance = next(m.constraints[name] for name in m.constraints if name.endswith(NODAL_BALANCE))
    price = _by_scenario(balance.dual, data).transpose(*_DIMS)
    write_table(n, data, "Bus", "p", price.copy(data=injection))
    if not data.stochastic:  # PyPSA's, of a grid on which nothing flows
        write_table(n, data, "Bus", "v_ang", xr.zeros_like(price))
    by_hour = price.to_numpy() / data.weighting.to_numpy()
    write_table(n, data, "Bus", "marginal_price", price.copy(data=by_hour))
    for component in sorted(n.passive_branch_components):
        if len(n.c[component].static):
            _write_no_flow(n, data, component)
    for component in ("Generator", "Link"):
        n.c[component].static["p_nom_opt"] = n.c[component].static["p_nom"]
    set_objective(n, Objective(m.objective.value, 0.0))


def _by_scenario(values: xr.DataArray, data: MarketData) -> xr.DataArray:
    """Values with the dim scenario, which a model without scenarios does not have."""
    if SCENARIO in values.dims:
        return values
    return values.expand_dims({SCENARIO: data.scenarios})


def forget_solution(n: pypsa.Network, data: MarketData) -> None:
    """Drop the tables of an earlier solution that PyPSA is about to write anew, as a whole.

    Where it finds tables it merges its own into them column by column, which takes longer than
    everything else (22 s at 14 prosumers and 100 scenarios).
    """
    if len(data.snapshots) < len(n.snapshots):
        return
    for c in n.components:
        outputs = c.defaults.index[c.defaults["status"] == "Output"]
        for attribute in {*outputs, *KEPT_DUALS}.intersection(c.dynamic):
            c.dynamic[attribute] = c.dynamic[attribute].iloc[:, :0]


def write_own_multipliers(n: pypsa.Network, data: MarketData, zeta1: Vector | None) -> None:
    """Zeta of the prosumers at bus1, (S T E,), where it is their own."""
    n.c["Link"].dynamic.pop(RECIPROCITY1, None)
    if RECIPROCITY1 in n.c["Link"].static:
        del n.c["Link"].static[RECIPROCITY1]
    if zeta1 is None:
        return
    n.c["Link"].static[RECIPROCITY1] = 0.0
    labels = {SCENARIO: data.scenarios, SNAPSHOT: data.snapshots, NAME: data.edges}
    values = zeta1.reshape([len(index) for index in labels.values()])
    whole = data.for_model(xr.DataArray(values, coords=labels))
    write_table(n, data, "Link", RECIPROCITY1, whole)


def _write_no_flow(n: pypsa.Network, data: MarketData, component: str) -> None:
    """Branches of a grid that is idle in the market."""
    names = pd.Index(first_scenario(n, component).index, name=NAME)
    zero = xr.zeros_like(dynamic_values(n, component, "s_nom", names, data.snapshots))
    for end in ("p0", "p1"):
        write_table(n, data, component, end, data.for_model(zero))


def _write_trade_prices(n: pypsa.Network, data: MarketData, m: linopy.Model) -> None:
    for name in m.constraints:
        column = f"mu_{name.rsplit('-', 1)[-1]}"
        if name.startswith("Link-") and column in KEPT_DUALS:
            write_table(n, data, "Link", column, m.constraints[name].dual)


def write_table(
    n: pypsa.Network,
    data: MarketData,
    component: str,
    attribute: str,
    values: xr.DataArray,
    missing: float = 0.0,
) -> None:
    """Write an array with dims (scenario, name, snapshot) to ``n.c[component].dynamic``.

    Snapshots that were not solved keep what they hold; what is NaN becomes `missing`.
    """
    columns = scenarios_and_names(n, component)
    names = first_scenario(n, component).index
    dims = [SNAPSHOT, SCENARIO, NAME] if SCENARIO in values.dims else [SNAPSHOT, NAME]
    array, at = values.transpose(*dims).to_numpy(), values.indexes[NAME].get_indexer(names)
    full = np.where(at >= 0, array[..., at], 0.0).reshape(len(data.snapshots), -1)
    table = pd.DataFrame(np.nan_to_num(full, nan=missing), index=data.snapshots, columns=columns)
    dynamic = n.c[component].dynamic
    if len(data.snapshots) < len(n.snapshots):
        table = _keep_other_snapshots(table, dynamic.get(attribute), n.snapshots)
    dynamic[attribute] = table


def _keep_other_snapshots(
    table: pd.DataFrame, before: pd.DataFrame | None, snapshots: pd.Index
) -> pd.DataFrame:
    whole = pd.DataFrame(0.0, index=snapshots, columns=table.columns)
    if before is not None and not before.empty:
        whole.update(before)
    whole.loc[table.index] = table
    return whole


def _at_buses(n: pypsa.Network, power: xr.DataArray, component: str, end: str) -> Numbers:
    """Sum of a power at every bus, MW, (scenario, name, snapshot)."""
    buses, stands = first_scenario(n, "Bus").index, first_scenario(n, component)[end]
    at = buses.get_indexer(pd.Index(stands.reindex(power.indexes[NAME])))
    return sum_at(power.transpose(*_DIMS).to_numpy(), at, len(buses))
