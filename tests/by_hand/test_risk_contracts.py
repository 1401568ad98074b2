"""Contracts between prosumers of any risk measures: what their envelopes have in common.

The three-node market of MODEL.md §9 without surplus: the least costs of its scenarios are
7.768626923, 1.352318945 and 13.709923751, and with complete contracts the social cost is the worst
expectation of these over what all may hold. Holding everybody at her own measure's costliest
probabilities, as if envelopes nested, would give no common price.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p

LEAST = np.array([7.768626923, 1.352318945, 13.709923751])
MIXED = {"0": p2p.CVaR(0.3), "1": p2p.TotalVariation(0.2), "2": p2p.KullbackLeibler(0.1)}
MARKETS = {
    "CVaR .3": (p2p.CVaR(0.3), 10.292277, (0.476190, 0.047619, 0.476190)),
    "worst": (p2p.WorstCase(), 13.709924, (0, 0, 1)),
    "TV .2": (p2p.TotalVariation(0.2), 10.081811, (0.333333, 0.133333, 0.533333)),
    "W .4": (p2p.Wasserstein(0.4), 11.927535, (0.3, 0, 0.7)),
    "KL .1": (p2p.KullbackLeibler(0.1), 9.830473, (0.30421, 0.16767, 0.52812)),
    "chi2 .4": (p2p.ChiSquare(0.4), 9.628775, (0.33752, 0.16798, 0.49450)),
    "spectral": (p2p.Spectral({0: 0.5, 0.6: 0.5}), 10.164999, (0.25, 0.166667, 0.583333)),
    "semi .8": (p2p.Semideviation(0.8), 9.279082, (0.422222, 0.155556, 0.422222)),
    "mixed": (MIXED, 9.683344, (0.381286, 0.142523, 0.476190)),
}


@pytest.fixture
def n() -> pypsa.Network:
    return p2p.load_grid("three_node")


@pytest.mark.parametrize(("risk", "cost", "price"), MARKETS.values(), ids=MARKETS)
def test_complete_contracts(
    n: pypsa.Network, risk: Any, cost: float, price: Any, route: str
) -> None:
    market = p2p.PeerToPeerMarket(risk=risk, contracts=p2p.Contracts(), surplus=False)
    if route == "hook":
        n.optimize(extra_functionality=market)
    else:
        market.optimize(n)
    r = p2p.results(n)
    assert n.objective == pytest.approx(cost, abs=1e-6)
    assert r.risk_adjusted_cost.sum().item() == pytest.approx(cost, abs=1e-6)
    np.testing.assert_allclose(r.contract_price, price, rtol=0, atol=5e-6)
    assert r.contract_price.to_numpy() @ LEAST == pytest.approx(cost, abs=1e-6)
    np.testing.assert_allclose(r.contract.sum("prosumer"), 0, atol=1e-8)
    np.testing.assert_allclose((r.contract_price * r.contract).sum("scenario"), 0, atol=1e-8)
    assert p2p.certify(n).is_equilibrium()


def test_both_routes(n: pypsa.Network) -> None:
    market = p2p.PeerToPeerMarket(risk=MIXED, contracts=p2p.Contracts(), surplus=False)
    hook = n.copy()
    market.optimize(n)
    hook.optimize(extra_functionality=market)
    a, b = p2p.results(n), p2p.results(hook)
    for figure in ("contract", "contract_price", "risk_adjusted_cost", "nodal_price"):
        np.testing.assert_allclose(a[figure], b[figure], atol=1e-5)
    assert p2p.certify(hook).is_equilibrium()


@pytest.mark.parametrize(
    ("risk", "worth"),
    [
        (p2p.TotalVariation(0.2), (1.25, 0.4, 1.35)),
        (p2p.Semideviation(0.8), (1.26667, 0.46667, 1.26667)),
    ],
    ids=["TV", "semi"],
)
def test_insurance_cuts_what_all_may_hold(n: pypsa.Network, risk: Any, worth: Any) -> None:
    """At .45 nobody may hold more than .45 of a scenario.

    Total variation moves .2 from the second scenario, as before, and what the third may not have
    goes to the first: .333333 + .083333. Of the semideviation's nothing is above .45.
    """
    contracts = p2p.Contracts(insurance_price=0.45)
    p2p.PeerToPeerMarket(risk=risk, contracts=contracts, surplus=False).optimize(n)
    r = p2p.results(n)
    np.testing.assert_allclose(3 * r.contract_price, worth, atol=1e-5)
    assert n.objective == pytest.approx(float(r.contract_price.to_numpy() @ LEAST), abs=1e-6)
    assert (r.insurance.sum() > 0).item() == (worth[2] == 1.35)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("risk", [p2p.Wasserstein(0.4), p2p.ChiSquare(0.4)], ids=["W", "chi2"])
def test_limits_stand_in_between(n: pypsa.Network, risk: Any) -> None:
    """The tighter the limit the dearer, from complete contracts to none."""
    costs = []
    for limit in (None, 2.0, 1.0, 0.0):
        contracts = p2p.Contracts(limit=limit)
        p2p.PeerToPeerMarket(risk=risk, contracts=contracts, surplus=False).optimize(n)
        costs.append(n.objective)
        assert p2p.certify(n).is_equilibrium()
    p2p.PeerToPeerMarket(risk=risk, surplus=False).optimize(n)
    assert costs == sorted(costs)
    assert costs[0] < costs[1] - 1e-3
    assert costs[-1] == pytest.approx(n.objective, abs=1e-6)


APART = {"0": [[0.2, 0.3, 0.5]], "1": [[0.4, 0.3, 0.3]], "2": [[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]]}
ROUND = {
    "0": [[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]],
    "1": [[0.4, 0.3, 0.3], [0.3, 0.5, 0.2]],
    "2": [[0.3, 0.5, 0.2], [0.2, 0.3, 0.5]],
}


@pytest.mark.parametrize(
    ("beliefs", "who"), [(APART, "'0', '1'"), (ROUND, "'0', '1', '2'")], ids=["two", "all"]
)
def test_bets_without_limit_are_refused(n: pypsa.Network, beliefs: Any, who: str) -> None:
    """Two of whom no belief is common; and three of whom any two have one, but not all."""
    risk = {name: p2p.Ambiguity(rows) for name, rows in beliefs.items()}
    market = p2p.PeerToPeerMarket(risk=risk, contracts=p2p.Contracts())
    with pytest.raises(p2p.MarketError, match=f"prosumers {who} would bet against each other"):
        market.optimize(n)
    limited = p2p.PeerToPeerMarket(risk=risk, contracts=p2p.Contracts(limit=3.0))
    limited.optimize(n)
    assert p2p.certify(n).is_equilibrium()
    assert abs(p2p.results(n).contract).max() == pytest.approx(3.0)


def test_belief_outside_of_a_ball(n: pypsa.Network) -> None:
    risk = {
        "0": p2p.KullbackLeibler(0.1),
        "1": p2p.CVaR(0.3),
        "2": p2p.Ambiguity([[0.4, 0.2, 0.4], [0.9, 0.05, 0.05]]),
    }
    p2p.PeerToPeerMarket(risk=risk, contracts=p2p.Contracts()).optimize(n)
    assert p2p.certify(n).is_equilibrium()
    risk["2"] = p2p.Ambiguity([[0.9, 0.05, 0.05]])
    with pytest.raises(p2p.MarketError, match=r"'[01]', '2' would bet"):
        p2p.PeerToPeerMarket(risk=risk, contracts=p2p.Contracts()).optimize(n)


def test_insurance_below_all_beliefs(n: pypsa.Network) -> None:
    contracts = p2p.Contracts(insurance_price=0.4)
    market = p2p.PeerToPeerMarket(risk=p2p.Ambiguity([[0.2, 0.3, 0.5]]), contracts=contracts)
    with pytest.raises(p2p.MarketError, match="so low that somebody would insure without end"):
        market.optimize(n)
    market = p2p.PeerToPeerMarket(
        risk=p2p.Ambiguity([[0.2, 0.3, 0.5]]),
        contracts=p2p.Contracts(insurance_price=0.4, limit=1.0),
    )
    with pytest.raises(p2p.MarketError, match="so low that prosumer '0' would insure"):
        market.optimize(n)
