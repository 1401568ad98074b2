"""Settlement, savings and bills by hand (MODEL.md §4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.solution.settlement.hourly_rules import (
    HOURLY_RULES,
    paid_by_rule,
    retailers_share,
)

FIXED: dict[str, Any] = {"utility_quadratic": 0.0}

#: What three take, MW, and what each rule has them pay at 0.3 and 0.1, EUR/h.
PAID = {
    (6.0, -3.0, -1.0): {
        "mid_market": (1.4, -0.6, -0.2),
        "bill_sharing": (0.6, 0.0, 0.0),
        "supply_demand_ratio": (1.114286, -0.385714, -0.128571),
    },
    (3.0, -4.0, -1.0): {
        "mid_market": (0.6, -0.64, -0.16),
        "bill_sharing": (0.0, -0.16, -0.04),
        "supply_demand_ratio": (0.3, -0.4, -0.1),
    },
    (4.0, -3.0, -1.0): {
        "mid_market": (0.8, -0.6, -0.2),
        "bill_sharing": (0.0, 0.0, 0.0),
        "supply_demand_ratio": (0.4, -0.3, -0.1),
    },
}
CASES = [(taken, rule) for taken in PAID for rule in HOURLY_RULES]


def community(taken: tuple[float, ...], **contract: Any) -> pypsa.Network:
    """Three who need, or have from the sun, what they take of each other and the retailer."""
    n = pypsa.Network()
    demand, sun = np.maximum(taken, 0.0), np.maximum(np.negative(taken), 0.0)
    p2p.add_prosumers(
        n, ["a", "b", "c"], demand=demand, demand_min=demand, demand_max=demand, renewable=sun,
        **FIXED,
    )  # fmt: skip
    if contract:
        p2p.add_retail(n, **contract)
    p2p.add_trades(n, "complete", capacity=9)
    return n


@pytest.mark.parametrize(("taken", "rule"), CASES)
def test_rules_of_hours(taken: tuple[float, ...], rule: str) -> None:
    """They sum to what the retailer gets: 0.6, -0.2 or 0."""
    paid = paid_by_rule(rule, np.array([[taken]]), 0.3, 0.1)
    np.testing.assert_allclose(paid.ravel(), PAID[taken][rule], atol=1e-6)
    share = retailers_share(np.array([[taken]]), np.array(0.3), np.array(0.1)).item()
    assert paid.sum() == pytest.approx(share, abs=1e-12)
    assert share == pytest.approx({6: 0.6, 3: -0.2, 4: 0.0}[taken[0]], abs=1e-12)


@pytest.mark.parametrize("surplus", [True, False])
@pytest.mark.parametrize(("taken", "rule"), CASES)
def test_settled_by_hours(taken: tuple[float, ...], rule: str, surplus: bool) -> None:
    """By the contracts' prices, over hours; nobody pays anything else."""
    n = community(taken, import_price=0.3, export_price=0.1)
    n.snapshot_weightings.loc[:, :] = 2.0
    p2p.PeerToPeerMarket(surplus=surplus).optimize(n)
    d = p2p.settle(n, rule)
    np.testing.assert_allclose(d.payment.squeeze(), 2 * np.array(PAID[taken][rule]), atol=1e-6)
    np.testing.assert_allclose(d.payment.sum("prosumer"), d.retailer, atol=1e-9)
    np.testing.assert_allclose(d.bill, d.payment.sum("snapshot"), atol=1e-8)
    community_pays = p2p.results(n).bill.sum().item()
    assert d.bill.sum().item() == pytest.approx(community_pays, abs=1e-8)


def test_prices_given_by_hand_settle_what_nobody_has_contracts_for() -> None:
    """Surplus is what the retailer takes: it is sold at `sell`, not at p0."""
    n = community((3.0, -4.0, -1.0))
    p2p.PeerToPeerMarket().optimize(n)
    paid = p2p.settle(n, "mid_market", buy=0.3, sell=0.1).payment.squeeze()
    np.testing.assert_allclose(paid, PAID[3.0, -4.0, -1.0]["mid_market"], atol=1e-6)


def test_a_long_side_without_a_short_one() -> None:
    """All take, or nobody does anything: no quotient is taken of nothing."""
    for rule in HOURLY_RULES:
        paid = paid_by_rule(rule, np.array([[[1.0, 2.0], [0.0, 0.0], [-1.0, -2.0]]]), 0.3, 0.1)
        np.testing.assert_allclose(paid[0], [[0.3, 0.6], [0.0, 0.0], [-0.1, -0.2]], atol=1e-12)
        free = paid_by_rule(rule, np.array([[[3.0, -1.0]]]), 0.0, 0.0)
        np.testing.assert_allclose(free, 0.0, atol=1e-12)


