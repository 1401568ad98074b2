"""Certificates of markets whose trades the physical grid delivers (MODEL.md §6, §7)."""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pypsa
import pytest
from scipy.optimize import linprog

import pypsa_p2p as p2p
from pypsa_p2p import prices
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.markets.risk import NEUTRAL
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.network.sites import read_sites
from pypsa_p2p.solution.certificate.grid import net_import_limits
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket, rebuild
from tests.conformance.markets import meshed, solve, two_buses
from tests.conformance.test_delivery import MARKETS
from tests.reference.package import ROUTES

FLOWS = ("Line", "Transformer")


def with_assets(seed: int) -> pypsa.Network:
    """A meshed grid with assets of its own, and storage there and behind a meter."""
    n = meshed(seed, 1.5)
    n.add("Load", "lamp", bus="bus 4", p_set=0.5)
    n.add("Generator", "plant", bus="bus 5", p_nom=1.0, marginal_cost=0.2)
    n.add("Link", "cable", bus0="bus 2", bus1="bus 5", p_nom=0.5, p_min_pu=-1.0)
    for name, bus in (("cellar", "p2"), ("square", "bus 4")):
        n.add("StorageUnit", name, bus=bus, p_nom=0.5, max_hours=2, efficiency_store=0.9)
    return n


@cache
def solved(market: str, seed: int = 1) -> pypsa.Network:
    """Solved once; copy it before changing it."""
    n = meshed(seed, 1.5)
    solve(n, MARKETS[market], "direct")
    return n


@cache
def grid_with_assets() -> pypsa.Network:
    n = with_assets(1)
    solve(n, MARKETS["peers"], "direct")
    return n


# ------------------------------------------------------------------------------ solutions pass


@pytest.mark.parametrize(("market", "route", "seed"), [*product(MARKETS, ROUTES, (2, 3))])
def test_congested_grids_are_certified(market: str, route: str, seed: int) -> None:
    """Several scenarios and snapshots; lines bind on a meshed grid."""
    n = meshed(seed, 1.5)
    r = solve(n, MARKETS[market], route)
    assert float(r["grid_price"].max()) > 1e-3
    found = p2p.certify(n)
    assert found.is_equilibrium(1e-6), found
    assert "grid at its prices" in found.residuals


def test_assets_of_the_grid_are_certified() -> None:
    n = grid_with_assets()
    assert n.storage_units_t.p.abs().to_numpy().max() > 0.1
    found = p2p.certify(n)
    assert found.is_equilibrium(1e-6), found


@pytest.mark.parametrize("market", ["averse", "equality", "contracts"])
def test_assets_of_the_grid_in_other_markets(market: str) -> None:
    n = with_assets(2)
    solve(n, MARKETS[market], "direct")
    assert p2p.certify(n).is_equilibrium(1e-6), p2p.certify(n)


#: Of assets of the grid: a number, and another at which what they do would not be optimal.
OTHER = {
    "plant": ("Generator", "marginal_cost", 0.4),
    "square": ("StorageUnit", "marginal_cost", 2.0),
    "cable": ("Link", "p_nom", 0.8),
}


@pytest.mark.parametrize("name", OTHER)
def test_assets_of_the_grid_must_be_optimal(name: str) -> None:
    """At other costs or limits they would do something else, and prices be others."""
    n = grid_with_assets().copy()
    component, attribute, value = OTHER[name]
    static = n.c[component].static
    static.loc[static.index.get_level_values("name") == name, attribute] = value
    found = p2p.certify(n)
    assert found.residuals["balances and limits"] < 1e-9
    assert found.residuals["grid at its prices"] > 1e-3


@pytest.mark.parametrize("risk", [None, p2p.CVaR()])
def test_prices_that_rise_with_trade(risk: Any) -> None:
    """Where a > 0, the centralized optimum is no equilibrium, the peers' is."""
    n = meshed(2, 1.5)
    n.links["congestion"] = 0.3
    tolerance = 1e-6 if risk is None else 1e-5
    solve(n, p2p.PeerToPeerMarket(delivery="grid", risk=risk), "direct")
    assert p2p.certify(n).is_equilibrium(tolerance), p2p.certify(n)
    if risk is None:
        solve(n, p2p.CentralizedMarket(delivery="grid"), "direct")
        found = p2p.certify(n)
        assert found.is_equilibrium(), found
        assert float(found.exploitability.max()) > 1e-3


