"""Contracts that agents agree on by ADMM: the direct solution, by hand and at random (§5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.equilibrium.game.hedging import Traded
from tests.reference.instances import network, random_instance

INSURED = p2p.Contracts(insurance_price=0.45)


def market(contracts: p2p.Contracts | None, **options: Any) -> p2p.PeerToPeerMarket:
    return p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=contracts, **options)


@pytest.mark.parametrize(("surplus", "cost"), [(False, 8.0748864), (True, 7.9707784)])
def test_complete_contracts_of_three_nodes(surplus: bool, cost: float) -> None:
    """MODEL.md §9: prices (.358080, .283839, .358080); without any it would be 13.9771248."""
    n = p2p.load_grid("three_node")
    eq = p2p.solve_equilibrium(
        n, market(p2p.Contracts(), surplus=surplus), p2p.ADMM(), progress=False
    )
    r = p2p.results(n)
    assert eq.converged
    assert n.objective == pytest.approx(cost, abs=1e-6)
    assert r.social_cost.item() == pytest.approx(cost, abs=1e-6)
    price = (0.358080, 0.283839, 0.358080)
    np.testing.assert_allclose(r.contract_price, price, rtol=0, atol=1e-6)
    np.testing.assert_allclose(r.contract.sum("prosumer"), 0, atol=1e-10)
    np.testing.assert_allclose((r.contract_price * r.contract).sum("scenario"), 0, atol=1e-10)
    np.testing.assert_allclose(
        r.risk_adjusted_probability - r.contract_price, np.zeros((3, 3)), atol=1e-6
    )
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize(
    ("contracts", "cost"),
    [
        (p2p.Contracts(limit=2.0), 11.1256063),
        (p2p.Contracts(limit=1.0, insurance_price=0.4), 8.7032212),
        (p2p.Contracts(limit=0.0), 13.9771248),
    ],
    ids=["limited", "limited and insured", "none"],
)
def test_limits_and_insurance(contracts: p2p.Contracts, cost: float) -> None:
    """The dearer the less can be hedged; certified, and all that is known of the direct answer."""
    n, direct = p2p.load_grid("three_node"), p2p.load_grid("three_node")
    assert p2p.solve_equilibrium(
        n, market(contracts, surplus=False), p2p.ADMM(), progress=False
    ).converged
    market(contracts, surplus=False).optimize(direct)
    r, wanted = p2p.results(n), p2p.results(direct)
    assert n.objective == pytest.approx(cost, abs=1e-6)
    assert direct.objective == pytest.approx(cost, abs=1e-6)
    limit = float(contracts.limit)
    assert float(abs(r.contract).max()) <= limit * (1 + 1e-6) + 1e-9
    if limit:
        np.testing.assert_allclose(r.contract_price, wanted.contract_price, rtol=0, atol=1e-6)
        np.testing.assert_allclose(r.insurance, wanted.insurance, rtol=0, atol=1e-5)
    assert p2p.certify(n).is_equilibrium()


def test_insurance_that_somebody_buys() -> None:
    """At .35 in every scenario nobody's probability is more, and what exceeds it is insured."""
    n, direct = p2p.load_grid("three_node"), p2p.load_grid("three_node")
    contracts = p2p.Contracts(insurance_price=0.35)
    p2p.solve_equilibrium(n, market(contracts, surplus=False), p2p.ADMM(), progress=False)
    market(contracts, surplus=False).optimize(direct)
    r, wanted = p2p.results(n), p2p.results(direct)
    assert n.objective == pytest.approx(direct.objective, abs=1e-6)
    assert float(wanted.insurance.sum()) > 0.1
    both = r.insurance.sum("prosumer"), wanted.insurance.sum("prosumer")
    np.testing.assert_allclose(*both, rtol=0, atol=1e-4)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5, 6, 7])  # 1 is slow without contracts, too
