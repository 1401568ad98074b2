r"""Pay as bid: what is sold is paid what it costs the seller, not what it is worth to the buyer.

A seller offers at marginal cost. Her *ask* :math:`a_m` in an hour is that of the dearest of her
supply that runs: generators, retail imports and demand she gives up. What she bought from others
she passes on at what it cost her. So what a MWh at her bus costs on average for those she sells to
is

.. math:: (X_m^+ + \sum_k q_{mk})\, \pi_m = X_m^+ a_m
    + \sum_k q_{mk} (\pi_k - c_{km} + c_{mk}), \qquad q_{mk} > 0

of her own net sales :math:`X_m^+` and her purchases, and the price of a trade is
:math:`\pi_m - c_{nm}`: c is what a trade costs whoever decides it, her preference and fee included,
as in (12) and (22). No price is above the market's (MODEL.md §4).
"""

from __future__ import annotations

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, shown
from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.solution.accounts import Accounts, other_direction
from pypsa_p2p.solution.solved_market import SolvedMarket
from pypsa_p2p.solvers.arrays import Flags

_DIMS = (SCENARIO, SNAPSHOT, TRADE)


def bid_prices(solved: SolvedMarket, accounts: Accounts) -> Numbers:
    """Price of every trade that its buyer buys, pay as bid, EUR/MWh (S, T, trade).

    Raises
    ------
    MarketError
        Somebody sells at a value that has no price in money of the scenario.
    """
    r = solved.r
    bought = np.maximum(r["quantity"].transpose(*_DIMS).to_numpy(), 0.0)
    fee = solved.by_trade(solved.data.fee0, solved.data.fee1).to_numpy()
    cost = solved.trade_cost(solved.share).transpose(*_DIMS).to_numpy()
    of_buyer, of_seller = cost + fee, other_direction(cost - fee)
    buyer, seller = (solved.data.prosumers.get_indexer(r[end].to_index()) for end in _ENDS)
    least = ACCURACY.promised * bought.max(initial=0.0)
    value = r["nodal_price"].transpose(SCENARIO, SNAPSHOT, PROSUMER).to_numpy()
    ask = asks(accounts, value, least)
    net = r["net_import"].transpose(SCENARIO, SNAPSHOT, PROSUMER).to_numpy()
    shape = (*net.shape, net.shape[-1])
    purchases, adders = np.zeros(shape), np.zeros(net.shape)
    for k, (one, other) in enumerate(zip(buyer, seller, strict=True)):
        purchases[..., one, other] += bought[..., k]
        adders[..., one] += bought[..., k] * (of_buyer - of_seller)[..., k]
    worth = passed_on(purchases, np.maximum(-net, 0.0), ask, adders, value, least)
    price = worth[..., seller] - of_seller
    unknown = np.isnan(price) & (bought > least)
    if unknown.any():
        scenario, snapshot, k = np.argwhere(unknown)[0]
        where = solved.data.scenarios[scenario], solved.data.snapshots[snapshot]
        raise MarketError(
            f"pay_as_bid: {shown(str(r['seller'].to_numpy()[k]))} sells in scenario "
            f"{shown(where[0])}, snapshot {shown(where[1])} what has no price in money of the "
            "scenario to her. Take another rule."
        )
    return np.nan_to_num(price)


def asks(accounts: Accounts, value: Numbers, least: float) -> Numbers:
    """Marginal cost of the dearest supply of each that runs, at most its `value`; (S, T, N).

    Where she has none, or storage or branches behind her meter supply, whose cost is that of
    another hour or carrier, it is the value itself.

    Parameters
    ----------
    value : (S, T, N)
        Nodal prices, EUR/MWh.
    least : float
        Power that is none, MW.
    """
    books, found = accounts.books, accounts.found
    ask = np.full(value.shape, -np.inf)
    for entry in books.operated:
        if entry.component != "Generator":
            continue
        power = found.power(entry.component, entry.attribute, entry.names)
        marginal = entry.factor + 0.0 * power
        if entry.square is not None:
            marginal = marginal + 2.0 * entry.square * power
        for k, who in enumerate(entry.whose):
            if who >= 0:
                runs = power[..., k] > least
                dearer = np.maximum(ask[..., who], marginal[..., k])
                ask[..., who] = np.where(runs, dearer, ask[..., who])
    for entry in books.generated:
        if entry.component == "Generator":
            continue
        power = found.power(entry.component, entry.attribute, entry.names) * entry.factor
        for k, who in enumerate(entry.whose):
            if who >= 0:
                ask[..., who] = np.where(power[..., k] > least, np.inf, ask[..., who])
    own = np.isfinite(ask)
    return np.where(own, np.fmin(ask, value), value)


def passed_on(
    purchases: Numbers,
    own: Numbers,
    ask: Numbers,
    adders: Numbers,
    value: Numbers,
    least: float,
) -> Numbers:
    """What a MWh costs those who sell it, (S, T, N): their own, and what they pass on.

    Parameters
    ----------
    purchases : (S, T, N, N)
        What each buys from each, MW.
    own : (S, T, N)
        Net sales, MW.
    ask, value : (S, T, N)
        EUR/MWh of their own; of energy that comes from nobody's own, in circles.
    adders : (S, T, N)
        What purchases cost beyond what they cost the seller, EUR/h.

    Examples
    --------
    A sells 2 MW at 10 to B, who sells 1 MW of her own at 30 besides to C:

    >>> purchases = np.zeros((3, 3))
    >>> purchases[1, 0], purchases[2, 1] = 2.0, 3.0
    >>> own, ask = np.array([2.0, 1.0, 0.0]), np.array([10.0, 30.0, 0.0])
    >>> passed_on(purchases, own, ask, np.zeros(3), np.full(3, 40.0), 1e-9).round(6)
    array([10.      , 16.666667, 16.666667])
    """
    taken = purchases.sum(axis=-1)
    supplied = _reached(purchases > least, own > least)
    matrix = -purchases
    count = np.arange(own.shape[-1])
    matrix[..., count, count] += own + taken
    right = own * np.nan_to_num(ask) + adders
    matrix = np.where(supplied[..., None], matrix, np.eye(count.size))
    right = np.where(supplied, right, np.nan_to_num(value))
    found = np.linalg.solve(matrix, right[..., None])[..., 0]
    unknown = np.isnan(np.where(supplied, np.where(own > least, ask, 0.0), value))
    return np.where(unknown, np.nan, found)


def _reached(buys: Flags, own: Flags) -> Flags:
    """Who has energy of somebody's own to sell: hers, or bought from one who has."""
    reached = own
    while True:
        further = reached | (buys & reached[..., None, :]).any(axis=-1)
        if (further == reached).all():
            return np.asarray(reached)
        reached = further


_ENDS = ("buyer", "seller")
