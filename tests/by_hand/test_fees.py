"""Fees on what is traded, in markets small enough to be solved by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.solution import prices
from tests.by_hand.markets import seller_and_buyer

HOURS = ["night", "day"]


def sure(n: pypsa.Network) -> pypsa.Network:
    """With one scenario, whose model the package builds itself, and fast."""
    p2p.set_scenarios(n, {"sure": 1.0})
    return n


def solve(n: pypsa.Network, market: Any, route: str) -> None:
    if route == "direct":
        market.optimize(sure(n))
    else:
        n.optimize(extra_functionality=market, log_to_console=False)


MARKETS = (p2p.PeerToPeerMarket(), p2p.CentralizedMarket(surplus=False))


@pytest.mark.parametrize("market", MARKETS, ids=["peer-to-peer", "centralized"])
def test_a_fee_on_each_side_keeps_both_from_trading(market: Any, route: str) -> None:
    """10 + 1 + 1 is more than 11.5. A fee that only the buyer pays would let them trade."""
    n = seller_and_buyer(11.5, fee=1.0)
    solve(n, market, route)
    r = p2p.results(n)
    assert abs(r.quantity).max() < 1e-9
    assert r.social_cost.item() == pytest.approx(11.5, abs=1e-8)
    assert r.fee_revenue.item() == pytest.approx(0.0, abs=1e-9)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("market", MARKETS, ids=["peer-to-peer", "centralized"])
def test_they_trade_where_it_is_worth_both_fees(market: Any, route: str) -> None:
    """At 12.5: the edge's price lies between 11 and 11.5, so that each end gains."""
    n = seller_and_buyer(12.5, fee=1.0)
    solve(n, market, route)
    r = p2p.results(n)
    assert r.quantity.sel(trade="buyer <- seller").item() == pytest.approx(1.0, abs=1e-8)
    assert r.cost.sel(prosumer=["seller", "buyer"]).values.ravel() == pytest.approx([11.0, 1.0])
    assert r.fee.values.ravel() == pytest.approx([1.0, 1.0])
    assert r.fee_revenue.item() == pytest.approx(2.0)
    assert r.trade_price.values.ravel() == pytest.approx([11.25, 11.25])
    assert r.nodal_price.values.ravel() == pytest.approx([10.25, 12.25])
    # She pays 10 and her fee, and is paid 11.25; the buyer pays that and her fee.
    assert r.bill.values.ravel() == pytest.approx([-0.25, 12.25])
    assert r.net_cost.sum().item() == pytest.approx(r.social_cost.item())
    assert p2p.certify(n).is_equilibrium()


def test_prices_lie_in_a_range_where_a_fee_keeps_partners_apart() -> None:
    """The seller's is at most 10, the buyer's at least 11.5, and they differ by at most 2."""
    n = seller_and_buyer(11.5, fee=1.0)
    p2p.PeerToPeerMarket().optimize(sure(n))
    ends, r = p2p.price_range(n), p2p.results(n)
    assert ends.least.values.ravel() == pytest.approx([9.5, 11.5])
    assert ends.greatest.values.ravel() == pytest.approx([10.0, 12.0])
    assert not r.price_unique.any()
    nodal = r.nodal_price.sel(prosumer=r.buyer)
    for found in (prices.price_from_trades(n), prices.price_from_partner(n)):
        assert found.values.ravel() == pytest.approx(nodal.values.ravel())
    assert prices.implied_trade_price(n).values == pytest.approx(r.trade_price.values)


def test_each_pays_her_own_fee() -> None:
    n = seller_and_buyer(12.5, fee={("seller", "buyer"): 0.25, ("buyer", "seller"): 2.0})
    p2p.PeerToPeerMarket().optimize(sure(n))
    r = p2p.results(n)
    assert r.fee.values.ravel() == pytest.approx([0.25, 2.0])
    assert r.nodal_price.values.ravel() == pytest.approx([10.125, 12.375])  # middle of 10, 10.25


def test_fees_prices_and_capacities_by_snapshot() -> None:
    """At night the fee is 0.5 each, by day 1: they trade at night, as far as the edge goes."""
    n = seller_and_buyer(11.5, fee=pd.Series([0.5, 1.0], HOURS), snapshots=HOURS)
    n.snapshot_weightings["objective"] = [2.0, 3.0]
    p2p.PeerToPeerMarket().optimize(sure(n))
    r = p2p.results(n)
    bought = r.quantity.sel(trade="buyer <- seller")
    assert bought.values.ravel() == pytest.approx([1.0, 0.0], abs=1e-8)
    assert r.fee.values.ravel() == pytest.approx([2 * 0.5, 2 * 0.5])
    assert p2p.certify(n).is_equilibrium()


def test_capacity_and_price_by_snapshot() -> None:
    """The edge carries 0.25 at night; by day the buyer's preference of 3 takes all she gains."""
    columns = pd.MultiIndex.from_tuples([("seller", "buyer"), ("buyer", "seller")])
    n = seller_and_buyer(
        12.5,
        HOURS,
        capacity=pd.Series([0.25, 1.0], HOURS),
        price=pd.DataFrame([[0.0, 0.0], [0.0, 3.0]], HOURS, columns),
    )
    p2p.PeerToPeerMarket().optimize(sure(n))
    bought = p2p.results(n).quantity.sel(trade="buyer <- seller")
    assert bought.values.ravel() == pytest.approx([0.25, 0.0], abs=1e-8)
    assert p2p.certify(n).is_equilibrium()


