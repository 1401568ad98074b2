"""Every way of explaining a nodal price gives the market's own multiplier."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p import prices
from tests.reference.instances import network, random_instance
from tests.reference.package import market_of

TOLERANCE = 1e-6
#: Seed, congestion, design, risk, contracts and surplus of the markets looked at.
CASES: dict[str, Any] = {
    "centralized": (1, False, "centralized", None, False, True),
    "peer-to-peer": (2, False, "peer-to-peer", None, False, False),
    "centralized congested": (3, True, "centralized", None, False, True),
    "peer-to-peer congested": (3, True, "peer-to-peer", None, False, True),
    "peer-to-peer congested equality": (4, True, "peer-to-peer", None, False, False),
    "averse": (5, False, "peer-to-peer", ("CVaR", None, 0.7), False, True),
    "very averse": (6, False, "peer-to-peer", ("CVaR", None, 1.0), False, True),
    "contracts": (7, True, "centralized", ("CVaR", None, 1.0), True, True),
    "community": (8, True, "centralized", ("CVaR", 0.6, 0.8), False, False),
}
EVERY = pytest.mark.parametrize("case", CASES)
CARRIERS = ("elastic demand", "flexible generation")


@cache
def solved(case: str) -> tuple[pypsa.Network, xr.Dataset]:
    seed, congestion, design, risk, contracts, surplus = CASES[case]
    instance = random_instance(seed, 5, 4, 2, congestion=congestion)
    n = network(instance)
    aggregate = "community" if case == "community" else "prosumers"
    market_of(instance, design, risk, aggregate, contracts, surplus).optimize(n)
    return n, p2p.results(n)


def distances(n: pypsa.Network, r: xr.Dataset, carrier: str) -> tuple[xr.DataArray, xr.DataArray]:
    """MW from the lower and the upper limit of the generators of a carrier, by prosumer."""
    g = n.generators.xs(n.scenarios[0])
    names = g.index[g.carrier == carrier]
    power, low, high = (
        np.stack([n.get_switchable_as_dense("Generator", a)[s][names] for s in n.scenarios])
        for a in ("p", "p_min_pu", "p_max_pu")
    )
    size = g.p_nom[names].to_numpy()
    coords = {
        "scenario": list(n.scenarios),
        "snapshot": n.snapshots,
        "prosumer": g.bus[names].to_numpy(),
    }
    return tuple(
        xr.DataArray(values, coords).reindex(scenario=r.scenario, prosumer=r.prosumer)
        for values in (power - size * low, size * high - power)
    )


@EVERY
@pytest.mark.parametrize("carrier", CARRIERS)
def test_price_from_own_decision(case: str, carrier: str) -> None:
    """(17), (18): the last MWh is worth, or costs, the price; at a limit, on its own side of it."""
    n, r = solved(case)
    below, above = distances(n, r, carrier)
    if carrier == "elastic demand":
        price, limit = prices.price_from_demand(n), prices.demand_limit_price(n)
        below, above = above, below  # the generator gives D* - D
    else:
        price, limit = prices.price_from_generation(n), prices.generation_limit_price(n)
    inside = (below > 1e-4) & (above > 1e-4)
    assert inside.any()
    assert abs(price - r.nodal_price).where(inside).max() < TOLERANCE
    assert abs(limit).where(inside).max() < TOLERANCE
    assert not ((limit < -TOLERANCE) & (below > 1e-4)).any()
    assert not ((limit > TOLERANCE) & (above > 1e-4)).any()
    assert price.notnull().any("scenario").equals(below.notnull().any("scenario"))


@EVERY
def test_price_from_balance(case: str) -> None:
    """(17), (18) put into (3): net imports and data alone give the price."""
    n, r = solved(case)
    price = prices.price_from_balance(n)
    assert price.notnull().sum() >= price.size / 2
    assert abs(price - r.nodal_price).max() < TOLERANCE


def test_limit_prices_by_hand() -> None:
    """D <= 1 of D* = 3 at a~ = 1 is worth 2 * 2 = 4; G <= 1 at cost 1 meets it. lambda in [1, 4].

    mu + nu = 4 - 1, however the price divides it between the two limits.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["a"],
        demand=3.0,
        demand_max=1.0,
        utility_quadratic=1.0,
        generation_max=1.0,
        marginal_cost=1.0,
    )
    p2p.PeerToPeerMarket().optimize(n)
    mu, nu = prices.demand_limit_price(n).item(), prices.generation_limit_price(n).item()
    assert min(mu, nu) > -1e-8
    assert mu + nu == pytest.approx(3.0)
    assert np.isnan(prices.price_from_balance(n).item())


