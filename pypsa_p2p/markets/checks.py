"""What a market refuses, before anything is built: which element, what is wrong, what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import DataError, MarketError, listed, shown
from pypsa_p2p.common.names import (
    NAME,
    PROSUMER,
    SCENARIO,
    SNAPSHOT,
    TRADE_CARRIER,
)
from pypsa_p2p.common.tables import (
    as_numbers,
    dynamic_numbers,
    dynamic_values,
    first_scenario,
    static_values,
    unusual_attributes,
)
from pypsa_p2p.markets.model_checks import (
    check_emissions,
    check_impedances,
    check_limits_at_buses,
    check_weightings,
    require_extendable,
    require_no_curves,
)
from pypsa_p2p.markets.retail_checks import check_retail
from pypsa_p2p.network.assets import CAPACITIES, capital_cost, extendable_names
from pypsa_p2p.network.market_data import MarketData, require
from pypsa_p2p.network.ownership import NOBODY, bus_columns, require_buses

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
    "state_of_charge_initial",
    "e_initial",
    "max_hours",
    "inflow",
    "sign",
)
_NO_CAPACITY = "is missing, infinite or negative; give a number that is not below zero"
_NEVER_NEGATIVE = ("marginal_cost_quadratic", "p_nom", "e_nom", "s_nom", "s_max_pu", "max_hours")
#: Shares of an energy: least and most, what is wrong outside, and what to do.
_SHARES = {
    "efficiency_store": (0.0, np.inf, "is negative; give a number that is not below zero"),
    "efficiency_dispatch": (
        ACCURACY.tiny,
        np.inf,
        "is not above zero, and PyPSA divides by it; what cannot dispatch has p_max_pu = 0",
    ),
    "standing_loss": (0.0, 1.0, "is no share of what is stored; give a number from 0 to 1"),
}
#: Limits that may be missing, and the infinities that none of the kind can be.
_OPTIONAL = {
    "e_sum_min": (np.inf,),
    "e_sum_max": (-np.inf,),
    "ramp_limit_up": (-np.inf,),
    "ramp_limit_down": (-np.inf,),
    "p_set": (np.inf, -np.inf),
    "e_set": (np.inf, -np.inf),
    "state_of_charge_set": (np.inf, -np.inf),
}
#: What a trade edge may have besides PyPSA's defaults.
TRADE_ATTRIBUTES = frozenset({"bus0", "bus1", "carrier", "p_nom", "p_min_pu", "p_max_pu"})


def check_network(n: pypsa.Network, data: MarketData) -> None:
    """Refuse a network whose market could not be honoured or whose assets make no sense.

    Raises
    ------
    DataError
        Numbers that are missing, infinite, negative or cross each other; unknown buses.
    MarketError
        Unit commitment, several investment periods; investment in what is nobody's where no grid
        delivers, in modules or along a curve; prosumers connected by more than trades.
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
    _check_import_price(data)
    check_weightings(n, data)
    for component in sorted(n.one_port_components | n.branch_components):
        if len(n.c[component].static):
            require_buses(n, component)
            require_no_curves(n, component)
            require_extendable(n, component)
            _check_numbers(n, component)
            _check_limits(n, data, component)
            _check_commitment(n, component)
    for component in sorted(n.one_port_components | n.branch_components):
        names = extendable_names(n, component)
        if len(names):
            _check_investment(n, data, component, names)
    check_retail(n, data)
    _check_supply(n, data)
    check_emissions(n, data)
    check_impedances(n)
    check_limits_at_buses(n)


def _check_trade_edges(n: pypsa.Network, data: MarketData) -> None:
    """A trade edge carries energy without loss, delay or cost of its own; one per pair."""
    ends = zip(data.bus0.values, data.bus1.values, data.day_ahead.values, strict=True)
    pairs = pd.Series([(frozenset((one, other)), bool(ahead)) for one, other, ahead in ends])
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
    cost = np.abs(dynamic_numbers(n, "Link", "marginal_cost", data.edges, data.snapshots))
    costly = np.asarray((cost > ACCURACY.nothing).any(axis=(0, 1)))
    unusual = unusual_attributes(n, "Link", TRADE_ATTRIBUTES | {"marginal_cost"}, data.edges)
    if costly.any():
        unusual["marginal_cost"] = data.edges[costly]
    for attribute, edges in unusual.items():
        raise DataError(
            f"Trade edges {listed(edges)}: {attribute} must keep PyPSA's default. Put prices in "
            "price0, price1 and congestion, and anything else on a Link that is no trade."
        )


