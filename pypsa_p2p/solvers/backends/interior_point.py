"""A primal-dual interior point for risk programs: the QCQP itself, no cones.

With excess costs u and values at risk eta, MODEL.md section 3 reads

    min   sum_k least_k Pi_k(x) + sum_g left_g eta_g + sum_k room_k u_k
    s.t.  Pi_k(x) - eta_g(k) - u_k + t_k = 0,  t >= 0,  u >= 0        multiplier sigma_k
          rows and bounds,                                            multipliers y, z

with room = most - least and left_g = 1 - sum_k least_k, and tau = least + sigma, 0 <= sigma <=
room. Mehrotra's predictor-corrector steps on

    sum_k tau_k grad Pi_k = A'y + z,    sum_{k in g} sigma_k = left_g,
    y s = mu w,   sigma t = mu w,   (room - sigma) u = mu w,

where s are the slacks of rows and bounds and the weights w are proportional to the
probability of the scenario: unlikely scenarios are followed as closely as likely ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.progress import iterations_shown
from pypsa_p2p.solvers.arrays import Vector, sum_by
from pypsa_p2p.solvers.backends.newton import NewtonSystem
from pypsa_p2p.solvers.limits import Limits, probability_of
from pypsa_p2p.solvers.presolve import presolve
from pypsa_p2p.solvers.program import RiskProgram, Solution, no_solution

_PATIENCE = 8  # iterations without much progress that say so
_MAX_ITERATIONS = 100
_TO_BOUNDARY = 0.995  # share taken of the step that reaches the boundary

_SOLVER = "interior point"


def solve_risk_interior_point(program: RiskProgram) -> Solution:
    """Solve a risk program; the caller checks the answer.

    Cells whose tau can only be p cost nothing extra: without others this is a solver of
    quadratic programs, slower than general ones but as exact in unlikely scenarios.

    Returns
    -------
    Solution
        "optimal" if the iterations met their tolerance or nearly did, else "failed": it tells
        neither infeasible nor unbounded programs. "infeasible" only if presolve proves it.
    """
    reduction = presolve(program)
    if reduction.certificate is not None:
        return no_solution(program, "infeasible", "presolve", 0, reduction.certificate)
    small = reduction.program
    if reduction.columns.size == 0:
        tau, nothing = small.tail(small.constant).probability, np.zeros(0)
        return reduction.solution(
            nothing, nothing, nothing, solver="presolve", iterations=0, tau=tau
        )
    method = InteriorPoint(small)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        converged, iterations = method.run()
    if not converged:
        return no_solution(program, "failed", _SOLVER, iterations)
    x, y, z, tau = method.answer()
    return reduction.solution(x, y, z, solver=_SOLVER, iterations=iterations, tau=tau)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Iterate:
    """A point, or a step from one.

    `slack` and `multiplier` stack the complementary pairs: limits (s, y), cells (t, sigma),
    excess costs (u, room - sigma); `equality` are the multipliers of the equalities.
    """

    x: Vector
    eta: Vector
    equality: Vector
    slack: Vector
    multiplier: Vector

    def moved(self, step: _Iterate, length: float) -> _Iterate:
        """The point `length` along the step."""
        return _Iterate(
            x=self.x + length * step.x,
            eta=self.eta + length * step.eta,
            equality=self.equality + length * step.equality,
            slack=self.slack + length * step.slack,
            multiplier=self.multiplier + length * step.multiplier,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Errors:
    """What a step has to change: residuals of stationarity (x, eta) and of feasibility."""

    x: Vector
    eta: Vector
    equality: Vector
    limits: Vector
    cells: Vector


class InteriorPoint:
    """One solve: `run`, then `answer`.

    The program is in units in which typical prices and quantities are near 1.
    """

    def __init__(self, program: RiskProgram) -> None:
        self.program = program
        self.limits = Limits.of(program)
        self.P, self.c = sparse.csr_matrix(program.P), program.c
        self.A = sparse.csr_matrix(program.A)
        self.A_transposed = sparse.csr_matrix(self.A.T)
        self._collect_cells()
        of_column, of_row = probability_of(program)
        probability = program.probability[self.cells]
        self.column_probability = of_column
        self.weight = self._weights(np.concatenate([of_column, of_row]), probability)
        self.newton = NewtonSystem(
            self.P,
            self.A,
            self.member,
            self.group,
            groups=self.groups,
            column_scale=of_column,
            row_scale=of_row,
            cell_scale=probability,
        )
        self.iterate = self._start()

    # ------------------------------------------------------------------ data

    def _collect_cells(self) -> None:
        """The cells at risk, numbered anew; the others keep tau = p."""
        program = self.program
        self.cells = np.flatnonzero(program.at_risk)
        position = np.full(program.group.size + 1, -1)
        position[self.cells] = np.arange(self.cells.size)
        self.member = position[program.cell]
        self.owned = np.flatnonzero(self.member >= 0)
        names, self.group = np.unique(program.group[self.cells], return_inverse=True)
        self.groups = names.size
        self.room = program.room[self.cells]
        self.least = program.least
        self.to_assign = program.to_assign[names]
        self.assigned = _inside((program.probability - program.least)[self.cells], self.room)
        self.constant = program.constant[self.cells]

    def _weights(self, of_values: Vector, of_cells: Vector) -> Vector:
        """w above. At tau = p, sigma is p - least and room - sigma most - p, hence their ratio.

        The spread of a cell's cost grows with its number of terms; weights that follow it
        (found by trial) keep the cells' pairs from reaching the boundary before the rest.
        """
        terms = self.owned.size / max(1, self.cells.size)
        cells = 2.0 * np.sqrt(max(1.0, terms)) * of_cells
        self.parts = np.cumsum([self.limits.index.size, self.cells.size])
        ratio = (self.room - self.assigned) / self.assigned
        return np.concatenate([of_values[self.limits.index], cells, cells * ratio])

    def _start(self) -> _Iterate:
        """Mid-range x, slacks at least a tenth of the typical limit, and tau = p."""
        program = self.program
        low, high = program.x_lower, program.x_upper
        x = np.clip(0.0, low, high)
        both = np.isfinite(low) & np.isfinite(high)
        x[both] = 0.5 * (low[both] + high[both])
        slack = np.maximum(self.limits.slack(self._values(x)), 0.1)
        costs = self._costs(x, self._gradient(x))
        eta = self._by_group(costs) / self._by_group(np.ones(costs.size))
        excess = costs - eta[self.group]
        spread = 0.1 + np.sqrt(np.sum(excess**2) / max(1, excess.size))
        sigma = self.assigned
        t, u = spread + np.maximum(-excess, 0.0), spread + np.maximum(excess, 0.0)
        return _Iterate(
            x=x,
            eta=eta,
            equality=np.zeros(self.limits.right.size),
            slack=np.concatenate([slack, t, u]),
            multiplier=np.concatenate([self.weight[: slack.size], sigma, self.room - sigma]),
        )

    def _parted(self, pairs: Vector) -> tuple[Vector, Vector, Vector]:
        """Of complementary pairs those of limits, cells and excess costs."""
        first, second = self.parts
        return pairs[:first], pairs[first:second], pairs[second:]

    # ------------------------------------------------------------------ functions of x

    def _values(self, x: Vector) -> Vector:
        return np.concatenate([x, self.A @ x])

    def _gradient(self, x: Vector) -> Vector:
        return np.asarray(self.c + self.P @ x)

    def _costs(self, x: Vector, gradient: Vector) -> Vector:
        return self.constant + self._by_cell(0.5 * x * (self.c + gradient))

    def _by_cell(self, by_column: Vector) -> Vector:
        return sum_by(self.member[self.owned], by_column[self.owned], self.cells.size)

    def _by_group(self, by_cell: Vector) -> Vector:
        return sum_by(self.group, by_cell, self.groups)

    def _tau(self) -> Vector:
        tau = self.least.copy()
        tau[self.cells] += self._parted(self.iterate.multiplier)[1]
        return tau

    # ------------------------------------------------------------------ one iteration

    def _errors(self, gradient: Vector, weights: Vector) -> _Errors:
        now, limits = self.iterate, self.limits
        s, t, u = self._parted(now.slack)
        of_limits, sigma, _ = self._parted(now.multiplier)
        z, y = limits.multipliers(of_limits, now.equality)
        values = self._values(now.x)
        drift = limits.slack(values) - s
        # Rounding in A x, multiplied by multiplier / slack, would move the multipliers.
        drift[abs(drift) <= ACCURACY.differences * (1.0 + abs(limits.limit))] = 0.0
        return _Errors(
            x=self.A_transposed @ y + z - weights * gradient,
            eta=self._by_group(sigma) - self.to_assign,
            equality=limits.right - values[limits.columns :][limits.equal],
            limits=drift,
            cells=now.eta[self.group] + u - t - self._costs(now.x, gradient),
        )

    def _factor(self, gradient: Vector, weights: Vector) -> None:
        """Refresh the Newton matrix at the current iterate."""
        s, t, u = self._parted(self.iterate.slack)
        y, sigma, rest = self._parted(self.iterate.multiplier)
        on_columns, on_rows = self.limits.gather(y / s)
        # A row without limits has no stiffness; the floor leaves it out of the system.
        self.compliance = np.where(
            self.limits.equal, 0.0, 1.0 / np.maximum(on_rows, ACCURACY.no_stiffness)
        )
        self.newton.refresh(weights, on_columns, gradient, self.compliance, t / sigma + u / rest)

    def _direction(self, errors: _Errors, products: Vector, refined: bool = True) -> _Iterate:
        """The Newton step that changes slack x multiplier by `products`."""
        now, limits = self.iterate, self.limits
        s, t, u = self._parted(now.slack)
        y, sigma, rest = self._parted(now.multiplier)
        wanted, wanted_t, wanted_u = self._parted(products)
        pull_x, pull = limits.gather(limits.sign * (wanted - y * errors.limits) / s)
        rows = pull * self.compliance
        rows[limits.equal] = errors.equality
        cells = errors.cells + wanted_u / rest - wanted_t / sigma
        dx, d_eta, minus_dy, d_sigma = self.newton.solve(
            [errors.x + pull_x, errors.eta, rows, cells], refined
        )
        # A dx by way of dy: the sum itself cancels, and multiplier / slack is large.
        d_rows = self.compliance * (pull + minus_dy)
        ds = limits.sign * np.concatenate([dx, d_rows])[limits.index] + errors.limits
        dt, du = (wanted_t - t * d_sigma) / sigma, (wanted_u + u * d_sigma) / rest
        return _Iterate(
            x=dx,
            eta=d_eta,
            equality=-minus_dy[limits.equal],
            slack=np.concatenate([ds, dt, du]),
            multiplier=np.concatenate([(wanted - y * ds) / s, d_sigma, -d_sigma]),
        )

    def _bent(self, errors: _Errors, step: _Iterate) -> _Errors:
        """Errors plus the curvature that a linear step leaves out of costs and gradients."""
        bend = self.P @ step.x
        sigma = np.append(self._parted(step.multiplier)[1], 0.0)
        return replace(
            errors,
            x=errors.x - sigma[self.member] * bend,
            cells=errors.cells - self._by_cell(0.5 * step.x * bend),
        )

    def _longest(self, step: _Iterate) -> float:
        """The part of the step, at most 1, that keeps slacks and multipliers nonnegative."""
        now = self.iterate
        fall = min((step.slack / now.slack).min(), (step.multiplier / now.multiplier).min())
        return 1.0 / max(-float(fall), 1.0)

    def _step(self, errors: _Errors, gap_floor: float) -> tuple[_Iterate, float]:
        """Mehrotra's combined step and the part of it to take."""
        now = self.iterate
        products = now.slack * now.multiplier
        affine = self._direction(errors, -products, refined=False)  # it only shows the way
        ahead = now.moved(affine, self._longest(affine))
        gap, gap_ahead = products.sum(), ahead.slack @ ahead.multiplier
        gap_aim = max((gap_ahead / gap) ** 3 * gap, gap_floor)
        wanted = self.weight * (gap_aim / self.weight.sum()) - products
        step = self._direction(
            self._bent(errors, affine), wanted - affine.slack * affine.multiplier
        )
        return step, min(1.0, _TO_BOUNDARY * self._longest(step))

    def run(self) -> tuple[bool, int]:
        """Iterate to the tolerance, or nearly there and no further; and the iterations taken.

        A step from nearly there may lead away again: the best point counts.
        """
        with iterations_shown(self.program.c.size) as shown:
            return self._run(shown)

    def _run(self, shown: Any) -> tuple[bool, int]:
        """`run`, each iteration shown with its error."""
        best, nearest, stuck, taken = np.inf, self.iterate, 0, 0
        for _ in range(_MAX_ITERATIONS):
            gradient = self._gradient(self.iterate.x)
            tau = self._tau()
            weights = np.append(tau, 1.0)[self.program.cell]
            errors = self._errors(gradient, weights)
            gap = ACCURACY.interior * self._objective_size(gradient, tau, weights)
            error = self._error(errors, gap)
            stuck = stuck + 1 if best <= ACCURACY.interior_nearly and error > 0.5 * best else 0
            if error < best:
                best, nearest = error, self.iterate
            if error <= ACCURACY.interior or stuck == _PATIENCE:
                break
            if not np.max(self.iterate.multiplier) < ACCURACY.diverged:
                break
            self._factor(gradient, weights)
            step, length = self._step(errors, 0.1 * gap)
            self.iterate = self.iterate.moved(step, length)
            taken += 1
            shown.update()
            shown.set_postfix_str(f"error {error:.0e} of {ACCURACY.interior:.0e}", refresh=False)
        self.iterate = nearest
        return best <= ACCURACY.interior_nearly, taken

    def _objective_size(self, gradient: Vector, tau: Vector, weights: Vector) -> float:
        """|objective|, at least 1, a typical cost."""
        x = self.iterate.x
        objective = tau @ self.program.constant + (weights * x) @ (0.5 * (self.c + gradient))
        return max(1.0, abs(float(objective)))

    def _error(self, errors: _Errors, gap: float) -> float:
        """The largest of the residuals, and of the gap relative to the one allowed."""
        now = self.iterate
        cost = float(np.max(abs(now.eta), initial=0.0))
        size = 1.0 + float(np.max(abs(now.x)))
        feasibility = np.concatenate([errors.equality, errors.limits]) / size
        relative = [errors.x / self.column_probability, errors.eta, errors.cells / (1.0 + cost)]
        worst = max(np.max(abs(error), initial=0.0) for error in [feasibility, *relative])
        return float(max(worst, ACCURACY.interior * (now.slack @ now.multiplier) / gap))

    def answer(self) -> tuple[Vector, Vector, Vector, Vector]:
        """(x, y, z, tau) in the units of the program."""
        of_limits = self._parted(self.iterate.multiplier)[0]
        z, y = self.limits.multipliers(of_limits, self.iterate.equality)
        return self.iterate.x, y, z, self._tau()


def _inside(assigned: Vector, room: Vector) -> Vector:
    """What tau = p assigns, or where that is at an end of the envelope, a tenth of it inside."""
    within = (assigned > 0.0) & (assigned < room)
    return np.where(within, assigned, np.clip(assigned, 0.1 * room, 0.9 * room))