@pytest.mark.parametrize("kind", ["complete", "limited", "some"])
def test_random_markets(kind: str, seed: int) -> None:
    data = random_instance(seed, 4, 4, 2, congestion=False)
    n, direct = network(data), network(data)
    contracts = {
        "complete": p2p.Contracts(),
        "limited": p2p.Contracts(limit=3.0),
        "some": p2p.Contracts(payoff=list(n.scenarios[:2])),
    }[kind]
    eq = p2p.solve_equilibrium(n, market(contracts), p2p.ADMM(), progress=False)
    market(contracts).optimize(direct)
    assert eq.converged
    assert n.objective == pytest.approx(direct.objective, rel=1e-6, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()


def test_the_exchange_is_told_of_volumes() -> None:
    """Three edges both ways, and three prosumers and three contracts beside."""
    n = p2p.load_grid("three_node")
    contracts = p2p.Contracts(limit={"0": 2.0, "1": 2.0, "2": 0.0})
    eq = p2p.solve_equilibrium(n, market(contracts), p2p.ADMM(), progress=False)
    assert (eq.history.messages == 6 + 2).all()
    assert (eq.history.numbers == 6 * 3 + 2 * 3).all()
    assert eq.history.contract_residual[-1] <= 1e-6
    np.testing.assert_allclose(p2p.results(n).contract.sel(prosumer="2"), 0, atol=1e-12)


def test_what_agents_do_not_trade_is_named() -> None:
    n = p2p.load_grid("three_node")
    price = dict(zip(n.scenarios, (1.0, 2.0, 3.0), strict=True))
    future = market(p2p.Contracts(payoff=p2p.forward(price)))
    with pytest.raises(p2p.MarketError, match="do not pay 1 EUR in one scenario alone"):
        p2p.solve_equilibrium(n, future, p2p.ADMM(), progress=False)
    for method in (p2p.GaussSeidel(), p2p.Jacobi()):
        with pytest.raises(p2p.MarketError, match="never leave the contracts they start"):
            p2p.solve_equilibrium(n, market(p2p.Contracts()), method, progress=False)
    with pytest.raises(p2p.MarketError, match="Best responses trade no contracts"):
        p2p.sample_equilibria(n, market(p2p.Contracts()), progress=False)
    cheap = market(p2p.Contracts(insurance_price=0.2))
    with pytest.raises(p2p.MarketError, match=r"sums to 0\.6"):
        p2p.solve_equilibrium(n, cheap, p2p.ADMM(), progress=False)


def test_units_of_money_do_not_matter() -> None:
    """In cents volumes and limits are a hundred times as much, and nothing else changes."""
    found = []
    for cents in (1.0, 100.0):
        data = random_instance(3, 3, 3, 1, congestion=False)
        n = network(data)
        for column in ("marginal_cost", "marginal_cost_quadratic"):
            n.c["Generator"].static[column] *= cents
            if column in n.c["Generator"].dynamic:
                n.c["Generator"].dynamic[column] *= cents
        for column in ("price0", "price1"):
            n.c["Link"].static[column] *= cents
        n.c["Bus"].static[["usage_benefit", "fixed_cost"]] *= cents
        if "import_price" in n.c["Bus"].dynamic:
            n.c["Bus"].dynamic["import_price"] *= cents
        contracts = p2p.Contracts(limit=2.0 * cents)
        eq = p2p.solve_equilibrium(n, market(contracts), p2p.ADMM(), progress=False)
        found.append((eq.iterations, n.objective / cents, p2p.results(n).contract / cents))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-9)
    np.testing.assert_allclose(found[0][2], found[1][2], rtol=0, atol=1e-6)


def test_volumes_settle() -> None:
    """What is left over is shared by those who trade; complete contracts cost nobody anything."""
    terms = p2p.Contracts().terms(pd.Index(["dry", "wet"]), pd.Index(["a", "b", "c"]))
    traded = Traded.of(terms, np.ones((2, 3)))
    volume = np.array([[1.0, -2.0, 1.3], [0.0, 1.0, -1.0]])
    held = traded.settled(volume, np.array([0.25, 0.75]), np.zeros((2, 3)), np.zeros(3))
    np.testing.assert_allclose(held.volume.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(held.price @ held.volume, 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(held.volume, axis=0)[0], [-0.9, 3.1, -2.2], atol=1e-12)
