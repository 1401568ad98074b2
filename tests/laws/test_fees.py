"""Laws of fees on |q|: against an independent solver, in limits, and scaled together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.solution import prices
from tests.conformance.markets import meshed
from tests.reference.instances import Instance, edges_turned, random_instance
from tests.reference.package import as_solution, market_of, solved
from tests.reference.solve import solve

SETTINGS: dict[str, dict[str, Any]] = {
    "centralized": {"design": "centralized"},
    "peer-to-peer": {"design": "peer-to-peer"},
    "averse": {"design": "peer-to-peer", "risk": ("CVaR", None, 1.0)},
    "half averse": {"design": "centralized", "risk": ("CVaR", None, 0.5)},
    "community": {"design": "centralized", "risk": ("CVaR", 0.6, 1.0), "aggregate": "community"},
    "contracts": {"design": "peer-to-peer", "risk": ("CVaR", None, 1.0), "contracts": True},
}


def draw(seed: int, setting: str = "peer-to-peer", fees: float = 0.8) -> Instance:
    """Of 2 to 5 prosumers; congested where the design allows it and the seed is odd."""
    convex = setting in ("centralized", "peer-to-peer", "community")
    size = 2 + seed % 4, 2 + seed % 2, 1 + seed % 2
    return random_instance(seed, *size, congestion=convex and seed % 2 == 1, fees=fees)


def weighted_fees(n: pypsa.Network, r: xr.Dataset) -> float:
    """Expected fees, EUR."""
    return float((n.scenario_weightings["weight"].to_numpy() * r.fee_revenue).sum())


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_solver_finds_the_same(seed: int, setting: str, surplus: bool) -> None:
    instance = draw(seed, setting)
    n, r = solved(instance, market_of(instance, surplus=surplus, **SETTINGS[setting]))
    found, wanted = as_solution(instance, r), solve(instance, surplus=surplus, **SETTINGS[setting])
    size = max(1.0, abs(wanted.social_cost))
    assert found.social_cost == pytest.approx(wanted.social_cost, abs=1e-6 * size)
    if "risk" not in SETTINGS[setting]:
        assert found.demand == pytest.approx(wanted.demand, abs=1e-4)
        assert found.cost.sum(axis=0) == pytest.approx(wanted.cost.sum(axis=0), abs=1e-4)
    assert p2p.certify(n).is_equilibrium()


def test_both_routes_agree() -> None:
    instance = draw(3)
    market = market_of(instance, "peer-to-peer", ("CVaR", None, 1.0))
    (_, hook), (_, direct) = (
        solved(replace(instance, congestion=0 * instance.congestion), market, route)
        for route in ("hook", "direct")
    )
    for name in ("quantity", "nodal_price", "cost", "fee", "bill"):
        xr.testing.assert_allclose(hook[name], direct[name], atol=1e-6)
    # Where a fee keeps an edge idle in a scenario that the buyer does not weigh, many prices do.
    weighs = direct.risk_adjusted_probability.sel(prosumer=direct.buyer) > 1e-6
    one_price = (abs(direct.quantity) > 1e-6) | weighs.drop_vars("prosumer")
    prices = [r.trade_price.where(one_price) for r in (hook, direct)]
    xr.testing.assert_allclose(*prices, atol=1e-6)
    assert 0.5 < float(one_price.mean()) < 1.0


@pytest.mark.parametrize(("seed", "surplus"), [(2, True), (4, False)])
def test_fees_scaled_up_together_never_raise_what_is_traded_against_them(
    seed: int, surplus: bool
) -> None:
    """Sum p w f |q| over the fees' scale falls: f is the slope of the least cost in the scale."""
    instance = draw(seed)
    per_scale = []
    for scale in (0.05, 0.5, 1.0, 3.0):
        scaled = replace(instance, fee=scale * instance.fees)
        n, r = solved(scaled, market_of(scaled, "peer-to-peer", surplus=surplus))
        per_scale.append(weighted_fees(n, r) / scale)
    assert (np.diff(per_scale) <= 1e-6 * (1.0 + per_scale[0])).all()
    assert per_scale[-1] < per_scale[0] or per_scale[0] < 1e-6


@pytest.mark.parametrize("setting", ["peer-to-peer", "averse", "contracts"])
def test_a_fee_of_nothing_is_no_fee(setting: str) -> None:
    instance = draw(2, setting)
    market = market_of(instance, **SETTINGS[setting])
    none, zero = replace(instance, fee=None), replace(instance, fee=0 * instance.fees)
    (plain, r), (n, same) = solved(none, market), solved(zero, market)
    xr.testing.assert_identical(r, same)
    assert plain.model.nvars == n.model.nvars
    assert plain.model.ncons == n.model.ncons
    tiny, nearly = solved(replace(instance, fee=1e-9 + 0 * instance.fees), market)
    assert float(nearly.social_cost) == pytest.approx(float(r.social_cost), abs=1e-6)
    assert p2p.certify(tiny).is_equilibrium()


