"""Random markets of all designs, in MW and EUR, that are written in other units.

Whoever's demand or generation is inside its limits has one price, her marginal utility or cost;
prices are compared at those (`priced`). Limited contracts are among an odd number of prosumers
of one limit, not all of whom can be at it: somebody's risk-adjusted probabilities are the prices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pypsa
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.network.bundled_grids import add_grid_market
from tests.conformance.assets import Battery, Heating, LinearGenerators, StoreBehindLinks
from tests.conformance.test_delivery import meshed
from tests.laws.offers import contracts, offer
from tests.reference.instances import Instance, network, random_instance
from tests.reference.package import market_of

Drawn = tuple[pypsa.Network, Any]

#: How far inside its limits, as a share of their distance, a quantity sets a price.
INSIDE = 1e-3


def sized(seed: int, *, congestion: bool = False, odd: bool = False, hours: int = 0) -> Instance:
    """3 to 6 prosumers, 2 to 4 scenarios, 1 to 3 snapshots of unequal weightings."""
    rng = np.random.default_rng([seed, 17])
    prosumers = 3 + 2 * int(rng.integers(2)) if odd else int(rng.integers(3, 7))
    scenarios, snapshots = int(rng.integers(2, 5)), hours or int(rng.integers(1, 4))
    return random_instance(seed, prosumers, scenarios, snapshots, congestion=congestion)


def plain(
    design: str,
    risk: Any = None,
    *,
    congestion: bool = False,
    contracts: bool = False,
    aggregate: str = "prosumers",
) -> Callable[[int], Drawn]:
    """A design of the reference's, surplus allowed in every other market."""

    def drawn(seed: int) -> Drawn:
        data = sized(seed, congestion=congestion)
        surplus = seed // len(DESIGNS) % 2 == 0
        return network(data), market_of(data, design, risk, aggregate, contracts, surplus)

    return drawn


def hedged(name: str, theta: float = 1.0) -> Callable[[int], Drawn]:
    """Contracts with limits, payoffs, insurance, or on some scenarios only."""

    def drawn(seed: int) -> Drawn:
        data = sized(seed, odd=True)
        offered = contracts(data, offer(data, name))
        return network(data), p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=theta), contracts=offered)

    return drawn


def generalized(risk: p2p.CVaR | None, congestion: bool) -> Callable[[int], Drawn]:
    """Rosen's weights between 1/2 and 3."""

    def drawn(seed: int) -> Drawn:
        data = sized(seed, congestion=congestion)
        weights = np.random.default_rng([seed, 23]).uniform(0.5, 3.0, len(data.names))
        by_name = dict(zip(data.names, weights.tolist(), strict=True))
        market = p2p.PeerToPeerMarket(equilibrium="generalized", weights=by_name, risk=risk)
        return network(data), market

    return drawn


def with_assets(*assets: Any, risk: p2p.CVaR | None = None) -> Callable[[int], Drawn]:
    """Assets behind the meters of the first two prosumers."""

    def drawn(seed: int) -> Drawn:
        data = sized(seed, hours=3)
        n = network(data)
        for asset in assets:
            asset.add(n, data.names[asset.prosumer])
        return n, p2p.PeerToPeerMarket(risk=risk)

    return drawn


def invested(seed: int) -> Drawn:
    """Two prosumers may build: a plant by its price, a battery up to a limit."""
    data = sized(seed, hours=2)
    n = network(data)
    bus, other = data.names[:2]
    extendable = {"p_nom_extendable": True, "capital_cost": 0.4, "p_nom_max": 3.0}
    n.add("Generator", "plant", bus=bus, marginal_cost=0.3, **extendable)
    n.add("StorageUnit", "battery", bus=other, max_hours=2.0, efficiency_store=0.9, **extendable)
    return n, p2p.PeerToPeerMarket(risk=p2p.CVaR())


def delivered(**options: Any) -> Callable[[int], Drawn]:
    """On a congested ring with chords and a transformer, in three snapshots and scenarios."""

    def drawn(seed: int) -> Drawn:
        n = meshed(seed, limit=1.5, scenarios=2 + seed % 2)
        return n, p2p.PeerToPeerMarket(delivery="grid", **options)

    return drawn


def ieee14(seed: int) -> Drawn:
    """The IEEE 14-bus system with lines of 45 MW, three scenarios of its own market."""
    n = p2p.load_grid("ieee14")
    for component in ("Load", "Generator"):
        n.remove(component, n.c[component].static.index)
    n.c["Line"].static["s_nom"] = 45.0
    add_grid_market(n, "ieee14", number=3, seed=seed)
    risk = p2p.CVaR(attitude=0.5) if seed // len(DESIGNS) % 2 else None
    return n, p2p.PeerToPeerMarket(delivery="grid", risk=risk)


