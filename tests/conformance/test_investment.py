"""Capacities as first-stage decisions: by hand, against the cone program, and by law."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cvxpy as cp
import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.errors import MarketError, P2PError
from tests.conformance.assets import Asset, Extra, Reference, solve_with
from tests.reference.instances import Instance, network, random_instance

AVERSE = p2p.CVaR()


def solve(n: pypsa.Network, market: Any, route: str = "direct") -> xr.Dataset:
    """Results by one of the routes, with PyPSA's own defaults."""
    if route == "direct":
        assert market.optimize(n) == ("ok", "optimal")
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*include_objective_constant", FutureWarning)
            status = n.optimize(extra_functionality=market, log_to_console=False)
        assert status == ("ok", "optimal")
    return p2p.results(n)


def built(n: pypsa.Network, component: str = "Generator") -> dict[str, float]:
    """Capacities found, by name; the same in every scenario."""
    c = n.c[component]
    nominal = "e_nom" if component == "Store" else "p_nom"
    chosen = c.static[c.static[f"{nominal}_extendable"].astype(bool)][f"{nominal}_opt"]
    by_name = chosen.groupby(level=-1)
    np.testing.assert_allclose(by_name.max(), by_name.min(), rtol=0, atol=1e-12)
    return {str(name): float(value) for name, value in by_name.first().items()}


# ------------------------------------------------------------------ by hand


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


