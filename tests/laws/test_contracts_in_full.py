"""Contracts with limits, payoffs and given prices against one cone program (MODEL.md §5, (43))."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.markets.record import recorded
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.hedges import recorded_hedges
from tests.laws.markets import Draw, instance_of
from tests.laws.offers import (
    CONGESTED,
    LARGE,
    MIXED,
    OFFERS,
    SMALL,
    by_prosumer,
    contracts,
    offer,
    package,
)
from tests.reference.contracts import solve_hedged
from tests.reference.instances import network
from tests.reference.package import solved

# Limits and payoffs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "name", "theta"),
    [*((SMALL, name, 1.0) for name in OFFERS), (SMALL, MIXED, 0.6), (LARGE, MIXED, 1.0)],
)
def test_limited_market_is_the_cone_programs(draw: Draw, name: str, theta: float) -> None:
    data = instance_of(draw)
    given = offer(data, name)
    wanted = solve_hedged(data, theta=theta, **given)
    n, r = package(draw, name, theta)
    assert n.objective == pytest.approx(wanted.social_cost, rel=1e-6)
    assert float(r.social_cost) == pytest.approx(wanted.social_cost, rel=1e-6)
    tau = by_prosumer(r, "risk_adjusted_probability")
    np.testing.assert_allclose(tau, wanted.tau, atol=1e-5)
    if "limit" not in given:
        np.testing.assert_allclose(r.contract_price, wanted.price, atol=1e-6)
    np.testing.assert_allclose(r.insurance.sum("prosumer"), wanted.insurance.sum(0), atol=1e-3)


@pytest.mark.parametrize(("draw", "name"), [*((SMALL, name) for name in OFFERS), (LARGE, MIXED)])
def test_limited_contracts_are_an_equilibrium(draw: Draw, name: str) -> None:
    """Volumes clear within limits; who could buy more would not, nor who could sell more.

    A unit is worth sum payoff tau_n to n: no more than alpha if she may still buy, no less if
    she may still sell. tau_n <= gamma, equal where she insures.
    """
    data = instance_of(draw)
    given, (_, r) = offer(data, name), package(draw, name)
    payoff = given.get("payoff", np.eye(data.probability.size))
    volume = by_prosumer(r, "contract_volume" if "payoff" in given else "contract")
    limit = given.get("limit", np.inf)
    assert np.abs(volume).max() <= limit + 1e-9
    np.testing.assert_allclose(volume.sum(0), 0, atol=1e-7)
    tau = by_prosumer(r, "risk_adjusted_probability")
    gain = tau @ payoff.T - r.contract_price.to_numpy()
    assert gain[volume < limit - 1e-6].max() <= 1e-6
    assert gain[volume > 1e-6 - limit].min() >= -1e-6
    insurance = by_prosumer(r, "insurance")
    np.testing.assert_allclose(by_prosumer(r, "contract"), volume @ payoff, atol=1e-9)
    if "insurance_price" in given:
        assert (tau <= given["insurance_price"] + 1e-7).all()
        np.testing.assert_allclose((given["insurance_price"] - tau) * insurance, 0, atol=1e-5)
    premium = volume @ r.contract_price.to_numpy()
    premium = premium + insurance @ given.get("insurance_price", np.zeros(data.probability.size))
    worth = (tau * by_prosumer(r, "cost")).sum(1)
    pays = (tau * (by_prosumer(r, "contract") + insurance)).sum(1)
    np.testing.assert_allclose(r.risk_adjusted_cost, worth - pays + premium, atol=1e-6)


def test_limits_interpolate() -> None:
    """From the market without contracts, at limit 0, down to the complete one."""
    data = instance_of(SMALL)
    risk = p2p.CVaR()

    def cost(**given: Any) -> float:
        market = p2p.PeerToPeerMarket(risk=risk, **given)
        return float(solved(data, market)[1].social_cost)

    limits = [0.0, 0.2, 1.0, 1e3]
    costs = [cost(contracts=p2p.Contracts(limit=limit)) for limit in limits]
    assert (np.diff(costs) <= 1e-7).all()
    assert costs[0] > costs[1] > costs[2] > costs[-1]
    assert costs[0] == pytest.approx(cost(), rel=1e-12)
    assert costs[-1] == pytest.approx(cost(contracts=p2p.Contracts()), rel=1e-7)


def test_no_limit_in_reach_is_none() -> None:
    """Prices and volumes of the complete market, where limits are far away."""
    data = instance_of(SMALL)
    one, other = (
        solved(data, p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=offered))[1]
        for offered in (p2p.Contracts(), p2p.Contracts(limit=1e3))
    )
    np.testing.assert_allclose(one.contract_price, other.contract_price, atol=1e-7)
    np.testing.assert_allclose(one.contract, other.contract, atol=1e-5)


def test_scenarios_that_the_network_has_not() -> None:
    """Without any there is no name to tell of; with some, those not there are named."""
    n = p2p.load_grid("three_node")
    n = n.get_scenario(n.scenarios[0])
    for given in ({"payoff": ["dry"]}, {"payoff": {"dry": 1.0}}, {"insurance_price": {"dry": 1.0}}):
        market = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(**given))
        with pytest.raises(p2p.MarketError, match="scenarios 'dry', but the network has none") as e:
            market.optimize(n)
        assert "certain" not in str(e.value)
        with pytest.raises(p2p.P2PError, match="'dry'"):
            market.optimize(p2p.load_grid("three_node"))


def test_corollary_16_and_where_it_ends() -> None:
    """A unit of every contract is worth its price to everybody, but for limits."""

    def gap(name: str) -> float:
        n, r = package(SMALL, name)
        hedges = recorded_hedges(n, read_market(n), recorded(n))
        assert hedges is not None
        return float(abs(hedges.worth(r.risk_adjusted_probability) - hedges.clearing_price).max())

    assert gap("none") <= 1e-12
    assert gap("some scenarios") <= 1e-7
    assert gap("payoff") <= 1e-7
    assert gap("limit") > 1e-2


def test_payoffs_that_span_the_scenarios_are_complete() -> None:
    """Three contracts in two scenarios, whose worse is all that counts: one too many.

    Costs and what contracts pay are those of Contracts(), a unit of each worth payoff tau.
    """
    data = instance_of(Draw(30, 6, 2, 2))
    payoff = np.array([[-0.2, 0.4], [0.1, -0.2], [0.7, -0.1]])
    one, other = (
        solved(data, p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=offered))[1]
        for offered in (p2p.Contracts(), contracts(data, {"payoff": payoff}))
    )
    assert float(one.social_cost) == pytest.approx(float(other.social_cost), rel=1e-9)
    tau = one.contract_price.to_numpy()
    np.testing.assert_allclose(other.contract_price, payoff @ tau, atol=1e-9)
    np.testing.assert_allclose(other.risk_adjusted_cost, one.risk_adjusted_cost, atol=1e-6)


def test_neutral_members_trade_with_the_rest() -> None:
    """Two of four are risk-neutral, so that volumes between them are free."""
    data = replace(instance_of(SMALL), risk_attitude=np.array([0.0, 0.5, 0.0, 0.8]))
    for name in ("some scenarios", "limit, insured"):
        given = offer(data, name)
        market = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=contracts(data, given))
        r = solved(data, market)[1]
        wanted = solve_hedged(data, **given)
        assert float(r.social_cost) == pytest.approx(wanted.social_cost, rel=1e-6)


@pytest.mark.parametrize("name", ["limit", MIXED])
def test_limited_contracts_with_congestion(name: str) -> None:
    """The fixed point with the partner's quantity held (MODEL.md §4); a planner has none."""
    data = instance_of(CONGESTED)
    given = offer(data, name)
    wanted = solve_hedged(data, theta=0.6, **given)
    n, r = package(CONGESTED, name, 0.6)
    assert n.objective == pytest.approx(wanted.social_cost, rel=1e-5)
    np.testing.assert_allclose(by_prosumer(r, "net_import"), wanted.net_import, atol=1e-3)
    planner = p2p.CentralizedMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(limit=1))
    with pytest.raises(p2p.MarketError, match="not convex"):
        planner.optimize(network(data))


