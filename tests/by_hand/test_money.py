"""Prices, payments and bills by hand, in money of the scenario (MODEL.md §4)."""

from __future__ import annotations

import warnings
from itertools import permutations
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p

CERTAIN = {"utility_quadratic": 0.0}  # demand as it is


def fixed(demand: list[float]) -> dict[str, Any]:
    """Arguments of prosumers who use just that, MW."""
    return {"demand": demand, "demand_min": demand, "demand_max": demand, **CERTAIN}


def solve(n: pypsa.Network, market: p2p.Market, route: str) -> xr.Dataset:
    if route == "direct":
        market.optimize(n)
    elif route == "hook":
        n.optimize(extra_functionality=market, log_to_console=False)
    else:
        p2p.solve_equilibrium(n, market, p2p.ADMM(tolerance=1e-8), progress=False)
    return p2p.results(n)


ROUTES = pytest.mark.parametrize("route", ["direct", "hook"])
EVERY = pytest.mark.parametrize("route", ["direct", "hook", "agents"])

# ------------------------------------------------------------------ prices in a range


def bargain(
    order: tuple[str, ...] = ("cheap", "dear", "buyer"), snapshots: list[str] | None = None
) -> pypsa.Network:
    """One MWh is wanted at up to 40, offered at 10 and, by somebody else, at 30."""
    n = pypsa.Network(snapshots=snapshots or ["now"])
    supply = {"cheap": (1.0, 10.0), "dear": (1.0, 30.0), "buyer": (0.0, 0.0)}
    wanted = [float(name == "buyer") for name in order]
    p2p.add_prosumers(
        n,
        list(order),
        demand=wanted,
        demand_max=wanted,
        generation_max=[supply[name][0] for name in order],
        marginal_cost=[supply[name][1] for name in order],
        **CERTAIN,
    )
    n.generators.loc["buyer elastic demand", "marginal_cost"] = 40.0
    p2p.add_trades(n, "complete", capacity=5)
    return n


@EVERY
@pytest.mark.parametrize("surplus", [True, False])
def test_the_middle_of_a_range(route: str, surplus: bool) -> None:
    """Valid is [10, 30]: 20, and all trades at 20."""
    n = bargain()
    r = solve(n, p2p.PeerToPeerMarket(surplus=surplus), route)
    np.testing.assert_allclose(r.nodal_price, 20.0, atol=1e-5)
    np.testing.assert_allclose(r.trade_price, 20.0, atol=1e-5)
    assert not r.price_unique.any()
    ends = p2p.price_range(n)
    np.testing.assert_allclose(ends.least, 10.0, atol=1e-5)
    np.testing.assert_allclose(ends.greatest, 30.0, atol=1e-5)
    assert p2p.certify(n).is_equilibrium()
    assert r.payment.to_series().unstack().iloc[0].round(4).to_dict() == {
        "cheap": -20.0, "dear": 0.0, "buyer": 20.0,
    }  # fmt: skip


@pytest.mark.parametrize("order", [*permutations(("cheap", "dear", "buyer"))], ids=" ".join)
def test_the_order_of_prosumers_does_not_matter(order: tuple[str, ...]) -> None:
    r = solve(bargain(order), p2p.PeerToPeerMarket(), "direct")
    np.testing.assert_allclose(r.nodal_price, 20.0, atol=1e-7)


def test_parts_do_not_decide_about_each_other() -> None:
    """Two bargains in two hours; in the second nothing but 1 MW at 10 is offered: no upper end."""
    n = bargain(snapshots=["one", "two"])
    n.generators.loc["buyer elastic demand", "p_max_pu"] = 1.0
    n.generators_t.p_max_pu["buyer elastic demand"] = [1.0, 0.0]
    n.generators_t.p_max_pu["dear generation"] = [1.0, 0.0]
    p2p.PeerToPeerMarket().optimize(n)
    r, ends = p2p.results(n), p2p.price_range(n)
    np.testing.assert_allclose(r.nodal_price.sel(snapshot="one"), 20.0, atol=1e-6)
    busy = {"prosumer": ["cheap", "buyer"], "snapshot": "two"}
    np.testing.assert_allclose(r.nodal_price.sel(busy), 10.0, atol=1e-6)
    np.testing.assert_allclose(ends.least.sel(busy), 10.0, atol=1e-6)
    assert np.isinf(ends.greatest.sel(busy)).all()


