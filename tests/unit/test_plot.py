"""Pictures show the numbers of `results`; how they look is judged by eye."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pypsa
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import FancyArrowPatch

import pypsa_p2p as p2p
from pypsa_p2p import plot
from tests.by_hand.privacy import MARKET, four

mpl.use("Agg")

PICTURES = [plot.trades, plot.prices, plot.costs, plot.risk]
MARKETS = {
    "neutral": p2p.PeerToPeerMarket(),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
}


@pytest.fixture(autouse=True)
def _close() -> Any:
    yield
    plt.close("all")


@cache
def solved(market: str) -> pypsa.Network:
    n = p2p.load_grid("three_node")
    MARKETS[market].optimize(n)
    return n


def arrows(ax: Axes) -> list[FancyArrowPatch]:
    return [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def grey_edges(ax: Axes) -> list[Any]:
    return [
        segment
        for lines in ax.collections
        if isinstance(lines, LineCollection)
        for segment in lines.get_segments()
    ]


def tail_width(arrow: FancyArrowPatch) -> float:
    return float(arrow.get_arrowstyle().tail_width)


def middle(arrow: FancyArrowPatch) -> np.ndarray:
    return np.mean(arrow._posA_posB, axis=0)


@cache
def households(count: int) -> pypsa.Network:
    """Sun on every other roof, a retailer for all."""
    n = pypsa.Network()
    names = [f"house {k}" for k in range(count)]
    p2p.add_prosumers(
        n, names, demand=1, demand_min=1, demand_max=1, utility_quadratic=0,
        renewable=[2.0 * (k % 2) for k in range(count)], fixed_cost=10,
    )  # fmt: skip
    p2p.add_retail(n, import_price=300, export_price=80, peak_price=20)
    p2p.add_trades(n, list(pairwise(names)), capacity=5, fee=2)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    return n


@pytest.mark.parametrize("count", [3, 30])
def test_bills_stand_end_to_end(count: int) -> None:
    """Bars of a household's row add up to her total, before and after; a row needs its height."""
    n = households(count)
    ax = plot.bills(n)
    ax.figure.canvas.draw()
    after, before = p2p.bills(n), p2p.bills(p2p.without_trades(n))
    for table, offset in ((before, -0.18), (after, 0.18)):
        for place, total in enumerate(table.total):
            row = [
                bar.get_width()
                for bar in ax.patches
                if abs(bar.get_y() + bar.get_height() / 2 - place - offset) < 1e-6
            ]
            assert sum(row) == pytest.approx(total, abs=1e-4)
    low, high = ax.get_xlim()
    reach = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert low < min(reach)
    assert max(reach) < high
    assert ax.figure.get_figheight() >= 0.24 * count
    _, key = ax.get_legend_handles_labels()
    shown = ["energy", "retail import", "retail export", "peak", "fees", "trades"]
    assert sorted(key) == sorted([*shown, "total before", "total after"])


def test_bills_need_one_price() -> None:
    with pytest.raises(p2p.MarketError, match="no bills"):
        plot.bills(solved("averse"), reference=solved("averse"))


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("market", MARKETS)
def test_every_picture_of_every_market_can_be_drawn(picture: Any, market: str) -> None:
    figure, ax = plt.subplots()
    assert picture(solved(market), ax=ax) is ax
    figure.canvas.draw()


@pytest.mark.parametrize("picture", PICTURES)
def test_default_figure_is_one_column_wide(picture: Any) -> None:
    assert picture(solved("averse")).figure.get_figwidth() == 3.5


@pytest.mark.parametrize("picture", PICTURES)
def test_unsolved(picture: Any) -> None:
    with pytest.raises(p2p.P2PError, match="no solved market"):
        picture(p2p.load_grid("three_node"))


