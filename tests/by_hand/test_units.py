"""Markets by hand, written in W or in MEUR from the start: no unit is special."""

from __future__ import annotations

from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p

#: EUR and MW in the units of the market: how many of its money and power make one.
WRITTEN = {
    "MW, EUR": (1.0, 1.0),
    "MW, MEUR": (1e-6, 1.0),
    "kW, kEUR": (1e-3, 1e3),
    "W, EUR": (1.0, 1e6),
    "MW, kEUR": (1e-3, 1.0),
    "kW, EUR": (1.0, 1e3),
    "kW, MEUR": (1e-6, 1e3),
    "GW, EUR": (1.0, 1e-3),
    "TW, EUR": (1.0, 1e-6),
    "MW, cent": (1e2, 1.0),
    "MW, yen": (160.0, 1.0),
}
EVERY = pytest.mark.parametrize(("m", "q"), WRITTEN.values(), ids=WRITTEN)


def solve(n: pypsa.Network, market: Any, route: str) -> xr.Dataset:
    if route == "direct":
        assert market.optimize(n) == ("ok", "optimal")
    else:
        n.optimize(extra_functionality=market, include_objective_constant=False)
    return p2p.results(n)


def close(found: xr.DataArray, wanted: Any, unit: float = 1.0) -> None:
    """To 1e-6 of the largest."""
    values, wanted = found.to_numpy().squeeze() / unit, np.asarray(wanted)
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def ring(m: float, q: float) -> tuple[pypsa.Network, Any]:
    """Three prosumers, of whom c may generate; each trade's two ends price it differently."""
    n = pypsa.Network()
    price = {
        ("a", "b"): 0.6, ("a", "c"): 0.8, ("b", "a"): 1.2,
        ("b", "c"): 0.9, ("c", "a"): 0.5, ("c", "b"): 0.3,
    }  # fmt: skip
    p2p.add_prosumers(
        n,
        ["a", "b", "c"],
        demand=[6 * q, q, 2 * q],
        demand_max=10 * q,
        utility_quadratic=5 * m / q**2,
        generation_max=[0, 0, 8 * q],
        marginal_cost=[22 * m / q, 16 * m / q, 5 * m / q],
        marginal_cost_quadratic=m / q**2,
        renewable=[4 * q, 4 * q, 0],
    )
    p2p.add_trades(
        n, "complete", capacity=3 * q, price={pair: b * m / q for pair, b in price.items()}
    )
    return n, p2p.PeerToPeerMarket()


@EVERY
def test_three_prosumers_with_prices_of_their_own(m: float, q: float, route: str) -> None:
    """c's price is below her marginal cost 5, so 8 MW of sun are consumed: D = D* - lambda / 10.

    lambda_n = b_nm + zeta_nm (+ xi_nm where n buys 3) on each of n's edges, zeta common to both
    ends: lambda_a = lambda_c + 0.3 by the edge a, c and lambda_b = lambda_c + 0.6 by b, c. The
    edge a, b is at its capacity, a being the buyer. 9 - (3 lambda_c + 0.9) / 10 = 8, so lambda_c
    is 91 / 30. a buys 5.6667 - 4 in all, 3 from b, so sells 1.3333 to c, who buys 1.6967 - 1.3333
    = 0.3633 from b. Utility lost is 5 (0.3333^2 + 0.3633^2 + 0.3033^2) = 1.675667; preferences
    are worth 0.6 * 3 - 0.8 * 1.3333 to a, -1.2 * 3 - 0.9 * 0.3633 to b and 0.5 * 1.3333 +
    0.3 * 0.3633 to c: together -0.742333 = -2227 / 3000. (Trades left at 0: 85 EUR.)
    """
    n, market = ring(m, q)
    r = solve(n, market, route)
    price = np.array([100, 109, 91]) / 30
    target = np.array([6, 1, 2])
    assert float(r.social_cost) / m == pytest.approx(-2227 / 3000, rel=1e-6)
    assert n.objective / m == pytest.approx(-2227 / 3000, rel=1e-6)
    close(r.nodal_price, price, m / q)
    close(r.demand, target - price / 10, q)
    bought = {"a <- b": 3.0, "a <- c": -4 / 3, "b <- c": -10.9 / 30}
    close(r.quantity.sel(trade=list(bought)), list(bought.values()), q)
    close(r.trade_price.sel(trade=list(bought)), [73 / 30, 76 / 30, 82 / 30], m / q)
    close(r.cost, [1.288888889, -3.266944444, 1.235722222], m)
    found = p2p.certify(n)
    assert found.is_equilibrium(), found


