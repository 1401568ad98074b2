"""Lines, transformers and what else is the grid's own, built together with the market."""

from __future__ import annotations

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.conformance.markets import solve

GRID = p2p.CentralizedMarket(delivery="grid", surplus=False)


def cheap_and_dear(capital_cost: float, component: str = "Line") -> pypsa.Network:
    """10 EUR/MWh in the west; 50 MW wanted in the east, where it costs 30. Nothing between yet."""
    n = pypsa.Network()
    n.add("Bus", ["west", "east"], v_nom=110.0)
    link = component == "Link"
    of = {"p_nom_extendable": True} if link else {"s_nom_extendable": True, "x": 0.1}
    n.add(component, "new", bus0="west", bus1="east", capital_cost=capital_cost, **of)
    p2p.add_prosumers(
        n, ["w", "e"], demand=[0, 50], demand_min=[0, 50], demand_max=[0, 50],
        utility_quadratic=0, generation_max=100, marginal_cost=[10, 30],
        grid_bus=["west", "east"],
    )  # fmt: skip
    p2p.add_trades(n, "grid", capacity=100)
    return n


@pytest.mark.parametrize("component", ["Line", "Transformer", "Link"])
def test_a_branch_by_hand(component: str, route: str) -> None:
    """A MW costs 15 and saves 20: 50 are built, the last worth 15, what the rent pays for."""
    n = cheap_and_dear(15.0, component)
    r = solve(n, GRID, route)
    built = n.c[component].static.filter(regex="^[ps]_nom_opt$").squeeze(axis=1)["new"]
    assert built == pytest.approx(50, abs=1e-5)
    assert n.objective == pytest.approx(50 * (10 + 15), abs=1e-4)
    assert float(r["social_cost"]) == pytest.approx(50 * 10, abs=1e-4)  # prosumers' alone
    np.testing.assert_allclose(r["nodal_price"].values.ravel(), [10, 25], atol=1e-4)
    assert float(r["congestion_rent"].sum()) == pytest.approx(50 * 15, abs=1e-3)


def test_a_branch_that_costs_too_much_is_not_built(route: str) -> None:
    """The idle west's price is one of a range: she makes more above 10, a line pays below 5."""
    r = solve(cheap_and_dear(25.0), GRID, route)
    np.testing.assert_allclose(r["nodal_price"].values.ravel(), [7.5, 30], atol=1e-4)
    assert float(r["social_cost"]) == pytest.approx(50 * 30, abs=1e-4)


def test_it_is_built_before_the_scenario_is_known() -> None:
    """Worth 20 with probability .6, else nothing: 12 in expectation, above 11 and below 13."""
    for capital_cost, built in ((11.0, 50.0), (13.0, 0.0)):
        n = cheap_and_dear(capital_cost)
        wanted = xr.DataArray([[50.0], [0.0]], {"scenario": ["day", "night"], "prosumer": ["e"]})
        loads = xr.Dataset(dict.fromkeys(("demand", "demand_min", "demand_max"), wanted))
        p2p.set_scenarios(n, {"day": 0.6, "night": 0.4}, loads)
        solve(n, GRID)
        np.testing.assert_allclose(n.lines["s_nom_opt"], built, atol=1e-5)


def test_where_trades_move_the_energy_nobody_builds_it() -> None:
    n = cheap_and_dear(15.0)
    with pytest.raises(p2p.P2PError, match=r"Line 'new' .* delivery='grid'.*fix_optimal"):
        p2p.PeerToPeerMarket().optimize(n)


def test_her_own_line_is_her_cost(route: str) -> None:
    """Her generator at 10 stands behind a line of 15 per MW; at home she has one at 30."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["home", "away"], demand=[50, 0], demand_min=[50, 0], demand_max=[50, 0],
        utility_quadratic=0, generation_max=[100, 0], marginal_cost=[30, 0],
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=1)
    n.add("Bus", "field")
    n.add("Line", "lane", bus0="home", bus1="field", x=0.1, s_nom_extendable=True, capital_cost=15)
    n.add("Generator", "mill", bus="field", p_nom=100, marginal_cost=10)
    r = solve(n, p2p.PeerToPeerMarket(), route)
    np.testing.assert_allclose(r["cost"].values.ravel(), [50 * 25, 0], atol=1e-3)
    assert n.lines["s_nom_opt"].item() == pytest.approx(50, abs=1e-5)
