"""Smaller, equivalent programs, and the way back to the original's multipliers.

Rows of one entry become bounds, columns with equal bounds are eliminated, rows without
entries are checked and dropped. In these models every variable limit is such a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, lines_of, picked
from pypsa_p2p.solvers.program import Constraints, Program, RiskProgram, Solution


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bounds:
    """The tightest bounds of every column and the singleton rows they come from.

    `lower_row` and `upper_row` are -1 where the column's own bound is the tightest;
    `lower_entry` and `upper_entry` are the coefficients in those rows.
    """

    lower: Vector
    upper: Vector
    lower_row: Labels
    upper_row: Labels
    lower_entry: Vector
    upper_entry: Vector

    def move_to_rows(self, y: Vector, z: Vector) -> tuple[Vector, Vector]:
        """Hand each reduced cost to the row whose bound it is: y_row = z / coefficient."""
        to_lower = (z > 0.0) & (self.lower_row >= 0)
        to_upper = (z < 0.0) & (self.upper_row >= 0)
        y = y.copy()
        # One row can bound only one column, but both of its sides: never at once.
        y[self.lower_row[to_lower]] = z[to_lower] / self.lower_entry[to_lower]
        y[self.upper_row[to_upper]] = z[to_upper] / self.upper_entry[to_upper]
        return y, np.where(to_lower | to_upper, 0.0, z)


@dataclass(frozen=True, kw_only=True, eq=False)
class Presolved(Generic[Program]):
    """A reduced program; `certificate` is not None if presolve already proves infeasibility.

    Attributes
    ----------
    program
        The reduced program.
    certificate
        (m,) row weights of a proof of infeasibility, or None.
    """

    original: Program
    program: Program
    certificate: Vector | None
    bounds: _Bounds
    rows: Labels
    columns: Labels
    x_fixed: Vector

    def primal(self, x: Vector) -> Vector:
        """(n,) the original point from the reduced one."""
        full = self.x_fixed.copy()
        full[self.columns] = x
        return full

    def places(self, columns: Labels) -> Labels:
        """Where columns that are kept stand in the reduced program."""
        return np.searchsorted(self.columns, columns)

    def dual(self, y: Vector, z: Vector, gradient: Vector) -> tuple[Vector, Vector]:
        """Multipliers of the original rows and bounds.

        Parameters
        ----------
        y, z
            Multipliers of the reduced program.
        gradient
            (n,) gradient of the original objective at the original point: the reduced costs
            of eliminated columns follow from stationarity.
        """
        full_y = np.zeros(self.original.A.shape[0])
        full_y[self.rows] = y
        full_z = gradient - self.original.A.T @ full_y
        full_z[self.columns] = z
        return self.bounds.move_to_rows(full_y, full_z)

    def solution(
        self,
        x: Vector,
        y: Vector,
        z: Vector,
        *,
        solver: str,
        iterations: int,
        tau: Vector | None = None,
    ) -> Solution:
        """An optimum of the reduced program, and tau of a risk program, as one of the original."""
        program = self.original
        full_x, value_at_risk = self.primal(x), None
        if isinstance(program, RiskProgram):
            tau = program.probability if tau is None else tau
            value_at_risk = program.tail(program.costs(full_x)).value_at_risk
            gradient = program.weighted(tau).gradient(full_x)
        else:
            gradient = program.gradient(full_x)
        full_y, full_z = self.dual(y, z, gradient)
        return Solution(
            status="optimal",
            x=full_x,
            row_dual=full_y,
            bound_dual=full_z,
            objective=program.objective(full_x),
            solver=solver,
            iterations=iterations,
            risk_adjusted_probability=tau,
            value_at_risk=value_at_risk,
        )

    def full_certificate(self, y: Vector) -> Vector:
        """A proof of infeasibility in the original rows from one in the reduced rows."""
        full_y = np.zeros(self.original.A.shape[0])
        full_y[self.rows] = y
        return _certificate(self.original.A, self.bounds, full_y)


def presolve(program: Program) -> Presolved[Program]:
    """Reduce a program; see the module's text for what is removed."""
    A = _without_zeros(program.A)
    bounds, single = _tightest_bounds(program, A)
    width = bounds.upper - bounds.lower
    size = np.maximum(1.0, np.minimum(abs(bounds.lower), abs(bounds.upper)))
    fixed = (width <= ACCURACY.fixed * size) & np.isfinite(width)  # free columns have infinite size
    with np.errstate(invalid="ignore"):
        middle = 0.5 * (bounds.lower + bounds.upper)
    x_fixed = np.where(fixed & np.isfinite(middle), middle, 0.0)

    columns = np.flatnonzero(~fixed)
    unsettled = np.zeros(A.shape[0], dtype=bool)
    unsettled[lines_of(A)[~fixed[A.indices]]] = True
    rows = np.flatnonzero(unsettled & ~single)
    empty = ~unsettled & ~single
    crossed = np.flatnonzero(width < -ACCURACY.contradiction * size)
    return Presolved(
        original=program,
        program=_reduced(program, A, bounds, rows, columns, x_fixed),
        certificate=_contradiction(program, A, bounds, crossed, empty, x_fixed),
        bounds=bounds,
        rows=rows,
        columns=columns,
        x_fixed=x_fixed,
    )


