"""Welfare programs solved and checked, and what their optima leave open decided in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector
from pypsa_p2p.solvers.backends.welfare_cones import solve_welfare_conic
from pypsa_p2p.solvers.face import optimal_face
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.welfare import (
    Largest,
    WeightedSum,
    WelfareProgram,
    WelfareSolution,
    no_welfare_solution,
)
from pypsa_p2p.solvers.welfare_lines import WelfareLines
from pypsa_p2p.solvers.welfare_newton import costs_at, program_of, refined


def solve_welfare(program: WelfareProgram) -> WelfareSolution:
    """Solve a welfare program and check the answer against the program itself.

    Second-order and exponential cones first, then Newton's method from there.
    """
    for regularisation in ACCURACY.clarabel:
        first = solve_welfare_conic(program, regularisation)
        if first.status == "optimal":
            best, error = refined(program, first)
            if error <= ACCURACY.acceptable_risk:
                return best
    # Rows and bounds do not depend on the weights, so any weights tell whether they can hold.
    risk = program.program
    feasible = solve_quadratic(risk.weighted(risk.probability))
    if feasible.status == "infeasible":
        return no_welfare_solution(program, "infeasible", feasible.solver, feasible.certificate)
    unbounded = first.status == "unbounded"
    return no_welfare_solution(program, "unbounded" if unbounded else "failed", first.solver)


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """One level of a lexicographic choice.

    Attributes
    ----------
    program : WelfareProgram
    found : WelfareSolution
    """

    program: WelfareProgram
    found: WelfareSolution

    @property
    def decided(self) -> Flags:
        """(G,) groups whose cost the level decides: those with a multiplier."""
        weight = self.found.weight
        return np.asarray(weight > ACCURACY.no_price * weight.max())

    def kept(self) -> WelfareProgram:
        """The program of all of its solutions, whatever F: on its face, costs limited."""
        return kept(self.program, self.found, self.decided)


def kept(
    program: WelfareProgram, found: WelfareSolution, decided: Flags, room: float = ACCURACY.tied
) -> WelfareProgram:
    """The solutions of a welfare program, as a program: costs that are decided do not rise.

    What has curvature and counts is where it is at all of them, and so is what has a multiplier.

    Parameters
    ----------
    decided : (G,)
    room : float
        What costs may rise by, relative to them: rounding.
    """
    risk = program.program
    size = max(float(found.weight.max()), float(program.expected))
    least = ACCURACY.no_price * size * risk.probability  # below it a cell holds nothing in place
    counted = replace(found, sigma=np.where(found.sigma > least, found.sigma, 0.0))
    qp, solution = counted.as_solution(program)
    qp = replace(qp, P=qp.P / size, c=qp.c / size)
    scaled = replace(
        solution, row_dual=solution.row_dual / size, bound_dual=solution.bound_dual / size
    )
    face = optimal_face(qp, scaled, risk.per_column(risk.probability))
    cost = program.costs(found.x)
    more = room * np.maximum(1.0, np.abs(cost))
    on_face = replace(
        risk,
        A=face.A,
        lower=face.lower,
        upper=face.upper,
        x_lower=face.x_lower,
        x_upper=face.x_upper,
    )
    most = np.where(decided, cost + more, program.most)
    return replace(program, program=on_face, most=most)


def levels_of(program: WelfareProgram) -> list[Level]:
    """The leximin: the largest of some groups least, then the next, until all are decided.

    The last one has no solution where one was not found.
    """
    assert isinstance(program.aim, Largest)
    levels: list[Level] = []
    among = program.aim.among
    while among.any():
        asked = replace(program, aim=replace(program.aim, among=among))
        found = solve_welfare(asked)
        levels.append(Level(program=asked, found=found))
        if found.status != "optimal":
            break
        decided = among & (found.slope > ACCURACY.no_price)
        program = replace(kept(asked, found, decided), aim=program.aim)
        among = among & ~decided
    return levels


def last_choice(program: WelfareProgram, x: Vector, tidy: Labels) -> Vector:
    """Among the points of a `kept` program one of least expected cost, then of least norm.

    Parameters
    ----------
    x : (n,)
        One of the points.
    tidy : array of int
        Columns whose norm counts: the trades.
    """
    open_cells = program.program.at_risk.any()
    if open_cells:
        nothing = WeightedSum(weight=np.zeros(program.count))
        asked = replace(program, aim=nothing, expected=True)
        found = solve_welfare(asked)
        if found.status == "optimal":
            x = found.x
            decided = np.isfinite(program.most)
            program = replace(kept(asked, found, decided, ACCURACY.solver), expected=False)
    nearest = _least_norm(program, x, tidy)
    return x if nearest is None else nearest


def _least_norm(program: WelfareProgram, x: Vector, tidy: Labels) -> Vector | None:
    lines = WelfareLines.of(program)
    counts = np.zeros(lines.columns)
    counts[tidy] = 1.0
    parts = [costs_at(lines, x), lines.excess, lines.sums, lines.limits]
    nearest = solve_quadratic(
        program_of(lines, sparse.diags(counts), np.zeros(lines.columns), parts)
    )
    return nearest.x[: x.size] if nearest.status == "optimal" else None