def test_price_from_balance_by_hand() -> None:
    """D* = 6, a~ = .5, G: b = 1, a = 2, buys nothing: D = 6 - l, G = (l - 1) / 2, so l = 13/3."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["a", "b"],
        demand=6.0,
        demand_max=10.0,
        utility_quadratic=0.5,
        generation_max=10.0,
        marginal_cost=1.0,
        marginal_cost_quadratic=1.0,
    )
    p2p.add_trades(n, [("a", "b")], capacity=5.0, price=1.0)
    p2p.PeerToPeerMarket().optimize(n)
    for explained in (prices.price_from_balance, prices.price_from_demand):
        np.testing.assert_allclose(explained(n), 13 / 3, rtol=1e-8)
    np.testing.assert_allclose(prices.price_from_generation(n), 13 / 3, rtol=1e-8)
    np.testing.assert_allclose(prices.implied_trade_price(n), 13 / 3 - 1, rtol=1e-8)


@EVERY
def test_price_from_trades(case: str) -> None:
    """(12), (22): every trade gives the price of its buyer, by itself and from its seller's."""
    n, r = solved(case)
    buyer = r.nodal_price.sel(prosumer=r.buyer)
    tau = r.risk_adjusted_probability
    weighed = (np.minimum(*(tau.sel(prosumer=end).values for end in (r.buyer, r.seller))) > 1e-6)[
        :, None
    ]
    from_trades, from_partner = prices.price_from_trades(n), prices.price_from_partner(n)
    for explained in (from_trades, from_partner):
        assert explained.dims == ("scenario", "snapshot", "trade")
    np.testing.assert_allclose(from_trades, buyer.where(from_trades.notnull()), atol=TOLERANCE)
    assert from_trades.notnull().equals(r.trade_price.notnull())
    np.testing.assert_allclose(from_partner, buyer.where(weighed), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(prices.implied_trade_price(n), r.trade_price, atol=TOLERANCE)


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_price_gap_between_designs(seed: int, surplus: bool) -> None:
    """Remark 6, from both designs' own duals: p a (q_mn - q_nm) is all they differ by.

    What is left of a price difference once preferences, import and capacity prices are taken off
    is 0 in the centralized design and the gap in the peer-to-peer design.
    """
    instance = random_instance(seed, 5, 3, 2, congestion=True)
    left, gap = {}, {}
    for design in ("centralized", "peer-to-peer"):
        n = network(instance)
        market_of(instance, design, surplus=surplus).optimize(n)
        r = p2p.results(n)
        flipped = np.roll(np.arange(r.sizes["trade"]), r.sizes["trade"] // 2)
        links = n.links.xs(n.scenarios[0])
        b = np.concatenate([links.price0, links.price1])
        own = b + r.import_price.sel(prosumer=r.buyer).values + r.capacity_price.values
        price = r.nodal_price.sel(prosumer=r.buyer).values
        left[design] = (price - price[..., flipped]) - (own - own[..., flipped])
        q, a = r.quantity.values, np.tile(links.congestion, 2)
        gap[design] = prices.price_gap_between_designs(n)
        np.testing.assert_allclose(gap[design], a * (q - q[..., flipped]), atol=1e-12)
    np.testing.assert_allclose(left["centralized"], 0, atol=TOLERANCE)
    np.testing.assert_allclose(left["peer-to-peer"], gap["peer-to-peer"], atol=TOLERANCE)
    assert abs(gap["peer-to-peer"]).max() > 0.1


@EVERY
def test_surplus_is_sold_only_where_prices_let_it(case: str) -> None:
    """Proposition 3: a surplus needs an edge without price."""
    n, _ = solved(case)
    sold = prices.surplus(n) > 1e-6
    can = prices.surplus_can_be_sold(n)
    assert not (sold & ~can).any()
    assert can.any() == sold.any()
    if not CASES[case][-1]:
        assert not can.any()


def test_surplus_by_hand() -> None:
    """Free energy: a has 5 MW too much that b does not want; the grid operator pays p0 = 2, b = 1.

    Selling a MWh brings a b + p0 = 3, which is her price, and the edge's is 0. At p0 = -2 it
    costs her 1 MWh 1 EUR, and nothing she has to give away is worth that: her price is -1.
    """
    for import_price, price in ((2.0, 3.0), (-2.0, -1.0)):
        n = pypsa.Network()
        p2p.add_prosumers(
            n,
            ["a", "b"],
            demand=[1.0, 0.0],
            demand_max=[1.0, 0.0],
            utility_quadratic=50.0,
            renewable=[6.0, 0.0],
            import_price=import_price,
        )
        p2p.add_trades(n, [("a", "b")], capacity=10.0, price=1.0)
        p2p.PeerToPeerMarket().optimize(n)
        found = p2p.results(n).nodal_price.sel(prosumer="a").item()
        assert found == pytest.approx(price, abs=1e-6)
        assert prices.surplus_can_be_sold(n).all()
        assert float(prices.surplus(n).min()) > 4.9
