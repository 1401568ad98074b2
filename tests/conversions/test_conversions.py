"""Converted networks have pandapower's power flow: a test per kind of element, then everything."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest

from pypsa_p2p.common.errors import DataError
from pypsa_p2p.network.pandapower.conversion import from_pandapower
from pypsa_p2p.network.pandapower.costs import _line
from pypsa_p2p.network.pandapower.islands import ANGLE_OFFSET, VECTOR_GROUP
from tests.conversions.comparing import (
    TOLERANCE,
    compare_costs,
    compare_power_flows,
    solve_pandapower,
)
from tests.conversions.elements import ELEMENTS, base
from tests.conversions.networks import builders

pytestmark = pytest.mark.skipif(
    int(pd.__version__.split(".")[0]) >= 3,
    reason="pandapower 3.1, which pip installs beside pandas 3, has no power flow there",
)
NAMED = {
    "lines": "no generator supplies, left out: 'line 5'",
    "switches": "merged by closed switches: 'bus 4 into bus 3'",
    "shunts": "shunt out of service.*'shunt 1'",
    "loads": "sum of its phases: 'asymmetric_load 0'",
    "generators": "sum of its phases: 'asymmetric_sgen 0'",
    "storage": "without state of charge, now half full: 'storage",
    "wards": "left out: 'xward 1'",
    "slacks": "slack beyond the first.*result as set point: 'ext_grid 1', 'gen 0'",
    "unsupplied": "element that no generator.*'load 2', 'line 2', 'line 3'.*'bus 4', 'bus 5'",
}


@pytest.fixture
def pp() -> Any:
    return pytest.importorskip("pandapower")


def convert(net: Any) -> tuple[pypsa.Network, str]:
    """The converted network, and the text of the warning, if any."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        n = from_pandapower(net)
    texts = [str(one.message) for one in caught if one.filename == __file__]
    return n, " ".join(texts)


# --- elements -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ELEMENTS)
def test_element(pp: Any, kind: str) -> None:
    net = base(pp)
    assert solve_pandapower(net)
    before = net.res_bus["vm_pu"].copy()
    ELEMENTS[kind](pp, net)
    assert solve_pandapower(net)
    if kind != "unsupplied":  # the elements matter, so that leaving them out would be seen
        assert (net.res_bus["vm_pu"][before.index] - before).abs().max() > 1e-5
    n, text = convert(net)
    flows = compare_power_flows(net, n)
    assert (flows.start, flows.converged) == ("flat", True)
    assert flows.worst < TOLERANCE
    assert flows.total_losses > 0.5
    if kind in NAMED:
        assert pd.Series([text]).str.contains(NAMED[kind]).all(), text
    else:
        assert not text


def test_vector_groups_are_turned_away_and_noted(pp: Any) -> None:
    """YNd5 turns by 150 degrees and Dyn5 below it once more; the shift left over is the tap's."""
    net = base(pp)
    ELEMENTS["phase_shifters"](pp, net)
    n, _ = convert(net)
    assert n.transformers[VECTOR_GROUP].tolist() == [150.0, 150.0, 150.0]
    assert n.transformers["phase_shift"].abs().tolist() == pytest.approx([0.0, 3.0, 0.0])
    assert n.buses[ANGLE_OFFSET].tolist() == [0.0, 0.0, -150.0, -150.0, 60.0]


def test_impedances_that_differ_by_direction_are_named(pp: Any) -> None:
    net = base(pp)
    pp.create_impedance(net, 0, 1, rft_pu=0.02, xft_pu=0.08, rtf_pu=0.03, xtf_pu=0.08, sn_mva=60.0)
    _, text = convert(net)
    assert "now the forward one both ways: 'impedance 0'" in text


def test_constant_current_and_controllable_loads_are_named(pp: Any) -> None:
    net = base(pp)
    net.load.loc[0, "const_i_p_percent"] = 30.0
    net.load["controllable"] = [False, True]
    _, text = convert(net)
    assert "now of constant power: 'load 0'" in text
    assert "controllable load, now fixed: 'load 1'" in text


