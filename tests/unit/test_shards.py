"""Sweeps in parts: every point in one of them, collected as if one process had solved all."""

from __future__ import annotations

import os
import platform
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.markets.base import Market
from pypsa_p2p.studies.sweep_figures import Figures
from pypsa_p2p.studies.sweep_networks import SweptNetwork
from pypsa_p2p.studies.sweep_points import Outcome
from pypsa_p2p.studies.sweep_shards import Shard
from pypsa_p2p.studies.sweep_store import PointStore
from tests.unit.sweeps import assert_same

MARKET = p2p.PeerToPeerMarket(risk=p2p.CVaR())
OVER = {"attitude": [0.2, 0.6], "renewables": [0.8, 1.0]}


@pytest.fixture(scope="module")
def n() -> pypsa.Network:
    return p2p.load_grid("three_node")


def swept(n: pypsa.Network, over: Any = None, **options: Any) -> xr.Dataset:
    return p2p.sweep(n, MARKET, OVER if over is None else over, progress=False, **options)


@pytest.fixture(scope="module")
def whole(n: pypsa.Network) -> xr.Dataset:
    return swept(n)


@pytest.fixture
def solves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with every point that is solved."""
    counted: list[int] = []
    ask = SweptNetwork.ask

    def counting(on: SweptNetwork, market: Market, keep: tuple[str, ...]) -> Any:
        counted.append(1)
        return ask(on, market, keep)

    monkeypatch.setattr(SweptNetwork, "ask", counting)
    return counted


@pytest.mark.parametrize(("of", "total"), [(1, 5), (3, 7), (4, 4), (40, 3)])
def test_every_point_is_in_one_shard(of: int, total: int) -> None:
    places = [Shard(number, of).places(total) for number in range(1, of + 1)]
    assert sorted(chain(*places)) == list(range(total))
    sizes = [len(of_one) for of_one in places]
    assert max(sizes) - min(sizes) <= 1


def test_shards_collected_are_the_whole(
    n: pypsa.Network, whole: xr.Dataset, tmp_path: Path, solves: list[int]
) -> None:
    """Each solves its own points only, and collecting none."""
    first = swept(n, store=tmp_path, shard=(1, 3))
    assert len(solves) == 2
    own = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(first.error.to_numpy() == "", own)
    np.testing.assert_array_equal(first.social_cost.notnull(), own)
    assert first.error.sel(attitude=0.6, renewables=0.8).item() == "Left to shard 3/3."
    swept(n, store=tmp_path, shard="2/3")
    swept(n, store=tmp_path, shard=[np.int64(3), 3])
    assert len(solves) == 4
    assert_same(swept(n, store=tmp_path, collect=True), whole)
    assert len(solves) == 4


def test_a_shard_takes_what_others_have_solved(
    n: pypsa.Network, whole: xr.Dataset, tmp_path: Path, solves: list[int]
) -> None:
    """Also where they were parts of another size."""
    swept(n, store=tmp_path, shard=(2, 2))
    for number in (1, 2, 3):
        swept(n, store=tmp_path, shard=(number, 3))
    assert len(solves) == 4
    assert_same(swept(n, store=tmp_path, collect=True), whole)


def test_missing_points_are_told(n: pypsa.Network, tmp_path: Path) -> None:
    swept(n, store=tmp_path, shard=(1, 3))
    told = (
        rf"2 of 4 points are not in {tmp_path.as_posix()}, the first at attitude=0.2, renewables=1"
    )
    with pytest.raises(p2p.MarketError, match=rf"{told}.*belong to shards 2, 3 of 3\."):
        swept(n, store=tmp_path, collect=True)
    over = {"attitude": [0.2], "renewables": [1.2]}
    with pytest.raises(p2p.MarketError, match=r"collect: 1 of 1 points .* shards 1 of 3"):
        swept(n, over, store=tmp_path, collect=True)
    assert len(list(tmp_path.iterdir())) == 2


def test_shards_of_several_sizes_are_not_named(n: pypsa.Network, tmp_path: Path) -> None:
    swept(n, store=tmp_path, shard=(1, 4))
    swept(n, store=tmp_path, shard=(2, 2))
    with pytest.raises(p2p.MarketError, match=r"1 of 4 points .*=0.8\. Solve them as shards"):
        swept(n, store=tmp_path, collect=True)


def test_refused_points_are_collected_with_their_reasons(n: pypsa.Network, tmp_path: Path) -> None:
    """Whether they have a fingerprint (no solution) or none (no such market)."""

    def starve(network: pypsa.Network, point: dict[str, Any]) -> None:
        network.loads_t.p_set += point["demand"]

    over = {"attitude": [0.2, 1.5], "demand": [0.0, 1e4]}
    for number in (1, 2):
        swept(n, over, apply=starve, store=tmp_path, shard=(number, 2))
    collected = swept(n, over, apply=starve, store=tmp_path, collect=True)
    assert_same(collected, swept(n, over, apply=starve))
    assert (collected.error != "").sum() == 3


def test_a_shard_with_broken_points_is_not_done(
    n: pypsa.Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its other points are kept all the same; the broken one is missing, not taken for refused."""
    ask = SweptNetwork.ask

    def breaking(on: SweptNetwork, market: Market, keep: tuple[str, ...]) -> Any:
        assert isinstance(market.risk, p2p.CVaR)
        if market.risk.attitude == 0.2:
            raise MemoryError("no memory")
        return ask(on, market, keep)

    over = {"attitude": [0.2, 0.6]}
    with monkeypatch.context() as patched:
        patched.setattr(SweptNetwork, "ask", breaking)
        told = "shard 1/1: 1 of its points broke down .*'MemoryError: no memory'"
        with pytest.raises(p2p.MarketError, match=told):
            swept(n, over, store=tmp_path, shard=(1, 1))
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(p2p.MarketError, match=r"1 of 2 points .* attitude=0\.2\."):
        swept(n, over, store=tmp_path, collect=True)


