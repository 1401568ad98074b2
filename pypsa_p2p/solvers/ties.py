"""One answer where a market has many: least expected cost, then least-norm trades.

MODEL.md §8.8: where costs are linear in the traded quantities, circulating trades cost nothing.
MODEL.md §8.9: in scenarios a risk-averse prosumer does not weigh, she is indifferent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Sparse, Vector
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import quadratic_residuals

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

MAX_STEPS = 40


def optimal_face(qp: QuadraticProgram, solution: Solution, weight: Vector) -> QuadraticProgram:
    """All solutions of a convex QP: {feasible, P x = P x*, what has a multiplier stays active}.

    Parameters
    ----------
    weight : (n,)
        Probability of each column's scenario; multipliers and curvature are judged per unit.

    Returns
    -------
    QuadraticProgram
        The same rows and bounds, tightened, and no objective.
    """
    x, n = solution.x, solution.x.size
    pinned = _uniquely_determined(qp.P, weight)
    price = solution.row_dual / _largest(qp.A, weight)
    sums = _determined_sums(qp.P, pinned)
    lower, upper = _tightened(price, np.asarray(qp.A @ x), qp.lower, qp.upper)
    x_lower, x_upper = _tightened(solution.bound_dual / weight, x, qp.x_lower, qp.x_upper)
    return QuadraticProgram(
        P=sp.csc_matrix((n, n)),
        c=np.zeros(n),
        A=sp.vstack([qp.A, sums], format="csr"),
        lower=np.append(lower, sums @ x),
        upper=np.append(upper, sums @ x),
        x_lower=np.where(pinned, x, x_lower),
        x_upper=np.where(pinned, x, x_upper),
    )


def least_norm(face: QuadraticProgram, columns: npt.NDArray[np.int64]) -> Solution:
    """The point of a face with the least Euclidean norm of some columns (the trades)."""
    n = face.c.size
    diagonal = np.zeros(n)
    diagonal[columns] = 1.0
    return solve_quadratic(replace(face, P=sp.diags(diagonal, format="csc")))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """Where each cell's cost stands to its group's value at risk, by the multipliers found."""

    below: Mask  # not weighed: Pi - eta <= most
    above: Mask  # weighed as much as can be: Pi - eta >= least
    least: Vector  # of Pi - eta, EUR; -inf below, and where the weight is fixed
    most: Vector  # of Pi - eta, EUR; inf above

    def broken(self, program: RiskProgram, x: Vector, level: Vector) -> Mask:
        """Cells whose cost at x is on the wrong side of these values at risk."""
        costs = program.costs(x)
        gap = costs - level[program.group]
        rounding = ACCURACY.tied * max(1.0, np.abs(costs).max())
        return np.asarray((gap < self.least - rounding) | (gap > self.most + rounding))

    def nearest(self, program: RiskProgram, x: Vector) -> Labels:
        """Each group's dearest cell below its value at risk and its cheapest above."""
        rising = np.lexsort((program.costs(x), program.group))
        below = rising[self.below[rising]][::-1]
        above = rising[(self.above & np.isfinite(self.least))[rising]]
        first = [np.unique(program.group[cells], return_index=True)[1] for cells in (below, above)]
        return np.append(below[first[0]], above[first[1]])


def classify(program: RiskProgram, solution: Solution) -> Sides:
    """Which cells lie below, at and above their value at risk, by complementarity.

    Limits of Pi - eta are 0 up to the rounding in the solution, which they do not exclude.
    """
    room = program.room
    tau, level = risk_of(solution)
    excess = tau - program.least
    share = np.where(room > 0, excess / np.where(room > 0, room, 1.0), 0.0)
    costs = program.costs(solution.x)
    gap = costs - level[program.group]
    distance = gap / max(1.0, np.abs(costs).max())
    open_cells = room > 0
    below = open_cells & (share < np.maximum(-distance, ACCURACY.no_price))
    above = ~below & ((1 - share < np.maximum(distance, ACCURACY.no_price)) | ~open_cells)
    return Sides(
        below=below,
        above=above,
        least=np.where(below | ~open_cells, -np.inf, np.where(above, np.minimum(gap, 0.0), gap)),
        most=np.where(above, np.inf, np.where(below, np.maximum(gap, 0.0), gap)),
    )


def risk_of(solution: Solution) -> tuple[Vector, Vector]:
    """Tau and the values at risk that every solution of a risk program carries."""
    tau, level = solution.risk_adjusted_probability, solution.value_at_risk
    if tau is None or level is None:
        raise TypeError("a solution of a risk program is needed")
    return tau, level


@dataclass(frozen=True, kw_only=True, eq=False)
class LeastExpectedCost:
    """The optimum of least expected cost.

    Attributes
    ----------
    program : QuadraticProgram
        The quadratic program it solves, in the columns (x, eta).
    solution : Solution
    weighed : (K,)
        Whether a cell's cost counts in its group's risk.
    weight : (K,)
        What a cell's cost counts for in the choice, p + m: m is the multiplier of Pi <= eta.
    """

    program: QuadraticProgram
    solution: Solution
    weighed: Mask
    weight: Vector


