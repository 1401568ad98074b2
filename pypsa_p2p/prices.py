r"""Nodal prices explained: what a price consists of, seen from demand, generation and trades.

Everything here restates the optimality conditions of the two designs (MODEL.md §4): (17) and
(18) of demand and generation, (12) of trades in the centralized and (22) in the peer-to-peer
design, with the risk-adjusted probabilities :math:`\tau` in the place of p where prosumers are
averse to risk. They explain prices and, using quantities and data only, check them.

Prices are divided by :math:`p_\omega w_t`, as in `results`: EUR/MWh in their scenario. With
:math:`\rho_n^\omega = \tau_n^\omega / p_\omega` (1 when risk-neutral) the conditions read

.. math::
    \lambda_n + \bar\mu_n - \underline\mu_n &= 2 \rho_n \tilde a_n (D^*_n - D_n) \quad (17) \\
    \lambda_n - \bar\nu_n + \underline\nu_n &= \rho_n (a_n G_n + b_n) \quad (18) \\
    \lambda_n &= \rho_n (2 a_{mn} (q_{mn} + q_{nm}) + b_{mn} + p^0_n) + \xi_{nm} + \zeta_{mn}
        \quad (12) \\
    \lambda_n &= \rho_n (2 a_{mn} q_{mn} + a_{mn} q_{nm} + b_{mn} + p^0_n) + \xi_{nm} + \zeta_{mn}
        \quad (22)

They are the multipliers' sides of (14)-(16), (19), (20) and (23) in I. Shilov, H. Le Cadre,
A. Bušić, Risk-Averse Equilibrium Analysis and Computation, arXiv 2004.02470.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.costs import by_owner
from pypsa_p2p.market_data import (
    MarketData,
    carrier_names,
    dynamic_values,
    first_scenario,
    read_market,
)
from pypsa_p2p.names import (
    ELASTIC_DEMAND_CARRIER,
    GENERATION_CARRIER,
    NAME,
    PROSUMER,
    SCENARIO,
    SNAPSHOT,
    TRADE,
)
from pypsa_p2p.record import recorded
from pypsa_p2p.results import results

#: How often the partner's quantity counts in the price of a congested trade, by design.
PARTNERS_SHARE: Final = {"CentralizedMarket": 2.0, "PeerToPeerMarket": 1.0}
_TRADE_DIMS = (SCENARIO, SNAPSHOT, TRADE)
_INSIDE = 1e-4  # of the range between limits: a quantity closer to one counts as at it


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
        k, see `PARTNERS_SHARE`.

    Returns
    -------
    DataArray
        EUR/MWh, not weighted by risk.
    """
    return congestion * (2 * quantity + share * reverse) + price


def price_from_demand(n: pypsa.Network) -> xr.DataArray:
    r"""Marginal utility of consumption, :math:`2 \rho_n \tilde a_n (D^*_n - D_n)` (17).

    It is the nodal price where demand lies inside its limits. Elsewhere it differs from the
    price by :math:`\bar\mu_n - \underline\mu_n`, see `demand_limit_price`.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, prosumer)
        EUR/MWh; nan for prosumers without exactly one elastic demand.

    Raises
    ------
    MarketError
        The network holds no solved market.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> price_from_demand(n).sel(prosumer="1").round(5).values.ravel()
    array([2.93944, 2.52706, 4.11376])
    """
    solved = _Solved.of(n)
    return solved.labelled(solved.density * solved.asset(ELASTIC_DEMAND_CARRIER).marginal)


def price_from_generation(n: pypsa.Network) -> xr.DataArray:
    r"""Marginal cost of flexible generation, :math:`\rho_n (a_n G_n + b_n)` (18).

    It is the nodal price where generation lies inside its limits. Elsewhere it differs from the
    price by :math:`\underline\nu_n - \bar\nu_n`, see `generation_limit_price`.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, prosumer)
        EUR/MWh; nan for prosumers without exactly one flexible generator.
    """
    solved = _Solved.of(n)
    return solved.labelled(solved.density * solved.asset(GENERATION_CARRIER).marginal)


def demand_limit_price(n: pypsa.Network) -> xr.DataArray:
    r""":math:`\bar\mu_n - \underline\mu_n = 2\rho_n\tilde a_n (D^*_n - D_n) - \lambda_n` (17).

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, prosumer)
        EUR/MWh; positive where the upper limit of demand binds, negative where the lower.
    """
    return price_from_demand(n) - results(n)["nodal_price"]


def generation_limit_price(n: pypsa.Network) -> xr.DataArray:
    r""":math:`\bar\nu_n - \underline\nu_n = \lambda_n - \rho_n (a_n G_n + b_n)` (18).

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, prosumer)
        EUR/MWh; positive where the upper limit of generation binds, negative where the lower.
    """
    return results(n)["nodal_price"] - price_from_generation(n)


