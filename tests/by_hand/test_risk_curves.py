"""Relative entropy and deviation as risk: numbers of independent programs (MODEL.md §3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.by_hand.test_risk_measures import EVEN, MIXED, RISING, UNEVEN, taken

MEASURES = [
    ("KL .1", p2p.KullbackLeibler(0.1), 29.942742, 27.057451),
    ("EVaR .6", p2p.EntropicVaR(0.6), 38.374613, 34.944911),
    ("chi2 .5", p2p.ChiSquare(0.5), 30.590170, 27.5),
    ("chi2 1.2", p2p.ChiSquare(1.2), 37.345208, 33.040619),
    ("KL far", p2p.KullbackLeibler(5.0), 40.0, 40.0),
    ("chi2 far", p2p.ChiSquare(5.0), 40.0, 40.0),
    ("KL 0", p2p.KullbackLeibler(0.0), 25.0, 23.0),
    ("chi2 0", p2p.ChiSquare(0.0), 25.0, 23.0),
]
EVERYBODY = {
    "KL .1": (p2p.KullbackLeibler(0.1), 12.464582),
    "chi2 .4": (p2p.ChiSquare(0.4), 11.886659),
    "mixed": (
        {"0": p2p.CVaR(0.3), "1": p2p.TotalVariation(0.2), "2": p2p.KullbackLeibler(0.1)},
        11.955507,
    ),
}


@pytest.mark.parametrize(
    ("measure", "rising", "mixed"), [row[1:] for row in MEASURES], ids=[row[0] for row in MEASURES]
)
def test_risk_of_four_costs(measure: p2p.RiskMeasure, rising: float, mixed: float) -> None:
    """Without any weight of the second, chi2 .5 of the first is 25 + .5 times the deviation."""
    for costs, probability, risk in ((RISING, EVEN, rising), (MIXED, UNEVEN, mixed)):
        found = taken(measure, costs, probability)
        tau = found.probability.to_numpy().ravel()
        assert found.value.item() == pytest.approx(risk, abs=2e-6)
        assert tau @ np.array(costs) == pytest.approx(found.value.item(), abs=1e-12)
        assert tau.sum() == pytest.approx(1.0, abs=1e-12)


def test_probabilities_that_attain_it() -> None:
    clipped = taken(p2p.ChiSquare(1.2), RISING, EVEN).probability.to_numpy().ravel()
    np.testing.assert_allclose(clipped, (0, 0, 0.265479, 0.734521), rtol=0, atol=1e-6)
    entropic = taken(p2p.KullbackLeibler(0.1), RISING, EVEN).probability.to_numpy().ravel()
    np.testing.assert_allclose(entropic, (0.120922, 0.183, 0.27695, 0.419127), rtol=0, atol=1e-5)
    assert entropic @ np.log(entropic / 0.25) == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize(("risk", "cost"), EVERYBODY.values(), ids=EVERYBODY)
def test_three_node_market(risk: object, cost: float, route: str) -> None:
    """Reciprocity an equality, without contracts; certified."""
    n = p2p.load_grid("three_node")
    market = p2p.PeerToPeerMarket(risk=risk, surplus=False)  # type: ignore[arg-type]
    if route == "hook":
        n.optimize(extra_functionality=market)
    else:
        market.optimize(n)
    assert n.objective == pytest.approx(cost, abs=1e-6)
    assert p2p.results(n).social_cost.item() == pytest.approx(cost, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("case", ["outside", "not attaining"])
def test_certificates_reject_other_probabilities(case: str) -> None:
    """Probabilities outside of the ball, and inside of it where less is feared than can be."""
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(risk=p2p.KullbackLeibler(0.1), surplus=False).optimize(n)
    column = n.c["Bus"].static["risk_adjusted_probability"]
    share = 1.001 if case == "outside" else 0.999
    n.c["Bus"].static["risk_adjusted_probability"] = 1 / 3 + share * (column - 1 / 3)
    certificate = p2p.certify(n)
    assert not certificate.is_equilibrium()
    outside = certificate.residuals["envelope of tau (37)"]
    assert outside > 1e-5 if case == "outside" else outside < 1e-9


def test_a_file_keeps_the_measure(tmp_path: Path) -> None:
    n = p2p.load_grid("three_node")
    risk = {"0": p2p.KullbackLeibler(0.1), "1": p2p.EntropicVaR(0.3), "2": p2p.ChiSquare(0.4)}
    p2p.PeerToPeerMarket(risk=risk, contracts=p2p.Contracts()).optimize(n)
    wanted = p2p.results(n).risk_adjusted_cost
    n.export_to_netcdf(tmp_path / "market.nc")
    again = pypsa.Network(tmp_path / "market.nc")
    xr.testing.assert_allclose(p2p.results(again).risk_adjusted_cost, wanted)
    assert p2p.certify(again).is_equilibrium()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: p2p.KullbackLeibler(-1), "KullbackLeibler: radius -1 must be"),
        (lambda: p2p.EntropicVaR(1), "EntropicVaR: attitude 1 must be"),
        (lambda: p2p.ChiSquare("wide"), "ChiSquare: radius 'wide' must be"),
    ],
)
def test_wrong_numbers(call: object, match: str) -> None:
    with pytest.raises(p2p.MarketError, match=match):
        call()  # type: ignore[operator]
