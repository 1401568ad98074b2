"""A sparse quasi-definite matrix factored entry by entry, with some unknowns kept for the end."""

from __future__ import annotations

import numpy as np
import qdldl
from scipy import sparse

from pypsa_p2p.solvers.arrays import Labels, Vector

#: The ordering (AMD) leaves an unknown for the end that touches more than this many times the
#: root of their number.
_DENSE = 10.0


class Core:
    """Factors a symmetric quasi-definite matrix of a fixed pattern.

    Parameters
    ----------
    row, column : (nnz,)
        Pattern of the upper triangle, each entry once.
    size
        Number of unknowns.
    common : (G,)
        Unknowns that many others touch. Eliminated early they would tie those together, and an
        ordering that looks at them goes wrong (8 times the work for 100 prosumers) and takes
        long. It leaves them for the end if they touch enough others; zeros will do, where they
        are no more than the entries there are: among many small markets nothing hangs together.
    """

    def __init__(self, row: Labels, column: Labels, size: int, common: Labels) -> None:
        touched = size - 1 - np.arange(min(size, int(_DENSE * np.sqrt(size)) + 2))
        first, second = (ends.ravel() for ends in np.meshgrid(common, touched))
        if first.size > row.size:
            first, second = first[:0], second[:0]
        rows = np.concatenate([row, np.minimum(first, second)])
        columns = np.concatenate([column, np.maximum(first, second)])
        key, position = np.unique(columns * size + rows, return_inverse=True)
        self._position = position[: row.size]
        pointers = np.append(0, np.cumsum(np.bincount(key // size, minlength=size)))
        parts = (np.zeros(key.size), (key % size).astype(np.int32), pointers.astype(np.int32))
        self._matrix = sparse.csc_matrix(parts, shape=(size, size))
        self._factor: qdldl.Solver | None = None

    def factor(self, values: Vector) -> None:
        """At the values of its upper triangle."""
        self._matrix.data[self._position] = values
        if self._factor is None:
            self._factor = qdldl.Solver(self._matrix, True)
        else:
            self._factor.update(self._matrix, True)

    def solve(self, target: Vector) -> Vector:
        """The unknowns at a right-hand side."""
        if self._factor is None:
            raise RuntimeError("factor the matrix before solving with it")
        return np.asarray(self._factor.solve(target))
