"""Pictures over time, of sweeps, and for a browser show the numbers they are of."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p import plot
from pypsa_p2p.studies.plot.drawing import power_unit
from tests.reference.instances import network, random_instance

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close() -> Any:
    yield
    plt.close("all")


@cache
def solved(prosumers: int) -> pypsa.Network:
    n = network(random_instance(4, prosumers, 2, 3))
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    return n


def expected(n: pypsa.Network, name: str) -> xr.DataArray:
    """Over scenarios where there is a value: a price of nobody's has none."""
    weights = xr.DataArray(n.scenario_weightings["weight"].to_numpy(), dims="scenario")
    return p2p.results(n)[name].weighted(weights).mean("scenario")


def filled(ax: Any, label: str) -> np.ndarray:
    """Heights of an area, its upper less its lower end, at the middles of three snapshots."""
    (area,) = [c for c in ax.collections if c.get_label() == label]
    heights = []
    for middle in (0.5, 1.5, 2.5):
        x, y = area.get_paths()[0].vertices.T
        left, right = x[:-1] <= middle, x[1:] > middle
        upwards, back = left & right, (x[:-1] > middle) & (x[1:] <= middle)
        heights.append(y[:-1][upwards][0] - y[:-1][back][0])
    return np.abs(heights)


def test_prices_over_time_are_expectations() -> None:
    n = solved(4)
    ax = plot.over_time(n, "prices")
    price = expected(n, "nodal_price").transpose("prosumer", "snapshot")
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert list(lines) == [str(who) for who in price.prosumer.values]
    for line, values in zip(lines.values(), price.values, strict=True):
        np.testing.assert_allclose(line.get_ydata(), [*values, values[-1]])
        assert line.get_xdata().tolist() == [0, 1, 2, 3]
    one = plot.over_time(n, "prices", scenario="s1").get_lines()[2].get_ydata()
    np.testing.assert_allclose(one[:3], p2p.results(n).nodal_price.sel(scenario="s1")[:, 2])
    ax = plot.over_time(n, "prices", prosumers=["p1"])
    each = p2p.results(n).nodal_price.sel(prosumer="p1")
    np.testing.assert_allclose(filled(ax, "all scenarios"), np.ptp(each.values, axis=0))


def test_prices_of_many_are_bands() -> None:
    n = solved(12)
    ax = plot.over_time(n)
    price = expected(n, "nodal_price").transpose("snapshot", "prosumer").values
    (median,) = ax.get_lines()
    assert median.get_label() == "median of 12 prosumers"
    np.testing.assert_allclose(median.get_ydata()[:3], np.median(price, axis=1))
    tenth, ninth = np.quantile(price, [0.1, 0.9], axis=1)
    np.testing.assert_allclose(filled(ax, "the middle 80 %"), ninth - tenth)


@pytest.mark.parametrize("whom", [None, ["p0"], ["p1", "p2"]])
def test_bars_of_dispatch_add_up_to_demand(whom: list[str] | None) -> None:
    n = solved(4)
    figure = plot.over_time(n, "dispatch", prosumers=whom, interactive=True)
    parts = {trace.name: np.asarray(trace.y) for trace in figure.data}
    demand = parts.pop("demand")
    np.testing.assert_allclose(sum(parts.values()), demand, atol=1e-6 * demand.max())
    chosen = whom or [str(who) for who in p2p.results(n).prosumer.values]
    wanted = expected(n, "demand").sel(prosumer=chosen).sum("prosumer").values
    factor, unit = power_unit(max(np.abs(part).max() for part in parts.values()))
    np.testing.assert_allclose(demand, factor * wanted)
    assert f"({unit})" in figure.layout.yaxis.title.text
    ax = plot.over_time(n, "dispatch", prosumers=whom)
    for name, values in parts.items():
        np.testing.assert_allclose(filled(ax, name), np.abs(values), atol=1e-9)


def test_trades_over_time_are_the_largest_and_the_rest_is_said() -> None:
    n = solved(12)
    ax = plot.over_time(n, "trades")
    weights = n.scenario_weightings["weight"].to_numpy()
    quantity = p2p.results(n).quantity.transpose("trade", "snapshot", "scenario")
    ends = zip(quantity.seller.values, quantity.buyer.values, strict=True)
    bought = pd.DataFrame(
        np.clip(quantity.values, 0.0, None) @ weights, [f"{s} to {b}" for s, b in ends]
    )
    energy = bought @ n.snapshot_weightings["objective"].to_numpy()
    largest = energy.sort_values(ascending=False).index[:8]
    assert [line.get_label() for line in ax.get_lines()] == list(largest)
    for line in ax.get_lines():
        np.testing.assert_allclose(line.get_ydata()[:3], bought.loc[line.get_label()])
    share = 100 * (1 - energy[largest].sum() / energy.sum())
    assert ax.get_legend().get_title().get_text().endswith(f"the others are {share:.0f} %")


def test_what_cannot_be_drawn_over_time() -> None:
    three = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket().optimize(three)
    for of in ("prices", "dispatch", "trades"):
        with pytest.raises(p2p.MarketError, match="one snapshot"):
            plot.over_time(three, of)
    n = solved(4)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"of": "moods"}, "no picture over time 'moods'; take one of 'prices'"),
        ({"prosumers": ["p1", "nobody"]}, "no prosumer 'nobody'"),
        ({"prosumers": 3}, "must be names"),
        ({"prosumers": []}, "must be names"),
        ({"scenario": "rain"}, "no scenario 'rain'"),
        ({"interactive": True, "ax": plt.gca()}, "leave ax= out"),
    ]
    for arguments, match in wrong:
        with pytest.raises(p2p.P2PError, match=match):
            plot.over_time(n, **arguments)


