"""Sizes far apart in one market: right, or refused or warned of by name, never silently wrong.

The reference is one equation: in one scenario, with trades that cost nothing and capacities that
do not bind, there is one price, at which demand, D* - lambda / (2 a~), meets generation,
(lambda - b) / a, and sun, each within its limits.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr
from scipy.optimize import brentq

import pypsa_p2p as p2p
from tests.laws.units import UNITS, in_units, results_in_units
from tests.reference.instances import Array, Instance, network, random_instance

#: Of each one's own numbers, however small beside the others'.
OWN = 1e-4
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
FOUR_UNITS = ("MW, EUR", "W, EUR", "GW, EUR", "MW, MEUR")


@dataclass(frozen=True)
class Extremes:
    """Who or what is smallest and largest: names, and numbers in any of some units."""

    names: tuple[str, str]
    numbers: tuple[float, float]

    def named_in(self, message: str) -> bool:
        """Whether both are there: by name, or by number up to a factor of 10."""
        if all(repr(name) in message or f"{name} " in message for name in self.names):
            return True
        found = [float(text) for text in NUMBER.findall(message)]
        ratio = self.numbers[1] / self.numbers[0]
        pairs = [y / x for x in found for y in found if x > 0 and y > 0]
        return any(0.1 < pair / ratio < 10 for pair in pairs)


def right_or_said(n: pypsa.Network, market: Any, extremes: Extremes) -> xr.Dataset | None:
    """Results that claim to be right; None where an error or a warning names the extremes."""
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            market.optimize(n)
        except p2p.P2PError as error:
            said = [str(error)]
    said += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    if said:
        assert any(map(extremes.named_in, said)), said
        return None
    found = p2p.certify(n)
    assert found.is_equilibrium(), found
    return p2p.results(n)


def close(found: xr.DataArray, wanted: Any, tolerance: float = OWN) -> None:
    """Each relative to itself."""
    np.testing.assert_allclose(found.to_numpy().squeeze(), wanted, rtol=tolerance, atol=0)


# ------------------------------------------------------------------------------ one price

SIZES = {"house": 1e-3, "mill": 5.0, "city": 1000.0, "port": 1000.0}


def town() -> pypsa.Network:
    """A house of 1 kW, a mill, a city and a port of 1 GW, where 100 EUR/MWh end all demand."""
    size = np.array(list(SIZES.values()))
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        list(SIZES),
        demand=size,
        demand_max=2 * size,
        utility_quadratic=50 / size,
        generation_max=[0, 0, 900, 500],
        marginal_cost=20.0,
        marginal_cost_quadratic=15 / size,
        renewable=0.3 * size,
    )
    edges = [(a, b) for k, a in enumerate(SIZES) for b in list(SIZES)[k + 1 :]]
    p2p.add_trades(n, edges, capacity={(a, b): 2 * min(SIZES[a], SIZES[b]) for a, b in edges})
    return n


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("unit", FOUR_UNITS)
def test_a_house_among_cities(unit: str, surplus: bool) -> None:
    """D = S (1 - lambda / 100), G = S (lambda - 20) / 30 of city and port, who has 500 at most.

    Sun is 0.3 S. 2005.001 (0.7 - lambda / 100) = 2000 (lambda - 20) / 30: lambda = 31.56, below
    the 35 at which the port would be at her limit.
    """
    size = np.array(list(SIZES.values()))
    total = size.sum()
    price = (0.7 * total + 2000 * 20 / 30) / (total / 100 + 2000 / 30)
    assert 20 < price < 35
    scale = UNITS[unit]
    n = in_units(town(), scale.power, scale.money)
    said = Extremes(("house", "city"), (1e-3, 1e3))
    r = right_or_said(n, p2p.PeerToPeerMarket(surplus=surplus), said)
    if r is None:
        return
    r = results_in_units(r, 1 / scale.power, 1 / scale.money)
    close(r.nodal_price, np.full(4, price), 1e-6)
    demand = size * (1 - price / 100)
    close(r.demand, demand)
    generation = np.array([0, 0, 1000, 1000]) * (price - 20) / 30
    close(r.generation, generation)
    close(r.net_import, demand - 0.3 * size - generation)
    lost = 50 / size * (demand - size) ** 2
    close(r.cost, lost + 20 * generation + 15 / size * generation**2)


def chain() -> pypsa.Network:
    """Cheap sells 1 MW to fair, who sells 1 to dear: all that fits over the two edges."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["cheap", "fair", "dear"],
        demand=[10, 5, 2],
        demand_max=20,
        utility_quadratic=[1e-3, 10, 5000],
        generation_max=[20, 20, 0],
        marginal_cost=[0.005, 5, 0],
        marginal_cost_quadratic=[0.0005, 0.5, 0],
    )
    p2p.add_trades(n, [("cheap", "fair"), ("fair", "dear")], capacity=1.0)
    return n


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("unit", FOUR_UNITS)
def test_prices_from_a_cent_to_ten_thousand(unit: str, surplus: bool) -> None:
    """cheap: 10 - 500 lambda + 1 = 1000 lambda - 5, lambda = 16 / 1500, a cent.

    fair passes on what she buys: 5 - lambda / 20 = lambda - 5, lambda = 200 / 21. dear consumes 1
    of 2 MW: lambda = 2 * 5000.
    """
    scale = UNITS[unit]
    n = in_units(chain(), scale.power, scale.money)
    said = Extremes(("cheap", "dear"), (16 / 1500, 1e4))
    r = right_or_said(n, p2p.PeerToPeerMarket(surplus=surplus), said)
    if r is None:
        return
    r = results_in_units(r, 1 / scale.power, 1 / scale.money)
    price = np.array([16 / 1500, 200 / 21, 1e4])
    close(r.nodal_price, price)
    demand = np.array([10, 5, 2]) - price / np.array([2e-3, 20, 1e4])
    generation = np.array([(price[0] - 0.005) * 1000, price[1] - 5, 0])
    close(r.demand, demand)
    close(r.generation, generation)
    lost = np.array([1e-3, 10, 5000]) * (np.array([10, 5, 2]) - demand) ** 2
    close(r.cost, lost + [0.005, 5, 0] * generation + [0.0005, 0.5, 0] * generation**2)
    close(r.trade_price.sel(trade=["fair <- cheap", "dear <- fair"]), price[:2])


