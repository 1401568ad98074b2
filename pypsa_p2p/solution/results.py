"""The labelled results of a solved market, read from the network's own tables."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.files import ABOVE_ZERO
from pypsa_p2p.common.names import (
    ELASTIC_DEMAND_CARRIER,
    KEPT_DUALS,
    NAME,
    OWN_MULTIPLIERS,
    PRICE_IN_RANGE,
    PROSUMER,
    RECIPROCITY1,
    SCENARIO,
    SNAPSHOT,
    TRADE,
    UNWEIGHED_CAPACITY_PRICES,
    UNWEIGHED_PRICE,
    UNWEIGHED_TRADE_PRICES,
)
from pypsa_p2p.common.tables import carrier_names, dynamic_values, first_scenario
from pypsa_p2p.markets.record import recorded, recorded_risk
from pypsa_p2p.network.assets import by_owner
from pypsa_p2p.network.checksums import require_unchanged
from pypsa_p2p.network.costs import investment_cost, operating_cost
from pypsa_p2p.network.market_data import MarketData, read_market
from pypsa_p2p.network.ownership import asset_owners, bus_columns
from pypsa_p2p.solution.grid_prices import grid_results
from pypsa_p2p.solution.hedges import RecordedHedges, recorded_hedges, regimes
from pypsa_p2p.solution.money import Money, net_costs, other_direction, sum_of_buyer

_MW, _PRICE, _EUR = "MW", "EUR/MWh", "EUR"
DESCRIBED: Final = {
    "demand": (_MW, "consumption D"),
    "generation": (_MW, "net injection of generators, storage and other assets G"),
    "renewable": (_MW, "must-take renewable generation"),
    "net_import": (_MW, "net purchases Q from all trade partners"),
    "quantity": (_MW, "what buyer buys from seller, q; negative: sells"),
    "nodal_price": (_PRICE, "price of energy to the prosumer in the scenario, lambda/(tau w)"),
    "price_unique": ("1", "whether no other nodal price would do; not where there is none"),
    "import_price": (_PRICE, "price p0 at which the grid operator trades"),
    "grid_price": (_PRICE, "price of using the grid at the prosumer's bus of it"),
    "grid_payment": (_EUR, "net_import at grid_price; neither in payment nor in bill"),
    "congestion_rent_now": (_EUR, "what grid prices collect over all snapshots, EUR now"),
    "congestion_rent": (_EUR, "the same in money of the scenario, where all weigh it alike"),
    "trade_price": (_PRICE, "price of the edge to buyer in the scenario, zeta/(tau w)"),
    "capacity_price": (_PRICE, "price of the trade capacity to buyer in the scenario, xi/(tau w)"),
    "cost": (_EUR, "the paper's Pi: with utility, without what prosumers pay each other"),
    "payment": (_EUR, "for trades in the scenario, where all weigh it alike; not part of cost"),
    "payment_now": (_EUR, "for trades, EUR now: sum of zeta * quantity; not part of cost"),
    "bill": (_EUR, "money alone: generation, imports, trades, contracts; without utility"),
    "net_cost": (_EUR, "cost and bill in one: cost, payment for trades, contracts settled"),
    "expected_cost": (_EUR, "expectation of cost"),
    "expected_net_cost": (_EUR, "expectation of net_cost"),
    "net_cost_value_at_risk": (_EUR, "quantile of net_cost, from which on it is weighed"),
    "risk_adjusted_net_cost": (_EUR, "her risk measure of net_cost"),
    "value_at_risk": (
        _EUR,
        "quantile of cost after contracts, from which on it is weighed",
    ),
    "risk_adjusted_cost": (_EUR, "R, contracts paid"),
    "risk_adjusted_probability": ("1", "tau, the weight of the scenario in R"),
    "contract": (_EUR, "what contracts W bought inside the community pay"),
    "insurance": (_EUR, "insurance J bought outside"),
    "contract_price": ("1", "alpha, EUR now per EUR in the scenario, or per unit"),
    "contract_volume": ("1", "units W of each contract bought inside the community"),
    "contract_payoff": (_EUR, "what a unit of each contract pays"),
    "insurance_price": ("1", "gamma, EUR now per EUR in the scenario"),
    "at_cap": ("1", "whether every tau is at the cap of the least averse; coordinate regime"),
    "social_cost": (_EUR, "sum of R, or the risk measure of the community's cost"),
}


def results(n: pypsa.Network) -> xr.Dataset:
    """Results of the market solved on a network.

    Names follow MODEL.md §1-5; units are in the variables' ``attrs``.

    Three variables tell what a scenario costs a prosumer: ``cost`` is the paper's Pi, with utility
    and without what prosumers pay each other; ``bill`` is money alone, all she pays and is paid;
    ``net_cost`` is both, her bill less her utility.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market, by ``n.optimize(extra_functionality=market)`` or
        ``market.optimize(n)``.

    Returns
    -------
    xarray.Dataset
        Dims ``scenario`` (length 1 when the network has none), ``snapshot``, ``prosumer`` and
        ``trade`` (both directions of every edge; coords ``buyer``, ``seller``). Powers in MW,
        prices in EUR/MWh of their scenario, costs in EUR over the snapshots solved. `to_netcdf`
        works on it.

    Raises
    ------
    MarketError
        Nothing was solved, the last solve failed, constraints were added after the market, or
        data that costs and prices follow from were changed since.

    Notes
    -----
    Prices are money of the scenario: a multiplier is divided by the hours and by the risk-adjusted
    probability of whoever pays. Within her limits a prosumer's nodal price is her marginal utility
    and her marginal cost. In a scenario that she does not weigh it is that of the limit in which
    she does; NaN if she sells there what only others weigh, who would pay her any price, and in
    answers that agents found (`solve_equilibrium`), who agree on no price of it. Where
    demand and supply are steps or at limits, several prices would do (``price_unique`` is False):
    the middle between those of least and of greatest total price, or the finite end
    (MODEL.md §4). `price_range` has both ends of each.

    ``payment``, ``bill`` and ``net_cost`` are NaN in scenarios that prosumers weigh differently,
    whose money has no one worth to them; ``payment_now`` is there always, and cancels over every
    edge of a variational equilibrium. Where all agree, net costs of a scenario sum to its costs
    (insurance apart). ``bill`` counts what generation, congestion, imports at p0, trades,
    contracts and capital cost, and no preference b, which is paid to nobody.

    ``renewable`` is the output of must-take generators, whatever their carrier: those whose
    ``p_min_pu`` equals ``p_max_pu`` in every snapshot and scenario of the network. Elastic
    demand is known by its carrier, ``elastic demand``: nothing else tells a Generator that sheds
    load from one that generates. All other injections are ``generation``; a generator without
    capacity counts nowhere, as its output is 0.

    Capacities found (``p_nom_opt``) are in PyPSA's own tables; ``cost`` holds the capital cost of
    all of a prosumer's extendable capacity, the same in every scenario. What stood before is
    included, of which PyPSA's ``n.objective`` leaves out ``n.objective_constant``.

    With contracts, ``contract`` and ``insurance`` are what W pays and J, ``contract_price`` is what
    is paid inside the community, and ``at_cap`` with the coordinate ``regime`` tells the regimes
    of Theorem 15 (`hedges.regimes`). Contracts with a payoff of their own have their volumes,
    prices and payoffs along the dim ``contract_name``.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).nodal_price.sel(prosumer="0").round(5).values.ravel()
    array([0.93944, 0.52706, 2.11376])
    """
    return read_results(n)[1]


def read_results(n: pypsa.Network, data: MarketData | None = None) -> tuple[MarketData, xr.Dataset]:
    """The market's data, and `results`; who has just solved it gives the data it was read as."""
    settings = recorded(n)
    delivered = settings["delivery"] == "grid"
    if data is None:
        data = read_market(n, n.snapshots[settings["snapshots"]], grid=delivered)
        require_unchanged(n, data, settings["delivery"], settings.get("inputs", {}))
    money, hedges = Money.of(n, data), recorded_hedges(n, data, settings)
    dispatch = _dispatch(n, data, money)
    trades = _trades(money, settings.get(OWN_MULTIPLIERS, False))
    costs = _costs(n, data, trades)
    paid = net_costs(money, trades, costs, hedges, settings.get(OWN_MULTIPLIERS, False))
    costs.pop("preference")
    risk = _risk(money, settings, costs["cost"], paid["net_cost"], hedges)
    dataset = xr.Dataset({**dispatch, **trades, **costs, **paid, **risk})
    if delivered:
        dataset = dataset.assign(grid_results(money, trades["net_import"]))
    for name, (unit, meaning) in DESCRIBED.items():
        if name in dataset:
            dataset[name].attrs = {"unit": unit, "long_name": meaning}
    dataset.attrs = {"market": str(settings["design"]), "solver": str(settings["solver"])}
    return data, dataset


