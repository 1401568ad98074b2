"""Proofs that a program has no solution: by hand, false ones, and against HiGHS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from pypsa_p2p.solvers.farkas import contradicts, proof_of_contradiction
from pypsa_p2p.solvers.program import QuadraticProgram
from tests.unit.solver_markets import quadratic_program

INF = np.inf


def both_rows(second: float = 1.5) -> QuadraticProgram:
    """x + y >= 2 and x - y >= second, with 0 <= x <= 1.5 and y free: 2 x >= 2 + second <= 3."""
    return quadratic_program(
        [0.0, 0.0], [1.0, 1.0], [[1, 1], [1, -1]], [2, second], [INF, INF], [0, -INF], [1.5, INF]
    )


def test_weights_that_prove_by_hand() -> None:
    """1 and 1: 2 x >= 3.5 where at most 3 is possible; half of each proves the same."""
    assert contradicts(both_rows(), np.array([1.0, 1.0]))
    assert contradicts(both_rows(), np.array([0.5, 0.5]))


@pytest.mark.parametrize(
    "weights",
    [[1.0, 0.9], [-1.0, -1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0 + 1e-10], [np.nan, 1.0]],
    ids=["y is free", "no such side", "one row alone", "nothing", "y far away", "no number"],
)
def test_weights_that_prove_nothing(weights: list[float]) -> None:
    """1 and 1 + 1e-10: with y = -1e10 the weighted rows hold."""
    assert not contradicts(both_rows(), np.array(weights))


def test_what_rounding_explains_is_no_contradiction() -> None:
    """2 x >= 3 + 1e-14 where at most 3 is possible; at 3 + 1e-11 it is one."""
    assert not contradicts(both_rows(1.0 + 1e-14), np.ones(2))
    assert contradicts(both_rows(1.0 + 1e-11), np.ones(2))


def test_a_claim_that_proves_nothing_is_followed_by_the_least_violation() -> None:
    """The rows weigh alike, whatever a solver claimed and whatever units they are in."""
    program = both_rows()
    size = np.array([1e3, 1e-3])
    resized = replace(
        program, A=program.A.multiply(size[:, None]).tocsc(), lower=program.lower * size
    )
    for claimed in (None, np.array([1.0, 0.0])):
        for posed, scale in ((program, np.ones(2)), (resized, size)):
            weights = proof_of_contradiction(posed, claimed)
            assert weights is not None
            assert weights * scale == pytest.approx((weights * scale)[[0, 0]])
    assert proof_of_contradiction(both_rows(1.0), np.ones(2)) is None


@pytest.mark.parametrize("seed", range(30))
def test_a_proof_is_found_where_there_is_no_point(seed: int) -> None:
    """Random rows of which some columns have no limit, one or both."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(8, 6))
    lower = rng.normal(0.5, 1.0, 8)
    program = quadratic_program(
        [0.0] * 6, [0.0] * 6, A, lower, [INF] * 8, [-INF, -INF, 0, 0, 0, 0], [INF, 1, 1, 1, 1, INF]
    )
    bounds = np.column_stack([program.x_lower, program.x_upper])
    no_point = linprog(np.zeros(6), A_ub=-A, b_ub=-lower, bounds=bounds).status == 2
    assert (proof_of_contradiction(program, None) is not None) == no_point
