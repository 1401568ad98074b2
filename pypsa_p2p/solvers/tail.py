"""The worst of the expectations in an envelope of risk-adjusted probabilities, by sorting."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Labels, Vector, sum_by


class Tail(NamedTuple):
    """The risk of every group's costs.

    Attributes
    ----------
    value
        (G,) R, EUR.
    value_at_risk
        (G,) the largest cost at which all that can be assigned is, EUR; where there is nothing to
        assign the least cost.
    probability
        (K,) tau, a risk-adjusted probability with value = sum tau Pi in each group.
    """

    value: Vector
    value_at_risk: Vector
    probability: Vector


def worst(values: Vector, least: Vector, most: Vector, group: Labels | None = None) -> Tail:
    """R = max sum tau X over least <= tau <= most, sum tau = 1, of every group (33)-(37).

    Whatever `least` leaves goes to the costliest, as far as `most` lets it. Costs that are equal
    where it ends share what is left in proportion to their room.

    Parameters
    ----------
    values, least, most
        (K,) costs, EUR, and ends of the envelope, between whose sums 1 lies in each group.
    group
        (K,) group of each cost, 0..G-1, none empty. Default: one group.

    Examples
    --------
    CVaR at 0.6 of four equally likely costs:

    >>> tail = worst(np.array([10.0, 20.0, 30.0, 40.0]), np.zeros(4), np.full(4, 0.625))
    >>> float(tail.value_at_risk[0]), round(float(tail.value[0]), 9)
    (30.0, 36.25)
    """
    group = np.zeros(values.size, dtype=np.int64) if group is None else group
    groups = int(group.max(initial=-1)) + 1
    left = 1.0 - sum_by(group, least, groups)
    left = np.where(left > ACCURACY.differences, left, 0.0)
    room = np.where(left[group] > 0.0, most - least, 0.0)  # where nothing is left none is needed
    order = np.lexsort((-values, group))
    of_group = group[order]
    first = np.searchsorted(of_group, np.arange(groups))
    total = np.cumsum(room[order])
    before = total - room[order]  # room of the costlier ones
    before = before - before[first][of_group]
    reached = before < left[of_group] * (1.0 - ACCURACY.differences)
    size, count = (
        sum_by(of_group, flags.astype(np.float64), groups).astype(np.int64)
        for flags in (reached, np.ones(values.size))
    )
    last = np.where(left > 0.0, np.maximum(size, 1), count)
    value_at_risk = values[order][first + last - 1]

    above = values > value_at_risk[group]
    tied = values == value_at_risk[group]
    room_tied = sum_by(group, room * tied, groups)
    rest = np.clip(left - sum_by(group, room * above, groups), 0.0, room_tied)
    share = np.divide(rest, room_tied, out=np.zeros(groups), where=room_tied > 0.0)
    tau = least + room * (above + tied * share[group])
    value = sum_by(group, tau * values, groups)
    return Tail(value=value, value_at_risk=value_at_risk, probability=tau)
