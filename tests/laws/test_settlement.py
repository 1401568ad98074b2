"""Laws of retail contracts, settlement and savings, over random markets (MODEL.md §4)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.reference.instances import network, random_instance

AVERSE = p2p.CVaR()
DESIGNS: dict[str, p2p.Market] = {
    "neutral": p2p.PeerToPeerMarket(),
    "averse": p2p.PeerToPeerMarket(risk=AVERSE, surplus=False),
    "planner": p2p.CentralizedMarket(risk=AVERSE),
    "contracts": p2p.PeerToPeerMarket(risk=AVERSE, contracts=p2p.Contracts(), surplus=False),
    "insured": p2p.PeerToPeerMarket(risk=AVERSE, contracts=p2p.Contracts(insurance_price=0.6)),
}
AGREEING = ("neutral", "contracts", "insured")
CASES = [(seed, design, peak) for seed in range(6) for design in DESIGNS for peak in (0.0, 0.6)]
EVERY = pytest.mark.parametrize(("seed", "design", "peak"), CASES)


def drawn(seed: int, peak: float) -> pypsa.Network:
    """A random market, each prosumer with a contract, at 9 and 0.4 EUR/MWh or thereabouts."""
    rng = np.random.default_rng(seed)
    n = network(random_instance(seed, 4, 3, 2))
    buy = 9 + rng.random((3, 2))
    price = xr.DataArray(buy, coords={"scenario": n.scenarios, "snapshot": n.snapshots})
    p2p.add_retail(n, import_price=price, export_price=rng.random(4), peak_price=peak)
    return n


@cache
def solved(seed: int, design: str, peak: float, route: str = "direct") -> pypsa.Network:
    n, market = drawn(seed, peak), DESIGNS[design]
    if route == "direct":
        market.optimize(n)
    else:
        n.optimize(extra_functionality=market, log_to_console=False)
    return n


@EVERY
def test_nobody_loses_by_trading(seed: int, design: str, peak: float) -> None:
    s = p2p.savings(solved(seed, design, peak))
    assert float(s.saving_now.min()) > -1e-6
    assert float(s.saving_now.max()) > 1e-3
    if design in AGREEING:
        np.testing.assert_allclose(s.saving, s.net_cost_before - s.net_cost_after, atol=1e-9)
        assert not s.saving.isnull().any()
    if design == "neutral":
        np.testing.assert_allclose(s.expected_saving, s.saving_now, atol=1e-6)


@EVERY
def test_settlements_balance(seed: int, design: str, peak: float) -> None:
    """To rounding, by every rule; and what the community pays is the same by all."""
    n = solved(seed, design, peak)
    r = p2p.results(n)
    rules = ["mid_market", "bill_sharing", "supply_demand_ratio"]
    trades = ["prices", "pay_as_bid"] if design in AGREEING else []
    found = {rule: p2p.settle(n, rule, sell=0.5) for rule in rules}
    found |= {rule: p2p.settle(n, rule) for rule in trades}
    for d in found.values():
        assert float(abs(d.payment.sum("prosumer") - d.retailer).max()) <= 1e-9
        if trades:
            np.testing.assert_allclose(d.net_cost - d.bill, r.net_cost - r.bill, atol=1e-6)
    if trades:
        paid = found["prices"].payment.sum("snapshot")
        np.testing.assert_allclose(paid, r.payment, atol=1e-5)
        np.testing.assert_allclose(found["prices"].bill, r.bill, atol=1e-5)
        sums = [found[rule].net_cost.sum("prosumer") for rule in trades]
        np.testing.assert_allclose(*sums, atol=1e-6)
        gap = (found["pay_as_bid"].price - found["prices"].price).where(r.quantity > 1e-3, 0.0)
        assert float(gap.max()) < 1e-4  # nobody is paid more than the market's price


@EVERY
def test_parts_add_up_to_the_bill(seed: int, design: str, peak: float) -> None:
    n = solved(seed, design, peak)
    r = p2p.results(n)
    for scenario in n.scenarios:
        table = p2p.bills(n, scenario)
        wanted = r.bill.sel(scenario=scenario).to_numpy()
        np.testing.assert_allclose(table.total, wanted, atol=1e-9)
        np.testing.assert_allclose(table.drop(columns="total").sum(axis=1, skipna=False), wanted)
        assert (table.peak > 0).any() == (peak > 0)
    whole = p2p.bills(n).total.to_numpy()
    p = n.scenario_weightings["weight"].to_numpy()
    np.testing.assert_allclose(whole, p @ r.bill.transpose("scenario", "prosumer").to_numpy())


@pytest.mark.parametrize(("seed", "design", "peak"), CASES)
def test_routes_agree_and_are_certified(seed: int, design: str, peak: float) -> None:
    one, other = (p2p.results(solved(seed, design, peak, route)) for route in ("direct", "hook"))
    for name in ("cost", "retail_import", "retail_export", "nodal_price", "payment_now"):
        np.testing.assert_allclose(one[name], other[name], atol=2e-6, err_msg=name)
    for route in ("direct", "hook"):
        assert p2p.certify(solved(seed, design, peak, route)).is_equilibrium()


def test_a_reference_is_what_the_measure_makes_of_her_own_problem() -> None:
    """R alone is the coalition cost of everybody by herself (three_node, averse)."""
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(), surplus=False).optimize(n)
    alone = p2p.results(p2p.without_trades(n))
    np.testing.assert_allclose(
        alone.risk_adjusted_cost, [1.161936, 25.713428, 26.151709], atol=1e-6
    )
    assert len(p2p.results(n).trade) == 6  # n stays as it is


def test_a_sweep_knows_contracts() -> None:
    """Capacities of trades and renewables scaled up: as solved one by one."""
    n = drawn(3, 0.0)
    over = {"trade_capacity": [0.5, 20.0], "renewables": [1.0, 30.0]}
    d = p2p.sweep(n, DESIGNS["averse"], over, progress=False)
    for capacity in over["trade_capacity"]:
        for sun in over["renewables"]:
            one = n.copy()
            links, generators = one.c["Link"].static, one.c["Generator"].static
            links["p_nom"] *= capacity
            must = generators["carrier"] == "renewable"
            generators["p_nom"] = generators["p_nom"].where(~must, generators["p_nom"] * sun)
            retail = generators["carrier"].isin(["retail import", "retail export"])
            generators["p_nom"] = generators["p_nom"].where(~retail, 1e4)
            DESIGNS["averse"].optimize(one)
            wanted = float(p2p.results(one).social_cost)
            got = float(d.social_cost.sel(trade_capacity=capacity, renewables=sun))
            assert got == pytest.approx(wanted, rel=1e-6)


def test_peaks_where_the_grid_delivers(route: str) -> None:
    """A line of 1 MW, and retailers at its far end; the peak price holds imports."""
    n = pypsa.Network()
    n.add("Bus", ["west", "east"])
    n.add("Line", "line", bus0="west", bus1="east", x=0.1, s_nom=1.0)
    n.add("Generator", "station", bus="east", control="Slack", p_nom=0.0)
    p2p.add_prosumers(
        n, ["a", "b"], demand=[0, 4], demand_min=[0, 4], demand_max=[0, 4], utility_quadratic=0,
        generation_max=[5, 0], marginal_cost=50, grid_bus=["west", "east"],
    )  # fmt: skip
    p2p.add_retail(n, import_price=100, export_price=10, peak_price=7)
    p2p.add_trades(n, "complete", capacity=9)
    market = p2p.PeerToPeerMarket(delivery="grid")
    if route == "direct":
        market.optimize(n)
    else:
        n.optimize(extra_functionality=market, log_to_console=False)
    r = p2p.results(n)
    assert float(r.social_cost) == pytest.approx(50 + 3 * 107, rel=1e-8)
    assert p2p.certify(n).is_equilibrium()
    assert float(p2p.savings(n).saving_now.min()) > -1e-6
