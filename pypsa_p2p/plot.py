"""Pictures of a solved market at the width of a paper's column (matplotlib)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import networkx as nx
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.errors import MarketError, P2PError, listed
from pypsa_p2p.market_data import MarketData, first_scenario, read_market
from pypsa_p2p.names import PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.record import recorded
from pypsa_p2p.results import results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMN: Final = 3.5  # width of a column, inches
#: Colour maps that are legible in grey and to colour-blind readers.
_PRICE_COLOURS: Final = "viridis"
_RISK_COLOURS: Final = "PuOr_r"
_INK: Final = "0.25"
_PALE: Final = "0.78"
_ACCENT: Final = "#d55e00"  # vermilion and blue of Okabe and Ito, told apart by everybody
_SECOND: Final = "#0072b2"
_NODE: Final = 16.0  # diameter of a prosumer, points
_THICKEST: Final = 6.0  # width of the greatest trade, points
_THINNEST: Final = 0.5
_NEGLIGIBLE: Final = 0.01  # of the greatest: what is less is not drawn
_INSIDE: Final = 4  # longest name, in letters, that fits into a prosumer's circle
_TEXT: Final = 7  # points
_SEED: Final = 7  # of layouts without coordinates
_MARGIN: Final = 0.1  # around the prosumers, of their extent


def trades(
    n: pypsa.Network,
    ax: Axes | None = None,
    scenario: str | None = None,
    snapshot: Any = None,
) -> Axes:
    """Who buys from whom: an arrow from seller to buyer, as wide as what is traded, MW.

    Widths are expectations over scenarios and means over the hours of snapshots; an edge used
    in both directions has an arrow for each. Edges without trade (less than a hundredth of the
    greatest) are thin and grey. Prosumers
    are coloured by their mean nodal price, EUR/MWh, and stand at their buses' coordinates;
    where those coincide or are missing, in a spring layout with a fixed seed.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.
    scenario, snapshot : label, optional
        That one only, instead of the expectation and the mean.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, the network holds no solved market, or there is no such
        scenario or snapshot.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket().optimize(n)
    ('ok', 'optimal')
    >>> trades(n).get_title()
    'Expected trades'
    """
    data, r = _solved(n)
    _require_label(SCENARIO, scenario, data.scenarios)
    _require_label(SNAPSHOT, snapshot, data.snapshots)
    bought = _typical(r["quantity"].clip(min=0.0), data, scenario, snapshot)
    price = _typical(r["nodal_price"], data, scenario, snapshot).to_series()
    ax = _axes(ax, height=3.2)
    where = _positions(n, data)
    drawn = _draw_arrows(ax, bought, where)
    for ends in zip(data.bus0.to_numpy(), data.bus1.to_numpy(), strict=True):
        if ends not in drawn and ends[::-1] not in drawn:
            ax.plot(*np.transpose([where[who] for who in ends]), color=_PALE, linewidth=0.7)
    _draw_prosumers(ax, price, where)
    title = "Expected trades" if scenario is None else f"Trades in scenario {scenario}"
    ax.set_title(title, fontsize=_TEXT + 1)
    return ax


def prices(n: pypsa.Network, ax: Axes | None = None) -> Axes:
    """Nodal prices of each prosumer, EUR/MWh: every scenario and snapshot, and their mean.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, or the network holds no solved market.
    """
    data, r = _solved(n)
    ax = _axes(ax, height=2.4)
    price = r["nodal_price"]
    each = price.transpose(PROSUMER, SCENARIO, SNAPSHOT).to_numpy()
    _draw_distributions(ax, data, each.reshape(len(data.prosumers), -1))
    mean = _typical(price, data, None, None).to_numpy()
    ax.plot(mean, np.arange(len(mean)), "D", color=_ACCENT, markersize=3.5, label="mean")
    ax.set_xlabel("Nodal price (EUR/MWh)", fontsize=_TEXT)
    _legend(ax, columns=2)
    return ax


def costs(n: pypsa.Network, ax: Axes | None = None) -> Axes:
    """Costs of each prosumer by scenario, contracts paid, EUR above or below their expectation.

    Marked are the value at risk and the risk-adjusted cost R (the CVaR, where its weight is 1)
    of risk-averse designs; the expectation itself stands beside the name.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, or the network holds no solved market.
    """
    data, r = _solved(n)
    ax = _axes(ax, height=3.2)
    paid = r["cost"] - r["contract"] if "contract" in r else r["cost"]
    expected = (data.probability * paid).sum(SCENARIO)
    _draw_distributions(ax, data, (paid - expected).transpose(PROSUMER, SCENARIO).to_numpy())
    place = np.arange(len(data.prosumers))
    if recorded(n)["risk_averse"]:
        at_risk = (r["value_at_risk"] - expected).to_numpy()
        adjusted = (r["risk_adjusted_cost"] - expected).to_numpy()
        ax.plot(at_risk, place, "|", color=_SECOND, markersize=8, label="value at risk")
        ax.plot(adjusted, place, "D", color=_ACCENT, markersize=3.5, label="risk-adjusted cost")
    ax.axvline(0.0, color=_INK, linewidth=0.8, zorder=1)
    ax.set_xscale("symlog", linthresh=10.0)
    names = [f"{who}  {value:,.0f}" for who, value in expected.to_series().items()]
    ax.set_yticks(place, names, fontsize=_TEXT)
    ax.set_ylabel("Expected cost (EUR)", fontsize=_TEXT)
    ax.set_xlabel("Cost above expected cost (EUR)", fontsize=_TEXT)
    _legend(ax, columns=3)
    return ax


def risk(n: pypsa.Network, ax: Axes | None = None) -> Axes:
    """How each prosumer sees each scenario: tau/p, her risk-adjusted probability over its own.

    1 is risk-neutral, 0 a scenario that does not count for her. With contracts, a filled disc
    is cover bought and a ring cover sold; its area is as what the contract pays, EUR.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, or the network holds no solved market.
    """
    data, r = _solved(n)
    ax = _axes(ax, height=2.8)
    ratio = r["risk_adjusted_probability"] / data.probability
    by_prosumer = ratio.transpose(PROSUMER, SCENARIO).to_numpy()
    top = max(2.0, float(by_prosumer.max()))
    scale = _matplotlib("colors").TwoSlopeNorm(1.0, 0.0, top)
    image = ax.imshow(by_prosumer, cmap=_RISK_COLOURS, norm=scale, aspect="auto")
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label(r"Risk-adjusted probability $\tau$ / probability $p$", fontsize=_TEXT)
    bar.ax.tick_params(labelsize=_TEXT)
    if "contract" in r:
        _draw_contracts(ax, r["contract"].transpose(PROSUMER, SCENARIO).to_numpy())
    ax.set_yticks(np.arange(len(data.prosumers)), [str(p) for p in data.prosumers])
    step = -(-len(data.scenarios) // 10)
    ax.set_xticks(np.arange(0, len(data.scenarios), step), list(data.scenarios[::step]))
    ax.tick_params(labelsize=_TEXT)
    ax.set_xlabel("Scenario", fontsize=_TEXT)
    return ax


def _solved(n: pypsa.Network) -> tuple[MarketData, xr.Dataset]:
    r = results(n)
    return read_market(n, pd.Index(r["snapshot"].to_numpy())), r


def _axes(ax: Axes | None, height: float) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    figure = _matplotlib("pyplot").figure(figsize=(_COLUMN, height), layout="constrained", dpi=200)
    new: Axes = figure.subplots()
    return new


def _matplotlib(module: str) -> Any:
    """A module of matplotlib, which only pictures need."""
    try:
        return import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise P2PError(
            'Pictures need matplotlib, which is not installed: pip install "pypsa-p2p[plot]".'
        ) from error


def _require_label(dimension: str, label: object, known: pd.Index) -> None:
    if label is not None and label not in known:
        raise MarketError(f"There is no {dimension} {label!r}; take one of {listed(known)}.")


def _typical(
    values: xr.DataArray, data: MarketData, scenario: str | None, snapshot: Any
) -> xr.DataArray:
    """Expectation over scenarios and mean over hours, or the values of the one named."""
    if scenario is None:
        values = (values * data.probability).sum(SCENARIO)
    else:
        values = values.sel({SCENARIO: scenario})
    if snapshot is not None:
        return values.sel({SNAPSHOT: snapshot})
    return (values * data.weighting).sum(SNAPSHOT) / data.weighting.sum()


def _positions(n: pypsa.Network, data: MarketData) -> dict[str, np.ndarray]:
    """Coordinates of the prosumers: their buses', or a spring layout where those coincide."""
    place = first_scenario(n, "Bus").loc[data.prosumers, ["x", "y"]].astype(float)
    if not place.isna().any(axis=None) and not place.round(9).duplicated().any():
        return {str(who): row.to_numpy() for who, row in place.iterrows()}
    graph = nx.Graph()
    graph.add_nodes_from(data.prosumers)
    graph.add_edges_from(zip(data.bus0.to_numpy(), data.bus1.to_numpy(), strict=True))
    return {str(who): xy for who, xy in nx.spring_layout(graph, seed=_SEED).items()}


