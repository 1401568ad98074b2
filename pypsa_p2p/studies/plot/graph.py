"""A network of prosumers as discs and arrows, whose sizes follow how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from pypsa_p2p.studies.plot.drawing import (
    COLUMN,
    INK,
    PAGE,
    PALE,
    SMALLEST,
    TEXT,
    axes_or_new,
    matplotlib_module,
    number,
    power_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = npt.NDArray[np.float64]  # (prosumer, 2)
#: An amount of power, MW, by seller and buyer.
Amounts = Mapping[tuple[str, str], float]

_COLUMN_HOLDS: Final = 30  # prosumers; more take the width of a page
_ARROWS: Final = (60, 200)  # that can be told apart in a column, and on a page
_EDGES: Final = 1000  # more of them, without trade, would be a grey area: none is drawn
_NODE: Final = (3.0, 16.0)  # diameter of a disc, points
_OF_GAP: Final = 0.8  # of the distance to the next disc
_THINNEST: Final = 0.5
_NEGLIGIBLE: Final = 0.01  # of the greatest: what is less is not drawn
_MARGIN: Final = 0.1  # around the prosumers, of their extent


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What follows from how many prosumers a picture has."""

    prosumers: int

    @property
    def wide(self) -> bool:
        """Whether they take the width of a page."""
        return self.prosumers > _COLUMN_HOLDS

    @property
    def arrows(self) -> int:
        """How many are drawn at most."""
        return _ARROWS[self.wide]

    @property
    def thickest(self) -> float:
        """Width of the greatest trade, points."""
        return float(np.interp(self.prosumers, [14, 118], [6.0, 2.5]))

    def axes(self, ax: Axes | None) -> Axes:
        """The axes given, or new ones."""
        if self.wide:
            return axes_or_new(ax, height=6.0, width=PAGE)
        return axes_or_new(ax, height=3.2, width=COLUMN)

    def width(self, amount: float, greatest: float) -> float:
        """Width of an arrow, points: proportional to its amount unless too thin to see."""
        return max(self.thickest * amount / greatest, _THINNEST)


def frame(ax: Axes, place: Points) -> None:
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


def laid_out(ax: Axes, place: Points) -> tuple[Points, tuple[float, float]]:
    """Where prosumers stand in the axes, points from their corner, and how large the axes are.

    Titles and keys have to be there already: they take room.
    """
    root: Any = ax.figure.figure  # of a part of a figure, the whole
    root.draw_without_rendering()
    scale = 72.0 / root.dpi
    box = ax.get_window_extent()
    return (ax.transData.transform(place) - (box.x0, box.y0)) * scale, (
        box.width * scale,
        box.height * scale,
    )


def disc_size(points: Points) -> float:
    """Diameter of discs, points: few of them touch another."""
    if len(points) < 2:
        return _NODE[1]
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return float(np.clip(_OF_GAP * np.quantile(apart.min(axis=1), 0.1), *_NODE))


def largest(amounts: Amounts, sizes: Sizes) -> tuple[dict[tuple[str, str], float], int]:
    """The arrows to draw, greatest first, and how many trades there are that are not negligible."""
    greatest = max(amounts.values(), default=0.0)
    traded = {pair: value for pair, value in amounts.items() if value > _NEGLIGIBLE * greatest}
    order = sorted(traded, key=lambda pair: -traded[pair])
    return {pair: traded[pair] for pair in order[: sizes.arrows]}, len(traded)


def draw_arrows(
    ax: Axes, amounts: Amounts, where: Mapping[str, Points], sizes: Sizes, disc: float
) -> None:
    """An arrow per direction that is traded in, from seller to buyer."""
    greatest = max(amounts.values(), default=0.0)
    arrow = matplotlib_module("patches").FancyArrowPatch
    grown = sizes.thickest / 6.0
    for (seller, buyer), amount in amounts.items():
        width = sizes.width(amount, greatest)
        head = f"head_width={width + 3.5 * grown},head_length={0.6 * width + 4 * grown}"
        bend = 0.16 if (buyer, seller) in amounts else 0.0
        ax.add_patch(
            arrow(
                where[seller],
                where[buyer],
                arrowstyle=f"simple,tail_width={width},{head}",
                connectionstyle=f"arc3,rad={bend}",
                mutation_scale=1,
                shrinkA=disc / 2,
                shrinkB=disc / 2 + 0.5,
                facecolor=INK,
                edgecolor="white",
                linewidth=0.3 if width > 1 else 0.0,
                zorder=2,
            )
        )


def draw_edges(ax: Axes, edges: list[tuple[str, str]], where: Mapping[str, Points]) -> None:
    """Edges without an arrow, thin and grey."""
    lines = matplotlib_module("collections").LineCollection
    ends = [[where[a], where[b]] for a, b in edges]
    ax.add_collection(lines(ends, colors=PALE, linewidths=0.5, zorder=1), autolim=False)


def shows_edges(edges: list[tuple[str, str]]) -> bool:
    """Whether edges without an arrow are drawn."""
    return 0 < len(edges) <= _EDGES


def draw_key(
    ax: Axes, amounts: Amounts, sizes: Sizes, unused: str | None, roles: Mapping[str, str]
) -> None:
    """What widths of arrows, grey edges and colours of discs mean, below the picture."""
    line = matplotlib_module("lines").Line2D
    first = []
    if amounts:
        greatest = max(amounts.values())
        factor, unit = power_unit(greatest)
        first = [
            line([], [], color=INK, linewidth=sizes.width(x, factor * greatest),
                 label=f"{number(x)} {unit}")
            for x in _round_amounts(factor * greatest)
        ]  # fmt: skip
    if unused is not None:
        first.append(line([], [], color=PALE, linewidth=0.7, label=unused))
    disc: dict[str, Any] = {"marker": "o", "linestyle": "none"}
    second = [line([], [], color=ink, label=name, **disc) for name, ink in roles.items()]
    columns = max(len(first), len(second))
    nothing = line([], [], linestyle="none", label=" ")
    rows = [row + [nothing] * (columns - len(row)) for row in (first, second) if row]
    if not rows:
        return
    ax.legend(
        handles=[handle for column in zip(*rows, strict=True) for handle in column],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=columns,
        frameon=False,
        fontsize=TEXT,
        handlelength=1.6,
        columnspacing=1.2,
    )


def _round_amounts(greatest: float) -> list[float]:
    """Three amounts for the key: about the greatest, a half and a tenth of it.

    >>> _round_amounts(117.69)
    [10.0, 50.0, 100.0]
    """
    power = 10.0 ** np.floor(np.log10(greatest))
    leading = max(step for step in (1.0, 2.0, 5.0) if step * power <= greatest)
    top = float(leading * power)
    return [top / 10, top / 2, top]


def draw_discs(ax: Axes, place: Points, disc: float, colours: Points) -> Any:
    """Discs at the prosumers' places, in these colours (prosumer, 4)."""
    return ax.scatter(
        place[:, 0],
        place[:, 1],
        s=disc**2,
        c=colours,
        edgecolors="white",
        linewidths=0.8 if disc > 8 else 0.4,
        zorder=3,
    )


def names_size(disc: float) -> float:
    """Size of names, points, beside discs of this diameter."""
    return float(np.interp(disc, [_NODE[0], 12.0], [SMALLEST, TEXT]))
