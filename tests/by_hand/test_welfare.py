"""Social cost functions (MODEL.md §14): numbers of the three-node market, pencil and paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.studies.market_words import market_from
from tests.by_hand.markets import pair
from tests.reference.instances import network
from tests.reference.package import ROUTES, solved

#: Cost of every node by what is asked for and whether risk is taken.
ALONE = {False: [1.126464, 12.020640, 11.543935], True: [1.161936, 25.713428, 26.151709]}
COSTS = {
    ("utilitarian", False): [-1.016932, -2.021392, 10.648615],
    ("utilitarian", True): [-0.678826, 3.981606, 10.674345],
    ("nash", False): [-1.3628540, 4.4359163, 7.7515730],
    ("nash", True): [-1.344722, 3.981606, 12.412197],
    ("leximin", False): [-0.2238205, 6.260243, 6.260243],
    ("leximin", True): [-0.2196063, 8.306207, 8.306207],
}
NASH_VALUE = {False: 4.271134, True: 6.618004}
GAINS = {
    False: [2.888152, 3.7925729, 3.7925729],
    True: [2.811887, 13.1546224, 13.1546224],
}
LARGEST = {False: 6.260243, True: 8.306207}
WELFARE = {
    "utilitarian": p2p.Utilitarian(),
    "nash": p2p.Nash(),
    "leximin": p2p.Leximin(),
    "maximin": p2p.Maximin(),
    "maximin gain": p2p.Maximin(reference="alone"),
    "leximin gain": p2p.Leximin(reference="alone"),
}

EVERY_RISK = pytest.mark.parametrize("averse", [False, True], ids=["neutral", "averse"])
EVERY_ROUTE = pytest.mark.parametrize("route", ROUTES)


def three_nodes(
    what: str, averse: bool, route: str = "direct", **options: Any
) -> tuple[pypsa.Network, xr.Dataset]:
    """The market of MODEL.md §9 with a social cost function, solved."""
    n = p2p.load_grid("three_node")
    risk = p2p.CVaR() if averse else None
    market = p2p.CentralizedMarket(risk=risk, surplus=False, welfare=WELFARE[what], **options)
    if route == "hook":
        n.optimize(extra_functionality=market)
    else:
        market.optimize(n)
    return n, p2p.results(n)


@EVERY_ROUTE
@EVERY_RISK
@pytest.mark.parametrize("what", ["utilitarian", "nash", "leximin"])
def test_costs(what: str, averse: bool, route: str) -> None:
    """Nobody would pay more than alone at the least sum, so that participation binds nowhere."""
    n, r = three_nodes(what, averse, route, participation=what == "utilitarian")
    np.testing.assert_allclose(r.risk_adjusted_cost, COSTS[what, averse], rtol=0, atol=1e-6)
    assert float(r.social_cost) == pytest.approx(sum(COSTS[what, averse]), abs=2e-6)
    if what != "leximin":
        np.testing.assert_allclose(r.reference_cost, ALONE[averse], rtol=0, atol=1e-6)
        np.testing.assert_allclose(r.gain, r.reference_cost - r.risk_adjusted_cost)
    assert p2p.certify(n).is_equilibrium()


@EVERY_ROUTE
@EVERY_RISK
def test_nash_value_and_weights(averse: bool, route: str) -> None:
    """Weights are 1/gain; risk-neutral those of 1 and 2 stand 1 : 2, the rate of their trades."""
    _, r = three_nodes("nash", averse, route)
    assert float(np.log(r.gain).sum()) == pytest.approx(NASH_VALUE[averse], abs=1e-6)
    np.testing.assert_allclose(r.welfare_weight * r.gain, 1.0, rtol=1e-7)
    if not averse:
        weight = r.welfare_weight / r.welfare_weight.mean()
        np.testing.assert_allclose(weight, [1.511636, 0.496122, 0.992242], rtol=0, atol=2e-6)
        assert float(weight[2] / weight[1]) == pytest.approx(2.0, abs=1e-7)


@EVERY_ROUTE
@EVERY_RISK
def test_largest_cost_and_least_gain(averse: bool, route: str) -> None:
    """Of costs 1 and 2 are the worst off, of gains 0 alone."""
    _, r = three_nodes("maximin", averse, route)
    assert float(r.risk_adjusted_cost.max()) == pytest.approx(LARGEST[averse], abs=1e-6)
    np.testing.assert_allclose(r.welfare_weight, [0, 1 / 3, 2 / 3], rtol=0, atol=1e-7)
    assert r.nodal_price.sel(prosumer="0").isnull().all()  # nobody minds what she pays
    n, r = three_nodes("maximin gain", averse, route)
    assert float(r.gain.min()) == pytest.approx(GAINS[averse][0], abs=1e-6)
    np.testing.assert_allclose(r.welfare_weight, [1, 0, 0], rtol=0, atol=1e-7)
    assert p2p.certify(n).is_equilibrium()


@EVERY_ROUTE
@EVERY_RISK
def test_leximin_of_gains(averse: bool, route: str) -> None:
    """When 0 cannot gain more, the least gain of the others is the largest that is left."""
    n, r = three_nodes("leximin gain", averse, route)
    np.testing.assert_allclose(r.gain, GAINS[averse], rtol=0, atol=1e-6)
    _, at_first = three_nodes("maximin gain", averse)
    assert float(np.sort(r.gain)[1]) >= float(np.sort(at_first.gain)[1]) - 1e-6
    assert p2p.certify(n).is_equilibrium()


@EVERY_RISK
@pytest.mark.parametrize("what", ["nash", "maximin"])
def test_dispatch_is_that_of_the_equilibrium_of_these_weights(what: str, averse: bool) -> None:
    """MODEL.md §4: sigma = m tau in the place of tau, which is what Rosen's weights do."""
    _, r = three_nodes(what, averse)
    weight = r.welfare_weight.clip(min=1e-7 if what == "maximin" else 0.0)
    peers = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(
        equilibrium="generalized",
        weights=weight.to_series(),
        risk=p2p.CVaR() if averse else None,
        surplus=False,
    ).optimize(peers)
    found = p2p.results(peers)
    minded = (r.welfare_weight > 0) & (r.risk_adjusted_probability > 1e-6)
    for name in ("demand", "generation"):
        change = (found[name] - r[name]).where(minded, 0.0)
        assert float(abs(change).max()) < 1e-4
    if what == "nash":
        change = (found.nodal_price - r.nodal_price).where(minded, 0.0)
        assert float(abs(change).max()) < 1e-4