def limits_of_columns(program: Constraints) -> tuple[Vector, Vector]:
    """Least and most of every column, (n,) each, by its own limits and by rows of it alone."""
    bounds = _bounds_of(program)
    return bounds.lower, bounds.upper


def bound_multipliers(program: Constraints, solution: Solution) -> tuple[Vector, Vector]:
    """Multipliers (y, z) with those of rows of one column, which are bounds, in z."""
    A = program.A.tocsr()
    single = np.diff(A.indptr) == 1
    y = np.where(single, 0.0, solution.row_dual)
    return y, solution.bound_dual + A.T @ (solution.row_dual - y)


def with_reduced_costs(program: Program, solution: Solution, more: Vector) -> Solution:
    """The solution where every column costs so much more, (n,), which its bounds take up.

    Such a column is put on its bound: what a solver leaves between them would cost a lot.
    """
    bounds = _bounds_of(program)
    y, z = bound_multipliers(program, solution)
    side = np.where(more > 0.0, bounds.lower, bounds.upper)
    near = (more != 0.0) & (abs(solution.x - side) <= ACCURACY.good)
    x = np.where(near, side, solution.x)
    y, z = bounds.move_to_rows(y, z + more)
    return replace(solution, x=x, row_dual=y, bound_dual=z, objective=program.objective(x))


def with_bounds_in_rows(program: Constraints, y: Vector, z: Vector) -> Vector:
    """Multipliers of the rows, (m,), where rows of one column take those of its bounds, z."""
    return _bounds_of(program).move_to_rows(y, z)[0]


def _bounds_of(program: Constraints) -> _Bounds:
    """The tightest bounds of every column."""
    return _tightest_bounds(program, _without_zeros(program.A))[0]


def _without_zeros(A: Sparse) -> Sparse:
    """As csr, every entry once; not to be written to."""
    A = A.tocsr()
    if A.has_canonical_format and A.data.all():
        return A
    A = A.copy()
    A.sum_duplicates()
    A.eliminate_zeros()
    return A


def _tightest_bounds(program: Constraints, A: Sparse) -> tuple[_Bounds, Flags]:
    """Bounds from own limits and singleton rows; and which rows are singletons."""
    single = np.diff(A.indptr) == 1
    row = np.flatnonzero(single)
    column, entry = A.indices[A.indptr[row]], A.data[A.indptr[row]]
    first, second = program.lower[row] / entry, program.upper[row] / entry
    from_below = np.where(entry > 0.0, first, second)
    from_above = np.where(entry > 0.0, second, first)
    own_fixed = program.x_lower == program.x_upper
    # An upper bound is a lower bound of the negated column.
    low, low_row, low_entry = _tightest(program.x_lower, own_fixed, column, row, entry, from_below)
    up, up_row, up_entry = _tightest(-program.x_upper, own_fixed, column, row, entry, -from_above)
    bounds = _Bounds(
        lower=low,
        upper=-up,
        lower_row=low_row,
        upper_row=up_row,
        lower_entry=low_entry,
        upper_entry=up_entry,
    )
    return bounds, single