def price_from_balance(n: pypsa.Network) -> xr.DataArray:
    r"""The price that makes demand and generation meet what is bought: (17), (18) put into (3).

    .. math:: \lambda_n = \rho_n \, \frac{D^*_n + b_n/a_n - \Delta G_n - Q_n}
        {1/(2 \tilde a_n) + 1/a_n}

    where both lie inside their limits. One that does not joins :math:`\Delta G_n` with what it
    gives and leaves the denominator, as do all other assets. Buying more lowers the price.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, prosumer)
        EUR/MWh; nan where neither lies inside its limits with a quadratic cost.
    """
    solved = _Solved.of(n)
    r = solved.r
    residual = r["demand"] - r["renewable"] - r["net_import"] - r["generation"]
    slope = xr.zeros_like(residual)
    for carrier in (ELASTIC_DEMAND_CARRIER, GENERATION_CARRIER):
        asset = solved.asset(carrier)
        free = asset.inside & (asset.quadratic > 0)
        steepness = (1 / (2 * asset.quadratic.where(free))).fillna(0.0)
        residual = residual + (asset.power + asset.linear * steepness).where(free, 0.0)
        slope = slope + steepness
    return solved.labelled(solved.density * residual / slope.where(slope > 0))


def price_from_trades(n: pypsa.Network) -> xr.DataArray:
    r"""Nodal price of the buyer as each of her trades has it, (12) or (22).

    .. math:: \lambda_n = \rho_n (a_{mn} (2 q_{mn} + k q_{nm}) + b_{mn} + p^0_n)
        + \xi_{nm} + \zeta_{mn}

    with k = 2 in the centralized and k = 1 in the peer-to-peer design. At a solution all trades
    of a prosumer agree.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        EUR/MWh; coords ``buyer``, ``seller``.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> price = price_from_trades(n)
    >>> price.sel(trade=price.buyer == "0").isel(scenario=0).round(5).values.ravel()
    array([0.93944, 0.93944])
    """
    solved = _Solved.of(n)
    cost = solved.trade_cost(solved.share) * solved.at(solved.density, "buyer")
    return cost + solved.r["capacity_price"] + solved.r["trade_price"]


def price_from_partner(n: pypsa.Network) -> xr.DataArray:
    r"""Nodal price of the buyer from that of the seller: the difference of (12) or (22).

    .. math:: \lambda_n = \lambda_m + \rho_n c_{mn} - \rho_m c_{nm} + \xi_{nm} - \xi_{mn}

    where :math:`c_{mn}` is `trade_marginal_cost`; :math:`\zeta` cancels because both pay one
    price for the edge (not at generalized equilibria). Without congestion, risk and binding
    capacity, prices at the ends of an edge differ by the difference of the preferences b.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        EUR/MWh; coords ``buyer``, ``seller``.
    """
    solved = _Solved.of(n)
    own = solved.trade_cost(solved.share) * solved.at(solved.density, "buyer")
    own = own + solved.r["capacity_price"]
    return solved.at(solved.r["nodal_price"], "seller") + own - solved.reverse(own)


def price_gap_between_designs(n: pypsa.Network) -> xr.DataArray:
    r"""What the designs disagree on in the price difference along an edge (Remark 6).

    .. math:: (\lambda_n - \lambda_m)^{(22)} - (\lambda_n - \lambda_m)^{(12)}
        = a_{mn} (\rho_m q_{mn} - \rho_n q_{nm})

    at one and the same quantities and capacity prices; :math:`a_{mn} (q_{mn} - q_{nm})` when
    risk-neutral, multiplied by p in the paper's units. The planner minds what a trade costs the
    partner, prosumers do not: hence nothing where a = 0 or trades are even.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market of either design, whose quantities are taken.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        EUR/MWh, n the ``buyer`` and m the ``seller``.
    """
    solved = _Solved.of(n)
    quantity = solved.r["quantity"]
    gap = quantity * solved.at(solved.density, "seller")
    return solved.by_trade(solved.data.congestion) * (gap - solved.reverse(gap))


def implied_trade_price(n: pypsa.Network) -> xr.DataArray:
    r""":math:`\zeta_{mn} = \lambda_n - \rho_n c_{mn} - \xi_{nm}`: (12) or (22) for the edge.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        EUR/MWh; the same in both directions of an edge, except at generalized equilibria.
    """
    solved = _Solved.of(n)
    cost = solved.trade_cost(solved.share) * solved.at(solved.density, "buyer")
    return solved.at(solved.r["nodal_price"], "buyer") - cost - solved.r["capacity_price"]


