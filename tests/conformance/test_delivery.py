"""Trades that the physical grid must deliver (MODEL.md §6): what holds on every grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.conformance.markets import meshed, solve, two_buses

UNLIMITED = 1e4
COMPARED = ("demand", "generation", "nodal_price", "grid_price", "social_cost")
MARKETS = {
    "centralized": p2p.CentralizedMarket(delivery="grid"),
    "peers": p2p.PeerToPeerMarket(delivery="grid"),
    "averse": p2p.PeerToPeerMarket(delivery="grid", risk=p2p.CVaR()),
    "contracts": p2p.CentralizedMarket(delivery="grid", risk=p2p.CVaR(), contracts=p2p.Contracts()),
    "equality": p2p.PeerToPeerMarket(delivery="grid", surplus=False),
}
EVERY = pytest.mark.parametrize("market", MARKETS.values(), ids=MARKETS)


@EVERY
def test_unlimited_lines_change_nothing(market: Any, route: str) -> None:
    """delivery="grid" on a grid without limits is delivery="trades"."""
    on_grid = solve(meshed(1, UNLIMITED), market, route)
    of_trades = solve(meshed(1, UNLIMITED), replace(market, delivery="trades"), "direct")
    for name in ("demand", "generation", "nodal_price", "cost", "social_cost"):
        xr.testing.assert_allclose(on_grid[name], of_trades[name], rtol=0, atol=1e-6)
    np.testing.assert_allclose(on_grid["grid_price"], 0, atol=1e-6)


@EVERY
@pytest.mark.parametrize("seed", [1, 2])
def test_laws_of_a_congested_grid(market: Any, seed: int) -> None:
    """Limits hold; power is balanced; rent = sum over branches of price difference x flow.

    And a price of trade, plus what the grid adds, is the nodal price (22).
    """
    n = meshed(seed, limit=1.5)
    r = solve(n, market, "direct")
    flows = {c: n.c[c].dynamic["p0"] for c in ("Line", "Transformer")}
    assert all(np.abs(flow.to_numpy()).max() <= 1.5 + 1e-6 for flow in flows.values())
    assert max(np.abs(flow.to_numpy()).max() for flow in flows.values()) > 1.5 - 1e-6
    assert float(r["grid_price"].max()) > 1e-3
    price, hours = n.buses_t.marginal_price, n.snapshot_weightings["objective"]
    tau = r["risk_adjusted_probability"]
    for scenario in r["scenario"].values:
        rent = 0.0  # EUR now, as PyPSA's prices are
        for component, flow in flows.items():
            for name, row in n.c[component].static.loc[scenario].iterrows():
                rise = price[scenario, row["bus1"]] - price[scenario, row["bus0"]]
                rent += float((rise * flow[scenario, name] * hours).sum())
        found = float(r["congestion_rent_now"].sel(scenario=scenario))
        assert found == pytest.approx(rent, abs=1e-5)
        assert found > -1e-6
        weighed = tau.sel(scenario=scenario)
        common = np.ptp(weighed.to_numpy()) < 1e-6 and float(weighed.min()) > 1e-4
        in_scenario = float(r["congestion_rent"].sel(scenario=scenario))
        assert common != np.isnan(in_scenario)
        assert not common or in_scenario * float(weighed.mean()) == pytest.approx(rent, abs=1e-5)


def test_both_routes_agree() -> None:
    market = MARKETS["averse"]
    hook, direct = (solve(meshed(3, 1.5), market, route) for route in ("hook", "direct"))
    for name in (*COMPARED, "trade_price", "quantity", "cost"):  # no solver has a say in them
        xr.testing.assert_allclose(hook[name], direct[name], rtol=0, atol=1e-12)


def test_limited_contracts_on_a_congested_grid() -> None:
    """Limit 0 is no contracts, one out of reach is complete ones; in between the cost falls.

    All while a line binds, and by either route. Nobody trades beyond her limit, and who may still
    buy (sell) values a contract at no more (less) than its price.
    """
    unsolved = meshed(3, limit=1.5, scenarios=3)

    def solved(route: str = "direct", **given: Any) -> xr.Dataset:
        n = unsolved.copy()
        r = solve(n, replace(MARKETS["averse"], **given), route)
        assert np.abs(n.lines_t.p0.to_numpy()).max() == pytest.approx(1.5, abs=1e-6)
        assert float(r["grid_price"].max()) > 0.1
        return r

    limits = (0.0, 0.3, 1e3)
    found = [solved(contracts=p2p.Contracts(limit=limit)) for limit in limits]
    costs = [float(r["social_cost"]) for r in found]
    assert (np.diff(costs) < -0.1).all()
    for r, other in ((found[0], solved()), (found[-1], solved(contracts=p2p.Contracts()))):
        for name in (*COMPARED, "risk_adjusted_cost"):
            np.testing.assert_allclose(r[name], other[name], rtol=0, atol=1e-6)
    for limit, r in zip(limits, found, strict=True):
        contract = r["contract"]
        gain = r["risk_adjusted_probability"] - r["contract_price"]
        assert float(abs(contract).max()) <= limit + 1e-9
        assert float(abs(contract.sum("prosumer")).max()) < 1e-7
        assert float(gain.where(contract < limit - 1e-6, 0.0).max()) < 1e-6
        assert float(gain.where(contract > 1e-6 - limit, 0.0).min()) > -1e-6
    hook = solved("hook", contracts=p2p.Contracts(limit=limits[1]))
    for name in (*COMPARED, "contract", "contract_price", "risk_adjusted_cost"):
        np.testing.assert_allclose(hook[name], found[1][name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_price_at_the_connection_is_what_energy_is_worth_there(
    seed: int, surplus: bool
) -> None:
    """By finite differences, on congested grids with a lossy Link and a load of the grid's own."""

    def cost(given: float, load: float) -> tuple[float, xr.Dataset]:
        n = meshed(seed, 1.5)
        n.add("Link", "cable", bus0="bus 1", bus1="bus 4", p_nom=1.0, efficiency=0.9)
        n.add("Generator", ["given", "plant"], bus=["bus 0", "bus 3"], p_nom=[given, 2.0])
        n.generators["marginal_cost"] = n.generators["marginal_cost"].mask(
            n.generators.index.get_level_values(-1) == "plant", 3.0
        )
        n.add("Load", "lamp", bus="bus 4", p_set=load)
        p2p.CentralizedMarket(delivery="grid", surplus=surplus).optimize(n)
        return n.objective, p2p.results(n)

    for load in (0.0, 0.5):
        little = 1e-4
        before, r = cost(0.0, load)
        after, _ = cost(little, load)
        hours = xr.DataArray([1.0, 2.5], coords={"snapshot": r["snapshot"]})
        worth = 0.5 * (r["grid_price"].sel(prosumer="p0") * hours).sum()
        assert (before - after) / little == pytest.approx(float(worth), rel=2e-3, abs=2e-4)
        assert surplus or load == 0.0 or float(worth) > 1.0


