"""How much noise hides everybody behind the price: a constraint all share (MODEL.md §11).

Arrays are of K hours (of all scenarios) and N prosumers; costs of a unit of variance, EUR/MW2, hold
the hours' weights.
"""

from __future__ import annotations

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.tables import Numbers

_HALVINGS = 120
_DOUBLINGS = 400


def needed_variance(sensitivity: Numbers, loss: Numbers) -> Numbers:
    r""":math:`s = \max_n \Delta_n^2 / (2 A_n)`, (K,), MW2: what one hour alone would need.

    Raises
    ------
    MarketError
        Several hours, and who is hardest to hide is not the same in all.
    """
    each = sensitivity**2 / (2 * loss)
    hardest = each.max(axis=-1)
    if not (each >= hardest[:, None] * (1 - ACCURACY.rounding)).all(axis=0).any():
        raise MarketError(
            "PrivateReports: with observer='price' and several hours the same prosumer must be "
            "hardest to hide, sensitivity**2/loss, in all of them: give sensitivity by prosumer."
        )
    return np.asarray(hardest)


def shared_noise(cost: Numbers, most: Numbers, needed: Numbers) -> tuple[Numbers, float]:
    r"""Variances at the variational equilibrium, (K, N), MW2, and the price of privacy.

    .. math:: \min_v \sum_{t,n} w_{nt} v_{nt} \; : \; \sum_t \frac{s_t}{\sum_n v_{nt}} \le 1,
        \qquad 0 \le v_{nt} \le \bar v_{nt}

    In one hour that is merit order: the cheapest noise first, until it sums to s. Over several,
    the marginal agent's w is :math:`\mu s / V^2` in every hour, V its sum. The price, EUR/MW2, is
    what a MW2 more of the largest s, and as much more in proportion of the others, costs.

    >>> v, price = shared_noise(np.array([[0.5, 0.8, 0.4]]), np.array([[4.0] * 3]), np.array([7.0]))
    >>> v.round(9), round(price, 9)
    (array([[3., 0., 4.]]), 0.5)
    """
    if not needed.any():
        return np.zeros_like(cost), 0.0
    order = np.argsort(cost, axis=-1, kind="stable")
    rising, room = (np.take_along_axis(of, order, axis=-1) for of in (cost, most))
    up_to = np.cumsum(room, axis=-1)
    with np.errstate(divide="ignore"):
        lost = float((needed / up_to[:, -1]).sum())
    if lost > 1 + ACCURACY.differences:
        raise MarketError(
            f"PrivateReports: most_noise allows {up_to[:, -1].sum():.6g} MW2 in all hours, "
            f"{lost:.6g} times too little to hide everybody behind the price: raise it, or loss."
        )
    price = _price(rising, up_to, needed)
    together = _variance_at(price, rising, up_to, needed)
    cheaper = np.concatenate([np.zeros_like(up_to[:, :1]), up_to[:, :-1]], axis=-1)
    filled = np.clip(together[:, None] - cheaper, 0.0, room)
    variance = np.empty_like(filled)
    np.put_along_axis(variance, order, filled, axis=-1)
    return variance, price / float(needed.max())


def _price(rising: Numbers, up_to: Numbers, needed: Numbers) -> float:
    """The least multiplier at which the sum of losses is no more than 1."""

    def hides(log: float) -> bool:
        with np.errstate(divide="ignore"):
            lost = needed / _variance_at(float(np.exp(log)), rising, up_to, needed)
        return bool(np.where(needed > 0, lost, 0.0).sum() <= 1 + ACCURACY.differences)

    at = float(np.log((rising[:, 0] * needed)[needed > 0].max()))
    low = high = at
    for _ in range(_DOUBLINGS):
        if hides(high):
            break
        high += 1.0
    for _ in range(_DOUBLINGS):
        if not hides(low):
            break
        low -= 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if hides(middle) else (middle, high)
    return float(np.exp(high))


def _variance_at(price: float, rising: Numbers, up_to: Numbers, needed: Numbers) -> Numbers:
    """Noise of each hour at a multiplier, (K,), MW2: as far as its steps are worth it."""
    worth = np.sqrt(price * needed[:, None] / rising)
    return np.asarray(np.minimum(worth, up_to).max(axis=-1))
