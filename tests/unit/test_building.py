"""The plain model and its solution's tables are PyPSA's own; everything else is left to PyPSA."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.tables import dynamic_values, static_values
from pypsa_p2p.formulation.model import build_plain_model, is_plain
from pypsa_p2p.network.reading import read_market
from tests.reference.instances import random_instance
from tests.reference.package import network

pytestmark = pytest.mark.filterwarnings("ignore::linopy.config.LinopySemanticsWarning:pypsa")


def market_network(seed: int, scenarios: int = 3) -> pypsa.Network:
    """Five prosumers over two snapshots."""
    return network(random_instance(seed, 5, scenarios, 2, congestion=seed % 2 == 1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scenarios", [1, 3])  # 1: a network without any
def test_the_plain_model_is_the_one_pypsa_creates(seed: int, scenarios: int) -> None:
    n = market_network(seed, scenarios)
    assert n.has_scenarios == (scenarios > 1)
    ours = build_plain_model(n, read_market(n))
    theirs = n.optimize.create_model(include_objective_constant=False)

    assert list(ours.variables) == list(theirs.variables)
    assert list(ours.constraints) == list(theirs.constraints)
    for name in theirs.variables:
        assert ours[name].labels.equals(theirs[name].labels)
    for name in theirs.constraints:
        assert ours.constraints[name].labels.equals(theirs.constraints[name].labels)
    mine, other = ours.matrices, theirs.matrices
    for array in ("vlabels", "clabels", "sense"):
        assert (getattr(mine, array) == getattr(other, array)).all()
    for array in ("lb", "ub", "b"):
        np.testing.assert_allclose(getattr(mine, array), getattr(other, array), rtol=1e-14)
    np.testing.assert_allclose(mine.c, other.c, rtol=1e-14, atol=1e-90)  # trades: next to nothing
    for array in ("A", "Q"):
        dense = (getattr(m, array).toarray() for m in (mine, other))
        np.testing.assert_allclose(*dense, rtol=1e-14)


def test_a_bus_with_several_loads_or_none() -> None:
    n = market_network(0)
    n.add("Bus", "nobody's", carrier="")
    n.add("Load", "second", bus="p0", p_set=2.0)
    n.add("Generator", "own", bus="nobody's", p_nom=1.0)
    data = read_market(n)
    assert is_plain(n, data)
    ours = build_plain_model(n, data).constraints["Bus-nodal_balance"]
    theirs = n.optimize.create_model(include_objective_constant=False)
    wanted = theirs.constraints["Bus-nodal_balance"].rhs
    xr.testing.assert_allclose(ours.rhs, wanted.transpose(*ours.rhs.dims), rtol=1e-14)


def _set(component: str, attribute: str, value: object) -> Callable[[pypsa.Network], None]:
    """Set an attribute of one component in the last scenario only."""

    def edit(n: pypsa.Network) -> None:
        static = n.c[component].static
        static.loc[static.index[-1], attribute] = value

    return edit


EDITS: dict[str, Callable[[pypsa.Network], object]] = {
    "storage": lambda n: n.add("StorageUnit", "battery", bus="p0", p_nom=1.0),
    "store": lambda n: n.add("Store", "tank", bus="p0", e_nom=1.0),
    "line": lambda n: [n.add("Bus", "x"), n.add("Line", "l", bus0="p0", bus1="x", s_nom=1, x=1)],
    "link that is no trade": lambda n: [
        n.add("Bus", "x"),
        n.add("Link", "heat", bus0="p0", bus1="x", p_nom=1.0),
    ],
    "ramp limit": _set("Generator", "ramp_limit_up", 0.5),
    "committable": _set("Generator", "committable", True),
    "extendable": _set("Generator", "p_nom_extendable", True),
    "sign": _set("Load", "sign", 1.0),
    "efficiency": _set("Link", "efficiency", 0.9),
    "inactive generator": _set("Generator", "active", False),
    "inactive load": _set("Load", "active", False),
    "energy limit": _set("Generator", "e_sum_max", 1.0),
    "fixed dispatch": _set("Generator", "p_set", 0.1),
    "global constraint": lambda n: n.add("GlobalConstraint", "co2", sense="<=", constant=1.0),
    "load without supply": lambda n: [n.add("Bus", "x"), n.add("Load", "l", bus="x", p_set=1.0)],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_anything_else_is_not_plain(edit: Callable[[pypsa.Network], object]) -> None:
    n = market_network(0)
    data = read_market(n)
    assert is_plain(n, data)
    edit(n)
    assert not is_plain(n, data)


def _assert_same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Equal up to what differs between pandas' ways to hold strings."""
    assert ours.index.tolist() == theirs.index.tolist()
    assert ours.columns.tolist() == theirs.columns.tolist()
    for k in range(theirs.shape[1]):
        found, wanted = ours.iloc[:, k].to_numpy(), theirs.iloc[:, k].to_numpy()
        if theirs.dtypes.iloc[k].kind == "f":
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)
        else:
            assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("some", [False, True], ids=["all snapshots", "one snapshot"])
@pytest.mark.parametrize("scenarios", [1, 3])
def test_tables_are_those_that_pypsa_writes(some: bool, scenarios: int) -> None:
    n, theirs = market_network(1, scenarios), market_network(1, scenarios)
    market = p2p.PeerToPeerMarket()
    sns = n.snapshots[1:] if some else n.snapshots
    market.optimize(n, sns)
    market.optimize(theirs, sns, extra_functionality=lambda n, sns: None)
    for component in ("Generator", "Load", "Link", "Bus"):
        ours, wanted = n.c[component], theirs.c[component]
        written = {name for name, table in wanted.dynamic.items() if not table.empty}
        assert written <= {name for name, table in ours.dynamic.items() if not table.empty}
        for name in written:  # PyPSA's table of angles has the solved snapshots only
            table = wanted.dynamic[name]
            _assert_same(ours.dynamic[name].loc[table.index], table)
        topology = ["sub_network", "generator", "control"]  # `create_model` determines it besides
        _assert_same(*(c.static.drop(columns=topology, errors="ignore") for c in (ours, wanted)))
    assert n.objective == pytest.approx(theirs.objective, rel=1e-12)


def test_values_are_found_whatever_the_order_of_a_table() -> None:
    """A component added after the scenarios were set stands at the end of PyPSA's tables."""
    n = market_network(0)
    n.add("Generator", "late", bus="p0", p_nom=7.0, marginal_cost=[1.0, 2.0])
    names = pd.Index(["late", "p1 generation", "unknown"])
    p_nom = static_values(n, "Generator", "p_nom", names)
    assert (p_nom.sel(name="late") == 7.0).all()
    assert (
        p_nom.sel(name="p1 generation") == n.generators.loc[("s1", "p1 generation"), "p_nom"]
    ).all()
    assert p_nom.sel(name="unknown").isnull().all()
    cost = dynamic_values(n, "Generator", "marginal_cost", names[:2], n.snapshots)
    assert (cost.sel(name="late") == [1.0, 2.0]).all()

    static = n.c["Generator"].static
    static.loc[("s2", "late"), "p_nom"] = 9.0
    n.c["Generator"].static = static.iloc[np.random.default_rng(0).permutation(len(static))]
    shuffled = static_values(n, "Generator", "p_nom", names)
    assert shuffled.sel(name="late").to_numpy().tolist() == [7.0, 7.0, 9.0]