def _draw_arrows(
    ax: Axes, bought: xr.DataArray, where: dict[str, np.ndarray]
) -> set[tuple[str, str]]:
    """An arrow per direction that is traded in, and a key to their widths; those directions."""
    ends = list(zip(bought["buyer"].to_numpy(), bought["seller"].to_numpy(), strict=True))
    amount = dict(zip(ends, bought.to_numpy().tolist(), strict=True))
    greatest = max(amount.values(), default=0.0)
    if greatest <= 0:
        return set()
    drawn = {pair for pair, value in amount.items() if value > _NEGLIGIBLE * greatest}
    for buyer, seller in sorted(drawn, key=lambda pair: -amount[pair]):
        width = _points(amount[buyer, seller], greatest)
        head = f"head_width={width + 3.5},head_length={0.6 * width + 4}"
        bend = 0.16 if (seller, buyer) in drawn else 0.0
        arrow = _matplotlib("patches").FancyArrowPatch(
            where[seller],
            where[buyer],
            arrowstyle=f"simple,tail_width={width},{head}",
            connectionstyle=f"arc3,rad={bend}",
            mutation_scale=1,
            shrinkA=_NODE / 2,
            shrinkB=_NODE / 2 + 0.5,
            facecolor=_INK,
            edgecolor="white",
            linewidth=0.3 if width > 1 else 0.0,
            zorder=2,
        )
        ax.add_patch(arrow)
    line = _matplotlib("lines").Line2D
    key = [
        line([], [], color=_INK, linewidth=_points(x, greatest), label=f"{x:g} MW")
        for x in _round_amounts(greatest)
    ]
    ax.legend(
        handles=key,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=len(key),
        frameon=False,
        fontsize=_TEXT,
    )
    return drawn


