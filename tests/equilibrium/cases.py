"""Markets that tests of equilibria solve."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pypsa

from tests.reference.instances import Instance, network, random_instance
from tests.reference.package import market_of

SETTINGS: dict[str, dict[str, Any]] = {
    "neutral": {},
    "averse": {"risk": ("CVaR", None, 1.0)},
    "half averse": {"risk": ("CVaR", None, 0.5)},
    "contracts": {"risk": ("CVaR", None, 1.0), "contracts": True},
}


DESIGNS = ("centralized", "peer-to-peer")


def draw(seed: int) -> tuple[Instance, dict[str, Any]]:
    """A market of 3-20 prosumers, 1-20 scenarios, 1-6 snapshots, and what it is solved as."""
    rng = np.random.default_rng([seed, 7])
    size = np.exp(rng.uniform(np.log([3, 1, 1]), np.log([21, 21, 7]))).astype(int)
    congestion, averse, surplus = seed % 2 == 1, seed // 2 % 2 == 1, seed // 4 % 2 == 0
    instance = random_instance(seed, *map(int, size), congestion=congestion)
    setting = "averse" if averse else "neutral"
    return instance, {**SETTINGS[setting], "surplus": surplus}


def solve(instance: Instance, route: str = "direct", **setting: Any) -> pypsa.Network:
    """A solved network."""
    n = network(instance)
    market = market_of(instance, **{"design": "peer-to-peer", **setting})
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)
    return n


@cache
def small(setting: str, congestion: bool = False, design: str = "peer-to-peer") -> pypsa.Network:
    """A small market solved once; copy it before changing it."""
    instance = random_instance(11, 4, 3, 2, congestion=congestion)
    return solve(instance, design=design, **SETTINGS[setting])
