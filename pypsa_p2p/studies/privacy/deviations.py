"""The equilibrium of deviations: who misreports how much (MODEL.md §11)."""

from __future__ import annotations

import numpy as np

from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.studies.privacy.truth import Truth

#: Halvings of the interval that holds T: to the last digit.
_HALVINGS = 110


def best_deviations(truth: Truth, sum_of_all: Numbers, distance: Numbers) -> Numbers:
    r"""What each deviates where all together deviate by T, (S, T, N), MW.

    .. math:: \beta_n = \mathrm{clip}\left( \frac{B_n T / B^2 - Q_n / B}{2 \tilde a_n},
        -\bar\beta_n, \bar\beta_n \right)

    0 where her report moves nothing.
    """
    return np.asarray(np.clip(_unbounded(truth, sum_of_all), -distance, distance))


def equilibrium_deviations(truth: Truth, distance: Numbers) -> Numbers:
    r"""The deviations that are best answers to each other, (S, T, N), MW.

    What all deviate together, T, is where :math:`T = \sum_n \beta_n(T)`. Both sides rise, the right
    one slower, so that there is one: it is enclosed first, and then found from who is at a bound.
    """
    reach = _reach(truth)
    low, high = -reach, reach
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = best_deviations(truth, middle, distance).sum(axis=-1, keepdims=True) < middle
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    middle = (low + high) / 2
    free = np.abs(_unbounded(truth, middle)) < distance
    bound = np.where(free, 0.0, best_deviations(truth, middle, distance))
    still = np.where(free, _unbounded(truth, np.zeros_like(middle)), 0.0)
    slope = np.where(free, _slope(truth), 0.0).sum(axis=-1, keepdims=True)
    together = (bound + still).sum(axis=-1, keepdims=True) / (1 - slope)
    return best_deviations(truth, together, distance)


def distance_price(truth: Truth, deviation: Numbers, distance: Numbers) -> Numbers:
    r"""What a MW more of distance is worth now, (S, T, N), EUR/MW: 0 where its bound is slack.

    .. math:: p w \left| 2 \tilde a_n \beta_n - B_n T / B^2 + Q_n / B \right|
    """
    total, together = truth.total, deviation.sum(axis=-1, keepdims=True)
    marginal = (
        2 * truth.utility * deviation
        - truth.response * together / total**2
        + truth.net_import / total
    )
    binds = truth.answers & (np.abs(deviation) >= distance)
    return np.asarray(np.where(binds, truth.weight * np.abs(marginal), 0.0))


def _unbounded(truth: Truth, sum_of_all: Numbers) -> Numbers:
    """Best deviations without a bound, MW."""
    still = np.where(truth.answers, -truth.net_import / truth.total / _stiffness(truth), 0.0)
    return np.asarray(still + _slope(truth) * sum_of_all)


def _slope(truth: Truth) -> Numbers:
    """How much of T each follows: B_n / (2 a~ B^2)."""
    follows = truth.response / truth.total**2 / _stiffness(truth)
    return np.asarray(np.where(truth.answers, follows, 0.0))


def _stiffness(truth: Truth) -> Numbers:
    """2 a~, and 1 where a report moves nothing."""
    return np.asarray(np.where(truth.answers, 2 * truth.utility, 1.0))


def _reach(truth: Truth) -> Numbers:
    """More than |T| can be, (S, T, 1), MW."""
    still = np.abs(_unbounded(truth, np.zeros_like(truth.total))).sum(axis=-1, keepdims=True)
    return np.asarray(still / (1 - _slope(truth).sum(axis=-1, keepdims=True)))
