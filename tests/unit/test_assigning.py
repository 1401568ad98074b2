"""assign_prosumers: assets of an existing network change hands, set points of power flows go."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError, MarketError
from pypsa_p2p.common.names import CARRIERS, CONTRACT_CARRIERS
from pypsa_p2p.network.assignment.assigning import assign_prosumers
from pypsa_p2p.network.assignment.originals import BEFORE, ORIGINAL
from pypsa_p2p.network.assignment.releasing import release_prosumers
from pypsa_p2p.network.bundled_grids import load_grid
from pypsa_p2p.network.prosumers import add_prosumers, prosumer_names
from pypsa_p2p.network.trades import add_trades
from pypsa_p2p.solution.results import results


def grid() -> pypsa.Network:
    """Two buses with assets, one without; each class of asset."""
    n = pypsa.Network()
    n.set_snapshots(pd.date_range("2030-01-01", periods=2, freq="h"))
    n.add("Carrier", "AC", color="gray")
    n.add("Bus", ["north", "south", "west"], carrier="AC", x=[4.0, 5.0, 5.0], y=[50.0, 40.0, 40.0])
    n.add("Generator", ["wind", "gas"], bus=["north", "south"], p_nom=10.0)
    n.add("Load", "town", bus="south", p_set=3.0)
    n.add("StorageUnit", "battery", bus="south", p_nom=1.0)
    n.add("Store", "tank", bus="north", e_nom=1.0)
    n.add("Line", ["1", "2"], bus0=["north", "south"], bus1=["south", "west"], x=0.1, s_nom=5.0)
    return n


def buses_of(n: pypsa.Network) -> dict[str, str]:
    tables = (n.generators, n.loads, n.storage_units, n.stores)
    return pd.concat([frame.bus for frame in tables]).to_dict()


@pytest.mark.parametrize("owner", ["bus", ["south", "north"], pd.Index(["north", "south"])])
def test_buses_become_prosumers(owner: Any) -> None:
    n = grid()
    assign_prosumers(
        n, owner, risk_attitude=0.3, import_price={"south prosumer": 1, "north prosumer": 2}
    )
    north, south = "north prosumer", "south prosumer"
    assert set(prosumer_names(n)) == {north, south}
    assert buses_of(n) == {
        "wind": north, "tank": north, "gas": south, "town": south, "battery": south
    }  # fmt: skip
    assert n.buses.grid_bus[[north, south]].tolist() == ["north", "south"]
    assert n.buses.x[south] == 5.0
    assert n.buses.risk_attitude[north] == 0.3
    assert n.c.buses.dynamic["import_price"][south].tolist() == [1.0, 1.0]
    assert n.lines.bus0.tolist() == ["north", "south"]
    assert n.loads.p_set["town"] == 3.0
    assert len(n.generators) == 2  # loads stay inelastic


def test_some_buses_or_assets_may_stay_in_the_grid() -> None:
    n = grid()
    assign_prosumers(n, ["north"])
    assert buses_of(n)["gas"] == "south"
    assign_prosumers(n, {"gas": "operator", "town": "people"})
    assert buses_of(n)["gas"] == "operator"
    assert buses_of(n)["town"] == "people"
    assert buses_of(n)["battery"] == "south"
    assert n.buses.grid_bus[["operator", "people"]].tolist() == ["south", "south"]
    assign_prosumers(n, "bus")
    assert list(prosumer_names(n)) == ["north prosumer", "operator", "people", "south prosumer"]


def test_assigning_works_with_scenarios() -> None:
    n = grid()
    n.set_scenarios({"x": 0.5, "y": 0.5})
    price = xr.DataArray([1.0, 2.0], coords={"scenario": ["y", "x"]})
    assign_prosumers(n, pd.Series({"gas": "operator", "town": "operator"}), import_price=price)
    assert (n.c.generators.static.bus.xs("gas", level="name") == "operator").all()
    assert (n.c.generators.static.bus.xs("wind", level="name") == "north").all()
    assert n.c.buses.dynamic["import_price"].iloc[0].to_dict() == {
        ("x", "operator"): 2.0,
        ("y", "operator"): 1.0,
    }
    n.consistency_check(strict=["unknown_buses"])


BAD_OWNERS: list[tuple[Any, dict[str, Any], str]] = [
    (["east"], {}, "owner names 'east', which is no bus"),
    (["west"], {}, "bus 'west' has no asset"),
    (["north", "north"], {}, "owner repeats 'north'"),
    ([], {}, "owner is empty"),
    ({}, {}, "owner is empty"),
    (3, {}, "owner must be names"),
    ({"coal": "x"}, {}, "owner names 'coal'"),
    ({"1": "x"}, {}, "owner names '1'"),
    ({"gas": "x", "wind": "x"}, {}, "prosumer 'x' sit at several buses"),
    ({"gas": "north"}, {}, "Bus 'north' exists already"),
    ({"gas": ""}, {}, "names of prosumers must be non-empty text"),
    ({"gas": 3}, {}, "owner is not text.*'gas'"),
    ({3: "x"}, {}, "owner must be non-empty text, not 3"),
    ("bus", {"risk_attitude": 1.0}, "risk_attitude is outside"),
    ("bus", {"import_price": {"north": 1.0}}, "import_price lacks 'north prosumer'"),
]


@pytest.fixture(scope="module")
def untouched() -> tuple[pypsa.Network, pypsa.Network]:
    """A network that every refusal must leave as it is, and a copy to compare with."""
    n = grid()
    return n, n.copy()


@pytest.mark.parametrize(("owner", "values", "message"), BAD_OWNERS)
def test_bad_owners_are_refused_and_change_nothing(
    owner: Any,
    values: dict[str, Any],
    message: str,
    untouched: tuple[pypsa.Network, pypsa.Network],
) -> None:
    n, before = untouched
    with pytest.raises(DataError, match=message) as caught:
        assign_prosumers(n, owner, **values)
    assert str(caught.value).startswith(("Argument ", "Bus "))
    assert n.equals(before)


def test_assets_have_one_owner() -> None:
    n = grid()
    assign_prosumers(n, "bus")
    before = n.copy()
    with pytest.raises(DataError, match="asset 'gas' belongs to a prosumer already"):
        assign_prosumers(n, {"gas": "x"})
    with pytest.raises(DataError, match="the network has no asset without an owner"):
        assign_prosumers(n, "bus")
    assert n.equals(before)


def test_only_networks_have_assets() -> None:
    with pytest.raises(DataError, match=r"Argument n must be a pypsa\.Network, not a str\."):
        assign_prosumers("network", "bus")  # type: ignore[arg-type]


# --- set points ---------------------------------------------------------------------------------


def test_a_power_flow_case_becomes_a_market() -> None:
    """Trades without limits or prices: the market costs what the lossless power flow does.

    Were the set points kept, 40 MW at most would meet 259 MW of demand.
    """
    n = load_grid("ieee14", set_points=True)
    assert n.generators["p_set"].notna().all() and n.generators["controllable"].eq(True).all()
    assign_prosumers(n, "bus")
    assert n.generators["p_set"].isna().all()
    add_trades(n, "grid", capacity=1000)
    assert p2p.CentralizedMarket().optimize(n) == ("ok", "optimal")
    assert float(results(n)["social_cost"]) == pytest.approx(7642.594, abs=1e-3)


def with_set_points(**columns: Any) -> pypsa.Network:
    """wind at 4 MW by table, gas at 2 and 3 MW by series."""
    n = grid()
    n.generators["p_set"] = [4.0, float("nan")]
    n.generators_t.p_set = pd.DataFrame({"gas": [2.0, 3.0]}, index=n.snapshots)
    for column, values in columns.items():
        n.generators[column] = values
    return n


def test_set_points_of_the_users_own_are_kept() -> None:
    n = with_set_points()
    assign_prosumers(n, "bus")
    assert n.generators.p_set["wind"] == 4.0
    assert n.generators_t.p_set["gas"].tolist() == [2.0, 3.0]


@pytest.mark.parametrize("scenarios", [False, True])
def test_set_points_go_where_controllable_alone(scenarios: bool) -> None:
    """As netCDF hands the column back where components were added later: 1.0, 0.0 and NaN."""
    for controllable in ([True, False], [1.0, float("nan")]):
        n = with_set_points(controllable=controllable)
        if scenarios:
            n.set_scenarios({"x": 0.5, "y": 0.5})
        assign_prosumers(n, "bus")
        static, series = n.c.generators.static, n.c.generators.dynamic["p_set"]
        assert static["p_set"].isna().all()
        assert set(series.columns.get_level_values(-1)) == {"gas"}
    n = with_set_points(controllable=[False, True])
    if scenarios:
        n.set_scenarios({"x": 0.5, "y": 0.5})
    assign_prosumers(n, "bus")
    kept = n.c.generators.static["p_set"].dropna()
    assert kept.index.unique("name").tolist() == ["wind"] and (kept == 4.0).all()
    assert n.c.generators.dynamic["p_set"].empty


def test_set_points_of_what_stays_in_the_grid_are_kept() -> None:
    n = with_set_points(controllable=True)
    assign_prosumers(n, ["south"])
    assert n.generators.p_set["wind"] == 4.0
    assert n.generators_t.p_set.empty


def test_an_infeasible_market_names_fixed_set_points() -> None:
    """wind is fixed at 4 MW, demand is 3 MW, and nobody can take the rest."""
    n = grid()
    n.remove("StorageUnit", "battery")
    n.remove("Store", "tank")
    n.generators["marginal_cost"] = 1.0
    n.generators["p_set"] = [4.0, float("nan")]
    assign_prosumers(n, "bus")
    add_trades(n, "grid", capacity=9.0)
    market = p2p.CentralizedMarket(surplus=False)
    with pytest.raises(MarketError, match=r"n\.generators\['p_set'\] fixes 'wind', a") as caught:
        market.optimize(n)
    assert "gas" not in str(caught.value)
    n.generators["p_set"] = float("nan")
    assert market.optimize(n)[0] == "ok"


# --- released -----------------------------------------------------------------------------------


def assert_as_before(n: pypsa.Network, before: pypsa.Network) -> None:
    assert n.equals(before, log_mode="verbose")
    assert before.equals(n, log_mode="verbose")
    for name in ("Bus", "Generator", "Link", "Line"):
        pd.testing.assert_series_equal(n.c[name].static.dtypes, before.c[name].static.dtypes)
    if n.has_scenarios:
        labels = [network.buses.index.levels[0].dtype for network in (n, before)]
        assert labels[0] == labels[1]


@pytest.mark.parametrize("scenarios", [False, True])
def test_release_undoes_assignments(scenarios: bool) -> None:
    """Two of them; columns of one's own, whole numbers and truths, which new buses do not have."""
    n = with_set_points(controllable=[True, False])
    n.generators_t.p_set = pd.DataFrame({"gas": [2.0, 3.0], "wind": [1.0, 4.0]}, index=n.snapshots)
    n.buses["zone"], n.buses["urban"] = [1, 2, 3], [True, False, True]
    n.meta["source"] = ["mine"]
    if scenarios:
        n.set_scenarios({"x": 0.5, "y": 0.5})
        n.c.generators.static.loc[("y", "wind"), "p_set"] = 7.0
    before = n.copy()
    assign_prosumers(n, {"wind": "ann"})
    assign_prosumers(n, "bus", import_price=3.0)
    add_trades(n, "grid", capacity=1.0)
    assert ("wind" in n.generators_t.p_set) is False
    release_prosumers(n)
    assert_as_before(n, before)


