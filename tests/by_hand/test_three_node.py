"""MODEL.md §9: the three-node instance, on both routes, to 1e-6."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.reference.instances import three_node
from tests.reference.package import answer
from tests.reference.solve import Risk, Solution

INSTANCE = three_node()
LEAST = float(INSTANCE.risk_attitude.min())
AVERSE: Risk = ("CVaR", None, 1.0)
SETTINGS: dict[str, tuple[Risk | None, bool]] = {
    "neutral": (None, False),
    "averse": (AVERSE, False),
    "least attitude": (("CVaR", LEAST, 1.0), False),
    "contracts": (AVERSE, True),
}
OBJECTIVES = {
    ("neutral", False): 7.6102899,
    ("averse", False): 13.9771248,
    ("least attitude", False): 8.2748992,
    ("contracts", False): 8.0748864,
    ("neutral", True): 7.4887587,
    ("averse", True): 13.9771248,
    ("least attitude", True): 8.1478275,
    ("contracts", True): 7.9707784,
}


@cache
def found(setting: str, surplus: bool, route: str, design: str = "centralized") -> Solution:
    """The package's answer, solved once a session."""
    risk, contracts = SETTINGS[setting]
    return answer(INSTANCE, design, risk, contracts=contracts, surplus=surplus, route=route)


@pytest.mark.parametrize("design", ["centralized", "peer-to-peer"])
@pytest.mark.parametrize(("setting", "surplus"), OBJECTIVES)
def test_objective(setting: str, surplus: bool, route: str, design: str) -> None:
    """The table of objectives; a = 0, so the equilibrium has the same (Proposition 12).

    The constants d - b tilde sum to -0.9324 here: leaving them out gives 8.5427 for 7.6103.
    """
    social = found(setting, surplus, route, design).social_cost
    assert social == pytest.approx(OBJECTIVES[setting, surplus], abs=1e-6)


def test_neutral_costs_and_prices(route: str) -> None:
    """Costs by scenario and prices; at node 0 a price times its probability would be .31315."""
    solution = found("neutral", False, route)
    cost = [
        [-3.22135, -3.05782, 3.22837],
        [3.98272, -4.83611, -5.21079],
        [7.00725, 9.24625, 15.69234],
    ]
    np.testing.assert_allclose(solution.cost, cost, rtol=0, atol=6e-6)  # five printed digits
    at_node_0 = np.array([0.93944, 0.52706, 2.11376])
    prices = np.array([at_node_0, at_node_0 + 2, at_node_0 + 1])
    np.testing.assert_allclose(solution.nodal_price[:, :, 0], prices, rtol=0, atol=6e-6)
    steps = solution.nodal_price[:, :, 0] - solution.nodal_price[0, :, 0]
    np.testing.assert_allclose(steps, [[0.0] * 3, [2.0] * 3, [1.0] * 3], atol=1e-6)


def test_risk_adjusted_costs_and_probabilities(route: str) -> None:
    """R and tau without contracts, whether or not surplus may be sold."""
    for surplus in (False, True):
        solution = found("averse", surplus, route)
        averse = [-0.678826, 3.981606, 10.674345]
        np.testing.assert_allclose(solution.risk_adjusted_cost, averse, rtol=0, atol=1e-6)
        tau = [[0.35808, 0.28384, 0.35808], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
        np.testing.assert_allclose(solution.tau, tau, rtol=0, atol=6e-6)


def test_contract_prices(route: str) -> None:
    """Everybody's tau at the least attitude: (1/3) / (1 - .0691) = .358080 in the two worst."""
    for surplus in (False, True):
        solution = found("contracts", surplus, route)
        assert solution.contract_price is not None
        price = [0.358080, 0.283839, 0.358080]
        np.testing.assert_allclose(solution.contract_price, price, rtol=0, atol=1e-6)
        np.testing.assert_allclose(solution.tau, np.tile(price, (3, 1)), rtol=0, atol=1e-6)


def test_contract_parts(route: str) -> None:
    """The parts of 8.0748864, from the cone program with W written out.

    Without contracts node 2, the most averse, would bear 10.674345 of 13.977125.
    """
    averse = found("contracts", False, route).risk_adjusted_cost
    np.testing.assert_allclose(averse, [-0.865415, -1.812426, 10.752727], rtol=0, atol=1e-6)
    assert averse.sum() == pytest.approx(8.0748864, abs=1e-6)


@pytest.mark.parametrize(("surplus", "least"), [(True, 9.1111090), (False, 9.4157127)])
def test_least_expected_cost_among_averse_optima(surplus: bool, least: float, route: str) -> None:
    """MODEL.md §8.9: theta -> 1 by extrapolation of the cone program; other optima cost 10.2."""
    expected = found("averse", surplus, route).expected_social_cost
    assert expected == pytest.approx(least, abs=1e-6)