# ------------------------------------------------------------------ pay as bid


def sellers(wanted: float, **trade: Any) -> pypsa.Network:
    """1 MW at 10 and 1 MW at 30, for a buyer who has to have it, or gives up 40 EUR/MWh."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["cheap", "dear", "buyer"], demand=[0, 0, wanted], demand_max=[0, 0, wanted],
        generation_max=[1, 1, 0], marginal_cost=[10, 30, 0], **FIXED,
    )  # fmt: skip
    n.generators.loc["buyer elastic demand", "marginal_cost"] = 40.0
    p2p.add_trades(n, [("cheap", "buyer"), ("dear", "buyer")], **{"capacity": 5.0, **trade})
    return n


def test_pay_as_bid(route: str) -> None:
    """2 MWh cost the buyer 10 and 30; at the market's price, between 30 and 40, it is 70."""
    n = sellers(2.0)
    if route == "direct":
        p2p.PeerToPeerMarket().optimize(n)
    else:
        n.optimize(extra_functionality=p2p.PeerToPeerMarket(), log_to_console=False)
    np.testing.assert_allclose(p2p.settle(n).payment.squeeze(), [-35, -35, 70], atol=1e-5)
    d = p2p.settle(n, "pay_as_bid")
    np.testing.assert_allclose(d.payment.squeeze(), [-10, -30, 40], atol=1e-6)
    np.testing.assert_allclose(d.bill.squeeze(), [0, 0, 40], atol=1e-6)
    assert float(abs(d.payment.sum("prosumer")).max()) <= 1e-9


def test_an_ask_holds_fee_and_preference() -> None:
    """A seller who minds 2 EUR/MWh less than nothing and pays a fee of 1 asks 10 - 2 + 1."""
    n = sellers(1.0, fee={("cheap", "buyer"): 1.0, ("buyer", "cheap"): 0.0,
                          ("dear", "buyer"): 0.0, ("buyer", "dear"): 0.0},
                price={("cheap", "buyer"): 2.0, ("buyer", "cheap"): 0.0,
                       ("dear", "buyer"): 0.0, ("buyer", "dear"): 0.0})  # fmt: skip
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    d = p2p.settle(n, "pay_as_bid")
    np.testing.assert_allclose(d.payment.squeeze(), [-9, 0, 9], atol=1e-6)
    np.testing.assert_allclose(d.net_cost.squeeze(), [0, 0, 9], atol=1e-6)


def test_who_passes_on_neither_gains_nor_loses() -> None:
    """2 MW at 10 by way of B, who adds 1 MW at 30: C pays 50, of which B keeps her 30."""
    n = pypsa.Network()
    demand = [0.0, 0.0, 3.0]
    p2p.add_prosumers(
        n, ["A", "B", "C"], demand=demand, demand_min=demand, demand_max=demand,
        generation_max=[2, 1, 0], marginal_cost=[10, 30, 0], **FIXED,
    )  # fmt: skip
    p2p.add_trades(n, [("A", "B"), ("B", "C")], capacity=9)
    p2p.PeerToPeerMarket().optimize(n)
    d = p2p.settle(n, "pay_as_bid")
    np.testing.assert_allclose(d.payment.squeeze(), [-20, -30, 50], atol=1e-6)


def test_who_passes_on_asks_for_her_fees() -> None:
    """1 EUR/MWh on what she buys and 1 on what she sells: C pays 12, and B is left with nothing."""
    n = pypsa.Network()
    demand = [0.0, 0.0, 2.0]
    p2p.add_prosumers(
        n, ["A", "B", "C"], demand=demand, demand_min=demand, demand_max=demand,
        generation_max=[3, 0, 0], marginal_cost=[10, 0, 0], **FIXED,
    )  # fmt: skip
    fee = {("B", "A"): 1.0, ("A", "B"): 0.0, ("B", "C"): 1.0, ("C", "B"): 0.0}
    p2p.add_trades(n, [("A", "B"), ("B", "C")], capacity=9, fee=fee)
    p2p.PeerToPeerMarket().optimize(n)
    d = p2p.settle(n, "pay_as_bid")
    np.testing.assert_allclose(d.payment.squeeze(), [-20, -4, 24], atol=1e-5)
    np.testing.assert_allclose(d.bill.squeeze(), [0, 0, 24], atol=1e-5)


