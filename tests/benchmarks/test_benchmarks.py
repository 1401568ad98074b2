"""`pytest -m benchmark -s tests/benchmarks` prints the tables; the ordinary run does a small one.

Nothing here asserts how long anything takes.
"""

from __future__ import annotations

import pytest

from tests.benchmarks import growth, solvers, sweeps
from tests.benchmarks.clock import Parts
from tests.benchmarks.report import (
    DIRECT_HEAD,
    HOOK_HEAD,
    HOOK_SIZES,
    SIZES,
    Size,
    measure_direct,
    measure_hook,
    table,
)


def show(lines: list[str]) -> None:
    print("", *lines, sep="\n")  # noqa: T201 - the table is the point


@pytest.mark.benchmark
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_direct_route_beside_bare_solver(size: Size) -> None:
    show(list(table(DIRECT_HEAD, measure_direct(size, repeat=3))))


@pytest.mark.benchmark
@pytest.mark.parametrize("size", HOOK_SIZES, ids=str)
def test_hook_route(size: Size) -> None:
    show(list(table(HOOK_HEAD, measure_hook(size, repeat=3))))


def test_measured_parts_make_up_the_call_and_bare_solver_agrees() -> None:
    """What is compared is the same market: the bare solver's optimum is the network's."""
    for line in measure_direct((4, 3, 1), repeat=1):
        assert line.raw_objective == pytest.approx(line.objective, abs=1e-6)
        assert line.raw.wall > 0
        _adds_up(line.parts)


def test_measured_parts_make_up_the_hook_route() -> None:
    for line in measure_hook((4, 3, 1), repeat=1):
        _adds_up(line.parts)


def _adds_up(parts: Parts) -> None:
    others = [part for name, part in parts.items() if name != "whole"]
    assert sum(part.wall for part in others) == pytest.approx(parts["whole"].wall)
    assert all(part.wall > 0 for part in others)


def test_bare_solvers_get_the_program_they_can_solve() -> None:
    found = {(line.program, line.solver): line.status for line in solvers.measure((4, 3, 1), 1)}
    assert found["QP", "Clarabel"] == "Solved"
    assert found["QP", "PIQP"] == "PIQP_SOLVED"
    assert found["cones", "this package's interior point"] == "optimal"


def test_sweeps_are_counted_whole() -> None:
    lines = list(sweeps.measure(2))
    assert [line.markets for line in lines] == [2, 2, 2]
    assert all(line.each > 0 for line in lines)


def test_growth_is_measured_in_a_process_of_its_own() -> None:
    line = growth.measured((3, 2, 1), "risk-averse")
    assert line.variables > 0
    assert 0 < line.solver + line.ties < line.whole


def test_growth_is_the_slope_of_times() -> None:
    """Eight times the time at four times the size: an exponent of 1.5."""
    times = {10: 1.0, 20: 2.0, 40: 2.0, 160: 16.0}
    lines = [growth.Line((n, 1, 1), "it", n, t, t, 0.0, 0.0) for n, t in times.items()]
    assert growth.Growth("N", "it", lines).cells()[-2:] == ["1.50", "1.50"]
