"""Capacities as first-stage decisions, by hand: one house and what it builds."""

from __future__ import annotations

import pytest

import pypsa_p2p as p2p
from tests.conformance.markets import built, house, solve


@pytest.mark.parametrize(
    ("attitude", "capacity", "costs", "risk"),
    [
        (0.0, 2.0, (9.0, 17.0), 13.0),
        (1 / 3, 2.5, (10.25, 16.25), 14.75),
        (0.4, 2 + 2 / 3, (10.0 + 7 / 9, 10.0 + 2 / 3 + 49 / 9), 15 + 2 / 9),
    ],
    ids=["neutral", "a third", "0.4"],
)
def test_capacity_of_one_prosumer_by_hand(
    attitude: float, capacity: float, costs: tuple[float, float], risk: float, route: str
) -> None:
    """Demand is 3 or 5 MW, equally likely; what a plant of x MW lacks costs (D - x)^2; K = 4.

    In the scenario of the larger demand costs are higher, so that its risk-adjusted probability
    is the cap t = 0.5 / (1 - chi). The marginal value of capacity is its cost:

        2 (1 - t) (3 - x) + 2 t (5 - x) = 4, so x = 1 + 2 t: 2, 2.5, 2 2/3 at chi = 0, 1/3, 0.4.

    Costs are 4 x + (D - x)^2 in both. Weighted by probability, capital cost would be 2 x in each
    and x = 3 at chi = 0.
    """
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0)
    r = solve(n, p2p.CentralizedMarket(risk=p2p.CVaR(attitude=attitude)), route)
    assert built(n) == pytest.approx({"plant": capacity}, rel=1e-7)
    assert r.cost.to_numpy().ravel() == pytest.approx(costs, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(risk, rel=1e-9)
    assert n.objective == pytest.approx(risk, rel=1e-9)
    price = [2 * (3 - capacity), 2 * (5 - capacity)]  # her marginal utility, in its own scenario
    assert r.nodal_price.to_numpy().ravel() == pytest.approx(price, rel=1e-6)


def test_battery_by_hand(route: str) -> None:
    """Demand 2 then 6 MW, made at G^2; x MW of battery for 1 h at 4 EUR/MW.

    2 (6 - x) - 2 (2 + x) = 4, so x = 1: prices 6 and 10, whose difference pays for it. It costs
    4 + 9 + 25 = 38, where without it 4 + 36 = 40.
    """
    n = house((2.0, 6.0), scenarios=False)
    n.add(
        "StorageUnit",
        "battery",
        bus="house",
        p_nom_extendable=True,
        capital_cost=4.0,
        cyclic_state_of_charge=True,
    )
    r = solve(n, p2p.PeerToPeerMarket(), route)
    assert built(n, "StorageUnit") == pytest.approx({"battery": 1.0}, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(38.0, rel=1e-9)
    assert r.nodal_price.to_numpy().ravel() == pytest.approx([6.0, 10.0], rel=1e-6)


def test_store_and_its_link_by_hand(route: str) -> None:
    """The battery again: a store at 1.5 EUR/MWh whose charger costs 2.5 EUR/MW, a bus away."""
    n = house((2.0, 6.0), scenarios=False)
    n.add("Bus", "cellar")
    n.add("Store", "tank", bus="cellar", e_nom_extendable=True, capital_cost=1.5, e_cyclic=True)
    n.add("Link", "out", bus0="cellar", bus1="house", p_nom=9.0)
    n.add("Link", "in", bus0="house", bus1="cellar", p_nom_extendable=True, capital_cost=2.5)
    r = solve(n, p2p.PeerToPeerMarket(), route)
    assert built(n, "Store") == pytest.approx({"tank": 1.0}, rel=1e-7)
    assert built(n, "Link") == pytest.approx({"in": 1.0}, rel=1e-7)
    assert float(r.cost.sum()) == pytest.approx(38.0, rel=1e-9)


def test_standing_capacity_is_part_of_the_cost(route: str) -> None:
    """Of 2 MW to have, 1.5 stand already: 4 EUR/MW is the cost of all 2, on both routes.

    PyPSA leaves 6 EUR out of its objective, unless told otherwise, and says so in
    `n.objective_constant`.
    """
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0, p_nom=1.5)
    r = solve(n, p2p.CentralizedMarket(), route)
    assert built(n) == pytest.approx({"plant": 2.0}, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(13.0, rel=1e-9)
    assert n.objective == pytest.approx(7.0, rel=1e-9)
    assert n.objective_constant == pytest.approx(6.0, rel=1e-12)
    assert p2p.certify(n).is_equilibrium()
    p2p.CentralizedMarket().optimize(n, include_objective_constant=False)
    assert n.objective == pytest.approx(13.0, rel=1e-9)


def test_overnight_and_fixed_cost_are_pypsas(route: str) -> None:
    """60 EUR/MW for each of 8760 hours, without interest over 20 years, and upkeep: 60/20 + 1."""
    overnight = 60.0 * 8760.0  # the one snapshot stands for an hour
    plant = {"overnight_cost": overnight, "discount_rate": 0.0, "lifetime": 20.0, "fom_cost": 1.0}
    n = house((3.0, 5.0), scenarios=True, **plant)
    r = solve(n, p2p.CentralizedMarket(), route)
    assert built(n) == pytest.approx({"plant": 2.0}, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(13.0, rel=1e-9)


def test_a_capacity_for_nothing_is_the_least_that_serves(route: str) -> None:
    """Without capital cost and limit any capacity from 5 MW up is as good: 5 is reported."""
    n = house((3.0, 5.0), scenarios=True, capital_cost=0.0)
    r = solve(n, p2p.CentralizedMarket(risk=p2p.CVaR(attitude=0.4)), route)
    assert float(r.social_cost) == pytest.approx(0.0, abs=1e-6)
    assert built(n) == pytest.approx({"plant": 5.0}, abs=1e-4)


@pytest.mark.parametrize("limit", ["p_nom_max", "p_nom_set"])
def test_limits_of_capacity(limit: str, route: str) -> None:
    """At most, or exactly, 1 MW where 2 would be best: 4 + (4 + 16)/2 = 14 EUR."""
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0, **{limit: 1.0})
    r = solve(n, p2p.CentralizedMarket(), route)
    assert built(n) == pytest.approx({"plant": 1.0}, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(14.0, rel=1e-9)


def test_of_more_averse_prosumers_the_hedge_is_larger() -> None:
    """1 + 2 t above, up to t = 1 where high demand is all that counts: never less."""
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0)
    attitudes, found = (0.0, 0.2, 0.4, 0.6), []
    for attitude in attitudes:
        solve(n, p2p.CentralizedMarket(risk=p2p.CVaR(attitude=attitude)))
        found.append(built(n)["plant"])
    assert found == pytest.approx([1 + min(1 / (1 - chi), 2.0) for chi in attitudes], rel=1e-7)
