"""The ordinary run is what one table says, by names that do not depend on any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pypsa_p2p as p2p
from tests.naming import case_name
from tests.thinning import COLLECTED, TESTS, numbered, ordinary, place_of, unknown


@pytest.fixture
def collected(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """All cases of the modules that this run is about."""
    if any("::" in argument for argument in request.config.args):
        pytest.skip("only parts of modules were asked for")
    return request.config.stash[COLLECTED]


def test_what_the_table_names_exists(collected: list[pytest.Item]) -> None:
    """Of the modules of this run; and no module is gone."""
    modules = {module for module, _ in ordinary()}
    assert not [module for module in sorted(modules) if not (TESTS / f"{module}.py").is_file()]
    assert not unknown(collected), "Tell tests/ordinary.toml their new names."


def test_cases_of_thinned_tests_have_names(collected: list[pytest.Item]) -> None:
    """Or another case that came to stand there would be run, or left out, in its stead."""
    thinned = [item for item in collected if place_of(item) in ordinary()]
    assert not [item.nodeid for item in thinned if numbered(item)], "Give these cases `ids`."


def test_no_other_place_says_what_is_slow() -> None:
    files = {path for path in TESTS.rglob("*.py") if "mark.slow" in path.read_text("utf-8")}
    assert files - {TESTS / "unit/test_thinning.py"} == {TESTS / "thinning.py"}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "option=True"),
        (None, "option=None"),
        (1 / 3, "option=0.333333"),
        ([1, np.nan], "option=[1, nan]"),
        ({"a": (1, "b")}, "option={'a': (1, 'b')}"),
        (p2p.CVaR(), "CVaR()"),
        (
            p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=0.5)),
            "PeerToPeerMarket(risk=CVaR(weight=0.5))",
        ),
        (np.zeros(3), "option=ndarray"),
        (p2p.CVaR, None),
        ("words", None),
        (["far too much to be a name"] * 3, None),
    ],
    ids=str,
)
def test_cases_are_called_by_what_they_are(value: Any, name: str | None) -> None:
    assert case_name(value, "option") == name
