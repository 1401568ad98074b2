"""Allocations no coalition can do better than: nucleolus, least core and variance core.

All of them share out v(N) and look at the excess v(S) - y(S) of coalitions; where it is nowhere
positive, y is in the core.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError, MarketError
from pypsa_p2p.solvers.arrays import Flags, Vector
from pypsa_p2p.solvers.backends.highs import OPTIMAL, PRECISE
from pypsa_p2p.solvers.program import QuadraticProgram
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.studies.allocation.games import Game


def nucleolus(game: Game) -> Vector:
    r"""The allocation whose worst coalition is best off, then the next worst, and so on, (N,).

    The lexicographic maximum of the sorted :math:`y(S) - v(S)`, by at most N linear programs: what
    limits one of them in all of its solutions is held in the next (Maschler, Peleg, Shapley 1979).
    Where too few coalitions are known to tell, shares are as even as these leave them.
    """
    held = _Held.nothing(game)
    free = np.ones(len(game.value), dtype=bool)
    while (free := free & ~held.spans(game.members)).any():
        step = _greatest_least(game, held, free)
        held = held.and_also(game.members[step.tight], game.value[step.tight] + step.least)
    return held.nearest_to(np.full(game.count, game.total / game.count))


def least_core(game: Game) -> Vector:
    r"""Of the allocations with the greatest :math:`\min_S (y(S) - v(S))` the most even, (N,)."""
    if not len(game.value):
        return np.full(game.count, game.total)
    step = _greatest_least(game, _Held.nothing(game), np.ones(len(game.value), dtype=bool))
    return _most_even(game, game.value + step.least, step.tight)


def variance_core(game: Game) -> Vector:
    r"""Of the core the most even allocation, :math:`\min \sum_n (y_n - v(N)/N)^2`, (N,).

    Raises
    ------
    MarketError
        The core is empty.
    """
    even = np.full(game.count, game.total / game.count)
    if not len(game.value) or game.excess(even).max() <= 0.0:
        return even
    least = _greatest_least(game, _Held.nothing(game), np.ones(len(game.value), dtype=bool)).least
    if least < -ACCURACY.promised * _size(game):
        raise MarketError(
            f"The core is empty: whatever is paid, some coalition could save {-least:.6g} EUR more "
            "by itself. Ask for 'least_core' or 'nucleolus', which make that as little as can be."
        )
    return _most_even(game, game.value + min(least, 0.0), np.zeros(len(game.value), dtype=bool))


class _Step(NamedTuple):
    """A solved linear program: its least excess, and the rows that it is that of in any case."""

    least: float
    tight: Flags


class _Held(NamedTuple):
    """Sums of shares that are decided: rows of who is in them, independent, and what they get."""

    rows: Vector  # (r, N)
    sums: Vector  # (r,)

    @classmethod
    def nothing(cls, game: Game) -> _Held:
        """All that is decided at first: everybody together gets v(N)."""
        return cls(np.ones((1, game.count)), np.array([game.total]))

    def spans(self, members: Flags) -> Flags:
        """Whether what is decided decides what a coalition gets, (C,)."""
        basis = np.linalg.qr(self.rows.T)[0]
        given = members.astype(float)
        left = given - (given @ basis) @ basis.T
        return np.asarray(np.abs(left).max(axis=1, initial=0.0) <= ACCURACY.good)

    def and_also(self, members: Flags, sums: Vector) -> _Held:
        """With coalitions, (r, N), that get so much, (r,), as far as that is not decided yet."""
        held = self
        for row, own in zip(members, sums, strict=True):
            if not held.spans(row[None])[0]:
                held = _Held(np.vstack([held.rows, row]), np.append(held.sums, own))
        return held

    def nearest_to(self, share: Vector) -> Vector:
        """The shares with these sums that are nearest to some others."""
        missing = self.sums - self.rows @ share
        return np.asarray(share + np.linalg.lstsq(self.rows, missing, rcond=None)[0])


def _greatest_least(game: Game, held: _Held, free: Flags) -> _Step:
    r"""Maximise :math:`\theta` with :math:`y(S) - v(S) \ge \theta` where it is free.

    A row with a multiplier limits it in every solution.
    """
    size = _size(game)
    members = game.members[free].astype(float)
    found = linprog(
        np.append(np.zeros(game.count), -1.0),
        A_ub=np.column_stack([-members, np.ones(len(members))]),
        b_ub=-game.value[free] / size,
        A_eq=np.column_stack([held.rows, np.zeros(len(held.rows))]),
        b_eq=held.sums / size,
        bounds=(None, None),
        method="highs-ds",
        options=PRECISE,
    )
    if found.status != OPTIMAL or not found.ineqlin.marginals.any():
        raise ConvergenceError(
            f"A linear program of coalitions was not solved ({found.message}). Look for costs of "
            "very different sizes."
        )
    weight = -found.ineqlin.marginals
    tight = np.zeros(free.size, dtype=bool)
    tight[np.flatnonzero(free)[weight > ACCURACY.no_weight * weight.max()]] = True
    return _Step(float(found.x[-1]) * size, tight)


def _most_even(game: Game, least: Vector, tight: Flags) -> Vector:
    """min sum (y_n - v(N)/N)^2 where coalitions get so much or more, or just that, (N,).

    A quadratic program tells which of these limits bind; given that, it is a projection.
    """
    size, even = _size(game), np.full(game.count, game.total / game.count)
    own = (least - game.members @ even) / size  # of y less the even share
    found = solve_quadratic(
        QuadraticProgram(
            P=sp.identity(game.count, format="csc"),
            c=np.zeros(game.count),
            A=sp.csr_matrix(np.vstack([np.ones((1, game.count)), game.members])),
            lower=np.append(0.0, own - np.where(tight, 0.0, ACCURACY.good)),
            upper=np.append(0.0, np.where(tight, own, np.inf)),
            x_lower=np.full(game.count, -np.inf),
            x_upper=np.full(game.count, np.inf),
        )
    )
    if found.status != "optimal":
        raise ConvergenceError(
            "The most even allocation was not found. Look for costs of very different sizes."
        )
    near, pull = even + size * found.x, found.row_dual[1:]
    binding = tight | (pull > ACCURACY.no_weight * np.abs(pull).max(initial=0.0))
    exact = _Held.nothing(game).and_also(game.members[binding], least[binding]).nearest_to(even)
    missed = (least - game.members @ exact).max(initial=0.0)
    return exact if missed <= ACCURACY.good * size else np.asarray(near)


def _size(game: Game) -> float:
    """What amounts of a game are counted in, EUR."""
    return float(np.abs(np.append(game.value, game.total)).max()) or 1.0
