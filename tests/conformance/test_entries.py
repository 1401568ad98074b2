"""What a user wrote into her own tables and is not of its kind is refused, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p


def series(index: Any, columns: Any, value: Any = 1.0) -> pd.DataFrame:
    return pd.DataFrame(np.full((len(index), len(columns)), value), index, columns)


def static(attribute: str, value: Any) -> Callable[[pypsa.Network], None]:
    def change(n: pypsa.Network) -> None:
        table = n.generators
        table[attribute] = table[attribute].astype(object)
        table.loc["gas", attribute] = value

    return change


def dynamic(component: str, attribute: str, table: pd.DataFrame) -> Callable[[pypsa.Network], None]:
    return lambda n: n.c[component].dynamic.__setitem__(attribute, table)


CASES = {
    "other hours": (
        dynamic("Generator", "p_max_pu", series([5, 6], ["gas"])),
        "'p_max_pu'.*lack 0",
    ),
    "an hour too few": (dynamic("Link", "efficiency", series([0], ["pump"])), "Link 'eff.*lack 1"),
    "an hour twice": (dynamic("Generator", "p_max_pu", series([0, 1, 1], ["gas"])), "some twice"),
    "costs of other hours": (
        dynamic("Generator", "marginal_cost", series([5, 6], ["gas"])),
        "lack 0",
    ),
    "an asset twice": (
        dynamic("Load", "p_set", series([0, 1], ["town", "town"])),
        "'town' is there",
    ),
    "flags": (
        dynamic("Generator", "marginal_cost", series([0, 1], ["gas"], True)),
        "'gas' holds True",
    ),
    "text for a sum": (static("e_sum_max", "a lot"), "'gas': e_sum_max is 'a lot'"),
    "text for a set point": (static("p_set", "high"), "'gas': p_set is 'high'"),
    "a capacity set that nobody builds": (static("p_nom_set", 5.0), "p_nom_extendable is False"),
    "a least of infinity": (static("e_sum_min", np.inf), "'gas': e_sum_min is infinite"),
    "a most of minus infinity": (static("e_sum_max", -np.inf), "'gas': e_sum_max is infinite"),
    "an infinite set point": (static("p_set", np.inf), "'gas': p_set is infinite"),
    "a ramp of minus infinity": (static("ramp_limit_up", -np.inf), "'gas': ramp_limit_up is inf"),
    "a flag that is missing": (
        static("p_nom_extendable", None),
        "'gas': p_nom_extendable is missing",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_entries_that_are_not_of_their_kind(case: str) -> None:
    """PyPSA fills hours that a series lacks with what it likes; the network stays as it is."""
    change, says = CASES[case]
    n = pypsa.Network()
    n.set_snapshots(range(2))
    n.add("Bus", ["a", "b"], carrier="AC", v_nom=110.0)
    n.add("Line", "ab", bus0="a", bus1="b", x=0.1, s_nom=100.0)
    n.add("Bus", "warm", carrier="heat")
    n.add("Link", "pump", bus0="b", bus1="warm", p_nom=5.0)
    n.add("Load", ["town", "heat"], bus=["b", "warm"], p_set=1.0)
    n.add("Generator", "gas", bus="a", p_nom=10.0, marginal_cost=30.0)
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=10.0)
    change(n)
    with pytest.raises(p2p.DataError, match=says):
        p2p.PeerToPeerMarket().optimize(n)
    assert not n.is_solved


@pytest.mark.parametrize("bus", [3, True, None, "nowhere"])
def test_assets_that_stand_nowhere_are_refused_when_they_are_assigned(bus: object) -> None:
    n = pypsa.Network()
    n.add("Bus", "a")
    n.add("Generator", "gas", bus="a", p_nom=10.0, marginal_cost=30.0)
    n.generators["bus"] = pd.Series({"gas": bus}, dtype=object)
    before = n.copy()
    with pytest.raises(p2p.DataError, match=f"Generator 'gas': bus .*{bus}.* is not a bus"):
        p2p.assign_prosumers(n, "bus")
    pd.testing.assert_frame_equal(n.buses, before.buses)
    pd.testing.assert_frame_equal(n.generators, before.generators)