def test_separate_grids_are_certified() -> None:
    n = two_buses(2.0)
    n.remove("Line", "line")
    n.add("Bus", ["west end", "east end"])
    n.add("Line", ["w", "e"], bus0=["west", "east"], bus1=["west end", "east end"], x=0.1)
    n.lines["s_nom"] = 9.0
    solve(n, p2p.PeerToPeerMarket(delivery="grid"), "direct")
    assert p2p.certify(n).is_equilibrium(), p2p.certify(n)


def test_files_are_certified_alike(tmp_path: Path) -> None:
    first = p2p.certify(solved("equality"))
    solved("equality").export_to_netcdf(tmp_path / "n.nc")
    found = p2p.certify(pypsa.Network(tmp_path / "n.nc"))
    assert found.is_equilibrium()
    assert found.kkt_residual == pytest.approx(first.kkt_residual, abs=1e-12)


# ------------------------------------------------------------------------- perturbations fail

#: Component, attribute and name of one number; a name of the grid where it is the grid's.
NUMBERS = {
    "flow on a line": ("Line", "p0", "1-2"),
    "flow on the transformer": ("Transformer", "p0", "T"),
    "net import": ("Bus", "net_import", "p1"),
    "surplus": ("Bus", "surplus", "bus 0"),
    "price at a prosumer's bus": ("Bus", "marginal_price", "bus 3"),
    "price at a bus of nobody's": ("Bus", "marginal_price", "bus 4"),
    "price at the connection": ("Bus", "marginal_price", "bus 0"),
    "price behind the meter": ("Bus", "marginal_price", "p3"),
    "trade price": ("Link", "mu_reciprocity", None),
    "what bus0 buys": ("Link", "p0", None),
    "generation": ("Generator", "p", "p1 generation"),
}


@pytest.mark.parametrize(
    ("what", "market", "sign"),
    [*product(NUMBERS, ("peers", "averse", "contracts"), (1, -1))],
)
def test_perturbed_solutions_are_rejected(what: str, market: str, sign: int) -> None:
    """A thousandth of a MW or of a EUR/MWh in one place."""
    n = solved(market).copy()
    component, attribute, name = NUMBERS[what]
    table, scenario = n.c[component].dynamic[attribute], n.scenarios[0]
    name = n.links.xs(scenario).index[1] if name is None else name
    table.loc[n.snapshots[0], (scenario, name)] += sign * 1e-3
    assert not p2p.certify(n).is_equilibrium(1e-5)


def test_flows_around_a_cycle_are_rejected() -> None:
    """Every bus is in balance still, and no limit is broken: Kirchhoff's voltage law is."""
    n = solved("peers").copy()
    flows = n.lines_t.p0
    first = flows.loc[n.snapshots[0], n.scenarios[0]]
    room = min(1.5 - abs(first[name]) for name in ("0-1", "1-2", "2-3", "0-3"))
    by = 1e-3 if room > 2e-3 else -1e-3 * np.sign(first["0-1"])
    for name, sign in {"0-1": 1, "1-2": 1, "2-3": 1, "0-3": -1}.items():
        flows.loc[n.snapshots[0], (n.scenarios[0], name)] += sign * by
    found = p2p.certify(n)
    assert found.residuals["balances and limits"] > 1e-5
    assert found.budget_imbalance < 1e-9


