"""From a compiled model and what prosumers may fear to the market's one solution."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError, MarketError, listed
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.connection import least_worth
from pypsa_p2p.markets.clearing.convex import (
    ByScenario,
    CostAtRisk,
    CostByScenario,
    MarketSolution,
    RiskAverse,
    answer_near,
)
from pypsa_p2p.markets.clearing.covered import with_covers
from pypsa_p2p.markets.clearing.hedged import hedges, with_contracts
from pypsa_p2p.markets.clearing.indifferent import seen_as_by_others
from pypsa_p2p.markets.clearing.own_units import OwnUnits
from pypsa_p2p.markets.clearing.prices import priced_by_rule, priced_by_scenario
from pypsa_p2p.markets.clearing.problem import MarketProblem, separates
from pypsa_p2p.markets.clearing.volumes import Hedges
from pypsa_p2p.markets.clearing.welfare import solve_for_welfare
from pypsa_p2p.solvers.arrays import Labels, Vector
from pypsa_p2p.solvers.fixed_point import fixed_point
from pypsa_p2p.solvers.program import RiskProgram

#: How a market is solved where a program of its own is minimised.
Weigh = Callable[[RiskProgram, MarketProblem], MarketSolution]


def solve_market(compiled: CompiledModel, problem: MarketProblem) -> MarketSolution:
    """The market's solution, ties broken as in MODEL.md §8.8-8.9.

    It is found in the market's own units, and returned in those of `compiled`.

    Raises
    ------
    MarketError
        Contracts at unequal weights, where something connects scenarios or they are limited.
    ConvergenceError
        Prosumers' answers to each other's trades did not settle, or no contract volumes fit.
    """
    _refuse_objective(compiled, problem)
    if problem.planner is not None:
        return solve_for_welfare(compiled, problem, problem.planner)
    own = OwnUnits.of(problem)
    found = _solved_in_own_units(own.compiled(compiled), own.problem(problem))
    return own.solution(found, problem)


def solve_for_cost(compiled: CompiledModel, problem: MarketProblem) -> MarketSolution:
    """What the market costs: its ties are not broken, nothing is priced, no contract counted.

    Raises
    ------
    MarketError, ConvergenceError
        As `solve_market`.
    """
    _refuse_objective(compiled, problem)
    if problem.planner is not None:
        return solve_for_welfare(compiled, problem, problem.planner)
    own = OwnUnits.of(problem)
    inside, asked = own.compiled(compiled), own.problem(problem)
    by_scenario = decomposes(inside, asked)
    weigh: Weigh = CostByScenario() if by_scenario else CostAtRisk()
    if settles(asked, by_scenario):  # answers to each other's trades have to be told apart
        weigh = _weigh(inside, by_scenario)
    found, _ = _solved(weigh, asked, by_scenario)
    return own.solution(found, problem)


def _solved_in_own_units(compiled: CompiledModel, problem: MarketProblem) -> MarketSolution:
    by_scenario = decomposes(compiled, problem)
    found, bought = _solved(_weigh(compiled, by_scenario), problem, by_scenario)
    if found.status != "optimal":
        return found
    _warn_of_prices(found, problem)
    if by_scenario:
        found = priced_by_scenario(compiled, problem, found)
    else:
        found = priced_by_rule(problem, seen_as_by_others(problem, found))
    free = not (problem.program.c.any() or problem.program.P.nnz)
    dual = np.zeros_like(found.row_dual) if free else found.row_dual  # what costs nothing
    own = _own_duals(compiled, problem, found.x, dual)
    found = replace(found, row_dual=own, reciprocity1=problem.reciprocity1(own))
    if found.unweighed is not None:
        of_limit = _own_duals(compiled, problem, found.x, found.unweighed.row_dual)
        unweighed = replace(
            found.unweighed, row_dual=of_limit, reciprocity1=problem.reciprocity1(of_limit)
        )
        found = replace(found, unweighed=unweighed)
    if problem.terms is None:
        return found
    tau, price = found.risk_adjusted_probability, _prices_at_risk(problem, found)
    return replace(found, hedges=hedges(problem, found.x, tau, found.tail, bought, price))


def _prices_at_risk(problem: MarketProblem, found: MarketSolution) -> Vector | None:
    """Prices of trades in money of the scenario, (S T E,), where payments are at risk.

    All fear the same: contracts are complete. Where a scenario is not weighed they are those of the
    limit.
    """
    if problem.paid is None:
        return None
    tau = found.risk_adjusted_probability[0]
    shape = tau.size, -1
    now = found.row_dual[problem.reciprocity].reshape(shape)
    price = np.divide(now, tau[:, None], out=np.zeros(now.shape), where=tau[:, None] > 0.0)
    if found.unweighed is not None:
        weight = found.unweighed.weight[0][:, None]
        limit = found.unweighed.row_dual[problem.reciprocity].reshape(shape)
        price = np.divide(limit, weight, out=price, where=weight > 0.0)
    return np.asarray(price.ravel())


def _own_duals(compiled: CompiledModel, problem: MarketProblem, x: Vector, dual: Vector) -> Vector:
    """Multipliers in each prosumer's own units, energy at the connections worth the least."""
    if problem.exports.size:
        dual = least_worth(compiled, problem, x, dual)
    return problem.own_duals(dual)


