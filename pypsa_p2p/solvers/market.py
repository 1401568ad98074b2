"""From a compiled model and a risk attitude to the market's one solution."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pypsa_p2p.contracts import Terms
from pypsa_p2p.errors import ConvergenceError, MarketError, listed
from pypsa_p2p.solvers.compiled import CompiledModel
from pypsa_p2p.solvers.contracts import (
    WithContracts,
    hedges,
    with_contracts,
    worth_least,
    worth_most,
)
from pypsa_p2p.solvers.exports import least_worth
from pypsa_p2p.solvers.fixed_point import fixed_point
from pypsa_p2p.solvers.problem import MarketProblem, separates
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution, Vector
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import price_error
from pypsa_p2p.solvers.risk import solve_risk
from pypsa_p2p.solvers.tail import capped
from pypsa_p2p.solvers.ties import (
    PRECISION,
    Tail,
    classify,
    least_expected_cost,
    least_norm,
    optimal_face,
    risk_of,
)
from pypsa_p2p.solvers.volumes import Hedges

Matrix = npt.NDArray[np.float64]
Columns = npt.NDArray[np.int64]

#: Costs closer than this, relative to the largest, count as tied at the value at risk.
TIE = 1e-9
#: Error of prices, relative to the largest, that is worth a warning.
PRICE_ERROR = 1e-5
#: Relative change of trades at which answers near them have settled: they move slowly.
NEAR = 1e-6


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
    reciprocity1 : (E S T,) or None
        zeta of (1) of the prosumers at bus1 where it may differ from that of those at bus0.
    tail : Tail or None
        Which costs lie below and above their values at risk, where contracts are traded and no
        sorting told.
    hedges : Hedges or None
        The contracts held, where they are traded.
    price_error : float
        Largest error of stationarity, relative to the largest price.
    """

    status: str
    solver: str
    x: Vector
    row_dual: Vector
    risk_adjusted_probability: Matrix
    objective: float
    certificate: Vector | None = None
    reciprocity1: Vector | None = None
    tail: Tail | None = None
    hedges: Hedges | None = None
    price_error: float = 0.0


def solve_market(compiled: CompiledModel, problem: MarketProblem) -> MarketSolution:
    """The market's solution, ties broken as in MODEL.md §8.8-8.9.

    Raises
    ------
    MarketError
        Contracts at unequal weights, where something connects scenarios or they are limited.
    ConvergenceError
        Prosumers' answers to each other's trades did not settle, or no contract volumes fit.
    """
    _refuse_objective(compiled, problem)
    by_scenario = _decomposes(compiled, problem.program)
    found, bought = _solved(compiled, problem, by_scenario)
    if found.status != "optimal":
        return found
    _warn_of_prices(found, problem)
    dual = found.row_dual
    if problem.exports.size:
        dual = least_worth(compiled, problem, found.x, dual)
    own = problem.own_duals(dual)
    found = replace(found, row_dual=own, reciprocity1=problem.reciprocity1(own))
    if problem.terms is None:
        return found
    tau = found.risk_adjusted_probability
    return replace(found, hedges=hedges(problem, found.x, tau, found.tail, bought))


def _solved(
    compiled: CompiledModel, problem: MarketProblem, by_scenario: bool
) -> tuple[MarketSolution, Hedges | None]:
    """The solution in the market's own columns and rows, and the contracts a solver bought."""
    if problem.terms is None or problem.terms.idle or by_scenario:
        return _weighed(compiled, problem, by_scenario), None
    inside = with_contracts(problem, problem.terms)
    found = _weighed(compiled, inside.problem, by_scenario)
    bought = inside.found(found.x, found.row_dual) if found.status == "optimal" else None
    return _without_contracts(found, inside), bought


def _without_contracts(solution: MarketSolution, inside: WithContracts) -> MarketSolution:
    """A solution in the market's own columns and rows."""
    certificate = solution.certificate
    return replace(
        solution,
        x=solution.x[: inside.columns],
        row_dual=solution.row_dual[: inside.rows],
        certificate=None if certificate is None else certificate[: inside.rows],
    )


def _weighed(compiled: CompiledModel, problem: MarketProblem, by_scenario: bool) -> MarketSolution:
    """The solution in the columns and rows of the problem's own, scaled, program."""
    program, congested = problem.program, problem.partner.nnz > 0
    weigh = _ByScenario(compiled) if by_scenario else _RiskAverse(compiled.capacities)
    neutral = by_scenario or not program.at_risk.any()
    together = program.attitude.size == 2
    if not problem.even and not neutral and (together or problem.terms is not None):
        raise MarketError(
            "Contracts in an equilibrium of unequal weights must be complete, without limits, and "
            "need scenarios that nothing connects: leave out limits, investment and what else "
            "couples scenarios, use equal weights, or no contracts."
        )
    if not congested or problem.cross == 1.0 or (problem.even and neutral):
        return weigh(problem.scaled(), problem)
    return _settle(weigh, problem)


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


def _named(compiled: CompiledModel, columns: Columns) -> str:
    """Variables of the model that have some of these columns."""
    labels = compiled.column_labels[columns]
    names = [
        name
        for name, variable in compiled.model.variables.items()
        if np.isin(labels, variable.labels.to_numpy()).any()
    ]
    return listed(names)


