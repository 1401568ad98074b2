"""Fixtures that several folders of tests share; how cases are called, and which are slow."""

from __future__ import annotations

import pytest

from tests.naming import case_name
from tests.reference.package import ROUTES
from tests.thinning import thin


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    """The two ways to solve a market: as a hook of `n.optimize`, and directly."""
    return str(request.param)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Cases without `ids` are called by what they are."""
    return case_name(val, argname)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what `ordinary.toml` leaves out."""
    thin(config, items)