@pytest.mark.parametrize("fee", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("setting", ["peer-to-peer", "averse"])
def test_a_fee_above_all_differences_is_no_trade(setting: str, fee: float) -> None:
    """Where everybody can do without, as in these markets."""
    instance = draw(2, setting)
    market = market_of(instance, surplus=False, **SETTINGS[setting])
    _, alone = solved(replace(instance, capacity=0 * instance.capacity), market)
    n, r = solved(replace(instance, fee=fee + 0 * instance.fees), market)
    assert float(abs(r.quantity).max()) < 1e-7
    assert float(r.social_cost) == pytest.approx(float(alone.social_cost), abs=1e-5)
    assert p2p.certify(n).is_equilibrium()


def test_net_costs_and_fees_are_all_that_is_paid() -> None:
    """Payments cancel, fees do not: net costs sum to costs, in which all fees are."""
    instance = draw(4)
    n, r = solved(instance, market_of(instance, "peer-to-peer"))
    dims = ["prosumer"]
    assert r.payment.sum(dims).values == pytest.approx(0.0, abs=1e-6)
    assert r.net_cost.sum(dims).values == pytest.approx(r.cost.sum(dims).values, abs=1e-6)
    assert r.fee.sum(dims).values == pytest.approx(r.fee_revenue.values)
    fees = weighted_fees(n, r)
    assert fees > 0.01
    assert float(r.social_cost_without_fees) == pytest.approx(float(r.social_cost) - fees)


def test_the_direction_of_an_edge_does_not_matter() -> None:
    instance = draw(4)
    market = market_of(instance, "peer-to-peer")
    r, turned = (solved(one, market)[1] for one in (instance, edges_turned(instance)))
    assert r.fee.values == pytest.approx(turned.fee.values, abs=1e-6)
    assert r.nodal_price.values == pytest.approx(turned.nodal_price.values, abs=1e-5)


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("seed", [1, 4])
def test_prices_are_explained_with_their_fees(seed: int, surplus: bool) -> None:
    instance = draw(seed)
    n, r = solved(instance, market_of(instance, "peer-to-peer", surplus=surplus))
    nodal = r.nodal_price.sel(prosumer=r.buyer).values
    for found in (prices.price_from_trades(n), prices.price_from_partner(n)):
        assert found.values == pytest.approx(nodal, abs=1e-5)
    assert prices.implied_trade_price(n).values == pytest.approx(r.trade_price.values, abs=1e-5)


@pytest.mark.parametrize("risk", [None, p2p.CVaR()], ids=["neutral", "averse"])
def test_fees_on_what_a_grid_delivers(risk: Any) -> None:
    """On a random grid with a narrow line; some edges without a fee."""
    n = meshed(2, 2.0)
    edges = n.c.links.static["carrier"] == "p2p"
    fees = np.random.default_rng(0).uniform(0, 0.4, edges.sum() // 2) * (np.arange(10) > 2)
    n.c.links.static.loc[edges, "fee0"] = np.tile(fees, 2)
    n.c.links.static.loc[edges, "fee1"] = np.tile(fees[::-1], 2)
    free = meshed(2, 2.0)
    market = p2p.PeerToPeerMarket(delivery="grid", risk=risk)
    for one in (n, free):
        market.optimize(one)
        assert p2p.certify(one).is_equilibrium()
    r, without = p2p.results(n), p2p.results(free)
    assert float(r.fee_revenue.min()) > 0.0
    assert float(r.social_cost) > float(without.social_cost)
    assert float(r.social_cost_without_fees) > float(without.social_cost) - 1e-7


def perturbed(n: pypsa.Network, table: str, edge: str, by: float) -> pypsa.Network:
    """With one number of one edge changed, in the first scenario and hour."""
    other = n.copy()
    column = (n.scenarios[0], edge)
    other.c.links.dynamic[table].loc[n.snapshots[0], column] += by
    return other


def test_certificates_reject_what_a_fee_rules_out() -> None:
    """The price of an idle edge may move as far as fees go; nothing else may."""
    instance = replace(draw(2), fee=0.3 + 0 * draw(2).fees)
    n, r = solved(instance, market_of(instance, "peer-to-peer", surplus=False))
    n.model.solver_model = None
    first = abs(r.quantity.isel(snapshot=0, scenario=0))
    edges = n.c.links.static.xs(n.scenarios[0]).index
    idle, busy = (
        edges[first.to_numpy().argmin() % len(edges)],
        edges[first.to_numpy().argmax() % len(edges)],
    )
    assert p2p.certify(n).is_equilibrium()
    for table in ("p0", "p1", "mu_reciprocity"):
        assert not p2p.certify(perturbed(n, table, busy, 1e-3)).is_equilibrium()
    for table, by in (("p0", 1e-3), ("p1", 1e-3), ("mu_reciprocity", 0.7)):
        assert not p2p.certify(perturbed(n, table, idle, by)).is_equilibrium()


def test_certificates_reject_who_trades_as_if_there_were_no_fee() -> None:
    instance = replace(draw(2), fee=None)
    n, _ = solved(instance, market_of(instance, "peer-to-peer"))
    n.c.links.static[["fee0", "fee1"]] = 0.3
    n.meta["p2p"] = {**n.meta["p2p"], "inputs": {}}
    found = p2p.certify(n)
    assert found.residuals["trades (12), (22)"] > 1e-3
    assert float(found.exploitability.max()) > 1e-4
