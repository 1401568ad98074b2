"""add_trades: the edges it builds, in every form, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pypsa
import pytest

from pypsa_p2p.common.errors import DataError, P2PError
from pypsa_p2p.network.prosumers import add_prosumers
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.network.scenarios.setting import set_scenarios
from pypsa_p2p.network.trades import add_trades, trade_edges

NAMES = ["a", "b", "c"]
PATH = [("b", "a"), ("b", "c")]
PRICES = {("a", "b"): 1.0, ("b", "a"): 2.0, ("b", "c"): 3.0, ("c", "b"): 4.0}


@pytest.fixture(scope="module")
def community() -> pypsa.Network:
    """Three prosumers without trades; copy before changing."""
    n = pypsa.Network()
    add_prosumers(n, NAMES, demand=5.0, demand_max=10.0, utility_quadratic=0.5)
    return n


def traded(community: pypsa.Network, edges: Any = PATH, **values: Any) -> pypsa.Network:
    n = community.copy()
    add_trades(n, edges, **{"capacity": 4.0, **values})
    return n


def matrix(entries: dict[tuple[str, str], Any]) -> pd.DataFrame:
    return pd.Series(entries).unstack()


def test_an_edge_is_a_link_between_two_prosumers(community: pypsa.Network) -> None:
    n = traded(community, price=PRICES, congestion={("a", "b"): 0.5, ("b", "c"): 0})
    links = trade_edges(n)
    assert links.index.tolist() == ["b - a", "b - c"]
    assert links.carrier.eq("p2p").all()
    assert links[["bus0", "bus1"]].to_numpy().tolist() == [["b", "a"], ["b", "c"]]
    assert links.p_nom.tolist() == [4.0, 4.0]
    assert links.p_min_pu.tolist() == [-1.0, -1.0]
    assert links.p_max_pu.tolist() == [1.0, 1.0]
    assert links.price0.tolist() == [2.0, 3.0]  # b buying from a, b buying from c
    assert links.price1.tolist() == [1.0, 4.0]  # a buying from b, c buying from b
    assert links.congestion.tolist() == [0.5, 0.0]


@pytest.mark.parametrize(
    "edges",
    [
        PATH,
        tuple(PATH),
        iter(PATH),
        [list(pair) for pair in PATH],
        np.array(PATH),
        pd.MultiIndex.from_tuples(PATH),
        nx.Graph(PATH),
        nx.DiGraph(PATH),
    ],
    ids=lambda edges: type(edges).__name__,
)
def test_every_form_of_edges_gives_the_same_network(community: pypsa.Network, edges: Any) -> None:
    assert traded(community, edges).equals(traded(community))


EDGE_VALUES = {
    "one order": {("a", "b"): 1.0, ("b", "c"): 2},
    "the other order": {("b", "a"): np.float64(1.0), ("c", "b"): 2.0},
    "both orders": {("a", "b"): 1, ("b", "a"): 1, ("c", "b"): 2, ("b", "c"): 2},
    "series": pd.Series({("c", "b"): 2.0, ("a", "b"): 1.0}),
    "symmetric frame": pd.DataFrame(
        [[np.nan, 2.0, 7.0], [2.0, np.nan, 1.0], [7.0, 1.0, np.nan]],
        index=["c", "b", "a"],
        columns=["c", "b", "a"],
    ),
    "frame without the pair c, a": matrix(
        {("a", "b"): 1.0, ("b", "a"): 1.0, ("b", "c"): 2.0, ("c", "b"): 2.0}
    ),
}


@pytest.mark.parametrize("argument", ["capacity", "congestion"])
@pytest.mark.parametrize("form", EDGE_VALUES)
def test_every_form_of_edge_values(community: pypsa.Network, argument: str, form: str) -> None:
    links = trade_edges(traded(community, **{argument: EDGE_VALUES[form]}))
    column = {"capacity": "p_nom", "congestion": "congestion"}[argument]
    assert links[column].tolist() == [1.0, 2.0]


def limits(n: pypsa.Network) -> dict[tuple[str, str], float]:
    """What each may buy of the other, MW."""
    data = read_market(n)
    most = [data.capacity0.to_numpy().ravel(), data.capacity1.to_numpy().ravel()]
    ends = list(zip(data.bus0.to_numpy(), data.bus1.to_numpy(), strict=True))
    return dict(zip([*ends, *(end[::-1] for end in ends)], np.concatenate(most), strict=True))


@pytest.mark.parametrize("edges", [[("a", "b"), ("c", "b")], [("b", "a"), ("c", "b"), ("b", "c")]])
def test_capacities_of_each_direction(community: pypsa.Network, edges: Any) -> None:
    given = {("a", "b"): 0.0, ("b", "a"): 3.0, ("b", "c"): 2.0}  # the last one both ways
    expected = {**given, ("c", "b"): 2.0}
    assert limits(traded(community, edges, capacity=given)) == expected
    whole = matrix(expected)
    assert limits(traded(community, edges, capacity=whole)) == expected


@pytest.mark.parametrize("price", [PRICES, pd.Series(PRICES), matrix(PRICES)], ids=type)
def test_every_form_of_prices(community: pypsa.Network, price: Any) -> None:
    assert traded(community, price=price).equals(traded(community, price=PRICES))


def test_the_order_of_a_pair_does_not_change_who_pays(community: pypsa.Network) -> None:
    links = trade_edges(traded(community, [("a", "b")], price={("a", "b"): 1.0, ("b", "a"): 2.0}))
    swapped = trade_edges(traded(community, [("b", "a")], price={("a", "b"): 1.0, ("b", "a"): 2.0}))
    assert links[["price0", "price1"]].to_numpy().tolist() == [[1.0, 2.0]]
    assert swapped[["price0", "price1"]].to_numpy().tolist() == [[2.0, 1.0]]


def test_complete(community: pypsa.Network) -> None:
    assert trade_edges(traded(community, "complete")).index.tolist() == ["a - b", "a - c", "b - c"]


def on_a_grid() -> pypsa.Network:
    """North, south and west in a row, east beyond a line out of use; two prosumers in the north."""
    n = pypsa.Network()
    n.add("Bus", ["north", "south", "west", "east", "far"])
    n.add("Line", ["1", "2"], bus0="north", bus1="south", x=0.1)  # parallel lines
    n.add("Line", "off", bus0="north", bus1="east", x=0.1, active=False)
    n.add("Transformer", "t", bus0="west", bus1="south", x=0.1)
    n.add("Link", "dc", bus0="west", bus1="far", bus2="east")
    where = {"n1": "north", "n2": "north", "s": "south", "w": "west", "e": "east"}
    add_prosumers(n, list(where), demand=1.0, demand_max=2.0, utility_quadratic=1.0, grid_bus=where)
    return n


@pytest.mark.parametrize("stochastic", [False, True])
def test_grid(stochastic: bool) -> None:
    n = on_a_grid()
    if stochastic:
        set_scenarios(n, {"x": 0.5, "y": 0.5})
    add_trades(n, "grid", capacity=1.0)
    found = {frozenset(pair) for pair in trade_edges(n)[["bus0", "bus1"]].to_numpy()}
    expected = [("n1", "n2"), ("n1", "s"), ("n2", "s"), ("s", "w"), ("w", "e")]
    assert found == {frozenset(pair) for pair in expected}
    assert len(trade_edges(n)) == len(expected)


def on_junctions() -> pypsa.Network:
    """a - b - j - d - c, nobody at j; a converter leads from b over dc buses to e; gas to all."""
    n = pypsa.Network()
    n.add(
        "Bus", [*"abcdj", "dc1", "dc2", "e", "gas"], carrier=[*["AC"] * 5, "DC", "DC", "AC", "gas"]
    )
    pairs = ["ab", "cd", "bj", "dj"]
    n.add("Line", pairs, bus0=[one for one, _ in pairs], bus1=[other for _, other in pairs], x=0.1)
    ways = [("b", "dc1"), ("dc1", "dc2"), ("dc2", "e"), ("gas", "a"), ("gas", "c")]
    n.add("Link", [f"link {i}" for i in range(5)], bus0=[one for one, _ in ways],
          bus1=[other for _, other in ways])  # fmt: skip
    who = [*"abcde"]
    add_prosumers(n, [f"of {bus}" for bus in who], demand=1, demand_max=2, utility_quadratic=1,
                  grid_bus=who)  # fmt: skip
    return n


def test_the_grid_joins_across_what_is_nobodys() -> None:
    """Not over gas, which is no electricity."""
    n = on_junctions()
    add_trades(n, "grid", capacity=1.0)
    found = {"".join(sorted(edge.replace("of ", "").split(" - "))) for edge in trade_edges(n).index}
    assert found == {"ab", "bd", "cd", "be"}


def test_who_can_trade_with_nobody_is_named() -> None:
    n = on_junctions()
    n.links.loc["link 2", "active"] = False
    with pytest.warns(UserWarning, match="'of e' can trade with nobody"):
        add_trades(n, "grid", capacity=1.0)


def test_groups_apart_are_named() -> None:
    n = on_junctions()
    n.lines.loc["bj", "active"] = False
    with pytest.warns(UserWarning, match=r"2 groups .*'of a', 'of b', 'of e'; 'of c', 'of d'"):
        add_trades(n, "grid", capacity=1.0)


@pytest.mark.parametrize("edges", ["grid", "complete"])
def test_one_prosumer_trades_with_nobody(edges: str) -> None:
    n = pypsa.Network()
    n.add("Bus", "here")
    add_prosumers(n, "one", demand=1, demand_max=2, utility_quadratic=1, grid_bus="here")
    with pytest.warns(UserWarning, match="'one' can trade with nobody"):
        add_trades(n, edges, capacity=1.0)
    assert trade_edges(n).empty


def test_trade_links_are_not_the_grid() -> None:
    n = on_a_grid()
    add_trades(n, [("n1", "e")], capacity=1.0)
    with pytest.raises(DataError, match=r"trade already .*'e', 'n1'"):
        add_trades(n, [("e", "n1")], capacity=1.0)
    add_trades(n, "grid", capacity=1.0)
    assert len(trade_edges(n)) == 6


def test_trades_come_before_after_and_between_scenarios(
    community: pypsa.Network, tmp_path: Path
) -> None:
    before = traded(community, [("a", "b")], price={("a", "b"): 1.0, ("b", "a"): 2.0})
    set_scenarios(before, {"x": 0.5, "y": 0.5})
    after = community.copy()
    set_scenarios(after, {"x": 0.5, "y": 0.5})
    add_trades(after, [("a", "b")], capacity=4.0, price={("a", "b"): 1.0, ("b", "a"): 2.0})
    for n in (before, after):
        add_trades(n, [("c", "b")], capacity=3.0, price=5.0)
        links = n.c.links.static
        assert links.price1.xs("a - b", level="name").tolist() == [2.0, 2.0]
        assert links.price1.xs("c - b", level="name").tolist() == [5.0, 5.0]
        assert trade_edges(n).index.tolist() == ["a - b", "c - b"]
        with pytest.raises(DataError, match="trade already"):
            add_trades(n, [("b", "c")], capacity=1.0)
    before.export_to_netcdf(tmp_path / "n.nc")
    read = trade_edges(pypsa.Network(tmp_path / "n.nc"))
    assert read.loc[["a - b", "c - b"], "price0"].tolist() == [1.0, 5.0]


BAD_EDGES: list[tuple[Any, str]] = [
    ([], "edges has no pair"),
    (nx.Graph(), "edges has no pair"),
    (3, "edges is 3"),
    (None, "edges is None"),
    ("ring", "edges is 'ring'"),
    ({("a", "b"): 1.0}, "edges is"),
    (["ab"], "edges has 'ab': it must be a pair"),
    ([("a", "b", "c")], "it must be a pair"),
    ([("a", 3)], "it must be a pair"),
    ([("a", "d"), ("a", "b")], "edges has 'd', which is no prosumer"),
    ([("a", "b"), ("c", "c")], "edges joins 'c' to herself"),
    ([("a", "b"), ("a", "b")], r"edges repeats \('a', 'b'\)"),
    (nx.MultiGraph([("a", "b"), ("a", "b")]), r"edges repeats \('a', 'b'\)"),
    ("grid", "Prosumer 'a', 'b', 'c' has no grid_bus"),
]


@pytest.fixture(scope="module")
def untouched(community: pypsa.Network) -> tuple[pypsa.Network, pypsa.Network]:
    """A network that every refusal must leave as it is, and a copy to compare with."""
    n = community.copy()
    n.add("Link", "a - c", bus0="a", bus1="b")
    return n, n.copy()


@pytest.mark.parametrize(("edges", "message"), BAD_EDGES)
def test_bad_edges_are_refused_and_change_nothing(
    edges: Any, message: str, untouched: tuple[pypsa.Network, pypsa.Network]
) -> None:
    n, before = untouched
    with pytest.raises(DataError, match=message) as caught:
        add_trades(n, edges, capacity=1.0)
    assert str(caught.value).startswith(("Argument ", "Prosumer"))
    assert n.equals(before)


def changed(argument: str, pair: tuple[str, str], value: Any) -> dict[str, Any]:
    return {argument: {**PRICES, ("c", "b"): 3.0, ("a", "b"): 2.0, pair: value}}


BAD_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"capacity": -1.0}, "capacity is negative: it must be at least 0"),
    (changed("congestion", ("c", "b"), 9.0), r"congestion differs .*\('b', 'c'\)"),
    ({"capacity": {("a", "b"): 1.0}}, r"capacity lacks \('b', 'c'\).* along 'buyer, sel"),
    ({"capacity": {("a", "b"): 1.0, ("a", "c"): 1.0}}, r"the unknown \('a', 'c'\), \('c', 'a'\)"),
    ({"capacity": {"a": 1.0}}, "capacity has 'a': it must be a pair"),
    ({"capacity": {("a", "b"): -1.0, ("b", "c"): 1}}, r"negative \(buyer, seller .*\('a', 'b'\)"),
    ({"capacity": {("a", "b"): True, ("b", "c"): 1}}, r"capacity is not a number.*\('a', 'b'\)"),
    ({"capacity": {("a", "b"): "x", ("b", "c"): 1}}, r"capacity is not a number.*\('a', 'b'\)"),
    ({"capacity": {("a", "b"): np.nan, ("b", "c"): 1}}, r"capacity is NaN.*\('a', 'b'\)"),
    ({"capacity": pd.Series([1, 2, 1], [("a", "b"), ("b", "c"), ("a", "b")])}, "capacity repeats"),
    ({"capacity": float("inf")}, "capacity is NaN or infinite"),
    ({"capacity": None}, "capacity is None"),
    ({"capacity": "4"}, "capacity is not a number"),
    ({"capacity": [1.0, 2.0]}, "capacity must be one number"),
    ({"capacity": pd.Series({"a": 1.0})}, "capacity has 'a': it must be a pair"),
    ({"congestion": -0.1}, "congestion is negative"),
    ({"congestion": {("a", "b"): 1.0}}, r"congestion lacks \('b', 'c'\) along 'edge'"),
    ({"price": {**PRICES, ("a", "c"): 1.0}}, r"price has the unknown \('a', 'c'\) along 'buyer"),
    ({"price": {("a", "b"): 1.0, ("b", "c"): 1.0}}, r"price lacks .*\('b', 'a'\)"),
    ({"price": {**PRICES, ("b", "c"): np.inf}}, r"NaN or infinite.*buyer, seller \('b', 'c'\)"),
    ({"price": matrix(PRICES).drop(columns="c")}, r"price lacks .*\('b', 'c'\)"),
    ({"price": matrix(PRICES).rename(columns={"c": "d"})}, "price has the columns 'd'"),
    ({"price": matrix(PRICES).rename(index={"c": "d"})}, "price has the rows 'd'"),
    ({"price": matrix(PRICES).rename(index={"c": "a"})}, "price has the rows 'a'"),
    ({"congestion": matrix(PRICES)}, r"congestion differs .*\('a', 'b'\), \('b', 'c'\)"),
    ({"capacity": matrix({**PRICES, ("b", "c"): "x"})}, "capacity is not a number"),
]


@pytest.mark.parametrize(("values", "message"), BAD_VALUES)
def test_bad_values_are_refused_and_change_nothing(
    values: dict[str, Any], message: str, untouched: tuple[pypsa.Network, pypsa.Network]
) -> None:
    n, before = untouched
    with pytest.raises(DataError, match=message) as caught:
        add_trades(n, PATH, **{"capacity": 4.0, **values})
    assert str(caught.value).startswith("Argument ")
    assert n.equals(before)


def test_names_of_links_are_not_taken_twice(
    untouched: tuple[pypsa.Network, pypsa.Network],
) -> None:
    n, before = untouched
    with pytest.raises(DataError, match="Link 'a - c' exists already"):
        add_trades(n, "complete", capacity=1.0)
    assert n.equals(before)


def test_names_that_would_collide() -> None:
    n = pypsa.Network()
    names = ["a", "a - b", "b - c", "c"]
    add_prosumers(n, names, demand=5.0, demand_max=10.0, utility_quadratic=0.5)
    with pytest.raises(DataError, match="Two edges would have the name 'a - b - c'"):
        add_trades(n, [("a", "b - c"), ("a - b", "c")], capacity=1.0)


@pytest.mark.parametrize("edges", ["complete", "grid", [("a", "b")]])
def test_a_market_needs_prosumers(edges: Any) -> None:
    with pytest.raises(DataError, match="edges has"):
        add_trades(pypsa.Network(), edges, capacity=1.0)


def test_only_networks_take_trades() -> None:
    with pytest.raises(P2PError, match=r"n must be a pypsa\.Network"):
        add_trades({}, "complete", capacity=1.0)
