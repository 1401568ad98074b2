r"""The optimality conditions of both designs, equation by equation (MODEL.md §2-5, §7).

Each function returns the largest violation of one of them, without a unit: relative to the
market's own scale of powers, prices or money (`scale`). Where a price and the
distance from a limit cannot both be there, their product counts, but no distance beyond the
largest power: a limit far away must not make much of a price's rounding.

Multipliers are divided by the hours and by :math:`\max(\tau_n^\omega, p_\omega)`, the conditions
with them: they are in money of the scenario, where its owner weighs it as much as it is likely or
more, and else count as little as she weighs it, :math:`\rho_n = \tau_n / \max(\tau_n, p)`. What she
does not weigh at all has prices of a limit (`solution.money`), which are held to the same
conditions as if she did, :math:`\rho_n = 1`; those now have to be 0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.common.names import (
    NAME,
    PROSUMER,
    SCENARIO,
    UNWEIGHED_PRICE,
)
from pypsa_p2p.common.tables import dynamic_values, first_scenario
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket
from pypsa_p2p.solution.certificate.scale import Scale, relative, relative_each
from pypsa_p2p.solution.certificate.trading import END, Trading, other_end, prices_now
from pypsa_p2p.solution.money import Money, at
from pypsa_p2p.solution.solved_market import trade_marginal_cost


def density(money: Money) -> xr.DataArray:
    """rho of every prosumer, 1 where a price of the limit takes its place.

    Dims (scenario, snapshot, prosumer).
    """
    limit = money.of_limit(UNWEIGHED_PRICE)
    own = (money.tau / money.counted).broadcast_like(limit)
    return xr.ones_like(limit).where(limit.notnull(), own)


def worth_now(money: Money, scale: Scale) -> float:
    """What energy with a price of the limit is worth now, relative: it has to be 0."""
    limit = money.of_limit(UNWEIGHED_PRICE)
    now = (prices_now(money) / money.data.probability).where(limit.notnull(), 0.0)
    return relative(now, scale.price)


def balances_and_limits(game: HeldMarket, scale: Scale) -> float:
    """No row or bound is violated: relative to the size of the row's terms.

    Which is at least what the largest power makes of the row's largest coefficient: rows may be
    in other units than MW, Kirchhoff's law or emissions, and terms that cancel or are all 0 are
    known no better.
    """
    program, x = game.program, game.held
    terms = abs(sp.csr_matrix(program.A))
    rows, coefficient = program.A @ x, terms.max(axis=1).toarray().ravel()
    outside = np.maximum(program.lower - rows, rows - program.upper).clip(min=0)
    beyond = np.maximum(program.x_lower - x, x - program.x_upper).clip(min=0)
    return max(
        relative_each(outside, np.maximum(terms @ abs(x), scale.power * coefficient)),
        relative_each(beyond, np.maximum(abs(x), scale.power)),
    )


def trade_stationarity(trading: Trading, share: float, scale: Scale) -> float:
    r"""The price at her bus is that of each of her trades and of the grid.

    .. math:: \rho_n (a (2 q_{mn} + k q_{nm}) + b + p^0 + \sigma f) + \xi_{nm} + \zeta_{mn}
        + \pi_n = \lambda_n

    (12) of the centralized design for k = `share` = 2, (22) of the peer-to-peer for k = 1; pi is
    the price of using the grid at her bus of it, where that delivers (MODEL.md §6). sigma is in
    the subgradient of |q|: 1 where she buys, -1 where she sells, in between where she does neither.
    """
    cost = trade_marginal_cost(
        trading.quantity, trading.reverse, trading.congestion, trading.preference, share
    )
    found = trading.density * cost + trading.capacity_price + trading.trade_price
    found = found + trading.grid_price
    missing = trading.nodal_price - found  # sigma rho f
    fee = trading.density * trading.fee
    now = ~trading.day_ahead
    return max(
        _at_fees(missing.where(now, 0.0), fee, trading.quantity.where(now, 0.0), scale),
        _day_ahead(trading, missing, fee, scale),
    )


def _day_ahead(trading: Trading, missing: xr.DataArray, fee: xr.DataArray, scale: Scale) -> float:
    r"""Of trades day ahead the sum over scenarios: one quantity has one price (MODEL.md §12).

    .. math:: \sum_\omega [\tau_n (b + p^0 + \sigma f) + \xi_{nm} + \zeta_{mn} + \pi_n]
        + \sum_\omega \xi^{RT}_{nm} = \sum_\omega \lambda_n

    Where the pair trades in real time too, the capacity of both is in it. Where payments are at
    risk all of it is weighed by what she fears, zeta too, which is the same in every scenario.
    """
    ahead = trading.day_ahead
    if not ahead.any():
        return 0.0
    weight = trading.counted * trading.feared
    whole = weight * missing - trading.feared * trading.capacity_beside
    whole = whole.where(ahead, 0.0).sum(SCENARIO)
    of_fee = (weight * fee).where(ahead, 0.0).sum(SCENARIO)
    quantity = trading.quantity.where(ahead, 0.0).isel({SCENARIO: 0})
    return _at_fees(whole, of_fee, quantity, scale)


def _at_fees(missing: xr.DataArray, fee: xr.DataArray, bought: xr.DataArray, scale: Scale) -> float:
    """What prices leave missing is the fee where she buys, less it where she sells."""
    return max(
        relative((abs(missing) - fee).clip(min=0.0), scale.price),
        _at_its_fee(fee - missing, bought, scale),
        _at_its_fee(fee + missing, -bought, scale),
    )


def _at_its_fee(gap: xr.DataArray, bought: xr.DataArray, scale: Scale) -> float:
    """What is traded in a direction costs its fee in full: the product with the gap is 0."""
    traded = bought.clip(min=0.0)
    return relative(gap.clip(min=0.0) * traded, scale.price * scale.power)


def reciprocity(trading: Trading, surplus: bool, scale: Scale) -> float:
    r"""(1): :math:`s = -(q_{mn} + q_{nm}) \ge 0`, :math:`\zeta \ge 0`, :math:`\zeta s = 0`.

    Without surplus, :math:`q_{mn} + q_{nm} = 0` and any :math:`\zeta`.
    """
    if not surplus:
        return relative(trading.surplus, scale.power)
    return _complementarity(trading.trade_price, trading.surplus, scale)


def capacity(trading: Trading, scale: Scale) -> float:
    r"""(2): :math:`q \le \kappa`, :math:`\xi \ge 0`, :math:`\xi (\kappa - q) = 0`.

    In real time q counts with what is bought day ahead.
    """
    slack = trading.capacity - trading.quantity - trading.bought_ahead
    return _complementarity(trading.capacity_price, slack, scale)


def misalignment(trading: Trading, scale: Scale) -> float:
    r""":math:`\max |\zeta_{mn} - \zeta_{nm}|`: 0 at a variational equilibrium."""
    zeta = trading.price_now
    return relative(zeta - other_end(zeta), scale.price)


def trade_payments(trading: Trading, data: MarketData) -> xr.DataArray:
    r""":math:`w_t (\zeta_{mn} q_{mn} + \zeta_{nm} q_{nm})` of every edge, EUR: they cancel.

    Where surplus is sold the price of the edge is 0.
    """
    return (trading.price_now * trading.quantity).sum(END) * data.weighting


def generator_stationarity(
    money: Money, owner: xr.DataArray, chosen: xr.DataArray, scale: Scale
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
    n, data, names = money.n, money.data, owner.indexes[NAME]
    if names.empty:
        return 0.0

    def value(attribute: str) -> xr.DataArray:
        return dynamic_values(n, "Generator", attribute, names, data.snapshots)

    price = _prices_at(money, owner)
    power, size = value("p"), value("p_nom")
    marginal = value("marginal_cost") + 2 * value("marginal_cost_quadratic") * power
    cost = at(density(money), owner) * marginal
    excess = cost - price * dynamic_values(
        n, "Generator", "sign", names, data.snapshots, default=1.0
    )
    fixed = dynamic_values(n, "Generator", "p_set", names, data.snapshots, default=np.nan)
    above = power - fixed.fillna(size * value("p_min_pu"))
    below = fixed.fillna(size * value("p_max_pu")) - power
    above, below = above.clip(max=scale.power), below.clip(max=scale.power)
    products = np.maximum(excess, 0) * above - np.minimum(excess, 0) * below
    of_chosen = products.where(chosen.sel({NAME: names}), 0.0)
    return relative(of_chosen, scale.price * scale.power)


def _prices_at(money: Money, owner: xr.DataArray) -> xr.DataArray:
    """Prices at the buses of generators, which may be others of their owners' than the first."""
    data, names = money.data, owner.indexes[NAME]
    bus = first_scenario(money.n, "Generator")["bus"].reindex(names)
    buses = pd.Index(bus.unique())
    now = dynamic_values(money.n, "Bus", "marginal_price", buses, data.snapshots)
    now = now.sel({NAME: bus.to_numpy()}).assign_coords({NAME: names})
    own = xr.DataArray(bus.to_numpy() == owner.to_numpy(), coords={NAME: names})
    limit = at(money.of_limit(UNWEIGHED_PRICE), owner).where(own)
    return limit.where(limit.notnull(), now / at(money.counted, owner))


