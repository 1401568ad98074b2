"""What explanations of prices are made from: a solved market, by asset and by trade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.names import NAME, OWN_MULTIPLIERS, PROSUMER, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.common.tables import carrier_names, dynamic_values, first_scenario
from pypsa_p2p.markets.record import recorded
from pypsa_p2p.network.assets import by_owner
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.accounts import other_direction
from pypsa_p2p.solution.money import Money
from pypsa_p2p.solution.results import results

_TRADE_DIMS = (SCENARIO, SNAPSHOT, TRADE)


def partners_share(settings: Mapping[str, Any]) -> float:
    """How often the partner's quantity counts in the price of a congested trade: 2 x `cross`."""
    return 2.0 * float(settings["cross"])


def trade_marginal_cost(
    quantity: xr.DataArray,
    reverse: xr.DataArray,
    congestion: xr.DataArray,
    price: xr.DataArray,
    share: float,
) -> xr.DataArray:
    r"""What one MWh more bought over an edge costs: :math:`a (2 q_{mn} + k q_{nm}) + b + p^0`.

    The bracket of (12), where k = 2 because the planner minds both sides' congestion cost, and
    of (22), where k = 1 because the buyer minds her own only.

    Parameters
    ----------
    quantity, reverse : DataArray
        :math:`q_{mn}` and :math:`q_{nm}`, MW.
    congestion : DataArray
        a, EUR/MW2h.
    price : DataArray
        :math:`b_{mn} + p^0_n`, EUR/MWh.
    share : float
        k, see `partners_share`.

    Returns
    -------
    DataArray
        EUR/MWh, not weighted by risk.
    """
    return congestion * (2 * quantity + share * reverse) + price


def require_common_grid_prices(settings: Mapping[str, Any], what: str) -> None:
    """Refuse a market in which prosumers see different prices at one bus of the grid.

    Raises
    ------
    MarketError
    """
    if settings["delivery"] == "grid" and settings.get(OWN_MULTIPLIERS, False):
        raise MarketError(
            f"{what} is not available for generalized equilibria of unequal weights with "
            "delivery='grid': every prosumer has grid prices of her own, but PyPSA's tables hold "
            "one at each bus. Use equal weights or delivery='trades'."
        )


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A prosumer's one component of a carrier; all (scenario, snapshot, prosumer)."""

    power: xr.DataArray
    linear: xr.DataArray
    quadratic: xr.DataArray
    inside: xr.DataArray

    @property
    def marginal(self) -> xr.DataArray:
        """Marginal cost b + 2 c p, EUR/MWh."""
        return self.linear + 2 * self.quadratic * self.power


