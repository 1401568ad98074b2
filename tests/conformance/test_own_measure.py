"""A risk measure of one's own, in one class: solved, certified, drawn, swept, stored, compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p

WITHOUT = {"surplus": False}
DESIGNS = {
    "centralized": (p2p.CentralizedMarket, {}),
    "community": (p2p.CentralizedMarket, {"aggregate": "community"}),
    "peer-to-peer": (p2p.PeerToPeerMarket, {}),
    "generalized": (
        p2p.PeerToPeerMarket,
        {"equilibrium": "generalized", "weights": {"0": 1.0, "1": 2.0, "2": 0.5}},
    ),
    "contracts": (p2p.PeerToPeerMarket, {"contracts": p2p.Contracts()}),
    "limited": (p2p.PeerToPeerMarket, {"contracts": p2p.Contracts(limit=1.0)}),
    "insured": (p2p.PeerToPeerMarket, {"contracts": p2p.Contracts(insurance_price=0.5)}),
}
COMPARED = ("cost", "risk_adjusted_cost", "nodal_price", "risk_adjusted_probability", "demand")


@dataclass(frozen=True)
class AtMostTwice(p2p.RiskMeasure):
    """tau <= 2 p: nobody fears a scenario more than twice as much as it is likely."""

    def limits(
        self, probability: xr.DataArray, attitude: xr.DataArray
    ) -> tuple[xr.DataArray, xr.DataArray]:
        """From 0 to 2 p, for everybody."""
        return 0 * probability, 2 * probability


@dataclass(frozen=True)
class AtMost(p2p.RiskMeasure):
    """tau <= c p, with a c for everybody, by the `risk_attitude` in the network."""

    def limits(
        self, probability: xr.DataArray, attitude: xr.DataArray
    ) -> tuple[xr.DataArray, xr.DataArray]:
        """From 0 to p / (1 - chi / 2)."""
        return 0 * probability, probability / (1 - attitude / 2)


def solved(market: p2p.Market, route: str) -> pypsa.Network:
    n = p2p.load_grid("three_node")
    if route == "direct":
        market.optimize(n)
    else:
        n.optimize(extra_functionality=market, log_to_console=False)
    return n


@pytest.mark.parametrize("route", ["direct", "hook"])
@pytest.mark.parametrize("design", DESIGNS)
def test_at_most_twice_is_cvar_at_one_half(design: str, route: str) -> None:
    """CVaR at 1/2 is the worst of all tau <= p / (1 - 1/2)."""
    kind, options = DESIGNS[design]
    found, known = (
        p2p.results(solved(kind(risk=risk, **WITHOUT, **options), route))
        for risk in (AtMostTwice(), p2p.CVaR(attitude=0.5))
    )
    for name in COMPARED:
        np.testing.assert_allclose(found[name], known[name], atol=1e-6)
    assert float(found.social_cost) == pytest.approx(float(known.social_cost), abs=1e-8)


@pytest.mark.parametrize("design", DESIGNS)
def test_it_is_certified(design: str) -> None:
    kind, options = DESIGNS[design]
    certificate = p2p.certify(solved(kind(risk=AtMostTwice(), **WITHOUT, **options), "direct"))
    assert certificate.is_equilibrium(), certificate


@pytest.mark.parametrize("route", ["direct", "hook"])
def test_a_box_that_differs_by_prosumer(route: str) -> None:
    """p / (1 - chi / 2) is CVaR at half of everybody's attitude."""
    n = solved(p2p.PeerToPeerMarket(risk=AtMost(), **WITHOUT), route)
    half = n.buses.loc[n.buses.carrier == "prosumer", "risk_attitude"] / 2
    chi = half.groupby(level="name").first() if half.index.nlevels > 1 else half
    known = solved(p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=chi.to_dict()), **WITHOUT), route)
    for name in COMPARED:
        np.testing.assert_allclose(p2p.results(n)[name], p2p.results(known)[name], atol=1e-6)
    assert p2p.certify(n).is_equilibrium()


def test_it_is_stored_and_read_again(tmp_path: Path) -> None:
    n = solved(p2p.PeerToPeerMarket(risk=AtMost(), **WITHOUT), "direct")
    n.export_to_netcdf(tmp_path / "n.nc")
    again = pypsa.Network(tmp_path / "n.nc")
    xr.testing.assert_allclose(p2p.results(again), p2p.results(n))
    assert p2p.certify(again).is_equilibrium()


def test_it_is_drawn_swept_and_compared() -> None:
    n = solved(p2p.PeerToPeerMarket(risk=AtMostTwice(), **WITHOUT), "direct")
    p2p.plot.risk(n)
    p2p.plot.costs(n)
    plt.close("all")
    grid = p2p.load_grid("three_node")
    market = p2p.PeerToPeerMarket(risk=AtMostTwice(), **WITHOUT)
    swept = p2p.sweep(grid, {"own": market}, {"renewables": [0.8, 1.0]}, progress=False)
    assert float(swept.social_cost.sel(renewables=1.0).squeeze()) == pytest.approx(n.objective)
    assert len(p2p.compare({"own": n})) > 0


