"""What energy is worth where a community's surplus leaves the grid (MODEL.md §6).

Nothing may come in there. Where nothing need leave either, the price of that limit is any from
some least one up: all trades may be dearer by as much as the use of the grid is cheaper, and
nobody's energy costs her another price. The least one is the price to report: given what energy
is worth to everybody, it is what a little more would be worth there, 0 wherever that will do.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.solvers.arrays import Labels, Sparse, Vector
from pypsa_p2p.solvers.backends.highs import OPTIMAL, PRECISE
from pypsa_p2p.solvers.program import UNOWNED

Range = tuple[Vector, Vector]


def least_worth(compiled: CompiledModel, problem: MarketProblem, x: Vector, dual: Vector) -> Vector:
    """Multipliers of an optimum, (rows,), with the least worth of energy at the connections.

    A linear program in the multipliers of what is nobody's and in the prices of trades; all
    others, and so everybody's own decisions, keep theirs.

    Parameters
    ----------
    x : (columns,)
    dual : (rows,)
        Multipliers, in the units of the scaled problem.
    """
    program = compiled.program
    z = program.gradient(x) - program.A.T @ dual
    size = max(1.0, float(np.abs(program.A.T @ dual).max(initial=0.0)))  # without idle costs
    if not (z[problem.exports] > ACCURACY.no_grid_price * size).any():
        return dual
    rows = _common_rows(compiled, problem)
    A = program.A.tocsr()[rows].tocsc()
    columns = np.flatnonzero(np.diff(A.indptr))
    of_row = _changes(program.A[rows] @ x, program.lower[rows], program.upper[rows], dual[rows])
    of_column = _changes(x[columns], program.x_lower[columns], program.x_upper[columns], z[columns])
    owned = compiled.owner[columns] != UNOWNED
    for end in of_column:
        end[owned] = 0.0
    change = _least(A, problem.exports, columns, of_row, of_column, size)
    moved = dual.copy()
    moved[rows] += change
    return moved


def _common_rows(compiled: CompiledModel, problem: MarketProblem) -> Labels:
    """Rows with something that is nobody's in them, and those of (1)."""
    nobodys = (compiled.owner == UNOWNED).astype(float)
    common = np.asarray(abs(compiled.program.A).sign() @ nobodys) > 0
    common[problem.reciprocity] = True
    return np.flatnonzero(common)


def _changes(value: Vector, lower: Vector, upper: Vector, multiplier: Vector) -> Range:
    """Least and largest change of the multipliers of limits that leaves their signs right."""
    near = ACCURACY.at_limit * np.maximum(1.0, np.abs(value))
    at_lower, at_upper = value - lower <= near, upper - value <= near
    least = np.where(at_upper, -np.inf, np.where(at_lower, np.minimum(-multiplier, 0.0), 0.0))
    most = np.where(at_lower, np.inf, np.where(at_upper, np.maximum(-multiplier, 0.0), 0.0))
    return least, most


def _least(
    A: Sparse, exports: Labels, columns: Labels, of_row: Range, of_column: Range, size: float
) -> Vector:
    """Change of the rows' multipliers that makes those of `exports` least."""
    reduced = -A[:, columns].T.tocsr()  # change of the columns' multipliers
    low, high = (end / size for end in of_column)
    fixed, above, below = low == high, np.isfinite(low) & (low < high), np.isfinite(high)
    below &= low < high
    found = linprog(
        -np.asarray(A[:, exports].sum(axis=1)).ravel(),
        A_ub=sp.vstack([-reduced[above], reduced[below]]),
        b_ub=np.concatenate([-low[above], high[below]]),
        A_eq=reduced[fixed],
        b_eq=low[fixed],
        bounds=np.column_stack(of_row) / size,
        options=PRECISE,
    )
    if found.status != OPTIMAL:
        warnings.warn(
            "Prices of the grid may be higher than they need be, and those of trades lower: the "
            "linear program that finds the least price at the connection was not solved.",
            stacklevel=2,
        )
        return np.zeros(A.shape[0])
    return np.asarray(found.x * size)
