"""What privacy costs, over how private reports are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.given import POSITIVE
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.studies.plot.drawing import INK, SECOND, TEXT, axes_or_new, draw_legend, marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def privacy(levels: Mapping[float, xr.Dataset], ax: Axes | None = None) -> Axes:
    """What private reports cost all together, and the price of privacy, over the privacy level.

    The cost, EUR, of deviations and noise stands on the axis to the left, with that of deviations
    alone dashed. The price, of a unit less of loss, is on the axis to the right, logarithmic:
    everybody's in pale lines, their mean in a full one. To the left reports are more private.

    Parameters
    ----------
    levels : mapping of xarray.Dataset
        By expected privacy loss, what `solve_reports` returned at it; two or more.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.

    Returns
    -------
    matplotlib.axes.Axes
        The axes to the left.

    Raises
    ------
    P2PError
        matplotlib is not installed, or the levels are not two or more datasets of `solve_reports`.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> p2p.add_prosumers(n, ["a", "b"], demand=[4, 6], demand_min=-20, demand_max=20,
    ...                   utility_quadratic=5, generation_max=[0, 20], marginal_cost_quadratic=1)
    >>> p2p.add_trades(n, "complete", capacity=50)
    >>> market = p2p.PeerToPeerMarket(surplus=False)
    >>> levels = {
    ...     loss: p2p.solve_reports(n, market, p2p.PrivateReports(loss=loss, sensitivity=0.5))
    ...     for loss in (0.1, 0.3, 1.0)
    ... }
    >>> p2p.plot.privacy(levels).get_ylabel()
    'Cost of private reports (EUR)'
    """
    losses, found = _require_levels(levels)
    ax = axes_or_new(ax, height=2.6)
    mark = marks(losses.size)
    cost = [float(g["social_cost"] - g["truthful_social_cost"]) for g in found]
    deviating = [float(g["by_deviation"].sum()) for g in found]
    ax.plot(losses, cost, color=INK, linewidth=1.2, label="deviations and noise", **mark)
    ax.plot(losses, deviating, color=INK, linewidth=1.0, linestyle="--", label="deviations alone")
    ax.set_xscale("log")
    ax.set_ylim(bottom=min(0.0, *cost, *deviating))
    ax.set_xlabel("Expected privacy loss allowed", fontsize=TEXT)
    ax.set_ylabel("Cost of private reports (EUR)", fontsize=TEXT)
    right = _draw_prices(ax, losses, found)
    for axes in (ax, right):
        axes.tick_params(labelsize=TEXT)
        axes.spines["top"].set_visible(False)
    ax.plot([], [], color=SECOND, linewidth=1.2, label="price, mean")  # for the key alone
    ax.plot([], [], color=SECOND, linewidth=0.6, alpha=0.4, label="price, each")
    draw_legend(ax, columns=2)
    return ax


def _draw_prices(ax: Axes, losses: np.ndarray, found: list[xr.Dataset]) -> Axes:
    """Prices of privacy on an axis of their own; who pays none has no line."""
    price = np.array([g["privacy_price"].transpose(PROSUMER).to_numpy() for g in found])
    right: Axes = ax.twinx()
    right.plot(losses, np.where(price > 0, price, np.nan), color=SECOND, linewidth=0.6, alpha=0.4)
    right.plot(losses, price.mean(axis=1), color=SECOND, linewidth=1.2)
    right.set_yscale("log")
    shared = found[0].attrs["observer"] == "price"
    unit = "EUR/MW$^2$" if shared else "EUR per unit of loss"
    right.set_ylabel(f"Price of privacy ({unit})", fontsize=TEXT, color=SECOND)
    right.tick_params(axis="y", colors=SECOND)
    return right


def _require_levels(levels: object) -> tuple[np.ndarray, list[xr.Dataset]]:
    """The levels in rising order, and their datasets, which must be of the same prosumers."""
    if not isinstance(levels, Mapping) or len(levels) < 2:
        raise MarketError(
            "plot.privacy draws two levels or more: give {loss: solve_reports(...), ...}."
        )
    for loss, g in levels.items():
        POSITIVE.require("plot.privacy: level", loss)
        if not isinstance(g, xr.Dataset) or "privacy_price" not in g:
            raise MarketError(f"plot.privacy: level {loss!r} is not what solve_reports returned.")
    order = sorted(levels)
    return np.array(order, dtype=float), [levels[loss] for loss in order]
