"""What a market refuses, before anything is built: which element, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Collection
from inspect import signature

import linopy
import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.errors import DataError, MarketError, listed
from pypsa_p2p.formulation.trading import QUANTITY1
from pypsa_p2p.market_data import (
    MarketData,
    dynamic_values,
    first_scenario,
    require,
    unusual_attributes,
)
from pypsa_p2p.names import TRADE_CARRIER
from pypsa_p2p.ownership import bus_columns, bus_owners
from pypsa_p2p.record import META
from pypsa_p2p.solvers.linearised import CONSTANT

#: Numbers an active asset's model depends on: they must be finite where they are given.
_NUMBERS = (
    "marginal_cost",
    "marginal_cost_quadratic",
    "marginal_cost_storage",
    "spill_cost",
    "p_nom",
    "e_nom",
    "s_nom",
    "s_max_pu",
    "p_min_pu",
    "p_max_pu",
    "e_min_pu",
    "e_max_pu",
    "efficiency",
    "efficiency_store",
    "efficiency_dispatch",
    "standing_loss",
    "max_hours",
    "inflow",
    "sign",
)
_NEVER_NEGATIVE = ("marginal_cost_quadratic", "p_nom", "e_nom", "s_nom", "s_max_pu", "max_hours")
#: What a trade edge may have besides PyPSA's defaults.
TRADE_ATTRIBUTES = frozenset({"bus0", "bus1", "carrier", "p_nom", "p_min_pu", "p_max_pu"})


def check_network(n: pypsa.Network, data: MarketData) -> None:
    """Refuse a network whose market could not be honoured or whose assets make no sense.

    Raises
    ------
    DataError
        Numbers that are missing, infinite, negative or cross each other; unknown buses.
    MarketError
        Investment, unit commitment, several investment periods; prosumers connected by more
        than trades.
    """
    if isinstance(n.snapshots, pd.MultiIndex):
        raise MarketError(
            "Markets over several investment periods are not available; solve one period at a "
            "time on n.copy() with plain snapshots."
        )
    if n.has_risk_preference:
        raise MarketError(
            "n.set_risk_preference is PyPSA's own risk measure, over the whole system; a market "
            "takes risk=CVaR(attitude=..., weight=...). Unset it on this network."
        )
    _check_trade_edges(n, data)
    for component in sorted(n.one_port_components | n.branch_components):
        if len(n.c[component].static):
            _check_buses(n, component)
            _check_decisions(n, component)
            _check_numbers(n, component)
            _check_limits(n, data, component)
    bus_owners(n)


def require_type(name: str, value: object, wanted: type) -> None:
    """Refuse an option that is neither None nor of its type."""
    if value is not None and not isinstance(value, wanted):
        raise MarketError(f"Option {name} must be a {wanted.__name__} or None, not {value!r}.")


def require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse an option that is none of its choices."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise MarketError(f"Option {name} must be one of {listed(choices)}, not {value!r}.")


def require_model(n: pypsa.Network, data: MarketData) -> None:
    """Refuse a model that is missing, of other snapshots, or holds a market already.

    Refused too is the second window of a rolling horizon, see `_refuse_windows`.
    """
    m = n._model
    if m is None:
        raise MarketError(
            "The network has no model to add a market to: call n.optimize.create_model() first, "
            "or n.optimize(extra_functionality=market)."
        )
    if not pd.Index(m.parameters["snapshots"].to_numpy()).equals(pd.Index(data.snapshots)):
        raise MarketError(
            "The model was built for other snapshots than the market is asked for: pass the same "
            "to n.optimize.create_model and to the market."
        )
    if QUANTITY1 in m.variables or CONSTANT in m.variables:
        raise MarketError(
            "The model holds a market already. Build it anew, n.optimize.create_model(), and give "
            "it one market."
        )
    _refuse_windows(n, data)


def _refuse_windows(n: pypsa.Network, data: MarketData) -> None:
    """Refuse to solve a network's snapshots window by window inside one call of PyPSA.

    Every window is a market of its own, with its own risk and prices, and `results` tells of
    one market: after ``n.optimize.optimize_with_rolling_horizon`` it would show the last alone.
    A window within the one on record, or around it, replaces that.
    """
    before = set(n.meta.get(META, {}).get("snapshots", ()))
    now = set(n.snapshots.get_indexer(data.snapshots).tolist())
    if before <= now or now <= before:
        return
    raise MarketError(
        f"Snapshots {listed(data.snapshots.astype(str), limit=2)}: the network holds the market of "
        f"other snapshots, {listed(n.snapshots[sorted(before)].astype(str), limit=2)}, and each "
        "window is a market of its own (rolling horizons are not available as a hook). Solve all "
        "snapshots together; or call market.optimize(n, window) in a loop and take results(n) "
        "after each; or use a copy of the network, n.copy(), for every window."
    )


def require_options(n: pypsa.Network, extra: object, options: Collection[str]) -> None:
    """Refuse what `create_model` does not take, such as options of PyPSA's solvers."""
    if extra is not None and not callable(extra):
        raise MarketError(
            f"Option extra_functionality must be a function f(n, snapshots), not {extra!r}."
        )
    known = {*signature(n.optimize.create_model).parameters, *signature(linopy.Model).parameters}
    unknown = sorted(set(options) - known)
    if unknown:
        raise MarketError(
            f"Unknown options {listed(unknown)}: market.optimize passes options to "
            "n.optimize.create_model and chooses the solver itself. To use a solver of your own, "
            "call n.optimize(extra_functionality=market, ...)."
        )


