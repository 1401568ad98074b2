"""Risk-adjusted probabilities of prosumers to whom all scenarios cost the same.

Whose cost is the same in every scenario may hold any probabilities her measure knows: she has no
risk. Prices in her money depend on which. She is taken to see the scenarios as the others do on
average, as far as her measure and her own decisions allow it; so a household without a cost of its
own pays a retailer's price in the retailer's money.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.markets.clearing.convex import MarketSolution, Matrix, Unweighed
from pypsa_p2p.markets.clearing.prices import optimum_at
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, sum_by
from pypsa_p2p.solvers.multipliers import Optimum
from pypsa_p2p.solvers.presolve import with_bounds_in_rows
from pypsa_p2p.solvers.program import UNOWNED

_HALVINGS = 60  # of an interval no longer than 1, to below rounding


def seen_as_by_others(problem: MarketProblem, found: MarketSolution) -> MarketSolution:
    """A solution in which prosumers without risk see the scenarios as the others do.

    Contracts tie everybody's probabilities to their prices, and where envelopes are no boxes it is
    not known how far they may move: there all stays as it is.
    """
    if problem.covers or (problem.terms is not None and not problem.terms.idle):
        return found
    program, tau = problem.program, found.risk_adjusted_probability
    groups, scenarios = tau.shape
    indifferent = _indifferent(problem, found.x, groups)
    if groups == 1 or not indifferent.any() or indifferent.all():
        return found
    least, most = (end.reshape(-1, scenarios)[:groups] for end in (program.least, program.most))
    wanted = tau.copy()
    others = tau[~indifferent].mean(axis=0)
    wanted[indifferent] = _nearest_probabilities(others, least[indifferent], most[indifferent])
    move = _Move.of(problem, found, wanted - tau)
    moved = indifferent & ~np.isin(np.arange(groups), move.hindered)
    if not moved.any():
        return found
    tau = np.where(moved[:, None], wanted, tau)
    return replace(
        _solution(problem, found, tau, move.multipliers(moved)),
        unweighed=_unweighed(problem, found, tau, moved, ~indifferent, move),
        as_others=moved,
    )


def anybody_indifferent(problem: MarketProblem, found: MarketSolution) -> bool:
    """Whether there is anybody whom `seen_as_by_others` may concern."""
    groups = len(found.risk_adjusted_probability)
    return bool(_indifferent(problem, found.x, groups).any())


def _nearest_probabilities(target: Vector, least: Matrix, most: Matrix) -> Matrix:
    """Probabilities nearest to a target between their ends, (G, S) each, that sum to 1.

    Examples
    --------
    >>> _nearest_probabilities(
    ...     np.array([0.0, 0.5, 0.5]), np.zeros((1, 3)), np.array([[1.0, 1.0, 0.4]])
    ... )
    array([[0.05, 0.55, 0.4 ]])
    """
    low, high = -np.ones((len(least), 1)), np.ones((len(least), 1))
    for _ in range(_HALVINGS):
        shift = 0.5 * (low + high)
        too_little = np.clip(target + shift, least, most).sum(axis=1, keepdims=True) < 1.0
        low, high = np.where(too_little, shift, low), np.where(too_little, high, shift)
    found = np.clip(target + high, least, most)
    return np.asarray(np.where(found - least <= ACCURACY.at_end_found * most, least, found))


def _indifferent(problem: MarketProblem, x: Vector, groups: int) -> Flags:
    """Whether a group may hold several probabilities, and costs the same in all scenarios, (G,)."""
    costs = problem.true(x).costs(x).reshape(groups + 1, -1)[:groups]
    free = problem.program.at_risk.reshape(groups + 1, -1)[:groups].any(axis=1)
    size = np.maximum(1.0, np.abs(costs).max(axis=1))
    return np.asarray(free & (np.ptp(costs, axis=1) <= ACCURACY.tied * size))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Move:
    """Other probabilities, and prices of energy at which everybody decides as before.

    If tau changes by d, so does the price of energy at her bus, by what her decisions inside their
    limits ask for, d times their slope; where she has none, it stays in her money, and changes
    now by d / tau of itself.

    Attributes
    ----------
    optimum : Optimum
        The market as it is.
    own : COO matrix
        The balances.
    inside : (entries,)
        Whether an entry of `own` is of a decision inside its limits.
    whose : (m,)
        Whose balance a row is, a group; -1 of none.
    balance : (m,)
        Change of the multipliers of balances.
    hindered : (h,)
        Groups whose decisions leave them no other probabilities.
    """

    optimum: Optimum
    own: Sparse
    inside: Flags
    whose: Labels
    balance: Vector
    hindered: Labels

    @classmethod
    def of(cls, problem: MarketProblem, found: MarketSolution, change: Matrix) -> _Move:
        """What it takes to change tau, (G, S), by so much."""
        program, tau = problem.program, found.risk_adjusted_probability
        optimum = optimum_at(problem, found.x, tau, found.row_dual)
        own = sp.csc_matrix(sp.diags((problem.priced != 0.0).astype(float)) @ program.A).tocoo()
        cell = np.full(program.A.shape[0], UNOWNED)
        np.maximum.at(cell, own.row, program.cell[own.col])
        whose = np.append(program.group, UNOWNED)[cell]
        more = problem.slope(found.x) * program.per_column(_by_cell(change), unowned=0.0)
        share = np.divide(change, tau, out=np.zeros(tau.shape), where=tau > 0.0)
        in_step = found.row_dual * np.append(_by_cell(share), 0.0)[cell]
        inside = ~(optimum.sides[0] | optimum.sides[1])[own.col]
        balance = np.where(whose >= 0, _asked(own, inside, more, in_step), 0.0)
        left = optimum.left + more - program.A.T @ balance
        wrong = _wrong(left / optimum.of_column, optimum.sides)
        groups = np.append(program.group, UNOWNED)[program.cell[wrong & (more != 0.0)]]
        hindered = np.unique(np.append(whose[own.row[wrong[own.col]]], groups))
        return cls(
            optimum=optimum, own=own, inside=inside, whose=whose, balance=balance, hindered=hindered
        )

    def balances_of(self, moved: Flags) -> Flags:
        """Rows, (m,), that are balances of some groups, (G,)."""
        return np.asarray(np.append(moved, [False, False])[self.whose])

    def multipliers(self, moved: Flags) -> Vector:
        """Multipliers of the rows, those of bounds left out, where some groups, (G,), moved."""
        return np.asarray(
            self.optimum.of_several + np.where(self.balances_of(moved), self.balance, 0.0)
        )


def _by_cell(by_group: Matrix) -> Vector:
    """Numbers of the groups, (G, S), by cell, (K,); 0 of what is nobody's."""
    return np.append(by_group.ravel(), np.zeros(by_group.shape[1]))


