"""Whether a program has no end: a ray along which its cost falls (a second word on "unbounded")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Vector, largest_entries
from pypsa_p2p.solvers.program import Program, Solution


def falls_forever(program: Program, solve: Callable[[Program], Solution]) -> bool:
    r"""Whether a direction d keeps all rows and bounds, has no curvature, and falls in cost.

    .. math:: \min_d \, R[c'd] < 0 \quad\text{over}\quad P d = 0, \; A d \in A_\infty, \;
        d \in X_\infty, \; |d| \le 1

    with the directions in which rows and bounds have no limit. The program is convex, so that it
    is unbounded, or infeasible, exactly where there is one; the problem here is bounded, and 0
    solves it otherwise.

    Parameters
    ----------
    solve
        Solves a program of this kind, and checks the answer.
    """
    size = np.abs(program.c).max(initial=0.0)
    if size == 0.0:
        return False
    found = solve(_directions(program, size))
    return found.status == "optimal" and found.objective < -ACCURACY.promised


def _directions(program: Program, size: float) -> Program:
    """The program of its directions, costs at most 1."""
    curved = sp.csr_matrix(program.P)
    curved = curved[np.flatnonzero(np.diff(curved.indptr))]
    rows = sp.vstack([program.A, curved], format="csr")
    straight = np.zeros(curved.shape[0])
    number = program.c.size
    return replace(
        program,
        P=sp.csc_matrix((number, number)),
        c=program.c / size,
        A=sp.diags(1.0 / largest_entries(rows)) @ rows,
        lower=np.append(_end(program.lower, np.inf), straight),
        upper=np.append(_end(program.upper, np.inf), straight),
        x_lower=_end(program.x_lower, 1.0),
        x_upper=_end(program.x_upper, 1.0),
        constant=0.0 * program.constant,
    )


def _end(limit: Vector, far: float) -> Vector:
    """0 where there is a limit, else `far` on its side."""
    return np.where(np.isfinite(limit), 0.0, np.copysign(far, limit))
