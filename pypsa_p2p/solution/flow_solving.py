"""Power flows of given injections, by PyPSA's Newton-Raphson."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.names import (
    SCENARIO,
    SLACK,
)
from pypsa_p2p.common.progress import progress_bar
from pypsa_p2p.common.quiet import quiet_libraries
from pypsa_p2p.common.tables import dynamic_values, first_scenario
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.grid_flows import Array, Grid

_AT_ONCE: Final = 50  # power flows between two signs of progress

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Flows:
    """Power flows, by scenario and snapshot; NaN where they did not converge.

    Attributes
    ----------
    voltage : array (scenario, snapshot, bus)
        Per unit.
    apparent : array (scenario, snapshot, branch)
        At the more loaded end, MVA.
    losses, connection : array (scenario, snapshot)
        Lost in branches; given by the slacks. MW.
    converged : array (scenario, snapshot)
    """

    voltage: Array
    apparent: Array
    losses: Array
    connection: Array
    converged: Array


def solve_flows(
    n: pypsa.Network, data: MarketData, grid: Grid, power: Array, *, progress: bool
) -> Flows:
    """Power flows of all injections; scenarios with the same grid are solved together."""
    held = dynamic_values(n, "Bus", "v_mag_pu_set", grid.buses, data.snapshots, default=1.0)
    v_set = held.to_numpy()
    solved: list[tuple[list[int], Flows]] = []
    with progress_bar(v_set[..., 0].size, "power flow", " flows", shown=progress) as bar:
        for scenarios, tables in _alike(n, data, grid):
            with quiet_libraries():
                m = _network(n, grid, tables, power[scenarios], v_set[scenarios])
            flows = _solve(m, grid, len(scenarios), bar)
            solved.append((scenarios, flows))
    order = np.argsort(np.concatenate([scenarios for scenarios, _ in solved]))
    return Flows(
        **{
            name: np.concatenate([vars(flows)[name] for _, flows in solved])[order]
            for name in Flows.__dataclass_fields__
        }
    )


def _alike(n: pypsa.Network, data: MarketData, grid: Grid) -> list[tuple[list[int], Tables]]:
    """Positions of scenarios by what their grids are made of, and those tables."""
    shunts = data.names("ShuntImpedance")
    if len(shunts):
        static = first_scenario(n, "ShuntImpedance")
        shunts = shunts[static["bus"].reindex(shunts).isin(grid.buses).to_numpy()]
    classes = {"Bus": grid.buses, **grid.by_component, "ShuntImpedance": shunts}
    chosen = {component: names for component, names in classes.items() if len(names)}
    found: list[tuple[list[int], Tables]] = []
    for position, scenario in enumerate(data.scenarios):
        tables = {}
        for component, names in chosen.items():
            status, static = n.c[component].defaults["status"], n.c[component].static
            inputs = static.columns.intersection(status.index[status.str.startswith("Input")])
            rows = static.xs(scenario, level=SCENARIO) if data.stochastic else static
            tables[component] = rows.loc[names, inputs]
        for positions, known in found:
            if all(table.equals(known[component]) for component, table in tables.items()):
                positions.append(position)
                break
        else:
            found.append(([position], tables))
    return found


def _network(
    n: pypsa.Network, grid: Grid, tables: Tables, power: Array, v_set: Array
) -> pypsa.Network:
    """The grid as a network of its own; its snapshots are all scenarios' snapshots in a row."""
    m = pypsa.Network()
    m.set_snapshots(range(power.shape[0] * power.shape[1]))
    for kind in ("LineType", "TransformerType"):
        types = first_scenario(n, kind)
        more = types.loc[types.index.difference(m.c[kind].static.index)]
        if len(more):
            columns: dict[str, Any] = {**more}
            m.add(kind, list(more.index), **columns)

    def series(values: Array) -> pd.DataFrame:
        return pd.DataFrame(values.reshape(len(m.snapshots), -1), m.snapshots, grid.buses)

    for component, table in tables.items():
        own = {"v_mag_pu_set": series(v_set)} if component == "Bus" else {}
        columns = {**table, **own}
        m.add(component, list(table.index), **columns)
    taken: dict[str, Any] = {"p_set": series(-power.real), "q_set": series(-power.imag)}
    m.add("Load", list(grid.buses), bus=list(grid.buses), **taken)
    for control, buses in ((SLACK, grid.slacks), ("PV", grid.held)):
        if buses:
            m.add("Generator", buses, bus=buses, control=control, p_set=0.0)
    return m


def _solve(m: pypsa.Network, grid: Grid, scenarios: int, bar: Any) -> Flows:
    """PyPSA's power flow of all snapshots, (scenarios, snapshots, ...)."""
    rows = []
    for start in range(0, len(m.snapshots), _AT_ONCE):
        sns = m.snapshots[start : start + _AT_ONCE]
        with quiet_libraries():
            rows.append(m.pf(list(sns))["converged"].to_numpy(bool).all(axis=1))
        bar.update(len(sns))
    converged = np.concatenate(rows)

    def branch(attribute: str) -> Array:
        parts = [
            m.c[component].dynamic[attribute].reindex(columns=names, fill_value=0.0).to_numpy(float)
            for component, names in grid.by_component.items()
        ]
        return np.concatenate(parts, axis=1)

    p0, q0, p1, q1 = (branch(attribute) for attribute in ("p0", "q0", "p1", "q1"))
    found = {
        "voltage": m.buses_t.v_mag_pu[list(grid.buses)].to_numpy(),
        "apparent": np.maximum(np.hypot(p0, q0), np.hypot(p1, q1)),
        "losses": (p0 + p1).sum(axis=1),
        "connection": m.generators_t.p[grid.slacks].sum(axis=1).to_numpy(),
    }
    shape = (scenarios, -1)
    known = {
        name: np.where(converged if values.ndim == 1 else converged[:, None], values, np.nan)
        for name, values in found.items()
    }
    return Flows(
        converged=converged.reshape(shape),
        **{name: values.reshape(*shape, *values.shape[1:]) for name, values in known.items()},
    )
