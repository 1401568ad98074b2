"""The set of all solutions of a convex program, and what it leaves undecided."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, lines_of, picked
from pypsa_p2p.solvers.presolve import Presolved, presolve
from pypsa_p2p.solvers.program import QuadraticProgram, Solution


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """Rows and bounds of some columns, the others given.

    Attributes
    ----------
    columns : (f,)
    A : (r, f)
    lower, upper : (r,)
        What rows leave to these columns.
    x_lower, x_upper : (f,)
    """

    columns: Labels
    A: Sparse
    lower: Vector
    upper: Vector
    x_lower: Vector
    x_upper: Vector

    @classmethod
    def of(cls, face: QuadraticProgram) -> Region:
        """All of a face."""
        return cls(
            columns=np.arange(face.c.size),
            A=face.A,
            lower=face.lower,
            upper=face.upper,
            x_lower=face.x_lower,
            x_upper=face.x_upper,
        )

    def program(self, P: Sparse, c: Vector) -> QuadraticProgram:
        """min 1/2 x'Px + c'x over it."""
        return QuadraticProgram(
            P=sp.csc_matrix(P),
            c=c,
            A=self.A,
            lower=self.lower,
            upper=self.upper,
            x_lower=self.x_lower,
            x_upper=self.x_upper,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Undecided:
    """The columns that a face leaves free at a point of it, and the rows and bounds they keep.

    All other columns are where they are all over the face: by equal bounds, or as the last one
    free in a row that holds with equality.
    """

    region: Region
    reduction: Presolved[QuadraticProgram]
    rows: Labels  # of the reduction
    settling: list[tuple[Labels, Labels]]  # its rows, and the columns they settle, in turn

    @classmethod
    def of(cls, face: QuadraticProgram, x: Vector) -> Undecided:
        """What a face leaves undecided at one of its points, x."""
        reduction = presolve(face)
        small = reduction.program
        A = sp.csr_matrix(small.A)
        settling, free = _settled(A, small.lower == small.upper)
        left = np.zeros(A.shape[1], dtype=bool)
        left[free] = True
        concerned = np.zeros(A.shape[0], dtype=bool)
        concerned[lines_of(A)[left[A.indices]]] = True
        for row, _ in settling:
            concerned[row] = False
        rows = np.flatnonzero(concerned)
        inside = picked(A, rows, free)
        # Relative to x, so that rounding in what leaves cannot make the rest empty.
        elsewhere = (A @ x[reduction.columns])[rows] - inside @ x[reduction.columns[free]]
        region = Region(
            columns=reduction.columns[free],
            A=inside,
            lower=small.lower[rows] - elsewhere,
            upper=small.upper[rows] - elsewhere,
            x_lower=small.x_lower[free],
            x_upper=small.x_upper[free],
        )
        return cls(
            region=region,
            reduction=reduction,
            rows=rows,
            settling=settling,
        )

    def row_dual(self, y: Vector, z: Vector, gradient: Vector) -> Vector:
        """Multipliers of all rows of the face.

        Parameters
        ----------
        y, z : (r,), (f,)
            Those of the rows and bounds above.
        gradient : (n,)
            Of what is minimised on the face. Rows that settle a column take up what is left of
            its gradient.
        """
        reduction = self.reduction
        A = reduction.program.A
        left = gradient[reduction.columns]
        full_y, full_z = np.zeros(A.shape[0]), np.zeros(A.shape[1])
        full_y[self.rows] = y
        full_z[np.searchsorted(reduction.columns, self.region.columns)] = z
        line, by_round = lines_of(A), self._entries_by_round()
        for (row, column), entries in zip(reversed(self.settling), reversed(by_round), strict=True):
            of, value = line[entries], A.data[entries]
            settled_by = np.zeros(A.shape[1], dtype=np.int64)
            settled_by[column] = row
            place = A.indices[entries]
            own = settled_by[place] == of
            pull = np.bincount(place, weights=value * full_y[of], minlength=A.shape[1])[column]
            entry = np.bincount(place[own], weights=value[own], minlength=A.shape[1])[column]
            full_y[row] = (left[column] - pull) / entry
        return reduction.dual(full_y, full_z, gradient)[0]

    def _entries_by_round(self) -> list[Labels]:
        """The entries of columns that each round settles."""
        A, rounds = self.reduction.program.A, len(self.settling)
        round_of = np.full(A.shape[1], rounds)
        for number, (_, column) in enumerate(self.settling):
            round_of[column] = number
        of_entry = round_of[A.indices]
        order = np.argsort(of_entry, kind="stable")
        ends = np.searchsorted(of_entry[order], np.arange(rounds + 1))
        return [order[start:end] for start, end in itertools.pairwise(ends)]


def _settled(A: Sparse, equal: Flags) -> tuple[list[tuple[Labels, Labels]], Labels]:
    """Rows with equality and one free column each, and these columns, in turn; columns left."""
    row, column = lines_of(A), A.indices.astype(np.int64)
    here = equal[row]
    row, column = row[here], column[here]
    free = np.ones(A.shape[1], dtype=bool)
    settling: list[tuple[Labels, Labels]] = []
    while True:
        last = np.bincount(row, minlength=A.shape[0])[row] == 1
        if not last.any():
            return settling, np.flatnonzero(free)
        settled, first = np.unique(column[last], return_index=True)
        settling.append((row[last][first], settled))
        free[settled] = False
        here = free[column]
        row, column = row[here], column[here]


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


def _uniquely_determined(P: Sparse, weight: Vector) -> Flags:
    """Columns whose value P x = P x* fixes: own curvature, and any 2 x 2 block regular."""
    diagonal = P.diagonal()
    off, i, j = _off_diagonal(P)
    regular = diagonal > ACCURACY.flat * weight
    determinant = diagonal[i] * diagonal[j] - off**2
    regular[i] &= determinant > ACCURACY.flat * diagonal[i] * diagonal[j]
    return regular


def _determined_sums(P: Sparse, pinned: Flags) -> Sparse:
    """Rows (P x)_i that a singular 2 x 2 block fixes, one per block."""
    _, i, j = _off_diagonal(P)
    first = np.unique(i[(i < j) & ~pinned[i]])
    scale = P.diagonal()[first]
    return (
        sp.diags(1.0 / scale) @ P.tocsr()[first] if first.size else sp.csr_matrix((0, P.shape[0]))
    )


def _off_diagonal(P: Sparse) -> tuple[Vector, Labels, Labels]:
    entries = P.tocoo()
    off = (entries.row != entries.col) & (entries.data != 0)
    return entries.data[off], entries.row[off], entries.col[off]