def test_prices_explain_themselves() -> None:
    """Every end of an edge has its own price; (12) holds with it."""
    n, r = three_nodes("nash", False)
    implied = p2p.prices.implied_trade_price(n)
    np.testing.assert_allclose(implied, r.trade_price, rtol=0, atol=1e-6)
    assert float(abs(r.trade_price - r.trade_price.roll(trade=3)).max()) > 0.1
    weight = {name: float(r.welfare_weight.sel(prosumer=name)) for name in ("0", "1", "2")}
    common = r.trade_price * xr.DataArray([weight[b] for b in r.buyer.values], dims="trade")
    np.testing.assert_allclose(common.values, np.roll(common.values, 3, axis=-1), atol=1e-6)


# ---------------------------------------------------------------------- pencil and paper


def two(welfare: Any = None, price: float = 5.0, **options: Any) -> tuple[Any, xr.Dataset]:
    """A generates at q^2 + q for B, who wants 6 at (6 - q)^2; B pays A `price` for it."""
    market = p2p.CentralizedMarket(welfare=welfare, surplus=False, **options)
    return solved(pair(price=(price, price)), market)


def test_nash_of_two() -> None:
    """Gains 4q - q^2 and 7q - q^2: 2/q = 1/(4 - q) + 1/(7 - q), 4q^2 - 33q + 56 = 0."""
    _, r = two(p2p.Nash())
    q = (33 - np.sqrt(1089 - 896)) / 8
    np.testing.assert_allclose(r.gain, [4 * q - q**2, 7 * q - q**2], atol=1e-7)


def test_bargaining_power_of_two() -> None:
    """All power to B but a trifle: her best, q = 3.5, is A's 1.75."""
    _, r = two(p2p.Nash(weights={"A": 1e-6, "B": 1.0}))
    np.testing.assert_allclose(r.gain, [1.75, 12.25], atol=1e-4)


