"""The risk-averse optimum of least expected cost, found with care.

Slower than `ties.least_expected_cost`, which asks this where its own answer is not good: all of
the face takes part, rows enter as they break, and precision rises with the steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import NO_LABELS, Labels, Vector
from pypsa_p2p.solvers.face import Region
from pypsa_p2p.solvers.least_cost import Choice, LeastExpectedCost
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import quadratic_residuals
from pypsa_p2p.solvers.sides import Sides

MAX_STEPS = 40


def least_expected_cost_carefully(
    program: RiskProgram,
    solution: Solution,
    tail: Sides,
    face: QuadraticProgram,
    aside: Labels = NO_LABELS,
) -> LeastExpectedCost | None:
    """Newton's method on the program of `least_cost`; None if it does not settle.

    Most rows hold by themselves: a step knows only those an earlier step broke, and those next to
    a value at risk, which would have no limits otherwise.
    """
    choice = Choice.of(program, tail, Region.of(face), solution.x, aside)
    curved = program.P.diagonal() > 0  # costs are linear in the others: any step is exact there
    known = ~(tail.below | tail.above)
    known[tail.nearest(program, solution.x)] = True
    x, multiplier, precision = solution.x, np.zeros(known.size), ACCURACY.tie_rough
    for _ in range(MAX_STEPS):
        rows = np.flatnonzero(known)
        step = choice.step(x, multiplier, rows, ACCURACY.tie_proximal)
        found = solve_quadratic(step, precision, precision)
        if found.status != "optimal":
            return None
        move = np.abs(found.x[: x.size] - x)[curved].max(initial=0.0) / max(1.0, np.abs(x).max())
        exact = (
            precision == ACCURACY.tie_good
            or quadratic_residuals(step, found).worst <= ACCURACY.tie_good
        )
        precision = float(np.clip(move**2, ACCURACY.tie_good, ACCURACY.tie_rough))
        x, level = found.x[: x.size], found.x[x.size :]
        multiplier = choice.multiplier(found.row_dual[face.lower.size :], rows)
        broken = tail.broken(program, x, level) & ~known
        if exact and move <= ACCURACY.settled and not broken.any():
            qp, found = _with_all_rows(choice, found, multiplier, rows)
            return choice.chosen(qp, found, x, found.row_dual, multiplier)
        known |= broken
    return None


def _with_all_rows(
    choice: Choice, found: Solution, multiplier: Vector, rows: Labels
) -> tuple[QuadraticProgram, Solution]:
    """The last step with every cell's row, and its solution: the rows left out hold freely."""
    of_face = choice.region.lower.size
    every = np.arange(choice.program.group.size)
    qp = choice.step(found.x[: choice.program.c.size], multiplier, every)
    dual = np.zeros(qp.lower.size)
    dual[np.append(np.arange(of_face), of_face + rows)] = found.row_dual
    return qp, replace(found, row_dual=dual)
