r"""Envelopes of probabilities at a distance from the actual ones that no linear program measures.

The risk of costs V is, for the relative entropy and for the deviation,

.. math::
    \min_{t \ge 0} \; t \kappa + t \ln \sum_\omega p_\omega e^{V_\omega / t}
    \qquad \text{and} \qquad E[V] + \rho \, \sigma[V],

the second of costs V no less than the actual ones, so that more cost is never less risk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import clarabel
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Sparse, Vector

Matrix = npt.NDArray[np.float64]

_HALVINGS = 200  # of an interval, to below rounding


class Model(NamedTuple):
    r"""Second order of a risk at costs V0, at which it is homogeneous.

    .. math:: C(V) \approx g'V + \tfrac12 \min_{m, s}
        \sum_\omega q_\omega (V_\omega - m - s u_\omega)^2

    Attributes
    ----------
    gradient, stiffness, along : (S,)
        g, q and u.
    """

    gradient: Vector
    stiffness: Vector
    along: Vector


class Cones(NamedTuple):
    """Lines matrix @ (V, added variables) + offset in cones; what the added variables cost."""

    matrix: Sparse
    offset: Vector
    cones: list[Any]
    price: Vector
    of_costs: Vector


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve(ABC):
    """An envelope: how far, at most, from which probabilities.

    Attributes
    ----------
    probability : (S,)
    radius : float
        Above 0.
    """

    probability: Vector
    radius: float

    @abstractmethod
    def worst(self, costs: Matrix) -> tuple[Vector, Matrix]:
        """R of costs, (N, S), and probabilities of the envelope that attain it, (N, S)."""

    @abstractmethod
    def distance(self, tau: Matrix) -> Vector:
        """Of probabilities, (N, S), from the actual ones, (N,); convex in them."""

    @abstractmethod
    def model(self, costs: Vector) -> Model | None:
        """Second order at costs, (S,); None where there is none: only the largest counts."""

    @abstractmethod
    def cones(self) -> Cones:
        """R as a cone program in costs V, (S,), and added variables."""

    @abstractmethod
    def normal(self, tau: Vector) -> Vector:
        """The outward slope of the distance at probabilities, (S,), up to a constant."""

    def outside(self, tau: Matrix, unit: Vector) -> Vector:
        """How far probabilities, (N, S), are from the envelope, in `unit`, (S,): no more, (N,).

        By how much they have to be drawn towards the actual ones.
        """
        far = self.distance(np.maximum(tau, 0.0))
        beyond = np.maximum(0.0, 1.0 - self.radius / np.maximum(far, self.radius))
        drawn = beyond * (np.abs(tau - self.probability) / unit).max(axis=1)
        return np.asarray(np.maximum(drawn, (-tau / unit).max(axis=1)))

    def raised(self, costs: Vector, tau: Vector) -> Vector:
        """The most that costs, (S,), may be with the same worst probabilities and risk.

        Where only the largest counts all others may be as large.
        """
        others = tau <= ACCURACY.no_share * self.probability
        return np.where(others & self._only_largest(costs), costs.max(), costs)

    @abstractmethod
    def _only_largest(self, costs: Vector) -> bool:
        """Whether probabilities of the largest costs alone, (S,), are in the envelope."""

    def _on_top(self, costs: Vector) -> float:
        """The probability of the largest costs, as exactly as they are known."""
        near = ACCURACY.settled * max(1.0, float(np.abs(costs).max(initial=0.0)))
        return float(self.probability[costs >= costs.max() - near].sum())

    def directions(self, tau: Vector) -> Matrix:
        """Costs of which probabilities are the worst: 1 times any, and this times any t >= 0."""
        one = np.ones((tau.size, 1))
        near = self.radius - self.distance(tau[None])[0] <= ACCURACY.promised * self.radius
        if not near or not np.isfinite(slope := self.normal(tau)).all():
            return one
        return np.hstack([one, slope[:, None]])


@dataclass(frozen=True, kw_only=True, eq=False)
class RelativeEntropy(Curve):
    r""":math:`\sum \tau \ln(\tau / p) \le \kappa`."""

    def worst(self, costs: Matrix) -> tuple[Vector, Matrix]:
        r""":math:`\tau \propto p e^{V / t}`, as steep as the radius lets it be."""
        tau = self._tilted(costs, self._steepness(costs))
        return (tau * costs).sum(axis=1), tau

    def distance(self, tau: Matrix) -> Vector:
        r""":math:`\sum \tau \ln(\tau / p)`."""
        ratio = np.maximum(tau / self.probability, ACCURACY.tiny)
        return np.asarray((tau * np.log(ratio)).sum(axis=1))

    def model(self, costs: Vector) -> Model | None:
        r"""Of the cost's perspective: :math:`q = \tau / t`, :math:`u = V`."""
        steepness = self._steepness(costs[None])
        if self._only_largest(costs) or not 0.0 < steepness[0] * ACCURACY.solver_gap < 1.0:
            return None
        tau = self._tilted(costs[None], steepness)[0]
        size = np.ptp(costs)
        middle = costs - tau @ costs
        return Model(gradient=tau, stiffness=tau * steepness[0] / size, along=middle / size)

    def cones(self) -> Cones:
        r""":math:`t e^{(V - r) / t} \le w`, :math:`\sum p w \le t`; :math:`r + \kappa t`."""
        count = self.probability.size
        place = np.arange(count)
        t, r, w = count, count + 1, count + 2 + place
        total = sp.csr_matrix(
            (np.append(1.0, -self.probability), (np.zeros(count + 1, int), np.append(t, w))),
            shape=(1, 2 * count + 2),
        )
        ones = np.ones(count)
        each = sp.csr_matrix(
            (
                np.concatenate([ones, -ones, ones, ones]),
                (
                    np.concatenate([3 * place, 3 * place, 3 * place + 1, 3 * place + 2]),
                    np.concatenate([place, np.full(count, r), np.full(count, t), w]),
                ),
            ),
            shape=(3 * count, 2 * count + 2),
        )
        return Cones(
            matrix=sp.vstack([total, each], format="csr"),
            offset=np.zeros(3 * count + 1),
            cones=[clarabel.NonnegativeConeT(1)] + [clarabel.ExponentialConeT()] * count,
            price=np.concatenate([[self.radius, 1.0], np.zeros(count)]),
            of_costs=np.zeros(count),
        )

    def normal(self, tau: Vector) -> Vector:
        r""":math:`\ln(\tau / p)`."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(tau / self.probability))

    def _only_largest(self, costs: Vector) -> bool:
        return bool(-np.log(self._on_top(costs)) <= self.radius)

    def _steepness(self, costs: Matrix) -> Vector:
        """1 / t where the range of costs, (N, S), is 1; 0 where it is 0, inf in the worst case."""
        reach = np.ptp(costs, axis=1)
        top = costs == costs.max(axis=1, keepdims=True)
        certain = -np.log((self.probability * top).sum(axis=1)) <= self.radius
        high = np.full(len(costs), -np.log(ACCURACY.solver_gap))
        low = -high
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            short = self.distance(self._tilted(costs, np.exp(middle))) < self.radius
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return np.where(reach > 0.0, np.where(certain, np.inf, np.exp(high)), 0.0)

    def _tilted(self, costs: Matrix, steepness: Vector) -> Matrix:
        """Probabilities proportional to p times e to the costs, (N, S), so steep, (N,)."""
        below = costs - costs.max(axis=1, keepdims=True)
        reach = np.maximum(np.ptp(costs, axis=1), ACCURACY.tiny)
        with np.errstate(invalid="ignore"):
            power = np.where(below < 0.0, below / reach[:, None] * steepness[:, None], 0.0)
        weight = self.probability * np.exp(power)
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Deviation(Curve):
    r""":math:`\sum (\tau - p)^2 / p \le \rho^2`."""

    def worst(self, costs: Matrix) -> tuple[Vector, Matrix]:
        r""":math:`\tau = p (V - f) / E[V - f]`, V = max(X, f), if anything is not weighed.

        The level f is such that :math:`\rho E[V - f] = \sigma[V]`; it may lie below all costs.
        """
        p, top = self.probability, costs.max(axis=1)
        mean = costs @ p
        spread = np.sqrt(np.maximum(((costs - mean[:, None]) ** 2) @ p, 0.0))
        low, high = np.minimum(costs.min(axis=1), mean - spread / self.radius), top.copy()
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            above = np.maximum(costs - middle[:, None], 0.0)
            first, second = above @ p, (above**2) @ p
            short = (1.0 + self.radius**2) * first**2 >= second
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        above = np.maximum(costs - low[:, None], 0.0)
        at_top = p * (costs == top[:, None])
        largest = 1.0 / at_top.sum(axis=1) - 1.0 <= self.radius**2
        weight = np.where(largest[:, None], at_top, p * above)
        weight = np.where(weight.any(axis=1, keepdims=True), weight, p)
        tau = weight / weight.sum(axis=1, keepdims=True)
        return (tau * costs).sum(axis=1), tau

    def distance(self, tau: Matrix) -> Vector:
        r"""The root of :math:`\sum (\tau - p)^2 / p`."""
        return np.asarray(np.sqrt(((tau - self.probability) ** 2 / self.probability).sum(axis=1)))

    def model(self, costs: Vector) -> Model | None:
        r""":math:`q = \rho p / \sigma`, :math:`u = (V - E V) / \sigma`."""
        p = self.probability
        apart = costs - p @ costs
        spread = float(np.sqrt(p @ apart**2))
        if self._only_largest(costs):
            return None
        along = apart / spread
        stiff = self.radius * p
        return Model(gradient=p + stiff * along, stiffness=stiff / spread, along=along)

    def cones(self) -> Cones:
        r""":math:`s \ge |\sqrt p (V - m)|`; it costs :math:`E[V] + \rho s`."""
        p = self.probability
        root = np.sqrt(p)[:, None]
        head = sp.csr_matrix(([1.0], ([0], [p.size])), shape=(1, p.size + 2))
        rest = sp.hstack([sp.diags(root.ravel()), sp.csr_matrix((p.size, 1)), -root])
        return Cones(
            matrix=sp.vstack([head, rest], format="csr"),
            offset=np.zeros(p.size + 1),
            cones=[clarabel.SecondOrderConeT(p.size + 1)],
            price=np.array([self.radius, 0.0]),
            of_costs=p,
        )

    def normal(self, tau: Vector) -> Vector:
        r""":math:`\tau / p - 1`."""
        return np.asarray(tau / self.probability - 1.0)

    def _only_largest(self, costs: Vector) -> bool:
        return bool(1.0 / self._on_top(costs) - 1.0 <= self.radius**2)
