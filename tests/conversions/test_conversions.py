"""Converted networks have pandapower's power flow: a test per kind of element, then everything."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest

from pypsa_p2p.pandapower import ANGLE_OFFSET, VECTOR_GROUP, from_pandapower
from pypsa_p2p.pandapower_costs import _line
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


@pytest.mark.slow
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