def surplus(n: pypsa.Network) -> xr.DataArray:
    r"""Energy offered over an edge and not taken, :math:`-(q_{mn} + q_{nm}) \ge 0` (1), MW.

    It is sold at the import price. (scenario, snapshot, trade); both directions of an edge
    have the same.
    """
    quantity = _Solved.of(n).r["quantity"]
    return -(quantity + _reversed(quantity))


def surplus_can_be_sold(n: pypsa.Network, tolerance: float = 1e-6) -> xr.DataArray:
    r"""Whether prices let an edge have a surplus (Proposition 3).

    :math:`\zeta \ge 0` means :math:`\lambda_n \ge \rho_n c_{mn} + \xi_{nm}`, and a surplus means
    :math:`\zeta = 0` (complementarity of (1)): energy leaves over an edge only where it is worth
    to both ends no more than what selling it there brings. So where this is False,
    `surplus` is 0.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    tolerance : float
        Below which a price of an edge counts as 0, EUR/MWh.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        bool; the same in both directions of an edge. All False with ``surplus=False``.
    """
    solved = _Solved.of(n)
    no_price = abs(implied_trade_price(n)) <= tolerance
    return no_price & solved.reverse(no_price) & bool(solved.allows_surplus)


@dataclass(frozen=True, kw_only=True)
class _Asset:
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
class _Solved:
    """A solved market: network, data, results, density tau/p and the design's share."""

    n: pypsa.Network
    data: MarketData
    r: xr.Dataset
    share: float
    allows_surplus: bool

    @classmethod
    def of(cls, n: pypsa.Network) -> _Solved:
        settings = recorded(n)
        return cls(
            n=n,
            data=read_market(n, n.snapshots[settings["snapshots"]]),
            r=results(n),
            share=PARTNERS_SHARE[settings["design"]],
            allows_surplus=settings["surplus"],
        )

    @property
    def density(self) -> xr.DataArray:
        """Risk-adjusted over actual probability, (scenario, prosumer)."""
        return self.r["risk_adjusted_probability"] / self.data.probability

    def labelled(self, values: xr.DataArray) -> xr.DataArray:
        return values.transpose(SCENARIO, SNAPSHOT, PROSUMER)

    def asset(self, carrier: str) -> _Asset:
        names = carrier_names(self.n, "Generator", carrier)
        bus = first_scenario(self.n, "Generator")["bus"].reindex(names)
        single = names[(bus.isin(self.data.prosumers) & ~bus.duplicated(keep=False)).to_numpy()]
        owner = xr.DataArray(bus.reindex(single).to_numpy(object), coords={NAME: single})

        def value(attribute: str) -> xr.DataArray:
            sns = self.data.snapshots
            values = dynamic_values(self.n, "Generator", attribute, single, sns)
            if single.empty:
                return xr.full_like(self.data.import_price, np.nan)
            missing = ~self.data.import_price[PROSUMER].isin(owner.to_numpy())
            return by_owner(values, owner, self.data).where(~missing)

        power, size = value("p"), value("p_nom")
        low, high = size * value("p_min_pu"), size * value("p_max_pu")
        near = _INSIDE * (high - low)
        return _Asset(
            power=power,
            linear=value("marginal_cost"),
            quadratic=value("marginal_cost_quadratic"),
            inside=(power > low + near) & (power < high - near),
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

    def by_trade(self, one: xr.DataArray, other: xr.DataArray | None = None) -> xr.DataArray:
        """Values of edges, by direction, with the labels of the results' trades."""
        both = xr.concat([one, one if other is None else other], NAME).rename({NAME: TRADE})
        labelled = both.assign_coords(self.r[TRADE].coords)
        return labelled.broadcast_like(self.r["quantity"]).transpose(*_TRADE_DIMS)

    def at(self, by_prosumer: xr.DataArray, end: str) -> xr.DataArray:
        """Values of the prosumers at one end, ``buyer`` or ``seller``, of the trades."""
        found = by_prosumer.sel({PROSUMER: self.r[end]}).drop_vars(PROSUMER)
        return found.broadcast_like(self.r["quantity"]).transpose(*_TRADE_DIMS)

    def reverse(self, by_trade: xr.DataArray) -> xr.DataArray:
        return _reversed(by_trade)


def _reversed(by_trade: xr.DataArray) -> xr.DataArray:
    """The value of the other direction of every trade."""
    axis = by_trade.get_axis_num(TRADE)
    half = by_trade.sizes[TRADE] // 2
    return by_trade.copy(data=np.roll(by_trade.to_numpy(), half, axis=axis))
