r"""Envelopes of risk-adjusted probabilities that are no boxes, as linear programs.

The risk of costs y in the scenarios is the least price of what covers them,

.. math:: R[y] = \min_v \{c'v : B v \ge A y\},

and, by duality, the worst expectation over the envelope

.. math:: U = \{A'\mu : \mu \ge 0, \; B'\mu = c\},

with an inequality for those of v that are nonnegative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.optimize import linprog

from pypsa_p2p.common.errors import ConvergenceError
from pypsa_p2p.solvers.arrays import Flags, Vector

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cover:
    """What covers costs: A, B and c above.

    Attributes
    ----------
    of_costs : (rows, S)
        A.
    of_cover : (rows, V)
        B.
    price : (V,)
        c.
    free : (V,)
        Which of v may be negative.
    """

    of_costs: sp.csr_matrix
    of_cover: sp.csr_matrix
    price: Vector
    free: Flags

    def worst(self, costs: Matrix) -> tuple[Vector, Matrix]:
        """R of costs, (N, S), and probabilities of the envelope that attain it, (N, S)."""
        size = max(1.0, float(np.abs(costs).max(initial=0.0)))
        gain = (self.of_costs @ (costs / size).T).T
        mu = self._best(-gain.ravel(), len(costs))
        tau = np.asarray((self.of_costs.T @ mu.reshape(gain.shape).T).T)
        return (tau * costs).sum(axis=1), tau

    def outside(self, tau: Matrix, unit: Vector) -> Vector:
        """How far probabilities, (N, S), are from the envelope, in `unit`, (S,): the largest, (N,).

        That of the nearest probabilities in it, all looked at together.
        """
        count, (rows, scenarios) = len(tau), self.of_costs.shape
        each = sp.identity(count, format="csr")
        reached = sp.kron(each, sp.diags(1.0 / unit) @ self.of_costs.T)
        distance = sp.kron(each, np.ones((scenarios, 1)))
        wanted = (tau / unit).ravel()
        near = sp.vstack([sp.hstack([reached, -distance]), sp.hstack([-reached, -distance])])
        cost = np.append(np.zeros(count * rows), np.ones(count))
        found = self._best(cost, count, beside=(near, np.append(wanted, -wanted)))
        return found[-count:]

    def _best(
        self, cost: Vector, count: int, beside: tuple[sp.spmatrix, Vector] | None = None
    ) -> Vector:
        """The cheapest mu of so many envelopes, and what is beside them, all nonnegative."""
        each, more = sp.identity(count, format="csr"), 0
        equal, less = (
            (
                sp.kron(each, self.of_cover.T.tocsr()[of], format="csr"),
                np.tile(self.price[of], count),
            )
            for of in (self.free, ~self.free)
        )
        if beside is not None:
            more = beside[0].shape[1] - equal[0].shape[1]
            less = (
                sp.vstack([_wider(less[0], more), beside[0]], format="csr"),
                np.append(less[1], beside[1]),
            )
            equal = _wider(equal[0], more), equal[1]
        found = linprog(
            cost, A_ub=less[0], b_ub=less[1], A_eq=equal[0], b_eq=equal[1], method="highs"
        )
        if found.status != 0:
            raise ConvergenceError(f"The worst probabilities were not found: {found.message}")
        return np.asarray(found.x)


def _wider(matrix: sp.csr_matrix, columns: int) -> sp.csr_matrix:
    return sp.hstack([matrix, sp.csr_matrix((matrix.shape[0], columns))], format="csr")


def cover(of_costs: object, of_cover: object, price: object, free: object) -> Cover:
    """A cover of arrays in any form."""
    return Cover(
        of_costs=sp.csr_matrix(of_costs),
        of_cover=sp.csr_matrix(of_cover),
        price=np.asarray(price, dtype=float),
        free=np.asarray(free, dtype=bool),
    )
