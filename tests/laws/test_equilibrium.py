"""Laws of the peer-to-peer design (MODEL.md §4, §7)."""

from __future__ import annotations

import numpy as np
import pytest

import pypsa_p2p as p2p
from tests.laws.markets import (
    CONGESTED,
    DRAWS,
    SMALL,
    Draw,
    Setting,
    instance_of,
    package,
    reference,
    solved_network,
)
from tests.reference.best_response import exploitability
from tests.reference.package import market_of, solved, trade_order, unique_prices
from tests.reference.solve import Solution

EVERY = pytest.mark.parametrize("draw", DRAWS, ids=str)
ONE = pytest.mark.parametrize("draw", [SMALL], ids=str)  # on both routes
SURPLUS = pytest.mark.parametrize("surplus", [True, False], ids=["surplus", "equality"])
MORE_CONGESTED = (CONGESTED, Draw(5, 3, congestion=True))


def gains(draw: Draw, setting: Setting, found: Solution) -> float:
    """The most anybody gains alone, relative to max(1, |objective|)."""
    gain = exploitability(
        instance_of(draw),
        found.demand,
        found.generation,
        found.quantity,
        found.cost,
        setting.risk,
        setting.surplus,
        found.contract_price,
    )
    return float(np.abs(gain).max() / max(1.0, abs(found.social_cost)))


@EVERY
@SURPLUS
@pytest.mark.parametrize("theta", [None, 0.4, 1.0])
def test_centralized_is_an_equilibrium_without_congestion(
    draw: Draw, theta: float | None, surplus: bool
) -> None:
    """Proposition 12: with a = 0 both designs have one cost, dispatch and price."""
    central = package(draw, Setting("centralized", theta, surplus=surplus))
    peers = package(draw, Setting("peer-to-peer", theta, surplus=surplus))
    assert peers.social_cost == pytest.approx(central.social_cost, rel=1e-6)
    cared = (central.tau > 1e-4)[:, :, None]
    demand = np.where(cared, peers.demand, central.demand)
    np.testing.assert_allclose(demand, central.demand, rtol=0, atol=1e-5)
    unique = unique_prices(instance_of(draw), central)
    np.testing.assert_allclose(peers.nodal_price[unique], central.nodal_price[unique], atol=1e-5)


@EVERY
@SURPLUS
@pytest.mark.parametrize(("theta", "contracts"), [(None, False), (1.0, False), (1.0, True)])
def test_nobody_gains_alone(
    draw: Draw, theta: float | None, contracts: bool, surplus: bool
) -> None:
    """Each prosumer's own best response, by the cone program, is what she already does."""
    setting = Setting("peer-to-peer", theta, contracts=contracts, surplus=surplus)
    assert gains(draw, setting, package(draw, setting)) < 1e-6


@pytest.mark.parametrize("draw", MORE_CONGESTED, ids=str)
@SURPLUS
def test_nobody_gains_alone_with_congestion(draw: Draw, surplus: bool) -> None:
    """a > 0, risk-neutral: the potential's minimiser is an equilibrium, the optimum is not."""
    setting = Setting("peer-to-peer", surplus=surplus)
    peers = package(draw, setting)
    assert gains(draw, setting, peers) < 1e-6
    central = package(draw, Setting("centralized", surplus=surplus))
    assert central.social_cost < peers.social_cost - 1e-4
    if surplus:
        assert gains(draw, setting, central) > 1e-5


@pytest.mark.parametrize("draw", MORE_CONGESTED, ids=str)
@SURPLUS
@pytest.mark.parametrize("theta", [0.6, 1.0])
def test_averse_equilibrium_with_congestion(draw: Draw, theta: float, surplus: bool) -> None:
    """a > 0 and risk: no potential; nobody gains alone, and it is the held-partner fixed point."""
    setting = Setting("peer-to-peer", theta, surplus=surplus)
    found = package(draw, setting)
    assert gains(draw, setting, found) < 1e-6
    if theta < 1:
        wanted = reference(draw, setting)
        assert found.social_cost == pytest.approx(wanted.social_cost, rel=1e-5)
        np.testing.assert_allclose(found.demand, wanted.demand, rtol=0, atol=1e-4)


def test_centralized_with_risk_and_congestion_is_refused() -> None:
    """The sum of prosumers' CVaR is not convex: an error that says so, not an answer."""
    data = instance_of(CONGESTED)
    with pytest.raises(p2p.MarketError, match="convex"):
        solved(data, market_of(data, risk=("CVaR", None, 1.0)))


