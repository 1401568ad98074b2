"""A market's convex problem solved, its ties broken, as a solution of the market."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.units import UNITS_OF_USER, Units
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.planner import Welfare
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.clearing.volumes import Hedges
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector
from pypsa_p2p.solvers.cover import below, common
from pypsa_p2p.solvers.curved import solve_curved
from pypsa_p2p.solvers.least_cost import LeastExpectedCost
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import price_error
from pypsa_p2p.solvers.risk_averse import solve_risk
from pypsa_p2p.solvers.sides import Sides, classify, risk_of
from pypsa_p2p.solvers.tail import worst
from pypsa_p2p.solvers.ties import least_expected_cost, least_norm

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Unweighed:
    """Multipliers where prosumers do not weigh a scenario (MODEL.md §4).

    They are those of the limit in which a vanishing share of the expectation is mixed into their
    measures, so that it weighs every scenario.

    Attributes
    ----------
    row_dual : (rows,)
    weight : (G, S)
        What the limit weighs each group's cost by; 0 where the measure itself does.
    reciprocity1 : (S T E,) or None
        zeta of (1) of the prosumers at bus1 where it may differ from that of those at bus0.
    """

    row_dual: Vector
    weight: Matrix
    reciprocity1: Vector | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class MarketSolution:
    """A market's solution in the columns and rows of the compiled model.

    Attributes
    ----------
    status : {"optimal", "infeasible", "unbounded", "failed"}
    x, row_dual : (columns,), (rows,)
        Multipliers are those of the risk-weighted problem: they carry tau and the hours, and
        are in each prosumer's own units whatever her weight in the equilibrium.
    risk_adjusted_probability : (G, S)
        tau of each group, G = 1 for the community as a whole.
    objective : float
        Sum of the groups' risk-adjusted costs, weights left out, EUR.
    certificate : (rows,) or None
        Weights of rows that cannot hold together, of an infeasible market.
    reciprocity1 : (S T E,) or None
        zeta of (1) of the prosumers at bus1 where it may differ from that of those at bus0.
    tail : Sides or None
        Which costs lie below and above their values at risk, where contracts are traded and no
        sorting told.
    hedges : Hedges or None
        The contracts held, where they are traded.
    unweighed : Unweighed or None
        Where prices follow from no risk-adjusted probability, because that is 0.
    as_others : (G,) or None
        Which groups see the scenarios as the others do, as it is the same to them.
    unique : (rows,) or None
        Whether each multiplier is the only one possible.
    price_error : float
        Largest error of stationarity, relative to the largest price.
    units : Units
        What the market was solved in.
    scale : float
        What errors of the objective are relative to, EUR: its size, constants left out.
    welfare : Welfare or None
        Weights and costs, where a planner compares these.
    """

    status: str
    solver: str
    x: Vector
    row_dual: Vector
    risk_adjusted_probability: Matrix
    objective: float
    certificate: Vector | None = None
    reciprocity1: Vector | None = None
    tail: Sides | None = None
    hedges: Hedges | None = None
    unweighed: Unweighed | None = None
    as_others: Flags | None = None
    unique: Flags | None = None
    price_error: float = 0.0
    units: Units = UNITS_OF_USER
    scale: float = 1.0
    welfare: Welfare | None = None


@dataclass(frozen=True)
class ByScenario:
    """Nothing physical is decided before the scenario is known: dispatch each at least cost.

    MODEL.md §5: the optimum of min CVaR of the community's cost is the optimum of every
    scenario; tau follows by sorting s(omega). Multipliers are those of each scenario alone, until
    `prices.priced_by_scenario` weighs them.
    """

    compiled: CompiledModel

    def __call__(self, program: RiskProgram, problem: MarketProblem) -> MarketSolution:
        """The market's solution where `program` is what is minimised."""
        qp = program.weighted(np.ones(program.group.size))
        found = solve_quadratic(qp)
        if found.status != "optimal":
            return _no_solution(found)
        tidy = np.append(problem.trades.ravel(), self.compiled.capacities)
        x = _least_norm(qp, found, tidy, np.ones(found.x.size))
        x = found.x if _dearer(qp, x, found.x) else x
        true = problem.true(x)
        tau, objective = _tau_of_all(true, true.costs(x), problem)
        nothing = tau <= ACCURACY.promised * program.probability[: tau.size]
        return MarketSolution(
            status="optimal",
            solver=found.solver,
            x=x,
            row_dual=found.row_dual,
            risk_adjusted_probability=tau,
            objective=float(objective),
            unweighed=Unweighed(row_dual=found.row_dual, weight=nothing.astype(float)),
            price_error=_price_error(qp, found, np.ones(found.x.size)),
        )


