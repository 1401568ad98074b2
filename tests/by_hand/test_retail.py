"""Retail contracts and peak charges in markets small enough to be solved by hand (MODEL.md §1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p


def fixed(demand: Any) -> dict[str, Any]:
    """Arguments of prosumers who use just that, MW."""
    return {"demand": demand, "demand_min": demand, "demand_max": demand, "utility_quadratic": 0.0}


def solve(n: pypsa.Network, market: p2p.Market, route: str = "direct") -> xr.Dataset:
    if route == "direct":
        market.optimize(n)
    else:
        n.optimize(extra_functionality=market, log_to_console=False)
    return p2p.results(n)


def roof_and_shop(**contract: Any) -> pypsa.Network:
    """1 MW of sun on a roof; a shop takes 1 MW and can make it at 90. Retail before trades."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["roof", "shop"], **fixed([0, 1]), renewable=[1, 0], generation_max=[0, 2],
        marginal_cost=[0, 90],
    )  # fmt: skip
    if contract:
        p2p.add_retail(n, **{"import_price": 120, **contract})
    p2p.add_trades(n, "complete", capacity=5)
    return n


@pytest.mark.parametrize(("export", "cost"), [(1.0, -10.0), (0.0, 0.0)], ids=["export", "none"])
@pytest.mark.parametrize("surplus", [True, False])
def test_the_roof_exports(export: float, cost: float, surplus: bool, route: str) -> None:
    """The roof sells her MW at 100, the shop makes hers at 90: -10. Without export the shop has it.

    As p0 of 100 and 50 this was once -50, of which 50 were made of nothing.
    """
    n = roof_and_shop(export_price=[100, 50], export_capacity=export)
    r = solve(n, p2p.PeerToPeerMarket(surplus=surplus), route)
    assert float(r.social_cost) == pytest.approx(cost, abs=1e-8)
    assert n.objective == pytest.approx(cost, abs=1e-7)
    sold = r.retail_export.sel(prosumer="roof").item()
    assert sold == pytest.approx(export, abs=1e-8)
    assert p2p.certify(n).is_equilibrium()


def test_unequal_import_prices_name_the_way() -> None:
    n = roof_and_shop()
    n.c["Bus"].dynamic["import_price"][["roof", "shop"]] = [100.0, 50.0]
    with pytest.raises(p2p.DataError, match=r"100 .*'roof'|50 .*'roof'.*add_retail"):
        p2p.PeerToPeerMarket(surplus=False).optimize(n)


def test_prices_stay_within_the_retailers(route: str) -> None:
    """Sun of 4 for 1 and 3 MW, of 2, of none: in the middle of 50 and 200, then 200."""
    n = pypsa.Network(snapshots=["bright", "mixed", "dark"])
    sun = pd.DataFrame({"a": [4.5, 2.0, 0.0], "b": 0.0}, n.snapshots)
    p2p.add_prosumers(n, ["a", "b"], **fixed([1, 3]), renewable=sun)
    p2p.add_retail(n, import_price=200, export_price=50)
    p2p.add_trades(n, "complete", capacity=50)
    r = solve(n, p2p.PeerToPeerMarket(surplus=False), route)
    price = r.nodal_price.squeeze("scenario").sel(prosumer="b").to_numpy()
    np.testing.assert_allclose(price, [50.0, 200.0, 200.0], atol=1e-5)
    assert r.price_unique.all()
    np.testing.assert_allclose(r.retail_import.sum("prosumer").squeeze(), [0, 2, 4], atol=1e-7)
    np.testing.assert_allclose(r.retail_export.sum("prosumer").squeeze(), [0.5, 0, 0], atol=1e-7)


# ------------------------------------------------------------------ peaks

HOURS = pd.DatetimeIndex(["2030-01-01 12:00", "2030-01-02 12:00"])


def engine(peak_price: float, peak_period: str | None = None) -> pypsa.Network:
    """3 MW, next day 1; bought at 100 or made at 150, 2 MW at most."""
    n = pypsa.Network(snapshots=HOURS)
    demand = pd.DataFrame({"house": [3.0, 1.0]}, HOURS)
    p2p.add_prosumers(n, ["house"], **fixed(demand), generation_max=2.0, marginal_cost=150.0)
    p2p.add_retail(
        n, import_price=100, export_price=0, peak_price=peak_price, peak_period=peak_period
    )
    return n


