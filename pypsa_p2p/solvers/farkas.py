"""Whether a program has no solution: weights of its rows that prove it (Farkas' lemma)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Sparse, Vector, largest_entries
from pypsa_p2p.solvers.backends.highs import solve_simplex
from pypsa_p2p.solvers.program import QuadraticProgram


def proof_of_contradiction(program: QuadraticProgram, claimed: Vector | None) -> Vector | None:
    """Weights of rows, (m,), that prove that no x keeps rows and bounds; None if none are found.

    Parameters
    ----------
    claimed
        The weights of a solver that says so; where they prove nothing, or there are none, those
        of the least violation are tried.
    """
    if claimed is not None and contradicts(program, claimed):
        return claimed
    weights = _of_least_violation(program)
    return weights if weights is not None and contradicts(program, weights) else None


def contradicts(program: QuadraticProgram, weights: Vector) -> bool:
    r"""Whether the weighted rows ask for more than the bounds allow.

    .. math:: \sum_i \min_{l_i \le r_i \le u_i} y_i r_i
        > \sum_j \max_{\underline x_j \le x_j \le \overline x_j} (A'y)_j x_j

    by more than rounding may leave in the sum, a share of all its terms' sizes.

    Parameters
    ----------
    weights
        y, (m,). A weight whose side has no limit counts as none, and so does what rounding
        leaves of a column that has no limit on the side it is pushed to.
    """
    if not np.all(np.isfinite(weights)):
        return False
    side = np.where(weights > 0.0, program.lower, program.upper)
    y = np.where(np.isfinite(side), weights, 0.0)
    needed = y * np.where(np.isfinite(side), side, 0.0)
    pull, pulls = program.A.T @ y, abs(program.A).T @ abs(y)
    end = np.where(pull > 0.0, program.x_upper, program.x_lower)
    endless = ~np.isfinite(end)
    if np.any(endless & (abs(pull) > ACCURACY.differences * pulls)):
        return False
    far = np.where(endless, 0.0, end)
    terms = abs(needed).sum() + pulls @ abs(far)
    return bool(needed.sum() - pull @ far > ACCURACY.differences * terms)


def _of_least_violation(program: QuadraticProgram) -> Vector | None:
    r"""Multipliers of the rows, (m,), where they are violated least, each in units of its own.

    .. math:: \min_{x \in X, \, v, w \ge 0} \sum_i v_i + w_i
        \quad\text{over}\quad l \le A x + v - w \le u

    which always has a solution. By duality the multipliers prove a contradiction of the size of
    the violation.
    """
    rows, columns = program.A.shape
    size = largest_entries(program.A)
    one: Sparse = sp.identity(rows, format="csr")
    free = np.zeros(2 * rows)
    found = solve_simplex(
        replace(
            program,
            P=sp.csc_matrix((columns + 2 * rows,) * 2),
            c=np.append(np.zeros(columns), np.ones(2 * rows)),
            A=sp.hstack([sp.diags(1.0 / size) @ program.A, one, -one], format="csr"),
            lower=program.lower / size,
            upper=program.upper / size,
            x_lower=np.append(program.x_lower, free),
            x_upper=np.append(program.x_upper, free + np.inf),
        )
    )
    return None if found is None else found[1] / size
