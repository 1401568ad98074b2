"""`sweep`: figures against single solves, resuming, failures, processes, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.studies.sweep_networks import SweptNetwork
from tests.unit.sweeps import assert_same

ALONE = p2p.PeerToPeerMarket(risk=p2p.CVaR())
CONTRACTS = replace(ALONE, contracts=p2p.Contracts())
MARKETS = {"alone": ALONE, "contracts": CONTRACTS}
OVER = {"attitude": [0.1, 0.6], "renewables": [0.8]}


@pytest.fixture(scope="module")
def n() -> pypsa.Network:
    return p2p.load_grid("three_node")


def swept(n: pypsa.Network, markets: Any, over: Any = None, **options: Any) -> xr.Dataset:
    return p2p.sweep(n, markets, over, progress=False, **options)


@pytest.fixture(scope="module")
def whole(n: pypsa.Network) -> xr.Dataset:
    return swept(n, MARKETS, OVER)


def test_points_are_those_of_single_solves(n: pypsa.Network, whole: xr.Dataset) -> None:
    m = n.copy()
    must_take = m.generators.index.get_level_values("name").str.endswith(" renewable")
    m.generators.loc[must_take, "p_nom"] *= 0.8
    replace(CONTRACTS, risk=p2p.CVaR(attitude=0.6)).optimize(m)
    r, table = p2p.results(m), p2p.compare({"m": m}, of="cost").loc["m"]
    point = whole.sel(market="contracts", attitude=0.6, renewables=0.8)
    for name in ("cost", "expected_cost", "risk_adjusted_cost", "contract", "contract_price"):
        np.testing.assert_allclose(point[name].transpose(*r[name].dims), r[name], atol=1e-9)
        assert point[name].attrs["unit"] == r[name].attrs["unit"]
    for name in ("social_cost", "traded_energy", "price_min", "price_max", "cost_gini"):
        assert float(point[name]) == pytest.approx(table[name], abs=1e-9)
    bought = float(r.contract.clip(min=0).sum())
    assert float(point.contracts_traded) == pytest.approx(bought, abs=1e-9)
    assert bought > 0.01


def test_laws_over_the_grid(whole: xr.Dataset) -> None:
    """More averse costs more, contracts never do; no contract without a market for it."""
    assert dict(whole.social_cost.sizes) == {"market": 2, "attitude": 2, "renewables": 1}
    assert (whole.social_cost.diff("attitude") > 0).all()
    alone, contracts = (whole.social_cost.sel(market=name) for name in MARKETS)
    assert (contracts <= alone + 1e-9).all()
    assert whole.contracts_traded.sel(market="alone").isnull().all()
    assert (whole.error == "").all()


def test_contracts_between_none_and_complete(n: pypsa.Network, whole: xr.Dataset) -> None:
    """Looser limits and cheaper insurance never cost more; no limit is the complete market."""
    over = {"contract_limit": [0.0, 1.0, 3.0, 1e3], "attitude": [0.6], "renewables": [0.8]}
    limited = swept(n, CONTRACTS, over)
    assert (limited.error == "").all()
    cost = limited.social_cost.squeeze()
    assert (cost.diff("contract_limit") < 1e-7).all()
    ends = whole.social_cost.sel(attitude=0.6, renewables=0.8)
    np.testing.assert_allclose(cost[[0, -1]], ends.sel(market=["alone", "contracts"]), atol=1e-5)
    assert (limited.contracts_traded.diff("contract_limit") > -1e-6).all()
    insured = swept(n, CONTRACTS, {"insurance_price": [0.34, 0.5, 0.2]})
    assert "a sure profit" in insured.error.values[2]
    assert float(insured.social_cost[0]) < float(insured.social_cost[1])
    assert float(insured.insurance_bought[0]) > 0.1
    assert float(insured.insurance_bought[1]) == pytest.approx(0.0, abs=1e-6)


def test_fees_are_a_dimension(n: pypsa.Network) -> None:
    """A factor on fees, which may vary in time for some edges."""
    charged = n.copy()
    links = charged.c.links
    links.static[["fee0", "fee1"]] = 0.5
    links.dynamic["fee0"] = pd.DataFrame(0.25, charged.snapshots, links.static.index[:1])
    found = swept(charged, ALONE, {"fees": [0.0, 1.0, 4.0]}, keep=["fee_revenue"])
    revenue = found.fee_revenue.sum("scenario")
    assert float(revenue[0]) == 0.0
    assert float(revenue[1]) > 0.0
    assert (found.social_cost.diff("fees") > 0).all()


def test_the_network_stays_as_it_is(n: pypsa.Network) -> None:
    before = SweptNetwork(n).fingerprint(ALONE, ())
    swept(n, ALONE, {"renewables": [0.5], "congestion": [0.0], "trade_capacity": [0.9]})
    assert SweptNetwork(n).fingerprint(ALONE, ()) == before
    assert "p2p" not in n.meta


def test_interrupted_and_resumed_is_the_same(
    n: pypsa.Network, whole: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run solves only what the first has not, the third nothing."""
    calls: list[Any] = []
    solves: list[Any] = []
    solution = p2p.PeerToPeerMarket.solution

    def counting(market: p2p.PeerToPeerMarket, *arguments: Any) -> Any:
        solves.append(market)
        return solution(market, *arguments)

    monkeypatch.setattr(p2p.PeerToPeerMarket, "solution", counting)

    def interrupting(network: pypsa.Network, point: dict[str, Any]) -> None:
        calls.append(point)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(n, MARKETS, OVER, apply=interrupting, store=tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.nc")}
    assert len(kept) == 2
    resumed = swept(n, MARKETS, OVER, store=tmp_path)
    assert_same(resumed, whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(tmp_path.iterdir())) == 4
    assert_same(swept(n, MARKETS, OVER, store=tmp_path), whole)
    assert len(solves) == 4


SCRIPT = """
import pypsa_p2p as p2p
n = p2p.load_grid("three_node")
alone = p2p.PeerToPeerMarket(risk=p2p.CVaR())
p2p.sweep(n, alone, {"attitude": [k / 100 for k in range(40)]}, store="points", progress=False)
"""


def test_killed_and_resumed_is_the_same(n: pypsa.Network, tmp_path: Path) -> None:
    """Killed without a chance to clean up, and with a file torn by it."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path)
    store = tmp_path / "points"
    deadline = time.monotonic() + 90
    while len(list(store.glob("*.nc"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = sorted(store.glob("*.nc"))
    assert 3 <= len(kept) < 40
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    over = {"attitude": [k / 100 for k in range(4)]}
    assert_same(swept(n, ALONE, over, store=store), swept(n, ALONE, over))


def test_failed_points_are_recorded(n: pypsa.Network, tmp_path: Path) -> None:
    def starve(network: pypsa.Network, point: dict[str, Any]) -> None:
        if point["demand"] == "impossible":
            network.loads_t.p_set += 1e4
        if point["demand"] == "broken":
            raise RuntimeError("no data")

    over = {"demand": ["given", "impossible", "broken"], "attitude": [0.3, 1.5]}
    d = swept(n, ALONE, over, apply=starve, store=tmp_path)
    assert str(d.error.sel(demand="given", attitude=0.3).item()) == ""
    assert "attitude 1.5 must be a number in" in d.error.sel(demand="given", attitude=1.5).item()
    assert d.error.sel(demand="broken", attitude=0.3).item() == "RuntimeError: no data"
    assert d.error.sel(demand="impossible", attitude=0.3).item()
    assert np.isfinite(d.social_cost.values).sum() == 1
    assert np.isfinite(d.social_cost.sel(demand="given", attitude=0.3))
    xr.testing.assert_identical(swept(n, ALONE, over, apply=starve, store=tmp_path), d)


def test_all_failed(n: pypsa.Network) -> None:
    d = swept(n, ALONE, {"attitude": [2.0]})
    assert np.isnan(d.social_cost.item())
    assert "attitude 2.0 must be a number in" in d.error.item()


def unchanged(network: pypsa.Network, point: dict[str, Any]) -> None:
    """A function that other processes can import."""


def dying(network: pypsa.Network, point: dict[str, Any]) -> None:
    os._exit(1)


def test_processes_give_the_same(n: pypsa.Network, whole: xr.Dataset) -> None:
    assert_same(swept(n, MARKETS, OVER, apply=unchanged, workers=2), whole)


def test_a_process_that_dies_is_reported(n: pypsa.Network) -> None:
    with pytest.raises(p2p.MarketError, match="A process of the sweep died"):
        swept(n, ALONE, OVER, apply=dying, workers=2)


@pytest.mark.filterwarnings("ignore")
def test_dask_gives_the_same(n: pypsa.Network, whole: xr.Dataset) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra pypsa-p2p[dask]")
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert_same(swept(n, MARKETS, OVER, client=client), whole)


def test_values_by_label_and_markets_by_point(n: pypsa.Network) -> None:
    """An attitude by prosumer has a label; a function may choose the market."""
    mixed = {"0": 0.1, "1": 0.5, "2": 0.7}
    d = swept(n, ALONE, {"attitude": {"same": 0.4, "mixed": mixed}})
    assert list(d.attitude) == ["same", "mixed"]
    chosen = swept(
        n, lambda point: p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=point["chi"])), {"chi": [0.4]}
    )
    same = d.social_cost.sel(attitude="same")
    assert float(chosen.social_cost[0]) == pytest.approx(float(same), abs=1e-9)
    assert abs(float(d.social_cost.diff("attitude")[0])) > 0.01


def test_what_is_wrong_is_told_in_plain_words() -> None:
    """Numbers as they are written; no scenario named where the network has none."""
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b"], demand=2.0, demand_max=3.0, utility_quadratic=1.0)
    p2p.add_trades(n, "complete", capacity=1.0)
    market = p2p.PeerToPeerMarket()

    def error(over: Any, **options: Any) -> str:
        return str(swept(n, market, over, workers=np.int64(1), **options).error.item())

    capacity = "trade_capacity, a factor on capacities: -1.0 must be a finite number"
    assert error({"trade_capacity": [-1.0]}).startswith(capacity)
    assert "renewables, a factor on capacities: 'x' must" in error({"renewables": ["x"]})
    assert "congestion of trades: [1.0, 2.0] must" in error({"congestion": {"two": [1.0, 2.0]}})

    def worse(network: pypsa.Network, _: dict[str, Any]) -> None:
        network.links["congestion"] = -1.0

    edge = n.links.index[0]
    told = f"The congestion must not be negative; look at name '{edge}'."
    assert error({"draw": [1]}, apply=worse) == told


def test_another_network_may_be_returned(n: pypsa.Network) -> None:
    """Scenarios that a point does not have are NaN; labels are the union."""

    def drawn(network: pypsa.Network, point: dict[str, Any]) -> pypsa.Network:
        rng = np.random.default_rng(point["seed"])
        m = pypsa.Network()
        p2p.add_prosumers(m, ["a", "b"], demand=rng.uniform(3, 4, 2), demand_max=5.0,
                          utility_quadratic=1.0, generation_max=[9.0, 0.0],
                          marginal_cost_quadratic=0.3)  # fmt: skip
        p2p.add_trades(m, "complete", capacity=3.0)
        labels = ["s0", "s1"] if point["seed"] == 2 else ["s1"]
        p2p.set_scenarios(m, dict.fromkeys(labels, 1 / len(labels)))
        return m

    d = swept(n, p2p.PeerToPeerMarket(), {"seed": [2, 1]}, apply=drawn, keep=["nodal_price"])
    assert list(d.scenario.values) == ["s0", "s1"]
    assert d.cost.sel(seed=1, scenario="s0").isnull().all()
    assert d.cost.sel(seed=1, scenario="s1").notnull().all()
    assert d.cost.sel(seed=2).notnull().all()
    assert d.nodal_price.dims == ("seed", "scenario", "snapshot", "prosumer")


def test_fingerprints_tell_inputs_apart(n: pypsa.Network) -> None:
    key = SweptNetwork(n).fingerprint(ALONE, ())
    solved = n.copy()
    ALONE.optimize(solved)
    assert SweptNetwork(solved).fingerprint(ALONE, ()) == key
    others = [n.copy() for _ in range(4)]
    others[0].links["congestion"] = 0.1
    others[1].generators_t.p_max_pu.iloc[0, 0] += 1e-9
    others[2].c.buses.dynamic["import_price"] = others[2].c.buses.dynamic["import_price"] + 1.0
    others[3].snapshot_weightings.loc[:, "objective"] = 2.0
    keys = {SweptNetwork(other).fingerprint(ALONE, ()) for other in others}
    keys |= {
        SweptNetwork(n).fingerprint(CONTRACTS, ()),
        SweptNetwork(n).fingerprint(ALONE, ("demand",)),
        key,
    }
    by_name = [
        replace(ALONE, risk=p2p.CVaR(attitude=pd.Series(x, index=list("012"))))
        for x in ([0.1, 0.2, 0.3], [0.1, 0.2, 0.4])
    ]
    assert len(keys | {SweptNetwork(n).fingerprint(market, ()) for market in by_name}) == 9


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"over": {"colour": [1]}}, "does not know the dimension 'colour'.*apply="),
        ({"over": {"market": [1]}, "apply": print}, "'market' is a name of the results"),
        ({"over": {"attitude": 0.3}}, "needs several values"),
        ({"over": {"attitude": []}}, "at least one"),
        ({"over": {"attitude": {}}}, "at least one"),
        ({"over": {"attitude": [0.1, 0.1]}}, "a value twice"),
        ({"over": {"attitude": [[0.1, 0.2, 0.3]]}}, "a mapping from labels to values"),
        ({"markets": {}}, "none given"),
        ({"markets": "peer-to-peer"}, "not str"),
        ({"workers": np.int64(0)}, "workers: 0 must be a whole number of at least 1"),
        ({"workers": 2, "apply": lambda n, point: None}, "top of a module"),
    ],
)
def test_refusals(n: pypsa.Network, arguments: dict[str, Any], match: str) -> None:
    arguments = {"markets": ALONE, "over": {"attitude": [0.1]}, **arguments}
    with pytest.raises(p2p.MarketError, match=match):
        p2p.sweep(n, **arguments, progress=False)


def test_variables_to_keep(n: pypsa.Network) -> None:
    """One that markets may have is NaN where a market has none; others are refused beforehand."""
    hedged = {
        "alone": ALONE,
        "hedged": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
    }
    d = swept(n, hedged, {"attitude": [0.1]}, keep="contract")
    assert (d.error == "").all()
    assert d.contract.sel(market="alone").isnull().all()
    assert d.contract.sel(market="hedged").notnull().all()
    with pytest.raises(p2p.MarketError, match="results have no 'colour'; they may have 'demand'"):
        swept(n, ALONE, {"attitude": [0.1]}, keep=["nodal_price", "colour"])


def test_a_damaged_point_is_solved_anew(n: pypsa.Network, tmp_path: Path) -> None:
    """A disk that forgets: the file is there, but its inside is not what was written."""
    whole = swept(n, ALONE, {"attitude": [0.1]}, store=tmp_path)
    (path,) = tmp_path.glob("*.nc")
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : 2 * len(content) // 3] = b"\xff" * (len(content) // 3)
    path.write_bytes(bytes(content))
    xr.testing.assert_identical(swept(n, ALONE, {"attitude": [0.1]}, store=tmp_path), whole)


def test_what_cannot_be_written_leaves_nothing(
    n: pypsa.Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_dataset: xr.Dataset, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    with pytest.raises(p2p.P2PError, match=r"a point cannot be kept .*No space left"):
        swept(n, ALONE, {"attitude": [0.1]}, store=tmp_path)
    assert not list(tmp_path.iterdir())
