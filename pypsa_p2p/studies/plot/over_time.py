"""Prices, dispatch and trades over the snapshots of a market."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.names import PROSUMER, SCENARIO
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.studies.plot import courses
from pypsa_p2p.studies.plot.drawing import (
    INK,
    LINES,
    TEXT,
    axes_or_new,
    draw_legend,
    matplotlib_module,
    number,
    plain,
    plain_numbers,
    wide_range,
)
from pypsa_p2p.studies.plot.interactive import figure_over_time, require_no_axes
from pypsa_p2p.studies.plot.solved import require_label, solved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Shown = Literal["prices", "dispatch", "trades"]

_SHOWN: Final = ("prices", "dispatch", "trades")
#: Lines that can be told apart.
_LINES: Final = len(LINES)
#: Lines of an interactive picture, which tells the name of the one under the pointer.
_MANY: Final = 500


@overload
def over_time(
    n: pypsa.Network,
    of: Shown = ...,
    ax: Axes | None = ...,
    *,
    prosumers: Sequence[str] | None = ...,
    scenario: str | None = ...,
    interactive: Literal[False] = ...,
) -> Axes: ...


@overload
def over_time(
    n: pypsa.Network,
    of: Shown = ...,
    ax: None = ...,
    *,
    prosumers: Sequence[str] | None = ...,
    scenario: str | None = ...,
    interactive: Literal[True],
) -> Any: ...


def over_time(
    n: pypsa.Network,
    of: Shown = "prices",
    ax: Axes | None = None,
    *,
    prosumers: Sequence[str] | None = None,
    scenario: str | None = None,
    interactive: bool = False,
) -> Any:
    """Prices, dispatch or trades over time, expectations over scenarios unless one is named.

    ``"prices"``: a line for each prosumer, EUR/MWh; of more than eight their median, the middle
    80 % of them and their range; of a single one also the range of scenarios. ``"dispatch"``: what
    all of them generate and buy above 0, what they sell or store below it, and their demand as a
    line, so that bars of a time add up to it. ``"trades"``: the eight largest as lines, and above
    them how much the others are. What holds for a snapshot is drawn until the next. Power is in
    the unit that fits.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market, over two snapshots or more.
    of : {"prices", "dispatch", "trades"}
        What is drawn.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.
    prosumers : sequence of str, optional
        Of these alone; trades are theirs with anybody. Default: all.
    scenario : label, optional
        That one only, instead of the expectation.
    interactive : bool
        A figure of plotly instead, with every prosumer's line and numbers under the pointer.

    Returns
    -------
    matplotlib.axes.Axes, or plotly.graph_objects.Figure

    Raises
    ------
    P2PError
        matplotlib (or plotly) is not installed, the network holds no solved market, it has one
        snapshot, or there is no such prosumer or scenario.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network(snapshots=range(3))
    >>> p2p.add_prosumers(n, ["a", "b"], demand=[4, 6], demand_max=9, utility_quadratic=5,
    ...                   generation_max=[0, 20], marginal_cost_quadratic=1)
    >>> p2p.add_trades(n, "complete", capacity=50)
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.plot.over_time(n, "dispatch").get_ylabel()
    'Power of all prosumers (MW)'
    """
    require_label("picture over time", "" if of is None else of, pd.Index(_SHOWN))
    require_no_axes(ax, interactive)
    data, r = solved(n)
    require_label(SCENARIO, scenario, data.scenarios)
    whom = _require_prosumers(prosumers, data)
    if len(data.snapshots) == 1:
        raise MarketError(
            "The market has one snapshot, and so nothing over time: take plot.prices(n), "
            "plot.trades(n) or results(n)."
        )
    most = _MANY if interactive else _LINES
    course = (
        courses.trades(r, data, whom, scenario, most)
        if of == "trades"
        else getattr(courses, of)(r, data, whom, scenario)
    )
    if interactive:
        stack = _stack(course) if of == "dispatch" else {}
        return figure_over_time(course.values, course.label, stack)
    ax = axes_or_new(ax, height=2.6)
    _draw(ax, course, stacked=of == "dispatch")
    return ax


def _require_prosumers(prosumers: object, data: MarketData) -> pd.Index:
    """Those asked for, once each; all by default."""
    if prosumers is None:
        return data.prosumers
    asked = [prosumers] if isinstance(prosumers, str) else prosumers
    if not isinstance(asked, Sequence | pd.Index) or not len(asked):
        raise MarketError(f"prosumers must be names of prosumers, not {asked!r}.")
    for who in asked:
        require_label(PROSUMER, "" if who is None else who, data.prosumers)
    return pd.Index(asked).unique()


def _stack(course: courses.Course) -> dict[str, str]:
    """Colours of what is stacked."""
    return {str(name): courses.PARTS[str(name)] for name in course.values if name != courses.DEMAND}


def ends_of(snapshots: pd.Index) -> tuple[np.ndarray, bool]:
    """When each snapshot begins, and the last ends; and whether these are labels' own numbers.

    >>> ends_of(pd.Index([0, 2, 4]))
    (array([0, 2, 4, 6]), True)
    >>> ends_of(pd.Index(["noon", "night"]))
    (array([0, 1, 2]), False)
    """
    own = isinstance(snapshots, pd.DatetimeIndex) or (
        pd.api.types.is_numeric_dtype(snapshots) and snapshots.is_monotonic_increasing
    )
    begin = snapshots.to_numpy() if own else np.arange(len(snapshots))
    return np.append(begin, begin[-1] + (begin[-1] - begin[-2])), own


def _draw(ax: Axes, course: courses.Course, *, stacked: bool) -> None:
    snapshots = course.values.index
    ends, own = ends_of(snapshots)
    if stacked:
        _draw_stack(ax, ends, course)
    elif len(course.values.columns) > _LINES:
        _draw_bands(ax, ends, course.values.to_numpy())
    else:
        _draw_lines(ax, ends, course)
    ax.set_xlim(ends[0], ends[-1])
    if not own:
        step = -(-len(snapshots) // 6)
        ax.set_xticks(ends[:-1:step], [plain(label) for label in snapshots[::step]])
    elif isinstance(snapshots, pd.DatetimeIndex):
        _dates(ax)
    else:
        plain_numbers(ax.xaxis, ticks=6)
    plain_numbers(ax.yaxis)
    ax.tick_params(labelsize=TEXT)
    ax.xaxis.get_offset_text().set_fontsize(TEXT)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("Snapshot", fontsize=TEXT)
    ax.set_ylabel(plain(course.label), fontsize=TEXT)
    names = ax.get_legend_handles_labels()[1]
    draw_legend(
        ax, columns=2 if max(map(len, names), default=0) > 12 else 3, title=course.aside or None
    )


def _dates(ax: Axes) -> None:
    dates = matplotlib_module("dates")
    place = dates.AutoDateLocator(maxticks=6)
    ax.xaxis.set_major_locator(place)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(place))


def _until_next(values: np.ndarray) -> np.ndarray:
    """Values at the ends of snapshots, the last a second time."""
    return np.concatenate([values, values[-1:]])


def _draw_lines(ax: Axes, ends: np.ndarray, course: courses.Course) -> None:
    for (name, values), colour in zip(course.values.items(), LINES, strict=False):
        ax.step(ends, _until_next(values.to_numpy()), where="post", linewidth=1.1, color=colour,
                label=plain(name))  # fmt: skip
    if course.among is not None:
        low, high = np.fmin.reduce(course.among, axis=1), np.fmax.reduce(course.among, axis=1)
        ax.fill_between(ends, _until_next(low), _until_next(high), step="post", color=LINES[0],
                        alpha=0.2, linewidth=0, label="all scenarios")  # fmt: skip
    drawn = course.values.to_numpy() if course.among is None else course.among
    low, high = wide_range(drawn)
    ax.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))


def _draw_bands(ax: Axes, ends: np.ndarray, values: np.ndarray) -> None:
    """Median, the middle 80 % and the range of many prosumers; of those who have a value.

    The axis is three times as high as the middle 80 % are: prices of a few, where they are far
    from all others, are told by the key instead.
    """
    quantiles = np.full((5, len(values)), np.nan)
    there = np.isfinite(values).any(axis=1)
    quantiles[:, there] = np.nanquantile(values[there], [0.0, 0.1, 0.5, 0.9, 1.0], axis=1)
    low, tenth, middle, ninth, high = quantiles
    least, most = np.fmin.reduce(low), np.fmax.reduce(high)
    for below, above, alpha, label in (
        (low, high, 0.15, f"all ({_short(least)} to {_short(most)})"),
        (tenth, ninth, 0.35, "the middle 80 %"),
    ):
        ax.fill_between(ends, _until_next(below), _until_next(above), step="post", color=LINES[0],
                        alpha=alpha, linewidth=0, label=label)  # fmt: skip
    ax.step(ends, _until_next(middle), where="post", color=INK, linewidth=1.2,
            label=f"median of {values.shape[1]} prosumers")  # fmt: skip
    inner, outer = wide_range([tenth, ninth]), wide_range(values)
    room = inner[1] - inner[0]
    ax.set_ylim(
        max(outer[0] - 0.05 * room, inner[0] - room), min(outer[1] + 0.05 * room, inner[1] + room)
    )


def _short(value: float) -> str:
    return number(float(f"{value:.3g}"))


def _draw_stack(ax: Axes, ends: np.ndarray, course: courses.Course) -> None:
    """Bars of what is generated and bought upwards from 0, of what is sold and stored downwards."""
    heights = {sign: np.zeros(len(course.values)) for sign in (1, -1)}
    for name, colour in _stack(course).items():
        values = course.values[name].to_numpy()
        sign = 1 if values.sum() >= 0 else -1
        base = heights[sign]
        ax.fill_between(ends, _until_next(base), _until_next(base + values), step="post",
                        color=colour, linewidth=0, label=name)  # fmt: skip
        heights[sign] = base + values
    demand = _until_next(course.values[courses.DEMAND].to_numpy())
    ax.step(ends, demand, where="post", color="black", linewidth=1.2, label=courses.DEMAND)
    ax.axhline(0.0, color=INK, linewidth=0.6)
