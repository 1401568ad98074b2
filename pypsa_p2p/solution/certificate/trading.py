"""What a network's tables say of its trades, by both ends of every edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from pypsa_p2p.common.names import (
    KEPT_DUALS,
    NAME,
    PROSUMER,
    RECIPROCITY1,
    UNWEIGHED_CAPACITY_PRICES,
    UNWEIGHED_GRID_PRICE,
    UNWEIGHED_PRICE,
    UNWEIGHED_TRADE_PRICES,
)
from pypsa_p2p.common.tables import dynamic_values
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.money import Money, at

END = "end"  # 0, 1: the prosumers at bus0 and bus1 of an edge


@dataclass(frozen=True, kw_only=True)
class Trading:
    """Quantities and prices of all trade edges; dims (end, scenario, snapshot, name).

    Attributes
    ----------
    quantity : DataArray
        What the prosumer at the end buys, q, MW.
    price_now : DataArray
        zeta of the prosumer at the end over p w, EUR/MWh.
    trade_price, capacity_price : DataArray
        zeta and xi of the prosumer at the end, EUR/MWh.
    nodal_price : DataArray
        lambda of the prosumer at the end, EUR/MWh.
    grid_price : DataArray
        What the grid adds at the end, EUR/MWh; 0 where it delivers nothing.
    density : DataArray (end, scenario, name)
        rho of the prosumer at the end.
    preference : DataArray
        b + p0 of the prosumer at the end, EUR/MWh.
    fee : DataArray
        f of the prosumer at the end, EUR/MWh.
    capacity : DataArray
        Most the prosumer at the end may buy, MW.
    congestion : DataArray (scenario, name)
        a, EUR/MW2h.
    bought_ahead : DataArray
        What the prosumer at the end bought of the same partner day ahead, of edges in real time.
    capacity_beside : DataArray
        What the capacity of both is worth, EUR/MWh now, at edges day ahead of pairs that trade in
        real time too.
    counted : DataArray (end, scenario, name)
        What money of the scenario counts for at the end: max(tau, p).
    feared : DataArray (end, scenario, name)
        Her tau over what multipliers weigh money of the scenario by: 1, but where payments are
        at risk, which are prices times p.
    day_ahead : DataArray (name)
        Whether the edge is decided before the scenario is known.
    """

    quantity: xr.DataArray
    price_now: xr.DataArray
    trade_price: xr.DataArray
    capacity_price: xr.DataArray
    nodal_price: xr.DataArray
    grid_price: xr.DataArray
    density: xr.DataArray
    preference: xr.DataArray
    fee: xr.DataArray
    capacity: xr.DataArray
    congestion: xr.DataArray
    bought_ahead: xr.DataArray
    capacity_beside: xr.DataArray
    counted: xr.DataArray
    feared: xr.DataArray
    day_ahead: xr.DataArray

    @property
    def reverse(self) -> xr.DataArray:
        """What the partner buys, MW."""
        return other_end(self.quantity)

    @property
    def surplus(self) -> xr.DataArray:
        """-(q_mn + q_nm), MW."""
        return -(self.quantity + self.reverse)


def read_trading(money: Money, grid_price: xr.DataArray, *, own: bool) -> Trading:
    """Trades as the network's tables hold them.

    Parameters
    ----------
    grid_price : DataArray (scenario, snapshot, prosumer)
        mu/w, EUR/MWh now.
    own : bool
        Whether the ends of an edge have zeta of their own.
    """
    data = money.data

    def link(attribute: str) -> xr.DataArray:
        return dynamic_values(money.n, "Link", attribute, data.edges, data.snapshots)

    def at_ends(by_prosumer: xr.DataArray) -> xr.DataArray:
        return _ends(at(by_prosumer, data.bus0), at(by_prosumer, data.bus1))

    def of_limit(series: tuple[str, str]) -> xr.DataArray:
        ends = zip(series, (data.bus0, data.bus1), strict=True)
        return _ends(*(money.edge_of_limit(*each) for each in ends))

    zeta, xi0, xi1 = (link(multiplier) / data.weighting for multiplier in KEPT_DUALS)
    zetas = _ends(zeta, link(RECIPROCITY1) / data.weighting if own else zeta)
    counted = at_ends(money.counted)
    nodal, trade = at_ends(money.of_limit(UNWEIGHED_PRICE)), of_limit(UNWEIGHED_TRADE_PRICES)
    # Else, and day ahead, it is known by its prices now.
    limit = nodal.notnull() & trade.notnull() & ~data.day_ahead
    grid = at_ends(money.of_limit(UNWEIGHED_GRID_PRICE)).fillna(0.0)
    quantity = _ends(-link("p0"), -link("p1"))
    return Trading(
        quantity=quantity,
        price_now=zetas / data.probability,
        trade_price=trade.where(limit, zetas / counted),
        capacity_price=of_limit(UNWEIGHED_CAPACITY_PRICES).where(limit, _ends(xi0, xi1) / counted),
        nodal_price=nodal.where(limit, at_ends(prices_now(money)) / counted),
        grid_price=grid.where(limit, at_ends(grid_price) / counted),
        density=(at_ends(money.tau) / counted).where(~limit, 1.0),
        preference=_ends(data.price0, data.price1) + at_ends(data.import_price),
        fee=_ends(data.fee0, data.fee1),
        capacity=_ends(data.capacity0, data.capacity1),
        congestion=data.congestion,
        bought_ahead=_from_day_ahead(quantity, data),
        capacity_beside=_to_day_ahead(_ends(xi0, xi1), data),
        counted=counted,
        feared=at_ends(money.feared_over_tau),
        day_ahead=data.day_ahead,
    )


def _from_day_ahead(values: xr.DataArray, data: MarketData) -> xr.DataArray:
    """At edges in real time the values of the same ends day ahead; 0 where there are none."""
    by_trade, ahead_of = _by_trade(values), data.ahead_of
    return _by_end(np.where(ahead_of >= 0, by_trade[..., ahead_of], 0.0), values)


def _to_day_ahead(values: xr.DataArray, data: MarketData) -> xr.DataArray:
    """At edges day ahead the values of the same ends in real time; 0 where there are none."""
    by_trade, ahead_of = _by_trade(values), data.ahead_of
    found, here = np.zeros_like(by_trade), np.flatnonzero(ahead_of >= 0)
    found[..., ahead_of[here]] = by_trade[..., here]
    return _by_end(found, values)


def _by_trade(values: xr.DataArray) -> np.ndarray:
    """Values of both ends of all edges one behind the other, (..., 2 E)."""
    last = values.transpose(..., END, NAME).to_numpy()
    return last.reshape(*last.shape[:-2], -1)


def _by_end(by_trade: np.ndarray, like: xr.DataArray) -> xr.DataArray:
    shaped = like.transpose(..., END, NAME)
    return shaped.copy(data=by_trade.reshape(shaped.shape))


def prices_now(money: Money) -> xr.DataArray:
    """lambda/w of every prosumer, EUR/MWh now; (scenario, snapshot, prosumer)."""
    data = money.data
    price = dynamic_values(money.n, "Bus", "marginal_price", data.prosumers, data.snapshots)
    return price.rename({NAME: PROSUMER})


def _ends(one: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    return xr.concat([one, other], END)


def other_end(values: xr.DataArray) -> xr.DataArray:
    """Values of the partner at each end."""
    return values.isel({END: [1, 0]})
