"""Bundled grids: complete, documented, and their markets solvable."""

from __future__ import annotations

import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError
from pypsa_p2p.network import bundled_grids
from pypsa_p2p.network.bundled_grids import grids_folder, list_grids, load_grid
from pypsa_p2p.network.scenarios.sampling import draw_trade_prices
from pypsa_p2p.solution.results import results

IEEE14_MARKET = grids_folder() / "ieee14" / "market"
BY_RULE = ("ieee30", "ieee57", "ieee118")
REBUILT = ("ieee14", *BY_RULE, "lv_village")


def test_list_of_grids() -> None:
    known = ["ieee118", "ieee14", "ieee30", "ieee57", "lv_village", "three_node"]
    assert list_grids() == known


@pytest.mark.parametrize("name", list_grids())
def test_readme_states_source_and_licence(name: str) -> None:
    readme = (grids_folder() / "README.md").read_text(encoding="utf-8")
    section = readme.split(f"## {name}\n")[1].split("\n## ")[0]
    for heading in ("Source", "Licence", "Assumptions", "Rebuild"):
        assert f"**{heading}" in section


def test_installed_package_has_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled_grids, "files", lambda package: tmp_path / package)
    assert grids_folder() == tmp_path / "grids"
    (tmp_path / "pypsa_p2p" / "_grids").mkdir(parents=True)
    assert grids_folder() == tmp_path / "pypsa_p2p" / "_grids"


def test_unknown_grid_names_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"'ieee99'.*'ieee14', 'ieee30'"):
        load_grid("ieee99")


def test_a_market_without_grid_is_not_bare() -> None:
    with pytest.raises(DataError, match="without a grid"):
        load_grid("three_node", market=False)


def test_a_grid_without_market_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "buses.csv").write_text("name,v_nom\n1,10\n", encoding="utf-8")
    monkeypatch.setattr(bundled_grids, "grids_folder", lambda: tmp_path)
    assert list(load_grid("one").buses.index) == ["1"]
    with pytest.raises(DataError, match="no market of its own"):
        load_grid("one", market=True)


# --- ieee14 -------------------------------------------------------------------------------------


def test_ieee14_is_the_case() -> None:
    n = load_grid("ieee14")
    assert list(n.buses.index) == [str(bus) for bus in range(1, 15)]
    assert n.loads["p_set"].sum() == pytest.approx(259.0)
    assert n.loads["q_set"].sum() == pytest.approx(73.5)
    assert dict(zip(n.generators["bus"], n.generators["p_nom"].round(6), strict=True)) == {
        "1": 332.4, "2": 140.0, "3": 100.0, "6": 100.0, "8": 100.0,
    }  # fmt: skip
    assert len(n.lines) == 15 and len(n.transformers) == 5 and len(n.shunt_impedances) == 1
    assert (n.buses[["x", "y"]].drop_duplicates().index == n.buses.index).all()


def test_ieee14_optimal_power_flow() -> None:
    """Without losses, case14's own costs give 7642.594 EUR/h."""
    n = load_grid("ieee14")
    assert n.optimize(include_objective_constant=False, log_to_console=False)[0] == "ok"
    assert n.objective == pytest.approx(7642.594, abs=1e-3)


def test_ieee14_power_flow() -> None:
    """Published solution: V14 = 1.036 p.u. at -16.04 degrees, the slack injects 232.4 MW."""
    n = load_grid("ieee14", set_points=True)
    n.pf()
    assert n.buses_t.v_mag_pu["14"].item() == pytest.approx(1.036, abs=5e-4)
    assert np.degrees(n.buses_t.v_ang["14"].item()) == pytest.approx(-16.04, abs=1e-2)
    assert n.generators_t.p["ext_grid 0"].item() == pytest.approx(232.4, abs=5e-2)


@pytest.fixture(scope="module")
def ieee14_market() -> pypsa.Network:
    return load_grid("ieee14", market=True)


def components(n: pypsa.Network, name: str) -> pd.DataFrame:
    """Components of the first scenario."""
    return n.c[name].static.xs("0", level="scenario")


def test_ieee14_market_replaces_loads_and_generators(ieee14_market: pypsa.Network) -> None:
    buses = components(ieee14_market, "Bus")
    prosumers = buses[buses["carrier"] == "prosumer"]
    assert list(prosumers.index) == [f"P{bus}" for bus in range(1, 15)]
    assert list(prosumers["grid_bus"]) == [str(bus) for bus in range(1, 15)]
    for component in ("Load", "Generator"):
        assert components(ieee14_market, component)["bus"].isin(prosumers.index).all()
    places = buses.loc[prosumers["grid_bus"], ["x", "y"]].to_numpy()
    assert (prosumers[["x", "y"]].to_numpy() == places).all()
    assert prosumers["risk_attitude"].between(0.1, 0.9).all()


