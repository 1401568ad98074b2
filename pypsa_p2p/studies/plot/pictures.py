"""Pictures of a solved market at the width of a paper's column (matplotlib)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final, Literal

import networkx as nx
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.common.tables import ONLY_SCENARIO, first_scenario
from pypsa_p2p.markets.record import recorded, recorded_risk
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.hedges import recorded_hedges
from pypsa_p2p.solution.results import results
from pypsa_p2p.studies.amounts import AMOUNTS, Amount, amount_of
from pypsa_p2p.studies.plot.bills import bills as bills  # noqa: PLC0414  public: plot.bills
from pypsa_p2p.studies.plot.convergence import convergence as convergence  # noqa: PLC0414  public: plot.convergence
from pypsa_p2p.studies.plot.drawing import (
    ACCENT,
    INK,
    LIGHT,
    PALE,
    RISK_COLOURS,
    TEXT,
    Distribution,
    axes_or_new,
    draw_arrows,
    draw_contracts,
    draw_costs,
    draw_distributions,
    draw_legend,
    draw_prosumers,
    draw_roles,
    finish_costs,
    matplotlib_module,
)
from pypsa_p2p.studies.plot.privacy import privacy as privacy  # noqa: PLC0414  public: plot.privacy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEED: Final = 7  # of layouts without coordinates


def trades(
    n: pypsa.Network,
    ax: Axes | None = None,
    scenario: str | None = None,
    snapshot: Any = None,
    *,
    colour: Literal["price", "role"] = "price",
) -> Axes:
    """Who buys from whom: an arrow from seller to buyer, as wide as what is traded, MW.

    Widths are expectations over scenarios and means over the hours of snapshots; an edge used
    in both directions has an arrow for each. Edges without trade (less than a hundredth of the
    greatest) are thin and grey. Prosumers are coloured by their mean nodal price, EUR/MWh, or by
    their role, and stand at their buses' coordinates; where those coincide or are missing, in a
    spring layout with a fixed seed.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide.
    scenario, snapshot : label, optional
        That one only, instead of the expectation and the mean.
    colour : {"price", "role"}
        Of prosumers; by role net sellers and net buyers are told apart.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    P2PError
        matplotlib is not installed, the network holds no solved market, or there is no such
        scenario, snapshot or colour.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket().optimize(n)
    ('ok', 'optimal')
    >>> trades(n).get_title()
    'Expected trades'
    """
    data, r = _solved(n)
    _require_label(SCENARIO, scenario, data.scenarios)
    _require_label(SNAPSHOT, snapshot, data.snapshots)
    _require_label("colour", "" if colour is None else colour, pd.Index(["price", "role"]))
    bought = _typical(_between_pairs(r, data).clip(min=0.0), data, scenario, snapshot)
    ax = axes_or_new(ax, height=3.2)
    where = _positions(n, data)
    drawn = draw_arrows(ax, bought, where)
    for ends in zip(data.bus0.to_numpy(), data.bus1.to_numpy(), strict=True):
        if ends not in drawn and ends[::-1] not in drawn:
            ax.plot(*np.transpose([where[who] for who in ends]), color=PALE, linewidth=0.7)
    if colour == "role":
        draw_roles(ax, _typical(r["net_import"], data, scenario, snapshot).to_series(), where)
    else:
        price = _typical(r["nodal_price"], data, scenario, snapshot)
        draw_prosumers(ax, price.to_series(), where)
    title = "Expected trades" if scenario is None else f"Trades in scenario {scenario}"
    ax.set_title(title, fontsize=TEXT + 1)
    return ax


def prices(n: pypsa.Network, ax: Axes | None = None) -> Axes:
    """Nodal prices of each prosumer, EUR/MWh: every scenario and snapshot, and their mean.

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
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> prices(n).get_xlabel()
    'Nodal price (EUR/MWh)'
    """
    data, r = _solved(n)
    ax = axes_or_new(ax, height=2.4)
    price = r["nodal_price"]
    each = price.transpose(PROSUMER, SCENARIO, SNAPSHOT).to_numpy()
    draw_distributions(ax, data.prosumers, each.reshape(len(data.prosumers), -1))
    mean = _typical(price, data, None, None).to_numpy()
    ax.plot(mean, np.arange(len(mean)), "D", color=ACCENT, markersize=3.5, label="mean")
    ax.set_xlabel("Nodal price (EUR/MWh)", fontsize=TEXT)
    ax.set_ylabel("Prosumer", fontsize=TEXT)
    draw_legend(ax, columns=2)
    return ax


def costs(n: pypsa.Network, ax: Axes | None = None, *, of: Amount | None = None) -> Axes:
    """Costs of each prosumer by scenario, EUR above or below what she expects without contracts.

    They are net costs (her bill less her utility), bills (money alone) or the paper's costs
    (with utility, without what prosumers pay each other), as the axis says.

    Marked are the expectation and, in risk-averse designs, the value at risk and the CVaR (the
    risk-adjusted cost R, where CVaR is mixed with the expectation). With contracts a prosumer
    has two rows: in grey her costs before them, below in black what is left after them. Her
    expected cost before contracts stands beside her name.

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
    data, r = _solved(n)
    amount = amount_of({"the market": r}, of)
    settings = recorded(n)
    hedges = recorded_hedges(n, data, settings)
    hedged = hedges is not None
    ax = axes_or_new(ax, height=1.0 + (0.26 if hedged else 0.16) * max(len(data.prosumers), 6))
    cost, paid = r[amount], r[amount]
    if hedges is not None:  # net costs and bills hold contracts, costs do not
        settled = hedges.premium - hedges.settled
        cost, paid = (cost, cost + settled) if amount == "cost" else (cost - settled, cost)
    expected = (data.probability * cost).sum(SCENARIO)
    before = _distribution(cost - expected, data, settings)
    if hedges is not None:
        after = _distribution(paid - expected, data, settings)
        draw_costs(ax, before, offset=-0.2, label="before contracts", colour=LIGHT)
        draw_costs(ax, after, offset=0.2, label="after contracts", colour=INK)
    else:
        draw_costs(ax, before, offset=0.0, label="scenarios", colour=INK)
    digits = 0 if abs(expected).max() >= 100 else 2
    names = [f"{who} ({value:,.{digits}f})" for who, value in expected.to_series().items()]
    finish_costs(ax, names, AMOUNTS[amount], hedged)
    return ax


