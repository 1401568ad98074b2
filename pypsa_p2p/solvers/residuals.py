"""How far a solution is from optimal, recomputed from the program alone.

Programs are in the market's own units: a typical quantity, price and cost is 1.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from pypsa_p2p.solvers.arrays import Vector, sum_by
from pypsa_p2p.solvers.limits import probability_of
from pypsa_p2p.solvers.presolve import bound_multipliers
from pypsa_p2p.solvers.program import Constraints, QuadraticProgram, RiskProgram, Solution


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """Relative errors of a claimed optimum; all 0 exactly at one.

    Attributes
    ----------
    primal
        Largest violation of a row or bound, relative to the size of the row's terms.
    stationarity
        Largest entry of grad f - A'y - z, relative to the largest price in it. In risk
        programs both are first divided by the probability of the column's cell, so that an
        unlikely scenario counts as much as a likely one.
    dual_sign
        Largest multiplier that pushes against a side its row or bound does not have,
        relative to the largest price.
    gap
        sum |multiplier x slack|, plus in risk programs exact sum_g R_g(x) - sum_k tau_k Pi_k(x);
        relative to the size of the cost. With the others at 0 this is primal minus dual value.
    complementarity
        Risk programs: largest |multiplier x slack| divided by the probability of its scenario,
        relative to the size of the cost: prices of unlikely scenarios hide in the gap.
    envelope
        Risk programs: how far tau leaves its envelope, relative to p, or sums to other than 1.
    """

    primal: float
    stationarity: float
    dual_sign: float
    gap: float
    complementarity: float = 0.0
    envelope: float = 0.0

    @property
    def worst(self) -> float:
        """The largest of them; nan counts as infinite."""
        return float(np.max(np.nan_to_num(astuple(self), nan=np.inf)))


def quadratic_residuals(program: QuadraticProgram, solution: Solution) -> Residuals:
    """Residuals of a solution of a quadratic program."""
    scale, prices = _size_of_cost(program, solution.x), _prices(program, solution)
    return Residuals(
        primal=_primal(program, solution.x),
        stationarity=_stationarity(program, solution, prices, np.ones(program.c.size)),
        dual_sign=_dual_sign(program, solution, prices),
        gap=float(_products(program, solution).sum()) / scale,
    )


def risk_residuals(program: RiskProgram, solution: Solution) -> Residuals:
    """Residuals of a solution of a risk program, with its tau."""
    tau = solution.risk_adjusted_probability
    if tau is None:
        raise ValueError("the solution has no risk_adjusted_probability")
    costs = program.costs(solution.x)
    risk = program.tail(costs).value.sum()
    weighted = program.weighted(tau)
    unit = program.per_column(program.probability)
    scale, prices = _size_of_cost(weighted, solution.x), _prices(weighted, solution)
    products = _products(program, solution)
    of_column, of_row = probability_of(program)
    return Residuals(
        primal=_primal(program, solution.x),
        stationarity=_stationarity(weighted, solution, prices, unit),
        dual_sign=_dual_sign(weighted, solution, prices),
        gap=float(abs(risk - tau @ costs) + products.sum()) / scale,
        complementarity=_largest(products / np.concatenate([of_row, of_column])) / scale,
        envelope=_envelope(program, tau),
    )


def price_error(program: QuadraticProgram, solution: Solution, unit: Vector) -> tuple[float, float]:
    """How far stationarity is off, and the largest marginal cost in it, per `unit`.

    Without regard to the size of multipliers: those that have no limit, because nothing can leave
    its bounds, would hide the error. Costs that a bound's multiplier takes up, those of what is
    idle, are nobody's price.
    """
    gradient = program.gradient(solution.x)
    y, z = bound_multipliers(program, solution)
    error = gradient - program.A.T @ y - z
    used = np.minimum(abs(gradient), abs(gradient - z))
    return _largest(abs(error) / unit), _largest(used / unit)


def _largest(values: Vector) -> float:
    """The largest of nonnegative values, 0 if there are none."""
    return float(np.max(values, initial=0.0))


def _size_of_cost(program: QuadraticProgram, x: Vector) -> float:
    """The sum of the cost's absolute terms, constants left out; at least 1, a typical cost."""
    return max(1.0, float(np.abs(program.cost_by_column(x)).sum()))


def _primal(program: Constraints, x: Vector) -> float:
    rows = program.A @ x
    size = abs(program.A) @ abs(x)
    outside = np.maximum(program.lower - rows, rows - program.upper)
    beyond = np.maximum(program.x_lower - x, x - program.x_upper)
    worst_row = np.max(outside / np.maximum(1.0, size), initial=0.0)
    return float(max(worst_row, np.max(beyond / np.maximum(1.0, abs(x)), initial=0.0)))


def _stationarity(
    program: QuadraticProgram, solution: Solution, prices: Vector, unit: Vector
) -> float:
    x, y, z = solution.x, solution.row_dual, solution.bound_dual
    error = program.gradient(x) - program.A.T @ y - z
    # Where all prices vanish, the gradient of one unit of x keeps rounding from looking large.
    flat = abs(program.P) @ np.maximum(abs(x), 1.0)
    largest = max(_largest(flat / unit), _largest_price(program, prices / unit))
    return float(_largest(abs(error) / unit) / largest) if largest > 0.0 else 0.0


def _prices(program: Constraints, solution: Solution) -> Vector:
    """Sizes of the prices of every column, (n,): its rows' multipliers, and what they leave of c.

    A bound's multiplier takes up the cost of what is idle, however large: no price of anything.
    """
    y, z = bound_multipliers(program, solution)
    left = np.minimum(abs(program.c), abs(program.c - z))
    return np.asarray(abs(program.A.T) @ abs(y) + left)


def _largest_price(program: Constraints, prices: Vector) -> float:
    """The largest; where all vanish a typical cost, 1, or the largest if it is below that."""
    return max(_largest(prices), min(1.0, _largest(abs(program.c)) or 1.0))


def _dual_sign(program: Constraints, solution: Solution, prices: Vector) -> float:
    y, z = solution.row_dual, solution.bound_dual
    multipliers = np.concatenate([y, z])
    lower = np.concatenate([program.lower, program.x_lower])
    upper = np.concatenate([program.upper, program.x_upper])
    wrong = np.where(multipliers > 0.0, np.isinf(lower), np.isinf(upper))
    own = max(_largest_price(program, prices), _largest(abs(program.P.diagonal())))
    return float(_largest(abs(multipliers[wrong])) / own) if own > 0.0 else 0.0


def _products(program: Constraints, solution: Solution) -> Vector:
    """|multiplier x slack| of every row, then column, in objective units; 0 without a side.

    A limit may be as far away as it likes: slack beyond the largest quantity counts as that.
    """
    x, y, z = solution.x, solution.row_dual, solution.bound_dual
    values = np.concatenate([program.A @ x, x])
    multipliers = np.concatenate([y, z])
    lower = np.concatenate([program.lower, program.x_lower])
    upper = np.concatenate([program.upper, program.x_upper])
    side = np.where(multipliers > 0.0, lower, upper)
    slack = np.where(np.isfinite(side), abs(values - side), 0.0)
    return np.asarray(abs(multipliers) * np.minimum(slack, max(1.0, _largest(abs(values)))))


def _envelope(program: RiskProgram, tau: Vector) -> float:
    least, room = program.least, program.room
    outside = np.maximum(least - tau, tau - least - room) / program.probability
    total = sum_by(program.group, tau, program.groups)
    return float(max(np.max(outside, initial=0.0), np.max(abs(total - 1.0), initial=0.0)))