def _weigh(compiled: CompiledModel, by_scenario: bool) -> Weigh:
    """How the market is solved where all of its solution is asked for."""
    return ByScenario(compiled) if by_scenario else RiskAverse(compiled.capacities)


def _solved(
    weigh: Weigh, problem: MarketProblem, by_scenario: bool
) -> tuple[MarketSolution, Hedges | None]:
    """The solution in the market's own columns and rows, and the contracts a solver bought."""
    if by_scenario:
        return _weighed(weigh, problem, by_scenario), None
    if problem.terms is None or problem.terms.idle:
        return _at_risk(weigh, problem), None
    inside = with_contracts(problem, problem.terms)
    found = _at_risk(weigh, inside.problem)
    bought = inside.found(found.x, found.row_dual) if found.status == "optimal" else None
    return _first(found, inside.rows, inside.columns), bought


def _at_risk(weigh: Weigh, problem: MarketProblem) -> MarketSolution:
    """The solution where risk ties the scenarios together, whatever the measures."""
    if not problem.covers:
        return _weighed(weigh, problem, by_scenario=False)
    found = _weighed(weigh, with_covers(problem), by_scenario=False)
    found = _first(found, *problem.program.A.shape)
    if found.status != "optimal":
        return found
    return replace(found, objective=problem.risk_adjusted_cost(found.x))


def _first(solution: MarketSolution, rows: int, columns: int) -> MarketSolution:
    """A solution in the market's own columns and rows, which are the first."""
    certificate, unweighed = solution.certificate, solution.unweighed
    if unweighed is not None:
        unweighed = replace(unweighed, row_dual=unweighed.row_dual[:rows])
    return replace(
        solution,
        unweighed=unweighed,
        x=solution.x[:columns],
        row_dual=solution.row_dual[:rows],
        certificate=None if certificate is None else certificate[:rows],
    )


def _weighed(weigh: Weigh, problem: MarketProblem, by_scenario: bool) -> MarketSolution:
    """The solution in the columns and rows of the problem's own, scaled, program."""
    neutral, together = _neutral(problem, by_scenario), problem.program.groups == 2
    if not problem.even and not neutral and (together or problem.terms is not None):
        raise MarketError(
            "Contracts in an equilibrium of unequal weights must be complete, without limits, and "
            "need scenarios that nothing connects: leave out limits, investment and what else "
            "couples scenarios, use equal weights, or no contracts."
        )
    if settles(problem, by_scenario):
        return _settle(weigh, problem)
    return weigh(problem.scaled(), problem)


def _neutral(problem: MarketProblem, by_scenario: bool) -> bool:
    """Whether nobody's risk-adjusted probabilities move the trades."""
    return by_scenario or not problem.program.at_risk.any()


