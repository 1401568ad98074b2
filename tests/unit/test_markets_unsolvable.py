"""Markets that have no solution: who or what is named, and that no results are left."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.markets.base import Market
from tests.unit.markets import build

AVERSE = p2p.CVaR()


def run(n: pypsa.Network, market: Market, route: str) -> Any:
    if route == "direct":
        return market.optimize(n)
    return n.optimize(extra_functionality=market, log_to_console=False)


def demanding(n: pypsa.Network) -> None:
    """An inelastic load of 100 MW that nobody can serve."""
    n.add("Load", "smelter", bus="b", p_set=100.0)


def bottomless(n: pypsa.Network, sns: pd.Index) -> None:
    """A decision of the user's own that nothing limits and that pays."""
    well = n.model.add_variables(name="well")
    n.model.objective = n.model.objective.expression - 5.0 * well


def test_an_infeasible_market_names_who_cannot_be_met(n: pypsa.Network, route: str) -> None:
    demanding(n)
    with pytest.raises(MarketError, match=r"infeasible.*balance of 'b'"):
        run(n, p2p.PeerToPeerMarket(), route)
    with pytest.raises(MarketError):
        p2p.results(n)


@pytest.mark.parametrize("risk", [None, AVERSE], ids=["neutral", "averse"])
def test_an_isolated_prosumer_who_cannot_be_met_is_the_only_one_named(
    risk: p2p.CVaR | None, route: str
) -> None:
    n = build(scenarios=True, trades=False)
    demanding(n)
    with pytest.raises(MarketError, match=r"infeasible.*balance of 'b'") as caught:
        run(n, p2p.PeerToPeerMarket(risk=risk), route)
    assert "'a" not in str(caught.value)
    assert "'c" not in str(caught.value)


@pytest.mark.parametrize("risk", [None, AVERSE], ids=["neutral", "averse"])
def test_an_unbounded_market(n: pypsa.Network, route: str, risk: p2p.CVaR | None) -> None:
    market = p2p.PeerToPeerMarket(risk=risk)

    def both(n: pypsa.Network, sns: pd.Index) -> None:
        bottomless(n, sns)
        market(n, sns)

    solve = {
        "direct": lambda: market.optimize(n, extra_functionality=bottomless),
        "hook": lambda: n.optimize(extra_functionality=both, log_to_console=False),
    }[route]
    with pytest.raises(MarketError, match="unbounded"):
        solve()
    with pytest.raises(MarketError):
        p2p.results(n)


def test_a_load_that_nothing_can_supply_is_named() -> None:
    """PyPSA itself ends with an error about empty left-hand sides."""
    n = pypsa.Network()
    n.add("Bus", ["hut", "mill", "farm"])
    n.add("Load", ["lamp", "saw"], bus=["hut", "mill"], p_set=1.0)
    n.add("Generator", "engine", bus="farm", p_nom=5, marginal_cost=2.0)
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, [("mill prosumer", "farm prosumer")], capacity=5)
    with pytest.raises(MarketError, match="Load 'lamp' at bus 'hut prosumer': nothing there can"):
        p2p.PeerToPeerMarket().optimize(n)
    n.loads.loc["lamp", "p_set"] = 0.0
    assert p2p.PeerToPeerMarket().optimize(n) == ("ok", "optimal")