@dataclass(frozen=True, kw_only=True)
class SolvedMarket:
    """A solved market: network, data, results, and the design's share."""

    n: pypsa.Network
    data: MarketData
    r: xr.Dataset
    share: float
    allows_surplus: bool

    @classmethod
    def of(cls, n: pypsa.Network) -> SolvedMarket:
        """What a network's tables hold."""
        settings = recorded(n)
        require_common_grid_prices(settings, "What nodal prices consist of")
        return cls(
            n=n,
            data=read_market(n, n.snapshots[settings["snapshots"]]),
            r=results(n),
            share=partners_share(settings),
            allows_surplus=settings["surplus"],
        )

    @property
    def relative_weight(self) -> xr.DataArray:
        """The seller's risk-adjusted probability over the buyer's, (scenario, snapshot, trade)."""
        money = Money.of(self.n, self.data)
        tau = money.tau.where(money.weighed)
        return self.at(tau, "seller") / self.at(tau, "buyer")

    @property
    def grid_price(self) -> xr.DataArray:
        """What the grid adds to prices, EUR/MWh; 0 where it delivers nothing."""
        if "grid_price" in self.r:
            return self.r["grid_price"]
        return xr.zeros_like(self.r["nodal_price"])

    def labelled(self, values: xr.DataArray) -> xr.DataArray:
        """With dims in the order of the results."""
        return values.transpose(SCENARIO, SNAPSHOT, PROSUMER)

    def asset(self, carrier: str) -> Asset:
        """The prosumers' components of a carrier; nan where one has none or several."""
        names = carrier_names(self.n, "Generator", carrier)
        bus = first_scenario(self.n, "Generator")["bus"].reindex(names)
        single = names[(bus.isin(self.data.prosumers) & ~bus.duplicated(keep=False)).to_numpy()]
        owner = xr.DataArray(bus.reindex(single).to_numpy(object), coords={NAME: single})

        def summed(values: xr.DataArray) -> xr.DataArray:
            """Of each prosumer's component, (scenario, snapshot, prosumer); NaN without one."""
            if single.empty:
                return xr.full_like(self.data.import_price, np.nan)
            missing = ~self.data.import_price[PROSUMER].isin(owner.to_numpy())
            return by_owner(values, owner, self.data).where(~missing)

        def value(attribute: str) -> xr.DataArray:
            """One attribute of each prosumer's component."""
            return summed(dynamic_values(self.n, "Generator", attribute, single, sns))

        sns = self.data.snapshots
        point = dynamic_values(self.n, "Generator", "p_set", single, sns, np.nan)
        free = summed(point.isnull().astype(float)) > 0  # PyPSA keeps others at their set points
        power, size = value("p"), value("p_nom_opt")
        low, high = size * value("p_min_pu"), size * value("p_max_pu")
        near = ACCURACY.inside * (high - low)
        return Asset(
            power=power,
            linear=value("marginal_cost"),
            quadratic=value("marginal_cost_quadratic"),
            inside=(power > low + near) & (power < high - near) & free,
        )

    def trade_cost(self, share: float) -> xr.DataArray:
        """`trade_marginal_cost` of every trade, (scenario, snapshot, trade)."""
        quantity = self.r["quantity"]
        price = self.by_trade(self.data.price0, self.data.price1)
        return trade_marginal_cost(
            quantity,
            self.reverse(quantity),
            self.by_trade(self.data.congestion),
            price + self.at(self.data.import_price, "buyer"),
            share,
        )

    def fee_at(self, gap: xr.DataArray) -> xr.DataArray:
        r"""The fee in the marginal cost of every trade, :math:`\sigma f`, EUR/MWh.

        sigma is 1 where the buyer buys and -1 where she sells. Where she does neither it is
        anything between: what comes nearest to `gap`, EUR/MWh, that a price leaves to be explained.
        """
        quantity, fee = self.r["quantity"], self.by_trade(self.data.fee0, self.data.fee1)
        idle = abs(quantity) <= ACCURACY.promised * abs(quantity).max()
        return (fee * np.sign(quantity)).where(~idle, gap.clip(-fee, fee))

    def by_trade(self, one: xr.DataArray, other: xr.DataArray | None = None) -> xr.DataArray:
        """Values of edges, by direction, with the labels of the results' trades."""
        both = xr.concat([one, one if other is None else other], NAME).rename({NAME: TRADE})
        labelled = both.assign_coords(self.r[TRADE].coords)
        return labelled.broadcast_like(self.r["quantity"]).transpose(*_TRADE_DIMS)

    def at(self, by_prosumer: xr.DataArray, end: str) -> xr.DataArray:
        """Values of the prosumers at one end, ``buyer`` or ``seller``, of the trades."""
        found = by_prosumer.sel({PROSUMER: self.r[end]}).drop_vars(PROSUMER)
        return found.broadcast_like(self.r["quantity"]).transpose(*_TRADE_DIMS)

    def in_real_time(self, by_trade: xr.DataArray) -> xr.DataArray:
        """Values by trade, NaN of those day ahead, whose conditions hold over all scenarios."""
        ahead = xr.DataArray(np.tile(self.data.day_ahead.to_numpy(), 2), dims=TRADE)
        return by_trade.where(~ahead)

    def reverse(self, by_trade: xr.DataArray) -> xr.DataArray:
        """The value of the other direction of every trade."""
        last = by_trade.transpose(..., TRADE)
        return last.copy(data=other_direction(last.to_numpy())).transpose(*by_trade.dims)
