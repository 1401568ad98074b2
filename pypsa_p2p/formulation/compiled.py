"""From a built linopy model to the arrays the solvers take, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import linopy
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.linopy_state import assign_result
from pypsa_p2p.common.names import NAME, SCENARIO, SNAPSHOT
from pypsa_p2p.solvers.arrays import Sparse, Vector
from pypsa_p2p.solvers.program import UNOWNED, QuadraticProgram

Labels = npt.NDArray[np.int64]

CONSTANT = "objective_constant"  # PyPSA's own name for what no decision changes


@dataclass(frozen=True, kw_only=True, eq=False)
class CompiledModel:
    """A linopy model as arrays, one column a variable and one row a constraint.

    Attributes
    ----------
    program : QuadraticProgram
        The model's own objective (weighted by probability), rows and bounds.
    column_labels, row_labels : (columns,), (rows,)
        linopy's labels.
    scenario : (columns,)
        Position of each column's scenario; -1 where the variable has none.
    owner : (columns,)
        Position of each column's owner; UNOWNED where it is nobody's.
    capacities : (C,)
        Columns of what somebody decides once for all snapshots and scenarios: what she builds.
    """

    model: linopy.Model
    program: QuadraticProgram
    column_labels: Labels
    row_labels: Labels
    scenario: Labels
    owner: Labels
    capacities: Labels

    def columns(self, *labels: xr.DataArray) -> Labels:
        """Columns of the variables with these labels, (number of labels,)."""
        return self.positions_of_columns(_in_one(labels))

    def rows(self, *labels: xr.DataArray) -> Labels:
        """Rows of the constraints with these labels, (number of labels,)."""
        return self.positions_of_rows(_in_one(labels))

    def positions_of_columns(self, labels: Labels) -> Labels:
        """Columns of the variables with these labels, in their shape; -1 of label -1."""
        return _positions(self.column_labels)[labels]

    def positions_of_rows(self, labels: Labels) -> Labels:
        """Rows of the constraints with these labels, in their shape; -1 of label -1."""
        return _positions(self.row_labels)[labels]

    def assign(self, x: Vector, row_dual: Vector, objective: float, solver: str) -> tuple[str, str]:
        """Write a solution back onto the linopy model the way its own solvers do."""
        primal = np.full(int(self.column_labels.max()) + 1, np.nan)
        primal[self.column_labels] = x
        dual = np.full(int(self.row_labels.max()) + 1, np.nan)
        dual[self.row_labels] = row_dual
        return assign_result(self.model, primal, dual, objective, solver)


def compile_model(
    m: linopy.Model,
    scenarios: npt.NDArray[np.object_],
    owners: Mapping[str, xr.DataArray],
) -> CompiledModel:
    """Arrays of a model.

    The variable by which PyPSA leaves the capital cost of standing capacity out of its objective
    is taken from the model: a prosumer's cost is that of all her capacity.

    Parameters
    ----------
    scenarios : (S,)
        Labels in the order of their positions.
    owners : mapping
        By name of a variable, or else by class of components (what stands before the "-"), the
        position of each component's owner, dims (name).

    Raises
    ------
    MarketError
        The model has integer variables or other things no market here can honour.
    """
    _refuse_discrete(m)
    if CONSTANT in m.variables:
        m.remove_variables(CONSTANT)
    matrices = m.matrices
    n = len(matrices.vlabels)
    sense = np.asarray(matrices.sense, dtype=str)
    program = QuadraticProgram(
        P=_quadratic(matrices.Q, n),
        c=_without_next_to_nothing(np.asarray(matrices.c, dtype=float)),
        A=sp.csr_matrix(matrices.A),
        lower=np.where(sense == "<", -np.inf, matrices.b).astype(float),
        upper=np.where(sense == ">", np.inf, matrices.b).astype(float),
        x_lower=np.asarray(matrices.lb, dtype=float),
        x_upper=np.asarray(matrices.ub, dtype=float),
    )
    scenario, owner, once = [], [], []
    for name, variable in m.variables.items():
        active = (variable.labels != -1).to_numpy().ravel()
        scenario.append(_scenario_of(variable, scenarios).ravel()[active])
        whose = owners.get(name, owners.get(name.split("-", 1)[0]))
        owner.append(_owner_of(variable, whose).ravel()[active])
        once.append(np.full(active.sum(), not {SCENARIO, SNAPSHOT} & set(variable.dims)))
    owners_of_columns = np.concatenate(owner)
    return CompiledModel(
        model=m,
        program=program,
        column_labels=np.asarray(matrices.vlabels, dtype=np.int64),
        row_labels=np.asarray(matrices.clabels, dtype=np.int64),
        scenario=np.concatenate(scenario),
        owner=owners_of_columns,
        capacities=np.flatnonzero(np.concatenate(once) & (owners_of_columns != UNOWNED)),
    )


def _positions(known: Labels) -> Labels:
    """Where each label stands among those known; -1 at the others and at the last: label -1."""
    position = np.full(int(known.max(initial=-1)) + 2, -1)
    position[known] = np.arange(known.size)
    return position


def _in_one(labels: Iterable[xr.DataArray]) -> Labels:
    wanted = [array.to_numpy().ravel() for array in labels]
    return np.concatenate([*wanted, np.empty(0, dtype=np.int64)])


def _without_next_to_nothing(c: Vector) -> Vector:
    """Costs without what trades cost only so that PyPSA builds an objective."""
    return np.where(np.abs(c) <= ACCURACY.nothing, 0.0, c)


def by_label(labels: Labels, values: Vector) -> Vector:
    """Values by linopy's labels, nan at those that have none and at the last: label -1."""
    dense = np.full(int(labels.max(initial=-1)) + 2, np.nan)
    dense[labels] = values
    return dense


def _quadratic(Q: Sparse | None, n: int) -> Sparse:
    return sp.csc_matrix((n, n)) if Q is None else sp.csc_matrix(Q)


def _scenario_of(variable: linopy.Variable, scenarios: npt.NDArray[np.object_]) -> Labels:
    """Position of the scenario of each of a variable's entries, in the variable's shape."""
    if SCENARIO not in variable.dims:
        return np.full(variable.shape, 0 if len(scenarios) == 1 else -1)
    position = pd.Index(scenarios).get_indexer(variable.indexes[SCENARIO])
    return _full(position, SCENARIO, variable)


def _owner_of(variable: linopy.Variable, owner: xr.DataArray | None) -> Labels:
    """Position of the owner of each of a variable's entries, in the variable's shape."""
    if owner is None or NAME not in variable.dims:
        return np.full(variable.shape, UNOWNED)
    at = owner.indexes[NAME].get_indexer(variable.indexes[NAME])
    return _full(np.where(at >= 0, owner.to_numpy()[at], UNOWNED), NAME, variable)


def _full(values: Labels, along: str, variable: linopy.Variable) -> Labels:
    """Values along one dimension, in the variable's shape."""
    shape = [-1 if dim == along else 1 for dim in variable.labels.dims]
    return np.broadcast_to(values.reshape(shape), variable.labels.shape)


def _refuse_discrete(m: linopy.Model) -> None:
    discrete = [*m.binaries, *m.integers]
    if discrete:
        raise MarketError(
            f"Variables {listed(discrete)} are integer. A market with unit commitment or "
            "modular investment has no prices of the kind computed here: remove integer variables."
        )
