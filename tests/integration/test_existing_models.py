"""Existing PyPSA models become markets and models again: grids, storage, several carriers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError, MarketError
from pypsa_p2p.network.assignment.releasing import release_prosumers

HOURS = pd.date_range("2030-01-01", periods=4, freq="h")


def solve(n: pypsa.Network, market: Any, route: str) -> xr.Dataset:
    if route == "direct":
        assert market.optimize(n) == ("ok", "optimal")
    else:
        n.optimize(extra_functionality=market, include_objective_constant=False)
    return p2p.results(n)


def optimum(n: pypsa.Network) -> float:
    """What PyPSA's own dispatch of the model costs."""
    alone = n.copy()
    assert alone.optimize(include_objective_constant=False)[0] == "ok"
    return float(alone.objective)


def assert_identical(n: pypsa.Network, original: pypsa.Network) -> None:
    """Every table, its rows, columns, their order and types, and all else PyPSA keeps."""
    for table in (n.c.sub_networks.static, original.c.sub_networks.static):
        if "obj" in table:
            table["obj"] = 0.0  # PyPSA's files do not keep it
    assert n.equals(original, log_mode="verbose") and original.equals(n, log_mode="verbose")
    for name in sorted(n.all_components):
        now, before = n.c[name], original.c[name]
        tables = [c.static.drop(columns="obj", errors="ignore") for c in (now, before)]
        if any(map(len, tables)):
            pd.testing.assert_frame_equal(*tables, obj=name)
        assert set(now.dynamic) == set(before.dynamic), name
        for attribute, table in before.dynamic.items():
            found, told = now.dynamic[attribute], f"{name} {attribute}"
            pd.testing.assert_index_equal(found.index, table.index, obj=told)
            if len(found.columns) or len(table.columns):
                pd.testing.assert_frame_equal(found, table, obj=told)
    assert n.meta == original.meta
    assert n.is_solved == original.is_solved
    assert n.has_scenarios == original.has_scenarios
    pd.testing.assert_frame_equal(n.snapshot_weightings, original.snapshot_weightings)


# --- models as PyPSA's documentation builds them ---


def ac_dc_meshed() -> pypsa.Network:
    """Two AC areas and a DC grid between them, converters as Links, wind and gas at AC buses."""
    n = pypsa.Network(snapshots=HOURS)
    n.add("Carrier", ["AC", "DC", "wind", "gas"], co2_emissions=[0.0, 0.0, 0.0, 0.2])
    ac, dc = ["London", "Norwich", "Bremen", "Frankfurt"], ["Norwich DC", "Bremen DC", "Norway DC"]
    n.add("Bus", ac, carrier="AC", v_nom=380.0, x=[0.0, 1, 9, 9], y=[51.0, 53, 53, 50])
    n.add("Bus", dc, carrier="DC", v_nom=200.0)
    n.add("Bus", "Norway", carrier="AC", v_nom=380.0)
    n.add("Line", ["0", "1"], bus0=["London", "Bremen"], bus1=["Norwich", "Frankfurt"],
          x=0.8, r=0.1, s_nom=[40.0, 60.0])  # fmt: skip
    n.add("Line", ["2", "3", "4"], bus0=dc, bus1=[*dc[1:], dc[0]], r=[0.5, 1.0, 0.7], s_nom=30.0)
    n.add("Link", [f"{place} converter" for place in ("Norwich", "Bremen", "Norway")],
          bus0=["Norwich", "Bremen", "Norway"], bus1=dc, p_nom=50.0, p_min_pu=-1.0)  # fmt: skip
    wind = np.array([[0.9, 0.2, 0.5], [0.4, 0.6, 0.1], [0.1, 0.9, 0.3], [0.7, 0.0, 0.8]])
    n.add("Generator", [f"{bus} gas" for bus in ac], bus=ac, carrier="gas", p_nom=90.0,
          marginal_cost=[60.0, 50.0, 70.0, 55.0], marginal_cost_quadratic=0.01)  # fmt: skip
    windy = ["Norwich", "Bremen", "Norway"]
    n.add("Generator", [f"{bus} wind" for bus in windy], bus=windy, carrier="wind", p_nom=80.0,
          p_max_pu=wind)  # fmt: skip
    n.add("Load", [f"{bus} load" for bus in [*ac, "Norway"]], bus=[*ac, "Norway"],
          p_set=np.outer([1.0, 0.8, 1.2, 0.9], [30, 20, 25, 35, 10]))  # fmt: skip
    return n


