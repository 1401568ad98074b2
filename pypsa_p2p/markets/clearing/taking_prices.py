r"""Equilibria of those who take prices and decide before the scenario is known (MODEL.md §13).

A decision that scenarios share is one column here, X, of which each scenario has its copy:

.. math:: x(\omega) - X = 0, \quad \text{multiplier } \mu(\omega) \text{ in EUR of the scenario};
    \qquad \sum_\omega \tau_n^\omega \mu(\omega) = 0

A trade day ahead has its row (1) once, at prices that are paid in every scenario.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pypsa_p2p.common.errors import ConvergenceError, MarketError, listed
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.places import Places
from pypsa_p2p.formulation.shared import tied_rows
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.own_units import OwnUnits
from pypsa_p2p.markets.clearing.payments import RiskOfPayments
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Labels, Vector, ends_by_row
from pypsa_p2p.solvers.price_taking import PriceTaking, Taken
from pypsa_p2p.solvers.program import UNOWNED, RiskProgram, Solution
from pypsa_p2p.solvers.ties import least_norm

Matrix = npt.NDArray[np.float64]

#: Starts that are drawn where nothing else is asked for.
DRAWS: Final = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class TakingPrices:
    """A market's price takers, and where they stand in its own columns and rows.

    Attributes
    ----------
    taking : PriceTaking
    program : RiskProgram
        The market's own, in the same units.
    scenario : (columns,)
        Of the market's own columns, -1 where they have none.
    kept : (k,)
        Rows of the market that are the first rows of `taking`.
    ties : (t,)
        Rows of the market that tie a scenario's copy to that of the first.
    copies : (l,)
        Columns whose copies of X the last rows of `taking` are.
    of_tie : (t,)
        Which of these each row of `ties` ties to the first.
    trades, days : Labels
        Columns of trades; rows of (1) day ahead, (S, ...).
    """

    taking: PriceTaking
    program: RiskProgram
    scenario: Labels
    kept: Labels
    ties: Labels
    copies: Labels
    of_tie: Labels
    trades: Labels
    days: Labels

    @classmethod
    def of(
        cls,
        compiled: CompiledModel,
        problem: MarketProblem,
        places: Places,
        data: MarketData,
    ) -> TakingPrices:
        """Of a market's problem, in its own units.

        Raises
        ------
        MarketError
            Constraints of the user's join scenarios or prosumers.
        """
        program, A = problem.program, problem.program.A.tocsr()
        ahead = data.day_ahead.to_numpy()
        days = places.reciprocity[..., ahead].reshape(len(data.scenarios), -1)
        ties, first, other = _ties(compiled, A)
        shared, of_tie = np.unique(first, return_inverse=True)
        kept = np.setdiff1d(np.arange(A.shape[0]), np.append(ties, days[1:]))
        copies = np.append(shared, other)
        of_copy = np.append(np.arange(shared.size), of_tie)
        rows = sp.vstack(
            [
                _with_shared(A, days[0], shared)[kept],
                _links(copies, A.shape[1] + of_copy, A.shape[1] + shared.size),
            ],
            format="csr",
        )
        scenario = np.append(compiled.scenario, np.full(shared.size, -1))
        owner = np.where(compiled.owner == UNOWNED, program.groups - 1, compiled.owner)
        whose = np.append(owner, owner[shared])
        _require_separate(compiled, rows[: kept.size], scenario, whose, kept, places)
        taking = PriceTaking(
            program=_extended(program, rows, kept, shared.size),
            whose=whose,
            scenario=_scenario_of_rows(rows, scenario),
            paid=np.append(np.isin(kept, places.reciprocity), np.zeros(copies.size, dtype=bool)),
        )
        return cls(
            taking=taking,
            program=program,
            scenario=compiled.scenario,
            kept=kept,
            ties=ties,
            copies=copies,
            of_tie=shared.size + np.arange(ties.size),
            trades=problem.trades.ravel(),
            days=days,
        )

    def start(self, x: Vector, row_dual: Vector) -> Taken:
        """The point of a risk-neutral solution, with the probabilities as they are."""
        p = self._weights
        count = self.taking.program.c.size - x.size
        copies = self.copies[:count]
        slope = self.program.P @ x + self.program.c
        of_row = self.taking.scenario[: self.kept.size]
        price = row_dual[self.kept] / np.append(p, 1.0)[of_row]
        if self.days.size:
            place = np.searchsorted(self.kept, self.days[0])
            price[place] = row_dual[self.days].sum(axis=0)
        A = self.taking.program.A[: self.kept.size, : x.size]
        left = slope - A.T @ price
        return Taken(
            x=np.append(x, x[copies]),
            price=np.append(price, left[self.copies]),
            tau=self.taking.program.probability,
            residual=np.inf,
        )

    @property
    def _weights(self) -> Vector:
        """Probabilities of the scenarios, (S,)."""
        program = self.program
        return np.asarray(program.probability[: program.group.size // program.groups])

    def solution(self, found: Taken, each: Envelope) -> MarketSolution:
        """An equilibrium in the market's own columns and rows.

        Multipliers are prices in the scenario times its probability, and of trades the least-norm
        ones.
        """
        p, columns, rows = self._weights, self.program.c.size, self.program.lower.size
        row_dual = np.zeros(rows)
        of_row = self.taking.scenario[: self.kept.size]
        row_dual[self.kept] = found.price[: self.kept.size] * np.append(p, 1.0)[of_row]
        if self.days.size:
            row_dual[self.days] = p[:, None] * row_dual[self.days[0]]
        links = found.price[self.kept.size :]
        row_dual[self.ties] = links[self.of_tie] * p[self.scenario[self.copies[self.of_tie]]]
        x = self._least_trades(found.x[:columns], row_dual)
        costs = self.taking.costs(np.append(x, found.x[columns:]), found.price)
        at_risk = RiskOfPayments.of(self.program, each, costs, x)
        minding = self.taking.minding
        tau = at_risk.tau.copy()
        tau[minding] = found.tau.reshape(self.program.groups, -1)[minding]
        return MarketSolution(
            status="optimal",
            solver="newton",
            x=x,
            row_dual=row_dual,
            risk_adjusted_probability=tau,
            objective=at_risk.value,
        )

    def _least_trades(self, x: Vector, row_dual: Vector) -> Vector:
        """Of the trades that cost everybody the same those of least norm.

        They are looked for in the risk-neutral market in which what scenarios share costs so much
        more, or less, that this equilibrium is its optimum. Those in the scenario and those before
        are looked at one after the other: together they are contracts, which move risk.
        """
        qp = self.program.weighted(self.program.probability)
        missing = qp.gradient(x) - qp.A.T @ row_dual
        shared = np.flatnonzero(self.scenario < 0)
        wedge = np.zeros(x.size)
        for columns in (shared, self.copies):
            wedge[columns] = missing[columns]
        held = np.setdiff1d(np.append(shared, self.copies), self.trades)
        ahead = np.isin(self.trades, self.copies)
        bound_dual = missing - wedge
        for moving in (~ahead, ahead):
            fixed = np.union1d(held, self.trades[~moving])
            lower, upper = qp.x_lower.copy(), qp.x_upper.copy()
            lower[fixed] = upper[fixed] = x[fixed]
            posed = replace(qp, c=qp.c - wedge, x_lower=lower, x_upper=upper)
            claim = Solution(
                status="optimal",
                x=x,
                row_dual=row_dual,
                bound_dual=bound_dual,
                objective=posed.objective(x),
                solver="newton",
            )
            nearest = least_norm(posed, claim, self.trades[moving], np.ones(x.size))
            x = x if nearest is None else nearest
        return x


def equilibria(
    compiled: CompiledModel,
    problem: MarketProblem,
    places: Places,
    data: MarketData,
    each: Envelope,
    neutral: MarketSolution,
    *,
    draws: int,
    seed: int,
) -> list[MarketSolution]:
    """All equilibria that Newton's method finds from many starts, the least costly first.

    Parameters
    ----------
    neutral : MarketSolution
        The risk-neutral market's.
    draws : int
        How many starts are drawn.

    Raises
    ------
    MarketError
        Constraints of the user's join scenarios or prosumers.
    ConvergenceError
        None was found.
    """
    own = OwnUnits.of(problem)
    inside = TakingPrices.of(own.compiled(compiled), own.problem(problem), places, data)
    price = own.units.price / own.row
    start = inside.start(neutral.x / own.units.power, neutral.row_dual / price)
    ends: list[Taken] = []
    for tau in inside.taking.guesses(draws, np.random.default_rng(seed)):
        found = inside.taking.found_at(tau, start)
        if found is not None and not any(inside.taking.same(found, other) for other in ends):
            ends.append(found)
    if not ends:
        raise ConvergenceError(
            "No equilibrium with payments='risk' was found from any start. There may be none, or "
            "data are of very different sizes; sample_equilibria(n, market, starts=...) tries more."
        )
    solutions = [own.solution(inside.solution(found, each), problem) for found in ends]
    return sorted(solutions, key=lambda found: found.objective)


def _ties(compiled: CompiledModel, A: sp.csr_matrix) -> tuple[Labels, Labels, Labels]:
    """Rows that tie scenarios, and of each the column of the first scenario and the other."""
    rows = tied_rows(compiled)
    entries = A[rows].tocoo()
    first, other = np.zeros((2, rows.size), dtype=np.int64)
    negative = entries.data < 0.0
    first[entries.row[negative]] = entries.col[negative]
    other[entries.row[~negative]] = entries.col[~negative]
    return rows, first, other


def _with_shared(A: sp.csr_matrix, days: Labels, shared: Labels) -> sp.csr_matrix:
    """A with columns X behind its own, on which the rows (1) of trades day ahead are."""
    rows, columns = A.shape
    place = np.full(columns, -1)
    place[shared] = np.arange(shared.size)
    entries = A.tocoo()
    row, column = entries.row, entries.col.copy()
    moved = np.isin(row, days) & (place[column] >= 0)
    column[moved] = columns + place[column[moved]]
    return sp.csr_matrix((entries.data, (row, column)), shape=(rows, columns + shared.size))


def _extended(program: RiskProgram, rows: sp.csr_matrix, kept: Labels, count: int) -> RiskProgram:
    """The program of these rows, the kept ones first, with columns X behind its own."""
    nothing, free = np.zeros(rows.shape[0] - kept.size), np.full(count, np.inf)
    return replace(
        program,
        P=sp.block_diag([program.P, sp.csc_matrix((count, count))], format="csc"),
        c=np.append(program.c, np.zeros(count)),
        A=rows,
        lower=np.append(program.lower[kept], nothing),
        upper=np.append(program.upper[kept], nothing),
        x_lower=np.append(program.x_lower, -free),
        x_upper=np.append(program.x_upper, free),
        cell=np.append(program.cell, np.full(count, UNOWNED)),
    )


def _scenario_of_rows(rows: sp.csr_matrix, scenario: Labels) -> Labels:
    """Of each row that of its columns, -1 of rows that have none."""
    filled, _, of_row = ends_by_row(rows, scenario)
    found = np.full(rows.shape[0], -1)
    found[filled] = of_row
    return found


def _links(copies: Labels, shared: Labels, columns: int) -> sp.csr_matrix:
    """Rows x - X."""
    row, one = np.arange(copies.size), np.ones(copies.size)
    where = np.append(row, row), np.append(copies, shared)
    return sp.csr_matrix((np.append(one, -one), where), shape=(copies.size, columns))


def _require_separate(
    compiled: CompiledModel,
    A: sp.csr_matrix,
    scenario: Labels,
    whose: Labels,
    kept: Labels,
    places: Places,
) -> None:
    """Refuse rows that join scenarios, or prosumers other than by a trade."""
    of_scenario = np.where(scenario < 0, np.iinfo(np.int64).max, scenario)
    filled, least, _ = ends_by_row(A, of_scenario)
    _, _, most = ends_by_row(A, scenario)
    apart = (most >= 0) & (least != most)
    _, one, another = ends_by_row(A, whose)
    joined = one != another
    joined &= ~np.isin(kept[filled], places.reciprocity)
    wrong = filled[apart | joined]
    if wrong.size:
        labels = compiled.row_labels[kept[wrong]]
        constraints = compiled.model.constraints
        names = [
            name
            for name in constraints
            if np.isin(labels, constraints[name].labels.to_numpy()).any()
        ]
        raise MarketError(
            f"Constraints {listed(names)} join prosumers or scenarios otherwise than by trades and "
            "shared decisions: with payments='risk' such limits have no price that anybody is "
            "paid. Leave them out, or use payments='none'."
        )
