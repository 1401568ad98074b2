r"""Nodal prices explained: what a price consists of, seen from demand, generation and trades.

Everything here restates the optimality conditions of the two designs (MODEL.md §4): (17) and
(18) of demand and generation, (12) of trades in the centralized and (22) in the peer-to-peer
design. They explain prices and, using quantities and data only, check them.

Prices are money of their scenario, as in `results`: multipliers divided by the hours and by the
risk-adjusted probability :math:`\tau_n` of whoever pays. So the conditions read alike whether she
is averse to risk or not:

.. math::
    \lambda_n + \bar\mu_n - \underline\mu_n &= 2 \tilde a_n (D^*_n - D_n) \quad (17) \\
    \lambda_n - \bar\nu_n + \underline\nu_n &= a_n G_n + b_n \quad (18) \\
    \lambda_n &= 2 a_{mn} (q_{mn} + q_{nm}) + b_{mn} + p^0 + \xi_{nm} + \zeta_{mn} \quad (12) \\
    \lambda_n &= 2 a_{mn} q_{mn} + a_{mn} q_{nm} + b_{mn} + p^0 + \xi_{nm} + \zeta_{mn} \quad (22)

Where prosumers pay fees on what they trade, the right-hand sides of (12) and (22) have
:math:`\sigma f_{mn}` besides, sigma 1 where n buys, -1 where she sells and anything between where
she does neither (MODEL.md §2).

With ``delivery="grid"`` the right-hand sides of (12) and (22) have the price :math:`\pi_n` of
using the grid besides (MODEL.md §6). They are the multipliers' sides of (14)-(16), (19), (20)
and (23) in I. Shilov, H. Le Cadre, A. Bušić, Risk-Averse Equilibrium Analysis and Computation,
arXiv 2004.02470.

Trades day ahead have one quantity for all scenarios, and (12) and (22) hold of their sum over these
alone (MODEL.md §12): what explains prices by trades is NaN of them.
"""

from __future__ import annotations

import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import ELASTIC_DEMAND_CARRIER, GENERATION_CARRIER
from pypsa_p2p.solution.results import results
from pypsa_p2p.solution.solved_market import SolvedMarket


def price_from_demand(n: pypsa.Network) -> xr.DataArray:
    r"""Marginal utility of consumption, :math:`2 \tilde a_n (D^*_n - D_n)` (17).

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
        No market is solved, or one whose prosumers see different prices of the grid.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> price_from_demand(n).sel(prosumer="1").round(5).values.ravel()
    array([2.93944, 2.52706, 4.11376])
    """
    solved = SolvedMarket.of(n)
    return solved.labelled(solved.asset(ELASTIC_DEMAND_CARRIER).marginal)


def price_from_generation(n: pypsa.Network) -> xr.DataArray:
    r"""Marginal cost of flexible generation, :math:`a_n G_n + b_n` (18).

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

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> price_from_generation(n).isel(scenario=0).round(5).values.ravel()
    array([0.93944, 0.18135, 0.05509])
    """
    solved = SolvedMarket.of(n)
    return solved.labelled(solved.asset(GENERATION_CARRIER).marginal)


def demand_limit_price(n: pypsa.Network) -> xr.DataArray:
    r""":math:`\bar\mu_n - \underline\mu_n = 2 \tilde a_n (D^*_n - D_n) - \lambda_n` (17).

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, prosumer)
        EUR/MWh; positive where the upper limit of demand binds, negative where the lower.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> float(demand_limit_price(n).min().round(5))  # somebody consumes as little as she may
    -0.46683
    """
    return price_from_demand(n) - results(n)["nodal_price"]


def generation_limit_price(n: pypsa.Network) -> xr.DataArray:
    r""":math:`\bar\nu_n - \underline\nu_n = \lambda_n - (a_n G_n + b_n)` (18).

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, prosumer)
        EUR/MWh; positive where the upper limit of generation binds, negative where the lower.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> generation_limit_price(n).isel(scenario=0).round(5).values.ravel()[1:]
    array([2.75809, 1.88435])
    """
    return results(n)["nodal_price"] - price_from_generation(n)


def price_from_balance(n: pypsa.Network) -> xr.DataArray:
    r"""The price that makes demand and generation meet what is bought: (17), (18) put into (3).

    .. math:: \lambda_n = \frac{D^*_n + b_n/a_n - \Delta G_n - Q_n}
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

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> price_from_balance(n).isel(scenario=0).round(5).values.ravel()
    array([0.93944, 2.93944, 1.93944])
    """
    solved = SolvedMarket.of(n)
    r = solved.r
    residual = r["demand"] - r["renewable"] - r["net_import"] - r["generation"]
    slope = xr.zeros_like(residual)
    for carrier in (ELASTIC_DEMAND_CARRIER, GENERATION_CARRIER):
        asset = solved.asset(carrier)
        free = asset.inside & (asset.quadratic > 0)
        steepness = (1 / (2 * asset.quadratic.where(free))).fillna(0.0)
        residual = residual + (asset.power + asset.linear * steepness).where(free, 0.0)
        slope = slope + steepness
    return solved.labelled(residual / slope.where(slope > 0))


