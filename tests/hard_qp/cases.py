"""Hard convex quadratic programs made around an optimum: point and multipliers are chosen first.

With x, y, z chosen, rows are limited where y says, columns where z says, and c = A'y + z - Px, so
that x is optimal whatever else is hard about the program: what I. Maros and C. Meszaros (1999)
collected, dependent rows, curvature of low rank or none, coefficients over many decades, limits
that hold without a multiplier, limits so far away that they might be none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.solvers.program import QuadraticProgram

Array = np.ndarray[Any, np.dtype[np.float64]]
SEED = 1999


@dataclass(frozen=True, kw_only=True, eq=False)
class Hard:
    """A program and its least value."""

    name: str
    program: QuadraticProgram
    least: float


def around(
    name: str,
    rng: np.random.Generator,
    P: sp.spmatrix,
    A: sp.spmatrix,
    x: Array,
    *,
    degenerate: float = 0.0,
    slack: float = 1.0,
    price: float = 1.0,
) -> Hard:
    """A program that `x` solves.

    Parameters
    ----------
    degenerate : float
        Share of limits that hold without a multiplier.
    slack, price : float
        Sizes of the distances from limits that do not hold, and of multipliers.
    """
    (rows, columns), A, P = A.shape, sp.csr_matrix(A), sp.csc_matrix(P)
    value = A @ x
    kind = rng.integers(0, 3, rows)  # 0: equation, 1: at its lower side, 2: within
    y = np.where(kind == 2, 0.0, price * rng.uniform(0.1, 1.0, rows))
    y = np.where(kind == 0, y * rng.choice([-1.0, 1.0], rows), y)
    y = np.where((kind == 1) & (rng.random(rows) < degenerate), 0.0, y)
    room = slack * rng.uniform(0.5, 2.0, (2, rows))
    lower = np.where(kind == 2, value - room[0], value)
    upper = np.where(kind == 0, value, value + room[1])
    at = rng.integers(0, 4, columns)  # 0: at its lower limit, 1: at its upper, 2: within, 3: free
    z = price * rng.uniform(0.1, 1.0, columns)
    z = np.where(rng.random(columns) < degenerate, 0.0, z)
    z = np.select([at == 0, at == 1], [z, -z], 0.0)
    space = slack * rng.uniform(0.5, 2.0, (2, columns))
    x_lower = np.select([at == 0, at == 3], [x, -np.inf], x - space[0])
    x_upper = np.select([at == 1, at == 3], [x, np.inf], x + space[1])
    c = np.asarray(A.T @ y + z - P @ x)
    program = QuadraticProgram(
        P=P, c=c, A=A, lower=lower, upper=upper, x_lower=x_lower, x_upper=x_upper
    )
    return Hard(name=name, program=program, least=program.objective(x))


def _curved(rng: np.random.Generator, n: int, rank: int, density: float = 0.3) -> sp.csc_matrix:
    root = sp.random(rank, n, density, rng=rng, data_rvs=lambda k: rng.normal(size=k))
    return sp.csc_matrix(root.T @ root)


def _rows(rng: np.random.Generator, m: int, n: int, density: float = 0.2) -> sp.csr_matrix:
    return sp.random(m, n, density, format="csr", rng=rng, data_rvs=lambda k: rng.normal(size=k))


def _decades(rng: np.random.Generator, count: int, decades: float) -> Array:
    return np.asarray(10.0 ** rng.uniform(-decades / 2, decades / 2, count))


def linear(rng: np.random.Generator, n: int) -> Hard:
    """No curvature at all, half of the limits degenerate."""
    A = _rows(rng, n // 2, n)
    return around(
        "linear, degenerate", rng, sp.csc_matrix((n, n)), A, rng.normal(size=n), degenerate=0.5
    )


def low_rank(rng: np.random.Generator, n: int) -> Hard:
    """Curvature of rank 3, as that of portfolios."""
    A = _rows(rng, n // 4, n)
    return around("curvature of rank 3", rng, _curved(rng, n, 3), A, rng.normal(size=n))


def dependent(rng: np.random.Generator, n: int) -> Hard:
    """Every row twice, and their sum."""
    A = _rows(rng, n // 5, n)
    A = sp.vstack([A, A, sp.csr_matrix(A.sum(axis=0))])
    return around("dependent rows", rng, _curved(rng, n, n // 2), A, rng.normal(size=n))


def nearly_parallel(rng: np.random.Generator, n: int) -> Hard:
    """Rows that differ by a millionth."""
    A = _rows(rng, n // 5, n)
    A = sp.vstack([A, A + 1e-6 * _rows(rng, n // 5, n)])
    return around("nearly parallel rows", rng, _curved(rng, n, n), A, rng.normal(size=n))


def scaled_columns(rng: np.random.Generator, n: int) -> Hard:
    """Columns in units six decades apart."""
    unit = _decades(rng, n, 6.0)
    D = sp.diags(1.0 / unit)
    A, P = _rows(rng, n // 3, n) @ D, D @ _curved(rng, n, n // 2) @ D
    return around("columns over 6 decades", rng, P, A, rng.normal(size=n) * unit)


def scaled_rows(rng: np.random.Generator, n: int) -> Hard:
    """Rows in units eight decades apart."""
    A = sp.diags(_decades(rng, n // 3, 8.0)) @ _rows(rng, n // 3, n)
    return around("rows over 8 decades", rng, _curved(rng, n, n // 2), A, rng.normal(size=n))


def faint(rng: np.random.Generator, n: int) -> Hard:
    """Curvature a hundred-millionth of the costs, which a solver may take for none (PRIMALC1)."""
    A = _rows(rng, max(2, n // 25), n, 0.8)
    return around("faint curvature", rng, 1e-8 * _curved(rng, n, n), A, 100.0 * rng.normal(size=n))


def far(rng: np.random.Generator, n: int) -> Hard:
    """Limits that do not hold a million away."""
    A = _rows(rng, n // 3, n)
    return around("limits far away", rng, _curved(rng, n, n // 2), A, rng.normal(size=n), slack=1e6)


def steep(rng: np.random.Generator, n: int) -> Hard:
    """Multipliers of a million."""
    A = _rows(rng, n // 3, n)
    return around("steep prices", rng, _curved(rng, n, n // 2), A, rng.normal(size=n), price=1e6)


def chain(rng: np.random.Generator, n: int) -> Hard:
    """A store over time: balances from hour to hour, curvature at some hours."""
    A = sp.diags([1.0, -0.99], [0, 1], shape=(n - 1, n), format="csr")
    P = sp.diags((rng.random(n) < 0.1).astype(float))
    return around("a chain in time", rng, P, A, rng.uniform(0, 10, n), degenerate=0.3)


def transport(rng: np.random.Generator, n: int) -> Hard:
    """Flows between two sides, whose balances depend on each other."""
    side = round(np.sqrt(n))
    ones, eye = sp.csr_matrix(np.ones((1, side))), sp.identity(side, format="csr")
    A = sp.vstack([sp.kron(eye, ones), sp.kron(ones, eye)])
    x = np.where(rng.random(side * side) < 0.8, 0.0, rng.uniform(0, 5, side * side))
    return around("transport", rng, sp.csc_matrix((x.size, x.size)), A, x, degenerate=0.7)


Family = Callable[[np.random.Generator, int], Hard]
FAMILIES: tuple[Family, ...] = (
    linear, low_rank, dependent, nearly_parallel, scaled_columns, scaled_rows, faint, far, steep,
    chain, transport,
)  # fmt: skip
SIZES = (25, 100, 400)


def case(family: Family, size: int) -> Hard:
    """One of a family, the same on every machine."""
    return family(np.random.default_rng([SEED, size]), size)