# ------------------------------------------------------------------------- many, at random


def uneven(seed: int, decades: float) -> Instance:
    """A random market whose prosumers' sizes span `decades`; trades bind and cost nothing."""
    rng = np.random.default_rng([seed, 5])
    data = random_instance(seed, prosumers=6, scenarios=3)
    size = 10.0 ** rng.permutation(np.linspace(-decades / 2, decades / 2, 6))
    wide = size[:, None, None]
    several = {
        "demand": data.demand * wide,
        "renewable": data.renewable * wide,
        "demand_min": np.zeros(6),
        "demand_max": 20 * size,
        "generation_max": data.generation_max * size,
        "a": data.a / size,
        "utility_quadratic": data.utility_quadratic / size,
        "capacity": np.full(len(data.edges), 40 * size.max()),
        "price": np.zeros(2 * len(data.edges)),
        "import_price": np.zeros_like(data.import_price),
    }
    return Instance(**{**vars(data), **several})


def one_price(data: Instance) -> tuple[Array, Array, Array]:
    """Price (S,), demand and generation (N, S) where nothing keeps power from flowing."""
    n, s, _, _ = data.shape
    price, demand, generation = np.zeros(s), np.zeros((n, s)), np.zeros((n, s))
    for k in range(s):

        def at(value: float, k: int = k) -> tuple[Array, Array]:
            wanted = data.demand[:, k, 0] - value / (2 * data.utility_quadratic)
            offered = (value - data.b) / data.a
            return (
                np.clip(wanted, data.demand_min, data.demand_max),
                np.clip(offered, data.generation_min, data.generation_max),
            )

        def excess(value: float, k: int = k) -> float:
            wanted, offered = at(value)
            return float((wanted - offered - data.renewable[:, k, 0]).sum())

        price[k] = brentq(excess, -100, 100, xtol=1e-14, rtol=1e-15)
        demand[:, k], generation[:, k] = at(price[k])
    return price, demand, generation


