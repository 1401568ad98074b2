"""Prices in money of the scenario, and what prosumers pay each other in it (MODEL.md §4).

A multiplier is worth now, before the scenario is known. What it is in money of the scenario
depends on who pays: it is divided by her risk-adjusted probability of the scenario, and by the
hours. Money of a scenario is worth the same to all, and can be paid between them at one price,
where all their risk-adjusted probabilities agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import (
    NAME,
    PROSUMER,
    RISK_ADJUSTED_PROBABILITY,
    SCENARIO,
    SNAPSHOT,
    TRADE,
)
from pypsa_p2p.common.tables import Numbers, dynamic_numbers, dynamic_values, static_values
from pypsa_p2p.network.assets import summed
from pypsa_p2p.network.costs import forgone_utility
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.hedges import RecordedHedges
from pypsa_p2p.solvers.arrays import Labels


@dataclass(frozen=True, kw_only=True)
class Money:
    """What money of each scenario is worth now to each prosumer.

    Attributes
    ----------
    n, data : Network, MarketData
        Solved with a market.
    tau : DataArray (scenario, prosumer)
        Her risk-adjusted probability, EUR now per EUR in the scenario.
    weighed : DataArray (scenario, prosumer)
        Whether she weighs the scenario at all.
    """

    n: pypsa.Network
    data: MarketData
    tau: xr.DataArray
    weighed: xr.DataArray

    @classmethod
    def of(cls, n: pypsa.Network, data: MarketData) -> Money:
        """What the tables of a solved network hold."""
        tau = static_values(n, "Bus", RISK_ADJUSTED_PROBABILITY, data.prosumers)
        tau = tau.rename({NAME: PROSUMER})
        weighed = tau > ACCURACY.promised * data.probability
        return cls(n=n, data=data, tau=tau, weighed=weighed)

    @property
    def alike(self) -> xr.DataArray:
        """Whether all prosumers' probabilities of a scenario agree, (scenario)."""
        most = self.tau.max(PROSUMER)
        return most - self.tau.min(PROSUMER) <= ACCURACY.promised * most

    @property
    def counted(self) -> xr.DataArray:
        """What an error in money of a scenario counts for: tau, and at least p."""
        return self.tau.where(self.tau >= self.data.probability, self.data.probability)

    def of_limit(self, series: str) -> xr.DataArray:
        """Prices of scenarios that prosumers do not weigh, NaN elsewhere and where none is.

        Dims (scenario, snapshot, prosumer), EUR/MWh.
        """
        prosumers, sns = self.data.prosumers, self.data.snapshots
        kept = dynamic_values(self.n, "Bus", series, prosumers, sns, np.nan)
        return kept.rename({NAME: PROSUMER}).where(~self.weighed)

    def by_prosumer(self, now: xr.DataArray, series: str) -> xr.DataArray:
        """Prices of prosumers now, EUR/MWh (scenario, snapshot, prosumer), in their money.

        `series` holds those of scenarios that they do not weigh.
        """
        prosumers = self.data.prosumers
        kept = self._kept("Bus", series, prosumers)
        return self._in_money(now, kept, np.arange(len(prosumers)))

    def by_edge(self, now: xr.DataArray, series: str, buyer: xr.DataArray) -> xr.DataArray:
        """Prices of one direction of all edges now, (scenario, snapshot, name), in its buyer's.

        Parameters
        ----------
        buyer : DataArray (name)
            Who buys, of each edge.
        """
        kept = self._kept("Link", series, self.data.edges)
        whose = self.data.prosumers.get_indexer(pd.Index(buyer.to_numpy()))
        return self._in_money(now, kept, whose)

    def _kept(self, component: str, series: str, names: pd.Index) -> Numbers:
        """Prices of the limit, (S, T, names), NaN where there is none."""
        return dynamic_numbers(self.n, component, series, names, self.data.snapshots, np.nan)

    def _in_money(self, now: xr.DataArray, of_limit: Numbers, whose: Labels) -> xr.DataArray:
        """Prices now, (scenario, snapshot, K), in money of those, (K,), who pay them."""
        tau, weighed = (
            values.transpose(SCENARIO, PROSUMER).to_numpy()[:, None, whose]
            for values in (self.tau, self.weighed)
        )
        like = now.transpose(SCENARIO, SNAPSHOT, ...)
        with np.errstate(divide="ignore", invalid="ignore"):
            return like.copy(data=np.where(weighed, like.to_numpy() / tau, of_limit))

    def edge_of_limit(self, series: str, buyer: xr.DataArray) -> xr.DataArray:
        """`of_limit` of one direction of all edges, (scenario, snapshot, name)."""
        kept = dynamic_values(self.n, "Link", series, self.data.edges, self.data.snapshots, np.nan)
        return kept.where(~at(self.weighed, buyer))