def _dispatch(n: pypsa.Network, data: MarketData, money: Money) -> dict[str, xr.DataArray]:
    """Demand, generation, renewables and net imports, and prices at the prosumers' buses."""
    owners = data.owners
    at_bus = owners.where(owners.index.isin(data.prosumers) | (owners == ""), "")
    generators = data.names("Generator")
    elastic = carrier_names(n, "Generator", ELASTIC_DEMAND_CARRIER)
    renewable = _must_take(n, generators.difference(elastic))
    shed = _injection(n, data, "Generator", "p", at_bus, elastic)
    must_take = _injection(n, data, "Generator", "p", at_bus, renewable)
    must_take = must_take.where(abs(must_take) > ABOVE_ZERO / ACCURACY.reported, 0.0)
    demand = -_injection(n, data, "Load", "p", at_bus, data.names("Load")) - shed
    others = generators.difference([*elastic, *renewable])
    generation = _injection(n, data, "Generator", "p", at_bus, others)
    for component in ("StorageUnit", "Store"):
        generation = generation + _injection(n, data, component, "p", at_bus, data.names(component))
    generation = generation + _branch_injection(n, data)
    now, in_range = (
        _by_prosumer(dynamic_values(n, "Bus", series, data.prosumers, data.snapshots))
        for series in ("marginal_price", PRICE_IN_RANGE)
    )
    price = money.by_prosumer(now, UNWEIGHED_PRICE)
    dims = (SCENARIO, SNAPSHOT, PROSUMER)
    return {
        "demand": demand.transpose(*dims),
        "generation": generation.transpose(*dims),
        "renewable": must_take.transpose(*dims),
        "nodal_price": price.transpose(*dims),
        "price_unique": ((in_range == 0.0) & price.notnull()).transpose(*dims),
        "import_price": data.import_price.transpose(*dims),
    }


