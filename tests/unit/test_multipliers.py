"""Multipliers of an optimum that are not unique: found, and one chosen by the rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from pypsa_p2p.common.errors import ConvergenceError
from pypsa_p2p.solvers.multipliers import Optimum
from pypsa_p2p.solvers.program import Constraints

INF = np.inf


def optimum(
    rows: list[list[float]],
    right: list[float],
    upper: list[float],
    cost: list[float],
    x: list[float],
    start: list[float],
) -> Optimum:
    """Equations in x >= 0, below `upper`, every row a price of energy; `start` are multipliers."""
    A, n = sp.csr_matrix(np.array(rows)), len(cost)
    program = Constraints(
        P=sp.csc_matrix((n, n)),
        c=np.array(cost),
        A=A,
        lower=np.array(right),
        upper=np.array(right),
        x_lower=np.zeros(n),
        x_upper=np.array(upper),
    )
    m = len(right)
    return Optimum(
        program=program,
        x=np.array(x),
        gradient=np.array(cost),
        row_dual=np.array(start),
        of_column=np.ones(n),
        of_row=np.ones(m),
        priced=np.ones(m),
        tidy=np.ones(m, dtype=bool),
        held=np.zeros(m, dtype=bool),
    )


def test_a_price_between_two_offers() -> None:
    """1 MW is had from 1 MW at 1; a further one would cost 3."""
    found = optimum([[1.0, 1.0]], [1.0], [1.0, 5.0], [1.0, 3.0], [1.0, 0.0], [2.7])
    value, unique = found.by_rule()
    assert value == pytest.approx([2.0]) and not unique.any()
    low, high = found.face.reach(np.array([0]))
    assert (low, high) == (pytest.approx([1.0]), pytest.approx([3.0]))


def test_what_is_unique_stays() -> None:
    """Half of the first offer is used: 1, whatever the solver's rounding."""
    found = optimum([[1.0, 1.0]], [1.0], [2.0, 5.0], [1.0, 3.0], [1.0, 0.0], [1.0 + 1e-9])
    value, unique = found.by_rule()
    assert value.tolist() == [1.0 + 1e-9] and unique.all() and not found.free.size


@pytest.mark.parametrize("start", [4.0, 5.0, 1e7])
def test_the_finite_end_wherever_the_solver_stopped(start: float) -> None:
    found = optimum([[1.0, 1.0]], [2.0], [1.0, 1.0], [1.0, 4.0], [1.0, 1.0], [start])
    value, unique = found.by_rule()
    assert value == pytest.approx([4.0], abs=1e-7) and not unique.any()
    low, high = found.face.reach(np.array([0]))
    assert low == pytest.approx([4.0]) and high.tolist() == [INF]


def test_without_any_limit_the_nearest_to_nothing() -> None:
    """Two columns without room: the price may be anything."""
    found = optimum([[1.0, -1.0]], [0.0], [0.0, 0.0], [7.0, -7.0], [0.0, 0.0], [3.0])
    value, unique = found.by_rule()
    assert value == pytest.approx([0.0], abs=1e-9) and not unique.any()


def test_parts_have_their_own_ends() -> None:
    """A bargain between 1 and 3 beside a price from 4 up: 2 and 4, not 1 and 4."""
    rows = [[1.0, 1.0, 0, 0], [0, 0, 1.0, 1.0]]
    found = optimum(
        rows,
        [1.0, 2.0],
        [1.0, 5.0, 1.0, 1.0],
        [1.0, 3.0, 0.0, 4.0],
        [1.0, 0.0, 1.0, 1.0],
        [2.0, 9.0],
    )
    value, unique = found.by_rule()
    assert value == pytest.approx([2.0, 4.0], abs=1e-7) and not unique.any()


def test_an_end_that_is_no_point_is_the_one_nearest_to_nothing() -> None:
    """y1 + y2 = 6 by a column inside its limits, each in [1, 5]: 3 and 3, from either corner."""
    rows = [[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]]
    x = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    upper = [2.0, 1.0, 9.0, 1.0, 9.0, 0.0]
    cost = [6.0, 1.0, 5.0, 1.0, 5.0, 0.0]
    for start in ([1.0, 5.0], [5.0, 1.0], [2.0, 4.0]):
        found = optimum(rows, [2.0, 2.0], upper, cost, x, start)
        value, unique = found.by_rule()
        assert value == pytest.approx([3.0, 3.0], abs=1e-6) and not unique.any()


def test_probabilities_do_not_matter() -> None:
    """In a scenario of probability 1e-3 multipliers are a thousandth, and the rule is the same."""
    p = 1e-3
    found = optimum([[1.0, 1.0]], [1.0], [1.0, 5.0], [p, 3 * p], [1.0, 0.0], [2.7 * p])
    found = replace(found, of_column=np.full(2, p), of_row=np.full(1, p))
    assert found.by_rule()[0] == pytest.approx([2 * p])


def test_rows_that_are_held_stay() -> None:
    found = optimum([[1.0, 1.0]], [1.0], [1.0, 5.0], [1.0, 3.0], [1.0, 0.0], [2.7])
    value, unique = replace(found, held=np.array([True])).by_rule()
    assert value.tolist() == [2.7] and unique.all()


def test_equations_of_many_terms_may_fix_all() -> None:
    """Three columns inside their limits with three multipliers each: no one after the other."""
    rows = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 4.0], [1.0, 3.0, 9.0]])
    y = np.array([1.0, 2.0, 3.0])
    cost = (rows.T @ y).tolist()
    found = optimum(
        rows.tolist(), rows.sum(axis=1).tolist(), [9.0] * 3, cost, [1.0] * 3, y.tolist()
    )
    assert not found.free.size and found.by_rule()[1].all()
    loose = replace(found, program=replace(found.program, x_upper=np.array([9.0, 9.0, 1.0])))
    assert loose.free.size == 3 and not loose.by_rule()[1].any()


def test_what_is_no_optimum_has_no_prices() -> None:
    """Half of a MWh that costs 1 is bought at 3: no price makes both of it."""
    found = optimum([[1.0, 1.0]], [1.0], [1.0, 5.0], [1.0, 3.0], [0.5, 0.5], [2.0])
    with pytest.raises(ConvergenceError, match="no prices at which everybody"):
        replace(found, known=False).face.nearest_possible()
