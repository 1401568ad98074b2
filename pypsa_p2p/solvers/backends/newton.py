"""The Newton system of the interior point: one quasi-definite matrix, one pattern.

Unknowns (dx, d eta, -dy, d sigma):

    [ W + H_x        .     A'      J'  ]      W   weighted Hessian, sum_k tau_k P_k
    [ .              .     .      -E'  ]      H   multiplier / slack of bounds and rows
    [ A              .   -1/H_r    .   ]      J   gradients of the cells' costs, one entry
    [ J             -E     .      -D   ]          per column; E: the group of each cell

The pattern is laid out once; an iteration only refreshes values. Columns leave in closed form,
and with them rows of two (`clusters`), then the rest, values at risk last: entry by entry (`core`),
or where many prices hang together by dense matrices (`blocks`).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Labels, Sparse, Vector
from pypsa_p2p.solvers.backends.blocks import BlockCore, Kinds, NotDefiniteError
from pypsa_p2p.solvers.backends.clusters import Clusters, clusters_of
from pypsa_p2p.solvers.backends.core import Core

_REFINEMENTS = 2
#: Unknowns up to which nothing leaves in closed form: that takes longer than it saves.
SMALL = 2000


class NewtonSystem:
    """Factors and solves the system above, symmetrically scaled.

    Parameters
    ----------
    P, A
        (n, n) and (m, n), without duplicate entries.
    member
        (n,) cell at risk of each column, 0..k-1, or -1.
    group
        (k,) group of each cell, 0..groups-1.
    column_scale, row_scale, cell_scale
        Weights p of columns, rows and cells. Columns are scaled by p^-1/2, rows and cells by
        p^1/2: every scenario's block then looks the same, however unlikely the scenario. Rows
        with coefficients above 1 (Kirchhoff's voltage law, say) are scaled down to it besides.
    """

    def __init__(
        self,
        P: Sparse,
        A: Sparse,
        member: Labels,
        group: Labels,
        *,
        groups: int,
        column_scale: Vector,
        row_scale: Vector,
        cell_scale: Vector,
    ) -> None:
        m, n = A.shape
        self.sizes = np.cumsum([n, groups, m])
        largest = np.maximum(abs(A).max(axis=1).toarray().ravel(), 1.0)
        self.scale = np.concatenate(
            [column_scale**-0.5, np.ones(groups), row_scale**0.5 / largest, cell_scale**0.5]
        )
        self._squared_scale = self.scale**2
        self._regularisation = np.full(self.scale.size, ACCURACY.proximal)
        self._regularisation[n + groups :] = -ACCURACY.dual_proximal
        self._curvature = P.diagonal()
        self._owned = np.flatnonzero(member >= 0)
        above = sparse.triu(P, k=1, format="coo")
        self._fill(above, A.tocoo(), member[self._owned], group)
        label = np.full(self.scale.size, -1)
        if label.size > SMALL:
            left = clusters_of(A.tocsr(), (above.row, above.col))
            label[:n], label[n + groups : n + groups + m] = left[:n], left[n:]
        self._clusters = Clusters(self.matrix, label)
        self._core: Core | BlockCore = self._core_in_blocks() or self._core_by_entry()

    def _core_by_entry(self) -> Core:
        n, first_row, _ = self.sizes
        clusters, kept = self._clusters, self._clusters.core
        at_risk = np.flatnonzero((kept >= n) & (kept < first_row))
        return Core(clusters.row, clusters.column, kept.size, at_risk)

    def _core_in_blocks(self) -> BlockCore | None:
        """Where rows and cells alone are left, and many rows hang together apart from others."""
        n, first_row, first_cell = self.sizes
        clusters, kept = self._clusters, self._clusters.core
        if kept.size and kept[0] < n:
            return None
        kinds = Kinds.of(
            clusters.row,
            clusters.column,
            (kept >= first_row) & (kept < first_cell),
            kept >= first_cell,
        )
        return BlockCore(clusters.row, clusters.column, kinds) if kinds.full else None

    def _fill(self, above: Sparse, A: Sparse, member: Labels, group: Labels) -> None:
        """Lay out the pattern, fill in what stays constant, and note where the rest goes."""
        n, first_row, first_cell = self.sizes
        everywhere, cells = np.arange(self.scale.size), first_cell + np.arange(group.size)
        row = [above.row, everywhere, self._owned, A.col, n + group]
        column = [above.col, everywhere, first_cell + member, first_row + A.row, cells]
        position, self.matrix = _upper_triangle(row, column, everywhere.size)
        self._lower = self.matrix.T  # of the same data
        self._above, self._diagonal, self._gradient, of_A, of_group = position
        scales = [self.scale[i] * self.scale[j] for i, j in zip(row, column, strict=True)]
        self.matrix.data[of_A] = A.data * scales[3]
        self.matrix.data[of_group] = -scales[4]
        self._above_values, self._above_column = above.data * scales[0], above.col
        self._gradient_scale = scales[2]

    def refresh(
        self, weights: Vector, barrier: Vector, gradient: Vector, rows: Vector, cells: Vector
    ) -> None:
        """New values, then factor.

        Parameters
        ----------
        weights
            (n,) tau of each column's cell, 1 for unowned columns.
        barrier
            (n,) H_x.
        gradient
            (n,) c + P x, the entries of J.
        rows
            (m,) 1/H_r, 0 for equalities.
        cells
            (k,) D.
        """
        n, first_row, _ = self.sizes
        diagonal = np.concatenate(
            [weights * self._curvature + barrier, np.zeros(first_row - n), -rows, -cells]
        )
        data = self.matrix.data
        data[self._above] = self._above_values * weights[self._above_column]
        data[self._gradient] = gradient[self._owned] * self._gradient_scale
        data[self._diagonal] = self._squared_scale * diagonal + self._regularisation
        self._diagonal_values = data[self._diagonal]
        values = self._clusters.factor(data)
        try:
            self._core.factor(values)
        except NotDefiniteError:
            self._core = self._core_by_entry()
            self._core.factor(values)

    def solve(self, right: list[Vector], refined: bool = True) -> list[Vector]:
        """(dx, d eta, -dy, d sigma), refined against rounding in the factors if need be."""
        target = np.concatenate(right) * self.scale
        size = np.max(abs(target), initial=0.0)
        step = self._solve(target)
        for _ in range(_REFINEMENTS if refined else 0):
            error = target - self._multiply(step)
            if np.max(abs(error), initial=0.0) <= ACCURACY.differences * size:
                break
            step = step + self._solve(error)
        step = step * self.scale
        first, second, third = self.sizes
        return [step[:first], step[first:second], step[second:third], step[third:]]

    def _solve(self, target: Vector) -> Vector:
        found, core = self._clusters.forward(target)
        return self._clusters.backward(found, self._core.solve(core), target.size)

    def _multiply(self, step: Vector) -> Vector:
        """The symmetric matrix times a vector, from its upper triangle."""
        return np.asarray(self.matrix @ step + self._lower @ step - self._diagonal_values * step)


def _upper_triangle(
    row: list[Labels], column: list[Labels], total: int
) -> tuple[list[Labels], Sparse]:
    """A csc matrix with the given entries, and where each list of entries sits in its data."""
    rows, columns = np.concatenate(row), np.concatenate(column)
    order = np.lexsort((rows, columns))
    place = np.empty(rows.size, dtype=np.int64)
    place[order] = np.arange(rows.size)
    pointers = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=total))])
    parts = (np.zeros(rows.size), rows[order].astype(np.int32), pointers.astype(np.int32))
    position = np.split(place, np.cumsum([entries.size for entries in row])[:-1])
    return position, sparse.csc_matrix(parts, shape=(total, total))