def test_sum_and_largest_of_two() -> None:
    """Least sum at q = 2.75; the larger cost, B's, least at 3.5; A's gain, the smaller, at 2."""
    assert float(two()[1].quantity.max()) == pytest.approx(2.75, abs=1e-7)
    assert float(two(p2p.Maximin())[1].quantity.max()) == pytest.approx(3.5, abs=1e-6)
    _, r = two(p2p.Maximin(reference="alone"))
    np.testing.assert_allclose(r.gain, [4.0, 10.0], atol=1e-6)


def test_participation_of_two() -> None:
    """At a price of 2, A gains q - q^2 < 0 beyond q = 1: m_A (1 - 2q) + 10 - 2q = 0, m_A = 8."""
    _, r = two(price=2.0, participation=True)
    np.testing.assert_allclose(r.gain, [0.0, 9.0], atol=1e-6)
    np.testing.assert_allclose(r.welfare_weight, [8.0, 1.0], atol=1e-5)
    np.testing.assert_allclose(r.nodal_price.values.ravel(), [3.0, 10.0], atol=1e-6)
    free = two(price=2.0)[1]
    assert float(free.risk_adjusted_cost[0]) > 4.0


def test_weights_of_two() -> None:
    """w (2q - 4) + 2q - 7 = 0 at w = 2: q = 2.5."""
    n, r = two(p2p.Utilitarian(weights=[2.0, 1.0]))
    assert float(r.quantity.max()) == pytest.approx(2.5, abs=1e-7)
    np.testing.assert_allclose(r.welfare_weight, [2.0, 1.0])
    assert p2p.certify(n).is_equilibrium()


def test_given_references_of_two() -> None:
    """B is counted from 30, not 36: 1/q-like terms change, and (4 - 2q)/(4q - q^2) balances."""
    _, r = two(p2p.Nash(reference={"A": 0.0, "B": 30.0}))
    q = float(r.quantity.max())
    gain = np.array([4 * q - q**2, 7 * q - q**2 - 6])
    np.testing.assert_allclose(r.gain, gain, atol=1e-7)
    assert (4 - 2 * q) / gain[0] + (7 - 2 * q) / gain[1] == pytest.approx(0.0, abs=1e-6)


# ---------------------------------------------------------------------- levels


SCALE, SHIFT = {"0": 2.0, "1": 0.5, "2": 10.0}, {"0": 1.0, "1": -4.0, "2": 3.0}


