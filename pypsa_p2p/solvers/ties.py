"""One answer where a market has many: least expected cost, then least-norm trades.

MODEL.md §8.8: where costs are linear in the traded quantities, circulating trades cost nothing.
MODEL.md §8.9: in scenarios a risk-averse prosumer does not weigh, she is indifferent.

Both look at what the set of all optima leaves undecided, which is little, and at its parts that
no row joins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import NO_LABELS, Flags, Labels, Sparse, Vector, lines_of
from pypsa_p2p.solvers.face import Undecided, optimal_face
from pypsa_p2p.solvers.least_cost import Choice, LeastExpectedCost
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import quadratic_residuals
from pypsa_p2p.solvers.sides import USUAL, Shares, Sides, classify, risk_of
from pypsa_p2p.solvers.ties_careful import least_expected_cost_carefully

MAX_STEPS = 30


def least_norm(
    program: QuadraticProgram, solution: Solution, columns: Labels, weight: Vector
) -> Vector | None:
    """The optimum with the least Euclidean norm of some columns (the trades); None: not found.

    Parameters
    ----------
    weight : (n,)
        Probability of each column's scenario.
    """
    rest = Undecided.of(optimal_face(program, solution, weight), solution.x)
    region = rest.region
    counts = np.zeros(solution.x.size)
    counts[columns] = 1.0
    if not counts[region.columns].any():
        return solution.x
    nothing = np.zeros(region.columns.size)
    nearest = solve_quadratic(region.program(sp.diags(counts[region.columns]), nothing))
    if nearest.status != "optimal":
        return None
    x = solution.x.copy()
    x[region.columns] = nearest.x
    return x


def least_expected_cost(
    program: RiskProgram,
    solution: Solution,
    aside: Labels = NO_LABELS,
    shares: Shares = USUAL,
) -> LeastExpectedCost | None:
    """Among the risk-averse optima the one of least expected cost, and the QP it solves.

    The program of `least_cost`, by Newton's method; None if it does not settle. The cost of columns
    `aside` counts in the risk only. `shares` tell which cells are weighed.
    """
    tail = classify(program, solution, shares)
    tau = np.where(tail.below, program.least, risk_of(solution)[0])
    unit = program.per_column(program.probability)
    face = optimal_face(program.weighted(tau), solution, unit)
    found = _quickly(program, solution, tail, face, aside)
    if found is not None:
        return found
    return least_expected_cost_carefully(program, solution, tail, face, aside)


def _quickly(
    program: RiskProgram, solution: Solution, tail: Sides, face: QuadraticProgram, aside: Labels
) -> LeastExpectedCost | None:
    """Newton's method in what the face leaves undecided, with all rows from the start.

    A step only moves the parts in which the one before was not exact; in the end all of it is
    checked together.
    """
    rest = Undecided.of(face, solution.x)
    choice = Choice.of(program, tail, rest.region, solution.x, aside)
    now = _Iterate.at(choice, solution.x)
    for _ in range(MAX_STEPS):
        found = now.stepped()
        if found is None:
            return None
        if not found.moving.any():
            qp, at = found.as_solution()
            if quadratic_residuals(qp, at).worst <= ACCURACY.tie_good:
                y_rows, y_cells = found.split(at.row_dual)
                gradient = choice.lagrangian(found.x, y_cells, choice.limited)
                z = at.bound_dual[: rest.region.columns.size]
                row_dual = rest.row_dual(y_rows, z, gradient)
                return choice.chosen(qp, at, found.x, row_dual, found.multiplier)
            if now.moving.all():
                return None
            found = replace(found, moving=np.ones_like(found.moving))
        now = found
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Iterate:
    """A point of Newton's method.

    Attributes
    ----------
    part : (f,)
        Which part each column belongs to.
    moving : (parts,)
        Those in which the conditions of the program do not hold yet.
    x, y, level : (n,), (rows + cells,), (G,)
    """

    choice: Choice
    part: Labels
    moving: Flags
    x: Vector
    y: Vector
    level: Vector
    multiplier: Vector

    @classmethod
    def at(cls, choice: Choice, x: Vector) -> _Iterate:
        """The first, from where nothing holds."""
        program, region = choice.program, choice.region
        part = _parts(region.A)
        return cls(
            choice=choice,
            part=part,
            moving=np.ones(part.max(initial=-1) + 1, dtype=bool),
            x=x,
            y=np.zeros(region.lower.size + choice.limited.size),
            level=np.zeros(program.groups),
            multiplier=np.zeros(program.group.size),
        )

    def split(self, y: Vector) -> tuple[Vector, Vector]:
        """Multipliers of rows and of cells."""
        rows = self.choice.region.lower.size
        return y[:rows], y[rows:]

    def stepped(self) -> _Iterate | None:
        """The next one; None if the step has no solution."""
        choice, columns = self.choice, self.choice.region.columns
        qp = choice.step(self.x, self.multiplier, choice.limited)
        free = np.append(self.moving[self.part], np.ones(self.level.size, dtype=bool))
        held = np.append(self.x[columns], self.level)
        qp = replace(
            qp,
            x_lower=np.where(free, qp.x_lower, held),
            x_upper=np.where(free, qp.x_upper, held),
        )
        found = solve_quadratic(qp, ACCURACY.good, ACCURACY.tie_good)
        if found.status != "optimal":
            return None
        x = self.x.copy()
        x[columns], level = found.x[: columns.size], found.x[columns.size :]
        free[columns.size :] = False
        touched = np.zeros(self.y.size, dtype=bool)
        touched[lines_of(qp.A)[free[qp.A.indices] & (qp.A.data != 0.0)]] = True
        y = np.where(touched, found.row_dual, self.y)
        multiplier = choice.multiplier(self.split(y)[1], choice.limited)
        step = replace(self, x=x, y=y, level=level, multiplier=multiplier)
        return replace(step, moving=step.not_settled(self))

    def not_settled(self, before: _Iterate) -> Flags:
        """Parts with a cell whose cost is on the wrong side, or whose curvature was not known."""
        choice, program = self.choice, self.choice.program
        cell = program.cell[choice.region.columns]
        unit = program.per_column(program.probability)[choice.region.columns]
        change = np.append(self.multiplier - before.multiplier, 0.0)[cell]
        moved = (self.x - before.x)[choice.region.columns]
        bend = np.abs(change * (choice.P @ moved)) > ACCURACY.good * unit
        wrong = np.append(choice.tail.broken(program, self.x, self.level), False)[cell]
        curved = choice.P.diagonal() > 0.0
        parts = np.zeros(self.moving.size, dtype=bool)
        parts[self.part[bend | (wrong & curved)]] = True
        return parts

    def as_solution(self) -> tuple[QuadraticProgram, Solution]:
        """The step from here, of all parts, and the point as its solution."""
        choice = self.choice
        qp = choice.step(self.x, self.multiplier, choice.limited)
        x = np.append(self.x[choice.region.columns], self.level)
        z = qp.gradient(x) - qp.A.T @ self.y
        return qp, Solution(
            status="optimal",
            x=x,
            row_dual=self.y,
            bound_dual=np.asarray(z),
            objective=qp.objective(x),
            solver="ties",
        )


def _parts(A: Sparse) -> Labels:
    """Which columns rows join, directly or through others, (f,)."""
    m, n = A.shape
    ends = (lines_of(A), m + A.indices)
    graph = sp.coo_matrix((np.ones(A.nnz), ends), (m + n, m + n))
    joined = connected_components(graph, directed=False)[1]
    return np.unique(joined[m:], return_inverse=True)[1]
