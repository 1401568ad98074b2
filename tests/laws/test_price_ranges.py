"""Ends of prices that are one of a range: of any answer the same (MODEL.md §4)."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p

PRECISE = {"rtol": 0.0, "atol": 1e-6}


def steps(seed: int) -> pypsa.Network:
    """Five prosumers whose demand and supply are steps, over four hours."""
    rng, names = np.random.default_rng(seed), list("abcde")
    n = pypsa.Network(snapshots=range(4))
    p2p.add_prosumers(
        n, names, demand=rng.integers(0, 4, 5), demand_max=4, utility_quadratic=0,
        generation_max=rng.integers(0, 4, 5), marginal_cost=rng.integers(5, 40, 5),
    )  # fmt: skip
    bids = n.generators.index[n.generators.index.str.endswith("elastic demand")]
    n.generators.loc[bids, "marginal_cost"] = np.round(rng.uniform(20, 50, 5))
    p2p.add_trades(n, "complete", capacity=3)
    return n


@pytest.mark.parametrize("seed", [3, 5, 6])
def test_agents_prices_have_the_same_ends(seed: int) -> None:
    """Their answer is not exact, in any of the hours."""
    n, market = steps(seed), p2p.PeerToPeerMarket()
    market.optimize(n)
    central, ends = p2p.results(n), p2p.price_range(n)
    assert (ends.greatest > ends.least + 1).all()
    p2p.solve_equilibrium(n, market, p2p.ADMM(tolerance=1e-7), progress=False)
    agents, theirs = p2p.results(n), p2p.price_range(n)
    for name in ends:
        np.testing.assert_allclose(theirs[name], ends[name], **PRECISE)
    np.testing.assert_allclose(agents.nodal_price, central.nodal_price, rtol=0, atol=1e-4)
    xr.testing.assert_equal(agents.price_unique, central.price_unique)


def with_a_hub() -> pypsa.Network:
    """Three prosumers and a hub without assets; one scenario is nobody's concern."""
    rng, names = np.random.default_rng(1), ["a", "b", "c", "hub"]
    n = pypsa.Network(snapshots=range(3))
    p2p.add_prosumers(
        n, names, demand=[4, 5, 3, 0], demand_max=[8, 9, 6, 0],
        utility_quadratic=[0.5, 0.7, 0.4, 0], generation_max=[0, 6, 9, 0],
        marginal_cost=[0, 4, 2, 0], marginal_cost_quadratic=[0, 0.3, 0.2, 0],
        renewable=[2, 0, 0, 0], import_price=1.0, risk_attitude=[0.2, 0.9, 0.5, 0.3],
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=3, price=0.1)
    coords = {"scenario": ["s1", "s2", "s3"], "snapshot": range(3), "prosumer": ["a"]}
    sun = xr.DataArray(rng.uniform(0, 4, (3, 3, 1)), coords, [*coords])
    p2p.set_scenarios(n, {"s1": 0.5, "s2": 0.3, "s3": 0.2}, xr.Dataset({"renewable": sun}))
    return n


def test_who_only_passes_on_has_one_price() -> None:
    """A unit more for the hub costs what she pays for it, the price of her trades, and b + p0.

    She has no risk, and may hold any probabilities: also of the limit in which she weighs s3.
    """
    n, market = with_a_hub(), p2p.PeerToPeerMarket(risk=p2p.CVaR())
    hooked = n.copy()
    market.optimize(n)
    hooked.optimize(extra_functionality=market, log_to_console=False)
    r = p2p.results(n)
    assert float(r.risk_adjusted_probability.sel(scenario="s3").max()) == 0.0
    assert r.price_unique.all()
    np.testing.assert_allclose(p2p.results(hooked).nodal_price, r.nodal_price, **PRECISE)
    hers = r.sel(trade=r.buyer == "hub").sel(prosumer="hub")
    traded = (abs(hers.quantity) > 1e-3) & (abs(hers.quantity) < 3 - 1e-3)
    assert traded.sel(scenario="s3").any("trade").all()
    paid = (hers.trade_price + 0.1 + 1.0 - hers.nodal_price).where(traded)
    np.testing.assert_allclose(paid.fillna(0.0), 0.0, **PRECISE)
    assert p2p.certify(n).is_equilibrium()


