"""MODEL.md §13 on random markets: price takers by an independent program, and limits."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.laws.markets import Draw, instance_of
from tests.laws.test_two_stages import in_two_stages
from tests.reference.instances import Instance, network
from tests.reference.solve import risk_of

SMALL = Draw(1, prosumers=3)
MIXED = Draw(2, 3, 2, symmetric_prices=True)


def at_risk(**options: Any) -> p2p.PeerToPeerMarket:
    """Risk of cost and payments."""
    return p2p.PeerToPeerMarket(payments="risk", **{"risk": p2p.CVaR(), **options})


def in_both(draw: Draw, friction: float) -> pypsa.Network:
    """All pairs trade day ahead, and in real time at a friction of what is bought."""
    n, of = in_two_stages(draw), instance_of(draw)
    pairs = [(of.names[i], of.names[j]) for i, j in of.edges]
    price = dict(zip([*pairs, *((b, a) for a, b in pairs)], of.price, strict=True))
    dearer = {pair: b + friction / 2 for pair, b in price.items()}
    capacity = dict(zip(pairs, of.capacity, strict=True))
    p2p.add_trades(n, pairs, capacity=capacity, price=dearer, fee=friction / 2)
    return n


# ------------------------------------------------------------------ nothing shared by scenarios


@pytest.mark.parametrize("seed", range(6))
def test_the_dispatch_is_risk_neutral(seed: int) -> None:
    """What anybody fears cancels; her risk is that of cost and payment, worked out apart."""
    draw = Draw(seed, 4, 3, 2)
    of, surplus = instance_of(draw), bool(seed % 2)
    n, neutral = network(of), network(of)
    market = at_risk(surplus=surplus)
    market.optimize(n)
    p2p.PeerToPeerMarket(surplus=surplus).optimize(neutral)
    r, expected = p2p.results(n), p2p.results(neutral)
    for name in ("demand", "generation", "quantity", "nodal_price", "trade_price", "payment"):
        np.testing.assert_allclose(r[name], expected[name], rtol=0, atol=1e-9)
    minded = (expected["cost"] + expected["payment"]).values.T
    risks = [
        risk_of(of.probability, each, chi, 1.0)
        for each, chi in zip(minded, of.risk_attitude, strict=True)
    ]
    np.testing.assert_allclose(r["risk_adjusted_cost"], risks, rtol=1e-7)
    assert n.objective == pytest.approx(sum(risks), rel=1e-7)
    assert float(abs(r["payment"].sum("prosumer")).max()) < 1e-7
    found = p2p.certify(n)
    assert found.is_equilibrium() and float(found.exploitability.max()) < 1e-7


def test_both_routes_agree() -> None:
    """The hook's answer is the direct one."""
    rows = []
    for route in ("hook", "direct"):
        n = network(instance_of(SMALL))
        if route == "hook":
            n.optimize(extra_functionality=at_risk(), log_to_console=False)
        else:
            at_risk().optimize(n)
        rows.append(p2p.results(n))
    for name in ("risk_adjusted_cost", "payment", "nodal_price", "risk_adjusted_probability"):
        np.testing.assert_allclose(rows[0][name], rows[1][name], atol=1e-7)


def test_any_measure() -> None:
    """Each at the measure she has, where nothing is shared."""
    n = network(instance_of(SMALL))
    names = instance_of(SMALL).names
    measures = dict(
        zip(names, (p2p.WorstCase(), p2p.TotalVariation(0.2), p2p.CVaR(0.0)), strict=True)
    )
    at_risk(risk=measures).optimize(n)
    r = p2p.results(n)
    minded = r["cost"] + r["payment"]
    p = instance_of(SMALL).probability
    assert float(r.risk_adjusted_cost[0]) == pytest.approx(float(minded[:, 0].max()))
    assert float(r.risk_adjusted_cost[2]) == pytest.approx(float(p @ minded[:, 2].values))
    above = float(r.risk_adjusted_cost[1])
    assert p @ minded[:, 1].values < above < float(minded[:, 1].max())
    assert p2p.certify(n).is_equilibrium()


