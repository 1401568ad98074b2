"""A row for each prosumer: how high, how named, and what is drawn in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from pypsa_p2p.studies.plot.drawing import (
    ACCENT,
    COLUMN,
    INK,
    LIGHT,
    PALE,
    SECOND,
    SMALLEST,
    TEXT,
    axes_or_new,
    axes_points,
    draw_legend,
    matplotlib_module,
    number,
    plain,
    plain_numbers,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Rows that can still be read on a page; of more, the most telling are drawn and the rest said.
MOST: Final = 120
_LOWEST: Final = 0.08  # height of a row, inches
_PAGE: Final = 8.0  # height of all rows, inches, from which on they become lower
_LEAST: Final = 1.3  # height of all rows at least, inches: what stands beside them needs it
_NAMES: Final = 0.6  # what a figure has for names, inches
_GAP: Final = 0.7  # between names, points
#: The reach of the widest row, over that of a usual one, from which on the scale is logarithmic.
_FAR: Final = 30.0


def most_telling(importance: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Places of the rows that are drawn, in order: all, or the `MOST` most important.

    >>> most_telling([3.0, 1.0, 2.0]).tolist()
    [0, 1, 2]
    """
    values = np.nan_to_num(np.asarray(importance, dtype=float))
    return np.sort(np.argsort(-values, kind="stable")[:MOST])


def row_axes(ax: Axes | None, names: Sequence[str], row: float, around: float) -> Axes:
    """The axes given, or new ones as high as rows of so many inches and wide enough for names."""
    count = max(len(names), 1)
    height = float(np.clip(_PAGE / count, min(_LOWEST, row), row))
    longest = max((text_width(plain(name), _size(height * 72)) for name in names), default=0.0)
    return axes_or_new(
        ax,
        height=around + max(count * height, _LEAST),
        width=COLUMN + max(0.0, longest / 72 - _NAMES),
    )


def _size(row: float) -> float:
    """Size of a name in a row of so many points."""
    return float(np.clip(row - _GAP, SMALLEST, TEXT))


def name_rows(ax: Axes, names: Sequence[str], of: int, by: str) -> None:
    """Names beside rows, no larger than these, every second or third where rows are too low.

    Where rows are not those of all `of` prosumers, the axis says of whom: who stand out `by`.
    """
    count = max(len(names), 1)
    ax.set_ylim(len(names) - 0.4, -0.6)
    if count > _PAGE / _LOWEST / 3:  # how high rows are matters, and is known once all is laid out
        root: Any = ax.figure.figure
        root.draw_without_rendering()
    row = axes_points(ax)[1] / (count + 0.2)
    step = max(1, int(np.ceil((SMALLEST + _GAP) / row - 0.1)))
    ax.set_yticks(
        np.arange(0, len(names), step),
        [plain(name) for name in names[::step]],
        fontsize=_size(row * step),
    )
    ax.tick_params(axis="x", labelsize=TEXT)
    left = ax.get_ylabel() or "Prosumer"
    said = left if len(names) == of else f"{left}\nthe {len(names)} of {of} {by}"
    ax.set_ylabel(said, fontsize=TEXT)


