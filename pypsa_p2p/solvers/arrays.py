"""The array types of the solvers, and sums by label."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Sparse = Any  # scipy.sparse matrix or array; scipy ships no types

#: No columns, rows or cells.
NO_LABELS: Labels = np.empty(0, dtype=np.int64)


def lines_of(A: Sparse) -> Labels:
    """The row of every entry of a csr matrix, (nnz,); of a csc matrix the column."""
    return np.repeat(np.arange(A.indptr.size - 1), np.diff(A.indptr))


def picked(A: Sparse, rows: Labels, columns: Labels) -> Sparse:
    """A[rows][:, columns] of a csr matrix, both ascending, in one pass.

    What scipy does in two, with checks that take longer than small matrices do. Of a csc matrix
    that is symmetric the same.
    """
    place = np.full(A.shape[1], -1, dtype=np.int32)
    place[columns] = np.arange(columns.size, dtype=np.int32)
    wanted = np.zeros(A.shape[0], dtype=bool)
    wanted[rows] = True
    line, column = lines_of(A), place[A.indices]
    kept = wanted[line] & (column >= 0)
    count = np.bincount(line[kept], minlength=A.shape[0])[rows]
    pointers = np.zeros(rows.size + 1, dtype=np.int32)
    np.cumsum(count, out=pointers[1:])
    return type(A)((A.data[kept], column[kept], pointers), shape=(rows.size, columns.size))


def largest_entries(A: Sparse) -> Vector:
    """The largest entry, by size, of every row, (rows,); 1 where there is none."""
    rows = A.tocsr()
    filled = np.diff(rows.indptr) > 0
    largest = np.zeros(rows.shape[0])
    if filled.any():
        largest[filled] = np.maximum.reduceat(np.abs(rows.data), rows.indptr[:-1][filled])
    return np.where(largest > 0.0, largest, 1.0)


def ends_by_row(A: Sparse, of_column: Vector | Labels) -> tuple[Labels, Any, Any]:
    """Rows of a csr matrix that have entries, and the least and most of their columns' values."""
    filled = np.flatnonzero(np.diff(A.indptr))
    if not filled.size:
        return filled, of_column[:0], of_column[:0]
    of_entry, starts = of_column[A.indices], A.indptr[filled]
    return filled, np.minimum.reduceat(of_entry, starts), np.maximum.reduceat(of_entry, starts)


def sum_by(label: Labels, values: Vector, count: int) -> Vector:
    """(count,) sums of the values with label 0, 1, ..., count - 1."""
    return np.asarray(np.bincount(label, weights=values, minlength=count), dtype=np.float64)
