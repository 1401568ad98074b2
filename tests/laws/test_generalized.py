"""Laws of generalized Nash equilibria selected by Rosen's weights (MODEL.md §4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.laws.markets import CONGESTED, SMALL, Draw, Setting, instance_of, solved_network
from tests.laws.test_equilibrium import gains
from tests.reference.package import as_solution, solved

BOTH = pytest.mark.parametrize("draw", [SMALL, CONGESTED], ids=["a = 0", "a > 0"])
RISKS = pytest.mark.parametrize(
    ("theta", "contracts"),
    [(None, False), (1.0, False), (1.0, True)],
    ids=["neutral", "averse", "contracts"],
)
WEIGHTS = (0.5, 2.0, 1.0, 3.0)


def market(
    draw: Draw, theta: float | None, contracts: bool, weights: Any, surplus: bool = True
) -> p2p.PeerToPeerMarket:
    """The generalized market with these weights, in the order of the prosumers."""
    names = instance_of(draw).names
    by_name = dict(zip(names, weights, strict=False)) if isinstance(weights, tuple) else weights
    return p2p.PeerToPeerMarket(
        equilibrium="generalized",
        weights=by_name,
        risk=None if theta is None else p2p.CVaR(weight=theta),
        contracts=p2p.Contracts() if contracts else None,
        surplus=surplus,
    )


def of(
    draw: Draw, theta: float | None, contracts: bool, weights: Any, route: str = "direct"
) -> xr.Dataset:
    return solved(instance_of(draw), market(draw, theta, contracts, weights), route)[1]


@BOTH
@RISKS
@pytest.mark.parametrize(
    "weights", [None, (2.0, 2.0, 2.0, 2.0), 2.0], ids=["none", "equal", "one for all"]
)
def test_equal_weights_are_the_variational_equilibrium(
    draw: Draw, theta: float | None, contracts: bool, weights: Any
) -> None:
    found = of(draw, theta, contracts, weights)
    setting = Setting("peer-to-peer", theta, contracts=contracts)
    _, variational = solved_network(draw, setting)
    for name in ("demand", "generation", "quantity", "nodal_price", "trade_price", "cost"):
        xr.testing.assert_allclose(found[name], variational[name], rtol=0, atol=1e-7)


@BOTH
@RISKS
def test_nobody_gains_alone(draw: Draw, theta: float | None, contracts: bool) -> None:
    """Each prosumer's own best response, by the cone program, is what she already does."""
    found = as_solution(instance_of(draw), of(draw, theta, contracts, WEIGHTS))
    assert gains(draw, Setting("peer-to-peer", theta, contracts=contracts), found) < 1e-6


@BOTH
@RISKS
def test_weighted_multipliers_are_common(
    draw: Draw, theta: float | None, contracts: bool, route: str
) -> None:
    """r_n zeta_n is one number per edge: what makes it Rosen's normalised equilibrium."""
    data = instance_of(draw)
    r = of(draw, theta, contracts, WEIGHTS, route)
    weight = dict(zip(data.names, WEIGHTS, strict=False))
    own = xr.DataArray([weight[b] for b in r["buyer"].to_numpy()], dims="trade")
    partner = xr.DataArray([weight[s] for s in r["seller"].to_numpy()], dims="trade")
    order = {pair: k for k, pair in enumerate(zip(r.buyer.values, r.seller.values, strict=True))}
    back = [order[s, b] for b, s in order]
    price = r["trade_price"]
    other = price.isel(trade=back).drop_vars(["trade", "buyer", "seller"])
    here = price.drop_vars(["trade", "buyer", "seller"])
    xr.testing.assert_allclose(here * own, other * partner, rtol=0, atol=1e-5)
    assert float(abs(here - other).max()) > 0.1  # and it is not variational


@pytest.mark.parametrize("theta", [None, 1.0])
def test_weights_minimise_the_weighted_sum_without_congestion(theta: float | None) -> None:
    """a = 0: the equilibrium is the optimum of sum r_n R_n, so no other choice has less of it."""
    weights = dict(zip(instance_of(SMALL).names, WEIGHTS, strict=False))

    def weighted_sum(r: xr.Dataset) -> float:
        return float(sum(w * r["risk_adjusted_cost"].sel(prosumer=n) for n, w in weights.items()))

    least = weighted_sum(of(SMALL, theta, False, WEIGHTS))
    others = [(1.0, 1.0, 1.0), (0.4, 2.0, 1.0), (0.5, 2.0, 1.2)]
    assert all(weighted_sum(of(SMALL, theta, False, w)) > least + 1e-6 for w in others)


@BOTH
def test_only_ratios_of_weights_matter(draw: Draw) -> None:
    one = of(draw, None, False, WEIGHTS)
    ten = of(draw, None, False, tuple(10 * w for w in WEIGHTS))
    xr.testing.assert_allclose(one["nodal_price"], ten["nodal_price"], rtol=0, atol=1e-7)
    xr.testing.assert_allclose(one["trade_price"], ten["trade_price"], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"p0": 1.0, "p1": 0.0, "p2": 1.0}, "weights 0.0 of prosumer 'p1' must .* above 0"),
        ({"p0": 1.0, "p1": -1.0, "p2": 1.0}, "weights -1.0 of prosumer 'p1' must .* above 0"),
        ({"p0": 1.0, "p1": np.nan, "p2": 1.0}, "(?i)weights"),
        ({"p0": 1.0, "p1": 1.0}, "(?i)weights.*p2"),
        ([1.0, 2.0], "(?i)weights"),
        ("heavy", "weights 'heavy' must be a finite number above 0"),
    ],
)
def test_bad_weights_are_refused(weights: Any, message: str) -> None:
    def attempt() -> None:
        choice = p2p.PeerToPeerMarket(equilibrium="generalized", weights=weights)
        solved(instance_of(SMALL), choice)

    with pytest.raises(p2p.P2PError, match=message):
        attempt()


def test_weights_are_values() -> None:
    """Markets with the same weights are equal and hash alike, whatever form these have."""
    forms = [{"a": 1, "b": 2.0}, pd.Series([1.0, 2.0], ["a", "b"])]
    forms.append(xr.DataArray([1, 2], coords={"prosumer": ["a", "b"]}))
    markets = [p2p.PeerToPeerMarket(equilibrium="generalized", weights=form) for form in forms]
    assert markets[0] == markets[1] == markets[2]
    assert len({hash(market) for market in markets}) == 1


def test_weights_need_the_generalized_equilibrium() -> None:
    with pytest.raises(p2p.MarketError, match="equilibrium='generalized'"):
        p2p.PeerToPeerMarket(weights=[1.0, 2.0, 3.0])