def _must_take(n: pypsa.Network, names: pd.Index) -> pd.Index:
    """Those of some generators that have no choice, p_min_pu = p_max_pu, at any time.

    All of the network's snapshots count, so that the answer is the same for a part of them.
    """
    least, most = (
        dynamic_values(n, "Generator", limit, names, n.snapshots)
        for limit in ("p_min_pu", "p_max_pu")
    )
    return names[(least == most).all([SCENARIO, SNAPSHOT]).to_numpy()]


def _injection(
    n: pypsa.Network,
    data: MarketData,
    component: str,
    attribute: str,
    at_bus: pd.Series,
    names: pd.Index,
) -> xr.DataArray:
    """What components of a class feed into the prosumers' own buses, MW."""
    if names.empty:
        return xr.zeros_like(data.import_price)
    power = dynamic_values(n, component, attribute, names, data.snapshots)
    sign = dynamic_values(n, component, "sign", names, data.snapshots, default=1.0)
    return by_owner(power * sign, asset_owners(n, component, at_bus), data)


def _branch_injection(n: pypsa.Network, data: MarketData) -> xr.DataArray:
    """What branches behind the meter feed into the prosumers' own buses, MW."""
    total = xr.zeros_like(data.import_price)
    for component in sorted(n.branch_components):
        names = data.names(component)
        static = first_scenario(n, component)
        for column in bus_columns(static):
            at = static[column].reindex(names).isin(data.prosumers)
            here = names[at.to_numpy(bool)]
            if here.empty:
                continue
            power = dynamic_values(n, component, f"p{column[3:]}", here, data.snapshots)
            ends = static[column].reindex(here).to_numpy(object)
            owner = xr.DataArray(ends, coords={NAME: here})
            total = total - by_owner(power, owner, data)
    return total


