"""Quadratic programs, presolve and CVaR: numbers by hand and laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from pypsa_p2p.solvers import quadratic
from pypsa_p2p.solvers.program import QuadraticProgram, Solution, no_solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.rays import falls_forever
from pypsa_p2p.solvers.residuals import quadratic_residuals
from pypsa_p2p.solvers.risk_averse import solve_risk
from pypsa_p2p.solvers.tail import worst
from tests.unit.solver_markets import (
    Array,
    cvar,
    neutral,
    quadratic_program,
    random_market,
    three_nodes,
    without_rows,
)

# --------------------------------------------------------------------------- CVaR


def test_cvar_by_hand() -> None:
    """MODEL.md section 9: (0.25 * 40 + 0.15 * 30) / 0.4 = 36.25."""
    costs, p = np.array([20.0, 40.0, 10.0, 30.0]), np.full(4, 0.25)
    tail = cvar(costs, p, 0.6)
    assert tail.value_at_risk == pytest.approx([30.0])
    assert tail.value == pytest.approx([36.25], abs=1e-13)
    assert tail.probability == pytest.approx([0.0, 0.625, 0.0, 0.375], abs=1e-13)
    assert cvar(costs, p, 0.0).value == pytest.approx([25.0])
    assert cvar(costs, p, 0.0).probability == pytest.approx(p)


def test_cvar_shares_ties_in_proportion_to_probability() -> None:
    """Tail mass 0.5: 0.2 above, 0.3 left for ties of 0.2 and 0.4, so half of each."""
    tail = cvar(np.array([5.0, 2.0, 2.0, 1.0]), np.array([0.2, 0.2, 0.4, 0.2]), 0.5)
    assert tail.probability == pytest.approx([0.4, 0.2, 0.4, 0.0], abs=1e-14)
    assert tail.value == pytest.approx([3.2])


@pytest.mark.parametrize("seed", range(5))
def test_cvar_is_the_minimum_over_value_at_risk(seed: int) -> None:
    """(25): min over eta of eta + E[(X - eta)+] / (1 - chi); the minimum is at some cost."""
    rng = np.random.default_rng(seed)
    group = np.repeat([0, 1, 2], [1, 7, 20])
    group = group[rng.permutation(group.size)]
    p = rng.uniform(0.1, 1.0, group.size)
    p = p / np.bincount(group, weights=p)[group]
    costs, chi = rng.normal(0.0, 10.0, group.size), rng.uniform(0.0, 0.99, 3)
    tail = cvar(costs, p, chi, group=group)
    for name in range(3):
        x, q = costs[group == name], p[group == name]
        excess = np.maximum(x[:, None] - x[None, :], 0.0)
        formula = x + q @ excess / (1.0 - chi[name])
        tau = tail.probability[group == name]
        assert tail.value[name] == pytest.approx(formula.min(), abs=1e-11)
        assert x[formula.argmin()] == pytest.approx(tail.value_at_risk[name])
        assert tau.sum() == pytest.approx(1.0)
        assert np.all(tau <= q / (1.0 - chi[name]) + 1e-14)
        assert tau @ x == pytest.approx(tail.value[name])


# --------------------------------------------------------------------------- presolve


def test_tightest_singleton_row_takes_the_multiplier() -> None:
    """min (x - 3)^2, 2x <= 2, x <= 5, x <= 4: x = 1, gradient -4 = 2 y of the first row."""
    program = quadratic_program(
        [2.0], [-6.0], [[2.0], [1.0]], [-np.inf, -np.inf], [2.0, 5.0], x_upper=[4.0]
    )
    solution = solve_quadratic(program)
    assert solution.x == pytest.approx([1.0])
    assert solution.row_dual == pytest.approx([-2.0, 0.0])
    assert solution.bound_dual == pytest.approx([0.0])


@pytest.mark.parametrize(("cost", "expected"), [(3.0, [1.0, 0.0]), (-5.0, [0.0, 2.0])])
def test_fixing_rows_take_the_reduced_cost_by_its_sign(cost: float, expected: list[float]) -> None:
    """x = 1 by 4x >= 4 and -2x >= -2: x^2/2 + cost x has gradient 1 + cost there."""
    program = quadratic_program([1.0], [cost], [[4.0], [-2.0]], [4.0, -2.0], [np.inf, np.inf])
    solution = solve_quadratic(program)
    assert solution.x == pytest.approx([1.0])
    assert solution.row_dual == pytest.approx(expected)
    assert quadratic_residuals(program, solution).worst < 1e-12


def test_a_column_fixed_by_its_own_bounds_keeps_its_multiplier() -> None:
    program = quadratic_program(
        [1.0, 1.0], [4.0, 0.0], [[1.0, 0.0], [1.0, 1.0]], [1.0, 5.0], [2.0, 5.0], [1, 0], [1, 9]
    )
    solution = solve_quadratic(program)
    assert solution.x == pytest.approx([1.0, 4.0])
    assert solution.row_dual == pytest.approx([0.0, 4.0])
    assert solution.bound_dual == pytest.approx([1.0, 0.0], abs=1e-9)


def test_a_fixed_column_keeps_pulling_on_the_others() -> None:
    """x^2 + x y + y^2 with x = 2: y = -1, and x is held by the gradient 2 x + y = 3."""
    program = quadratic_program([[2.0, 1.0], [1.0, 2.0]], [0.0, 0.0], [[1.0, 0.0]], [2.0], [2.0])
    solution = solve_quadratic(program)
    assert solution.x == pytest.approx([2.0, -1.0])
    assert solution.row_dual == pytest.approx([3.0])
    assert solution.objective == pytest.approx(3.0)


@pytest.mark.parametrize("seed", range(3))
def test_singleton_rows_and_bounds_are_the_same_limits(seed: int) -> None:
    program = random_market(seed=seed)
    bounded, kept = without_rows(program)
    by_row, by_bound = solve_quadratic(neutral(program)), solve_quadratic(neutral(bounded))
    assert by_row.objective == pytest.approx(by_bound.objective, rel=1e-10)
    assert by_row.row_dual[kept] == pytest.approx(by_bound.row_dual, abs=1e-7)
    assert not by_row.bound_dual.any()


# --------------------------------------------------------------------------- quadratic


@pytest.mark.parametrize("surplus", [False, True])
def test_three_nodes_neutral(surplus: bool) -> None:
    """MODEL.md section 9, risk-neutral; price at node n is minus the balance's dual over p."""
    program = three_nodes(surplus=surplus)
    solution = solve_quadratic(neutral(program))
    assert solution.objective == pytest.approx(7.4887587 if surplus else 7.6102899, abs=1e-7)
    if surplus:
        return
    costs = program.costs(solution.x).reshape(3, 3)
    expected = [
        [-3.22135, -3.05782, 3.22837],
        [3.98272, -4.83611, -5.21079],
        [7.00725, 9.24625, 15.69234],
    ]
    assert costs == pytest.approx(np.array(expected), abs=1e-5)
    prices = -3.0 * solution.row_dual.reshape(3, -1)[:, :3]
    at_zero = np.array([0.93944, 0.52706, 2.11376])
    assert prices == pytest.approx(at_zero[:, None] + np.array([0.0, 2.0, 1.0]), abs=1e-5)


