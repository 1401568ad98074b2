"""A solved market in the AC power flow: numbers by hand, PyPSA's own power flow, limits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError, MarketError
from pypsa_p2p.solution.power_flow import check_power_flow, power_flow_violations
from tests.by_hand.markets import add_seller_and_buyer

R, X = 0.01, 0.02  # per unit of 1 MVA


def two_buses(
    load: float | Sequence[float] = 6.0, q_set: float = 0.0, snapshots: Sequence[str] = ("now",)
) -> pypsa.Network:
    """A's generator in the west feeds B's inelastic load in the east; R + iX between them."""
    n = pypsa.Network(snapshots=list(snapshots))
    n.add("Bus", ["west", "east"], v_nom=10.0)
    n.add("Line", "line", bus0="west", bus1="east", r=100 * R, x=100 * X, s_nom=20.0)
    n.add("Generator", "plant", bus="west", p_nom=100.0, marginal_cost=1.0)
    n.add("Load", "town", bus="east", p_set=load, q_set=q_set)
    p2p.assign_prosumers(n, {"plant": "A", "town": "B"})
    p2p.add_trades(n, [("A", "B")], capacity=100.0)
    return n


def checked(n: pypsa.Network, delivery: str = "trades", **options: float) -> xr.Dataset:
    p2p.CentralizedMarket(delivery=delivery).optimize(n)
    return check_power_flow(n, **options)


def end_voltage(p: float, q: float) -> float:
    """|V| from V^4 + (2 (RP + XQ) - 1) V^2 + (R^2 + X^2)(P^2 + Q^2) = 0, the upper root."""
    b, c = 2 * (R * p + X * q) - 1, (R**2 + X**2) * (p**2 + q**2)
    return float(np.sqrt((-b + np.sqrt(b**2 - 4 * c)) / 2))


@pytest.mark.parametrize("q", [0.0, 2.5, -1.0])
def test_two_buses_by_hand(q: float) -> None:
    """Voltage drop, losses R (P^2 + Q^2)/V^2, and the load of the sending end."""
    check = checked(two_buses(q_set=q))
    v = end_voltage(6.0, q)
    current = (36 + q**2) / v**2
    np.testing.assert_allclose(check["voltage"].values.ravel(), [1.0, v], atol=1e-7)
    assert float(check["losses"].sum()) == pytest.approx(R * current, abs=1e-6)
    assert float(check["connection"].sum()) == pytest.approx(R * current, abs=1e-6)
    sent = np.hypot(6 + R * current, q + X * current)
    most = max(sent, np.hypot(6, q))
    assert float(check["loading"].sum()) == pytest.approx(most / 20, abs=1e-7)
    assert bool(check["converged"].all()) and bool(check["within_limits"].all())
    assert power_flow_violations(check).empty


def test_a_power_factor_is_reactive_load() -> None:
    """Loads without q_set take P tan(arccos 0.9); a q_set given stays."""
    q = 6 * np.tan(np.arccos(0.9))
    east = checked(two_buses(), power_factor=0.9)["voltage"].sel(bus="east")
    assert float(east.sum()) == pytest.approx(end_voltage(6.0, q), abs=1e-7)
    given = checked(two_buses(q_set=1.0), power_factor=0.9)["voltage"].sel(bus="east")
    assert float(given.sum()) == pytest.approx(end_voltage(6.0, 1.0), abs=1e-7)


def test_elastic_demand_counts_as_it_is_met() -> None:
    """B's target is 6; what A's generator, at 1 + 2G, makes of it is G = D = 2.75."""
    n = pypsa.Network()
    n.add("Bus", ["west", "east"], v_nom=10.0)
    n.add("Line", "line", bus0="west", bus1="east", r=100 * R, x=100 * X, s_nom=20.0)
    add_seller_and_buyer(n)
    check = checked(n, power_factor=0.9)
    expected = end_voltage(2.75, 2.75 * np.tan(np.arccos(0.9)))
    assert float(check["voltage"].sel(bus="east").sum()) == pytest.approx(expected, abs=1e-6)


def test_surplus_leaves_at_the_connection() -> None:
    """Must-take wind of 5 in the east, sold to nobody: the slack in the west takes it."""
    n = two_buses(load=0.0)
    n.add("Generator", "wind", bus="B", p_nom=5.0, p_min_pu=1.0)
    check = checked(n)
    v = end_voltage(-5.0, 0.0)
    assert float(check["voltage"].sel(bus="east").sum()) == pytest.approx(v, abs=1e-6)
    assert float(check["connection"].sum()) == pytest.approx(R * 25 / v**2 - 5, abs=1e-6)


@cache
def ieee14(delivery: str, s_nom: float = 9900.0, share: float = 1.0) -> pypsa.Network:
    """The case as a market of its buses, its set points of voltage within its limits."""
    n = p2p.load_grid("ieee14")
    n.buses["v_mag_pu_set"] = n.buses["v_mag_pu_set"].clip(upper=1.06)
    n.lines["s_nom"] = s_nom
    n.lines["s_max_pu"] = share
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=300.0)
    p2p.CentralizedMarket(delivery=delivery).optimize(n)
    return n


@pytest.mark.parametrize("delivery", ["grid", "trades"])
def test_ieee14_as_in_pypsas_own_power_flow(delivery: str) -> None:
    """The grid with its assets where they were, dispatched alike: PyPSA agrees on all buses."""
    n = ieee14(delivery, 100.0)
    check = check_power_flow(n)
    grid = p2p.load_grid("ieee14")
    grid.buses["v_mag_pu_set"] = grid.buses["v_mag_pu_set"].clip(upper=1.06)
    grid.generators["p_set"] = n.generators_t.p.iloc[0]
    grid.pf()
    expected = grid.buses_t.v_mag_pu[list(check["bus"].values)]
    np.testing.assert_allclose(check["voltage"].isel(scenario=0).values, expected, atol=1e-7)
    for component in ("lines", "transformers"):
        flows = grid.c[component].dynamic
        most = np.maximum(np.hypot(flows.p0, flows.q0), np.hypot(flows.p1, flows.q1))
        found = check["loading"].isel(scenario=0).sel(branch=list(most.columns))
        s_nom = 100.0 if component == "lines" else grid.transformers["s_nom"]
        np.testing.assert_allclose(found, most / s_nom, atol=1e-7)
    assert float(check["voltage"].std()) > 0.01


def test_ieee14_is_within_limits_where_lines_are_wide() -> None:
    check = check_power_flow(ieee14("grid"))
    assert bool(check["within_limits"].all())
    assert 5 < float(check["losses"].sum()) < 20


def test_ieee14_keeps_to_its_lines_where_the_market_leaves_a_margin() -> None:
    """Lines of 100 MVA: ignored by trades they carry 160, delivered 105, and 89 from 85 MW."""
    loading = {
        name: float(check_power_flow(n)["loading"].max())
        for name, n in {
            "trades": ieee14("trades", 100.0),
            "grid": ieee14("grid", 100.0),
            "margin": ieee14("grid", 100.0, 0.85),
        }.items()
    }
    assert loading["trades"] > 1.5
    assert 1.1 > loading["grid"] > 1.0 > loading["margin"] > 0.85


def test_violations_are_found_and_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    n = ieee14("trades", 100.0)
    least = n.buses["v_mag_pu_min"].where(n.buses.index != "14", 1.05)
    monkeypatch.setitem(n.buses, "v_mag_pu_min", least)  # type: ignore[misc]
    check = check_power_flow(n)
    assert not bool(check["within_limits"].any())
    table = power_flow_violations(check)
    found = table.set_index("element")
    assert list(found.index) == ["14", "line 0"] and list(found["kind"]) == ["voltage", "loading"]
    assert found.loc["14", "limit"] == pytest.approx(1.05)
    assert found.loc["14", "value"] == pytest.approx(float(check["voltage"].sel(bus="14").sum()))
    assert float(check["voltage_violation"].sel(bus="14").sum()) < -1e-3
    assert found.loc["line 0", "limit"] == pytest.approx(1.0)
    over = float(check["loading"].sel(branch="line 0").sum()) - 1
    assert float(check["loading_violation"].sum()) == pytest.approx(over)


def test_what_does_not_converge_is_said() -> None:
    """No voltage carries 30 over R + iX: V^4 + ... = 0 has no root. The other hour is fine."""
    n = two_buses(load=[6.0, 30.0], snapshots=["calm", "peak"])
    with np.errstate(invalid="ignore"):
        assert np.isnan(end_voltage(30.0, 0.0))
    check = checked(n)
    assert check["converged"].values.tolist() == [[True, False]]
    assert check["within_limits"].values.tolist() == [[True, False]]
    for name in ("voltage", "loading", "losses", "voltage_violation", "loading_violation"):
        assert bool(check[name].sel(snapshot="peak").isnull().all()), name
        assert bool(check[name].sel(snapshot="calm").notnull().all()), name
    table = power_flow_violations(check)
    assert table[["scenario", "snapshot", "kind"]].to_numpy().tolist() == [
        ["certain", "peak", "convergence"]
    ]


@cache
def scenarios() -> pypsa.Network:
    """The bundled market in its scenarios: every bus a prosumer, voltages held as in the case."""
    n = p2p.load_grid("ieee14", market=True)
    p2p.PeerToPeerMarket().optimize(n)
    return n


def test_scenarios_are_those_of_one_network_each() -> None:
    """A scenario's net imports put into the grid by hand give its voltages."""
    n = scenarios()
    check, r = check_power_flow(n), p2p.results(n)
    assert check["voltage"].dims == ("scenario", "snapshot", "bus")
    for scenario in ("0", "13"):
        grid = p2p.load_grid("ieee14")
        grid.generators["p_set"] = 0.0
        grid.remove("Load", grid.loads.index)
        taken = r["net_import"].sel(scenario=scenario).isel(snapshot=0).to_series()
        at = n.buses.xs(scenario, level="scenario")["grid_bus"].reindex(taken.index)
        grid.add("Load", list(taken.index), bus=list(at), p_set=taken.to_numpy())
        grid.pf()
        expected = grid.buses_t.v_mag_pu.iloc[0].reindex(check["bus"].values)
        found = check["voltage"].sel(scenario=scenario).isel(snapshot=0)
        np.testing.assert_allclose(found, expected, atol=1e-7)
    gap = check["connection"] - check["losses"] - r["net_import"].sum("prosumer")
    np.testing.assert_allclose(gap, 0, atol=1e-5)