@pytest.mark.parametrize("hedged", [False, True], ids=["neutral", "contracts"])
@pytest.mark.parametrize("decades", [3, 6, 9])
@pytest.mark.parametrize("seed", range(10), ids=[f"draw {k}" for k in range(10)])
def test_sizes_over_decades(seed: int, decades: float, hedged: bool) -> None:
    """Each one's demand and generation, relative to her own size, and the one price.

    Complete contracts change no dispatch, so they are held to the same one.
    """
    data = uneven(seed, decades)
    options = {"risk": p2p.CVaR(), "contracts": p2p.Contracts()} if hedged else {}
    biggest, least = np.argmax(data.demand_max), np.argmin(data.demand_max)
    said = Extremes((data.names[least], data.names[biggest]), (1.0, 10.0**decades))
    r = right_or_said(network(data), p2p.PeerToPeerMarket(surplus=False, **options), said)
    if r is None:
        return
    price, demand, generation = one_price(data)
    found = r.sel(prosumer=list(data.names), scenario=data.scenarios).isel(snapshot=0)
    if not hedged:
        np.testing.assert_allclose(found.nodal_price, np.tile(price[:, None], 6), rtol=1e-6)
    own = data.demand_max[:, None]
    for name, wanted in (("demand", demand), ("generation", generation)):
        np.testing.assert_allclose(found[name].T / own, wanted / own, rtol=0, atol=OWN / 20)


# ---------------------------------------------------------------------------- what is idle


@pytest.mark.parametrize("cost", [1e6, 1e9])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"risk": p2p.CVaR()},
        {"risk": p2p.CVaR(), "contracts": p2p.Contracts()},
        {"risk": p2p.CVaR(), "contracts": p2p.Contracts(limit=0.5)},
    ],
    ids=["neutral", "averse", "contracts", "limited"],
)
def test_a_cost_that_nobody_pays_changes_nothing(options: dict[str, Any], cost: float) -> None:
    """A generator at 1e3 EUR/MWh is as idle as at 1e9: the same prices, to what is promised."""
    data = random_instance(3, prosumers=4, scenarios=3)
    found = []
    for idle in (1e3, cost):
        n = network(Instance(**{**vars(data), "b": np.where(np.arange(4) == 1, idle, data.b)}))
        p2p.PeerToPeerMarket(**options).optimize(n)
        certificate = p2p.certify(n)
        assert certificate.is_equilibrium(), certificate
        found.append(p2p.results(n))
    for name in ("nodal_price", "demand", "cost"):
        xr.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("risk", [None, p2p.CVaR()], ids=["neutral", "averse"])
def test_a_market_that_costs_nothing(risk: p2p.CVaR | None) -> None:
    """Any dispatch is optimal, at no cost and no price."""
    data = random_instance(3, prosumers=4, scenarios=3)
    nothing = {name: 0 * vars(data)[name] for name in ("a", "b", "utility_quadratic", "price")}
    n = network(Instance(**{**vars(data), **nothing, "import_price": 0 * data.import_price}))
    p2p.PeerToPeerMarket(risk=risk).optimize(n)
    r = p2p.results(n)
    assert float(abs(r.nodal_price).max()) < 1e-9
    assert float((r.cost.max("scenario") - r.cost.min("scenario")).max()) < 1e-9
    assert p2p.certify(n).is_equilibrium()
