"""Small clusters of unknowns that leave a quasi-definite system first, in closed form.

A cluster is a column of P (or two that a 2 x 2 block joins), or two such and the row that has
only them. Clusters touch nothing but the rest, the core:

    [ K_e  B' ]          core:  K_c - B K_e^-1 B'
    [ B   K_c ]

and each touches only a few unknowns of it. Arrays hold all clusters of one shape at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pypsa_p2p.solvers.arrays import Labels, Sparse, Vector, sum_by

_MOST_ROWS = 4  # of a column that leaves: more would tie too much of the core together


def clusters_of(A: Sparse, pairs: tuple[Labels, Labels]) -> Labels:
    """The cluster of each column and row, (n + m,), -1 of those that stay in the core.

    Parameters
    ----------
    A
        (m, n) csr.
    pairs
        Columns that an off-diagonal entry of P joins.
    """
    m, n = A.shape
    label = np.arange(n)
    stays = np.bincount(A.indices, minlength=n) > _MOST_ROWS
    partners = np.bincount(np.concatenate(pairs), minlength=n)
    first, second = pairs
    stays |= partners > 1
    stays[first] |= stays[second]
    stays[second] |= stays[first]
    label[second] = label[first]
    label[stays] = -1
    two = np.flatnonzero(np.diff(A.indptr) == 2)
    ends = label[np.stack([A.indices[A.indptr[two]], A.indices[A.indptr[two] + 1]])]
    two, ends = two[(ends >= 0).all(axis=0)], ends[:, (ends >= 0).all(axis=0)]
    claimed = np.full(n, m)  # by the first row that has it
    np.minimum.at(claimed, ends.ravel(), np.tile(two, 2))
    own = (claimed[ends] == two).all(axis=0)
    two, ends = two[own], ends[:, own]
    merged = np.arange(n + 1)
    merged[-1] = -1
    merged[ends.max(axis=0)] = ends.min(axis=0)
    of_row = np.full(m, -1)
    of_row[two] = ends.min(axis=0)
    return np.append(merged[label], of_row)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shape:
    """All clusters of k unknowns that touch r of the core.

    Attributes
    ----------
    member : (k, count)
        Unknowns of the system, columns before rows.
    outer : (r, count)
        Unknowns of the core.
    inner_at, border_at : (k, k, count), (k, r, count)
        Where entries of K_e and B' sit in the system's data; one past it where there are none.
    """

    member: Labels
    outer: Labels
    inner_at: Labels
    border_at: Labels

    @cached_property
    def pairs(self) -> tuple[Labels, Labels]:
        """Pairs of outer unknowns i <= j."""
        i, j = np.triu_indices(len(self.outer))
        return i, j

    def factor(self, data: Vector) -> _Factored:
        """L D L' = K_e and Y = L^-1 B', vectorised over the clusters."""
        k = len(self.member)
        pivot: list[Vector] = []
        lower: dict[tuple[int, int], Vector] = {}
        border: list[Vector] = []
        for a in range(k):
            row, diagonal = data[self.border_at[a]], data[self.inner_at[a, a]]
            for b in range(a):
                entry = data[self.inner_at[b, a]]
                for c in range(b):
                    entry = entry - lower[a, c] * pivot[c] * lower[b, c]
                lower[a, b] = entry / pivot[b]
                diagonal = diagonal - entry * lower[a, b]
                row = row - lower[a, b] * border[b]
            pivot.append(diagonal)
            border.append(row)
        return _Factored(shape=self, pivot=pivot, lower=lower, border=border)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Factored:
    """L, D and Y of all clusters of one shape."""

    shape: _Shape
    pivot: list[Vector]
    lower: dict[tuple[int, int], Vector]
    border: list[Vector]

    def fill(self) -> Vector:
        """-B K_e^-1 B', pairs of outer unknowns i <= j, one after the other."""
        over = [-border / pivot for border, pivot in zip(self.border, self.pivot, strict=True)]
        i, j = self.shape.pairs
        total = np.zeros((i.size, self.shape.outer.shape[1]))
        for left, right in zip(over, self.border, strict=True):
            total += left[i] * right[j]
        return total.ravel()

    def forward(self, target: Vector) -> list[Vector]:
        """L^-1 of the clusters' part of a right-hand side."""
        found: list[Vector] = []
        for a, member in enumerate(self.shape.member):
            value = target[member]
            for b in range(a):
                value = value - self.lower[a, b] * found[b]
            found.append(value)
        return found

    def on_core(self, found: list[Vector]) -> Vector:
        """-B K_e^-1 of it, by outer unknown, (r, count)."""
        total = np.zeros(self.shape.outer.shape)
        for value, pivot, border in zip(found, self.pivot, self.border, strict=True):
            total -= border * (value / pivot)
        return total

    def backward(self, found: list[Vector], core: Vector, step: Vector) -> None:
        """The clusters' unknowns into `step`, those of the core known."""
        outer = core[self.shape.outer]
        solved: dict[int, Vector] = {}
        for a in reversed(range(len(found))):
            value = (found[a] - (self.border[a] * outer).sum(axis=0)) / self.pivot[a]
            for b in range(a + 1, len(found)):
                value = value - self.lower[b, a] * solved[b]
            solved[a] = value
            step[self.shape.member[a]] = value