# --- optimisation -------------------------------------------------------------------------------


def test_storage_and_dc_lines_have_ranges_to_optimise_in(pp: Any) -> None:
    net = base(pp)
    net.bus.loc[pp.create_bus(net, vn_kv=110.0), "name"] = "far"
    pp.create_storage(
        net, 1, p_mw=0.0, max_e_mwh=6.0, soc_percent=50.0, min_p_mw=-2.0, max_p_mw=3.0,
        controllable=True,
    )  # fmt: skip
    pp.create_dcline(
        net, 1, 4, p_mw=5.0, loss_percent=20.0, loss_mw=1.0, vm_from_pu=1.0, vm_to_pu=1.0,
        max_p_mw=30.0,
    )  # fmt: skip
    pp.create_poly_cost(net, 0, "dcline", cp1_eur_per_mw=2.0, cp2_eur_per_mw2=0.5)
    with pytest.warns(UserWarning, match=r"over\. bus without a slack in its island.*: 'far'\.$"):
        n = from_pandapower(net, set_points=False)
    unit = n.storage_units.loc["storage 0"]
    assert (unit["p_nom"] * unit[["p_min_pu", "p_max_pu"]]).tolist() == [-3.0, 2.0]
    assert unit["p_nom"] * unit["max_hours"] == pytest.approx(6.0)
    assert unit["state_of_charge_initial"] == 3.0
    link = n.links.loc["dcline 0"]
    assert list(link[["p_nom", "efficiency", "marginal_cost"]]) == [30.0, 0.8, 2.0]
    assert link["marginal_cost_quadratic"] == 0.5
    assert n.loads.at["dcline 0 loss", "p_set"] == 1.0
    for component in ("Generator", "Link", "StorageUnit"):
        assert n.c[component].static["p_set"].isna().all()


@pytest.mark.parametrize(
    ("areas", "low", "high", "line"),
    [
        ([[0, 10, 3]], 0, 10, (0.0, 3.0, True)),
        ([[0, 5, 3], [5, 10, 3]], -2, 12, (0.0, 3.0, True)),
        # above 4 MW the cost is 4 * 1 + 6 (p - 4)
        ([[0, 4, 1], [4, 10, 6]], 5, 9, (-20.0, 6.0, True)),
        # 2 MW cost 2, 6 MW cost 4 + 12: 14 / 4 per MW between
        ([[0, 4, 1], [4, 10, 6]], 2, 6, (-5.0, 3.5, False)),
        ([[-10, 0, 2], [0, 10, 4]], -1e6, 1e6, (10.0, 3.0, False)),
    ],
)
def test_piecewise_costs_by_hand(
    areas: list[list[float]], low: float, high: float, line: tuple[float, float, bool]
) -> None:
    assert _line(areas, low, high) == pytest.approx(line)


def test_piecewise_costs_are_pandapowers(pp: Any) -> None:
    """A generator that can only reach the dear piece: exact; one on a kink: named."""
    net = base(pp)
    pp.create_gen(net, 1, p_mw=6.0, min_p_mw=5.0, max_p_mw=9.0)
    pp.create_pwl_cost(net, 0, "gen", [[0, 4, 1], [4, 10, 6]])
    pp.create_pwl_cost(net, 0, "ext_grid", [[-100, 100, 20]])
    n, text = convert(net)
    assert not text
    assert n.generators.loc["gen 0", ["marginal_cost", "fixed_cost"]].tolist() == [6.0, -20.0]
    costs = compare_costs(net)
    # 13.2 MW of load: 9 from the generator at 4 + 5 * 6, 4.2 from the grid
    assert costs.theirs == pytest.approx(34 + 4.2 * 20, abs=1e-4)
    assert costs.with_shunts == pytest.approx(34 + 4.2 * 20)
    net.gen["min_p_mw"] = 0.0
    n, text = convert(net)
    assert "cost of several slopes, now their mean from end to end: 'pwl_cost 0 of gen 0'" in text
    assert n.generators.at["gen 0", "marginal_cost"] == pytest.approx((4 + 5 * 6) / 9)


