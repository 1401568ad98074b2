"""Every market, every way to solve it: `n.optimize`, `create_model` and `solve_model`, directly."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.markets.base import Market

MARKETS: dict[str, Market] = {
    "centralized": p2p.CentralizedMarket(),
    "centralized, averse": p2p.CentralizedMarket(risk=p2p.CVaR(), surplus=False),
    "community": p2p.CentralizedMarket(risk=p2p.CVaR(attitude=0.5), aggregate="community"),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
    "equilibrium": p2p.PeerToPeerMarket(),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=0.7)),
    "attitudes": p2p.PeerToPeerMarket(
        risk=p2p.CVaR(attitude={"a": 0.1, "b": 0.6, "c": 0.0, "d": 0.9})
    ),
}
NETWORKS = ("plain", "grid", "certain", "one prosumer", "no trades", "days", "subset")
ROUTES = ("hook", "model", "direct")


def build(kind: str) -> pypsa.Network:
    """Four prosumers a, b, c, d; what `kind` adds or takes away."""
    rng = np.random.default_rng(3)
    n = pypsa.Network()
    times: pd.Index = pd.RangeIndex(3)
    if kind == "days":
        times = pd.date_range("2030-01-01", periods=3, freq="6h")
    n.set_snapshots(times)
    for column in n.snapshot_weightings:
        n.snapshot_weightings[column] = [1.0, 0.5, 3.0]
    names = ["a"] if kind == "one prosumer" else list("abcd")
    if kind == "grid":
        add_grid(n)
    p2p.add_prosumers(
        n,
        names,
        demand=pd.DataFrame(rng.uniform(2, 6, (3, len(names))), n.snapshots, names),
        demand_max=9.0,
        utility_quadratic=0.5,
        usage_benefit=0.3,
        generation_max=[8.0, 2.0, 5.0, 0.0][: len(names)],
        marginal_cost=[0.5, 3.0, 1.0, 0.0][: len(names)],
        marginal_cost_quadratic=0.2,
        risk_attitude=[0.2, 0.5, 0.7, 0.1][: len(names)],
        import_price=0.1,
        grid_bus=["north", "south", "north", ""] if kind == "grid" else "",
    )
    if kind not in ("one prosumer", "no trades"):
        edges = [("a", "b"), ("c", "b"), ("c", "d"), ("a", "d")]
        p2p.add_trades(
            n, edges, capacity=dict(zip(edges, [3.0, 1.0, 4.0, 0.5], strict=True)), price=0.3
        )
    if kind != "certain":
        labels = [2030, 2040, 2050] if kind == "plain" else ["low", "mid", "high"]
        wind = xr.DataArray(
            rng.uniform(0, 3, (3, 3, len(names))),
            coords={"scenario": labels, "snapshot": n.snapshots, "prosumer": names},
        )
        p2p.set_scenarios(
            n, dict(zip(labels, [0.5, 0.3, 0.2], strict=True)), xr.Dataset({"renewable": wind})
        )
    return n


def add_grid(n: pypsa.Network) -> None:
    """Three buses in a ring whose line north - south is full: the grid costs 99 EUR/h."""
    n.add("Bus", ["north", "south", "east"])
    ends = {"north": "south", "south": "east", "east": "north"}
    for one, other in ends.items():
        n.add("Line", f"{one} - {other}", bus0=one, bus1=other, x=0.1, s_nom=2.0)
    n.add("Generator", "hydro", bus="north", p_nom=20.0, marginal_cost=1.0)
    n.add("Generator", "gas", bus="south", p_nom=20.0, marginal_cost=8.0)
    n.add("Load", "town", bus="south", p_set=6.0)


@cache
def solved(kind: str, key: str, route: str) -> tuple[pypsa.Network, xr.Dataset]:
    n, market = build(kind), MARKETS[key]
    sns = n.snapshots[1:] if kind == "subset" else n.snapshots
    if route == "direct":
        status = market.optimize(n, sns)
    elif route == "hook":
        status = n.optimize(sns, extra_functionality=market, log_to_console=False)
    else:
        n.optimize.create_model(sns, include_objective_constant=False)
        market(n, sns)
        status = n.optimize.solve_model(log_to_console=False)
    assert tuple(status) == ("ok", "optimal")
    return n, p2p.results(n)


#: Every market on the plain network in all ways; on the others, one averse and one hedged.
CASES = [("plain", key) for key in MARKETS] + [
    (kind, key) for kind in NETWORKS[1:] for key in ("averse", "contracts")
]
EVERY = pytest.mark.parametrize(("kind", "key"), CASES)


@EVERY
def test_ways_agree(kind: str, key: str) -> None:
    """Objective, results and PyPSA's own tables to 1e-6."""
    n, wanted = solved(kind, key, "direct")
    ways = ROUTES[:2] if kind == "plain" and key in ("averse", "contracts") else ROUTES[:1]
    for route in ways:
        other, found = solved(kind, key, route)
        assert other.objective == pytest.approx(n.objective, rel=1e-6)
        assert found.keys() == wanted.keys()
        for name in wanted:
            np.testing.assert_allclose(
                found[name], wanted[name], rtol=1e-6, atol=1e-6, err_msg=f"{route} {name}"
            )
        for component, attribute in (
            ("Generator", "p"),
            ("Link", "p0"),
            ("Link", "p1"),
            ("Load", "p"),
            ("Bus", "p"),
            ("Bus", "marginal_price"),
            ("Line", "p0"),
        ):
            table = n.c[component].dynamic[attribute]
            values = other.c[component].dynamic[attribute].reindex(columns=table.columns)
            np.testing.assert_allclose(values, table, atol=1e-6, err_msg=f"{component} {attribute}")


