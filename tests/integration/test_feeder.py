"""A day on the bundled low-voltage feeder: its time, its batteries, its scenarios, its market."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError
from pypsa_p2p.network import bundled_grids
from pypsa_p2p.network.bundled_grids import grids_folder

MARKET = grids_folder() / "lv_village" / "market"


def village(resolution: str | None = None) -> pypsa.Network:
    return p2p.load_grid("lv_village", market=True, resolution=resolution)


@pytest.fixture(scope="module")
def solved() -> pypsa.Network:
    n = village("3h")
    p2p.PeerToPeerMarket().optimize(n)
    return n


# --- the grid -----------------------------------------------------------------------------------


def test_the_grid_is_the_paper_s() -> None:
    """36 households of 5.1 kW behind 400 kVA; a tree: as many branches as buses but one."""
    n = p2p.load_grid("lv_village")
    assert len(n.loads) == 36 and (n.loads["p_set"] == 0.0051).all()
    assert len(n.lines) + len(n.transformers) == len(n.buses) - 1 == 73
    assert n.transformers["s_nom"].item() == 0.4
    assert len(n.snapshots) == 1


def test_power_flow_is_pandapower_s() -> None:
    """Its runpp: 0.9973 to 1.0235 p.u., 75.55 kW of surplus sent up."""
    n = p2p.load_grid("lv_village", set_points=True)
    assert n.pf().converged.all(axis=None)
    voltage = n.buses_t.v_mag_pu.loc["now"]
    assert voltage.min() == pytest.approx(0.9972527, abs=1e-6)
    assert voltage.max() == pytest.approx(1.0235393, abs=1e-6)
    assert n.generators_t.p["ext_grid 0"].item() == pytest.approx(-0.075553, abs=1e-6)


# --- the day ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "steps"), [(None, 24), ("h", 24), ("15min", 96), ("30min", 48), ("1D", 1)]
)
def test_snapshots_make_a_day(resolution: str | None, steps: int) -> None:
    n = village(resolution)
    assert len(n.snapshots) == steps
    assert str(n.snapshots[0]) == "2030-06-21 00:00:00"
    assert (n.snapshot_weightings == 24 / steps).all(axis=None)
    if steps > 1:
        assert n.snapshots[1] - n.snapshots[0] == pd.Timedelta("1D") / steps


def test_energy_does_not_depend_on_the_resolution() -> None:
    """Demand and sunshine of a day, MWh, by scenario."""
    energy = {}
    for resolution in ("15min", "2h"):
        n = village(resolution)
        hours = n.snapshot_weightings["objective"]
        suns = n.generators_t.p_max_pu.filter(like=" renewable").mul(hours, axis=0).sum()
        suns *= n.generators["p_nom"].loc[suns.index]  # the greatest, of the resolution
        demand = n.loads_t.p_set.mul(hours, axis=0).sum()
        energy[resolution] = pd.concat([demand, suns])
    assert energy["15min"].sum() > 1.0
    pd.testing.assert_series_equal(energy["15min"], energy["2h"], rtol=1e-9)


def test_profiles_reach_their_prosumers() -> None:
    """Demand, its limits and the curvature of utility follow one shape, a tariff another."""
    n = village("15min")
    table = pd.read_csv(MARKET / "prosumers.csv", index_col="name")
    profiles = pd.read_csv(MARKET / "profiles.csv", index_col="time")
    home = table.loc["H4"]
    shape = profiles[home["demand_profile"]].to_numpy()
    demand = n.loads_t.p_set["3", "H4 demand"].to_numpy()
    level = demand / shape
    assert level == pytest.approx(level[0])
    assert 0.6 * home["demand"] <= level[0] <= 1.4 * home["demand"]
    least = demand - n.generators_t.p_max_pu["3", "H4 elastic demand"].to_numpy()
    assert least == pytest.approx(home["demand_min"] * shape)
    curvature = n.get_switchable_as_dense("Generator", "marginal_cost_quadratic")
    assert curvature["3", "H4 elastic demand"].to_numpy() == pytest.approx(
        home["utility_quadratic"] / shape
    )
    tariff = n.get_switchable_as_dense("Generator", "marginal_cost")["3", "supplier generation"]
    assert tariff.to_numpy() == pytest.approx(280.0 * profiles["tariff"].to_numpy())


def test_profiles_are_of_one_day() -> None:
    profiles = pd.read_csv(MARKET / "profiles.csv", index_col="time")
    assert len(profiles) == 96 and profiles.index[-1] == "23:45"
    assert profiles.drop(columns="solar").mean().to_numpy() == pytest.approx(1.0, abs=1e-4)
    assert (profiles["solar"].loc["21:00":] == 0.0).all()
    assert profiles["solar"].between(0.0, 0.85).all()


@pytest.mark.parametrize("resolution", ["7min", "5h", "2D", "often", "-1h"])
def test_a_resolution_must_divide_the_day(resolution: str) -> None:
    with pytest.raises(DataError, match="does not divide a day of 96 rows"):
        village(resolution)


def test_what_lasts_no_day_has_no_resolution() -> None:
    with pytest.raises(DataError, match=r"'ieee14' is of one moment: leave out the resolution"):
        p2p.load_grid("ieee14", market=True, resolution="1h")
    with pytest.raises(DataError, match="Without its market"):
        p2p.load_grid("lv_village", resolution="1h")


def test_an_unknown_profile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(grids_folder() / "lv_village", tmp_path / "lv_village")
    table = tmp_path / "lv_village" / "market" / "prosumers.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("commuters", "sailors"), "utf-8")
    monkeypatch.setattr(bundled_grids, "grids_folder", lambda: tmp_path)
    with pytest.raises(DataError, match=r"profiles.csv has no 'sailors', a demand_profile"):
        village()


# --- the market ---------------------------------------------------------------------------------


def test_households_panels_and_batteries(solved: pypsa.Network) -> None:
    buses = solved.buses.xs("0", level="scenario")
    prosumers = buses[buses["carrier"] == "prosumer"]
    assert len(prosumers) == 37
    units = solved.storage_units.xs("0", level="scenario")
    assert units["bus"].isin(prosumers.index).all() and units["bus"].is_unique
    assert units["cyclic_state_of_charge"].all()
    assert len(units) >= 10
    panels = solved.generators_t.p_max_pu["0"].filter(like=" renewable").max() > 0
    assert panels.sum() == 15
    bare = p2p.load_grid("lv_village")
    with_panels = set(bare.generators.loc[bare.generators["control"] != "Slack", "bus"])
    assert set(prosumers.loc[[name.split()[0] for name in panels[panels].index], "grid_bus"]) == (
        with_panels
    )


def test_the_market_without_a_hub_follows_the_cables(solved: pypsa.Network) -> None:
    """Every household with the supplier; 32 pairs at neighbouring joints of four cables."""
    links = solved.links.xs("0", level="scenario")
    hub = links["bus1"] == "supplier"
    assert hub.sum() == 36 and (~hub).sum() == 32
    assert (links.loc[hub, "price0"] - links.loc[hub, "price1"] == 10.0).all()
    assert (links.loc[~hub, ["price0", "price1"]] == 0.0).all(axis=None)


def test_a_day_balances_and_batteries_close_their_cycle(solved: pypsa.Network) -> None:
    r = p2p.results(solved)
    balance = r.demand - r.generation - r.renewable - r.net_import
    assert float(abs(balance).max()) < 1e-8
    units = solved.storage_units_t
    assert units.p_dispatch.sum().sum() > 0.01
    np.testing.assert_allclose(0.95 * units.p_store.sum(), units.p_dispatch.sum() / 0.95, atol=1e-7)


def test_prices_lie_between_surplus_and_tariff(solved: pypsa.Network) -> None:
    """Nobody sells below 80 EUR/MWh, what surplus fetches; a household pays the tariff at most:
    280 EUR/MWh times at most 1.26, the supplier's slope on 0.04 MW, and 10 of preference."""
    price = p2p.results(solved).nodal_price
    assert float(price.min()) >= 80.0 - 1e-6
    assert float(price.max()) <= 280.0 * 1.26 + 1000.0 * 0.04 + 10.0


