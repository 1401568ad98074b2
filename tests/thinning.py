"""Which cases of a test are in the ordinary run: those that `ordinary.toml` names; others are slow.

A test that the table does not name runs in full.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
#: All that was collected, whatever is run of it.
COLLECTED: pytest.StashKey[list[pytest.Item]] = pytest.StashKey()


@cache
def ordinary() -> dict[tuple[str, str], frozenset[str]]:
    """Ordinary cases by module and test; a test may be said to have those of another."""
    table = tomllib.loads((TESTS / "ordinary.toml").read_text(encoding="utf-8"))
    return {
        (module, test): frozenset(cases if isinstance(cases, list) else tests[cases])
        for module, tests in table.items()
        for test, cases in tests.items()
    }


def place_of(item: pytest.Item) -> tuple[str, str]:
    """Module and test of a case, as the table has them: "laws/test_risk", "test_neutral_limit"."""
    path = item.path.relative_to(TESTS) if item.path.is_relative_to(TESTS) else item.path
    return path.with_suffix("").as_posix(), getattr(item, "originalname", item.name)


def case_of(item: pytest.Item) -> str:
    """A case's name, "" where the test has no parameters."""
    return str(item.callspec.id) if hasattr(item, "callspec") else ""


def thin(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow every case that the table does not name of a test that it does."""
    config.stash[COLLECTED] = list(items)
    for item in items:
        case = case_of(item)
        if case not in ordinary().get(place_of(item), {case}):
            item.add_marker(pytest.mark.slow)


def unknown(items: list[pytest.Item]) -> list[str]:
    """What the table names and is no test, or no case of it, in the modules of these items."""
    collected: dict[tuple[str, str], set[str]] = {}
    for item in items:
        collected.setdefault(place_of(item), set()).add(case_of(item))
    modules = {module for module, _ in collected}
    named = {place: cases for place, cases in ordinary().items() if place[0] in modules}
    gone = [f"{module}: {test}" for module, test in named if (module, test) not in collected]
    return gone + [
        f"{module}: {test}[{case}]"
        for (module, test), cases in named.items()
        for case in sorted(cases - collected.get((module, test), cases))
    ]


def numbered(item: pytest.Item) -> bool:
    """Whether a case is called by its place in a list: `draw2`."""
    places = item.callspec.indices.items() if hasattr(item, "callspec") else ()
    return any(f"-{name}{k}-" in f"-{case_of(item)}-" for name, k in places)
