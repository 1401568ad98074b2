"""Where names of discs stand: inside, or beside, upon no other name and no disc."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from pypsa_p2p.studies.plot.drawing import SMALLEST, TEXT, matplotlib_module, plain, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = npt.NDArray[np.float64]  # (prosumer, 2)

ALL_NAMED: Final = 20  # prosumers up to whom all names are drawn, whatever they cover
_LINE: Final = 18  # letters of a line of a name
_SPACING: Final = 1.2  # height of a line, of the size of its letters
#: Which way from its disc a name may stand, best first.
_WAYS: Final = np.array(
    [(0, 1), (0, -1), (1, 0), (-1, 0), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)]
)


def fits_inside(names: Sequence[str], disc: float) -> bool:
    """Whether all names can be read inside discs of this diameter, points."""
    return max(text_width(plain(name), SMALLEST) for name in names) <= disc - 2.0


def draw_names_inside(ax: Axes, names: Sequence[str], place: Points, colours: Points) -> None:
    """Names inside their discs, white on dark ones."""
    for name, (x, y), colour in zip(names, place, colours, strict=True):
        dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5
        ax.annotate(
            plain(name), (x, y), xytext=(0, -0.4), textcoords="offset points", ha="center",
            va="center", fontsize=TEXT - 1 if len(names) <= ALL_NAMED else SMALLEST,
            color="white" if dark else "black", zorder=4,
        )  # fmt: skip


def draw_names_beside(
    ax: Axes,
    names: Sequence[str],
    place: Points,
    *,
    points: Points,
    box: tuple[float, float],
    disc: float,
    size: float,
    importance: npt.ArrayLike,
) -> int:
    """Names beside discs, the most important first, while there is room; how many were drawn.

    `points` are the discs' places in axes of so many points, `box`.
    """
    lines = [fill(str(name), _LINE, break_long_words=False) for name in names]
    extents = np.array(
        [
            (text_width(plain(text), size) + 1.0, size * (0.2 + _SPACING * (text.count("\n") + 1)))
            for text in lines
        ]
    )
    order = np.argsort(-np.nan_to_num(np.asarray(importance, dtype=float)), kind="stable")
    shifts = _shifts(points, extents, np.array(box), disc, order)
    halo = matplotlib_module("patheffects").withStroke(linewidth=1.2, foreground="white")
    for k, shift in shifts.items():
        ax.annotate(
            plain(lines[k]),
            (float(place[k, 0]), float(place[k, 1])),
            xytext=tuple(shift),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            linespacing=_SPACING,
            path_effects=[halo],
            zorder=4,
        )
    return len(shifts)


def _shifts(
    points: Points, extents: Points, box: Points, disc: float, order: npt.NDArray[np.intp]
) -> dict[int, Points]:
    """From the middles of discs to those of names, points, of names that find a place."""
    found: dict[int, Points] = {}
    centres, sizes = points.copy(), np.full_like(points, disc)  # of all that is in the way
    for k in order:
        away = disc / 2 + 1.0 + extents[k] / 2
        tried = np.clip(points[k] + _WAYS * away, extents[k] / 2, box - extents[k] / 2)
        overlap = (sizes + extents[k]) / 2 - np.abs(tried[:, None] - centres)
        hidden = np.prod(np.clip(overlap, 0.0, None), axis=2).sum(axis=1)
        best = int(np.argmin(hidden))
        if hidden[best] > 1.0 and len(points) > ALL_NAMED:
            continue
        found[int(k)] = tried[best] - points[k]
        centres = np.vstack([centres, tried[best]])
        sizes = np.vstack([sizes, extents[k]])
    return found
