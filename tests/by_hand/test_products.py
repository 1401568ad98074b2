"""Financial products by hand: what they pay, and what they clear at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p

P = {"0": 80.0, "1": 20.0, "2": 50.0}


def solved(**contracts: object) -> xr.Dataset:
    """The three-node market, risk-averse, with contracts."""
    n: pypsa.Network = p2p.load_grid("three_node")
    market = p2p.PeerToPeerMarket(
        risk=p2p.CVaR(), contracts=p2p.Contracts(**contracts), surplus=False
    )
    market.optimize(n)
    return p2p.results(n)


@pytest.mark.parametrize(
    ("payoff", "pays"),
    [
        (p2p.forward(P), [80, 20, 50]),
        (p2p.contract_for_difference(P, 50), [30, -30, 0]),
        (p2p.price_cap(P, 45), [35, 0, 5]),
        (p2p.power_purchase_agreement(P, 50, {"2": 9, "1": 3, "0": 2}), [60, -90, 0]),
    ],
    ids=["forward", "difference", "cap", "agreement"],
)
def test_payoffs(payoff: pd.Series, pays: list[float]) -> None:
    """P = 80, 20, 50 EUR/MWh; a cap that pays below its strike as well would give -25 in "1"."""
    assert payoff.to_dict() == dict(zip(P, map(float, pays), strict=True))


def test_forms_of_prices() -> None:
    """By name in any form the same; a sequence stays one, in its order."""
    by_name = xr.DataArray(list(P.values()), coords={"scenario": list(P)})
    pd.testing.assert_series_equal(p2p.forward(by_name), p2p.forward(P))
    pd.testing.assert_series_equal(p2p.forward(pd.Series(P)), p2p.forward(P))
    assert p2p.price_cap([80, 20, 50], 45) == [35, 0, 5]
    assert p2p.power_purchase_agreement([80, 20], 50, [1, 2]) == [30, -60]


def test_a_forward_is_the_payoff_typed_in() -> None:
    by_hand = solved(payoff=[80.0, 20.0, 50.0])
    for payoff in (p2p.forward(P), p2p.forward([80.0, 20.0, 50.0])):
        xr.testing.assert_allclose(solved(payoff=payoff), by_hand)


def test_a_forward_at_a_given_price() -> None:
    """Whoever holds F paid f F, and has (P - f) F of it in the scenario."""
    r = solved(payoff=p2p.forward(P), price=[50.0])
    np.testing.assert_allclose(r.contract_price, 50.0)
    held = r.contract_volume.isel(contract_name=0)
    assert float(abs(held).max()) > 1e-3
    pays = xr.DataArray(list(P.values()), coords={"scenario": r.scenario})
    xr.testing.assert_allclose(
        r.contract.reset_coords(drop=True), (pays * held).drop_vars("contract_name")
    )
    cost = r.cost - r.contract + 50.0 * held
    worst = r.risk_adjusted_probability * cost
    np.testing.assert_allclose(worst.sum("scenario"), r.risk_adjusted_cost, atol=1e-6)


def test_a_contract_for_difference_clears_at_the_forward_less_its_strike() -> None:
    forward = solved(payoff=p2p.forward(P))
    difference = solved(payoff=p2p.contract_for_difference(P, 30.0))
    np.testing.assert_allclose(difference.social_cost, forward.social_cost, atol=1e-6)
    np.testing.assert_allclose(difference.contract_price, forward.contract_price - 30, atol=1e-5)
    alone = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(alone)
    assert float(forward.social_cost) < float(p2p.results(alone).social_cost) - 1e-3


def test_products_side_by_side() -> None:
    """Rows of a table have their names; together they hedge at least as well as each alone."""
    both = solved(payoff=pd.DataFrame([p2p.forward(P), p2p.price_cap(P, 45)]))
    assert list(both.contract_name.values) == ["forward", "cap at 45"]
    assert float(both.social_cost) <= float(solved(payoff=p2p.forward(P)).social_cost) + 1e-9


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: p2p.forward(50.0), "each scenario"),
        (
            lambda: p2p.forward(pd.DataFrame([[1.0, 2.0]])),
            "price is a table: .* by name or in order",
        ),
        (lambda: p2p.forward({"dry": np.nan}), "finite number"),
        (lambda: p2p.price_cap(P, np.inf), "strike"),
        (lambda: p2p.contract_for_difference(P, "50"), "strike"),
        (lambda: p2p.power_purchase_agreement(P, 50, {"0": 1.0}), "volume must be of"),
        (lambda: p2p.power_purchase_agreement(P, 50, [1, -1, 1]), "volume"),
    ],
    ids=["scalar", "table", "missing", "infinite", "text", "scenarios", "negative"],
)
def test_what_is_no_product(make: Callable[[], object], says: str) -> None:
    with pytest.raises(p2p.MarketError, match=says):
        make()
