"""Fees, prices and capacities of trade edges: by direction, by snapshot, kept in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.network.trades import add_trades

EDGES = [("b", "a"), ("b", "c")]
PAIRS = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")]
HOURS = ["night", "day"]
FLAT = dict(zip(PAIRS, [1.0, 2.0, 3.0, 4.0], strict=True))
#: Of a buying from b and so on, at night and by day.
VARYING = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 6.0, 0.0, 8.0]])


def community() -> pypsa.Network:
    n = pypsa.Network(snapshots=HOURS)
    p2p.add_prosumers(n, [*"abc"], demand=5.0, demand_max=10.0, utility_quadratic=0.5)
    return n


def traded(**values: Any) -> pypsa.Network:
    n = community()
    add_trades(n, EDGES, **{"capacity": 4.0, **values})
    return n


def frame() -> pd.DataFrame:
    return pd.DataFrame(VARYING, HOURS, pd.MultiIndex.from_tuples(PAIRS))


def by_trade() -> xr.DataArray:
    buyer, seller = zip(*PAIRS, strict=True)
    coords = {
        "snapshot": HOURS, "buyer": ("trade", list(buyer)), "seller": ("trade", list(seller))
    }  # fmt: skip
    return xr.DataArray(VARYING, dims=["snapshot", "trade"], coords=coords)


def by_buyer_and_seller() -> xr.DataArray:
    """With what is no edge, which does not matter."""
    names = [*"cab"]
    cube = xr.DataArray(
        np.full((3, 2, 3), np.nan),
        coords={"buyer": names, "snapshot": HOURS[::-1], "seller": names},
        dims=["buyer", "snapshot", "seller"],
    )
    for k, (buyer, seller) in enumerate(PAIRS):
        cube.loc[{"buyer": buyer, "seller": seller}] = VARYING[::-1, k]
    cube.loc[{"buyer": "a", "seller": "c"}] = 7.0
    return cube


FORMS = {
    "frame": frame(),
    "frame of tuples": pd.DataFrame(
        VARYING[::-1], HOURS[::-1], pd.Index(PAIRS, tupleize_cols=False)
    ),
    "trade": by_trade(),
    "buyer and seller": by_buyer_and_seller(),
    "mapping of series": {pair: pd.Series(VARYING[:, k], HOURS) for k, pair in enumerate(PAIRS)},
    "mapping of lists": {
        pair: VARYING[:, k].tolist() if k else 1.0 for k, pair in enumerate(PAIRS)
    },
}


@pytest.mark.parametrize("argument", ["price", "fee"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_by_snapshot_and_direction(argument: str, form: str) -> None:
    """b - a: b at bus0; what does not vary stays in the static column."""
    n = traded(**{argument: FORMS[form]})
    static, series = n.links, n.links_t
    assert series[f"{argument}0"]["b - a"].tolist() == [2.0, 6.0]
    assert series[f"{argument}0"]["b - c"].tolist() == [3.0, 0.0]
    assert series[f"{argument}1"].columns.tolist() == ["b - c"]
    assert series[f"{argument}1"]["b - c"].tolist() == [4.0, 8.0]
    assert static[f"{argument}1"].tolist() == [1.0, 0.0]
    data = read_market(n)
    ends = [getattr(data, f"{argument}{end}").transpose("snapshot", ...) for end in (0, 1)]
    assert ends[0].to_numpy()[:, 0].tolist() == [[2.0, 3.0], [6.0, 0.0]]
    assert ends[1].to_numpy()[:, 0].tolist() == [[1.0, 4.0], [1.0, 8.0]]


@pytest.mark.parametrize("value", [FLAT, pd.Series(FLAT), pd.Series(FLAT).unstack()], ids=type)
def test_fees_by_direction(value: Any) -> None:
    n = traded(fee=value)
    assert n.links.fee0.tolist() == [2.0, 3.0]  # that b pays on trades with a, and with c
    assert n.links.fee1.tolist() == [1.0, 4.0]
    assert {"fee0", "fee1", "price0"}.isdisjoint(n.links_t)
    assert read_market(n).charged
    assert not read_market(traded()).charged


def test_one_series_for_all_edges() -> None:
    given = pd.Series([1.0, 2.0], HOURS)
    for value in (given, given.to_xarray().rename(index="snapshot")):
        n = traded(fee=value, price=value, capacity=value)
        for column in ("fee0", "fee1", "price0", "price1"):
            assert n.links_t[column].to_numpy().tolist() == [[1.0, 1.0], [2.0, 2.0]]
        data = read_market(n)
        for capacity in (data.capacity0, data.capacity1):
            assert capacity.transpose("scenario", "snapshot", "name").to_numpy()[0].tolist() == [
                [1.0, 1.0],
                [2.0, 2.0],
            ]


@pytest.mark.parametrize("form", FORMS)
def test_capacity_by_snapshot_and_direction(form: str) -> None:
    data = read_market(traded(capacity=FORMS[form]))
    most = [getattr(data, f"capacity{end}").transpose("snapshot", ...)[:, 0] for end in (0, 1)]
    assert most[0].to_numpy().tolist() == [[2.0, 3.0], [6.0, 0.0]]
    assert most[1].to_numpy().tolist() == [[1.0, 4.0], [1.0, 8.0]]


CAPACITIES = {
    "frame": pd.DataFrame([[4.0, 0.0], [1.0, 3.0]], HOURS, pd.MultiIndex.from_tuples(EDGES)),
    "mapping": {("a", "b"): [4.0, 1.0], ("b", "c"): pd.Series([3.0, 0.0], HOURS[::-1])},
    "both orders": {
        ("a", "b"): [4.0, 1.0], ("b", "a"): [4, 1], ("b", "c"): [0.0, 3.0], ("c", "b"): [0, 3.0]
    },
}  # fmt: skip


@pytest.mark.parametrize("form", CAPACITIES)
def test_capacity_by_snapshot(form: str) -> None:
    """`p_nom` is the largest, so that a factor on it scales all of them."""
    n = traded(capacity=CAPACITIES[form])
    assert n.links.p_nom.tolist() == [4.0, 3.0]
    assert n.links_t.p_max_pu.to_numpy().tolist() == [[1.0, 0.0], [0.25, 1.0]]
    assert (n.links_t.p_min_pu == -n.links_t.p_max_pu).to_numpy().all()
    capacity = read_market(n).capacity0.transpose("scenario", "snapshot", "name")
    assert capacity.to_numpy()[0].tolist() == [[4.0, 0.0], [1.0, 3.0]]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"fee": -1.0}, "fee is negative: it must be at least 0"),
    ({"fee": {**FLAT, ("c", "b"): -1.0}}, r"fee is negative .*buyer, seller \('c', 'b'\)"),
    ({"fee": -frame()}, r"fee is negative .*snapshot 'night', 'day'"),
    ({"fee": float("inf")}, "fee is NaN or infinite"),
    ({"fee": {("a", "b"): 1.0}}, r"fee lacks .*\('b', 'a'\)"),
    ({"fee": frame().drop(index="day")}, "fee lacks 'day' along 'snapshot'"),
    ({"fee": frame().iloc[:, :3]}, r"fee lacks \('c', 'b'\)"),
    ({"fee": {**FLAT, ("a", "b"): [1.0]}}, r"fee of \('a', 'b'\) has 1 values"),
    ({"fee": pd.Series([1.0, 2.0], ["night", "noon"])}, "fee lacks 'day'"),
    ({"fee": by_trade().rename(trade="edge")}, "fee has the dimensions 'snapshot', 'edge'"),
    ({"fee": by_trade().expand_dims(scenario=2)}, "fee has the dimensions 'scenario'"),
    ({"fee": by_trade().drop_vars("snapshot")}, "fee has no labels along 'snapshot'"),
    ({"fee": by_buyer_and_seller().drop_vars("buyer")}, "fee has the buyers 0"),
    ({"fee": pd.concat([frame(), frame()], axis=1)}, r"fee repeats \('a', 'b'\)"),
    ({"fee": "1"}, "fee is not a number"),
    ({"fee": [1.0, 2.0]}, "fee must be one number"),
    ({"price": frame().replace(8.0, np.nan)}, r"price is NaN .*snapshot 'day'"),
    ({"capacity": pd.Series([1.0, -2.0], HOURS)}, "capacity is negative .*'day'"),
    ({"congestion": pd.Series([1.0, 2.0], HOURS)}, "congestion is by snapshot"),
]


@pytest.fixture(scope="module")
def untouched() -> tuple[pypsa.Network, pypsa.Network]:
    """A network that every refusal must leave as it is, and another to compare with."""
    return community(), community()


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_what_fits_no_edge_is_refused_and_changes_nothing(
    values: dict[str, Any], message: str, untouched: tuple[pypsa.Network, pypsa.Network]
) -> None:
    n, before = untouched
    with pytest.raises(DataError, match=message) as caught:
        add_trades(n, EDGES, **{"capacity": 4.0, **values})
    assert str(caught.value).startswith("Argument ")
    assert n.equals(before)


def test_what_is_written_into_the_tables_is_checked() -> None:
    n = traded(fee=FLAT)
    n.links.loc["b - c", "fee1"] = -1.0
    with pytest.raises(DataError, match=r"fee1 must not be negative; .*'b - c'"):
        read_market(n)
    n.links.loc["b - c", "fee1"] = np.nan
    with pytest.raises(DataError, match="fee1 must be finite"):
        read_market(n)
    n = traded(fee=frame())
    n.links_t.fee0 = n.links_t.fee0.iloc[:1]
    with pytest.raises(DataError, match="'fee0': its hours lack 'day'"):
        read_market(n)


def test_networks_that_know_no_fees() -> None:
    """Of an earlier version: their edges have none, whatever comes later."""
    n = traded()
    n.components.links.static = n.links.drop(columns=["fee0", "fee1"])
    n.add("Bus", "grid")
    n.add("Link", "heat pump", bus0="a", bus1="grid")
    assert not read_market(n).charged
    add_trades(n, [("a", "c")], capacity=1.0, fee=2.0)
    assert n.links.fee0.drop("heat pump").tolist() == [0.0, 0.0, 2.0]


def same_data(n: pypsa.Network, read: pypsa.Network) -> bool:
    """Whether both say the same about trades."""
    written, found = read_market(n), read_market(read)
    names = ("fee0", "fee1", "price0", "price1", "capacity0", "capacity1")
    return all(
        (getattr(found, name).transpose(*getattr(written, name).dims).to_numpy()
         == getattr(written, name).to_numpy()).all()
        for name in names
    )  # fmt: skip


@pytest.mark.parametrize("scenarios", ["none", "after", "between"])
def test_series_survive_netcdf_and_scenarios(scenarios: str, tmp_path: Path) -> None:
    n = community()
    add_trades(n, [("a", "c")], capacity=1.0, fee=1.0)
    values = {"capacity": pd.Series([2.0, 4.0], HOURS), "fee": frame(), "price": -frame()}
    if scenarios == "between":
        p2p.set_scenarios(n, {"x": 0.5, "y": 0.5})
    add_trades(n, EDGES, **values)
    if scenarios == "after":
        p2p.set_scenarios(n, {"x": 0.5, "y": 0.5})
    n.export_to_netcdf(tmp_path / "n.nc")
    assert same_data(n, pypsa.Network(tmp_path / "n.nc"))
    assert read_market(n).fee0.sel(name="b - a")[-1].to_numpy().tolist() == [2.0, 6.0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PyPSA's open file
def test_series_survive_csv(tmp_path: Path) -> None:
    hours = pd.date_range("2030-01-01", periods=2, freq="h")
    n = pypsa.Network(snapshots=hours)
    p2p.add_prosumers(n, [*"abc"], demand=5.0, demand_max=10.0, utility_quadratic=0.5)
    add_trades(n, EDGES, capacity=pd.Series([2.0, 4.0], hours), fee=frame().set_index(hours))
    n.export_to_csv_folder(tmp_path)
    assert same_data(n, pypsa.Network(tmp_path))


def test_released_prosumers_leave_nothing_of_their_trades() -> None:
    n = pypsa.Network(snapshots=HOURS)
    n.add("Bus", ["north", "south"])
    n.add("Generator", ["wind", "sun"], bus=["north", "south"], p_nom=1.0)
    before = n.copy()
    p2p.assign_prosumers(n, "bus")
    add_trades(n, "complete", capacity=1.0, fee=pd.Series([1.0, 2.0], HOURS))
    p2p.release_prosumers(n)
    assert set(n.links) == set(before.links)
    assert {"fee0", "fee1"}.isdisjoint(n.links_t)
