"""The Newton system solved in parts, against one dense solve of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from pypsa_p2p.solvers.arrays import Sparse
from pypsa_p2p.solvers.backends import newton
from pypsa_p2p.solvers.backends.clusters import clusters_of
from pypsa_p2p.solvers.backends.newton import NewtonSystem

GROUPS, CELLS, COLUMNS = 2, 6, 30


def curvature(joined: list[tuple[int, int]]) -> Sparse:
    """P, 1 on the diagonal but for every third column, and -1/2 between the joined."""
    P = np.diag(np.where(np.arange(COLUMNS) % 3 == 2, 0.0, 1.0))
    for i, j in joined:
        P[i, i] = P[j, j] = 2.0
        P[i, j] = P[j, i] = -0.5
    return sparse.csr_matrix(P)


def rows(seed: int, common_column: bool) -> Sparse:
    """Rows of two columns, each column in at most two of them, and of many."""
    random = np.random.default_rng(seed)
    A = np.zeros((16, COLUMNS))
    for row in range(12):
        A[row, random.choice(COLUMNS, 2, replace=False)] = random.choice([-1.0, 1.0, 0.7], 2)
    A[12:] = np.where(random.random((4, COLUMNS)) < 0.3, random.uniform(-1, 1, (4, COLUMNS)), 0.0)
    if common_column:
        A[:, 0] = 1.0
    return sparse.csr_matrix(A)


PAIRS = {
    "none": [],
    "pairs": [(0, 1), (4, 5), (7, 9)],
    "three at once": [(0, 1), (1, 3), (12, 13)],
}


@pytest.mark.parametrize("small", [0, 10**6], ids=["in parts", "as a whole"])
@pytest.mark.parametrize("common_column", [False, True])
@pytest.mark.parametrize("key", PAIRS)
@pytest.mark.parametrize("seed", range(4))
def test_the_system_is_solved(
    seed: int, key: str, common_column: bool, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newton, "SMALL", small)
    random = np.random.default_rng(100 + seed)
    P, A = curvature(PAIRS[key]), rows(seed, common_column)
    m, n = A.shape
    # Columns that P joins are in one cell.
    member = np.arange(n) // 5 - (np.arange(n) < 5)
    group = np.arange(CELLS) % GROUPS
    member = np.minimum(member, CELLS - 1)
    system = NewtonSystem(
        P,
        A,
        member,
        group,
        groups=GROUPS,
        column_scale=np.ones(n),
        row_scale=np.ones(m),
        cell_scale=np.ones(CELLS),
    )
    for _ in range(2):  # a second refresh keeps nothing of the first
        barrier, gradient = random.uniform(0.1, 2.0, n), random.normal(size=n)
        of_rows, of_cells = random.uniform(0.0, 1.0, m), random.uniform(0.1, 1.0, CELLS)
        weights = np.repeat(random.uniform(0.5, 1.0), n)
        system.refresh(weights, barrier, gradient, of_rows, of_cells)
        sizes = [n, GROUPS, m, CELLS]
        right = [random.normal(size=size) for size in sizes]
        found = np.concatenate(system.solve(right))
        J = np.where(member[None, :] == np.arange(CELLS)[:, None], gradient, 0.0)
        E = (group[:, None] == np.arange(GROUPS)).astype(float)
        W = P.toarray() * weights[:, None] + np.diag(barrier)
        whole = np.block(
            [
                [W, np.zeros((n, GROUPS)), A.toarray().T, J.T],
                [np.zeros((GROUPS, n + GROUPS + m)), -E.T],
                [A.toarray(), np.zeros((m, GROUPS)), -np.diag(of_rows), np.zeros((m, CELLS))],
                [J, -E, np.zeros((CELLS, m)), -np.diag(of_cells)],
            ]
        )
        whole += np.diag(system._regularisation / system.scale**2)
        expected = np.linalg.solve(whole, np.concatenate(right))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * abs(expected).max())


def test_a_trade_and_its_mirror_leave_with_their_row() -> None:
    """Reciprocity q_mn + q_nm >= 0 has only them; each is in one balance besides."""
    A = sparse.csr_matrix(
        np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    )
    nothing = np.zeros(0, dtype=np.int64)
    label = clusters_of(A, (nothing, nothing))
    assert label[0] == label[1] == label[4 + 2]
    assert label[4 + 1] == -1, "a balance of one trade alone stays"


def test_rows_that_share_a_column_do_not_both_leave() -> None:
    A = sparse.csr_matrix(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]))
    nothing = np.zeros(0, dtype=np.int64)
    label = clusters_of(A, (nothing, nothing))
    assert (label[3:] >= 0).sum() == 1
