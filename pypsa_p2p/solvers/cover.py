r"""Envelopes of risk-adjusted probabilities that are no boxes, as linear programs.

The risk of costs y in the scenarios is the least price of what covers them,

.. math:: R[y] = \min_v \{c'v : B v \ge A y\},

and, by duality, the worst expectation over the envelope

.. math:: U = \{A'\mu : \mu \ge 0, \; B'\mu = c\},

with an inequality for those of v that are nonnegative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.optimize import OptimizeResult, linprog

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError
from pypsa_p2p.solvers.arrays import Flags, Vector
from pypsa_p2p.solvers.backends.highs import OPTIMAL, PRECISE
from pypsa_p2p.solvers.curved import Curved, solve_curved
from pypsa_p2p.solvers.curves import Curve
from pypsa_p2p.solvers.program import UNOWNED, RiskProgram, Solution

Matrix = npt.NDArray[np.float64]

_INFEASIBLE = 2  # of scipy.optimize.linprog


class Attained(NamedTuple):
    """Which costs y a probability is the worst of: those with A y <= B v, v within its ends.

    With equality in the rows that are `weighed`.

    Attributes
    ----------
    of_costs, of_cover : (rows, S), (rows, V)
        A and B.
    weighed : (rows,)
    lower, upper : (V,)
        Ends of v.
    smooth : bool
        Whether other costs near them have a worst expectation as near as the square of that.
    """

    of_costs: sp.csr_matrix
    of_cover: sp.csr_matrix
    weighed: Flags
    lower: Vector
    upper: Vector
    smooth: bool = False


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
    curves : tuple of (int, Curve)
        What v from the first on, one for each scenario, costs beside.
    """

    of_costs: sp.csr_matrix
    of_cover: sp.csr_matrix
    price: Vector
    free: Flags
    curves: tuple[tuple[int, Curve], ...] = ()

    @property
    def alone(self) -> Curve | None:
        """The curve that this is, if it is one and nothing else."""
        count = self.curves[0][1].probability.size if self.curves else -1
        return (
            self.curves[0][1]
            if self.of_costs.shape == self.of_cover.shape == (count,) * 2
            else None
        )

    def worst(self, costs: Matrix) -> tuple[Vector, Matrix]:
        """R of costs, (N, S), and probabilities of the envelope that attain it, (N, S)."""
        if self.alone is not None:
            return self.alone.worst(costs)
        if self.curves:
            tau = np.array([self._by_cones(one) for one in costs])
            return (tau * costs).sum(axis=1), tau
        size = max(1.0, float(np.abs(costs).max(initial=0.0)))
        gain = (self.of_costs @ (costs / size).T).T
        mu = self._best(-gain.ravel(), len(costs))
        tau = np.asarray((self.of_costs.T @ mu.reshape(gain.shape).T).T)
        return (tau * costs).sum(axis=1), tau

    def outside(self, tau: Matrix, unit: Vector) -> Vector:
        """How far probabilities, (N, S), are from the envelope, in `unit`, (S,): the largest, (N,).

        That of the nearest probabilities in it, all looked at together.
        """
        if self.alone is not None:
            return self.alone.outside(tau, unit)
        count, (rows, scenarios) = len(tau), self.of_costs.shape
        each = sp.identity(count, format="csr")
        reached = sp.kron(each, sp.diags(1.0 / unit) @ self.of_costs.T)
        distance = sp.kron(each, np.ones((scenarios, 1)))
        wanted = (tau / unit).ravel()
        near = sp.vstack([sp.hstack([reached, -distance]), sp.hstack([-reached, -distance])])
        cost = np.append(np.zeros(count * rows), np.ones(count))
        found = self._best(cost, count, beside=(near, np.append(wanted, -wanted)))
        return found[-count:]

    def attained(self, tau: Vector) -> Attained:
        """Of which costs a probability of the envelope is the worst.

        By complementarity to multipliers that make it up.
        """
        scenarios, rows = tau.size, self.of_costs.shape[0]
        if self.alone is not None:
            directions = self.alone.directions(tau)
            count = directions.shape[1]
            return Attained(
                of_costs=self.of_costs,
                of_cover=sp.csr_matrix(directions),
                weighed=tau > ACCURACY.no_share * self.alone.probability,
                lower=np.array([-np.inf, 0.0])[:count],
                upper=np.full(count, np.inf),
                smooth=count > 1,
            )
        off = sp.hstack([self.of_costs.T, -np.ones((scenarios, 1))])
        less = sp.hstack([-self.of_costs.T, -np.ones((scenarios, 1))])
        near = sp.vstack([off, less], format="csr"), np.append(tau, -tau)
        mu = self._best(np.append(np.zeros(rows), 1.0), 1, beside=near)[:rows]
        left = self.price - self.of_cover.T @ mu
        unbought = ~self.free & (left > ACCURACY.no_share * np.maximum(1.0, self.price))
        return Attained(
            of_costs=self.of_costs,
            of_cover=self.of_cover,
            weighed=mu > ACCURACY.no_share * max(1.0, float(mu.max(initial=0.0))),
            lower=np.where(self.free, -np.inf, 0.0),
            upper=np.where(unbought, 0.0, np.inf),
        )

    def paying(self, payoff: Matrix) -> Cover:
        """What the probabilities make of payoffs, (K, S), instead of the scenarios: their worth."""
        return replace(self, of_costs=self.of_costs @ sp.csr_matrix(payoff.T))

    @property
    def empty(self) -> bool:
        """Whether there are no probabilities in the envelope."""
        if self.curves:
            return self._bought(np.zeros(self.of_costs.shape[1])).status == "unbounded"
        return self._solved(np.zeros(self.of_costs.shape[0]), 1, None).status == _INFEASIBLE

    def _by_cones(self, costs: Vector) -> Vector:
        """The worst probabilities, (S,), of costs, (S,), where there are curves among others."""
        size = max(1.0, float(np.abs(costs).max(initial=0.0)))
        found = self._bought(costs / size)
        if found.status != "optimal":
            raise ConvergenceError(f"The worst probabilities were not found: {found.status}.")
        tau = np.maximum(self.of_costs.T @ found.row_dual, 0.0)
        return np.asarray(tau / tau.sum())

    def _bought(self, costs: Vector) -> Solution:
        """What covers costs, (S,), at the least price, and multipliers of the rows."""
        rows, count = self.of_cover.shape
        curved = [
            Curved(columns=first + np.arange(curve.probability.size), curve=curve)
            for first, curve in self.curves
        ]
        program = RiskProgram(
            P=sp.csc_matrix((count, count)),
            c=self.price,
            A=self.of_cover,
            lower=self.of_costs @ costs,
            upper=np.full(rows, np.inf),
            x_lower=np.where(self.free, -np.inf, 0.0),
            x_upper=np.full(count, np.inf),
            cell=np.full(count, UNOWNED),
            constant=np.zeros(1),
            group=np.zeros(1, dtype=np.int64),
            probability=np.ones(1),
            least=np.ones(1),
            most=np.ones(1),
        )
        return solve_curved(program, curved, good=ACCURACY.differences).solution

    def _best(
        self, cost: Vector, count: int, beside: tuple[sp.spmatrix, Vector] | None = None
    ) -> Vector:
        """The cheapest mu of so many envelopes, and what is beside them, all nonnegative."""
        found = self._solved(cost, count, beside)
        if found.status != OPTIMAL:
            raise ConvergenceError(f"The worst probabilities were not found: {found.message}")
        return np.asarray(found.x)

    def _solved(
        self, cost: Vector, count: int, beside: tuple[sp.spmatrix, Vector] | None
    ) -> OptimizeResult:
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
        return linprog(
            cost,
            A_ub=less[0],
            b_ub=less[1],
            A_eq=equal[0],
            b_eq=equal[1],
            method="highs",
            options=PRECISE,
        )


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


