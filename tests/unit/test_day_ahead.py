"""What of two stages is refused, by name, and what tables hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.network.reading import read_market
from tests.by_hand.markets import three_node_in_two_stages as three_node

NEUTRAL = p2p.PeerToPeerMarket(surplus=False)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: p2p.PeerToPeerMarket(here_and_now=3), "must be names of assets"),
        (lambda: p2p.PeerToPeerMarket(here_and_now=("a", "a")), "repeats a name"),
        (
            lambda: replace(NEUTRAL, here_and_now=("coal",)).optimize(three_node()),
            "has 'coal', which is no",
        ),
        (
            lambda: replace(NEUTRAL, here_and_now=("0 - 1 day-ahead",)).optimize(three_node()),
            "trade edge '0 - 1 day-ahead'",
        ),
        (
            lambda: replace(NEUTRAL, here_and_now=("0 renewable",)).optimize(three_node()),
            "'0 renewable', whose limits leave no output",
        ),
        (
            lambda: p2p.add_trades(three_node(), [("0", "1")], capacity=1, decided="tomorrow"),
            "Argument decided is 'tomorrow'",
        ),
        (
            lambda: p2p.add_trades(three_node(), [("1", "0")], capacity=1, decided="day-ahead"),
            "trade already over the edges",
        ),
        (lambda: p2p.add_imbalance(three_node(), buy=1, sell=2), "sell exceeds buy"),
        (lambda: p2p.add_imbalance(three_node(), ["x"], buy=2, sell=1), "'x', which is no"),
    ],
)
def test_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(p2p.P2PError, match=words):
        call()


@pytest.mark.parametrize("method", [p2p.GaussSeidel(), p2p.Jacobi(), p2p.ADMM()])
def test_agents_refuse_what_is_decided_before(method: Any) -> None:
    """By name: trades day ahead, and assets."""
    with pytest.raises(p2p.MarketError, match=r"'0 - 1 day-ahead'.*decided day ahead"):
        p2p.solve_equilibrium(three_node(), p2p.PeerToPeerMarket(), method)
    committed = p2p.PeerToPeerMarket(here_and_now=("0 generation",))
    with pytest.raises(p2p.MarketError, match="here_and_now='0 generation'"):
        p2p.solve_equilibrium(three_node(ahead=False, friction=0.0), committed, method)


def test_pay_as_bid_is_refused() -> None:
    n = three_node()
    NEUTRAL.optimize(n)
    with pytest.raises(p2p.MarketError, match=r"pay_as_bid.*settled day ahead"):
        p2p.settle(n, "pay_as_bid")


def test_a_plan_that_no_scenario_allows_says_what_to_do() -> None:
    """Households without a choice of their own, and trades that cannot follow the scenario."""
    n = three_node()
    static = n.c["Generator"].static
    names = static.index.get_level_values(-1)
    static.loc[names.str.endswith("elastic demand"), "p_nom"] = 0.0
    with pytest.raises(p2p.MarketError, match=r"infeasible.*add_imbalance"):
        NEUTRAL.optimize(n)


def test_when_trades_are_decided_is_a_column() -> None:
    """Edges of a pair are told apart by it, in whatever direction they were written."""
    n = three_node(friction=0.5)
    decided = n.links.xs(n.scenarios[0])["decided"]
    assert decided.to_dict() == {
        "0 - 1 day-ahead": "day-ahead",
        "0 - 2 day-ahead": "day-ahead",
        "1 - 2 day-ahead": "day-ahead",
        "0 - 1": "real-time",
        "0 - 2": "real-time",
        "1 - 2": "real-time",
    }
    data = read_market(n)
    np.testing.assert_array_equal(data.ahead_of, [-1, -1, -1, 0, 1, 2, -1, -1, -1, 6, 7, 8])
    static = n.c["Link"].static
    swapped = static.index.get_level_values(-1) == "0 - 1"
    static.loc[swapped, ["bus0", "bus1"]] = ["1", "0"]
    data = read_market(n)
    np.testing.assert_array_equal(data.ahead_of, [-1, -1, -1, 6, 1, 2, -1, -1, -1, 0, 7, 8])
    static["decided"] = "today"
    with pytest.raises(p2p.DataError, match="decided of trade edge"):
        read_market(n)


def test_edges_of_a_pair_written_in_both_directions() -> None:
    """The same market, whatever end of an edge comes first."""
    costs = []
    for flip in (False, True):
        n = three_node()
        pairs = (
            [("1", "0"), ("2", "0"), ("2", "1")] if flip else [("0", "1"), ("0", "2"), ("1", "2")]
        )
        capacity = {("0", "1"): 10.0, ("0", "2"): 10.0, ("1", "2"): 5.0}
        capacity = {pair: capacity.get(pair, capacity.get(pair[::-1])) for pair in pairs}
        price = {("0", "1"): 1, ("0", "2"): 1, ("1", "2"): 1}
        price |= {("1", "0"): 3, ("2", "0"): 2, ("2", "1"): 1}
        dearer = {pair: b + 0.1 for pair, b in price.items()}
        p2p.add_trades(n, pairs, capacity=capacity, price=dearer, fee=0.1)
        p2p.PeerToPeerMarket(surplus=False, risk=p2p.CVaR()).optimize(n)
        assert p2p.certify(n).is_equilibrium()
        costs.append(float(p2p.results(n)["social_cost"]))
    assert costs == pytest.approx([14.5783313, 14.5783313], abs=1e-6)


def test_imbalance_is_replaced_and_leaves_with_its_prosumer() -> None:
    """A second call has other prices and no more generators; without limit none binds."""
    n = three_node()
    p2p.add_imbalance(n, buy=5.0, sell=0.5)
    before = len(n.generators)
    p2p.add_imbalance(n, ["0"], buy=7.0, sell=0.0)
    assert len(n.generators) == before
    price = n.generators.xs(n.scenarios[0])["marginal_cost"]
    assert price["0 imbalance bought"] == 7.0
    assert price["1 imbalance bought"] == 5.0
    size = n.generators.xs(n.scenarios[0])["p_nom"]["0 imbalance bought"]
    assert size > 20.0


def test_cheap_imbalance_that_pays_for_exports_is_refused() -> None:
    """Short at 5 and exported at 8: a money machine."""
    n = three_node()
    p2p.add_imbalance(n, buy=5.0, sell=0.5)
    p2p.add_retail(n, import_price=9.0, export_price=8.0)
    with pytest.raises(p2p.DataError, match="without end"):
        NEUTRAL.optimize(n)


def test_sweeps_savings_and_allocations_know_the_stages() -> None:
    """A sweep over capacities, which reuses a model, has the costs of markets solved anew."""
    n = three_node(friction=0.2)
    hedged = p2p.PeerToPeerMarket(surplus=False, risk=p2p.CVaR(), contracts=p2p.Contracts())
    swept = p2p.sweep(n, {"hedged": hedged}, {"trade_capacity": [0.5, 1.0]})
    half = three_node(friction=0.2)
    half.components.links.static["p_nom"] *= 0.5
    found = []
    for one in (half, n):
        hedged.optimize(one)
        found.append(float(p2p.results(one)["social_cost"]))
    np.testing.assert_allclose(swept["social_cost"].values.ravel(), found, atol=1e-7)
    saved = p2p.savings(n)
    assert (saved["saving_now"] > 0).all()
    shared = p2p.allocate(n, "market")
    assert float(shared["allocation"].sum()) == pytest.approx(found[1], abs=1e-6)
    assert float(shared["core_excess"]) < 1e-7


def test_alone_she_decides_here_and_now_too() -> None:
    """`without_trades` keeps what is committed: by herself she cannot follow either."""
    costs = []
    for shared in ((), ("0 generation",)):
        n = three_node(friction=0.2)
        replace(NEUTRAL, here_and_now=shared).optimize(n)
        alone = p2p.without_trades(n)
        costs.append(float(p2p.results(alone)["expected_cost"].sel(prosumer="0")))
        if shared:
            output = alone.generators_t.p.T.xs("0 generation", level="name").to_numpy()
            assert np.ptp(output) < 1e-9
    assert costs[1] > costs[0] + 1e-3


def test_pictures_add_up_both_times_of_trade() -> None:
    n = three_node(friction=0.2)
    NEUTRAL.optimize(n)
    pytest.importorskip("matplotlib")
    assert p2p.plot.trades(n).get_title() == "Expected trades"


def test_trades_day_ahead_clear_once() -> None:
    """(1) is in what is solved once, and its price in all scenarios by their probability."""
    n = three_node()
    posed = NEUTRAL.pose(n)
    program = NEUTRAL.problem(posed.compiled, posed.places, posed.data).program
    rows = posed.places.reciprocity[..., posed.data.day_ahead.to_numpy()]
    entries = np.diff(program.A.tocsr().indptr)[rows]
    assert (entries[0] == 2).all() and (entries[1:] == 0).all()
    NEUTRAL.clear(n, posed)
    now = n.links_t.mu_reciprocity.loc[:, (list(n.scenarios), "0 - 1 day-ahead")].to_numpy()
    np.testing.assert_allclose(now, 0.22819 / 3, atol=1e-5)
