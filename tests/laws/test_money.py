"""Laws of prices and payments: prices are what energy is worth, in money of the scenario (§4).

A hundred random markets of all designs, but generalized equilibria and averse ones with congestion,
which minimise nothing as a whole.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.reference.instances import Instance, network, random_instance
from tests.reference.package import market_of

STEP = 1e-3  # MW
#: By name: design, risk, aggregate, contracts.
DESIGNS = {
    "planner": ("centralized", None, "prosumers", False),
    "peers": ("peer-to-peer", None, "prosumers", False),
    "averse": ("peer-to-peer", ("CVaR", None, 0.8), "prosumers", False),
    "very averse": ("centralized", ("CVaR", None, 1.0), "prosumers", False),
    "community": ("centralized", ("CVaR", 0.6, 1.0), "community", False),
    "contracts": ("peer-to-peer", ("CVaR", None, 1.0), "prosumers", True),
}
AGREEING = ("planner", "peers", "community", "contracts")  # on what money of a scenario is worth


def drawn(seed: int) -> tuple[str, Instance, bool]:
    """Design, market and whether surplus is allowed; every fifth has steps for costs."""
    rng = np.random.default_rng(seed)
    design = list(DESIGNS)[seed % len(DESIGNS)]
    congestion = design in ("planner", "peers", "community") and bool(rng.integers(0, 2))
    instance = random_instance(
        seed, int(rng.integers(2, 6)), int(rng.integers(2, 5)), int(rng.integers(1, 3)),
        congestion=congestion,
    )  # fmt: skip
    if seed % 5 == 0:  # linear costs of generation: prices may lie in a range
        instance = Instance(**{**vars(instance), "a": np.zeros_like(instance.a)})
    return design, instance, bool(rng.integers(0, 2))


def market(seed: int) -> p2p.Market:
    design, instance, surplus = drawn(seed)
    how, risk, aggregate, contracts = DESIGNS[design]
    chosen: p2p.Market = market_of(instance, how, risk, aggregate, contracts, surplus)
    return chosen


@cache
def solved(seed: int) -> tuple[pypsa.Network, xr.Dataset]:
    n = network(drawn(seed)[1])
    market(seed).optimize(n)
    return n, p2p.results(n)


def minimised(seed: int, n: pypsa.Network) -> float:
    """What the design minimises, EUR: its social cost, or of congested peers their potential."""
    r, data = p2p.results(n), drawn(seed)[1]
    cost = float(r.social_cost)
    if drawn(seed)[0] != "peers":
        return cost
    quantity = r.quantity.to_numpy()
    one, other = np.split(quantity, 2, axis=-1)
    hours = data.probability[:, None, None] * data.weighting[:, None]
    return cost - float((hours * data.congestion * one * other).sum())


def worth(seed: int, scenario: int, snapshot: int, who: int, step: float) -> float:
    """What is minimised where a prosumer has to take `step` MW more in an hour of a scenario."""
    n = network(drawn(seed)[1])
    names, data = list(n.scenarios), drawn(seed)[1]
    n.add("Load", "extra", bus=data.names[who], p_set=0.0)
    series = np.zeros((len(n.snapshots), len(names)))
    series[snapshot, scenario] = step
    for k, name in enumerate(names):
        n.loads_t.p_set[(name, "extra")] = series[:, k]
    try:
        market(seed).optimize(n)
    except p2p.MarketError:  # it cannot be had, or not be got rid of
        return np.inf
    return minimised(seed, n)


@pytest.mark.parametrize("seed", range(100))
def test_prices_are_what_energy_is_worth(seed: int) -> None:
    """Finite differences of what the design minimises, over tau w; at a kink between the two."""
    n, r = solved(seed)
    data, rng = drawn(seed)[1], np.random.default_rng(seed)
    tau = r.risk_adjusted_probability.to_numpy()
    s, k = (int(x) for x in rng.choice(np.argwhere(tau > 0.02)))
    t = int(rng.integers(0, len(data.weighting)))
    price = float(r.nodal_price[s, t, k])
    at = minimised(seed, n)
    more, less = (worth(seed, s, t, k, sign * STEP) for sign in (1.0, -1.0))  # or infinite
    unit = STEP * tau[s, k] * data.weighting[t]
    right, left = (more - at) / unit, (at - less) / unit
    bend = right - left
    assert left - 1e-4 <= price <= right + 1e-4
    if bool(r.price_unique[s, t, k]):
        assert bend <= 0.1  # of curvature, in one step: a kink bends more
        assert price == pytest.approx(0.5 * (left + right), abs=1e-4 + 0.5 * bend)


@pytest.mark.parametrize("seed", range(100))
def test_payments_cancel_and_nobody_is_worse_off(seed: int) -> None:
    """payment_now on every edge; net costs are the costs; alone nobody pays less now."""
    _, r = solved(seed)
    design, data, _ = drawn(seed)
    size = max(1.0, float(abs(r.cost).max()))
    assert float(abs(r.payment_now.sum("prosumer")).max()) <= 1e-9 * size
    half = r.sizes["trade"] // 2
    paid = (r.trade_price * r.quantity).to_numpy() * data.weighting[:, None]
    now = paid * r.risk_adjusted_probability.sel(prosumer=r.buyer).to_numpy()[:, None]
    on_edge = now[..., :half] + now[..., half:]
    weighed = np.isfinite(on_edge)
    assert np.abs(on_edge[weighed]).max(initial=0.0) <= 1e-7 * size
    agree = r.payment.notnull().all("prosumer")
    assert bool(agree.all()) or design not in AGREEING
    gap = (r.net_cost.sum("prosumer", skipna=False) - r.cost.sum("prosumer")).where(agree)
    assert not agree.any() or float(abs(gap).max()) <= 1e-7 * size
    if data.congestion.any() or design == "community":
        return
    alone = network(data)
    alone.links["p_nom"] = 0.0
    market(seed).optimize(alone)
    saved = p2p.results(alone).risk_adjusted_cost - r.risk_adjusted_cost
    saved = saved - r.payment_now.sum("scenario")
    assert float(saved.min()) >= -1e-6 * size


@pytest.mark.parametrize("seed", range(100))
def test_inside_her_limits_a_price_is_her_marginal_utility_and_cost(seed: int) -> None:
    """(17), (18) in every scenario and design, whether it is weighed or not."""
    _, r = solved(seed)
    data = drawn(seed)[1]
    demand, generation = (r[v].to_numpy() for v in ("demand", "generation"))
    price = r.nodal_price.to_numpy()
    utility = 2 * data.utility_quadratic * (data.demand.transpose(1, 2, 0) - demand)
    cost = data.a * generation + data.b
    inside = (demand > data.demand_min + 1e-4) & (demand < data.demand_max - 1e-4)
    running = (generation > data.generation_min + 1e-4) & (generation < data.generation_max - 1e-4)
    for marginal, within in ((utility, inside), (cost, running)):
        known = within & np.isfinite(price)
        assert np.abs(price - marginal)[known].max(initial=0.0) <= 1e-5
    lost = r.nodal_price.isnull().to_numpy()
    assert not (lost & (r.risk_adjusted_probability.to_numpy() > 1e-6)[:, None]).any()
    assert not (lost & (inside | running)).any()  # she does all she can where others pay any price


@pytest.mark.parametrize("seed", [s for s in range(100) if drawn(s)[0] == "contracts"])
def test_complete_contracts_have_the_risk_neutral_prices(seed: int) -> None:
    _, r = solved(seed)
    _, instance, surplus = drawn(seed)
    n = network(instance)
    p2p.PeerToPeerMarket(surplus=surplus).optimize(n)
    neutral = p2p.results(n)
    np.testing.assert_allclose(r.nodal_price, neutral.nodal_price, atol=1e-6)
    np.testing.assert_allclose(r.trade_price, neutral.trade_price, atol=1e-6)
    np.testing.assert_array_equal(r.price_unique, neutral.price_unique)
