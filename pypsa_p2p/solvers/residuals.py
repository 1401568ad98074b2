"""How far a solution is from optimal, recomputed from the program alone.

Programs are in the market's own units: a typical quantity, price and cost is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from pypsa_p2p.solvers.arrays import Sparse, Vector, sum_by
from pypsa_p2p.solvers.limits import probability_of
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution


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
        errors = [getattr(self, field.name) for field in fields(self)]
        return float(np.max(np.nan_to_num(errors, nan=np.inf)))


def quadratic_residuals(program: QuadraticProgram, solution: Solution) -> Residuals:
    """Residuals of a solution of a quadratic program."""
    return _quadratic(_Claim(program=program, solution=solution))


def quadratic_errors(
    program: QuadraticProgram, solution: Solution
) -> tuple[Residuals, tuple[float, float]]:
    """Residuals of a solution of a quadratic program, and its `price_error` per unit 1."""
    claim = _Claim(program=program, solution=solution)
    return _quadratic(claim), _price_error(claim, np.ones(program.c.size))


def risk_residuals(program: RiskProgram, solution: Solution) -> Residuals:
    """Residuals of a solution of a risk program, with its tau."""
    tau = solution.risk_adjusted_probability
    if tau is None:
        raise ValueError("the solution has no risk_adjusted_probability")
    costs = program.costs(solution.x)
    risk = program.tail(costs).value.sum()
    claim = _Claim(program=program.weighted(tau), solution=solution)
    products, scale = claim.products, claim.size_of_cost
    of_column, of_row = probability_of(program)
    return Residuals(
        primal=_primal(claim),
        stationarity=_stationarity(claim, program.per_column(program.probability)),
        dual_sign=_dual_sign(claim),
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
    return _price_error(_Claim(program=program, solution=solution), unit)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Claim:
    """A claimed optimum, and what several residuals need of it, worked out once.

    Attributes
    ----------
    values, sizes : (m,)
        A x, and |A| |x|.
    curved, gradient : (n,)
        P x, and P x + c.
    bounds : (n,)
        Multipliers of bounds, those of rows of one column among them.
    error : (n,)
        What all multipliers leave of the gradient.
    prices : (n,)
        Sizes of the prices of every column: its rows' multipliers, and what they leave of c. A
        bound's multiplier takes up the cost of what is idle, however large: no price of anything.
    """

    program: QuadraticProgram
    solution: Solution

    @cached_property
    def rows(self) -> Sparse:
        return self.program.A.tocsr()

    @cached_property
    def magnitudes(self) -> Sparse:
        return abs(self.rows)

    @cached_property
    def values(self) -> Vector:
        return np.asarray(self.rows @ self.solution.x)

    @cached_property
    def sizes(self) -> Vector:
        return np.asarray(self.magnitudes @ abs(self.solution.x))

    @cached_property
    def curved(self) -> Vector:
        return np.asarray(self.program.P @ self.solution.x)

    @cached_property
    def gradient(self) -> Vector:
        return self.curved + self.program.c

    @cached_property
    def of_rows(self) -> Vector:
        """(m,) multipliers of rows of several columns, 0 of those of one."""
        single = np.diff(self.rows.indptr) == 1
        return np.where(single, 0.0, self.solution.row_dual)

    @cached_property
    def bounds(self) -> Vector:
        z, single = self.solution.bound_dual, self.solution.row_dual - self.of_rows
        return z + self.rows.T @ single if single.any() else z

    @cached_property
    def error(self) -> Vector:
        return self.gradient - self.rows.T @ self.of_rows - self.bounds

    @cached_property
    def prices(self) -> Vector:
        c = self.program.c
        left = np.minimum(abs(c), abs(c - self.bounds))
        return np.asarray(self.magnitudes.T @ abs(self.of_rows) + left)

    @cached_property
    def products(self) -> Vector:
        """|multiplier x slack| of every row, then column, in objective units; 0 without a side.

        A limit may be as far away as it likes: slack beyond the largest quantity counts as that.
        """
        program, solution = self.program, self.solution
        values = np.concatenate([self.values, solution.x])
        multipliers = np.concatenate([solution.row_dual, solution.bound_dual])
        lower = np.concatenate([program.lower, program.x_lower])
        upper = np.concatenate([program.upper, program.x_upper])
        side = np.where(multipliers > 0.0, lower, upper)
        slack = np.where(np.isfinite(side), abs(values - side), 0.0)
        return np.asarray(abs(multipliers) * np.minimum(slack, max(1.0, _largest(abs(values)))))

    @cached_property
    def size_of_cost(self) -> float:
        """The sum of the cost's absolute terms, constants left out; at least 1, a typical cost."""
        terms = self.solution.x * (self.program.c + 0.5 * self.curved)
        return max(1.0, float(np.abs(terms).sum()))


def _quadratic(claim: _Claim) -> Residuals:
    return Residuals(
        primal=_primal(claim),
        stationarity=_stationarity(claim, np.ones(claim.program.c.size)),
        dual_sign=_dual_sign(claim),
        gap=float(claim.products.sum()) / claim.size_of_cost,
    )


def _price_error(claim: _Claim, unit: Vector) -> tuple[float, float]:
    used = np.minimum(abs(claim.gradient), abs(claim.gradient - claim.bounds))
    return _largest(abs(claim.error) / unit), _largest(used / unit)


def _largest(values: Vector) -> float:
    """The largest of nonnegative values, 0 if there are none."""
    return float(np.max(values, initial=0.0))


def _primal(claim: _Claim) -> float:
    program, x, rows = claim.program, claim.solution.x, claim.values
    outside = np.maximum(program.lower - rows, rows - program.upper)
    beyond = np.maximum(program.x_lower - x, x - program.x_upper)
    worst_row = np.max(outside / np.maximum(1.0, claim.sizes), initial=0.0)
    return float(max(worst_row, np.max(beyond / np.maximum(1.0, abs(x)), initial=0.0)))


def _stationarity(claim: _Claim, unit: Vector) -> float:
    # Where all prices vanish, the gradient of one unit of x keeps rounding from looking large.
    flat = abs(claim.program.P) @ np.maximum(abs(claim.solution.x), 1.0)
    largest = max(_largest(flat / unit), _largest_price(claim, claim.prices / unit))
    return float(_largest(abs(claim.error) / unit) / largest) if largest > 0.0 else 0.0


def _largest_price(claim: _Claim, prices: Vector) -> float:
    """The largest; where all vanish a typical cost, 1, or the largest if it is below that."""
    return max(_largest(prices), min(1.0, _largest(abs(claim.program.c)) or 1.0))


def _dual_sign(claim: _Claim) -> float:
    program, y, z = claim.program, claim.solution.row_dual, claim.solution.bound_dual
    multipliers = np.concatenate([y, z])
    lower = np.concatenate([program.lower, program.x_lower])
    upper = np.concatenate([program.upper, program.x_upper])
    wrong = np.where(multipliers > 0.0, np.isinf(lower), np.isinf(upper))
    own = max(_largest_price(claim, claim.prices), _largest(abs(program.P.diagonal())))
    return float(_largest(abs(multipliers[wrong])) / own) if own > 0.0 else 0.0


def _envelope(program: RiskProgram, tau: Vector) -> float:
    least, room = program.least, program.room
    outside = np.maximum(least - tau, tau - least - room) / program.probability
    total = sum_by(program.group, tau, program.groups)
    return float(max(np.max(outside, initial=0.0), np.max(abs(total - 1.0), initial=0.0)))
