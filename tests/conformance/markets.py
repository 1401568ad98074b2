"""Networks that several of these files solve: on a physical grid, and with capacities to find."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.by_hand.markets import add_seller_and_buyer
from tests.conformance.assets import Asset, Cellar, Panel
from tests.reference.instances import Instance, network, random_instance

AVERSE = p2p.CVaR()


def solve(n: pypsa.Network, market: Any, route: str = "direct") -> xr.Dataset:
    """Results by one of the routes, with PyPSA's own defaults."""
    if route == "direct":
        status = market.optimize(n)
    else:
        status = n.optimize(extra_functionality=market, log_to_console=False)
    assert status == ("ok", "optimal")
    return p2p.results(n)


# ------------------------------------------------------------------ on a physical grid


def two_buses(limit: float) -> pypsa.Network:
    """A generates at 1 + 2G, B wants 6 of utility -(6 - D)^2; one line between them."""
    n = pypsa.Network()
    n.add("Bus", ["west", "east"])
    n.add("Line", "line", bus0="west", bus1="east", x=0.1, s_nom=limit)
    add_seller_and_buyer(n)
    return n


def meshed(seed: int, limit: float, scenarios: int = 2) -> pypsa.Network:
    """A random ring with chords, a transformer and a generator of its own; five prosumers."""
    rng = np.random.default_rng(seed)
    n = pypsa.Network(snapshots=range(2))
    n.snapshot_weightings["objective"] = [1.0, 2.5]
    buses = [f"bus {k}" for k in range(6)]
    n.add("Bus", buses, v_nom=20.0)
    ends = [(k, (k + 1) % 6) for k in range(5)] + [(0, 3), (1, 4)]
    for i, j in ends:
        x = rng.uniform(0.05, 0.3)
        n.add("Line", f"{i}-{j}", bus0=buses[i], bus1=buses[j], x=x, s_nom=limit)
    n.add("Transformer", "T", bus0=buses[5], bus1=buses[0], x=0.1, s_nom=limit)
    names = [f"p{k}" for k in range(5)]
    p2p.add_prosumers(
        n,
        names,
        demand=rng.uniform(1, 6, 5),
        demand_max=10.0,
        utility_quadratic=rng.uniform(0.5, 2, 5),
        generation_max=[9, 6, 0, 0, 0],
        marginal_cost=rng.uniform(0, 1, 5),
        marginal_cost_quadratic=rng.uniform(0.2, 1, 5),
        risk_attitude=rng.uniform(0.1, 0.8, 5),
        import_price=0.1,
        grid_bus=buses[:4] + buses[:1],  # two of them at one bus
    )
    p2p.add_trades(n, "complete", capacity=6, price=rng.uniform(0, 0.5))
    labels = [f"s{k}" for k in range(scenarios)]
    wind = xr.DataArray(
        rng.uniform(0, 4, (scenarios, 5)), coords={"scenario": labels, "prosumer": names}
    )
    p2p.set_scenarios(n, dict.fromkeys(labels, 1 / scenarios), xr.Dataset({"renewable": wind}))
    return n


def apart() -> pypsa.Network:
    """A and B on grids of their own."""
    n = two_buses(2.0)
    n.remove("Line", "line")
    n.add("Bus", ["west end", "east end"])
    n.add("Line", ["w", "e"], bus0=["west", "east"], bus1=["west end", "east end"], x=0.1)
    n.lines["s_nom"] = 9.0
    return n


def idle_link(n: pypsa.Network) -> None:
    """A Link that loses energy beside a line that does not: nobody uses it."""
    n.add("Link", "cable", bus0="west", bus1="east", p_nom=2.0, efficiency=0.95)


def idle_plant(n: pypsa.Network) -> None:
    """A generator of the grid's own, dearer than anything is worth."""
    n.add("Generator", "plant", bus="east", p_nom=9.0, marginal_cost=200.0)


# ------------------------------------------------------------------ with capacities to find