@EVERY_RISK
@pytest.mark.parametrize(
    ("what", "scale", "shift", "invariant"),
    [
        ("nash", SCALE, SHIFT, True),
        ("utilitarian", SCALE, 0.0, False),
        ("utilitarian", 3.0, SHIFT, True),
        ("maximin", 3.0, SHIFT, False),
        ("maximin", 3.0, 5.0, True),
        ("maximin gain", 3.0, SHIFT, True),
        ("maximin gain", SCALE, 0.0, False),
    ],
    ids=[
        "nash each",
        "sum each",
        "sum common unit",
        "largest common unit",
        "largest common",
        "gain common unit",
        "gain each",
    ],
)
def test_which_choice_survives_which_rescaling(
    what: str, scale: Any, shift: Any, invariant: bool, averse: bool
) -> None:
    """The table of levels of MODEL.md §14."""
    n = p2p.load_grid("three_node")
    risk = p2p.CVaR() if averse else None
    market = p2p.CentralizedMarket(risk=risk, welfare=WELFARE[what], surplus=False)
    found = p2p.welfare_invariance(n, market, scale, shift)
    assert found.attrs["invariant"] is invariant
    assert (float(abs(found.change).max()) < 1e-6) is invariant
    if what == "utilitarian" and not invariant:
        moved = [-0.78473, 15.33979, 5.25663] if averse else [-1.31179, 19.25787, 0.47983]
        np.testing.assert_allclose(found.cost_rescaled, moved, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------- certificate and reports


def test_a_certificate_knows_wrong_weights() -> None:
    """Weights that are not 1/gain, another reference, another order of the rest."""
    n, _ = three_nodes("nash", False)
    n.meta["p2p"]["reference_cost"][1] += 1e-3
    assert p2p.certify(n).residuals["reference costs"] > 1e-5
    n, _ = three_nodes("nash", False)
    n.meta["p2p"]["welfare_weight"][1] *= 1.001
    assert not p2p.certify(n).is_equilibrium()
    n, _ = three_nodes("maximin gain", False)
    n.meta["p2p"]["welfare"]["welfare"] = "Leximin"
    assert p2p.certify(n).residuals["the next largest costs"] > 1e-3
    n, _ = three_nodes("utilitarian", False, participation=True)
    n.meta["p2p"]["welfare"] = p2p.Maximin().settings()
    assert p2p.certify(n).residuals["welfare weights"] > 1e-3


def test_results_survive_a_file(tmp_path: Any) -> None:
    """What is recorded of a social cost function is read again."""
    n, r = three_nodes("nash", True)
    n.export_to_netcdf(tmp_path / "n.nc")
    again = pypsa.Network(tmp_path / "n.nc")
    xr.testing.assert_allclose(p2p.results(again).gain, r.gain)
    assert p2p.certify(again).is_equilibrium()


def test_compare_shows_what_fairness_costs() -> None:
    """Sum, largest, least gain and Nash value side by side; each design is best in its own."""
    designs = {
        name: three_nodes(name, False, participation=name == "utilitarian")[0]
        for name in ("utilitarian", "nash", "maximin", "maximin gain")
    }
    table = p2p.compare(designs)
    assert table["price_of_fairness"].idxmin() == "utilitarian"
    assert table.loc["nash", "price_of_fairness"] == pytest.approx(
        10.824635 / 7.610290 - 1, abs=1e-6
    )
    assert table["largest_cost"].idxmin() == "maximin"
    assert table["least_gain"].idxmax() == "maximin gain"
    assert table["nash_value"].idxmax() == "nash"
    assert table.loc["nash", "nash_value"] == pytest.approx(NASH_VALUE[False], abs=1e-6)


def test_a_sweep_of_social_cost_functions() -> None:
    """Markets of all social cost functions are posed once, and keep their weights."""
    markets = {
        name: p2p.CentralizedMarket(welfare=WELFARE[name], surplus=False)
        for name in ("nash", "leximin", "maximin gain")
    }
    found = p2p.sweep(p2p.load_grid("three_node"), markets)
    costs = found.risk_adjusted_cost.sel(market="nash")
    np.testing.assert_allclose(costs, COSTS["nash", False], atol=1e-6)
    np.testing.assert_allclose(
        found.welfare_weight.sel(market="maximin gain"), [1, 0, 0], atol=1e-7
    )


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"aggregate": "community", "risk": p2p.CVaR(attitude=0.5)}, "aggregate='prosumers'"),
        ({"contracts": p2p.Contracts(), "risk": p2p.CVaR()}, "are payments"),
        ({"risk": p2p.KullbackLeibler(0.1)}, "is a curve"),
    ],
)
@pytest.mark.parametrize("welfare", [p2p.Nash(), p2p.Utilitarian(weights=[1.0, 2.0, 3.0])], ids=str)
def test_refused_options(options: dict[str, Any], says: str, welfare: Any) -> None:
    """Named, with the reason, before anything is built."""
    n = p2p.load_grid("three_node")
    with pytest.raises(p2p.MarketError, match=says):
        p2p.CentralizedMarket(welfare=welfare, **options).optimize(n)


