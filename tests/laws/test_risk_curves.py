"""Laws of risk measured by curves and of contracts between any measures (MODEL.md §3, §5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pypsa
import pytest
from scipy.optimize import minimize
from scipy.special import rel_entr

import pypsa_p2p as p2p
from tests.laws.test_risk_measures import assert_coherent, value
from tests.reference.instances import network, random_instance
from tests.reference.solve import own_cost, physical_model, run, scenario_sum

Family = Callable[[float], p2p.RiskMeasure]
FAMILIES: dict[str, Family] = {
    "KL": p2p.KullbackLeibler,
    "EVaR": p2p.EntropicVaR,
    "chi2": lambda share: p2p.ChiSquare(2 * share),
}
FIGURES = ("cost", "demand", "quantity", "nodal_price", "risk_adjusted_cost")
HELD = ("contract", "insurance", "contract_price")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("family", FAMILIES)
def test_coherence(family: str, seed: int) -> None:
    assert_coherent(FAMILIES[family], seed, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_entropic_is_no_less_than_cvar(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, costs = rng.dirichlet(np.ones(5)), rng.normal(0, 10, 5)
    share = float(rng.uniform(0.05, 0.9))
    least = value(p2p.CVaR(share), costs, p)
    assert least <= value(p2p.EntropicVaR(share), costs, p) + 1e-9


def feared(costs: np.ndarray, p: np.ndarray, rows: list[Any]) -> float:
    """The worst expectation over probabilities with all `rows` nonnegative, by scipy, from p."""
    size = np.ptp(costs)
    found = minimize(
        lambda tau: -(tau @ costs) / size,
        p,
        jac=lambda tau: -costs / size,
        bounds=[(0.0, 1.0)] * p.size,
        constraints=[
            {"type": "eq", "fun": lambda tau: tau.sum() - 1.0},
            *({"type": "ineq", "fun": row} for row in rows),
        ],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.status in (0, 8)  # 8: no step gains anything any more
    return float(-found.fun * size)


def within(measure: p2p.RiskMeasure, p: np.ndarray) -> Any:
    """How much probabilities lack to the edge of an envelope."""
    if isinstance(measure, p2p.ChiSquare):
        return lambda tau: measure.radius**2 - ((tau - p) ** 2 / p).sum()
    if isinstance(measure, p2p.EntropicVaR):
        measure = p2p.KullbackLeibler(-np.log(1 - measure.attitude))
    if isinstance(measure, p2p.KullbackLeibler):
        return lambda tau: measure.radius - rel_entr(np.maximum(tau, 0.0), p).sum()
    assert isinstance(measure, p2p.CVaR)
    return lambda tau: p / (1 - measure.attitude) - tau


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("family", FAMILIES)
def test_worst_of_the_envelope(family: str, seed: int) -> None:
    """R is the most that probabilities of the envelope make of costs, found by scipy."""
    rng = np.random.default_rng(100 + seed)
    p, costs = rng.dirichlet(3 * np.ones(5)), rng.normal(0, 1, 5)
    measure = FAMILIES[family](float(rng.uniform(0.05, 0.5)))
    best = feared(costs, p, [within(measure, p)])
    assert value(measure, costs, p) == pytest.approx(best, abs=2e-6)


@pytest.mark.parametrize("seed", range(10))
def test_complete_contracts_are_worst_of_what_all_may_hold(seed: int) -> None:
    """Of the least costs of the scenarios, over the common part of three envelopes, by scipy."""
    data = random_instance(seed, 3, 4, 1)
    measures = [p2p.KullbackLeibler(0.15), p2p.ChiSquare(0.5), p2p.CVaR(0.35)]
    n = network(data)
    p2p.PeerToPeerMarket().optimize(n)
    least = p2p.results(n).cost.sum("prosumer").to_numpy()
    p = data.probability
    best = feared(least, p, [within(one, p) for one in measures])
    risk = dict(zip(data.names, measures, strict=True))
    p2p.PeerToPeerMarket(risk=risk, contracts=p2p.Contracts()).optimize(n)
    assert n.objective == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()


def compared(one: Any, other: Any, n: pypsa.Network, **options: Any) -> None:
    """Two ways to say one measure are one market, contracts and all."""
    found = []
    for risk in (one, other):
        own = n.copy()
        p2p.PeerToPeerMarket(risk=risk, **options).optimize(own)
        assert p2p.certify(own).is_equilibrium()
        found.append(p2p.results(own))
    contracts = options.get("contracts")
    figures = FIGURES if contracts is None else (*FIGURES, *HELD)
    if contracts is not None and contracts.limit is not None:  # any of several prices clears
        figures = ("cost", "demand", "nodal_price")
        one_sum, other_sum = (r.risk_adjusted_cost.sum().item() for r in found)
        assert one_sum == pytest.approx(other_sum, rel=1e-6, abs=1e-6)
    for figure in figures:
        size = max(1.0, float(abs(found[0][figure]).max()))
        np.testing.assert_allclose(found[1][figure], found[0][figure], rtol=0, atol=2e-6 * size)


@pytest.mark.parametrize("kind", ["complete", "insured", "limited", "both", "some"])
@pytest.mark.parametrize("seed", range(4))
def test_one_attitude_is_cvar_with_contracts(seed: int, kind: str) -> None:
    """Its cover says the same as its box: the same contracts at the same prices."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(2, 5)), int(rng.integers(2, 6)), int(rng.integers(1, 3)))
    n = network(random_instance(seed, *size))
    p = n.scenario_weightings["weight"]
    price = (p * (1 + rng.uniform(0.1, 0.5, len(p)))).to_dict()
    contracts = {
        "complete": p2p.Contracts(),
        "insured": p2p.Contracts(insurance_price=price),
        "limited": p2p.Contracts(limit=3.0),
        "both": p2p.Contracts(limit=3.0, insurance_price=price),
        "some": p2p.Contracts(
            payoff=pd.DataFrame([np.arange(len(p)) == 0], ["first"], p.index) * 1.0
        ),
    }[kind]
    chi = float(rng.uniform(0.2, 0.7))
    compared(p2p.CVaR(chi), p2p.Spectral({chi: 1.0}), n, contracts=contracts)