def storage_hvdc() -> pypsa.Network:
    """Three AC areas joined by HVDC Links, each with batteries; prices differ by the hour."""
    n = pypsa.Network(snapshots=HOURS)
    n.snapshot_weightings.loc[:, :] = 2.0
    areas = ["west", "middle", "east"]
    n.add("Bus", areas, v_nom=380.0)
    n.add("Link", ["DC 1", "DC 2"], bus0=["west", "middle"], bus1=["middle", "east"], p_nom=20.0,
          p_min_pu=-1.0)  # fmt: skip
    n.add("Generator", [f"{a} coal" for a in areas], bus=areas, p_nom=60.0,
          marginal_cost=[20.0, 30.0, 45.0], marginal_cost_quadratic=0.05)  # fmt: skip
    n.add("Generator", "east wind", bus="east", p_nom=50.0, p_max_pu=[1.0, 0.8, 0.1, 0.0])
    n.add("StorageUnit", [f"{a} pumped" for a in areas], bus=areas, p_nom=10.0, max_hours=6,
          efficiency_store=0.9, efficiency_dispatch=0.9, cyclic_state_of_charge=[True, False, True],
          state_of_charge_initial=[0.0, 30.0, 0.0])  # fmt: skip
    n.add("Store", "east tank", bus="east", e_nom=20.0, e_cyclic=True, standing_loss=0.01)
    n.add("Store", "west tank", bus="west", e_nom=20.0, e_initial=10.0,
          e_min_pu=[0, 0, 0, 0.5], e_max_pu=[1, 1, 1, 0.5])  # fmt: skip
    n.add("Load", areas, bus=areas, p_set=np.outer([1.0, 1.2, 1.5, 0.8], [20, 30, 25]))
    return n


def typed_mesh() -> pypsa.Network:
    """A random mesh of two voltages, standard types of lines and transformers, set points."""
    rng = np.random.default_rng(7)
    n = pypsa.Network(snapshots=HOURS[:2], name="mesh")
    high, low = [f"h{k}" for k in range(4)], [f"l{k}" for k in range(4)]
    n.add("Bus", high, v_nom=380.0, zone=[1, 2, 1, 2], urban=[True, False, True, False])
    n.add("Bus", low, v_nom=110.0, zone=3, urban=True)
    n.add("Line", [f"a{k}" for k in range(4)], bus0=high, bus1=[*high[1:], high[0]], length=40.0,
          type="Al/St 240/40 4-bundle 380.0", s_nom=[200, 90, 200, 90])  # fmt: skip
    n.add("Line", [f"b{k}" for k in range(3)], bus0=low[:3], bus1=low[1:], length=10.0,
          num_parallel=2, type="Al/St 240/40 2-bundle 220.0", s_nom=120)  # fmt: skip
    n.add("Transformer", ["t0", "t1"], bus0=["h0", "h3"], bus1=["l0", "l3"], s_nom=160.0,
          type="160 MVA 380/110 kV")  # fmt: skip
    at = rng.permutation([*high, *low, "h0", "l2"])
    units = [f"unit {k}" for k in range(len(at))]
    n.add("Generator", units, bus=at, p_nom=rng.uniform(60, 140, len(at)), control="PV",
          marginal_cost=rng.uniform(10, 90, len(at)), p_set=rng.uniform(1, 9, len(at)),
          controllable=[True] * 8 + [False] * 2)  # fmt: skip
    n.generators.loc[units[8:], "p_set"] = np.nan
    n.generators_t.p_set = pd.DataFrame(
        rng.uniform(0, 5, (2, 2)), index=n.snapshots, columns=pd.Index(units[4:2:-1], name="name")
    )
    n.add("ShuntImpedance", "shunt", bus="h1", b=1e-6)
    n.add("StorageUnit", "pumped", bus="h2", p_nom=20, max_hours=6, state_of_charge_initial=30)
    n.add("Load", [f"load {bus}" for bus in [*high, *low]], bus=[*high, *low],
          p_set=rng.uniform(20, 60, (2, 8)))  # fmt: skip
    n.meta["source"] = {"made": "by hand", "year": 2030}
    return n