def test_ieee14_market_keeps_the_case_costs_and_loads(ieee14_market: pypsa.Network) -> None:
    table = pd.read_csv(IEEE14_MARKET / "prosumers.csv", dtype={"grid_bus": str})
    table = table.set_index("grid_bus")
    bare = load_grid("ieee14")
    loads = bare.loads.set_index("bus")["p_set"]
    assert (table.loc[loads.index, "demand"] == loads).all()
    assert table["demand"].drop(loads.index).between(1.0, 3.0).all()
    generators = bare.generators.set_index("bus")
    for column, source in (
        ("generation_max", "p_nom"),
        ("marginal_cost", "marginal_cost"),
        ("marginal_cost_quadratic", "marginal_cost_quadratic"),
    ):
        own = table.loc[generators.index, column].to_numpy()
        assert own == pytest.approx(generators[source].to_numpy(), rel=1e-12)
        assert (table[column].drop(generators.index) == 0.0).all()


def test_ieee14_market_trades_along_the_grid(ieee14_market: pypsa.Network) -> None:
    bare = load_grid("ieee14")
    branches = pd.concat([bare.lines, bare.transformers])
    links = components(ieee14_market, "Link")
    edges = {frozenset(ends) for ends in zip(links["bus0"], links["bus1"], strict=True)}
    assert edges == {
        frozenset({f"P{one}", f"P{other}"})
        for one, other in zip(branches["bus0"], branches["bus1"], strict=True)
    }
    assert links["p_nom"].sum() == 824.0


def test_ieee14_market_prices_are_those_of_the_stated_seed() -> None:
    settings = tomllib.loads((IEEE14_MARKET / "market.toml").read_text(encoding="utf-8"))
    trades = pd.read_csv(IEEE14_MARKET / "trades.csv")
    edges = list(zip(trades["prosumer0"], trades["prosumer1"], strict=True))
    drawn = draw_trade_prices(edges, **settings["prices"] | {"rule": "heterogeneous"})
    assert (trades[["price0", "price1"]].to_numpy() == drawn.round(4).to_numpy()).all()


@pytest.mark.parametrize("surplus", [True, False])
def test_ieee14_market_can_be_solved_at_sensible_prices(surplus: bool) -> None:
    """Every scenario is feasible, even without sale of surplus, at 15 to 60 EUR/MWh."""
    n = load_grid("ieee14", market=True)
    assert len(n.scenarios) == 20
    assert p2p.PeerToPeerMarket(surplus=surplus).optimize(n)[0] == "ok"
    solved = results(n)
    assert float(solved["nodal_price"].min()) > 15.0
    assert float(solved["nodal_price"].max()) < 60.0
    assert float(abs(solved["net_import"]).sum("prosumer").min()) > 50.0


# --- the larger IEEE cases ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes", "load", "cost", "slack"),
    [
        ("ieee30", (30, 34, 7, 6, 2), 283.4, 8343.402, 260.957),
        ("ieee57", (57, 63, 17, 7, 3), 1250.8, 41006.735, 481.090),
        ("ieee118", (118, 173, 13, 54, 14), 4242.0, 125947.873, 514.170),
    ],
)
def test_ieee_cases(
    name: str, sizes: tuple[int, ...], load: float, cost: float, slack: float
) -> None:
    """Sizes and load of the archive; optimal linear power flow as published for MATPOWER's cases
    57 and 118; the slack's power is pandapower's."""
    n = load_grid(name)
    tables = (n.buses, n.lines, n.transformers, n.generators, n.shunt_impedances)
    assert tuple(map(len, tables)) == sizes
    assert list(n.buses.index) == [str(bus) for bus in range(1, sizes[0] + 1)]
    assert (n.buses[["x", "y"]].drop_duplicates().index == n.buses.index).all()
    assert n.loads["p_set"].sum() == pytest.approx(load)
    assert n.optimize(include_objective_constant=False, log_to_console=False)[0] == "ok"
    assert n.objective == pytest.approx(cost, abs=1e-3)
    n = load_grid(name, set_points=True)
    n.pf()
    assert n.generators_t.p["ext_grid 0"].item() == pytest.approx(slack, abs=1e-3)