AVERSE = ("CVaR", None, 1.0)
BATTERIES = (Battery(0, cyclic=False), StoreBehindLinks(1))
DESIGNS: dict[str, Callable[[int], Drawn]] = {
    "centralized": plain("centralized", congestion=True),
    "equilibrium": plain("peer-to-peer"),
    "equilibrium, congested": plain("peer-to-peer", congestion=True),
    "centralized, averse": plain("centralized", AVERSE),
    "averse": plain("peer-to-peer", AVERSE),
    "averse, congested": plain("peer-to-peer", AVERSE, congestion=True),
    "mixed": plain("peer-to-peer", ("CVaR", None, 0.4)),
    "community": plain("centralized", ("CVaR", 0.5, 1.0), congestion=True, aggregate="community"),
    "contracts": plain("peer-to-peer", AVERSE, contracts=True),
    "contracts, mixed": plain("centralized", ("CVaR", None, 0.6), contracts=True),
    "limited contracts": hedged("limit"),
    "limited, insured, mixed": hedged("limit, insured", theta=0.7),
    "payoff": hedged("payoff"),
    "payoff, limited, insured": hedged("payoff, limit, insured"),
    "some scenarios": hedged("some scenarios"),
    "generalized": generalized(None, congestion=True),
    "generalized, averse": generalized(p2p.CVaR(), congestion=False),
    "storage": with_assets(*BATTERIES),
    "storage, averse": with_assets(*BATTERIES, risk=p2p.CVaR()),
    "heat, linear costs": with_assets(Heating(0), LinearGenerators(1), risk=p2p.CVaR(weight=0.5)),
    "investment": invested,
    "grid": delivered(),
    "grid, averse": delivered(risk=p2p.CVaR()),
    "grid, no surplus": delivered(surplus=False),
    "ieee14": ieee14,
}
#: `certify` refuses these by name.
NOT_CERTIFIED = ("investment",)


def design_of(seed: int) -> str:
    """Designs come by in turn."""
    return list(DESIGNS)[seed % len(DESIGNS)]


def drawn(seed: int) -> Drawn:
    """A network in MW and EUR, not solved, and its market."""
    return DESIGNS[design_of(seed)](seed)


def priced(n: pypsa.Network, r: xr.Dataset) -> xr.DataArray:
    """Where a prosumer has but one price (scenario, snapshot, prosumer)."""
    found = xr.zeros_like(r["nodal_price"], dtype=bool)
    for prosumer in r["prosumer"].values:
        for suffix in (" elastic demand", " generation"):
            inside = _inside(n, f"{prosumer}{suffix}").T.reshape(found.shape[:2])
            found.loc[{"prosumer": prosumer}] |= inside
    return found


def _inside(n: pypsa.Network, generator: str) -> Any:
    """Whether its costs curve and it runs inside its limits, (snapshot, scenario)."""
    values = n.c["Generator"].da

    def of(attribute: str) -> Any:
        array = values[attribute].sel(name=generator)
        if "snapshot" not in array.dims:
            array = array.expand_dims(snapshot=n.snapshots)
        if "scenario" not in array.dims:
            array = array.expand_dims(scenario=["only"])
        return array.transpose("snapshot", "scenario").to_numpy()

    low, high = (of("p_nom") * of(f"p_{end}_pu") for end in ("min", "max"))
    margin, power = INSIDE * (high - low), of("p")
    curved = of("marginal_cost_quadratic") > 0
    return curved & (power > low + margin) & (power < high - margin)


def route_of(seed: int) -> str:
    """One round of all designs in four goes through PyPSA's own solver."""
    return "hook" if seed // len(DESIGNS) % 4 == 3 else "direct"


def settled(n: pypsa.Network, market: Any, route: str = "direct") -> xr.Dataset:
    """Results, by one of the routes."""
    if route == "hook":
        status = n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        status = market.optimize(n)
    assert status == ("ok", "optimal"), status
    return p2p.results(n)


def of_trades(where: xr.DataArray, r: xr.Dataset) -> xr.DataArray:
    """Where both ends of a trade have one price (scenario, snapshot, trade)."""
    ends = (where.sel(prosumer=r[end]).drop_vars("prosumer") for end in ("buyer", "seller"))
    buyer, seller = ends
    return buyer & seller
