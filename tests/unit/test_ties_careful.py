"""The quick way to the optimum of least expected cost, against the careful one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers import ties
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.solvers.face import Undecided, optimal_face
from pypsa_p2p.solvers.least_cost import LeastExpectedCost
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.risk_averse import solve_risk
from pypsa_p2p.solvers.sides import classify, risk_of
from pypsa_p2p.solvers.ties_careful import least_expected_cost_carefully
from tests.unit.solver_markets import neutral, random_market

KINDS: dict[str, dict[str, Any]] = {
    "prices differ": {},
    "one price": {"price": np.full(18, 0.5)},
    "no surplus": {"surplus": False},
    "over time": {"snapshots": 3, "scenarios": 4},
    "many scenarios": {"scenarios": 20},
    "unlikely": {"probability": np.array([0.9, 0.09, 0.009, 0.0009, 0.0001])},
}
EVERY = pytest.mark.parametrize(
    ("kind", "seed"), [(kind, seed) for kind in KINDS for seed in range(4)]
)


def drawn(kind: str, seed: int) -> RiskProgram:
    return random_market(seed=seed, **KINDS[kind])


def face_of(program: RiskProgram, solution: Solution) -> QuadraticProgram:
    tail = classify(program, solution)
    tau = np.where(tail.below, program.least, risk_of(solution)[0])
    unit = program.per_column(program.probability)
    return optimal_face(program.weighted(tau), solution, unit)


def tidied(program: RiskProgram, chosen: LeastExpectedCost) -> Vector:
    """Of the choice, the point with the least norm of all columns without curvature."""
    flat = np.flatnonzero(program.P.diagonal()[chosen.columns] == 0.0)
    weight = np.append(
        program.per_column(program.probability)[chosen.columns], np.ones(program.groups)
    )
    found = ties.least_norm(chosen.program, chosen.solution, flat, weight)
    assert found is not None
    x = chosen.x.copy()
    x[chosen.columns] = found[: chosen.columns.size]
    return x


@EVERY
def test_both_ways_find_the_same(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program = drawn(kind, seed)
    solution = solve_risk(program)
    face = face_of(program, solution)
    careful = least_expected_cost_carefully(program, solution, classify(program, solution), face)
    monkeypatch.setattr(ties, "least_expected_cost_carefully", None)  # the quick way alone
    quick = ties.least_expected_cost(program, solution)
    assert quick is not None
    assert careful is not None
    expected, found = (program.probability @ program.costs(one.x) for one in (careful, quick))
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-8)
    size = abs(solution.x).max()
    np.testing.assert_allclose(
        tidied(program, quick), tidied(program, careful), rtol=0, atol=ACCURACY.promised * size
    )
    assert program.objective(quick.x) == pytest.approx(solution.objective, rel=1e-8, abs=1e-8)


@EVERY
def test_multipliers_of_the_choice(kind: str, seed: int) -> None:
    """Expected costs are stationary on the face: what its columns' rows leave is at a bound."""
    program = drawn(kind, seed)
    solution = solve_risk(program)
    chosen = ties.least_expected_cost(program, solution)
    assert chosen is not None
    below = ~chosen.weighed
    gradient = (program.P @ chosen.x + program.c) * program.per_column(chosen.weight)
    left = (gradient - program.A.T @ chosen.row_dual) / program.per_column(program.probability)
    curved = (program.P.diagonal() > 0.0) & np.append(below, False)[program.cell]
    np.testing.assert_allclose(left[curved], 0.0, atol=1e-5)


def test_the_careful_way_is_asked_where_the_quick_one_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = drawn("prices differ", 0)
    solution = solve_risk(program)
    wanted = ties.least_expected_cost(program, solution)
    monkeypatch.setattr(ties, "_quickly", lambda *_: None)
    found = ties.least_expected_cost(program, solution)
    assert wanted is not None
    assert found is not None
    assert found.columns.size > wanted.columns.size
    np.testing.assert_allclose(program.costs(found.x), program.costs(wanted.x), atol=1e-6)


def test_a_face_leaves_little_undecided() -> None:
    """Trades at prices that all differ are unique: rows settle them one after the other."""
    program = neutral(random_market(seed=3))
    solution = solve_quadratic(program)
    face = optimal_face(program, solution, np.ones(program.c.size))
    rest = Undecided.of(face, solution.x)
    open_columns = (face.x_lower < face.x_upper).sum()
    assert rest.region.columns.size < open_columns
    everywhere = [
        solve_quadratic(QuadraticProgram(**(vars(face) | {"c": c}))).x
        for c in np.random.default_rng(0).normal(size=(3, face.c.size))
    ]
    decided = np.setdiff1d(np.arange(face.c.size), rest.region.columns)
    for x in everywhere:
        np.testing.assert_allclose(x[decided], solution.x[decided], atol=1e-6)