def test_what_was_changed_since_is_kept() -> None:
    n = with_set_points(controllable=True)
    before = n.copy()
    assign_prosumers(n, "bus")
    n.generators["marginal_cost"] = [1.0, 2.0]
    n.generators.loc["wind", "p_set"] = 5.0
    n.generators_t.p_set["gas"] = [1.0, 1.0]
    n.add("Generator", "new", bus="south prosumer", p_nom=2.0)
    n.add("Bus", "east")
    release_prosumers(n)
    assert n.generators.marginal_cost.tolist() == [1.0, 2.0, 0.0]
    assert n.generators.p_set["wind"] == 5.0
    assert n.generators_t.p_set["gas"].tolist() == [1.0, 1.0]
    assert n.generators.bus["new"] == "south"
    n.remove("Generator", "new")
    n.remove("Bus", "east")
    n.generators["marginal_cost"], n.generators["p_set"] = 0.0, [4.0, float("nan")]
    n.generators_t.p_set["gas"] = [2.0, 3.0]
    n.generators["controllable"] = n.generators["controllable"].astype(bool)
    assert_as_before(n, before)


def test_other_prosumers_stay() -> None:
    n = grid()
    add_prosumers(n, ["a", "b"], demand=1, demand_max=2, utility_quadratic=1, grid_bus="west")
    add_trades(n, [("a", "b")], capacity=1.0, price=2.0)
    before = n.copy()
    assign_prosumers(n, "bus", import_price=5.0)
    add_trades(n, [("a", "north prosumer")], capacity=1.0)
    release_prosumers(n)
    assert_as_before(n, before)
    assign_prosumers(n, ["south"])
    add_prosumers(n, ["c"], demand=1, demand_max=2, utility_quadratic=1)
    release_prosumers(n)
    assert list(prosumer_names(n)) == ["a", "b", "c"]
    assert ORIGINAL not in n.meta