def _check_import_price(data: MarketData) -> None:
    """One price p0 for all who trade: with several, trades among them would make money."""
    traders = pd.Index(np.unique([*data.bus0.to_numpy(), *data.bus1.to_numpy()]))
    price = data.import_price[..., data.prosumers.get_indexer(traders)]
    if not price.size:
        return
    values = price.to_numpy()
    differ = np.argwhere(values.min(axis=-1) < values.max(axis=-1))
    if not len(differ):
        return
    here = price[{SCENARIO: differ[0, 0], SNAPSHOT: differ[0, 1]}]
    low, high = here.idxmin(PROSUMER).item(), here.idxmax(PROSUMER).item()
    raise DataError(
        f"The import_price differs between prosumers: {float(here.min()):g} EUR/MWh for "
        f"{shown(low)} and {float(here.max()):g} for {shown(high)} in snapshot "
        f"{shown(data.snapshots[differ[0, 1]])}. It is the price at which the grid operator buys "
        "the community's surplus, one for all (it may vary over scenarios and snapshots): with "
        "several, energy passed on would make money. What each pays a retailer, and is paid for "
        "feed-in, are contracts of her own: add_retail(n, import_price=..., export_price=...)."
    )


def _check_supply(n: pypsa.Network, data: MarketData) -> None:
    """Loads where nothing else stands, which PyPSA cannot write a balance for."""
    names = data.names("Load")
    supplied: set[object] = set()
    for component in (n.one_port_components | n.branch_components) - {"Load"}:
        static = first_scenario(n, component)
        active = static["active"].to_numpy(bool) if "active" in static else slice(None)
        for column in bus_columns(static):
            supplied.update(static[column].to_numpy(object)[active])
    bus = first_scenario(n, "Load")["bus"]
    alone = names[~bus.reindex(names).isin(supplied).to_numpy()]
    taken = dynamic_numbers(n, "Load", "p_set", alone, data.snapshots)
    unmet = alone[(taken != 0).any(axis=(0, 1))]
    if len(unmet):
        raise MarketError(
            f"Load {listed(unmet)} at bus {listed(bus[unmet].unique())}: nothing there can supply "
            "it, no trade, asset or line. Add a trade edge (add_trades) or connect the bus."
        )


def _check_commitment(n: pypsa.Network, component: str) -> None:
    static = first_scenario(n, component)
    if "committable" in static:
        culprits = static.index[static["committable"].astype(bool)]
        if len(culprits):
            raise MarketError(
                f"{component} {listed(culprits)}: unit commitment is not available in a market of "
                "this version. Set committable to False."
            )


def _check_investment(n: pypsa.Network, data: MarketData, component: str, names: pd.Index) -> None:
    """A capacity to build is continuous, and decided before the scenario is known.

    Its cost is then a number added to its owner's in every scenario, and so to any of the risk
    measures. Of the grid that delivers it is nobody's, and counted as it is.
    """
    whose = data.owner_of(component).sel({NAME: names}).to_numpy()
    of_grid = names[whose == NOBODY]
    if len(of_grid) and data.sites is None:
        raise MarketError(
            f"{component} {listed(of_grid)} belongs to no prosumer, and where trades move the "
            "energy themselves nobody decides about an investment in it. Take delivery='grid', "
            "with which it is decided together with the market; or give it a capacity: "
            "n.optimize(); n.optimize.fix_optimal_capacities()."
        )
    _check_capital_cost(n, component, names)
    _check_capacity(n, component, names)


