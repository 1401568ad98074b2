r"""The optimality conditions of both designs, equation by equation (MODEL.md §2-5, §7).

Each function returns the largest violation of one of them, without a unit: powers relative to
the largest power, prices to the largest price, money to the objective (each at least 1), so
that a market does not pass for being large. Prices are divided by
:math:`p_\omega w_t`, and :math:`\rho_n^\omega = \tau_n^\omega / p_\omega`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.hedging import RecordedHedges
from pypsa_p2p.market_data import MarketData, dynamic_values, first_scenario
from pypsa_p2p.names import NAME, PROSUMER, SCENARIO
from pypsa_p2p.price_data import trade_marginal_cost
from pypsa_p2p.record import KEPT_DUALS, RECIPROCITY1
from pypsa_p2p.risk import cvar

END = "end"  # 0, 1: the prosumers at bus0 and bus1 of an edge


@dataclass(frozen=True, kw_only=True)
class Trading:
    """Quantities and prices of all trade edges; dims (end, scenario, snapshot, name).

    Attributes
    ----------
    quantity : DataArray
        What the prosumer at the end buys, q, MW.
    trade_price, capacity_price : DataArray
        zeta and xi of the prosumer at the end, EUR/MWh.
    nodal_price : DataArray
        lambda of the prosumer at the end, EUR/MWh.
    grid_price : DataArray
        What the grid adds at the end, mu/(p w), EUR/MWh; 0 where it delivers nothing.
    density : DataArray (end, scenario, name)
        rho of the prosumer at the end.
    preference : DataArray
        b + p0 of the prosumer at the end, EUR/MWh.
    capacity : DataArray
        Most the prosumer at the end may buy, MW.
    congestion : DataArray (scenario, name)
        a, EUR/MW2h.
    """

    quantity: xr.DataArray
    trade_price: xr.DataArray
    capacity_price: xr.DataArray
    nodal_price: xr.DataArray
    grid_price: xr.DataArray
    density: xr.DataArray
    preference: xr.DataArray
    capacity: xr.DataArray
    congestion: xr.DataArray

    @property
    def reverse(self) -> xr.DataArray:
        """What the partner buys, MW."""
        return _other_end(self.quantity)

    @property
    def surplus(self) -> xr.DataArray:
        """-(q_mn + q_nm), MW."""
        return -(self.quantity + self.reverse)

    @property
    def price_scale(self) -> float:
        """The largest price, EUR/MWh, at least 1."""
        found = (self.nodal_price, self.trade_price, self.capacity_price, self.preference)
        return max(1.0, *map(largest, (*found, self.grid_price)))

    @property
    def power_scale(self) -> float:
        """The largest quantity, MW, at least 1."""
        return max(1.0, largest(self.quantity))


def read_trading(
    n: pypsa.Network, data: MarketData, tau: xr.DataArray, grid_price: xr.DataArray, *, own: bool
) -> Trading:
    """Trades as the network's tables hold them; `own`: the ends have zeta of their own."""

    def link(attribute: str) -> xr.DataArray:
        return dynamic_values(n, "Link", attribute, data.edges, data.snapshots)

    def at_ends(by_prosumer: xr.DataArray) -> xr.DataArray:
        ends = (by_prosumer.sel({PROSUMER: bus}).drop_vars(PROSUMER) for bus in _buses(data))
        return _ends(*ends)

    hours = data.probability * data.weighting
    zeta, xi0, xi1 = (link(multiplier) / hours for multiplier in KEPT_DUALS)
    zeta1 = link(RECIPROCITY1) / hours if own else zeta
    return Trading(
        quantity=_ends(-link("p0"), -link("p1")),
        trade_price=_ends(zeta, zeta1),
        capacity_price=_ends(xi0, xi1),
        nodal_price=at_ends(nodal_prices(n, data)),
        grid_price=at_ends(grid_price),
        density=at_ends(tau / data.probability),
        preference=_ends(data.price0, data.price1) + at_ends(data.import_price),
        capacity=_ends(data.capacity0, data.capacity1),
        congestion=data.congestion,
    )


def nodal_prices(n: pypsa.Network, data: MarketData) -> xr.DataArray:
    """lambda/(p w) of every prosumer, EUR/MWh; (scenario, snapshot, prosumer)."""
    price = dynamic_values(n, "Bus", "marginal_price", data.prosumers, data.snapshots)
    return price.rename({NAME: PROSUMER}) / data.probability


