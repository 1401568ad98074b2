"""Rows, bounds and second-order cones in Clarabel's form A x + s = b, s in K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Labels, Sparse, Vector, sum_by
from pypsa_p2p.solvers.program import Constraints, Status

# Clarabel's own word for it; "AlmostSolved" is worth a look, the caller checks residuals.
_STATUS: dict[str, Status] = {
    "Solved": "optimal",
    "AlmostSolved": "optimal",
    "InsufficientProgress": "optimal",
    "MaxIterations": "optimal",
    "PrimalInfeasible": "infeasible",
    "DualInfeasible": "unbounded",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearCones:
    """The rows and bounds of a program: equalities first, then one-sided inequalities.

    Equalities are A_e x + 0 = b; a lower side is -A_i x + s = -lower, an upper side
    A_i x + s = upper, with s >= 0.
    """

    matrix: Sparse
    offset: Vector
    equalities: int
    source: Labels  # of each line: row, or number of rows + column
    sign: Vector  # +1: the multiplier counts towards a lower side
    rows: int

    @classmethod
    def of(cls, program: Constraints) -> LinearCones:
        """Stack the finite sides of a program."""
        m, n = program.A.shape
        stacked = sparse.vstack([program.A, sparse.eye(n)], format="csr")
        lower = np.concatenate([program.lower, program.x_lower])
        upper = np.concatenate([program.upper, program.x_upper])
        equal = lower == upper
        at_equal = np.flatnonzero(equal)
        at_lower = np.flatnonzero(np.isfinite(lower) & ~equal)
        at_upper = np.flatnonzero(np.isfinite(upper) & ~equal)
        source = np.concatenate([at_equal, at_lower, at_upper])
        sign = np.repeat([-1.0, 1.0, -1.0], [at_equal.size, at_lower.size, at_upper.size])
        side = np.concatenate([upper[at_equal], lower[at_lower], upper[at_upper]])
        return cls(
            matrix=sparse.diags(-sign) @ stacked[source],
            offset=-sign * side,
            equalities=at_equal.size,
            source=source,
            sign=sign,
            rows=m,
        )

    @property
    def cones(self) -> list[Any]:
        """Clarabel's cones of these lines, in order."""
        inequalities = self.source.size - self.equalities
        return [clarabel.ZeroConeT(self.equalities), clarabel.NonnegativeConeT(inequalities)]

    def multipliers(self, z: Vector) -> tuple[Vector, Vector]:
        """(y, z) of the program from Clarabel's multipliers of these lines."""
        count = self.rows + self.matrix.shape[1]
        both = sum_by(self.source, self.sign * z, count)
        return both[: self.rows], both[self.rows :]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConicAnswer:
    """What Clarabel returned: a point (or a certificate) that nobody has checked yet."""

    status: Status
    x: Vector
    z: Vector
    iterations: int


def solve_cones(
    P: Sparse,
    q: Vector,
    A: Sparse,
    b: Vector,
    cones: list[Any],
    regularisation: float = ACCURACY.clarabel[0],
) -> ConicAnswer:
    """min 1/2 x'Px + q'x subject to A x + s = b, s in the cones."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = ACCURACY.solver
    settings.static_regularization_constant = regularisation
    upper = sparse.csc_matrix(sparse.triu(P))
    solver = clarabel.DefaultSolver(upper, q, sparse.csc_matrix(A), b, cones, settings)
    answer = solver.solve()
    return ConicAnswer(
        status=_STATUS.get(str(answer.status), "failed"),
        x=np.asarray(answer.x),
        z=np.asarray(answer.z),
        iterations=answer.iterations,
    )
