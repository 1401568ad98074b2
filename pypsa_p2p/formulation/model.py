"""Building the linopy model a market starts from: PyPSA's own, or the same one faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import linopy
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.linopy_state import add_constraints, add_free_variables
from pypsa_p2p.common.names import NAME, SCENARIO, SNAPSHOT
from pypsa_p2p.common.pypsa_state import adopt_model, leaves_standing_capacity_out
from pypsa_p2p.common.tables import (
    Numbers,
    dynamic_numbers,
    first_scenario,
    unusual_attributes,
)
from pypsa_p2p.formulation.rows import NO_VARIABLE, sum_at, total_cost
from pypsa_p2p.network.market_data import MarketData

#: What may differ from PyPSA's defaults in a network `build_plain_model` can build.
_PLAIN: dict[str, set[str]] = {
    "Generator": {
        "bus", "carrier", "marginal_cost", "marginal_cost_quadratic", "p_max_pu", "p_min_pu",
        "p_nom",
    },
    "Load": {"bus", "carrier", "p_set"},
    "Link": {"bus0", "bus1", "carrier", "marginal_cost", "p_max_pu", "p_min_pu", "p_nom"},
}  # fmt: skip
_NO_COST = "Objective function could not be created"  # PyPSA's words
#: What stands at a bus, which column says so, and its sign in the nodal balance.
_SUPPLY = (("Generator", "bus", 1.0), ("Link", "bus0", -1.0), ("Link", "bus1", 1.0))
_PLAIN_CLASSES = {"Bus", "Carrier", "LineType", "TransformerType", "SubNetwork", "Shape", *_PLAIN}
#: The physical grid, which carries nothing where nothing but prosumers' buses is supplied.
_GRID_CLASSES = {"Line", "Transformer", "ShuntImpedance"}


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

    Raises
    ------
    MarketError
        PyPSA refuses the options, or nothing costs anything.
    """
    if bare and not options and is_plain(n, data):
        adopt_model(n, build_plain_model(n, data), data.snapshots)
        return True
    try:
        quietly = {"include_objective_constant": leaves_standing_capacity_out()}
        n.optimize.create_model(list(data.snapshots), **{**quietly, **options})
    except (TypeError, ValueError) as error:
        if _NO_COST in str(error):
            raise MarketError(
                "Nothing in the network costs anything, and PyPSA builds no objective of nothing: "
                "give generators or demand a cost, or add trades, add_trades(n, ...)."
            ) from error
        if not options:
            raise
        raise MarketError(
            f"PyPSA builds no model with the values of options {listed(options)}: {error}"
        ) from error
    return False


def is_plain(n: pypsa.Network, data: MarketData) -> bool:
    """Whether every component is of a kind, and uses only attributes, built here."""
    present = {c.name for c in n.components if len(c.static)}
    if not present <= _PLAIN_CLASSES | _GRID_CLASSES:
        return False
    if present & _GRID_CLASSES and not _grid_is_idle(n, data):
        return False
    if isinstance(n.snapshots, pd.MultiIndex):
        return False
    if len(first_scenario(n, "Link")) != len(data.edges):
        return False
    supplied = {bus for component, end, _ in _SUPPLY for bus in first_scenario(n, component)[end]}
    if not supplied.issuperset(first_scenario(n, "Load")["bus"]):
        return False  # linopy drops rows without terms, and with them the demand: PyPSA refuses
    return all(
        n.c[component].static["active"].astype(bool).all()
        and not unusual_attributes(n, component, allowed, first_scenario(n, component).index)
        for component, allowed in _PLAIN.items()
    )


def _grid_is_idle(n: pypsa.Network, data: MarketData) -> bool:
    """Whether everything stands at prosumers' buses and no branch of the grid leads there."""
    supplied = {bus for component, end, _ in _SUPPLY for bus in first_scenario(n, component)[end]}
    branches = [first_scenario(n, component) for component in sorted(n.passive_branch_components)]
    ends = {bus for static in branches for bus in (*static["bus0"], *static["bus1"])}
    standing = supplied.union(first_scenario(n, "Load")["bus"])
    return standing <= set(data.prosumers) and ends.isdisjoint(data.prosumers)


