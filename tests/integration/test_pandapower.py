"""Conversion of pandapower networks, against pandapower's own power flow."""

from __future__ import annotations

import copy
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError
from pypsa_p2p.network.bundled_grids import load_grid
from pypsa_p2p.network.pandapower.conversion import from_pandapower
from pypsa_p2p.network.pandapower.tables import PANDAPOWER_INDEX, PANDAPOWER_TABLE, UNLIMITED

CASES = ("case9", "case14", "case30", "case_ieee30", "case39", "case57", "case118")
MORE_CASES = ("case4gs", "case5", "case6ww", "case24_ieee_rts", "case33bw", "case89pegase")
PORTS = {"line": ("from", "to"), "trafo": ("hv", "lv")}

PANDAS_3 = int(pd.__version__.split(".")[0]) >= 3
needs_power_flow = pytest.mark.skipif(
    PANDAS_3, reason="the power flow of pandapower 3.1, which pip installs beside pandas 3, fails"
)


@pytest.fixture
def pp() -> Any:
    return pytest.importorskip("pandapower")


def case(name: str) -> Any:
    networks = pytest.importorskip("pandapower.networks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandapower about files of older versions
        return getattr(networks, name)()


def two_buses(pp: Any) -> Any:
    """A slack, a line and a load."""
    if PANDAS_3:
        pytest.skip("pandapower 3.1 cannot add elements to a network on pandas 3")
    net = pp.create_empty_network()
    one, two = (pp.create_bus(net, vn_kv=110.0) for _ in range(2))
    pp.create_ext_grid(net, one)
    pp.create_line_from_parameters(net, one, two, 10.0, 0.1, 0.4, 9.0, 0.5)
    pp.create_load(net, two, p_mw=20.0, q_mvar=5.0)
    return net


def solve_both(pp: Any, net: Any) -> pypsa.Network:
    """Convert, and run both power flows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        n = from_pandapower(net)
        pp.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-9, numba=False)
        n.pf(x_tol=1e-9)
    return n


def compare(net: Any, n: pypsa.Network) -> None:
    """Voltages in p.u., angles in degrees from the slack, flows in MW and MVar: all to 1e-6."""
    buses = n.buses[n.buses[PANDAPOWER_TABLE] == "bus"]
    voltage = net.res_bus.loc[buses[PANDAPOWER_INDEX].astype(int)]
    slack = net.res_bus.at[net.ext_grid["bus"].iloc[0], "va_degree"]
    assert n.buses_t.v_mag_pu.loc["now", buses.index].to_numpy() == pytest.approx(
        voltage["vm_pu"].to_numpy(), abs=1e-6
    )
    angle = np.degrees(n.buses_t.v_ang.loc["now", buses.index].to_numpy())
    assert angle == pytest.approx(voltage["va_degree"].to_numpy() - slack, abs=1e-6)
    assert sum(compare_flows(net, n, table) for table in PORTS) == len(net.line) + len(net.trafo)


def compare_flows(net: Any, n: pypsa.Network, table: str) -> int:
    """Compare what flows into both ends of the branches of a table; return how many there are."""
    count = 0
    for branches in (n.c.lines, n.c.transformers):
        if branches.static.empty:
            continue
        own = branches.static[branches.static[PANDAPOWER_TABLE] == table]
        flows = net[f"res_{table}"].loc[own[PANDAPOWER_INDEX].astype(int)]
        count += len(own)
        for port, side in enumerate(PORTS[table]):
            for kind, unit in (("p", "mw"), ("q", "mvar")):
                ours = branches.dynamic[f"{kind}{port}"].loc["now", own.index].fillna(0.0)
                theirs = flows[f"{kind}_{side}_{unit}"].fillna(0.0)
                assert ours.to_numpy() == pytest.approx(theirs.to_numpy(), abs=1e-6)
    return count


# --- power flow ---------------------------------------------------------------------------------


@needs_power_flow
@pytest.mark.parametrize("name", CASES + MORE_CASES)
def test_power_flow_is_pandapowers(pp: Any, name: str) -> None:
    net = case(name)
    compare(net, solve_both(pp, net))


@pytest.mark.parametrize("name", CASES)
def test_ieee_cases_convert_without_loss(pp: Any, name: str) -> None:
    net = case(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        n = from_pandapower(net)
    assert len(n.generators) == len(net.gen) + len(net.ext_grid)
    assert len(n.lines) + len(n.transformers) == len(net.line) + len(net.trafo)
    assert n.loads["p_set"].sum() == pytest.approx(net.load["p_mw"].sum())


@needs_power_flow
def test_three_windings_switches_and_impedances(pp: Any) -> None:
    """A star point, a merged bus bar, an open line end and a parallel line."""
    net = two_buses(pp)
    bars = [pp.create_bus(net, vn_kv=kv) for kv in (20.0, 10.0, 110.0)]
    pp.create_transformer3w(net, 1, bars[0], bars[1], std_type="63/25/38 MVA 110/20/10 kV")
    net.trafo3w[["shift_mv_degree", "shift_lv_degree"]] = 0.0
    pp.create_switch(net, 1, bars[2], et="b", closed=True)
    pp.create_line_from_parameters(net, 0, bars[2], 10.0, 0.1, 0.4, 9.0, 0.5, parallel=2)
    open_line = pp.create_line_from_parameters(net, 0, 1, 50.0, 0.1, 0.4, 9.0, 0.5)
    pp.create_switch(net, 1, open_line, et="l", closed=False)
    pp.create_impedance(net, 0, 1, rft_pu=0.1, xft_pu=0.3, sn_mva=100.0)
    for bar in bars:
        pp.create_load(net, bar, p_mw=5.0, q_mvar=2.0)
    n = solve_both(pp, net)
    assert "bus 4" not in n.buses.index  # merged into bus 1
    compare(net, n)


# --- data ---------------------------------------------------------------------------------------


def test_bundled_ieee14_is_this_case(pp: Any) -> None:
    ours, bundled = from_pandapower(case("case14")), load_grid("ieee14", set_points=True)
    for component in ("Bus", "Line", "Transformer", "Load", "Generator", "ShuntImpedance"):
        table = ours.c[component].static.drop(columns=[PANDAPOWER_TABLE, PANDAPOWER_INDEX])
        pd.testing.assert_frame_equal(
            bundled.c[component].static[list(table)], table, check_dtype=False, rtol=1e-14
        )


def test_network_is_left_as_it_was(pp: Any) -> None:
    net = case("case14")
    before = copy.deepcopy(net)
    from_pandapower(net)
    assert set(net) == set(before)
    for table in ("bus", "line", "trafo", "gen", "ext_grid", "load", "poly_cost"):
        pd.testing.assert_frame_equal(net[table], before[table])


def test_optimal_power_flow_costs_what_the_case_says(pp: Any) -> None:
    n = from_pandapower(case("case14"), set_points=False)
    n.optimize(include_objective_constant=False, log_to_console=False)
    assert n.objective == pytest.approx(7642.594, abs=1e-3)


def test_costs_limits_and_set_points(pp: Any) -> None:
    net = two_buses(pp)
    pp.create_gen(net, 1, p_mw=8.0, vm_pu=1.02, name="plant", min_p_mw=5.0, max_p_mw=20.0)
    pp.create_sgen(net, 1, p_mw=4.0, q_mvar=1.0, scaling=0.5, name="wind")
    pp.create_sgen(net, 1, p_mw=-3.0, name="pump", controllable=True, min_p_mw=-6.0, max_p_mw=0.0)
    pp.create_poly_cost(net, 0, "gen", cp1_eur_per_mw=30.0, cp2_eur_per_mw2=0.2, cp0_eur=7.0)
    pp.create_poly_cost(net, 1, "sgen", cp1_eur_per_mw=2.0)
    generators = from_pandapower(net).generators
    columns = ["marginal_cost", "marginal_cost_quadratic", "fixed_cost", "p_set", "q_set"]
    assert list(generators.loc["plant", columns]) == [30.0, 0.2, 7.0, 8.0, 0.0]
    assert list(generators.loc["wind", columns]) == [0.0, 0.0, 0.0, 2.0, 0.5]
    assert generators.loc["pump", "marginal_cost"] == 2.0
    low = (generators["p_nom"] * generators["p_min_pu"]).to_dict()
    high = (generators["p_nom"] * generators["p_max_pu"]).to_dict()
    assert low == {"ext_grid 0": -UNLIMITED, "plant": 5.0, "wind": 2.0, "pump": -6.0}
    assert high == {"ext_grid 0": UNLIMITED, "plant": 20.0, "wind": 2.0, "pump": 0.0}
    assert generators["control"].to_dict() == {
        "ext_grid 0": "Slack", "plant": "PV", "wind": "PQ", "pump": "PQ",
    }  # fmt: skip
    assert generators["controllable"].to_dict() == {
        "ext_grid 0": True, "plant": True, "wind": False, "pump": True,
    }  # fmt: skip
    assert from_pandapower(net, set_points=False).generators["p_set"].isna().all()


def test_controllable_is_what_pandapower_says(pp: Any) -> None:
    """But an external grid is free in any case: not controllable, it has no limits there."""
    net = two_buses(pp)
    pp.create_gen(net, 1, p_mw=8.0, controllable=False, name="must run")
    pp.create_gen(net, 1, p_mw=8.0, name="free")
    net.ext_grid["controllable"] = False
    controllable = from_pandapower(net).generators["controllable"]
    assert controllable.dtype == bool
    assert controllable.to_dict() == {"ext_grid 0": True, "must run": False, "free": True}


def test_a_case_becomes_a_market(pp: Any) -> None:
    """Its set points go with `assign_prosumers`; the cost is that of the lossless power flow."""
    n = from_pandapower(case("case14"))
    assert n.generators["p_set"].notna().all()
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=1000)
    assert p2p.CentralizedMarket().optimize(n) == ("ok", "optimal")
    assert float(p2p.results(n)["social_cost"]) == pytest.approx(7642.594, abs=1e-3)


def test_names_are_kept_made_unique_and_filled_in(pp: Any) -> None:
    net = two_buses(pp)
    net.bus["name"] = [7, None]
    for name in ("twin", "twin", "single"):
        pp.create_load(net, 1, p_mw=1.0, name=name)
    n = from_pandapower(net)
    assert list(n.buses.index) == ["7", "bus 1"]
    assert list(n.loads.index) == ["load 0", "twin (load 1)", "twin (load 2)", "single"]
    assert list(n.loads[PANDAPOWER_INDEX]) == [0, 1, 2, 3]
    assert n.lines.loc["line 0", ["bus0", "bus1"]].tolist() == ["7", "bus 1"]


def test_coordinates_new_and_old(pp: Any) -> None:
    net = two_buses(pp)
    net.bus["geo"] = ['{"coordinates": [4.5, 50.5], "type": "Point"}', None]
    assert from_pandapower(net).buses[["x", "y"]].to_numpy().tolist() == [[4.5, 50.5], [0.0, 0.0]]
    old = two_buses(pp)
    old["bus_geodata"] = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    assert from_pandapower(old).buses[["x", "y"]].to_numpy().tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_what_is_out_of_service_is_there_but_inactive(pp: Any) -> None:
    net = two_buses(pp)
    pp.create_load(net, 1, p_mw=9.0, name="off", in_service=False)
    pp.create_line_from_parameters(net, 0, 1, 1.0, 0.1, 0.4, 9.0, 0.5, name="off", in_service=False)
    n = from_pandapower(net)
    assert n.loads["active"].to_dict() == {"load 0": True, "off": False}
    assert n.lines["active"].to_dict() == {"line 0": True, "off": False}


# --- warnings and errors ------------------------------------------------------------------------


def test_one_warning_names_everything_that_is_lost(pp: Any) -> None:
    net = two_buses(pp)
    dead = pp.create_bus(net, vn_kv=110.0, name="dead", in_service=False)
    pp.create_load(net, dead, p_mw=1.0, name="orphan")
    pp.create_bus(net, vn_kv=110.0, name="island")
    for name, on in (("compensator", True), ("idle", False)):
        pp.create_svc(net, 1, 1.0, -10.0, 1.0, 120.0, name=name, in_service=on)
    pp.create_poly_cost(net, 0, "load", cp1_eur_per_mw=1.0)
    pp.create_pwl_cost(net, 0, "ext_grid", [[-1e3, 10, 1], [10, 1e3, 2]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from_pandapower(net)
    (warning,) = [entry for entry in caught if entry.category is UserWarning]
    text = str(warning.message)
    for name in ("'dead'", "'orphan'", "'island'", "'compensator'", "poly_cost 0 of load"):
        assert name in text
    assert "several slopes, now their mean from end to end: 'pwl_cost 0 of ext_grid 0'" in text
    assert "idle" not in text
    assert warning.filename == __file__


def test_second_slack_is_named(pp: Any) -> None:
    net = two_buses(pp)
    pp.create_ext_grid(net, 1, name="second")
    with pytest.warns(UserWarning, match="slack beyond the first.*'second'"):
        from_pandapower(net)


def test_no_rating_is_named(pp: Any) -> None:
    net = two_buses(pp)
    net.line["max_i_ka"] = np.nan
    with pytest.warns(UserWarning, match="without rating.*'line 0'"):
        n = from_pandapower(net)
    assert n.lines["s_nom"].tolist() == [UNLIMITED]


def test_anything_else_is_refused(pp: Any) -> None:
    for wrong in (None, {"bus": 1}, pypsa.Network()):
        with pytest.raises(DataError, match="needs a pandapower network"):
            from_pandapower(wrong)
    with pytest.raises(DataError, match="no bus in service"):
        from_pandapower(pp.create_empty_network())


def test_missing_pandapower_tells_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pandapower", "pandapower.auxiliary"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r'pip install "pypsa-p2p\[pandapower\]"'):
        from_pandapower(object())
