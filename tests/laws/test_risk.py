"""Laws of risk aversion: its limits, its bounds and its order (MODEL.md §3)."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from tests.laws.markets import (
    AVERSE,
    DRAWS,
    HEDGED,
    NEUTRAL,
    Draw,
    Setting,
    instance_of,
    package,
)
from tests.reference.package import unique_prices
from tests.reference.solve import own_cost, physical_model, run, scenario_sum

EVERY = pytest.mark.parametrize("draw", DRAWS, ids=str)


@EVERY
@pytest.mark.parametrize("how", ["chi = 0", "theta = 0"])
def test_neutral_limit(draw: Draw, how: str) -> None:
    """chi = 0 and theta = 0 are the risk-neutral market: cost, dispatch, prices, tau = p."""
    setting = Setting(theta=1.0, attitude=0.0) if how == "chi = 0" else Setting(theta=0.0)
    found, neutral = package(draw, setting), package(draw, NEUTRAL)
    assert found.social_cost == pytest.approx(neutral.social_cost, rel=1e-6)
    np.testing.assert_allclose(found.demand, neutral.demand, atol=1e-5)
    np.testing.assert_allclose(found.generation, neutral.generation, atol=1e-5)
    unique = unique_prices(instance_of(draw), neutral)
    np.testing.assert_allclose(found.nodal_price[unique], neutral.nodal_price[unique], atol=1e-5)
    np.testing.assert_allclose(found.tau, neutral.tau, atol=1e-6)
    probability = np.broadcast_to(instance_of(draw).probability, found.tau.shape)
    np.testing.assert_allclose(neutral.tau, probability, atol=1e-9)


@EVERY
def test_worst_case_limit(draw: Draw) -> None:
    """chi -> 1: the sum of everybody's worst cost, minimised without any CVaR."""
    data = instance_of(draw)
    model = physical_model(data, surplus=True)
    cost = own_cost(model) @ scenario_sum(data)
    worst = cp.sum(cp.max(cost, axis=1))
    problem = cp.Problem(cp.Minimize(worst), model.constraints)
    run(problem)
    found = package(draw, Setting(theta=1.0, attitude=0.999999))
    assert found.social_cost == pytest.approx(problem.value, rel=1e-6)
    np.testing.assert_allclose(found.risk_adjusted_cost, found.cost.max(axis=1), atol=1e-5)


@EVERY
@pytest.mark.parametrize("theta", [1.0, 0.4])
@pytest.mark.parametrize("contracts", [False, True], ids=["alone", "contracts"])
def test_probabilities_lie_in_their_bounds(draw: Draw, theta: float, contracts: bool) -> None:
    """sum tau = 1 and (1 - theta) p <= tau <= (1 - theta) p + theta p / (1 - chi)."""
    data = instance_of(draw)
    tau = package(draw, Setting(theta=theta, contracts=contracts)).tau
    p, chi = data.probability, data.risk_attitude[:, None]
    np.testing.assert_allclose(tau.sum(axis=1), 1, atol=1e-6)
    assert (tau >= (1 - theta) * p - 1e-6).all()
    assert (tau <= (1 - theta) * p + theta * p / (1 - chi) + 1e-6).all()


@EVERY
def test_cost_is_weighted_by_the_probabilities(draw: Draw) -> None:
    """R_n = sum over scenarios of tau Pi (33)-(37), also mixed."""
    for theta in (1.0, 0.4):
        found = package(draw, Setting(theta=theta))
        weighted = (found.tau * found.cost).sum(axis=1)
        np.testing.assert_allclose(found.risk_adjusted_cost, weighted, rtol=1e-6, atol=1e-5)


@EVERY
def test_order_of_the_markets(draw: Draw) -> None:
    """RN <= with contracts <= all at min chi <= everybody's own chi; none is equal throughout."""
    least = float(instance_of(draw).risk_attitude.min())
    settings = (NEUTRAL, HEDGED, replace(AVERSE, attitude=least), AVERSE)
    costs = [package(draw, setting).social_cost for setting in settings]
    assert (np.diff(costs) >= -1e-6 * abs(costs[-1])).all(), costs
    assert costs[-1] > costs[0] + 1e-3, "risk costs something in this market"


@EVERY
def test_community_bears_risk_more_cheaply(draw: Draw) -> None:
    """min CVaR of the sum <= min sum of the CVaRs, at one attitude (MODEL.md §4)."""
    apart = package(draw, Setting(theta=1.0, attitude=0.5)).social_cost
    together = package(draw, Setting(theta=1.0, attitude=0.5, aggregate="community")).social_cost
    assert together <= apart + 1e-6 * abs(apart)


@EVERY
def test_cost_grows_with_theta(draw: Draw) -> None:
    """R is linear and not decreasing in theta at a point, so the minimum is concave, rising."""
    low, middle, high = (
        package(draw, Setting(theta=theta)).social_cost for theta in (0.0, 0.4, 1.0)
    )
    slack = 1e-6 * abs(high)
    assert low - slack <= middle <= high + slack
    assert middle >= 0.6 * low + 0.4 * high - slack
