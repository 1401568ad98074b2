"""What all pictures share: their size, inks, numbers, units, names and keys."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from pypsa_p2p.common.errors import P2PError, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLUMN: Final = 3.5  # width of a column of a paper, inches
PAGE: Final = 7.16  # and of both
INK: Final = "0.25"
LIGHT: Final = "0.6"
PALE: Final = "0.78"
ACCENT: Final = "#d55e00"  # vermilion, blue and green of Okabe and Ito, told apart by everybody
SECOND: Final = "#0072b2"
THIRD: Final = "#009e73"
#: Colours of lines beside each other, in this order: Okabe and Ito's but for yellow.
LINES: Final = (SECOND, ACCENT, THIRD, "#cc79a7", "#e69f00", "#56b4e9", "0.25", "0.6")
TEXT: Final = 7  # points
SMALLEST: Final = 5.0  # points: of text that can still be read
#: A range of colours or of an axis is no less than this share of the largest value: what differs
#: by rounding is one colour, and one place.
_FLOOR: Final = 0.01
_FEW: Final = 12  # points of a line up to which each has a mark of its own
#: Powers, MW, from which on they are told in a unit, and what its name is.
_POWERS: Final = ((1e3, "GW"), (1.0, "MW"), (1e-3, "kW"), (1 / 1e6, "W"))


def marks(points: int) -> dict[str, Any]:
    """How a line marks its points, where they are few enough to be told apart."""
    return {"marker": "o", "markersize": 2.5} if points <= _FEW else {}


def axes_or_new(ax: Axes | None, height: float, width: float = COLUMN) -> Axes:
    """The axes given, or those of a new figure of so many inches."""
    if ax is not None:
        if not isinstance(ax, matplotlib_module("axes").Axes):
            raise P2PError(f"ax must be axes of matplotlib, not {shown(ax)}.")
        return ax
    figure = matplotlib_module("pyplot").figure(
        figsize=(width, height), layout="constrained", dpi=200
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


def plain(name: object) -> str:
    r"""A name in which no sign means mathematics.

    >>> print(plain("$3 a day"))
    \$3 a day
    """
    return str(name).replace("$", r"\$")


def number(value: float, digits: int | None = None) -> str:
    """A number as text: with commas, a true minus, and no -0.

    >>> number(-1234.5), number(-1e-9, 2), number(0.1)
    ('−1,234.5', '0.00', '0.1')
    """
    text = f"{value:,.10g}" if digits is None else f"{value:,.{digits}f}"
    zero = not text.strip("-0.,")
    return text.lstrip("-") if zero else text.replace("-", "−")


def plain_numbers(axis: Axis, ticks: int = 5) -> None:
    """Few round numbers along a linear axis, none of them an offset of the others."""
    ticker = matplotlib_module("ticker")
    axis.set_major_locator(ticker.MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: number(x)))


def wide_range(values: npt.ArrayLike, floor: float = _FLOOR) -> tuple[float, float]:
    """The range of values that are numbers, made wide enough to tell no rounding apart.

    >>> [round(end, 3) for end in wide_range([50.0, 50.0 + 1e-11])]
    [49.75, 50.25]
    >>> wide_range([1.0, 3.0, float("nan")])
    (1.0, 3.0)
    """
    array = np.asarray(values, dtype=float)
    finite = array[np.isfinite(array)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    missing = floor * (float(np.abs(finite).max()) or 1.0) - (high - low)
    if missing <= 0:
        return low, high
    return low - missing / 2, high + missing / 2


def power_unit(greatest: float) -> tuple[float, str]:
    """The unit in which powers up to so many MW are told: how many of it are 1 MW, and its name.

    >>> power_unit(2e-6), power_unit(0.3), power_unit(40.0), power_unit(2500.0)
    ((1000000.0, 'W'), (1000.0, 'kW'), (1.0, 'MW'), (0.001, 'GW'))
    """
    size, unit = next(
        (known for known in _POWERS if greatest >= known[0]), _POWERS[-1 if greatest > 0 else 1]
    )
    return 1.0 / size, unit


def text_width(text: str, size: float) -> float:
    """How wide the longest line of a text of this size is, points."""
    path = matplotlib_module("textpath").TextPath
    # A path of letters alone: what TextPath makes of a space at the end has no width.
    return max(
        float(path((0, 0), line, size=size, usetex=False).get_extents().width) if line else 0.0
        for line in text.split("\n")
    )


def axes_points(ax: Axes) -> tuple[float, float]:
    """Width and height of axes as they are now, points."""
    box = ax.get_window_extent()
    scale = 72.0 / ax.figure.dpi
    return box.width * scale, box.height * scale


def draw_legend(ax: Axes, columns: int, title: str | None = None) -> None:
    """A key above the picture; none where nothing has a label."""
    if not ax.get_legend_handles_labels()[1]:
        return
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
