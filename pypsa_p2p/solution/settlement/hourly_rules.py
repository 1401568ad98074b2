"""Rules that settle every hour by what each prosumer takes from the others and the retailer.

The community is one customer of a retailer, who sells at `buy` and takes what is left over at
`sell`. A rule makes of these a price for who takes and one for who gives, and together they pay
what the community pays (MODEL.md §4). Arrays are (S, T): taken by all, I, and given by all, E, MW;
prices in EUR/MWh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.solvers.arrays import Flags

Prices = tuple[Numbers, Numbers]
Rule = Callable[[Numbers, Numbers, Numbers, Numbers], Prices]


def mid_market(taken: Numbers, given: Numbers, buy: Numbers, sell: Numbers) -> Prices:
    r"""The middle of the retailer's prices, and hers for what the other side lacks.

    .. math:: \bar\pi = \frac{b + s}{2}, \quad
        \pi^+ = \frac{\bar\pi \min(E, I) + b (I - E)^+}{I}, \quad
        \pi^- = \frac{\bar\pi \min(E, I) + s (E - I)^+}{E}

    The mid-market rate, MMR.
    """
    middle = (buy + sell) / 2
    inside = middle * np.minimum(taken, given)
    return (
        _over(inside + buy * np.maximum(taken - given, 0.0), taken, middle),
        _over(inside + sell * np.maximum(given - taken, 0.0), given, middle),
    )


def bill_sharing(taken: Numbers, given: Numbers, buy: Numbers, sell: Numbers) -> Prices:
    r"""What the community pays is shared by those who take, what it is paid by those who give.

    .. math:: \pi^+ = b (I - E)^+ / I, \quad \pi^- = s (E - I)^+ / E
    """
    return (
        _over(buy * np.maximum(taken - given, 0.0), taken, buy),
        _over(sell * np.maximum(given - taken, 0.0), given, sell),
    )


def supply_demand_ratio(taken: Numbers, given: Numbers, buy: Numbers, sell: Numbers) -> Prices:
    r"""Prices that fall from `buy` to `sell` as the ratio of supply to demand rises to 1.

    .. math:: r = E / I, \quad
        \pi^- = \frac{s b}{(b - s) r + s}, \quad \pi^+ = \pi^- r + b (1 - r) \quad (r \le 1)

    and both s where r > 1. SDR; for `sell` of at least 0.
    """
    ratio = np.minimum(_over(given, taken, np.ones_like(taken)), 1.0)
    of_supply = _over(sell * buy, (buy - sell) * ratio + sell, buy)
    return of_supply * ratio + buy * (1.0 - ratio), np.where(given > taken, sell, of_supply)


#: By name, prices for who takes and for who gives.
HOURLY_RULES: Final[dict[str, Rule]] = {
    "mid_market": mid_market,
    "bill_sharing": bill_sharing,
    "supply_demand_ratio": supply_demand_ratio,
}


def paid_by_rule(
    rule: str, net_import: Numbers, buy: Numbers | float, sell: Numbers | float
) -> Numbers:
    """What each prosumer pays in an hour, EUR/h; negative: is paid.

    Parameters
    ----------
    rule : {"mid_market", "bill_sharing", "supply_demand_ratio"}
    net_import : (S, T, N)
        What each takes from the others and the retailer together, MW; negative: gives.
    buy, sell : (S, T), or what broadcasts to it
        Prices at which the retailer sells and buys, EUR/MWh, ``buy >= sell``; of the ratio of
        supply and demand ``sell >= 0``.

    Returns
    -------
    (S, T, N), whose sums over prosumers are `retailers_share`.

    Raises
    ------
    DataError
        An unknown rule, or prices that it cannot take.

    Examples
    --------
    >>> paid_by_rule("mid_market", np.array([[[6.0, -3.0, -1.0]]]), 0.3, 0.1).round(3)
    array([[[ 1.4, -0.6, -0.2]]])
    """
    if rule not in HOURLY_RULES:
        raise DataError(f"{shown(rule)} is no rule by hours: take one of {listed(HOURLY_RULES)}.")
    buy, sell = (np.broadcast_to(one, net_import.shape[:-1]) for one in (buy, sell))
    if unusable(rule, buy, sell).any():
        raise DataError(f"{rule} needs {NEEDED[rule]}.")
    taken, given = np.maximum(net_import, 0.0), np.maximum(-net_import, 0.0)
    to_take, to_give = HOURLY_RULES[rule](taken.sum(-1), given.sum(-1), buy, sell)
    return np.asarray(taken * to_take[..., None] - given * to_give[..., None])


def retailers_share(net_import: Numbers, buy: Numbers, sell: Numbers) -> Numbers:
    r"""What the retailer is paid in an hour, :math:`b (I - E)^+ - s (E - I)^+`, EUR/h; (S, T)."""
    left = net_import.sum(axis=-1)
    return np.asarray(buy * np.maximum(left, 0.0) - sell * np.maximum(-left, 0.0))


_ORDERED = "prices at which the retailer sells (buy) of at least those at which she buys (sell)"
#: What a rule asks of prices, in words.
NEEDED: Final = {
    "mid_market": _ORDERED,
    "bill_sharing": _ORDERED,
    "supply_demand_ratio": f"{_ORDERED}, which must not be negative",
}


def unusable(rule: str, buy: Numbers, sell: Numbers) -> Flags:
    """Where a rule cannot take the retailer's prices; (S, T)."""
    wrong = ~(buy >= sell)
    return np.asarray(wrong | (sell < 0) if rule == "supply_demand_ratio" else wrong)


def _over(amount: Numbers, by: Numbers, otherwise: Numbers) -> Numbers:
    """A quotient; something else where it is divided by nothing."""
    whole = np.array(np.broadcast_to(otherwise, np.shape(by)), dtype=float)
    return np.divide(amount, by, out=whole, where=by != 0)
