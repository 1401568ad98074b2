"""Fixtures that several folders of tests share."""

from __future__ import annotations

import pytest

from tests.reference.package import ROUTES


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    """The two ways to solve a market: as a hook of `n.optimize`, and directly."""
    return str(request.param)