class Clusters:
    """Factors a symmetric system's clusters and hands what remains to its core.

    Parameters
    ----------
    matrix
        Upper triangle, csc with sorted rows; its pattern stays.
    label
        (total,) cluster of each unknown, -1 in the core.

    Attributes
    ----------
    core : (c,)
        Unknowns of the core.
    row, column : (nnz,)
        Pattern of the core's upper triangle, in its own numbers, columns first.
    """

    def __init__(self, matrix: Sparse, label: Labels) -> None:
        total = label.size
        self.core = np.flatnonzero(label < 0)
        place = np.full(total, -1)
        place[self.core] = np.arange(self.core.size)
        i, j = matrix.indices, np.repeat(np.arange(total), np.diff(matrix.indptr))
        self._lay_out(label, place, i, j)
        self._lay_out_core(place, i, j)

    def _lay_out(self, label: Labels, place: Labels, i: Labels, j: Labels) -> None:
        """Sort the clusters by shape, and note where their entries are."""
        none = i.size
        left = np.flatnonzero(label >= 0)
        _, cluster = np.unique(label[left], return_inverse=True)
        count = int(cluster.max(initial=-1)) + 1
        of = np.full(label.size, -1)
        of[left] = cluster
        slot = np.zeros(label.size, dtype=np.int64)
        slot[left], k = _ranks(cluster, count)
        inside = np.flatnonzero((of[i] >= 0) & (of[j] >= 0))
        across = np.flatnonzero((of[i] >= 0) != (of[j] >= 0))
        inner = np.where(of[i[across]] >= 0, i[across], j[across])
        touched = place[i[across] + j[across] - inner]
        key, to_key = np.unique(of[inner] * self.core.size + touched, return_inverse=True)
        rank, r = _ranks(key // max(1, self.core.size), count)
        self.shapes = []
        for size, touching in np.unique(np.stack([k, r]), axis=1).T:
            here = np.flatnonzero((k == size) & (r == touching))
            where = np.full(count + 1, -1)
            where[here] = np.arange(here.size)
            member = np.zeros((size, here.size), dtype=np.int64)
            outer = np.zeros((touching, here.size), dtype=np.int64)
            inner_at = np.full((size, size, here.size), none)
            border_at = np.full((size, touching, here.size), none)
            _put(member, where[cluster], (slot[left],), left)
            _put(outer, where[key // max(1, self.core.size)], (rank,), key % max(1, self.core.size))
            _put(inner_at, where[of[i[inside]]], (slot[i[inside]], slot[j[inside]]), inside)
            _put(border_at, where[of[inner]], (slot[inner], rank[to_key]), across)
            shape = _Shape(member=member, outer=outer, inner_at=inner_at, border_at=border_at)
            self.shapes.append(shape)

    def _lay_out_core(self, place: Labels, i: Labels, j: Labels) -> None:
        """The core's pattern: its own entries and those between what a cluster touches."""
        size = self.core.size
        self._own = np.flatnonzero((place[i] >= 0) & (place[j] >= 0))
        first, second = [place[i[self._own]]], [place[j[self._own]]]
        for shape in self.shapes:
            a, b = np.triu_indices(len(shape.outer))
            first.append(np.minimum(shape.outer[a], shape.outer[b]).ravel())
            second.append(np.maximum(shape.outer[a], shape.outer[b]).ravel())
        key = np.concatenate(second) * size + np.concatenate(first)
        key, self._to_core = np.unique(key, return_inverse=True)
        self.row, self.column = key % size, key // size

    def factor(self, data: Vector) -> Vector:
        """Factor the clusters at the system's values; values of the core's upper triangle."""
        data_and_none = np.append(data, 0.0)
        self._factored = [shape.factor(data_and_none) for shape in self.shapes]
        parts = [data[self._own], *(factored.fill() for factored in self._factored)]
        return sum_by(self._to_core, np.concatenate(parts), self.row.size)

    def forward(self, target: Vector) -> tuple[list[list[Vector]], Vector]:
        """What to give back to `backward`, and the core's right-hand side."""
        found = [factored.forward(target) for factored in self._factored]
        core = target[self.core]
        for factored, values in zip(self._factored, found, strict=True):
            outer = factored.shape.outer.ravel()
            more = factored.on_core(values).ravel()
            core = core + sum_by(outer, more, core.size)
        return found, core

    def backward(self, found: list[list[Vector]], core: Vector, size: int) -> Vector:
        """All unknowns, (size,), from those of the core."""
        step = np.empty(size)
        step[self.core] = core
        for factored, values in zip(self._factored, found, strict=True):
            factored.backward(values, core, step)
        return step


def _ranks(group: Labels, count: int) -> tuple[Labels, Labels]:
    """Place of each entry among those of its group, in the order given, and sizes of the groups."""
    size = np.bincount(group, minlength=count)
    order = np.argsort(group, kind="stable")
    rank = np.empty(group.size, dtype=np.int64)
    rank[order] = np.arange(group.size) - np.repeat(np.cumsum(size) - size, size)
    return rank, size


def _put(array: Labels, where: Labels, index: tuple[Labels, ...], values: Labels) -> None:
    """array[*index, where] = values, of the entries that are somewhere."""
    here = where >= 0
    array[(*(part[here] for part in index), where[here])] = values[here]
