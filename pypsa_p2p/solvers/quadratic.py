"""Convex quadratic programs: PIQP, checked; Clarabel where PIQP does not get there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.units import typical
from pypsa_p2p.solvers.backends.clarabel import LinearCones, solve_cones
from pypsa_p2p.solvers.backends.piqp import Point, solve_piqp
from pypsa_p2p.solvers.limits import from_reach, within_reach
from pypsa_p2p.solvers.presolve import Presolved, presolve
from pypsa_p2p.solvers.program import Constraints, QuadraticProgram, Solution, no_solution
from pypsa_p2p.solvers.residuals import price_error, quadratic_residuals

_INFEASIBLE = 2  # of scipy.optimize.linprog


def solve_quadratic(
    program: QuadraticProgram, good: float = ACCURACY.good, acceptable: float = ACCURACY.acceptable
) -> Solution:
    """Solve a convex quadratic program.

    Parameters
    ----------
    good : float, default 1e-9
        Residual, and hundredth of the relative error of prices, at which no other solver is asked.
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
    for attempt in _attempts(reduction, scaled, size):
        iterations += attempt.iterations
        told = attempt.status == "unbounded" or (
            attempt.status == "infeasible" and _contradictory(reduction.program)
        )
        if told and best.worst > acceptable:
            return attempt
        judged = (best, _Judged.of(program, attempt))
        best = min(judged, key=lambda answer: answer.rank(acceptable))
        if best.error <= good:
            return best.solution
    if best.worst <= acceptable:
        return best.solution
    return no_solution(program, "failed", "piqp, clarabel", iterations)


def _attempts(
    reduction: Presolved[QuadraticProgram], scaled: QuadraticProgram, size: float
) -> Iterator[Solution]:
    """Answers, the fastest first; each is computed when it is asked for."""
    for least, stalled in ACCURACY.piqp:
        yield _restore(reduction, _rescale(solve_piqp(scaled, least, stalled), size), "piqp")
    for regularisation in ACCURACY.clarabel:
        yield _clarabel(reduction, scaled, size, regularisation)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judged:
    """An answer and how far it is from optimal, worked out once."""

    solution: Solution
    worst: float
    error: float  # the largest residual, prices included

    @classmethod
    def of(cls, program: QuadraticProgram, solution: Solution) -> _Judged:
        """Residuals of an answer; a solver's word counts for nothing."""
        worst = _worst(program, solution)
        error = worst
        if worst < np.inf:
            off, largest = price_error(program, solution, np.ones(program.c.size))
            error = max(worst, ACCURACY.of_prices * off / max(1.0, largest))
        return cls(solution=solution, worst=worst, error=error)

    def rank(self, acceptable: float) -> tuple[float, float]:
        """Smaller is better: prices count between answers that are acceptable."""
        return (0.0, self.error) if self.worst <= acceptable else (self.worst, 0.0)


def _worst(program: QuadraticProgram, solution: Solution) -> float:
    if solution.status != "optimal" or not np.all(np.isfinite(solution.x)):
        return np.inf
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged point is infinitely bad
        return quadratic_residuals(program, solution).worst


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
    certificate = reduction.full_certificate(y) if answer.status == "infeasible" else None
    return no_solution(
        reduction.original, answer.status, "clarabel", answer.iterations, certificate
    )


def _contradictory(program: Constraints) -> bool:
    """Whether no x keeps the rows and bounds, by HiGHS: a second word on "infeasible"."""
    equal = program.lower == program.upper
    below, above = np.isfinite(program.lower) & ~equal, np.isfinite(program.upper) & ~equal
    A = program.A.tocsr()
    found = linprog(
        np.zeros(program.c.size),
        A_ub=sp.vstack([-A[below], A[above]]),
        b_ub=np.append(-program.lower[below], program.upper[above]),
        A_eq=A[equal],
        b_eq=program.lower[equal],
        bounds=np.column_stack([program.x_lower, program.x_upper]),
        options={"primal_feasibility_tolerance": ACCURACY.contradiction},
    )
    return bool(found.status == _INFEASIBLE)
