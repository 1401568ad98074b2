"""The multipliers of an optimum that are reported where several would do (MODEL.md §4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import qdldl
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import lsmr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, lines_of, picked
from pypsa_p2p.solvers.dual_face import DualFace
from pypsa_p2p.solvers.presolve import limits_of_columns, with_bounds_in_rows
from pypsa_p2p.solvers.program import Constraints

_SEED = 0  # of the ray by which it is looked which multipliers can move


@dataclass(frozen=True, kw_only=True, eq=False)
class Optimum:
    """An optimum of a convex program and multipliers that prove it, in units of typical prices.

    Attributes
    ----------
    program : Constraints
        Its rows and bounds.
    x, gradient : (n,)
        The optimum, and the slope of the costs there.
    row_dual : (m,)
        Multipliers of the rows; those of bounds are what they leave of the gradient.
    of_column, of_row : (n,), (m,)
        Probability of what each is of: multipliers are judged per unit of it.
    priced : (m,)
        How much a unit of each row's multiplier counts in the total price; 0 where it is no price
        of energy.
    tidy : (m,)
        Rows whose multipliers are reported: of ends as good as each other the nearest to 0 there.
    held : (m,)
        Rows whose multipliers stay as they are.
    exact : float
        Errors of the multipliers, per probability, that are taken over as they are.
    known : bool
        Whether `row_dual` is known at all; if not, all that may have a multiplier is free.
    """

    program: Constraints
    x: Vector
    gradient: Vector
    row_dual: Vector
    of_column: Vector
    of_row: Vector
    priced: Vector
    tidy: Flags
    held: Flags
    exact: float = ACCURACY.promised
    known: bool = True

    def by_rule(self) -> tuple[Vector, Flags]:
        """Multipliers of the rows by the rule, (m,), and whether each is the only one possible."""
        unique = np.ones(self.row_dual.size, dtype=bool)
        free, face = self.free, self.face
        if not free.size:
            return self.row_dual, unique
        chosen, unique[free] = face.middle()
        y = self.of_several.copy()
        y[free] = chosen * self.of_row[free]
        if np.abs(face.start).max() > ACCURACY.far:
            y = self._mended(y)
        return with_bounds_in_rows(self.program, y, self._left_by(y)), unique

    @property
    def left(self) -> Vector:
        """Multipliers of all bounds, (n,)."""
        return self._left_by(self.of_several)

    @cached_property
    def several(self) -> Flags:
        """(m,) rows of more than one column; others are bounds."""
        return np.asarray(np.diff(self._rows.indptr) > 1)

    @cached_property
    def of_several(self) -> Vector:
        """Multipliers of the rows, (m,), those of bounds left out."""
        return np.where(self.several, self.row_dual, 0.0)

    @cached_property
    def sides(self) -> tuple[Flags, Flags]:
        """Columns at their lower and at their upper limit, (n,) each."""
        low, high = limits_of_columns(self.program)
        z = self.left / self.of_column if self.known else np.zeros(low.size)
        return self._at(self.x - low, z, self.x), self._at(high - self.x, -z, self.x)

    @cached_property
    def free(self) -> Labels:
        """Rows whose multipliers could move, in parts of which something is reported."""
        inside = ~(self.sides[0] | self.sides[1])
        rows = self.active
        loose = rows
        if self.known:
            columns = np.flatnonzero(inside)
            loose = rows[undetermined(picked(self._rows, rows, columns))]
            ray = movable(self.scaled(loose, columns).T.tocsr())
            loose = loose[np.abs(ray) > ACCURACY.no_price]
        not_fixed = np.flatnonzero(~(self.sides[0] & self.sides[1]))
        part = _parts(picked(self._rows, loose, not_fixed))
        reported = (self.priced[loose] != 0.0) | self.tidy[loose]
        wanted = np.zeros(part.max(initial=-1) + 1, dtype=bool)
        wanted[part[reported]] = True
        return loose[wanted[part]]

    def scaled(self, rows: Labels, columns: Labels) -> Sparse:
        """What multipliers of rows, per probability, leave of columns' each, (rows, columns)."""
        terms = picked(self._rows, rows, columns)
        terms.data *= self.of_row[rows][lines_of(terms)] / self.of_column[columns][terms.indices]
        return terms

    @cached_property
    def face(self) -> DualFace:
        """What the free multipliers may be, all others as they are."""
        rows, (at_low, at_high) = self.free, self.sides
        terms = self.scaled(rows, np.arange(self.x.size)).T.tocsr()
        touched = np.diff(terms.indptr) > 0
        inside = np.flatnonzero(touched & ~at_low & ~at_high)
        low = np.flatnonzero(touched & at_low & ~at_high)
        high = np.flatnonzero(touched & at_high & ~at_low)
        start = self.of_several[rows] / self.of_row[rows]
        z = self.left / self.of_column
        left = np.concatenate([np.abs(z[inside]), -z[low], z[high]])
        proven = self.known and left.max(initial=0.0) <= self.exact
        equations, sided = terms[inside], sp.vstack([terms[low], -terms[high]], format="csr")
        part = _parts(sp.vstack([equations, sided]).T.tocsr())
        lower, upper = self._signs(rows)
        return DualFace(
            equations=equations,
            right=equations @ start + (0.0 if proven else z[inside]),
            sided=sided,
            most=sided @ start + _room(np.append(z[low], -z[high]), proven),
            lower=np.minimum(lower, start),
            upper=np.maximum(upper, start),
            start=start,
            part=part,
            priced=_relative(self.priced[rows] * self.of_row[rows], part),
            tidy=self.tidy[rows],
        )

    @cached_property
    def _rows(self) -> Sparse:
        return self.program.A.tocsr()

    @cached_property
    def _values(self) -> Vector:
        return np.asarray(self._rows @ self.x)

    def _left_by(self, y: Vector) -> Vector:
        """Multipliers of bounds where those of the rows are y, (n,)."""
        return np.asarray(self.gradient - self.program.A.T @ y)

    @cached_property
    def active(self) -> Labels:
        """Rows of several columns that may have a multiplier."""
        lower, upper = self._signs(np.arange(self.row_dual.size))
        return np.flatnonzero(self.several & ~self.held & (lower < upper))

    def _signs(self, rows: Labels) -> tuple[Vector, Vector]:
        """Least and greatest multiplier of rows by the sides they are at."""
        lower, upper = self.program.lower[rows], self.program.upper[rows]
        value = self._values[rows]
        y = self.of_several[rows] / self.of_row[rows]
        at_lower = self._at(value - lower, y, value) | (lower == upper)
        at_upper = self._at(upper - value, -y, value) | (lower == upper)
        return np.where(at_upper, -np.inf, 0.0), np.where(at_lower, np.inf, 0.0)

    def _at(self, slack: Vector, multiplier: Vector, value: Vector) -> Flags:
        """Whether a limit is reached, or has a multiplier larger than what is left to it.

        Without multipliers that tell, it is as exact as powers are promised.
        """
        near = ACCURACY.at_limit if self.known else ACCURACY.promised
        reached = slack <= near * np.maximum(1.0, np.abs(value))
        return np.asarray(reached | ((multiplier > slack) & (multiplier > ACCURACY.no_price)))

    def _mended(self, y: Vector) -> Vector:
        """Multipliers nearby that leave nothing inside its limits a price of its own.

        The solver's were as exact as its largest let them be.
        """
        inside = ~(self.sides[0] | self.sides[1])
        rows = self.active
        terms = picked(self._rows, rows, np.flatnonzero(inside)).T.tocsr()
        exact = {"atol": ACCURACY.rounding, "btol": ACCURACY.rounding, "maxiter": 10 * rows.size}
        mended = y.copy()
        mended[rows] += lsmr(terms, self._left_by(y)[inside], **exact)[0]
        return mended