def at(by_prosumer: xr.DataArray, ends: xr.DataArray) -> xr.DataArray:
    """Values of the prosumers at some ends of the edges, `prosumer` becoming ``name``."""
    whose = by_prosumer.indexes[PROSUMER].get_indexer(pd.Index(ends.to_numpy()))
    values = by_prosumer.transpose(..., PROSUMER)
    coords = {dim: values.coords[dim].variable for dim in values.dims if dim != PROSUMER}
    return xr.DataArray(
        values.to_numpy()[..., whose],
        coords={**coords, NAME: ends.indexes[NAME]},
        dims=(*coords, NAME),
    )


def net_costs(
    money: Money,
    trades: Mapping[str, xr.DataArray],
    costs: Mapping[str, xr.DataArray],
    hedges: RecordedHedges | None,
    own_multipliers: bool,
) -> dict[str, xr.DataArray]:
    r"""Payments, bills and net costs in money of the scenario, EUR (MODEL.md §4).

    .. math:: \mathrm{net\ cost} = \Pi + \mathrm{payment} - (W + J) + \mathrm{premium}
        = \mathrm{bill} - U + \sum_m b_{mn} q_{mn}

    Parameters
    ----------
    trades, costs : mapping
        ``trade_price``, ``quantity``; ``cost`` and the ``preference`` :math:`\sum b q` in it.
    hedges : RecordedHedges or None
        Contracts, where they are traded.
    own_multipliers : bool
        Whether the ends of an edge have prices of their own.

    Returns
    -------
    dict
        ``payment``, ``bill``, ``net_cost``, (scenario, prosumer); NaN where money of the scenario
        has not one price, and something is paid.
    """
    data, price, quantity = money.data, trades["trade_price"], trades["quantity"]
    agree = prices_agree(money, price, quantity, own_multipliers)
    payment = sum_of_buyer(price.fillna(0.0) * quantity * data.weighting, data)
    payment = payment.sum(SNAPSHOT).where(agree)
    net_cost = costs["cost"] + payment
    if hedges is not None:
        net_cost = hedges.after(net_cost) + hedges.premium
    utility = data.usage_benefit * data.weighting.sum() - forgone_utility(money.n, data)
    bill = net_cost + utility - costs["preference"]
    found = {"payment": payment, "bill": bill, "net_cost": net_cost}
    return {name: array.transpose(SCENARIO, PROSUMER) for name, array in found.items()}


def sum_of_buyer(by_trade: xr.DataArray, data: MarketData) -> xr.DataArray:
    """Sum over the trades that each prosumer decides, as their buyer."""
    buyers = np.concatenate([data.bus0.to_numpy(), data.bus1.to_numpy()])
    return summed(by_trade, TRADE, data.prosumers.get_indexer(pd.Index(buyers)), data)


def prices_agree(
    money: Money, trade_price: xr.DataArray, quantity: xr.DataArray, own_multipliers: bool
) -> xr.DataArray:
    """Whether what is traded has one price in money of a scenario, to both ends; (scenario).

    It has where nothing is traded, or all weigh the scenario alike. Where nobody weighs it, the
    prices of the limit may agree or not. In an equilibrium of unequal weights the ends of an edge
    have prices of their own.

    Parameters
    ----------
    trade_price, quantity : DataArray (scenario, snapshot, trade)
        EUR/MWh to the buyer, and MW.
    own_multipliers : bool
        Whether the weights are unequal.
    """
    if not quantity.size:
        return xr.ones_like(money.alike)
    each = [SNAPSHOT, TRADE]
    busy = abs(quantity) > ACCURACY.promised * abs(quantity).max()
    nothing = ~busy.any(each)
    if own_multipliers:
        return nothing
    reverse = other_direction(trade_price)
    size = np.nan_to_num(abs(trade_price.to_numpy())).max(initial=0.0)
    same = (abs(trade_price - reverse) <= ACCURACY.promised * size) | ~busy  # NaN is not the same
    nobody = ~money.weighed.any(PROSUMER)
    agree: xr.DataArray = nothing | (money.alike & (~nobody | same.all(each)))
    return agree


def other_direction(by_trade: xr.DataArray) -> xr.DataArray:
    """The value of the other direction of every trade."""
    half, axis = by_trade.sizes[TRADE] // 2, by_trade.get_axis_num(TRADE)
    return by_trade.copy(data=np.roll(by_trade.to_numpy(), half, axis=axis))
