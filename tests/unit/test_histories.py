"""Days on record become a few of them, with probabilities: numbers by hand, and invariances."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError, P2PError
from pypsa_p2p.network.scenarios.history import scenarios_from_history


def five_days(**other: list[float]) -> xr.Dataset:
    """Demand on three days of little and two of much; one snapshot, one prosumer."""
    variables = {"demand": [0.0, 1.0, 5.0, 100.0, 103.0], **other}
    return xr.Dataset(
        {name: (("day", "prosumer"), np.array([values]).T) for name, values in variables.items()},
        coords={"day": ["mon", "tue", "wed", "thu", "fri"], "prosumer": ["a"]},
    )


def history(days: int = 40, seed: int = 1) -> pd.DataFrame:
    """Hours of demand and wind of two prosumers and of a price they share; random days."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2030-01-01", periods=24 * days, freq="h")
    hour = times.hour.to_numpy()
    level, wind = rng.uniform(1, 3, days).repeat(24), rng.uniform(0, 5, days).repeat(24)
    noise = rng.uniform(0, 0.1, (len(times), 4))
    return pd.DataFrame(
        {
            ("demand", "a"): level * (1 + hour / 24) + noise[:, 0],
            ("demand", "b"): 2 * level + noise[:, 1],
            ("renewable", "a"): wind + noise[:, 2],
            ("renewable", "b"): 0.0,
            ("import_price", ""): 60 - 8 * wind + noise[:, 3],
        },
        index=times,
    )


def by_day(frame: pd.DataFrame) -> xr.Dataset:
    """The same history with days cut by hand."""
    days = np.unique(frame.index.strftime("%Y-%m-%d"))
    cube = frame.to_numpy().reshape(len(days), 24, 5)
    return xr.Dataset(
        {
            "demand": (("day", "snapshot", "prosumer"), cube[..., :2]),
            "renewable": (("day", "snapshot", "prosumer"), cube[..., 2:4]),
            "import_price": (("day", "snapshot"), cube[..., 4]),
        },
        coords={"day": days.astype(object), "snapshot": range(24), "prosumer": ["a", "b"]},
    )


def test_two_clusters_by_hand() -> None:
    """0, 1, 5 have the centre 2, whose nearest day is 1; 100 and 103 tie, so that 100 stays.

    Mean 41.8; the scenarios' is .6 * 1 + .4 * 100 = 40.6. Squares around the mean 11898.8, around
    the centres 4 + 1 + 9 + 2 * 1.5^2 = 18.5.
    """
    probability, data = scenarios_from_history(five_days(), number=2)
    assert list(probability.index) == ["tue", "thu"]
    np.testing.assert_allclose(probability, [0.6, 0.4])
    np.testing.assert_array_equal(data["demand"].sel(prosumer="a"), [1.0, 100.0])
    assert data["demand"].attrs["mean_of_history"] == pytest.approx(41.8)
    assert data["demand"].attrs["mean_error"] == pytest.approx(-1.2)
    assert data.attrs["variance_explained"] == pytest.approx(1 - 18.5 / 11898.8, abs=1e-12)
    assert list(data["representative"].values) == ["tue", "tue", "tue", "thu", "thu"]


def test_as_many_scenarios_as_days_are_the_history() -> None:
    probability, data = scenarios_from_history(five_days(), number=5)
    np.testing.assert_allclose(probability, 0.2)
    np.testing.assert_array_equal(data["demand"].values, five_days()["demand"].values)
    assert data["demand"].attrs["mean_error"] == pytest.approx(0, abs=1e-12)
    assert data.attrs["variance_explained"] == pytest.approx(1, abs=1e-12)


def test_one_scenario_is_the_day_nearest_to_the_mean() -> None:
    """None of the variance lies between clusters when there is one."""
    probability, data = scenarios_from_history(five_days(), number=1)
    assert list(probability.index) == ["wed"]
    assert data.attrs["variance_explained"] == pytest.approx(0, abs=1e-12)