@pytest.mark.parametrize("picture", PICTURES)
def test_without_matplotlib(picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(p2p.P2PError, match=r"pip install \"pypsa-p2p\[plot\]\""):
        picture(solved("neutral"))


def test_arrows_lead_from_seller_to_buyer_as_wide_as_the_trade() -> None:
    n = solved("neutral")
    ax = plot.trades(n, scenario="0")
    quantity = p2p.results(n).quantity.sel(scenario="0").isel(snapshot=0)
    sold = {
        (str(trade.seller.item()), str(trade.buyer.item())): float(trade)
        for trade in quantity
        if float(trade) > 0.01 * float(quantity.max())
    }
    place = n.buses.xs("0", level="scenario")[["x", "y"]]
    drawn = {}
    for arrow in arrows(ax):
        ends = [
            next(str(who) for who, xy in place.iterrows() if np.allclose(xy, point))
            for point in arrow._posA_posB
        ]
        drawn[ends[0], ends[1]] = tail_width(arrow)
    assert set(drawn) == set(sold)
    greatest = max(sold.values())
    for pair, width in drawn.items():
        assert width == pytest.approx(max(6.0 * sold[pair] / greatest, 0.5))


def test_widths_are_expectations_of_purchases_not_of_net_trade() -> None:
    """An edge used both ways in different scenarios has two arrows."""
    n = solved("neutral")
    quantity = p2p.results(n).quantity.isel(snapshot=0)
    expected = quantity.clip(min=0).mean("scenario")
    shown = expected > 0.01 * expected.max()
    ax = plot.trades(n)
    assert len(arrows(ax)) == int(shown.sum())
    # Grey are only those of the three edges that no arrow uses.
    assert len(grey_edges(ax)) == int((~shown.values[:3] & ~shown.values[3:]).sum())


def test_prosumers_are_named_and_coloured_by_price() -> None:
    n = solved("neutral")
    ax = plot.trades(n)
    price = p2p.results(n).nodal_price.mean(["scenario", "snapshot"])
    assert texts(ax) == ["0", "1", "2"]
    share = (price.values - price.values.min()) / np.ptp(price.values)
    np.testing.assert_allclose(
        ax.collections[0].get_facecolors(), mpl.colormaps["viridis"](share), atol=0.01
    )
    assert ax.child_axes[0].get_ylabel() == "Nodal price (EUR/MWh)"


def test_unknown_labels() -> None:
    with pytest.raises(p2p.MarketError, match="no scenario 'rain'; take one of '0', '1', '2'"):
        plot.trades(solved("neutral"), scenario="rain")
    with pytest.raises(p2p.MarketError, match="no snapshot 'noon'"):
        plot.trades(solved("neutral"), snapshot="noon")


def test_coinciding_coordinates_give_one_reproducible_layout() -> None:
    n = p2p.load_grid("three_node")
    n.buses[["x", "y"]] = 0.0
    MARKETS["neutral"].optimize(n)
    first, second = (np.asarray(plot.trades(n).collections[0].get_offsets()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    distance = np.linalg.norm(first[:, None] - first[None], axis=2)
    assert (distance[~np.eye(3, dtype=bool)] > 0.1).all()


def test_long_names_stand_beside_the_discs() -> None:
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["a", "town hall"],
        demand=2.0,
        demand_max=3.0,
        utility_quadratic=1.0,
        generation_max=[9.0, 0.0],
        marginal_cost_quadratic=0.1,
    )
    p2p.add_trades(n, "complete", capacity=5.0)
    MARKETS["neutral"].optimize(n)
    ax = plot.trades(n)
    assert {text.get_color() for text in ax.texts} == {"black"}
    ax.figure.canvas.draw()
    middles = ax.transData.transform(ax.collections[0].get_offsets())
    for text, middle in zip(ax.texts, middles, strict=True):
        assert not text.get_window_extent().contains(*middle)


def test_no_trade_no_arrows() -> None:
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b"], demand=2.0, demand_max=3.0, utility_quadratic=1.0,
                      generation_max=9.0, marginal_cost_quadratic=1.0)  # fmt: skip
    p2p.add_trades(n, "complete", capacity=5.0, price=1.0)
    MARKETS["neutral"].optimize(n)
    ax = plot.trades(n)
    assert not arrows(ax)
    assert len(grey_edges(ax)) == 1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["no trade"]


def test_prices_show_every_scenario_and_the_mean() -> None:
    n = solved("averse")
    price = p2p.results(n).nodal_price.isel(snapshot=0).transpose("prosumer", "scenario")
    scenarios, mean = plot.prices(n).lines
    np.testing.assert_allclose(scenarios.get_xdata(), price.values.ravel())
    np.testing.assert_allclose(mean.get_xdata(), price.mean("scenario"))


def test_costs_before_and_after_contracts() -> None:
    """Rows above and below a prosumer's place; measures by hand and of `results`."""
    n = solved("contracts")
    r = p2p.results(n)
    cost = r.cost.transpose("prosumer", "scenario")
    expected = cost.mean("scenario")
    before, mean, at_risk, adjusted, after, *hedged, _ = plot.costs(n, of="cost").lines
    np.testing.assert_allclose(before.get_xdata(), (cost - expected).values.ravel(), atol=1e-9)
    np.testing.assert_allclose(mean.get_xdata(), 0.0, atol=1e-9)
    # chi_1 = .76 and chi_2 = .98 look at the worst of three scenarios alone.
    worst = (cost.max("scenario") - expected)[1:]
    np.testing.assert_allclose(at_risk.get_xdata()[1:], worst, atol=1e-9)
    np.testing.assert_allclose(adjusted.get_xdata()[1:], worst, atol=1e-9)
    paid = (r.cost - r.contract).transpose("prosumer", "scenario")
    np.testing.assert_allclose(after.get_xdata(), (paid - expected).values.ravel(), atol=1e-8)
    measures = (paid.mean("scenario"), r.value_at_risk, r.risk_adjusted_cost)
    for line, measure in zip(hedged, measures, strict=True):
        np.testing.assert_allclose(line.get_xdata(), measure - expected, atol=1e-8)
        np.testing.assert_allclose(line.get_ydata() - mean.get_ydata(), 0.4)


def test_costs_without_contracts_are_one_row_each() -> None:
    r = p2p.results(solved("averse"))
    ax = plot.costs(solved("averse"))
    adjusted = ax.lines[3]
    expected = r.cost.mean("scenario")
    np.testing.assert_allclose(adjusted.get_xdata(), r.risk_adjusted_cost - expected, atol=1e-9)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "scenarios", "expectation", "value at risk", "CVaR"]  # fmt: skip
    assert ax.get_yticklabels()[0].get_text() == f"0 (−{-expected.values[0]:.2f})"


