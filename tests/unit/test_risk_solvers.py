"""Risk programs: numbers by hand, laws, and agreement of two independent methods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from pypsa_p2p.solvers import risk_averse
from pypsa_p2p.solvers.backends.conic import solve_risk_conic
from pypsa_p2p.solvers.backends.interior_point import solve_risk_interior_point
from pypsa_p2p.solvers.limits import probability_of
from pypsa_p2p.solvers.program import UNOWNED, RiskProgram, no_solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import risk_residuals
from pypsa_p2p.solvers.risk_averse import solve_risk
from tests.unit.solver_markets import (
    neutral,
    one_scenario,
    random_market,
    three_nodes,
    without_rows,
)

SOLVERS = [solve_risk_interior_point, solve_risk_conic]


@pytest.mark.parametrize("solve", SOLVERS)
def test_three_nodes(solve: Any) -> None:
    """MODEL.md section 9, risk-averse without contracts."""
    program = three_nodes()
    solution = solve(program)
    assert solution.objective == pytest.approx(13.9771248, abs=1e-7)
    value = program.tail(program.costs(solution.x)).value
    assert value == pytest.approx([-0.678826, 3.981606, 10.674345], abs=1e-6)
    tau = solution.risk_adjusted_probability.reshape(3, 3)
    expected = [[0.35808, 0.28384, 0.35808], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
    assert tau == pytest.approx(np.array(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("surplus", "attitude", "objective"),
    [
        (True, None, 13.9771248),
        (False, 0.06910997716902567, 8.2748992),
        (True, 0.06910997716902567, 8.1478275),
        (False, 0.0, 7.6102899),
    ],
)
def test_three_nodes_objectives(surplus: bool, attitude: float | None, objective: float) -> None:
    chi = None if attitude is None else np.full(3, attitude)
    solution = solve_risk(three_nodes(chi, surplus=surplus))
    assert solution.objective == pytest.approx(objective, abs=1e-7)


UNLIKELY = np.geomspace(1.0, 1e-6, 12)
STRESS: dict[str, dict[str, Any]] = {
    "plain": {},
    "nearly neutral": {"attitude": np.full(6, 1e-6)},
    "nearly worst case": {"attitude": np.full(6, 0.99)},
    "some neutral": {"attitude": np.array([0.0, 0.8, 0.0, 0.3, 0.9, 0.0])},
    "no renewables": {"renewable": np.zeros((12, 2, 6))},
    "constant import price": {"import_price": 0.0},
    "no surplus": {"surplus": False},
    "part risk-averse": {"weight": 0.3},
    "community": {"attitude": np.array([0.7]), "community": True},
    "unlikely scenarios": {"probability": UNLIKELY / UNLIKELY.sum()},
    "equal prices": {"price": np.ones(18), "import_price": 0.0},
    "equal scenarios": {"demand": np.full((12, 2, 6), 5.0), "renewable": np.ones((12, 2, 6))},
}


@pytest.mark.parametrize("name", STRESS)
@pytest.mark.parametrize("snapshots", [1, 2])
def test_interior_point_is_exact_and_agrees_with_cones(name: str, snapshots: int) -> None:
    changes = dict(STRESS[name])
    for key in ("renewable", "demand"):
        if key in changes:
            changes[key] = changes[key][:, :snapshots]
    program = random_market(6, 12, snapshots, seed=7, **changes)
    first, second = solve_risk_interior_point(program), solve_risk_conic(program)
    assert first.status == "optimal"
    assert risk_residuals(program, first).worst <= 1e-9
    assert risk_residuals(program, second).gap <= 1e-7
    assert first.objective == pytest.approx(second.objective, rel=1e-7)


def test_neutral_is_the_quadratic_program() -> None:
    for changes in ({"attitude": np.zeros(6)}, {"weight": 0.0}):
        program = random_market(seed=1, **changes)
        solution, expected = solve_risk(program), solve_quadratic(neutral(program))
        assert solution.objective == pytest.approx(expected.objective, abs=1e-12)
        assert solution.risk_adjusted_probability == pytest.approx(program.probability)
        assert risk_residuals(program, solution).worst <= 1e-9


def test_prices_of_unlikely_scenarios_are_as_good_as_those_of_likely_ones() -> None:
    """Nothing couples neutral scenarios: prices / p are those of each scenario on its own."""
    p = np.array([1.0 - 1e-6 - 1e-4 - 1e-2, 1e-2, 1e-4, 1e-6])
    program = random_market(6, 4, seed=3, probability=p, attitude=np.zeros(6))
    together = solve_risk(program).row_dual.reshape(4, -1) / p[:, None]
    for scenario in range(4):
        alone = solve_quadratic(neutral(one_scenario(program, scenario))).row_dual
        assert together[scenario, :6] == pytest.approx(alone[:6], abs=1e-6)


def test_worst_case_is_the_limit_of_high_attitudes() -> None:
    """Beyond 1 - min p the tail is the costliest scenario alone: attitude no longer matters."""
    high = random_market(6, 5, seed=4, attitude=np.full(6, 0.81))
    higher = random_market(6, 5, seed=4, attitude=np.full(6, 0.99))
    solution = solve_risk(high)
    assert solution.objective == pytest.approx(solve_risk(higher).objective, rel=1e-9)
    worst = high.costs(solution.x).reshape(6, 5).max(axis=1).sum()
    assert solution.objective == pytest.approx(worst, rel=1e-9)


def test_weighted_quadratic_program_has_the_same_value_and_prices() -> None:
    """MODEL.md section 3: at tau the market is the ordinary QP with weights tau."""
    program = random_market(6, 8, seed=5, weight=0.9)
    solution = solve_risk(program)
    tau = solution.risk_adjusted_probability
    assert tau is not None
    again = solve_quadratic(program.weighted(tau))
    assert again.objective == pytest.approx(solution.objective, rel=1e-8)
    assert again.row_dual == pytest.approx(solution.row_dual, abs=1e-6)


def test_value_at_risk_is_that_of_the_costs() -> None:
    program = random_market(6, 9, seed=6)
    solution = solve_risk(program)
    tail = program.tail(program.costs(solution.x))
    assert solution.value_at_risk == pytest.approx(tail.value_at_risk)
    assert solution.objective == pytest.approx(tail.value.sum())


def test_order_of_columns_and_rows_does_not_matter() -> None:
    program = random_market(6, 7, seed=9)
    m, n = program.A.shape
    rng = np.random.default_rng(1)
    row, column = rng.permutation(m), rng.permutation(n)
    mixed = replace(
        program,
        P=program.P[:, column][column, :],
        c=program.c[column],
        A=program.A[row][:, column],
        lower=program.lower[row],
        upper=program.upper[row],
        x_lower=program.x_lower[column],
        x_upper=program.x_upper[column],
        cell=program.cell[column],
    )
    solution, expected = solve_risk(mixed), solve_risk(program)
    assert solution.objective == pytest.approx(expected.objective, rel=1e-9)
    assert solution.row_dual == pytest.approx(expected.row_dual[row], abs=1e-7)


def two_scenarios(**changes: Any) -> RiskProgram:
    """One prosumer, costs x and -2 x in two scenarios, x decided before: it belongs to nobody.

    Columns x, x_1, x_2 with x_1 = x_2 = x.
    """
    data: dict[str, Any] = {
        "P": sparse.csc_matrix((3, 3)),
        "c": np.array([0.0, 1.0, -2.0]),
        "A": sparse.csr_matrix([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]]),
        "lower": np.zeros(2),
        "upper": np.zeros(2),
        "x_lower": np.full(3, -np.inf),
        "x_upper": np.full(3, np.inf),
        "cell": np.array([UNOWNED, 0, 1]),
        "constant": np.zeros(2),
        "group": np.zeros(2, dtype=np.int64),
        "probability": np.full(2, 0.5),
        "least": np.zeros(2),
        "most": np.ones(2),
    }
    return RiskProgram(**(data | changes))


@pytest.mark.parametrize("solve", SOLVERS)
def test_first_stage_column_hedges(solve: Any) -> None:
    """max(x, -2 x) is least at x = 0, where tau = (2/3, 1/3); the expectation is unbounded."""
    solution = solve(two_scenarios())
    assert solution.objective == pytest.approx(0.0, abs=1e-8)
    assert solution.risk_adjusted_probability == pytest.approx([2.0 / 3.0, 1.0 / 3.0], abs=1e-7)
    assert solve_risk(two_scenarios()).status == "optimal"


def test_unowned_columns_belong_to_the_likeliest_scenario_they_touch() -> None:
    of_column, of_row = probability_of(two_scenarios(probability=np.array([0.9, 0.1])))
    assert of_column == pytest.approx([0.9, 0.9, 0.1])
    assert of_row == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize("solve", SOLVERS)
def test_blocks_of_two(solve: Any) -> None:
    """Congestion a (q + r)^2 within a cell is a singular 2 x 2 block.

    min max((q + r)^2 - 2 q, (q + r)^2 + 1/5 - 2 r) for q, r in [0, 3] decided before: with
    q + r = s and q - r = d the costs are s^2 - s - d and s^2 - s + d + 1/5, equal at d = -1/10.
    What is left, s^2 - s + 1/10, is least at s = 1/2: -3/20, at q = 1/5 and r = 3/10.
    """
    block = sparse.csr_matrix([[2.0, 2.0], [2.0, 2.0]])
    link = sparse.csr_matrix([[1.0, 0, -1, 0, 0, 0], [0, 1.0, 0, -1, 0, 0]])
    program = two_scenarios(
        P=sparse.block_diag([sparse.csc_matrix((2, 2)), block, block], format="csc"),
        c=np.array([0.0, 0.0, -2.0, 0.0, 0.0, -2.0]),
        A=sparse.vstack([link, link[:, [0, 1, 4, 5, 2, 3]]]).tocsr(),
        lower=np.zeros(4),
        upper=np.zeros(4),
        x_lower=np.zeros(6),
        x_upper=np.full(6, 3.0),
        cell=np.array([UNOWNED, UNOWNED, 0, 0, 1, 1]),
        constant=np.array([0.0, 0.2]),
    )
    solution = solve(program)
    assert solution.objective == pytest.approx(-0.15, abs=1e-7)
    assert solution.x[:2] == pytest.approx([0.2, 0.3], abs=1e-4)


def test_bounds_serve_as_well_as_rows() -> None:
    program = random_market(6, 8, seed=10)
    bounded, kept = without_rows(program)
    by_row, by_bound = solve_risk(program), solve_risk(bounded)
    assert by_row.objective == pytest.approx(by_bound.objective, rel=1e-9)
    assert by_row.row_dual[kept] == pytest.approx(by_bound.row_dual, abs=1e-7)


def test_unbounded_is_reported() -> None:
    program = two_scenarios(c=np.array([-5.0, 1.0, -2.0]))
    assert solve_risk(program).status == "unbounded"


def test_cones_take_over_and_nobody_pretends(monkeypatch: pytest.MonkeyPatch) -> None:
    program = random_market(seed=3)
    expected = solve_risk(program).objective
    gives_up = lambda program: no_solution(program, "failed", "nobody")  # noqa: E731
    monkeypatch.setattr(risk_averse, "solve_risk_interior_point", gives_up)
    second = solve_risk(program)
    assert second.solver == "clarabel"
    assert second.objective == pytest.approx(expected, rel=1e-8)
    monkeypatch.setattr(risk_averse, "solve_risk_conic", gives_up)
    assert solve_risk(program).status == "failed"


def test_residuals_see_a_wrong_tau() -> None:
    program = random_market(seed=3)
    good = solve_risk(program)
    wrong = replace(good, risk_adjusted_probability=program.probability)
    assert risk_residuals(program, wrong).worst > 1e-3
    heavy = replace(good, risk_adjusted_probability=2.0 * program.probability)
    assert risk_residuals(program, heavy).envelope >= 1.0 - 1e-9


def test_everything_fixed() -> None:
    """Costs 1 and -2 with nothing to decide: the tail of half the probability is the first."""
    program = two_scenarios(x_lower=np.ones(3), x_upper=np.ones(3))
    solution = solve_risk(program)
    assert solution.objective == pytest.approx(1.0)
    assert solution.risk_adjusted_probability == pytest.approx([1.0, 0.0])
    assert solve_risk_conic(program).objective == pytest.approx(1.0)


def test_shapes_and_ranges_are_checked() -> None:
    with pytest.raises(ValueError, match=r"c has shape \(2,\)"):
        two_scenarios(c=np.zeros(2))
    with pytest.raises(ValueError, match="between least and most"):
        two_scenarios(most=np.array([1.0, 0.4]))
    with pytest.raises(ValueError, match="between least and most"):
        two_scenarios(least=np.array([-0.1, 0.0]))
