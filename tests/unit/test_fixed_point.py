"""The accelerated fixed point."""

from __future__ import annotations

import numpy as np
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.fixed_point import fixed_point


def test_linear_contraction_takes_one_round_per_dimension() -> None:
    """z = M z + b: with as many differences as dimensions the step is Newton's."""
    M = np.array([[0.5, 0.2, 0.0], [-0.3, 0.4, 0.1], [0.0, 0.2, -0.6]])
    b = np.array([1.0, 2.0, 3.0])
    visited: list[np.ndarray] = []

    def answer(z: np.ndarray) -> np.ndarray:
        visited.append(z)
        return np.asarray(M @ z + b)

    history = fixed_point(answer, np.zeros(3))
    np.testing.assert_allclose(visited[-1], np.linalg.solve(np.eye(3) - M, b), rtol=0, atol=1e-8)
    assert history[-1] <= ACCURACY.fixed_point
    assert len(history) == len(visited) <= 6  # repetition alone takes more than 30


def test_a_kink_is_passed() -> None:
    """z = max(0, 1 - z / 2) componentwise, solved by 2/3."""
    seen: list[np.ndarray] = []

    def answer(z: np.ndarray) -> np.ndarray:
        seen.append(z)
        return np.maximum(0.0, 1.0 - z / 2)

    fixed_point(answer, np.array([9.0, 0.0]))
    np.testing.assert_allclose(seen[-1], 2 / 3, rtol=0, atol=1e-8)


def test_no_fixed_point_is_an_error_with_the_history() -> None:
    """z -> 1 where z <= 0, -1 where z > 0, has none."""
    with pytest.raises(p2p.ConvergenceError, match="did not settle in 60 rounds") as caught:
        fixed_point(lambda z: np.where(z > 0, -1.0, 1.0), np.zeros(1))
    assert len(caught.value.history) == 60
    assert min(caught.value.history) > 1e-3


def test_no_answer_ends_the_search() -> None:
    assert fixed_point(lambda z: None, np.zeros(2)) == []


def test_nothing_to_settle() -> None:
    assert fixed_point(lambda z: z, np.zeros(0)) == [0.0]