def test_what_is_built_counts_as_its_payer_does() -> None:
    """B builds at 2 a MW what saves A nothing; nobody minds what she then pays for it."""
    n = network(pair(price=(5.0, 5.0)))
    n.add("Generator", "roof", bus="B", p_nom_extendable=True, capital_cost=2.0, p_nom_max=1.0)
    p2p.CentralizedMarket(welfare=p2p.Maximin(reference="alone"), surplus=False).optimize(n)
    r = p2p.results(n)
    np.testing.assert_allclose(r.welfare_weight, [1.0, 0.0], atol=1e-7)
    assert float(r.reference_cost[1]) == pytest.approx(2.0 + 25.0, abs=1e-6)
    assert float(r.gain[0]) == pytest.approx(4.0, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize(
    "risk", [p2p.TotalVariation(0.2), p2p.Spectral({0: 0.5, 0.6: 0.5})], ids=["TV", "spectral"]
)
def test_measures_that_are_no_boxes(risk: Any) -> None:
    """Their least sum is that of the market without welfare; gains are above 0 by Nash's."""
    n, m = p2p.load_grid("three_node"), p2p.load_grid("three_node")
    p2p.CentralizedMarket(risk=risk, surplus=False).optimize(n)
    p2p.CentralizedMarket(risk=risk, surplus=False, participation=True).optimize(m)
    found = p2p.results(m)
    if bool((found.welfare_weight - 1 < 1e-7).all()):
        np.testing.assert_allclose(found.social_cost, p2p.results(n).social_cost, rtol=1e-7)
    p2p.CentralizedMarket(risk=risk, surplus=False, welfare=p2p.Nash()).optimize(m)
    found = p2p.results(m)
    np.testing.assert_allclose(found.welfare_weight * found.gain, 1.0, rtol=1e-6)
    assert p2p.certify(m).is_equilibrium()


def test_congestion_is_not_convex() -> None:
    """Only the plain, risk-neutral sum is convex where a > 0."""
    n = p2p.load_grid("three_node")
    n.c.links.static["congestion"] = 0.5
    p2p.CentralizedMarket(welfare=p2p.Utilitarian()).optimize(n)
    for welfare, participation in ((p2p.Maximin(), False), (None, True)):
        market = p2p.CentralizedMarket(welfare=welfare, participation=participation)
        with pytest.raises(p2p.MarketError, match="not a convex problem where congestion > 0"):
            market.optimize(n)


def test_who_cannot_do_alone_is_named() -> None:
    """B must consume 2 and cannot generate; A could do without her."""
    instance = pair(demand_min_of_b=2.0)
    with pytest.raises(p2p.MarketError, match="Prosumers 'B' cannot meet their demand without"):
        solved(instance, p2p.CentralizedMarket(welfare=p2p.Nash(), surplus=False))
    given = p2p.Nash(reference={"A": 0.0, "B": 100.0})
    market = p2p.CentralizedMarket(welfare=given, surplus=False)
    with pytest.raises(p2p.MarketError, match="'A' cannot all gain"):
        solved(instance, market)


def test_where_nobody_can_gain() -> None:
    """At no price for her energy A only loses."""
    with pytest.raises(p2p.MarketError, match="no solution makes everybody better off"):
        two(p2p.Nash(), price=0.0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: p2p.Maximin(reference="apart"), "must be 'alone' or costs"),
        (lambda: p2p.Nash(reference=None), "gains are measured from it"),
        (lambda: p2p.Nash(weights=[1.0, 0.0]), "above 0"),
        (lambda: p2p.CentralizedMarket(welfare="nash"), "must be a SocialCost"),
        (lambda: p2p.CentralizedMarket(participation="yes"), "participation must be one of"),
    ],
)
def test_refused_arguments(make: Any, says: str) -> None:
    """What no social cost function takes."""
    with pytest.raises(p2p.MarketError, match=says):
        make()


def test_allocations_and_reports_know_no_planner() -> None:
    """Savings were shared out already; reports have no closed form."""
    n, _ = three_nodes("nash", False)
    with pytest.raises(p2p.MarketError, match="has shared out already"):
        p2p.allocate(n)
    market = p2p.CentralizedMarket(welfare=p2p.Nash(), surplus=False)
    reports = p2p.PrivateReports(loss=1.0, sensitivity=2.0, distance=0.1)
    with pytest.raises(p2p.MarketError, match="welfare and participation"):
        p2p.solve_reports(p2p.load_grid("three_node"), market, reports)


def test_designs_in_words() -> None:
    """Study files and the command line name social cost functions."""
    market = market_from({"design": "centralized", "welfare": "nash", "participation": True})
    assert market == p2p.CentralizedMarket(welfare=p2p.Nash(), participation=True)
    given = {"welfare": "maximin", "reference": "alone"}
    market = market_from({"design": "centralized", "welfare": given})
    assert market == p2p.CentralizedMarket(welfare=p2p.Maximin(reference="alone"))
    with pytest.raises(p2p.MarketError, match="belong to the design 'centralized'"):
        market_from({"welfare": "nash"})
    with pytest.raises(p2p.MarketError, match="one of utilitarian, maximin"):
        market_from({"design": "centralized", "welfare": "kind"})
    with pytest.raises(p2p.MarketError, match="Maximin has no 'weights'"):
        market_from({"design": "centralized", "welfare": {"welfare": "maximin", "weights": [1]}})