@EVERY
def test_the_finite_end(route: str) -> None:
    """1 MW must be had and 1 MW can be made, at 10: any price from 10 up would do."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["seller", "buyer"], **fixed([0, 1]), generation_max=[1, 0], marginal_cost=10
    )
    p2p.add_trades(n, "complete", capacity=5)
    r = solve(n, p2p.PeerToPeerMarket(), route)
    np.testing.assert_allclose(r.nodal_price, 10.0, atol=1e-5)
    assert not r.price_unique.any()
    assert np.isinf(p2p.price_range(n).greatest).all()


@EVERY
def test_nearest_to_nothing(route: str) -> None:
    """An idle prosumer on an edge without capacity: any price would do. She counts nowhere."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["seller", "buyer", "idle"], **fixed([0, 1, 0]), generation_max=[2, 0, 0],
        marginal_cost=15,
    )  # fmt: skip
    p2p.add_trades(n, [("seller", "buyer")], capacity=5)
    p2p.add_trades(n, [("buyer", "idle")], capacity=0)
    r = solve(n, p2p.PeerToPeerMarket(surplus=False), route)
    np.testing.assert_allclose(r.nodal_price.squeeze(), [15.0, 15.0, 0.0], atol=1e-5)
    assert r.price_unique.squeeze().values.tolist() == [True, True, False]
    ends = p2p.price_range(n).sel(prosumer="idle")
    assert (float(ends.least.item()), float(ends.greatest.item())) == (-np.inf, np.inf)
    table = p2p.compare({"market": n}).loc["market"]
    assert (table.price_min, table.price_mean, table.price_max) == pytest.approx((15, 15, 15))
    assert p2p.fairness(n)["quality_of_experience"] == pytest.approx(1.0)


