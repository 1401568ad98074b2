"""Coherent risk measures whose envelopes are balls: relative entropy, and deviation (MODEL.md §3).

Each is one curve, `solvers.curves`. Everything else follows from it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from pypsa_p2p.common.given import Range
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.markets.risk import ByContent, Limits, RiskMeasure
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.solvers.cover import on_curve
from pypsa_p2p.solvers.curves import Curve, Deviation, RelativeEntropy


@dataclass(frozen=True)
class CurveMeasure(RiskMeasure):
    """A measure given by its `curve`; its value at risk means nothing and is NaN."""

    @abstractmethod
    def curve(self, probability: Vector) -> Curve | None:
        """What may be feared where scenarios have these probabilities, (S,); None: these only."""

    def limits(
        self,
        probability: xr.DataArray,
        attitude: xr.DataArray,
    ) -> Limits:
        """From 0 to 1: how far from the actual ones they may be is in the `curve`."""
        return 0 * probability, 1 + 0 * probability

    def _envelope(self, of_scenarios: ByContent, of_prosumers: ByContent) -> Envelope:
        whole = super()._envelope(of_scenarios, of_prosumers)
        curve = self.curve(whole.probability)
        if curve is None:
            only = np.broadcast_to(whole.probability, whole.least.shape)
            return replace(whole, least=only, most=only)
        if whole.probability.size == 1:
            return whole
        return replace(whole, covers=(on_curve(curve),) * whole.count)


@dataclass(frozen=True)
class KullbackLeibler(CurveMeasure):
    r"""The worst of all probabilities with :math:`\sum \tau \ln(\tau / p) \le \kappa`.

    .. math:: R[X] = \min_{t \ge 0} \; t \kappa + t \ln E\,e^{X / t}

    Parameters
    ----------
    radius : float
        :math:`\kappa \ge 0`, in nats; 0 leaves the expectation, and from
        :math:`-\ln \min p` on only the costliest scenario counts.

    Notes
    -----
    Ahmadi-Javid (2012); distributionally robust optimisation calls the envelope a ball of
    Kullback-Leibler divergence.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.KullbackLeibler(0.1), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> round(n.objective, 6)
    12.464582
    """

    radius: float

    def __post_init__(self) -> None:
        Range(0).require("KullbackLeibler: radius", self.radius)
        object.__setattr__(self, "radius", float(self.radius))

    def curve(self, probability: Vector) -> Curve | None:
        """The relative entropy."""
        return _entropy(probability, self.radius)


@dataclass(frozen=True)
class EntropicVaR(CurveMeasure):
    r"""Entropic value at risk, the least bound of its kind on CVaR at the same attitude.

    `KullbackLeibler` of the radius :math:`-\ln(1 - \chi)`; its envelope holds that of CVaR.

    Parameters
    ----------
    attitude : float
        :math:`\chi` in [0, 1); 0 is risk-neutral.

    Notes
    -----
    Ahmadi-Javid (2012).

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> costs = {}
    >>> for risk in (p2p.CVaR(0.3), p2p.EntropicVaR(0.3)):
    ...     _ = p2p.PeerToPeerMarket(risk=risk, surplus=False).optimize(n)
    ...     costs[type(risk).__name__] = round(n.objective, 4)
    >>> costs["CVaR"] < costs["EntropicVaR"]
    True
    """

    attitude: float

    def __post_init__(self) -> None:
        Range(0, 1, ends="[)").require("EntropicVaR: attitude", self.attitude)
        object.__setattr__(self, "attitude", float(self.attitude))

    def curve(self, probability: Vector) -> Curve | None:
        """The relative entropy."""
        return _entropy(probability, float(-np.log1p(-self.attitude)))


@dataclass(frozen=True)
class ChiSquare(CurveMeasure):
    r"""The worst of all probabilities with :math:`\sum (\tau - p)^2 / p \le \rho^2`.

    .. math:: R[X] = \min_{V \ge X} E[V] + \rho \, \sigma[V]

    The expectation and :math:`\rho` standard deviations, as long as all scenarios are weighed.

    Parameters
    ----------
    radius : float
        :math:`\rho \ge 0`; 0 leaves the expectation.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.ChiSquare(0.4), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> round(n.objective, 6)
    11.886659
    """

    radius: float

    def __post_init__(self) -> None:
        Range(0).require("ChiSquare: radius", self.radius)
        object.__setattr__(self, "radius", float(self.radius))

    def curve(self, probability: Vector) -> Curve | None:
        """The deviation."""
        return Deviation(probability=probability, radius=self.radius) if self.radius > 0 else None


def _entropy(probability: Vector, radius: float) -> Curve | None:
    return RelativeEntropy(probability=probability, radius=radius) if radius > 0 else None