@pytest.mark.parametrize("name", BY_RULE)
def test_markets_by_rule(name: str) -> None:
    """All loads, generators and branches of the grid are in its market, and no others."""
    bare, n = load_grid(name), load_grid(name, market=True)
    table = pd.read_csv(grids_folder() / name / "market" / "prosumers.csv", dtype={"grid_bus": str})
    table = table.set_index("grid_bus")
    assert list(table.index) == list(bare.buses.index)
    load = bare.loads.groupby("bus")["p_set"].sum()
    assert (table.loc[load.index, "demand"] == load.clip(lower=1.0)).all()
    assert (table["demand"].drop(load.index) == 1.0).all()
    generators = bare.generators.set_index("bus")
    own = table.loc[generators.index]
    assert own["generation_max"].to_numpy() == pytest.approx(generators["p_nom"].to_numpy())
    assert (own["marginal_cost"] == generators["marginal_cost"]).all()
    assert (table["generation_max"].drop(generators.index) == 0.0).all()
    share = table["renewable_capacity"].sum() / load.sum()
    assert 0.38 < share < 0.41
    branches = pd.concat([bare.lines, bare.transformers])
    links = components(n, "Link")
    edges = [frozenset(ends) for ends in zip(links["bus0"], links["bus1"], strict=True)]
    assert len(set(edges)) == len(edges)
    assert set(edges) == {
        frozenset({f"P{one}", f"P{other}"})
        for one, other in zip(branches["bus0"], branches["bus1"], strict=True)
    }
    buses = components(n, "Bus")
    assert list(buses.loc[buses["carrier"] == "prosumer", "grid_bus"]) == list(bare.buses.index)
    assert len(components(n, "Line")) == len(bare.lines)


DESIGNS = {
    "centralized": p2p.CentralizedMarket(),
    "community": p2p.CentralizedMarket(aggregate="community", risk=p2p.CVaR(attitude=0.5)),
    "neutral": p2p.PeerToPeerMarket(),
    "no surplus": p2p.PeerToPeerMarket(surplus=False),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
    "grid": p2p.PeerToPeerMarket(delivery="grid"),
    "averse, grid": p2p.PeerToPeerMarket(risk=p2p.CVaR(), delivery="grid"),
}


@pytest.mark.filterwarnings("ignore:Of several equally good")  # among many, any will do here
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", BY_RULE)
def test_markets_by_rule_can_be_solved(name: str, design: str) -> None:
    """In every design, at sensible prices, and with trade that matters."""
    n = load_grid(name, market=True)
    assert DESIGNS[design].optimize(n)[0] == "ok"
    solved = results(n)
    assert 15.0 < float(solved["nodal_price"].mean()) < 60.0
    assert float(abs(solved["net_import"]).sum("prosumer").min()) > 50.0


# --- tables and their sources -------------------------------------------------------------------


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables, written anew by grids/rebuild.py."""
    pytest.importorskip("pandapower.networks")
    here = grids_folder()
    folder = tmp_path_factory.mktemp("grids")
    for name in REBUILT:
        (folder / name / "market").mkdir(parents=True)
        by_hand = ["market.toml"] if name != "ieee14" else ["market.toml", "trades.csv"]
        for file in by_hand:
            text = (here / name / "market" / file).read_text(encoding="utf-8")
            (folder / name / "market" / file).write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandapower about files of older versions
        patch.setattr(sys, "path", [str(here), *sys.path])
        import rebuild  # noqa: PLC0415  (needs pandapower)

        rebuild.rebuild(folder)
    return folder


@pytest.mark.parametrize("name", REBUILT)
def test_tables_are_what_rebuild_writes(rebuilt: Path, name: str) -> None:
    here = grids_folder() / name
    written = {path.relative_to(rebuilt / name) for path in (rebuilt / name).rglob("*.csv")}
    bundled = {path.relative_to(here) for path in here.rglob("*.csv")}
    by_hand = {Path("market/prosumers.csv")} if name == "ieee14" else set()
    assert written == bundled - by_hand
    for table in written:
        ours, theirs = (pd.read_csv(folder / table) for folder in (here, rebuilt / name))
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-9, atol=1e-12)


# --- three_node ---------------------------------------------------------------------------------


def test_three_node_has_the_published_parameters() -> None:
    """The numbers of MODEL.md section 9, where a is twice PyPSA's coefficient."""
    n = load_grid("three_node")
    generators = components(n, "Generator")
    quadratic = generators.loc[["0 generation", "1 generation"], "marginal_cost_quadratic"]
    assert list(2 * quadratic) == [0.5353027996733363, 0.2743886024182589]
    utility = generators.loc[["0 elastic demand", "2 elastic demand"], "marginal_cost_quadratic"]
    assert list(utility) == [0.36030143572119644, 0.7073792742889289]
    attitude = components(n, "Bus")["risk_attitude"]
    assert list(attitude) == [0.06910997716902567, 0.7617642865089619, 0.9838119468874024]
    links = components(n, "Link").set_index(["bus0", "bus1"])
    assert list(links["p_nom"]) == [10.0, 10.0, 5.0]
    assert list(links["price0"]) == [1.0, 1.0, 1.0]
    assert list(links["price1"]) == [3.0, 2.0, 1.0]
    targets = n.loads_t.p_set.xs("1 demand", axis=1, level="name").loc["now"]
    assert list(targets) == [7.273058131105369, 5.5669381779891385, 4.775982414126223]


def test_three_node_market_solves_to_the_published_optimum() -> None:
    n = load_grid("three_node")
    assert list(n.scenarios) == ["0", "1", "2"]
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    assert float(results(n)["social_cost"]) == pytest.approx(7.6102899, abs=1e-6)
