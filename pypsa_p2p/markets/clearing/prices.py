"""The multipliers a market reports: one by rule where there are several (MODEL.md §4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.convex import MarketSolution, Matrix
from pypsa_p2p.markets.clearing.probabilities import priced_by_chance
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector, ends_by_row, lines_of
from pypsa_p2p.solvers.limits import probability_of
from pypsa_p2p.solvers.multipliers import Optimum
from pypsa_p2p.solvers.program import RiskProgram


def priced_by_scenario(
    compiled: CompiledModel, problem: MarketProblem, found: MarketSolution
) -> MarketSolution:
    """Multipliers by the rule where every scenario was solved for itself.

    They are chosen as if each were certain and weighed then, so that a scenario which nobody
    weighs has prices too.
    """
    if found.unweighed is None:
        raise TypeError("the multipliers of every scenario alone are needed")
    rows, columns = problem.program.A.shape
    tau = found.risk_adjusted_probability
    certain = np.ones(problem.program.group.size)
    optimum = _optimum(problem, found.x, certain, found.unweighed.row_dual)
    alone = replace(optimum, of_column=np.ones(columns), of_row=np.ones(rows))
    dual, unique = alone.by_rule()
    return replace(
        found,
        row_dual=dual * tau[0][_scenario_of_rows(compiled)],
        unweighed=replace(found.unweighed, row_dual=dual),
        unique=unique,
    )


def priced_by_rule(problem: MarketProblem, found: MarketSolution) -> MarketSolution:
    """Multipliers by the rule at the risk-adjusted probabilities found.

    Where a prosumer does not weigh a scenario, those of the limit that does.
    """
    tau, unweighed = found.risk_adjusted_probability, found.unweighed
    optimum = optimum_at(problem, found.x, tau, found.row_dual)
    dual, unique = optimum.by_rule()
    unique = unique & ~priced_by_chance(problem, found, optimum)
    if unweighed is None or not (unweighed.weight > 0.0).any():
        return replace(found, row_dual=dual, unique=unique)
    limit = optimum_at(problem, found.x, unweighed.weight, unweighed.row_dual)
    limit = replace(limit, program=_with_shared_held(problem.program, found.x))
    weight = np.append(unweighed.weight.ravel(), np.zeros(tau.shape[1]))
    held = _rows_of(problem, problem.program.per_column(weight, unowned=0.0) <= 0.0)
    dual_unweighed, unique_unweighed = replace(limit, held=held).by_rule()
    return replace(
        found,
        row_dual=dual,
        unweighed=replace(unweighed, row_dual=dual_unweighed),
        unique=np.where(held, unique, unique_unweighed),
    )


def optimum_at(problem: MarketProblem, x: Vector, weight: Matrix, row_dual: Vector) -> Optimum:
    """What is optimal where the cost of each group in each scenario counts so much, (G, S)."""
    nobody = problem.program.probability[weight.size :]
    return _optimum(problem, x, np.append(weight.ravel(), nobody), row_dual)


def _optimum(problem: MarketProblem, x: Vector, weight: Vector, row_dual: Vector) -> Optimum:
    """What is optimal where the cost of each cell counts so much, (K,)."""
    program = problem.program
    of_column, of_row = probability_of(program)
    return Optimum(
        program=program,
        x=x,
        gradient=problem.slope(x) * program.per_column(weight),
        row_dual=row_dual,
        of_column=of_column,
        of_row=of_row,
        priced=problem.priced,
        tidy=problem.reported,
        held=np.zeros(row_dual.size, dtype=bool),
    )


def _with_shared_held(program: RiskProgram, x: Vector) -> RiskProgram:
    """A program in which what scenarios share stays at x.

    In the limit it says nothing of prices in one of them: what ties it to the others has any part.
    """
    scenarios = program.group.size // program.groups
    scenario = np.where(program.cell < 0, -1, program.cell % scenarios)
    A = program.A.tocsr()
    filled, least, most = ends_by_row(A, scenario)
    several = np.zeros(A.shape[0], dtype=bool)
    several[filled] = (least >= 0) & (least < most)
    shared = np.zeros(x.size, dtype=bool)
    shared[A.indices[several[lines_of(A)]]] = True
    if not shared.any():
        return program
    return replace(
        program,
        x_lower=np.where(shared, x, program.x_lower),
        x_upper=np.where(shared, x, program.x_upper),
    )


def _rows_of(problem: MarketProblem, columns: Flags) -> Flags:
    """Rows with one of some columns in them, (rows,)."""
    return np.asarray(abs(problem.program.A) @ columns.astype(float) > 0.0)


def _scenario_of_rows(compiled: CompiledModel) -> Labels:
    """Position of each row's scenario, (rows,), where nothing ties scenarios together."""
    A = compiled.program.A.tocsr()
    filled = np.diff(A.indptr) > 0
    scenario = np.zeros(A.shape[0], dtype=np.int64)
    scenario[filled] = compiled.scenario[A.indices[A.indptr[:-1][filled]]]
    return scenario