def _trades(money: Money, own_multipliers: bool) -> dict[str, xr.DataArray]:
    """Quantities and prices of both directions of every edge, each price its buyer's."""
    n, data = money.n, money.data
    sns, edges, ends = data.snapshots, data.edges, (data.bus0, data.bus1)
    multipliers = (*KEPT_DUALS, RECIPROCITY1 if own_multipliers else KEPT_DUALS[0])
    zeta0, xi0, xi1, zeta1 = (
        dynamic_values(n, "Link", multiplier, edges, sns) for multiplier in multipliers
    )
    zeta, xi = (zeta0, zeta1), (xi0, xi1)

    def in_money(now: tuple[xr.DataArray, ...], series: tuple[str, str]) -> list[xr.DataArray]:
        each = zip(now, series, ends, strict=True)
        return [money.by_edge(one / data.weighting, column, buyer) for one, column, buyer in each]

    quantity = [-dynamic_values(n, "Link", p, edges, sns) for p in ("p0", "p1")]
    both = {
        "quantity": quantity,
        "trade_price": in_money(zeta, UNWEIGHED_TRADE_PRICES),
        "capacity_price": in_money(xi, UNWEIGHED_CAPACITY_PRICES),
        "paid_now": [one * q for one, q in zip(zeta, quantity, strict=True)],
    }
    buyer = np.concatenate([data.bus0.to_numpy(), data.bus1.to_numpy()])
    seller = np.concatenate([data.bus1.to_numpy(), data.bus0.to_numpy()])
    labels = [f"{b} <- {s}" for b, s in zip(buyer, seller, strict=True)]
    coords: dict[str, Any] = {
        TRADE: np.array(labels, dtype=object),
        "buyer": (TRADE, buyer),
        "seller": (TRADE, seller),
    }
    dims = (SCENARIO, SNAPSHOT)
    arrays = {
        name: np.concatenate([part.transpose(*dims, NAME).to_numpy() for part in parts], axis=-1)
        for name, parts in both.items()
    }
    coords |= {SCENARIO: data.scenarios, SNAPSHOT: sns}
    joined = {
        name: xr.DataArray(array, coords=coords, dims=(*dims, TRADE))
        for name, array in arrays.items()
    }
    net = sum_of_buyer(joined["quantity"], data)
    now = sum_of_buyer(joined.pop("paid_now"), data).sum(SNAPSHOT)
    return {
        **joined,
        "net_import": net.transpose(SCENARIO, SNAPSHOT, PROSUMER),
        "payment_now": now.transpose(SCENARIO, PROSUMER),
    }


def _costs(
    n: pypsa.Network,
    data: MarketData,
    trades: dict[str, xr.DataArray],
) -> dict[str, xr.DataArray]:
    """Pi (7) of every prosumer, and the preference sum b q in it, EUR."""
    quantity = trades["quantity"]
    q = quantity.transpose(SCENARIO, SNAPSHOT, TRADE)
    price, congestion = (
        np.concatenate([one.to_numpy() for one in ends], axis=-1)[:, None]
        for ends in ((data.price0, data.price1), (data.congestion, data.congestion))
    )
    rising = congestion * (q.to_numpy() + other_direction(q).to_numpy())
    bought = q.to_numpy() * data.weighting.to_numpy()[:, None]
    preference, congested = (
        sum_of_buyer(q.copy(data=each * bought), data).sum(SNAPSHOT) for each in (price, rising)
    )
    imports = (data.import_price * trades["net_import"] * data.weighting).sum(SNAPSHOT)
    own = operating_cost(n, data) + investment_cost(n, data)
    dims = (SCENARIO, PROSUMER)
    cost = own + preference + congested + imports + data.fixed_part
    return {"cost": cost.transpose(*dims), "preference": preference.transpose(*dims)}


def _risk(
    money: Money,
    settings: dict[str, Any],
    cost: xr.DataArray,
    net_cost: xr.DataArray,
    hedges: RecordedHedges | None,
) -> dict[str, xr.DataArray]:
    """Risk-adjusted probabilities and costs, and contracts where they are traded (MODEL.md §5)."""
    data, tau = money.data, money.tau
    measure, attitude = recorded_risk(settings, data)
    hedged = cost if hedges is None else cost - hedges.payout - hedges.insurance
    risk, net = (
        measure.worst(each, data.probability, attitude) for each in (hedged, net_cost.fillna(0.0))
    )
    known = net_cost.notnull().all(SCENARIO)
    risk_adjusted, net_risk = risk.value, net.value
    if settings["together"]:
        risk_adjusted = (tau * cost).sum(SCENARIO)
        net_risk = (tau * net_cost).sum(SCENARIO)
        if hedges is not None:
            risk_adjusted = risk_adjusted + hedges.beyond_clearing
    elif hedges is not None:
        risk_adjusted = risk_adjusted + hedges.premium
    variables = {}
    if hedges is not None:
        may_hold = measure.envelope(data.probability, attitude)
        at_cap = regimes(hedges, tau, data.probability, may_hold)
        variables = {**hedges.variables(), "at_cap": at_cap}
    return {
        **variables,
        "expected_cost": (data.probability * cost).sum(SCENARIO),
        "expected_net_cost": (data.probability * net_cost).sum(SCENARIO, skipna=False),
        "net_cost_value_at_risk": net.value_at_risk.where(known),
        "risk_adjusted_net_cost": net_risk.where(known),
        "value_at_risk": risk.value_at_risk,
        "risk_adjusted_cost": risk_adjusted,
        "risk_adjusted_probability": tau.transpose(SCENARIO, PROSUMER),
        "social_cost": risk_adjusted.sum(PROSUMER),
    }


def _by_prosumer(values: xr.DataArray) -> xr.DataArray:
    return values.rename({NAME: PROSUMER})
