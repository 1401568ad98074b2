"""What households pay, before and after: a row of bars for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.solution.bills import PARTS, TOTAL
from pypsa_p2p.solution.bills import bills as bills_of
from pypsa_p2p.solution.savings import without_trades
from pypsa_p2p.studies.plot.drawing import (
    INK,
    TEXT,
    draw_legend,
    plain_numbers,
)
from pypsa_p2p.studies.plot.rows import most_telling, name_rows, row_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours that colour-blind readers tell apart (Okabe and Ito), of the parts of a bill.
_COLOURS: Final = {
    "energy": "#009e73",
    "investment": "#999999",
    "retail_import": "#0072b2",
    "retail_export": "#56b4e9",
    "peak": "#cc79a7",
    "operator": "#6a6a6a",
    "congestion": "#b8860b",
    "fees": "#f0e442",
    "trades": "#d55e00",
    "contracts": "#e69f00",
}
_ROW: Final = 0.24  # height of a household's row, inches
_BAR: Final = 0.36  # height of one of her two bars, of the row's
_FADED: Final = 0.45


def bills(n: pypsa.Network, reference: pypsa.Network | None = None, ax: Axes | None = None) -> Axes:
    """What each household pays, by what she pays for, before trading and after, EUR.

    Two bars for each: pale above before, full below after. What she pays stands to the right of
    0, what she is paid to the left; a ring and a disc mark the totals. Expectations over scenarios
    (`p2p.bills` has the numbers).

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    reference : pypsa.Network, optional
        Before: solved with a market, too. Default: `without_trades`.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide, more for long names, as high as its rows need.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, no market is solved, money of a scenario has not one price, or
        the networks are of other households.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.plot.bills(n).get_xlabel()
    'Expected bill (EUR)'
    """
    after = bills_of(n)
    before = bills_of(without_trades(n) if reference is None else reference)
    _require_totals(before, after)
    if set(before.index) != set(after.index):
        raise MarketError(
            f"The reference is of {listed(before.index)}, the market of {listed(after.index)}: "
            "compare the same households."
        )
    before = before.loc[after.index]
    shown = _shown(before, after)
    households = len(after)
    chosen = most_telling(np.maximum(before[TOTAL].abs(), after[TOTAL].abs()))
    before, after = before.iloc[chosen], after.iloc[chosen]
    names = [str(who) for who in after.index]
    ax = row_axes(ax, names, row=_ROW, around=1.1)
    place = np.arange(len(after))
    for table, offset, alpha in ((before, -_BAR / 2, _FADED), (after, _BAR / 2, 1.0)):
        _draw_parts(ax, table[shown], place + offset, alpha)
    size = float(np.interp(len(names), [30, 120], [3.4, 1.6]))
    marks: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "black", "zorder": 4}
    marks |= {"markersize": size, "markeredgewidth": 0.25 * size}
    ax.plot(before[TOTAL], place - _BAR / 2, "o", markerfacecolor="white",
            label="total before", **marks)  # fmt: skip
    ax.plot(after[TOTAL], place + _BAR / 2, "o", markerfacecolor="black",
            label="total after", **marks)  # fmt: skip
    _finish(ax, _extent(before[shown], after[shown]))
    name_rows(ax, names, households, "whose bills are largest")
    return ax


def _require_totals(*tables: pd.DataFrame) -> None:
    for table in tables:
        if table[TOTAL].isna().any():
            raise MarketError(
                "There are no bills where money of a scenario has not one price to all. Let "
                "complete contracts, the community's risk or equal weights make prosumers agree."
            )


def _shown(*tables: pd.DataFrame) -> list[str]:
    """The parts that are something to somebody."""
    sizes = [table[list(PARTS)].abs().max() for table in tables]
    largest = max(float(size.max()) for size in sizes)
    return [
        part for part in PARTS if any(size[part] > ACCURACY.promised * largest for size in sizes)
    ]


def _extent(*tables: pd.DataFrame) -> tuple[float, float]:
    """How far bars reach to the left and to the right, with a margin."""
    low = min(float(table.clip(upper=0.0).sum(axis=1).min()) for table in tables)
    high = max(float(table.clip(lower=0.0).sum(axis=1).max()) for table in tables)
    margin = 0.04 * (high - low or 1.0)
    return low - margin, high + margin


def _draw_parts(ax: Axes, table: pd.DataFrame, place: np.ndarray, alpha: float) -> None:
    """Bars of what is paid, end to end from 0 to the right, and of what is received to the left."""
    ends = {sign: np.zeros(len(table)) for sign in (1, -1)}
    for part in table:
        for sign, start in ends.items():
            width = np.where(np.sign(table[part]) == sign, table[part], 0.0)
            ax.barh(
                place,
                width,
                height=_BAR,
                left=start,
                color=_COLOURS[str(part)],
                alpha=alpha,
                linewidth=0,
                label=str(part).replace("_", " ") if alpha == 1.0 and sign == 1 else "_",
            )
            ends[sign] = start + width


def _finish(ax: Axes, extent: tuple[float, float]) -> None:
    ax.set_xlim(extent)
    ax.axvline(0.0, color=INK, linewidth=0.6, zorder=3)
    plain_numbers(ax.xaxis)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("Expected bill (EUR)", fontsize=TEXT)
    ax.set_ylabel("Household", fontsize=TEXT)
    draw_legend(ax, columns=3)
