"""Laws of capacities as first-stage decisions: freedom, contracts, aversion, one future."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.conformance.assets import Asset, Panel, solve_with
from tests.conformance.markets import (
    ASSETS,
    AVERSE,
    DESIGNS,
    assert_capacity_pays,
    built,
    found,
    instance,
    market_network,
    solve,
)
from tests.reference.instances import random_instance

DEARER = (Panel(0, 2.0), Panel(1, 2.0))


def fixed(n: pypsa.Network, component: str, name: str, size: float) -> None:
    """Give a capacity that was to be found."""
    static = n.c[component].static
    rows = static.index.get_level_values(-1) == name
    nominal = "e_nom" if component == "Store" else "p_nom"
    static.loc[rows, [f"{nominal}_extendable"]] = False
    static.loc[rows, nominal] = size


def test_no_aversion_is_neutrality() -> None:
    data = instance(3)
    one, other = market_network(data), market_network(data)
    r = solve(one, p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=0.0), surplus=False))
    neutral = solve(other, p2p.PeerToPeerMarket(surplus=False))
    assert float(r.social_cost) == pytest.approx(float(neutral.social_cost), rel=1e-9)
    assert built(one) == pytest.approx(built(other), abs=1e-6)


def test_designs_agree_without_congestion() -> None:
    """Proposition 12, what is built included."""
    _, r = found(5, "averse", "direct")
    n = market_network(instance(5))
    planned = solve(n, p2p.CentralizedMarket(risk=AVERSE, surplus=False))
    assert float(planned.social_cost) == pytest.approx(float(r.social_cost), rel=1e-9)
    assert built(n) == pytest.approx(built(found(5, "averse", "direct")[0]), abs=1e-6)


def test_no_freedom_is_a_given_capacity_and_a_constant() -> None:
    """What is found, given: the same costs, less what it cost to build, and the same prices."""
    n, r = found(5, "averse", "direct")
    given = market_network(instance(5))
    capital = dict.fromkeys(instance(5).names, 0.0)
    for component in ("Generator", "Store", "Link"):
        static = given.c[component].static.groupby(level=-1).first()
        for name, size in built(n, component).items():
            fixed(given, component, name, size)
            capital[name.split()[0]] += size * static.at[name, "capital_cost"]
    fewer = solve(given, DESIGNS["averse"][0])
    paid = xr.DataArray(list(capital.values()), coords={"prosumer": list(capital)})
    gap = (r.cost - fewer.cost - paid).where(r.risk_adjusted_probability > 1e-4, 0.0)
    assert float(abs(gap).max()) < 1e-5
    assert float(r.social_cost - fewer.social_cost - paid.sum()) == pytest.approx(0.0, abs=1e-6)

    bounded = market_network(instance(5))
    for component, nominal in (("Generator", "p_nom"), ("Store", "e_nom"), ("Link", "p_nom")):
        static = bounded.c[component].static
        for name, size in built(n, component).items():
            rows = static.index.get_level_values(-1) == name
            static.loc[rows, [f"{nominal}_min", f"{nominal}_max"]] = size
    same = solve(bounded, DESIGNS["averse"][0])
    assert float(same.social_cost) == pytest.approx(float(r.social_cost), rel=1e-8)


@pytest.mark.parametrize("design", ["neutral", "averse"])
def test_freedom_to_build_never_costs(design: str) -> None:
    """Nor does it where more is possible: none of the assets is worse than any."""
    market, data = DESIGNS[design][0], instance(7)
    none = solve(market_network(data, ()), market)
    panels = solve(market_network(data, ASSETS[:2]), market)
    all_assets = solve(market_network(data), market)
    costs = [float(r.social_cost) for r in (none, panels, all_assets)]
    assert costs[0] >= costs[1] - 1e-8 >= costs[2] - 2e-8
    assert costs[0] > costs[2] + 0.01


@pytest.mark.parametrize("contracts", [p2p.Contracts(), p2p.Contracts(limit=0.3)])
def test_contracts_never_cost(contracts: p2p.Contracts) -> None:
    """Complete ones take the way past the shortcut by scenario, which investment closes."""
    _, without = found(5, "averse", "direct")
    n = market_network(instance(5))
    r = solve(n, p2p.PeerToPeerMarket(risk=AVERSE, contracts=contracts, surplus=False))
    assert float(r.social_cost) <= float(without.social_cost) + 1e-8
    assert float(r.social_cost) == pytest.approx(n.objective + n.objective_constant, rel=1e-7)
    assert p2p.certify(n).is_equilibrium()
    np.testing.assert_allclose(r.contract.sum("prosumer"), 0.0, atol=1e-7)
    assert_capacity_pays(n, r, instance(5))


@pytest.mark.parametrize(
    ("market", "congestion", "assets"),
    [
        (p2p.PeerToPeerMarket(surplus=False), True, DEARER),
        (p2p.PeerToPeerMarket(risk=AVERSE, surplus=False), True, DEARER),
        (
            p2p.PeerToPeerMarket(
                risk=AVERSE, surplus=False, equilibrium="generalized", weights=[1.0, 2.0, 4.0]
            ),
            False,
            (Panel(0, 1.5), Panel(1, 1.5)),
        ),
    ],
    ids=["congested, neutral", "congested, averse", "unequal weights, averse"],
)
def test_every_prosumer_builds_what_pays_her(
    market: p2p.PeerToPeerMarket, congestion: bool, assets: Sequence[Asset]
) -> None:
    """Where no potential exists: at everybody's own prices a MW is worth what it costs."""
    data = instance(5, congestion)
    n = market_network(data, assets)
    assert assert_capacity_pays(n, solve(n, market), data, assets) > 0
    assert p2p.certify(n).is_equilibrium()


def test_one_certain_future(route: str) -> None:
    """Without scenarios capacities belong to the one there is."""
    data = random_instance(3, 3, 1, 2)
    n = market_network(data)
    r = solve(n, p2p.PeerToPeerMarket(surplus=False), route)
    whole = n.objective + n.objective_constant
    assert float(r.cost.sum()) == pytest.approx(whole, rel=1e-8)
    reference = solve_with(data, ASSETS, surplus=False)
    assert whole == pytest.approx(reference.social_cost, rel=1e-7)
    assert_capacity_pays(n, r, data)


def test_unlikely_scenarios() -> None:
    """Rows that hold a capacity and a dispatch belong to scenarios of very different weight."""
    data = replace(instance(5), probability=np.array([0.9989, 1e-3, 1e-4]))
    n = market_network(data)
    r = solve(n, p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=0.5), surplus=False))
    reference = solve_with(data, ASSETS, surplus=False, averse=True, theta=0.5)
    assert float(r.social_cost) == pytest.approx(reference.social_cost, rel=1e-6)
    assert_capacity_pays(n, r, data)