def _tightest(
    own: Vector, own_fixed: Flags, column: Labels, row: Labels, entry: Vector, bound: Vector
) -> tuple[Vector, Labels, Vector]:
    """The largest lower bound of each column, its row (-1: own) and the row's coefficient."""
    best = np.full(own.size, -np.inf)
    source = np.full(own.size, -1, dtype=np.int64)
    coefficient = np.ones(own.size)
    np.maximum.at(best, column, bound)
    tightest = bound == best[column]
    source[column[tightest]] = row[tightest]
    coefficient[column[tightest]] = entry[tightest]
    # Rows win ties, for only rows have multipliers in linopy; but a column fixed by its own
    # bounds leaves nothing for a row to do.
    use_row = np.where(own_fixed, best > own, best >= own) & np.isfinite(best)
    return np.where(use_row, best, own), np.where(use_row, source, -1), coefficient


def _reduced(
    program: Program, A: Sparse, bounds: _Bounds, rows: Labels, columns: Labels, x_fixed: Vector
) -> Program:
    moved = (A @ x_fixed)[rows]
    kept: dict[str, Any] = {
        "P": picked(program.P.tocsc(), columns, columns),
        "c": (program.c + program.P @ x_fixed)[columns],
        "A": picked(A, rows, columns),
        "lower": program.lower[rows] - moved,
        "upper": program.upper[rows] - moved,
        "x_lower": bounds.lower[columns],
        "x_upper": bounds.upper[columns],
    }
    if isinstance(program, RiskProgram):
        cell, constant = program.cell[columns], program.costs(x_fixed)
        return replace(program, cell=cell, constant=constant, **kept)
    return replace(program, constant=program.objective(x_fixed), **kept)


def _contradiction(
    program: Constraints,
    A: Sparse,
    bounds: _Bounds,
    crossed: Labels,
    empty: Flags,
    x_fixed: Vector,
) -> Vector | None:
    """Row weights of a proof of infeasibility that needs no solver, or None."""
    y = np.zeros(A.shape[0])
    size = np.maximum(1.0, np.minimum(abs(program.lower), abs(program.upper)))
    inverted = np.flatnonzero(program.lower > program.upper + ACCURACY.contradiction * size)
    if inverted.size:
        y[inverted[0]] = 1.0
        return y
    if crossed.size:
        column = crossed[:1]
        for source, entry, sign in (
            (bounds.lower_row[column], bounds.lower_entry[column], 1.0),
            (bounds.upper_row[column], bounds.upper_entry[column], -1.0),
        ):
            y[source[source >= 0]] = sign / entry[source >= 0]
        return y
    activity = A @ x_fixed
    tolerance = ACCURACY.contradiction * np.maximum(1.0, abs(A) @ abs(x_fixed))
    below = empty & (activity < program.lower - tolerance)
    above = empty & (activity > program.upper + tolerance)
    broken = np.flatnonzero(below | above)
    if not broken.size:
        return None
    y[broken[0]] = 1.0 if below[broken[0]] else -1.0
    return _certificate(A, bounds, y)


def _certificate(A: Sparse, bounds: _Bounds, y: Vector) -> Vector:
    """Complete y by the singleton rows: A'y + z = 0, and z is handed to the rows."""
    z = -(A.T @ y)
    z[abs(z) <= ACCURACY.no_weight * np.max(abs(y), initial=0.0)] = 0.0
    return bounds.move_to_rows(y, z)[0]