def least_expected_cost(program: RiskProgram, solution: Solution) -> LeastExpectedCost | None:
    """Among the risk-averse optima the one of least expected cost, and the QP it solves.

    Newton's method on: min E[cost] over the optimal face of the tau-weighted QP, subject to
    Pi_k <= eta_g where tau_k is at its least, = where it is between its limits, >= where it is
    at its cap. Costs above are linear on the face, so only the first kind is curved; those are
    linearised at the iterate, with their multipliers in the Hessian. Most hold by themselves:
    a step knows only those an earlier step broke, and those next to a value at risk, which would
    have no limits otherwise. None if it does not settle.
    """
    tail = classify(program, solution)
    tau = np.where(tail.below, program.least, risk_of(solution)[0])
    unit = program.per_column(program.probability)
    face = optimal_face(program.weighted(tau), solution, unit)
    curved = program.P.diagonal() > 0  # costs are linear in the others: any step is exact there
    known = ~(tail.below | tail.above)
    known[tail.nearest(program, solution.x)] = True
    x, multiplier, precision = solution.x, np.zeros(known.size), ACCURACY.tie_rough
    for _ in range(MAX_STEPS):
        rows = np.flatnonzero(known)
        step = _step(program, face, tail, x, multiplier, rows)
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
        multiplier[rows] = np.maximum(-found.row_dual[face.lower.size :], 0.0) * tail.below[rows]
        broken = tail.broken(program, x, level) & ~known
        if exact and move <= ACCURACY.settled and not broken.any():
            qp, found = _with_all_rows(program, face, tail, found, multiplier, rows)
            return LeastExpectedCost(
                program=qp,
                solution=found,
                weighed=~tail.below | (program.least > 0.0),
                weight=program.probability + multiplier,
            )
        known |= broken
    return None


def _with_all_rows(
    program: RiskProgram,
    face: QuadraticProgram,
    tail: Sides,
    found: Solution,
    multiplier: Vector,
    rows: Labels,
) -> tuple[QuadraticProgram, Solution]:
    """The last step with every cell's row, and its solution: the rows left out hold freely."""
    every = np.arange(program.group.size)
    qp = _step(program, face, tail, found.x[: program.c.size], multiplier, every, 0.0)
    dual = np.zeros(qp.lower.size)
    dual[np.append(np.arange(face.lower.size), face.lower.size + rows)] = found.row_dual
    return qp, replace(found, row_dual=dual)


def _step(
    program: RiskProgram,
    face: QuadraticProgram,
    tail: Sides,
    x: Vector,
    multiplier: Vector,
    rows: Labels,
    proximal: float = ACCURACY.tie_proximal,
) -> QuadraticProgram:
    """The Newton subproblem at x, in the columns (x, eta), with the given cells' rows."""
    groups = program.groups
    unit = program.per_column(program.probability)
    H = program.P @ sp.diags(program.per_column(program.probability + multiplier))
    H = (H + proximal * sp.diags(unit)).tocsc()
    gradient = np.asarray(program.P @ x + program.c)
    linear = gradient * unit - H @ x
    J = _cell_rows(program, gradient)[rows]
    value = program.costs(x)[rows] - J @ x
    of_group = (np.ones(rows.size), (np.arange(rows.size), program.group[rows]))
    to_group = sp.csr_matrix(of_group, (rows.size, groups))
    return QuadraticProgram(
        P=sp.block_diag([H, sp.csc_matrix((groups, groups))], format="csc"),
        c=np.append(linear, np.zeros(groups)),
        A=sp.bmat([[face.A, None], [J, -to_group]], format="csr"),
        lower=np.append(face.lower, tail.least[rows] - value),
        upper=np.append(face.upper, tail.most[rows] - value),
        x_lower=np.append(face.x_lower, np.full(groups, -np.inf)),
        x_upper=np.append(face.x_upper, np.full(groups, np.inf)),
    )


def _cell_rows(program: RiskProgram, gradient: Vector) -> Sparse:
    """Gradient of each cell's cost, (cells, n)."""
    owned = np.flatnonzero(program.cell >= 0)
    shape = (program.group.size, gradient.size)
    return sp.csr_matrix((gradient[owned], (program.cell[owned], owned)), shape)


def _largest(A: Sparse, by_column: Vector) -> Vector:
    """Largest of a positive column quantity over the columns of each row, (m,)."""
    A = A.tocsr()
    largest = np.ones(A.shape[0])
    filled = np.diff(A.indptr) > 0
    starts = A.indptr[:-1][filled]
    largest[filled] = np.maximum.reduceat(by_column[A.indices], starts) if filled.any() else 1.0
    return largest


def _tightened(price: Vector, value: Vector, lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
    """Limits with the sides held that have a multiplier larger than the slack left there.

    The held ones are held at `value`, and none excludes it: rounding in the solution must not
    make its own face empty.
    """
    with np.errstate(invalid="ignore"):
        at_lower = (price > ACCURACY.no_price) & (price > value - lower)
        at_upper = (-price > ACCURACY.no_price) & (-price > upper - value)
    held = at_lower | at_upper | (lower == upper)
    return (
        np.where(held, value, np.minimum(lower, value)),
        np.where(held, value, np.maximum(upper, value)),
    )


def _uniquely_determined(P: Sparse, weight: Vector) -> Mask:
    """Columns whose value P x = P x* fixes: own curvature, and any 2 x 2 block regular."""
    diagonal = P.diagonal()
    off, i, j = _off_diagonal(P)
    regular = diagonal > ACCURACY.flat * weight
    determinant = diagonal[i] * diagonal[j] - off**2
    regular[i] &= determinant > ACCURACY.flat * diagonal[i] * diagonal[j]
    return regular


def _determined_sums(P: Sparse, pinned: Mask) -> Sparse:
    """Rows (P x)_i that a singular 2 x 2 block fixes, one per block."""
    _, i, j = _off_diagonal(P)
    first = np.unique(i[(i < j) & ~pinned[i]])
    scale = P.diagonal()[first]
    return (
        sp.diags(1.0 / scale) @ P.tocsr()[first] if first.size else sp.csr_matrix((0, P.shape[0]))
    )


def _off_diagonal(P: Sparse) -> tuple[Vector, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    entries = P.tocoo()
    off = (entries.row != entries.col) & (entries.data != 0)
    return entries.data[off], entries.row[off], entries.col[off]