def trade_stationarity(trading: Trading, share: float) -> float:
    r"""The price at her bus is that of each of her trades and of the grid.

    .. math:: \rho_n (a (2 q_{mn} + k q_{nm}) + b + p^0) + \xi_{nm} + \zeta_{mn} + \pi_n
        = \lambda_n

    (12) of the centralized design for k = `share` = 2, (22) of the peer-to-peer for k = 1; pi is
    the price of using the grid at her bus of it, where that delivers (MODEL.md §6).
    """
    cost = trade_marginal_cost(
        trading.quantity, trading.reverse, trading.congestion, trading.preference, share
    )
    found = trading.density * cost + trading.capacity_price + trading.trade_price
    found = found + trading.grid_price
    return largest(found - trading.nodal_price) / trading.price_scale


def reciprocity(trading: Trading, surplus: bool) -> float:
    r"""(1): :math:`s = -(q_{mn} + q_{nm}) \ge 0`, :math:`\zeta \ge 0`, :math:`\zeta s = 0`.

    Without surplus, :math:`q_{mn} + q_{nm} = 0` and any :math:`\zeta`.
    """
    if not surplus:
        return largest(trading.surplus) / trading.power_scale
    return _complementarity(trading, trading.trade_price, trading.surplus)


def capacity(trading: Trading) -> float:
    r"""(2): :math:`q \le \kappa`, :math:`\xi \ge 0`, :math:`\xi (\kappa - q) = 0`."""
    return _complementarity(trading, trading.capacity_price, trading.capacity - trading.quantity)


def misalignment(trading: Trading) -> float:
    r""":math:`\max |\zeta_{mn} - \zeta_{nm}|`: 0 at a variational equilibrium."""
    zeta = trading.trade_price
    return largest(zeta - _other_end(zeta)) / trading.price_scale


def trade_payments(trading: Trading, data: MarketData) -> xr.DataArray:
    r""":math:`w_t (\zeta_{mn} q_{mn} + \zeta_{nm} q_{nm})` of every edge, EUR: they cancel.

    Where surplus is sold the price of the edge is 0.
    """
    return (trading.trade_price * trading.quantity).sum(END) * data.weighting


def generator_stationarity(
    n: pypsa.Network, data: MarketData, owner: xr.DataArray, chosen: xr.DataArray, tau: xr.DataArray
) -> float:
    r"""(17), (18): :math:`\rho_n (2 c P + b) = \lambda_n` inside the limits of a generator.

    c and b are PyPSA's marginal costs; elastic demand is the generator of D* - D with
    :math:`c = \tilde a`. At the lower limit the cost may exceed the price, at the upper it may
    fall short of it: the product of the difference with the distance from the limit is 0.

    Parameters
    ----------
    owner : DataArray (name)
        Prosumers of the generators to look at.
    chosen : DataArray (name, snapshot, and scenario if there are any)
        Where nothing but its limits and the balance restricts a generator.
    """
    names = owner.indexes[NAME]
    if names.empty:
        return 0.0

    def value(attribute: str) -> xr.DataArray:
        return dynamic_values(n, "Generator", attribute, names, data.snapshots)

    bus = first_scenario(n, "Generator")["bus"].reindex(names)
    price = dynamic_values(n, "Bus", "marginal_price", pd.Index(bus.unique()), data.snapshots)
    price = price.sel({NAME: bus.to_numpy()}).assign_coords({NAME: names}) / data.probability
    density = (tau / data.probability).sel({PROSUMER: owner}).drop_vars(PROSUMER)
    power, size = value("p"), value("p_nom")
    cost = density * (value("marginal_cost") + 2 * value("marginal_cost_quadratic") * power)
    excess = cost - price * dynamic_values(
        n, "Generator", "sign", names, data.snapshots, default=1.0
    )
    fixed = dynamic_values(n, "Generator", "p_set", names, data.snapshots, default=np.nan)
    above = power - fixed.fillna(size * value("p_min_pu"))
    below = fixed.fillna(size * value("p_max_pu")) - power
    products = np.maximum(excess, 0) * above - np.minimum(excess, 0) * below
    scale = max(1.0, largest(price), largest(cost)) * max(1.0, largest(power))
    return largest(products.where(chosen.sel({NAME: names}), 0.0)) / scale


def load_deviation(n: pypsa.Network, data: MarketData) -> float:
    """Loads consume what they are set to, D*."""
    names = first_scenario(n, "Load").index
    if names.empty:
        return 0.0
    found, wanted = (dynamic_values(n, "Load", a, names, data.snapshots) for a in ("p", "p_set"))
    return largest(found - wanted) / max(1.0, largest(wanted))


