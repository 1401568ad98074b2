"""Four prosumers whose limits never bind."""

from __future__ import annotations

from typing import Any

import pypsa

import pypsa_p2p as p2p

NAMES = list("wxyz")
LOSS = [0.5, 1.0, 0.5, 2.0]
MARKET = p2p.PeerToPeerMarket(surplus=False)


def four(*, snapshots: Any = None, **other: Any) -> pypsa.Network:
    """Their network: a complete graph of trades at a price of 1 EUR/MWh."""
    n = pypsa.Network() if snapshots is None else pypsa.Network(snapshots=snapshots)
    numbers = {
        "demand": [12, 10, 14, 9],
        "demand_min": -60,
        "demand_max": 80,
        "utility_quadratic": [0.5, 0.8, 0.4, 1],
        "usage_benefit": [1, 2, 3, 4],
        "generation_min": -100,
        "generation_max": 100,
        "marginal_cost": [0.2, 0.5, 0.3, 0.1],
        "marginal_cost_quadratic": [0.3, 0.2, 0.45, 0.25],
        "fixed_cost": [0.1, 0.2, 0.3, 0.4],
        "renewable": [1, 2, 0, 3],
    }
    p2p.add_prosumers(n, NAMES, **(numbers | other))
    p2p.add_trades(n, "complete", capacity=1000, price=1)
    return n
