"""Points of a sweep that share a network: the same as each by itself, posed and solved once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.values import is_hashable
from pypsa_p2p.markets.base import Market
from pypsa_p2p.studies.sweep_networks import SweptNetwork
from tests.reference.instances import network, random_instance

ALONE = p2p.PeerToPeerMarket(risk=p2p.CVaR())
CONTRACTS = replace(ALONE, contracts=p2p.Contracts())
MARKETS = {
    "neutral": p2p.PeerToPeerMarket(),
    "alone": ALONE,
    "no surplus": replace(ALONE, surplus=False),
    "contracts": CONTRACTS,
    "centralized": p2p.CentralizedMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
}
OVER = {"attitude": [0.0, 0.6], "insurance_price": [0.5, 0.2], "trade_capacity": [1.0, 0.1]}


@pytest.fixture
def n() -> pypsa.Network:
    return p2p.load_grid("three_node")


def nothing(n: pypsa.Network, point: dict[str, Any]) -> None:
    """As `apply`: every point gets a network of its own."""


def count(monkeypatch: pytest.MonkeyPatch, method: str) -> list[Market]:
    """The markets whose method is called from here on."""
    called: list[Market] = []
    real = getattr(Market, method)

    def counted(self: Market, *arguments: Any) -> Any:
        called.append(self)
        return real(self, *arguments)

    monkeypatch.setattr(Market, method, counted)
    return called


def test_shared_networks_give_what_separate_ones_do(n: pypsa.Network) -> None:
    """Also after a point that is refused (insurance at 0.2 in three scenarios is a sure profit)."""
    shared = p2p.sweep(n, MARKETS, OVER, progress=False)
    separate = p2p.sweep(n, MARKETS, OVER, apply=nothing, progress=False)
    xr.testing.assert_allclose(shared.drop_vars("error"), separate.drop_vars("error"), atol=1e-8)
    assert (shared.error == separate.error).all()
    refused = shared.error.sel(insurance_price=0.2) != ""
    assert refused.sel(market=["contracts", "centralized"]).all()
    assert not refused.sel(market=["neutral", "alone", "no surplus"]).any()


def test_a_model_is_built_once_for_markets_of_one_formulation(
    n: pypsa.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    posed = count(monkeypatch, "pose")
    p2p.sweep(n, MARKETS, {"attitude": [0.1, 0.3, 0.6]}, progress=False)
    assert len(posed) == 3  # the peer-to-peer one with and without surplus, and the planner's


def test_networks_are_changed_once_for_each_of_their_values(
    n: pypsa.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever dimension runs fastest."""
    posed = count(monkeypatch, "repose")
    over = {"attitude": [0.1, 0.3, 0.6], "renewables": [0.5, 0.8, 0.9, 1.0]}
    d = p2p.sweep(n, ALONE, over, progress=False)
    assert len(posed) == 3
    assert (d.social_cost.diff("renewables") < 0.0).all()