def test_sweeps_know_it() -> None:
    """Markets of one network solved together are what each is alone."""
    n = network(instance_of(SMALL))
    markets = {"plain": p2p.PeerToPeerMarket(risk=p2p.CVaR()), "risk": at_risk()}
    keep = ("social_cost", "risk_adjusted_cost")
    d = p2p.sweep(n, markets, {"attitude": [0.2, 0.6]}, keep=keep, progress=False)
    for attitude in (0.2, 0.6):
        at_risk(risk=p2p.CVaR(attitude)).optimize(n)
        found = d.sel(market="risk", attitude=attitude)
        assert float(found.social_cost) == pytest.approx(n.objective, rel=1e-7)


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize("stage", ["real time", "both"])
def test_complete_contracts_give_the_planners_answer(stage: str) -> None:
    """All share all risk; each's is hedged, payments and all."""
    n = network(instance_of(SMALL)) if stage == "real time" else in_both(SMALL, 0.3)
    planner = n.copy()
    market = at_risk(contracts=p2p.Contracts())
    market.optimize(n)
    p2p.CentralizedMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()).optimize(planner)
    r, best = p2p.results(n), p2p.results(planner)
    assert float(r["social_cost"]) == pytest.approx(float(best["social_cost"]), rel=1e-7)
    np.testing.assert_allclose(r["quantity"], best["quantity"], atol=1e-6)
    worth = best["risk_adjusted_cost"] + best["payment_now"].sum("scenario")
    np.testing.assert_allclose(r["risk_adjusted_cost"], worth, atol=1e-6)
    np.testing.assert_allclose(r["risk_adjusted_net_cost"], worth, atol=1e-6)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("measure", [p2p.TotalVariation(0.2), p2p.KullbackLeibler(0.1)])
def test_complete_contracts_between_any_measures(measure: p2p.RiskMeasure) -> None:
    """Shared by what all may fear, payments and all."""
    names = instance_of(SMALL).names
    risk = dict(zip(names, (p2p.CVaR(0.5), measure, measure), strict=True))
    n, planner = (network(instance_of(SMALL)) for _ in range(2))
    at_risk(risk=risk, contracts=p2p.Contracts()).optimize(n)
    p2p.CentralizedMarket(risk=risk, contracts=p2p.Contracts()).optimize(planner)
    r, best = p2p.results(n), p2p.results(planner)
    assert float(r["social_cost"]) == pytest.approx(float(best["social_cost"]), rel=1e-6)
    worth = best["risk_adjusted_cost"] + best["payment_now"].sum("scenario")
    np.testing.assert_allclose(r["risk_adjusted_cost"], worth, rtol=1e-5)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("seed", range(3))
def test_prices_agreed_before_are_no_risk(seed: int) -> None:
    """All trades day ahead: what is paid is certain, and the market the ordinary one."""
    draw = Draw(seed, 3, 3)
    n, ordinary = in_two_stages(draw), in_two_stages(draw)
    at_risk(surplus=False).optimize(n)
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(ordinary)
    r, expected = p2p.results(n), p2p.results(ordinary)
    assert float(r["social_cost"]) == pytest.approx(float(expected["social_cost"]), rel=1e-7)
    paid = expected["risk_adjusted_cost"] + expected["payment_now"].sum("scenario")
    np.testing.assert_allclose(r["risk_adjusted_cost"], paid, atol=1e-6)
    np.testing.assert_allclose(r["day_ahead_price"], expected["day_ahead_price"], atol=1e-6)
    assert p2p.certify(n).is_equilibrium()


def test_who_fears_nothing_is_neutral() -> None:
    """At attitude 0 decisions before the scenario are those of the risk-neutral market."""
    n, neutral = in_both(SMALL, 0.3), in_both(SMALL, 0.3)
    at_risk(risk=p2p.CVaR(0.0)).optimize(n)
    p2p.PeerToPeerMarket().optimize(neutral)
    assert n.objective == pytest.approx(neutral.objective, rel=1e-8)
    np.testing.assert_allclose(p2p.results(n)["quantity"], p2p.results(neutral)["quantity"])


# ------------------------------------------------------------------ decisions that are shared


