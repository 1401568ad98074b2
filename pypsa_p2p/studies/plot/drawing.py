"""What pictures are made of: arrows, discs, distributions and keys, drawn from plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import P2PError, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMN: Final = 3.5  # width of a column, inches
#: Colour maps that are legible in grey and to colour-blind readers.
_PRICE_COLOURS: Final = "viridis"
RISK_COLOURS: Final = "PuOr_r"
INK: Final = "0.25"
LIGHT: Final = "0.6"
PALE: Final = "0.78"
ACCENT: Final = "#d55e00"  # vermilion and blue of Okabe and Ito, told apart by everybody
SECOND: Final = "#0072b2"
TEXT: Final = 7  # points
_FEW: Final = 12  # points of a line up to which each has a mark of its own
_NODE: Final = 16.0  # diameter of a prosumer, points
_THICKEST: Final = 6.0  # width of the greatest trade, points
_THINNEST: Final = 0.5
_NEGLIGIBLE: Final = 0.01  # of the greatest: what is less is not drawn
_INSIDE: Final = 4  # longest name, in letters, that fits into a prosumer's circle
_LOGARITHMIC: Final = 100.0  # EUR: costs further out than this stand on a logarithmic scale
_MARGIN: Final = 0.1  # around the prosumers, of their extent


def marks(points: int) -> dict[str, Any]:
    """How a line marks its points, where they are few enough to be told apart."""
    return {"marker": "o", "markersize": 2.5} if points <= _FEW else {}


def axes_or_new(ax: Axes | None, height: float, wider: float = 0.0) -> Axes:
    """The axes given, or those of a new figure, wider than a column by so many inches."""
    if ax is not None:
        if not isinstance(ax, matplotlib_module("axes").Axes):
            raise P2PError(f"ax must be axes of matplotlib, not {shown(ax)}.")
        return ax
    figure = matplotlib_module("pyplot").figure(
        figsize=(_COLUMN + wider, height), layout="constrained", dpi=200
    )
    new: Axes = figure.subplots()
    return new


def matplotlib_module(module: str) -> Any:
    """A module of matplotlib, which only pictures need."""
    try:
        return import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise P2PError(
            'Pictures need matplotlib, which is not installed: pip install "pypsa-p2p[plot]".'
        ) from error


def draw_arrows(
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
        arrow = matplotlib_module("patches").FancyArrowPatch(
            where[seller],
            where[buyer],
            arrowstyle=f"simple,tail_width={width},{head}",
            connectionstyle=f"arc3,rad={bend}",
            mutation_scale=1,
            shrinkA=_NODE / 2,
            shrinkB=_NODE / 2 + 0.5,
            facecolor=INK,
            edgecolor="white",
            linewidth=0.3 if width > 1 else 0.0,
            zorder=2,
        )
        ax.add_patch(arrow)
    _draw_key(ax, greatest)
    return drawn


def _draw_key(ax: Axes, greatest: float) -> None:
    """What widths of arrows mean, below the picture."""
    line = matplotlib_module("lines").Line2D
    key = [
        line([], [], color=INK, linewidth=_points(x, greatest), label=f"{x:g} MW")
        for x in _round_amounts(greatest)
    ]
    _draw_key_below(ax, key, columns=len(key))


def _draw_key_below(ax: Axes, handles: list[Any], columns: int) -> None:
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=columns,
        frameon=False,
        fontsize=TEXT,
    )


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


def draw_prosumers(ax: Axes, price: pd.Series, where: dict[str, np.ndarray]) -> None:
    """A disc per prosumer, its colour her price; its name inside, or above where it is long.

    Who has no price is grey.
    """
    colours = matplotlib_module("pyplot").get_cmap(_PRICE_COLOURS).with_extremes(bad=LIGHT)
    discs = _draw_discs(ax, price.index, where, c=price, cmap=colours, plotnonfinite=True)
    bar = ax.figure.colorbar(discs, cax=ax.inset_axes((1.0, 0.05, 0.035, 0.9)))
    bar.locator = matplotlib_module("ticker").MaxNLocator(5)
    bar.set_label("Nodal price (EUR/MWh)", fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)
    _draw_names(ax, price.index, where, discs.to_rgba(price.to_numpy()))


def draw_roles(ax: Axes, net_import: pd.Series, where: dict[str, np.ndarray]) -> None:
    """A disc per prosumer, its colour whether she sells more than she buys, or less; a key."""
    least = _NEGLIGIBLE * float(net_import.abs().max())
    roles = {
        "net seller": (net_import < -least, ACCENT),
        "net buyer": (net_import > least, SECOND),
        "neither": (net_import.abs() <= least, LIGHT),
    }
    colour = pd.Series(LIGHT, index=net_import.index, dtype=object)
    for chosen, ink in roles.values():
        colour[chosen] = ink
    _draw_discs(ax, net_import.index, where, c=list(colour))
    rgba = matplotlib_module("colors").to_rgba_array(list(colour))
    _draw_names(ax, net_import.index, where, rgba)
    _add_to_key(ax, {role: ink for role, (chosen, ink) in roles.items() if chosen.any()})


def _add_to_key(ax: Axes, colours: dict[str, str]) -> None:
    """A second row to the key below the picture: what colours of discs mean."""
    line = matplotlib_module("lines").Line2D
    disc: dict[str, Any] = {"marker": "o", "linestyle": "none"}
    second = [line([], [], color=ink, label=name, **disc) for name, ink in colours.items()]
    key = ax.get_legend()
    first = [] if key is None else list(key.legend_handles)
    columns = max(len(first), len(second))
    nothing = line([], [], linestyle="none", label=" ")
    rows = [row + [nothing] * (columns - len(row)) for row in (first, second) if row]
    by_column = [handle for column in zip(*rows, strict=True) for handle in column]
    _draw_key_below(ax, by_column, columns)


def _draw_discs(ax: Axes, names: pd.Index, where: dict[str, np.ndarray], **colours: Any) -> Any:
    """Discs at the prosumers' places."""
    place = np.array([where[str(who)] for who in names])
    _frame(ax, place)
    return ax.scatter(
        place[:, 0],
        place[:, 1],
        s=_NODE**2,
        edgecolors="white",
        linewidths=0.8,
        zorder=3,
        **colours,
    )


