"""Convex quadratic programs: PIQP, checked; where it does not get there Clarabel, and a simplex."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.units import typical
from pypsa_p2p.solvers.backends.clarabel import LinearCones, solve_cones
from pypsa_p2p.solvers.backends.highs import solve_simplex
from pypsa_p2p.solvers.backends.piqp import Point, solve_piqp
from pypsa_p2p.solvers.farkas import proof_of_contradiction
from pypsa_p2p.solvers.limits import from_reach, within_reach
from pypsa_p2p.solvers.presolve import Presolved, presolve
from pypsa_p2p.solvers.program import QuadraticProgram, Solution, no_solution
from pypsa_p2p.solvers.rays import falls_forever
from pypsa_p2p.solvers.residuals import quadratic_errors

logger = logging.getLogger(__name__)


def solve_quadratic(
    program: QuadraticProgram, good: float = ACCURACY.good, acceptable: float = ACCURACY.acceptable
) -> Solution:
    """Solve a convex quadratic program.

    Parameters
    ----------
    good : float, default 1e-9
        Residual, and hundredth of the relative error of prices, at which no other solver is asked.
        Solvers are asked for no more than a hundredth of it.
    acceptable : float, default 1e-8
        Residual, recomputed from the original program, above which there is no answer.

    Returns
    -------
    Solution
        "optimal" only if its residuals are acceptable; "infeasible" with the weights of the
        culprit rows in `certificate`; "unbounded"; or "failed".
    """
    near = within_reach(program)
    if near is not program:
        found = from_reach(program, near, _solved(near, good, acceptable))
        if found.status == "infeasible" or _worst(program, found) <= acceptable:
            return found
    return _solved(program, good, acceptable)


def _solved(program: QuadraticProgram, good: float, acceptable: float) -> Solution:
    reduction = presolve(program)
    if reduction.certificate is not None:
        return no_solution(program, "infeasible", "presolve", 0, reduction.certificate)
    if reduction.columns.size == 0:
        empty = np.zeros(0)
        return _restore(reduction, (empty, np.zeros(reduction.rows.size), empty, 0), "presolve")
    size = _cost_size(reduction.program)
    scaled = _scale_cost(reduction.program, 1.0 / size)
    best, iterations = _Judged.of(program, no_solution(program, "failed", "none")), 0
    rough = max(1.0, good / ACCURACY.good)
    for attempt in _attempts(reduction, scaled, size, rough):
        iterations += attempt.iterations
        proven = _proven(attempt, reduction) if best.worst > acceptable else None
        if proven is not None:
            return proven
        judged = (best, _Judged.of(program, attempt))
        best = min(judged, key=lambda answer: answer.rank(acceptable))
        if best.error <= good:
            return best.solution
    if best.worst <= acceptable:
        return best.solution
    return no_solution(program, "failed", "piqp, clarabel, highs", iterations)


def _proven(attempt: Solution, reduction: Presolved[QuadraticProgram]) -> Solution | None:
    """That there is no solution, as a solver says, with the proof of it; None without one.

    What an attempt says is in rows of the reduced program, what is proven in the original's.
    """
    if attempt.status == "unbounded" and falls_forever(reduction.program, solve_quadratic):
        return attempt
    if attempt.status == "infeasible":
        weights = proof_of_contradiction(reduction.program, attempt.certificate)
        if weights is not None:
            return replace(attempt, certificate=reduction.full_certificate(weights))
    return None


def _attempts(
    reduction: Presolved[QuadraticProgram], scaled: QuadraticProgram, size: float, rough: float
) -> Iterator[Solution]:
    """Answers, the fastest first; each is computed when it is asked for.

    A solver that raises has none, and the next is asked.
    """
    asked: list[Callable[[], Solution]] = [
        *(partial(_piqp, reduction, scaled, size, *least, rough) for least in ACCURACY.piqp),
        *(partial(_clarabel, reduction, scaled, size, least) for least in ACCURACY.clarabel),
    ]
    if not scaled.P.count_nonzero():
        asked.append(partial(_simplex, reduction, scaled, size))
    for solve in asked:
        try:
            yield solve()
        except (RuntimeError, ValueError, ArithmeticError) as error:
            logger.info("A solver stopped: %s", error)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judged:
    """An answer and how far it is from optimal, worked out once."""

    solution: Solution
    worst: float
    error: float  # the largest residual, prices included

    @classmethod
    def of(cls, program: QuadraticProgram, solution: Solution) -> _Judged:
        """Residuals of an answer; a solver's word counts for nothing."""
        if solution.status != "optimal" or not np.all(np.isfinite(solution.x)):
            return cls(solution=solution, worst=np.inf, error=np.inf)
        with np.errstate(over="ignore", invalid="ignore"):  # a diverged point is infinitely bad
            residuals, (off, largest) = quadratic_errors(program, solution)
        worst = residuals.worst
        error = max(worst, ACCURACY.of_prices * off / max(1.0, largest))
        return cls(solution=solution, worst=worst, error=error)

    def rank(self, acceptable: float) -> tuple[float, float]:
        """Smaller is better: prices count between answers that are acceptable."""
        return (0.0, self.error) if self.worst <= acceptable else (self.worst, 0.0)


def _worst(program: QuadraticProgram, solution: Solution) -> float:
    return _Judged.of(program, solution).worst


def _cost_size(program: QuadraticProgram) -> float:
    """Between a typical and the largest price, so that solvers see prices near 1.

    Without prices the same of curvatures. The largest alone may be that of what is never used.
    """
    for costs in (abs(program.c), abs(program.P.data)):
        usual = typical(costs)
        if usual is not None:
            return float(np.sqrt(usual * costs.max()))
    return 1.0


def _scale_cost(program: QuadraticProgram, factor: float) -> QuadraticProgram:
    return replace(program, P=program.P * factor, c=program.c * factor, constant=0.0)


def _rescale(point: Point, size: float) -> Point:
    x, y, z, iterations = point
    return x, size * y, size * z, iterations


def _restore(reduction: Presolved[QuadraticProgram], point: Point, solver: str) -> Solution:
    x, y, z, iterations = point
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged point is infinitely bad
        return reduction.solution(x, y, z, solver=solver, iterations=iterations)


def _piqp(
    reduction: Presolved[QuadraticProgram],
    program: QuadraticProgram,
    size: float,
    least: float,
    stalled: float,
    rough: float,
) -> Solution:
    """PIQP on the reduced, cost-scaled program."""
    return _restore(reduction, _rescale(solve_piqp(program, least, stalled, rough), size), "piqp")


def _simplex(
    reduction: Presolved[QuadraticProgram], program: QuadraticProgram, size: float
) -> Solution:
    """A corner of the reduced, cost-scaled program, which is linear."""
    corner = solve_simplex(program)
    if corner is None:
        return no_solution(reduction.original, "failed", "highs")
    return _restore(reduction, _rescale(corner, size), "highs")


def _clarabel(
    reduction: Presolved[QuadraticProgram],
    program: QuadraticProgram,
    size: float,
    regularisation: float,
) -> Solution:
    """Clarabel on the reduced, cost-scaled program; it also tells infeasible from unbounded."""
    lines = LinearCones.of(program)
    answer = solve_cones(
        program.P, program.c, lines.matrix, lines.offset, lines.cones, regularisation
    )
    y, z = lines.multipliers(answer.z)
    if answer.status == "optimal":
        point = (answer.x, y, z, answer.iterations)
        return _restore(reduction, _rescale(point, size), "clarabel")
    weights = y if answer.status == "infeasible" else None
    return no_solution(reduction.original, answer.status, "clarabel", answer.iterations, weights)