def price_from_trades(n: pypsa.Network) -> xr.DataArray:
    r"""Nodal price of the buyer as each of her trades has it, (12) or (22).

    .. math:: \lambda_n = a_{mn} (2 q_{mn} + k q_{nm}) + b_{mn} + p^0 + \sigma f_{mn}
        + \xi_{nm} + \zeta_{mn} + \pi_n

    with k = 2 in the centralized and k = 1 in the peer-to-peer design, and the price of the grid,
    if it delivers. At a solution all trades of a prosumer agree: those that a fee keeps idle with
    some sigma.

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
    solved = SolvedMarket.of(n)
    cost = solved.trade_cost(solved.share) + solved.at(solved.grid_price, "buyer")
    found = cost + solved.r["capacity_price"] + solved.r["trade_price"]
    found = found + solved.fee_at(solved.at(solved.r["nodal_price"], "buyer") - found)
    return solved.in_real_time(found)


def price_from_partner(n: pypsa.Network) -> xr.DataArray:
    r"""Nodal price of the buyer from that of the seller: the difference of (12) or (22).

    .. math:: \lambda_n = \frac{\tau_m}{\tau_n} (\lambda_m - c_{nm} - \xi_{mn} - \pi_m)
        + c_{mn} + \xi_{nm} + \pi_n

    where :math:`c_{mn}` is the cost of a trade in (12) or (22), its fee included, and the bracket
    what the edge is worth to the seller, :math:`\zeta_{nm}`: both pay one price for it now, in
    their own money of the scenario one that is :math:`\tau_m / \tau_n` times the other's (not at
    generalized equilibria). Without congestion, risk, fees and binding capacity, prices at the ends
    differ by the difference of the preferences b.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        EUR/MWh; coords ``buyer``, ``seller``. NaN where an end does not weigh the scenario.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> price = price_from_partner(n)
    >>> price.sel(trade=price.buyer == "0").isel(scenario=0).round(5).values.ravel()
    array([0.93944, 0.93944])
    """
    solved = SolvedMarket.of(n)
    own = solved.trade_cost(solved.share) + solved.r["capacity_price"]
    own = own + solved.at(solved.grid_price, "buyer")
    edge, nodal = solved.r["trade_price"], solved.r["nodal_price"]
    own = own + solved.fee_at(solved.at(nodal, "buyer") - edge - own)
    of_edge = solved.at(nodal, "seller") - solved.reverse(own)
    return solved.in_real_time(solved.relative_weight * of_edge + own)


def price_gap_between_designs(n: pypsa.Network) -> xr.DataArray:
    r"""What the designs disagree on in the price difference along an edge (Remark 6).

    .. math:: (\lambda_n - \lambda_m)^{(22)} - (\lambda_n - \lambda_m)^{(12)}
        = a_{mn} (q_{mn} - q_{nm})

    at one and the same quantities and prices of edge and capacity, each price in its own
    prosumer's money. The planner minds what a trade costs the partner, prosumers do not: hence
    nothing where a = 0 or trades are even.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market of either design, whose quantities are taken.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        EUR/MWh, n the ``buyer`` and m the ``seller``.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> float(abs(price_gap_between_designs(n)).max())  # no congestion cost
    0.0
    """
    solved = SolvedMarket.of(n)
    quantity = solved.r["quantity"]
    return solved.by_trade(solved.data.congestion) * (quantity - solved.reverse(quantity))


def implied_trade_price(n: pypsa.Network) -> xr.DataArray:
    r""":math:`\zeta_{mn} = \lambda_n - c_{mn} - \xi_{nm} - \pi_n`: (12), (22) for the edge.

    Where a fee keeps the edge idle, it is the nearest to its price that the fee allows.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        EUR/MWh; the same in both directions of an edge, except at generalized equilibria.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> price = implied_trade_price(n)
    >>> price.sel(trade=price.buyer == "0").isel(scenario=0).round(5).values.ravel()
    array([-0.06056, -0.06056])
    """
    solved = SolvedMarket.of(n)
    cost = solved.trade_cost(solved.share)
    price = solved.r["nodal_price"] - solved.grid_price
    found = solved.at(price, "buyer") - cost - solved.r["capacity_price"]
    return solved.in_real_time(found - solved.fee_at(found - solved.r["trade_price"]))


def surplus(n: pypsa.Network) -> xr.DataArray:
    r"""Energy offered over an edge and not taken, :math:`-(q_{mn} + q_{nm}) \ge 0` (1), MW.

    It is sold at the import price. (scenario, snapshot, trade); both directions of an edge
    have the same.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket().optimize(n)
    ('ok', 'optimal')
    >>> surplus(n).sum(["snapshot", "trade"]).round(4).values
    array([0.544 , 3.0128, 0.    ])
    """
    solved = SolvedMarket.of(n)
    quantity = solved.r["quantity"]
    return -(quantity + solved.reverse(quantity))


def surplus_can_be_sold(n: pypsa.Network, tolerance: float = ACCURACY.promised) -> xr.DataArray:
    r"""Whether prices let an edge have a surplus (Proposition 3).

    :math:`\zeta \ge 0` means :math:`\lambda_n \ge c_{mn} + \xi_{nm} + \pi_n`, and a
    surplus means :math:`\zeta = 0` (complementarity of (1)): energy leaves over an edge only
    where it is worth to both ends no more than what selling it there brings. So where this is
    False, `surplus` is 0.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    tolerance : float
        Below which a price of an edge counts as 0, relative to the largest nodal price.

    Returns
    -------
    DataArray (scenario, snapshot, trade)
        bool; the same in both directions of an edge. All False with ``surplus=False``.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> bool(surplus_can_be_sold(n).any())
    False
    """
    solved = SolvedMarket.of(n)
    scale = float(abs(solved.r["nodal_price"]).max())
    implied = implied_trade_price(n).fillna(solved.r["trade_price"])  # of trades day ahead
    no_price = abs(implied) <= tolerance * scale
    return no_price & solved.reverse(no_price) & bool(solved.allows_surplus)