@EVERY
def test_objective_is_the_social_cost(kind: str, key: str) -> None:
    """Beside the grid's own operating cost, which nobody in the market pays."""
    n, r = solved(kind, key, "direct")
    grid = 0.0
    if kind == "grid":
        probability = n.scenario_weightings["weight"]
        for name in ("hydro", "gas"):
            cost = n.generators.marginal_cost.xs(name, level="name")
            for scenario, p in probability.items():
                power = n.generators_t.p[(scenario, name)]
                grid += p * cost[scenario] * float(power @ n.snapshot_weightings.objective)
    assert n.objective == pytest.approx(float(r.social_cost) + grid, rel=1e-6)


def test_the_grid_beside_a_market_is_operated_at_least_expected_cost() -> None:
    """2 MW over the direct line, of a flow f split 2:1 by Kirchhoff, f = 3: 3 x 1 + 3 x 8 EUR/h.

    Risk attitudes of the prosumers do not matter to it; without Kirchhoff it would be 4 + 16.
    """
    for key in ("averse", "contracts"):
        n, _ = solved("grid", key, "direct")
        hydro = n.generators_t.p.xs("hydro", level="name", axis=1)
        np.testing.assert_allclose(hydro, 3.0, atol=1e-6)
        price = n.buses_t.marginal_price[("low", "south")] / 0.5
        np.testing.assert_allclose(price, 8.0, atol=1e-6)


def test_markets_with_and_without_a_grid_beside_them_agree() -> None:
    """Delivery by trades: the grid is nobody's and changes no trade."""
    _, beside = solved("grid", "averse", "direct")
    _, alone = solved("days", "averse", "direct")
    np.testing.assert_allclose(beside.demand, alone.demand, atol=1e-5)


def test_no_trades_is_everybody_alone() -> None:
    """The optimum splits: prosumer "a" alone does what she does in her own network's market."""
    _, r = solved("no trades", "averse", "direct")
    assert r.sizes["trade"] == 0
    np.testing.assert_array_equal(r.net_import, 0.0)
    np.testing.assert_array_equal(r.payment, 0.0)


def test_a_subset_of_snapshots() -> None:
    """Only those asked for are solved and reported; other rows of PyPSA's tables stay empty."""
    n, r = solved("subset", "averse", "direct")
    assert r.indexes["snapshot"].tolist() == [1, 2]
    assert (n.generators_t.p.loc[0] == 0).all()


def test_one_snapshot_after_another_keeps_both() -> None:
    n, market = build("plain"), MARKETS["equilibrium"]
    whole = solved("plain", "equilibrium", "direct")[0].generators_t.p
    for snapshot in n.snapshots:
        market.optimize(n, [snapshot])
    np.testing.assert_allclose(n.generators_t.p[whole.columns], whole, atol=1e-6)
    assert p2p.results(n).indexes["snapshot"].tolist() == [2]


@pytest.mark.parametrize("risk", [None, p2p.CVaR()], ids=["neutral", "averse"])
def test_what_the_hook_leaves_is_read_and_solved_again(risk: p2p.CVaR | None) -> None:
    """Variables and constraints by their names; another solve gives the market's figures again."""
    n = p2p.load_grid("three_node")
    n.optimize(extra_functionality=p2p.PeerToPeerMarket(risk=risk), log_to_console=False)
    first, objective = p2p.results(n), n.objective
    assert {"Generator-p", "Link-p", "Link-p1"} <= set(n.model.variables)
    assert {"Link-p1-reciprocity", "Bus-nodal_balance"} <= set(n.model.constraints)
    assert n.model.objective.is_linear
    assert n.model.solve(solver_name="highs")[0] == "ok"
    n.optimize.assign_solution()
    n.optimize.assign_duals()
    assert n.objective == objective
    xr.testing.assert_equal(p2p.results(n), first)
