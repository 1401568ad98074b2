"""What linopy's own doors do slowly, done at once: all of linopy's private attributes are here.

Its doors align and broadcast whatever they are given, which takes as long however small that is. A
market's arrays stand in the model's order already; these functions write down what the doors
would arrive at. For whoever upgrades linopy: they are what has to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import linopy
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from linopy.constants import TERM_DIM, Result, Status
from linopy.constants import Solution as LinopySolution
from linopy.constraints import Constraint

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def add_free_variables(m: linopy.Model, name: str, coords: Mapping[str, pd.Index]) -> xr.DataArray:
    """Add variables without bounds, one for each entry of the coordinates; their labels."""
    return _add_variables(m, name, coords, -np.inf, np.array(True))


def add_positive_variables(
    m: linopy.Model, name: str, coords: Mapping[str, pd.Index], there: Flags
) -> xr.DataArray:
    """Add variables of at least 0 for those entries that are `there`; labels, -1 elsewhere."""
    return _add_variables(m, name, coords, 0.0, there)


def _add_variables(
    m: linopy.Model, name: str, coords: Mapping[str, pd.Index], lower: float, there: Flags
) -> xr.DataArray:
    dims, shape = tuple(coords), tuple(len(index) for index in coords.values())
    start, end = m._xCounter, m._xCounter + int(np.prod(shape))
    labels = m._allocate_labels(start, end).reshape(shape)
    data = xr.Dataset(
        {
            "lower": xr.Variable(dims, np.full(shape, lower)),
            "upper": xr.Variable(dims, np.full(shape, np.inf)),
            "scaling": xr.Variable(dims, np.ones(shape)),
            "labels": xr.Variable(dims, np.where(there, labels, -1).astype(labels.dtype)),
        },
        coords=coords,
        attrs={
            "label_range": (start, end), "name": name,
            "binary": False, "integer": False, "semi_continuous": False,
        },
    )  # fmt: skip
    m._xCounter = end
    m.variables.add(linopy.Variable(data, m, name, skip_broadcast=True))
    return m.variables[name].labels


def add_constraints(
    m: linopy.Model,
    name: str,
    labels: Labels,
    coefficients: npt.ArrayLike,
    sign: str,
    rhs: xr.DataArray,
    there: Flags | None = None,
) -> None:
    """Add constraints, one for each entry of `rhs`; `labels` are (*rhs.shape, terms).

    Where `there` says so, if it is given: entries of others have the label -1 and no terms.
    """
    dims, shape = rhs.dims, rhs.shape
    start, end = m._cCounter, m._cCounter + rhs.size
    factors = np.broadcast_to(np.asarray(coefficients, dtype=float), labels.shape).copy()
    rows = m._allocate_labels(start, end).reshape(shape)
    if there is not None:
        rows = np.where(there, rows, -1).astype(rows.dtype)
    data = xr.Dataset(
        {
            "coeffs": xr.Variable((*dims, TERM_DIM), factors),
            "vars": xr.Variable((*dims, TERM_DIM), labels.astype(rows.dtype)),
            "sign": xr.Variable(dims, np.full(shape, sign)),
            "rhs": xr.Variable(dims, rhs.to_numpy().astype(float)),
            "labels": xr.Variable(dims, rows),
            "scaling": xr.Variable(dims, np.ones(shape)),
        },
        coords={dim: rhs.coords[dim] for dim in dims},
        attrs={"label_range": (start, end), "name": name},
    )
    m._cCounter = end
    m.constraints.add(Constraint(data, m, name, skip_broadcast=True))


def change(part: linopy.Variable | Constraint, **arrays: npt.ArrayLike) -> None:
    """Replace fields of variables ("lower", "scaling", ...) or of constraints ("rhs", "vars", ...).

    `arrays` broadcast to the fields' shapes.
    """
    data = part.data
    fields = {}
    for name, values in arrays.items():
        field = data[name]
        whole = np.broadcast_to(values, field.shape)
        of_labels = field.dtype if name == "vars" else whole.dtype
        fields[name] = xr.Variable(field.dims, whole.astype(of_labels))
    part._data = data.assign(fields)
    if isinstance(part, Constraint):
        part._coef_dirty = True


def assign_result(
    m: linopy.Model, primal: Numbers, dual: Numbers, objective: float, solver: str
) -> tuple[str, str]:
    """Write a solution, by linopy's labels, onto a model the way its own solvers do."""
    status = Status.from_termination_condition("optimal")
    solution = LinopySolution(primal=primal, dual=dual, objective=objective)
    if not _is_as_written(m):
        found = m.assign_result(Result(status=status, solution=solution, solver_name=solver))
        return str(found[0]), str(found[1])
    m.objective._value = objective
    m.status, m.termination_condition = status.status.value, status.termination_condition.value
    parts: list[tuple[Any, str, Numbers]] = [
        *((part, "solution", _whole(primal, m._xCounter)) for part in m.variables.data.values()),
        *((part, "dual", _whole(dual, m._cCounter)) for part in m.constraints.data.values()),
    ]
    for part, what, values in parts:
        part._data = _with(part.data, what, values[slice(*part.range)])
    return str(m.status), str(m.termination_condition)


def _whole(values: Numbers, size: int) -> Numbers:
    """Values of all labels ever given, NaN of those behind the last that is there."""
    return np.append(values, np.full(size - values.size, np.nan))


def _with(data: xr.Dataset, name: str, values: Numbers) -> xr.Dataset:
    labels = data["labels"]
    return data.assign({name: xr.Variable(labels.dims, values.reshape(labels.shape))})


def _is_as_written(m: linopy.Model) -> bool:
    """Whether nothing is scaled, stored by rows, or switched by another variable."""
    data: list[Any] = [*m.variables.data.values(), *m.constraints.data.values()]
    return m.objective.scaling == 1 and all(
        hasattr(one, "_data")
        and not getattr(one, "is_indicator", False)
        and bool((one.data["scaling"].to_numpy() == 1).all())
        for one in data
    )