@pytest.mark.parametrize(
    ("attitude", "capacity", "costs", "risk"),
    [
        (0.0, 2.0, (9.0, 17.0), 13.0),
        (1 / 3, 2.5, (10.25, 16.25), 14.75),
        (0.4, 2 + 2 / 3, (10.0 + 7 / 9, 10.0 + 2 / 3 + 49 / 9), 15 + 2 / 9),
    ],
)
def test_capacity_of_one_prosumer_by_hand(
    attitude: float, capacity: float, costs: tuple[float, float], risk: float, route: str
) -> None:
    """Demand is 3 or 5 MW, equally likely; what a plant of x MW lacks costs (D - x)^2; K = 4.

    In the scenario of the larger demand costs are higher, so that its risk-adjusted probability
    is the cap t = 0.5 / (1 - chi). The marginal value of capacity is its cost:

        2 (1 - t) (3 - x) + 2 t (5 - x) = 4, so x = 1 + 2 t: 2, 2.5, 2 2/3 at chi = 0, 1/3, 0.4.

    Costs are 4 x + (D - x)^2 in both. Weighted by probability, capital cost would be 2 x in each
    and x = 3 at chi = 0.
    """
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0)
    r = solve(n, p2p.CentralizedMarket(risk=p2p.CVaR(attitude=attitude)), route)
    assert built(n) == pytest.approx({"plant": capacity}, rel=1e-7)
    assert r.cost.to_numpy().ravel() == pytest.approx(costs, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(risk, rel=1e-9)
    assert n.objective == pytest.approx(risk, rel=1e-9)
    density = 0.5 / (1 - attitude) / 0.5
    price = [2 * (2 - density) * (3 - capacity), 2 * density * (5 - capacity)]
    assert r.nodal_price.to_numpy().ravel() == pytest.approx(price, rel=1e-6)


def test_battery_by_hand(route: str) -> None:
    """Demand 2 then 6 MW, made at G^2; x MW of battery for 1 h at 4 EUR/MW.

    2 (6 - x) - 2 (2 + x) = 4, so x = 1: prices 6 and 10, whose difference pays for it. It costs
    4 + 9 + 25 = 38, where without it 4 + 36 = 40.
    """
    n = house((2.0, 6.0), scenarios=False)
    n.add(
        "StorageUnit",
        "battery",
        bus="house",
        p_nom_extendable=True,
        capital_cost=4.0,
        cyclic_state_of_charge=True,
    )
    r = solve(n, p2p.PeerToPeerMarket(), route)
    assert built(n, "StorageUnit") == pytest.approx({"battery": 1.0}, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(38.0, rel=1e-9)
    assert r.nodal_price.to_numpy().ravel() == pytest.approx([6.0, 10.0], rel=1e-6)


def test_store_and_its_link_by_hand(route: str) -> None:
    """The battery again: a store at 1.5 EUR/MWh whose charger costs 2.5 EUR/MW, a bus away."""
    n = house((2.0, 6.0), scenarios=False)
    n.add("Bus", "cellar")
    n.add("Store", "tank", bus="cellar", e_nom_extendable=True, capital_cost=1.5, e_cyclic=True)
    n.add("Link", "out", bus0="cellar", bus1="house", p_nom=9.0)
    n.add("Link", "in", bus0="house", bus1="cellar", p_nom_extendable=True, capital_cost=2.5)
    r = solve(n, p2p.PeerToPeerMarket(), route)
    assert built(n, "Store") == pytest.approx({"tank": 1.0}, rel=1e-7)
    assert built(n, "Link") == pytest.approx({"in": 1.0}, rel=1e-7)
    assert float(r.cost.sum()) == pytest.approx(38.0, rel=1e-9)


def test_standing_capacity_is_part_of_the_cost(route: str) -> None:
    """Of 2 MW to have, 1.5 stand already: 4 EUR/MW is the cost of all 2, on both routes.

    PyPSA leaves 6 EUR out of its objective and says so in `n.objective_constant`.
    """
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0, p_nom=1.5)
    r = solve(n, p2p.CentralizedMarket(), route)
    assert built(n) == pytest.approx({"plant": 2.0}, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(13.0, rel=1e-9)
    assert n.objective == pytest.approx(13.0, rel=1e-9)
    assert n.objective_constant == 0.0


def test_overnight_and_fixed_cost_are_pypsas(route: str) -> None:
    """60 EUR/MW for each of 8760 hours, without interest over 20 years, and upkeep: 60/20 + 1."""
    overnight = 60.0 * 8760.0  # the one snapshot stands for an hour
    plant = {"overnight_cost": overnight, "discount_rate": 0.0, "lifetime": 20.0, "fom_cost": 1.0}
    n = house((3.0, 5.0), scenarios=True, **plant)
    r = solve(n, p2p.CentralizedMarket(), route)
    assert built(n) == pytest.approx({"plant": 2.0}, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(13.0, rel=1e-9)


def test_a_capacity_for_nothing_is_the_least_that_serves(route: str) -> None:
    """Without capital cost and limit any capacity from 5 MW up is as good: 5 is reported."""
    n = house((3.0, 5.0), scenarios=True, capital_cost=0.0)
    r = solve(n, p2p.CentralizedMarket(risk=p2p.CVaR(attitude=0.4)), route)
    assert float(r.social_cost) == pytest.approx(0.0, abs=1e-6)
    assert built(n) == pytest.approx({"plant": 5.0}, abs=1e-4)


@pytest.mark.parametrize("limit", ["p_nom_max", "p_nom_set"])
def test_limits_of_capacity(limit: str, route: str) -> None:
    """At most, or exactly, 1 MW where 2 would be best: 4 + (4 + 16)/2 = 14 EUR."""
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0, **{limit: 1.0})
    r = solve(n, p2p.CentralizedMarket(), route)
    assert built(n) == pytest.approx({"plant": 1.0}, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(14.0, rel=1e-9)


@pytest.mark.slow
def test_of_more_averse_prosumers_the_hedge_is_larger() -> None:
    """1 + 2 t above, up to t = 1 where high demand is all that counts: never less."""
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0)
    attitudes, found = (0.0, 0.2, 0.4, 0.6), []
    for attitude in attitudes:
        solve(n, p2p.CentralizedMarket(risk=p2p.CVaR(attitude=attitude)))
        found.append(built(n)["plant"])
    assert found == pytest.approx([1 + min(1 / (1 - chi), 2.0) for chi in attitudes], rel=1e-7)


# ------------------------------------------------------------------ against the cone program


@dataclass(frozen=True)
class Panel:
    """A generator free to run at 60 % and then 20 % of what is built, at most 3 MW."""

    prosumer: int
    cost: float = 0.5

    def add(self, n: pypsa.Network, bus: str) -> None:
        available = np.resize([0.6, 0.2], len(n.snapshots))
        n.add(
            "Generator",
            f"{bus} panel",
            bus=bus,
            p_nom_extendable=True,
            p_nom_max=3.0,
            p_nom=1.0,
            capital_cost=self.cost,
            p_max_pu=available,
        )

    def model(self, instance: Instance) -> Extra:
        _, s, t, _ = instance.shape
        power, size = cp.Variable(s * t, nonneg=True), cp.Variable(nonneg=True)
        available = np.tile(np.resize([0.6, 0.2], t), s)
        return Extra(
            power, spread(instance, self.cost * size), [power <= available * size, size <= 3]
        )


@dataclass(frozen=True)
class Cellar:
    """A store and the link into it, both to be built; a given link leads out."""

    prosumer: int

    def add(self, n: pypsa.Network, bus: str) -> None:
        inside = f"{bus} cellar"
        n.add("Bus", inside)
        n.add("Store", inside, bus=inside, e_nom_extendable=True, capital_cost=0.02, e_cyclic=True)
        n.add(
            "Link",
            f"{bus} in",
            bus0=bus,
            bus1=inside,
            p_nom_extendable=True,
            capital_cost=0.05,
            efficiency=0.9,
            p_nom_max=2.0,
        )
        n.add("Link", f"{bus} out", bus0=inside, bus1=bus, p_nom=1.5)

    def model(self, instance: Instance) -> Extra:
        _, s, t, _ = instance.shape
        into, out, energy = (cp.Variable(s * t, nonneg=True) for _ in range(3))
        size, way = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        rows = [into <= way, out <= 1.5, energy <= size, way <= 2]
        for column in range(s * t):
            before = energy[column + t - 1 if column % t == 0 else column - 1]
            change = instance.weighting[column % t] * (0.9 * into[column] - out[column])
            rows.append(energy[column] == before + change)
        return Extra(out - into, spread(instance, 0.02 * size + 0.05 * way), rows)


def spread(instance: Instance, capital: cp.Expression) -> cp.Expression:
    """A cost now as an hourly one that adds up to it in every scenario."""
    _, s, t, _ = instance.shape
    return capital / instance.weighting.sum() * np.ones(s * t)


ASSETS: tuple[Asset, ...] = (Panel(0), Panel(1, cost=0.8), Cellar(2))
DEARER = (Panel(0, 2.0), Panel(1, 2.0))
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
CASES = [(seed, design) for seed, design in zip((3, 5, 7, 11, 13), DESIGNS, strict=True)]
EVERY = pytest.mark.parametrize(("seed", "design"), CASES)


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
def wanted(seed: int, design: str) -> Reference:
    return solve_with(instance(seed), ASSETS, surplus=False, **DESIGNS[design][1])


@cache
def found(seed: int, design: str, route: str) -> tuple[pypsa.Network, xr.Dataset]:
    n = market_network(instance(seed))
    return n, solve(n, DESIGNS[design][0], route)


@EVERY
def test_against_the_cone_program(seed: int, design: str, route: str) -> None:
    """Social cost, demand where somebody cares, and sum tau Pi: costs miss no investment."""
    n, r = found(seed, design, route)
    reference = wanted(seed, design)
    assert n.objective == pytest.approx(reference.social_cost, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(reference.social_cost, rel=1e-7)
    weighed = r.risk_adjusted_probability
    assert float((weighed * r.cost).sum()) == pytest.approx(reference.social_cost, rel=1e-6)
    demand = r.demand.where(weighed > 1e-4).transpose("prosumer", "scenario", "snapshot")
    keep = demand.notnull().to_numpy()
    np.testing.assert_allclose(demand.to_numpy()[keep], reference.demand[keep], atol=2e-5)


@EVERY
def test_routes_agree(seed: int, design: str) -> None:
    one, hook = found(seed, design, "hook")
    other, direct = found(seed, design, "direct")
    for name in direct:
        np.testing.assert_allclose(hook[name], direct[name], rtol=1e-6, atol=1e-6, err_msg=name)
    for component in ("Generator", "Store", "Link"):
        assert built(one, component) == pytest.approx(built(other, component), abs=1e-6)
    assert one.objective_constant == other.objective_constant == 0.0


def rents(n: pypsa.Network, r: xr.Dataset, data: Instance, asset: Panel) -> float:
    """What a MW of a panel earns at the nodal prices, EUR: its marginal value."""
    bus = data.names[asset.prosumer]
    price = r.nodal_price.sel(prosumer=bus).clip(min=0.0)
    available = n.get_switchable_as_dense("Generator", "p_max_pu")
    column = (n.scenarios[0], f"{bus} panel") if n.has_scenarios else f"{bus} panel"
    by_hour = xr.DataArray(available[column].to_numpy() * data.weighting, dims="snapshot")
    p = xr.DataArray(data.probability, coords={"scenario": r["scenario"]})
    return float((p * price * by_hour).sum())


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


@EVERY
def test_marginal_value_of_capacity_is_its_cost(seed: int, design: str) -> None:
    n, r = found(seed, design, "direct")
    assert_capacity_pays(n, r, instance(seed))


# ------------------------------------------------------------------ laws


def fixed(n: pypsa.Network, component: str, name: str, size: float) -> None:
    """Give a capacity that was to be found."""
    static = n.c[component].static
    rows = static.index.get_level_values(-1) == name
    nominal = "e_nom" if component == "Store" else "p_nom"
    static.loc[rows, [f"{nominal}_extendable"]] = False
    static.loc[rows, nominal] = size


@pytest.mark.slow
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


@pytest.mark.parametrize("contracts", [p2p.Contracts(), p2p.Contracts(limit=0.3)], ids=repr)
def test_contracts_never_cost(contracts: p2p.Contracts) -> None:
    """Complete ones take the way past the shortcut by scenario, which investment closes."""
    _, without = found(5, "averse", "direct")
    n = market_network(instance(5))
    r = solve(n, p2p.PeerToPeerMarket(risk=AVERSE, contracts=contracts, surplus=False))
    assert float(r.social_cost) <= float(without.social_cost) + 1e-8
    assert float(r.social_cost) == pytest.approx(n.objective, rel=1e-7)
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


def test_one_certain_future(route: str) -> None:
    """Without scenarios capacities belong to the one there is."""
    data = random_instance(3, 3, 1, 2)
    n = market_network(data)
    r = solve(n, p2p.PeerToPeerMarket(surplus=False), route)
    assert float(r.cost.sum()) == pytest.approx(n.objective, rel=1e-8)
    reference = solve_with(data, ASSETS, surplus=False)
    assert n.objective == pytest.approx(reference.social_cost, rel=1e-7)
    assert_capacity_pays(n, r, data)


def test_unlikely_scenarios() -> None:
    """Rows that hold a capacity and a dispatch belong to scenarios of very different weight."""
    data = replace(instance(5), probability=np.array([0.9989, 1e-3, 1e-4]))
    n = market_network(data)
    r = solve(n, p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=0.5), surplus=False))
    reference = solve_with(data, ASSETS, surplus=False, averse=True, theta=0.5)
    assert float(r.social_cost) == pytest.approx(reference.social_cost, rel=1e-6)
    assert_capacity_pays(n, r, data)


# ------------------------------------------------------------------ after the solve


def test_files_keep_results(tmp_path: Any) -> None:
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0, p_nom_max=9.0, p_nom=1.0)
    r = solve(n, p2p.CentralizedMarket(risk=p2p.CVaR(attitude=0.4)))
    path = tmp_path / "market.nc"
    n.export_to_netcdf(path)
    read = p2p.results(pypsa.Network(path))
    for name in r:
        np.testing.assert_allclose(read[name], r[name], rtol=1e-9, atol=1e-9, err_msg=name)
    assert float(read.social_cost) == pytest.approx(15 + 2 / 9, rel=1e-7)


