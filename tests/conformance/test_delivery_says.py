"""What a market on a grid says of its prices, of its data, and of what it cannot do."""

from __future__ import annotations

import warnings

import pytest
from scipy.optimize import OptimizeResult

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError, MarketError
from pypsa_p2p.markets.clearing import connection, convex
from tests.conformance.markets import idle_link, meshed, two_buses


def test_a_price_that_is_not_the_least_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    n = two_buses(limit=9.0)
    idle_link(n)
    monkeypatch.setattr(connection, "linprog", lambda *_, **__: OptimizeResult(status=4, x=None))
    with pytest.warns(UserWarning, match="higher than they need be"):
        p2p.CentralizedMarket(delivery="grid", surplus=False).optimize(n)


@pytest.mark.parametrize("exact", [True, False])
def test_inexact_prices_are_said_to_be(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, however many programs were solved on the way."""
    n = meshed(1, 1.5)
    if not exact:
        monkeypatch.setattr(convex, "price_error", lambda *_: (0.5, 10.0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        p2p.PeerToPeerMarket(delivery="grid", risk=p2p.CVaR()).optimize(n)
    assert [str(w.message)[:40] for w in said if "off by" in str(w.message)] == (
        [] if exact else ["Prices are off by up to 0.05 of the larg"]
    )


def test_prosumers_without_a_place() -> None:
    n = two_buses(2.0)
    n.buses.loc["B", "grid_bus"] = ""
    with pytest.raises(MarketError, match="'B' have no place on the grid"):
        p2p.CentralizedMarket(delivery="grid").optimize(n)
    n.buses.loc["B", "grid_bus"] = "nowhere"
    with pytest.raises(DataError, match="'B': grid_bus 'nowhere' is not a bus"):
        p2p.CentralizedMarket(delivery="grid").optimize(n)
    n.buses.loc["B", "grid_bus"] = "A"
    with pytest.raises(DataError, match="'B': grid_bus 'A' is a prosumer's"):
        p2p.CentralizedMarket(delivery="grid").optimize(n)


def test_what_does_not_know_the_grid_says_so() -> None:
    n = two_buses(2.0)
    market = p2p.PeerToPeerMarket(delivery="grid")
    market.optimize(n)
    with pytest.raises(MarketError, match="not available for delivery='grid'"):
        p2p.solve_equilibrium(n, market, p2p.ADMM())
