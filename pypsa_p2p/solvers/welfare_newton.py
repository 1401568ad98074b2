"""Newton's method on a welfare program: from a cone solver's answer to one as exact as the others.

A step is a quadratic program: costs of cells linear at the point, their curvature and that of F in
the objective, weighted by the multipliers there. All inequalities stay, so that the step finds
those that bind. Costs that count for little are curved all the same, so that columns which nothing
else holds stay near the point: springs, at rest at a solution.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.solvers.program import QuadraticProgram, Solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.welfare import LogGains, WelfareProgram, WelfareSolution, welfare_error
from pypsa_p2p.solvers.welfare_lines import Lines, WelfareLines

_MOST_STEPS = 8


def refined(whole: WelfareProgram, found: WelfareSolution) -> tuple[WelfareSolution, float]:
    """The best of a solution and what steps from it lead to, and its error."""
    best, error = found, welfare_error(whole, found)
    now = found
    for _ in range(_MOST_STEPS):
        if error <= ACCURACY.good:
            break
        step = _step(whole, now)
        if step is None:
            break
        now, off = step, welfare_error(whole, step)
        if off >= error:
            break
        best, error = now, off
    return best, error


def _step(whole: WelfareProgram, at: WelfareSolution) -> WelfareSolution | None:
    """The next point and its multipliers; None if the step has no solution."""
    lines = WelfareLines.of(whole)
    bend, slope, start = _of_aim(whole, at.x)
    z, moved = np.zeros((2, lines.columns))
    z[lines.place("z")], moved[lines.place("z")] = bend, start
    parts = [
        part.from_point(moved)
        for part in (costs_at(lines, at.x), lines.excess, lines.sums, lines.limits, lines.level)
    ]
    curvature = whole.weighted(_at_least(whole, at), at.weight).P
    P = sparse.block_diag(
        [curvature, sparse.csc_matrix((lines.columns - at.x.size,) * 2)]
    ) + sparse.diags(z)
    c = lines.objective
    c[: at.x.size] -= curvature @ at.x
    c[lines.place("z")] += slope
    found = solve_quadratic(program_of(lines, P, c, parts))
    return None if found.status != "optimal" else _solution(whole, lines, parts, found)


def _at_least(whole: WelfareProgram, at: WelfareSolution) -> Vector:
    """(K,) what cells count for, and at least a share of their probability."""
    usual = ACCURACY.spring * max(float(at.weight.max()), float(whole.expected))
    p = whole.program.probability.copy()
    p[whole.cells :] = 0.0
    return np.maximum(at.sigma, usual * p)


def _of_aim(whole: WelfareProgram, x: Vector) -> tuple[Vector, Vector, Vector]:
    """Curvature of F in z, its slope where it is not linear, and the z at which it is.

    A step counts z from there: beside small gains all else would be lost in rounding.
    """
    aim, nothing = whole.aim, np.zeros(whole.count)
    if not isinstance(aim, LogGains):
        return nothing, nothing, nothing
    cost = whole.costs(x)
    gain = aim.reference - cost
    return aim.weight / gain**2, aim.weight / gain, cost


def costs_at(lines: WelfareLines, x: Vector) -> Lines:
    """e_k - Pi_k, linear at x."""
    whole = lines.whole
    program, cells, owned = whole.program, whole.cells, whole.owned
    gradient = (program.P @ x + program.c)[owned]
    cell = program.cell[owned]
    slope = sparse.csr_matrix((-gradient, (cell, owned)), (cells, x.size))
    moved = np.bincount(cell, weights=gradient * x[owned], minlength=cells)
    offset = moved - program.costs(x)[:cells]
    return Lines(matrix=lines.block(cells, x=slope, e=sparse.identity(cells)), offset=offset)


def program_of(
    lines: WelfareLines, P: sparse.spmatrix, c: Vector, parts: list[Lines]
) -> QuadraticProgram:
    """min 1/2 v'Pv + c'v of all columns, subject to the program's rows and bounds and lines."""
    program = lines.whole.program
    added = lines.columns - program.c.size
    free = np.full(added, np.inf)
    padded = sparse.hstack([program.A, sparse.csr_matrix((program.A.shape[0], added))])
    below = np.concatenate([-part.offset for part in parts])
    return QuadraticProgram(
        P=sparse.csc_matrix(P),
        c=c,
        A=sparse.vstack([padded, *(part.matrix for part in parts)], format="csr"),
        lower=np.append(program.lower, below),
        upper=np.append(program.upper, np.full(below.size, np.inf)),
        x_lower=np.append(program.x_lower, -free),
        x_upper=np.append(program.x_upper, free),
    )


def _solution(
    whole: WelfareProgram, lines: WelfareLines, parts: list[Lines], found: Solution
) -> WelfareSolution:
    """What a step found, in the columns and rows of the program."""
    rows, columns = whole.program.A.shape
    ends = np.cumsum([rows, *(part.offset.size for part in parts)])
    row_dual, of_costs, _, of_sums, of_limits = np.split(found.row_dual, ends)[:5]
    extra = np.zeros(whole.count)
    extra[lines.limited] = of_limits
    x = found.x[:columns]
    sigma = np.append(of_costs, np.zeros(whole.program.group.size - whole.cells))
    qp = whole.weighted(sigma, of_sums)
    bound_dual = np.asarray(qp.gradient(x) - qp.A.T @ row_dual)
    return WelfareSolution(
        status="optimal",
        solver=f"clarabel, {found.solver}",
        x=x,
        row_dual=row_dual,
        bound_dual=bound_dual,
        sigma=sigma,
        weight=of_sums,
        slope=of_sums - extra,
    )
