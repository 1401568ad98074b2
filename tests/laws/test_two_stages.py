"""Trades day ahead on random markets: against an independent program, and the order of costs."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from tests.laws.markets import DRAWS, SMALL, Draw, Setting, instance_of
from tests.reference.instances import network
from tests.reference.package import market_of
from tests.reference.solve import Model, Solution, solve

SETTINGS = {
    "neutral": Setting(),
    "averse": Setting(theta=1.0),
    "mixed": Setting(theta=0.5),
    "contracts": Setting(theta=1.0, contracts=True),
    "community": Setting(theta=1.0, attitude=0.4, aggregate="community"),
    "equality": Setting(design="peer-to-peer", theta=1.0, surplus=False),
}


def in_two_stages(draw: Draw, decided: str = "day-ahead") -> pypsa.Network:
    """A random market whose trades are decided so."""
    n = network(instance_of(draw))
    n.components.links.static["decided"] = decided
    return n


def market(setting: Setting, draw: Draw) -> Any:
    """A setting's market."""
    s = setting
    return market_of(instance_of(draw), s.design, s.risk, s.aggregate, s.contracts, s.surplus)


def social_cost(n: pypsa.Network, of: Any) -> float:
    """What a market costs, by its results."""
    of.optimize(n)
    return float(p2p.results(n)["social_cost"])


def reference(setting: Setting, draw: Draw) -> Solution:
    """The cone program in which all scenarios trade alike."""

    def alike(model: Model) -> cp.Expression:
        _, scenarios, hours, _ = model.instance.shape
        first = model.q[:, :hours]
        for k in range(1, scenarios):
            model.constraints.append(model.q[:, k * hours : (k + 1) * hours] == first)
        return cp.Constant(0)

    s = setting
    of = instance_of(draw)
    return solve(of, s.design, s.risk, s.aggregate, s.contracts, s.surplus, add=alike)


@pytest.mark.parametrize("draw", DRAWS, ids=str)
@pytest.mark.parametrize("name", SETTINGS)
def test_day_ahead_agrees_with_the_reference(draw: Draw, name: str) -> None:
    """Costs, the sum over scenarios of prices, and one quantity of every trade."""
    n, setting = in_two_stages(draw), SETTINGS[name]
    found = social_cost(n, market(setting, draw))
    expected = reference(setting, draw)
    assert found == pytest.approx(expected.social_cost, rel=1e-6, abs=1e-6)
    r = p2p.results(n)
    spread = r["quantity"].max("scenario") - r["quantity"].min("scenario")
    assert float(spread.max()) < 1e-9
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("seed", range(4))
def test_order_of_the_stages(seed: int) -> None:
    """Wait and see <= two stages <= day ahead only; more risk-averse is no less; contracts no more.

    In two stages what is bought in real time costs .3 EUR/MWh more.
    """
    draw = Draw(seed, prosumers=3)
    risk = {chi: p2p.CVaR(attitude=chi) for chi in (0.0, 0.4, 0.8)}
    wait, ahead = in_two_stages(draw, "real-time"), in_two_stages(draw)
    both = in_two_stages(draw)
    edges = instance_of(draw)
    pairs = [(edges.names[i], edges.names[j]) for i, j in edges.edges]
    prices = dict(zip([*pairs, *((b, a) for a, b in pairs)], edges.price, strict=True))
    capacity = dict(zip(pairs, edges.capacity, strict=True))
    dearer = {pair: b + 0.15 for pair, b in prices.items()}
    p2p.add_trades(both, pairs, capacity=capacity, price=dearer, fee=0.15)
    rows = []
    for n in (wait, both, ahead):
        of_chi = [
            social_cost(n, p2p.PeerToPeerMarket(surplus=False, risk=r)) for r in risk.values()
        ]
        assert (np.diff(of_chi) >= -1e-7).all()
        hedged = p2p.PeerToPeerMarket(surplus=False, risk=p2p.CVaR(), contracts=p2p.Contracts())
        bare = p2p.PeerToPeerMarket(surplus=False, risk=p2p.CVaR())
        assert social_cost(n, hedged) <= social_cost(n, bare) + 1e-7
        assert p2p.certify(n).is_equilibrium()
        rows.append(of_chi[0])
    assert (np.diff(rows) >= -1e-7).all()
    assert rows[2] - rows[0] > 1e-3


def test_congested_trades_day_ahead() -> None:
    """a > 0, risk-neutral: both designs by the reference, and the equilibrium costs more."""
    draw = Draw(3, congestion=True)
    costs = {}
    for design in ("centralized", "peer-to-peer"):
        n, setting = in_two_stages(draw), Setting(design=design)
        social_cost(n, market(setting, draw))
        r = p2p.results(n)
        p = r["cost"].copy(
            data=np.broadcast_to(instance_of(draw).probability[:, None], r["cost"].shape)
        )
        costs[design] = float((p * r["cost"]).sum())
        expected = reference(setting, draw).expected_social_cost
        assert costs[design] == pytest.approx(expected, rel=1e-6)
        assert p2p.certify(n).is_equilibrium()
    assert costs["peer-to-peer"] > costs["centralized"]


def test_unequal_weights_day_ahead(route: str) -> None:
    """Each end has a price of its own; the equilibrium is certified as a generalized one."""
    n = in_two_stages(SMALL)
    weights = [1.0, 2.0, 3.0]
    of = p2p.PeerToPeerMarket(equilibrium="generalized", weights=weights, surplus=False)
    if route == "hook":
        n.optimize(extra_functionality=of, include_objective_constant=False)
    else:
        of.optimize(n)
    found = p2p.certify(n)
    assert found.is_equilibrium()
    assert found.multiplier_misalignment > 1e-3
    assert p2p.results(n)["payment"].isnull().all()
