"""Small networks with one kind of element each, for pandapower's power flow and PyPSA's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

Change = Callable[[Any, Any], None]


def base(pp: Any) -> Any:
    """External grid (bus 0), 110 kV line to bus 1, transformer YNd5 to bus 2, 20 kV line to 3."""
    net = pp.create_empty_network()
    for voltage in (110.0, 110.0, 20.0, 20.0):
        pp.create_bus(net, vn_kv=voltage)
    pp.create_ext_grid(net, 0, vm_pu=1.02, va_degree=10.0)
    line(pp, net, 0, 1, length_km=30.0)
    pp.create_transformer(net, 1, 2, std_type="25 MVA 110/20 kV")
    line(pp, net, 2, 3)
    pp.create_load(net, 1, p_mw=10.0, q_mvar=3.0)
    pp.create_load(net, 3, p_mw=4.0, q_mvar=1.0, scaling=0.8)
    return net


def line(pp: Any, net: Any, start: int, end: int, length_km: float = 4.0, **options: Any) -> int:
    """A cable with charging and shunt losses."""
    data = {"r_ohm_per_km": 0.2, "x_ohm_per_km": 0.3, "c_nf_per_km": 200.0, "max_i_ka": 0.4}
    return pp.create_line_from_parameters(
        net, start, end, length_km=length_km, g_us_per_km=2.0, **data, **options
    )


def lines(pp: Any, net: Any) -> None:
    """Parallel, derated, out of service, open at one end, open at both."""
    line(pp, net, 2, 3, parallel=3, df=0.7)
    line(pp, net, 2, 3, in_service=False)
    one, both = line(pp, net, 2, 3), line(pp, net, 2, 3)
    for bus, index in ((3, one), (2, both), (3, both)):
        pp.create_switch(net, bus, index, et="l", closed=False)


def switches(pp: Any, net: Any) -> None:
    """Bus bars joined by closed switches, apart by an open one, and one with an impedance."""
    bars = [pp.create_bus(net, vn_kv=20.0) for _ in range(3)]
    pp.create_switch(net, 3, bars[0], et="b", closed=True)
    pp.create_switch(net, bars[0], bars[1], et="b", closed=False)
    pp.create_switch(net, bars[0], bars[2], et="b", closed=True, z_ohm=0.4)
    line(pp, net, 2, bars[1])
    for bar in bars:
        pp.create_load(net, bar, p_mw=1.0, q_mvar=0.4)


def transformers(pp: Any, net: Any) -> None:
    """Taps on either side, uneven leakage, a pair in parallel, out of service, open at one end."""
    net.trafo.loc[0, "tap_pos"] = 3
    for _ in range(4):
        pp.create_transformer(net, 1, 2, std_type="25 MVA 110/20 kV", tap_pos=3, parallel=2)
    net.trafo["leakage_resistance_ratio_hv"] = [0.5, 0.5, 0.5, 0.5, 0.2]
    net.trafo["leakage_reactance_ratio_hv"] = [0.5, 0.5, 0.5, 0.5, 0.7]
    net.trafo.loc[1, ["tap_side", "tap_pos"]] = ["lv", -1]
    net.trafo.loc[2, "in_service"] = False
    pp.create_switch(net, 2, 3, et="t", closed=False)


def phase_shifters(pp: Any, net: Any) -> None:
    """A phase-shifting tap beside the transformer, and another vector group below."""
    pp.create_transformer(net, 1, 2, std_type="25 MVA 110/20 kV", tap_pos=2)
    net.trafo.loc[1, ["tap_step_percent", "tap_step_degree"]] = [0.0, 1.5]
    net.trafo.loc[1, "tap_changer_type"] = "Ideal"
    low = pp.create_bus(net, vn_kv=0.4)
    pp.create_transformer(net, 3, low, std_type="0.63 MVA 20/0.4 kV")
    pp.create_load(net, low, p_mw=0.3, q_mvar=0.1)


def three_windings(pp: Any, net: Any) -> None:
    """With its vector groups and tap, and a second one open at its low-voltage side."""
    bars = [pp.create_bus(net, vn_kv=kv) for kv in (20.0, 10.0)]
    for _ in range(2):
        pp.create_transformer3w(net, 1, *bars, std_type="63/25/38 MVA 110/20/10 kV", tap_pos=2)
    pp.create_switch(net, bars[1], 1, et="t3", closed=False)
    for bar in bars:
        pp.create_load(net, bar, p_mw=5.0, q_mvar=2.0)


def impedances(pp: Any, net: Any) -> None:
    """One between lines of 110 kV, with different shunts at its ends."""
    bus = pp.create_bus(net, vn_kv=110.0)
    pp.create_impedance(net, 1, bus, rft_pu=0.02, xft_pu=0.08, sn_mva=60.0)
    shunts = {"gf_pu": 0.001, "bf_pu": 0.01, "gt_pu": 0.002, "bt_pu": 0.04}
    for column, value in shunts.items():
        net.impedance[column] = value
    pp.create_load(net, bus, p_mw=12.0, q_mvar=2.0)


def shunts(pp: Any, net: Any) -> None:
    """Rated at another voltage than its bus, in steps, and by a table."""
    pp.create_shunt(net, 3, q_mvar=-0.6, p_mw=0.02, vn_kv=21.0, step=2)
    pp.create_shunt(net, 1, q_mvar=4.0, in_service=False)
    pp.create_shunt(net, 1, q_mvar=1.0, step=2)
    net["shunt_characteristic_table"] = pd.DataFrame(
        {"id_characteristic": [0, 0], "step": [1, 2], "q_mvar": [1.0, 3.5], "p_mw": [0.1, 0.2]}
    )
    net.shunt["step_dependency_table"] = [False, False, True]
    net.shunt["id_characteristic_table"] = pd.array([pd.NA, pd.NA, 0], dtype="Int64")


def loads(pp: Any, net: Any) -> None:
    """Of constant impedance in part; a motor; one that differs by phase."""
    bus = pp.create_bus(net, vn_kv=20.0)
    line(pp, net, 3, bus)
    pp.create_load(net, bus, p_mw=2.0, q_mvar=0.7, scaling=1.5)
    net.load.loc[net.load.index[-1], ["const_z_p_percent", "const_z_q_percent"]] = [40.0, 70.0]
    pp.create_motor(
        net, 3, pn_mech_mw=1.5, cos_phi=0.85, efficiency_percent=94.0, loading_percent=80.0,
        scaling=1.1,
    )  # fmt: skip
    pp.create_asymmetric_load(
        net, 3, p_a_mw=0.3, p_b_mw=0.2, p_c_mw=0.1, q_a_mvar=0.1, q_c_mvar=0.05, scaling=0.9
    )


def generators(pp: Any, net: Any) -> None:
    """One that holds a voltage, scaled; static ones, one by phase; one out of service."""
    pp.create_gen(net, 1, p_mw=6.0, vm_pu=1.03, scaling=0.5)
    pp.create_gen(net, 3, p_mw=6.0, vm_pu=0.95, in_service=False)
    pp.create_sgen(net, 3, p_mw=2.0, q_mvar=0.5, scaling=0.6)
    pp.create_asymmetric_sgen(net, 3, p_a_mw=0.3, p_b_mw=0.2, q_c_mvar=0.1)


def storage(pp: Any, net: Any) -> None:
    """One that charges, one that discharges."""
    pp.create_storage(net, 3, p_mw=1.0, max_e_mwh=5.0, q_mvar=0.3, soc_percent=50.0)
    pp.create_storage(net, 1, p_mw=-3.0, max_e_mwh=5.0, scaling=0.5)


def wards(pp: Any, net: Any) -> None:
    """A ward; extended wards, one out of service."""
    pp.create_ward(net, 3, ps_mw=0.5, qs_mvar=0.2, pz_mw=0.3, qz_mvar=-0.4)
    data = {"ps_mw": 0.4, "qs_mvar": 0.1, "pz_mw": 0.2, "qz_mvar": 0.3, "r_ohm": 1.0, "x_ohm": 5.0}
    pp.create_xward(net, 3, vm_pu=1.01, **data)
    pp.create_xward(net, 1, vm_pu=1.05, **data, in_service=False)


def dc_lines(pp: Any, net: Any) -> None:
    """Forwards, backwards, out of service, and into an island of its own slack."""
    far = [pp.create_bus(net, vn_kv=110.0) for _ in range(2)]
    pp.create_ext_grid(net, far[0], vm_pu=0.99)
    line(pp, net, *far)
    for start, power, on in ((1, 5.0, True), (1, -2.0, True), (0, 4.0, False)):
        pp.create_dcline(
            net, start, far[1], p_mw=power, loss_percent=2.0, loss_mw=0.1, vm_from_pu=1.01,
            vm_to_pu=0.98, in_service=on,
        )  # fmt: skip


def slacks(pp: Any, net: Any) -> None:
    """A second external grid and a slack generator in one island."""
    bars = [pp.create_bus(net, vn_kv=110.0) for _ in range(2)]
    for bar in bars:
        line(pp, net, 1, bar, length_km=10.0)
    pp.create_ext_grid(net, bars[0], vm_pu=1.01, va_degree=9.0)
    pp.create_gen(net, bars[1], p_mw=3.0, vm_pu=1.0, slack=True)


def unsupplied(pp: Any, net: Any) -> None:
    """An island that no generator supplies, behind a line out of service, with a load."""
    bars = [pp.create_bus(net, vn_kv=20.0) for _ in range(2)]
    line(pp, net, *bars)
    line(pp, net, 3, bars[0], in_service=False)
    pp.create_load(net, bars[1], p_mw=3.0)


ELEMENTS: dict[str, Change] = {
    change.__name__: change
    for change in (
        lines, switches, transformers, phase_shifters, three_windings, impedances, shunts, loads,
        generators, storage, wards, dc_lines, slacks, unsupplied,
    )
}  # fmt: skip