def _room(multiplier: Vector, proven: bool) -> Vector:
    """What a bound's multiplier may lose; of one on the wrong side nothing, if it is rounding."""
    return np.maximum(multiplier, 0.0) if proven else multiplier


def undetermined(terms: Sparse) -> Flags:
    """Rows, (r,), whose multipliers the columns' equations do not fix one after the other.

    A column with one row left fixes it; of two left in a column, one fixes the other.
    """
    present = terms.data != 0.0
    row, column = lines_of(terms)[present], terms.indices[present]
    loose = np.ones(terms.shape[0], dtype=bool)
    while True:
        left = np.bincount(column, minlength=terms.shape[1])[column]
        fixed = np.zeros(loose.size, dtype=bool)
        fixed[row[left == 1]] = True
        if not fixed.any():
            return loose
        two = np.flatnonzero(left == 2)
        ends = row[two[np.argsort(column[two], kind="stable")]].reshape(-1, 2)
        graph = sp.coo_matrix((np.ones(len(ends)), ends.T), (loose.size, loose.size))
        _, part = connected_components(graph, directed=False)
        reached = np.zeros(loose.size, dtype=bool)
        reached[part[fixed]] = True
        loose[reached[part]] = False
        here = loose[row]
        row, column = row[here], column[here]


def movable(equations: Sparse) -> Vector:
    """A random ray of solutions of these equations, (r,): unknowns that are not 0 in it may move.

    The ray is a random vector less what the equations determine of it, by one factorisation.
    """
    count = equations.shape[1]
    if not count:
        return np.zeros(0)
    random = np.random.default_rng(_SEED).uniform(0.5, 1.5, count)
    if not equations.shape[0]:
        return random
    small = ACCURACY.no_ray_left * sp.identity(count)
    left = -sp.identity(equations.shape[0])  # rows of many unknowns stay rows
    system = sp.bmat([[small, equations.T], [equations, left]], format="csc")
    right = np.append(ACCURACY.no_ray_left * random, np.zeros(equations.shape[0]))
    return np.asarray(qdldl.Solver(system).solve(right)[:count])


def _parts(terms: Sparse) -> Labels:
    """Which rows columns tie together, (r,)."""
    r, n = terms.shape
    ends = (lines_of(terms), r + terms.indices)
    graph = sp.coo_matrix((np.ones(terms.nnz), ends), (r + n, r + n))
    return np.asarray(connected_components(graph, directed=False)[1][:r], dtype=np.int64)


def _relative(weight: Vector, part: Labels) -> Vector:
    """Weights relative to the largest of their part."""
    largest = np.zeros(int(part.max(initial=-1)) + 1)
    np.maximum.at(largest, part, np.abs(weight))
    return np.asarray(weight / np.where(largest > 0.0, largest, 1.0)[part])