def load_deviation(n: pypsa.Network, data: MarketData, scale: Scale) -> float:
    """Loads consume what they are set to, D*."""
    names = first_scenario(n, "Load").index
    if names.empty:
        return 0.0
    found, wanted = (dynamic_values(n, "Load", a, names, data.snapshots) for a in ("p", "p_set"))
    return relative(found - wanted, scale.power)


def envelope(tau: xr.DataArray, may_hold: Envelope) -> float:
    r"""(33)-(37), that :math:`\tau_n` is in the envelope of her measure; relative to p.

    Of CVaR: :math:`(1-\theta) p \le \tau_n \le (1-\theta) p + \theta p / (1 - \chi_n)`. And
    :math:`\sum_\omega \tau_n^\omega = 1`.
    """
    held = tau.transpose(PROSUMER, SCENARIO)
    outside = held.copy(data=may_hold.outside(held.to_numpy()))
    return max(relative(outside, 1.0), relative(tau.sum(SCENARIO) - 1, 1.0))


def attainment(tau: xr.DataArray, cost: xr.DataArray, may_hold: Envelope, scale: Scale) -> float:
    r""":math:`\sum_\omega \tau_n^\omega \Pi_n(\omega) = R_n`, by sorting.

    Parameters
    ----------
    tau, cost : DataArray (scenario, prosumer)
        Costs that risk is taken of, EUR: of every prosumer, or one of the community.
    """
    return relative((tau * cost).sum(SCENARIO) - may_hold.worst(cost).value, scale.risk)


def _complementarity(price: xr.DataArray, slack: xr.DataArray, scale: Scale) -> float:
    """Both are nonnegative and one of them is 0."""
    return max(
        relative(slack.clip(max=0), scale.power),
        relative(price.clip(max=0), scale.price),
        relative(price * slack.clip(max=scale.power), scale.price * scale.power),
    )
