"""CVaR of four equally likely costs, through the market (MODEL.md §9)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.by_hand.markets import twins
from tests.reference.package import market_of, solved

COSTS = (20.0, 40.0, 10.0, 30.0)  # in no order: sorting is the package's business


@pytest.mark.parametrize(
    ("attitude", "weight", "averse"),
    [(0.6, 1.0, 36.25), (0.0, 1.0, 25.0), (0.6, 0.5, 30.625), (0.6, 0.0, 25.0), (0.9, 1.0, 40.0)],
)
def test_risk_adjusted_cost(attitude: float, weight: float, averse: float, route: str) -> None:
    """chi = .6 leaves a tail of .4: .25 at 40 and .15 at 30, (10 + 4.5) / .4 = 36.25.

    A tail of chi instead of 1 - chi would give (10 + 7.5 + 2) / .6 = 32.5; averaging only
    the whole scenarios above VaR would give 40. Half and half with the expectation: 30.625.
    """
    instance = twins(COSTS)
    market = market_of(instance, risk=("CVaR", attitude, weight), surplus=False)
    _, r = solved(instance, market, route)
    np.testing.assert_allclose(r["risk_adjusted_cost"], [averse, averse], rtol=0, atol=1e-6)
    assert float(r["social_cost"]) == pytest.approx(2 * averse, abs=2e-6)
    np.testing.assert_allclose(r["expected_cost"], [25.0, 25.0], rtol=0, atol=1e-5)


def test_value_at_risk_and_probabilities(route: str) -> None:
    """VaR 30; tau = .25 / .4 = .625 at 40, the remaining .375 at 30, nothing below."""
    instance = twins(COSTS)
    market = market_of(instance, risk=("CVaR", 0.6, 1.0), surplus=False)
    _, r = solved(instance, market, route)
    np.testing.assert_allclose(r["value_at_risk"], [30.0, 30.0], rtol=0, atol=1e-5)
    tau = r["risk_adjusted_probability"].sel(scenario=instance.scenarios)
    for name in instance.names:
        np.testing.assert_allclose(tau.sel(prosumer=name), [0, 0.625, 0, 0.375], atol=1e-6)


def test_community(route: str) -> None:
    """The community pays 20, 40, 60, 80: CVaR 72.5, the same as the sum, for equal twins."""
    instance = twins(COSTS)
    market = market_of(instance, risk=("CVaR", 0.6, 1.0), aggregate="community", surplus=False)
    _, r = solved(instance, market, route)
    assert float(r["social_cost"]) == pytest.approx(72.5, abs=2e-6)
