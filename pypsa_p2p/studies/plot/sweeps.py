"""A figure of a sweep as lines over what was swept."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import product
from textwrap import fill
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.studies.plot.drawing import (
    LINES,
    TEXT,
    axes_or_new,
    draw_legend,
    marks,
    plain,
    plain_numbers,
    power_unit,
    wide_range,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Dimensions that are usually draws of chance.
_DRAWS: Final = ("seed", "draw", "sample")
_BAND: Final = (0.1, 0.9)
_TITLE: Final = 60  # letters of a line


def sweep(
    d: xr.Dataset,
    variable: str,
    x: str | None = None,
    *,
    average: str | Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A figure of a sweep over what was swept: a line for each of the other labels.

    Lines are means over the dimensions averaged, with a band of the middle 80 % around them.
    Points without a solution are gaps. Axes are named after variable and dimension, with the unit
    of its attributes; what it means stands above.

    Parameters
    ----------
    d : Dataset
        What `sweep` returned, or a part of it, ``d.sel(market="alone")``.
    variable : str
        One of its variables, of numbers.
    x : str, optional
        The dimension along the axis. Default: the first of numbers that is not averaged.
    average : str or iterable of str, optional
        Dimensions to average. Default: those called seed, draw or sample.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, there is no such variable or dimension, none of numbers to
        draw along, more than eight lines, or no point with a solution.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> market = p2p.PeerToPeerMarket(risk=p2p.CVaR())
    >>> d = p2p.sweep(n, market, {"attitude": [0.1, 0.6]}, progress=False)
    >>> ax = p2p.plot.sweep(d, "social_cost")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Attitude', 'Social cost (EUR)')
    """
    values = _require_variable(d, variable)
    averaged = _averaged(values, average)
    along = _require_along(values, x, averaged)
    lines = _lines(values, along, averaged)
    factor, unit = 1.0, str(values.attrs.get("unit", values.attrs.get("units", "")))
    if unit == "MW":
        factor, unit = power_unit(float(np.nanmax(np.abs(values.to_numpy()))))
    ax = axes_or_new(ax, height=2.6)
    place = np.argsort(values[along].to_numpy(), kind="stable")
    drawn = {name: factor * line[:, place] for name, line in lines.items()}
    _draw(ax, values[along].to_numpy()[place], drawn, bool(averaged))
    ax.set_xlabel(_label(along, str(values[along].attrs.get("unit", ""))), fontsize=TEXT)
    ax.set_ylabel(_label(variable, unit), fontsize=TEXT)
    meaning = str(values.attrs.get("long_name", ""))
    band = f"; mean and middle 80 % over {', '.join(averaged)}" if averaged else ""
    told = (meaning + band).lstrip("; ")
    told = plain(fill(told, _TITLE))
    if len(lines) == 1:
        ax.set_title(told, fontsize=TEXT)
    else:
        draw_legend(ax, columns=max(1, 40 // max(map(len, lines))), title=told)
    return ax


def _require_variable(d: object, variable: object) -> xr.DataArray:
    """The variable without dimensions of one label, if there is anything to draw."""
    if not isinstance(d, xr.Dataset):
        raise MarketError(f"plot.sweep draws what sweep(...) returned, not {shown(d)}.")
    numbers = [str(name) for name, array in d.data_vars.items() if array.dtype.kind in "fiu"]
    if not isinstance(variable, str) or variable not in numbers:
        raise MarketError(
            f"The sweep has no variable {shown(variable)} of numbers; take one of "
            f"{listed(numbers)}."
        )
    values = d[variable]
    if not np.isfinite(values.to_numpy()).any():
        raise MarketError(f"No point has a {variable}: see the sweep's variable 'error'.")
    return values.squeeze(drop=True)


def _averaged(values: xr.DataArray, average: str | Iterable[str] | None) -> tuple[str, ...]:
    """Dimensions that are averaged."""
    if average is None:
        return tuple(dim for dim in _DRAWS if dim in values.dims)
    asked = (average,) if isinstance(average, str) else tuple(average)
    for dim in asked:
        _require_dimension(values, dim)
    return asked


def _require_dimension(values: xr.DataArray, dim: object) -> None:
    if not isinstance(dim, Hashable) or dim not in values.dims:
        raise MarketError(
            f"{values.name} has no dimension {shown(dim)} of several labels; it has "
            f"{listed([str(known) for known in values.dims]) or 'none'}."
        )


def _require_along(values: xr.DataArray, x: str | None, averaged: tuple[str, ...]) -> str:
    """The dimension along the axis."""
    numeric = [
        str(dim)
        for dim in values.dims
        if dim not in averaged and pd.api.types.is_numeric_dtype(values[dim].to_index())
    ]
    if x is None:
        if not numeric:
            raise MarketError(
                f"{values.name} has no dimension of several numbers to draw along: sweep over "
                "one, or take sweep(...) as a table, d.to_dataframe()."
            )
        return numeric[0]
    _require_dimension(values, x)
    if x not in numeric:
        raise MarketError(f"{x} is averaged or has labels that are no numbers: draw over another.")
    return x


def _lines(values: xr.DataArray, along: str, averaged: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Of each combination of other labels, (draw, x)."""
    others = [str(dim) for dim in values.dims if dim != along and dim not in averaged]
    combinations = list(product(*(values[dim].to_numpy() for dim in others)))
    if len(combinations) > len(LINES):
        sizes = listed([f"{dim} ({values.sizes[dim]})" for dim in others])
        raise MarketError(
            f"{len(combinations)} lines cannot be told apart, of {sizes}: draw a part, "
            f"d.sel({others[0]}=...), or average=."
        )
    lines = {}
    for labels in combinations:
        one = values.sel(dict(zip(others, labels, strict=True))).transpose(*averaged, along)
        name = ", ".join(_named(dim, label) for dim, label in zip(others, labels, strict=True))
        lines[name] = one.to_numpy().reshape(-1, values.sizes[along])
    return lines


def _named(dim: str, label: object) -> str:
    """A label that speaks for itself, or with its dimension."""
    return (
        label
        if isinstance(label, str) and label[:1].isalpha()
        else f"{dim.replace('_', ' ')} {label}"
    )


def _draw(ax: Axes, x: np.ndarray, lines: dict[str, np.ndarray], banded: bool) -> None:
    drawn = []
    for (name, draws), colour in zip(lines.items(), LINES, strict=False):
        there = np.isfinite(draws).any(axis=0)
        mean, low, high = (np.full(x.size, np.nan) for _ in range(3))
        mean[there] = np.nanmean(draws[:, there], axis=0)
        low[there], high[there] = np.nanquantile(draws[:, there], _BAND, axis=0)
        if banded:
            ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, mean, color=colour, linewidth=1.2, label=plain(name) if name else "_",
                **marks(x.size))  # fmt: skip
        drawn += [low, high, mean]
    bottom, top = wide_range(np.concatenate(drawn))
    ax.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
    plain_numbers(ax.xaxis, ticks=6)
    plain_numbers(ax.yaxis)
    ax.tick_params(labelsize=TEXT)
    ax.spines[["top", "right"]].set_visible(False)


def _label(name: str, unit: str) -> str:
    """A name in words, and its unit where it has one."""
    words = name.replace("_", " ")
    words = words[:1].upper() + words[1:]
    return plain(f"{words} ({unit})" if unit not in {"", "1"} else words)