def test_no_variable_dominates_by_its_unit() -> None:
    """Wind tells mon, wed and fri from the others, demand tells thu and fri: four clusters.

    Unscaled, demand (0 to 103) would leave wind (0 to 0.1) no say and part wed from the others.
    """
    wind = [0.0, 0.1, 0.0, 0.1, 0.0]
    _, data = scenarios_from_history(five_days(renewable=wind), number=4)
    assert [len(set(data["representative"].values[[i, j]])) for i, j in [(0, 2), (3, 4)]] == [1, 2]
    _, unscaled = scenarios_from_history(five_days(), number=4)
    assert unscaled["representative"].values[0] != unscaled["representative"].values[2]


@pytest.mark.parametrize("seed", range(3))
def test_units_and_copies_of_prosumers_do_not_matter(seed: int) -> None:
    """kW or MW, one prosumer or three alike: the same days with the same probabilities."""
    days = by_day(history(seed=seed))
    expected, _ = scenarios_from_history(days, number=5)
    other = days.assign(demand=1000 * days["demand"], import_price=days["import_price"] + 7)
    rescaled, _ = scenarios_from_history(other, number=5)
    pd.testing.assert_series_equal(rescaled, expected)
    twice = xr.concat(
        [days, days.assign_coords(prosumer=["c", "d"])], "prosumer", data_vars="minimal"
    )
    copied, _ = scenarios_from_history(twice, number=5)
    pd.testing.assert_series_equal(copied, expected)


def test_a_variable_without_variance_counts_nothing() -> None:
    """0.1 on every day, on one of them by rounding a bit more, does not tell tue from mon."""
    almost = [0.1, float(np.nextafter(0.1, 1.0)), 0.1, 0.1, 0.1]
    _, data = scenarios_from_history(five_days(generation_max=almost), number=3)
    assert data["representative"].values[0] == data["representative"].values[1]


def test_same_seed_same_scenarios() -> None:
    first, second = (scenarios_from_history(history(), number=6, seed=3) for _ in range(2))
    pd.testing.assert_series_equal(first[0], second[0])
    xr.testing.assert_identical(first[1], second[1])


def test_scenarios_are_real_days_in_their_order() -> None:
    frame = history()
    probability, data = scenarios_from_history(frame, number=6)
    assert list(probability.index) == sorted(probability.index)
    assert list(probability.index) == list(data.indexes["scenario"])
    assert float(probability.sum()) == pytest.approx(1, abs=1e-12)
    for day in probability.index:
        np.testing.assert_array_equal(
            data["demand"].sel(scenario=day).values, frame.loc[day, "demand"].to_numpy()
        )
    share = pd.Series(data["representative"].values).value_counts(normalize=True)
    pd.testing.assert_series_equal(share.reindex(probability.index), probability, check_names=False)


def test_more_scenarios_explain_more() -> None:
    explained = [
        scenarios_from_history(history(), number=k)[1].attrs["variance_explained"]
        for k in (1, 2, 4, 8, 16, 40)
    ]
    assert explained == sorted(explained)
    assert explained[0] == pytest.approx(0, abs=1e-12)
    assert explained[-1] == pytest.approx(1, abs=1e-12)


def test_all_forms_of_a_history_agree() -> None:
    frame = history()
    _, expected = scenarios_from_history(by_day(frame), number=4)
    long = xr.Dataset(
        {
            "demand": (("snapshot", "prosumer"), frame["demand"].to_numpy()),
            "renewable": (("prosumer", "snapshot"), frame["renewable"].to_numpy().T),
            "import_price": ("snapshot", frame[("import_price", "")].to_numpy()),
        },
        coords={"snapshot": frame.index, "prosumer": ["a", "b"]},
    )
    joined = pd.concat({name: frame[[name]].droplevel(0, axis=1) for name in expected}, axis=1)
    for form in (frame, long, joined):
        _, found = scenarios_from_history(form, number=4)
        xr.testing.assert_allclose(found, expected)


