"""A core whose parts are nearly full, factored part by part, densely.

Prices of one scenario and snapshot hang together like the trades, and touch nothing else but the
cells of their scenario; these touch nothing else but the values at risk:

    [ -N_1              B_1'        ]      N   a part's prices, positive definite
    [        -N_2       B_2'        ]      C   the cells of a scenario, positive definite
    [  B_1    B_2       -C      -F' ]      K   values at risk
    [                   -F       K  ]

Prices that touch few others leave first, one by one but those of all parts at once (`clusters`).
Among many prosumers what remains is full, and entry by entry (`core`) takes ten times as long.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import blas, lapack
from scipy.sparse.csgraph import connected_components

from pypsa_p2p.solvers.arrays import Flags, Labels, Vector
from pypsa_p2p.solvers.backends.clusters import Clusters

Matrix = npt.NDArray[np.float64]

_LARGE, _TOO_LARGE = 80, 1000  # prices that hang together
_MOST_TOUCHED = 24  # by an unknown that leaves on its own
_FEWEST = 0.05  # share of prices that a round has to take away
_PASSES = 3  # in which a round chooses them
_SHARE, _ALWAYS = 0.2, 10  # those that touch no more than so many of them, or this few, may leave
_STRIDE = 7919  # a prime: ties are decided as if at random


class NotDefiniteError(ArithmeticError):
    """Rounding has made a part indefinite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Kinds:
    """What the unknowns of a core are, (size,) each: prices of a part, cells, or values at risk.

    Attributes
    ----------
    part
        Which prices hang together, -1 of others.
    cells
        Which cells do, -1 of others.
    """

    part: Labels
    cells: Labels

    @classmethod
    def of(cls, row: Labels, column: Labels, prices: Flags, cells: Flags) -> Kinds:
        """By what hangs together without the others: prices, then prices and cells."""
        scenario = _components(row, column, prices | cells)
        return cls(part=_components(row, column, prices), cells=np.where(prices, -1, scenario))

    @property
    def full(self) -> bool:
        """Whether parts are large enough for dense matrices, and not too large."""
        largest = np.bincount(self.part[self.part >= 0]).max(initial=0)
        scenarios = np.unique(self.cells[self.cells >= 0]).size == self.cells.max(initial=-1) + 1
        return bool(scenarios and _LARGE <= largest <= _TOO_LARGE)

    def among(self, kept: Labels) -> Kinds:
        """Those of some unknowns."""
        return Kinds(part=self.part[kept], cells=self.cells[kept])


class BlockCore:
    """Factors and solves such a core; see the module's text.

    Parameters
    ----------
    row, column : (nnz,)
        Pattern of the upper triangle, each entry once, by column, then row.
    kinds : Kinds
    """

    def __init__(self, row: Labels, column: Labels, kinds: Kinds) -> None:
        self._rounds: list[Clusters] = []
        while True:
            label = _leaving(row, column, kinds.part >= 0)
            leaving = np.count_nonzero(label >= 0)
            if leaving <= _FEWEST * np.count_nonzero(kinds.part >= 0):
                break
            size = label.size
            pointers = np.append(0, np.cumsum(np.bincount(column, minlength=size)))
            parts = (np.zeros(row.size), row, pointers)
            clusters = Clusters(sparse.csc_matrix(parts, shape=(size, size)), label)
            self._rounds.append(clusters)
            row, column, kinds = clusters.row, clusters.column, kinds.among(clusters.core)
        self._arrow = _Arrow(row, column, kinds)

    def factor(self, values: Vector) -> None:
        """At the values of its upper triangle.

        Raises
        ------
        NotDefiniteError
            If rounding has made a part indefinite.
        """
        for clusters in self._rounds:
            values = clusters.factor(values)
        self._arrow.factor(values)

    def solve(self, target: Vector) -> Vector:
        """The unknowns at a right-hand side."""
        left = []
        for clusters in self._rounds:
            size = target.size
            found, target = clusters.forward(target)
            left.append((clusters, found, size))
        step = self._arrow.solve(target)
        for clusters, found, size in reversed(left):
            step = clusters.backward(found, step, size)
        return step