@pytest.mark.parametrize(
    ("price", "period", "cost", "peaks"),
    [
        (40.0, None, 40 * 3 + 400.0, [3.0]),
        (60.0, None, 60 * 1 + 200 + 300.0, [1.0]),
        (60.0, "D", (60 * 1 + 100 + 300.0) + 150.0, [1.0, 0.0]),
        (60.0, "MS", 60 * 1 + 200 + 300.0, [1.0]),
        (60.0, "M", 60 * 1 + 200 + 300.0, [1.0]),
    ],
    ids=["cheap", "dear", "dear by day", "dear by month", "in pandas' old words"],
)
def test_the_peak_of_a_period(
    price: float, period: str | None, cost: float, peaks: list[float], route: str
) -> None:
    """A MW less saves the peak price and costs 50: on the first day, or in every period of it."""
    n = engine(price, period)
    r = solve(n, p2p.CentralizedMarket(), route)
    assert float(r.social_cost) == pytest.approx(cost, rel=1e-8)
    built = n.generators[n.generators.carrier == "retail import"].p_nom_opt
    np.testing.assert_allclose(built, peaks, atol=1e-6)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize(
    ("attitude", "peak", "costs", "risk"),
    [(0.0, 1.0, (440.0, 140.0), 290.0), (0.5, 3.0, (420.0, 220.0), 420.0)],
    ids=["neutral", "averse"],
)
def test_a_peak_is_settled_before_the_scenario(
    attitude: float, peak: float, costs: tuple[float, float], risk: float, route: str
) -> None:
    """3 or 1 MW, equally likely, at 40 EUR/MW: a MW less than 3 costs 50 tau in the first alone.

    25 where she is neutral, which is less than 40; 50 where she minds the first alone. Below 1 MW
    it costs 50 in both.
    """
    n = pypsa.Network()
    p2p.add_prosumers(n, ["house"], **fixed(3.0), generation_max=2.0, marginal_cost=150.0)
    demand = xr.DataArray([3.0, 1.0], coords={"scenario": ["cold", "mild"]})
    data = dict.fromkeys(("demand", "demand_min", "demand_max"), demand)
    p2p.set_scenarios(n, {"cold": 0.5, "mild": 0.5}, xr.Dataset(data))
    p2p.add_retail(n, import_price=100, export_price=0, peak_price=40)
    r = solve(n, p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude)), route)
    assert r.cost.to_numpy().ravel() == pytest.approx(costs, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(risk, rel=1e-8)
    built = n.c["Generator"].static["p_nom_opt"].xs("house retail import", level="name")
    np.testing.assert_allclose(built, peak, atol=1e-6)
    assert p2p.certify(n).is_equilibrium()


# ------------------------------------------------------------------ what is refused

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "money machine": ({"export_price": [110, 130]}, r"export_price exceeds.*'shop'"),
    "below nothing": ({"export_price": 0, "import_capacity": -1}, "import_capacity is negative"),
    "no number": ({"export_price": 0, "export_capacity": np.nan}, "export_capacity is NaN"),
    "paid for peaks": ({"export_price": 0, "peak_price": -1}, "peak_price is negative"),
    "no times": ({"export_price": 0, "peak_price": 1, "peak_period": "D"}, "no times"),
    "stranger": ({"export_price": 0, "prosumers": ["mill"]}, "'mill', which is no prosumer"),
    "text": ({"export_price": "dear"}, "export_price is not a number"),
}


@pytest.mark.parametrize("case", BAD)
def test_contracts_that_cannot_be(case: str) -> None:
    contract, says = BAD[case]
    n = roof_and_shop()
    before = n.generators.copy()
    with pytest.raises(p2p.DataError, match=says):
        p2p.add_retail(n, **{"import_price": 120, **contract})
    pd.testing.assert_frame_equal(n.generators, before)


def test_no_frequency() -> None:
    with pytest.raises(p2p.DataError, match="'fortnight'"):
        engine(1.0, "fortnight")


def test_a_limit_lets_export_pay_more_than_import(route: str) -> None:
    """2 MW bought at 100 are sold at 150: limited, it is a contract like any other."""
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a"], **fixed(1.0))
    p2p.add_retail(n, import_price=100, export_price=150, import_capacity=3)
    r = solve(n, p2p.PeerToPeerMarket(), route)
    assert float(r.social_cost) == pytest.approx(300 - 300, abs=1e-6)
    assert r.retail_export.item() == pytest.approx(2.0, abs=1e-7)


def test_surplus_that_pays_for_imports_is_refused() -> None:
    """p0 of 130 for what is imported at 120: without end, unless surplus stays inside."""
    n = roof_and_shop(export_price=0)
    n.c["Bus"].dynamic["import_price"][["roof", "shop"]] = 130.0
    with pytest.raises(p2p.MarketError, match=r"'roof' in snapshot 'now'.*surplus=False"):
        p2p.PeerToPeerMarket().optimize(n)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)


