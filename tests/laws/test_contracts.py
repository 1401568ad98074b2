"""Laws of the complete contract market (MODEL.md §5)."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from tests.laws.markets import (
    AVERSE,
    CONGESTED,
    DRAWS,
    HEDGED,
    NEUTRAL,
    Draw,
    Setting,
    instance_of,
    package,
    reference,
    solved_network,
)
from tests.reference.instances import Array
from tests.reference.solve import Solution, risk_of, run

EVERY = pytest.mark.parametrize("draw", DRAWS, ids=str)


def hedged(draw: Draw, design: str = "centralized") -> tuple[Solution, Array, Array]:
    """The market with contracts, its volumes and its prices."""
    found = package(draw, Setting(design, theta=1.0, contracts=True))
    assert found.contract is not None
    assert found.contract_price is not None
    return found, found.contract, found.contract_price


@EVERY
def test_contracts_never_raise_social_cost(draw: Draw) -> None:
    """W = 0 is allowed."""
    alone, with_contracts = package(draw, AVERSE), package(draw, HEDGED)
    assert with_contracts.social_cost <= alone.social_cost * (1 + 1e-7) + 1e-7


@EVERY
@pytest.mark.parametrize("design", ["centralized", "peer-to-peer"])
def test_least_averse_prosumer_sets_the_cost(draw: Draw, design: str) -> None:
    """sum R_n = CVaR at min chi of s(omega) = min SC(omega), by sorting the reference's s."""
    data = instance_of(draw)
    least_cost = reference(draw, NEUTRAL).cost.sum(axis=0)
    found, _, _ = hedged(draw, design)
    wanted = risk_of(data.probability, least_cost, float(data.risk_attitude.min()))
    assert found.risk_adjusted_cost.sum() == pytest.approx(wanted, rel=1e-6)
    assert found.social_cost == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(found.cost.sum(axis=0), least_cost, rtol=1e-6, atol=1e-5)


@EVERY
def test_contracts_clear_without_premium(draw: Draw) -> None:
    """sum_n W = 0 in every scenario; sum over scenarios of alpha W = 0 for everybody."""
    _, volume, price = hedged(draw)
    np.testing.assert_allclose(volume.sum(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(volume @ price, 0, atol=1e-6)


@EVERY
def test_price_is_everybodys_probability(draw: Draw) -> None:
    """alpha = tau_n for every n and sums to 1 (Corollary 16)."""
    found, _, price = hedged(draw)
    assert price.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found.tau, np.tile(price, (len(found.tau), 1)), atol=1e-6)


@EVERY
def test_volumes_are_optimal_for_each(draw: Draw) -> None:
    """Nobody gains by another W: R_n is sum alpha Pi, the least a buyer of W can reach."""
    found, _, price = hedged(draw)
    np.testing.assert_allclose(found.risk_adjusted_cost, found.cost @ price, rtol=1e-6, atol=1e-5)


@EVERY
def test_volumes_have_least_norm(draw: Draw) -> None:
    """Among the volumes optimal for everybody, cleared and without premium, the least norm.

    Pi_n - W_n makes tau_n = alpha optimal in (37) if it equals eta_n where alpha lies inside
    n's bounds, is no less where alpha is at her cap and no more where alpha is 0.
    """
    data = instance_of(draw)
    found, volume, price = hedged(draw)
    eta = cp.Variable((len(volume), 1))
    chosen = cp.Variable(volume.shape)
    above = found.cost - chosen - eta
    cap = data.probability / (1 - data.risk_attitude[:, None])
    at_cap = found.tau >= cap - 1e-6
    rows = [
        cp.sum(chosen, axis=0) == 0,
        chosen @ price == 0,
        cp.multiply(found.tau > 1e-6, above) >= 0,
        cp.multiply(~at_cap, above) <= 0,
    ]
    run(cp.Problem(cp.Minimize(cp.sum_squares(chosen)), rows))
    np.testing.assert_allclose(volume, chosen.value, rtol=0, atol=1e-5)


@EVERY
@pytest.mark.parametrize("contracts", [False, True], ids=["alone", "contracts"])
def test_payments_cancel(draw: Draw, contracts: bool) -> None:
    """Trade payments of all prosumers sum to zero in every scenario, and contracts' do too."""
    _, r = solved_network(draw, Setting("peer-to-peer", theta=1.0, contracts=contracts))
    scale = max(1.0, float(np.abs(r["payment"]).max()))
    np.testing.assert_allclose(r["payment"].sum("prosumer"), 0, atol=1e-6 * scale)
    if contracts:
        paid = (r["contract_price"] * r["contract"]).sum("scenario")
        assert float(paid.sum("prosumer")) == pytest.approx(0, abs=1e-6)


def test_contracts_make_congestion_convex() -> None:
    """Hedged, the planner's sum of CVaR is CVaR at min chi of SC, which a > 0 leaves convex."""
    data = instance_of(CONGESTED)
    least_cost = reference(CONGESTED, NEUTRAL).cost.sum(axis=0)
    wanted = risk_of(data.probability, least_cost, float(data.risk_attitude.min()))
    assert package(CONGESTED, HEDGED).social_cost == pytest.approx(wanted, rel=1e-6)