def test_a_hub_without_trade_is_left_out() -> None:
    """Energy costs 20 here and 30 there; the hub between them could not gain at any price."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["a", "b", "c", "d", "hub"], **fixed([0, 1, 0, 1, 0]), generation_max=[3, 0, 3, 0, 0],
        marginal_cost=[20, 0, 30, 0, 0],
    )  # fmt: skip
    p2p.add_trades(n, [("a", "b"), ("c", "d")], capacity=2)
    p2p.add_trades(n, [("a", "hub"), ("c", "hub")], capacity=0)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    table = p2p.compare({"market": n}).loc["market"]
    assert (table.price_min, table.price_mean, table.price_max) == pytest.approx((20, 25, 30))


# ------------------------------------------------------------------ money of the scenario


@ROUTES
def test_complete_contracts_leave_the_risk_neutral_prices(route: str) -> None:
    """Dispatch is the risk-neutral one; so are the prices, also in the scenario nobody weighs."""
    n = p2p.load_grid("three_node")
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(0.6), contracts=p2p.Contracts(), surplus=False)
    r = solve(n, market, route)
    own = r.nodal_price.sel(prosumer="1").values.ravel()
    np.testing.assert_allclose(own, [2.93944, 2.52706, 4.11376], atol=1e-5)
    np.testing.assert_allclose(r.risk_adjusted_probability.isel(scenario=1), 0.0, atol=1e-9)
    marginal = n.buses_t.marginal_price.T.groupby(level="name").sum().T["1"]  # PyPSA's: tau in it
    assert float(marginal.iloc[0]) == pytest.approx(2.93944 / 6 + 5 * 4.11376 / 6, abs=1e-4)


def retailer(feed_in: str) -> pypsa.Network:
    """Sun of 4, 2, 0 MW at a, loads of 1 and 3; a retailer sells at 200 and buys at 50."""
    n = pypsa.Network()
    shop = ["a", "b", "retailer"]
    p2p.add_prosumers(
        n, shop, **fixed([1, 3, 0]), generation_max=[0, 0, 100], marginal_cost=[0, 0, 200],
        risk_attitude=0.6,
    )  # fmt: skip
    for k, bus in enumerate(shop if feed_in == "everywhere" else ["retailer"]):
        n.add("Generator", f"export {k}", bus=bus, p_nom=9, p_min_pu=-1, p_max_pu=0,
              marginal_cost=50)  # fmt: skip
        if bus != "retailer":
            n.add("Generator", f"import {k}", bus=bus, p_nom=9, marginal_cost=200)
    p2p.add_trades(n, "complete", capacity=50)
    sun = xr.DataArray(
        [[4.0, 0, 0], [2, 0, 0], [0, 0, 0]],
        coords={"scenario": ["bright", "mixed", "dark"], "prosumer": shop},
    )
    chances = {"bright": 0.5, "mixed": 0.3, "dark": 0.2}
    p2p.set_scenarios(n, chances, xr.Dataset({"renewable": sun}))
    return n


@ROUTES
@pytest.mark.parametrize("feed_in", ["everywhere", "at the shop"])
@pytest.mark.parametrize("contracts", [False, True])
def test_beside_an_open_retailer(feed_in: str, contracts: bool, route: str) -> None:
    """Sun for all: in the middle, 125; else 200. Households without a cost see it as she does."""
    n = retailer(feed_in)
    terms = p2p.Contracts() if contracts else None
    r = solve(n, p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=terms), route)
    for scenario, price in {"bright": 125.0, "mixed": 200.0, "dark": 200.0}.items():
        np.testing.assert_allclose(r.nodal_price.sel(scenario=scenario), price, atol=1e-3)
    assert r.price_unique.any(["snapshot", "prosumer"]).values.tolist() == [False, True, True]
    paid = r.payment.sel(prosumer="b").values
    np.testing.assert_allclose(paid, [375.0, 600.0, 600.0], atol=0.01) if feed_in != (
        "everywhere"
    ) else None
    assert float(abs(r.net_cost.sum("prosumer") - r.cost.sum("prosumer")).max()) < 1e-3
    assert p2p.certify(n).is_equilibrium()


def test_no_price_where_only_others_weigh() -> None:
    """She does not weigh the dear scenario, in which others would pay any price for what she has.

    The seller has 1 MW of sun when it is dear, and must pay 9 EUR when it is not: with chi = 1/2
    she minds the latter alone. The buyer, risk-neutral, lacks 2 MW when it is dear, at 30 a MWh.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["seller", "buyer"], **fixed([0, 0]), generation_max=[0, 9], marginal_cost=30,
        risk_attitude=[0.5, 0.0],
    )  # fmt: skip
    labels = {"scenario": ["dear", "cheap"], "prosumer": ["seller", "buyer"]}
    data = {
        "demand": xr.DataArray([[0.0, 2.0], [0.0, 0.0]], labels),
        "demand_min": xr.DataArray([[0.0, 2.0], [0.0, 0.0]], labels),
        "demand_max": xr.DataArray([[0.0, 2.0], [0.0, 0.0]], labels),
        "renewable": xr.DataArray([[1.0, 0.0], [0.0, 0.0]], labels),
        "fixed_cost": xr.DataArray([[0.0, 0.0], [9.0, 0.0]], labels),
    }
    p2p.add_trades(n, "complete", capacity=5)
    p2p.set_scenarios(n, {"dear": 0.5, "cheap": 0.5}, xr.Dataset(data))
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    r = p2p.results(n)
    assert r.risk_adjusted_probability.sel(prosumer="seller").values == pytest.approx([0, 1])
    assert np.isnan(r.nodal_price.sel(scenario="dear", prosumer="seller").item())
    assert r.nodal_price.sel(scenario="dear", prosumer="buyer").item() == pytest.approx(30.0)
    assert r.payment_now.sel(scenario="dear").values.tolist() == pytest.approx([-15.0, 15.0])
    assert r.payment.sel(scenario="dear").isnull().all()
    assert p2p.certify(n).is_equilibrium()
    assert np.isnan(r.expected_net_cost).all()


# ------------------------------------------------------------------ bills


def households() -> pypsa.Network:
    """One has 2 MW of sun and uses 1, her neighbour uses 1; both may buy at 300 and sell at 80."""
    n = pypsa.Network()
    p2p.add_prosumers(n, ["sun", "none"], **fixed([1, 1]), renewable=[2, 0], fixed_cost=1.0)
    for who in ("sun", "none"):
        n.add("Generator", f"{who} import", bus=who, p_nom=9, marginal_cost=300)
        n.add("Generator", f"{who} export", bus=who, p_nom=9, p_min_pu=-1, p_max_pu=0,
              marginal_cost=80)  # fmt: skip
    p2p.add_trades(n, "complete", capacity=5)
    return n


