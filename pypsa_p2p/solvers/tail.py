"""CVaR of discrete costs, exactly, by sorting."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pypsa_p2p.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Labels, Vector, sum_by


class Tail(NamedTuple):
    """The tail of every group's costs.

    Attributes
    ----------
    value
        (G,) CVaR, EUR.
    value_at_risk
        (G,) the largest cost at which the tail is full, EUR.
    probability
        (K,) tau, a risk-adjusted probability with value = sum tau Pi in each group.
    """

    value: Vector
    value_at_risk: Vector
    probability: Vector


def cvar(
    values: Vector,
    probability: Vector,
    attitude: float | Vector,
    *,
    group: Labels | None = None,
) -> Tail:
    """CVaR_chi of every group: the mean of the costliest 1 - chi of its probability (25).

    The atom at the quantile is split exactly; atoms tied there share what is left of the
    tail in proportion to their probabilities.

    Parameters
    ----------
    values, probability
        (K,) costs, EUR, and their probabilities, which sum to 1 within each group.
    attitude
        chi in [0, 1), scalar or (G,).
    group
        (K,) group of each cost, 0..G-1, none empty. Default: one group.

    Examples
    --------
    >>> tail = cvar(np.array([10.0, 20.0, 30.0, 40.0]), np.full(4, 0.25), 0.6)
    >>> float(tail.value_at_risk[0]), round(float(tail.value[0]), 9)
    (30.0, 36.25)
    """
    chi = np.atleast_1d(np.asarray(attitude, dtype=float))
    group = np.zeros(values.size, dtype=np.int64) if group is None else group
    mass = 1.0 - chi
    order = np.lexsort((-values, group))
    sorted_group = group[order]
    first = np.searchsorted(sorted_group, np.arange(chi.size))
    total = np.cumsum(probability[order])
    before = total - probability[order]  # mass of the costlier atoms
    before = before - before[first][sorted_group]

    in_tail = before < mass[sorted_group] * (1.0 - ACCURACY.differences)
    size = sum_by(sorted_group, in_tail.astype(np.float64), chi.size).astype(np.int64)
    value_at_risk = values[order][first + np.maximum(size, 1) - 1]

    above = values > value_at_risk[group]
    tied = values == value_at_risk[group]
    mass_above = sum_by(group, probability * above, chi.size)
    mass_tied = sum_by(group, probability * tied, chi.size)
    share = np.clip((mass - mass_above) / mass_tied, 0.0, 1.0)
    tau = probability * (above + tied * share[group]) / mass[group]
    value = sum_by(group, tau * values, chi.size)
    return Tail(value=value, value_at_risk=value_at_risk, probability=tau)


def capped(values: Vector, least: Vector, most: Vector) -> Vector:
    """The tau, (K,), with the largest sum of tau values among those between least and most.

    They sum to 1. What is left for tied values is shared in proportion to their room.

    Parameters
    ----------
    values
        (K,) costs, EUR.
    least, most
        (K,) limits of tau, between whose sums 1 lies.

    Examples
    --------
    >>> values, least = np.array([10.0, 20.0, 30.0]), np.zeros(3)
    >>> capped(values, least, np.array([1.0, 0.4, 0.5]))
    array([0.1, 0.4, 0.5])
    """
    room = most - least
    _, rank = np.unique(-values, return_inverse=True)
    of_rank = sum_by(rank, room, int(rank.max()) + 1)
    before = np.cumsum(of_rank) - of_rank
    left = np.clip(1.0 - least.sum() - before, 0.0, of_rank)
    share = np.divide(left, of_rank, out=np.zeros_like(left), where=of_rank > 0)
    return np.asarray(least + room * share[rank])
