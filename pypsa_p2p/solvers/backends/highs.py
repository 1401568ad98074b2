"""HiGHS's simplex for linear programs: corners, where interior points stall."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.optimize import OptimizeResult, linprog

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.solvers.backends.piqp import Point
from pypsa_p2p.solvers.program import Constraints

_OPTIMAL, _INFEASIBLE = 0, 2  # of scipy.optimize.linprog


def solve_simplex(program: Constraints) -> Point | None:
    """The corner that HiGHS finds of a program without curvature; None if it finds none.

    Raises
    ------
    ValueError
        The program has curvature.
    """
    if program.P.nnz and abs(program.P).max() > 0.0:
        raise ValueError("the simplex needs a linear program")
    found = _linear(program, program.c, "highs-ds", ACCURACY.grid_price)
    if found.status != _OPTIMAL:
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
    found = _linear(program, np.zeros(program.c.size), "highs", ACCURACY.contradiction)
    return bool(found.status == _INFEASIBLE)


def _linear(program: Constraints, c: Vector, method: str, precision: float) -> OptimizeResult:
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
        options={
            "primal_feasibility_tolerance": precision,
            "dual_feasibility_tolerance": ACCURACY.grid_price,
        },
    )


def _sides(program: Constraints) -> tuple[Vector, Vector, Vector]:
    """Which rows are equations, and which are limited below and above."""
    equal = program.lower == program.upper
    return equal, np.isfinite(program.lower) & ~equal, np.isfinite(program.upper) & ~equal
