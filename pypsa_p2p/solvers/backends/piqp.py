"""PIQP: proximal interior points for convex quadratic programs."""

from __future__ import annotations

import numpy as np
import piqp
from scipy import sparse

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Sparse, Vector, picked
from pypsa_p2p.solvers.program import QuadraticProgram

Point = tuple[Vector, Vector, Vector, int]  # x, y, z, iterations


def solve_piqp(
    program: QuadraticProgram, least: float, stalled: float, rough: float = 1.0
) -> Point:
    """PIQP's last point, whatever it says of it: the caller checks.

    Parameters
    ----------
    least, stalled
        Its regularisation, at least and where it stalls.
    rough
        How many times more than the residuals and gap asked of solvers will do.
    """
    equal = program.lower == program.upper
    limited = ~equal & (np.isfinite(program.lower) | np.isfinite(program.upper))
    A = sparse.csr_matrix(program.A)
    solver = piqp.SparseSolver()
    settings = solver.settings
    settings.eps_abs = settings.eps_rel = rough * ACCURACY.solver
    # A gap is the sum of all products multiplier x slack: one of them alone must be small.
    settings.eps_duality_gap_abs, settings.eps_duality_gap_rel = (
        rough * ACCURACY.solver,
        rough * ACCURACY.solver_gap,
    )
    settings.max_iter = 50  # at a stall the residuals are good by then, or Clarabel's are better
    settings.reg_lower_limit, settings.reg_finetune_lower_limit = least, stalled
    # Feasible programs on a thin face look infeasible at the solver's own 1e-4. Clarabel tells.
    settings.eps_primal_inf = settings.eps_dual_inf = ACCURACY.no_ray
    solver.setup(
        sparse.csc_matrix(program.P),
        program.c,
        _columns_of(A, equal),
        program.lower[equal],
        _columns_of(A, limited),
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


def _columns_of(A: Sparse, rows: Flags) -> Sparse:
    """Some rows, as csc."""
    return picked(A, np.flatnonzero(rows), np.arange(A.shape[1])).tocsc()
