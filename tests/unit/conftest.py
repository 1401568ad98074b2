"""Fixtures that several of these files share."""

from __future__ import annotations

import pypsa
import pytest

from pypsa_p2p.markets.base import Market
from tests.unit.markets import build


@pytest.fixture(scope="module", params=[False, True], ids=["certain", "scenarios"])
def original(request: pytest.FixtureRequest) -> pypsa.Network:
    return build(scenarios=request.param)


@pytest.fixture
def n(original: pypsa.Network) -> pypsa.Network:
    return original.copy()


@pytest.fixture
def no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the market was formulated although its data make no sense")

    monkeypatch.setattr(Market, "_compiled", refuse)
