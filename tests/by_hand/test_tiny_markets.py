"""Optima computed by hand; each docstring names the number a plausible bug would give.

A makes power at G^2 + G, B values it at -(D - D*)^2 with D* = 6: see `markets.pair`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from tests.by_hand.markets import pair
from tests.reference.instances import edges_turned
from tests.reference.package import answer, market_of, solved

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-6}


def test_two_prosumers_one_edge(route: str) -> None:
    """min G^2 + G + (6 - G)^2: 2G + 1 = 2 (6 - G), G = 2.75, price 6.5, cost 20.875.

    With a halved twice (cost G^2 / 2) G would be 11/3; with it doubled (2 G^2) 11/6.
    """
    solution = answer(pair(), surplus=False, route=route)
    np.testing.assert_allclose(solution.generation.ravel(), [2.75, 0], **EXACT)
    np.testing.assert_allclose(solution.demand.ravel(), [0, 2.75], **EXACT)
    np.testing.assert_allclose(solution.quantity.ravel(), [-2.75, 2.75], **EXACT)
    np.testing.assert_allclose(solution.nodal_price.ravel(), [6.5, 6.5], **EXACT)
    assert solution.social_cost == pytest.approx(20.875, abs=1e-6)


def test_saturated_edge(route: str) -> None:
    """Capacity 2: G = D = 2, prices 1 + 2G = 5 at A and 2 (6 - 2) = 8 at B, cost 4 + 2 + 16.

    The edge's trade price is the seller's 5, the buyer pays 3 more for its capacity: B pays
    A 5 * 2 = 10. Taking the buyer's price for the trade would give 16.
    """
    instance = pair(capacity=2.0)
    _, r = solved(instance, market_of(instance, surplus=False), route)
    one = r.isel(scenario=0)
    np.testing.assert_allclose(one["nodal_price"].sel(prosumer=["A", "B"]).squeeze(), [5, 8])
    assert float(r["social_cost"]) == pytest.approx(22.0, abs=1e-6)
    buying = int(np.flatnonzero(r["buyer"].to_numpy() == "B")[0])
    selling = 1 - buying
    assert float(one["trade_price"].isel(trade=buying).squeeze()) == pytest.approx(5, abs=1e-6)
    assert float(one["trade_price"].isel(trade=selling).squeeze()) == pytest.approx(5, abs=1e-6)
    assert float(one["capacity_price"].isel(trade=buying).squeeze()) == pytest.approx(3, abs=1e-6)
    assert float(one["capacity_price"].isel(trade=selling).squeeze()) == pytest.approx(0, abs=1e-6)
    payment = one["payment"].sel(prosumer=["A", "B"])
    np.testing.assert_allclose(payment, [-10, 10], **EXACT)


@pytest.mark.parametrize("turned", [False, True], ids=["A-B", "B-A"])
@pytest.mark.parametrize("design", ["centralized", "peer-to-peer"])
def test_surplus_at_the_import_price(design: str, turned: bool, route: str) -> None:
    """B needs nothing; A sells to the grid for b + p0 = 2 + 7: 2G + 1 = 9, G = 4, cost -16.

    Capacity 2 limits what is bought, (2), not what is sold: with q >= -kappa G would be 2 and
    the cost 4 + 2 - 18 = -12. Without b: G = 3, cost -9. Without the surplus: 0.
    """
    instance = pair(demand_of_b=((0.0,),), capacity=2.0, price=(2.0, 2.0), import_price=7.0)
    instance = edges_turned(instance) if turned else instance
    solution = answer(instance, design, surplus=True, route=route)
    np.testing.assert_allclose(solution.generation.ravel(), [4, 0], **EXACT)
    np.testing.assert_allclose(solution.surplus.ravel(), [4], **EXACT)
    assert solution.nodal_price.ravel()[0] == pytest.approx(9, abs=1e-6)
    assert solution.social_cost == pytest.approx(-16, abs=1e-6)
    nothing = answer(instance, design, surplus=False, route=route)
    assert nothing.social_cost == pytest.approx(0, abs=1e-6)


def test_binding_demand_limit(route: str) -> None:
    """B must use 5: G = 5, price 1 + 2 * 5 = 11, cost 25 + 5 + 1 = 31.

    Her marginal utility, 2 (6 - 5) = 2, is not the price: the limit pays the other 9.
    """
    solution = answer(pair(demand_min_of_b=5.0), surplus=False, route=route)
    np.testing.assert_allclose(solution.demand.ravel(), [0, 5], **EXACT)
    np.testing.assert_allclose(solution.nodal_price.ravel(), [11, 11], **EXACT)
    assert solution.social_cost == pytest.approx(31, abs=1e-6)


def test_weighted_snapshots(route: str) -> None:
    """Weightings 1 and 3, D* = 6 and 2: 20.875 + 3 (.5625 + .75 + 1.5625) = 29.5.

    In the second 2G + 1 = 2 (2 - G), G = .75, price 2.5 EUR/MWh; not divided by its three
    hours it would be 7.5, and forgetting the weighting the cost would be 23.75.
    """
    instance = pair(demand_of_b=((6.0, 2.0),), weighting=(1.0, 3.0))
    solution = answer(instance, surplus=False, route=route)
    np.testing.assert_allclose(solution.generation[0, 0], [2.75, 0.75], **EXACT)
    np.testing.assert_allclose(solution.nodal_price[1, 0], [6.5, 2.5], **EXACT)
    assert solution.social_cost == pytest.approx(29.5, abs=1e-6)


def test_unequal_probabilities(route: str) -> None:
    """p = 1/4, 3/4, D* = 6, 2: .25 * 20.875 + .75 * 2.875 = 7.375, prices 6.5 and 2.5.

    Prices that still carry the probability would be 1.625 and 1.875; a plain mean of the
    scenarios would cost 11.875.
    """
    instance = pair(demand_of_b=((6.0,), (2.0,)), probability=(0.25, 0.75))
    solution = answer(instance, surplus=False, route=route)
    np.testing.assert_allclose(solution.nodal_price[:, :, 0], [[6.5, 2.5]] * 2, **EXACT)
    assert solution.social_cost == pytest.approx(7.375, abs=1e-6)


def test_preference_prices(route: str) -> None:
    """A charges 1 and B 3 for buying: what B buys costs her 3 and earns A 1, so 2 are lost.

    2G + 1 + 2 = 2 (6 - G): G = 2.25, prices 5.5 and 7.5, cost 5.0625 + 2.25 + 14.0625 + 4.5.
    With the two prices swapped the trade would be subsidised: G = 3.25.
    """
    solution = answer(pair(price=(1.0, 3.0)), surplus=False, route=route)
    np.testing.assert_allclose(solution.generation.ravel(), [2.25, 0], **EXACT)
    np.testing.assert_allclose(solution.nodal_price.ravel(), [5.5, 7.5], **EXACT)
    assert solution.trade_price.ravel()[0] == pytest.approx(4.5, abs=1e-6)
    assert solution.social_cost == pytest.approx(25.875, abs=1e-6)


def test_congestion_separates_the_designs(route: str) -> None:
    """a = 1, q_AB = -q_BA: the community's term a (q_AB + q_BA)^2 is nothing, G stays 2.75.

    In the equilibrium each counts her own: the potential adds q^2, 6G = 11, G = 11/6 and the
    social cost 121/36 + 11/6 + (25/6)^2 = 22.5556. Without the cross term it would add 2 q^2
    and give G = 11/8. Trade price by (22): -2q + q + zeta = 1 + 2G, zeta = 6.5.
    """
    instance = pair(congestion=1.0)
    central = answer(instance, "centralized", surplus=False, route=route)
    np.testing.assert_allclose(central.generation.ravel(), [2.75, 0], **EXACT)
    assert central.social_cost == pytest.approx(20.875, abs=1e-6)
    peers = answer(instance, "peer-to-peer", surplus=False, route=route)
    np.testing.assert_allclose(peers.generation.ravel(), [11 / 6, 0], **EXACT)
    np.testing.assert_allclose(peers.nodal_price.ravel(), [14 / 3, 25 / 3], **EXACT)
    assert peers.trade_price.ravel()[0] == pytest.approx(6.5, abs=1e-6)
    assert peers.social_cost == pytest.approx(121 / 36 + 11 / 6 + 625 / 36, abs=1e-6)


@pytest.mark.parametrize(
    ("most", "cost"),
    [({("B", "A"): 2.0, ("A", "B"): 0.0}, 22.0), ({("B", "A"): 0.0, ("A", "B"): 2.0}, 36.0)],
    ids=["B may buy", "A may buy"],
)
def test_an_edge_of_one_way(most: dict[tuple[str, str], float], cost: float, route: str) -> None:
    """As above while B may buy 2; 36, what she minds having nothing, where only A may buy.

    With the capacities exchanged, or the larger of them both ways, the two would be 36, or 22.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["A", "B"], demand=[0, 6], demand_max=100, utility_quadratic=1,
        generation_max=[10, 0], marginal_cost=1, marginal_cost_quadratic=1,
    )  # fmt: skip
    p2p.add_trades(n, [("A", "B")], capacity=most)
    market = p2p.CentralizedMarket(surplus=False)
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)
    assert float(p2p.results(n)["social_cost"]) == pytest.approx(cost, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()
