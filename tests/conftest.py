"""Fixtures that several folders of tests share; how cases are called, and which are slow."""

from __future__ import annotations

import sys

import pytest

from tests.naming import case_name
from tests.reference.package import ROUTES
from tests.thinning import thin


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    """The two ways to solve a market: as a hook of `n.optimize`, and directly."""
    return str(request.param)


@pytest.fixture
def terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> pytest.CaptureFixture[str]:
    """What is printed while stderr passes for a terminal."""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)  # it is made anew for the test
    return capsys


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Cases without `ids` are called by what they are."""
    return case_name(val, argname)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what `ordinary.toml` leaves out."""
    thin(config, items)
