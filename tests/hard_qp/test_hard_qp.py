"""The solver layer on hard quadratic programs: what is least is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from pypsa_p2p.solvers.program import QuadraticProgram
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import quadratic_residuals
from tests.hard_qp.cases import FAMILIES, SIZES, Family, case, nearly_parallel

EVERY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


@EVERY
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.filterwarnings("error:invalid value:RuntimeWarning")
def test_the_least_is_found(family: Family, size: int) -> None:
    hard = case(family, size)
    found = solve_quadratic(hard.program)
    assert found.status == "optimal"
    assert quadratic_residuals(hard.program, found).worst < 1e-8
    scale = np.abs(hard.program.cost_by_column(found.x)).sum()
    assert abs(found.objective - hard.least) < 1e-6 * scale


@EVERY
def test_what_contradicts_itself_has_no_solution(family: Family) -> None:
    """One row more: the sum of two rows' terms shall exceed what these allow.

    Of rows that are nearly parallel no solver proves it, so that the program has no answer.
    """
    program = case(family, 25).program
    upper = np.where(np.isfinite(program.upper), program.upper, program.A @ np.ones(program.c.size))
    two = np.flatnonzero(np.diff(program.A.indptr) > 1)[:2]
    both = sp.csr_matrix(program.A[two].sum(axis=0))
    limited = program.upper.copy()
    limited[two] = np.maximum(upper[two], program.lower[two])
    more = limited[two].sum() + 1.0
    harder = replace(
        program,
        A=sp.vstack([program.A, both], format="csr"),
        lower=np.append(program.lower, more),
        upper=np.append(limited, np.inf),
    )
    proven = "failed" if family is nearly_parallel else "infeasible"
    assert solve_quadratic(harder).status == proven


@EVERY
def test_a_ray_has_no_end(family: Family) -> None:
    """A column that nothing limits on one side, and that earns."""
    program = case(family, 25).program
    endless = QuadraticProgram(
        P=sp.block_diag([program.P, sp.csc_matrix((1, 1))], format="csc"),
        c=np.append(program.c, -np.abs(program.c).max()),
        A=sp.hstack([program.A, sp.csr_matrix((program.A.shape[0], 1))], format="csr"),
        lower=program.lower,
        upper=program.upper,
        x_lower=np.append(program.x_lower, 0.0),
        x_upper=np.append(program.x_upper, np.inf),
    )
    assert solve_quadratic(endless).status == "unbounded"


def test_limits_far_beyond_0_must_be_reached() -> None:
    """At least 1500 and at most 3000, where 1 is typical: neither is out of reach."""
    program = QuadraticProgram(
        P=sp.identity(2, format="csc"), c=np.ones(2), A=sp.csr_matrix([[1.0, 1.0]]),
        lower=np.array([1500.0]), upper=np.array([3000.0]), x_lower=np.array([0.0, 2000.0]),
        x_upper=np.array([1.0, 5000.0]),
    )  # fmt: skip
    found = solve_quadratic(program)
    assert found.status == "optimal"
    np.testing.assert_allclose(found.x, [0.0, 2000.0], atol=1e-6)
