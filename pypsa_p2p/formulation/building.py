"""Building the linopy model a market starts from: PyPSA's own, or the same one faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import linopy
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.market_data import (
    MarketData,
    dynamic_values,
    first_scenario,
    unusual_attributes,
)
from pypsa_p2p.names import NAME, SCENARIO, SNAPSHOT

#: What may differ from PyPSA's defaults in a network `build_plain_model` can build.
_PLAIN: dict[str, set[str]] = {
    "Generator": {
        "bus", "carrier", "marginal_cost", "marginal_cost_quadratic", "p_max_pu", "p_min_pu",
        "p_nom",
    },
    "Load": {"bus", "carrier", "p_set"},
    "Link": {"bus0", "bus1", "carrier", "p_max_pu", "p_min_pu", "p_nom"},
}  # fmt: skip
_PLAIN_CLASSES = {"Bus", "Carrier", "LineType", "TransformerType", "SubNetwork", "Shape", *_PLAIN}


def build_model(
    n: pypsa.Network, data: MarketData, options: Mapping[str, Any], *, bare: bool
) -> bool:
    """Build ``n.model`` with the network's own operating cost as objective.

    PyPSA's `create_model` sums its objective scenario by scenario, which takes longer than
    solving does. Where the network holds nothing but what `add_prosumers` and `add_trades` make
    and nobody else adds to the model (`bare`), an identical model is built at once.

    Returns
    -------
    bool
        Whether the model is such a plain one.
    """
    if bare and not options and is_plain(n, data):
        _adopt(n, build_plain_model(n, data), data.snapshots)
        return True
    n.optimize.create_model(
        list(data.snapshots), **{"include_objective_constant": False, **options}
    )
    return False


def is_plain(n: pypsa.Network, data: MarketData) -> bool:
    """Whether every component is of a kind, and uses only attributes, built here."""
    present = {c.name for c in n.components if len(c.static)}
    if not n.has_scenarios or not present <= _PLAIN_CLASSES:
        return False
    if isinstance(n.snapshots, pd.MultiIndex):
        return False
    if len(first_scenario(n, "Link")) != len(data.edges):
        return False
    tables = {component: first_scenario(n, component) for component in _PLAIN}
    return all(
        table["active"].astype(bool).all()
        and not unusual_attributes(n, component, _PLAIN[component], table.index)
        for component, table in tables.items()
    )


def build_plain_model(n: pypsa.Network, data: MarketData) -> linopy.Model:
    """The model PyPSA builds for generators, loads and lossless links, in its own names."""
    m = linopy.Model(force_dim_names=True)
    power = _values(n, data, "Generator", "p_nom")
    output = _define_dispatch(m, data, "Generator", power, n)
    link_power = _values(n, data, "Link", "p_nom")
    flow = _define_dispatch(m, data, "Link", link_power, n) if link_power.size else None
    _define_nodal_balance(m, n, data, output, flow)
    hours = data.for_model(data.probability * data.weighting)
    cost = _values(n, data, "Generator", "marginal_cost") * hours
    quadratic = _values(n, data, "Generator", "marginal_cost_quadratic") * hours
    m.objective = (output * cost).sum() + (output * output * quadratic).sum()
    return m


def _define_dispatch(
    m: linopy.Model, data: MarketData, component: str, p_nom: xr.DataArray, n: pypsa.Network
) -> linopy.Variable:
    """Power of each component between p_nom p_min_pu and p_nom p_max_pu, MW."""
    coords = [p_nom.indexes[dim] for dim in p_nom.dims]
    power = m.add_variables(coords=coords, dims=p_nom.dims, name=f"{component}-p")
    lower = p_nom * _values(n, data, component, "p_min_pu")
    upper = p_nom * _values(n, data, component, "p_max_pu")
    m.add_constraints(power, ">=", lower, name=f"{component}-fix-p-lower")
    m.add_constraints(power, "<=", upper, name=f"{component}-fix-p-upper")
    return power


def _define_nodal_balance(
    m: linopy.Model,
    n: pypsa.Network,
    data: MarketData,
    output: linopy.Variable,
    flow: linopy.Variable | None,
) -> None:
    """Generation + imports = load at every bus, MW."""
    buses = pd.Index(first_scenario(n, "Bus").index, name=NAME, dtype=object)
    parts = [_by_bus(output, first_scenario(n, "Generator")["bus"])]
    if flow is not None:
        parts += [_by_bus(-1 * flow, first_scenario(n, "Link")["bus0"])]
        parts += [_by_bus(1 * flow, first_scenario(n, "Link")["bus1"])]
    supply = linopy.merge(
        [part.reindex({NAME: buses}).fillna(0) for part in parts], cls=type(parts[0])
    )
    load = _values(n, data, "Load", "p_set")
    at = xr.DataArray(first_scenario(n, "Load")["bus"].to_numpy(object), {NAME: load.indexes[NAME]})
    demand = (
        load.groupby(at.rename("bus")).sum().rename(bus=NAME).reindex({NAME: buses}, fill_value=0.0)
    )
    m.add_constraints(supply, "=", demand.transpose(*load.dims), name="Bus-nodal_balance")


def _by_bus(expression: Any, bus: pd.Series) -> Any:
    at = xr.DataArray(bus.to_numpy(object), {NAME: expression.indexes[NAME]}, name="bus")
    return (1 * expression).groupby(at).sum().rename(bus=NAME)


def _values(n: pypsa.Network, data: MarketData, component: str, attribute: str) -> xr.DataArray:
    """An attribute over (scenario, name, snapshot), PyPSA's order of dims."""
    names = first_scenario(n, component).index
    values = dynamic_values(n, component, attribute, names, data.snapshots)
    return data.for_model(values.transpose(SCENARIO, NAME, SNAPSHOT))


def _adopt(n: pypsa.Network, m: linopy.Model, sns: pd.Index) -> None:
    """Make `m` the network's model, as `create_model` would.

    PyPSA has no public way to hand it a model; its `assign_solution` and `assign_duals`
    need nothing but these attributes.
    """
    m.parameters = m.parameters.assign(snapshots=sns)
    n._model = m
    n._multi_invest = 0
    if hasattr(n, "_optimize_window"):
        from pypsa.optimization.window import SnapshotWindow  # noqa: PLC0415  (PyPSA >= 1.4)

        n._optimize_window = SnapshotWindow.build(n, sns, "auto")