def sector_coupled() -> pypsa.Network:
    """Electricity with heat, gas and batteries behind the meters of three villages."""
    n = pypsa.Network(snapshots=HOURS)
    n.add("Carrier", ["AC", "heat", "gas", "battery"])
    villages = ["north", "south", "west"]
    n.add("Bus", villages, carrier="AC", v_nom=110.0)
    n.add("Line", ["ns", "sw", "wn"], bus0=villages, bus1=["south", "west", "north"], x=0.3, r=0.02,
          s_nom=[4.0, 3.0, 5.0])  # fmt: skip
    n.add("Bus", ["north heat", "south heat"], carrier="heat")
    n.add("Bus", ["north gas", "west battery"], carrier=["gas", "battery"])
    n.add("Link", ["north heat pump", "south heat pump"], bus0=["north", "south"],
          bus1=["north heat", "south heat"], p_nom=4.0, efficiency=[3.0, 2.5])  # fmt: skip
    n.add("Generator", "north gas supply", bus="north gas", p_nom=20.0, marginal_cost=30.0)
    n.add("Link", "north CHP", bus0="north gas", bus1="north", bus2="north heat", p_nom=6.0,
          efficiency=0.4, efficiency2=0.45, marginal_cost=1.0)  # fmt: skip
    n.add("Store", "north tank", bus="north heat", e_nom=8.0, e_cyclic=True, standing_loss=0.02)
    n.add("Load", ["north warmth", "south warmth"], bus=["north heat", "south heat"],
          p_set=np.array([[3.0, 2.0], [4.0, 3.0], [2.0, 4.0], [5.0, 1.0]]))  # fmt: skip
    n.add("Store", "west cells", bus="west battery", e_nom=6.0, e_initial=3.0,
          e_min_pu=[0, 0, 0, 0.25])  # fmt: skip
    n.add("Link", ["west charge", "west discharge"], bus0=["west", "west battery"],
          bus1=["west battery", "west"], p_nom=2.0, efficiency=0.95)  # fmt: skip
    n.add("Generator", ["south engine", "west engine"], bus=["south", "west"], p_nom=[9.0, 7.0],
          marginal_cost=[80.0, 95.0], marginal_cost_quadratic=0.5)  # fmt: skip
    n.add("Generator", "west wind", bus="west", p_nom=6.0, p_max_pu=[0.2, 1.0, 0.0, 0.6])
    n.add("Load", [f"{v} light" for v in villages], bus=villages,
          p_set=np.array([[1.0, 2, 1], [1.5, 2, 1], [2, 1, 3], [1, 1, 2]]))  # fmt: skip
    return n


MODELS: dict[str, Callable[[], pypsa.Network]] = {
    model.__name__: model for model in (ac_dc_meshed, storage_hvdc, typed_mesh, sector_coupled)
}
EVERY = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def traded(n: pypsa.Network, **trades: Any) -> pypsa.Network:
    p2p.assign_prosumers(n, "bus", risk_attitude=0.4)
    p2p.add_trades(n, "complete", **{"capacity": 1000.0, **trades})
    return n


# --- what a market of the model is ---


@EVERY
def test_a_market_on_the_grid_costs_what_the_model_does(
    model: Callable[[], pypsa.Network], route: str
) -> None:
    """Free trade over the model's own grid: PyPSA's optimum, no more and no less."""
    n = model()
    if "controllable" in n.generators:
        n.generators["p_set"] = np.nan
        n.generators_t.p_set = n.generators_t.p_set.iloc[:, :0]
    cost = optimum(n)
    r = solve(traded(n), p2p.CentralizedMarket(delivery="grid", surplus=False), route)
    assert float(r["social_cost"]) == pytest.approx(cost, rel=1e-6)


@EVERY
def test_assigned_solved_released(model: Callable[[], pypsa.Network], route: str) -> None:
    original = model()
    n = traded(model(), price=0.1)
    solve(n, p2p.PeerToPeerMarket(delivery="grid"), route)
    release_prosumers(n)
    assert_identical(n, original)