@pytest.mark.parametrize(
    ("component", "column", "says"),
    [
        ("Generator", "capital_cost", "capital cost of Generator"),
        ("Generator", "p_nom_max", "p_nom_max of Generator"),
        ("Store", "e_nom_min", "e_nom_min of Store"),
        ("Link", "p_nom_extendable", "capital cost of Link"),
    ],
)
def test_changed_data_are_named(component: str, column: str, says: str) -> None:
    n = found(5, "averse", "direct")[0].copy()
    static = n.c[component].static
    rows = static[static.columns[static.columns.str.endswith("_nom_extendable")][0]].astype(bool)
    static.loc[rows, column] = False if column.endswith("extendable") else 1.25
    with pytest.raises(MarketError, match=says):
        p2p.results(n)


def test_standing_capacity_may_become_the_one_found() -> None:
    """`p_nom` of what is to be found plays no part: setting it to p_nom_opt changes nothing."""
    n, r = found(5, "averse", "direct")
    n = n.copy()
    static = n.c["Generator"].static
    rows = static["p_nom_extendable"].astype(bool)
    static.loc[rows, "p_nom"] = static.loc[rows, "p_nom_opt"]
    assert float(p2p.results(n).social_cost) == float(r.social_cost)


# ------------------------------------------------------------------ what is refused


