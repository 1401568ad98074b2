"""The program whose solution is the risk-averse optimum of least expected cost, step by step.

    min  sum_k p_k Pi_k(x)   over a region of the optimal face
    s.t. least_k <= Pi_k(x) - eta_g <= most_k       (`sides`)

Costs above and at the values at risk are linear on the face, so only costs below are curved; a
step of Newton's method has them linear at the iterate, and their multipliers in the Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, lines_of, picked, sum_by
from pypsa_p2p.solvers.face import Region
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution
from pypsa_p2p.solvers.sides import Sides


@dataclass(frozen=True, kw_only=True, eq=False)
class LeastExpectedCost:
    """The optimum of least expected cost.

    Attributes
    ----------
    program : QuadraticProgram
        The quadratic program it solves, in some columns of x, and eta.
    solution : Solution
    columns : (f,)
        Those columns; the others are the same in all optima.
    x : (n,)
    row_dual : (m,)
        Multipliers of the risk program's rows in the choice.
    weighed : (K,)
        Whether a cell's cost counts in its group's risk.
    weight : (K,)
        What a cell's cost counts for in the choice, p + m: m is the multiplier of Pi <= eta.
    """

    program: QuadraticProgram
    solution: Solution
    columns: Labels
    x: Vector
    row_dual: Vector
    weighed: Flags
    weight: Vector


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """The program above on a region of the face.

    Attributes
    ----------
    P : (f, f)
        Of the region's columns.
    moves : (K,)
        Whether a cell has any of them.
    level_lower, level_upper : (G,)
        What costs of cells that have none leave to the values at risk.
    counted : (n,)
        What a column's cost counts for in the expectation: its probability; 0 where it is aside.
    """

    program: RiskProgram
    tail: Sides
    region: Region
    P: Sparse
    moves: Flags
    level_lower: Vector
    level_upper: Vector
    counted: Vector

    @classmethod
    def of(
        cls, program: RiskProgram, tail: Sides, region: Region, x: Vector, aside: Labels
    ) -> Choice:
        """The program at a point of the face."""
        moves = np.zeros(program.group.size + 1, dtype=bool)
        moves[program.cell[region.columns]] = True
        moves = moves[:-1]
        costs = program.costs(x)
        level_lower, level_upper = np.full((2, program.groups), [[-np.inf], [np.inf]])
        np.maximum.at(level_lower, program.group[~moves], (costs - tail.most)[~moves])
        np.minimum.at(level_upper, program.group[~moves], (costs - tail.least)[~moves])
        counted = program.per_column(program.probability)
        counted[aside] = 0.0
        return cls(
            program=program,
            tail=tail,
            region=region,
            counted=counted,
            P=picked(program.P.tocsc(), region.columns, region.columns),
            moves=moves,
            level_lower=np.minimum(level_lower, level_upper),
            level_upper=level_upper,
        )

    @cached_property
    def limited(self) -> Labels:
        """Cells of the region that have a limit."""
        limited = np.isfinite(self.tail.least) | np.isfinite(self.tail.most)
        return np.flatnonzero(self.moves & limited)

    @cached_property
    def rows_of_limited(self) -> _Rows:
        """The rows of a step that has all of these: their pattern is the same in every step."""
        return _Rows.of(self, self.limited)

    def step(
        self, x: Vector, multiplier: Vector, cells: Labels, proximal: float = 0.0
    ) -> QuadraticProgram:
        """The Newton subproblem at x in the region's columns, and eta, with some cells' rows."""
        program, region, tail = self.program, self.region, self.tail
        columns, cell, here = region.columns, program.cell[region.columns], x[region.columns]
        unit = program.per_column(program.probability)[columns]
        weight = np.append(program.probability + multiplier, 1.0)[cell]
        gradient, owned = self.gradient(x)[columns], cell >= 0
        H = self._hessian(weight, proximal * unit)
        linear = sum_by(cell[owned], (gradient * here)[owned], program.group.size)
        value = (program.costs(x) - linear)[cells]
        rows = self.rows_of_limited if cells is self.limited else _Rows.of(self, cells)
        still = np.zeros(program.groups)
        return QuadraticProgram(
            P=H,
            c=np.append(gradient * self.counted[columns], still) - H @ np.append(here, still),
            A=rows.at(gradient),
            lower=np.append(region.lower, tail.least[cells] - value),
            upper=np.append(region.upper, tail.most[cells] - value),
            x_lower=np.append(region.x_lower, self.level_lower),
            x_upper=np.append(region.x_upper, self.level_upper),
        )

    def _hessian(self, weight: Vector, proximal: Vector) -> Sparse:
        """P, its columns weighted, and more on the diagonal; and eta, which has no curvature."""
        data, indices, pointers = self.P.data, self.P.indices, self.P.indptr
        pointers = np.append(pointers, np.full(self.program.groups, pointers[-1]))
        size = pointers.size - 1
        H = sp.csc_matrix((data * weight[lines_of(self.P)], indices, pointers), shape=(size, size))
        if not proximal.any():
            return H
        return (H + sp.diags(np.append(proximal, np.zeros(self.program.groups)))).tocsc()

    def gradient(self, x: Vector) -> Vector:
        """(n,) of what every column costs, not weighted."""
        return np.asarray(self.program.P @ x + self.program.c)

    def lagrangian(self, x: Vector, y: Vector, cells: Labels) -> Vector:
        """(n,) gradient of expected costs less that of the cells' rows times their multipliers."""
        program = self.program
        of_cell = np.zeros(program.group.size)
        of_cell[cells] -= y
        return self.gradient(x) * (self.counted + program.per_column(of_cell, unowned=0.0))

    def multiplier(self, y: Vector, cells: Labels) -> Vector:
        """(K,) m of Pi <= eta, nonnegative, from the multipliers of some cells' rows."""
        found = np.zeros(self.program.group.size)
        found[cells] = np.maximum(-y, 0.0) * self.tail.below[cells]
        return found

    def chosen(
        self,
        qp: QuadraticProgram,
        solution: Solution,
        x: Vector,
        row_dual: Vector,
        multiplier: Vector,
    ) -> LeastExpectedCost:
        """What is found at x, the solution of the last step and of the program."""
        return LeastExpectedCost(
            program=qp,
            solution=solution,
            columns=self.region.columns,
            x=x,
            row_dual=row_dual[: self.program.A.shape[0]],
            weighed=~self.tail.below | (self.program.least > 0.0),
            weight=self.program.probability + multiplier,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Rows of a region, then of some cells: gradients of their costs, and -1 at their groups.

    Attributes
    ----------
    data, indices, pointers
        All entries, as csr; the gradients are still missing.
    columns : (n,)
        How many of the region, and groups.
    place, column : (entries,)
        Where the gradients go, and of which column each is.
    """

    data: Vector
    indices: Labels
    pointers: Labels
    columns: int
    place: Labels
    column: Labels

    @classmethod
    def of(cls, choice: Choice, cells: Labels) -> _Rows:
        """The rows of some cells of a choice, ascending."""
        program, A = choice.program, choice.region.A
        row = np.full(program.group.size + 1, -1)
        row[cells] = np.arange(cells.size)
        row = row[program.cell[choice.region.columns]]
        column = np.argsort(row, kind="stable")[np.count_nonzero(row < 0) :]
        ends = np.cumsum(np.bincount(row[column], minlength=cells.size) + 1)
        place = A.nnz + np.arange(column.size) + row[column]  # a group before each further row
        data = np.append(A.data, np.full(column.size + cells.size, -1.0))
        indices = np.append(A.indices, np.zeros(column.size + cells.size, dtype=A.indices.dtype))
        indices[place] = column
        indices[A.nnz + ends - 1] = row.size + program.group[cells]
        return cls(
            data=data,
            indices=indices,
            pointers=np.append(A.indptr, (A.nnz + ends).astype(A.indptr.dtype)),
            columns=row.size + program.groups,
            place=place,
            column=column,
        )

    def at(self, gradient: Vector) -> Sparse:
        """The matrix where the region's columns cost so much more, (f,)."""
        data = self.data.copy()
        data[self.place] = gradient[self.column]
        shape = (self.pointers.size - 1, self.columns)
        return sp.csr_matrix((data, self.indices, self.pointers), shape=shape)