def test_a_battery_asks_what_energy_is_worth() -> None:
    """Of sun at noon, worth 80 by the retailer, is left at night what it is worth then."""
    n = pypsa.Network(snapshots=["noon", "night"])
    demand = xr.DataArray([[0.0, 0], [0, 1]], coords={"snapshot": ["noon", "night"],
                                                      "prosumer": ["a", "b"]})  # fmt: skip
    sun = demand.copy(data=[[1.0, 0], [0, 0]])
    p2p.add_prosumers(
        n, ["a", "b"], demand=demand, demand_min=demand, demand_max=demand, renewable=sun, **FIXED
    )
    n.add("StorageUnit", "battery", bus="a", p_nom=1, max_hours=2, cyclic_state_of_charge=True)
    p2p.add_retail(n, import_price=300, export_price=80)
    p2p.add_trades(n, "complete", capacity=9)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    price = p2p.results(n).nodal_price.sel(prosumer="a", snapshot="night").item()
    paid = p2p.settle(n, "pay_as_bid").payment.sel(prosumer="b", snapshot="night").item()
    assert 80 - 1e-6 <= paid <= 300 + 1e-6
    assert paid == pytest.approx(price, abs=1e-5)


# ------------------------------------------------------------------ rules of one's own


def test_a_rule_of_ones_own() -> None:
    n = community((6.0, -3.0, -1.0), import_price=0.3, export_price=0.1)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    d = p2p.settle(n, lambda net_import, results: 0.2 * net_import)
    np.testing.assert_allclose(d.payment.squeeze(), [0.8, -0.6, -0.2], atol=1e-6)
    np.testing.assert_allclose(d.bill.squeeze(), [1.4, -0.6, -0.2], atol=1e-6)  # 2 MW of the shop

    def middle(net_import: xr.DataArray, r: xr.Dataset) -> xr.Dataset:
        taken = net_import + r.retail_import - r.retail_export
        paid = taken.copy(data=paid_by_rule("mid_market", taken.to_numpy(), 0.3, 0.1))
        return xr.Dataset({"payment": paid, "retailer": paid.sum("prosumer")})

    np.testing.assert_allclose(p2p.settle(n, middle).bill, p2p.settle(n, "mid_market").bill)


