"""`CVaR`: every form of attitude, kept as plain values that compare, hash and survive pickling."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError

NETWORKS = xr.DataArray([0.0, 0.1], coords={"prosumer": ["a", "b"]})
BY_NAME = {
    "mapping": {"b": 0.6, "a": 0.3},
    "Series": pd.Series({"b": 0.6, "a": 0.3}),
    "DataArray": xr.DataArray([0.6, 0.3], coords={"prosumer": ["b", "a"]}),
}
IN_ORDER = {
    "list": [0.3, 0.6],
    "tuple": (0.3, 0.6),
    "array": np.array([0.3, 0.6]),
    "Index": pd.Index([0.3, 0.6]),
    "DataArray without labels": xr.DataArray([0.3, 0.6], dims="prosumer"),
}
SCALAR = {
    "number": 0.3,
    "numpy number": np.float64(0.3),
    "array without dims": np.array(0.3),
    "DataArray without dims": xr.DataArray(0.3),
}
FORMS = {
    **{f"{form} by name": (value, [0.3, 0.6]) for form, value in BY_NAME.items()},
    **{form: (value, [0.3, 0.6]) for form, value in IN_ORDER.items()},
    **{form: (value, [0.3, 0.3]) for form, value in SCALAR.items()},
    "none": (None, [0.0, 0.1]),
}
EVERY = pytest.mark.parametrize(("attitude", "wanted"), FORMS.values(), ids=FORMS.keys())


@EVERY
def test_attitudes_by_prosumer(attitude: Any, wanted: list[float]) -> None:
    found = p2p.CVaR(attitude=attitude).attitudes(NETWORKS)
    assert found.dims == ("prosumer",)
    assert found.to_numpy().tolist() == wanted
    assert found.indexes["prosumer"].tolist() == ["a", "b"]


@EVERY
def test_measures_are_values(attitude: Any, wanted: list[float]) -> None:
    """They compare, hash (inside markets too), print plainly, and survive pickling."""
    risk, again = p2p.CVaR(attitude=attitude), p2p.CVaR(attitude=attitude)
    assert risk == again
    assert hash(risk) == hash(again)
    assert risk != p2p.CVaR(attitude=attitude, weight=0.5)
    market = p2p.PeerToPeerMarket(risk=risk)
    assert {market: 1}[p2p.PeerToPeerMarket(risk=again)] == 1
    assert pickle.loads(pickle.dumps(market)) == market
    assert "float64" not in repr(risk)
    assert "array" not in repr(risk)


@pytest.mark.parametrize("forms", [BY_NAME, IN_ORDER, SCALAR], ids=["names", "order", "scalar"])
def test_forms_of_the_same_attitudes_are_equal(forms: dict[str, Any]) -> None:
    assert len({p2p.CVaR(attitude=value) for value in forms.values()}) == 1


def test_a_measure_does_not_change_with_what_it_was_made_of() -> None:
    given = {"a": 0.3, "b": 0.6}
    risk = p2p.CVaR(attitude=given)
    given["a"] = 2.0
    assert risk == p2p.CVaR(attitude={"a": 0.3, "b": 0.6})


@pytest.mark.parametrize(
    ("attitude", "says"),
    [
        (np.float64(1.5), r"attitude 1\.5 must be a number in \[0, 1\); 0 is risk-neutral"),
        ([0.1, np.float64(2.0)], r"attitude 2\.0 at position 1 must"),
        ({"a": 0.1, "b": np.nan}, "attitude nan of prosumer 'b' must"),
        ([True, 0.1], "attitude True at position 0 must"),
        (pd.Series([0.1, 0.2], ["a", "a"]), "repeats prosumer 'a'"),
        (
            xr.DataArray([[0.1]], dims=("scenario", "prosumer")),
            "labels along 'scenario', 'prosumer'",
        ),
        (xr.DataArray([0.1], coords={"scenario": ["x"]}), "dimension 'scenario', but may only"),
        (np.array([[0.1]]), r"array of shape \(1, 1\) without labels: give .* by prosumer"),
        (pd.DataFrame({"a": [0.1]}), "is a DataFrame: give a number, a sequence in order"),
        ({0.1, 0.2}, "is {.*}: give a number, a sequence in order, a mapping"),
        ("high", "attitude 'high' must"),
    ],
)
def test_errors_say_what_is_wrong(attitude: Any, says: str) -> None:
    with pytest.raises(MarketError, match=f"CVaR: .*{says}"):
        p2p.CVaR(attitude=attitude)


def test_a_sequence_needs_one_value_for_each_prosumer() -> None:
    with pytest.raises(MarketError, match=r"3 values, but there are 2 labels .*'a', 'b'"):
        p2p.CVaR(attitude=[0.1, 0.2, 0.3]).attitudes(NETWORKS)


@pytest.mark.parametrize("form", ["list", "Series by name"])
def test_results_take_the_markets_own_attitudes(form: str, route: str) -> None:
    """Also where their order is not that of the network."""
    n = p2p.load_grid("three_node")
    attitude: Any = [0.1, 0.2, 0.3]
    if form != "list":
        attitude = pd.Series({"2": 0.3, "0": 0.1, "1": 0.2})
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=attitude), surplus=False)
    if route == "direct":
        market.optimize(n)
    else:
        n.optimize(extra_functionality=market, log_to_console=False)
    r = p2p.results(n)
    assert float(r.social_cost) == pytest.approx(n.objective, rel=1e-6)
    n.buses["risk_attitude"] = np.tile([0.1, 0.2, 0.3], len(n.scenarios))
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    np.testing.assert_allclose(p2p.results(n).risk_adjusted_cost, r.risk_adjusted_cost, atol=1e-5)