@pytest.mark.parametrize("case", ["far", "far chi2", "none"])
@pytest.mark.parametrize("contracts", [None, p2p.Contracts()], ids=["alone", "contracts"])
def test_limits_of_the_radius(case: str, contracts: Any) -> None:
    """So far that only the costliest counts; and 0, which leaves the expectation."""
    n = network(random_instance(2, 3, 3, 1))
    one, other = {
        "far": (p2p.WorstCase(), p2p.KullbackLeibler(9.0)),
        "far chi2": (p2p.WorstCase(), p2p.ChiSquare(30.0)),
        "none": (p2p.CVaR(0.0), p2p.ChiSquare(0.0)),
    }[case]
    compared(one, other, n, contracts=contracts)


def programmed(
    measure: p2p.RiskMeasure, cost: cp.Expression, p: np.ndarray
) -> tuple[Any, list[Any]]:
    """R of one cost by scenario in cvxpy, and its constraints."""
    if isinstance(measure, p2p.ChiSquare):
        above = cp.Variable(p.size)
        spread = cp.norm(cp.multiply(np.sqrt(p), above - p @ above))
        return p @ above + measure.radius * spread, [above >= cost]
    if isinstance(measure, p2p.KullbackLeibler):
        t, level, w = cp.Variable(), cp.Variable(), cp.Variable(p.size)
        above = cp.Variable(p.size)
        cones = cp.ExpCone(above - level, t * np.ones(p.size), w)
        return level + measure.radius * t, [cones, p @ w <= t, above >= cost]
    assert isinstance(measure, p2p.TotalVariation)
    eta, rho = cp.Variable(), measure.radius
    tail = eta + p @ cp.pos(cost - eta) / (1 - rho)
    return rho * cp.max(cost) + (1 - rho) * tail, []


