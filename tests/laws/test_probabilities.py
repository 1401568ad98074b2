"""Prices that depend on risk-adjusted probabilities which are one choice of many say so."""

from __future__ import annotations

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p

SCENARIOS = ["x", "y", "z"]


def retailed(seed: int, capacity: float) -> xr.Dataset:
    """Three prosumers, of whom some cost the same in all scenarios; capacities never bind."""
    draw = np.random.default_rng(seed)
    load = draw.uniform(1, 3, 3)
    sun = xr.DataArray(
        draw.uniform(0, 4, (3, 3)) * [1, 1, 0],
        coords={"scenario": SCENARIOS, "prosumer": ["a", "b", "c"]},
    )
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["a", "b", "c"], demand=load, demand_min=0.8 * load, demand_max=load,
        utility_quadratic=100, generation_max=[0, 0, 2], marginal_cost=120,
        marginal_cost_quadratic=5, risk_attitude=[0.1, 0.5, 0.2],
    )  # fmt: skip
    chances = dict(zip(SCENARIOS, [0.5, 0.3, 0.2], strict=True))
    p2p.set_scenarios(n, chances, xr.Dataset({"renewable": sun}))
    p2p.add_retail(
        n, import_price=[300, 310, 300], export_price=80, import_capacity=capacity,
        export_capacity=capacity, peak_price=30,
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=1)
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    assert p2p.certify(n).is_equilibrium()
    return p2p.results(n)


@pytest.mark.parametrize("seed", range(8))
def test_prices_that_limits_far_away_move_are_not_unique(seed: int) -> None:
    """And those that are said to be unique do not move, nor do costs and payments now."""
    one, other = (retailed(seed, capacity) for capacity in (20.0, 1000.0))
    moved = abs(one.nodal_price - other.nodal_price) > 1e-3
    assert not bool((moved & one.price_unique).any())
    assert not bool((moved & other.price_unique).any())
    if seed != 6:  # nobody's cost is the same in two scenarios there
        assert not bool(one.price_unique.all())
    for name in ("cost", "payment_now"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-3)


@pytest.mark.parametrize("together", [False, True])
def test_prices_of_the_three_nodes_are_unique(together: bool) -> None:
    n = p2p.load_grid("three_node")
    aggregate = "community" if together else "prosumers"
    p2p.CentralizedMarket(risk=p2p.CVaR(0.5), aggregate=aggregate, surplus=False).optimize(n)
    assert bool(p2p.results(n).price_unique.all())