def test_dates_stand_below_and_the_last_hour_ends() -> None:
    n = pypsa.Network(snapshots=pd.date_range("2030-01-01", periods=3, freq="h"))
    p2p.add_prosumers(
        n, ["a", "b"], demand=[4, 6], demand_max=9, utility_quadratic=5, generation_max=[0, 20],
        marginal_cost_quadratic=1,
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=50)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    low, high = plot.over_time(n).get_xlim()
    assert high - low == pytest.approx(3 / 24)


@cache
def swept() -> xr.Dataset:
    """Costs 10 * market + attitude + seed, a point without a solution among them."""
    cost = np.add.outer(np.add.outer([0.0, 10.0], [0.6, 0.0, 0.3]), np.arange(11.0))
    cost[1, 2] = np.nan
    attrs = {"unit": "EUR", "long_name": "what is paid"}
    return xr.Dataset(
        {
            "social_cost": (("market", "attitude", "seed"), cost, attrs),
            "power": (("attitude",), [5e-4, 1e-4, 2e-4], {"unit": "MW"}),
            "contract": (("market", "other"), np.ones((2, 9))),
            "error": (("market",), ["", ""]),
        },
        {"market": ["alone", "contracts"], "attitude": [0.6, 0.0, 0.3], "seed": range(11)},
    )


def test_sweeps_are_lines_in_bands() -> None:
    """In rising order; means over seeds and their middle 80 %; named and with units."""
    ax = plot.sweep(swept(), "social_cost")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Attitude", "Social cost (EUR)")
    alone, contracts = ax.get_lines()
    assert (alone.get_label(), contracts.get_label()) == ("alone", "contracts")
    np.testing.assert_allclose(alone.get_xdata(), [0.0, 0.3, 0.6])
    np.testing.assert_allclose(alone.get_ydata(), [5.0, 5.3, 5.6])
    np.testing.assert_allclose(contracts.get_ydata(), [15.0, np.nan, 15.6])
    low = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (low.min(), low.max()) == (pytest.approx(1.0), pytest.approx(9.6))
    assert "what is paid; mean and middle 80 %" in ax.get_legend().get_title().get_text()
    assert len(plot.sweep(swept().sel(market="alone"), "social_cost").get_lines()) == 1
    assert len(plot.sweep(swept().isel(seed=[0, 1]), "social_cost", "seed",
                          average="attitude").get_lines()) == 2  # fmt: skip


def test_power_of_a_sweep_is_in_the_unit_that_fits() -> None:
    ax = plot.sweep(swept(), "power")
    assert ax.get_ylabel() == "Power (W)"
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [100.0, 200.0, 500.0])


def test_what_is_no_picture_of_a_sweep() -> None:
    d = swept()
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((3, "social_cost"), {}, "draws what sweep"),
        ((d, "mood"), {}, "no variable 'mood'"),
        ((d, "error"), {}, "no variable 'error'"),
        ((d, "social_cost", "market"), {}, "labels that are no numbers"),
        ((d, "social_cost", "place"), {}, "no dimension 'place'"),
        ((d, "social_cost"), {"average": "place"}, "no dimension 'place'"),
        ((d, "social_cost"), {"average": ["attitude", "seed"]}, "to draw along"),
        ((d, "social_cost"), {"average": ()}, "22 lines cannot be told apart"),
        ((d.where(d.social_cost > 1e9), "social_cost"), {}, "No point has a social_cost"),
        ((d.sel(attitude=0.3, seed=0), "social_cost"), {}, "to draw along"),
    ]
    for arguments, named, match in wrong:
        with pytest.raises(p2p.MarketError, match=match):
            plot.sweep(*arguments, **named)


def test_interactive_prices_and_trades() -> None:
    n = solved(12)
    figure = plot.prices(n, interactive=True)
    price = expected(n, "nodal_price")
    assert [trace.name for trace in figure.data] == [str(who) for who in price.prosumer.values]
    np.testing.assert_allclose(figure.data[5].y, price.isel(prosumer=5))
    figure = plot.trades(n, interactive=True)
    trades, prosumers = figure.data
    assert len(figure.layout.annotations) == len(trades.hovertext) > 0
    assert trades.hovertext[0].startswith("p")
    assert " sells " in trades.hovertext[0]
    assert [told.partition("<br>")[0] for told in prosumers.hovertext] == list(prosumers.text)
    assert "EUR/MWh" in prosumers.hovertext[0]
    assert "<div" in figure.to_html(include_plotlyjs=False)


def test_trades_on_a_map() -> None:
    three = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket().optimize(three)
    deck = plot.trades(three, interactive="map")
    arcs = deck.layers[-1]
    assert arcs.type == "ArcLayer"
    assert len(arcs.data) == len(plot.trades(three, interactive=True).data[0].hovertext)
    assert " sells " in arcs.data[0]["tooltip_html"]
    with pytest.raises(p2p.MarketError, match="degrees"):
        plot.trades(solved(4), interactive="map")


def test_interactive_pictures_need_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    for picture in (plot.trades, plot.prices):
        with pytest.raises(p2p.P2PError, match="pip install plotly"):
            picture(solved(4), interactive=True)
    with pytest.raises(p2p.P2PError, match="interactive 'globe'"):
        plot.trades(solved(4), interactive="globe")  # type: ignore[call-overload]
