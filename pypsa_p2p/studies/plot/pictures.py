"""Pictures of a solved market at the width of a paper's column (matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.markets.record import recorded, recorded_risk
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.hedges import recorded_hedges
from pypsa_p2p.studies.amounts import AMOUNTS, Amount, amount_of
from pypsa_p2p.studies.plot.bills import bills as bills  # noqa: PLC0414  public: plot.bills
from pypsa_p2p.studies.plot.convergence import convergence as convergence  # noqa: PLC0414  public: plot.convergence
from pypsa_p2p.studies.plot.drawing import (
    ACCENT,
    INK,
    LIGHT,
    TEXT,
    axes_points,
    draw_legend,
    matplotlib_module,
    number,
    plain,
    plain_numbers,
    wide_range,
)
from pypsa_p2p.studies.plot.interactive import require_no_axes
from pypsa_p2p.studies.plot.over_time import over_time as over_time  # noqa: PLC0414  public: plot.over_time
from pypsa_p2p.studies.plot.privacy import privacy as privacy  # noqa: PLC0414  public: plot.privacy
from pypsa_p2p.studies.plot.rows import (
    Distribution,
    draw_certain_costs,
    draw_contracts,
    draw_costs,
    draw_distributions,
    finish_costs,
    most_telling,
    name_rows,
    row_axes,
)
from pypsa_p2p.studies.plot.solved import solved, typical
from pypsa_p2p.studies.plot.sweeps import sweep as sweep  # noqa: PLC0414  public: plot.sweep
from pypsa_p2p.studies.plot.trades import trades as trades  # noqa: PLC0414  public: plot.trades

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW: Final = 0.16  # height of a prosumer's row, inches
_TWO_ROWS: Final = 0.26  # and of one before and after contracts


@overload
def prices(
    n: pypsa.Network, ax: Axes | None = ..., *, interactive: Literal[False] = ...
) -> Axes: ...


@overload
def prices(n: pypsa.Network, ax: None = ..., *, interactive: Literal[True]) -> Any: ...


def prices(n: pypsa.Network, ax: Axes | None = None, *, interactive: bool = False) -> Any:
    """Nodal prices of each prosumer, EUR/MWh: every scenario and snapshot, and their mean.

    Of more than 120 prosumers those are drawn whose prices vary most; the axis says so.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide, more for long names, as high as its rows need.
    interactive : bool
        Prices over time instead, a line for each prosumer with numbers under the pointer: what
        ``over_time(n, "prices", interactive=True)`` returns, a figure of plotly.

    Returns
    -------
    matplotlib.axes.Axes, or plotly.graph_objects.Figure

    Raises
    ------
    P2PError
        matplotlib is not installed, or the network holds no solved market.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> prices(n).get_xlabel()
    'Nodal price (EUR/MWh)'
    """
    if interactive:
        require_no_axes(ax, interactive)
        return over_time(n, "prices", interactive=True)
    data, r = solved(n)
    price = r["nodal_price"].transpose(PROSUMER, SCENARIO, SNAPSHOT)
    each = price.to_numpy().reshape(len(data.prosumers), -1)
    mean = typical(price, data, None, None).to_numpy()
    chosen = most_telling(np.fmax.reduce(each, axis=1) - np.fmin.reduce(each, axis=1))
    names = [str(data.prosumers[k]) for k in chosen]
    ax = row_axes(ax, names, row=_ROW, around=0.75)
    dims = [dim for dim in (SCENARIO, SNAPSHOT) if r.sizes[dim] > 1]
    if dims:
        draw_distributions(ax, each[chosen], label=" and ".join(f"{dim}s" for dim in dims))
    size = float(np.interp(len(chosen), [20, 120], [3.5, 2.2]))
    ax.plot(mean[chosen], np.arange(len(chosen)), "D", color=ACCENT, markersize=size,
            markeredgewidth=0, label="mean" if dims else "_", clip_on=False)  # fmt: skip
    low, high = wide_range(each[chosen])
    ax.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    ax.spines[["top", "right"]].set_visible(False)
    plain_numbers(ax.xaxis)
    ax.set_xlabel("Nodal price (EUR/MWh)", fontsize=TEXT)
    draw_legend(ax, columns=2)
    name_rows(ax, names, len(data.prosumers), "whose prices vary most")
    return ax


def costs(n: pypsa.Network, ax: Axes | None = None, *, of: Amount | None = None) -> Axes:
    """Costs of each prosumer by scenario, EUR above or below what she expects without contracts.

    They are net costs (her bill less her utility), bills (money alone) or the paper's costs
    (with utility, without what prosumers pay each other), as the axis says.

    Marked are the expectation and, in risk-averse designs, the value at risk and the CVaR (the
    risk-adjusted cost R, where CVaR is mixed with the expectation). With contracts a prosumer
    has two rows: in grey her costs before them, below in black what is left after them. Her
    expected cost before contracts stands beside her name. Where the costs of some reach much
    further than those of others, the axis is logarithmic beyond what it says.

    Without scenarios nothing is uncertain: bars are what each pays. Of more than 120 prosumers
    those are drawn whose costs vary most (without scenarios: are largest); the axis says so.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.
    of : {"net_cost", "bill", "cost"}, optional
        Default: net_cost where money of every scenario has one price, else cost.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, or the network holds no solved market.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> costs(n).get_xlabel()
    'Cost above expected cost (EUR)'
    """
    data, r = solved(n)
    amount = amount_of({"the market": r}, of)
    what = AMOUNTS[amount]
    settings = recorded(n)
    cost, paid = _before_and_after(n, r[amount], data, settings, amount)
    expected = (data.probability * cost).sum(SCENARIO)
    certain = len(data.scenarios) == 1
    before = _distribution(cost - expected, data, settings)
    after = None if paid is None else _distribution(paid - expected, data, settings)
    reach = np.abs(before.values).max(axis=1)
    chosen = most_telling(np.abs(expected) if certain else reach)
    value = expected.transpose(PROSUMER).to_numpy()[chosen]
    names = [str(data.prosumers[k]) for k in chosen]
    if not certain:
        digits = 0 if abs(expected).max() >= 100 else 2
        names = [f"{who} ({number(v, digits)})" for who, v in zip(names, value, strict=True)]
    ax = row_axes(ax, names, row=_ROW if after is None else _TWO_ROWS, around=1.1)
    if certain:
        draw_certain_costs(ax, value)
    elif after is not None:
        draw_costs(ax, before.of(chosen), -0.2, label="before contracts", colour=LIGHT)
        draw_costs(ax, after.of(chosen), 0.2, label="after contracts", colour=INK)
    else:
        draw_costs(ax, before.of(chosen), 0.0, label="scenarios", colour=INK)
    ax.set_ylabel("Prosumer" if certain else f"Prosumer\n(expected {what}, EUR)")
    finish_costs(ax, what, None if certain else reach[chosen], after is not None)
    most = "who pay or get most" if certain else f"whose {what}s vary most"
    name_rows(ax, names, len(data.prosumers), most)
    return ax


def risk(n: pypsa.Network, ax: Axes | None = None) -> Axes:
    """How each prosumer sees each scenario: tau/p, her risk-adjusted probability over its own.

    1 is risk-neutral, 0 a scenario that does not count for her. With contracts, a dark disc
    is cover bought and a white one cover sold; its area is as what the contract pays, EUR.

    Without scenarios there is nothing to weigh, and the picture says so. Of more than 120
    prosumers those are drawn who differ most from their probabilities; the axis says so.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, or the network holds no solved market.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> risk(n).get_xlabel()
    'Scenario'
    """
    data, r = solved(n)
    ratio = r["risk_adjusted_probability"] / data.probability
    by_prosumer = ratio.transpose(PROSUMER, SCENARIO).to_numpy()
    chosen = most_telling(np.abs(by_prosumer - 1.0).max(axis=1))
    names = [str(data.prosumers[k]) for k in chosen]
    ax = row_axes(ax, names, row=_ROW, around=0.9)
    if len(data.scenarios) == 1:
        return _nothing_to_weigh(ax)
    _draw_ratios(ax, by_prosumer[chosen])
    if "contract" in r:
        volume = r["contract"].transpose(PROSUMER, SCENARIO).to_numpy()[chosen]
        draw_contracts(ax, volume, axes_points(ax)[1] / len(chosen))
    _name_scenarios(ax, [plain(scenario) for scenario in data.scenarios])
    name_rows(ax, names, len(data.prosumers), "who differ most from $p$")
    ax.set_ylim(len(chosen) - 0.5, -0.5)
    return ax


def _nothing_to_weigh(ax: Axes) -> Axes:
    """Axes that say why there is no picture of risk."""
    ax.set_axis_off()
    ax.text(
        0.5, 0.5, "One scenario only:\nnobody weighs it by more or less than it is.",
        transform=ax.transAxes, ha="center", va="center", fontsize=TEXT,
    )  # fmt: skip
    ax.set_xlabel("Scenario", fontsize=TEXT)
    ax.set_ylabel("Prosumer", fontsize=TEXT)
    return ax


def _draw_ratios(ax: Axes, ratio: np.ndarray) -> None:
    """Cells, white where tau is p, and a bar that tells their colours, none of them very dark."""
    colours = matplotlib_module("pyplot").get_cmap("PuOr_r")(np.linspace(0.12, 0.88, 255))
    colours = matplotlib_module("colors").ListedColormap(colours)
    scale = matplotlib_module("colors").TwoSlopeNorm(1.0, 0.0, max(2.0, float(ratio.max())))
    image = ax.imshow(ratio, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    plain_numbers(bar.ax.yaxis)
    bar.set_label("Risk-adjusted probability $\\tau$\n/ probability $p$", fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)


def _name_scenarios(ax: Axes, names: list[str]) -> None:
    """About ten of their names below the cells, upright where they are long."""
    step = -(-len(names) // 10)
    long = max(len(name) for name in names) > 4
    ax.set_xticks(
        np.arange(0, len(names), step), names[::step], rotation=90 if long else 0, fontsize=TEXT
    )
    ax.set_xlabel("Scenario", fontsize=TEXT)


def _before_and_after(
    n: pypsa.Network,
    amount: xr.DataArray,
    data: MarketData,
    settings: dict[str, Any],
    of: Amount,
) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Costs before contracts and after, EUR; None where there are none."""
    hedges = recorded_hedges(n, data, settings)
    if hedges is None:
        return amount, None
    settled = hedges.premium - hedges.settled
    if of == "cost":
        return amount, amount + settled
    return amount - settled, amount  # net costs and bills hold contracts, costs do not


def _distribution(cost: xr.DataArray, data: MarketData, settings: dict[str, Any]) -> Distribution:
    """Costs by prosumer and scenario, and the measures of them that are drawn."""
    values = cost.transpose(PROSUMER, SCENARIO).to_numpy()
    expected = values @ data.probability.to_numpy()
    if not settings["risk_averse"]:
        return Distribution(values=values, expected=expected)
    measure, attitude = recorded_risk(settings, data)
    risk = measure.worst(cost, data.probability, attitude)
    return Distribution(
        values=values,
        expected=expected,
        at_risk=risk.value_at_risk.to_numpy(),
        adjusted=risk.value.to_numpy(),
        measure=measure.label,
    )
