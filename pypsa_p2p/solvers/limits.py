"""Limits of a program: its finite sides, those within reach, and whose probability they have."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector, lines_of, sum_by
from pypsa_p2p.solvers.presolve import with_reduced_costs
from pypsa_p2p.solvers.program import Constraints, Program, RiskProgram, Solution

_PASSES = 10  # columns and rows further than this from any cell count as certain


@dataclass(frozen=True, kw_only=True, eq=False)
class Limits:
    """Finite one-sided limits on v = (x, A x): slack = sign (v - limit) >= 0.

    Attributes
    ----------
    index, sign, limit
        Of each limit: its place in v, +1 (lower) or -1 (upper), and its value.
    equal
        (m,) rows that are equalities, which have no one-sided limits.
    right
        Right-hand sides of the equalities.
    columns
        n.
    """

    index: Labels
    sign: Vector
    limit: Vector
    equal: Flags
    right: Vector
    columns: int

    @classmethod
    def of(cls, program: Constraints) -> Limits:
        """Collect the finite sides of a program."""
        n, equal = program.c.size, program.lower == program.upper
        one_sided = np.concatenate([np.ones(n, dtype=bool), ~equal])
        lower = np.concatenate([program.x_lower, program.lower])
        upper = np.concatenate([program.x_upper, program.upper])
        below = np.flatnonzero(np.isfinite(lower) & one_sided)
        above = np.flatnonzero(np.isfinite(upper) & one_sided)
        return cls(
            index=np.concatenate([below, above]),
            sign=np.repeat([1.0, -1.0], [below.size, above.size]),
            limit=np.concatenate([lower[below], upper[above]]),
            equal=equal,
            right=program.lower[equal],
            columns=n,
        )

    def slack(self, values: Vector) -> Vector:
        """Distance of v from every limit, negative beyond it."""
        return self.sign * (values[self.index] - self.limit)

    def gather(self, by_limit: Vector) -> tuple[Vector, Vector]:
        """Sum values of the limits over each column, (n,), and each row, (m,)."""
        count = self.columns + self.equal.size
        total = sum_by(self.index, by_limit, count)
        return total[: self.columns], total[self.columns :]

    def multipliers(self, of_limits: Vector, of_equalities: Vector) -> tuple[Vector, Vector]:
        """(z, y) of columns and rows from nonnegative multipliers of the limits."""
        z, y = self.gather(self.sign * of_limits)
        y[self.equal] = of_equalities
        return z, y


def within_reach(program: Program) -> Program:
    """The program without limits and costs too far away to matter; itself if it has none.

    Whoever writes 1e9 for "no limit" means none, and at 1e9 EUR/MWh "never". An optimum of it that
    keeps the limits left out is one of the program, and what is infeasible without them is so
    with them; `from_reach` gives what such costs add back to the multipliers of bounds.
    """
    far = ACCURACY.far
    if not _has_far(program):
        return program
    lower, upper = _without_far(program.lower, program.upper)
    x_lower, x_upper = _without_far(program.x_lower, program.x_upper)
    return replace(
        program,
        c=np.clip(program.c, -far, far),
        lower=lower,
        upper=upper,
        x_lower=x_lower,
        x_upper=x_upper,
    )


def _has_far(program: Constraints) -> bool:
    """Whether a cost, or a limit of what is not fixed, is finite and so far away."""
    far = ACCURACY.far
    if np.abs(program.c).max(initial=0.0) > far:
        return True
    for lower, upper in ((program.lower, program.upper), (program.x_lower, program.x_upper)):
        away = ((lower < -far) & (lower > -np.inf)) | ((upper > far) & (upper < np.inf))
        if (away & (lower != upper)).any():
            return True
    return False


def _without_far(lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
    """Limits without those far away, on their own side of 0: at least 2000 must be reached.

    What is fixed stays fixed.
    """
    far, equal = ACCURACY.far, lower == upper
    return (
        np.where(~equal & (lower < -far), -np.inf, lower),
        np.where(~equal & (upper > far), np.inf, upper),
    )


def from_reach(program: Program, near: Program, found: Solution) -> Solution:
    """A solution of the program `within_reach` as one of the program itself."""
    if found.status != "optimal":
        return found
    beyond = program.c - near.c
    tau = found.risk_adjusted_probability
    if isinstance(program, RiskProgram) and tau is not None:
        beyond = beyond * program.per_column(tau)
    return with_reduced_costs(program, found, beyond) if beyond.any() else found


def probability_of(program: RiskProgram) -> tuple[Vector, Vector]:
    """Probability of the scenario each column, (n,), and row, (m,), belongs to.

    An owned column has its cell's. A row has the largest of its columns', and an unowned
    column the largest of its rows'. What touches no cell at all has 1.
    """
    A = program.A.tocsr()
    of_row, of_column = lines_of(A), A.indices
    column = np.where(program.cell >= 0, program.per_column(program.probability), 0.0)
    row = np.zeros(program.A.shape[0])
    for _ in range(_PASSES):
        row = np.where(row > 0.0, row, _largest(of_row, column[of_column], row.size))
        missing = column == 0.0
        if not missing.any():
            break
        reached = _largest(of_column, row[of_row], column.size)
        column = np.where(missing, reached, column)
    return np.where(column > 0.0, column, 1.0), np.where(row > 0.0, row, 1.0)


def _largest(place: Labels, values: Vector, size: int) -> Vector:
    """The largest value at each place, 0 where there is none."""
    largest = np.zeros(size)
    np.maximum.at(largest, place, values)
    return largest