def test_shunts_are_all_that_optimal_costs_differ_by(pp: Any) -> None:
    """Conductances, which PyPSA's optimisation does not see, cost what their power costs."""
    net = base(pp)
    pp.create_shunt(net, 1, q_mvar=0.0, p_mw=2.0)
    pp.create_poly_cost(net, 0, "ext_grid", cp1_eur_per_mw=20.0)
    costs = compare_costs(net)
    assert costs.theirs == pytest.approx(20 * 15.2, rel=1e-6)
    assert costs.ours == pytest.approx(20 * 13.2)
    assert costs.with_shunts == pytest.approx(20 * 15.2)


# --- every network of pandapower ----------------------------------------------------------------


def calls() -> list[str]:
    """The networks to compare, none without pandapower."""
    try:
        return list(builders())
    except ImportError:
        return []


@pytest.mark.parametrize("call", calls())
def test_network(pp: Any, call: str) -> None:
    """What pandapower can solve, PyPSA solves from its flat start with the same result."""
    net = builders()[call]()
    for part in net if isinstance(net, list | tuple) else [net]:
        if not solve_pandapower(part):
            pytest.skip("pandapower's own power flow does not converge")
        flows = compare_power_flows(part, convert(part)[0])
        assert flows.start == "flat"
        assert np.isfinite(flows.total_losses)
        assert flows.worst < TOLERANCE


# --- names, small networks and bad numbers ------------------------------------------------------


def line_to(pp: Any, net: Any, bus0: int, bus1: int, **options: Any) -> int:
    return int(
        pp.create_line(net, bus0, bus1, 1.0, std_type="NA2XS2Y 1x240 RM/25 12/20 kV", **options)
    )


def two_buses(pp: Any) -> Any:
    net = pp.create_empty_network()
    pp.create_bus(net, 20.0), pp.create_bus(net, 20.0)
    pp.create_ext_grid(net, 0)
    line_to(pp, net, 0, 1)
    pp.create_load(net, 1, 2.0, 0.5, name="A")
    return net


def collide(pp: Any, net: Any, kind: str) -> None:
    """An element with the name that another's second part gets."""
    if kind == "constant impedance":
        net.load["const_z_p_percent"] = 50.0
        pp.create_shunt(net, 1, -0.5, 0.1, name="A at constant impedance")
    elif kind == "loss of a dc line":
        far = pp.create_bus(net, 20.0)
        line_to(pp, net, 0, far)
        pp.create_dcline(net, 1, far, 1.0, 2.0, 0.05, 1.0, 1.0, name="D")
        pp.create_load(net, 1, 3.0, 0.5, name="D loss")
    elif kind == "open end":
        far = pp.create_bus(net, 20.0, name="M bus1")
        line_to(pp, net, 1, far)
        opened = line_to(pp, net, 0, far, name="M")
        pp.create_load(net, far, 5.0)
        pp.create_switch(net, far, opened, "l", closed=False)
    else:
        line_to(pp, net, 0, 1)
        net.line["name"] = ["switch 7", "switch 7'"]
        pp.create_switch(net, 0, 1, "b", z_ohm=0.3, index=7)


@pytest.mark.parametrize(
    "kind", ["constant impedance", "loss of a dc line", "open end", "switch with impedance"]
)
def test_names_made_up_give_way_to_names_given(pp: Any, kind: str) -> None:
    net = two_buses(pp)
    collide(pp, net, kind)
    assert solve_pandapower(net)
    n, _ = convert(net)
    assert compare_power_flows(net, n).worst < TOLERANCE
    if kind == "switch with impedance":
        assert n.lines["pandapower_index"].tolist() == [0, 1, 7]


@pytest.mark.parametrize("transformer", [True, False])
def test_networks_without_lines(pp: Any, transformer: bool) -> None:
    net = pp.create_empty_network()
    end = pp.create_bus(net, 20.0)
    pp.create_ext_grid(net, end)
    if transformer:
        end = pp.create_bus(net, 0.4)
        pp.create_transformer(net, 0, end, std_type="0.63 MVA 20/0.4 kV")
    pp.create_load(net, end, 0.2)
    assert solve_pandapower(net)
    assert compare_power_flows(net, convert(net)[0]).worst < TOLERANCE


