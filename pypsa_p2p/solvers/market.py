"""From a compiled model and a risk attitude to the market's one solution."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pypsa_p2p.solvers.compiled import CompiledModel
from pypsa_p2p.solvers.program import UNOWNED, QuadraticProgram, RiskProgram, Solution, Vector
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.risk import solve_risk
from pypsa_p2p.solvers.ties import (
    PRECISION,
    least_expected_cost,
    least_norm,
    optimal_face,
    risk_of,
)

Matrix = npt.NDArray[np.float64]

#: Costs closer than this, relative to the largest, count as tied at the value at risk.
TIE = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class MarketSolution:
    """A market's solution in the columns and rows of the compiled model.

    Attributes
    ----------
    status : {"optimal", "infeasible", "unbounded", "failed"}
    x, row_dual : (columns,), (rows,)
        Multipliers are those of the risk-weighted problem: they carry tau and the hours.
    risk_adjusted_probability : (G, S)
        tau of each group, G = 1 for the community as a whole.
    objective : float
        Sum of the groups' risk-adjusted costs, EUR.
    certificate : (rows,) or None
        Weights of rows that cannot hold together, of an infeasible market.
    """

    status: str
    solver: str
    x: Vector
    row_dual: Vector
    risk_adjusted_probability: Matrix
    objective: float
    certificate: Vector | None = None


def risk_program(
    compiled: CompiledModel,
    probability: Vector,
    attitude: Vector,
    weight: float,
    fixed_cost: Matrix,
) -> RiskProgram:
    """The market as min sum_g R_g, its groups the prosumers or, where there is one, all of them.

    Parameters
    ----------
    probability : (S,)
    attitude : (G,)
        One per prosumer, or a single one for the community.
    weight : float
        theta of MODEL.md §3.
    fixed_cost : (S, N)
        What no decision changes, EUR.
    """
    scenarios, groups = probability.size, attitude.size
    of_prosumer = compiled.owner if groups > 1 else np.minimum(compiled.owner, 0)
    group = np.where(of_prosumer == UNOWNED, groups, of_prosumer)
    cell = np.where(compiled.scenario < 0, UNOWNED, group * scenarios + compiled.scenario)
    constant = fixed_cost if groups > 1 else fixed_cost.sum(axis=1, keepdims=True)
    unowned = np.zeros((scenarios, 1))  # a risk-neutral group of its own
    by_column = np.append(probability, 1.0)[compiled.scenario]
    qp = compiled.program
    P = qp.P.tocsc(copy=True)
    P.data = P.data / np.repeat(by_column, np.diff(P.indptr))
    return RiskProgram(
        P=P,
        c=qp.c / by_column,
        A=qp.A,
        lower=qp.lower,
        upper=qp.upper,
        x_lower=qp.x_lower,
        x_upper=qp.x_upper,
        cell=cell,
        constant=np.hstack([constant, unowned]).T.ravel(),
        group=np.repeat(np.arange(groups + 1), scenarios),
        probability=np.tile(probability, groups + 1),
        attitude=np.append(attitude, 0.0),
        weight=weight,
    )


def solve_market(
    compiled: CompiledModel, program: RiskProgram, trades: npt.NDArray[np.int64]
) -> MarketSolution:
    """The market's solution, ties broken as in MODEL.md §8.8-8.9.

    Parameters
    ----------
    trades : (2 E S T,)
        Columns of the traded quantities.
    """
    separable = separates(compiled, program)
    whole = program.attitude.size == 2
    if whole and separable and (not program.at_risk.any() or not _unowned_costs(program)):
        return _scenario_by_scenario(compiled, program, trades)
    return _risk_averse(program, trades)


def separates(compiled: CompiledModel, program: RiskProgram) -> bool:
    """Whether no row and no variable ties scenarios together."""
    if (compiled.scenario < 0).any():
        return False
    A = program.A.tocsr()
    filled = np.flatnonzero(np.diff(A.indptr))
    if not filled.size:
        return True
    of_entry, starts = compiled.scenario[A.indices], A.indptr[filled]
    least, most = np.minimum.reduceat(of_entry, starts), np.maximum.reduceat(of_entry, starts)
    return bool((least == most).all())


def _unowned_costs(program: RiskProgram) -> bool:
    unowned = program.cell >= program.group.size - program.group.size // program.attitude.size
    return bool(program.c[unowned].any() or program.P.diagonal()[unowned].any())


def _scenario_by_scenario(
    compiled: CompiledModel, program: RiskProgram, trades: npt.NDArray[np.int64]
) -> MarketSolution:
    """Nothing physical is decided before the scenario is known: dispatch each at least cost.

    MODEL.md §5: the optimum of min CVaR of the community's cost is the optimum of every
    scenario; tau follows by sorting s(omega), and multiplies the scenario's prices.
    """
    qp = program.weighted(np.ones(program.group.size))
    found = solve_quadratic(qp)
    if found.status != "optimal":
        return _no_solution(found)
    x = _least_norm_trades(qp, found, trades, np.ones(found.x.size))
    costs = program.costs(x)
    tau = program.tail(_rounded(costs)).probability
    scenarios = compiled.scenario
    row_scenario = np.zeros(program.A.shape[0], dtype=np.int64)
    A = program.A.tocsr()
    filled = np.diff(A.indptr) > 0
    row_scenario[filled] = scenarios[A.indices[A.indptr[:-1][filled]]]
    tau_market = tau.reshape(2, -1)[:1]
    return MarketSolution(
        status="optimal",
        solver=found.solver,
        x=x,
        row_dual=found.row_dual * tau_market[0][row_scenario],
        risk_adjusted_probability=tau_market,
        objective=program.objective(x),
    )


def _risk_averse(program: RiskProgram, trades: npt.NDArray[np.int64]) -> MarketSolution:
    found = solve_risk(program)
    if found.status != "optimal":
        return _no_solution(found)
    x = _reported(program, found, trades)
    tau, _ = risk_of(found)
    return MarketSolution(
        status="optimal",
        solver=found.solver,
        x=x,
        row_dual=found.row_dual,
        risk_adjusted_probability=tau.reshape(program.attitude.size, -1)[:-1],
        objective=program.objective(x),
    )


def _reported(program: RiskProgram, found: Solution, trades: npt.NDArray[np.int64]) -> Vector:
    """The optimum to report; the solver's own where breaking ties would cost anything."""
    chosen = least_expected_cost(program, found)
    if chosen is None:
        warnings.warn(
            "Of several equally good solutions the solver's own is reported: the one of least "
            "expected cost was not found to the accuracy asked for.",
            stacklevel=2,
        )
        return found.x
    qp, solution = chosen
    unit = program.per_column(program.probability)
    groups = program.attitude.size
    weight = np.append(unit, np.ones(groups))
    x = _least_norm_trades(qp, solution, trades, weight)[: found.x.size]
    best = program.objective(found.x)
    worse = program.objective(x) - best > PRECISION * max(1.0, abs(best))
    return found.x if worse else x


def _least_norm_trades(
    qp: QuadraticProgram, found: Solution, trades: npt.NDArray[np.int64], weight: Vector
) -> Vector:
    if not trades.size:
        return found.x
    tidy = least_norm(optimal_face(qp, found, weight), trades)
    return tidy.x if tidy.status == "optimal" else found.x


def _rounded(costs: Vector) -> Vector:
    scale = TIE * max(1.0, np.abs(costs).max())
    return np.asarray(np.round(costs / scale) * scale)


def _no_solution(found: Solution) -> MarketSolution:
    return MarketSolution(
        status=found.status,
        solver=found.solver,
        x=found.x,
        row_dual=found.row_dual,
        risk_adjusted_probability=np.empty((0, 0)),
        objective=np.nan,
        certificate=found.certificate,
    )
