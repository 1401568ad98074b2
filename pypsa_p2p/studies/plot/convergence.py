"""The picture of how agents got to an equilibrium (matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.equilibrium.solving import Equilibrium
from pypsa_p2p.studies.plot.drawing import (
    ACCENT,
    INK,
    LIGHT,
    SECOND,
    TEXT,
    THIRD,
    axes_or_new,
    draw_legend,
    marks,
    matplotlib_module,
    plain_numbers,
    wide_range,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What is drawn on the logarithmic axis, where recorded: name, label, and how.
_CURVES: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("movement", "movement", {"color": INK, "linewidth": 1.2}),
    ("primal_residual", "primal residual", {"color": LIGHT, "linewidth": 2.4}),
    ("dual_residual", "dual residual", {"color": THIRD, "linewidth": 0.9}),
    ("exploitability", "exploitability", {"color": ACCENT, "linewidth": 0.9, "linestyle": "--"}),
)
#: Of the tolerance: what is less is below the picture.
_BELOW: Final = 1e-3
#: The share of iterations whose social cost may be off the axis: the first are far from the rest.
_FIRST: Final = 0.1


def convergence(eq: Equilibrium, ax: Axes | None = None) -> Axes:
    """Residuals, exploitability and social cost of an agents' algorithm, iteration by iteration.

    Residuals and exploitability have no unit and stand on the logarithmic axis to the left, with
    the tolerance dotted; social cost, EUR, on the axis to the right, which shows all but the first
    tenth of iterations whole. What is less than a thousandth of the tolerance is below the picture.

    Parameters
    ----------
    eq : Equilibrium
        What `solve_equilibrium` returned for one of the agents' methods.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.

    Returns
    -------
    matplotlib.axes.Axes
        The axes to the left.

    Raises
    ------
    P2PError
        matplotlib is not installed, or the direct solve has no iterations to show.
    """
    if not isinstance(eq, Equilibrium) or eq.method is None:
        raise MarketError(
            "There is no convergence to show: give what solve_equilibrium(n, market, method) "
            "returned for GaussSeidel, Jacobi or ADMM."
        )
    ax = axes_or_new(ax, height=2.6)
    history = eq.history
    mark = marks(history.sizes["iteration"])
    for name, label, style in _CURVES:
        if name in history:
            values = np.maximum(history[name].to_numpy(), ACCURACY.drawn)
            ax.plot(history["iteration"], values, label=label, **style, **mark)
    ax.axhline(eq.method.tolerance, color=INK, linewidth=0.7, linestyle=":", label="tolerance")
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(ax.get_ylim()[0], _BELOW * eq.method.tolerance))
    ax.xaxis.set_major_locator(matplotlib_module("ticker").MaxNLocator(6, integer=True))
    ax.set_xlabel(f"Iteration of {type(eq.method).__name__}", fontsize=TEXT)
    ax.set_ylabel("Residuals and exploitability", fontsize=TEXT)
    right = _draw_cost(ax, history, mark)
    for axes in (ax, right):
        axes.tick_params(labelsize=TEXT)
        axes.spines["top"].set_visible(False)
    ax.plot([], [], color=SECOND, linewidth=1.2, label="social cost")  # for the key alone
    draw_legend(ax, columns=2)
    return ax


def _draw_cost(ax: Axes, history: xr.Dataset, mark: dict[str, Any]) -> Axes:
    """Social cost on an axis of its own."""
    right: Axes = ax.twinx()
    right.plot(history["iteration"], history["social_cost"], color=SECOND, linewidth=1.2, **mark)
    later = history["social_cost"].to_numpy()[int(_FIRST * history.sizes["iteration"]) :]
    low, high = wide_range(later, floor=1e-3)
    right.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    plain_numbers(right.yaxis)
    right.set_ylabel("Social cost (EUR)", fontsize=TEXT, color=SECOND)
    right.tick_params(axis="y", colors=SECOND)
    return right