@pytest.mark.parametrize(
    ("draw", "surplus"),
    [(SMALL, True), (MIXED, False), (Draw(5, 3, 3), True), (Draw(0, 3, 3), False)],
    ids=lambda value: "surplus" if value is True else "equality" if value is False else str(value),
)
@pytest.mark.filterwarnings("ignore:This market has")
def test_nobody_does_better_at_these_prices(draw: Draw, surplus: bool) -> None:
    """Every prosumer's own problem at the prices given, by another program; and trades clear.

    Shared risk is the least that anybody could bear of all costs together.
    """
    n, of = in_both(draw, 0.3), instance_of(draw)
    at_risk(surplus=surplus).optimize(n)
    r = p2p.results(n)
    assert p2p.certify(n).is_equilibrium()
    for k, name in enumerate(of.names):
        best = least_risk(of, r, k, 0.3)
        assert float(r.risk_adjusted_cost.sel(prosumer=name)) == pytest.approx(best, abs=2e-6)
    both = r["quantity"].values
    left = -(both + np.roll(both, both.shape[-1] // 2, axis=-1))
    assert left.min() > -1e-7
    assert (np.abs(left) < 1e-7).all() or surplus
    assert np.abs(left * r["trade_price"].values).max() < 1e-6
    shared = n.copy()
    at_risk(surplus=surplus, contracts=p2p.Contracts()).optimize(shared)
    assert float(p2p.results(shared)["social_cost"]) <= float(r["social_cost"]) + 1e-7


def least_risk(of: Instance, r: xr.Dataset, k: int, friction: float) -> float:
    """The least CVaR of cost and payments of prosumer k at the prices of a market in both stages.

    Prices in the scenario are paid in it; those agreed before in every one.
    """
    _, s, t, e = of.shape
    assert t == 1
    own = np.flatnonzero(of.buyer == k)
    prices = r["trade_price"].values[:, 0]  # (S, 4 E): the edges day ahead come first, both ways
    first, second = np.split(prices.reshape(s, 2, 2 * e), 2, axis=2)
    ahead, now = first.reshape(s, -1)[:, own], second.reshape(s, -1)[:, own]
    q, bought, sold = cp.Variable(len(own)), *(cp.Variable((s, len(own))) for _ in range(2))
    D, G = cp.Variable(s), cp.Variable(s)
    capacity = of.capacity[own % e]
    b, p0 = of.price[own], of.import_price[:, 0, k]
    total = [cp.sum(q) + cp.sum(bought[w] - sold[w]) for w in range(s)]
    rows = [
        q <= capacity,
        bought >= 0,
        sold >= 0,
        D >= of.demand_min[k],
        D <= of.demand_max[k],
        G >= of.generation_min[k],
        G <= of.generation_max[k],
        # Nobody in the market goes beyond; here it keeps who just takes prices finite.
        q >= -100,
        sold <= 100,
    ]
    costs = []
    for w in range(s):
        r_w = bought[w] - sold[w]
        rows += [q + r_w <= capacity, D[w] == G[w] + of.renewable[k, w, 0] + total[w]]
        cost = (
            of.a[k] / 2 * cp.square(G[w])
            + of.b[k] * G[w]
            + of.d[k]
            + of.utility_quadratic[k] * cp.square(D[w] - of.demand[k, w, 0])
            - of.usage_benefit[k]
            + (b + ahead[w]) @ q
            + (b + friction / 2 + now[w]) @ r_w
            + friction / 2 * cp.sum(bought[w] + sold[w])
            + p0[w] * total[w]
        )
        costs.append(cost * of.weighting[0])
    level, beyond = cp.Variable(), cp.Variable(s, nonneg=True)
    rows += [cost - level <= beyond[w] for w, cost in enumerate(costs)]
    risk = level + of.probability @ beyond / (1 - of.risk_attitude[k])
    problem = cp.Problem(cp.Minimize(risk), rows)
    problem.solve(solver=cp.CLARABEL)
    return float(problem.value)


@pytest.mark.filterwarnings("ignore:This market has")
def test_storage_between_hours() -> None:
    """A battery's own rows are weighed as its owner's."""
    n = network(instance_of(Draw(3, 3, 2, 2)))
    n.add(
        "StorageUnit",
        "battery",
        bus=instance_of(Draw(3, 3, 2, 2)).names[0],
        p_nom=2.0,
        max_hours=2.0,
        cyclic_state_of_charge=True,
    )
    market = at_risk(here_and_now=("battery",))
    market.optimize(n)
    assert p2p.certify(n).is_equilibrium()


def test_several_of_a_random_market() -> None:
    """Four prosumers, day ahead and in real time: several, apart, all certified, in order."""
    n = in_both(Draw(1, 4, 4, 2, symmetric_prices=True), 0.3)
    found = p2p.sample_equilibria(n, at_risk(surplus=False), starts=12, progress=False)
    assert found.converged.all()
    cost = found.social_cost.values
    assert len(cost) > 1 and (np.diff(cost) > -1e-12).all()
    assert float(found.price_of_stability) > 1.0