def circle(fee: float) -> pypsa.Network:
    """Three idle prosumers who like to buy one way round and not the other."""
    n = pypsa.Network()
    p2p.add_prosumers(n, [*"abc"], demand=0.0, demand_max=0.0, utility_quadratic=0.0)
    one_way = {("a", "b"): 1.0, ("b", "c"): 1.0, ("c", "a"): 1.0}
    back = {(m, n): 0.0 for n, m in one_way}
    p2p.add_trades(n, "complete", capacity=5.0, price=one_way | back, fee=fee)
    return n


def test_a_fee_ends_trade_in_circles() -> None:
    """Without it -15 for 15 MWh (MODEL.md §2); 2 f |q| on every edge outweighs 1 from f = .5 on."""
    n = circle(0.0)
    p2p.PeerToPeerMarket().optimize(sure(n))
    assert n.objective == pytest.approx(-15.0)
    for fee in (0.6, 5.0):
        n = circle(fee)
        p2p.PeerToPeerMarket().optimize(sure(n))
        r = p2p.results(n)
        assert abs(r.quantity).max() < 1e-8
        assert r.social_cost.item() == pytest.approx(0.0, abs=1e-8)
        assert p2p.certify(n).is_equilibrium()
    n = circle(0.4)
    p2p.PeerToPeerMarket().optimize(sure(n))
    assert n.objective == pytest.approx(-15.0 + 30 * 0.4)


def test_whoever_sells_surplus_pays_alone() -> None:
    """3 MW of wind that nobody wants, sold at p0 = 2: she earns 6, less 0.5 on each MWh."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["wind", "idle"],
        demand=0.0,
        demand_max=0.0,
        utility_quadratic=1.0,
        renewable=[3.0, 0.0],
        import_price=2.0,
    )
    p2p.add_trades(n, "complete", capacity=1.0, fee=0.5)
    p2p.PeerToPeerMarket().optimize(sure(n))
    r = p2p.results(n)
    assert r.quantity.values.ravel() == pytest.approx([-3.0, 0.0], abs=1e-8)
    assert r.fee.values.ravel() == pytest.approx([1.5, 0.0], abs=1e-8)
    assert r.cost.values.ravel() == pytest.approx([-4.5, 0.0], abs=1e-8)
    assert p2p.certify(n).is_equilibrium()


def test_a_fee_is_part_of_the_cost_that_risk_is_taken_of() -> None:
    """2 of 3 MW are wanted in the calm hour only, which the averse buyer weighs twice.

    Her cost there is her fee on 2 MW; nothing in the windy one.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["seller", "buyer"],
        demand=[0.0, 2.0],
        demand_max=[0.0, 2.0],
        demand_min=[0.0, 2.0],
        utility_quadratic=0.0,
        generation_max=[3.0, 0.0],
        marginal_cost=[10.0, 0.0],
        risk_attitude=[0.0, 0.5],
    )
    p2p.add_trades(n, "complete", capacity=5.0, fee=0.5)
    wind = {"renewable": (("scenario", "prosumer"), [[0.0, 2.0], [0.0, 0.0]])}
    coords = {"scenario": ["windy", "calm"], "prosumer": ["seller", "buyer"]}
    p2p.set_scenarios(n, {"windy": 0.5, "calm": 0.5}, xr.Dataset(wind, coords))
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    r = p2p.results(n)
    assert r.fee.sel(prosumer="buyer").values == pytest.approx([0.0, 1.0], abs=1e-7)
    assert r.risk_adjusted_cost.sel(prosumer="buyer").item() == pytest.approx(1.0)
    assert r.risk_adjusted_cost.sel(prosumer="seller").item() == pytest.approx(0.5 * 21.0)
    assert r.fee_revenue.values == pytest.approx([0.0, 2.0], abs=1e-7)
    assert p2p.certify(n).is_equilibrium()


def test_what_was_solved_is_not_what_another_fee_would_give() -> None:
    n = seller_and_buyer(12.5, fee=1.0)
    p2p.PeerToPeerMarket().optimize(sure(n))
    n.c.links.static["fee0"] = 0.5
    with pytest.raises(p2p.MarketError, match="Changed after the market was solved: 'fee0'"):
        p2p.results(n)
    n.c.links.static[["fee0", "fee1"]] = 0.0
    with pytest.raises(p2p.MarketError, match="'fee0', 'fee1'"):
        p2p.results(n)


def test_fees_are_nobodys_variable_without_fees() -> None:
    """Markets without fees are as they were, and so are edges, and hours, without."""
    n = seller_and_buyer(12.5, fee=0.0)
    p2p.PeerToPeerMarket().optimize(sure(n))
    assert not [name for name in n.model.variables if name.startswith("p2p")]
    n = seller_and_buyer(12.5, fee=pd.Series([0.0, 1.0], HOURS), snapshots=HOURS)
    p2p.PeerToPeerMarket().optimize(sure(n))
    labels = n.model.variables["p2p-bought0"].labels.transpose(..., "snapshot", "name")
    assert np.array_equal(labels.to_numpy()[0] >= 0, [[False], [True]])
