"""MODEL.md §13: risk of cost and payments together, by hand and by the published table."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.by_hand.test_published import producer_and_consumer

DIGITS = {"rtol": 0, "atol": 5e-8}

#: Gérard, Leclère, Philpott 2018, both with all (1/4, 3/4) to (3/4, 1/4): prices, what is decided
#: before, and what the producer and the consumer gain by it at their own risk.
EQUILIBRIA = {
    "red": ([1.24782821, 2.15636896], 0.12825769, (0.8445597, 2.1128048)),
    "blue": ([1.23578303, 2.10952659], 0.14632546, (0.8212923, 2.1340078)),
    "green": ([1.22557823, 2.06984127], 0.16163265, (0.7970007, 2.1520567)),
}
AT_RISK: dict[str, Any] = {"payments": "risk", "risk": p2p.CVaR(attitude=1 / 3)}


def here_and_now() -> pypsa.Network:
    """The producer's first decision as the output of a plant that stands."""
    n = producer_and_consumer()
    static = n.c["Generator"].static
    plant = static.index.get_level_values("name") == "x"
    for column, value in {"p_nom_extendable": False, "p_nom": 10.0, "p_min_pu": 0.0}.items():
        static.loc[plant, column] = value
    return n


WAYS = {
    "here and now": (here_and_now, {"here_and_now": ("x",)}),
    "built": (producer_and_consumer, {}),
}


def before(n: pypsa.Network, way: str) -> float:
    """What the producer decided before the weather."""
    if way == "built":
        return float(n.generators["p_nom_opt"].xs("x", level="name").iloc[0])
    return float(n.generators_t.p.T.xs("x", level="name").iloc[0, 0])


@pytest.mark.parametrize("way", WAYS)
def test_three_equilibria_of_gerard_leclere_philpott(way: str) -> None:
    """All three are found, each certified, the one of least social cost first."""
    make, asked = WAYS[way]
    n, market = make(), p2p.PeerToPeerMarket(**AT_RISK, **asked)
    posed = market.pose(n)
    found = market.solutions(posed.compiled, posed.places, posed.data)
    assert len(found) == len(EQUILIBRIA)
    for solution, (prices, x, gains) in zip(found, EQUILIBRIA.values(), strict=True):
        market.write(n, posed, solution)
        r = p2p.results(n)
        for who in ("producer", "consumer"):
            at = r["nodal_price"].sel(prosumer=who).values.ravel()
            np.testing.assert_allclose(at, prices, **DIGITS)
        np.testing.assert_allclose(r["trade_price"].values[:, 0, 0], prices, **DIGITS)
        assert before(n, way) == pytest.approx(x, abs=5e-9)
        np.testing.assert_allclose(r["risk_adjusted_cost"], [-gain for gain in gains], **DIGITS)
        np.testing.assert_allclose(r["risk_adjusted_net_cost"], r["risk_adjusted_cost"], **DIGITS)
        assert float(r["payment"].sum("prosumer").max()) < 1e-12
        if way == "here and now" or solution is found[1]:
            certificate = p2p.certify(n)
            assert certificate.is_equilibrium(1e-9)
            assert float(certificate.exploitability.max()) < 1e-9


def test_probabilities_of_the_three() -> None:
    """The producer fears dry weather, wet weather, or is as well off in either."""
    market = p2p.PeerToPeerMarket(**AT_RISK, here_and_now=("x",))
    posed = market.pose(here_and_now())
    found = market.solutions(posed.compiled, posed.places, posed.data)
    wet = [solution.risk_adjusted_probability[0, 0] for solution in found]
    assert wet[0] == pytest.approx(0.75, abs=1e-9)
    assert 0.25 + 1e-3 < wet[1] < 0.75 - 1e-3
    assert wet[2] == pytest.approx(0.25, abs=1e-9)
    for solution in found:  # the consumer always fears wet weather, when she gains least
        assert solution.risk_adjusted_probability[1, 0] == pytest.approx(0.75)


def test_all_three_are_reported() -> None:
    """By what each costs; no planner who shares all risk does better than red, and none is left."""
    n = here_and_now()
    market = p2p.PeerToPeerMarket(**AT_RISK, here_and_now=("x",))
    found = p2p.sample_equilibria(n, market, progress=False)
    assert found.kind.values.tolist() == ["price takers"] * 3
    assert found.converged.all() and float(found.exploitability.max()) < 1e-9
    gains = [gain for _, _, gain in EQUILIBRIA.values()]
    np.testing.assert_allclose(found.risk_adjusted_cost, -np.array(gains), **DIGITS)
    assert float(found.best_social_cost) == pytest.approx(-2.95736457, abs=1e-8)
    assert float(found.centralized_social_cost) == pytest.approx(-2.95736457, abs=1e-8)
    assert "p2p" not in n.meta


def test_the_least_costly_is_reported(route: str) -> None:
    """Red, with a warning that there are others."""
    n, market = here_and_now(), p2p.PeerToPeerMarket(**AT_RISK, here_and_now=("x",))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        solve(n, market, route)
    assert any("3 equilibria that were found" in str(each.message) for each in said)
    r = p2p.results(n)
    prices, x, _ = EQUILIBRIA["red"]
    np.testing.assert_allclose(r["nodal_price"][:, 0, 0], prices, **DIGITS)
    assert before(n, "here and now") == pytest.approx(x, abs=5e-9)
    assert n.objective == pytest.approx(-2.95736457, abs=1e-8)
    assert p2p.certify(n).is_equilibrium()