def on_curve(curve: Curve) -> Cover:
    """The cover of costs by what is no less, which costs what a curve says."""
    one, count = sp.identity(curve.probability.size, format="csr"), curve.probability.size
    nothing, free = np.zeros(count), np.ones(count, dtype=bool)
    return replace(cover(one, one, nothing, free), curves=((0, curve),))


def box(least: Vector, most: Vector) -> Cover:
    r"""The probabilities between two ends that sum to 1, (S,) each.

    .. math:: R[y] = \min \; (1 - \sum least) \eta + \sum (most - least) u + \sum least \, w
        \quad \text{s.t.} \quad \eta + u \ge y, \; w \ge y, \; u \ge 0
    """
    one, none = np.identity(least.size), np.zeros((least.size, least.size))
    level = np.ones((least.size, 1))
    return cover(
        np.vstack([one, one]),
        np.block([[level, one, none], [0.0 * level, none, one]]),
        np.concatenate([[1.0 - least.sum()], most - least, least]),
        np.repeat([True, False, True], [1, least.size, least.size]),
    )


def below(most: Vector) -> Cover:
    """All nonnegative numbers up to an end, (S,), whatever they sum to."""
    one = np.identity(most.size)
    return cover(one, one, most, np.zeros(most.size, dtype=bool))


def common(covers: Sequence[Cover]) -> Cover:
    r"""What several envelopes have in common.

    .. math:: R[y] = \min \Big\{ \sum_k R_k[y_k] : \sum_k y_k \ge y \Big\}
    """
    if len(covers) == 1:
        return covers[0]
    scenarios = covers[0].of_costs.shape[1]
    parts = len(covers) * scenarios
    shared = sp.kron(np.ones((1, len(covers))), sp.identity(scenarios))
    own = sp.block_diag([one.of_costs for one in covers])
    bought = sp.block_diag([one.of_cover for one in covers])
    first = parts + np.cumsum([0, *(one.price.size for one in covers)])
    curves = [
        (int(start + place), curve)
        for start, one in zip(first, covers, strict=False)
        for place, curve in one.curves
    ]
    whole = cover(
        sp.vstack([sp.identity(scenarios), sp.csr_matrix((own.shape[0], scenarios))]),
        sp.bmat([[shared, None], [-own, bought]]),
        np.concatenate([np.zeros(parts), *(one.price for one in covers)]),
        np.concatenate([np.ones(parts, dtype=bool), *(one.free for one in covers)]),
    )
    return replace(whole, curves=tuple(curves))
