"""Risk measures whose envelopes are no boxes: numbers of independent programs (MODEL.md §3)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.markets.envelopes import Risk

MIXTURE = {0.0: 0.2, 0.5: 0.3, 0.75: 0.5}
RISING, EVEN = (10.0, 20.0, 30.0, 40.0), (0.25, 0.25, 0.25, 0.25)
MIXED, UNEVEN = (40.0, 10.0, 30.0, 20.0), (0.1, 0.2, 0.3, 0.4)

MEASURES = [
    ("spectral", p2p.Spectral(MIXTURE), 35.5, 30.6),
    ("TV .1", p2p.TotalVariation(0.1), 28.0, 26.0),
    ("TV .3", p2p.TotalVariation(0.3), 33.5, 31.0),
    ("W .5", p2p.Wasserstein(0.5), 30.0, 32.0),
    ("W .2", p2p.Wasserstein(0.2), 27.0, 29.0),
    ("semi 1", p2p.Semideviation(1.0), 30.0, 26.8),
    ("semi .5", p2p.Semideviation(0.5), 27.5, 24.9),
    ("worst", p2p.Spectral({1.0: 1.0}), 40.0, 40.0),
    ("CVaR", p2p.Spectral({0.6: 1.0}), 36.25, 32.5),
]
MARKETS = [
    ("TV .2", p2p.TotalVariation(0.2), 12.351547),
    ("W .4", p2p.Wasserstein(0.4), 15.043795),
    ("spectral", p2p.Spectral({0.0: 0.5, 0.6: 0.5}), 12.959882),
    ("semi .8", p2p.Semideviation(0.8), 11.561214),
    ("worst", p2p.Spectral({1.0: 1.0}), 18.161446),
]


def taken(measure: p2p.RiskMeasure, costs: Sequence[float], probability: Sequence[float]) -> Risk:
    """The risk of one prosumer's costs."""
    scenarios = {"scenario": [str(k) for k in range(len(costs))]}
    cost = xr.DataArray(
        np.array(costs)[:, None],
        coords=scenarios | {"prosumer": ["n"]},
        dims=("scenario", "prosumer"),
    )
    attitude = xr.DataArray([0.0], coords={"prosumer": ["n"]})
    return measure.worst(cost, xr.DataArray(list(probability), coords=scenarios), attitude)


@pytest.mark.parametrize(
    ("measure", "rising", "mixed"), [row[1:] for row in MEASURES], ids=[row[0] for row in MEASURES]
)
def test_risk_of_four_costs(measure: p2p.RiskMeasure, rising: float, mixed: float) -> None:
    for costs, probability, risk in ((RISING, EVEN, rising), (MIXED, UNEVEN, mixed)):
        found = taken(measure, costs, probability)
        tau = found.probability.to_numpy().ravel()
        assert found.value.item() == pytest.approx(risk, abs=1e-9)
        assert tau @ np.array(costs) == pytest.approx(risk, abs=1e-9)
        assert tau.sum() == pytest.approx(1.0, abs=1e-12)
        assert np.isnan(found.value_at_risk.item())


@pytest.mark.parametrize(
    ("measure", "tau"),
    [
        (p2p.Spectral(MIXTURE), (0.05, 0.05, 0.2, 0.7)),
        (p2p.TotalVariation(0.1), (0.15, 0.25, 0.25, 0.35)),
        (p2p.TotalVariation(0.3), (0.0, 0.2, 0.25, 0.55)),
    ],
    ids=["spectral", "TV .1", "TV .3"],
)
def test_probabilities_that_attain_it(measure: p2p.RiskMeasure, tau: Sequence[float]) -> None:
    found = taken(measure, RISING, EVEN).probability.to_numpy().ravel()
    np.testing.assert_allclose(found, tau, rtol=0, atol=1e-9)


@pytest.fixture
def n() -> pypsa.Network:
    return p2p.load_grid("three_node")


