"""Contracts that the laws on them offer, and the cone program's solutions (MODEL.md §5, (43))."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.laws.markets import Draw, instance_of
from tests.reference.contracts import Hedged, solve_hedged
from tests.reference.instances import Array, Instance
from tests.reference.package import solved

SMALL, LARGE = Draw(1, prosumers=4, scenarios=4), Draw(5, prosumers=5, scenarios=4, snapshots=2)
CONGESTED = Draw(1, prosumers=3, scenarios=3, congestion=True)
DRAWS = pytest.mark.parametrize("draw", [SMALL, LARGE], ids=str)
#: Where between p and p / (1 - min chi) insurance costs: 0 for nothing, beyond 1 prohibitive.
GENEROSITY = (0.0, 0.3, 0.7, 1.5)
PAYOFF = np.array([[1.0, 0.0, 0.4, 2.0], [0.0, 1.0, 1.5, 0.2]])
OFFERS = ("limit", "limit, insured", "payoff", "some scenarios", "payoff, limit, insured")
MIXED = OFFERS[-1]


def insurance_price(instance: Instance, generosity: float) -> Array:
    """gamma between p and its highest worth, uneven over scenarios, and no arbitrage."""
    p = instance.probability
    cap = p / (1 - instance.risk_attitude.min())
    uneven = np.linspace(0.6, 1.4, p.size) if generosity else 1.0
    price = p + generosity * uneven * (cap - p)
    room = np.minimum(price, cap).sum()
    return price if room >= 1 else price * 1.001 / room


def offer(instance: Instance, name: str) -> dict[str, Any]:
    """Arguments of the reference."""
    given: dict[str, Any] = {}
    scenarios = instance.probability.size
    if "payoff" in name:
        given["payoff"] = PAYOFF[:, :scenarios]
    if name == "some scenarios":
        given["payoff"] = np.eye(scenarios)[:2]
    if "limit" in name:
        given["limit"] = 0.3
    if "insured" in name:
        given["insurance_price"] = insurance_price(instance, 0.5)
    return given


def contracts(instance: Instance, given: dict[str, Any], **more: Any) -> p2p.Contracts:
    """The same for the package."""
    known = {**given, **more}
    if "payoff" in known:
        names = [f"contract {k}" for k in range(len(known["payoff"]))]
        known["payoff"] = pd.DataFrame(known["payoff"], names, instance.scenarios)
    return p2p.Contracts(**known)


@cache
def package(
    draw: Draw, name: str, theta: float = 1.0, route: str = "direct"
) -> tuple[pypsa.Network, xr.Dataset]:
    data = instance_of(draw)
    market = p2p.PeerToPeerMarket(
        risk=p2p.CVaR(weight=theta), contracts=contracts(data, offer(data, name))
    )
    return solved(data, market, route)


@cache
def insured(draw: Draw, generosity: float, theta: float = 1.0) -> xr.Dataset:
    data = instance_of(draw)
    price = insurance_price(data, generosity)
    offered = p2p.Contracts(insurance_price=dict(zip(data.scenarios, price, strict=True)))
    market = p2p.CentralizedMarket(risk=p2p.CVaR(weight=theta), contracts=offered)
    return solved(data, market)[1]


@cache
def reference(draw: Draw, generosity: float, theta: float = 1.0) -> Hedged:
    data = instance_of(draw)
    return solve_hedged(data, theta=theta, insurance_price=insurance_price(data, generosity))


def by_prosumer(r: xr.Dataset, name: str) -> Array:
    values: Array = r[name].transpose("prosumer", ...).to_numpy()
    return values
