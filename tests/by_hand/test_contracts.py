"""Contracts computed by hand; each docstring names the number a plausible bug would give.

Prosumers cannot help their costs: see `markets.twins`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.by_hand.markets import twins
from tests.reference.instances import Instance
from tests.reference.package import solved

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-6}


def results(data: Instance, attitude: float, route: str, **contracts: Any) -> xr.Dataset:
    market = p2p.PeerToPeerMarket(
        risk=p2p.CVaR(attitude=attitude), contracts=p2p.Contracts(**contracts)
    )
    return solved(data, market, route)[1].transpose("prosumer", ...)


def opposite() -> Instance:
    """A pays 0 or 30, B pays 30 or 0, equally likely."""
    data = twins([0.0, 30.0])
    demand = data.demand.copy()
    demand[1] = demand[1, ::-1]
    return replace(data, demand=demand)


def test_insurance(route: str) -> None:
    """Costs 10, 20, 40 each, chi = .5: caps 2/3, so that alone R = 20/3 + 80/3 = 33.33.

    With insurance at .9, .9, .5 the worst scenario weighs .5 only, the next the other .5:
    R = 10 + 20 = 30. Each insures the 20 EUR between them, for 10 EUR: 10 + CVaR[10, 20, 20].
    Insurance that had to clear between the two, as (44) prints it, would be none.
    """
    r = results(twins([10.0, 20.0, 40.0]), 0.5, route, insurance_price=[0.9, 0.9, 0.5])
    np.testing.assert_allclose(r.contract_price, [0, 0.5, 0.5], **EXACT)
    np.testing.assert_allclose(r.insurance, [[0, 0, 20], [0, 0, 20]], **EXACT)
    np.testing.assert_allclose(r.contract, 0, **EXACT)
    np.testing.assert_allclose(r.risk_adjusted_cost, [30, 30], **EXACT)
    np.testing.assert_allclose(r.value_at_risk, [20, 20], **EXACT)
    assert float(r.social_cost) == pytest.approx(60, abs=1e-6)
    assert r.regime.to_numpy().tolist() == ["worthless", "traded", "insured"]
    assert not r.at_cap.any()


def test_caps() -> None:
    """Costs 10, 20, 40, chi = .3: tau = 1/3/.7 = .47619 in the two worst, .047619 in the best."""
    r = results(twins([10.0, 20.0, 40.0]), 0.3, "direct")
    np.testing.assert_allclose(r.contract_price, [0.047619, 0.476190, 0.476190], **EXACT)
    assert r.at_cap.to_numpy().tolist() == [False, True, True]
    assert r.regime.to_numpy().tolist() == ["traded"] * 3


@pytest.mark.parametrize("limit", [5.0, 20.0])
def test_limits(limit: float, route: str) -> None:
    """Opposite costs, chi = .5, the worst case: alone 30 each; hedged by W = (-15, 15): 15 each.

    A limit L < 15 leaves (L, 30 - L): R = 30 - L, the premium of buying L and selling L being
    none at equal prices, and the sum is 60 - 2 L.
    """
    r = results(opposite(), 0.5, route, limit=limit)
    hedged = min(limit, 15.0)
    # Volumes of no premium follow prices, and are as exact as those times the volume.
    wanted = [[-hedged, hedged], [hedged, -hedged]]
    np.testing.assert_allclose(r.contract, wanted, rtol=1e-6, atol=0)
    assert float(r.social_cost) == pytest.approx(60 - 2 * hedged, abs=1e-6)
    premium = (r.contract_price * r.contract).sum("scenario")
    np.testing.assert_allclose(r.risk_adjusted_cost, 30 - hedged + premium, rtol=1e-6, atol=0)


def test_one_scenario_only(route: str) -> None:
    """Only the second can be traded: A buys 30 there, and pays 0 or 0; B then pays 30 or 30.

    The sum of both worst cases is 30, as with complete contracts. A contract that paid in both
    scenarios would hedge nothing and leave 60.
    """
    r = results(opposite(), 0.5, route, payoff=["s1"])
    np.testing.assert_allclose(r.contract, [[0, 30], [0, -30]], **EXACT)
    np.testing.assert_allclose(r.contract_volume, [[30], [-30]], **EXACT)
    assert float(r.social_cost) == pytest.approx(30, abs=1e-6)
    flat = results(opposite(), 0.5, "direct", payoff=[1.0, 1.0])
    np.testing.assert_allclose(flat.contract, 0, **EXACT)
    assert float(flat.social_cost) == pytest.approx(60, abs=1e-6)
    np.testing.assert_allclose(flat.contract_price, [1], **EXACT)


def test_given_prices() -> None:
    """A sells 15 at .2 and buys 15 at .6 and so pays B 6 EUR: R = 15 + 6 and 15 - 6."""
    r = results(opposite(), 0.5, "direct", price=[0.2, 0.6])
    np.testing.assert_allclose(r.risk_adjusted_cost, [21, 9], **EXACT)
    assert float(r.social_cost) == pytest.approx(30, abs=1e-6)
