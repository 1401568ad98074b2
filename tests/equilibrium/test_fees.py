"""Agents who pay fees on what they trade: their best answers, and what they agree on."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.equilibrium.game.knapsack import Knapsack, solve_knapsacks
from tests.by_hand.markets import seller_and_buyer
from tests.reference.instances import Instance, network, random_instance
from tests.reference.package import market_of

ADMM = p2p.ADMM(tolerance=1e-9)


@cache
def instance(seed: int) -> Instance:
    """A ring of five with chords, fees by agent, edge and hour; odd ones are congested."""
    return random_instance(seed, 5, 2, 2, congestion=seed % 2 == 1, fees=0.8)


def solved(seed: int, market: Any, method: Any = None) -> pypsa.Network:
    n = network(instance(seed))
    found = p2p.solve_equilibrium(n, market, method, progress=False)
    assert found.converged
    return n


# ------------------------------------------------------------------------- one agent's problem


def one(fee: float, price: float) -> tuple[list[float], float]:
    """A trade at 5 with a fee beside a generator at `price`, for a load of 1 MW."""
    h, c, lower, upper, f = (
        np.array(v, float) for v in ([0, 0], [5, price], [-9, -9], [9, 9], [fee, 0])
    )
    x, paid = solve_knapsacks(Knapsack(h, c, lower, upper, np.array(1.0), f))
    return x.tolist(), float(paid)


def test_a_fee_is_a_threshold() -> None:
    """She buys at 5 what costs 7 elsewhere, sells what costs 3, and neither within the fee."""
    assert one(1.0, 7.0) == ([9.0, -8.0], 7.0)
    assert one(1.0, 3.0) == ([-8.0, 9.0], 4.0)  # what she is left with of 5
    assert one(3.0, 7.0) == ([0.0, 1.0], 7.0)
    assert one(3.0, 3.0) == ([0.0, 1.0], 3.0)


def objective(problem: Knapsack, x: np.ndarray) -> Any:
    h, c, _, _, _, f = problem
    return (0.5 * h * x**2 + c * x + f * np.abs(x)).sum(axis=-1)


@pytest.mark.parametrize("linear", [False, True])
def test_knapsacks_with_fees_are_solved_exactly(linear: bool) -> None:
    """Nothing that moves two of the x against each other costs less, from none of 300 draws."""
    rng = np.random.default_rng(5)
    shape = (300, 6)
    h = rng.uniform(0.1, 2, shape) * (rng.random(shape) < (0.3 if linear else 1.1))
    c = rng.integers(-3, 4, shape).astype(float)  # so that some tie
    lower, upper = rng.uniform(-3, 0.5, shape), rng.uniform(0.5, 3, shape)
    fee = rng.integers(0, 3, shape) * (np.arange(6) < 4)
    total = lower.sum(-1) + rng.random(300) * (upper - lower).sum(-1)
    problem = Knapsack(h, c, lower, upper, total, fee.astype(float))
    x, price = solve_knapsacks(problem, near=rng.uniform(-1, 1, shape))
    assert np.abs(x.sum(-1) - total).max() < 1e-9
    assert (x >= lower - 1e-12).all() and (x <= upper + 1e-12).all()
    up = h * x + c + np.where(x < -1e-12, -fee, fee)
    down = h * x + c + np.where(x > 1e-12, fee, -fee)
    assert np.where(x < upper - 1e-9, price[:, None] - up, 0.0).max() < 1e-9
    assert np.where(x > lower + 1e-9, down - price[:, None], 0.0).max() < 1e-9
    for _ in range(20):
        step = rng.normal(0, 0.1, shape)
        moved = np.clip(x + step - step.mean(-1, keepdims=True), lower, upper)
        feasible = np.abs(moved.sum(-1) - total) < 1e-9
        assert (objective(problem, moved) >= objective(problem, x) - 1e-9)[feasible].all()


# ------------------------------------------------------------------------------ what they find


@pytest.mark.parametrize("setting", ["neutral", "averse", "half averse"])
@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("seed", [2, 3])
def test_agents_agree_on_the_variational_equilibrium(
    seed: int, setting: str, surplus: bool
) -> None:
    risk = {"neutral": None, "averse": ("CVaR", None, 1.0), "half averse": ("CVaR", None, 0.5)}
    if seed % 2 and risk[setting]:
        seed = 4  # risk with congestion may have several equilibria
    market = market_of(instance(seed), "peer-to-peer", risk[setting], surplus=surplus)
    agreed, direct = solved(seed, market, ADMM), solved(seed, market)
    assert p2p.certify(agreed).is_equilibrium(1e-6)
    found, wanted = p2p.results(agreed), p2p.results(direct)
    assert float(wanted.fee_revenue.max()) > 1e-2
    size = abs(float(wanted.social_cost))
    assert float(found.social_cost) == pytest.approx(float(wanted.social_cost), abs=1e-6 * size)
    if setting == "neutral":
        for name in ("quantity", "nodal_price", "trade_price", "fee", "bill"):
            assert found[name].values == pytest.approx(wanted[name].values, abs=2e-5), name
        assert (found.price_unique == wanted.price_unique).all()


METHODS = {
    "in turn": p2p.GaussSeidel(start="zero"),
    "regularised": p2p.GaussSeidel(start="random", seed=1, regularisation=0.1),
    "at once": p2p.Jacobi(start="random", seed=3),
    "from the equilibrium": p2p.GaussSeidel(start="variational"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", ["neutral", "averse"])
@pytest.mark.parametrize("seed", [0, 1])
def test_best_responses_stop_at_certified_equilibria(seed: int, setting: str, method: str) -> None:
    risk = None if setting == "neutral" else ("CVaR", None, 1.0)
    market = market_of(instance(seed), "peer-to-peer", risk)
    n = solved(seed, market, METHODS[method])
    assert p2p.certify(n).is_equilibrium(1e-6, equilibrium="generalized")


def test_nobody_moves_from_the_variational_equilibrium() -> None:
    market = p2p.PeerToPeerMarket()
    n = network(instance(2))
    found = p2p.solve_equilibrium(n, market, METHODS["from the equilibrium"], progress=False)
    assert found.iterations == 1
    wanted = p2p.results(solved(2, market)).quantity
    assert p2p.results(n).quantity.values == pytest.approx(wanted.values, abs=1e-7)


def test_partners_within_their_fees_do_not_trade() -> None:
    """The seller at 10, the buyer at 11.5, fees of 1: the rule's price, found by agents too."""
    n = seller_and_buyer(11.5, fee=1.0)
    p2p.set_scenarios(n, {"sure": 1.0})
    found = p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), ADMM, progress=False)
    r = p2p.results(n)
    assert found.converged
    assert not r.quantity.any()  # exactly: soft thresholds end at 0
    assert r.nodal_price.values.ravel() == pytest.approx([9.75, 11.75], abs=1e-6)
    assert not r.price_unique.any()
    assert p2p.certify(n).is_equilibrium()
