"""Complementarity problems by Newton's method: against known answers, and slopes by differences."""

from __future__ import annotations

import numpy as np
import pypsa
import pytest
import scipy.sparse as sp

import pypsa_p2p as p2p
from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.markets.clearing.own_units import OwnUnits
from pypsa_p2p.markets.clearing.taking_prices import TakingPrices
from pypsa_p2p.solvers.complementarity import fischer_burmeister, solve_complementarity
from pypsa_p2p.solvers.price_taking import PriceTaking
from tests.by_hand.markets import three_node_in_two_stages
from tests.by_hand.test_payments_at_risk import here_and_now

INF = np.inf


@pytest.mark.parametrize(
    ("target", "lower", "upper", "z"),
    [(3.0, 0.0, 5.0, 3.0), (-1.0, 0.0, 5.0, 0.0), (7.0, 0.0, 5.0, 5.0), (7.0, 0.0, INF, 7.0),
     (-7.0, -INF, 5.0, -7.0), (9.0, -INF, 5.0, 5.0), (-9.0, -INF, INF, -9.0), (4.0, 2.0, 2.0, 2.0)],
)  # fmt: skip
def test_one_number(target: float, lower: float, upper: float, z: float) -> None:
    """F = z - target: inside, at either end, without ends, and held."""
    found = solve_complementarity(
        lambda z: z - target,
        lambda _: sp.csc_matrix([[1.0]]),
        np.zeros(1),
        np.array([lower]),
        np.array([upper]),
    )
    assert found.residual < 1e-10
    assert found.z[0] == pytest.approx(z, abs=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_what_no_function_is_minimised_by(seed: int) -> None:
    """A monotone map whose slopes are no symmetric matrix, in a box; complementary at the end."""
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(20, 20))
    M = half @ half.T / 20 + 0.5 * np.eye(20) + (half - half.T)
    q = rng.normal(size=20)
    lower, upper = np.zeros(20), rng.uniform(0.1, 2.0, 20)
    found = solve_complementarity(
        lambda z: M @ z + q, lambda _: sp.csc_matrix(M), np.zeros(20), lower, upper
    )
    F = M @ found.z + q
    assert found.residual < 1e-9
    assert (found.z >= lower - 1e-9).all() and (found.z <= upper + 1e-9).all()
    assert np.abs(np.maximum(F, 0) * (found.z - lower)).max() < 1e-9
    assert np.abs(np.minimum(F, 0) * (upper - found.z)).max() < 1e-9


def test_no_solution() -> None:
    """F = 1 wherever z is: the residual says that nothing was found."""
    found = solve_complementarity(
        lambda z: np.ones(1), lambda _: sp.csc_matrix((1, 1)), np.zeros(1), np.full(1, -INF),
        np.full(1, INF),
    )  # fmt: skip
    assert found.residual == pytest.approx(1.0)


def test_slopes_of_the_function() -> None:
    rng = np.random.default_rng(0)
    ends = np.array([-INF, -1.0]), np.array([1.0, INF])
    lower, upper = (np.repeat(end, 50) for end in (ends[0][::-1], ends[1]))
    z, F, step = rng.normal(size=100), rng.normal(size=100), 1e-6
    value, by_z, by_f = fischer_burmeister(z, F, lower, upper)
    moved_z, *_ = fischer_burmeister(z + step, F, lower, upper)
    moved_f, *_ = fischer_burmeister(z, F + step, lower, upper)
    np.testing.assert_allclose((moved_z - value) / step, by_z, atol=1e-4)
    np.testing.assert_allclose((moved_f - value) / step, by_f, atol=1e-4)


def three_nodes() -> PriceTaking:
    """Of three nodes that trade before and in the scenario."""
    n = three_node_in_two_stages(friction=0.2, imbalance=(5.0, 0.5))
    return price_taking(p2p.PeerToPeerMarket(payments="risk", risk=p2p.CVaR()), n)


def price_taking(market: p2p.PeerToPeerMarket, n: pypsa.Network) -> PriceTaking:
    """Of a market on a network, in its own units."""
    posed = market.pose(n)
    problem = market.problem(posed.compiled, posed.places, posed.data)
    own = OwnUnits.of(problem)
    return TakingPrices.of(
        own.compiled(posed.compiled), own.problem(problem), posed.places, posed.data
    ).taking


def test_slopes_of_price_takers() -> None:
    """The Jacobian, by differences along random directions."""
    taking, rng = three_nodes(), np.random.default_rng(0)
    size = int(taking._sizes[-1])
    z = rng.normal(size=size)
    for _ in range(5):
        direction = rng.normal(size=size)
        step = 1e-6 * direction
        found = (taking._conditions(z + step) - taking._conditions(z - step)) / 2e-6
        np.testing.assert_allclose(taking._slopes(z) @ direction, found, rtol=1e-5, atol=1e-5)


def test_guesses_of_many_groups() -> None:
    """Of three scenarios the actual probabilities, then ends of the envelopes that are drawn."""
    taking = three_nodes()
    guesses = list(taking.guesses(3, np.random.default_rng(0)))
    program = taking.program
    assert len(guesses) == 4
    np.testing.assert_array_equal(guesses[0], program.probability)
    for tau in guesses:
        sums = np.bincount(program.group, weights=tau)
        np.testing.assert_allclose(sums, 1.0, atol=ACCURACY.rounding)
        assert (tau >= program.least - 1e-12).all() and (tau <= program.most + 1e-12).all()
    assert taking.minding.tolist() == [0, 1, 2]


def test_guesses_of_two_scenarios() -> None:
    """Every combination of both ends and the actual probabilities, for who decides before."""
    market = p2p.PeerToPeerMarket(payments="risk", risk=p2p.CVaR(1 / 3), here_and_now=("x",))
    taking = price_taking(market, here_and_now())
    guesses = [tau[:2].tolist() for tau in taking.guesses(0, np.random.default_rng(0))]
    assert taking.minding.tolist() == [0]
    np.testing.assert_allclose(guesses, [[0.5, 0.5], [0.25, 0.75], [0.75, 0.25]])