def _asked(own: Sparse, inside: Flags, more: Vector, otherwise: Vector) -> Vector:
    """What decisions inside their limits ask of each row's multiplier on average, (m,).

    Parameters
    ----------
    own : COO matrix
        The balances.
    inside : (entries,)
        Whether an entry is of such a decision.
    more : (n,)
        What each column's cost changes by.
    otherwise : (m,)
        For rows without any.
    """
    asked = np.where(inside, more[own.col] / own.data, 0.0)
    count = sum_by(own.row, inside.astype(float), otherwise.size)
    total = sum_by(own.row, asked, otherwise.size)
    return np.where(count > 0.0, total / np.maximum(count, 1.0), otherwise)


def _wrong(z: Vector, sides: tuple[Flags, Flags], error: float = ACCURACY.no_price) -> Flags:
    """Whether a column's multiplier, per probability, is on a side that the column is not at."""
    at_low, at_high = sides
    return np.asarray(((z > error) & ~at_low) | ((z < -error) & ~at_high))


def _solution(
    problem: MarketProblem, found: MarketSolution, tau: Matrix, y: Vector
) -> MarketSolution:
    """The solution at other probabilities and multipliers of rows of several columns."""
    at = optimum_at(problem, found.x, tau, y)
    y = with_bounds_in_rows(problem.program, y, at.left)
    return replace(found, risk_adjusted_probability=tau, row_dual=y)


def _unweighed(
    problem: MarketProblem,
    found: MarketSolution,
    tau: Matrix,
    moved: Flags,
    others: Flags,
    move: _Move,
) -> Unweighed | None:
    """What the limit weighs, where some no longer weigh what they did: as much as the others.

    The price of energy at their buses is then what their decisions inside their limits ask for.
    Where these do not agree, her own cost ties her to what the limit weighs, and it stays.
    """
    if found.unweighed is None:
        return None
    program = problem.program
    of_others = found.unweighed.weight[others].mean(axis=0)
    limit = np.where(tau > 0.0, 0.0, of_others)
    weight = np.where(moved[:, None], limit, found.unweighed.weight)
    at = optimum_at(problem, found.x, weight, found.unweighed.row_dual)
    missing = _asked(move.own, move.inside, at.left, np.zeros(move.whose.size))
    y = at.of_several + np.where(move.balances_of(moved), missing, 0.0)
    left = optimum_at(problem, found.x, weight, y).left
    counted = program.per_column(_by_cell(weight), unowned=0.0) > 0.0
    wrong = _wrong(left / at.of_column, move.optimum.sides, ACCURACY.price_warning)
    tied = np.isin(np.arange(moved.size), program.group[program.cell[wrong & counted]])
    if (tied & moved).any():
        return _unweighed(problem, found, tau, moved & ~tied, others, move)
    return Unweighed(row_dual=with_bounds_in_rows(program, y, left), weight=weight)