def _points(amount: float, greatest: float) -> float:
    """Width of an arrow, in points and proportional to its amount unless too thin to see."""
    return max(_THICKEST * amount / greatest, _THINNEST)


def _round_amounts(greatest: float) -> list[float]:
    """Three amounts for the key: about the greatest, a half and a tenth of it.

    >>> _round_amounts(117.69)
    [10.0, 50.0, 100.0]
    """
    power = 10.0 ** np.floor(np.log10(greatest))
    leading = max(step for step in (1.0, 2.0, 5.0) if step * power <= greatest)
    top = float(leading * power)
    return [top / 10, top / 2, top]


def _draw_prosumers(ax: Axes, price: pd.Series, where: dict[str, np.ndarray]) -> None:
    """A disc per prosumer, its colour her price; its name inside, or above where it is long."""
    place = np.array([where[str(who)] for who in price.index])
    discs = ax.scatter(
        place[:, 0],
        place[:, 1],
        c=price,
        s=_NODE**2,
        cmap=_PRICE_COLOURS,
        edgecolors="white",
        linewidths=0.8,
        zorder=3,
    )
    bar = ax.figure.colorbar(discs, cax=ax.inset_axes((1.0, 0.05, 0.035, 0.9)))
    bar.locator = _matplotlib("ticker").MaxNLocator(5)
    bar.set_label("Nodal price (EUR/MWh)", fontsize=_TEXT)
    bar.ax.tick_params(labelsize=_TEXT)
    inside = max(len(str(who)) for who in price.index) <= _INSIDE
    for who, xy, colour in zip(price.index, place, discs.to_rgba(price.to_numpy()), strict=True):
        dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5
        ax.annotate(
            str(who),
            xy,
            xytext=(0, -0.4) if inside else (0, _NODE / 2 + 1),
            textcoords="offset points",
            ha="center",
            va="center" if inside else "bottom",
            fontsize=_TEXT - 1 if inside else _TEXT,
            color="white" if inside and dark else "black",
            zorder=4,
        )
    _frame(ax, place)