@pytest.mark.parametrize("seed", range(6))
def test_against_an_independent_program(seed: int) -> None:
    """Everybody another measure; the market written in cvxpy gives the same social cost."""
    data = random_instance(seed, 3, 4, 1)
    measures = [p2p.KullbackLeibler(0.2), p2p.ChiSquare(0.7), p2p.TotalVariation(0.25)]
    model = physical_model(data, surplus=True)
    cost = own_cost(model) @ scenario_sum(data)
    parts = [programmed(one, cost[k], data.probability) for k, one in enumerate(measures)]
    problem = cp.Problem(
        cp.Minimize(sum(value for value, _ in parts)),
        [*model.constraints, *(row for _, rows in parts for row in rows)],
    )
    run(problem)
    n = network(data)
    risk = dict(zip(data.names, measures, strict=True))
    p2p.PeerToPeerMarket(risk=risk).optimize(n)
    assert n.objective == pytest.approx(problem.value, rel=1e-6, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("seed", range(12))
def test_every_measure_beside_every_other(seed: int) -> None:
    """Certified, alone and with contracts, which never raise the social cost."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(2, 5)), int(rng.integers(2, 7)), int(rng.integers(1, 3)))
    n = network(random_instance(seed, *size))
    names = list(dict.fromkeys(n.buses.index.get_level_values("name")))
    every = [
        p2p.CVaR(0.5, weight=0.7),
        p2p.TotalVariation(0.3),
        p2p.Wasserstein(0.5),
        p2p.Spectral({0: 0.3, 0.5: 0.4, 0.8: 0.3}),
        p2p.Semideviation(0.7),
        p2p.KullbackLeibler(0.3),
        p2p.EntropicVaR(0.5),
        p2p.ChiSquare(0.9),
    ]
    risk = {name: every[int(rng.integers(len(every)))] for name in names}
    costs = []
    for contracts in (None, p2p.Contracts(limit=5.0), p2p.Contracts()):
        p2p.PeerToPeerMarket(risk=risk, contracts=contracts, surplus=bool(seed % 2)).optimize(n)
        assert p2p.certify(n).is_equilibrium()
        assert p2p.results(n).risk_adjusted_cost.sum().item() == pytest.approx(
            n.objective, rel=1e-6, abs=1e-6
        )
        costs.append(n.objective)
    assert costs[2] <= costs[1] + 1e-6 and costs[1] <= costs[0] + 1e-6


@pytest.mark.parametrize("case", ["congested", "stored", "weighted", "community"])
def test_in_other_markets(case: str) -> None:
    n = network(random_instance(3, 3, 3, 2))
    names = list(dict.fromkeys(n.buses.index.get_level_values("name")))
    risk: Any = dict(
        zip(names, [p2p.KullbackLeibler(0.2), p2p.ChiSquare(0.8), p2p.CVaR(0.4)], strict=True)
    )
    market: p2p.Market = p2p.PeerToPeerMarket(risk=risk)
    if case == "congested":
        n.c["Link"].static["congestion"] = 0.3
    if case == "stored":
        n.add("StorageUnit", "battery", bus=names[0], p_nom=2.0, max_hours=2.0)
    if case == "weighted":
        weights = dict(zip(names, (1, 2, 3), strict=True))
        market = p2p.PeerToPeerMarket(risk=risk, equilibrium="generalized", weights=weights)
    if case == "community":
        market = p2p.CentralizedMarket(risk=p2p.EntropicVaR(0.4), aggregate="community")
    market.optimize(n)
    assert n.objective == pytest.approx(p2p.results(n).social_cost.item(), abs=1e-6)
    assert p2p.certify(n).is_equilibrium()