def _settle(weigh: _Weigh, problem: MarketProblem) -> MarketSolution:
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
        answers.append(_near(problem, x))
        return answers[-1].x[problem.coupled] if answers[-1].status == "optimal" else None

    try:
        fixed_point(best, x[problem.coupled])
    except ConvergenceError:
        fixed_point(near, x[problem.coupled], settled=NEAR)
        warnings.warn(
            "Of several equilibria the one reported need not have the least expected cost: "
            "prosumers' answers of least expected cost do not settle.",
            stacklevel=2,
        )
    return answers[-1]


def _near(problem: MarketProblem, x: Vector) -> MarketSolution:
    """A best answer to trades x that does not move them without need."""
    program = problem.kept_near(problem.given(x, problem.spent(x)), x)
    found = solve_risk(program)
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
        tail = classify(true, replace(found, x=found.x[: x.size]))
    return MarketSolution(
        status="optimal",
        solver=found.solver,
        x=x,
        row_dual=row_dual,
        risk_adjusted_probability=tau.reshape(problem.program.attitude.size, -1)[:-1],
        objective=true.objective(x),
        tail=tail,
        price_error=_price_error(
            program.weighted(tau), found, program.per_column(program.probability)
        ),
    )


def _decomposes(compiled: CompiledModel, program: RiskProgram) -> bool:
    """Whether dispatch is a matter of each scenario, and tau of sorting their costs."""
    whole = program.attitude.size == 2
    if not (whole and separates(compiled, program)):
        return False
    return not (program.at_risk.any() and _unowned_costs(program))


def _unowned_costs(program: RiskProgram) -> bool:
    unowned = program.cell >= program.group.size - program.group.size // program.attitude.size
    return bool(program.c[unowned].any() or program.P.diagonal()[unowned].any())


@dataclass(frozen=True)
class _ByScenario:
    """Nothing physical is decided before the scenario is known: dispatch each at least cost.

    MODEL.md §5: the optimum of min CVaR of the community's cost is the optimum of every
    scenario; tau follows by sorting s(omega), and multiplies the scenario's prices.
    """

    compiled: CompiledModel

    def __call__(self, program: RiskProgram, problem: MarketProblem) -> MarketSolution:
        qp = program.weighted(np.ones(program.group.size))
        found = solve_quadratic(qp)
        if found.status != "optimal":
            return _no_solution(found)
        tidy = np.append(problem.trades.ravel(), self.compiled.capacities)
        x = _least_norm(qp, found, tidy, np.ones(found.x.size))
        true = problem.true(x)
        tau, objective = _tau_of_all(true, true.costs(x), problem.terms)
        return MarketSolution(
            status="optimal",
            solver=found.solver,
            x=x,
            row_dual=found.row_dual * tau[0][self._scenario_of_rows(program)],
            risk_adjusted_probability=tau,
            objective=float(objective),
            price_error=_price_error(qp, found, np.ones(found.x.size)),
        )

    def _scenario_of_rows(self, program: RiskProgram) -> Columns:
        A = program.A.tocsr()
        filled = np.diff(A.indptr) > 0
        scenario = np.zeros(A.shape[0], dtype=np.int64)
        scenario[filled] = self.compiled.scenario[A.indices[A.indptr[:-1][filled]]]
        return scenario


def _tau_of_all(program: RiskProgram, costs: Vector, terms: Terms | None) -> tuple[Matrix, float]:
    """The community's tau, (1, S), and its risk, EUR; insurance keeps tau below its price."""
    if terms is None or terms.insurance_price is None:
        tail = program.tail(costs)
        return program.tail(_rounded(costs)).probability.reshape(2, -1)[:1], tail.value.sum()
    scenarios = terms.insurance_price.size
    least = np.minimum(worth_least(program)[:scenarios], terms.insurance_price)  # to rounding
    most = np.minimum(worth_most(program)[:scenarios], terms.insurance_price)
    exact, rounded = (capped(c[:scenarios], least, most) for c in (costs, _rounded(costs)))
    unowned = float(program.probability[scenarios:] @ costs[scenarios:])
    return rounded[None], float(exact @ costs[:scenarios]) + unowned


@dataclass(frozen=True)
class _RiskAverse:
    """Every group at its own risk: the general case."""

    capacities: Columns

    def __call__(self, program: RiskProgram, problem: MarketProblem) -> MarketSolution:
        found = solve_risk(program)
        if found.status != "optimal":
            return _no_solution(found)
        x = _reported(program, found, np.append(problem.trades.ravel(), self.capacities))
        return _solution(problem, program, found, x, found.row_dual)


_Weigh = _ByScenario | _RiskAverse


def _price_error(qp: QuadraticProgram, found: Solution, unit: Vector) -> float:
    error, largest = price_error(qp, found, unit)
    return error / max(1.0, largest)


def _warn_of_prices(found: MarketSolution, problem: MarketProblem) -> None:
    if found.price_error <= PRICE_ERROR:
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


def _reported(program: RiskProgram, found: Solution, tidy: Columns) -> Vector:
    """The optimum to report, of least norm in `tidy`: trades and capacities.

    The solver's own where breaking ties would cost anything.
    """
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
    x = _least_norm(qp, solution, tidy, weight)[: found.x.size]
    best = program.objective(found.x)
    worse = program.objective(x) - best > PRECISION * max(1.0, abs(best))
    return found.x if worse else x


def _least_norm(qp: QuadraticProgram, found: Solution, tidy: Columns, weight: Vector) -> Vector:
    if not tidy.size:
        return found.x
    nearest = least_norm(optimal_face(qp, found, weight), tidy)
    return nearest.x if nearest.status == "optimal" else found.x


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