def _tau_of_all(
    program: RiskProgram, costs: Vector, problem: MarketProblem
) -> tuple[Matrix, float]:
    """The community's tau, (1, S), and its risk, EUR; insurance keeps tau below its price."""
    terms = problem.terms
    price = None if terms is None else terms.insurance_price
    scenarios = costs.size // 2
    own, rounded = costs[:scenarios], _rounded(costs)[:scenarios]
    unowned = float(program.probability[scenarios:] @ costs[scenarios:])
    cover = problem.covers[0] if problem.covers else None
    if cover is not None:
        cover = cover if price is None else common([cover, below(price)])
        found = cover.worst(np.stack([own, rounded]))
        return found[1][1:], float(found[0][0]) + unowned
    if price is None:
        tail = program.tail(costs)
        return program.tail(_rounded(costs)).probability.reshape(2, -1)[:1], tail.value.sum()
    least = np.minimum(program.least[:scenarios], price)  # to rounding
    most = np.minimum(program.most[:scenarios], price)
    exact, chosen = (worst(c, least, most).probability for c in (own, rounded))
    return chosen[None], float(exact @ own) + unowned


@dataclass(frozen=True)
class RiskAverse:
    """Every group at its own risk: the general case."""

    capacities: Labels

    def __call__(self, program: RiskProgram, problem: MarketProblem) -> MarketSolution:
        """The market's solution where `program` is what is minimised."""
        program, found = _solved(program, problem)
        if found.status != "optimal":
            return _no_solution(found)
        tidy = np.append(problem.trades.ravel(), self.capacities)
        x, unweighed = _reported(program, found, tidy, problem)
        solution = _solution(problem, program, found, x, found.row_dual)
        if unweighed is None:
            return solution
        tau = np.where(unweighed.weight > 0.0, 0.0, solution.risk_adjusted_probability)
        return replace(solution, unweighed=unweighed, risk_adjusted_probability=tau)


@dataclass(frozen=True)
class CostByScenario:
    """As `ByScenario`, of which nothing is asked but what it costs: ties stay as they fall."""

    def __call__(self, program: RiskProgram, problem: MarketProblem) -> MarketSolution:
        """A solution where `program` is what is minimised."""
        found = solve_quadratic(program.weighted(np.ones(program.group.size)))
        if found.status != "optimal":
            return _no_solution(found)
        true = problem.true(found.x)
        tau, objective = _tau_of_all(true, true.costs(found.x), problem)
        return _costing(found, tau, float(objective))


@dataclass(frozen=True)
class CostAtRisk:
    """As `RiskAverse`, of which nothing is asked but what it costs."""

    def __call__(self, program: RiskProgram, problem: MarketProblem) -> MarketSolution:
        """A solution where `program` is what is minimised."""
        program, found = _solved(program, problem)
        if found.status != "optimal":
            return _no_solution(found)
        tau = risk_of(found)[0].reshape(program.groups, -1)[:-1]
        return _costing(found, tau, problem.true(found.x).objective(found.x))


def _solved(program: RiskProgram, problem: MarketProblem) -> tuple[RiskProgram, Solution]:
    """A solution, and the program without curves that it solves."""
    if not problem.curved:
        return program, solve_risk(program)
    answer = solve_curved(program, problem.curved)
    return answer.program, answer.solution