class _Arrow:
    """What is full: parts, then the cells of a scenario, then the values at risk."""

    def __init__(self, row: Labels, column: Labels, kinds: Kinds) -> None:
        self._part = _grouped(kinds.part)
        self._cells = _grouped(kinds.cells)
        last = (kinds.part < 0) & (kinds.cells < 0)
        self._last = np.flatnonzero(last)
        place = np.empty(last.size, dtype=np.int64)  # of each unknown among its like
        for members in (*self._part, *self._cells, self._last):
            place[members] = np.arange(members.size)
        rank = np.where(last, 2, np.where(kinds.part < 0, 1, 0))
        swapped = rank[row] > rank[column]
        first, second = np.where(swapped, column, row), np.where(swapped, row, column)
        part, cells = kinds.part[first], np.maximum(kinds.cells[first], kinds.cells[second])
        kind = 3 * rank[first] + rank[second]
        ends = place[first], place[second]
        inside, across, between, to_last, of_last = (
            np.flatnonzero(kind == number) for number in (0, 1, 4, 5, 8)
        )
        self._scenario = np.zeros(len(self._part), dtype=np.int64)
        self._scenario[part[across]] = cells[across]
        sizes = np.array([members.size for members in self._cells])
        of_part = [members.size for members in self._part]
        self._N = _blocks(inside, part, ends, of_part, of_part)
        self._B = _blocks(across, part, ends, of_part, sizes[self._scenario])
        self._C = _blocks(between, cells, ends, sizes, sizes)
        self._F = _blocks(to_last, cells, ends, sizes, [self._last.size] * sizes.size)
        one = [self._last.size]
        self._K = _blocks(of_last, np.zeros(row.size, dtype=np.int64), ends, one, one)[0]

    def factor(self, values: Vector) -> None:
        """Cholesky factors of all parts, scenarios, and of what is left for the values at risk."""
        K, values = self._K.at(values), -values
        C = [block.at(values) for block in self._C]
        self._parts: list[tuple[Matrix, Matrix]] = []
        for N, B, scenario in zip(self._N, self._B, self._scenario, strict=True):
            lower = _cholesky(N.at(values))
            border = blas.dtrsm(1.0, lower, B.at(values), lower=1, overwrite_b=1)
            C[scenario] = blas.dsyrk(
                -1.0, border, beta=1.0, c=C[scenario], trans=1, lower=1, overwrite_c=1
            )
            self._parts.append((lower, border))
        self._scenarios: list[tuple[Matrix, Matrix]] = []
        for matrix, F in zip(C, self._F, strict=True):
            lower = _cholesky(matrix)
            border = blas.dtrsm(1.0, lower, F.at(values), lower=1, overwrite_b=1)
            K = blas.dsyrk(1.0, border, beta=1.0, c=K, trans=1, lower=1, overwrite_c=1)
            self._scenarios.append((lower, border))
        self._end = _cholesky(K)

    def solve(self, target: Vector) -> Vector:
        """The unknowns at a right-hand side."""
        step = -target
        for members, (lower, border), scenario in zip(
            self._part, self._parts, self._scenario, strict=True
        ):
            step[members] = blas.dtrsv(lower, step[members], lower=1)
            step[self._cells[scenario]] -= border.T @ step[members]
        for cells, (lower, border) in zip(self._cells, self._scenarios, strict=True):
            step[cells] = blas.dtrsv(lower, step[cells], lower=1)
            step[self._last] -= border.T @ step[cells]
        end = -blas.dtrsv(self._end, step[self._last], lower=1)
        step[self._last] = blas.dtrsv(self._end, end, lower=1, trans=1)
        for cells, (lower, border) in zip(self._cells, self._scenarios, strict=True):
            left = step[cells] - border @ step[self._last]
            step[cells] = blas.dtrsv(lower, left, lower=1, trans=1)
        for members, (lower, border), scenario in zip(
            self._part, self._parts, self._scenario, strict=True
        ):
            left = step[members] - border @ step[self._cells[scenario]]
            step[members] = blas.dtrsv(lower, left, lower=1, trans=1)
        return step


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """A full matrix and the entries that fill it, those of a symmetric one below its diagonal."""

    shape: tuple[int, int]
    entries: Labels
    position: Labels

    def at(self, values: Vector) -> Matrix:
        """The matrix, by columns as LAPACK has it."""
        matrix = np.zeros(self.shape[0] * self.shape[1])
        matrix[self.position] = values[self.entries]
        return matrix.reshape(self.shape, order="F")


