"""Risk programs: the front door that tries the fast solver first and checks every answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.backends.conic import solve_risk_conic
from pypsa_p2p.solvers.backends.interior_point import solve_risk_interior_point
from pypsa_p2p.solvers.limits import from_reach, within_reach
from pypsa_p2p.solvers.program import RiskProgram, Solution, no_solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.rays import falls_forever
from pypsa_p2p.solvers.residuals import risk_residuals


def solve_risk(program: RiskProgram) -> Solution:
    """Solve a risk program and check the answer against the program itself.

    Where tau can only be p (neutral, theta = 0, or one scenario) this is one quadratic
    program with weights p. Otherwise the structured interior point, then second-order cones.

    Returns
    -------
    Solution
        With tau and the value at risk. "infeasible" carries row weights in `certificate`.
    """
    if not program.at_risk.any():
        return _neutral(program)
    near = within_reach(program)
    if near is not program:
        found = from_reach(program, near, _averse(near))
        if found.status == "infeasible" or _worst(program, found) <= ACCURACY.acceptable_risk:
            return found
    return _averse(program)


def _averse(program: RiskProgram) -> Solution:
    """By the structured interior point; where it does not get there, by second-order cones."""
    answer = solve_risk_interior_point(program)
    if _worst(program, answer) <= ACCURACY.good:
        return answer
    # Rows and bounds do not depend on the weights, so any weights tell whether they can hold.
    feasibility = solve_quadratic(program.weighted(program.probability))
    if feasibility.status == "infeasible":
        return feasibility
    second = solve_risk_conic(program)
    if second.status == "unbounded" and falls_forever(program, solve_risk):
        return second
    best = min(answer, second, key=lambda solution: _worst(program, solution))
    if _worst(program, best) <= ACCURACY.acceptable_risk:
        return best
    iterations = answer.iterations + second.iterations
    return no_solution(program, "failed", f"{answer.solver}, {second.solver}", iterations)


def _worst(program: RiskProgram, solution: Solution) -> float:
    if solution.status != "optimal" or not np.all(np.isfinite(solution.x)):
        return np.inf
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged point is infinitely bad
        return risk_residuals(program, solution).worst


def _neutral(program: RiskProgram) -> Solution:
    """The quadratic program with weights p, for programs whose tau is p."""
    answer = solve_quadratic(program.weighted(program.probability))
    if answer.status != "optimal":
        return answer
    first = replace(
        answer,
        risk_adjusted_probability=program.probability,
        value_at_risk=program.tail(program.costs(answer.x)).value_at_risk,
    )
    if _worst(program, first) <= ACCURACY.good:
        return first
    # The general solver stops at a sum that unlikely scenarios hardly enter.
    second = solve_risk_interior_point(program)
    return second if _worst(program, second) < _worst(program, first) else first
