"""Laws of allocations where households have retailers, peaks, bids, fees and an operator (§10)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import scipy.sparse as sp
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.formulation.restricted import Coalitions
from tests.laws.test_allocation import without_others

ALL = ("p0", "p1", "p2", "p3")
HOURLY = ("mid_market", "bill_sharing", "supply_demand_ratio")
COALITIONS = (["p1"], ["p0", "p2"])
NEUTRAL = p2p.PeerToPeerMarket(surplus=False)
AVERSE = p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=0.7))

BUY = {"p0": 0.3, "p1": 0.28, "p2": 0.31, "p3": 0.29}
SELL = {"p0": 0.08, "p1": 0.07, "p2": 0.06, "p3": 0.05}
RETAIL = {"import_price": BUY, "export_price": SELL}
PEAKS = {"peak_price": {"p0": 0.0, "p1": 0.5, "p2": 0.8, "p3": 0.3}, "peak_period": "D"}
BIDS = {
    "demand_bids": {"p2": [(0.4, 1), (0.1, 2)], "p0": [(0.2, 1)]},
    "supply_bids": {"p3": [(0.06, 1), (0.2, 2)], "p1": [(0.12, 1)]},
}
HUB = {"role": ["prosumer", "prosumer", "operator", "prosumer"]}
OWN = {"own_surplus": ["p0"]}


def street(
    retail: dict[str, Any] = RETAIL,
    prosumers: dict[str, Any] | None = None,
    trades: dict[str, Any] | None = None,
) -> pypsa.Network:
    """Two days of two roofs and two generators, in two scenarios of sun."""
    n = pypsa.Network(snapshots=pd.date_range("2030-01-01 10:00", periods=4, freq="12h"))
    n.snapshot_weightings["objective"] = [1.0, 2.0, 1.5, 1.0]
    load, attitude = [1.0, 2.0, 3.0, 1.5], [0.3, 0.8, 0.5, 0.1]
    p2p.add_prosumers(
        n, ALL, demand=load, demand_min=load, demand_max=load, utility_quadratic=0,
        generation_max=[0, 0, 2, 3], marginal_cost=[0, 0, 0.15, 0.09],
        marginal_cost_quadratic=[0, 0, 0.005, 0.003], risk_attitude=attitude, **(prosumers or {}),
    )  # fmt: skip
    p2p.add_retail(n, **retail)
    p2p.add_trades(n, "complete", **{"capacity": 2.5, **(trades or {})})
    sun = np.zeros((2, 4, 4))
    sun[:, 0, 0], sun[:, 2, 0], sun[:, 2, 1] = [4.0, 0.0], [3.0, 1.0], [2.0, 3.0]
    coords = {"scenario": ["sun", "cloud"], "snapshot": n.snapshots, "prosumer": list(ALL)}
    renewable = xr.DataArray(sun, coords=coords)
    p2p.set_scenarios(n, {"sun": 0.6, "cloud": 0.4}, xr.Dataset({"renewable": renewable}))
    return n


MOST = {"p0": 9, "p1": 8, "p2": 7, "p3": 9}
STREETS: dict[str, dict[str, Any]] = {
    "retail": {},
    "limited retail": {"retail": {**RETAIL, "import_capacity": MOST}},
    "peaks": {"retail": {**RETAIL, **PEAKS}},
    "own surplus": {"trades": OWN},
    "bids": {"prosumers": BIDS},
    "operator": {"prosumers": HUB},
    "fees": {"trades": {"fee": 0.02}},
    "all": {
        "retail": {**RETAIL, **PEAKS},
        "prosumers": {"demand_bids": {"p2": [(0.4, 1)]}, **HUB},
        "trades": {"fee": 0.02, **OWN},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "market"),
    [*((name, NEUTRAL) for name in STREETS), ("all", AVERSE)],
    ids=lambda value: value if isinstance(value, str) else "averse" if value.risk else "neutral",
)
def test_a_coalition_is_a_street_without_the_others(name: str, market: p2p.Market) -> None:
    n = street(**STREETS[name])
    market.optimize(n)
    d = p2p.allocate(n, coalitions=COALITIONS, progress=False)
    size = float(abs(d.coalition_cost).max())
    for members in COALITIONS:
        alone = without_others(n, members)
        market.optimize(alone)
        cost = float(d.coalition_cost.sel(coalition=" + ".join(members)))
        assert cost == pytest.approx(float(p2p.results(alone).social_cost), abs=1e-8 * size)
    assert float(d.core_excess) <= 1e-6 * size
    assert float(d.transfer.sum()) == pytest.approx(0.0, abs=1e-6 * size)


@pytest.mark.parametrize("name", ["peaks", "own surplus", "all"])
def test_a_coalition_has_the_model_of_a_street_without_the_others(name: str) -> None:
    """Number by number: closed contracts are rows, and peaks columns, of their owners."""
    n = street(**STREETS[name])
    members = ["p0", "p1", "p3"]
    alone = NEUTRAL.pose(without_others(n, members))
    coalition = Coalitions(NEUTRAL.pose(n)).market(np.array([0, 1, 3]))
    for part, own in (
        (coalition.compiled.program, alone.compiled.program), (coalition.places, alone.places),
    ):  # fmt: skip
        for key, wanted in vars(own).items():
            both = [getattr(part, key), wanted]
            dense = [one.toarray() if sp.issparse(one) else one for one in both]
            np.testing.assert_array_equal(*dense, err_msg=key)
    for key, wanted in vars(alone.data).items():
        if isinstance(wanted, xr.DataArray):
            xr.testing.assert_equal(getattr(coalition.data, key), wanted)


def test_an_operator_is_a_player_as_others_are() -> None:
    """Also where she is by herself, a market that nobody would call one."""
    n, same = street(prosumers=HUB), street()
    for one in (n, same):
        NEUTRAL.optimize(one)
    found, wanted = (p2p.allocate(one, "shapley", progress=False) for one in (n, same))
    xr.testing.assert_allclose(found, wanted, atol=1e-8)


# ------------------------------------------------------------------ rules by the hour


@cache
def common(name: str, averse: bool) -> pypsa.Network:
    """A street whose households have the same retailer."""
    retail = {"import_price": 0.3, "export_price": 0.05}
    built = {
        "wide": street(retail, trades={"capacity": 9.0}),
        "narrow": street(retail, trades={"capacity": 0.4}),
        "peaks and fees": street({**retail, **PEAKS}, trades={"capacity": 9.0, "fee": 0.01}),
    }[name]
    (p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False) if averse else NEUTRAL).optimize(built)
    return built


@pytest.mark.parametrize("rule", HOURLY)
@pytest.mark.parametrize("name", ["wide", "narrow", "peaks and fees"])
def test_rules_by_the_hour_sum_to_the_social_cost(name: str, rule: str) -> None:
    """At the contracts' prices, unless some export while others import, which a rule nets.

    What households of a narrow street sell to their retailer and others buy from theirs at the
    same time the rule's retailer does not get (b - s) of.
    """
    n = common(name, averse=False)
    d, r = p2p.allocate(n, rule, coalitions=[], progress=False), p2p.results(n)
    size = float(abs(r.risk_adjusted_cost).sum())
    sums = float(d.allocation.sum() - r.social_cost)
    p = xr.DataArray([0.6, 0.4], coords={"scenario": r.scenario})
    hours = xr.DataArray([1.0, 2.0, 1.5, 1.0], coords={"snapshot": r.snapshot})
    both = np.minimum(r.retail_import.sum("prosumer"), r.retail_export.sum("prosumer"))
    netted = 0.25 * float((p * hours * both).sum())
    assert (netted > 0.1) == (name == "narrow")
    assert sums == pytest.approx(-netted, abs=1e-7 * size)
    assert d.attrs["sum_less_social_cost"] == pytest.approx(sums, abs=1e-9)
    assert d.attrs["retailer_gets_more"] == pytest.approx(sums, abs=1e-7 * size)
    xr.testing.assert_identical(d.payment.variable, p2p.settle(n, rule).payment.variable)


@pytest.mark.parametrize("rule", HOURLY)
def test_rules_by_the_hour_at_other_prices(rule: str) -> None:
    """Of the risk-neutral the retailer's gain is all that the sum differs by."""
    n, prices = common("narrow", averse=False), {"buy": 0.5, "sell": 0.02}
    d = p2p.allocate(n, rule, coalitions=[], progress=False, **prices)
    more = d.attrs["retailer_gets_more"]
    assert more > 0.1
    assert d.attrs["sum_less_social_cost"] == pytest.approx(more, abs=1e-7)
    settled = p2p.settle(n, rule, **prices)
    expected = (settled.net_cost * xr.DataArray([0.6, 0.4], dims="scenario")).sum("scenario")
    assert d.allocation.values == pytest.approx(expected.values, abs=1e-9)


@pytest.mark.parametrize("rule", HOURLY)
def test_rules_by_the_hour_have_the_risk_of_net_costs(rule: str) -> None:
    """CVaR of two scenarios: the worse as far as 1 - chi reaches, the other for the rest."""
    n = common("wide", averse=True)
    d, net = p2p.allocate(n, rule, coalitions=[], progress=False), p2p.settle(n, rule).net_cost
    for who, chi in zip(ALL, (0.3, 0.8, 0.5, 0.1), strict=True):
        cost = net.sel(prosumer=who).to_numpy()
        worse = int(cost.argmax())
        weight = min(1.0, (0.6, 0.4)[worse] / (1 - chi))
        wanted = weight * cost[worse] + (1 - weight) * cost[1 - worse]
        assert float(d.allocation.sel(prosumer=who)) == pytest.approx(wanted, abs=1e-9)
    assert abs(d.attrs["sum_less_social_cost"] - d.attrs["retailer_gets_more"]) > 1e-3
