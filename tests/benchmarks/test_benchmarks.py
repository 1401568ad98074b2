"""`pytest -m benchmark -s tests/benchmarks` prints the tables; the ordinary run does a small one.

Nothing here asserts how long anything takes.
"""

from __future__ import annotations

import pytest

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