def test_agents_know_it() -> None:
    n = p2p.load_grid("three_node")
    market = p2p.PeerToPeerMarket(risk=AtMostTwice(), **WITHOUT)
    found = p2p.solve_equilibrium(n, market, p2p.ADMM(tolerance=1e-8), progress=False)
    assert found.converged
    assert n.objective == pytest.approx(solved(market, "direct").objective, rel=1e-5)


@dataclass(frozen=True)
class Wrong(p2p.RiskMeasure):
    """An envelope that leaves p out."""

    def limits(
        self, probability: xr.DataArray, attitude: xr.DataArray
    ) -> tuple[xr.DataArray, xr.DataArray]:
        """From 0 to p / 2."""
        return 0 * probability, probability / 2


def test_an_envelope_without_p_is_refused() -> None:
    with pytest.raises(p2p.MarketError, match=r"Wrong.*probability lies outside"):
        solved(p2p.PeerToPeerMarket(risk=Wrong()), "direct")


def test_the_worst_case_is_an_instance_like_any_other() -> None:
    """CVaR beyond 1 - min p: only the costliest scenario counts."""
    found = solved(p2p.PeerToPeerMarket(risk=p2p.WorstCase(), **WITHOUT), "direct")
    assert found.objective == pytest.approx(18.161446, abs=1e-6)  # MODEL.md §9
    assert p2p.certify(found).is_equilibrium()


Ends = tuple[xr.DataArray, xr.DataArray]


@dataclass(frozen=True)
class Crossed(p2p.RiskMeasure):
    """Everybody trusts the probability of one scenario, each of another; most of all others."""

    most: float = 3.0

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Ends:
        least = (0 * probability * attitude).transpose("scenario", "prosumer").copy()
        for k in range(3):
            least[k, k] = probability[k]
        return least, self.most * probability + 0 * attitude


def test_what_nobody_may_fear_together_is_not_feared(route: str) -> None:
    """The three have p alone in common, so that complete contracts make them risk-neutral."""
    found = solved(
        p2p.PeerToPeerMarket(risk=Crossed(), contracts=p2p.Contracts(), **WITHOUT), route
    )
    neutral = solved(p2p.PeerToPeerMarket(**WITHOUT), route)
    assert found.objective == pytest.approx(neutral.objective, abs=1e-6)
    tau = p2p.results(found).risk_adjusted_probability
    np.testing.assert_allclose(tau, 1 / 3, atol=1e-9)
    assert p2p.certify(found).is_equilibrium()


@pytest.mark.parametrize("contracts", [None, p2p.Contracts(limit=1.0)], ids=["alone", "limited"])
def test_limits_that_cross_are_certified(contracts: p2p.Contracts | None) -> None:
    """Lower ends above 0, which differ by prosumer."""
    market = p2p.PeerToPeerMarket(risk=Crossed(most=1.5), contracts=contracts, **WITHOUT)
    certificate = p2p.certify(solved(market, "direct"))
    assert certificate.is_equilibrium(), certificate


@dataclass(frozen=True)
class Unlimited(p2p.RiskMeasure):
    """The worst case, by limits that are none."""

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Ends:
        return 0 * probability, probability + np.inf


def test_no_limit_is_the_worst_case() -> None:
    found = solved(p2p.PeerToPeerMarket(risk=Unlimited(), **WITHOUT), "direct")
    assert found.objective == pytest.approx(18.161446, abs=1e-6)


@dataclass(frozen=True)
class Nothing(p2p.RiskMeasure):
    """No limits at all."""

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Any:
        return None


@dataclass(frozen=True)
class OfOne(p2p.RiskMeasure):
    """Limits without an upper end."""

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Any:
        return (probability,)


@pytest.mark.parametrize("measure", [Nothing(), OfOne()], ids=["nothing", "one end"])
def test_what_are_no_limits_is_refused(measure: p2p.RiskMeasure) -> None:
    with pytest.raises(p2p.MarketError, match="limits must return two DataArrays"):
        solved(p2p.PeerToPeerMarket(risk=measure), "direct")


@dataclass(frozen=True)
class Table(p2p.RiskMeasure):
    """What is most feared of each scenario, by position or by name."""

    factor: Any = (2.0, 2.0, 2.0)

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Ends:
        most = probability.copy(data=np.array(self.factor)) * probability
        return 0 * probability, most


def test_fields_of_measures_come_back_as_they_were(tmp_path: Path) -> None:
    n = solved(p2p.PeerToPeerMarket(risk=Table(), **WITHOUT), "direct")
    n.export_to_netcdf(tmp_path / "n.nc")
    again = pypsa.Network(tmp_path / "n.nc")
    assert p2p.RiskMeasure.of(again.meta["p2p"]["risk"]) == Table()
    assert p2p.certify(again).is_equilibrium()
    with pytest.raises(p2p.MarketError, match="Table: its fields must be"):
        p2p.PeerToPeerMarket(risk=Table(factor=np.ones(3)))
    with pytest.raises(p2p.MarketError, match="Table: its fields must be"):
        p2p.PeerToPeerMarket(risk=Table(factor={0: 1.0}))