def _draw_names(
    ax: Axes, names: pd.Index, where: dict[str, np.ndarray], colours: np.ndarray
) -> None:
    """Names inside the discs, or above all of them where one is long."""
    inside = max(len(str(who)) for who in names) <= _INSIDE
    for who, colour in zip(names, colours, strict=True):
        dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5
        ax.annotate(
            str(who),
            (float(where[str(who)][0]), float(where[str(who)][1])),
            xytext=(0, -0.4) if inside else (0, _NODE / 2 + 1),
            textcoords="offset points",
            ha="center",
            va="center" if inside else "bottom",
            fontsize=TEXT - 1 if inside else TEXT,
            color="white" if inside and dark else "black",
            zorder=4,
        )


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


def draw_distributions(ax: Axes, prosumers: pd.Index, values: np.ndarray) -> None:
    """A row per prosumer: every value as a dot over their range."""
    place = np.arange(len(values))
    low, high = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)  # NaN left out
    ax.hlines(place, low, high, color=PALE, linewidth=3, zorder=1)
    dots: dict[str, Any] = {"color": INK, "markersize": 2.5, "alpha": 0.5, "markeredgewidth": 0}
    ax.plot(values.ravel(), np.repeat(place, values.shape[1]), "o", label="scenarios", **dots)
    ax.set_yticks(place, [str(p) for p in prosumers], fontsize=TEXT)
    ax.tick_params(labelsize=TEXT)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Costs (prosumer, scenario) and the measures of them to mark, EUR; None: not marked."""

    values: np.ndarray
    expected: np.ndarray
    at_risk: np.ndarray | None = None
    adjusted: np.ndarray | None = None
    measure: str = "CVaR"


def draw_costs(ax: Axes, d: Distribution, offset: float, label: str, colour: str) -> None:
    """A row per prosumer, `offset` below her place: dots over their range, and the measures."""
    place = np.arange(len(d.values)) + offset
    low, high = d.values.min(axis=1), d.values.max(axis=1)
    ax.hlines(place, low, high, color=PALE if colour == LIGHT else LIGHT, linewidth=1.2, zorder=1)
    rows = np.repeat(place, d.values.shape[1])
    dots: dict[str, Any] = {"markersize": 2.2, "markeredgewidth": 0, "zorder": 2}
    ax.plot(d.values.ravel(), rows, "o", color=colour, label=label, **dots)
    first = offset >= 0  # of two rows, one makes the key
    edge: dict[str, Any] = {"linestyle": "none", "zorder": 3}
    measures = (
        (d.expected, "o", 4.0, "white", INK, "expectation"),
        (d.at_risk, "|", 7.0, SECOND, SECOND, "value at risk"),
        (d.adjusted, "D", 3.2, ACCENT, ACCENT, d.measure),
    )
    for values, marker, size, face, line, name in measures:
        if values is not None:
            ax.plot(values, place, marker=marker, markersize=size, markerfacecolor=face,
                    markeredgecolor=line, label=name if first else "_", **edge)  # fmt: skip


def finish_costs(ax: Axes, names: list[str], what: str, hedged: bool) -> None:
    """Axes, their units, and the key; `what` is told: "net cost", say."""
    ax.axvline(0.0, color=INK, linewidth=0.6, zorder=0)
    ticker = matplotlib_module("ticker")
    low, high = ax.get_xlim()
    if max(-low, high) > _LOGARITHMIC:
        ax.set_xscale("symlog", linthresh=10.0)
        ax.set_xlim(low, high)
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,.10g}"))
    ax.set_yticks(np.arange(len(names)), names, fontsize=TEXT)
    ax.tick_params(labelsize=TEXT)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylabel(f"Prosumer (expected {what}, EUR)", fontsize=TEXT)
    without = " without contracts" if hedged else ""
    ax.set_xlabel(f"{what.capitalize()} above expected {what}{without} (EUR)", fontsize=TEXT)
    draw_legend(ax, columns=3 if hedged else 2)


def draw_contracts(ax: Axes, volume: np.ndarray) -> None:
    """A disc for cover bought, a ring for cover sold; area as the volume, EUR."""
    greatest = float(np.abs(volume).max())
    if greatest <= 0:
        return
    row, column = np.nonzero(np.abs(volume) > _NEGLIGIBLE * greatest)
    area = 40.0 * np.abs(volume[row, column]) / greatest
    bought = volume[row, column] > 0
    halo = matplotlib_module("patheffects").withStroke(linewidth=2.0, foreground="white")
    kinds = ((bought, INK, "bought"), (~bought, "none", "sold"))
    for chosen, face, label in kinds:
        ax.scatter(
            column[chosen],
            row[chosen],
            s=area[chosen],
            facecolors=face,
            edgecolors=INK,
            linewidths=0.7,
            label=f"cover {label}",
            path_effects=[halo],
        )
    draw_legend(ax, columns=2, title=f"Contracts, at most {greatest:,.0f} EUR")


def draw_legend(ax: Axes, columns: int, title: str | None = None) -> None:
    """A key above the picture."""
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=TEXT,
        title=title,
        title_fontsize=TEXT,
        handletextpad=0.3,
        columnspacing=1.0,
    )