@pytest.mark.parametrize(
    ("measure", "cost"), [row[1:] for row in MARKETS], ids=[row[0] for row in MARKETS]
)
def test_three_node_market(
    n: pypsa.Network, measure: p2p.RiskMeasure, cost: float, route: str
) -> None:
    """Reciprocity an equality, without contracts; certified, and read back from a file."""
    market = p2p.PeerToPeerMarket(risk=measure, surplus=False)
    if route == "hook":
        n.optimize(extra_functionality=market)
    else:
        market.optimize(n)
    r = p2p.results(n)
    assert n.objective == pytest.approx(cost, abs=1e-6)
    assert r.social_cost.item() == pytest.approx(cost, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()
    assert r.value_at_risk.isnull().all()


def test_mixed_measures(n: pypsa.Network) -> None:
    """Each prosumer's is her own: the sum of what each measure makes of her costs."""
    risk = {"0": p2p.CVaR(attitude=0.3), "1": p2p.TotalVariation(0.2), "2": p2p.Wasserstein(0.4)}
    p2p.PeerToPeerMarket(risk=risk, surplus=False).optimize(n)
    r = p2p.results(n)
    own = [
        taken(measure, r.cost.sel(prosumer=name).to_numpy(), [1 / 3] * 3).value.item()
        for name, measure in risk.items()
    ]
    np.testing.assert_allclose(r.risk_adjusted_cost, own, rtol=0, atol=1e-7)
    assert n.objective == pytest.approx(sum(own), abs=1e-7)
    assert r.value_at_risk.isnull().to_numpy().tolist() == [False, True, True]
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("shift", [0.02, -0.02])
def test_certificates_reject_other_probabilities(n: pypsa.Network, shift: float) -> None:
    """Probabilities that leave the envelope."""
    market = p2p.PeerToPeerMarket(risk=p2p.TotalVariation(0.2), surplus=False)
    market.optimize(n)
    assert p2p.certify(n).is_equilibrium()
    column = n.c["Bus"].static["risk_adjusted_probability"]
    first = column.groupby(level="name").cumcount() == 0
    last = column.groupby(level="name").cumcount(ascending=False) == 0
    n.c["Bus"].static["risk_adjusted_probability"] = column + shift * (
        first.astype(float) - last.astype(float)
    )
    rejected = p2p.certify(n)
    assert not rejected.is_equilibrium()
    # All are at the edge of their envelopes, at both scenarios: of somebody either way leads out.
    assert rejected.residuals["envelope of tau (37)"] > 0.01


def test_a_file_keeps_the_measure(n: pypsa.Network, tmp_path: object) -> None:
    rows = [[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]
    distance = [[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]]
    risk = {
        "0": p2p.Spectral({0.0: 0.5, 0.6: 0.5}),
        "1": p2p.Wasserstein(0.4, distance=distance),
        "2": p2p.Ambiguity(rows),
    }
    p2p.PeerToPeerMarket(risk=risk).optimize(n)
    wanted = p2p.results(n).risk_adjusted_cost
    n.export_to_netcdf(f"{tmp_path}/market.nc")
    again = pypsa.Network(f"{tmp_path}/market.nc")
    xr.testing.assert_allclose(p2p.results(again).risk_adjusted_cost, wanted)
    assert p2p.certify(again).is_equilibrium()


BELIEF = [[0.1, 0.2, 0.3, 0.4]]
FAR = np.array([[0, 1, 1, 5], [3, 0, 1, 1], [3, 3, 0, 1], [1, 2, 2, 0]], dtype=float)
SHUFFLED = [2, 0, 3, 1]
NAMES = list("0123")
OTHERS = [NAMES[place] for place in SHUFFLED]


@pytest.mark.parametrize(
    ("named", "in_order"),
    [
        (p2p.Ambiguity(pd.DataFrame(BELIEF, columns=NAMES)[OTHERS]), p2p.Ambiguity(BELIEF)),
        (
            p2p.Ambiguity(xr.DataArray(BELIEF, {"b": [0], "scenario": NAMES})[:, SHUFFLED].T),
            p2p.Ambiguity(BELIEF),
        ),
        (
            p2p.Ambiguity([dict(zip(OTHERS, [0.3, 0.1, 0.4, 0.2], strict=True))]),
            p2p.Ambiguity(BELIEF),
        ),
        (
            p2p.Wasserstein(0.4, distance=pd.DataFrame(FAR, NAMES, NAMES).loc[::-1, OTHERS]),
            p2p.Wasserstein(0.4, distance=FAR),
        ),
        (
            p2p.Wasserstein(
                0.4,
                distance={"3": {"3": 0, "2": 2, "1": 2, "0": 1}}
                | {
                    a: dict(zip(NAMES, row, strict=True))
                    for a, row in zip("012", FAR, strict=False)
                },
            ),
            p2p.Wasserstein(0.4, distance=FAR),
        ),
    ],
    ids=["DataFrame", "DataArray", "mappings", "distances", "mapping of mappings"],
)
def test_scenarios_go_by_their_names(named: p2p.RiskMeasure, in_order: p2p.RiskMeasure) -> None:
    """Whatever order a labelled table has them in, and read back from its settings."""
    again = p2p.RiskMeasure.of(json.loads(json.dumps(named.settings())))
    for measure in (named, again):
        for costs in (RISING, MIXED):
            wanted = taken(in_order, costs, UNEVEN)
            found = taken(measure, costs, UNEVEN)
            np.testing.assert_allclose(found.value, wanted.value, rtol=1e-9)
            np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-9)


@pytest.mark.parametrize(
    ("risk", "match"),
    [
        (p2p.Ambiguity([[0.5, 0.5]]), "vertices has 2 columns, .* 1 scenario."),
        (p2p.Ambiguity([{"a": 1.0}]), "vertices names the scenarios 'a', .* has none"),
        (p2p.Wasserstein(1, distance=[[0, 1], [1, 0]]), "distance has 2 columns, .* 1 scenario"),
    ],
)
def test_tables_of_scenarios_without_any(risk: p2p.RiskMeasure, match: str) -> None:
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b"], demand=1, demand_max=2, utility_quadratic=1, generation_max=3)
    with pytest.raises(p2p.MarketError, match=match):
        p2p.PeerToPeerMarket(risk=risk).optimize(n)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: p2p.Ambiguity([["0.5", "0.5"]]), "must be a table of finite numbers"),
        (
            lambda: p2p.Wasserstein(1, distance=pd.DataFrame([[0.0]], ["a"], ["b"])),
            "names the scenarios 'a', but its columns are 'b'",
        ),
        (
            lambda: p2p.Ambiguity(pd.DataFrame([[0.5, 0.5]], columns=["a", "a"])),
            "repeats 'a': give each scenario once",
        ),
        (lambda: p2p.Spectral({0.1: 0.5}), "weights must sum to 1, not 0.5"),
        (lambda: p2p.Spectral({1.5: 1.0}), "attitude 1.5 must be a number in"),
        (lambda: p2p.Spectral(0.3), "must be a mapping from attitudes to weights"),
        (lambda: p2p.TotalVariation(1.0), "TotalVariation: radius 1.0 must be"),
        (lambda: p2p.Semideviation(-0.1), "Semideviation: weight -0.1 must be"),
        (lambda: p2p.Wasserstein(-1), "Wasserstein: radius -1 must be"),
        (lambda: p2p.Wasserstein(1, distance=[[0, 1]]), "must be a square table"),
        (lambda: p2p.Ambiguity([[0.5, 0.6]]), "must be rows of probabilities"),
        (lambda: p2p.Ambiguity("often"), "must be a table of finite numbers"),
        (lambda: p2p.PeerToPeerMarket(risk={"0": 0.3}), "risk of '0' must be a risk measure"),
        (lambda: p2p.PeerToPeerMarket(risk={}), "must be a mapping from prosumers"),
        (
            lambda: p2p.PeerToPeerMarket(risk=pd.Series({"0": p2p.CVaR()})),  # type: ignore[arg-type]
            "must be a RiskMeasure, a mapping from prosumers to such or None",
        ),
    ],
)
def test_wrong_numbers(call: object, match: str) -> None:
    with pytest.raises(p2p.MarketError, match=match):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("market", "match"),
    [
        (p2p.PeerToPeerMarket(risk=p2p.Ambiguity([[0.5, 0.5]])), "has 2 columns, .* 3 scenarios"),
        (
            p2p.PeerToPeerMarket(risk=p2p.Ambiguity([{"0": 0.5, "one": 0.5}])),
            "vertices names the scenarios '0', 'one', but the network has '0', '1', '2'",
        ),
        (p2p.PeerToPeerMarket(risk={"0": p2p.CVaR()}), "'1', '2' has none"),
        (
            p2p.PeerToPeerMarket(risk=dict.fromkeys("012x", p2p.CVaR())),
            "'x' is no prosumer of this network",
        ),
    ],
)
def test_what_does_not_fit_the_network(
    n: pypsa.Network, market: p2p.PeerToPeerMarket, match: str
) -> None:
    with pytest.raises(p2p.MarketError, match=match):
        market.optimize(n)


