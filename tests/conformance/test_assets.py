"""Any PyPSA asset behind a prosumer's meter, against the cone program, on both routes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.conformance.assets import (
    Asset,
    Battery,
    Heating,
    LinearGenerators,
    Reference,
    StoreBehindLinks,
    solve_with,
)
from tests.reference.instances import Instance, network, random_instance

ASSETS: dict[str, tuple[Asset, ...]] = {
    "cyclic battery": (Battery(0, cyclic=True),),
    "battery": (Battery(1, cyclic=False),),
    "store": (StoreBehindLinks(0),),
    "heat": (Heating(2),),
    "linear": (LinearGenerators(1),),
    "all": (
        Battery(0, cyclic=True),
        Battery(1, cyclic=False),
        StoreBehindLinks(0),
        Heating(2),
        LinearGenerators(1),
    ),
}
DESIGNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "neutral": ({}, {}),
    "averse": ({"risk": p2p.CVaR()}, {"averse": True}),
    "mixed": (
        {"risk": p2p.CVaR(weight=0.6), "surplus": False},
        {"averse": True, "theta": 0.6, "surplus": False},
    ),
    "contracts": (
        {"risk": p2p.CVaR(), "contracts": p2p.Contracts()},
        {"averse": True, "contracts": True},
    ),
}
CASES = [("all", design) for design in DESIGNS] + [
    (asset, "averse") for asset in ASSETS if asset != "all"
]
EVERY = pytest.mark.parametrize(("asset", "design"), CASES)


@cache
def instance() -> Instance:
    """Three prosumers, two scenarios, three snapshots of unequal length."""
    return random_instance(5, 3, 2, 3)


@cache
def wanted(asset: str, design: str) -> Reference:
    return solve_with(instance(), ASSETS[asset], **DESIGNS[design][1])


@cache
def found(asset: str, design: str, route: str) -> tuple[pypsa.Network, xr.Dataset]:
    data = instance()
    n = network(data)
    for one in ASSETS[asset]:
        one.add(n, data.names[one.prosumer])
    market = p2p.PeerToPeerMarket(**DESIGNS[design][0])
    if route == "direct":
        assert market.optimize(n) == ("ok", "optimal")
    else:
        status = n.optimize(extra_functionality=market, log_to_console=False)
        assert status == ("ok", "optimal")
    return n, p2p.results(n)


def cared(r: xr.Dataset) -> xr.DataArray:
    """tau > 0: elsewhere a risk-averse prosumer is indifferent."""
    return r.risk_adjusted_probability > 1e-4


@EVERY
def test_social_cost(asset: str, design: str, route: str) -> None:
    n, r = found(asset, design, route)
    cost = wanted(asset, design).social_cost
    assert float(r.social_cost) == pytest.approx(cost, rel=1e-6)
    assert n.objective == pytest.approx(cost, rel=1e-6)


@EVERY
def test_demand_and_prices(asset: str, design: str, route: str) -> None:
    """Unique where somebody cares: utilities are strictly concave."""
    _, r = found(asset, design, route)
    reference, dims = wanted(asset, design), ("prosumer", "scenario", "snapshot")
    demand = r.demand.where(cared(r), 0.0).transpose(*dims)
    keep = cared(r).transpose("prosumer", "scenario").to_numpy()[:, :, None]
    np.testing.assert_allclose(demand, reference.demand * keep, atol=1e-5)
    inside = (r.demand > 1e-4) & (
        r.demand < xr.DataArray(instance().demand_max, dims="prosumer") - 1e-4
    )
    lower = xr.DataArray(instance().demand_min, dims="prosumer")
    inside &= r.demand > lower + 1e-4
    unique = (inside & cared(r)).transpose(*dims).to_numpy()
    price = r.nodal_price.transpose(*dims).to_numpy()
    density = r.risk_adjusted_probability.transpose("prosumer", "scenario").to_numpy()
    with np.errstate(divide="ignore"):
        money = reference.nodal_price * (instance().probability / density)[:, :, None]
    np.testing.assert_allclose(price[unique], money[unique], atol=1e-5)


@EVERY
def test_balance_of_every_prosumer(asset: str, design: str, route: str) -> None:
    """demand = generation + renewable + net_import, storage and links among generation."""
    _, r = found(asset, design, route)
    np.testing.assert_allclose(r.demand, r.generation + r.renewable + r.net_import, atol=1e-8)


@EVERY
def test_risk_adjusted_costs_add_up(asset: str, design: str, route: str) -> None:
    """sum_n R_n is the optimum, and so is sum tau Pi: the reported costs miss no asset."""
    _, r = found(asset, design, route)
    weighted = float((r.risk_adjusted_probability * r.cost).sum())
    assert weighted == pytest.approx(wanted(asset, design).social_cost, rel=1e-6)
    assert float(r.risk_adjusted_cost.sum()) == pytest.approx(weighted, rel=1e-6)


@EVERY
def test_routes_agree(asset: str, design: str) -> None:
    _, hook = found(asset, design, "hook")
    _, direct = found(asset, design, "direct")
    for name in direct:
        np.testing.assert_allclose(hook[name], direct[name], rtol=1e-6, atol=1e-6, err_msg=name)