def test_prosumers_added_since_keep_what_is_theirs() -> None:
    n = grid()
    assign_prosumers(n, "bus")
    add_prosumers(n, ["a"], demand=1, demand_max=2, utility_quadratic=1, risk_attitude=0.5)
    release_prosumers(n)
    assert n.buses.risk_attitude["a"] == 0.5
    unused = {"p2p", "demand bid", "supply bid", *CONTRACT_CARRIERS}
    assert set(n.carriers.index) == {"AC", *CARRIERS} - unused


def test_scenarios_set_since_stay() -> None:
    n, other = with_set_points(controllable=True), with_set_points(controllable=True)
    assign_prosumers(n, "bus")
    for network in (n, other):
        network.set_scenarios({"x": 0.5, "y": 0.5})
    release_prosumers(n)
    assert_as_before(n, other)


def test_a_copy_is_released_on_its_own() -> None:
    n = grid()
    before = n.copy()
    assign_prosumers(n, "bus")
    released = n.copy()
    release_prosumers(released)
    assert_as_before(released, before)
    assert list(prosumer_names(n)) == ["north prosumer", "south prosumer"]
    release_prosumers(n)
    assert_as_before(n, before)


def test_release_refuses_and_changes_nothing() -> None:
    n = grid()
    add_prosumers(n, ["a"], demand=1, demand_max=2, utility_quadratic=1)
    with pytest.raises(DataError, match="no prosumers to release: none was made by assign_pros"):
        release_prosumers(n)
    assign_prosumers(n, {"wind": "ann"})
    n.remove("Line", "1")
    n.remove("Store", "tank")
    n.remove("Bus", "north")
    before = n.copy()
    with pytest.raises(DataError, match="prosumer 'ann' came from bus 'north', which"):
        release_prosumers(n)
    assert n.equals(before)
    n.add("Bus", "north")
    release_prosumers(n)
    with pytest.raises(DataError, match="no prosumers to release"):
        release_prosumers(n)
    with pytest.raises(DataError, match=r"must be a pypsa\.Network"):
        release_prosumers("n")  # type: ignore[arg-type]


