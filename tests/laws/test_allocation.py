"""Laws of allocations over random markets (MODEL.md §10).

Coalitions are what networks without the others are; what the market makes everybody pay is in the
core where nothing is congested; and what all methods share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pypsa
import pytest
import scipy.sparse as sp
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.formulation.restricted import Coalitions
from tests.conformance.assets import (
    Battery,
    Cellar,
    Heating,
    LinearGenerators,
    Panel,
    StoreBehindLinks,
)
from tests.reference.instances import network, permuted, random_instance

COALITIONS = (["p1"], ["p0", "p2", "p3"])
ALL = ("p0", "p1", "p2", "p3")
CHI = {"p0": 0.3, "p1": 0.8, "p2": 0.5, "p3": 0.1}
LIMIT = {"p0": 1.0, "p1": 0.2, "p2": 3.0, "p3": 0.5}
METHODS = ("market", "shapley", "nucleolus", "least_core", "nash")


def without_others(n: pypsa.Network, members: Collection[str]) -> pypsa.Network:
    """A copy in which nothing is left of other prosumers: no bus, no asset, no edge."""
    alone = n.copy()
    buses = alone.c["Bus"].static.index.get_level_values(-1).unique()
    gone = {bus for bus in buses if bus.split()[0] not in members}  # "p1 cellar" is p1's
    for component in alone.components:
        static = component.static
        ends = [end for end in ("bus", "bus0", "bus1") if end in static]
        leaving = static[ends].isin(gone).any(axis=1).to_numpy()
        if component.name == "Bus":
            leaving = static.index.get_level_values(-1).isin(gone)
        names = set(static.index.get_level_values(-1)[leaving])
        component.static = static[~leaving]
        for name, series in component.dynamic.items():
            kept = ~series.columns.get_level_values(-1).isin(names)
            component.dynamic[name] = series.loc[:, kept]
    return alone


@dataclass(frozen=True)
class Case:
    """A market by who takes part in it, and its network."""

    market: Callable[[Collection[str]], p2p.Market]
    assets: tuple[Any, ...] = ()
    instance: tuple[tuple[str, Any], ...] = ()

    def network(self) -> pypsa.Network:
        n = network(random_instance(7, 4, 3, 2, **dict(self.instance)))
        for asset in self.assets:
            asset.add(n, ALL[asset.prosumer])
        return n


def some(numbers: dict[str, float], who: Collection[str]) -> dict[str, float]:
    return {name: number for name, number in numbers.items() if name in who}


def fixed(market: p2p.Market) -> Callable[[Collection[str]], p2p.Market]:
    return lambda _: market


AVERSE, HEDGED = p2p.PeerToPeerMarket(risk=p2p.CVaR()), p2p.Contracts()
CASES = {
    "neutral": Case(fixed(p2p.PeerToPeerMarket())),
    "without surplus": Case(fixed(p2p.CentralizedMarket(surplus=False))),
    "averse": Case(lambda who: p2p.PeerToPeerMarket(risk=p2p.CVaR(some(CHI, who), weight=0.7))),
    "fees": Case(fixed(AVERSE), instance=(("fees", 0.6),)),
    "community": Case(
        fixed(p2p.CentralizedMarket(aggregate="community", risk=p2p.CVaR(attitude=0.6)))
    ),
    "contracts": Case(fixed(p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=HEDGED))),
    "limited contracts": Case(
        lambda who: p2p.PeerToPeerMarket(
            risk=p2p.CVaR(), contracts=p2p.Contracts(limit=some(LIMIT, who))
        )
    ),
    "one contract": Case(
        fixed(p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(payoff=["s1"])))
    ),
    "insurance": Case(
        fixed(p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(insurance_price=0.5)))
    ),
    "congested planner": Case(fixed(p2p.CentralizedMarket()), instance=(("congestion", True),)),
    "congested peers": Case(fixed(p2p.PeerToPeerMarket()), instance=(("congestion", True),)),
    "congested and averse": Case(fixed(AVERSE), instance=(("congestion", True),)),
    "congested peers who invest": Case(
        fixed(p2p.PeerToPeerMarket()), (Panel(0),), instance=(("congestion", True),)
    ),
    "assets": Case(
        fixed(AVERSE),
        (Battery(0, cyclic=False), StoreBehindLinks(1), Heating(2), LinearGenerators(3)),
    ),
    "investment": Case(fixed(AVERSE), (Panel(0), Panel(3, cost=0.8), Cellar(2))),
}


@pytest.mark.parametrize("name", CASES)
def test_a_coalition_is_a_network_without_the_others(name: str) -> None:
    case, n = CASES[name], CASES[name].network()
    case.market(ALL).optimize(n)
    found = p2p.allocate(n, coalitions=COALITIONS, progress=False).coalition_cost
    for members in COALITIONS:
        alone = without_others(n, members)
        case.market(members).optimize(alone)
        cost = float(found.sel(coalition=" + ".join(members)))
        assert cost == pytest.approx(float(p2p.results(alone).social_cost), abs=1e-8)
    whole = float(found.sel(coalition=" + ".join(ALL)))
    assert whole == pytest.approx(float(p2p.results(n).social_cost), abs=1e-9)


@pytest.mark.parametrize("drawn", [{"fees": 0.6}, {"congestion": True}], ids=["fees", "congestion"])
def test_a_coalition_has_the_model_of_a_network_without_the_others(drawn: dict[str, Any]) -> None:
    """Number by number, without building or compiling it."""
    n, market = network(random_instance(7, 4, 3, 2, **drawn)), p2p.PeerToPeerMarket()
    members = ["p0", "p2", "p3"]
    alone = market.pose(without_others(n, members))
    coalition = Coalitions(market.pose(n)).market(np.array([0, 2, 3]))
    for part, own in (
        (coalition.compiled.program, alone.compiled.program), (coalition.places, alone.places),
    ):  # fmt: skip
        for name, wanted in vars(own).items():
            both = [getattr(part, name), wanted]
            dense = [one.toarray() if sp.issparse(one) else one for one in both]
            np.testing.assert_array_equal(*dense, err_msg=name)
    for name in ("scenario", "owner", "capacities"):
        own = getattr(alone.compiled, name)
        np.testing.assert_array_equal(getattr(coalition.compiled, name), own, err_msg=name)
    for name, wanted in vars(alone.data).items():
        if isinstance(wanted, xr.DataArray):
            xr.testing.assert_equal(getattr(coalition.data, name), wanted)
    assert alone.data.assets.keys() == coalition.data.assets.keys()


# ------------------------------------------------------------------ the core

#: By name: what a market without congestion may be.
UNCONGESTED: dict[str, p2p.Market] = {
    "neutral": p2p.PeerToPeerMarket(),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
    "mixed": p2p.CentralizedMarket(risk=p2p.CVaR(weight=0.6), surplus=False),
    "community": p2p.CentralizedMarket(aggregate="community", risk=p2p.CVaR(attitude=0.6)),
    "limited": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(limit=0.5)),
    "equal": p2p.PeerToPeerMarket(surplus=False),
}


def drawn(seed: int) -> tuple[pypsa.Network, p2p.Market]:
    """Two to five prosumers; every third with fees, every fifth with steps for costs."""
    rng = np.random.default_rng([seed, 11])
    instance = random_instance(
        seed, int(rng.integers(2, 6)), int(rng.integers(2, 5)), int(rng.integers(1, 3)),
        fees=0.5 if seed % 3 == 0 else 0.0,
    )  # fmt: skip
    if seed % 5 == 0:
        instance = type(instance)(**{**vars(instance), "a": np.zeros_like(instance.a)})
    return network(instance), list(UNCONGESTED.values())[seed % len(UNCONGESTED)]


@pytest.mark.parametrize("seed", range(200))
def test_what_the_market_charges_is_in_the_core(seed: int) -> None:
    """No coalition does better by itself, to 1e-6 of what is paid; payments cancel."""
    n, market = drawn(seed)
    market.optimize(n)
    d = p2p.allocate(n, progress=False)
    size = float(abs(d.coalition_cost).max())
    assert float(d.core_excess) <= 1e-6 * size
    assert float(d.transfer.sum()) == pytest.approx(0.0, abs=1e-6 * size)


@pytest.mark.parametrize("seed", range(20))
def test_what_methods_share(seed: int) -> None:
    """All cost is borne; nobody pays for being first; the best worst coalition is the best."""
    n, market = drawn(seed)
    market.optimize(n)
    found = {method: p2p.allocate(n, method, progress=False) for method in METHODS}
    cost = found["market"].coalition_cost
    size = float(abs(cost).max())
    for d in found.values():
        assert float(d.allocation.sum()) == pytest.approx(float(cost[-1]), abs=1e-8 * size)
    least = float(found["nucleolus"].core_excess)
    assert float(found["least_core"].core_excess) == pytest.approx(least, abs=1e-7 * size)
    assert least <= 1e-6 * size  # the market's is in the core, so that it is not empty
    assert all(float(d.core_excess) >= least - 1e-7 * size for d in found.values())
    for method in ("shapley", "nucleolus", "least_core", "nash"):
        assert (found[method].saving >= -1e-6 * size).all()


@cache
def _by_name(method: str, turned: bool) -> dict[str, float]:
    instance = random_instance(12, 4, 3)
    n = network(permuted(instance, np.array([2, 0, 3, 1])) if turned else instance)
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    return {str(k): v for k, v in p2p.allocate(n, method).allocation.to_series().items()}


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_prosumers_does_not_matter(method: str) -> None:
    assert _by_name(method, turned=True) == pytest.approx(_by_name(method, turned=False), abs=1e-6)