@pytest.mark.parametrize("model", [typed_mesh, sector_coupled])
def test_released_after_files(model: Callable[[], pypsa.Network], tmp_path: Path) -> None:
    """Saved, read, assigned, solved, saved, read, released: as saved at first.

    What was saved had a solution of its own, which comes back too.
    """
    saved, solved = str(tmp_path / "saved.nc"), str(tmp_path / "solved.nc")
    n = model()
    n.lpf() if "controllable" in n.generators else n.optimize(include_objective_constant=False)
    n.export_to_netcdf(saved)
    n = traded(pypsa.Network(saved))
    r = solve(n, p2p.PeerToPeerMarket(), "direct")
    n.export_to_netcdf(solved)
    read, original = pypsa.Network(solved), pypsa.Network(saved)
    xr.testing.assert_allclose(p2p.results(read), r, rtol=1e-12, atol=1e-12)
    for network in (n, read):
        release_prosumers(network)
        assert_identical(network, original)
    assert n._objective == original._objective
    assert not n.generators_t.p.empty


def in_scenarios(n: pypsa.Network) -> pypsa.Network:
    p2p.set_scenarios(n, {"windy": 0.3, "calm": 0.7})
    for scenario, share in (("windy", 1.0), ("calm", 0.3)):
        n.c.generators.dynamic["p_max_pu"][(scenario, "east wind")] *= share
    return n


def test_scenarios_storage_and_files(tmp_path: Path) -> None:
    """All of it through netCDF: results, certificate, and the way back."""
    original = in_scenarios(storage_hvdc())
    n = in_scenarios(traded(storage_hvdc(), price=0.2))
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR())
    r = solve(n, market, "direct")
    certificate = p2p.certify(n)
    assert certificate.is_equilibrium()
    n.export_to_netcdf(str(tmp_path / "market.nc"))
    read = pypsa.Network(str(tmp_path / "market.nc"))
    xr.testing.assert_allclose(p2p.results(read), r, rtol=1e-12, atol=1e-12)
    again = p2p.certify(read)
    assert again.is_equilibrium()
    assert again.kkt_residual == pytest.approx(certificate.kkt_residual, abs=1e-9)
    original.export_to_netcdf(str(tmp_path / "original.nc"))
    release_prosumers(n)
    assert_identical(n, original)
    release_prosumers(read)
    assert_identical(read, pypsa.Network(str(tmp_path / "original.nc")))


# --- several carriers, several prosumers at a bus, assets of nobody ---


def heated() -> pypsa.Network:
    """north: 6 MW of heat from a heat pump of 3; south: an engine at 10 EUR/MWh."""
    n = pypsa.Network()
    n.add("Carrier", ["AC", "heat"])
    n.add("Bus", ["north", "south"], carrier="AC")
    n.add("Bus", "north heat", carrier="heat")
    n.add("Line", "line", bus0="north", bus1="south", x=0.1, r=0.01, s_nom=100.0)
    n.add("Link", "heat pump", bus0="north", bus1="north heat", p_nom=5.0, efficiency=3.0)
    n.add("Load", "warmth", bus="north heat", p_set=6.0)
    n.add("Generator", "engine", bus="south", p_nom=9.0, marginal_cost=10.0)
    return n


@pytest.mark.parametrize(
    "owner",
    [
        "bus",
        ["north", "south"],
        {"warmth": "north prosumer", "heat pump": "north prosumer", "engine": "south prosumer"},
    ],
    ids=["column", "buses", "assets"],
)
def test_a_heat_pump_goes_with_its_bus(owner: Any, route: str) -> None:
    """6 MW of heat are 2 MW of electricity, bought at 10; 6 MW if the pump were passed over."""
    n = heated()
    p2p.assign_prosumers(n, owner)
    assert list(n.buses.index[n.buses.grid_bus != ""].sort_values()) == [
        "north prosumer",
        "south prosumer",
    ]
    assert n.links.loc["heat pump", ["bus0", "bus1"]].tolist() == ["north prosumer", "north heat"]
    p2p.add_trades(n, "grid", capacity=9.0)
    r = solve(n, p2p.CentralizedMarket(surplus=False), route)
    north = r.sel(prosumer="north prosumer")
    assert north["net_import"].item() == pytest.approx(2.0, abs=1e-6)
    assert north["nodal_price"].item() == pytest.approx(10.0, abs=1e-5)
    assert float(r["social_cost"]) == pytest.approx(20.0, abs=1e-5)
    release_prosumers(n)
    assert_identical(n, heated())


