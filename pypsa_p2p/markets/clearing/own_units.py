"""A market in its own units, in which typical powers and prices are 1, and its solution back.

Whatever solves a market works in these, so that a threshold means the same in any unit the
user writes it in. They are chosen from what the market needs (loads) and pays (costs), not from
its limits, which may be as large as "none" is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.units import Units, typical
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.clearing.volumes import Hedges
from pypsa_p2p.markets.contract_terms import Terms
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector, largest_entries, lines_of, sum_by
from pypsa_p2p.solvers.presolve import limits_of_columns
from pypsa_p2p.solvers.program import Constraints, RiskProgram


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnUnits:
    """What 1 stands for in every column, row and cost of a market.

    Attributes
    ----------
    units : Units
        MW, or MWh, of every column; EUR of every cost.
    row : (rows,)
        Largest coefficient of every row: what it limits is counted in `units.power` times this.
    shift : (G + 1,)
        What every group pays in any scenario and whatever is decided, EUR. It moves no decision,
        but would hide all others behind its rounding.
    payoff : (K,) or None
        Largest payoff of every contract, EUR in `units.money`.
    """

    units: Units
    row: Vector
    shift: Vector
    payoff: Vector | None

    @classmethod
    def of(cls, problem: MarketProblem) -> OwnUnits:
        """The units of a market."""
        program, terms = problem.program, problem.terms
        row = largest_entries(program.A)
        return cls(
            units=typical_units(program, row, np.append(problem.trades, problem.fees)),
            row=row,
            shift=_certain(program),
            payoff=None if terms is None else _largest_payoff(terms),
        )

    def compiled(self, compiled: CompiledModel) -> CompiledModel:
        """The model as arrays, measured in these units."""
        return replace(
            compiled, program=replace(compiled.program, **self._constraints(compiled.program))
        )

    def problem(self, problem: MarketProblem) -> MarketProblem:
        """The market, measured in these units."""
        own = problem.by_prosumer
        return replace(
            problem,
            program=self._program(problem.program, self.shift),
            by_prosumer=None if own is None else self._program(own, _certain(own)),
            partner=problem.partner * (self.units.power / self.units.price),
            priced=problem.priced / self.row,
            terms=None if problem.terms is None else self._terms(problem.terms),
        )

    def solution(self, found: MarketSolution, problem: MarketProblem) -> MarketSolution:
        """A solution of the market in these units, in the user's."""
        price = self.units.price / self.row
        zeta1, proof, unweighed = found.reciprocity1, found.certificate, found.unweighed
        if unweighed is not None:
            limit1 = unweighed.reciprocity1
            unweighed = replace(
                unweighed,
                row_dual=unweighed.row_dual * price,
                reciprocity1=None if limit1 is None else limit1 * price[problem.reciprocity],
            )
        return replace(
            found,
            units=self.units,
            scale=self.units.money * max(1.0, abs(found.objective)),
            x=found.x * self.units.power,
            row_dual=found.row_dual * price,
            objective=found.objective * self.units.money + float(self.shift.sum()),
            tail=None,
            unweighed=unweighed,
            certificate=None if proof is None else proof / self.row,
            reciprocity1=None if zeta1 is None else zeta1 * price[problem.reciprocity],
            hedges=None if found.hedges is None else self._hedges(found.hedges),
        )

    def _program(self, program: RiskProgram, shift: Vector) -> RiskProgram:
        constant = (program.constant - shift[program.group]) / self.units.money
        return replace(program, constant=constant, **self._constraints(program))

    def _constraints(self, program: Constraints) -> dict[str, Any]:
        power, of_row = self.units.power, self.units.power * self.row
        A = program.A.tocsr()
        values = A.data * (1.0 / self.row)[lines_of(A)]
        return {
            "P": program.P * (power / self.units.price),
            "c": program.c / self.units.price,
            "A": sp.csr_matrix((values, A.indices, A.indptr), shape=A.shape),
            "lower": program.lower / of_row,
            "upper": program.upper / of_row,
            "x_lower": program.x_lower / power,
            "x_upper": program.x_upper / power,
        }

    def _terms(self, terms: Terms) -> Terms:
        assert self.payoff is not None
        unit = self.payoff[:, None]
        limit = None if terms.limit is None else terms.limit * unit / self.units.money
        return replace(terms, payoff=terms.payoff / unit, limit=limit)

    def _hedges(self, hedges: Hedges) -> Hedges:
        assert self.payoff is not None
        return replace(
            hedges,
            volume=hedges.volume * self.units.money / self.payoff[:, None],
            insurance=hedges.insurance * self.units.money,
            price=hedges.price * self.payoff,
        )


def typical_units(program: RiskProgram, row: Vector, trade_columns: Labels) -> Units:
    """Typical powers are what must be met; prices the larger of those of trades and all else.

    Parameters
    ----------
    row : (rows,)
        Largest coefficient of every row.
    trade_columns : array of int
        Columns of traded quantities, and of what fees are paid on.
    """
    trades = np.zeros(program.c.size, dtype=bool)
    trades[trade_columns.ravel()] = True
    power = _typical_power(program, row, trades)

    def price(of: Flags) -> float | None:
        costs = np.append(program.c[of], program.P.diagonal()[of] * power)
        rounding = ACCURACY.rounding * np.abs(costs).max(initial=0.0)
        return typical(costs[np.abs(costs) > rounding])

    found = [price(of) for of in (trades, ~trades)]
    largest = max((cost for cost in found if cost is not None), default=1.0)
    return Units(power=power, money=largest * power)


def _typical_power(program: RiskProgram, row: Vector, trades: Flags) -> float:
    """Of loads and must-take generation; where there is none, of the least limit of everybody.

    The least: limits that do not bind may be as large as "none" is written. Capacities of trades
    count only where there are no others.
    """
    low, high = limits_of_columns(program)
    equal = (program.lower == program.upper) & (np.diff(program.A.tocsr().indptr) > 1)
    found = typical(np.append((program.lower / row)[equal], low[low == high]))
    for chosen in (~trades, trades):
        if found is None:
            nearest = np.minimum(
                *(np.where(end != 0.0, np.abs(end), np.inf) for end in (low, high))
            )
            least = np.full(program.group.size + 1, np.inf)  # of every cell; the last: nobody
            np.minimum.at(least, program.cell[chosen], nearest[chosen])
            found = typical(least)
    return 1.0 if found is None else found


def _certain(program: RiskProgram) -> Vector:
    """Expected constant cost of every group, (G + 1,), EUR."""
    return sum_by(program.group, program.probability * program.constant, program.groups)


def _largest_payoff(terms: Terms) -> Vector:
    largest = np.abs(terms.payoff).max(axis=1, initial=0.0)
    return np.asarray(np.where(largest > 0.0, largest, 1.0))
