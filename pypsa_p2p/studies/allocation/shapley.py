"""The Shapley value: what a prosumer adds to those who came before her, on average."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb

import numpy as np

from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.studies.allocation.games import Orders, beginnings, members_of


def shapley(value: Mapping[int, float], count: int) -> Vector:
    r"""The Shapley value of a game of which every coalition is known, (N,).

    .. math:: y_n = \sum_{S \not\ni n} \frac{|S|!\,(N - |S| - 1)!}{N!} (v(S \cup n) - v(S))

    Examples
    --------
    >>> shapley({1: 0.0, 2: 0.0, 3: 1.0}, 2)
    array([0.5, 0.5])
    """
    worth = np.zeros(1 << count)
    worth[list(value)] = list(value.values())
    masks = np.arange(worth.size)
    sizes = members_of(masks.tolist(), count).sum(axis=1)
    weight = np.array([1.0 / (count * comb(count - 1, size)) for size in range(count)])
    share = np.empty(count)
    for k in range(count):
        without = masks[(masks >> k & 1) == 0]
        added = worth[without | 1 << k] - worth[without]
        share[k] = weight[sizes[without]] @ added
    return share


def shapley_drawn(value: Mapping[int, float], orders: Orders) -> tuple[Vector, Vector]:
    """What each adds on average over some orders, (N,), and its standard error, (N,).

    Parameters
    ----------
    value : mapping
        Of every coalition that grows in these orders.
    orders : (K, N)
        Two or more.
    """
    worth = [[0.0, *(value[mask] for mask in grown)] for grown in beginnings(orders)]
    added = np.empty(orders.shape)
    np.put_along_axis(added, orders, np.diff(worth, axis=1), axis=1)
    error = added.std(axis=0, ddof=1) / np.sqrt(len(orders))
    return added.mean(axis=0), np.asarray(error)
