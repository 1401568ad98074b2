"""Choices that a market refuses, on construction or at its doors; nothing is touched then."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError, MarketError, P2PError
from pypsa_p2p.markets.base import Market
from tests.unit.markets import EDGE, assert_untouched, build, static, tables

AVERSE = p2p.CVaR()


@pytest.mark.parametrize("market", [p2p.CentralizedMarket, p2p.PeerToPeerMarket])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"contracts": p2p.Contracts()}, "risk=CVaR"),
        ({"contracts": True}, "Contracts or None"),
        ({"contracts": p2p.Contracts}, "Contracts or None"),
        ({"risk": 0.5}, "must be a RiskMeasure, a mapping from prosumers to such or None"),
        ({"risk": "CVaR"}, "must be a RiskMeasure, a mapping from prosumers to such or None"),
        ({"risk": p2p.CVaR}, "must be a RiskMeasure, a mapping from prosumers to such or None"),
        ({"surplus": "no"}, "True, False"),
        ({"surplus": None}, "True, False"),
        ({"surplus": np.array([1, 0])}, "True, False"),
        ({"delivery": "mail"}, "'trades', 'grid'"),
    ],
)
def test_unusable_choices(market: type[Market], arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(MarketError, match=says):
        market(**arguments)


def test_unusable_choices_of_one_design() -> None:
    with pytest.raises(MarketError, match="'prosumers', 'community'"):
        p2p.CentralizedMarket(aggregate="everybody")
    with pytest.raises(MarketError, match="'variational', 'generalized'"):
        p2p.PeerToPeerMarket(equilibrium="Nash")
    with pytest.raises(MarketError, match="weights"):
        p2p.PeerToPeerMarket(weights={"a": 1.0})


def test_markets_are_frozen_values() -> None:
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=0.5))
    assert market == p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=0.5))
    assert replace(market, surplus=False).surplus is False
    with pytest.raises(FrozenInstanceError):
        market.surplus = False  # type: ignore[misc]
    with pytest.raises(TypeError):
        p2p.PeerToPeerMarket("variational")  # type: ignore[misc]


@pytest.mark.parametrize(
    "attitude",
    [1.0, -0.1, np.nan, np.inf, True, "much", [0.1, 1.2], {"a": 1.0}, {"a": "b"}],
)
def test_unusable_attitudes(attitude: Any) -> None:
    with pytest.raises(MarketError, match=r"\[0, 1\)"):
        p2p.CVaR(attitude=attitude)


def test_the_prosumer_of_an_unusable_attitude_is_named() -> None:
    with pytest.raises(MarketError, match="prosumer 'b'"):
        p2p.CVaR(attitude=pd.Series({"a": 0.1, "b": 1.5}))


@pytest.mark.parametrize("weight", [1.1, -0.1, np.nan, "1", None, True, [0.5]])
def test_unusable_weights(weight: Any) -> None:
    with pytest.raises(MarketError, match=r"weight .* \[0, 1\]"):
        p2p.CVaR(weight=weight)


@pytest.mark.parametrize(
    ("attitude", "says"),
    [
        ({"a": 0.1, "b": 0.2}, "lacks 'c' along 'prosumer'"),
        ({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, "has the unknown 'd'"),
        ({}, "lacks 'a', 'b', 'c'"),
        (pd.Series([0.1, 0.2, 0.3], list("abd")), "lacks 'c' and has the unknown 'd'"),
        ({1: 0.1, "b": 0.2, "c": 0.3}, "lacks 'a' and has the unknown 1"),
    ],
)
@pytest.mark.usefixtures("no_solver")
def test_attitudes_of_the_wrong_prosumers(n: pypsa.Network, attitude: Any, says: str) -> None:
    before, meta = tables(n), copy.deepcopy(n.meta)
    with pytest.raises(MarketError, match=says):
        p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=attitude)).optimize(n)
    assert_untouched(n, before, meta)


@pytest.mark.parametrize(
    ("market", "says"),
    [
        (p2p.CentralizedMarket(aggregate="community", risk=AVERSE), "attitude=0.5"),
        (p2p.CentralizedMarket(risk=AVERSE), "not convex"),
        (p2p.CentralizedMarket(risk=p2p.CVaR(attitude=0.3)), "not convex"),
    ],
)
@pytest.mark.usefixtures("no_solver")
def test_designs_with_congestion_that_have_no_convex_form(market: Market, says: str) -> None:
    n = build(scenarios=True)
    static("Link", EDGE, congestion=0.2)(n)
    before, meta = tables(n), copy.deepcopy(n.meta)
    with pytest.raises(MarketError, match=says):
        market.optimize(n)
    assert_untouched(n, before, meta)


@pytest.mark.parametrize("risk", [p2p.CVaR(attitude=0.0), p2p.CVaR(weight=0.0)], ids=repr)
@pytest.mark.parametrize("design", [p2p.CentralizedMarket, p2p.PeerToPeerMarket])
def test_congestion_with_a_measure_that_is_risk_neutral(
    n: pypsa.Network, design: type[Market], risk: p2p.CVaR
) -> None:
    """chi = 0 and theta = 0 are the expectation, whose optimum exists."""
    static("Link", EDGE, congestion=0.2)(n)
    design(risk=risk).optimize(n)
    found = float(p2p.results(n).social_cost)
    design().optimize(n)
    assert found == pytest.approx(float(p2p.results(n).social_cost), rel=1e-9)


def test_investment_periods() -> None:
    n = build(scenarios=False)
    n.set_investment_periods([2030, 2040])
    with pytest.raises(P2PError, match="one period"):
        p2p.PeerToPeerMarket().optimize(n)


@pytest.mark.parametrize("thing", [None, "network", pd.DataFrame(), 3])
def test_what_is_no_network(thing: Any) -> None:
    market = p2p.PeerToPeerMarket()
    with pytest.raises(P2PError, match=r"network|Network"):
        market.optimize(thing)
    with pytest.raises(DataError, match="Network"):
        market(thing, pd.RangeIndex(1))
    with pytest.raises(MarketError):
        p2p.results(thing)


@pytest.mark.parametrize("snapshots", [[5], [], [0, 5], [0, 0], 0, "today", slice(0, 1)], ids=repr)
@pytest.mark.usefixtures("no_solver")
def test_unusable_snapshots(n: pypsa.Network, snapshots: Any) -> None:
    before, meta = tables(n), copy.deepcopy(n.meta)
    with pytest.raises(DataError, match=r"[Ss]napshot"):
        p2p.PeerToPeerMarket().optimize(n, snapshots)
    assert_untouched(n, before, meta)


def test_a_hook_without_a_model(n: pypsa.Network) -> None:
    with pytest.raises(P2PError, match="create_model"):
        p2p.PeerToPeerMarket()(n, n.snapshots)


def test_user_functions_that_are_none(n: pypsa.Network) -> None:
    before, meta = tables(n), copy.deepcopy(n.meta)
    with pytest.raises(P2PError, match="extra_functionality"):
        p2p.PeerToPeerMarket().optimize(n, extra_functionality=3)  # type: ignore[arg-type]
    assert_untouched(n, before, meta)


@pytest.mark.parametrize("losses", [{"mode": "tangents", "segments": -1}, "many"], ids=repr)
def test_options_with_values_that_pypsa_refuses(n: pypsa.Network, losses: Any) -> None:
    p2p.PeerToPeerMarket().optimize(n)
    before = p2p.results(n)
    with pytest.raises(MarketError, match="transmission_losses"):
        p2p.PeerToPeerMarket().optimize(n, transmission_losses=losses)
    assert p2p.results(n).identical(before)


@pytest.mark.parametrize("trades", [True, False], ids=["trades", "no trades"])
def test_one_model_holds_one_market(trades: bool) -> None:
    n = build(scenarios=False, trades=trades)
    n.optimize.create_model(include_objective_constant=False)
    p2p.PeerToPeerMarket()(n, n.snapshots)
    with pytest.raises(MarketError, match="market already"):
        p2p.CentralizedMarket()(n, n.snapshots)


def test_results_before_solving(n: pypsa.Network) -> None:
    with pytest.raises(MarketError, match="Solve one first"):
        p2p.results(n)


def test_a_class_is_no_hook(n: pypsa.Network) -> None:
    with pytest.raises(p2p.MarketError, match=r"extra_functionality=PeerToPeerMarket\(\)"):
        n.optimize(extra_functionality=p2p.PeerToPeerMarket)