@pytest.mark.parametrize("by", [1e-3, -1e-3])
def test_a_shift_of_all_prices_of_the_grid_is_rejected(by: float) -> None:
    """Trades cheaper, grid dearer, all else as it was: but the surplus leaves for nothing."""
    n = solved("equality").copy()
    price = n.buses_t.marginal_price
    of_grid = [column for column in price if column[1].startswith("bus")]
    for scenario, weight in n.scenario_weightings["weight"].items():
        price.loc[:, [column for column in of_grid if column[0] == scenario]] += by * weight
    edges = n.links.xs(n.scenarios[0]).index
    for scenario, weight in n.scenario_weightings["weight"].items():
        for edge in edges:
            hours = n.snapshot_weightings["objective"] * weight
            n.links_t.mu_reciprocity[scenario, edge] -= by * hours
    found = p2p.certify(n)
    assert found.residuals["trades (12), (22)"] < 1e-8
    assert found.residuals["grid at its prices"] > 1e-5


def test_prices_need_a_limit_that_binds() -> None:
    """With lines twice as strong nothing keeps prices apart; with weaker ones limits break."""
    n = solved("peers").copy()
    n.lines["s_nom"] = 3.0
    found = p2p.certify(n)
    assert found.residuals["balances and limits"] < 1e-9
    assert found.residuals["grid at its prices"] > 1e-3
    n.lines["s_nom"] = 1.4
    assert p2p.certify(n).residuals["balances and limits"] > 1e-2


# --------------------------------------------------------------- the grid, worked out otherwise


def test_kirchhoffs_voltage_law_by_cycles() -> None:
    """Cycle sums of x p, of cycles found by networkx, are 0 in what is certified."""
    n = solved("peers")
    scenario = n.scenarios[0]
    graph = nx.Graph()
    for component in FLOWS:
        for name, row in n.c[component].static.loc[scenario].iterrows():
            flow = n.c[component].dynamic["p0"][scenario, name]
            drop = flow.to_numpy() * row["x_pu_eff"]
            graph.add_edge(row["bus0"], row["bus1"], start=row["bus0"], drop=drop)
    cycles = nx.cycle_basis(graph)
    assert len(cycles) == 3
    for cycle in cycles:
        total = 0.0
        for one, other in pairwise([*cycle, cycle[0]]):
            edge = graph.edges[one, other]
            total = total + edge["drop"] * (1 if edge["start"] == one else -1)
        np.testing.assert_allclose(total, 0, atol=1e-10)
    assert np.ptp([edge[2].max() for edge in graph.edges.data("drop")]) > 1e-4


def game_of(n: pypsa.Network) -> HeldMarket:
    data = read_market(n, grid=True)
    return rebuild(n, data, True, NEUTRAL.envelope(data.probability, data.risk_attitude))


def test_room_on_the_grid_by_voltage_angles() -> None:
    """Least and most net import of each prosumer, by linear programs over voltage angles."""
    n = solved("peers", 3)
    data = read_market(n)
    least, most = net_import_limits(game_of(n))
    found = np.stack([least, most]).reshape(2, 2, 5, 2)  # end, scenario, prosumer, snapshot
    buses = [f"bus {k}" for k in range(6)]
    at = read_sites(n, data.prosumers).bus
    for s, scenario in enumerate(n.scenarios):
        rows = []
        for component in FLOWS:
            static = n.c[component].static.loc[scenario]
            rows += [(row.bus0, row.bus1, row.x_pu_eff) for row in static.itertuples()]
        K = np.array([[(b == one) - (b == other) for b in buses] for one, other, _ in rows], float)
        flow = K / np.array([x for *_, x in rows])[:, None]
        for t, snapshot in enumerate(n.snapshots):
            net = n.buses_t.net_import.loc[snapshot, scenario]
            for k, prosumer in enumerate(data.prosumers):
                taken = np.zeros(6)
                for other in data.prosumers.drop(prosumer):
                    taken[buses.index(at[other])] += net[other]
                hers, away = ((np.array(buses) == b).astype(float) for b in (at[prosumer], "bus 0"))
                balance = np.column_stack([K.T @ flow, hers, away])  # angles, her import, surplus
                limits = np.column_stack([np.vstack([flow, -flow]), np.zeros((2 * len(K), 2))])
                for end, sign in enumerate((1, -1)):
                    answer = linprog(
                        sign * np.eye(8)[6],
                        A_ub=limits,
                        b_ub=np.full(2 * len(K), 1.5),
                        A_eq=balance,
                        b_eq=-taken,
                        bounds=(None, None),
                    )
                    at_connection = at[prosumer] == "bus 0"
                    assert (answer.status == 3) == at_connection  # unbounded
                    value = -sign * np.inf if at_connection else answer.x[6]
                    assert value == pytest.approx(found[end, s, k, t], abs=1e-6)


