"""Trades that the physical grid must deliver (MODEL.md §6)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr
from scipy.optimize import OptimizeResult

import pypsa_p2p as p2p
from pypsa_p2p.errors import DataError, MarketError
from pypsa_p2p.solvers import exports, weighing
from tests.by_hand.markets import add_seller_and_buyer

UNLIMITED = 1e4
COMPARED = ("demand", "generation", "nodal_price", "grid_price", "social_cost")


def solve(n: pypsa.Network, market: Any, route: str) -> xr.Dataset:
    if route == "direct":
        market.optimize(n)
    else:
        n.optimize(extra_functionality=market, include_objective_constant=False)
    return p2p.results(n)


def two_buses(limit: float) -> pypsa.Network:
    """A generates at 1 + 2G, B wants 6 of utility -(6 - D)^2; one line between them."""
    n = pypsa.Network()
    n.add("Bus", ["west", "east"])
    n.add("Line", "line", bus0="west", bus1="east", x=0.1, s_nom=limit)
    add_seller_and_buyer(n)
    return n


def meshed(seed: int, limit: float, scenarios: int = 2) -> pypsa.Network:
    """A random ring with chords, a transformer and a generator of its own; five prosumers."""
    rng = np.random.default_rng(seed)
    n = pypsa.Network(snapshots=range(2))
    n.snapshot_weightings["objective"] = [1.0, 2.5]
    buses = [f"bus {k}" for k in range(6)]
    n.add("Bus", buses, v_nom=20.0)
    ends = [(k, (k + 1) % 6) for k in range(5)] + [(0, 3), (1, 4)]
    for i, j in ends:
        x = rng.uniform(0.05, 0.3)
        n.add("Line", f"{i}-{j}", bus0=buses[i], bus1=buses[j], x=x, s_nom=limit)
    n.add("Transformer", "T", bus0=buses[5], bus1=buses[0], x=0.1, s_nom=limit)
    names = [f"p{k}" for k in range(5)]
    p2p.add_prosumers(
        n,
        names,
        demand=rng.uniform(1, 6, 5),
        demand_max=10.0,
        utility_quadratic=rng.uniform(0.5, 2, 5),
        generation_max=[9, 6, 0, 0, 0],
        marginal_cost=rng.uniform(0, 1, 5),
        marginal_cost_quadratic=rng.uniform(0.2, 1, 5),
        risk_attitude=rng.uniform(0.1, 0.8, 5),
        import_price=0.1,
        grid_bus=buses[:4] + buses[:1],  # two of them at one bus
    )
    p2p.add_trades(n, "complete", capacity=6, price=rng.uniform(0, 0.5))
    labels = [f"s{k}" for k in range(scenarios)]
    wind = xr.DataArray(
        rng.uniform(0, 4, (scenarios, 5)), coords={"scenario": labels, "prosumer": names}
    )
    p2p.set_scenarios(n, dict.fromkeys(labels, 1 / scenarios), xr.Dataset({"renewable": wind}))
    return n


MARKETS = {
    "centralized": p2p.CentralizedMarket(delivery="grid"),
    "peers": p2p.PeerToPeerMarket(delivery="grid"),
    "averse": p2p.PeerToPeerMarket(delivery="grid", risk=p2p.CVaR()),
    "contracts": p2p.CentralizedMarket(delivery="grid", risk=p2p.CVaR(), contracts=p2p.Contracts()),
    "equality": p2p.PeerToPeerMarket(delivery="grid", surplus=False),
}
EVERY = pytest.mark.parametrize("market", MARKETS.values(), ids=MARKETS)


@pytest.mark.parametrize("surplus", [True, False])
def test_a_binding_line_by_hand(route: str, surplus: bool) -> None:
    """The line carries 2: G = D = 2, so A's price is 1 + 2 * 2 = 5 and B's 2 (6 - 2) = 8.

    The trade costs 5, the grid adds 3 at B, and collects 3 * 2 = 6. Without the line's limit
    2G + 1 = 2 (6 - G), G = 2.75 and no grid price; a limit that bound A's Link instead would
    show as a price of trade capacity.
    """
    n = two_buses(limit=2.0)
    r = solve(n, p2p.CentralizedMarket(delivery="grid", surplus=surplus), route)
    np.testing.assert_allclose(r["nodal_price"].values.ravel(), [5, 8], atol=1e-6)
    np.testing.assert_allclose(r["grid_price"].values.ravel(), [0, 3], atol=1e-6)
    np.testing.assert_allclose(r["trade_price"].values.ravel(), [5, 5], atol=1e-6)
    np.testing.assert_allclose(r["capacity_price"].values, 0, atol=1e-6)
    np.testing.assert_allclose(n.lines_t.p0.to_numpy().ravel(), [2], atol=1e-6)
    assert float(r["congestion_rent"].sum()) == pytest.approx(6, abs=1e-6)
    assert float(r["social_cost"]) == pytest.approx(2 + 4 + 16, abs=1e-6)


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
    for scenario in r["scenario"].values:
        p = float(n.scenario_weightings.loc[scenario, "weight"])
        rent = 0.0
        for component, flow in flows.items():
            for name, row in n.c[component].static.loc[scenario].iterrows():
                rise = price[scenario, row["bus1"]] - price[scenario, row["bus0"]]
                rent += float((rise * flow[scenario, name] * hours).sum()) / p
        found = float(r["congestion_rent"].sel(scenario=scenario))
        assert found == pytest.approx(rent, abs=1e-5)
        assert found > -1e-6


def test_both_routes_agree() -> None:
    market = MARKETS["averse"]
    hook, direct = (solve(meshed(3, 1.5), market, route) for route in ("hook", "direct"))
    for name in (*COMPARED, "trade_price", "quantity", "cost"):  # no solver has a say in them
        xr.testing.assert_allclose(hook[name], direct[name], rtol=0, atol=1e-12)


@pytest.mark.slow
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


def apart() -> pypsa.Network:
    """A and B on grids of their own."""
    n = two_buses(2.0)
    n.remove("Line", "line")
    n.add("Bus", ["west end", "east end"])
    n.add("Line", ["w", "e"], bus0=["west", "east"], bus1=["west end", "east end"], x=0.1)
    n.lines["s_nom"] = 9.0
    return n


def test_separate_grids_do_not_help_each_other() -> None:
    """Without the line B gets nothing from A: D = 0, cost 36."""
    r = solve(apart(), p2p.CentralizedMarket(delivery="grid"), "direct")
    assert float(r["social_cost"]) == pytest.approx(36, abs=1e-6)


def idle_link(n: pypsa.Network) -> None:
    """A Link that loses energy beside a line that does not: nobody uses it."""
    n.add("Link", "cable", bus0="west", bus1="east", p_nom=2.0, efficiency=0.95)


def idle_plant(n: pypsa.Network) -> None:
    """A generator of the grid's own, dearer than anything is worth."""
    n.add("Generator", "plant", bus="east", p_nom=9.0, marginal_cost=200.0)


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("idle", [idle_link, idle_plant])
def test_what_stands_idle_has_no_part_in_prices(idle: Any, surplus: bool, route: str) -> None:
    """1 + 2G = 2 (6 - G): G = 2.75 and all prices are 6.5, which is what the trade costs.

    The grid could as well charge any amount for its use, and the trade cost as much less; but a
    little more energy at the connection would be worth nothing.
    """
    n = two_buses(limit=9.0)
    idle(n)
    r = solve(n, p2p.CentralizedMarket(delivery="grid", surplus=surplus), route)
    np.testing.assert_allclose(r["nodal_price"].values.ravel(), 6.5, atol=1e-6)
    np.testing.assert_allclose(r["grid_price"].values.ravel(), 0, atol=1e-6)
    np.testing.assert_allclose(r["trade_price"].values.ravel(), 6.5, atol=1e-6)
    assert p2p.certify(n).is_equilibrium()


