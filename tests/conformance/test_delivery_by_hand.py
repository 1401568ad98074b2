"""Trades over a physical grid, by hand: what lines limit and lose, and what its use costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.conformance.markets import apart, idle_link, idle_plant, solve, two_buses


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


def test_separate_grids_do_not_help_each_other() -> None:
    """Without the line B gets nothing from A: D = 0, cost 36."""
    r = solve(apart(), p2p.CentralizedMarket(delivery="grid"), "direct")
    assert float(r["social_cost"]) == pytest.approx(36, abs=1e-6)


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


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize("aggregate", ["community", "prosumers"])
def test_the_connection_in_a_scenario_nobody_weighs(aggregate: Any, surplus: bool) -> None:
    """Everybody fears the peak alone, 12 MW for 8, of which A makes 10: 30 then, else 10.

    Lines are ample, so that their use is free in both: what does not count now is no excuse.
    """
    n = pypsa.Network()
    n.add("Bus", ["A", "B", "C"], v_nom=110.0)
    lines = [("A", "B"), ("B", "C"), ("A", "C")]
    for bus0, bus1 in lines:
        n.add("Line", bus0 + bus1, bus0=bus0, bus1=bus1, x=0.1, s_nom=100.0)
    n.add("Link", "lossy", bus0="A", bus1="C", p_nom=5.0, efficiency=0.9)
    p2p.add_prosumers(
        n, ["cheap", "dear", "user"], demand=[0, 0, 8], demand_min=[0, 0, 8], demand_max=[0, 0, 8],
        utility_quadratic=0, generation_max=[10, 20, 0], marginal_cost=[10, 30, 0],
        grid_bus=["A", "C", "B"],
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=30)
    scenarios = {"scenario": ["usual", "peak"], "prosumer": ["user"]}
    load = xr.DataArray([[8.0], [12.0]], coords=scenarios)
    loads = xr.Dataset(dict.fromkeys(("demand", "demand_min", "demand_max"), load))
    p2p.set_scenarios(n, {"usual": 0.5, "peak": 0.5}, loads)
    market = p2p.CentralizedMarket(
        aggregate=aggregate, delivery="grid", surplus=surplus, risk=p2p.CVaR(attitude=0.9)
    )
    r = solve(n, market, "direct")
    np.testing.assert_allclose(r["risk_adjusted_probability"].sel(scenario="usual"), 0, atol=1e-9)
    by_scenario = np.array([10.0, 30.0])[:, None, None]
    for name, right in (("nodal_price", by_scenario), ("grid_price", 0.0)):
        np.testing.assert_allclose(r[name].transpose("scenario", ...) - right, 0, atol=1e-3)
    assert p2p.certify(n).is_equilibrium()


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


@pytest.mark.parametrize("slack", [None, "gas"])
def test_a_solved_network_is_connected_where_it_was(slack: str | None, route: str) -> None:
    """PyPSA makes everybody's first generator a slack when it solves; the grid stays as it was.

    Coal behind the meter at a is cheaper than gas at b, and the line carries 40 of the load of 80
    there: energy costs 10 at a and 30 at b. The grid price is 0 at the slack, or else at the first
    bus, since all generators are prosumers'.
    """
    n = pypsa.Network()
    n.add("Bus", ["a", "b"], v_nom=110.0)
    n.add("Line", "ab", bus0="a", bus1="b", x=0.1, s_nom=40.0)
    n.add("Load", "load", bus="b", p_set=80.0)
    n.add("Generator", "coal", bus="a", p_nom=500.0, marginal_cost=10.0)
    n.add("Generator", "gas", bus="b", p_nom=500.0, marginal_cost=30.0)
    if slack:
        n.generators.loc[slack, "control"] = "Slack"
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=1e4)
    assert set(n.buses.connection[["a prosumer", "b prosumer"]]) == {"b" if slack else "a"}
    expected = [-20.0, 0.0] if slack else [0.0, 20.0]
    for _ in range(2):
        r = solve(n, p2p.CentralizedMarket(delivery="grid", surplus=False), route)
        np.testing.assert_allclose(r["nodal_price"].values.ravel(), [10, 30], atol=1e-6)
        np.testing.assert_allclose(r["grid_price"].values.ravel(), expected, atol=1e-6)
        assert p2p.certify(n).is_equilibrium()
