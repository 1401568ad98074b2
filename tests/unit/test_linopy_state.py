"""What linopy's doors do, done at once: the same containers, labels and solutions."""

from __future__ import annotations

from collections.abc import Callable

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pypsa_p2p.common.linopy_state import (
    add_constraints,
    add_free_variables,
    assign_result,
    change,
)

COORDS = {
    "scenario": pd.Index(["dry", "wet"], name="scenario", dtype=object),
    "name": pd.Index(["a", "b", "c"], name="name", dtype=object),
}
LIMIT = xr.DataArray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], coords=COORDS)


def by_linopy() -> linopy.Model:
    m = linopy.Model(force_dim_names=True)
    x = m.add_variables(coords=list(COORDS.values()), name="x")
    y = m.add_variables(coords=list(COORDS.values()), name="y")
    m.add_constraints(2 * x + y >= LIMIT, name="least")
    m.objective = (x * x).sum() + y.sum()
    return m


def at_once() -> linopy.Model:
    m = linopy.Model(force_dim_names=True)
    labels = np.stack([add_free_variables(m, name, COORDS) for name in ("x", "y")], axis=-1)
    add_constraints(m, "least", labels, [2.0, 1.0], ">=", LIMIT)
    m.objective = (m["x"] * m["x"]).sum() + m["y"].sum()
    return m


@pytest.mark.parametrize("kind", ["variables", "constraints"])
def test_the_same_containers(kind: str) -> None:
    ours, theirs = (getattr(m, kind) for m in (at_once(), by_linopy()))
    assert list(ours) == list(theirs)
    for name in theirs:
        mine, other = ours[name].data, theirs[name].data
        xr.testing.assert_identical(mine.transpose(*other.dims), other)
        assert {field: mine[field].dtype for field in mine} == {f: other[f].dtype for f in other}


def test_the_same_matrices_and_labels_of_what_comes_later() -> None:
    ours, theirs = at_once(), by_linopy()
    for m in (ours, theirs):
        z = m.add_variables(lower=0.0, coords=[COORDS["name"]], name="z")
        m.add_constraints(m["x"].sum("scenario") + z == 1.0, name="later")
    for part in ("vlabels", "clabels", "lb", "ub", "b", "c", "sense"):
        np.testing.assert_array_equal(getattr(ours.matrices, part), getattr(theirs.matrices, part))
    for part in ("A", "Q"):
        assert abs(getattr(ours.matrices, part) - getattr(theirs.matrices, part)).max() == 0.0


def test_changes_are_those_of_update() -> None:
    ours, theirs = at_once(), by_linopy()
    change(ours.constraints["least"], rhs=LIMIT.to_numpy() + 1.0)
    theirs.constraints["least"].update(rhs=LIMIT + 1.0)
    change(ours.variables["x"], lower=-1.0)
    theirs.variables["x"].update(lower=-1.0)
    for m in ("variables", "constraints"):
        for name in getattr(theirs, m):
            mine, other = (getattr(model, m)[name].data for model in (ours, theirs))
            xr.testing.assert_equal(mine.transpose(*other.dims), other)


def scaled(m: linopy.Model) -> None:
    m.constraints["least"].scaling = 10.0


def by_rows(m: linopy.Model) -> None:
    m.constraints["least"].freeze()


@pytest.mark.parametrize("alter", [lambda m: None, scaled, by_rows], ids=["plain", "scaled", "CSR"])
def test_a_solution_is_written_as_linopy_writes_it(alter: Callable[[linopy.Model], None]) -> None:
    primal, dual = np.arange(12.0), np.arange(6.0) / 10.0
    ours, theirs = at_once(), by_linopy()
    alter(ours)
    alter(theirs)
    assert assign_result(ours, primal, dual, 3.5, "ours") == ("ok", "optimal")
    status = linopy.constants.Status.from_termination_condition("optimal")
    solution = linopy.constants.Solution(primal=primal, dual=dual, objective=3.5)
    theirs.assign_result(linopy.constants.Result(status=status, solution=solution))
    assert (ours.status, ours.termination_condition) == (theirs.status, "optimal")
    assert ours.objective.value == theirs.objective.value == 3.5
    for name in ("x", "y"):
        xr.testing.assert_allclose(ours[name].solution, theirs[name].solution)
    mine, other = (m.constraints["least"].dual for m in (ours, theirs))
    xr.testing.assert_allclose(mine, other)
    assert float(mine.sum()) == pytest.approx(1.5 * (10.0 if alter is scaled else 1.0))


def test_labels_stay_as_small_as_linopy_keeps_them() -> None:
    m = at_once()
    rows = m.constraints["least"]
    change(rows, vars=rows.vars.to_numpy().astype(np.int64)[..., ::-1], rhs=0.5)
    assert rows.vars.dtype == by_linopy().constraints["least"].vars.dtype
    assert rows.rhs.dtype == np.float64