def test_coalitions_of_those_whose_envelopes_are_boxes(n: pypsa.Network) -> None:
    """Alone, or without the others, they keep their own measures."""
    risk = {"0": p2p.TotalVariation(0.2), "1": p2p.WorstCase(), "2": p2p.CVaR(0.3)}
    p2p.PeerToPeerMarket(risk=risk, surplus=False).optimize(n)
    alone = p2p.results(p2p.without_trades(n)).risk_adjusted_cost
    d = p2p.allocate(n, "shapley")
    of_one = d.member.sum("prosumer") == 1
    found = d.member.where(of_one, drop=True).astype(float).argmax("prosumer")
    cost = d.coalition_cost.where(of_one, drop=True)
    np.testing.assert_allclose(cost, alone.isel(prosumer=found), rtol=1e-6)


def test_agents_refuse_them_by_name(n: pypsa.Network) -> None:
    market = p2p.PeerToPeerMarket(risk=p2p.TotalVariation(0.1))
    with pytest.raises(p2p.MarketError, match="The agents' algorithms know CVaR"):
        p2p.solve_equilibrium(n, market, method=p2p.ADMM())


@pytest.mark.parametrize(
    ("measure", "reach"),
    [(p2p.TotalVariation(0.1), 0.1), (p2p.Spectral({0.0: 0.5, 0.5: 0.5}), 0.125)],
    ids=["TV", "spectral"],
)
def test_how_far_probabilities_are_outside(measure: p2p.RiskMeasure, reach: float) -> None:
    """Moving `reach` from the first of four scenarios to the last is just allowed.

    Of the mixture half is p, and half may be anything from 0 to 2 p: 0.125 to 0.375 of each. What
    is moved 0.1 too far has to come back, at both ends: 0.4 of p = 1/4.
    """
    probability = xr.DataArray(list(EVEN), coords={"scenario": list("abcd")})
    may_hold = measure.envelope(probability, xr.DataArray([0.0], coords={"prosumer": ["n"]}))
    move = np.array([-1.0, 0.0, 0.0, 1.0])
    held = np.array(EVEN) + np.array([[0.0], [reach], [reach + 0.1]]) * move
    outside = [may_hold.outside(one[None]).max() for one in held]
    np.testing.assert_allclose(outside, [0.0, 0.0, 0.4], rtol=0, atol=1e-9)


def test_a_misspelt_measure_says_which_there_are() -> None:
    with pytest.raises(p2p.MarketError, match=r"not defined here: .* Spectral, TotalVariation"):
        p2p.RiskMeasure.of({"measure": "TotalVariaton", "radius": 0.2})
