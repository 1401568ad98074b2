"""Multipliers of one optimum that are not unique: which, how far they reach, and one by a rule.

Where demand and supply are steps or at limits, the multipliers of an optimum are a convex set

    { (y, z) : gradient = A'y + z, every multiplier on a side that its row or bound is at }.

Of it the rule of MODEL.md §4 takes the middle between the ends of least and of greatest total
price; where one side is without limit the finite end, where both are the point nearest to 0. It
does so in each independent part of the set, so that one part does not decide about another.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, sum_by
from pypsa_p2p.solvers.backends.highs import OPTIMAL, PRECISE
from pypsa_p2p.solvers.program import QuadraticProgram
from pypsa_p2p.solvers.quadratic import solve_quadratic

_SEED = 0  # of the weights in whose direction it is looked whether a multiplier can move


@dataclass(frozen=True, kw_only=True, eq=False)
class DualFace:
    """What is free to move in the multipliers of an optimum; units in which prices are about 1.

    Attributes
    ----------
    equations : (q, c)
        Rows E of E y = `right`: of columns inside their limits, in the free multipliers y.
    right : (q,)
    sided : (s, c)
        Rows F of F y <= `most`: of columns at one of their limits.
    most : (s,)
    lower, upper : (c,)
        Signs of y, by the side its row is at.
    start : (c,)
        The multipliers found.
    part : (c,)
        The independent part of the set each belongs to.
    priced : (c,)
        Weight of each in the total price; 0 of what is no price of energy.
    tidy : (c,)
        Whether it is among those that the nearest to 0 is taken of.
    """

    equations: Sparse
    right: Vector
    sided: Sparse
    most: Vector
    lower: Vector
    upper: Vector
    start: Vector
    part: Labels
    priced: Vector
    tidy: Flags

    @property
    def size(self) -> int:
        """How many multipliers are free."""
        return int(self.start.size)

    @cached_property
    def rays(self) -> tuple[Flags, Flags]:
        """Of every part, whether its total price falls, and rises, without limit; (parts,) each."""
        still = replace(
            self,
            right=np.zeros(self.right.size),
            most=np.zeros(self.most.size),
            lower=np.where(np.isfinite(self.lower), 0.0, -1.0),
            upper=np.where(np.isfinite(self.upper), 0.0, 1.0),
        )
        found = []
        for sign in (-1.0, 1.0):
            direction = still.furthest(sign * self.priced)
            reached = np.zeros(self.size) if direction is None else direction
            found.append(self.total(sign * reached) > ACCURACY.promised)
        return found[0], found[1]

    def total(self, y: Vector) -> Vector:
        """The total price of every part, (parts,)."""
        return sum_by(self.part, self.priced * y, int(self.part.max(initial=-1)) + 1)

    def furthest(self, weight: Vector) -> Vector | None:
        """The multipliers with the largest weighted sum; None if there is no such.

        Where numbers of many sizes stop HiGHS at fine tolerances, at its own.
        """
        for options in (PRECISE, {}):
            found = linprog(
                -weight,
                A_ub=self.sided if self.most.size else None,
                b_ub=self.most if self.most.size else None,
                A_eq=self.equations if self.right.size else None,
                b_eq=self.right if self.right.size else None,
                bounds=np.column_stack([self.lower, self.upper]),
                options=options,
            )
            if found.status == OPTIMAL:
                return np.asarray(found.x)
        return None

    def nearest_possible(self) -> DualFace:
        """The face with room for multipliers at all: that of an optimum as exact as it is known.

        Every condition gives way by the least that one of them has to.

        Raises
        ------
        ConvergenceError
            It is no optimum, or the linear program was not solved.
        """
        give = np.ones((2 * self.right.size + self.most.size, 1))
        conditions = sp.vstack([self.equations, -self.equations, self.sided], format="csr")
        found = linprog(
            np.append(np.zeros(self.size), 1.0),
            A_ub=sp.hstack([conditions, -give], format="csr"),
            b_ub=np.concatenate([self.right, -self.right, self.most]),
            bounds=np.column_stack([np.append(self.lower, 0.0), np.append(self.upper, np.inf)]),
            options=PRECISE,
        )
        if found.status != OPTIMAL or found.x[-1] > ACCURACY.agreed:
            raise ConvergenceError(
                "There are no prices at which everybody would do what she does, to "
                f"{ACCURACY.agreed:g} of typical prices: solve the market anew, agents to a "
                "smaller tolerance."
            )
        y = found.x[:-1]
        return replace(
            self, right=self.equations @ y, most=np.maximum(self.most, self.sided @ y), start=y
        )

    def reach(self, wanted: Labels) -> tuple[Vector, Vector]:
        """The least and the greatest that some multipliers can be, each for itself.

        One of every part at a time, since parts do not know of each other.

        Raises
        ------
        ConvergenceError
            A linear program was not solved.
        """
        limit = ACCURACY.far**2  # beyond all prices: without limit
        box = replace(
            self, lower=np.maximum(self.lower, -limit), upper=np.minimum(self.upper, limit)
        )
        turn = _turns(self.part[wanted])
        ends = np.empty((2, wanted.size))
        for round_ in range(int(turn.max(initial=-1)) + 1):
            now = np.flatnonzero(turn == round_)
            weight = np.zeros(self.size)
            weight[wanted[now]] = 1.0
            for end, sign in enumerate((-1.0, 1.0)):
                point = box.furthest(sign * weight)
                if point is None:
                    raise ConvergenceError(
                        "The ends of prices could not be computed. Look for data of very "
                        "different sizes (MW, EUR) or tiny probabilities."
                    )
                ends[end, now] = point[wanted[now]]
        ends[np.abs(ends) > 0.5 * limit] *= np.inf
        return ends[0], ends[1]

    def end(self, sign: float) -> Vector | None:
        """The end of greatest (1) or least (-1) total price, in parts without limit any point.

        Of several such ends the one nearest to 0.
        """
        unlimited = self.rays[1 if sign > 0 else 0]
        reached = self.furthest(np.where(unlimited[self.part], 0.0, sign * self.priced))
        if reached is None:
            return None
        return self.nearest(reached, ~unlimited)

    def nearest(self, at: Vector, held: Flags) -> Vector:
        """The multipliers nearest to 0, the total price of the parts `held` as it is at `at`."""
        parts = np.flatnonzero(held)
        place = np.full(held.size, -1)
        place[parts] = np.arange(parts.size)
        counted = np.flatnonzero(held[self.part] & (self.priced != 0.0))
        entries = (self.priced[counted], (place[self.part[counted]], counted))
        totals = sp.csr_matrix(entries, (parts.size, self.size))
        qp = QuadraticProgram(
            P=sp.diags(self.tidy.astype(float), format="csc"),
            c=np.zeros(self.size),
            A=sp.vstack([self.equations, self.sided, totals], format="csr"),
            lower=np.concatenate(
                [self.equations @ at, np.full(self.most.size, -np.inf), totals @ at]
            ),
            upper=np.concatenate(
                [self.equations @ at, np.maximum(self.most, self.sided @ at), totals @ at]
            ),
            x_lower=np.minimum(self.lower, at),
            x_upper=np.maximum(self.upper, at),
        )
        found = solve_quadratic(qp)
        if found.status != "optimal":
            return at
        moved = np.abs(found.x - at) > ACCURACY.no_price  # else the corner is more exact
        return found.x if moved[self.tidy].any() else at

    def middle(self) -> tuple[Vector, Flags]:
        """The multipliers by the rule, (c,), and whether each is the only one possible."""
        falls, rises = self.rays
        least, greatest = self.end(-1.0), self.end(1.0)
        if least is None or greatest is None:
            warnings.warn(
                "Some prices are one of a range, and the solver's own, not the middle of it: the "
                "linear program that finds its ends was not solved.",
                stacklevel=2,
            )
            return self.start, np.zeros(self.size, dtype=bool)
        one_sided = np.where(falls[self.part], greatest, least)
        chosen = np.where(
            (falls == rises)[self.part],  # without any limit both ends are the nearest to 0
            0.5 * (least + greatest),
            one_sided,
        )
        seen = [least, greatest, *self._elsewhere()]
        spread = np.ptp(np.stack([*seen, chosen]), axis=0)
        return chosen, spread <= ACCURACY.promised * np.maximum(1.0, np.abs(chosen))

    def _elsewhere(self) -> list[Vector]:
        """Further points of the set, in directions that no total price has."""
        box = replace(
            self,
            lower=np.maximum(self.lower, np.minimum(self.start, 0.0) - ACCURACY.far),
            upper=np.minimum(self.upper, np.maximum(self.start, 0.0) + ACCURACY.far),
        )
        weight = np.random.default_rng(_SEED).uniform(0.5, 1.5, self.size)
        weight *= np.random.default_rng(_SEED + 1).choice([-1.0, 1.0], self.size)
        found = [box.furthest(sign * weight) for sign in (-1.0, 1.0)]
        return [self.start, *(point for point in found if point is not None)]


def _turns(part: Labels) -> Labels:
    """How many of the same part stand before each, (k,)."""
    order = np.argsort(part, kind="stable")
    ordered = part[order]
    turn = np.empty(part.size, dtype=np.int64)
    turn[order] = np.arange(part.size) - np.searchsorted(ordered, ordered)
    return turn