def test_ranges_where_a_scenario_is_nobodys_concern() -> None:
    """One MWh is wanted, offered at 10 and at 30, two at the peak, which alone counts.

    Of the community as one every scenario has its ends; of each for herself only what she weighs.
    """
    wanted = xr.DataArray([[1.0], [2.0]], {"scenario": ["usual", "peak"], "prosumer": ["buyer"]})
    for together in (True, False):
        n = pypsa.Network()
        p2p.add_prosumers(
            n, ["cheap", "dear", "buyer"], demand=[0, 0, 1], demand_min=[0, 0, 1],
            demand_max=[0, 0, 1], utility_quadratic=0, generation_max=[1, 2, 0],
            marginal_cost=[10, 30, 0],
        )  # fmt: skip
        p2p.add_trades(n, "complete", capacity=5)
        loads = dict.fromkeys(("demand", "demand_min", "demand_max"), wanted)
        p2p.set_scenarios(n, {"usual": 0.5, "peak": 0.5}, xr.Dataset(loads))
        p2p.CentralizedMarket(
            aggregate="community" if together else "prosumers", risk=p2p.CVaR(attitude=0.9)
        ).optimize(n)
        ends = p2p.price_range(n)
        np.testing.assert_allclose(ends.least.sel(scenario="peak"), 30.0, atol=1e-5)
        np.testing.assert_allclose(ends.greatest.sel(scenario="peak"), 30.0, atol=1e-5)
        if together:
            np.testing.assert_allclose(ends.least.sel(scenario="usual"), 10.0, atol=1e-5)
            np.testing.assert_allclose(ends.greatest.sel(scenario="usual"), 30.0, atol=1e-5)
        else:
            assert ends.sel(scenario="usual").isnull().all().to_array().all()


def test_whom_trading_leaves_no_risk_keeps_her_limit() -> None:
    """Her cost is the same in all scenarios because she trades so: what she weighs is not free.

    In all of them her price is her marginal utility, where she uses neither nothing nor the most.
    """
    rng, count = np.random.default_rng(0), 4
    names, hours = list("abcd"), rng.choice([0.5, 1, 2, 3], 2)
    target, slope = rng.uniform(1, 6, count), rng.uniform(0.5, 5, count)
    n = pypsa.Network(snapshots=range(2))
    n.snapshot_weightings["objective"] = hours
    p2p.add_prosumers(
        n, names, demand=target, demand_max=10, utility_quadratic=slope,
        usage_benefit=rng.uniform(0, 3, count), generation_max=rng.choice([0, 4, 8], count),
        marginal_cost=rng.uniform(1, 20, count), marginal_cost_quadratic=rng.uniform(0.1, 2, count),
        fixed_cost=rng.uniform(0, 2, count), risk_attitude=rng.uniform(0, 0.95, count),
        import_price=rng.uniform(0, 5),
    )  # fmt: skip
    pairs = [pair for two in combinations(names, 2) for pair in (two, two[::-1])]
    p2p.add_trades(n, "complete", capacity=3, price={pair: rng.uniform(0, 1) for pair in pairs})
    coords = {"scenario": ["x", "y", "z"], "snapshot": range(2), "prosumer": names}
    probability, shape = rng.dirichlet(np.full(3, 3.0)), (3, 2, count)
    sun = xr.DataArray(rng.uniform(0, 5, shape) * (rng.random(shape) < 0.6), coords, [*coords])
    wanted = xr.DataArray(rng.uniform(1, 6, shape), coords, [*coords])
    data = xr.Dataset({"renewable": sun, "demand": wanted})
    p2p.set_scenarios(n, dict(zip("xyz", probability, strict=True)), data)
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    r = p2p.results(n)
    unweighed = r.risk_adjusted_probability.broadcast_like(r.demand) == 0.0
    spread = (r.cost.max("scenario") - r.cost.min("scenario")) / r.cost.max("scenario")
    inside = (r.demand > 1e-3) & (r.demand < 10 - 1e-3) & r.nodal_price.notnull()
    assert (inside & unweighed & (spread < 1e-6)).any(), "this market is to have such a prosumer"
    utility = 2 * xr.DataArray(slope, {"prosumer": names}) * (wanted - r.demand)
    np.testing.assert_allclose((r.nodal_price - utility).where(inside, 0.0), 0.0, atol=1e-4)
    assert p2p.certify(n).is_equilibrium()