def test_a_model_that_was_changed_has_the_solution_it_was_solved_for() -> None:
    """The market's solution is written where the solver found it, and nowhere else."""
    n = two_buses(limit=9.0)
    n.optimize(extra_functionality=p2p.CentralizedMarket(), include_objective_constant=False)
    m = n.model
    for variable in m.variables.data.values():
        variable.update(lower=-100.0, upper=100.0)
    hers = m.variables["Generator-p"].sel(name="A generation")
    m.objective = -1.0 * hers.sum()
    m.solve("highs", output_flag=False)
    found = m.variables["Generator-p"].solution.sel(name="A generation")
    assert float(found.sum()) == pytest.approx(10.0)


def test_assigned_prosumers_are_delivered_on_their_own_grid() -> None:
    """The IEEE 14-bus case, its own ratings no limit: as if the trades moved the energy."""
    n = p2p.load_grid("ieee14")
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=300)
    freely = n.copy()
    on_grid = solve(n, p2p.CentralizedMarket(delivery="grid"), "direct")
    of_trades = solve(freely, p2p.CentralizedMarket(), "direct")
    assert float(on_grid["social_cost"]) == pytest.approx(float(of_trades["social_cost"]), rel=1e-6)
    assert np.abs(n.lines_t.p0.to_numpy()).max() > 1


def test_prices_of_every_hour_and_scenario_are_those_of_pypsa() -> None:
    """Where the whole grid is assigned and all is priced alike, the market is PyPSA's dispatch.

    As many scenarios as snapshots, loads that vary in both: nothing tells their order but labels.
    """
    n = pypsa.Network(snapshots=range(3))
    n.add("Bus", ["A", "B", "C"])
    n.add("Line", ["AB", "BC", "AC"], bus0=["A", "B", "A"], bus1=["B", "C", "C"], x=[0.5, 0.7, 0.4])
    n.lines["s_nom"] = [6.0, 4.0, 3.0]
    n.add("Generator", "cheap", bus="A", p_nom=30, marginal_cost=40, marginal_cost_quadratic=0.3)
    n.add("Generator", "wind", bus="B", p_nom=12, marginal_cost=1, p_max_pu=[0.9, 0.2, 0.6])
    n.add("Generator", "dear", bus="C", p_nom=9, marginal_cost=70)
    n.add("Load", ["a", "b", "c"], bus=["A", "B", "C"])
    for load, series in {"a": [3.0, 4, 5], "b": [2.0, 3, 2], "c": [4.0, 3, 6]}.items():
        n.loads_t.p_set[load] = series
    n.set_scenarios({"low": 0.3, "middle": 0.5, "high": 0.2})
    for scenario, factor in {"low": 0.8, "high": 1.2}.items():
        n.loads_t.p_set[(scenario, "c")] *= factor
    alone = n.copy()
    alone.optimize(log_to_console=False)
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=100)
    r = solve(n, p2p.CentralizedMarket(delivery="grid", surplus=False), "direct")
    assert n.objective == pytest.approx(alone.objective, rel=1e-7)
    for scenario, p in n.scenario_weightings["weight"].items():
        for bus in "ABC":
            found = r["nodal_price"].sel(scenario=scenario, prosumer=f"{bus} prosumer")
            expected = alone.buses_t.marginal_price[(scenario, bus)] / p
            np.testing.assert_allclose(found, expected, atol=1e-4)
    rise = r["nodal_price"] - r["nodal_price"].sel(prosumer="A prosumer")
    assert float(abs(r["grid_price"] - rise).max()) < 1e-6
    assert float(rise.max()) > 1
    assert p2p.certify(n).is_equilibrium()