def first_market(m: float, q: float) -> pypsa.Network:
    """README's house, shop and farm, before the sun is known to shine."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["house", "shop", "farm"],
        demand=[4 * q, 6 * q, 2 * q],
        demand_max=10 * q,
        utility_quadratic=5 * m / q**2,
        generation_max=[0, 0, 8 * q],
        marginal_cost=10 * m / q,
        marginal_cost_quadratic=m / q**2,
        risk_attitude=[0.2, 0.5, 0.8],
    )
    p2p.add_trades(n, "complete", capacity=5 * q, price=m / q)
    return n


@EVERY
def test_first_market_without_sun(m: float, q: float, route: str) -> None:
    """One price, as both ends of each trade pay 1: house and shop take 10 - 2 lambda / 10 MW.

    The farm generates (lambda - 10) / 2 and, as 2 - lambda / 10 is negative, consumes nothing:
    lambda = 150 / 7, G = 40 / 7. Cost 10 G + G^2 = 4400 / 49 and utility lost 5 (2 (15/7)^2 +
    2^2) = 3230 / 49: 1090 / 7 = 155.7143. (Nobody trading: 5 (16 + 36 + 4) = 280.)
    """
    n = first_market(m, q)
    r = solve(n, p2p.PeerToPeerMarket(risk=p2p.CVaR()), route)
    assert float(r.social_cost) / m == pytest.approx(1090 / 7, rel=1e-6)
    close(r.demand, [13 / 7, 27 / 7, 0], q)
    close(r.generation, [0, 0, 40 / 7], q)
    close(r.nodal_price, [150 / 7] * 3, m / q)
    close(r.quantity.sel(trade=["house <- shop", "house <- farm", "shop <- farm"]),
          [-2 / 3, 53 / 21, 67 / 21], q)  # fmt: skip
    found = p2p.certify(n)
    assert found.is_equilibrium(), found


@EVERY
def test_first_market(m: float, q: float, route: str) -> None:
    """tau / p of house, shop, farm when cloudy: 5/4, 2, 5/2, so lambda / p is that plus zeta.

    House and shop lose lambda / (10 tau / p) of D*, and so does the farm, who generates
    (lambda p / tau - 10) / 2: 12 - 0.3 - 0.17 zeta = 3 + 0.2 zeta - 4.5, so that zeta is
    1320 / 37. In the sun, of which there is too much, zeta = 0. Costs sum to 14834 / 185.
    """
    n = first_market(m, q)
    sun = xr.DataArray(
        [[6 * q, q, q], [0, 3 * q, 0]],
        coords={"scenario": ["sunny", "cloudy"], "prosumer": ["house", "shop", "farm"]},
    )
    p2p.set_scenarios(n, {"sunny": 0.6, "cloudy": 0.4}, xr.Dataset({"renewable": sun}))
    r = solve(n, p2p.PeerToPeerMarket(risk=p2p.CVaR()), route)
    assert float(r.social_cost) / m == pytest.approx(14834 / 185, rel=1e-6)
    close(r.risk_adjusted_probability, [[0.5, 0.2, 0.0], [0.5, 0.8, 1.0]])
    density = np.array([1.25, 2.0, 2.5])
    price = 1320 / 37 / density + 1
    cloudy = r.sel(scenario="cloudy")
    close(cloudy.demand, np.array([4, 6, 2]) - price / 10, q)
    close(cloudy.generation, [0, 0, (price[2] - 10) / 2], q)
    close(r.demand.sel(scenario="sunny", prosumer=["house", "shop"]), [3.9, 5.9], q)
    found = p2p.certify(n)
    assert found.is_equilibrium(), found


@pytest.mark.parametrize("capacity", [10.0, 1e9, 1e12])
def test_no_loads_and_capacities_that_mean_none(capacity: float) -> None:
    """Who eats values the first MW at 12, less 0.6 each, and pays 2 on top; b sells at 5 + y.

    12 - 0.6 x = 5 + x + 2: x = 3.125, and 12 x - 0.3 x^2 - 5 x - x^2 / 2 - 2 x = 7.8125 is gained.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["eater", "b"],
        demand=0.0,
        demand_max=0.0,
        utility_quadratic=1.0,
        generation_max=[0.0, 8.0],
        marginal_cost=[0.0, 5.0],
        marginal_cost_quadratic=[0.0, 0.5],
    )
    n.add(
        "Generator",
        "appetite",
        bus="eater",
        sign=-1,
        p_nom=6.0,
        marginal_cost=-12.0,
        marginal_cost_quadratic=0.3,
    )
    price = {("eater", "b"): 2.0, ("b", "eater"): 0.0}
    p2p.add_trades(n, "complete", capacity=capacity, price=price)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    assert n.objective == pytest.approx(-7.8125, rel=1e-9)
    assert p2p.certify(n).is_equilibrium(1e-9)
