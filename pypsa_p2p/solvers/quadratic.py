"""Convex quadratic programs: PIQP, checked; Clarabel where PIQP does not get there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import piqp
from scipy import sparse

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.units import typical
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.solvers.backends.clarabel import LinearCones, solve_cones
from pypsa_p2p.solvers.backends.limits import within_reach
from pypsa_p2p.solvers.presolve import Presolved, presolve
from pypsa_p2p.solvers.program import QuadraticProgram, Solution, no_solution
from pypsa_p2p.solvers.residuals import price_error, quadratic_residuals

_Point = tuple[Vector, Vector, Vector, int]  # x, y, z, iterations


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
        found = _solved(near, good, acceptable)
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
    best, iterations = no_solution(program, "failed", "none"), 0
    for attempt in _attempts(reduction, scaled, size):
        iterations += attempt.iterations
        if attempt.status in ("infeasible", "unbounded") and _worst(program, best) > acceptable:
            return attempt
        best = min(best, attempt, key=lambda answer: _rank(program, answer, acceptable))
        if _error(program, best) <= good:
            return best
    if _worst(program, best) <= acceptable:
        return best
    return no_solution(program, "failed", "piqp, clarabel", iterations)


def _attempts(
    reduction: Presolved[QuadraticProgram], scaled: QuadraticProgram, size: float
) -> Iterator[Solution]:
    """Answers, the fastest first; each is computed when it is asked for."""
    for least, stalled in ACCURACY.piqp:
        yield _restore(reduction, _rescale(_piqp(scaled, least, stalled), size), "piqp")
    for regularisation in ACCURACY.clarabel:
        yield _clarabel(reduction, scaled, size, regularisation)


def _rank(program: QuadraticProgram, solution: Solution, acceptable: float) -> tuple[float, float]:
    """Smaller is better: prices count between answers that are acceptable."""
    worst = _worst(program, solution)
    return (0.0, _error(program, solution)) if worst <= acceptable else (worst, 0.0)


def _error(program: QuadraticProgram, solution: Solution) -> float:
    """The largest residual, prices included."""
    return max(_worst(program, solution), ACCURACY.of_prices * _price_error(program, solution))


def _worst(program: QuadraticProgram, solution: Solution) -> float:
    if solution.status != "optimal" or not np.all(np.isfinite(solution.x)):
        return np.inf
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged point is infinitely bad
        return quadratic_residuals(program, solution).worst


def _price_error(program: QuadraticProgram, solution: Solution) -> float:
    """Error of prices relative to the largest; multipliers without limit do not hide it."""
    if solution.status != "optimal":
        return np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        error, largest = price_error(program, solution, np.ones(program.c.size))
    return error / max(1.0, largest)


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


def _rescale(point: _Point, size: float) -> _Point:
    x, y, z, iterations = point
    return x, size * y, size * z, iterations


def _restore(reduction: Presolved[QuadraticProgram], point: _Point, solver: str) -> Solution:
    x, y, z, iterations = point
    return reduction.solution(x, y, z, solver=solver, iterations=iterations)


def _piqp(program: QuadraticProgram, least: float, stalled: float) -> _Point:
    """PIQP's last point, whatever it says of it: the caller checks."""
    equal = program.lower == program.upper
    limited = ~equal & (np.isfinite(program.lower) | np.isfinite(program.upper))
    A = sparse.csr_matrix(program.A)
    solver = piqp.SparseSolver()
    settings = solver.settings
    settings.eps_abs = settings.eps_rel = ACCURACY.solver
    # A gap is the sum of all products multiplier x slack: one of them alone must be small.
    settings.eps_duality_gap_abs, settings.eps_duality_gap_rel = (
        ACCURACY.solver,
        ACCURACY.solver_gap,
    )
    settings.max_iter = 50  # at a stall the residuals are good by then, or Clarabel's are better
    settings.reg_lower_limit, settings.reg_finetune_lower_limit = least, stalled
    # Feasible programs on a thin face look infeasible at the solver's own 1e-4. Clarabel tells.
    settings.eps_primal_inf = settings.eps_dual_inf = ACCURACY.no_ray
    solver.setup(
        sparse.csc_matrix(program.P),
        program.c,
        sparse.csc_matrix(A[equal]),
        program.lower[equal],
        sparse.csc_matrix(A[limited]),
        program.lower[limited],
        program.upper[limited],
        program.x_lower,
        program.x_upper,
    )
    solver.solve()
    result = solver.result
    y = np.zeros(equal.size)
    y[equal] = -np.asarray(result.y)
    y[limited] = np.asarray(result.z_l) - np.asarray(result.z_u)
    z = np.asarray(result.z_bl) - np.asarray(result.z_bu)
    return np.array(result.x), y, z, int(result.info.iter)


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
