"""MODEL.md §12: decisions of all scenarios at once, by hand and by an independent program."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.by_hand.markets import three_node_in_two_stages

LEAST = float(p2p.load_grid("three_node").buses.risk_attitude.min())
RISKS: dict[str, dict[str, Any]] = {
    "neutral": {},
    "averse": {"risk": p2p.CVaR()},
    "contracts": {"risk": p2p.CVaR(), "contracts": p2p.Contracts()},
    "least attitude": {"risk": p2p.CVaR(attitude=LEAST)},
}
STAGES: dict[str, dict[str, Any]] = {
    "day ahead": {},
    "imbalance": {"imbalance": (5.0, 0.5)},
    "friction 1": {"friction": 1.0},
    "friction .2": {"friction": 0.2},
    "real time": {"ahead": False, "friction": 1.0},
    "wait and see": {"ahead": False, "friction": 0.0},
}
#: Sum of R: neutral, averse, with contracts, all of the least attitude.
OBJECTIVES = {
    "wait and see": (7.6102899, 13.9771248, 8.0748864, 8.2748992),
    "day ahead": (11.1529420, 22.2221124, 11.8548438, 11.9178011),
    "imbalance": (10.6746658, 22.2221124, 11.3519866, 11.4329577),
    "friction 1": (9.5722240, 17.9978782, 10.1824760, 10.3134398),
    "friction .2": (8.0728090, 14.5783313, 8.5717432, 8.7675919),
    "real time": (16.0842754, 21.5352244, 16.6021898, 16.6328165),
}
CASES = [(stage, risk) for stage in OBJECTIVES for risk in RISKS]


def solve(n: pypsa.Network, market: p2p.Market, route: str = "direct") -> xr.Dataset:
    """Results of a market, on either route."""
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)
    return p2p.results(n)


@cache
def solved(stage: str, risk: str, route: str = "direct") -> tuple[pypsa.Network, xr.Dataset]:
    """Three nodes, solved once a session."""
    n = three_node_in_two_stages(**STAGES[stage])
    return n, solve(n, p2p.PeerToPeerMarket(surplus=False, **RISKS[risk]), route)


@pytest.mark.parametrize(("stage", "risk"), CASES)
def test_objectives(stage: str, risk: str, route: str) -> None:
    """The table of two stages, each answer with its proof.

    Trades that differed by scenario would give the wait-and-see row for "day ahead"; a friction on
    both ends, 2 for 1, more than 9.572224; capacities of their own for each time of trade less.
    """
    n, r = solved(stage, risk, route)
    expected = OBJECTIVES[stage][list(RISKS).index(risk)]
    assert float(r["social_cost"]) == pytest.approx(expected, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize(
    ("risk", "price", "bought"),
    [
        ("neutral", 0.22819, [3.4062, -7.1903, 5.0]),
        ("averse", 1.55108, [2.1626, -8.6443, 5.0]),
        ("contracts", 0.27501, [3.3671, -7.2058, 5.0]),
        ("least attitude", 0.29927, [3.3650, -7.2688, 5.0]),
    ],
)
def test_prices_and_trades_day_ahead(
    risk: str, price: float, bought: list[float], route: str
) -> None:
    """One price and one quantity of every edge; the price of one scenario alone is another."""
    _, r = solved("day ahead", risk, route)
    prices = r["day_ahead_price"].to_numpy()[0]
    np.testing.assert_allclose(prices, np.tile([price, price, price + 1], 2), atol=1e-5)
    for scenario in r["scenario"].to_numpy():
        here = r.sel(scenario=scenario).isel(snapshot=0)
        np.testing.assert_allclose(here["quantity"][:3], bought, atol=1e-4)
        np.testing.assert_allclose(here["trade_price"], prices, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("risk", "price"), [("neutral", 0.15709), ("averse", 1.55108), ("contracts", 0.21387)]
)
def test_price_beside_imbalance(risk: str, price: float) -> None:
    """Where imbalance is cheap in the dry scenario, less is paid the day before."""
    _, r = solved("imbalance", risk)
    assert float(r["day_ahead_price"][0, 0]) == pytest.approx(price, abs=1e-5)


@pytest.mark.parametrize("stage", ["day ahead", "imbalance", "friction 1", "friction .2"])
def test_contract_prices_do_not_see_the_stages(stage: str) -> None:
    """(.358080, .283839, .358080) at whatever time is traded, here where costs order alike."""
    _, r = solved(stage, "contracts")
    np.testing.assert_allclose(r["contract_price"].sum(), 1.0, atol=1e-9)
    found = np.sort(r["contract_price"].to_numpy())
    np.testing.assert_allclose(found, [0.283839, 0.358080, 0.358080], atol=1e-6)


@pytest.mark.parametrize("risk", RISKS)
def test_a_price_day_ahead_is_what_energy_is_worth_in_all_scenarios(risk: str) -> None:
    """sum over scenarios of lambda_0 less b_01: 1.22819 - 1 risk-neutral."""
    n, r = solved("day ahead", risk)
    worth = n.buses_t.marginal_price.T.groupby(level="name").sum().loc["0"].item()
    assert float(r["day_ahead_price"][0, 0]) == pytest.approx(worth - 1.0, abs=1e-8)


def test_payments_day_ahead_are_sure_money() -> None:
    """Paid whatever comes, so that there is a payment though nobody weighs scenarios alike."""
    _, r = solved("day ahead", "averse")
    paid = r["payment"].to_numpy()
    expected = (r["day_ahead_price"] * r["quantity"]).isel(snapshot=0)
    for scenario, of_scenario in zip(r["scenario"].to_numpy(), paid, strict=True):
        one = expected.sel(scenario=scenario).groupby("buyer").sum()
        np.testing.assert_allclose(of_scenario, one.to_numpy(), atol=1e-12)
    np.testing.assert_allclose(paid.sum(axis=-1), 0.0, atol=1e-9)
    now = r["payment_now"].sum("scenario").to_numpy()
    np.testing.assert_allclose(now, paid[0], atol=1e-12)
    costs = r["cost"].sum("prosumer").to_numpy()
    np.testing.assert_allclose(r["net_cost"].sum("prosumer"), costs, atol=1e-9)


def farm_and_shop(share: float = 0.5, snapshots: int = 1) -> pypsa.Network:
    """Wind of 4 or 0 MW in the last hour; a shop that needs 3 MW, its coal at 10 and gas at 30.

    Over several hours there is no coal.
    """
    n = pypsa.Network(snapshots=range(snapshots))
    p2p.add_prosumers(
        n, ["farm", "shop"], demand=[0, 3], demand_max=[0, 3], demand_min=[0, 3],
        utility_quadratic=0.0,
    )  # fmt: skip
    coal = 3.0 if snapshots == 1 else 0.0
    n.add("Generator", "coal", bus="shop", p_nom=coal, marginal_cost=10.0)
    n.add("Generator", "gas", bus="shop", p_nom=5.0, marginal_cost=30.0)
    labels = {"scenario": ["wind", "calm"], "snapshot": n.snapshots, "prosumer": ["farm", "shop"]}
    wind = xr.DataArray(np.zeros((2, snapshots, 2)), labels)
    wind[0, -1, 0] = 4.0
    p2p.set_scenarios(n, {"wind": share, "calm": 1 - share}, xr.Dataset({"renewable": wind}))
    p2p.add_imbalance(n, buy=100.0, sell=0.0)
    p2p.add_trades(n, "complete", capacity=5.0)
    return n


@pytest.mark.parametrize(("share", "coal", "cost"), [(0.5, 3.0, 30.0), (0.8, 0.0, 18.0)])
def test_a_plant_committed_before_the_wind_is_known(
    share: float, coal: float, cost: float, route: str
) -> None:
    """Coal for sure costs 10; gas in the calm alone 30 (1 - share): 15 or 6 EUR/MWh expected.

    Decided in the scenario, coal would run in the calm alone: 15 or 6 EUR in all.
    """
    n = farm_and_shop(share)
    r = solve(n, p2p.PeerToPeerMarket(surplus=False, here_and_now=("coal",)), route)
    output = n.generators_t.p.T.xs("coal", level="name").to_numpy().ravel()
    np.testing.assert_allclose(output, coal, atol=1e-6)
    assert float(r["social_cost"]) == pytest.approx(cost, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()
    free = farm_and_shop(share)
    r = solve(free, p2p.PeerToPeerMarket(surplus=False), route)
    assert float(r["social_cost"]) == pytest.approx((1 - share) * 30.0, abs=1e-6)


def test_a_battery_charged_before_the_wind_is_known(route: str) -> None:
    """Decided in the scenario it would be filled where there is no wind alone.

    The shop's gas costs 5 in the first hour and 30 in the second, and wind comes in the second, if
    at all. A MWh put by for 5 saves 30 in the calm, .5 x 30 - 5 = 10; if the wind is known before,
    .5 x (30 - 5) = 12.5. All else costs 15 + .5 x 90 = 60.
    """
    costs = {}
    for shared in ((), ("battery",)):
        n = farm_and_shop(snapshots=2)
        n.generators_t.marginal_cost = pd.DataFrame(
            {name: [5.0, 30.0] for name in n.generators.index if name[1] == "gas"}, n.snapshots
        )
        n.add("StorageUnit", "battery", bus="shop", p_nom=1.0, max_hours=1.0)
        market = p2p.PeerToPeerMarket(surplus=False, here_and_now=shared)
        r = solve(n, market, route)
        costs[shared] = float(r["social_cost"])
        output = n.storage_units_t.p.to_numpy()
        assert p2p.certify(n).is_equilibrium()
    assert costs == pytest.approx({(): 47.5, ("battery",): 50.0}, abs=1e-6)
    np.testing.assert_allclose(output, [[-1.0, -1.0], [1.0, 1.0]], atol=1e-6)


def test_one_scenario_has_no_day_ahead() -> None:
    """Without scenarios a trade day ahead is one in real time."""
    prices = []
    for decided in ("day-ahead", "real-time"):
        n = pypsa.Network()
        p2p.add_prosumers(
            n, ["a", "b"], demand=[0, 6], demand_max=[0, 6], utility_quadratic=1.0,
            generation_max=[10, 0], marginal_cost=1.0, marginal_cost_quadratic=1.0,
        )  # fmt: skip
        p2p.add_trades(n, [("a", "b")], capacity=10, decided=decided)
        r = solve(n, p2p.PeerToPeerMarket())
        assert p2p.certify(n).is_equilibrium()
        prices.append(r["trade_price"].to_numpy())
    np.testing.assert_allclose(*prices, atol=1e-9)


def test_a_trade_is_settled_at_the_same_time_in_all_scenarios() -> None:
    n = p2p.load_grid("three_node")
    n.links["decided"] = "real-time"
    n.links.loc[("1", "0 - 1"), "decided"] = "day-ahead"
    with pytest.raises(p2p.DataError, match="of trade edge '0 - 1' differs between scenarios"):
        p2p.PeerToPeerMarket().optimize(n)


def test_imbalance_that_pays_for_surplus_has_no_capacity_to_limit() -> None:
    n = p2p.load_grid("three_node")
    n.buses_t.import_price[:] = 9.0
    p2p.add_imbalance(n, buy=5.0, sell=1.0)
    with pytest.raises(p2p.MarketError, match=r"out of balance has no limit: add_imbalance\("):
        p2p.PeerToPeerMarket().optimize(n)


def test_an_asset_of_any_size_and_imbalance() -> None:
    n = p2p.load_grid("three_node")
    n.add("Generator", "gas", bus="0", p_nom_extendable=True, capital_cost=5)
    before = n.generators.copy()
    with pytest.raises(p2p.DataError, match=r"'gas' may have any size, .* of retail or imbalance"):
        p2p.add_imbalance(n, buy=5.0, sell=1.0)
    assert n.generators.equals(before)
    with pytest.raises(p2p.DataError, match="has no prosumers: add them first"):
        p2p.add_imbalance(pypsa.Network(), buy=5.0, sell=1.0)
