"""`Given`: every form of an option, kept plain, compared by value, and met with labels."""

from __future__ import annotations

import copy
import json
import pickle
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.given import ANY, POSITIVE, Given, Range, as_settings

PROSUMERS = pd.Index(["a", "b"], dtype=object)
SCENARIOS = pd.Index(["1", "2", "3"], dtype=object)
BY_PROSUMER = {"prosumer": PROSUMERS}
BOTH = {"scenario": SCENARIOS, "prosumer": PROSUMERS}
TABLE = pd.DataFrame([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], SCENARIOS, PROSUMERS)

NUMBERS = [0.5, np.float64(0.5), np.float32(0.5), np.array(0.5), xr.DataArray(0.5), Fraction(1, 2)]
IN_ORDER = [
    [1, 2.0],
    (1.0, 2.0),
    range(1, 3),
    np.array([1, 2]),
    pd.Index([1.0, 2.0]),
    np.array([1.0, 2.0], dtype=object),
]
BY_NAME = [
    {"a": 1, "b": np.float64(2)},
    {"b": 2.0, "a": 1.0},
    pd.Series({"b": 2, "a": 1}),
    xr.DataArray([2.0, 1.0], coords={"prosumer": ["b", "a"]}),
]
TABLES = [
    TABLE,
    TABLE.iloc[::-1, ::-1],
    TABLE.astype(int).astype(object),
    xr.DataArray(TABLE, dims=["scenario", "prosumer"]),
    xr.DataArray(TABLE, dims=["scenario", "prosumer"]).T,
]
FORMS = {"number": NUMBERS, "in order": IN_ORDER, "by name": BY_NAME, "table": TABLES}


#: As `Contracts` reads limits: by prosumer, and by scenario too.
LEVEL = Given("Option: level", ("scenario", "prosumer"), ANY)
SHARE = Given("Option: share", ("prosumer",), ANY)
POSITIVE_LEVEL = Given("Option: level", ("scenario", "prosumer"), POSITIVE)


@pytest.mark.parametrize("forms", FORMS.values(), ids=FORMS)
def test_forms_of_the_same_numbers_are_one_value(forms: list[Any]) -> None:
    """They are equal, hash alike, and are the same after copies, pickling and being given again."""
    found = [LEVEL.read(form) for form in forms]
    assert len(set(found)) == 1
    first = found[0]
    for other in (
        *found,
        copy.deepcopy(first),
        pickle.loads(pickle.dumps(first)),
        LEVEL.read(first),
    ):
        assert other == first
        assert hash(other) == hash(first)


def test_other_numbers_are_other_values() -> None:
    values = [0.5, [0.5], [0.5, 0.5], {"a": 0.5}, {"b": 0.5}, TABLE, TABLE + 1, TABLE.iloc[:2]]
    values.append(xr.DataArray([0.5], coords={"scenario": ["a"]}))
    assert len({LEVEL.read(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64(0.5), "0.5"),
        (np.array([1, 2]), "(1.0, 2.0)"),
        (pd.Series({"a": 1}), "{'a': 1.0}"),
        (TABLE.iloc[:1], "{('1', 'a'): 1.0, ('1', 'b'): 2.0}"),
    ],
)
def test_values_print_plainly(value: Any, text: str) -> None:
    assert repr(LEVEL.read(value)) == text


def test_a_value_does_not_change_with_what_it_was_made_of() -> None:
    source = {"a": 1.0, "b": 2.0}
    kept = LEVEL.read(source)
    source["a"] = 7.0
    assert kept == LEVEL.read({"a": 1.0, "b": 2.0})


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        *((form, [[0.5, 0.5]] * 3) for form in NUMBERS),
        *((form, [[1.0, 2.0]] * 3) for form in (*IN_ORDER, *BY_NAME)),
        *((form, TABLE.to_numpy().tolist()) for form in TABLES),
        (xr.DataArray([3, 1, 2], coords={"scenario": [3, 1, 2]}), [[1, 1], [2, 2], [3, 3]]),
    ],
)
def test_numbers_meet_labels(value: Any, wanted: list[Any]) -> None:
    """In the order of the labels, along all dimensions; numbers of scenarios are their names."""
    found = LEVEL.on(LEVEL.read(value), SCENARIOS, PROSUMERS)
    assert found.dims == ("scenario", "prosumer")
    assert found.dtype == float
    assert found.to_numpy().tolist() == wanted
    assert found.indexes["prosumer"].tolist() == ["a", "b"]
    assert found.indexes["scenario"].tolist() == ["1", "2", "3"]