def test_nothing_is_left_in_the_tables() -> None:
    n = with_set_points(controllable=True)
    n.generators_t.p = pd.DataFrame({"wind": [1.0, 2.0]}, index=n.snapshots)
    before = n.copy()
    assign_prosumers(n, "bus")
    release_prosumers(n)
    assert not [name for c in n.components for name in c.dynamic if name.endswith(BEFORE)]
    assert_as_before(n, before)


def test_nobody_trades_heat_for_electricity() -> None:
    """The heat pump left out, who has the radiator would buy electricity as heat."""
    n = pypsa.Network()
    n.add("Bus", "el", carrier="AC")
    n.add("Bus", "warm", carrier="heat")
    n.add("Generator", "gas", bus="el", p_nom=30, marginal_cost=40)
    n.add("Load", "radiator", bus="warm", p_set=3)
    n.add("Link", "pump", bus0="el", bus1="warm", efficiency=3, p_nom=3)
    with pytest.raises(DataError, match="'h' sits at bus 'warm' of carrier 'heat', but 'g' at one"):
        p2p.assign_prosumers(n, {"gas": "g", "radiator": "h"})
    assert list(n.buses.index) == ["el", "warm"]
    p2p.assign_prosumers(n, {"gas": "g", "radiator": "h", "pump": "h"})
    p2p.add_trades(n, "grid", capacity=50)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    assert n.objective == pytest.approx(40.0)  # 1 MW of gas makes 3 MW of heat