def envelope(
    tau: xr.DataArray, probability: xr.DataArray, attitude: xr.DataArray, weight: float
) -> float:
    r"""(33)-(37): :math:`(1-\theta) p \le \tau_n \le (1-\theta) p + \theta p / (1 - \chi_n)`.

    And :math:`\sum_\omega \tau_n^\omega = 1`. Relative to p.
    """
    low = (1 - weight) * probability
    high = low + weight * probability / (1 - attitude)
    outside = np.maximum(low - tau, tau - high) / probability
    return max(largest(np.maximum(outside, 0)), largest(tau.sum(SCENARIO) - 1))


def attainment(
    tau: xr.DataArray,
    cost: xr.DataArray,
    probability: xr.DataArray,
    attitude: xr.DataArray,
    weight: float,
) -> float:
    r""":math:`\sum_\omega \tau_n^\omega \Pi_n(\omega) = R_n`, by sorting; relative to R.

    Parameters
    ----------
    tau, cost : DataArray (scenario, prosumer)
        Costs that risk is taken of, EUR: of every prosumer, or one of the community.
    """
    value = risk_adjusted(cost, probability, attitude, weight)
    return largest(((tau * cost).sum(SCENARIO) - value) / np.maximum(1, abs(value)))


def contracts(
    hedges: RecordedHedges, tau: xr.DataArray, probability: xr.DataArray, scale: float
) -> dict[str, float]:
    """Contracts and insurance are worth their price to everybody who could take more, or less.

    `scale` is what money is relative to, EUR.
    """
    excess = hedges.worth(tau) - hedges.clearing_price
    if hedges.limit is None:
        worth = hedges.worth(probability)
        residuals = {"contract prices (Corollary 16)": largest(excess / worth)}
    else:
        more, less = hedges.limit - hedges.volume, hedges.limit + hedges.volume
        missed = excess.clip(min=0) * more.clip(min=0) - excess.clip(max=0) * less.clip(min=0)
        beyond = np.minimum(more, less).clip(max=0)
        residuals = {
            "contract prices and limits": largest(missed) / scale,
            "contract limits": largest(beyond) / scale,
        }
    if hedges.payoff is not None:
        paid = (hedges.payoff * hedges.volume).sum(str(hedges.payoff.dims[0]))
        residuals["contracts pay as they say"] = largest(hedges.payout - paid) / scale
    if hedges.insurance_price is not None:
        cheap = (tau - hedges.insurance_price).clip(min=0) / probability
        idle = (hedges.insurance_price - tau) * hedges.insurance
        residuals["insurance (Theorem 15)"] = max(largest(cheap), largest(idle) / scale)
    return residuals


def risk_adjusted(
    cost: xr.DataArray, probability: xr.DataArray, attitude: xr.DataArray, weight: float
) -> xr.DataArray:
    """R = (1 - theta) E + theta CVaR of each prosumer's cost (25), EUR; (prosumer)."""
    values = cost.transpose(PROSUMER, SCENARIO).to_numpy()
    count, scenarios = values.shape
    tail = cvar(
        values.ravel(),
        np.tile(probability.to_numpy(), count),
        attitude.to_numpy(),
        group=np.repeat(np.arange(count), scenarios),
    )
    expected = (probability * cost).sum(SCENARIO)
    return (1 - weight) * expected + weight * expected.copy(data=tail.value)


def largest(values: Any) -> float:
    """The largest absolute value, 0 if there is none; what is not a number counts as infinite."""
    array = np.abs(np.nan_to_num(np.asarray(values), nan=np.inf))
    return float(np.max(array, initial=0.0))


def _complementarity(trading: Trading, price: xr.DataArray, slack: xr.DataArray) -> float:
    """Both are nonnegative and one of them is 0."""
    units = trading.price_scale * trading.power_scale
    return max(
        largest(np.minimum(slack, 0)) / trading.power_scale,
        largest(np.minimum(price, 0)) / trading.price_scale,
        largest(price * slack) / units,
    )


def _ends(one: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    return xr.concat([one, other], END)


def _other_end(values: xr.DataArray) -> xr.DataArray:
    return values.isel({END: [1, 0]})


def _buses(data: MarketData) -> tuple[xr.DataArray, xr.DataArray]:
    return data.bus0, data.bus1