def risk(n: pypsa.Network, ax: Axes | None = None) -> Axes:
    """How each prosumer sees each scenario: tau/p, her risk-adjusted probability over its own.

    1 is risk-neutral, 0 a scenario that does not count for her. With contracts, a filled disc
    is cover bought and a ring cover sold; its area is as what the contract pays, EUR.

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
    data, r = _solved(n)
    ax = axes_or_new(ax, height=2.8)
    ratio = r["risk_adjusted_probability"] / data.probability
    by_prosumer = ratio.transpose(PROSUMER, SCENARIO).to_numpy()
    top = max(2.0, float(by_prosumer.max()))
    scale = matplotlib_module("colors").TwoSlopeNorm(1.0, 0.0, top)
    image = ax.imshow(by_prosumer, cmap=RISK_COLOURS, norm=scale, aspect="auto")
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label(r"Risk-adjusted probability $\tau$ / probability $p$", fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)
    if "contract" in r:
        draw_contracts(ax, r["contract"].transpose(PROSUMER, SCENARIO).to_numpy())
    ax.set_yticks(np.arange(len(data.prosumers)), [str(p) for p in data.prosumers])
    step = -(-len(data.scenarios) // 10)
    ax.set_xticks(np.arange(0, len(data.scenarios), step), list(data.scenarios[::step]))
    ax.tick_params(labelsize=TEXT)
    ax.set_xlabel("Scenario", fontsize=TEXT)
    ax.set_ylabel("Prosumer", fontsize=TEXT)
    return ax


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


def _solved(n: pypsa.Network) -> tuple[MarketData, xr.Dataset]:
    r = results(n)
    return read_market(n, pd.Index(r["snapshot"].to_numpy())), r


def _require_label(dimension: str, label: object, known: pd.Index) -> None:
    if label is None or (isinstance(label, Hashable) and label in known):
        return
    if list(known) == [ONLY_SCENARIO]:
        raise MarketError(f"The network has no scenarios: leave scenario={shown(label)} out.")
    raise MarketError(f"There is no {dimension} {shown(label)}; take one of {listed(known)}.")


def _between_pairs(r: xr.Dataset, data: MarketData) -> xr.DataArray:
    """What each buys of each, MW: where they trade twice, day ahead and in real time together."""
    quantity, ahead_of = r["quantity"], data.ahead_of
    twice = np.flatnonzero(ahead_of >= 0)
    whole = quantity.transpose(..., TRADE).copy()
    whole[..., ahead_of[twice]] += quantity.transpose(..., TRADE).to_numpy()[..., twice]
    return whole.isel({TRADE: np.setdiff1d(np.arange(ahead_of.size), twice)})


def _typical(
    values: xr.DataArray, data: MarketData, scenario: str | None, snapshot: Any
) -> xr.DataArray:
    """Expectation over scenarios and mean over hours, or the values of the one named.

    Of what is there: NaN, a price that does not exist, has no weight in a mean.
    """
    if scenario is not None:
        values = values.sel({SCENARIO: scenario})
    if snapshot is not None:
        values = values.sel({SNAPSHOT: snapshot})
    weight = data.probability * data.weighting
    left = [dim for dim in weight.dims if dim in values.dims]
    gone = {dim: 0 for dim in weight.dims if dim not in left}  # any will do: weights are relative
    return values.weighted(weight.isel(gone)).mean(left)


def _positions(n: pypsa.Network, data: MarketData) -> dict[str, np.ndarray]:
    """Coordinates of the prosumers: their buses', or a spring layout where those coincide."""
    place = first_scenario(n, "Bus").loc[data.prosumers, ["x", "y"]].astype(float)
    if not place.isna().any(axis=None) and not place.round(9).duplicated().any():
        return {str(who): row.to_numpy() for who, row in place.iterrows()}
    graph = nx.Graph()
    graph.add_nodes_from(data.prosumers)
    graph.add_edges_from(zip(data.bus0.to_numpy(), data.bus1.to_numpy(), strict=True))
    return {str(who): xy for who, xy in nx.spring_layout(graph, seed=_SEED).items()}