def test_a_limit_has_a_price_where_nobody_weighs_the_scenario() -> None:
    """Who cannot trade and uses all there is, 1 MW: at least what 1 MW is worth, 2 (1 - 0).

    She has no generation; in the scenario that does not count for her every price from 2 on
    leaves her at her limit, and the finite end is taken.
    """
    n, names = pypsa.Network(), ["a", "s", "t"]
    p2p.add_prosumers(
        n, names, demand=[1, 4, 4], demand_max=10, utility_quadratic=1, generation_max=[0, 9, 9],
        marginal_cost=2, marginal_cost_quadratic=0.5, risk_attitude=0.8,
    )  # fmt: skip
    p2p.add_trades(n, [("s", "t")], capacity=3)
    wanted = xr.DataArray(
        [[1.0, 4, 4], [5, 6, 4]],
        {"scenario": ["x", "y"], "prosumer": names},
        ["scenario", "prosumer"],
    )
    p2p.set_scenarios(n, {"x": 0.5, "y": 0.5}, xr.Dataset({"demand": wanted}))
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    price = p2p.results(n).nodal_price.isel(snapshot=0).transpose("scenario", "prosumer")
    np.testing.assert_allclose(price, [[2, 4, 4], [10, 14 / 3, 14 / 3]], **PRECISE)
    assert p2p.certify(n).is_equilibrium()


IDLE = {"demand": 0, "demand_max": 0, "utility_quadratic": 0, "generation_max": 1}
ELASTIC = {"demand_max": 10, "utility_quadratic": 1, "marginal_cost_quadratic": 0.5}
FIXED = {"demand": 2, "demand_min": 2, "demand_max": 2, "utility_quadratic": 0}


@pytest.mark.parametrize(
    ("data", "capacity", "least", "greatest"),
    [
        ({**IDLE, "marginal_cost": [5, 8, 9]}, 3, [0, 0, 0], [5, 5, 5]),
        (
            {
                **ELASTIC,
                "demand": [2, 6, 4],
                "generation_max": [5, 5, 0],
                "marginal_cost": [3, 4, 0],
            },
            0,
            [10 / 3, 20 / 3, 8],
            [10 / 3, 20 / 3, np.inf],
        ),
        ({**FIXED, "generation_max": 2, "generation_min": 2, "marginal_cost": 3}, 3, 0, np.inf),
        ({**FIXED, "generation_max": 2, "marginal_cost": 3}, 3, 3, np.inf),
    ],
    ids=["nobody buys", "nobody may trade", "nothing is decided", "all at their limits"],
)
def test_ends_where_nobody_trades(
    data: dict[str, Any], capacity: float, least: Any, greatest: Any
) -> None:
    """A price that would make nobody buy, sell or use more than she may."""
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b", "c"], **data)
    p2p.add_trades(n, "complete", capacity=capacity)
    p2p.PeerToPeerMarket().optimize(n)
    ends = p2p.price_range(n)
    found = ends.least.to_numpy().ravel(), ends.greatest.to_numpy().ravel()
    np.testing.assert_allclose(found[0], np.broadcast_to(least, 3), **PRECISE)
    np.testing.assert_allclose(found[1], np.broadcast_to(greatest, 3), **PRECISE)