def _check_capital_cost(n: pypsa.Network, component: str, names: pd.Index) -> None:
    """Finite, and the same in all scenarios."""
    cost = capital_cost(n, component, names, static_values(n, component, "capital_cost", names))
    values = cost.transpose(SCENARIO, NAME).to_numpy()
    what = "(or overnight_cost, discount_rate, lifetime, fom_cost) is missing or infinite"
    _refuse(component, "capital_cost", ~np.isfinite(values), names, f"{what}; give a number")
    what = "differs between scenarios, but is paid before any is known; give one number"
    _refuse(component, "capital_cost", values != values[0], names, what)


def _check_capacity(n: pypsa.Network, component: str, names: pd.Index) -> None:
    """Limits of capacities: from 0 up, not crossed, and no modules, whose number is an integer."""
    column = CAPACITIES[component]
    least, most, fixed, module = (
        static_values(n, component, f"{column}{end}", names, default).transpose(SCENARIO, NAME)
        for end, default in (("_min", 0.0), ("_max", np.inf), ("_set", np.nan), ("_mod", 0.0))
    )
    floor, ceiling = least.max(SCENARIO).to_numpy(), most.min(SCENARIO).to_numpy()
    flag = static_values(n, component, f"{column}_extendable", names)
    for end, bad, what in (
        ("_min", ~(np.isfinite(floor) & (least >= 0).all(SCENARIO).to_numpy()), _NO_CAPACITY),
        ("_max", most.isnull().any(SCENARIO).to_numpy(), "is missing; give a number or inf"),
        ("_min", floor > ceiling, f"exceeds {column}_max; give a lower one"),
        ("_set", ((fixed < 0) | (abs(fixed) == np.inf)).any(SCENARIO).to_numpy(), _NO_CAPACITY),
        ("_extendable", (flag == 0).any(SCENARIO).to_numpy(), "differs between scenarios"),
    ):
        _refuse(component, column + end, bad[None], names, what)
    modular = names[(module != 0).any(SCENARIO).to_numpy()]
    if len(modular):
        raise MarketError(
            f"{component} {listed(modular)}: modules, a whole number of which is built, are not "
            f"available in a market. Set {column}_mod to 0."
        )


def _check_numbers(n: pypsa.Network, component: str) -> None:
    c = n.c[component]
    known = c.defaults.index[c.defaults["status"].str.startswith("Input")]
    missing = [a for a in _numbers_of(component) if a in known and a not in c.static]
    if missing:
        raise DataError(
            f"The table of {component} has no column {listed(missing)}, which PyPSA's models need: "
            f"set it, to {c.defaults.at[missing[0], 'default']:g} where it is as usual."
        )
    for attribute in dict.fromkeys((*_numbers_of(component), *_OPTIONAL)):
        if attribute not in c.static:
            continue
        table = c.dynamic.get(attribute)
        static = c.static[attribute]
        if table is not None and len(table.columns):
            static = static[~static.index.isin(table.columns)]
            _require_good(
                component, attribute, as_numbers(component, table, attribute), table.columns
            )
        _require_good(
            component, attribute, as_numbers(component, static, attribute)[None], static.index
        )


def _numbers_of(component: str) -> tuple[str, ...]:
    return (*_NUMBERS, "p_set") if component == "Load" else _NUMBERS


def _require_good(component: str, attribute: str, values: np.ndarray, labels: pd.Index) -> None:
    if attribute in _OPTIONAL and attribute not in _numbers_of(component):
        what = "is infinite on the side it limits; give a number, or nan for no limit"
        _refuse(component, attribute, np.isin(values, _OPTIONAL[attribute]), labels, what)
        return
    finite = np.isfinite(values)
    _refuse(component, attribute, ~finite, labels, "is missing or infinite; give a number")
    if attribute in _NEVER_NEGATIVE:
        what = "is negative; a cost must not be concave, a capacity not below zero"
        _refuse(component, attribute, values < 0, labels, what)
    if attribute in _SHARES:
        least, most, what = _SHARES[attribute]
        _refuse(component, attribute, (values < least) | (values > most), labels, what)


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
            upper = dynamic_numbers(n, component, high, names, data.snapshots)
            below = lower.copy(data=lower.to_numpy() <= upper)
            require(below, f"{low} of {component}", f"not exceed {high}")