def test_a_grid_may_differ_between_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line twice as long in one scenario only changes the voltages there."""
    n = scenarios()
    before = check_power_flow(n)["voltage"]
    longer = n.lines["x"].where(n.lines.index != ("4", "line 5"), 2 * n.lines["x"])
    monkeypatch.setitem(n.lines, "x", longer)  # type: ignore[misc]
    change = abs(check_power_flow(n)["voltage"] - before).max(["snapshot", "bus"])
    assert float(change.sel(scenario="4")) > 1e-5
    assert float(change.drop_sel(scenario="4").max()) < 1e-12


def test_the_network_stays_as_it_is() -> None:
    n = ieee14("grid", 100.0)
    before = {c: (n.c[c].static.copy(), sorted(n.c[c].dynamic)) for c in ("Bus", "Line", "Load")}
    names, series = n.components.loads.names.copy(), n.lines_t.p0.copy()
    check_power_flow(n)
    for component, (static, dynamic) in before.items():
        pd.testing.assert_frame_equal(n.c[component].static, static)
        assert sorted(n.c[component].dynamic) == dynamic
    assert n.components.loads.names.equals(names) and n.buses_t.v_mag_pu.empty
    pd.testing.assert_frame_equal(n.lines_t.p0, series)
    assert p2p.certify(ieee14("trades", 100.0)).is_equilibrium()


def test_links_storage_and_the_grids_own_assets() -> None:
    """The grid's own plant and battery feed a hamlet through a link that loses 10 %.

    So the east takes the 3 of B's town alone, less the battery's reactive power.
    """
    n = two_buses(load=3.0, snapshots=["one", "two"])
    n.add("Bus", "island", v_nom=10.0)
    n.add("Link", "cable", bus0="east", bus1="island", p_nom=9.0, efficiency=0.9)
    n.add("Load", "hamlet", bus="island", p_set=4.0, q_set=1.0)
    n.add("Generator", "own", bus="east", p_nom=50.0, marginal_cost=3.0)
    n.add("StorageUnit", "battery", bus="east", p_nom=1.0, max_hours=1.0, q_set=0.5,
          state_of_charge_initial=1.0)  # fmt: skip
    n.generators.loc["plant", "control"] = "Slack"
    check = checked(n)
    own = n.generators_t.p["own"] + n.storage_units_t.p["battery"]
    np.testing.assert_allclose(own, 4 / 0.9, atol=1e-6)
    assert n.storage_units_t.p["battery"].sum() == pytest.approx(1.0, abs=1e-6)
    east = check["voltage"].sel(bus="east").isel(scenario=0)
    np.testing.assert_allclose(east, end_voltage(3.0, -0.5), atol=1e-6)
    assert list(check["bus"].values) == ["west", "east"]  # no line reaches the island


def test_ratings_and_types() -> None:
    """A line type's impedance; a rating optimised; a branch without rating that carries power."""
    n = two_buses()
    n.add("LineType", "wire", f_nom=50.0, r_per_length=100 * R, x_per_length=100 * X,
          c_per_length=0.0)  # fmt: skip
    n.lines.loc["line", ["type", "length", "r", "x"]] = ["wire", 1.0, 0.0, 0.0]
    check = checked(n)
    v = end_voltage(6.0, 0.0)
    assert float(check["voltage"].sel(bus="east").sum()) == pytest.approx(v, abs=1e-7)
    n.lines["s_nom"] = 0.0
    check = check_power_flow(n)
    assert np.isinf(check["loading"].values).all() and not bool(check["within_limits"].any())
    n.lines[["s_nom_extendable", "s_nom_opt"]] = [True, 40.0]
    assert float(check_power_flow(n)["loading"].sum()) == pytest.approx(6 / v**1 / 40, rel=1e-2)