def _costing(found: Solution, tau: Matrix, objective: float) -> MarketSolution:
    return MarketSolution(
        status="optimal",
        solver=found.solver,
        x=found.x,
        row_dual=found.row_dual,
        risk_adjusted_probability=tau,
        objective=objective,
    )


def answer_near(problem: MarketProblem, x: Vector) -> MarketSolution:
    """A best answer to trades x that does not move them without need."""
    program = problem.kept_near(problem.given(x, problem.spent(x)), x)
    program, found = _solved(program, problem)
    if found.status != "optimal":
        return _no_solution(found)
    rows, columns = problem.program.A.shape
    return _solution(problem, program, found, found.x[:columns], found.row_dual[:rows])


def _solution(
    problem: MarketProblem, program: RiskProgram, found: Solution, x: Vector, row_dual: Vector
) -> MarketSolution:
    """What `found` says, of the `program` that was solved, with x to report."""
    tau, _ = risk_of(found)
    true, tail = problem.true(x), None
    if problem.terms is not None:
        tail = classify(true, replace(found, x=found.x[: x.size]), problem.weighed_by)
    return MarketSolution(
        status="optimal",
        solver=found.solver,
        x=x,
        row_dual=row_dual,
        risk_adjusted_probability=tau.reshape(problem.program.groups, -1)[:-1],
        objective=true.objective(x),
        tail=tail,
        price_error=_price_error(
            program.weighted(tau), found, program.per_column(program.probability)
        ),
    )


def _price_error(qp: QuadraticProgram, found: Solution, unit: Vector) -> float:
    error, largest = price_error(qp, found, unit)
    return error / max(1.0, largest)


def _reported(
    program: RiskProgram, found: Solution, tidy: Labels, problem: MarketProblem
) -> tuple[Vector, Unweighed | None]:
    """The optimum to report, of least norm in `tidy`: trades and capacities.

    What is aside is nobody's cost. The solver's own where breaking ties would cost anything.
    """
    chosen = least_expected_cost(program, found, problem.aside, problem.weighed_by)
    if chosen is None:
        warnings.warn(
            "Of several equally good solutions the solver's own is reported: the one of least "
            "expected cost was not found to the accuracy asked for.",
            stacklevel=2,
        )
        return found.x, None
    x = _tidied(program, chosen, tidy)
    if _dearer(program, x, found.x):
        return found.x, None
    return x, _unweighed(program, chosen)


def _tidied(program: RiskProgram, chosen: LeastExpectedCost, tidy: Labels) -> Vector:
    """The optimum of least expected cost with the least norm in `tidy`."""
    columns = chosen.columns
    unit = program.per_column(program.probability)[columns]
    weight = np.append(unit, np.ones(program.groups))
    here = np.flatnonzero(np.isin(columns, tidy))
    x = chosen.x.copy()
    x[columns] = _least_norm(chosen.program, chosen.solution, here, weight)[: columns.size]
    return x


def _unweighed(program: RiskProgram, chosen: LeastExpectedCost) -> Unweighed:
    """What the choice of least expected cost says of scenarios that somebody does not weigh."""
    owned = program.group < program.groups - 1
    weight = np.where(chosen.weighed, 0.0, chosen.weight)[owned]
    return Unweighed(
        row_dual=chosen.row_dual,
        weight=weight.reshape(program.groups - 1, -1),
    )


def _dearer(program: QuadraticProgram | RiskProgram, x: Vector, best: Vector) -> bool:
    """Whether x costs more than the optimum, by more than rounding."""
    lost = program.objective(x) - program.objective(best)
    weight = program.per_column(program.probability) if isinstance(program, RiskProgram) else 1.0
    return bool(
        lost > ACCURACY.tied * max(1.0, np.abs(weight * program.cost_by_column(best)).sum())
    )


def _least_norm(qp: QuadraticProgram, found: Solution, tidy: Labels, weight: Vector) -> Vector:
    nearest = least_norm(qp, found, tidy, weight) if tidy.size else None
    return found.x if nearest is None else nearest


def _rounded(costs: Vector) -> Vector:
    scale = ACCURACY.tied * max(1.0, np.abs(costs).max())
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