def test_snapshots_are_the_networks() -> None:
    hours = pd.date_range("2040-05-01", periods=24, freq="h")
    _, data = scenarios_from_history(history(), number=2, snapshots=hours)
    assert data.indexes["snapshot"].equals(hours.rename("snapshot"))
    with pytest.raises(DataError, match="12 labels, but a day of the history has 24 steps"):
        scenarios_from_history(history(), number=2, snapshots=hours[:12])


def test_a_network_takes_them() -> None:
    probability, data = scenarios_from_history(history(), number=3)
    n = pypsa.Network(snapshots=data.indexes["snapshot"])
    p2p.add_prosumers(n, ["a", "b"], demand=1.0, demand_max=20.0, utility_quadratic=1.0)
    p2p.set_scenarios(n, probability, data)
    day = probability.index[1]
    np.testing.assert_array_equal(
        n.loads_t.p_set[day, "b demand"], history().loc[day, ("demand", "b")]
    )
    assert float(n.scenario_weightings.loc[day, "weight"]) == pytest.approx(probability[day])


def test_time_zones_and_daylight_saving() -> None:
    """The night of 31 March 2030 lacks an hour in Berlin, but not in UTC."""
    frame = history(90).set_axis(
        pd.date_range("2030-02-01", periods=24 * 90, freq="h", tz="UTC"), axis=0
    )
    probability, _ = scenarios_from_history(frame, number=3)
    assert float(probability.sum()) == pytest.approx(1)
    with pytest.raises(DataError, match=r"Days .*'2030-03-31'.* lack times"):
        scenarios_from_history(frame.tz_convert("Europe/Berlin").iloc[23:-1], number=3)


def test_unusable_days_are_named() -> None:
    frame = history()
    with pytest.raises(DataError, match="Days '2030-01-03' of the history lack times"):
        scenarios_from_history(frame.drop(pd.Timestamp("2030-01-03 05:00")), number=3)
    gap = frame.copy()
    gap.loc["2030-01-07 12:00", ("demand", "b")] = np.nan
    with pytest.raises(DataError, match=r"'demand' of .* missing or .* '2030-01-07'"):
        scenarios_from_history(gap, number=3)
    with pytest.raises(DataError, match="number is 6, but the history has only 5 different"):
        scenarios_from_history(five_days(), number=6)
    same = five_days().isel(day=[0, 0, 1]).assign_coords(day=["x", "y", "z"])
    with pytest.raises(DataError, match="only 2 different days"):
        scenarios_from_history(same, number=3)
    with pytest.raises(DataError, match="Days 'mon' of the history repeat"):
        scenarios_from_history(five_days().isel(day=[0, 0, 1]), number=1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1.0, 2.0], "is a list"),
        (xr.Dataset(), "has no variable"),
        (five_days().isel(day=slice(0)), "has no day"),
        (five_days().expand_dims(node=2), "dimension 'node'"),
        (five_days().assign(renewable=("prosumer", [1.0])), "'renewable' .* no dimension 'day'"),
        (five_days().drop_vars("prosumer"), "no labels along 'prosumer'"),
        (five_days().astype(str), "'demand' of the history is not made of numbers"),
        (five_days().rename(day="snapshot"), "needs times"),
        (history().reset_index(drop=True), "needs times"),
        (history().iloc[::-1], "out of order"),
        (history().drop(columns=("demand", "b")), "'demand' .* for prosumers 'a', others for"),
        (history()[[("demand", "a")] * 2], "repeats columns"),
    ],
)
def test_unusable_histories_are_refused(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scenarios_from_history(data, number=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, 2.0, True, "3"])
def test_unusable_numbers_are_refused(number: object) -> None:
    with pytest.raises(DataError, match="must be a whole number"):
        scenarios_from_history(five_days(), number=number)  # type: ignore[arg-type]


def test_scikit_learn_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(P2PError, match=r"pip install \"pypsa-p2p\[scenarios\]\""):
        scenarios_from_history(five_days(), number=2)