def _blocks(
    chosen: Labels,
    label: Labels,
    ends: tuple[Labels, Labels],
    rows: npt.ArrayLike,
    columns: npt.ArrayLike,
) -> list[_Block]:
    """The matrix of every label, from the chosen entries and their places in it."""
    height, width = np.asarray(rows), np.asarray(columns)
    chosen = chosen[np.argsort(label[chosen], kind="stable")]
    bounds = np.searchsorted(label[chosen], np.arange(height.size + 1))
    found = []
    for number in range(height.size):
        entries = chosen[bounds[number] : bounds[number + 1]]
        first, second = ends[0][entries], ends[1][entries]
        if rows is columns:
            first, second = np.maximum(first, second), np.minimum(first, second)
        shape = (int(height[number]), int(width[number]))
        position = second * shape[0] + first
        found.append(_Block(shape=shape, entries=entries, position=position))
    return found


def _cholesky(matrix: Matrix) -> Matrix:
    """The lower factor; what is above its diagonal means nothing."""
    lower, info = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    if info:
        raise NotDefiniteError
    return np.asarray(lower)


def _grouped(label: Labels) -> list[Labels]:
    """The unknowns of each label, ascending, those without one left out."""
    chosen = np.flatnonzero(label >= 0)
    chosen = chosen[np.argsort(label[chosen], kind="stable")]
    bounds = np.searchsorted(label[chosen], np.arange(label.max(initial=-1) + 2))
    return [chosen[start:end] for start, end in itertools.pairwise(bounds)]


def _components(row: Labels, column: Labels, among: Flags) -> Labels:
    """What hangs together among some unknowns, numbered from 0; -1 of the others."""
    here = among[row] & among[column]
    ends = (row[here], column[here])
    graph = sparse.coo_matrix((np.ones(ends[0].size), ends), (among.size, among.size))
    found = connected_components(graph, directed=False)[1]
    label = np.full(among.size, -1)
    label[among] = np.unique(found[among], return_inverse=True)[1]
    return label


def _leaving(row: Labels, column: Labels, prices: Flags) -> Labels:
    """Prices that leave next, each by its own number, -1 of all others: no two touch each other.

    They touch the fewest unknowns of all that they touch.
    """
    size = prices.size
    apart = row != column
    first = np.concatenate([row[apart], column[apart]])
    second = np.concatenate([column[apart], row[apart]])
    touched = np.bincount(first, minlength=size)
    few = np.quantile(touched[prices], _SHARE) if prices.any() else 0
    open_ = prices & (touched <= np.clip(few, _ALWAYS, _MOST_TOUCHED))
    rank = touched * size + np.arange(size) * _STRIDE % size
    label = np.full(size, -1)
    for _ in range(_PASSES):
        here = open_[first] & open_[second]
        first, second = first[here], second[here]
        least = np.full(size, np.iinfo(np.int64).max)
        np.minimum.at(least, first, rank[second])
        chosen = np.flatnonzero(open_ & (rank < least))
        label[chosen] = chosen
        open_[chosen] = False
        beside = np.zeros(size, dtype=bool)
        beside[chosen] = True
        open_[first[beside[second]]] = False
    return label
