"""The array types of the solvers, and sums by label."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Sparse = Any  # scipy.sparse matrix or array; scipy ships no types


def largest_entries(A: Sparse) -> Vector:
    """The largest entry, by size, of every row, (rows,); 1 where there is none."""
    if not A.shape[1]:
        return np.ones(A.shape[0])
    largest = abs(A).max(axis=1).toarray().ravel()
    return np.asarray(np.where(largest > 0.0, largest, 1.0), dtype=np.float64)


def sum_by(label: Labels, values: Vector, count: int) -> Vector:
    """(count,) sums of the values with label 0, 1, ..., count - 1."""
    return np.asarray(np.bincount(label, weights=values, minlength=count), dtype=np.float64)
