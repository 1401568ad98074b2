"""Which of many optima is reported (MODEL.md §8.8, §8.9)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.laws.markets import (
    AVERSE,
    DRAWS,
    HEDGED,
    NEUTRAL,
    SMALL,
    Draw,
    instance_of,
    package,
    reference,
)
from tests.reference.instances import Array, Instance
from tests.reference.solve import Solution
from tests.reference.ties import least_expected_cost, least_norm

MORE = (*DRAWS, Draw(4, symmetric_prices=True), Draw(6, symmetric_prices=True), Draw(7, 5))
EVERY = pytest.mark.parametrize(
    ("draw", "route"),
    [(SMALL, "hook"), *((draw, "direct") for draw in MORE)],
    ids=str,
)


def exchanged(data: Instance, found: Solution, together: bool) -> Array:
    """The least-norm trades that may stand in for those of `found`."""
    return least_norm(data, found.demand, found.generation, found.quantity, together=together)


@EVERY
@pytest.mark.parametrize("contracts", [False, True], ids=["neutral", "contracts"])
def test_least_norm_trades(draw: Draw, route: str, contracts: bool) -> None:
    """Risk-neutral or hedged, only the sum of the costs in each scenario must stay."""
    found = package(draw, HEDGED if contracts else NEUTRAL, route)
    least = exchanged(instance_of(draw), found, together=True)
    np.testing.assert_allclose(found.quantity, least, rtol=0, atol=1e-4)


@EVERY
def test_least_norm_trades_when_averse(draw: Draw, route: str) -> None:
    """No trades with the same D, G and the same costs of everybody have a smaller norm."""
    found = package(draw, AVERSE, route)
    least = exchanged(instance_of(draw), found, together=False)
    assert (found.quantity**2).sum() <= (least**2).sum() * (1 + 1e-5) + 1e-5


@EVERY
def test_least_expected_cost_among_averse_optima(draw: Draw, route: str) -> None:
    """The limit theta -> 1: expected cost, and what the indifferent then do."""
    limit = least_expected_cost(instance_of(draw))
    demand, generation, expected = limit.values
    found, any_optimum = package(draw, AVERSE, route), reference(draw, AVERSE)
    assert limit.uncertainty[2] < 1e-5, "the extrapolation has settled"
    assert found.expected_social_cost <= any_optimum.expected_social_cost + 1e-5
    assert found.expected_social_cost == pytest.approx(float(expected), rel=2e-6, abs=2e-6)
    settled = 1e-4 + 3 * max(limit.uncertainty)
    np.testing.assert_allclose(found.demand, demand, rtol=0, atol=settled)
    np.testing.assert_allclose(found.generation, generation, rtol=0, atol=settled)