def settles(problem: MarketProblem, by_scenario: bool) -> bool:
    """Whether prosumers answer to each other's trades until these settle: nothing is minimised."""
    minimised = problem.cross == 1.0 or (problem.even and _neutral(problem, by_scenario))
    return problem.partner.nnz > 0 and not minimised


def _refuse_objective(compiled: CompiledModel, problem: MarketProblem) -> None:
    """Refuse what a user's own terms in the objective must not be."""
    P, owner, scenario = problem.without_partners(), compiled.owner, compiled.scenario
    concave = compiled.program.P.diagonal() < 0
    if concave.any():
        raise MarketError(
            f"The objective is concave in {_named(compiled, np.flatnonzero(concave))}: a cost must "
            "not have a negative square. Remove that term."
        )
    row, column = P.nonzero()
    shared = (owner[row] != owner[column]) | (scenario[row] != scenario[column])
    if shared.any():
        columns = np.union1d(row[shared], column[shared])
        raise MarketError(
            f"The objective multiplies {_named(compiled, columns)} with each other, decisions of "
            "different prosumers or scenarios, so that their cost is nobody's. Leave the product "
            "out, or put it into a constraint."
        )


def _named(compiled: CompiledModel, columns: Labels) -> str:
    """Variables of the model that have some of these columns."""
    labels = compiled.column_labels[columns]
    names = [
        name
        for name, variable in compiled.model.variables.items()
        if np.isin(labels, variable.labels.to_numpy()).any()
    ]
    return listed(names)


def _settle(weigh: Weigh, problem: MarketProblem) -> MarketSolution:
    """Trades that are everybody's best answer to themselves (MODEL.md §4).

    Each answer is a convex problem, the partners' trades given. Where a scenario is about to
    enter somebody's tail, the answer of least expected cost (MODEL.md §8.9) may jump; then any
    answer will do, and the one near the trades given is taken.
    """
    x = np.zeros(problem.program.c.size)
    answers: list[MarketSolution] = []

    def best(quantities: Vector) -> Vector | None:
        x[problem.coupled] = quantities
        answers.append(weigh(problem.given(x, problem.spent(x)), problem))
        return answers[-1].x[problem.coupled] if answers[-1].status == "optimal" else None

    def near(quantities: Vector) -> Vector | None:
        x[problem.coupled] = quantities
        answers.append(answer_near(problem, x))
        return answers[-1].x[problem.coupled] if answers[-1].status == "optimal" else None

    try:
        fixed_point(best, x[problem.coupled])
    except ConvergenceError:
        fixed_point(near, x[problem.coupled], settled=ACCURACY.fixed_point_near)
        warnings.warn(
            "Of several equilibria the one reported need not have the least expected cost: "
            "prosumers' answers of least expected cost do not settle.",
            stacklevel=2,
        )
    return answers[-1]


def decomposes(compiled: CompiledModel, problem: MarketProblem) -> bool:
    """Whether dispatch is a matter of each scenario, and tau of sorting their costs."""
    program = problem.program
    whole = program.groups == 2
    if not (whole and separates(compiled, program)):
        return False
    return not (program.at_risk.any() and _unowned_costs(program))


def _unowned_costs(program: RiskProgram) -> bool:
    unowned = program.cell >= program.group.size - program.group.size // program.groups
    return bool(program.c[unowned].any() or program.P.diagonal()[unowned].any())


def _warn_of_prices(found: MarketSolution, problem: MarketProblem) -> None:
    if found.price_error <= ACCURACY.price_warning:
        return
    why = (
        " Where nothing may come in at a connection and nothing can leave, some multipliers have "
        "no limit: surplus=True helps, or a grid without losses and idle assets of its own."
    )
    warnings.warn(
        f"Prices are off by up to {found.price_error:.1g} of the largest, and costs by more than "
        f"usual.{why if problem.exports.size else ''}",
        stacklevel=2,
    )
