"""The lines of a welfare program: columns beside x, and what is linear between them.

With e_k at least the cost of cell k, eta_g the value at risk and u_k the excess over it, group g's
cost is at most

    z_g = sum_k (least_k e_k + room_k u_k) + to_assign_g eta_g + what she pays outside any scenario

with u_k >= 0, u_k >= e_k - eta_g. Where the largest is minimised there is one column above all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from pypsa_p2p.solvers.arrays import Labels, Sparse, Vector
from pypsa_p2p.solvers.welfare import Largest, LogGains, WeightedSum, WelfareProgram


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """Lines matrix @ (all columns) + offset, none of which is below 0."""

    matrix: Sparse
    offset: Vector

    def from_point(self, start: Vector) -> Lines:
        """The same lines in columns that count from there."""
        return Lines(matrix=self.matrix, offset=self.offset + self.matrix @ start)


@dataclass(frozen=True, kw_only=True, eq=False)
class WelfareLines:
    """Columns (x, e, t, u, eta, z, s) of a welfare program, and its lines.

    t are a solver's own, s the largest of what is minimised.

    Attributes
    ----------
    own : int
        How many t there are.
    risky : (R,)
        Cells whose risk-adjusted probability is free, which have u.
    averse : (B,)
        Their groups, which have eta.
    """

    whole: WelfareProgram
    own: int
    risky: Labels
    averse: Labels

    @classmethod
    def of(cls, whole: WelfareProgram, own: int = 0) -> WelfareLines:
        """Of a program, with so many columns of a solver's own."""
        risky = np.flatnonzero(whole.program.at_risk[: whole.cells])
        averse = np.unique(whole.program.group[risky])
        return cls(whole=whole, own=own, risky=risky, averse=averse)

    @cached_property
    def widths(self) -> dict[str, int]:
        """How many columns there are of each kind."""
        whole = self.whole
        return {
            "x": whole.program.c.size,
            "e": whole.cells,
            "t": self.own,
            "u": self.risky.size,
            "eta": self.averse.size,
            "z": whole.count,
            "s": int(isinstance(whole.aim, Largest)),
        }

    @property
    def columns(self) -> int:
        """Of all kinds."""
        return sum(self.widths.values())

    def place(self, kind: str) -> slice:
        """Where the columns of a kind are."""
        ends = np.cumsum([0, *self.widths.values()])
        number = list(self.widths).index(kind)
        return slice(ends[number], ends[number + 1])

    def block(self, rows: int, **kinds: Sparse) -> Sparse:
        """Lines with these blocks of columns and nothing in the others."""
        parts = [
            kinds.get(name, sparse.csr_matrix((rows, width))) for name, width in self.widths.items()
        ]
        return sparse.hstack(parts, format="csr")

    @property
    def objective(self) -> Vector:
        """F where it is linear in z or s, and the expectation; 0 of logarithms."""
        whole, aim = self.whole, self.whole.aim
        cost, program = np.zeros(self.columns), self.whole.program
        cost[self.place("e")] = whole.in_expectation[: whole.cells]
        free = np.flatnonzero((program.cell < 0) & (whole.payer >= 0))
        cost[free] = program.c[free] * whole.expected
        if isinstance(aim, WeightedSum):
            cost[self.place("z")] = aim.weight
        elif isinstance(aim, Largest):
            cost[self.place("s")] = 1.0
        else:
            assert isinstance(aim, LogGains)
        return cost

    @cached_property
    def excess(self) -> Lines:
        """u_k >= 0, then u_k - e_k + eta_g >= 0."""
        group, count = self.whole.program.group, self.risky.size
        u, ones = sparse.identity(count), np.ones(count)
        above = self.block(
            count,
            u=u,
            e=_entries(-ones, np.arange(count), self.risky, (count, self.whole.cells)),
            eta=_entries(
                ones,
                np.arange(count),
                np.searchsorted(self.averse, group[self.risky]),
                (count, self.averse.size),
            ),
        )
        both = sparse.vstack([self.block(count, u=u), above], format="csr")
        return Lines(matrix=both, offset=np.zeros(2 * count))

    @cached_property
    def sums(self) -> Lines:
        """z_g less what it is at least."""
        whole, risky, averse = self.whole, self.risky, self.averse
        program, groups, cells = whole.program, whole.count, np.arange(whole.cells)
        group = program.group[: whole.cells]
        free = np.flatnonzero((program.cell < 0) & (whole.payer >= 0))
        matrix = self.block(
            groups,
            x=_entries(-program.c[free], whole.payer[free], free, (groups, program.c.size)),
            e=_entries(-program.least[cells], group, cells, (groups, cells.size)),
            u=_entries(
                -program.room[risky], group[risky], np.arange(risky.size), (groups, risky.size)
            ),
            eta=_entries(
                -program.to_assign[averse], averse, np.arange(averse.size), (groups, averse.size)
            ),
            z=sparse.identity(groups),
        )
        return Lines(matrix=matrix, offset=-whole.paid)

    @property
    def limited(self) -> Labels:
        """Groups whose cost has a limit."""
        return np.flatnonzero(np.isfinite(self.whole.most))

    @cached_property
    def limits(self) -> Lines:
        """most_g - z_g >= 0."""
        here = self.limited
        return Lines(matrix=-self.costs_of(here), offset=self.whole.most[here])

    @cached_property
    def level(self) -> Lines:
        """s - (z_g - beyond_g) >= 0, of those whose largest is minimised."""
        aim = self.whole.aim
        if not isinstance(aim, Largest):
            return Lines(matrix=self.block(0), offset=np.zeros(0))
        chosen = np.flatnonzero(aim.among)
        s = self.block(chosen.size, s=sparse.csr_matrix(np.ones((chosen.size, 1))))
        return Lines(matrix=s - self.costs_of(chosen), offset=aim.beyond[chosen])

    def costs_of(self, groups: Labels) -> Sparse:
        """z of some groups."""
        count = groups.size
        picked = _entries(np.ones(count), np.arange(count), groups, (count, self.whole.count))
        return self.block(count, z=picked)


def _entries(values: Vector, rows: Labels, columns: Labels, shape: tuple[int, int]) -> Sparse:
    return sparse.csr_matrix((values, (rows, columns)), shape)