def test_loads_of_the_grid_at_held_voltage() -> None:
    """A's generator holds 1.03 in the west, given as a series; the grid bus has the set point."""
    n = two_buses()
    n.buses["v_mag_pu_set"] = 1.03
    n.generators.loc["plant", "control"] = "PV"
    check = checked(n)
    assert float(check["voltage"].sel(bus="west").sum()) == pytest.approx(1.03)
    n = two_buses()
    n.add("Generator", "keeper", bus="B", control="PV", p_nom=0.0)
    n.buses.loc["east", "v_mag_pu_set"] = 0.99
    check = checked(n)
    np.testing.assert_allclose(check["voltage"].values.ravel(), [1.0, 0.99], atol=1e-9)


def test_progress_is_shown_on_request(terminal: pytest.CaptureFixture[str]) -> None:
    n = two_buses()
    checked(n)
    assert "power flow" not in terminal.readouterr().err
    check_power_flow(n, progress=True)
    assert "power flow: 100%" in terminal.readouterr().err


def test_what_has_no_power_flow() -> None:
    n = two_buses()
    with pytest.raises(MarketError, match="no solved market"):
        check_power_flow(n)
    checked(n)
    for wrong in (0.0, 1.1, True, "0.9", float("nan")):
        with pytest.raises(DataError, match="power_factor is"):
            check_power_flow(n, power_factor=wrong)  # type: ignore[arg-type]
    bare = n.lines[["r", "x"]].copy()
    n.lines[["r", "x"]] = 0.0
    with pytest.raises(DataError, match="Line 'line' has neither resistance"):
        check_power_flow(n)
    n.lines[["r", "x"]] = bare
    n.buses.loc["B", "grid_bus"] = ""
    with pytest.raises(MarketError, match="Prosumers 'B' have no place on the grid, so that"):
        check_power_flow(n)