def seller_far_away() -> pypsa.Network:
    """B sells at 8 what leaves at the connection, over a line of 2 MW; it costs her G + G^2."""
    n = pypsa.Network()
    n.add("Bus", ["west", "east"])
    n.add("Line", "line", bus0="west", bus1="east", x=0.1, s_nom=2.0)
    p2p.add_prosumers(
        n,
        ["A", "B"],
        demand=0.0,
        demand_max=0.0,
        utility_quadratic=1.0,
        generation_max=[0, 10],
        marginal_cost=1.0,
        marginal_cost_quadratic=1.0,
        import_price=8,
        grid_bus=["west", "east"],
    )
    p2p.add_trades(n, [("A", "B")], capacity=10)
    return n


def test_exploitability_ends_where_the_line_is_full() -> None:
    """At G = 1 she earns 8 - 2 = 6, at G = 2, which the line allows, 16 - 6 = 10: a gain of 4.

    The market's money is 8 + 2 at G = 1.

    Without the grid she would generate 3.5 and gain 6.25 (1 + 2G = 8).
    """
    n = seller_far_away()
    solve(n, p2p.PeerToPeerMarket(delivery="grid"), "direct")
    np.testing.assert_allclose(n.lines_t.p0.to_numpy(), -2, atol=1e-6)
    assert p2p.certify(n).is_equilibrium(), p2p.certify(n)
    now = n.snapshots[0]
    n.generators_t.p.loc[now, "B generation"] = 1.0
    n.links_t.p1.loc[now] = 1.0
    n.lines_t.p0.loc[now], n.lines_t.p1.loc[now] = -1.0, 1.0
    n.buses_t.net_import.loc[now, "B"], n.buses_t.surplus.loc[now, "west"] = -1.0, 1.0
    found = p2p.certify(n)
    assert found.residuals["balances and limits"] < 1e-9
    assert found.scale.money == pytest.approx(2 + 8)
    assert float(found.exploitability.sel(prosumer="B")) == pytest.approx(4 / 10, abs=1e-7)
    assert not found.is_equilibrium(equilibrium="generalized")


# ------------------------------------------------------------------- prices, and what is refused


def test_prices_are_those_of_trade_and_grid() -> None:
    """(22) with the price of the grid: all trades of a prosumer agree on her nodal price."""
    n = solved("averse")
    r = p2p.results(n)
    wanted = r.nodal_price.sel(prosumer=r.buyer).drop_vars("prosumer")
    for price in (prices.price_from_trades(n), prices.price_from_partner(n)):
        known = wanted.transpose(*price.dims).where(price.notnull())
        np.testing.assert_allclose(price, known, atol=1e-7)
        assert price.notnull().any()
    np.testing.assert_allclose(prices.implied_trade_price(n), r.trade_price, atol=1e-7)
    assert float(r.grid_price.max()) > 1e-3


def test_what_cannot_be_certified_is_refused() -> None:
    n = two_buses(2.0)
    n.lines["r"] = 0.05
    market = p2p.PeerToPeerMarket(delivery="grid")
    market.optimize(n, transmission_losses={"mode": "tangents", "segments": 1})
    with pytest.raises(MarketError, match="transmission losses"):
        p2p.certify(n)
    n = two_buses(2.0)
    market = p2p.PeerToPeerMarket(delivery="grid", equilibrium="generalized", weights=[1, 2])
    market.optimize(n)
    for explained in (p2p.certify, prices.price_from_trades):
        with pytest.raises(MarketError, match="generalized equilibria of unequal weights"):
            explained(n)
