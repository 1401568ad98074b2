r"""A planner's choice among prosumers' costs, as a solution of the market (MODEL.md §14).

With :math:`c_n = R_n[\Pi_n]`, one convex program finds the first choice and the weights

.. math:: m_n = \partial F / \partial c_n + \text{multiplier of } c_n \le c_n^{ref}

at which the dispatch solves the market of unequal weights m. What it leaves open is decided in
turn: the next largest costs, or the least sum; then least expected cost and least-norm trades.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.alone import costs_alone
from pypsa_p2p.markets.clearing.convex import MarketSolution, Matrix
from pypsa_p2p.markets.clearing.covered import with_covers
from pypsa_p2p.markets.clearing.own_units import OwnUnits
from pypsa_p2p.markets.clearing.planner import Planner, Welfare
from pypsa_p2p.markets.clearing.prices import priced_by_rule
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.solvers.arrays import Labels, Vector
from pypsa_p2p.solvers.program import UNOWNED
from pypsa_p2p.solvers.welfare import Largest, WeightedSum, WelfareProgram, WelfareSolution
from pypsa_p2p.solvers.welfare_solving import (
    Level,
    kept,
    last_choice,
    levels_of,
    solve_welfare,
)


def solve_for_welfare(
    compiled: CompiledModel, problem: MarketProblem, planner: Planner
) -> MarketSolution:
    """The market's solution where a planner compares the prosumers' costs.

    Raises
    ------
    MarketError
        Nobody pays for something; a prosumer cannot do alone; nobody could gain by agreeing.
    ConvergenceError
        What prosumers pay alone was not found.
    """
    own = OwnUnits.of(problem)
    inside, unit, shift = own.problem(problem), own.units.money, own.shift[:-1]
    asked = planner.counted(shift, unit)
    program = _program(compiled, inside, asked)
    reference = _reference(program, inside, asked)
    levels = _levels(program, asked, reference)
    if levels[-1].found.status != "optimal":
        return own.solution(_no_solution(levels[-1].found, *inside.program.A.shape), problem)
    found, welfare = _solution(compiled, inside, levels, reference)
    weight = welfare.weight / (unit if asked.aims == "gains" else 1.0)
    in_eur = Welfare(
        weight=weight,
        cost=welfare.cost * unit + shift,
        reference=None if reference is None else reference * unit + shift,
    )
    return replace(own.solution(found, problem), welfare=in_eur)


def reference_costs(
    compiled: CompiledModel, problem: MarketProblem, planner: Planner
) -> Vector | None:
    """What costs are compared with, (N,), EUR; None where nothing is.

    Raises
    ------
    MarketError, ConvergenceError
        As `solve_for_welfare`.
    """
    own = OwnUnits.of(problem)
    inside, shift = own.problem(problem), own.shift[:-1]
    asked = planner.counted(shift, own.units.money)
    found = _reference(_program(compiled, inside, asked), inside, asked)
    return None if found is None else found * own.units.money + shift


def _program(compiled: CompiledModel, problem: MarketProblem, planner: Planner) -> WelfareProgram:
    """All that may be decided, and who pays for it; F and limits of costs come later."""
    whole = with_covers(problem) if problem.covers else problem
    program, columns = whole.program, problem.program.c.size
    added = program.cell[columns:]
    owned = added >= 0
    group = np.append(program.group, UNOWNED)[added]
    group[~owned] = _payers_of_cover(problem)
    payer = np.append(compiled.owner, group)
    free = payer == UNOWNED
    if program.c[free].any() or program.P.diagonal()[free].any():
        raise MarketError(
            "The objective holds costs that are nobody's, and social cost functions compare what "
            "prosumers pay: give them to somebody, or take no welfare=."
        )
    count = program.groups - 1
    return WelfareProgram(
        program=program,
        payer=payer,
        aim=WeightedSum(weight=planner.weight),
        most=np.full(count, np.inf),
        paid=np.zeros(count),
    )


def _payers_of_cover(problem: MarketProblem) -> Labels:
    """The group of each column of what cover costs."""
    paid = [
        np.full(cover.price.size, group)
        for group, cover in enumerate(problem.covers)
        if cover is not None
    ]
    return np.concatenate(paid) if paid else np.empty(0, dtype=np.int64)


def _reference(program: WelfareProgram, problem: MarketProblem, planner: Planner) -> Vector | None:
    """What costs are compared with, (N,); None where nothing is."""
    if planner.asks_alone:
        return costs_alone(program, problem, planner.prosumers)
    return planner.given


def _levels(program: WelfareProgram, planner: Planner, reference: Vector | None) -> list[Level]:
    """The choices, one after the other, the last of which may have no solution."""
    aim = planner.aim(reference)
    if planner.participation and reference is not None and planner.aims != "gains":
        room = ACCURACY.tied * np.maximum(1.0, np.abs(reference))
        program = replace(program, most=reference + room)
    program = replace(program, aim=aim)
    if planner.aims == "lexicographic":
        return levels_of(program)
    if planner.aims == "gains":
        some = _where_all_gain(program, planner, reference)
        if some.found.status != "optimal":
            return [some]
        gain = planner.beyond(reference) - program.costs(some.found.x)
        program = replace(program, aim=planner.aim(reference, gain))
    first = Level(program=program, found=solve_welfare(program))
    if first.found.status != "optimal" or not isinstance(aim, Largest):
        return [first]
    return [first, _least_sum(first, aim)]


def _where_all_gain(program: WelfareProgram, planner: Planner, reference: Vector | None) -> Level:
    """The largest least gain, refused where it is none."""
    everybody = np.ones(program.count, dtype=bool)
    aim = Largest(beyond=planner.beyond(reference), among=everybody)
    asked = replace(program, aim=aim)
    found = solve_welfare(asked)
    cost = program.costs(found.x)
    least = ACCURACY.promised * max(1.0, float(np.abs(cost).max()))
    if found.status == "optimal" and aim.value(cost) > -least:
        held = planner.prosumers[found.slope > ACCURACY.no_price]
        raise MarketError(
            f"Nash: no solution makes everybody better off than the reference: {listed(held)} "
            "cannot all gain, and a product of gains needs every gain to be above 0. Give another "
            "reference; or take Maximin(reference='alone'), or participation=True."
        )
    return Level(program=asked, found=found)


def _least_sum(first: Level, aim: Largest) -> Level:
    """Of the solutions of a least largest cost the one of least sum."""
    cost = first.program.costs(first.found.x)
    decided = first.found.slope > ACCURACY.no_price
    program = kept(first.program, first.found, decided)
    room = ACCURACY.tied * np.maximum(1.0, np.abs(cost))
    limit = np.where(decided, np.inf, aim.beyond + aim.value(cost) + room)
    program = replace(
        program,
        aim=WeightedSum(weight=np.ones(program.count)),
        most=np.minimum(program.most, limit),
    )
    return Level(program=program, found=solve_welfare(program))


def _no_solution(found: WelfareSolution, rows: int, columns: int) -> MarketSolution:
    return MarketSolution(
        status=found.status,
        solver=found.solver,
        x=found.x[:columns],
        row_dual=found.row_dual[:rows],
        risk_adjusted_probability=np.empty((0, 0)),
        objective=np.nan,
        certificate=None if found.certificate is None else found.certificate[:rows],
    )


def _solution(
    compiled: CompiledModel,
    problem: MarketProblem,
    levels: list[Level],
    reference: Vector | None,
) -> tuple[MarketSolution, Welfare]:
    """What was found, with prices of the first choice, in the problem's units."""
    first, last = levels[0], levels[-1]
    weight = _weights(first.found.weight)
    x = _chosen(last, np.append(problem.trades.ravel(), compiled.capacities))
    cost = first.program.costs(x)
    rows, columns = problem.program.A.shape
    share = weight / weight.mean()
    share = np.ones(share.size) if np.ptp(share) <= ACCURACY.promised / 10 else share
    weighted = replace(problem, share=np.append(share, 1.0)[compiled.owner])
    found = MarketSolution(
        status="optimal",
        solver=first.found.solver,
        x=x[:columns],
        row_dual=first.found.row_dual[:rows] / weight.mean(),
        risk_adjusted_probability=_tau(levels),
        objective=float(cost.sum()),
    )
    found = priced_by_rule(weighted, found)
    own = weighted.own_duals(found.row_dual)
    found = replace(found, row_dual=own, reciprocity1=weighted.reciprocity1(own))
    return found, Welfare(weight=weight, cost=cost, reference=reference)


def _weights(weight: Vector) -> Vector:
    """m without rounding: 0 where it is none."""
    return np.where(weight > ACCURACY.tied * weight.max(), weight, 0.0)


def _chosen(last: Level, tidy: Labels) -> Vector:
    """What is left open in the end: least expected cost, and least norm of some columns."""
    found, program = last.found, last.program
    everybody = np.ones(program.count, dtype=bool)
    x = last_choice(kept(program, found, everybody, ACCURACY.solver), found.x, tidy)
    dearer = program.costs(x) - program.costs(found.x)
    size = np.maximum(1.0, np.abs(program.costs(found.x)))
    return x if (dearer <= ACCURACY.promised / 10 * size).all() else found.x


def _tau(levels: list[Level]) -> Matrix:
    """(N, S) each one's at the first level that decides her cost, which needs it."""
    first = levels[0].program
    scenarios = first.cells // first.count
    tau = levels[-1].found.tau(levels[-1].program)
    for level in reversed(levels):
        here = np.append(level.decided, False)[level.program.program.group]
        tau = np.where(here, level.found.tau(level.program), tau)
    return np.asarray(tau[: first.cells].reshape(first.count, scenarios))