def test_a_price_that_is_not_the_least_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    n = two_buses(limit=9.0)
    idle_link(n)
    monkeypatch.setattr(exports, "linprog", lambda *_, **__: OptimizeResult(status=4, x=None))
    with pytest.warns(UserWarning, match="higher than they need be"):
        p2p.CentralizedMarket(delivery="grid", surplus=False).optimize(n)


@pytest.mark.parametrize("exact", [True, False])
def test_inexact_prices_are_said_to_be(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, however many programs were solved on the way."""
    n = meshed(1, 1.5)
    if not exact:
        monkeypatch.setattr(weighing, "price_error", lambda *_: (0.5, 10.0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        p2p.PeerToPeerMarket(delivery="grid", risk=p2p.CVaR()).optimize(n)
    assert [str(w.message)[:40] for w in said if "off by" in str(w.message)] == (
        [] if exact else ["Prices are off by up to 0.05 of the larg"]
    )


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


@pytest.mark.parametrize("surplus", [True, False])
def test_the_cheaper_of_two_grids_has_no_price(surplus: bool, route: str) -> None:
    """Apart, A's last unit costs her 1 + 2 * 2 = 5, for a load of 2, and B's 8, from her own plant.

    At A's connection a little more energy would be worth nothing: nobody trades with her.
    """
    n = apart()
    n.add("Load", "A's load", bus="A", p_set=2.0)
    n.add("Generator", "B's plant", bus="B", p_nom=10.0, marginal_cost=8.0)
    r = solve(n, p2p.CentralizedMarket(delivery="grid", surplus=surplus), route)
    np.testing.assert_allclose(r["nodal_price"].values.ravel(), [5, 8], atol=1e-6)
    np.testing.assert_allclose(r["grid_price"].values.ravel(), [0, 3], atol=1e-6)
    np.testing.assert_allclose(r["trade_price"].values.ravel(), 5, atol=1e-6)


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


def test_what_lines_lose_is_generated(route: str) -> None:
    """One tangent of 0.05 p^2 at p = 4: the line loses l = 0.4 p - 0.8 beyond p = 2.

    Half of it at each end: G = p + l/2 = 1.2 p - 0.4 and D = p - l/2 = 0.8 p + 0.4. The cost
    G + G^2 + (6 - D)^2 is least where 1.2 (1 + 2G) = 0.8 * 2 (6 - D), at p = 8.72 / 4.16. The
    surplus of the trade, G - D = l, is all lost.
    """
    n = two_buses(limit=4.0)
    n.lines["r"] = 0.05
    losses = {"mode": "tangents", "segments": 1}
    market = p2p.PeerToPeerMarket(delivery="grid")
    if route == "direct":
        market.optimize(n, transmission_losses=losses)
    else:
        n.optimize(
            extra_functionality=market,
            transmission_losses=losses,
            include_objective_constant=False,
        )
    p = 8.72 / 4.16
    generated, taken = 1.2 * p - 0.4, 0.8 * p + 0.4
    price_a, price_b = 1 + 2 * generated, 2 * (6 - taken)
    r = p2p.results(n)
    assert float(r["generation"].sum()) == pytest.approx(generated, abs=1e-6)
    assert float(r["demand"].sum()) == pytest.approx(taken, abs=1e-6)
    np.testing.assert_allclose(r["nodal_price"].values.ravel(), [price_a, price_b], atol=1e-6)
    np.testing.assert_allclose(r["trade_price"], 0, atol=1e-6)
    np.testing.assert_allclose(r["grid_price"].values.ravel(), [price_a, price_b], atol=1e-6)
    rent = price_b * taken - price_a * generated
    assert float(r["congestion_rent"].sum()) == pytest.approx(rent, abs=1e-5)


def test_lost_energy_must_come_from_somewhere() -> None:
    """Where every edge is in balance nothing is left to lose, so nothing is sent."""
    n = two_buses(limit=4.0)
    n.lines["r"] = 0.05
    market = p2p.CentralizedMarket(delivery="grid", surplus=False)
    market.optimize(n, transmission_losses={"mode": "tangents", "segments": 1})
    assert float(p2p.results(n)["demand"].sum()) == pytest.approx(2, abs=1e-6)


def test_the_grids_own_load_is_not_served_for_nothing(route: str) -> None:
    """A lamp of 1 MW that is nobody's takes what A sends beyond B's trade: G = D + 1.

    Least of G + G^2 + (6 - D)^2: 1 + 2 (D + 1) = 2 (6 - D), D = 9/4, a price of 7.5, which is
    the grid's, as the trade itself is worth nothing more.
    """
    n = two_buses(limit=9.0)
    n.add("Load", "lamp", bus="east", p_set=1.0)
    r = solve(n, p2p.CentralizedMarket(delivery="grid"), route)
    assert float(r["demand"].sum()) == pytest.approx(2.25, abs=1e-6)
    assert float(r["generation"].sum()) == pytest.approx(3.25, abs=1e-6)
    np.testing.assert_allclose(r["nodal_price"].values.ravel(), 7.5, atol=1e-6)
    np.testing.assert_allclose(
        r["grid_price"] + r["trade_price"].values, r["nodal_price"], atol=1e-6
    )


def test_a_generator_of_the_grid_serves_the_grid_alone(route: str) -> None:
    """With a generator at 3 of the grid's own the lamp costs 3; the trade stays as it was.

    A and B meet at 1 + 2G = 2 (6 - G), G = 2.75, price 6.5; a free surplus of A's would be worth
    3 to the grid: less than what it costs her.
    """
    n = two_buses(limit=9.0)
    n.add("Load", "lamp", bus="east", p_set=1.0)
    n.add("Generator", "plant", bus="west", p_nom=10, marginal_cost=3.0)
    r = solve(n, p2p.CentralizedMarket(delivery="grid"), route)
    assert float(r["generation"].sum()) == pytest.approx(2.75, abs=1e-6)
    assert float(n.generators_t.p["plant"].sum()) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(r["nodal_price"].values.ravel(), 6.5, atol=1e-6)
    np.testing.assert_allclose(r["grid_price"].values.ravel(), 3.0, atol=1e-6)
    np.testing.assert_allclose(r["trade_price"].values.ravel(), 3.5, atol=1e-6)


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


def test_prosumers_without_a_place() -> None:
    n = two_buses(2.0)
    n.buses.loc["B", "grid_bus"] = ""
    with pytest.raises(MarketError, match="'B' have no place on the grid"):
        p2p.CentralizedMarket(delivery="grid").optimize(n)
    n.buses.loc["B", "grid_bus"] = "nowhere"
    with pytest.raises(DataError, match="'B': grid_bus 'nowhere' is not a bus"):
        p2p.CentralizedMarket(delivery="grid").optimize(n)
    n.buses.loc["B", "grid_bus"] = "A"
    with pytest.raises(DataError, match="'B': grid_bus 'A' is a prosumer's"):
        p2p.CentralizedMarket(delivery="grid").optimize(n)


def test_what_does_not_know_the_grid_says_so() -> None:
    n = two_buses(2.0)
    market = p2p.PeerToPeerMarket(delivery="grid")
    market.optimize(n)
    with pytest.raises(MarketError, match="not available for delivery='grid'"):
        p2p.solve_equilibrium(n, market, p2p.ADMM())


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