@ROUTES
def test_a_cost_is_no_bill(route: str) -> None:
    """Alone she is paid 80, her neighbour pays 300; together they trade at (80 + 300)/2 = 190."""
    together, alone = households(), households()
    alone.links["p_nom"] = 0.0
    r, before = (solve(n, p2p.PeerToPeerMarket(), route) for n in (together, alone))
    assert before.bill.values.ravel() == pytest.approx([-79.0, 301.0], abs=1e-4)
    assert r.bill.values.ravel() == pytest.approx([-189.0, 191.0], abs=1e-4)
    assert r.net_cost.values == pytest.approx(r.bill.values, abs=1e-9)
    assert r.cost.values.ravel() == pytest.approx([1.0, 1.0], abs=1e-4)  # looks as if she lost 80
    table = p2p.compare({"alone": alone, "together": together})
    assert table["net_cost sun"].tolist() == pytest.approx([-79.0, -189.0], abs=1e-4)
    assert table["net_cost_gini"].iloc[1] == pytest.approx(380 / (2 * 380), abs=1e-4)
    costs = p2p.compare({"alone": alone, "together": together}, of="cost")
    assert costs["cost sun"].tolist() == pytest.approx([-79.0, 1.0], abs=1e-4)
    assert p2p.fairness(together, of="bill")["bill_gini"] == pytest.approx(0.5, abs=1e-4)


def test_what_is_in_a_bill() -> None:
    """D* = 6, a~ = 0.5, b~ = 2, so D = 6 - lambda; C = 1.5 G + G^2/2 + 1; b = 0.5 on both ends.

    Whoever buys minds each MWh by 0.5, and who sells is as if paid 0.5: lambda is the price of the
    edge and 0.5 for both, 6 - lambda = lambda - 1.5. 2.25 MW at 3.75 EUR/MWh, traded at 3.25.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["buyer", "seller"], demand=[6, 0], demand_max=[9, 0], utility_quadratic=0.5,
        usage_benefit=[2, 0], generation_max=[0, 9], marginal_cost=1.5,
        marginal_cost_quadratic=0.5, fixed_cost=1.0,
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=5, price=0.5)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    r = p2p.results(n)
    traded = r.net_import.sel(prosumer="buyer").item()
    price = r.trade_price[0, 0, 0].item()
    demand = r.demand.sel(prosumer="buyer").item()
    assert (traded, demand, price) == pytest.approx((2.25, 2.25, 3.25))
    bill, net, cost = (r[v].squeeze().values for v in ("bill", "net_cost", "cost"))
    utility = 2 - 0.5 * (6 - demand) ** 2
    made = 1.5 * traded + 0.5 * traded**2
    assert bill == pytest.approx([1 + price * traded, 1 + made - price * traded])
    assert net == pytest.approx(bill - [utility, 0] + 0.5 * np.array([traded, -traded]))
    assert cost == pytest.approx(net - r.payment.squeeze().values)


# ------------------------------------------------------------------ what is refused, and warned of


def test_one_import_price() -> None:
    """Energy passed from 100 to 50 would make 50 EUR of nothing."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["roof", "shop"], **fixed([0, 1]), renewable=[1, 0], generation_max=[0, 2],
        marginal_cost=[0, 90], import_price=[100, 50],
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=5)
    for market in (p2p.PeerToPeerMarket(surplus=False), p2p.CentralizedMarket()):
        with pytest.raises(p2p.DataError, match=r"50 EUR/MWh for 'shop' and 100 for 'roof'"):
            market.optimize(n)
    with pytest.raises(p2p.DataError, match="one for all"):
        p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), p2p.ADMM(), progress=False)


