"""The networks that come with pandapower, by the call that builds them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

#: Variants of a network beside its default: arguments by function.
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "case57": ({"vn_kv_area1": 132},),
    "create_cigre_network_mv": ({"with_der": "pv_wind"}, {"with_der": "all"}),
    "create_dickert_lv_network": (
        {"feeders_range": "middle", "linetype": "C&OHL", "customer": "multiple", "case": "bad"},
    ),
    "create_synthetic_voltage_control_lv_network": tuple(
        {"network_class": kind} for kind in ("rural_2", "village_1", "village_2", "suburb_1")
    ),
    "ieee_european_lv_asymmetric": ({"scenario": "off_peak_1"}, {"scenario": "off_peak_1440"}),
    "mv_oberrhein": (
        {"scenario": "generation"},
        {"scenario": "load", "include_substations": True},
    ),
    "lv_schutterwald": ({"include_heat_pumps": True},),
}
#: What takes minutes: thousands of buses, or many islands.
LARGE = frozenset(
    {
        "case1888rte", "case2848rte", "case2869pegase", "case3120sp", "case6470rte", "case6495rte",
        "case6515rte", "case9241pegase", "GBnetwork", "lv_schutterwald",
    }
)  # fmt: skip
#: Functions there that build no network by themselves.
_PARTS = frozenset({"create_dickert_lv_feeders", "sorted_from_json"})


def builders(*, large: bool = False) -> dict[str, Callable[[], Any]]:
    """Every network of pandapower.networks by the text of its call."""
    import pandapower.networks  # noqa: PLC0415  (optional)

    found = {}
    for name, function in sorted(
        vars(pandapower.networks).items(), key=lambda item: item[0].lower()
    ):
        module = getattr(function, "__module__", "")
        if not inspect.isfunction(function) or not module.startswith("pandapower.networks"):
            continue
        if name in _PARTS or (name in LARGE and not large):
            continue
        for arguments in ({}, *VARIANTS.get(name, ())):
            text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            found[f"{name}({text})"] = _quietly(function, arguments)
    return found


def _quietly(function: Callable[..., Any], arguments: dict[str, Any]) -> Callable[[], Any]:
    """The call, without pandapower's warnings about files of its older versions."""

    def build() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(**arguments)

    return build