@ONE
@pytest.mark.parametrize("theta", [None, 1.0])
def test_every_edge_has_one_price(draw: Draw, theta: float | None, route: str) -> None:
    """zeta_mn = zeta_nm >= 0 now (the variational equilibrium), 0 where surplus is sold."""
    _, r = solved_network(draw, Setting("peer-to-peer", theta), route)
    prices = r["trade_price"]
    now = prices * r["risk_adjusted_probability"].sel(prosumer=r["buyer"])
    pairs = zip(r["buyer"].to_numpy().tolist(), r["seller"].to_numpy().tolist(), strict=True)
    position = {pair: k for k, pair in enumerate(pairs)}
    for (buyer, seller), k in position.items():
        back = position[seller, buyer]
        one, other = (now.isel(trade=at).to_numpy().squeeze() for at in (k, back))
        both = np.isfinite(one) & np.isfinite(other)  # else only one end weighs the scenario
        np.testing.assert_allclose(one[both], other[both], atol=1e-6)
        sold = -(r["quantity"].isel(trade=k) + r["quantity"].isel(trade=back))
        left_over = sold.to_numpy() > 1e-4
        assert (np.abs(prices.isel(trade=k).to_numpy()[left_over]) < 1e-5).all()
    assert float(prices.min()) > -1e-6
    np.testing.assert_allclose(r["payment_now"].sum("prosumer"), 0, atol=1e-5)


@EVERY
@pytest.mark.parametrize("theta", [None, 1.0])
def test_stationarity_of_trades(draw: Draw, theta: float | None) -> None:
    """(12), (22) at a = 0: b + p0 + xi + zeta = lambda for every directed trade, in its money."""
    data = instance_of(draw)
    _, r = solved_network(draw, Setting("peer-to-peer", theta))
    at = trade_order(data, r)
    zeta, xi = (r[name].to_numpy()[:, :, at] for name in ("trade_price", "capacity_price"))
    own = data.price + data.import_price[:, :, data.buyer]
    price = r.nodal_price.sel(prosumer=list(data.names)).to_numpy()[:, :, data.buyer]
    priced = np.isfinite(zeta)
    np.testing.assert_allclose((own + xi + zeta)[priced], price[priced], atol=1e-5)
    tau = r.risk_adjusted_probability.sel(prosumer=list(data.names)).to_numpy()[:, data.buyer]
    assert priced.transpose(1, 0, 2)[:, tau > 1e-4].all()


@ONE
@pytest.mark.parametrize("theta", [None, 1.0])
def test_pypsa_price_carries_the_probability(draw: Draw, theta: float | None, route: str) -> None:
    """n.buses_t.marginal_price is what a MWh is worth now: tau, or p when neutral, times price."""
    data = instance_of(draw)
    n, r = solved_network(draw, Setting("peer-to-peer", theta), route)
    for k, scenario in enumerate(data.scenarios):
        price = n.buses_t.marginal_price[scenario][list(data.names)].to_numpy()
        own = r["nodal_price"].sel(scenario=scenario, prosumer=list(data.names))
        tau = r.risk_adjusted_probability.sel(scenario=scenario, prosumer=list(data.names))
        weighed = tau.to_numpy() > 1e-4
        wanted = (tau * own).transpose("snapshot", "prosumer").to_numpy()
        np.testing.assert_allclose(price[:, weighed], wanted[:, weighed], rtol=0, atol=1e-6)
        assert theta is not None or tau.to_numpy() == pytest.approx(data.probability[k])


@ONE
def test_trade_conserves_energy_on_links(draw: Draw, route: str) -> None:
    """n.links_t.p0 and p1 are minus what bus0 and bus1 buy: p0 + p1 >= 0 is the surplus."""
    data = instance_of(draw)
    n, r = solved_network(draw, Setting("peer-to-peer"), route)
    trades = list(zip(r["buyer"].to_numpy().tolist(), r["seller"].to_numpy().tolist(), strict=True))
    links = n.links.loc[data.scenarios[0]]
    for link, ends in links[["bus0", "bus1"]].iterrows():
        for port, pair in (("p0", (ends.bus0, ends.bus1)), ("p1", (ends.bus1, ends.bus0))):
            bought = r["quantity"].isel(trade=trades.index(pair))
            for scenario in data.scenarios:
                sent = n.links_t[port][scenario][link].to_numpy()
                np.testing.assert_allclose(sent, -bought.sel(scenario=scenario), atol=1e-6)