def test_prices_edited_into_a_money_machine_are_refused() -> None:
    n = roof_and_shop(export_price=0)
    n.generators.loc["shop retail export", "marginal_cost"] = 121.0
    with pytest.raises(p2p.DataError, match="'shop' in snapshot 'now'"):
        p2p.PeerToPeerMarket().optimize(n)


def test_what_comes_later_is_not_limited_in_silence(route: str) -> None:
    """A boiler of 30 MW, added by hand: refused until the contract is made again, then served."""
    n = roof_and_shop(export_price=0)
    n.add("Load", "boiler", bus="shop", p_set=30.0)
    with pytest.raises(p2p.DataError, match=r"'shop retail import'.*Call add_retail after"):
        p2p.PeerToPeerMarket().optimize(n)
    p2p.add_retail(n, import_price=120, export_price=0)
    r = solve(n, p2p.PeerToPeerMarket(), route)
    assert float(r.social_cost) == pytest.approx(90 * 2 + 120 * 28, rel=1e-9)
    assert r.nodal_price.sel(prosumer="shop").item() == pytest.approx(120.0, abs=1e-5)


def test_an_asset_of_any_size_needs_a_limit() -> None:
    n = roof_and_shop()
    n.add("StorageUnit", "tank", bus="shop", p_nom_extendable=True, capital_cost=1.0)
    with pytest.raises(p2p.DataError, match=r"'tank' may have any size"):
        p2p.add_retail(n, import_price=120, export_price=0)
    p2p.add_retail(n, import_price=120, export_price=0, import_capacity=9, export_capacity=9)
    p2p.PeerToPeerMarket().optimize(n)


# ------------------------------------------------------------------ networks with contracts


def test_a_second_call_replaces() -> None:
    n = roof_and_shop(export_price=[100, 50], export_capacity=1.0)
    p2p.add_retail(n, ["shop"], import_price=70, export_price=0, peak_price=5)
    retail = n.generators[n.generators.carrier.isin(["retail import", "retail export"])]
    assert sorted(retail.index) == [
        "roof retail export", "roof retail import", "shop retail export", "shop retail import",
    ]  # fmt: skip
    r = solve(n, p2p.PeerToPeerMarket())
    assert float(r.social_cost) == pytest.approx(-100 + 70 + 5, abs=1e-7)


def test_prices_by_scenario_and_in_files(tmp_path: Path) -> None:
    """Known, dear and cheap: what is bought at 200 or 100 costs 150 on average."""
    n = roof_and_shop()
    p2p.set_scenarios(n, {"dear": 0.5, "cheap": 0.5})
    price = xr.DataArray([80.0, 60.0], coords={"scenario": ["dear", "cheap"]})
    p2p.add_retail(n, import_price=price, export_price=50.0)
    solve(n, p2p.PeerToPeerMarket(surplus=False))
    n.export_to_netcdf(tmp_path / "market.nc")
    copy = n.copy()
    for same in (n, copy, pypsa.Network(tmp_path / "market.nc")):
        assert float(p2p.results(same).social_cost) == pytest.approx(0.0, abs=1e-8)
        p2p.PeerToPeerMarket(surplus=False).optimize(same)
        r = p2p.results(same)
        price = r.nodal_price.sel(prosumer="shop").to_numpy().ravel()
        assert ((price >= 50 - 1e-6) & (price <= [80 + 1e-6, 60 + 1e-6])).all()


def test_scenarios_after_contracts() -> None:
    """More sun in one scenario than the network had: exports have room for it."""
    n = roof_and_shop(export_price=50)
    sun = xr.DataArray([[40.0, 0], [0, 0]], coords={"scenario": ["a", "b"],
                                                    "prosumer": ["roof", "shop"]})  # fmt: skip
    p2p.set_scenarios(n, {"a": 0.5, "b": 0.5}, xr.Dataset({"renewable": sun}))
    r = solve(n, p2p.PeerToPeerMarket())
    assert r.retail_export.sel(scenario="a").sum().item() == pytest.approx(39.0, abs=1e-6)


def test_released_prosumers_leave_no_contract() -> None:
    n = pypsa.Network()
    n.add("Bus", ["a", "b"])
    n.add("Line", "ab", bus0="a", bus1="b", x=0.1, s_nom=9)
    n.add("Load", "load", bus="a", p_set=1.0)
    n.add("Generator", "gas", bus="b", p_nom=5, marginal_cost=30)
    before = n.generators.copy()
    p2p.assign_prosumers(n, "bus")
    p2p.add_retail(n, import_price=100, export_price=10, peak_price=2)
    p2p.add_trades(n, "grid", capacity=5)
    p2p.PeerToPeerMarket(delivery="grid").optimize(n)
    p2p.release_prosumers(n)
    pd.testing.assert_frame_equal(n.generators, before)
    assert "retail import" not in n.carriers.index