def gives_up(program: QuadraticProgram, *_: float) -> tuple[Array, Array, Array, int]:
    """A first solver that returns nothing usable."""
    m, n = program.A.shape
    return np.full(n, np.nan), np.zeros(m), np.zeros(n), 7


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("backend", ["piqp", "clarabel"])
def test_quadratic_residuals_are_small(
    seed: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = neutral(random_market(8, 10, 2, seed=seed))
    if backend == "clarabel":
        monkeypatch.setattr(quadratic, "solve_piqp", gives_up)
    solution = solve_quadratic(program)
    assert solution.status == "optimal"
    assert solution.solver == backend
    assert quadratic_residuals(program, solution).worst <= 1e-9


def test_multipliers_without_limit_hide_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """min (x - 2)^2 with x + y >= 1, x + y <= 1 and y free at a price of 1: x = 2.5, y = -1.5.

    Only the difference of the two rows' multipliers matters, so that a solver may let both grow,
    and beside 1e9 a price that is wrong by 0.1 looks like rounding.
    """
    program = quadratic_program(
        [2.0, 0.0], [-4.0, 1.0], [[1.0, 1.0], [1.0, 1.0]], [1.0, -np.inf], [np.inf, 1.0]
    )

    def drifted(reduced: QuadraticProgram, *_: float) -> tuple[Array, Array, Array, int]:
        return np.array([2.4, -1.4]), np.array([1e9, -1e9]) + 0.5, np.zeros(2), 7

    monkeypatch.setattr(quadratic, "_cost_size", lambda program: 1.0)
    monkeypatch.setattr(quadratic, "solve_piqp", drifted)
    solution = solve_quadratic(program)
    assert solution.solver == "clarabel"
    assert solution.x == pytest.approx([2.5, -1.5], abs=1e-8)


def test_an_acceptable_answer_outweighs_a_claim_of_infeasibility(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second solver is asked for more exactness; where none answers, its claim is checked."""
    program = neutral(random_market(4, 3, 1, seed=0))
    first = solve_quadratic(program)

    def denies(reduction: Any, *_: Any) -> Solution:
        return no_solution(reduction.original, "infeasible", "clarabel")

    monkeypatch.setattr(quadratic, "_clarabel", denies)
    assert solve_quadratic(program, good=0.0).x == pytest.approx(first.x)
    monkeypatch.setattr(quadratic, "solve_piqp", gives_up)
    assert solve_quadratic(program, good=0.0).status == "failed"  # HiGHS finds a point


def farkas(program: QuadraticProgram, weights: Array) -> float:
    """How far the weighted rows are from holding together: positive proves infeasibility."""
    assert np.max(abs(program.A.T @ weights)) <= 1e-6 * np.max(abs(weights))
    side = np.where(weights > 0.0, program.lower, program.upper)
    used = abs(weights) > 1e-6 * np.max(abs(weights))
    return float(weights[used] @ side[used])


def test_infeasible_by_presolve_names_the_two_rows() -> None:
    program = quadratic_program(
        [1.0], [0.0], [[1.0], [2.0], [-1.0]], [-9.0, 4.0, -1.0], [9.0, np.inf, np.inf]
    )
    solution = solve_quadratic(program)
    assert solution.status == "infeasible"
    assert solution.certificate is not None
    assert np.flatnonzero(solution.certificate).tolist() == [1, 2]
    assert farkas(program, solution.certificate) > 0.0


def test_infeasible_empty_row_after_fixing_names_what_fixed_its_columns() -> None:
    """x = 1 and y = 2 by rows 0 and 1, so x + y = 4 cannot hold."""
    program = quadratic_program(
        [1.0, 1.0], [0.0, 0.0], [[1, 0], [0, 1], [1, 1], [1, 0]], [1, 2, 4, 0], [1, 2, 4, 9]
    )
    solution = solve_quadratic(program)
    assert solution.status == "infeasible"
    assert solution.certificate is not None
    assert np.flatnonzero(solution.certificate).tolist() == [0, 1, 2]
    assert farkas(program, solution.certificate) > 0.0


def test_infeasible_market_has_a_certificate_in_its_own_rows() -> None:
    """More must-take generation than everybody can consume, with no surplus allowed."""
    program = random_market(5, 3, surplus=False, renewable=np.full((3, 1, 5), 30.0))
    for solve in (lambda: solve_quadratic(neutral(program)), lambda: solve_risk(program)):
        solution = solve()
        assert solution.status == "infeasible"
        assert np.isnan(solution.objective)
        assert solution.certificate is not None
        assert farkas(neutral(program), solution.certificate) > 0.0


def test_unbounded_is_reported() -> None:
    program = quadratic_program([1.0, 0.0], [0.0, -1.0], [[1.0, -1.0]], [-np.inf], [3.0])
    assert solve_quadratic(program).status == "unbounded"


def lying(status: str) -> Any:
    """A solver that says so of whatever it is given."""
    return lambda reduction, *_: no_solution(reduction.original, status, "clarabel")


def raising(*_: Any) -> Any:
    raise RuntimeError("out of luck")


@pytest.mark.parametrize("clarabel", [lying("unbounded"), lying("infeasible"), raising])
@pytest.mark.parametrize("linear", [True, False])
def test_a_solvers_word_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, clarabel: Any, linear: bool
) -> None:
    """x + y = 1 at 1 and 3, x up to .4: the simplex knows what is linear, nobody the other."""
    monkeypatch.setattr(quadratic, "_clarabel", clarabel)
    monkeypatch.setattr(quadratic, "solve_piqp", raising)
    curvature = [0.0, 0.0] if linear else [0.0, 1.0]
    program = quadratic_program(
        curvature, [1.0, 3.0], [[1.0, 1.0]], [1.0], [1.0], [0.0, 0.0], [0.4, 9.0]
    )
    found = solve_quadratic(program)
    if not linear:
        assert found.status == "failed"
        return
    assert found.solver == "highs"
    assert found.x == pytest.approx([0.4, 0.6])
    assert found.row_dual == pytest.approx([3.0])
    assert found.bound_dual == pytest.approx([-2.0, 0.0])


def test_little_curvature_is_no_ray() -> None:
    """x^2 / 2e8 - x is least at 1e8; y from 0 up has no curvature, and costs or earns."""
    program = quadratic_program([1e-8, 0.0], [-1.0, 1.0], [[0.0, 1.0]], [0.0], [np.inf])
    assert not falls_forever(program, solve_quadratic)
    assert falls_forever(replace(program, c=np.array([-1.0, -1.0])), solve_quadratic)


@pytest.mark.parametrize("seed", range(20))
def test_a_ray_is_found_where_there_is_one(seed: int) -> None:
    """Random cones: HiGHS says unbounded of the linear program exactly where one falls."""
    rng = np.random.default_rng(seed)
    A, c = rng.normal(size=(4, 6)), rng.normal(size=6)
    program = quadratic_program(
        [0.0] * 6, c.tolist(), A.tolist(), [-np.inf] * 4, [1.0] * 4, [0.0] * 6, [np.inf] * 6
    )
    unbounded = linprog(c, A_ub=A, b_ub=np.ones(4)).status == 3
    assert falls_forever(program, solve_quadratic) == unbounded


def test_everything_fixed() -> None:
    program = quadratic_program([1.0], [2.0], [[1.0], [3.0]], [2.0, -9.0], [2.0, 9.0])
    solution = solve_quadratic(program)
    assert solution.x == pytest.approx([2.0])
    assert solution.objective == pytest.approx(6.0)
    assert solution.row_dual == pytest.approx([4.0, 0.0])


def test_residuals_see_every_kind_of_error() -> None:
    program = neutral(random_market())
    good = solve_quadratic(program)
    rng = np.random.default_rng(0)
    noise = 1e-3 * rng.normal(size=good.x.size)
    assert quadratic_residuals(program, replace(good, x=good.x + noise)).primal > 1e-5
    wrong = replace(good, row_dual=good.row_dual * 1.01)
    assert quadratic_residuals(program, wrong).stationarity > 1e-4
    flipped = replace(good, row_dual=-good.row_dual, bound_dual=-good.bound_dual)
    assert quadratic_residuals(program, flipped).dual_sign > 0.1
    inactive = replace(good, row_dual=good.row_dual - 0.1 * np.isfinite(program.upper))
    assert quadratic_residuals(program, inactive).gap > 1e-2


@pytest.mark.parametrize("by_row", [False, True])
def test_an_idle_cost_hides_no_wrong_price(by_row: bool) -> None:
    """min (x - 2)^2 + 1e9 y with x + y = 1, y >= 0: the price is -2, and 1e-3 off is seen."""
    rows, low = [[1.0, 1.0], [0.0, 1.0]], [1.0, 0.0 if by_row else -np.inf]
    program = quadratic_program([2.0, 0.0], [-4.0, 1e9], rows, low, [1.0, np.inf])
    if not by_row:
        program = replace(program, x_lower=np.array([-np.inf, 0.0]))
    solution = solve_quadratic(program)
    assert solution.row_dual[0] == pytest.approx(-2.0, abs=1e-9)
    assert quadratic_residuals(program, solution).worst <= 1e-9
    off = np.array([1e-3, -1e-3 * by_row])
    of_bound = np.array([0.0, 1e-3 * (not by_row)])
    wrong = replace(
        solution, row_dual=solution.row_dual + off, bound_dual=solution.bound_dual - of_bound
    )
    assert quadratic_residuals(program, wrong).stationarity > 1e-4


def test_nothing_is_handed_out_where_nothing_is_left() -> None:
    """Least probabilities of a third each: rounding in their sum leaves none to the costliest."""
    found = worst(np.array([3.0, 1.0, 2.0]), np.full(3, 1 / 3), np.ones(3))
    assert found.probability == pytest.approx(np.full(3, 1 / 3), abs=1e-15)
    assert found.value == pytest.approx([2.0])
