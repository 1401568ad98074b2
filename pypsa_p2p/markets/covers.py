"""Coherent risk measures whose envelopes are polytopes, but no boxes (MODEL.md §3).

Each is one linear program, its `cover`. Everything else follows from it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, shown
from pypsa_p2p.common.given import ByName, Range
from pypsa_p2p.common.names import SCENARIO
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.markets.risk import ByContent, Limits, RiskMeasure
from pypsa_p2p.markets.scenario_tables import Table, in_order, read_table
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.solvers.cover import Cover, cover
from pypsa_p2p.solvers.transport import transport

_SHARE: Final = Range(0, 1)


@dataclass(frozen=True)
class PolytopeMeasure(RiskMeasure):
    """A measure given by its `cover`; its value at risk means nothing and is NaN."""

    @abstractmethod
    def cover(self, probability: Vector) -> Cover:
        """What covers costs in scenarios of these probabilities, (S,)."""

    @property
    def neutral(self) -> bool:
        """Whether nothing but the actual probabilities is feared."""
        return False

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Limits:
        """From 0 to 1: what else they must be is in the `cover`."""
        return 0 * probability, 1 + 0 * probability

    def _envelope(self, of_scenarios: ByContent, of_prosumers: ByContent) -> Envelope:
        box = super()._envelope(of_scenarios, of_prosumers)
        own = self.on(of_scenarios.array.indexes[SCENARIO])
        if own.neutral:
            only = np.broadcast_to(box.probability, box.least.shape)
            return replace(box, least=only, most=only)
        if box.probability.size == 1:
            return box
        return replace(box, covers=(own.cover(box.probability),) * box.count)

    def on(self, scenarios: pd.Index) -> PolytopeMeasure:
        """The measure with what it knows of each scenario in the order of these.

        Raises
        ------
        MarketError
            It is not of these scenarios.
        """
        return self


@dataclass(frozen=True)
class Spectral(PolytopeMeasure):
    r"""A mixture of CVaR at several attitudes, :math:`\sum_k w_k \mathrm{CVaR}_{\chi_k}`.

    Parameters
    ----------
    weights : mapping from attitudes to weights
        :math:`\chi_k` in [0, 1], of which 1 is the worst case, to :math:`w_k \ge 0` that sum to 1.

    Notes
    -----
    Kusuoka (2001), Acerbi (2002).

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.Spectral({0: 0.5, 0.6: 0.5}), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> round(n.objective, 6)
    12.959882
    """

    weights: Mapping[float, float]

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Mapping) or not self.weights:
            raise MarketError(
                "Spectral: weights must be a mapping from attitudes to weights, as "
                f"{{0: 0.5, 0.6: 0.5}}, not {shown(self.weights)}."
            )
        kept = {}
        for given, weight in self.weights.items():
            attitude = _number("Spectral: attitude", given)
            _SHARE.require("Spectral: attitude", attitude)
            _SHARE.require(f"Spectral: weight of attitude {attitude:g}", weight)
            kept[attitude] = float(weight)
        if abs(sum(kept.values()) - 1.0) > ACCURACY.tied:
            raise MarketError(f"Spectral: weights must sum to 1, not {sum(kept.values()):g}.")
        object.__setattr__(self, "weights", ByName(kept))

    @property
    def neutral(self) -> bool:
        """Whether attitude 0 has all the weight."""
        return not any(weight for attitude, weight in self.weights.items() if attitude > 0)

    def cover(self, probability: Vector) -> Cover:
        r"""For each k a level :math:`\eta_k`, and what exceeds it: (25)."""
        return _mixture(self.weights, probability)


@dataclass(frozen=True)
class TotalVariation(PolytopeMeasure):
    r"""The worst of all probabilities with :math:`\frac12 \|\tau - p\|_1 \le \rho`.

    It is :math:`\rho \max X + (1 - \rho) \mathrm{CVaR}_\rho`.

    Parameters
    ----------
    radius : float
        :math:`\rho` in [0, 1): the share of probability that may be moved.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.TotalVariation(0.2), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> round(n.objective, 6)
    12.351547
    """

    radius: float

    def __post_init__(self) -> None:
        Range(0, 1, ends="[)").require("TotalVariation: radius", self.radius)
        object.__setattr__(self, "radius", float(self.radius))

    @property
    def neutral(self) -> bool:
        """Whether nothing may be moved."""
        return self.radius == 0

    def cover(self, probability: Vector) -> Cover:
        """That of the mixture."""
        return _mixture({self.radius: 1.0 - self.radius, 1.0: self.radius}, probability)


@dataclass(frozen=True)
class Semideviation(PolytopeMeasure):
    r"""The expectation and a share of what exceeds it, :math:`E X + c\,E(X - E X)^+`.

    Parameters
    ----------
    weight : float
        c in [0, 1].

    Notes
    -----
    Ogryczak and Ruszczynski (1999), of first order.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.Semideviation(0.8), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> round(n.objective, 6)
    11.561214
    """

    weight: float

    def __post_init__(self) -> None:
        _SHARE.require("Semideviation: weight", self.weight)
        object.__setattr__(self, "weight", float(self.weight))

    @property
    def neutral(self) -> bool:
        """Whether what exceeds the expectation does not count."""
        return self.weight == 0

    def cover(self, probability: Vector) -> Cover:
        """No less than the expectation, and what exceeds it."""
        count = probability.size
        return cover(
            np.vstack([probability, np.identity(count)]),
            np.block([[1.0, np.zeros(count)], [np.ones((count, 1)), np.identity(count)]]),
            np.append(1.0, self.weight * probability),
            np.arange(count + 1) == 0,
        )


@dataclass(frozen=True)
class Wasserstein(PolytopeMeasure):
    r"""The worst of all probabilities to which p can be moved at a cost of at most :math:`\rho`.

    .. math:: \min_{\pi \ge 0} \sum c_{\omega\omega'} \pi_{\omega\omega'} \le \rho, \quad
        \sum_{\omega'} \pi_{\omega\omega'} = p_\omega, \quad
        \sum_\omega \pi_{\omega\omega'} = \tau_{\omega'}

    Parameters
    ----------
    radius : float
        :math:`\rho`, at least 0, in the unit of the distance.
    distance : table, (scenario, scenario), optional
        c, nonnegative, 0 on the diagonal, from scenarios in rows to those in columns: a DataFrame,
        a DataArray or a mapping of mappings by their names; any array in the network's order.
        Default: how many places apart they stand in that order, :math:`|i - j|`, which suits
        scenarios sorted by what makes them differ.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.Wasserstein(0.4), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> round(n.objective, 6)
    15.043795
    """

    radius: float
    distance: Table | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        Range(0).require("Wasserstein: radius", self.radius)
        object.__setattr__(self, "radius", float(self.radius))
        if self.distance is None:
            return
        kept, table = read_table("Wasserstein: distance", self.distance, square=True)
        if table.shape[0] != table.shape[1] or (table < 0).any() or table.diagonal().any():
            raise MarketError(
                "Wasserstein: distance must be a square table of nonnegative numbers, scenario by "
                "scenario, with 0 on the diagonal."
            )
        object.__setattr__(self, "distance", kept)

    def on(self, scenarios: pd.Index) -> Wasserstein:
        """With the distances in the order of these scenarios."""
        if self.distance is None:
            return self
        ordered = in_order("Wasserstein: distance", self.distance, scenarios)
        return replace(self, distance=ordered)

    @property
    def neutral(self) -> bool:
        """Whether nothing may be moved, as scenarios are apart."""
        table = () if self.distance is None else self.distance
        zeros = sum(value == 0 for row in table for value in row)
        return self.radius == 0 and zeros == len(table)

    def cover(self, probability: Vector) -> Cover:
        """What the actual probabilities are moved to at the least price."""
        place = np.arange(probability.size, dtype=float)
        distance = np.abs(place[:, None] - place)
        if self.distance is not None:
            distance = np.array(self.distance)
        return transport(distance, self.radius, probability)


@dataclass(frozen=True)
class Ambiguity(PolytopeMeasure):
    """The worst of several beliefs, and of what lies between them.

    Parameters
    ----------
    vertices : table, (belief, scenario)
        Probabilities, each row summing to 1: a DataFrame, a DataArray or mappings by the names of
        scenarios, or any array in the network's order of them. Where the network's own
        probabilities are not among their mixtures, the measure may lie below the expectation.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> risk = p2p.Ambiguity([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]])
    >>> p2p.PeerToPeerMarket(risk=risk).optimize(n)
    ('ok', 'optimal')
    """

    vertices: Table

    def __post_init__(self) -> None:
        kept, table = read_table("Ambiguity: vertices", self.vertices)
        if (table < 0).any() or (np.abs(table.sum(axis=1) - 1.0) > ACCURACY.tied).any():
            raise MarketError(
                "Ambiguity: vertices must be rows of probabilities, nonnegative and summing to 1."
            )
        object.__setattr__(self, "vertices", kept)

    def on(self, scenarios: pd.Index) -> Ambiguity:
        """With the beliefs in the order of these scenarios."""
        return replace(self, vertices=in_order("Ambiguity: vertices", self.vertices, scenarios))

    def cover(self, probability: Vector) -> Cover:
        """No less than the expectation under each belief."""
        table = np.array(self.vertices)
        return cover(table, np.ones((len(table), 1)), [1.0], [True])


def _mixture(weights: Mapping[float, float], probability: Vector) -> Cover:
    r"""Of :math:`\sum_k w_k \mathrm{CVaR}_{\chi_k}`: at 1, the worst case, nothing exceeds it."""
    attitude, weight = np.array([pair for pair in weights.items() if pair[1] > 0.0]).T
    exceeded = attitude < 1.0
    each, one = np.identity(attitude.size), np.identity(probability.size)
    levels = np.kron(each, np.ones((probability.size, 1)))
    excess = np.kron(each[:, exceeded], one)
    of_excess = weight[exceeded] / (1.0 - attitude[exceeded])
    return cover(
        np.tile(one, (attitude.size, 1)),
        np.hstack([levels, excess]),
        np.append(weight, np.kron(of_excess, probability)),
        np.arange(levels.shape[1] + excess.shape[1]) < attitude.size,
    )


def _number(what: str, value: Any) -> float:
    """A number, also as text: attitudes are keys of what a network keeps."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MarketError(f"{what} {shown(value)} must be a number in [0, 1].") from None
