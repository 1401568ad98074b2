"""What payments="risk" refuses, by name; its certificates reject what is off by a little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.markets.clearing import taking_prices
from pypsa_p2p.solvers.price_taking import PriceTaking
from pypsa_p2p.studies.market_words import market_from
from tests.by_hand.markets import three_node_in_two_stages

OFF = 1e-3
AVERSE = p2p.CVaR()
AT_RISK = p2p.PeerToPeerMarket(payments="risk", risk=AVERSE)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"risk": None}, "the market is risk-neutral, where they cancel"),
        ({"delivery": "grid"}, "not available for delivery='grid'"),
        ({"equilibrium": "generalized", "weights": [1.0, 2.0, 3.0]}, "weights have no meaning"),
        ({"equilibrium": "generalized"}, "weights have no meaning"),
        ({"payments": "bills"}, "Option payments must be one of"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], why: str) -> None:
    with pytest.raises(p2p.MarketError, match=why):
        p2p.PeerToPeerMarket(**{"payments": "risk", "risk": AVERSE, **options})


def test_congestion_is_refused() -> None:
    n = p2p.load_grid("three_node")
    n.components.links.static["congestion"] = 0.1
    with pytest.raises(p2p.MarketError, match="congestion > 0, so that what a trade costs"):
        AT_RISK.optimize(n)


@pytest.mark.parametrize(
    "contracts",
    [p2p.Contracts(limit=3.0), p2p.Contracts(payoff=["1"])],
)
def test_contracts_have_to_be_complete(contracts: p2p.Contracts) -> None:
    with pytest.raises(p2p.MarketError, match="knows complete contracts only"):
        replace(AT_RISK, contracts=contracts).optimize(p2p.load_grid("three_node"))


def test_measures_without_limits_of_probabilities() -> None:
    """Where such a prosumer decides for all scenarios; who does not may have any."""
    n = three_node_in_two_stages(friction=0.2)
    with pytest.raises(p2p.MarketError, match=r"prosumers '0'.* decide something before"):
        replace(AT_RISK, risk=p2p.TotalVariation(0.2)).optimize(n)
    names = list(p2p.load_grid("three_node").buses.index.get_level_values(-1).unique())
    chosen = {names[0]: AVERSE, names[1]: p2p.TotalVariation(0.2), names[2]: AVERSE}
    replace(AT_RISK, risk=chosen, here_and_now=("0 generation",)).optimize(
        p2p.load_grid("three_node")
    )


@pytest.mark.parametrize("joined", ["scenarios", "prosumers"])
def test_constraints_that_nobody_is_paid_for(joined: str) -> None:
    """A cap on the sum over scenarios, or over prosumers, of what is generated."""

    def cap(n: pypsa.Network, sns: object) -> None:
        p = n.model["Generator-p"].sel(snapshot=sns)
        n.model.add_constraints(p.sum(joined[:-1] if joined == "scenarios" else "name") <= 60.0)

    n = three_node_in_two_stages(friction=0.2)
    with pytest.raises(p2p.MarketError, match="join prosumers or scenarios otherwise"):
        AT_RISK.optimize(n, extra_functionality=cap)


def test_agents_do_not_take_prices() -> None:
    n = p2p.load_grid("three_node")
    with pytest.raises(p2p.MarketError, match="payments are no part of anybody's risk"):
        p2p.solve_equilibrium(n, AT_RISK, p2p.ADMM(), progress=False)


def test_none_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """No start leads anywhere: an error, and nothing is written."""
    monkeypatch.setattr(PriceTaking, "found_at", lambda *_: None)
    n = three_node_in_two_stages(friction=0.2)
    with pytest.raises(p2p.ConvergenceError, match="No equilibrium with payments='risk'"):
        AT_RISK.optimize(n)
    assert "p2p" not in n.meta
    assert taking_prices.DRAWS > 1


def test_in_words() -> None:
    words: dict[str, Any] = {"payments": "risk", "risk": True}
    assert market_from(words) == AT_RISK
    with pytest.raises(p2p.MarketError, match="payments belong to the design 'peer-to-peer'"):
        market_from({"design": "centralized", **words})


# ------------------------------------------------------------------ certificates


@pytest.fixture(scope="module")
def solved() -> pypsa.Network:
    """Three nodes that trade at both times; node 0 commits what she generates."""
    n = three_node_in_two_stages(friction=0.2, imbalance=(5.0, 0.5))
    replace(AT_RISK, surplus=False, here_and_now=("0 generation",)).optimize(n)
    assert p2p.certify(n).is_equilibrium()
    return n


def passes(n: pypsa.Network, component: str, attribute: str, by: dict[Any, float]) -> bool:
    """Whether a network passes with some numbers of one table changed; it is put back."""
    table = n.c[component].dynamic[attribute]
    kept = table.copy()
    for column, change in by.items():
        table.loc[n.snapshots[0], column] += change
    found = p2p.certify(n)
    n.c[component].dynamic[attribute] = kept
    return found.is_equilibrium()


def test_a_wrong_price(solved: pypsa.Network) -> None:
    """Of an edge in the scenario, of one before, and of energy."""
    assert passes(solved, "Link", "mu_reciprocity", {})
    for edge in ("0 - 1", "0 - 1 day-ahead"):
        assert not passes(solved, "Link", "mu_reciprocity", {("1", edge): OFF})
    assert not passes(solved, "Bus", "marginal_price", {("1", "0"): OFF})


def test_output_committed_at_the_wrong_level(solved: pypsa.Network) -> None:
    """The same in all scenarios, and sold out of balance."""
    output = solved.c["Generator"].dynamic["p"]
    kept = output.copy()
    for scenario in solved.scenarios:
        output.loc[:, (scenario, "0 generation")] += 10 * OFF
        output.loc[:, (scenario, "0 imbalance sold")] -= 10 * OFF
    found = p2p.certify(solved)
    solved.c["Generator"].dynamic["p"] = kept
    assert not found.is_equilibrium()


def test_wrong_fears(solved: pypsa.Network) -> None:
    """Probabilities that are not the worst; that change what should be committed; outside."""
    static = solved.c["Bus"].static
    kept = static["risk_adjusted_probability"].copy()
    at = [(scenario, "0") for scenario in solved.scenarios]
    held = kept.loc[at].to_numpy()
    moved = held + OFF * np.array([1.0, -1.0, 0.0])
    static.loc[at, "risk_adjusted_probability"] = moved
    found = p2p.certify(solved)
    static["risk_adjusted_probability"] = kept
    assert not found.is_equilibrium()


def test_another_markets_answer() -> None:
    """The ordinary averse market's answer is no equilibrium of those who take prices."""
    n = three_node_in_two_stages(friction=0.2, imbalance=(5.0, 0.5))
    p2p.PeerToPeerMarket(risk=AVERSE, surplus=False).optimize(n)
    assert p2p.certify(n).is_equilibrium()
    n.meta["p2p"]["payments"] = "risk"
    assert not p2p.certify(n).is_equilibrium()


def test_what_could_be_gained_at_a_wrong_price(solved: pypsa.Network) -> None:
    """Who may trade what she likes gains at a price that is off, whatever the partner wants."""
    table = solved.c["Link"].dynamic["mu_reciprocity"]
    kept = table.copy()
    table.loc[:, ("0", "0 - 1")] += 0.1
    gain = p2p.certify(solved).exploitability
    solved.c["Link"].dynamic["mu_reciprocity"] = kept
    assert float(gain.sel(prosumer=["0", "1"]).min()) > 1e-6
