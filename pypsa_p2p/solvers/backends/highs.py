"""HiGHS's simplex for linear programs: corners, where interior points stall."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.optimize import OptimizeResult, linprog

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Vector
from pypsa_p2p.solvers.backends.piqp import Point
from pypsa_p2p.solvers.program import Constraints

OPTIMAL, INFEASIBLE = 0, 2  # of scipy.optimize.linprog

#: Options of `linprog` where multipliers are looked for, or must be exact.
PRECISE = {
    "primal_feasibility_tolerance": ACCURACY.grid_price,
    "dual_feasibility_tolerance": ACCURACY.grid_price,
}


def solve_simplex(program: Constraints) -> Point | None:
    """The corner that HiGHS finds of a program without curvature; None if it finds none."""
    found = _linear(program, program.c, "highs-ds", PRECISE)
    if found.status != OPTIMAL:
        return None
    equal, below, above = _sides(program)
    y = np.zeros(program.lower.size)
    y[equal] = found.eqlin.marginals
    of_below, of_above = np.split(found.ineqlin.marginals, [below.sum()])
    y[below] -= of_below
    y[above] += of_above
    z = found.lower.marginals + found.upper.marginals
    return np.asarray(found.x), y, np.asarray(z), int(found.nit)


def contradictory(program: Constraints) -> bool:
    """Whether no x keeps the rows and bounds, by HiGHS: a second word on "infeasible"."""
    found = _linear(
        program,
        np.zeros(program.c.size),
        "highs",
        {"primal_feasibility_tolerance": ACCURACY.contradiction},
    )
    return bool(found.status == INFEASIBLE)


def _linear(
    program: Constraints, c: Vector, method: str, options: dict[str, float]
) -> OptimizeResult:
    """min c'x over the rows and bounds of a program."""
    equal, below, above = _sides(program)
    A = program.A.tocsr()
    return linprog(
        c,
        A_ub=sp.vstack([-A[below], A[above]]),
        b_ub=np.append(-program.lower[below], program.upper[above]),
        A_eq=A[equal],
        b_eq=program.lower[equal],
        bounds=np.column_stack([program.x_lower, program.x_upper]),
        method=method,
        options=options,
    )


def _sides(program: Constraints) -> tuple[Flags, Flags, Flags]:
    """Which rows are equations, and which are limited below and above."""
    equal = program.lower == program.upper
    return equal, np.isfinite(program.lower) & ~equal, np.isfinite(program.upper) & ~equal
