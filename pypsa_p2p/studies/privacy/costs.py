"""What reports cost everybody: in one draw (P1), and expected (P2) (MODEL.md §11)."""

from __future__ import annotations

import numpy as np

from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.studies.privacy.truth import Truth


def cost_of_reports(truth: Truth, shift: Numbers) -> Numbers:
    r"""Expected true cost of each, (N,), EUR, where reports differ by `shift` from the truth (P1).

    .. math:: J_n = J_n^0 + Q_n^0 S - \tfrac12 B_n S^2 + \tilde a_n r_n^2, \qquad S = \sum_m r_m / B

    Parameters
    ----------
    truth : Truth
    shift : (S, T, N)
        r, MW.
    """
    heard = np.where(truth.answers, shift, 0.0)
    rise = heard.sum(axis=-1, keepdims=True) / truth.total
    paid = truth.net_import * rise - truth.response / 2 * rise**2
    return truth.cost + truth.by_prosumer(paid + truth.utility * heard**2)


def cost_of_deviations(truth: Truth, deviation: Numbers) -> Numbers:
    """What deviations add to everybody's cost without noise, (N,), EUR: (P1) less the truth."""
    return cost_of_reports(truth, deviation) - truth.cost


def cost_of_own_noise(truth: Truth, variance: Numbers) -> Numbers:
    r"""What her own noise costs each, :math:`w_n v_n`, (N,), EUR (P2)."""
    return truth.by_prosumer(truth.noise_cost * variance)


def cost_of_others_noise(truth: Truth, variance: Numbers) -> Numbers:
    r"""What the others' noise costs each, :math:`-B_n/(2 B^2) \sum_{m \ne n} v_m`, (N,), EUR (P2).

    Never positive: she buys more where their noise makes it cheap.
    """
    heard = np.where(truth.answers, variance, 0.0)
    others = heard.sum(axis=-1, keepdims=True) - heard
    return truth.by_prosumer(-truth.response / (2 * truth.total**2) * others)


def price_variance(truth: Truth, variance: Numbers) -> Numbers:
    """Variance of every nodal price, (S, T), (EUR/MWh)^2: of its shift S."""
    heard = np.where(truth.answers, variance, 0.0)
    return np.asarray(heard.sum(axis=-1) / truth.total[..., 0] ** 2)