BAD: dict[str, tuple[Any, str]] = {
    "gifts": (lambda q, r: 0.2 * abs(q), r"sum to 0 .*scenario 'certain', snapshot 'now'"),
    "no labels": (lambda q, r: q.to_numpy(), "DataArray over 'scenario', 'snapshot', 'prosumer'"),
    "no hours": (lambda q, r: q.sum("snapshot"), r"payment, EUR, not \('scenario', 'prosumer'\)"),
    "others": (lambda q, r: q.assign_coords(prosumer=["x", "y", "z"]), "by the same labels"),
    "nothing": (lambda q, r: q * np.nan, "no number for payment"),
    "unknown": ("midmarket", "'midmarket': take one of 'prices', 'mid_market'"),
    "no rule": (3, "rule is 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_rules_that_cannot_be(case: str) -> None:
    rule, says = BAD[case]
    n = community((6.0, -3.0, -1.0), import_price=0.3, export_price=0.1)
    p2p.PeerToPeerMarket().optimize(n)
    with pytest.raises(p2p.MarketError, match=says):
        p2p.settle(n, rule)


def test_prices_that_a_rule_cannot_take() -> None:
    n = community((6.0, -3.0, -1.0))
    p2p.PeerToPeerMarket(surplus=False).optimize(c := community((4.0, -3.0, -1.0)))
    with pytest.raises(p2p.DataError, match="Argument buy is missing"):
        p2p.settle(c, "mid_market")
    with pytest.raises(p2p.DataError, match=r"at least those.*snapshot 'now'"):
        p2p.settle(c, "bill_sharing", buy=0.1, sell=0.3)
    with pytest.raises(p2p.DataError, match=r"must not be negative.*snapshot 'now'"):
        p2p.settle(c, "supply_demand_ratio", buy=0.1, sell=-0.3)
    p2p.add_retail(n, import_price=[0.3, 0.4, 0.3], export_price=0.1)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    with pytest.raises(p2p.DataError, match="prices of retail import differ"):
        p2p.settle(n, "mid_market")
    p2p.settle(n, "mid_market", buy=0.3)


def test_money_without_one_price_is_not_settled_by_prices() -> None:
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    with pytest.raises(p2p.MarketError, match="has not one price"):
        p2p.settle(n)
    d = p2p.settle(n, "mid_market", buy=3.0, sell=1.0)
    np.testing.assert_allclose(d.payment.sum("prosumer"), d.retailer, atol=1e-9)


# ------------------------------------------------------------------ savings and bills


def test_a_seller_gains_though_her_cost_rises() -> None:
    """Alone the roof sells 2 MWh at 80; to the flat at up to 300. Her cost rises by 160."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["roof", "flat"], demand=[0, 3], demand_min=[0, 3], demand_max=[0, 3],
        renewable=[2, 0], **FIXED,
    )  # fmt: skip
    p2p.add_retail(n, import_price=300, export_price=80)
    p2p.add_trades(n, "complete", capacity=5, fee=10)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    r, alone = p2p.results(n), p2p.results(p2p.without_trades(n))
    np.testing.assert_allclose(alone.cost.squeeze(), [-160, 900], atol=1e-6)
    assert (r.cost - alone.cost).sel(prosumer="roof").item() == pytest.approx(180.0, abs=1e-6)
    s = p2p.savings(n)
    np.testing.assert_allclose(s.saving_now, [2 * (290 - 80 - 10), 0.0], atol=1e-5)
    np.testing.assert_allclose(s.saving.squeeze("scenario"), s.saving_now, atol=1e-5)
    np.testing.assert_allclose(s.bill_before.squeeze(), [-160, 900], atol=1e-6)
    np.testing.assert_allclose(s.bill_after.squeeze(), [-560, 900], atol=1e-5)
    half = p2p.savings(n, settlement=p2p.settle(n, "mid_market"))
    np.testing.assert_allclose(half.saving.squeeze(), [380 - 160 - 20, 900 - 680 - 20], atol=1e-5)
    other = p2p.savings(n, reference=n)
    np.testing.assert_allclose(other.saving_now, 0.0, atol=1e-9)
    table = p2p.bills(n)
    np.testing.assert_allclose(table.fees, [20, 20], atol=1e-6)
    np.testing.assert_allclose(table.trades, [-580, 580], atol=1e-5)
    np.testing.assert_allclose(table.retail_import, [0, 300], atol=1e-5)
    np.testing.assert_allclose(table.total, [-560, 900], atol=1e-5)


def test_who_cannot_do_without_is_named() -> None:
    """Sun that nobody takes and a need that nobody meets; the retailer would do both."""
    n = community((4.0, -4.0, 0.0))
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    with pytest.raises(p2p.MarketError, match=r"Without trades.*'a'.*'b'.*add_retail"):
        p2p.savings(n)


def test_other_households_are_no_reference() -> None:
    n, other = community((4.0, -4.0, 0.0)), p2p.load_grid("three_node")
    for one in (n, other):
        p2p.PeerToPeerMarket(surplus=False).optimize(one)
    with pytest.raises(p2p.MarketError, match="compare networks with the same"):
        p2p.savings(n, reference=other)
    with pytest.raises(p2p.MarketError, match="settlement must be what settle"):
        p2p.savings(n, reference=n, settlement={"bill": 1})


def test_savings_now_where_payments_do_not_cancel() -> None:
    """Weights 1 : 9 give each trade two prices, so that what it is worth now is no saving."""
    n = p2p.load_grid("three_node")
    unequal = p2p.PeerToPeerMarket(
        equilibrium="generalized", weights={"0": 1, "1": 1, "2": 9}, surplus=False
    )
    unequal.optimize(n)
    assert p2p.savings(n).saving_now.isnull().all()
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    assert (p2p.savings(n).saving_now > 0).all()
    assert "saving_now" not in p2p.savings(n, settlement=p2p.settle(n))


def test_arguments_that_mean_nothing_are_refused() -> None:
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    with pytest.raises(p2p.MarketError, match="'buy': retail prices belong to the rules"):
        p2p.settle(n, "prices", buy=3.0)
    with pytest.raises(p2p.MarketError, match="leave them out with a network of reports"):
        p2p.settle(n, n.copy(), buy=3.0)
    n = pypsa.Network(snapshots=pd.date_range("2030-01-01", periods=2, freq="h"))
    p2p.add_prosumers(n, ["a"], demand=0, demand_max=1, utility_quadratic=1)
    with pytest.raises(p2p.DataError, match="peak_period is 'D', but there is no peak_price"):
        p2p.add_retail(n, import_price=3.0, export_price=1.0, peak_period="D")


def test_alone_is_alone_where_the_community_shares_its_risk() -> None:
    """Savings now are those of `allocate`, which has everybody alone under her own measure."""
    n = p2p.load_grid("three_node")
    market = p2p.CentralizedMarket(
        aggregate="community", risk=p2p.CVaR(attitude=0.5), surplus=False
    )
    market.optimize(n)
    saved = p2p.allocate(n, "market", progress=False).saving.to_numpy()
    np.testing.assert_allclose(p2p.savings(n).saving_now, saved, rtol=1e-6)


def test_references_of_other_hours_are_refused() -> None:
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    longer = n.copy()
    longer.snapshot_weightings.loc[:, :] = 2.0
    p2p.PeerToPeerMarket(surplus=False).optimize(longer)
    with pytest.raises(p2p.MarketError, match="weighting of the reference is not the market's"):
        p2p.savings(n, longer)