def _check_trade_edges(n: pypsa.Network, data: MarketData) -> None:
    """A trade edge carries energy without loss, delay or cost of its own; one per pair."""
    pairs = pd.Series(
        [frozenset(ends) for ends in zip(data.bus0.values, data.bus1.values, strict=True)]
    )
    twice = data.edges[pairs.duplicated(keep=False).to_numpy(bool)]
    if len(twice):
        raise DataError(
            f"Trade edges {listed(twice)} connect the same prosumers; keep one of each."
        )
    static = first_scenario(n, "Link").reindex(data.edges)
    for column in bus_columns(static):
        third = data.edges[(static[column].fillna("") != "").to_numpy(bool)]
        if len(third) and column not in ("bus0", "bus1"):
            raise DataError(f"Trade edges {listed(third)} must have two ends only; clear {column}.")
    for attribute, edges in unusual_attributes(n, "Link", TRADE_ATTRIBUTES, data.edges).items():
        raise DataError(
            f"Trade edges {listed(edges)}: {attribute} must keep PyPSA's default. Put prices in "
            "price0, price1 and congestion, and anything else on a Link that is no trade."
        )


def _check_buses(n: pypsa.Network, component: str) -> None:
    static = first_scenario(n, component)
    for column in bus_columns(static):
        buses = static[column]
        first = column in ("bus", "bus0", "bus1")
        known = buses.isin(first_scenario(n, "Bus").index)
        if not first:
            known |= buses.fillna("") == ""
        if not known.all():
            culprits = static.index[~known]
            raise DataError(
                f"{component} {listed(culprits)}: {column} {listed(buses[~known])} is not a bus of "
                "the network. Add the bus or correct the name."
            )


def _check_decisions(n: pypsa.Network, component: str) -> None:
    """Operation only: no investment, no integer decisions."""
    static = first_scenario(n, component)
    for column in [c for c in map(str, static) if c.endswith("_nom_extendable")]:
        _refuse_flag(component, static, column, "investment", "False and give a capacity")
    if "committable" in static:
        _refuse_flag(component, static, "committable", "unit commitment", "False")


def _refuse_flag(component: str, static: pd.DataFrame, column: str, what: str, remedy: str) -> None:
    culprits = static.index[static[column].astype(bool)]
    if len(culprits):
        raise MarketError(
            f"{component} {listed(culprits)}: {what} is not available in a market of this version. "
            f"Set {column} to {remedy}."
        )


def _check_numbers(n: pypsa.Network, component: str) -> None:
    c = n.c[component]
    for attribute in [a for a in _numbers_of(component) if a in c.static]:
        table = c.dynamic.get(attribute)
        static = c.static[attribute]
        if table is not None and len(table.columns):
            static = static[~static.index.isin(table.columns)]
            _require_good(component, attribute, table.to_numpy(float), table.columns)
        _require_good(component, attribute, static.to_numpy(float)[None], static.index)


def _numbers_of(component: str) -> tuple[str, ...]:
    return (*_NUMBERS, "p_set") if component == "Load" else _NUMBERS


def _require_good(component: str, attribute: str, values: np.ndarray, labels: pd.Index) -> None:
    finite = np.isfinite(values)
    _refuse(component, attribute, ~finite, labels, "is missing or infinite; give a number")
    if attribute in _NEVER_NEGATIVE:
        what = "is negative; a cost must not be concave, a capacity not below zero"
        _refuse(component, attribute, values < 0, labels, what)


def _refuse(component: str, attribute: str, bad: np.ndarray, labels: pd.Index, what: str) -> None:
    if bad.any():
        culprits = labels[np.asarray(bad.any(axis=0))]
        raise DataError(f"{component} {listed(culprits)}: {attribute} {what}.")


def _check_limits(n: pypsa.Network, data: MarketData, component: str) -> None:
    """Lower limits below upper ones, per unit of a capacity."""
    static = first_scenario(n, component)
    names = static.index
    if component == "Link":
        names = static.index[static["carrier"] != TRADE_CARRIER]
    for low, high in (("p_min_pu", "p_max_pu"), ("e_min_pu", "e_max_pu")):
        if low in static and high in static and len(names):
            lower = dynamic_values(n, component, low, names, data.snapshots)
            upper = dynamic_values(n, component, high, names, data.snapshots)
            require(lower <= upper, f"{low} of {component}", f"not exceed {high}")
