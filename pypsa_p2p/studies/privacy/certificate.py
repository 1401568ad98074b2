"""Whether reports are an equilibrium: what each could gain on (P2) by deciding anew, alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.studies.privacy.noise import cheapest_laplace
from pypsa_p2p.studies.privacy.truth import Truth


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """What prosumers chose, and within which bounds.

    Attributes
    ----------
    deviation, distance, variance, sensitivity : (S, T, N)
        MW, MW2 and MW.
    loss, price : (N,)
        A, and the price of privacy: EUR per unit of A, or EUR/MW2 where all share the constraint.
    most : (S, T, N)
        Most variance, MW2.
    needed : (S T,) or None
        Variance that hides all behind the price, MW2; None where everybody sees every report.
    noise : str
    """

    deviation: Numbers
    distance: Numbers
    variance: Numbers
    sensitivity: Numbers
    loss: Numbers
    price: Numbers
    most: Numbers
    needed: Numbers | None
    noise: str


def exploitability(truth: Truth, chosen: Chosen) -> Numbers:
    """Most that each could save by another report while the others keep theirs, (N,), EUR.

    Deviations and noise separate in (P2). That of deviations is exact. That of noise is a bound
    from weak duality, at the price of privacy: 0 proves that nobody could save anything.
    """
    return np.asarray(_by_deviating(truth, chosen) + _by_other_noise(truth, chosen))


def _by_deviating(truth: Truth, chosen: Chosen) -> Numbers:
    r"""What :math:`w_n \beta^2 + (Q_n/B - B_n T_{-n}/B^2) \beta` is above the least, (N,), EUR."""
    own, total = chosen.deviation, truth.total
    others = own.sum(axis=-1, keepdims=True) - own
    slope = truth.net_import / total - truth.response * others / total**2
    curvature = np.where(truth.answers, truth.noise_cost, 1.0)
    best = np.clip(-slope / (2 * curvature), -chosen.distance, chosen.distance)
    saved = curvature * (own**2 - best**2) + slope * (own - best)
    return truth.by_prosumer(np.where(truth.answers, saved, 0.0))


def _by_other_noise(truth: Truth, chosen: Chosen) -> Numbers:
    """Cost of her noise less the least that any within her bounds could cost."""
    cost = _flat(truth.weight * truth.noise_cost)
    variance = _flat(chosen.variance)
    if chosen.needed is None:
        return np.asarray((cost * variance).sum(axis=0) - _least_alone(cost, chosen))
    return np.asarray((cost * variance).sum(axis=0) - _least_shared(cost, variance, chosen))


def _least_alone(cost: Numbers, chosen: Chosen) -> Numbers:
    r""":math:`\sum_t \min_v [w_t v + \mu\, \mathrm{loss}_t(v)] - \mu A`, (N,), EUR."""
    sensitivity, price = _flat(chosen.sensitivity), chosen.price
    asked = np.where(np.isfinite(chosen.loss), chosen.loss, 0.0) * price
    if chosen.noise == "gaussian":
        return np.asarray((sensitivity * np.sqrt(2 * cost * price)).sum(axis=0) - asked)
    return np.asarray(cheapest_laplace(cost, sensitivity, price).sum(axis=0) - asked)


def _least_shared(cost: Numbers, variance: Numbers, chosen: Chosen) -> Numbers:
    r""":math:`\sum_t \min_v [w_t v + \mu s_t/(V_{-n} + v)] - \mu`, (N,), EUR, v within bounds."""
    assert chosen.needed is not None
    needed = chosen.needed[:, None]
    multiplier = chosen.price * float(needed.max())
    others = variance.sum(axis=-1, keepdims=True) - variance
    worth = np.sqrt(multiplier * needed / np.where(cost > 0, cost, 1.0))
    best = np.clip(worth - others, 0.0, _flat(chosen.most))
    hidden = needed / np.where(needed > 0, others + best, 1.0)
    return np.asarray((cost * best + multiplier * hidden).sum(axis=0) - multiplier)


def _flat(hourly: Numbers) -> Numbers:
    """(S, T, N) as (S T, N)."""
    return hourly.reshape(-1, hourly.shape[-1])