@pytest.mark.parametrize("name", ["insured", MIXED])
def test_both_routes_agree_and_files_keep_them(name: str, tmp_path: Any) -> None:
    n, direct = package(LARGE, name)
    hook = package(LARGE, name, route="hook")[1]
    assert set(direct) == set(hook)
    for key in ("contract", "insurance", "contract_price", "risk_adjusted_cost", "social_cost"):
        np.testing.assert_allclose(direct[key], hook[key], rtol=1e-6, atol=1e-6)
    n.copy().export_to_netcdf(tmp_path / "market.nc")
    again = p2p.results(pypsa.Network(tmp_path / "market.nc"))
    xr.testing.assert_allclose(again, direct)
    assert again.regime.to_numpy().tolist() == direct.regime.to_numpy().tolist()
    direct.to_netcdf(tmp_path / "results.nc")


# Prices other than the clearing one --------------------------------------------------------


def test_the_papers_price_moves_money_only() -> None:
    """MODEL.md §8.4: p = 1/3, chi = (.3, .4, .5): alpha = .476190 everywhere, sum 1.428571.

    At zero premium by tau the two differ in the best scenario only, by .476190 - .047619: that
    is what the paper's column R charges each for W there. Taking it off gives the column at tau,
    and the sums are the same: the constant cancels between prosumers.
    """
    data = replace(
        instance_of(Draw(11, prosumers=3)),
        probability=np.full(3, 1 / 3),
        risk_attitude=np.array([0.3, 0.4, 0.5]),
    )
    clearing, paper = (
        solved(data, p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(price=price)))[1]
        for price in ("clearing", "paper")
    )
    np.testing.assert_allclose(paper.contract_price, 0.476190, atol=1e-6)
    assert float(paper.contract_price.sum()) == pytest.approx(1.428571, abs=1e-6)
    for name in ("cost", "contract", "quantity", "social_cost", "risk_adjusted_probability"):
        np.testing.assert_allclose(paper[name], clearing[name], rtol=1e-12, atol=1e-12)
    best = int(np.argmin(clearing.cost.sum("prosumer").to_numpy()))
    constant = (0.476190 - 0.047619) * paper.contract.isel(scenario=best)
    assert float(abs(constant).max()) > 0.1, "the constant matters"
    repriced = paper.risk_adjusted_cost - constant
    np.testing.assert_allclose(repriced, clearing.risk_adjusted_cost, atol=1e-4)
    assert float(constant.sum()) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("name", "aggregate"), [("insured", "community"), (MIXED, "prosumers")])
def test_given_prices_move_money_only(name: str, aggregate: str) -> None:
    data = instance_of(SMALL)
    given = offer(data, name)
    risk = p2p.CVaR(attitude=float(data.risk_attitude.min()))
    price = [0.4, 0.1] if "payoff" in given else [0.1, 0.2, 0.3, 0.4]
    clearing, fixed = (
        solved(
            data,
            p2p.CentralizedMarket(
                aggregate=aggregate, risk=risk, contracts=contracts(data, given, **more)
            ),
        )[1]
        for more in ({}, {"price": price})
    )
    np.testing.assert_allclose(fixed.contract_price, price)
    volume = "contract_volume" if "payoff" in given else "contract"
    moved = ((fixed.contract_price - clearing.contract_price) * fixed[volume]).sum(
        fixed.contract_price.dims
    )
    difference = fixed.risk_adjusted_cost - clearing.risk_adjusted_cost
    np.testing.assert_allclose(difference, moved, atol=1e-9)
    assert float(fixed.social_cost) == pytest.approx(float(clearing.social_cost), rel=1e-9)
    np.testing.assert_allclose(fixed.contract, clearing.contract, atol=1e-12)