def test_a_dc_line_to_a_bus_out_of_service_is_named(pp: Any) -> None:
    net = two_buses(pp)
    off = pp.create_bus(net, 20.0, in_service=False)
    pp.create_dcline(net, 0, off, 0.5, 1.0, 0.01, 1.0, 1.0)
    assert "dcline on a bus out of service: 'dcline 0'" in convert(net)[1]


@pytest.mark.parametrize("power", [-2.0, 2.0])
@pytest.mark.parametrize("set_points", [True, False])
def test_storage_that_is_not_controllable_keeps_its_set_point(
    pp: Any, power: float, set_points: bool
) -> None:
    """5 MW of load at 10 EUR/MWh, and 2 MW more or less of it for the battery."""
    net = two_buses(pp)
    net.load["p_mw"] = 5.0
    pp.create_poly_cost(net, 0, "ext_grid", 10.0)
    pp.create_storage(net, 1, power, 10.0, soc_percent=50.0)
    n = from_pandapower(net, set_points=set_points)
    n.generators["p_set"] = np.nan
    assert n.optimize(log_to_console=False)[0] == "ok"
    assert n.objective == pytest.approx(10 * (5 + power))


def test_what_is_not_looked_at_is_named(pp: Any) -> None:
    net = two_buses(pp)
    pp.set_user_pf_options(net, trafo_model="pi")
    pp.create_bus(net, 20.0)
    net.bus.loc[2, "geo"] = '{"coordinates": [[0, 1], [2, 3]], "type": "LineString"}'
    pp.create_storage(net, 1, 1.0, 10.0)
    text = convert(net)[1]
    for named in ("not looked at: 'trafo_model'", "no GeoJSON point, left out: 'bus 2'"):
        assert named in text
    assert "storage without state of charge, now half full: 'storage 0'" in text


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("load", "p_mw", np.nan), ("line", "length_km", np.nan), ("line", "length_km", 0.0)],
)
def test_numbers_that_are_missing_are_refused(
    pp: Any, table: str, column: str, value: float
) -> None:
    net = two_buses(pp)
    net[table][column] = value
    with pytest.raises(DataError, match=f"{table} .*: {column} is missing"):
        from_pandapower(net)


def test_what_is_out_of_service_may_lack_numbers(pp: Any) -> None:
    net = two_buses(pp)
    pp.create_bus(net, 20.0, in_service=False)
    pp.create_load(net, 2, np.nan)
    pp.create_storage(net, 1, 1.0, 10.0, in_service=False)
    assert "half full" not in convert(net)[1]


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("load", "bus", 7, "load 'A': bus 7 is not in the pandapower network"),
        ("line", "to_bus", 7, "line 'line 0': to_bus 7 is not in the pandapower network"),
        ("load", "scaling", "much", "scaling holds 'much', which is no number, at index 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    pp: Any, table: str, column: str, value: Any, said: str
) -> None:
    net = two_buses(pp)
    net[table][column] = pd.Series([value], net[table].index, dtype=type(value))
    with pytest.raises(DataError, match=said):
        from_pandapower(net)


@pytest.mark.parametrize("table", [None, [1, 3]])
def test_steps_that_no_table_tells_are_refused(pp: Any, table: list[int] | None) -> None:
    net = two_buses(pp)
    pp.create_shunt(net, 1, q_mvar=1.0, step=2)
    net.shunt["step_dependency_table"] = True
    net.shunt["id_characteristic_table"] = 0
    if table is not None:
        rows = {"id_characteristic": 0, "step": table, "q_mvar": 1.0, "p_mw": 0.1}
        net["shunt_characteristic_table"] = pd.DataFrame(rows)
    with pytest.raises(DataError, match="shunt 'shunt 0': shunt_characteristic_table has no power"):
        from_pandapower(net)