def _frame(ax: Axes, place: np.ndarray) -> None:
    """Equal scales on both axes around the prosumers, who may stand in one line."""
    low, high = place.min(axis=0), place.max(axis=0)
    extent = float((high - low).max()) or 1.0
    half = np.maximum((high - low) / 2, extent / 4) + _MARGIN * extent
    centre = (low + high) / 2
    ax.set(
        xlim=centre[0] + half[0] * np.array([-1, 1]), ylim=centre[1] + half[1] * np.array([-1, 1])
    )
    ax.set_aspect("equal", adjustable="box")
    ax.set_axis_off()


def _draw_distributions(ax: Axes, data: MarketData, values: np.ndarray) -> None:
    """A row per prosumer: every value as a dot over their range."""
    place = np.arange(len(values))
    ax.hlines(place, values.min(axis=1), values.max(axis=1), color=_PALE, linewidth=3, zorder=1)
    dots: dict[str, Any] = {"color": _INK, "markersize": 2.5, "alpha": 0.5, "markeredgewidth": 0}
    ax.plot(values.ravel(), np.repeat(place, values.shape[1]), "o", label="scenarios", **dots)
    ax.set_yticks(place, [str(p) for p in data.prosumers], fontsize=_TEXT)
    ax.tick_params(labelsize=_TEXT)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)


def _draw_contracts(ax: Axes, volume: np.ndarray) -> None:
    """A disc for cover bought, a ring for cover sold; area as the volume, EUR."""
    greatest = float(np.abs(volume).max())
    if greatest <= 0:
        return
    row, column = np.nonzero(np.abs(volume) > _NEGLIGIBLE * greatest)
    area = 40.0 * np.abs(volume[row, column]) / greatest
    bought = volume[row, column] > 0
    halo = _matplotlib("patheffects").withStroke(linewidth=2.0, foreground="white")
    kinds = ((bought, _INK, "bought"), (~bought, "none", "sold"))
    for chosen, face, label in kinds:
        ax.scatter(
            column[chosen],
            row[chosen],
            s=area[chosen],
            facecolors=face,
            edgecolors=_INK,
            linewidths=0.7,
            label=f"cover {label}",
            path_effects=[halo],
        )
    _legend(ax, columns=2, title=f"Contracts, at most {greatest:,.0f} EUR")


def _legend(ax: Axes, columns: int, title: str | None = None) -> None:
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=_TEXT,
        title=title,
        title_fontsize=_TEXT,
        handletextpad=0.3,
        columnspacing=1.0,
    )