def line(n: pypsa.Network) -> None:
    n.add("Bus", "garage")
    n.add("Line", "cable", bus0="house", bus1="garage", x=0.1, s_nom_extendable=True)


def grid_plant(n: pypsa.Network) -> None:
    n.add("Bus", "village")
    n.add("Generator", "mill", bus="village", p_nom_extendable=True, capital_cost=1.0)


def differing(n: pypsa.Network) -> None:
    n.c["Generator"].static.loc[("peak", "plant"), "capital_cost"] = 5.0


REFUSED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "no cost": ({"capital_cost": np.inf}, None, "'plant'.*capital_cost"),
    "no number": ({"capital_cost": np.nan}, None, "'plant'.*capital_cost"),
    "no lifetime": ({"overnight_cost": 1.0, "discount_rate": np.nan}, None, "'plant'.*overnight"),
    "no limit": ({"p_nom_max": np.nan}, None, "'plant'.*p_nom_max"),
    "no floor": ({"p_nom_min": np.inf}, None, "'plant'.*p_nom_min"),
    "below nothing": ({"p_nom_min": -1.0}, None, "'plant'.*p_nom_min"),
    "crossed": ({"p_nom_min": 2.0, "p_nom_max": 1.0}, None, "'plant'.*p_nom_min exceeds"),
    "set below nothing": ({"p_nom_set": -1.0}, None, "'plant'.*p_nom_set"),
    "modules": ({"p_nom_mod": 0.5}, None, "'plant'.*modules"),
    "commitment": ({"committable": True}, None, "'plant'.*commitment"),
    "a cost known too late": ({}, differing, "'plant'.*differs between scenarios"),
    "a line": ({}, line, "'cable'.*lines"),
    "nobody's": ({}, grid_plant, "'mill'.*no prosumer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_investment_that_cannot_be_honoured(case: str) -> None:
    values, edit, says = REFUSED[case]
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0)
    static = n.c["Generator"].static
    for column, value in values.items():
        static[column] = (
            static[column].astype(object) if column == "committable" else static[column]
        )
        static.loc[static.index.get_level_values(-1) == "plant", column] = value
    if edit is not None:
        edit(n)
    for door in (p2p.PeerToPeerMarket().optimize, lambda n: p2p.PeerToPeerMarket()(n, n.snapshots)):
        with pytest.raises(P2PError, match=says):
            door(n)
    assert "p2p" not in n.meta


def test_trade_capacity_is_data() -> None:
    n = market_network(instance(5), ())
    n.c["Link"].static["p_nom_extendable"] = True
    with pytest.raises(P2PError, match=r"Trade edges.*p_nom_extendable"):
        p2p.PeerToPeerMarket().optimize(n)


def test_contracts_at_unequal_weights_need_scenarios_apart() -> None:
    market = p2p.PeerToPeerMarket(
        risk=AVERSE, contracts=p2p.Contracts(), equilibrium="generalized", weights=[1.0, 2.0, 4.0]
    )
    with pytest.raises(MarketError, match="investment"):
        market.optimize(market_network(instance(5)))


def test_agents_know_no_investment() -> None:
    n = market_network(instance(5), ASSETS[:2])
    with pytest.raises(MarketError, match="p_nom_extendable"):
        p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), method=p2p.GaussSeidel())
