"""set_scenarios: what it writes, in every form, and what it refuses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

from pypsa_p2p.common.errors import DataError, P2PError
from pypsa_p2p.network.assignment.assigning import assign_prosumers
from pypsa_p2p.network.prosumers import add_prosumers
from pypsa_p2p.network.scenarios.setting import set_scenarios
from pypsa_p2p.network.trades import add_trades

NAMES = ["a", "b", "c"]
SCENARIOS = ["x", "w", "y"]  # not in alphabetical order
PROBABILITY = dict(zip(SCENARIOS, [0.2, 0.3, 0.5], strict=True))
SNAPSHOTS = pd.RangeIndex(2)


def array(values: Any, *dims: str, **labels: Any) -> xr.DataArray:
    known = {"scenario": SCENARIOS, "snapshot": SNAPSHOTS, "prosumer": NAMES}
    return xr.DataArray(values, coords={d: labels.get(d, known[d]) for d in dims}, dims=dims)


@pytest.fixture(scope="module")
def market() -> pypsa.Network:
    """Three prosumers on a grid with a line and a store; copy before changing."""
    n = pypsa.Network()
    n.set_snapshots(SNAPSHOTS)
    n.add("Carrier", "AC", color="gray")
    n.add("Bus", ["north", "south"], carrier="AC")
    n.add("Line", "line", bus0="north", bus1="south", x=0.1, r=0.1, s_nom=5.0, carrier="AC")
    n.add("Store", "tank", bus="south", e_nom=1.0, carrier="AC")
    add_prosumers(
        n,
        NAMES,
        demand=[5.0, 6.0, 7.0],
        demand_min=1.0,
        demand_max=[10.0, 11.0, 12.0],
        utility_quadratic=0.5,
        generation_max=pd.DataFrame({"a": [3.0, 4.0], "b": [0.0, 0.0], "c": [1.0, 1.0]}),
        generation_min={"a": -0.1, "b": 0.0, "c": 0.3},
        renewable=0.7,
        import_price=[1.0, 2.0, 3.0],
        risk_attitude=0.4,
        grid_bus="north",
    )
    add_trades(n, "complete", capacity=2.0)
    return n


def stochastic(market: pypsa.Network, probability: Any = None, **data: Any) -> pypsa.Network:
    n = market.copy()
    set_scenarios(n, probability or PROBABILITY, xr.Dataset(data) if data else None)
    return n


def dense(n: pypsa.Network, component: str, attribute: str, name: str) -> np.ndarray:
    """Values by scenario and snapshot."""
    frame = n.get_switchable_as_dense(component, attribute)
    return np.array([frame[(scenario, name)].to_numpy() for scenario in n.scenarios])


def power(n: pypsa.Network, attribute: str, generator: str) -> np.ndarray:
    """A limit in MW by scenario and snapshot."""
    sizes = n.c.generators.static.p_nom.xs(generator, level="name")
    assert sizes.nunique() == 1  # PyPSA wants one nominal power in all scenarios
    return dense(n, "Generator", attribute, generator) * sizes.iloc[0]


def by_scenario(*values: float) -> np.ndarray:
    return np.repeat(np.array(values)[:, None], 2, axis=1)


def test_without_data_it_is_pypsas_own(market: pypsa.Network) -> None:
    expected = market.copy()
    expected.set_scenarios(pd.Series(PROBABILITY))
    n = stochastic(market)
    for component in expected.components:
        pd.testing.assert_frame_equal(n.components[component.name].static, component.static)
    assert n.scenario_weightings["weight"].to_dict() == PROBABILITY
    assert n.c.buses.dynamic["import_price"].iloc[0]["w", "b"] == 2.0


@pytest.mark.parametrize(
    "probability",
    [
        {"x": 0.2, "w": 0.3, "y": 0.5},
        pd.Series({"x": 0.2, "w": 0.3, "y": 0.5}),
        array([0.2, 0.3, 0.5], "scenario"),
    ],
    ids=lambda probability: type(probability).__name__,
)
def test_every_form_of_probability(market: pypsa.Network, probability: Any) -> None:
    n = market.copy()
    set_scenarios(n, probability)
    assert n.equals(stochastic(market))


def test_numbered_scenarios_become_text(market: pypsa.Network) -> None:
    price = array([1.0, 2.0], "scenario", scenario=[2, 1])
    n = stochastic(market, {1: 0.5, 2: 0.5}, import_price=price)
    assert list(n.scenarios) == ["1", "2"]
    assert n.c.buses.dynamic["import_price"].iloc[0]["1", "a"] == 2.0


def test_demand_moves_and_its_limits_stay(market: pypsa.Network) -> None:
    """D - D* changes sides, D_max and D_min do not."""
    n = stochastic(market, demand=array([[1.0, 2.0, 4.0]], "snapshot", "scenario", snapshot=[0])
                   .reindex(snapshot=SNAPSHOTS, method="ffill"))  # fmt: skip
    demand = by_scenario(1.0, 2.0, 4.0)
    np.testing.assert_array_equal(dense(n, "Load", "p_set", "b demand"), demand)
    elastic = "b elastic demand"
    np.testing.assert_allclose(demand - power(n, "p_min_pu", elastic), 11.0, rtol=1e-15)
    np.testing.assert_allclose(demand - power(n, "p_max_pu", elastic), 1.0, rtol=1e-15)
    assert n.c.generators.static.p_nom["x", elastic] == 1.0


def test_labels_may_come_in_any_order_of_labels_and_dimensions(market: pypsa.Network) -> None:
    values = np.random.default_rng(3).random((3, 2, 3))
    full = array(values, "scenario", "snapshot", "prosumer")
    mixed = full.isel(scenario=[2, 0, 1], snapshot=[1, 0], prosumer=[1, 2, 0])
    expected = stochastic(market, demand=full, renewable=full)
    got = mixed.transpose("prosumer", "scenario", "snapshot")
    assert stochastic(market, demand=got, renewable=got).equals(expected)
    np.testing.assert_array_equal(dense(expected, "Load", "p_set", "c demand"), values[:, :, 2])
    np.testing.assert_allclose(
        power(expected, "p_max_pu", "c renewable"), values[:, :, 2], rtol=1e-15
    )
    np.testing.assert_array_equal(
        dense(expected, "Generator", "p_max_pu", "a renewable"),
        dense(expected, "Generator", "p_min_pu", "a renewable"),
    )


def test_all_numbers_may_differ_between_scenarios(market: pypsa.Network) -> None:
    values = array([1.0, 2.0, 4.0], "scenario")
    n = stochastic(
        market,
        demand_max=values + 10,
        demand_min=values,
        utility_quadratic=values,
        usage_benefit=values,
        fixed_cost=-values,
        generation_max=values,
        marginal_cost=values,
        marginal_cost_quadratic=values,
        import_price=values,
        risk_attitude=array([0.1, 0.2, 0.3], "prosumer"),
    )
    expected = by_scenario(1.0, 2.0, 4.0)
    demand = dense(n, "Load", "p_set", "a demand")
    np.testing.assert_array_equal(demand, 5.0)
    np.testing.assert_array_equal(demand - power(n, "p_min_pu", "a elastic demand"), expected + 10)
    np.testing.assert_array_equal(demand - power(n, "p_max_pu", "a elastic demand"), expected)
    np.testing.assert_allclose(power(n, "p_max_pu", "a generation"), expected, rtol=1e-15)
    np.testing.assert_allclose(power(n, "p_min_pu", "a generation"), -0.1, rtol=1e-15)
    for attribute, generator in [
        ("marginal_cost_quadratic", "a elastic demand"),
        ("marginal_cost_quadratic", "a generation"),
        ("marginal_cost", "a generation"),
    ]:
        np.testing.assert_array_equal(dense(n, "Generator", attribute, generator), expected)
    buses = n.c.buses.static
    assert buses.usage_benefit.xs("b", level="name")[SCENARIOS].tolist() == [1.0, 2.0, 4.0]
    assert buses.fixed_cost.xs("b", level="name")[SCENARIOS].tolist() == [-1.0, -2.0, -4.0]
    assert buses.risk_attitude.xs("c", level="name").tolist() == [0.3] * 3
    price = n.c.buses.dynamic["import_price"].loc[1]
    assert [price[scenario, "c"] for scenario in SCENARIOS] == [1.0, 2.0, 4.0]
    n.consistency_check(strict=["unknown_buses", "time_series_power_attrs"])


def test_one_limit_moves_and_the_other_stays_over_time(market: pypsa.Network) -> None:
    lower = array([[-9.0, 0.0, 1.0]], "prosumer", "scenario", prosumer=["a"])
    n = stochastic(market, generation_min=lower)
    np.testing.assert_allclose(power(n, "p_max_pu", "a generation"), [[3.0, 4.0]] * 3, rtol=1e-15)
    np.testing.assert_allclose(
        power(n, "p_min_pu", "a generation"), by_scenario(-9.0, 0.0, 1.0), atol=1e-300
    )
    np.testing.assert_array_equal(power(n, "p_min_pu", "c generation"), 0.3)
    assert n.c.generators.static.p_nom["w", "a generation"] == 9.0


def test_those_not_named_keep_theirs(market: pypsa.Network) -> None:
    values = array(
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "scenario", "prosumer", prosumer=["c", "a"]
    )
    n = stochastic(market, demand=values, demand_max=array([21.0, 22.0, 23.0], "scenario"))
    untouched = stochastic(market)
    np.testing.assert_array_equal(dense(n, "Load", "p_set", "a demand"), by_scenario(2.0, 4.0, 6.0))
    np.testing.assert_array_equal(dense(n, "Load", "p_set", "c demand"), by_scenario(1.0, 3.0, 5.0))
    np.testing.assert_array_equal(dense(n, "Load", "p_set", "b demand"), 6.0)
    for name, demand in [("a", by_scenario(2.0, 4.0, 6.0)), ("b", by_scenario(6.0, 6.0, 6.0))]:
        upper = demand - power(n, "p_min_pu", f"{name} elastic demand")
        np.testing.assert_allclose(upper, by_scenario(21.0, 22.0, 23.0), rtol=1e-15)
    pd.testing.assert_frame_equal(
        n.c.buses.dynamic["import_price"], untouched.c.buses.dynamic["import_price"]
    )
    n = stochastic(market, import_price=values)
    assert n.c.buses.dynamic["import_price"].iloc[0]["y", "b"] == 2.0
    assert n.c.buses.dynamic["import_price"].iloc[0]["y", "a"] == 6.0


def test_equal_data_leave_the_network_as_it_would_be(market: pypsa.Network) -> None:
    n = stochastic(market, demand=array([5.0, 6.0, 7.0], "prosumer"), renewable=xr.DataArray(0.7))
    assert n.equals(stochastic(market))


def test_files_copies_and_a_plain_solve(market: pypsa.Network, tmp_path: Path) -> None:
    # Targets within the limits of demand: where all lie outside, HiGHS's default QP method may stop
    # with an internal error, although the market is feasible.
    values = np.random.default_rng(5).random((3, 2, 3)) + 2.0
    full = array(values, "scenario", "snapshot", "prosumer")
    benefit = full.isel(snapshot=0, drop=True)
    n = stochastic(market, demand=full, import_price=full, usage_benefit=benefit)
    n.export_to_netcdf(tmp_path / "n.nc")
    read = pypsa.Network(tmp_path / "n.nc")
    for other in (read, n.copy()):
        price = other.c.buses.dynamic["import_price"]
        assert price.columns.names == ["scenario", "name"]
        assert price.index.equals(n.snapshots)
        demand = other.get_switchable_as_dense("Load", "p_set")
        for place, scenario in enumerate(SCENARIOS):
            np.testing.assert_array_equal(price[scenario][NAMES], values[place])
            got = other.c.buses.static.loc[scenario].usage_benefit[NAMES]
            np.testing.assert_array_equal(got, values[place, 0])
            np.testing.assert_array_equal(demand[scenario, "b demand"], values[place, :, 1])
    objectives = []
    for other in (read, n):
        status, _ = other.optimize(log_to_console=False, include_objective_constant=False)
        assert status == "ok"
        assert not other.statistics().empty
        objectives.append(other.objective)
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-6)


def test_it_adds_little_to_pypsas_own_time() -> None:
    """14 prosumers, 1000 scenarios: PyPSA needs seconds, writing the data well below one."""
    names = [f"n{number}" for number in range(14)]
    labels = [f"s{number}" for number in range(1000)]
    n = pypsa.Network()
    add_prosumers(n, names, demand=5.0, demand_max=10.0, utility_quadratic=0.5)
    values = xr.DataArray(
        np.random.default_rng(0).random((1000, 14)),
        coords={"scenario": labels, "prosumer": names},
    )
    data = xr.Dataset({"demand": values, "renewable": values, "import_price": values})
    weights = pd.Series(1e-3, index=labels)
    plain, ours = n.copy(), n.copy()
    start = time.process_time()
    plain.set_scenarios(weights)
    middle = time.process_time()
    set_scenarios(ours, weights, data)
    end = time.process_time()
    assert (end - middle) - (middle - start) < 1.0
    assert ours.c.loads.dynamic["p_set"].shape == (1, 14_000)


NAN = array([1.0, float("nan"), 2.0], "prosumer")
BAD_DATA: list[tuple[Any, str]] = [
    ({"demand": 1.0}, "data must be an xarray.Dataset, not dict"),
    (xr.Dataset({"wind": array([1.0, 2.0, 3.0], "scenario")}), "data has the unknown 'wind'"),
    (xr.Dataset({"grid_bus": array(["a"] * 3, "prosumer")}), "data has the unknown 'grid_bus'"),
    (xr.Dataset({"demand": NAN}), "demand is NaN.*'b'"),
    (
        xr.Dataset({"demand": array([1.0, 2.0, 3.0], "scenario", scenario=["x", "w", "z"])}),
        "demand lacks 'y' and has the unknown 'z'",
    ),
    (
        xr.Dataset({"demand": array([1.0, 2.0], "scenario", scenario=["x", "w"])}),
        "demand lacks 'y'",
    ),
    (
        xr.Dataset({"demand": array([1.0], "snapshot", snapshot=[0])}),
        "demand lacks 1 along 'snapshot'",
    ),
    (
        xr.Dataset({"demand": array([1.0, 2.0], "prosumer", prosumer=["a", "d"])}),
        "data is for 'd', but the network has the prosumers 'a', 'b', 'c'",
    ),
    (
        xr.Dataset({"demand": array([1.0, 2.0], "prosumer", prosumer=["a", "a"])}),
        "demand repeats.*'a'",
    ),
    (xr.Dataset({"demand": ("scenario", [1.0, 2.0, 3.0])}), "demand has no labels"),
    (xr.Dataset({"demand": array(["1", "2", "3"], "scenario")}), "demand is not a number"),
    (xr.Dataset({"demand": array([True, True, False], "scenario")}), "demand is not a number"),
    (xr.Dataset({"demand": xr.DataArray([1.0], coords={"bus": ["a"]})}), "dimension 'bus'"),
    (xr.Dataset({"renewable": array([1.0, -2.0, 3.0], "scenario")}), "renewable is negative.*'w'"),
    (
        xr.Dataset({"risk_attitude": array([0.1, 0.2, 0.3], "scenario")}),
        "risk_attitude.*'scenario'",
    ),
    (xr.Dataset({"risk_attitude": array([0.1, 1.0, 0.3], "prosumer")}), "risk_attitude is outside"),
    (xr.Dataset({"fixed_cost": array([0.1, 1.0], "snapshot")}), "fixed_cost.*'snapshot'"),
    (
        xr.Dataset({"demand_min": array([1.0, 10.5, 3.0], "scenario")}),
        "demand_min exceeds demand_max.*prosumer 'a'.*scenario 'w'",
    ),
    (
        xr.Dataset({"generation_max": array([1.0, 0.2, 3.0], "scenario")}),
        "generation_min exceeds generation_max.*prosumer 'c'.*scenario 'w'",
    ),
]


@pytest.mark.parametrize(("data", "message"), BAD_DATA)
def test_bad_data_are_refused_and_change_nothing(
    market: pypsa.Network, data: Any, message: str
) -> None:
    before = market.copy()
    with pytest.raises(DataError, match=message):
        set_scenarios(market, PROBABILITY, data)
    assert market.equals(before)


BAD_PROBABILITIES: list[tuple[Any, str]] = [
    ({"x": 0.5, "y": 0.4}, "probability sums to 0.9"),
    ({"x": 0.5, "y": 0.5 + 1e-6}, "probability sums to 1.000001"),
    ({"x": 1.0, "y": 0.0}, "probability is not positive.*'y'"),
    ({"x": 1.5, "y": -0.5}, "probability is not positive.*'y'"),
    ({"x": 0.5, "y": float("nan")}, "probability is NaN.*'y'"),
    ({"x": True}, "probability is not a number.*'x'"),
    ({"x": "1"}, "probability is not a number.*'x'"),
    ({}, "at least one"),
    ({1: 0.5, "1": 0.5}, "probability repeats scenario '1'"),
    (pd.Series([0.5, 0.5], index=["x", "x"]), "probability repeats scenario 'x'"),
    (array([0.5, 0.5], "snapshot"), "dimension 'snapshot', but may only have 'scenario'"),
    (xr.DataArray([0.5, 0.5], dims="scenario"), "no labels along 'scenario'"),
    (xr.DataArray(1.0), "at least one"),
    ({("x", 1): 1.0}, "probability has tuples"),
    (pd.Series({("x", 1): 1.0}), "probability has tuples"),
    ([0.5, 0.5], "probability must be a mapping"),
    (1.0, "probability must be a mapping"),
    (None, "probability must be a mapping"),
]


@pytest.mark.parametrize(("probability", "message"), BAD_PROBABILITIES)
def test_bad_probabilities_are_refused_and_change_nothing(
    market: pypsa.Network, probability: Any, message: str
) -> None:
    before = market.copy()
    with pytest.raises(DataError, match=message):
        set_scenarios(market, probability)
    assert market.equals(before)


def test_scenarios_are_set_once(market: pypsa.Network) -> None:
    n = stochastic(market)
    before = n.copy()
    with pytest.raises(DataError, match=r"already has the scenarios 'x', 'w', 'y'.*n\.copy\(\)"):
        set_scenarios(n, PROBABILITY)
    assert n.equals(before)


def test_thirds_are_probabilities(market: pypsa.Network) -> None:
    n = market.copy()
    set_scenarios(n, dict.fromkeys(SCENARIOS, 1 / 3))
    assert n.scenario_weightings["weight"].tolist() == [1 / 3] * 3


def test_assigned_prosumers_have_no_load_of_ours() -> None:
    n = pypsa.Network()
    n.add("Bus", "north")
    n.add("Load", "town", bus="north", p_set=3.0)
    assign_prosumers(n, {"town": "people"})
    before = n.copy()
    data = xr.Dataset({"demand": array([1.0, 2.0, 3.0], "scenario")})
    with pytest.raises(DataError, match="demand for prosumer 'people', who has no Load"):
        set_scenarios(n, PROBABILITY, data)
    assert n.equals(before)
    set_scenarios(n, PROBABILITY, data.rename(demand="import_price"))
    assert n.c.buses.dynamic["import_price"].iloc[0].tolist() == [1.0, 2.0, 3.0]


def test_data_need_prosumers() -> None:
    n = pypsa.Network()
    with pytest.raises(DataError, match="the network has the prosumers none"):
        set_scenarios(n, PROBABILITY, xr.Dataset({"demand": array([1.0, 2.0, 3.0], "scenario")}))
    set_scenarios(n, PROBABILITY)
    assert list(n.scenarios) == SCENARIOS


def test_only_networks_take_scenarios() -> None:
    with pytest.raises(P2PError, match=r"n must be a pypsa\.Network"):
        set_scenarios("n", PROBABILITY)
