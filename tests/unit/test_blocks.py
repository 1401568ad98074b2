"""A core solved by dense parts, against one dense solve of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from pypsa_p2p.solvers.arrays import Flags, Labels, Vector
from pypsa_p2p.solvers.backends import blocks
from pypsa_p2p.solvers.backends.blocks import BlockCore, Kinds, NotDefiniteError
from pypsa_p2p.solvers.backends.interior_point import solve_risk_interior_point
from tests.unit.solver_markets import random_market

SCENARIOS, PARTS, PRICES, CELLS = 2, 3, 40, 12


def core(seed: int) -> tuple[Vector, Flags, Flags]:
    """Matrix, prices and cells: of each scenario parts on a ring with chords, and its cells."""
    random = np.random.default_rng(seed)
    inner = SCENARIOS * (PARTS * PRICES + CELLS)
    joined = np.zeros((inner + CELLS, inner + CELLS))
    prices = np.zeros(len(joined), dtype=bool)
    for scenario in range(SCENARIOS):
        start = scenario * (PARTS * PRICES + CELLS)
        cells = start + PARTS * PRICES + np.arange(CELLS)
        joined[cells, inner + np.arange(CELLS)] = -1.0
        for part in range(PARTS):
            members = start + part * PRICES + np.arange(PRICES)
            prices[members] = True
            joined[members, np.roll(members, 1)] = random.normal(size=PRICES)
            chord = random.permutation(members)[: PRICES // 4 * 2].reshape(2, -1)
            joined[chord[0], chord[1]] = random.normal(size=chord.shape[1])
            joined[members, random.choice(cells, PRICES)] = random.normal(size=PRICES)
    matrix = joined + joined.T
    heavy = np.abs(matrix).sum(axis=1) + random.uniform(0.1, 1.0, len(matrix))
    sign = np.where(np.arange(len(matrix)) < inner, -1.0, 1.0)
    return matrix + np.diag(sign * heavy), prices, ~prices & (sign < 0.0)


def pattern(matrix: Vector) -> tuple[Labels, Labels, Vector]:
    upper = sparse.triu(sparse.csc_matrix(matrix), format="csc")
    upper.sort_indices()
    column = np.repeat(np.arange(len(matrix)), np.diff(upper.indptr))
    return upper.indices.astype(np.int64), column, upper.data


@pytest.mark.parametrize("most", [0, 5, 24], ids=["all dense", "few leave", "many leave"])
@pytest.mark.parametrize("seed", range(4))
def test_the_core_is_solved(seed: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_MOST_TOUCHED", most)
    matrix, prices, cells = core(seed)
    shuffled = np.random.default_rng(seed).permutation(len(matrix))
    matrix, prices, cells = matrix[np.ix_(shuffled, shuffled)], prices[shuffled], cells[shuffled]
    row, column, values = pattern(matrix)
    found = BlockCore(row, column, Kinds.of(row, column, prices, cells))
    right = np.random.default_rng(seed).normal(size=len(matrix))
    for factor in (2.0, 1.0):  # a second factorisation keeps nothing of the first
        found.factor(factor * values)
        expected = np.linalg.solve(factor * matrix, right)
        np.testing.assert_allclose(found.solve(right), expected, rtol=0, atol=1e-12)


def test_parts_and_scenarios_are_told_apart() -> None:
    matrix, prices, cells = core(0)
    row, column, _ = pattern(matrix)
    kinds = Kinds.of(row, column, prices, cells)
    assert np.bincount(kinds.part[prices]).tolist() == [PRICES] * (SCENARIOS * PARTS)
    assert np.bincount(kinds.cells[cells]).tolist() == [CELLS] * SCENARIOS
    assert (kinds.part[~prices] == -1).all()
    assert (kinds.cells[~cells] == -1).all()
    assert not kinds.full, "parts this small are solved entry by entry"


def test_an_indefinite_scenario_is_refused() -> None:
    matrix, prices, cells = core(1)
    row, column, values = pattern(matrix)
    wrong = np.where((row == column) & cells[row], -values, values)
    with pytest.raises(NotDefiniteError):
        BlockCore(row, column, Kinds.of(row, column, prices, cells)).factor(wrong)


@pytest.mark.parametrize("indefinite", [False, True], ids=["in blocks", "rounding in the way"])
def test_a_market_of_many_is_solved_as_entry_by_entry(
    indefinite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    factored = []

    def refused(core: BlockCore, values: Vector) -> None:
        factored.append(core)
        if indefinite:
            raise NotDefiniteError
        whole(core, values)

    whole = BlockCore.factor
    monkeypatch.setattr(BlockCore, "factor", refused)
    program = random_market(prosumers=90, scenarios=3, seed=2)
    found = solve_risk_interior_point(program)
    assert factored, "90 prosumers that trade with each other hang together"
    monkeypatch.setattr(blocks, "_LARGE", 1000)
    expected = solve_risk_interior_point(program)
    assert found.status == expected.status == "optimal"
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-9)
    np.testing.assert_allclose(found.row_dual, expected.row_dual, atol=1e-6)
