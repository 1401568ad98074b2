"""How much noise hides a report, and what it costs: everybody sees every report (MODEL.md §11).

Arrays are of K hours (of all scenarios) and N prosumers; costs of a unit of variance, EUR/MW2, hold
the hours' weights.
"""

from __future__ import annotations

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.tables import Numbers

#: Newton's steps: slopes vary by a third, so that a few are enough.
_STEPS = 60


def gaussian_noise(cost: Numbers, sensitivity: Numbers, loss: Numbers) -> tuple[Numbers, Numbers]:
    r"""Cheapest variances of Gaussian noise, (K, N), MW2, and the price of privacy, (N,).

    .. math:: \min_v \sum_t w_t v_t \; : \; \sum_t \frac{\Delta_t^2}{2 v_t} \le A
        \quad\Rightarrow\quad v_t = \frac{\Delta_t}{\sqrt{w_t}}
        \frac{\sum_s \Delta_s \sqrt{w_s}}{2 A}, \qquad
        \mu = \frac{(\sum_s \Delta_s \sqrt{w_s})^2}{2 A^2}

    >>> w, far = np.array([[0.5], [0.8], [0.3]]), np.array([[2.0], [1.0], [3.0]])
    >>> v, price = gaussian_noise(w, far, np.array([1.5]))
    >>> v[:, 0].round(6), price.round(6)
    (array([3.725801, 1.472752, 7.214982]), array([3.470398]))
    """
    together = (sensitivity * np.sqrt(cost)).sum(axis=0)
    variance = sensitivity / np.sqrt(cost) * together / (2 * loss)
    return variance, together**2 / (2 * loss**2)


def gaussian_loss(variance: Numbers, sensitivity: Numbers) -> Numbers:
    r"""Expected privacy loss of Gaussian noise, :math:`\Delta^2/(2 v)`; 0 where nothing is hidden.

    >>> float(gaussian_loss(np.array(4.0), np.array(2.0)))
    0.5
    """
    hidden = sensitivity > 0
    with np.errstate(divide="ignore"):
        share = np.where(hidden, sensitivity**2, 0.0) / np.where(hidden, 2 * variance, 1.0)
    return np.asarray(share)


def laplace_noise(cost: Numbers, sensitivity: Numbers, loss: Numbers) -> tuple[Numbers, Numbers]:
    r"""Cheapest variances of Laplace noise, (K, N), MW2, and the price of privacy, (N,).

    With :math:`\varepsilon = \Delta / s`, s the scale of the noise,

    .. math:: \min_\varepsilon \sum_t w_t \frac{2 \Delta_t^2}{\varepsilon_t^2} \; : \;
        \sum_t \varepsilon_t + e^{-\varepsilon_t} - 1 \le A \quad\Rightarrow\quad
        \mu = \frac{4 w_t \Delta_t^2}{\varepsilon_t^3 (1 - e^{-\varepsilon_t})}

    Solved by Newton's method for :math:`\ln \mu`, and within for each :math:`\ln \varepsilon_t`.

    >>> v, price = laplace_noise(np.array([[0.5]]), np.array([[2.0]]), np.exp([-1.0]))
    >>> v[0].round(6), price.round(6)
    (array([8.]), array([12.655814]))
    """
    hidden = sensitivity > 0
    steep = np.log(4 * cost * np.where(hidden, sensitivity, 1.0) ** 2)
    price = np.log(gaussian_noise(cost, sensitivity, loss)[1])
    for _ in range(_STEPS):
        ratio = _ratio_at(steep - price)
        lost = np.where(hidden, laplace_loss_of(ratio), 0.0).sum(axis=0)
        falls = np.where(hidden, -np.expm1(-ratio) * ratio / _steepness(ratio), 0.0).sum(axis=0)
        price = price + (np.log(lost) - np.log(loss)) * lost / falls
    ratio = _ratio_at(steep - price)
    return np.where(hidden, 2 * sensitivity**2 / ratio**2, 0.0), np.exp(price)


def laplace_loss(variance: Numbers, sensitivity: Numbers) -> Numbers:
    """Expected privacy loss of Laplace noise of a variance 2 s^2; 0 where nothing is hidden."""
    hidden = sensitivity > 0
    with np.errstate(divide="ignore"):
        ratio = np.where(hidden, sensitivity, 0.0) / np.where(hidden, np.sqrt(variance / 2), 1.0)
    return laplace_loss_of(ratio)


def laplace_loss_of(ratio: Numbers) -> Numbers:
    r""":math:`\varepsilon + e^{-\varepsilon} - 1`, also where that cancels.

    >>> laplace_loss_of(np.array([1.0, 1e-6])).round(15)
    array([3.67879441e-01, 5.00000000e-13])
    """
    small = ratio**2 / 2 - ratio**3 / 6 + ratio**4 / 24
    return np.asarray(np.where(ratio < 1e-3, small, ratio + np.expm1(-ratio)))


def cheapest_laplace(cost: Numbers, sensitivity: Numbers, price: Numbers) -> Numbers:
    r""":math:`\min_v w v + \mu\, \mathrm{loss}(v)` of Laplace noise, (K, N), EUR.

    0 where nothing is hidden, costs or is worth anything.
    """
    real = (sensitivity > 0) & (cost > 0) & (price > 0)
    some = np.where(real, cost, 1.0) * np.where(real, sensitivity, 1.0) ** 2
    worth = np.where(real, price, 1.0)
    ratio = _ratio_at(np.log(4 * some / worth))
    return np.asarray(np.where(real, 2 * some / ratio**2 + worth * laplace_loss_of(ratio), 0.0))


def _ratio_at(wanted: Numbers) -> Numbers:
    r"""The epsilon at which :math:`3 \ln \varepsilon + \ln(1 - e^{-\varepsilon})` is `wanted`."""
    x = np.where(wanted < 0, wanted / 4, wanted / 3)
    for _ in range(_STEPS):
        ratio = np.exp(x)
        step = (3 * x + np.log(-np.expm1(-ratio)) - wanted) / _steepness(ratio)
        x = x - step
        if np.abs(step).max(initial=0.0) < ACCURACY.differences:
            break
    return np.asarray(np.exp(x))


def _steepness(ratio: Numbers) -> Numbers:
    r"""Slope of that by :math:`\ln \varepsilon`, between 3 and 4."""
    with np.errstate(over="ignore"):
        return np.asarray(3 + ratio / np.expm1(ratio))