def build_plain_model(n: pypsa.Network, data: MarketData) -> linopy.Model:
    """The model PyPSA builds for generators, loads and lossless links, in its own names.

    An idle grid is left out: no power flows on it. Dims are PyPSA's, (scenario, name, snapshot),
    or without scenarios (snapshot, name).
    """
    m = linopy.Model(force_dim_names=True)
    output = _define_dispatch(m, n, data, "Generator")
    if len(data.edges):
        _define_dispatch(m, n, data, "Link")
    _define_nodal_balance(m, n, data)
    hours = np.multiply.outer(data.probability.to_numpy(), data.weighting.to_numpy())[:, None]
    cost, quadratic = (
        output.copy(data=_in_order(data, _values(n, data, "Generator", price) * hours))
        for price in ("marginal_cost", "marginal_cost_quadratic")
    )
    m.objective = total_cost(m, [(cost, output), (quadratic, output, output)])
    return m


def _define_dispatch(
    m: linopy.Model, n: pypsa.Network, data: MarketData, component: str
) -> xr.DataArray:
    """Power of each component between p_nom p_min_pu and p_nom p_max_pu, MW; its labels."""
    names = pd.Index(first_scenario(n, component).index, name=NAME, dtype=object)
    power = add_free_variables(m, f"{component}-p", _coords(data, names))
    p_nom = _values(n, data, component, "p_nom")
    for side, sign, limit in (("lower", ">=", "p_min_pu"), ("upper", "<=", "p_max_pu")):
        bound = power.copy(data=_in_order(data, p_nom * _values(n, data, component, limit)))
        rows = f"{component}-fix-p-{side}"
        add_constraints(m, rows, power.to_numpy()[..., None], 1.0, sign, bound)
    return power


def _define_nodal_balance(m: linopy.Model, n: pypsa.Network, data: MarketData) -> None:
    """Generation + imports = load at every bus, MW."""
    buses = pd.Index(first_scenario(n, "Bus").index, name=NAME, dtype=object)
    load = _values(n, data, "Load", "p_set")
    demand = sum_at(load, buses.get_indexer(pd.Index(first_scenario(n, "Load")["bus"])), len(buses))
    labels, row, coefficient = [], [], []
    for component, end, sign in _SUPPLY:
        at = buses.get_indexer(pd.Index(first_scenario(n, component)[end]))
        if at.size:
            labels.append(_by_scenario(m[f"{component}-p"].labels))
        row.append(at)
        coefficient.append(np.full(at.size, sign))
    bus = np.concatenate(row)
    place = pd.Series(bus).groupby(bus).cumcount().to_numpy()  # of each term in its bus's row
    scenarios, _, snapshots = demand.shape
    terms = np.full((scenarios, len(buses), place.max(initial=0) + 1, snapshots), NO_VARIABLE)
    factors = np.zeros(terms.shape[1:3])
    if bus.size:
        terms[:, bus, place] = np.concatenate(labels, axis=1)
    factors[bus, place] = np.concatenate(coefficient)
    by_row = terms.swapaxes(2, 3)
    signs = np.broadcast_to(factors[:, None, :], by_row.shape)
    left, signs, right = (_in_order(data, each) for each in (by_row, signs, demand))
    rhs = xr.DataArray(right, coords=_coords(data, buses))
    add_constraints(m, "Bus-nodal_balance", left, signs, "=", rhs)


def _coords(data: MarketData, names: pd.Index) -> dict[str, pd.Index]:
    if not data.stochastic:
        return {SNAPSHOT: data.snapshots, NAME: names}
    return {SCENARIO: data.scenarios, NAME: names, SNAPSHOT: data.snapshots}


def _in_order(data: MarketData, values: Numbers) -> Numbers:
    """Values, (scenario, name, snapshot, ...), in the order of `_coords`."""
    return values if data.stochastic else values[0].swapaxes(0, 1)


def _by_scenario(labels: xr.DataArray) -> Numbers:
    """Labels of variables, (scenario, name, snapshot)."""
    numbers = labels.to_numpy()
    return numbers if SCENARIO in labels.dims else numbers.T[None]


def _values(n: pypsa.Network, data: MarketData, component: str, attribute: str) -> Numbers:
    """An attribute, (scenario, name, snapshot)."""
    names = first_scenario(n, component).index
    return dynamic_numbers(n, component, attribute, names, data.snapshots).swapaxes(1, 2)