def test_with_contracts_only_red_is_left(route: str) -> None:
    """Payments hedge the consumer all the way there: contracts have nothing to do."""
    n = here_and_now()
    market = p2p.PeerToPeerMarket(**AT_RISK, here_and_now=("x",), contracts=p2p.Contracts())
    solve(n, market, route)
    r = p2p.results(n)
    prices, x, gains = EQUILIBRIA["red"]
    np.testing.assert_allclose(r["nodal_price"][:, 0, 0], prices, rtol=0, atol=1e-6)
    assert before(n, "here and now") == pytest.approx(x, abs=1e-7)
    np.testing.assert_allclose(r["risk_adjusted_cost"], [-gain for gain in gains], atol=1e-6)
    np.testing.assert_allclose(r["contract_price"], [0.75, 0.25], atol=1e-6)
    np.testing.assert_allclose(r["contract"], 0.0, atol=1e-6)
    assert p2p.certify(n).is_equilibrium()


def solve(n: pypsa.Network, market: p2p.Market, route: str) -> None:
    """A market, on either route."""
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)


def seller_and_buyer() -> pypsa.Network:
    """She generates at G^2; he wants 4 or 8 MW, equally likely, at a utility of -(D - D*)^2."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["seller", "buyer"],
        demand=[0, 4],
        demand_max=[0, 10],
        utility_quadratic=1.0,
        generation_max=[10, 0],
        marginal_cost_quadratic=1.0,
    )
    p2p.add_trades(n, [("seller", "buyer")], capacity=10)
    wanted = xr.DataArray(
        [[0.0, 4.0], [0.0, 8.0]],
        {"scenario": ["mild", "cold"], "prosumer": ["seller", "buyer"]},
    )
    p2p.set_scenarios(n, {"mild": 0.5, "cold": 0.5}, xr.Dataset({"demand": wanted}))
    return n


@pytest.mark.parametrize(
    ("weight", "risk"), [(1.0, (-4.0, 48.0)), (0.5, (-7.0, 39.0)), (0.0, (-10.0, 30.0))]
)
def test_payments_count_in_the_risk(weight: float, risk: tuple[float, float], route: str) -> None:
    """Half of what he wants is traded, 2 or 4 MW, at 4 or 8 EUR/MWh: he pays 8 or 32 EUR.

    Cost and payment are 4 - 8 = -4 or 16 - 32 = -16 of hers, 12 or 48 of his; she fears mild
    weather, he cold: at the worst -4 and 48, where costs alone are 16 and 16.
    """
    n = seller_and_buyer()
    solve(n, p2p.PeerToPeerMarket(payments="risk", risk=p2p.CVaR(0.5, weight=weight)), route)
    r = p2p.results(n)
    np.testing.assert_allclose(r["nodal_price"].values[:, 0], [[4, 4], [8, 8]], atol=1e-6)
    np.testing.assert_allclose(r["payment"], [[-8, 8], [-32, 32]], atol=1e-5)
    np.testing.assert_allclose(r["net_cost"], [[-4, 12], [-16, 48]], atol=1e-5)
    np.testing.assert_allclose(r["payment_now"], [[-4, 4], [-16, 16]], atol=1e-5)
    np.testing.assert_allclose(r["risk_adjusted_cost"], risk, atol=1e-5)
    assert n.objective == pytest.approx(sum(risk), abs=1e-5)
    feared = 0.5 + 0.5 * weight
    tau = [[feared, 1 - feared], [1 - feared, feared]]
    np.testing.assert_allclose(r["risk_adjusted_probability"], tau, atol=1e-9)
    assert p2p.certify(n).is_equilibrium()


def test_contracts_hedge_payments() -> None:
    """Shared, cost and payment are 8 and 32 in sum: all fear the cold, and bear what they like.

    Both prices of contracts are what the least averse may fear: CVaR(.5) has (0, 1).
    """
    n = seller_and_buyer()
    market = p2p.PeerToPeerMarket(payments="risk", risk=p2p.CVaR(0.5), contracts=p2p.Contracts())
    market.optimize(n)
    r = p2p.results(n)
    np.testing.assert_allclose(r["contract_price"], [0, 1], atol=1e-6)
    np.testing.assert_allclose(r["risk_adjusted_cost"], [-16, 48], atol=1e-5)
    assert float(r["social_cost"]) == pytest.approx(32, abs=1e-5)
    assert (r["net_cost"].max("scenario") <= r["risk_adjusted_cost"] + 1e-5).all()
    assert p2p.certify(n).is_equilibrium()


@cache
def solved() -> pypsa.Network:
    """Both, with payments at risk."""
    n = seller_and_buyer()
    p2p.PeerToPeerMarket(payments="risk", risk=p2p.CVaR(0.5)).optimize(n)
    return n


def test_savings_hold_payments_once() -> None:
    """Alone she costs nothing and he 64 at the worst: trading is worth 4 and 16."""
    np.testing.assert_allclose(p2p.savings(solved()).saving_now, [4, 16], atol=1e-5)


def test_no_coalitions() -> None:
    with pytest.raises(p2p.MarketError, match="allocate is not available for payments='risk'"):
        p2p.allocate(solved(), "shapley")


def test_a_file_keeps_it(tmp_path: Any) -> None:
    """The same results and certificate from netCDF."""
    solved().export_to_netcdf(tmp_path / "market.nc")
    again = pypsa.Network(tmp_path / "market.nc")
    one, other = p2p.results(solved()), p2p.results(again)
    np.testing.assert_allclose(one["risk_adjusted_cost"], other["risk_adjusted_cost"])
    assert p2p.certify(again).is_equilibrium()