def house(demand: Sequence[float], scenarios: bool, **plant: Any) -> pypsa.Network:
    """One prosumer whose load is met by a plant to be built, free to run, or by G at G^2.

    `demand` is by scenario or, where there are none, by snapshot.
    """
    n = pypsa.Network()
    if not scenarios:
        n.set_snapshots(range(len(demand)))
    n.add("Bus", "house", carrier="prosumer")
    n.add("Load", "load", bus="house", p_set=demand[0] if scenarios else demand)
    n.add("Generator", "peaker", bus="house", p_nom=100.0, marginal_cost_quadratic=1.0)
    if plant:
        n.add("Generator", "plant", bus="house", p_nom_extendable=True, **plant)
    if scenarios:
        n.set_scenarios({"calm": 0.5, "peak": 0.5})
        n.c["Load"].static.loc[("peak", "load"), "p_set"] = demand[1]
    return n


def built(n: pypsa.Network, component: str = "Generator") -> dict[str, float]:
    """Capacities found, by name; the same in every scenario."""
    c = n.c[component]
    nominal = "e_nom" if component == "Store" else "p_nom"
    chosen = c.static[c.static[f"{nominal}_extendable"].astype(bool)][f"{nominal}_opt"]
    by_name = chosen.groupby(level=-1)
    np.testing.assert_allclose(by_name.max(), by_name.min(), rtol=0, atol=1e-12)
    return {str(name): float(value) for name, value in by_name.first().items()}


ASSETS: tuple[Asset, ...] = (Panel(0), Panel(1, cost=0.8), Cellar(2))
DESIGNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "neutral": (p2p.CentralizedMarket(surplus=False), {}),
    "averse": (p2p.PeerToPeerMarket(risk=AVERSE, surplus=False), {"averse": True}),
    "mixed": (
        p2p.CentralizedMarket(risk=p2p.CVaR(weight=0.6), surplus=False),
        {"averse": True, "theta": 0.6},
    ),
    "community": (
        p2p.CentralizedMarket(aggregate="community", risk=p2p.CVaR(attitude=0.5), surplus=False),
        {"averse": True, "attitude": 0.5, "community": True},
    ),
    "contracts": (
        p2p.PeerToPeerMarket(risk=AVERSE, contracts=p2p.Contracts(), surplus=False),
        {"averse": True, "contracts": True},
    ),
}


@cache
def instance(seed: int, congestion: bool = False) -> Instance:
    """Three prosumers, three scenarios, two snapshots of unequal length."""
    return random_instance(seed, 3, 3, 2, congestion=congestion)


def market_network(data: Instance, assets: Sequence[Asset] = ASSETS) -> pypsa.Network:
    n = network(data)
    for asset in assets:
        asset.add(n, data.names[asset.prosumer])
    return n


@cache
def found(seed: int, design: str, route: str) -> tuple[pypsa.Network, xr.Dataset]:
    n = market_network(instance(seed))
    return n, solve(n, DESIGNS[design][0], route)


def rents(n: pypsa.Network, r: xr.Dataset, data: Instance, asset: Panel) -> float:
    """What a MW of a panel earns at what energy is worth now, EUR: its marginal value."""
    bus = data.names[asset.prosumer]
    columns = [(s, bus) for s in n.scenarios] if n.has_scenarios else [bus]
    now = xr.DataArray(
        n.buses_t.marginal_price.loc[r.snapshot.to_numpy(), columns].to_numpy().T,
        coords={"scenario": r["scenario"], "snapshot": r["snapshot"]},
    )
    available = n.get_switchable_as_dense("Generator", "p_max_pu")
    column = (n.scenarios[0], f"{bus} panel") if n.has_scenarios else f"{bus} panel"
    by_hour = xr.DataArray(available[column].to_numpy() * data.weighting, dims="snapshot")
    return float((now.clip(min=0.0) * by_hour).sum())


def assert_capacity_pays(
    n: pypsa.Network, r: xr.Dataset, data: Instance, assets: Sequence[Asset] = ASSETS
) -> int:
    """A MW is worth its cost inside the limits, less at none, more at most; how many inside."""
    inside = 0
    for asset in (asset for asset in assets if isinstance(asset, Panel)):
        size = built(n)[f"{data.names[asset.prosumer]} panel"]
        rent = rents(n, r, data, asset)
        if 1e-4 < size < 3 - 1e-4:
            inside += 1
            assert rent == pytest.approx(asset.cost, rel=1e-5)
        else:
            assert rent <= asset.cost + 1e-5 if size <= 1e-4 else rent >= asset.cost - 1e-5
    return inside
