"""Whatever table of a solution is changed by 1 MW, the certificate notices."""

from __future__ import annotations

from functools import cache
from typing import Any

import pypsa
import pytest

import pypsa_p2p as p2p

TABLES = [
    ("Generator", "p", "gas"),
    ("Generator", "p", "plant"),
    ("Load", "p", "town"),
    ("StorageUnit", "p", "battery"),
    ("StorageUnit", "p_dispatch", "battery"),
    ("StorageUnit", "p_store", "battery"),
    ("StorageUnit", "state_of_charge", "battery"),
    ("Store", "p", "tank"),
    ("Store", "e", "tank"),
    ("Link", "p0", "cable"),
    ("Link", "p1", "cable"),
    ("Link", "p0", "pump"),
    ("Link", "p1", "pump"),
    ("Link", "p2", "pump"),
    ("Link", "p1", "a prosumer - c prosumer"),
    ("Line", "p0", "ab"),
    ("Line", "p1", "ab"),
]


@cache
def solved(delivery: Any) -> pypsa.Network:
    """Three buses in a ring, a lossless cable, a plant to build, storage and a heat pump."""
    n = pypsa.Network()
    n.set_snapshots(range(3))
    n.add("Bus", ["a", "b", "c"], carrier="AC", v_nom=110.0)
    for one, other in ("ab", "bc", "ac"):
        n.add("Line", one + other, bus0=one, bus1=other, x=0.1, s_nom=60.0)
    n.add("Link", "cable", bus0="a", bus1="c", p_nom=5.0, p_min_pu=-1.0)
    n.add("Load", "town", bus="b", p_set=[50.0, 80.0, 60.0])
    n.add("Load", "mill", bus="c", p_set=[20.0, 30.0, 50.0])
    curved = {"p_nom": 150.0, "marginal_cost_quadratic": 0.01}
    n.add("Generator", ["gas", "oil"], bus=["a", "c"], marginal_cost=[10.0, 30.0], **curved)
    built = {"p_nom_extendable": True, "p_nom_max": 100.0, "capital_cost": 20.0}
    n.add("Generator", "plant", bus="b", marginal_cost=15.0, **built)
    n.add("StorageUnit", "battery", bus="b", p_nom=10.0, max_hours=3.0, state_of_charge_initial=9.0)
    n.add("Store", "tank", bus="c", e_nom=20.0, e_initial=5.0)
    n.add("Bus", ["c heat", "c cold"], carrier="heat")
    n.add("Load", "warmth", bus="c heat", p_set=2.0)
    n.add("Load", "frost", bus="c cold", p_set=0.5)
    n.add(
        "Link", "pump", bus0="c", bus1="c heat", bus2="c cold", p_nom=5.0, efficiency=2.0,
        efficiency2=0.5,
    )  # fmt: skip
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=200.0, price=1.0)
    p2p.PeerToPeerMarket(delivery=delivery, surplus=False).optimize(n)
    return n


def test_the_market_is_certified_as_it_is() -> None:
    assert p2p.certify(solved("grid")).is_equilibrium()


@pytest.mark.parametrize(("component", "attribute", "name"), TABLES)
def test_a_table_that_was_changed(component: str, attribute: str, name: str) -> None:
    n = solved("grid")
    table = n.c[component].dynamic[attribute]
    held = table.loc[1, name]
    table.loc[1, name] = held + 1.0
    try:
        assert not p2p.certify(n).is_equilibrium()
    finally:
        table.loc[1, name] = held


@pytest.mark.parametrize(
    ("component", "attribute", "name"),
    [("StorageUnit", "p", "battery"), ("Link", "p2", "pump"), ("Line", "p1", "ab")],
)
def test_tables_that_follow_say_so(component: str, attribute: str, name: str) -> None:
    """1 MW of 150 or so, and nothing else is off."""
    n = solved("trades").copy()
    n.c[component].dynamic[attribute].loc[1, name] += 1.0
    found = p2p.certify(n)
    assert found.residuals.pop("tables that follow") > 1e-3
    assert max(found.residuals.values()) < 1e-6


def test_a_capacity_that_was_changed() -> None:
    n = solved("grid").copy()
    assert 0.0 < n.generators.at["plant", "p_nom_opt"] < 100.0
    n.generators.loc["plant", "p_nom_opt"] += 1.0
    assert not p2p.certify(n).is_equilibrium()
