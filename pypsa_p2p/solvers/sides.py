"""Where each cell's cost stands to its group's value at risk, of an optimum of a risk program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector
from pypsa_p2p.solvers.program import RiskProgram, Solution


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """Where each cell's cost stands to its group's value at risk, by the multipliers found."""

    below: Flags  # not weighed: Pi - eta <= most
    above: Flags  # weighed as much as can be: Pi - eta >= least
    least: Vector  # of Pi - eta, EUR; -inf below, and where the weight is fixed
    most: Vector  # of Pi - eta, EUR; inf above

    def broken(self, program: RiskProgram, x: Vector, level: Vector) -> Flags:
        """Cells whose cost at x is on the wrong side of these values at risk."""
        costs = program.costs(x)
        gap = costs - level[program.group]
        rounding = ACCURACY.tied * max(1.0, np.abs(costs).max())
        return np.asarray((gap < self.least - rounding) | (gap > self.most + rounding))

    def nearest(self, program: RiskProgram, x: Vector) -> Labels:
        """Each group's dearest cell below its value at risk and its cheapest above."""
        rising = np.lexsort((program.costs(x), program.group))
        below = rising[self.below[rising]][::-1]
        above = rising[(self.above & np.isfinite(self.least))[rising]]
        first = [np.unique(program.group[cells], return_index=True)[1] for cells in (below, above)]
        return np.append(below[first[0]], above[first[1]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """What share of the room of its probability tells whether a cell is weighed, (K,) or all.

    Attributes
    ----------
    none
        So little is nothing, whatever the costs are.
    some
        So much is something; between both it is what its cost says.
    """

    none: Vector | float = ACCURACY.no_price
    some: Vector | float = np.inf


USUAL: Final = Shares()


def classify(program: RiskProgram, solution: Solution, shares: Shares = USUAL) -> Sides:
    """Which cells lie below, at and above their value at risk, by complementarity.

    Limits of Pi - eta are 0 up to the rounding in the solution, which they do not exclude.
    """
    room = program.room
    tau, level = risk_of(solution)
    excess = tau - program.least
    share = np.where(room > 0, excess / np.where(room > 0, room, 1.0), 0.0)
    costs = program.costs(solution.x)
    gap = costs - level[program.group]
    distance = gap / max(1.0, np.abs(costs).max())
    open_cells = room > 0
    below = open_cells & (share < np.clip(-distance, shares.none, shares.some))
    above = ~below & ((1 - share < np.maximum(distance, ACCURACY.no_price)) | ~open_cells)
    return Sides(
        below=below,
        above=above,
        least=np.where(below | ~open_cells, -np.inf, np.where(above, np.minimum(gap, 0.0), gap)),
        most=np.where(above, np.inf, np.where(below, np.maximum(gap, 0.0), gap)),
    )


def risk_of(solution: Solution) -> tuple[Vector, Vector]:
    """Tau and the values at risk that every solution of a risk program carries."""
    tau, level = solution.risk_adjusted_probability, solution.value_at_risk
    if tau is None or level is None:
        raise TypeError("a solution of a risk program is needed")
    return tau, level