def test_an_import_price_may_vary_in_time_and_by_scenario() -> None:
    n = pypsa.Network(snapshots=["one", "two"])
    p2p.add_prosumers(n, ["a", "b"], **fixed([0, 1]), renewable=[2, 0])
    p2p.add_trades(n, "complete", capacity=5)
    price = xr.DataArray(
        [[10.0, 20.0], [30.0, 40.0]],
        coords={"scenario": ["x", "y"], "snapshot": ["one", "two"]},
    )
    p2p.set_scenarios(n, {"x": 0.5, "y": 0.5}, xr.Dataset({"import_price": price}))
    p2p.PeerToPeerMarket().optimize(n)
    assert n.objective == pytest.approx(-50.0, abs=1e-5)  # 1 MW left over, in both hours


@ROUTES
def test_money_in_trades_alone(route: str) -> None:
    """Nobody has a cost of her own: 2 MW cross the edge, both ends mind by 1; 2 more go at 40."""
    n = pypsa.Network()
    p2p.add_prosumers(n, ["roof", "flat"], **fixed([1, 2]), renewable=[5, 0], import_price=40)
    p2p.add_trades(n, "complete", capacity=5, price=1)
    r = solve(n, p2p.PeerToPeerMarket(), route)
    assert n.objective == pytest.approx(-82.0, abs=1e-5)
    assert r.bill.values.ravel() == pytest.approx([-160.0, 80.0], abs=1e-4)
    assert p2p.certify(n).is_equilibrium()


def test_a_preference_is_no_charge() -> None:
    """Three idle prosumers, 1 one way round and 0 the other: 15 MWh in circles, by (7)."""
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b", "c"], **fixed([0, 0, 0]))
    ways = [("a", "b"), ("b", "c"), ("c", "a")]
    price = {**dict.fromkeys(ways, 1.0), **{way[::-1]: 0.0 for way in ways}}
    p2p.add_trades(n, "complete", capacity=5, price=price)
    p2p.PeerToPeerMarket().optimize(n)
    assert n.objective == pytest.approx(-15.0, abs=1e-6)


def test_fairness_without_target_demand() -> None:
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b"], **fixed([0, 0]), generation_max=[9, 0], marginal_cost=5)
    n.add("Generator", "bid", bus="b", p_nom=3, p_min_pu=-1, p_max_pu=0, marginal_cost=20)
    p2p.add_trades(n, "complete", capacity=2)
    p2p.PeerToPeerMarket().optimize(n)
    measures = p2p.fairness(n)
    assert np.isnan(measures["quality_of_service"])
    assert measures.drop("quality_of_service").notna().all()


def test_an_unlimited_contract_limit() -> None:
    """Infinity for all is no limit; for all but one it leaves her out."""
    n = p2p.load_grid("three_node")

    def found(limit: Any) -> float:
        terms = p2p.Contracts(limit=limit)
        p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=terms, surplus=False).optimize(n)
        assert p2p.certify(n).is_equilibrium()
        return float(n.objective)

    assert found(np.inf) == pytest.approx(found(None), rel=1e-8)
    without = {"0": 0.0, "1": np.inf, "2": np.inf}
    assert found(without) == pytest.approx(found({**without, "1": 1e6, "2": 1e6}), rel=1e-7)
    assert np.all(p2p.results(n).contract.sel(prosumer="0") == 0.0)


def test_a_hub_that_insures_everybody() -> None:
    n = p2p.load_grid("three_node")
    p2p.add_prosumers(n, ["hub"], **fixed([0]))
    p2p.add_trades(n, [("hub", "0")], capacity=5)
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts())
    with pytest.warns(UserWarning, match="'hub' has no assets and is risk-neutral"):
        market.optimize(n)
    out = {"hub": 0.0, "0": np.inf, "1": np.inf, "2": np.inf}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(limit=out)).optimize(n)


@pytest.mark.parametrize(
    ("trades", "surplus", "advice"),
    [(False, True, "or add trades: there are none"), (True, True, "or raise trade capacities[.]"),
     (True, False, "raise trade capacities or allow surplus")],
)  # fmt: skip
def test_advice_is_not_what_is_so_already(trades: bool, surplus: bool, advice: str) -> None:
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b"], **fixed([5, 1]), generation_max=1, marginal_cost=3)
    if trades:
        p2p.add_trades(n, "complete", capacity=1)
    with pytest.raises(p2p.MarketError, match=advice):
        p2p.PeerToPeerMarket(surplus=surplus).optimize(n)