def test_a_converter_others_use_is_refused_by_name() -> None:
    n = heated()
    n.add("Link", "south boiler", bus0="south", bus1="north heat", p_nom=1.0)
    before = n.copy()
    for owner in ("bus", ["north"]):
        with pytest.raises(DataError, match="'Link heat pump', 'Link south boiler' connects"):
            p2p.assign_prosumers(n, owner)
    with pytest.raises(DataError, match="names 'north heat', which lies behind 'north', 'south'"):
        p2p.assign_prosumers(n, ["north heat"])
    assert n.equals(before)
    p2p.assign_prosumers(n, {"engine": "operator"})
    assert n.links.bus0.tolist() == ["north", "south"]


def test_assets_behind_a_meter_are_named_with_what_leads_there() -> None:
    n = heated()
    n.add("Load", "light", bus="north", p_set=1.0)
    n.add("Load", "neighbour", bus="north", p_set=1.0)
    before = n.copy()
    with pytest.raises(DataError, match="prosumer 'anna' sit at several buses"):
        p2p.assign_prosumers(n, {"light": "anna", "warmth": "anna"})
    with pytest.raises(DataError, match=r"'anna' sit at several buses.*name the Links between"):
        p2p.assign_prosumers(n, {"light": "anna", "engine": "anna"})
    assert n.equals(before)
    p2p.assign_prosumers(
        n, {"light": "anna", "warmth": "anna", "heat pump": "anna", "neighbour": "ben"}
    )
    assert n.buses.grid_bus[["anna", "ben"]].tolist() == ["north", "north"]
    assert n.loads.bus.to_dict() == {"warmth": "north heat", "light": "anna", "neighbour": "ben"}
    assert n.links.bus0["heat pump"] == "anna"


def test_islands_of_several_carriers_need_a_word() -> None:
    n = heated()
    n.remove("Line", "line")
    n.buses["carrier"] = ["gas", "gas", "heat"]
    n.add("Carrier", "gas")
    before = n.copy()
    with pytest.raises(DataError, match=r"of the carriers 'gas', 'heat'.*Name those"):
        p2p.assign_prosumers(n, "bus")
    assert n.equals(before)
    p2p.assign_prosumers(n, ["north", "south"])
    assert n.links.bus0["heat pump"] == "north prosumer"


def test_electricity_is_known_by_its_name() -> None:
    n = heated()
    n.remove("Line", "line")
    n.buses["carrier"] = ["electricity", "electricity", "heat"]
    n.add("Carrier", "electricity")
    p2p.assign_prosumers(n, "bus")
    assert n.links.bus0["heat pump"] == "north prosumer"


def with_a_public_lamp(lamp: float) -> pypsa.Network:
    """anna and ben at one bus; a lamp and a cheap generator of 1 MW are nobody's."""
    n = pypsa.Network()
    n.add("Bus", ["square", "town"])
    n.add("Line", "line", bus0="square", bus1="town", x=0.1, s_nom=100.0)
    n.add("Load", ["house", "lamp"], bus=["town", "square"], p_set=[2.0, lamp])
    n.add("Generator", ["engine", "public"], bus=["town", "square"], p_nom=[9.0, 1.0],
          marginal_cost=[10.0, 1.0])  # fmt: skip
    p2p.assign_prosumers(n, {"house": "anna", "engine": "ben"})
    p2p.add_trades(n, "grid", capacity=9.0)
    return n


@pytest.mark.parametrize("delivery", ["trades", "grid"])
def test_assets_of_nobody_keep_the_grid_to_themselves(delivery: Any, route: str) -> None:
    """ben's 2 MW cost 20, the lamp's 1 MW costs 1, which is no prosumer's."""
    n = with_a_public_lamp(1.0)
    assert n.buses.grid_bus[["anna", "ben"]].tolist() == ["town", "town"]
    r = solve(n, p2p.PeerToPeerMarket(delivery=delivery, surplus=False), route)
    assert float(r["social_cost"]) == pytest.approx(20.0, abs=1e-5)
    assert n.objective == pytest.approx(21.0, abs=1e-5)
    assert n.generators_t.p["public"].item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("delivery", ["trades", "grid"])
def test_a_grid_that_cannot_live_on_its_own_is_reported(delivery: Any) -> None:
    with pytest.raises(MarketError, match=r"infeasible.*balance of '(square|town)"):
        p2p.PeerToPeerMarket(delivery=delivery, surplus=False).optimize(with_a_public_lamp(2.0))
