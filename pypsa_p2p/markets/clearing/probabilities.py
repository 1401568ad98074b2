"""Which prices depend on risk-adjusted probabilities that are one choice of many.

Whose cost is the same in several scenarios may weigh them in more ways than one, as far as her own
decisions allow it. Prices in money of a scenario are divided by these weights (MODEL.md §4).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, picked
from pypsa_p2p.solvers.multipliers import Optimum, movable, undetermined
from pypsa_p2p.solvers.program import UNOWNED


def priced_by_chance(problem: MarketProblem, found: MarketSolution, optimum: Optimum) -> Flags:
    r"""(rows,) prices that other probabilities would change, and the optimum stay what it is.

    A change of probabilities :math:`d` and of multipliers :math:`e` keeps it, where

    .. math:: d_{n(j), \omega(j)} \nabla c_j = (A' e)_j \quad \text{of columns inside their limits},
        \qquad \sum_\omega d_{n\omega} = 0,

    d of scenarios within the ends of her envelope, e of rows at a limit. It is looked at one random
    solution of these equations: what is not 0 in it may move.
    """
    none = np.zeros(found.row_dual.size, dtype=bool)
    cells = _undecided(problem, found)
    if not cells.size or (problem.terms is not None and not problem.terms.idle):
        return none
    rows = optimum.active
    terms = _equations(problem, found, optimum, rows, cells)
    loose = np.flatnonzero(undetermined(terms))
    if not (loose >= rows.size).any():
        return none
    ray = np.zeros(terms.shape[0])
    ray[loose] = movable(picked(terms, loose, np.arange(terms.shape[1])).T.tocsr())
    return _moved(problem, found, optimum, rows, cells, ray)


def _undecided(problem: MarketProblem, found: MarketSolution) -> Labels:
    """Cells whose probability lies inside her envelope, in groups that have two or more."""
    tau = found.risk_adjusted_probability
    least, most = (
        end.reshape(-1, tau.shape[1])[: len(tau)]
        for end in (problem.program.least, problem.program.most)
    )
    room = ACCURACY.at_end_found * most
    inside = (tau - least > room) & (most - tau > room)
    if found.as_others is not None:  # a rule says which
        inside[found.as_others] = False
    return np.flatnonzero((inside & (inside.sum(axis=1, keepdims=True) > 1)).ravel())


def _equations(
    problem: MarketProblem, found: MarketSolution, optimum: Optimum, rows: Labels, cells: Labels
) -> Sparse:
    """What changes of multipliers, then of probabilities, leave of columns, then of their sums."""
    program = problem.program
    inside = np.flatnonzero(~(optimum.sides[0] | optimum.sides[1]))
    place = np.full(program.group.size + 1, UNOWNED)
    place[cells] = np.arange(cells.size)
    of_column = place[program.cell[inside]]
    here = np.flatnonzero(of_column >= 0)
    slope = problem.slope(found.x)[inside] / optimum.of_column[inside]
    probability = program.probability[cells]
    entries = -slope[here] * probability[of_column[here]]
    shape = cells.size, inside.size
    chances = sp.csr_matrix((entries, (of_column[here], here)), shape)
    groups, whose = np.unique(program.group[cells], return_inverse=True)
    sums = sp.csr_matrix((probability, (np.arange(cells.size), whose)), (cells.size, groups.size))
    nothing = sp.csr_matrix((rows.size, groups.size))
    return sp.bmat([[optimum.scaled(rows, inside), nothing], [chances, sums]], format="csr")


def _moved(
    problem: MarketProblem,
    found: MarketSolution,
    optimum: Optimum,
    rows: Labels,
    cells: Labels,
    ray: Vector,
) -> Flags:
    """Prices, lambda over tau, that move along a ray."""
    program = problem.program
    tau = np.append(found.risk_adjusted_probability.ravel(), 1.0)
    share = np.zeros(program.group.size + 1)
    share[cells] = program.probability[cells] * ray[rows.size :] / tau[cells]
    step = np.zeros(found.row_dual.size)
    step[rows] = ray[: rows.size]
    own = (sp.diags((problem.priced != 0.0).astype(float)) @ program.A).tocoo()
    cell = np.full(found.row_dual.size, UNOWNED)
    np.maximum.at(cell, own.row, program.cell[own.col])
    price = optimum.of_several / optimum.of_row
    change = step - price * share[cell]
    return np.asarray((np.abs(change) > ACCURACY.no_price) & (problem.priced != 0.0))
