"""add_prosumers and assign_prosumers: what they build, in every form, and what they refuse."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

from pypsa_p2p.common.errors import DataError, P2PError
from pypsa_p2p.network.prosumers import add_prosumers, prosumer_names
from pypsa_p2p.network.scenarios.setting import set_scenarios
from pypsa_p2p.network.trades import add_trades

mpl.use("Agg")

NAMES = ["a", "b", "c"]
SNAPSHOTS = pd.date_range("2030-01-01", periods=2, freq="h")
REQUIRED: dict[str, Any] = {"demand": 5.0, "demand_max": 10.0, "utility_quadratic": 0.5}


def empty() -> pypsa.Network:
    n = pypsa.Network()
    n.set_snapshots(SNAPSHOTS)
    n.add("Carrier", "AC", color="gray")
    n.add("Bus", "north", carrier="AC", x=4.0, y=50.0)
    return n


def built(**values: Any) -> pypsa.Network:
    n = empty()
    add_prosumers(n, NAMES, **{**REQUIRED, **values})
    return n


def limits(n: pypsa.Network, generator: str) -> tuple[list[float], list[float]]:
    """Lower and upper limit of a generator in every snapshot, MW."""
    size = n.generators.p_nom[generator]
    low = n.get_switchable_as_dense("Generator", "p_min_pu")[generator] * size
    high = n.get_switchable_as_dense("Generator", "p_max_pu")[generator] * size
    return low.tolist(), high.tolist()


def test_every_prosumer_is_a_bus_a_load_and_three_generators() -> None:
    n = built(
        demand_min=1.0,
        usage_benefit=[1, 2, 3],
        fixed_cost=0.25,
        generation_min={"a": -1.0, "b": 0.0, "c": 2.0},
        generation_max={"a": 4.0, "b": 0.0, "c": 3.0},
        marginal_cost=7.0,
        marginal_cost_quadratic=0.1,
        renewable=[0.0, 6.0, 0.3],
        risk_attitude={"c": 0.9, "a": 0.0, "b": 0.5},
        import_price=30.0,
        grid_bus={"a": "north", "b": "", "c": "north"},
    )
    assert list(prosumer_names(n)) == NAMES
    buses = n.buses.loc[NAMES]
    assert buses.carrier.eq("prosumer").all()
    assert buses.risk_attitude.tolist() == [0.0, 0.5, 0.9]
    assert buses.usage_benefit.tolist() == [1.0, 2.0, 3.0]
    assert buses.fixed_cost.tolist() == [0.25] * 3
    assert buses.grid_bus.tolist() == ["north", "", "north"]
    assert buses.x.tolist() == [4.0, 0.0, 4.0]
    assert buses.y.tolist() == [50.0, 0.0, 50.0]
    assert n.c.buses.dynamic["import_price"].shape == (2, 3)
    assert (n.c.buses.dynamic["import_price"] == 30.0).all(axis=None)
    assert n.loads.p_set.tolist() == [5.0] * 3
    assert n.loads.bus.tolist() == NAMES
    assert limits(n, "a elastic demand") == ([-5.0] * 2, [4.0] * 2)
    assert n.generators.marginal_cost_quadratic["a elastic demand"] == 0.5
    assert n.generators.p_nom["a elastic demand"] == 1.0
    assert limits(n, "a generation") == ([-1.0] * 2, [4.0] * 2)
    assert limits(n, "b generation") == ([0.0] * 2, [0.0] * 2)
    assert limits(n, "c generation") == ([2.0] * 2, [3.0] * 2)
    assert n.generators.marginal_cost["a generation"] == 7.0
    assert n.generators.marginal_cost_quadratic["a generation"] == 0.1
    assert limits(n, "b renewable") == ([6.0] * 2, [6.0] * 2)
    assert n.generators.p_nom[["a renewable", "c renewable"]].tolist() == [0.0, 0.3]


def test_one_name_may_come_as_text() -> None:
    n = empty()
    add_prosumers(n, "alice", **REQUIRED)
    assert list(prosumer_names(n)) == ["alice"]


def table(by_prosumer: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(by_prosumer, index=SNAPSHOTS)


def array(values: Any, **labels: Any) -> xr.DataArray:
    return xr.DataArray(values, coords=labels, dims=list(labels))


BY_PROSUMER = {
    "list": [1.0, 2.0, 4.0],
    "tuple": (1, 2, 4),
    "numpy": np.array([1, 2, 4]),
    "index": pd.Index([1.0, 2.0, 4.0]),
    "mapping": {"c": 4, "a": 1, "b": np.float64(2.0)},
    "series": pd.Series({"b": 2.0, "c": 4.0, "a": 1.0}),
    "frame": table({"c": [4, 4], "b": [2, 2], "a": [1, 1]}),
    "frame of objects": table({"c": [4, 4], "b": [2, 2], "a": [1, 1]}).astype(object),
    "array": array([4, 2, 1], prosumer=["c", "b", "a"]),
    "array of both": array(
        [[4, 4], [1, 1], [2, 2]], prosumer=["c", "a", "b"], snapshot=SNAPSHOTS[::-1]
    ),
}


@pytest.mark.parametrize("argument", ["demand", "renewable", "marginal_cost", "import_price"])
@pytest.mark.parametrize("form", BY_PROSUMER)
def test_every_form_gives_the_same_network(form: str, argument: str) -> None:
    expected = built(**{argument: [1.0, 2.0, 4.0]})
    assert built(**{argument: BY_PROSUMER[form]}).equals(expected)


@pytest.mark.parametrize("scalar", [2, 2.0, np.int64(2), np.array(2.0), xr.DataArray(2)])
def test_every_scalar_gives_the_same_network(scalar: Any) -> None:
    assert built(demand=scalar, risk_attitude=0).equals(built(demand=[2.0, 2.0, 2.0]))


def test_values_that_vary_over_time_align_by_label() -> None:
    frame = table({"c": [5.0, 6.0], "a": [1.0, 2.0], "b": [3.0, 3.0]})
    n = built(demand=frame.iloc[::-1])
    assert n.equals(built(demand=xr.DataArray(frame, dims=("snapshot", "prosumer"))))
    loads = n.get_switchable_as_dense("Load", "p_set")
    assert loads["a demand"].tolist() == [1.0, 2.0]
    assert loads["c demand"].tolist() == [5.0, 6.0]
    assert list(n.loads_t.p_set) == ["a demand", "c demand"]  # b is constant, hence static
    assert limits(n, "c elastic demand") == ([-5.0, -4.0], [5.0, 6.0])


def test_an_array_over_snapshots_alone_holds_for_everyone() -> None:
    n = built(import_price=array([3.0, 1.0], snapshot=SNAPSHOTS[::-1]))
    assert n.c.buses.dynamic["import_price"].to_numpy().tolist() == [[1.0] * 3, [3.0] * 3]


def test_must_take_generation_is_exact() -> None:
    values = np.random.default_rng(1).random((2, 3)) * 1e3
    n = built(renewable=pd.DataFrame(values, SNAPSHOTS, NAMES))
    for name, column in zip(NAMES, values.T, strict=True):
        low, high = limits(n, f"{name} renewable")
        assert low == high
        np.testing.assert_allclose(low, column, rtol=1e-15)
        assert n.generators.p_nom[f"{name} renewable"] == column.max()


def test_periods_and_timesteps() -> None:
    n = pypsa.Network()
    n.set_snapshots(pd.MultiIndex.from_product([[2030, 2040], [0, 1]]))
    n.investment_periods = [2030, 2040]
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}, index=n.snapshots)
    add_prosumers(n, ["a"], **{**REQUIRED, "demand": frame.iloc[::-1], "renewable": frame})
    assert n.loads_t.p_set["a demand"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert n.get_switchable_as_dense("Load", "p_set").index.equals(n.snapshots)


def test_prosumers_join_one_after_another() -> None:
    n = empty()
    for name, price in zip(NAMES, [1.0, 2.0, 3.0], strict=True):
        add_prosumers(n, [name], **REQUIRED, import_price=price)
    expected = n.c.buses.dynamic["import_price"]
    assert expected.iloc[0].to_dict() == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert n.c.carriers.static.index.is_unique


def test_prosumers_join_a_stochastic_network() -> None:
    n = empty()
    add_prosumers(n, ["a"], **REQUIRED, import_price=1.0)
    set_scenarios(n, {"x": 0.5, "w": 0.5})
    demand = array([[1.0, 2.0], [3.0, 4.0]], scenario=["w", "x"], prosumer=["c", "b"])
    add_prosumers(n, ["b", "c"], **{**REQUIRED, "demand": demand}, import_price=7.0)
    add_trades(n, [("c", "a")], capacity=2.0)
    assert list(prosumer_names(n)) == NAMES
    loads = n.get_switchable_as_dense("Load", "p_set").iloc[0]
    assert loads["x", "b demand"] == 4.0
    assert loads["w", "b demand"] == 2.0
    assert loads["w", "c demand"] == 1.0
    assert loads["w", "a demand"] == 5.0
    prices = n.c.buses.dynamic["import_price"].iloc[0]
    assert prices["w", "a"] == 1.0
    assert prices["x", "c"] == 7.0
    n.consistency_check(strict=["unknown_buses", "unknown_carriers", "time_series_power_attrs"])


def test_pypsa_finds_nothing_to_warn_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        n = built(generation_max=3.0, grid_bus="north", demand_min=6.0)
        add_trades(n, "complete", capacity=1.0)
        n.add("Load", "town", bus="north", carrier="AC")
        n.consistency_check()
    assert [record.getMessage() for record in caplog.records] == []


def test_copies_files_and_other_buses(tmp_path: Path) -> None:
    n = built(import_price=table({"a": [1, 2], "b": [3, 4], "c": [5, 6]}), grid_bus="north")
    n.add("Bus", "south")
    n.export_to_netcdf(tmp_path / "n.nc")
    read = pypsa.Network(tmp_path / "n.nc")
    for other in (n.copy(), n.copy(snapshots=n.snapshots), read):
        pd.testing.assert_frame_equal(
            other.c.buses.dynamic["import_price"],
            n.c.buses.dynamic["import_price"],
            check_freq=False,
            check_index_type=False,
            check_column_type=False,
        )
        assert other.buses.grid_bus[["north", *NAMES]].tolist() == ["", *["north"] * 3]
        assert list(prosumer_names(other)) == NAMES
    add_prosumers(read, ["d"], **REQUIRED, import_price=9.0)
    assert read.c.buses.dynamic["import_price"]["d"].tolist() == [9.0, 9.0]


def test_plain_pypsa_solves_plots_and_sums_up() -> None:
    """b has free power and sells 3 MW (the edge's limit) to a; c meets her own demand.

    a: D* = 5, utility 0.5 (D - 5)^2, own generation at 2 D = 4: D = 3 + G. Without the edge she
    would generate until 0.5 * 2 (5 - D) = 2, D = 3; with 3 MW from b she stays at D = 3, G = 0.
    """
    n = built(
        demand=[5.0, 0.0, 1.0],
        demand_max=[10.0, 0.0, 1.0],
        generation_max=10.0,
        marginal_cost=[2.0, 0.0, 0.0],
    )
    add_trades(n, [("a", "b")], capacity=3.0)
    status, _ = n.optimize(log_to_console=False, include_objective_constant=False)
    assert status == "ok"
    elastic = n.generators_t.p["a elastic demand"]
    np.testing.assert_allclose(elastic, 2.0, atol=1e-5)
    np.testing.assert_allclose(n.links_t.p0["a - b"], -3.0, atol=1e-5)
    np.testing.assert_allclose(n.generators_t.p["a generation"], 0.0, atol=1e-5)
    assert n.statistics().loc[("Generator", "flexible generation"), "Supply"] == pytest.approx(8.0)
    n.plot()


def bad_table(problem: str) -> pd.DataFrame:
    frame = table({"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [1.0, 2.0]})
    if problem == "snapshot":
        return frame.set_axis(SNAPSHOTS + pd.Timedelta("1D"))
    return frame.set_axis(pd.MultiIndex.from_product([["x"], NAMES]), axis=1)


BAD_VALUES: list[tuple[str, Any, str]] = [
    ("demand", [1.0, 2.0], "demand has 2 values.* 3 labels"),
    ("demand", [1.0, 2.0, 3.0, 4.0], "demand has 4 values"),
    ("demand", [1.0, float("nan"), 3.0], "demand is NaN.*'b'"),
    ("demand_max", float("inf"), "demand_max is NaN or infinite"),
    ("demand_max", {"a": 1.0, "b": 2.0}, "demand_max lacks 'c'"),
    ("demand_max", {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, "demand_max has the unknown 'd'"),
    ("renewable", pd.Series([1.0, 2.0, 3.0]), "renewable lacks 'a', 'b', 'c' and has the unknown"),
    ("renewable", pd.Series([1.0] * 4, index=[*NAMES, "a"]), "renewable repeats.*'a'"),
    ("demand", bad_table("snapshot"), "demand lacks Timestamp.*'snapshot'"),
    ("demand", bad_table("levels"), "demand has 2 levels"),
    ("demand", np.ones((2, 3)), r"demand is an array of shape \(2, 3\)"),
    ("demand", xr.DataArray([1.0, 2.0, 3.0], dims="prosumer"), "demand has no labels.*'prosumer'"),
    ("demand", array([1.0, 2.0], scenario=["x", "y"]), "demand has the dimension 'scenario'"),
    ("demand", array([1.0, 2.0, 3.0], bus=NAMES), "demand has the dimension 'bus'"),
    ("risk_attitude", table({key: [0.1, 0.2] for key in NAMES}), "risk_attitude.*'snapshot'"),
    ("usage_benefit", array([0.1, 0.2], snapshot=SNAPSHOTS), "usage_benefit.*'snapshot'"),
    ("demand", True, "demand is not a number"),
    ("demand", np.True_, "demand is"),
    ("demand", [1.0, True, 2.0], "demand is not a number.*'b'"),
    ("demand", np.array([True, False, True]), "demand is not a number"),
    ("demand", "5", "demand is not a number"),
    ("demand", ["5", 1.0, 2.0], "demand is not a number.*'a'"),
    ("demand", [[1.0], [2.0, 3.0], 4.0], "demand is not a number.*'a', 'b'"),
    ("demand", 1j, "demand is 1j"),
    ("demand", None, "demand is None"),
    ("demand", {"a": 1.0, "b": None, "c": pd.NA}, "demand is not a number.*'b', 'c'"),
    ("demand", {1.0, 2.0, 3.0}, "demand is"),
    ("utility_quadratic", [0.1, -0.1, 0.0], "utility_quadratic is negative.*'b'"),
    ("marginal_cost_quadratic", [0.1, 0.0, -1], "marginal_cost_quadratic is negative.*'c'"),
    ("renewable", [0.1, 0.0, -1], "renewable is negative.*'c'"),
    ("risk_attitude", [0.1, 1.0, 0.0], r"risk_attitude is outside \[0, 1\).*'b'"),
    ("risk_attitude", [-0.1, 0.9, 0.0], r"risk_attitude is outside \[0, 1\).*'a'"),
    ("demand_min", [0.0, 0.0, 11.0], "demand_min exceeds demand_max.*'c'"),
    ("generation_min", [0.0, 1.0, 0.0], "generation_min exceeds generation_max.*'b'"),
    ("grid_bus", "east", "grid_bus 'east' of prosumer 'a'"),
    ("grid_bus", {"a": "north", "b": "east", "c": ""}, "'east' of prosumer 'b'"),
    ("grid_bus", ["north", "north"], "grid_bus has 2 values"),
    ("grid_bus", ["north", 3, "north"], "grid_bus is not text.*'b'"),
    ("grid_bus", None, "grid_bus is None"),
]


@pytest.fixture(scope="module")
def untouched() -> tuple[pypsa.Network, pypsa.Network]:
    """A network that every refusal must leave as it is, and a copy to compare with."""
    n = empty()
    n.add("Load", "house demand", bus="north")
    n.add("Generator", "sun renewable", bus="north")
    return n, n.copy()


@pytest.mark.parametrize(("argument", "value", "message"), BAD_VALUES)
def test_bad_values_are_refused_by_name_and_change_nothing(
    argument: str, value: Any, message: str, untouched: tuple[pypsa.Network, pypsa.Network]
) -> None:
    n, before = untouched
    with pytest.raises(DataError, match=message) as caught:
        add_prosumers(n, NAMES, **{**REQUIRED, argument: value})
    assert str(caught.value).startswith(f"Argument {argument}")
    assert n.equals(before)


BAD_NAMES: list[tuple[Any, str]] = [
    ([], "names is empty"),
    (["a", "a"], "names repeats 'a'"),
    (["a", 3], "names must be non-empty text, not 3"),
    (["a", ""], "not ''"),
    ({"a": 1}, "names must be names in order"),
    ({"a", "b"}, "names must be names in order"),
    (None, "names must be names in order"),
    (["north"], "Bus 'north' exists already"),
    (["house"], "Load 'house demand' exists already"),
    (["sun"], "Generator 'sun renewable' exists already"),
]


@pytest.mark.parametrize(("names", "message"), BAD_NAMES)
def test_bad_names_are_refused_and_change_nothing(
    names: Any, message: str, untouched: tuple[pypsa.Network, pypsa.Network]
) -> None:
    n, before = untouched
    with pytest.raises(DataError, match=message):
        add_prosumers(n, names, **REQUIRED)
    assert n.equals(before)


@pytest.mark.parametrize("n", [None, "network", pd.DataFrame()])
def test_only_networks_take_prosumers(n: Any) -> None:
    with pytest.raises(P2PError, match=r"n must be a pypsa\.Network"):
        add_prosumers(n, NAMES, **REQUIRED)


def test_a_prosumer_is_no_grid_bus() -> None:
    n = built()
    with pytest.raises(DataError, match="grid_bus 'a' of prosumer 'd'"):
        add_prosumers(n, ["d"], **REQUIRED, grid_bus="a")
