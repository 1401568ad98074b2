"""Many small convex quadratic knapsacks at once, exactly: the one problem agents solve."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pypsa_p2p.common.accuracy import ACCURACY

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: The price is worked out again after a step from so far away that its rounding would show.
_FAR = ACCURACY.rounding / np.finfo(float).eps


class Knapsack(NamedTuple):
    r"""Least :math:`\sum_i \frac12 h_i x_i^2 + c_i x_i + f_i |x_i|` with a sum b, l <= x <= u.

    Attributes
    ----------
    curvature, slope, lower, upper
        h >= 0, c, l and u, shape (..., K); l and u finite.
    total
        b, shape (...).
    fee
        f >= 0, shape (..., K); None: 0.
    """

    curvature: Array
    slope: Array
    lower: Array
    upper: Array
    total: Array
    fee: Array | None = None


def solve_knapsacks(problem: Knapsack, near: Array | None = None) -> tuple[Array, Array]:
    r"""The minimisers x, (..., K), and the prices of the totals, (...).

    At a price :math:`\lambda` every x_i is :math:`(\lambda - c_i)/h_i` clipped to its limits, or
    jumps from one limit to the other at :math:`\lambda = c_i` where h_i = 0. Their sum rises with
    :math:`\lambda`; a bisection over the sorted kinks finds the piece that holds b, and what is
    left to do there is linear: no tolerance, only rounding.

    Where several x_i with h_i = 0 tie at the price, the minimiser closest to `near` (..., K)
    is returned, or without it the one that fills them in proportion to their widths. A total
    that the limits do not allow leaves x at its limits.

    An x_i with a fee is :math:`(\lambda - c_i \mp f_i)/h_i` above and below 0, and 0 where its
    marginal cost without the fee is nearer than that to the price.
    """
    if problem.fee is not None and problem.fee.any():
        return _solve_with_fees(problem, problem.fee, near)
    h, c, lower, upper, total, _ = problem
    curved = (h > 0) | (lower >= upper)  # what is fixed jumps nowhere
    flats = not curved.all()
    inverse = np.divide(1.0, h, out=np.zeros_like(h), where=h > 0)
    first, last = c + h * lower, c + h * upper
    kinks = np.sort(np.concatenate([first, last], axis=-1), axis=-1)

    def supply(price: Array) -> Array:
        """x just below a price, (..., K)."""
        x = price[..., None] - c
        x *= inverse
        np.maximum(x, lower, out=x)
        np.minimum(x, upper, out=x)
        return np.where(curved, x, np.where(c < price[..., None], upper, lower)) if flats else x

    price = _last_kink_below(kinks, supply, total)
    x = supply(price)
    at = price[..., None]
    if flats:
        x = x + _filled(~curved & (c == at), upper - lower, total - x.sum(axis=-1))
    free = curved & (first <= at) & (at < last)
    rates = inverse * free
    rate = rates.sum(axis=-1)
    step = _step(total, x, rate)
    if float(np.abs(step).max(initial=0.0)) > _FAR:
        price = price + step
        x = np.where(free, (price[..., None] - c) * inverse, x)
        step = _step(total, x, rate)
    x = np.clip(x + rates * step[..., None], lower, upper)
    if flats and near is not None:
        x = _closest(x, ~curved & (c == at) & (lower < upper), near, problem)
    return x, price + step


def _solve_with_fees(problem: Knapsack, fee: Array, near: Array | None) -> tuple[Array, Array]:
    """Every x with a fee as two: what is above 0, at c + f, and what is below, at c - f.

    One of them is 0, since the first costs more than the second wherever both are not.
    """
    h, c, lower, upper, total, _ = problem
    charged = fee > 0
    k = np.flatnonzero(charged.any(axis=tuple(range(fee.ndim - 1))))

    def parted(x: Array) -> Array:
        above = np.where(charged, np.maximum(x, 0.0), x)
        below = np.where(charged, np.minimum(x, 0.0), 0.0)
        return np.concatenate([above, below[..., k]], axis=-1)

    parts = Knapsack(
        np.concatenate([h, h[..., k]], axis=-1),
        np.concatenate([c + fee, (c - fee)[..., k]], axis=-1),
        parted(lower),
        parted(upper),
        total,
    )
    found, price = solve_knapsacks(parts, None if near is None else parted(near))
    x, below = np.split(found, [c.shape[-1]], axis=-1)
    x[..., k] += below
    return x, price


def _step(total: Array, x: Array, rate: Array) -> Array:
    """By how much the price must rise for x, which rises at a rate, to reach the total."""
    left = total - x.sum(axis=-1)
    return np.divide(left, rate, out=np.zeros_like(left), where=rate > 0)


def _last_kink_below(kinks: Array, supply: Any, total: Array) -> Array:
    """The largest kink at which the supply just below it does not exceed the total."""
    low = np.zeros(total.shape, dtype=np.int64)
    high = np.full(total.shape, kinks.shape[-1])
    while bool((high - low > 1).any()):
        middle = (low + high) // 2
        price = np.take_along_axis(kinks, middle[..., None], axis=-1)[..., 0]
        enough = supply(price).sum(axis=-1) <= total
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.asarray(np.take_along_axis(kinks, low[..., None], axis=-1)[..., 0])


def _filled(tied: Flags, width: Array, left: Array) -> Array:
    """What ties at the price take of the rest, in proportion to their widths, (..., K)."""
    room = width * tied
    whole = room.sum(axis=-1)
    share = np.divide(left, whole, out=np.zeros_like(left), where=whole > 0)
    return np.asarray(room * np.clip(share, 0.0, 1.0)[..., None])


def _closest(x: Array, tied: Flags, near: Array, problem: Knapsack) -> Array:
    """Shift between ties towards `near`; nothing else moves."""
    several = tied.sum(axis=-1) > 1
    if not bool(several.any()):
        return x
    free, held = tied[several], x[several]
    projected, _ = solve_knapsacks(
        Knapsack(
            np.ones_like(held),
            -np.where(free, near[several], held),
            np.where(free, problem.lower[several], held),
            np.where(free, problem.upper[several], held),
            held.sum(axis=-1),
        )
    )
    moved = x.copy()
    moved[several] = projected
    return moved