def test_risk_is_of_the_whole_day(solved: pypsa.Network) -> None:
    """CVaR of each day's cost, by hand from costs by scenario; aversion costs, contracts help."""
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts())
    n = village("3h")
    market.optimize(n)
    r = p2p.results(n)
    neutral = float(p2p.results(solved).social_cost)
    total = r.cost.sum("prosumer").to_series().sort_values(ascending=False)
    attitude = n.buses.xs("0", level="scenario")["risk_attitude"]
    least = attitude[list(r.prosumer.values)].min()
    left, tail = 1.0 - least, 0.0
    for cost in total:  # the dearest tenths, until 1 - least of the probability is spent
        share = min(0.1, left)
        tail, left = tail + share * cost, left - share
    assert float(r.social_cost) == pytest.approx(tail / (1.0 - least), abs=1e-5)
    assert float(r.social_cost) > neutral + 1.0


DESIGNS = {
    "centralized": p2p.CentralizedMarket(),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "grid": p2p.PeerToPeerMarket(delivery="grid"),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_hours_and_quarters_of_them_agree(design: str) -> None:
    """Social cost of the day hardly depends on how finely it is cut."""
    cost = {}
    for resolution in ("1h", "15min"):
        n = village(resolution)
        assert DESIGNS[design].optimize(n)[0] == "ok"
        cost[resolution] = float(p2p.results(n).social_cost)
    assert cost["15min"] == pytest.approx(cost["1h"], rel=5e-3)


def test_a_narrow_transformer_has_its_price() -> None:
    """Through 20 kVA neither all surplus nor all supply fits: prices on its sides differ."""
    n = village("4h")
    n.transformers["s_nom"] = 0.02
    p2p.PeerToPeerMarket(delivery="grid").optimize(n)
    flow = abs(n.transformers_t.p0)
    assert flow.max().max() == pytest.approx(0.02, rel=1e-6)
    grid_price = p2p.results(n).grid_price
    assert float(abs(grid_price.sel(prosumer="supplier")).max()) < 1e-6
    assert float(abs(grid_price.sel(prosumer="H1")).max()) > 1.0