def test_nobody_writes_to_the_file_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of one machine, and the same process number on another, with one point."""
    written = []

    def note(_dataset: xr.Dataset, path: Path) -> None:
        written.append(path.name)
        path.touch()

    monkeypatch.setattr(xr.Dataset, "to_netcdf", note)
    for node, pid in [("a", 1), ("a", 2), ("b", 1)]:
        monkeypatch.setattr(platform, "node", lambda node=node: node)
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        PointStore(tmp_path).save(Outcome(key="k", figures=Figures({}, {})), {})
    assert len(set(written)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["k.nc"]


@pytest.mark.parametrize(
    "shard",
    ["", "3", "0/40", "41/40", "3/0", "-1/4", "1.0/4", "3/40/5", " 3/40", f"1/{'9' * 5000}",
     3, (0, 4), (5, 4), (1.0, 4), (True, 4), (1, 2, 3), (1,), [[1], 2], {1: 2}],
    ids=lambda shard: str(shard)[:12],
)  # fmt: skip
def test_shards_that_are_none(n: pypsa.Network, shard: Any, tmp_path: Path) -> None:
    with pytest.raises(p2p.MarketError, match=r"^shard .* is none; give K/M, the K-th of M parts"):
        swept(n, store=tmp_path / "points", shard=shard)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"shard": (1, 2)}, "^shard needs a store"),
        ({"collect": True}, "^collect needs a store"),
        ({"shard": (1, 2), "collect": True, "store": "points"}, "leave out one of them"),
        ({"collect": "yes", "store": "points"}, "^collect must be True or False, not 'yes'"),
    ],
)
def test_calls_that_make_no_sense(n: pypsa.Network, options: dict[str, Any], match: str) -> None:
    with pytest.raises(p2p.MarketError, match=match):
        swept(n, **options)