def test_nothing_given_stays_nothing() -> None:
    assert LEVEL.read(None) is None
    assert as_settings(None) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": 1.0}, "level lacks 'b' along 'prosumer'"),
        ({"a": 1.0, "b": 2.0, "z": 3.0}, "level has the unknown 'z' along 'prosumer'"),
        ({"a": 1.0, 2: 2.0}, "level lacks 'b' and has the unknown 2"),
        ([1.0, 2.0, 3.0], "level has 3 values, but there are 2 labels of 'prosumer'"),
        (TABLE.iloc[:2], "level lacks '3' along 'scenario'"),
        (TABLE.rename(columns={"b": "c"}), "level lacks 'b' and has the unknown 'c'"),
    ],
)
def test_labels_that_do_not_fit(value: Any, says: str) -> None:
    with pytest.raises(MarketError, match=says):
        LEVEL.on(LEVEL.read(value), SCENARIOS, PROSUMERS)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.nan, "level nan must be a finite number above 0"),
        (np.array(inf), "level inf must be"),
        (0, "level 0 must be"),
        (True, "level True must be"),
        ("high", "level 'high' must be"),
        ([1.0, np.nan], "level nan at position 1 must be"),
        (np.array([True, False]), "level True at position 0 must be"),
        ([1.0, [2.0]], r"level \[2.0\] at position 1 must be"),
        (["1"], "level '1' at position 0 must be"),
        ({"a": 1.0, "b": None}, "level None of prosumer 'b' must be"),
        ({"a": 1.0, "b": pd.NA}, "level <NA> of prosumer 'b' must be"),
        (TABLE - 4, "level -3.0 of scenario '1' of prosumer 'a' must be"),
        (pd.Series([1.0, 2.0], ["a", "a"]), "level repeats prosumer 'a': give each once"),
        (pd.DataFrame(1.0, [1, "1"], PROSUMERS), "level repeats scenario '1'"),
        ({("1", "a"): 1.0, ("2", "b"): 1.0}, "level nan of scenario '1' of prosumer 'b' must be"),
        (pd.DataFrame(1.0, [("1", "x")], PROSUMERS), "level has tuples along 'scenario'"),
        (pd.concat([TABLE, TABLE]), "level repeats scenario '1', '2', '3'"),
        (xr.DataArray([[1.0]], dims=["scenario", "prosumer"]), "no labels along 'scenario'"),
        (xr.DataArray([1.0], coords={"bus": ["a"]}), "dimension 'bus', but may only have"),
        ({1.0, 2.0}, "by prosumer, a DataFrame scenario x prosumer, or a DataArray"),
        (b"1", "level is b'1': give a number"),
        (1j, "level is 1j"),
        (np.ones((2, 2)), r"level is an array of shape \(2, 2\) without labels"),
    ],
)
def test_errors_say_which_element_is_wrong(value: Any, says: str) -> None:
    with pytest.raises(MarketError, match=f"^Option: .*{says}"):
        POSITIVE_LEVEL.read(value)


@pytest.mark.parametrize("form", [*IN_ORDER, *BY_NAME, xr.DataArray([1.0, 2.0], dims="prosumer")])
def test_a_value_by_one_dimension(form: Any) -> None:
    assert SHARE.on(SHARE.read(form), PROSUMERS).to_numpy().tolist() == [1, 2]


def test_a_value_by_one_dimension_takes_no_table() -> None:
    with pytest.raises(MarketError, match=r"share is a DataFrame: give .* by prosumer, or a"):
        SHARE.read(TABLE)


@pytest.mark.parametrize("value", [*NUMBERS, *IN_ORDER, *BY_NAME])
def test_settings_survive_files(value: Any, tmp_path: Path) -> None:
    kept = SHARE.read(value)
    assert SHARE.read(json.loads(json.dumps(as_settings(kept)))) == kept
    n = pypsa.Network()
    n.meta["share"] = as_settings(kept)
    n.export_to_netcdf(tmp_path / "n.nc")
    assert SHARE.read(pypsa.Network(tmp_path / "n.nc").meta["share"]) == kept


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "text"),
    [
        (Range(0), [0, 5.0], [-1, inf, np.nan], "a finite number of at least 0"),
        (POSITIVE, [5e-324], [0.0, inf], "a finite number above 0"),
        (ANY, [-5, 0.0], [-inf, inf, np.nan, None], "a finite number"),
        (Range(0, 1, ends="[)"), [0, 0.5], [1, -0.1], "a number in [0, 1)"),
        (Range(0, 1), [0, 1], [1.1, -0.1], "a number in [0, 1]"),
        (Range(0, 1, ends="(]"), [1, 0.5], [0, "1"], "a number in (0, 1]"),
        (Range(1, whole=True), [1, np.int64(7)], [2.0, True, 0], "a whole number of at least 1"),
        (Range(0, why="no sales"), [0], [-1], "a finite number of at least 0; no sales"),
    ],
)
def test_ranges(allowed: Range, inside: list[Any], outside: list[Any], text: str) -> None:
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)
    assert str(allowed) == text


def test_what_a_market_keeps_by_name_is_not_changed() -> None:
    weights = p2p.PeerToPeerMarket(equilibrium="generalized", weights={"a": 1.0}).weights
    with pytest.raises(TypeError, match="make another one"):
        weights["a"] = 2.0
    assert pickle.loads(pickle.dumps(weights)) == weights == copy.deepcopy(weights)