def draw_distributions(ax: Axes, values: np.ndarray, label: str) -> None:
    """A row per prosumer: every value as a dot over their range."""
    place = np.arange(len(values))
    low, high = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)  # NaN left out
    size = float(np.interp(len(values), [20, MOST], [2.5, 1.4]))
    ax.hlines(place, low, high, color=PALE, linewidth=1.2 * size, zorder=1)
    dots: dict[str, Any] = {"color": INK, "alpha": 0.5, "markeredgewidth": 0}
    ax.plot(values.ravel(), np.repeat(place, values.shape[1]), "o", markersize=size,
            label=label, **dots)  # fmt: skip
    ax.spines[["top", "right"]].set_visible(False)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Costs (prosumer, scenario) and the measures of them to mark, EUR; None: not marked."""

    values: np.ndarray
    expected: np.ndarray
    at_risk: np.ndarray | None = None
    adjusted: np.ndarray | None = None
    measure: str = "CVaR"

    def of(self, rows: npt.NDArray[np.intp]) -> Distribution:
        """Those of some prosumers."""
        return replace(
            self,
            values=self.values[rows],
            expected=self.expected[rows],
            at_risk=None if self.at_risk is None else self.at_risk[rows],
            adjusted=None if self.adjusted is None else self.adjusted[rows],
        )


def draw_costs(ax: Axes, d: Distribution, offset: float, label: str, colour: str) -> None:
    """A row per prosumer, `offset` below her place: dots over their range, and the measures.

    Marks of measures are smaller one upon the other, so that none hides another at its place.
    """
    place = np.arange(len(d.values)) + offset
    low, high = d.values.min(axis=1), d.values.max(axis=1)
    ax.hlines(place, low, high, color=PALE if colour == LIGHT else LIGHT, linewidth=1.2, zorder=1)
    rows = np.repeat(place, d.values.shape[1])
    scale = float(np.interp(len(place), [20, MOST], [1.0, 0.6]))
    dots: dict[str, Any] = {"markersize": 2.2 * scale, "markeredgewidth": 0, "zorder": 2}
    ax.plot(d.values.ravel(), rows, "o", color=colour, label=label, **dots)
    first = offset >= 0  # of two rows, one makes the key
    measures = (
        (d.expected, "o", 2.4, "white", INK, "expectation", 5),
        (d.at_risk, "|", 8.0, SECOND, SECOND, "value at risk", 4),
        (d.adjusted, "D", 4.2, ACCENT, "none", d.measure, 3),
    )
    for values, marker, size, face, line, name, order in measures:
        if values is not None:
            ax.plot(values, place, marker=marker, markersize=size * scale, markerfacecolor=face,
                    markeredgecolor=line, markeredgewidth=0.8, linestyle="none", clip_on=False,
                    label=name if first else "_", zorder=order)  # fmt: skip


def draw_certain_costs(ax: Axes, cost: np.ndarray) -> None:
    """A bar per prosumer: what she pays where nothing is uncertain, left of 0 what she is paid."""
    colours = np.where(cost > 0, SECOND, ACCENT)
    ax.barh(np.arange(len(cost)), cost, height=0.7, color=colours, linewidth=0)


def finish_costs(ax: Axes, what: str, reach: np.ndarray | None, hedged: bool) -> None:
    """Axes, their units, and the key; `what` is told: "net cost", say.

    `reach` is how far each prosumer's costs are from her expectation, EUR; None: costs are certain
    and stand by themselves.
    """
    ax.axvline(0.0, color=INK, linewidth=0.6, zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
    plain_numbers(ax.xaxis)
    if reach is None:
        ax.set_xlabel(f"{what.capitalize()} (EUR)", fontsize=TEXT)
        return
    above = f"{what.capitalize()} above expected {what}"
    lines = [above, "without contracts (EUR)"] if hedged else [f"{above} (EUR)"]
    linear = _linear_up_to(reach)
    if linear:
        _logarithmic(ax, linear)
        lines.append(f"logarithmic beyond ±{number(linear)} EUR")
    ax.set_xlabel("\n".join(lines), fontsize=TEXT)
    draw_legend(ax, columns=3 if hedged else 2)


def _linear_up_to(reach: np.ndarray) -> float:
    """How far a usual row reaches, in round EUR, where the widest goes much further; else 0."""
    some = reach[reach > 0]
    if not some.size or some.max() < _FAR * np.median(some):
        return 0.0
    return float(10.0 ** np.floor(np.log10(np.median(some))))


def _logarithmic(ax: Axes, linear: float) -> None:
    ticker = matplotlib_module("ticker")
    ax.set_xscale("symlog", linthresh=linear)
    ax.margins(x=0.05)
    ax.autoscale(axis="x")
    ends = np.abs(ax.get_xlim())
    decades = max(int(np.ceil(np.log10(ends.max() / linear))), 1)
    positive = linear * 10.0 ** np.arange(0, decades + 1, -(-decades // 3))
    ticks = np.concatenate([-positive[::-1], [0.0], positive])
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(ticker.FixedLocator(ticks[(ticks >= low) & (ticks <= high)]))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: number(x)))


def draw_contracts(ax: Axes, volume: np.ndarray, row: float) -> None:
    """A dark disc for cover bought, a white one for cover sold; area as the volume, EUR.

    The greatest is no higher than a row of so many points.
    """
    greatest = float(np.abs(volume).max())
    if greatest <= 0:
        return
    largest = float(np.clip(row - 0.5, 2.0, 6.5)) ** 2
    who, scenario = np.nonzero(np.abs(volume) > 0.01 * greatest)
    area = largest * np.abs(volume[who, scenario]) / greatest
    bought = volume[who, scenario] > 0
    kinds = (
        (bought, INK, "white", "cover bought"),
        (~bought, "white", INK, "cover sold"),
    )
    for chosen, face, edge, label in kinds:
        ax.scatter(scenario[chosen], who[chosen], s=area[chosen], facecolors=face,
                   edgecolors=edge, linewidths=0.5)  # fmt: skip
        disc: dict[str, Any] = {"marker": "o", "linestyle": "none", "markeredgecolor": INK}
        ax.plot([], [], markerfacecolor=face, markersize=5.0, label=label, **disc)
    for share in (1.0, 0.25):
        digits = None if greatest >= 10 else 2
        size: dict[str, Any] = {"markersize": float(np.sqrt(share * largest)), "markeredgewidth": 0}
        value = round(share * greatest) if digits is None else share * greatest
        ax.plot([], [], "o", color=LIGHT, label=f"{number(value, digits)} EUR", **size)
    draw_legend(ax, columns=2)
