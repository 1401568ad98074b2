"""Insurance beside complete contracts against one cone program (MODEL.md §5, (43))."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from tests.laws.markets import Draw, instance_of
from tests.laws.offers import (
    DRAWS,
    GENEROSITY,
    SMALL,
    by_prosumer,
    insurance_price,
    insured,
    reference,
)
from tests.reference.contracts import solve_hedged
from tests.reference.instances import network
from tests.reference.package import solved
from tests.reference.solve import run


@DRAWS
@pytest.mark.parametrize("generosity", GENEROSITY)
def test_insured_market_is_the_cone_programs(draw: Draw, generosity: float) -> None:
    """Objective; and, where only one price clears, prices and what is insured in all."""
    r, wanted = insured(draw, generosity), reference(draw, generosity)
    assert float(r.social_cost) == pytest.approx(wanted.social_cost, rel=1e-6)
    weighed = wanted.price > 1e-6  # in other scenarios nobody cares what she does
    cost = by_prosumer(r, "cost").sum(0)
    np.testing.assert_allclose(cost[weighed], wanted.cost.sum(0)[weighed], atol=2e-4)
    if generosity > 0:  # at gamma = p everybody is indifferent to insurance
        np.testing.assert_allclose(r.contract_price, wanted.price, atol=1e-6)
        np.testing.assert_allclose(r.insurance.sum("prosumer"), wanted.insurance.sum(0), atol=2e-4)


@DRAWS
@pytest.mark.parametrize("generosity", GENEROSITY)
def test_prices_with_insurance(draw: Draw, generosity: float) -> None:
    """alpha <= gamma, equal where somebody insures; sum alpha = 1; alpha = tau_n for every n."""
    r = insured(draw, generosity)
    gamma = insurance_price(instance_of(draw), generosity)
    alpha = r.contract_price.to_numpy()
    assert (alpha <= gamma + 1e-12).all()
    bought = r.insurance.sum("prosumer").to_numpy()
    np.testing.assert_allclose((gamma - alpha) * bought, 0, atol=1e-8)
    assert (r.insurance >= 0).all()
    assert alpha.sum() == pytest.approx(1, abs=1e-12)
    tau = by_prosumer(r, "risk_adjusted_probability")
    np.testing.assert_allclose(tau, np.tile(alpha, (len(tau), 1)), atol=1e-12)
    np.testing.assert_allclose(r.contract.sum("prosumer"), 0, atol=1e-7)
    np.testing.assert_allclose((r.contract_price * r.contract).sum("scenario"), 0, atol=1e-7)


@DRAWS
@pytest.mark.parametrize("generosity", GENEROSITY)
def test_insured_volumes_are_optimal_for_each(draw: Draw, generosity: float) -> None:
    """R_n = sum alpha Pi_n: the least she can reach at these prices."""
    r = insured(draw, generosity)
    wanted = (r.contract_price * r.cost).sum("scenario")
    np.testing.assert_allclose(r.risk_adjusted_cost, wanted, rtol=1e-7, atol=1e-7)
    assert float(r.risk_adjusted_cost.sum()) == pytest.approx(float(r.social_cost), rel=1e-12)


@DRAWS
def test_insured_volumes_have_least_norm(draw: Draw) -> None:
    """Among all W, J that make alpha optimal for everybody: W of least norm."""
    data, r = instance_of(draw), insured(draw, 0.3)
    gamma, alpha = insurance_price(data, 0.3), r.contract_price.to_numpy()
    cost, shape = by_prosumer(r, "cost"), (len(data.names), data.probability.size)
    W, J, eta = cp.Variable(shape), cp.Variable(shape, nonneg=True), cp.Variable((shape[0], 1))
    above = cost - W - J - eta
    cap = data.probability / (1 - data.risk_attitude[:, None])
    rows = [
        cp.sum(W, axis=0) == 0,
        W @ alpha == 0,
        cp.multiply(np.tile(alpha > 1e-9, (shape[0], 1)), above) >= 0,
        cp.multiply(alpha < cap - 1e-9, above) <= 0,
        cp.multiply(np.tile(alpha < gamma - 1e-9, (shape[0], 1)), J) == 0,
    ]
    run(cp.Problem(cp.Minimize(cp.sum_squares(W)), rows))
    np.testing.assert_allclose(by_prosumer(r, "contract"), W.value, atol=1e-5)


@DRAWS
def test_the_dearer_insurance_the_dearer_the_market(draw: Draw) -> None:
    """From the risk-neutral cost, at gamma = p, to that of contracts alone."""
    data = instance_of(draw)
    costs = [float(insured(draw, g).social_cost) for g in GENEROSITY]
    assert (np.diff(costs) >= -1e-9).all()
    assert costs[-1] > costs[0] + 1e-3, "insurance matters"
    neutral = solved(data, p2p.CentralizedMarket())[0].objective
    assert costs[0] == pytest.approx(neutral, rel=1e-9)
    alone = p2p.CentralizedMarket(risk=p2p.CVaR(), contracts=p2p.Contracts())
    assert costs[-1] == pytest.approx(solved(data, alone)[0].objective, rel=1e-9)
    assert float(insured(draw, GENEROSITY[-1]).insurance.sum()) == 0


@DRAWS
def test_regimes(draw: Draw) -> None:
    """Insured where alpha = gamma, worthless where alpha = 0, else traded; caps by hand."""
    data = instance_of(draw)
    for generosity in GENEROSITY[1:]:
        r = insured(draw, generosity)
        alpha, gamma = r.contract_price.to_numpy(), insurance_price(data, generosity)
        paid = np.where(alpha > gamma - 1e-9, "insured", "traded")
        wanted = np.where(alpha < 1e-9, "worthless", paid)
        assert r.regime.to_numpy().tolist() == wanted.tolist()
        cap = data.probability / (1 - data.risk_attitude.min())
        np.testing.assert_array_equal(r.at_cap, np.isclose(alpha, cap, rtol=1e-9, atol=0))


def test_insurance_mixed_with_the_expectation() -> None:
    data = instance_of(SMALL)
    gamma = np.maximum(insurance_price(data, 0.2), 0.3 * data.probability)
    market = p2p.PeerToPeerMarket(
        risk=p2p.CVaR(weight=0.7), contracts=p2p.Contracts(insurance_price=gamma)
    )
    r = solved(data, market)[1]
    wanted = solve_hedged(data, theta=0.7, insurance_price=gamma)
    assert float(r.social_cost) == pytest.approx(wanted.social_cost, rel=1e-6)
    assert float(r.insurance.sum()) > 1, "somebody insures"
    np.testing.assert_allclose(r.contract_price, wanted.price, atol=1e-6)


def test_the_community_insures_as_its_members_do() -> None:
    data = instance_of(SMALL)
    offered = p2p.Contracts(insurance_price=insurance_price(data, 0.5))
    risk = p2p.CVaR(attitude=float(data.risk_attitude.min()))
    one, other = (
        solved(data, p2p.CentralizedMarket(aggregate=aggregate, risk=risk, contracts=offered))[1]
        for aggregate in ("prosumers", "community")
    )
    for name in ("social_cost", "risk_adjusted_cost", "contract", "insurance", "contract_price"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("coupled", [False, True], ids=["by scenario", "coupled"])
def test_complete_contracts_written_out(coupled: bool) -> None:
    """Contracts() and every prosumer's own, within limits out of reach; scenarios tied, too."""
    data = instance_of(SMALL)
    gamma = insurance_price(data, 0.5)

    def budget(n: pypsa.Network, _: pd.Index) -> None:
        names = [name for name in n.c.generators.names if name.endswith(" generation")]
        n.model.add_constraints(n.model["Generator-p"].sel(name=names).sum() <= 8.0, name="budget")

    found = []
    for limit in (None, 1e3):
        n = network(data)
        offered = p2p.Contracts(insurance_price=gamma, limit=limit)
        market = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=offered)
        market.optimize(n, extra_functionality=budget if coupled else None)
        found.append(p2p.results(n))
    one, other = found
    if coupled:
        free = solved(data, market)[1]
        assert float(one.social_cost) > float(free.social_cost) + 1e-3, "the budget binds"
    assert float(one.social_cost) == pytest.approx(float(other.social_cost), rel=1e-8)
    np.testing.assert_allclose(one.contract_price, other.contract_price.to_numpy(), atol=1e-7)
    np.testing.assert_allclose(one.contract, other.contract, atol=1e-4)
    np.testing.assert_allclose(one.insurance, other.insurance, atol=1e-4)