def test_neutral_costs_have_no_measures_of_risk() -> None:
    assert len(plot.costs(solved("neutral")).lines) == 3  # scenarios, expectation, zero


def test_roles_instead_of_prices() -> None:
    n = solved("neutral")
    ax = plot.trades(n, colour="role")
    buys = p2p.results(n).net_import.mean(["scenario", "snapshot"]).values > 0
    blue = ax.collections[0].get_facecolors()[:, 2] > 0.5
    np.testing.assert_array_equal(blue, buys)
    key = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text for text in key if "net" in text] == ["net seller", "net buyer"]
    assert sum("MW" in text for text in key) == 3
    with pytest.raises(p2p.MarketError, match="no colour 'mood'; take one of 'price', 'role'"):
        plot.trades(n, colour="mood")  # type: ignore[arg-type]


@pytest.mark.parametrize("picture", [plot.prices, plot.costs, plot.risk])
def test_axes_have_names(picture: Any) -> None:
    ax = picture(solved("contracts"))
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_risk_shows_the_ratio_of_probabilities_and_contracts() -> None:
    n = solved("contracts")
    r = p2p.results(n)
    ax = plot.risk(n)
    ratio = r.risk_adjusted_probability.transpose("prosumer", "scenario") * 3
    np.testing.assert_allclose(ax.images[0].get_array(), ratio)
    bought, sold = ax.collections
    assert len(bought.get_offsets()) == int((r.contract > 0.01 * abs(r.contract).max()).sum())
    assert len(sold.get_offsets()) == int((r.contract < -0.01 * abs(r.contract).max()).sum())
    assert not plot.risk(solved("averse")).collections


@pytest.mark.parametrize("picture", [plot.trades, plot.prices, plot.costs, plot.risk])
def test_axes_that_are_none(picture: Any) -> None:
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket().optimize(n)
    for ax in (3, "x"):
        with pytest.raises(p2p.P2PError, match="ax must be axes of matplotlib"):
            picture(n, ax=ax)


def test_privacy_over_its_level() -> None:
    """Costs and prices at their losses, in rising order; who looks says the unit of the price."""
    for observer, unit in (("reports", "loss"), ("price", "MW$^2$")):
        reports = p2p.PrivateReports(loss=1.0, sensitivity=2.0, observer=observer)
        levels = {
            loss: p2p.solve_reports(four(), MARKET, replace(reports, loss=loss))
            for loss in (2.0, 1.0)
        }
        ax = plot.privacy(levels)
        line = ax.get_lines()[0]
        costs = [float(levels[a].social_cost - levels[a].truthful_social_cost) for a in (1, 2)]
        np.testing.assert_array_equal(line.get_xdata(), [1.0, 2.0])
        np.testing.assert_allclose(line.get_ydata(), costs)
        (right,) = [other for other in ax.figure.axes if other is not ax]
        assert unit in right.get_ylabel()
        price = levels[1.0].privacy_price.mean()
        np.testing.assert_allclose(right.get_lines()[-1].get_ydata()[0], price)
    with pytest.raises(p2p.MarketError, match="two levels"):
        plot.privacy({1.0: levels[1.0]})
    with pytest.raises(p2p.MarketError, match="solve_reports"):
        plot.privacy({1.0: levels[1.0], 2.0: 3.0})
