"""Pictures of many prosumers, of equal prices and of small powers can be read."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pypsa
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

import pypsa_p2p as p2p
from pypsa_p2p import plot
from pypsa_p2p.studies.plot import graph, rows
from tests.pictures import household_community
from tests.reference.instances import network, random_instance

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close() -> Any:
    yield
    plt.close("all")


@cache
def many() -> pypsa.Network:
    """118 prosumers, two scenarios, two snapshots."""
    n = network(random_instance(1, 118, 2, 2))
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    return n


@cache
def alike() -> pypsa.Network:
    """Four households with long names, one price but for rounding, trades of W; no scenarios."""
    return household_community()


def texts(ax: Axes) -> list[Any]:
    """Everything written in a picture; it is drawn once. Ticks outside an axis are not."""
    ax.figure.canvas.draw()
    outside = set()
    for axis in ax.figure.findobj(mpl.axis.Axis):
        low, high = sorted(axis.get_view_interval())
        outside |= {
            label
            for tick in axis.get_major_ticks()
            for label in (tick.label1, tick.label2)
            if not low <= tick.get_loc() <= high
        }
    for part in ax.figure.findobj(Axes):
        if not part.axison:
            outside |= {*part.xaxis.findobj(mpl.text.Text), *part.yaxis.findobj(mpl.text.Text)}
    found = set(ax.figure.findobj(mpl.text.Text)) - outside
    return [text for text in found if text.get_text().strip() and text.get_visible()]


def cut(ax: Axes) -> list[str]:
    """Texts that reach over an edge of the figure, by more than a pixel."""
    written = texts(ax)
    width, height = ax.figure.canvas.get_width_height()
    boxes = [text.get_window_extent() for text in written]
    return [
        text.get_text()
        for text, box in zip(written, boxes, strict=True)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


def key(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("picture", [plot.trades, plot.prices, plot.costs, plot.risk, plot.bills])
def test_long_names_are_never_cut(picture: Any) -> None:
    assert not cut(picture(alike()))


@pytest.mark.parametrize("picture", [plot.prices, plot.costs, plot.risk])
def test_rows_of_many_prosumers_are_all_named_on_one_page(picture: Any) -> None:
    ax = picture(many())
    assert not cut(ax)
    names = [label for label in ax.get_yticklabels() if label.get_text()]
    assert len(names) == 118
    assert ax.figure.get_figheight() < 11.0
    assert names[0].get_fontsize() >= 5.0
    boxes = [label.get_window_extent() for label in names]
    tops = sorted((box.y0, box.y1) for box in boxes)
    overlap = [low[1] - high[0] for low, high in pairwise(tops)]
    assert max(overlap) < 0.2 * boxes[0].height  # of letters that reach up and down


def test_of_more_rows_than_a_page_holds_the_most_telling_are_drawn_and_the_rest_said() -> None:
    importance = np.arange(500.0)
    importance[[3, 499]] = 1000.0, np.nan
    chosen = rows.most_telling(importance)
    assert chosen.tolist() == [3, *range(380, 499)]
    names = [f"p{k}" for k in chosen]
    ax = rows.row_axes(None, names, row=0.16, around=1.0)
    ax.set_ylabel("Prosumer")
    rows.name_rows(ax, names, 500, "whose prices vary most")
    assert ax.get_ylabel() == "Prosumer\nthe 120 of 500 whose prices vary most"
    assert ax.figure.get_figheight() < 11.0


def test_discs_and_names_of_many_prosumers_are_apart() -> None:
    ax = plot.trades(many())
    assert not cut(ax)
    discs = ax.collections[0]
    place = ax.transData.transform(discs.get_offsets()) * 72 / ax.figure.dpi
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)[~np.eye(118, dtype=bool)]
    diameter = float(np.sqrt(discs.get_sizes()[0]))
    assert 3.0 <= diameter < 10.0
    assert (apart < diameter).sum() / 2 < 12  # pairs of discs that touch
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) > 60
    assert not any(
        a.shrunk(0.9, 0.8).overlaps(b.shrunk(0.9, 0.8)) for a, b in combinations(boxes, 2)
    )
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    quantity = p2p.results(many()).quantity
    assert len(arrows) == 200 < quantity.sizes["trade"]
    assert f"118 prosumers ({len(boxes)} named), the 200 largest of " in ax.get_title()


def test_of_many_trades_the_largest_are_drawn() -> None:
    """A complete graph of thirty: 435 edges would be black."""
    amounts = {(str(a), str(b)): 1.0 + a + b for a, b in combinations(range(30), 2)}
    drawn, of = graph.largest(amounts, graph.Sizes(prosumers=30))
    assert (len(drawn), of) == (60, 435)
    assert list(drawn.values()) == sorted(amounts.values(), reverse=True)[:60]


def test_equal_prices_are_one_colour() -> None:
    """Prices differ by 1e-11 or so: no difference of colours, and no offset printed beside them."""
    ax = plot.trades(alike())
    ax.figure.canvas.draw()
    colours = ax.collections[0].get_facecolors()
    np.testing.assert_allclose(colours, np.broadcast_to(colours[0], colours.shape), atol=0.01)
    (bar,) = ax.child_axes
    assert not bar.yaxis.get_offset_text().get_text()
    low, high = bar.get_ylim()
    price = p2p.results(alike()).nodal_price.values
    assert high - low == pytest.approx(0.01 * price.max())
    assert low < price.min() <= price.max() < high
    ax = plot.prices(alike())
    ax.figure.canvas.draw()
    assert not ax.xaxis.get_offset_text().get_text()


def test_power_is_told_in_the_unit_that_fits() -> None:
    assert key(plot.trades(alike())) == ["0.1 W", "0.5 W", "1 W", "no trade"]
    three = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket().optimize(three)
    assert [text.rpartition(" ")[2] for text in key(plot.trades(three))[:3]] == ["MW"] * 3


def test_without_scenarios() -> None:
    """Costs are bars, prices marks of one kind, and risk says that there is none."""
    r = p2p.results(alike())
    ax = plot.costs(alike(), of="net_cost")
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], r.net_cost.values[0])
    assert ax.get_xlabel() == "Net cost (EUR)"
    assert plot.prices(alike()).get_legend() is None
    ax = plot.risk(alike())
    assert not ax.images
    assert "One scenario only" in ax.texts[0].get_text()


def test_key_of_prices_says_what_dots_are() -> None:
    assert key(plot.prices(many())) == ["scenarios and snapshots", "mean"]


def test_costs_that_reach_far_are_on_a_logarithmic_axis_that_says_so() -> None:
    figure, ax = plt.subplots()
    values = np.array([[-1.0, 1.0], [-2.0, 2.0], [-500.0, 700.0]])
    d = rows.Distribution(values=values, expected=np.zeros(3))
    rows.draw_costs(ax, d, 0.0, label="scenarios", colour="0.2")
    rows.finish_costs(ax, "cost", np.abs(values).max(axis=1), hedged=False)
    assert ax.get_xscale() == "symlog"
    assert "logarithmic beyond ±1 EUR" in ax.get_xlabel()
    figure.canvas.draw()
    assert ax.get_xlim()[0] < -600
    assert ax.get_xlim()[1] > 800  # outermost marks are whole
    assert all("-" not in label.get_text() for label in ax.get_xticklabels())


def test_residuals_of_a_thousand_iterations_can_be_told_apart() -> None:
    """Whole iterations; costs of the first do not set the axis; zeros do not stretch it."""
    n = network(random_instance(0, 3, 2, 1, congestion=True))
    eq = p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), p2p.ADMM(), progress=False)
    step = np.arange(1000)
    falling = np.where(step > 900, 0.0, 0.97**step)
    series = dict.fromkeys(("primal_residual", "dual_residual", "exploitability"), falling)
    history = xr.Dataset(
        {name: ("iteration", values) for name, values in series.items()}
        | {"social_cost": ("iteration", 10.0 + 1e6 * 0.5**step)},
        coords={"iteration": step},
    )
    ax = plot.convergence(replace(eq, history=history))
    ax.figure.canvas.draw()
    lines = {line.get_label(): line for line in ax.get_lines()}
    primal, dual = lines["primal residual"], lines["dual residual"]
    assert primal.get_color() != dual.get_color()
    assert primal.get_linewidth() > 2 * dual.get_linewidth()
    assert ax.get_ylim()[0] >= 1e-3 * eq.method.tolerance
    assert all(float(tick) == round(float(tick)) for tick in ax.get_xticks())
    (right,) = (other for other in ax.figure.axes if other is not ax)
    assert right.get_ylim()[1] < 11.0
