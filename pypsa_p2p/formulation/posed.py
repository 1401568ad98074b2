"""Leave PyPSA's own solve a linear model whose solution is the market's (MODEL.md §3).

PyPSA hands the model to whatever solver the user named, HiGHS by default, whose method for
quadratic objectives is slow and whose tolerances are too coarse for prices. So the market is
solved first; then its objective gives way to the linear one with the same solution and the same
multipliers, and every variable may move a hair's breadth only. So the solver checks all
constraints, the user's included. Where in that breadth it ends, and which of several multipliers
it finds, is its own affair: the model keeps the market's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import linopy
import numpy as np
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.linopy_state import change
from pypsa_p2p.formulation.compiled import CONSTANT, CompiledModel, by_label
from pypsa_p2p.formulation.rows import linear_cost
from pypsa_p2p.solvers.arrays import Vector

#: Among a model's parameters: the market's multipliers and solution, by linopy's labels, and how
#: far variables may move from it, MW.
POSED, SOLUTION, ROOM = "market_dual", "market_solution", "market_room"


class PosedModel(linopy.Model):
    """A linopy model that a market has been posed to: whoever solves it, the market's is found."""

    __slots__ = ()  # so that a `linopy.Model` can become one, which PyPSA holds by then

    def assign_result(self, *args: Any, **kwargs: Any) -> tuple[str, str]:
        """Write the market's solution and multipliers, where it is the one the solver found."""
        status, condition = super().assign_result(*args, **kwargs)
        if status == "ok" and self._holds_market():
            for variable in self._known(SOLUTION, self.variables.data):
                variable.solution = self._found(SOLUTION, variable.labels)
            for constraint in self._known(POSED, self.constraints.data):
                constraint.dual = self._found(POSED, constraint.labels)
        elif status == "ok" and condition != "optimal":
            self.status = status = "warning"  # it stopped early, somewhere else
        return str(status), str(condition)

    def _holds_market(self) -> bool:
        """Whether nobody has changed the model so that something else solves it."""
        for variable in self._known(SOLUTION, self.variables.data):
            ours = self._found(SOLUTION, variable.labels)
            room = 2 * float(self.parameters[ROOM]) + ACCURACY.rounding * abs(ours)
            if (ours.notnull() & ~(abs(variable.solution - ours) <= room)).any():
                return False
        return True

    def _known(self, kind: str, parts: Mapping[str, Any]) -> Iterator[Any]:
        """Variables, or constraints, that stood in the model when the market was solved."""
        count = self.parameters[kind].size - 1
        return (part for part in parts.values() if part.labels.to_numpy().max(initial=-1) < count)

    def _found(self, kind: str, labels: xr.DataArray) -> xr.DataArray:
        return labels.copy(data=self.parameters[kind].to_numpy()[labels.to_numpy()])


def pose_linear(
    compiled: CompiledModel, x: Vector, row_dual: Vector, objective: float, power: float
) -> None:
    """Replace the model's objective by a linear one that the market's solution minimises.

    With cost A'y every feasible point that keeps active what has a multiplier is optimal, and
    y are multipliers: linear programming duality, no tolerance involved. The solved model will
    report `objective`, EUR; `power`, MW, is what is typical.
    """
    m = compiled.model
    room = ACCURACY.room * power
    cost = np.asarray(compiled.program.A.T @ row_dual)
    largest = float(np.abs(cost).max(initial=0.0))
    cost[np.abs(cost) <= ACCURACY.small_cost * largest] = 0.0
    at = by_label(compiled.column_labels, x)
    for variable in m.variables.data.values():
        _confine(variable, at[variable.labels.to_numpy()], room)
    fixed = objective - float(cost @ x)
    costly = np.flatnonzero(cost)
    labels = compiled.column_labels[costly]
    m.objective = linear_cost(m, cost[costly], labels) + _constant(m, fixed)
    found = {
        POSED: ("constraint_label", by_label(compiled.row_labels, row_dual)),
        SOLUTION: ("variable_label", at),
        ROOM: room,
    }
    m.parameters = m.parameters.assign(found)
    m.__class__ = PosedModel
    _without_guards(m)
    _magnify(m, power, largest)


def _constant(m: linopy.Model, value: float) -> linopy.LinearExpression:
    chunk, m.chunk = m.chunk, None  # a single number has no dimension to be cut along
    constant = m.add_variables(lower=value, upper=value, name=CONSTANT)
    m.chunk = chunk
    return 1 * constant


def _confine(variable: linopy.Variable, at: Vector, room: float) -> None:
    """Bounds a hair's breadth around `at`, never outside the variable's own; 0 stays 0.

    What is hardly more than that may be 0 too: it may be tied to what stays 0.
    """
    lower, upper = variable.lower.to_numpy(), variable.upper.to_numpy()
    about = np.where(np.abs(at) > room, at, 0.0)
    around = np.where(np.abs(at) > room, room, 0.0)
    zero = np.where(np.abs(at) <= 2.0 * room, 0.0, about)
    least, most = np.minimum(about - around, zero), np.maximum(about + around, zero)
    here = np.isfinite(at)
    change(
        variable,
        lower=np.where(here, np.clip(least, lower, upper), lower),
        upper=np.where(here, np.clip(most, lower, upper), upper),
    )


def _magnify(m: linopy.Model, power: float, largest: float) -> None:
    """Let the solver see small units: its absolute tolerances become negligible ones.

    `power`, MW, is what is typical; `largest`, EUR/MW, the largest cost.
    """
    magnification = ACCURACY.magnification / power
    m.objective.scaling = magnification * ACCURACY.largest_cost / (largest or 1.0)
    for name, variable in m.variables.data.items():
        change(variable, scaling=m.objective.scaling if name == CONSTANT else magnification)
    for constraint in m.constraints.data.values():
        if isinstance(constraint, linopy.constraints.Constraint):
            change(constraint, scaling=magnification)


def _without_guards(m: linopy.Model) -> None:
    """Limits of 0 where `files.ABOVE_ZERO` stands for it, which a solver would warn of."""
    for constraint in m.constraints.data.values():
        if not isinstance(constraint, linopy.constraints.Constraint):
            continue
        right = constraint.rhs.to_numpy()
        guards = (right != 0.0) & (np.abs(right) <= ACCURACY.nothing)
        if guards.any():
            change(constraint, rhs=np.where(guards, 0.0, right))
