r"""Those who take prices, and mind the risk of cost and payments together, as conditions.

Every group g minimises, the prices y of what is paid given, over its own columns

.. math:: R_g\Big[\Pi_k(x) - \sum_{i\ paid} y_i \sum_{j \in k} A_{ij} x_j\Big], \quad
    k \in \text{cells of } g

Multipliers are in money of their row's scenario, whoever has them, so that those of rows that
several share are one price. A column of one cell has its cost and prices in that money alone:

.. math:: (P x + c)_j = \sum_i A_{ij} y_i + \text{(bounds)}

whatever the group fears. A column that all scenarios share is weighed by what its group fears:

.. math:: c_j = \sum_i \tau_{g(j)}^{\omega(i)} A_{ij} y_i + \text{(bounds)}, \quad
    \tau_g \in \arg\max_{\tau \in \mathcal{U}_g} \sum_k \tau_k (\Pi_k + \text{payments}_k)

Nothing is minimised by all of it: tau differs by group, but y does not. There may be several
solutions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, sum_by
from pypsa_p2p.solvers.complementarity import solve_complementarity
from pypsa_p2p.solvers.program import RiskProgram

#: Of two scenarios every combination of probabilities is tried for so many groups.
_FEW: Final = 3
#: Probabilities that are tried after each other from one start.
_ATTEMPTS: Final = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Taken:
    """A point at which everybody has what is best for her, if `residual` is 0.

    Attributes
    ----------
    x : (n,)
    price : (m,)
        Multipliers in money of each row's scenario; of others, now.
    tau : (K,)
    residual : float
    """

    x: Vector
    price: Vector
    tau: Vector
    residual: float


@dataclass(frozen=True, kw_only=True, eq=False)
class PriceTaking:
    """Price takers in arrays.

    Attributes
    ----------
    program : RiskProgram
        Columns that scenarios share have no cell; their cost is now. Groups at whose columns tau
        matters have boxes.
    whose : (n,)
        The group of every column, of those that scenarios share, too.
    scenario : (m,)
        Of every row; -1 of those that have columns without scenario only.
    paid : (m,)
        Whether a row's multiplier is a price that the group of each column pays in the scenario.
    """

    program: RiskProgram
    whose: Labels
    scenario: Labels
    paid: Flags

    # ------------------------------------------------------------------ who is where

    @cached_property
    def shared(self) -> Flags:
        """(n,) columns that all scenarios share."""
        return np.asarray(self.program.cell < 0)

    @cached_property
    def minding(self) -> Labels:
        """Groups whose fears move something: at risk, with decisions that scenarios share."""
        program = self.program
        at_risk = np.zeros(program.groups, dtype=bool)
        at_risk[program.group[program.at_risk]] = True
        return np.flatnonzero(at_risk & np.isin(np.arange(at_risk.size), self.whose[self.shared]))

    @cached_property
    def free(self) -> Labels:
        """Their cells, whose tau is to be found."""
        return np.flatnonzero(np.isin(self.program.group, self.minding))

    @cached_property
    def _of_group(self) -> Labels:
        """Which of the minding groups each free cell is of."""
        return np.searchsorted(self.minding, self.program.group[self.free])

    @cached_property
    def _place(self) -> Labels:
        """(K,) where each cell stands among the free ones, -1 of others."""
        place = np.full(self.program.group.size, -1)
        place[self.free] = np.arange(self.free.size)
        return place

    @cached_property
    def _between(self) -> Labels:
        """Rows that are no equations: what they limit is a column of its own."""
        return np.flatnonzero(self.program.lower < self.program.upper)

    @cached_property
    def _entries(self) -> tuple[Labels, Labels, Vector, Labels]:
        """Row, column and value of A, and the cell by whose tau an entry counts, -1: by 1."""
        A = sp.coo_matrix(self.program.A)
        row, column = A.row.astype(np.int64), A.col.astype(np.int64)
        scenarios = self.program.group.size // self.program.groups
        cell = self.whose[column] * scenarios + self.scenario[row]
        weighed = self.shared[column] & (self.scenario[row] >= 0)
        return row, column, A.data, np.where(weighed, cell, -1)

    @cached_property
    def _sizes(self) -> Labels:
        """Where x, what rows limit, y, tau and eta end in z."""
        m, n = self.program.A.shape
        parts = (n, self._between.size, m, self.free.size, self.minding.size)
        return np.cumsum(parts)

    # ------------------------------------------------------------------ conditions

    def costs(self, x: Vector, price: Vector) -> Vector:
        """Costs and payments of every cell, (K,), EUR of its scenario."""
        row, column, value, _ = self._entries
        here = self.paid[row] & ~self.shared[column]  # the others are paid in every scenario
        row, column, value = row[here], column[here], value[here]
        cell = self.program.cell[column]
        paid = sum_by(cell, value * price[row] * x[column], self.program.group.size)
        return np.asarray(self.program.costs(x) - paid)

    def _taus(self, found: Vector) -> Vector:
        tau = self.program.probability.copy()
        tau[self.free] = found
        return tau

    def _conditions(self, z: Vector) -> Vector:
        """F for z = (x, what rows limit, y, tau, eta)."""
        program = self.program
        x, limited, y, found, level = np.split(z, self._sizes[:-1])
        row, column, _, _ = self._entries
        weight = self._weights(found)
        rows = program.A @ x
        equal = rows - program.lower
        equal[self._between] = rows[self._between] - limited
        slope = np.asarray(program.P @ x + program.c)
        of_group = self._of_group
        return np.concatenate(
            [
                slope - sum_by(column, weight * y[row], x.size),
                y[self._between],
                equal,
                level[of_group] - self.costs(x, y)[self.free],
                1.0 - sum_by(of_group, found, level.size),
            ]
        )

    def _weights(self, found: Vector) -> Vector:
        """A's entries, those of shared columns weighed by the tau of the free cells, (f,)."""
        _, _, value, counts = self._entries
        return np.asarray(np.append(self._taus(found), 1.0)[counts] * value)

    def _slopes(self, z: Vector) -> Sparse:
        """The Jacobian of F."""
        x, _, y, found, _ = np.split(z, self._sizes[:-1])
        of_group, weight = self._of_group, self._weights(found)
        slope = np.asarray(self.program.P @ x + self.program.c)
        row, column, value, counts = self._entries
        n, end, rows, probabilities, _ = (int(size) for size in self._sizes)
        between, free = self._between, np.arange(self.free.size)
        P = sp.coo_matrix(self.program.P)
        place = np.append(self._place, -1)
        feared = place[counts] >= 0
        cell = np.append(self._place, -1)[self.program.cell]  # of columns
        owned = np.flatnonzero(cell >= 0)
        of_paid = self.paid[row] & ~self.shared[column] & (cell[column] >= 0)
        r, c, v = row[of_paid], column[of_paid], value[of_paid]
        limited = n + np.arange(between.size)
        blocks = [
            (P.row, P.col, P.data),
            (column, end + row, -weight),
            (column[feared], rows + place[counts[feared]], -(value * y[row])[feared]),
            (limited, end + between, np.ones(between.size)),
            (end + row, column, value),
            (end + between, limited, -np.ones(between.size)),
            (rows + cell[owned], owned, -slope[owned]),
            (rows + cell[c], c, v * y[r]),
            (rows + cell[c], end + r, v * x[c]),
            (rows + free, probabilities + of_group, np.ones(free.size)),
            (probabilities + of_group, rows + free, -np.ones(free.size)),
        ]
        where = [np.concatenate([block[k] for block in blocks]) for k in range(3)]
        size = int(self._sizes[-1])
        return sp.csc_matrix((where[2], (where[0], where[1])), shape=(size, size))

    # ------------------------------------------------------------------ solving

    def guesses(self, draws: int, rng: np.random.Generator) -> Iterator[Vector]:
        """Probabilities, (K,), to start from: the actual ones, then ends of the envelopes.

        Of two scenarios and few groups every combination of ends and the actual ones; else as many
        as are drawn, each the worst of random costs.
        """
        program = self.program
        scenarios = program.group.size // program.groups
        ends = [program.probability]
        if scenarios == 2:
            rising = np.tile([0.0, 1.0], program.groups)
            ends += [program.tail(sign * rising).probability for sign in (1.0, -1.0)]
        if scenarios == 2 and self.minding.size <= _FEW:
            for chosen in itertools.product(range(3), repeat=self.minding.size):
                of_group = np.zeros(program.groups, dtype=np.int64)
                of_group[self.minding] = chosen
                yield np.choose(of_group[program.group], ends)
            return
        yield program.probability
        for _ in range(draws):
            yield program.tail(rng.normal(size=program.group.size)).probability

    def found_at(self, tau: Vector, start: Taken) -> Taken | None:
        """An equilibrium near those probabilities, if Newton's method finds one.

        First what is best for everybody at them, then with them; where that fails at those that are
        the worst there, and so on.
        """
        for _ in range(_ATTEMPTS):
            given = self._found_from(replace(start, tau=tau), tau, tau)
            found = self._found_from(given, self.program.least, self.program.most)
            if found.residual <= ACCURACY.complementary_nearly:
                return found
            tau = self.program.tail(self.costs(given.x, given.price)).probability
        return None

    def same(self, one: Taken, other: Taken) -> bool:
        """Whether two equilibria are one: in prices of what is traded, and in what is worth what.

        Trades before and in the scenario are contracts, too, of which volumes may be several.
        """
        row, column, _, _ = self._entries
        here = self.paid[row]
        row, column = row[here], column[here]
        traded = np.minimum(np.abs(one.x[column]), np.abs(other.x[column]))
        prices = (traded * np.abs(one.price - other.price)[row]).max(initial=0.0)
        worth = np.abs(self.worth(one) - self.worth(other)).max()
        return bool(max(prices, worth) <= ACCURACY.one_equilibrium)

    def worth(self, found: Taken) -> Vector:
        """Costs and all payments of every group at its tau, (G,), EUR."""
        program, (row, column, value, _) = self.program, self._entries
        before = self.paid[row] & self.shared[column]
        row, column, value = row[before], column[before], value[before]
        agreed = value * found.price[row] * found.x[column]
        costs = found.tau * self.costs(found.x, found.price)
        groups = program.groups
        return sum_by(program.group, costs, groups) - sum_by(self.whose[column], agreed, groups)

    def _found_from(self, start: Taken, least: Vector, most: Vector) -> Taken:
        """Where Newton's method ends from a start, with tau between some ends."""
        program, free, between = self.program, self.free, self._between
        level = np.full(self.minding.size, -np.inf)
        np.maximum.at(level, self._of_group, self.costs(start.x, start.price)[free])
        limited = (program.A @ start.x)[between]
        z = [start.x, limited, start.price, start.tau[free], level]
        no_end, no_level = np.full(program.lower.size, np.inf), np.full(level.size, np.inf)
        lower = [program.x_lower, program.lower[between], -no_end, least[free], -no_level]
        upper = [program.x_upper, program.upper[between], no_end, most[free], no_level]
        found = solve_complementarity(
            self._conditions, self._slopes, *(np.concatenate(each) for each in (z, lower, upper))
        )
        x, _, price, tau, _ = np.split(found.z, self._sizes[:-1])
        return Taken(x=x, price=price, tau=self._taus(tau), residual=found.residual)