def test_a_market_that_a_dimension_does_not_concern_is_solved_once(
    n: pypsa.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = count(monkeypatch, "solution")
    d = p2p.sweep(n, MARKETS["neutral"], {"attitude": [0.1, 0.3, 0.6]}, progress=False)
    assert len(solved) == 1
    assert np.ptp(d.social_cost.to_numpy()) == 0.0


@dataclass(frozen=True)
class Listed(p2p.RiskMeasure):
    """A measure that has no hash."""

    most: dict[str, float] = field(default_factory=dict)

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Any:
        return 0 * probability, self.most["times"] * probability


def test_markets_without_a_hash_are_solved_each_time(n: pypsa.Network) -> None:
    markets = {str(k): p2p.PeerToPeerMarket(risk=Listed({"times": k})) for k in (1.0, 2.0)}
    assert not is_hashable(markets["1.0"])
    d = p2p.sweep(n, markets, progress=False)
    assert float(d.social_cost.diff("market").item()) > 0.1


@dataclass(frozen=True, kw_only=True)
class Taxed(p2p.PeerToPeerMarket):
    """A design that puts something of its own into the model."""

    tax: float = 0.0

    def formulate(self, m: Any, data: Any) -> None:
        super().formulate(m, data)
        m.objective = m.objective.expression + self.tax * (1 * m["Generator-p"]).sum()


def test_designs_that_add_to_the_model_get_one_of_their_own(n: pypsa.Network) -> None:
    on = SweptNetwork(n)
    costs = [
        on.ask(Taxed(risk=p2p.CVaR(), tax=tax), ()).values["social_cost"][1].item()
        for tax in (0.0, 0.01)
    ]
    assert Taxed().formulation is None
    assert costs[0] != costs[1]


def dearer(n: pypsa.Network, part: dict[str, Any]) -> None:
    """Scale the trade prices, by dimensions of the user's own."""
    assert set(part) == {"by", "more"}
    n.links[["price0", "price1"]] += part["by"] + part["more"]


def test_points_alike_in_what_a_function_changes_share_a_network(
    n: pypsa.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else of the point it does not get."""
    posed = count(monkeypatch, "pose")
    over = {"by": [0.0, 0.2], "attitude": [0.1, 0.6], "more": [0.0, 0.1]}
    apply = {("by", "more"): dearer}
    shared = p2p.sweep(n, ALONE, over, apply=apply, keep=["nodal_price"], progress=False)
    assert len(posed) == 4

    def all_of_it(copy: pypsa.Network, point: dict[str, Any]) -> None:
        dearer(copy, {name: point[name] for name in ("by", "more")})

    each = p2p.sweep(n, ALONE, over, apply=all_of_it, keep=["nodal_price"], progress=False)
    assert len(posed) == 4 + 8
    xr.testing.assert_allclose(shared.drop_vars("error"), each.drop_vars("error"), atol=1e-8)
    assert float(abs(shared.social_cost.diff("by")).min()) > 0.01


def test_a_sweep_keeps_what_results_say_of_the_solved_network(n: pypsa.Network) -> None:
    """Its figures come from the solution itself, theirs from the network's tables."""
    keep = ["bill", "nodal_price", "price_unique", "trade_price", "quantity", "at_cap", "demand"]
    d = p2p.sweep(n, MARKETS, {"attitude": [0.0, 0.6]}, keep=keep, progress=False)
    for name, market in MARKETS.items():
        risk = None if market.risk is None else p2p.CVaR(attitude=0.6)
        own = n.copy()
        replace(market, risk=risk).optimize(own)
        r, found = p2p.results(own), d.sel(market=name, attitude=0.6, drop=True)
        for variable in {*keep, *found} & set(r):
            np.testing.assert_allclose(
                found[variable].transpose(*r[variable].dims).to_numpy().astype(float),
                r[variable].to_numpy().astype(float),
                atol=1e-6,
            )
        wanted = p2p.compare({"it": own}).loc["it"]
        for figure in ("social_cost", "traded_energy", "price_min", "price_mean", "price_max"):
            assert found[figure].item() == pytest.approx(wanted[figure], abs=1e-6)
        assert found["social_cost"].item() == pytest.approx(wanted["social_cost"], abs=1e-8)


@pytest.mark.parametrize(
    ("apply", "match"),
    [
        ({"more": dearer}, "'more' is no dimension of over"),
        ({"by": 3}, "apply must be a function of the network and the point, not 3"),
        ("by", "apply must be a function of the network and the point, not 'by'"),
        ({3: dearer}, "'3' is no dimension of over"),
    ],
)
def test_changes_that_are_none(n: pypsa.Network, apply: Any, match: str) -> None:
    with pytest.raises(p2p.MarketError, match=match):
        p2p.sweep(n, ALONE, {"by": [1.0]}, apply=apply, progress=False)


def test_numbers_of_a_model_are_written_anew(
    n: pypsa.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model for all values of the known dimensions, and what each would have given alone."""
    over = {
        "renewables": [0.0, 0.7, 1.3],
        "congestion": [0.0, 0.2],
        "trade_capacity": [0.0, 0.3, 2.0],
    }
    markets = {"alone": ALONE, "planned": p2p.CentralizedMarket(surplus=False)}
    posed = count(monkeypatch, "pose")
    shared = p2p.sweep(n, markets, over, keep=["quantity", "nodal_price"], progress=False)
    assert len(posed) == 2
    each = p2p.sweep(n, markets, over, keep=["quantity", "nodal_price"], apply=nothing,
                     progress=False)  # fmt: skip
    assert len(posed) == 2 + 2 * 18
    assert (shared.error == each.error).all()
    xr.testing.assert_allclose(shared.drop_vars("error"), each.drop_vars("error"), atol=1e-8)
    assert (shared.error.sel(market="alone") == "").all()
    for dimension in over:
        assert float(abs(shared.social_cost.diff(dimension)).max()) > 0.01


def test_networks_without_scenarios_are_numbered_anew_too(monkeypatch: pytest.MonkeyPatch) -> None:
    n = network(random_instance(3, 4, 1, 2))
    assert not n.has_scenarios
    over = {"renewables": [0.4, 1.2], "congestion": [0.0, 0.2], "trade_capacity": [0.2, 1.0]}
    market = p2p.PeerToPeerMarket()
    posed = count(monkeypatch, "pose")
    shared = p2p.sweep(n, market, over, progress=False)
    assert len(posed) == 1
    each = p2p.sweep(n, market, over, apply=nothing, progress=False)
    xr.testing.assert_allclose(shared, each, atol=1e-8)
    assert (shared.error == "").all()


def test_fees_are_numbers_of_another_model(n: pypsa.Network) -> None:
    """Where there are none the model has no variables for them; each factor counts once."""
    for fee in ("fee0", "fee1"):
        n.links[fee] = np.where(n.links.carrier == "p2p", 0.2, 0.0)
    over = {"fees": [0.0, 1.0, 3.0], "trade_capacity": [0.5, 1.0], "attitude": [0.1, 0.6]}
    keep = ["fee", "quantity"]
    shared = p2p.sweep(n, ALONE, over, keep=keep, progress=False)
    each = p2p.sweep(n, ALONE, over, keep=keep, apply=nothing, progress=False)
    xr.testing.assert_allclose(shared.drop_vars("error"), each.drop_vars("error"), atol=1e-8)
    paid = shared.fee.sum(["scenario", "prosumer"])
    assert (paid.sel(fees=0.0) == 0.0).all()
    assert (paid.sel(fees=1.0) > 0.1).all()


def test_points_are_known_by_which_series_is_which(n: pypsa.Network, tmp_path: Path) -> None:
    """The same numbers as a fee of one end or of the other are not the same network."""

    def charged(copy: pypsa.Network, point: dict[str, Any]) -> None:
        for fee in ("fee0", "fee1"):
            copy.links[fee] = 0.0
        series = pd.DataFrame(0.3, copy.snapshots, copy.links.index)
        copy.links_t[point["payer"]] = series

    over = {"payer": ["fee0", "fee1"]}
    calls = [
        p2p.sweep(n, ALONE, over, apply=charged, keep=["fee"], store=tmp_path, progress=False)
        for _ in range(2)
    ]
    xr.testing.assert_allclose(*calls)
    assert len(list(tmp_path.glob("*.nc"))) == 2
    assert float(abs(calls[0].fee.diff("payer")).max()) > 0.01


@pytest.mark.parametrize("dimension", ["trade_capacity", "congestion", "renewables", "fees"])
def test_dimensions_that_change_nothing(dimension: str) -> None:
    n = p2p.load_grid("three_node")
    n.remove("Link", list(n.links.index.get_level_values("name").unique()))
    for limit, value in (("p_min_pu", 0.0), ("p_max_pu", 1.0)):
        n.generators[limit] = value
        n.generators_t[limit] = n.generators_t[limit].iloc[:, :0]
    d = p2p.sweep(n, ALONE, {dimension: [0.5], "attitude": [0.1, 0.6]}, progress=False)
    why = "no generator here is must-take" if dimension == "renewables" else "has no trade edges"
    assert all(why in error for error in d.error.to_numpy().ravel())
    assert d.social_cost.isnull().all()


def test_whole_numbers_in_columns(n: pypsa.Network) -> None:
    """A user's own column of whole numbers takes any value of a sweep."""
    n.links["p_nom"] = 5
    n.links["congestion"] = 0
    d = p2p.sweep(n, ALONE, {"trade_capacity": [0.5], "congestion": [0.2]}, progress=False)
    assert (d.error == "").all()


@pytest.mark.parametrize(
    ("over", "keep"),
    [({"insurance_price": [0.5]}, ["insurance_price"]), ({"social_cost": [1.0]}, [])],
)
def test_dimensions_named_as_what_is_kept(n: pypsa.Network, over: Any, keep: list[str]) -> None:
    with pytest.raises(p2p.MarketError, match="is a name of the results; take another"):
        p2p.sweep(n, CONTRACTS, over, keep=keep, apply=nothing, progress=False)
