"""HiGHS's simplex for linear programs: corners, where interior points stall."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags
from pypsa_p2p.solvers.backends.piqp import Point
from pypsa_p2p.solvers.program import Constraints

OPTIMAL = 0  # of scipy.optimize.linprog

#: Options of `linprog` where multipliers are looked for, or must be exact.
PRECISE = {
    "primal_feasibility_tolerance": ACCURACY.grid_price,
    "dual_feasibility_tolerance": ACCURACY.grid_price,
}


def solve_simplex(program: Constraints) -> Point | None:
    """The corner that HiGHS finds of a program without curvature; None if it finds none."""
    equal, below, above = _sides(program)
    A = program.A.tocsr()
    found = linprog(
        program.c,
        A_ub=sp.vstack([-A[below], A[above]]),
        b_ub=np.append(-program.lower[below], program.upper[above]),
        A_eq=A[equal],
        b_eq=program.lower[equal],
        bounds=np.column_stack([program.x_lower, program.x_upper]),
        method="highs-ds",
        options=PRECISE,
    )
    if found.status != OPTIMAL:
        return None
    y = np.zeros(program.lower.size)
    y[equal] = found.eqlin.marginals
    of_below, of_above = np.split(found.ineqlin.marginals, [below.sum()])
    y[below] -= of_below
    y[above] += of_above
    z = found.lower.marginals + found.upper.marginals
    return np.asarray(found.x), y, np.asarray(z), int(found.nit)


def _sides(program: Constraints) -> tuple[Flags, Flags, Flags]:
    """Which rows are equations, and which are limited below and above."""
    equal = program.lower == program.upper
    return equal, np.isfinite(program.lower) & ~equal, np.isfinite(program.upper) & ~equal
