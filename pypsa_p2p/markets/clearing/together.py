"""Small markets solved together: they share no row and nobody's risk, so that the sum is each.

What an iteration of a solver takes is Python's however small the market, and hardly longer for
twenty of them. Whatever is not certain to be the market's own answer is left to be solved alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.clearing import decomposes, settles
from pypsa_p2p.markets.clearing.convex import MarketSolution, RiskAverse, Unweighed
from pypsa_p2p.markets.clearing.indifferent import anybody_indifferent
from pypsa_p2p.markets.clearing.own_units import OwnUnits
from pypsa_p2p.markets.clearing.prices import priced_by_rule
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.solvers.arrays import Labels, Vector
from pypsa_p2p.solvers.program import UNOWNED, RiskProgram, Solution
from pypsa_p2p.solvers.residuals import risk_residuals

#: Columns of a market that is small, and how many of them are solved together at most: longer
#: vectors leave the processor's cache.
SMALL: Final = 4000
MOST_COLUMNS: Final = 20_000

Asked = tuple[CompiledModel, MarketProblem]


def solved_together(asked: Sequence[Asked]) -> dict[int, MarketSolution]:
    """Solutions of those markets that can be solved with others, by their places."""
    waiting: dict[bytes, list[int]] = {}
    for place, (compiled, problem) in enumerate(asked):
        if _joins(compiled, problem):
            scenarios = problem.program.group.size // problem.program.groups
            of_scenarios = problem.program.probability[-scenarios:].tobytes()
            waiting.setdefault(of_scenarios, []).append(place)
    found: dict[int, MarketSolution] = {}
    for places in waiting.values():
        for some in _pieces(places, [asked[place][1].program.c.size for place in places]):
            if len(some) > 1:
                solutions = _solved([asked[place] for place in some])
                found |= dict(zip(some, solutions, strict=True)) if solutions else {}
    return found


def _joins(compiled: CompiledModel, problem: MarketProblem) -> bool:
    """Whether a market is small, of risk-averse prosumers at their own risk, and minimised."""
    program = problem.program
    plain = problem.terms is None and problem.even and problem.planner is None
    plain = plain and problem.paid is None
    plain = plain and not (problem.exports.size or problem.covers)
    if not (plain and program.at_risk.any() and program.c.size <= SMALL):
        return False
    by_scenario = decomposes(compiled, problem)
    return not by_scenario and not settles(problem, by_scenario)


def _pieces(places: list[int], sizes: list[int]) -> list[list[int]]:
    """Places, in order, as many together as may be solved together."""
    of_piece = np.cumsum(sizes) // MOST_COLUMNS
    return [
        [place for place, other in zip(places, of_piece, strict=True) if other == piece]
        for piece in np.unique(of_piece)
    ]


def _solved(asked: Sequence[Asked]) -> list[MarketSolution]:
    """The solutions; none if they are not certain to be those of every market alone."""
    units = [OwnUnits.of(problem) for _, problem in asked]
    stack = _Stack.of(
        [own.problem(problem) for own, (_, problem) in zip(units, asked, strict=True)]
    )
    capacities = [compiled.capacities for compiled, _ in asked]
    found = RiskAverse(stack.columns(capacities))(stack.problem.scaled(), stack.problem)
    if found.status != "optimal" or found.price_error > ACCURACY.price_warning:
        return []
    parts = stack.split(priced_by_rule(stack.problem, found))
    if not all(_alone(*each) for each in zip(stack.problems, parts, strict=True)):
        return []
    return [
        own.solution(part, problem)
        for own, part, (_, problem) in zip(units, parts, asked, strict=True)
    ]


def _alone(problem: MarketProblem, part: MarketSolution) -> bool:
    """Whether a part solves its market, and nobody in it is to see scenarios as others do."""
    if anybody_indifferent(problem, part):
        return False
    program, tau = problem.scaled(), part.risk_adjusted_probability.ravel()
    tau = np.append(tau, program.probability[tau.size :])
    qp = program.weighted(tau)
    claim = Solution(
        status="optimal",
        x=part.x,
        row_dual=part.row_dual,
        bound_dual=np.asarray(qp.gradient(part.x) - qp.A.T @ part.row_dual),
        objective=part.objective,
        solver=part.solver,
        risk_adjusted_probability=tau,
    )
    return risk_residuals(program, claim).worst <= ACCURACY.promised


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stack:
    """Markets side by side, in their own units: their prosumers are those of one market.

    Attributes
    ----------
    problems : list of MarketProblem
    problem : MarketProblem
        All of them; what is nobody's is the last group, as in each.
    column, row, group : (markets + 1,)
        Where columns, rows and groups of each begin, those of nobody left out.
    """

    problems: list[MarketProblem]
    problem: MarketProblem
    column: Labels
    row: Labels
    group: Labels

    @classmethod
    def of(cls, problems: list[MarketProblem]) -> _Stack:
        """Of markets of the same scenarios."""
        programs = [problem.program for problem in problems]
        column = _starts([program.c.size for program in programs])
        row = _starts([program.lower.size for program in programs])
        group = _starts([program.groups - 1 for program in programs])

        def joined(name: str, starts: Labels | None = None) -> Any:
            parts = [getattr(problem, name) for problem in problems]
            if starts is not None:
                parts = [part + start for part, start in zip(parts, starts[:-1], strict=True)]
            return np.concatenate(parts, axis=-1)

        problem = replace(
            problems[0],
            program=_side_by_side(programs, group),
            partner=sp.block_diag([problem.partner for problem in problems], format="csr"),
            share=joined("share"),
            trades=joined("trades", column),
            fees=joined("fees", column),
            reciprocity=joined("reciprocity", row),
            exports=joined("exports", column),
            priced=joined("priced"),
            reported=joined("reported"),
        )
        return cls(problems=problems, problem=problem, column=column, row=row, group=group)

    def columns(self, each: Sequence[Labels]) -> Labels:
        """Columns of each market as columns of all."""
        return np.concatenate([own + at for own, at in zip(each, self.column[:-1], strict=True)])

    def split(self, found: MarketSolution) -> list[MarketSolution]:
        """The part of each market in the solution of all."""
        return [self._part(found, number, problem) for number, problem in enumerate(self.problems)]

    def _part(self, found: MarketSolution, number: int, problem: MarketProblem) -> MarketSolution:
        columns, rows, groups = (
            slice(starts[number], starts[number + 1])
            for starts in (self.column, self.row, self.group)
        )
        x, unweighed = found.x[columns], found.unweighed
        if unweighed is not None:
            unweighed = Unweighed(
                row_dual=unweighed.row_dual[rows], weight=unweighed.weight[groups]
            )
        return replace(
            found,
            x=x,
            row_dual=found.row_dual[rows],
            risk_adjusted_probability=found.risk_adjusted_probability[groups],
            objective=problem.true(x).objective(x),
            unweighed=unweighed,
            unique=None if found.unique is None else found.unique[rows],
        )


def _starts(sizes: list[int]) -> Labels:
    return np.append(0, np.cumsum(sizes))


def _side_by_side(programs: list[RiskProgram], group: Labels) -> RiskProgram:
    """Programs that share nothing, as one.

    Parameters
    ----------
    group : (programs + 1,)
        Where groups of each begin; after them comes that of nobody, one for all.
    """
    scenarios = programs[0].group.size // programs[0].groups

    def cells(program: RiskProgram, start: int) -> Labels:
        """Cells of its columns among those of all."""
        nobody = scenarios * (program.groups - 1)
        moved = program.cell + scenarios * start
        last = program.cell - nobody + scenarios * group[-1]
        found = np.where(program.cell >= nobody, last, moved)
        return np.where(program.cell == UNOWNED, UNOWNED, found)

    def by_column(name: str) -> Vector:
        return np.concatenate([getattr(program, name) for program in programs])

    def by_cell(name: str) -> Vector:
        owned = [getattr(program, name)[:-scenarios] for program in programs]
        return np.concatenate([*owned, getattr(programs[0], name)[-scenarios:]])

    return RiskProgram(
        P=sp.block_diag([program.P for program in programs], format="csc"),
        c=by_column("c"),
        A=sp.block_diag([program.A for program in programs], format="csr"),
        lower=by_column("lower"),
        upper=by_column("upper"),
        x_lower=by_column("x_lower"),
        x_upper=by_column("x_upper"),
        cell=np.concatenate([cells(*each) for each in zip(programs, group[:-1], strict=True)]),
        constant=by_cell("constant"),
        group=np.repeat(np.arange(group[-1] + 1), scenarios),
        probability=by_cell("probability"),
        least=by_cell("least"),
        most=by_cell("most"),
    )
