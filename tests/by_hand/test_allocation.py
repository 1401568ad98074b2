"""Allocations by hand (MODEL.md §10): published games, and the coalitions of the three nodes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.studies.allocation.core import least_core, nucleolus, variance_core
from pypsa_p2p.studies.allocation.games import Game, drawn_orders
from pypsa_p2p.studies.allocation.shapley import shapley, shapley_drawn
from tests.by_hand.markets import seller_and_buyer
from tests.reference.instances import network, three_node

# ------------------------------------------------------------------ published games

#: Three games of the package TheoryOfGames.jl, by mask: v(1), v(2), v(12), v(3), ...
THREE = dict(zip(range(1, 8), (2.0, 5.0, 14.0, 4.0, 18.0, 9.0, 24.0), strict=True))
ONE_AND_ANOTHER = dict(zip(range(1, 8), (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0), strict=True))
ONE_ALONE = dict(zip(range(1, 8), (1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0), strict=True))


def game(value: dict[int, float]) -> Game:
    return Game.of_values(value, 3)


def test_a_published_game() -> None:
    """v(1, 2, 3, 12, 13, 23, 123) = (2, 5, 4, 14, 18, 9, 24).

    Nucleolus: {2} and {13} share v(N) and want 5 + 18, so that both get 0.5 more, y_2 = 5.5. Least
    core: with that y_1 + y_3 = 18.5, as even as can be. Core: y_1 + y_3 >= 18, so that y_2 = 6.
    """
    assert shapley(THREE, 3) == pytest.approx([9.5, 6.5, 8.0], abs=1e-12)
    assert nucleolus(game(THREE)) == pytest.approx([11.5, 5.5, 7.0], abs=1e-9)
    assert least_core(game(THREE)) == pytest.approx([9.25, 5.5, 9.25], abs=1e-9)
    assert variance_core(game(THREE)) == pytest.approx([9.0, 6.0, 9.0], abs=1e-9)
    for share in (nucleolus(game(THREE)), least_core(game(THREE))):
        assert game(THREE).excess(share).max() == pytest.approx(-0.5, abs=1e-9)


@pytest.mark.parametrize("allocated", [nucleolus, least_core, variance_core])
def test_games_with_a_veto(allocated: object) -> None:
    """Without 1 nobody has anything: the core is (1, 0, 0) alone."""
    for value in (ONE_AND_ANOTHER, ONE_ALONE):
        share = allocated(game(value))  # type: ignore[operator]
        assert share == pytest.approx([1.0, 0.0, 0.0], abs=1e-9)
    assert shapley(ONE_AND_ANOTHER, 3) == pytest.approx([2 / 3, 1 / 6, 1 / 6], abs=1e-12)
    assert shapley(ONE_ALONE, 3) == pytest.approx([1.0, 0.0, 0.0], abs=1e-12)


def test_an_empty_core() -> None:
    """Any two of three have all there is: each pair wants 1, and there is 1 for three."""
    value = {mask: float(mask.bit_count() > 1) for mask in range(1, 8)}
    with pytest.raises(p2p.MarketError, match=r"core is empty: .* save 0.333333 EUR more"):
        variance_core(game(value))
    for allocated in (least_core, nucleolus):
        assert allocated(game(value)) == pytest.approx([1 / 3] * 3, abs=1e-9)
    assert shapley(value, 3) == pytest.approx([1 / 3] * 3, abs=1e-12)


def test_nobody_to_share_with() -> None:
    alone = Game.of_values({1: 3.0}, 1)
    for allocated in (nucleolus, least_core, variance_core):
        assert allocated(alone) == pytest.approx([3.0])
    assert shapley({1: 3.0}, 1) == pytest.approx([3.0])


def test_the_nucleolus_goes_on_after_the_worst() -> None:
    """Maschler, Peleg and Shapley's steps on an estate of 200 and claims of 100, 200, 300.

    What the others leave of the estate is what a coalition has for sure. The Talmud has it that
    (50, 75, 75) is just, and Aumann and Maschler (1985) that this is the nucleolus.
    """
    claims, estate = np.array([100.0, 200.0, 300.0]), 200.0
    value = {}
    for mask in range(1, 8):
        others = sum(claims[k] for k in range(3) if not mask >> k & 1)
        value[mask] = max(0.0, estate - others)
    assert nucleolus(game(value)) == pytest.approx([50.0, 75.0, 75.0], abs=1e-9)


def test_drawn_orders_come_near() -> None:
    """Over all that is drawn v(N) is shared; the exact value lies within four standard errors."""
    share, error = shapley_drawn(THREE, drawn_orders(3, 400, seed=1))
    assert share.sum() == pytest.approx(24.0, abs=1e-9)
    assert (error > 0).all()
    assert (np.abs(share - [9.5, 6.5, 8.0]) < 4 * error).all()
    every = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    assert shapley_drawn(THREE, every)[0] == pytest.approx([9.5, 6.5, 8.0], abs=1e-12)


# ------------------------------------------------------------------ three nodes

DESIGNS = {
    "neutral": p2p.PeerToPeerMarket(surplus=False),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(), surplus=False),
}
#: Of {0}, {1}, {2}, {01}, {02}, {12} and all.
COSTS = {
    "neutral": (1.126464, 12.020640, 11.543935, 6.806961, 5.613109, 22.103384, 7.610290),
    "averse": (1.161936, 25.713428, 26.151709, 12.372805, 9.658874, 36.712332, 13.977125),
    "contracts": (1.161936, 25.713428, 26.151709, 7.020734, 5.965331, 27.275266, 8.074886),
}
ALLOCATED = {
    ("neutral", "market"): (-1.866934, 2.694467, 6.782757),
    ("neutral", "shapley"): (-6.312961, 7.379265, 6.543986),
    ("neutral", "nucleolus"): (-5.572253, 7.008911, 6.173632),
    ("neutral", "nash"): (-4.567119, 6.327057, 5.850352),
    ("averse", "market"): (-2.732528, 4.340153, 12.369500),
    ("averse", "shapley"): (-12.163333, 13.639142, 12.501316),
    ("averse", "nucleolus"): (-12.471953, 14.581505, 11.867573),
    ("averse", "nash"): (-11.854713, 12.696779, 13.135059),
    ("contracts", "market"): (-1.888843, 2.921327, 7.042402),
    ("contracts", "shapley"): (-12.492660, 10.438054, 10.129492),
    ("contracts", "nucleolus"): (-11.163194, 10.146742, 9.091338),
    ("contracts", "nash"): (-13.822126, 10.729366, 11.167647),
}
EXCESS = {
    ("neutral", "market"): -0.697285,
    ("averse", "market"): -0.021901,
    ("contracts", "market"): -0.811771,
    ("neutral", "shapley"): -4.641375,
    ("neutral", "nucleolus"): -5.011729,
    ("averse", "nucleolus"): -10.263254,
    ("contracts", "nucleolus"): -8.037186,
}


@cache
def solved(design: str) -> pypsa.Network:
    n = network(three_node())
    DESIGNS[design].optimize(n)
    return n


@cache
def allocated(design: str, method: str) -> xr.Dataset:
    return p2p.allocate(solved(design), method, progress=False)


@pytest.mark.parametrize("design", COSTS)
def test_what_coalitions_of_three_nodes_cost(design: str) -> None:
    d = allocated(design, "market")
    assert d.coalition.values.tolist() == [
        "node0", "node1", "node2", "node0 + node1", "node0 + node2", "node1 + node2",
        "node0 + node1 + node2",
    ]  # fmt: skip
    assert d.coalition_cost.values == pytest.approx(COSTS[design], abs=1e-6)
    assert d.member.sel(coalition="node0 + node2").values.tolist() == [True, False, True]


@pytest.mark.parametrize(("design", "method"), ALLOCATED)
def test_allocations_of_three_nodes(design: str, method: str) -> None:
    d, r = allocated(design, method), p2p.results(solved(design))
    assert d.allocation.values == pytest.approx(ALLOCATED[design, method], abs=1e-6)
    own = r.risk_adjusted_cost
    assert d.transfer.values == pytest.approx((d.allocation - own).values, abs=1e-12)
    assert float(d.transfer.sum()) == pytest.approx(0.0, abs=1e-9)
    assert d.saving.values == pytest.approx(COSTS[design][:3] - d.allocation.values, abs=2e-6)
    if (design, method) in EXCESS:
        assert float(d.core_excess) == pytest.approx(EXCESS[design, method], abs=1e-6)


@pytest.mark.parametrize("design", DESIGNS)
def test_equal_savings_are_the_most_even_core(design: str) -> None:
    """They are in the core here, so that nothing in it is more even."""
    even = allocated(design, "nash").allocation
    assert allocated(design, "variance_core").allocation.values == pytest.approx(even, abs=1e-8)


def test_the_least_core_of_three_nodes() -> None:
    """As good to the worst coalition as the nucleolus is, and more even."""
    d, worst_first = allocated("neutral", "least_core"), allocated("neutral", "nucleolus")
    assert float(d.core_excess) == pytest.approx(float(worst_first.core_excess), abs=1e-9)
    assert float(d.saving.std()) < float(worst_first.saving.std()) - 0.1
    assert d.allocation.values == pytest.approx([-5.213679, 7.008911, 5.815058], abs=1e-6)


def test_bargaining_power() -> None:
    """Savings of 17.080749 in all, by 1 : 2 : 5."""
    n, total = solved("neutral"), 1.126464 + 12.020640 + 11.543935 - 7.610290
    d = p2p.allocate(n, "nash", weights={"node2": 5, "node0": 1, "node1": 2}, progress=False)
    assert d.saving.values == pytest.approx(total * np.array([1, 2, 5]) / 8, abs=5e-6)


# ------------------------------------------------------------------ a seller and a buyer


def test_plain_trade() -> None:
    """One MWh costs 10 and is worth 30, so that they save 20; its price is 20, the middle.

    The buyer alone goes without, which costs her 30. There is one pair: methods agree.
    """
    n = seller_and_buyer(30.0)
    p2p.PeerToPeerMarket().optimize(n)
    for method in ("market", "nucleolus"):
        d = p2p.allocate(n, method, progress=False)
        assert d.coalition_cost.values == pytest.approx([0.0, 30.0, 10.0], abs=1e-6)
        assert d.allocation.values == pytest.approx([-10.0, 20.0], abs=1e-5)
        assert d.transfer.values == pytest.approx([-20.0, 20.0], abs=1e-5)
        assert d.saving.values == pytest.approx([10.0, 10.0], abs=1e-5)
        assert float(d.core_excess) == pytest.approx(-10.0, abs=1e-5)


# ------------------------------------------------------------------ rules by the hour

#: What three households take, and what each pays by the rules between .3 and .1 EUR/MWh.
HOURLY = {
    (6, -3, -1): {
        "mid_market": (1.4, -0.6, -0.2),
        "bill_sharing": (0.6, 0.0, 0.0),
        "supply_demand_ratio": (1.114286, -0.385714, -0.128571),
    },
    (3, -4, -1): {
        "mid_market": (0.6, -0.64, -0.16),
        "bill_sharing": (0.0, -0.16, -0.04),
        "supply_demand_ratio": (0.3, -0.4, -0.1),
    },
    (4, -3, -1): {
        "mid_market": (0.8, -0.6, -0.2),
        "bill_sharing": (0.0, 0.0, 0.0),
        "supply_demand_ratio": (0.4, -0.3, -0.1),
    },
}


def a_customer(*taken: tuple[float, ...], **risk: float) -> pypsa.Network:
    """Three households, of loads and must-take generation, with a retailer at .3 and .1.

    `taken` by scenario, equally likely; both loads and suns differ where there are two.
    """
    n, names = pypsa.Network(), ["a", "b", "c"]
    used, made = np.maximum(taken, 0.0), np.maximum(np.negative(taken), 0.0)
    fixed = {"demand": used[0], "demand_min": used[0], "demand_max": used[0]}
    p2p.add_prosumers(n, names, **fixed, utility_quadratic=0, renewable=made[0], **risk)
    p2p.add_retail(n, import_price=0.3, export_price=0.1)
    p2p.add_trades(n, "complete", capacity=10)
    if len(taken) > 1:
        coords = {"scenario": ["one", "two"], "prosumer": names}
        numbers = {**dict.fromkeys(fixed, used), "renewable": made}
        data = {name: xr.DataArray(one, coords=coords) for name, one in numbers.items()}
        p2p.set_scenarios(n, {"one": 0.5, "two": 0.5}, xr.Dataset(data))
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR() if risk else None, surplus=False)
    market.optimize(n)
    return n


@pytest.mark.parametrize("taken", HOURLY)
def test_rules_by_the_hour(taken: tuple[float, ...]) -> None:
    """Payments are all that anybody bears, and sum to what the retailer gets: .6, -.2, 0."""
    n = a_customer(taken)
    retailer = max(sum(taken), 0) * 0.3 - max(-sum(taken), 0) * 0.1
    for rule, paid in HOURLY[taken].items():
        d = p2p.allocate(n, rule, progress=False)
        assert d.payment.sel(scenario="certain", snapshot="now").values == pytest.approx(
            paid, abs=1e-6
        )
        assert d.allocation.values == pytest.approx(paid, abs=1e-6)
        assert float(d.allocation.sum()) == pytest.approx(retailer, abs=1e-9)
        assert float(d.coalition_cost[-1]) == pytest.approx(retailer, abs=1e-9)
        assert d.attrs["sum_less_social_cost"] == pytest.approx(0.0, abs=1e-9)


def test_bill_sharing_may_drive_sellers_away() -> None:
    """Who sell for nothing what their retailer would pay .1 for: .4 for both of them."""
    d = p2p.allocate(a_customer((6, -3, -1)), "bill_sharing", progress=False)
    assert float(d.core_excess) == pytest.approx(0.4, abs=1e-9)
    assert d.worst_coalition.item() == "b + c"
    assert d.saving.values == pytest.approx([1.2, -0.3, -0.1], abs=1e-9)


def test_other_prices_than_the_contracts() -> None:
    """2 MWh at .5 instead of .3: .4 more than the market costs."""
    d = p2p.allocate(a_customer((6, -3, -1)), "mid_market", buy=0.5, sell=0.1, progress=False)
    assert d.attrs["sum_less_social_cost"] == pytest.approx(0.4, abs=1e-9)
    assert d.attrs["retailer_gets_more"] == pytest.approx(0.4, abs=1e-9)


def test_the_risk_of_what_a_rule_makes_one_pay() -> None:
    """At chi = .5 of two equally likely scenarios the worse: (1.4, -.6, -.16), .64 in sum.

    Those of the retailer are .6 and -.2, and the market costs .6: as trades have no cost, every
    household can have her worst in the same scenario. The retailer gets what he got.
    """
    n = a_customer((6, -3, -1), (3, -4, -1), risk_attitude=0.5)
    d = p2p.allocate(n, "mid_market", progress=False)
    assert d.allocation.values == pytest.approx([1.4, -0.6, -0.16], abs=1e-6)
    assert float(d.coalition_cost[-1]) == pytest.approx(0.6, abs=1e-6)
    assert d.attrs["sum_less_social_cost"] == pytest.approx(0.04, abs=1e-6)
    assert d.attrs["retailer_gets_more"] == pytest.approx(0.0, abs=1e-6)
