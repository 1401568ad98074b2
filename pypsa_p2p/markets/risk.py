r"""Risk measures: how a prosumer turns costs that differ by scenario into one figure (MODEL.md §3).

A coherent measure is the worst of many expectations: R[X] = max of :math:`\sum \tau X` over the
risk-adjusted probabilities :math:`\tau` of its *envelope*. What solves, certifies, reports, draws
and stores a market asks the measure for its envelope, for R and a :math:`\tau` that attains it, and
for its settings, and knows nothing else of it. Here the envelope is the box of `limits`. (A measure
whose envelope is no box has such limits too; what else the solvers need to know of it follows from
:math:`R[\Pi] = \min_y \{\max_\omega(\Pi - y) + R[y]\}`: whoever has one is a prosumer with
`WorstCase` who privately buys cover y at the cost R[y].)
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, P2PError, listed
from pypsa_p2p.common.given import as_settings
from pypsa_p2p.common.names import PROSUMER, SCENARIO
from pypsa_p2p.common.values import is_hashable
from pypsa_p2p.solvers.arrays import Labels, Vector
from pypsa_p2p.solvers.cover import Cover
from pypsa_p2p.solvers.tail import Tail, worst

Limits = tuple[xr.DataArray, xr.DataArray]
Matrix = npt.NDArray[np.float64]


class Risk(NamedTuple):
    """What a measure makes of costs.

    Attributes
    ----------
    value : DataArray (prosumer)
        R, EUR.
    value_at_risk : DataArray (prosumer)
        The least cost that counts for more than it must, EUR.
    probability : DataArray (scenario, prosumer)
        A risk-adjusted probability that attains R.
    """

    value: xr.DataArray
    value_at_risk: xr.DataArray
    probability: xr.DataArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Envelope:
    """The risk-adjusted probabilities that prosumers may hold: least and most of each.

    Attributes
    ----------
    least, most : (N, S)
    probability : (S,)
        The actual ones, which lie between them.
    covers : (N,) or ()
        What else they must be, where somebody's are no box; None of whose are one.
    """

    least: Matrix
    most: Matrix
    probability: Vector
    covers: tuple[Cover | None, ...] = ()

    @classmethod
    def between(cls, least: Matrix, most: Matrix, probability: Vector) -> Envelope:
        """The envelope; only p itself where, summing to 1, it can hold nothing else."""
        p, rounding = probability, ACCURACY.rounding
        free = (least.sum(axis=1) < 1 - rounding) & (most.sum(axis=1) > 1 + rounding)
        free = free[:, None] & (p.size > 1)
        return cls(
            least=np.where(free & (least < p), least, p),
            most=np.where(free & (most > p), most, p),
            probability=probability,
        )

    @property
    def count(self) -> int:
        """How many prosumers it is of."""
        return len(self.least)

    @property
    def averse(self) -> bool:
        """Whether anybody's risk-adjusted probabilities may differ from the actual ones."""
        return bool((self.most > self.least).any())

    @property
    def alike(self) -> bool:
        """Whether all prosumers have the same."""
        same = all(own is self.covers[0] for own in self.covers)
        return same and all(bool((end == end[0]).all()) for end in (self.least, self.most))

    @property
    def of_first(self) -> Envelope:
        """That of the first prosumer, alone."""
        return self.among(np.arange(1))

    def among(self, chosen: Labels) -> Envelope:
        """That of some prosumers."""
        covers = tuple(self.covers[place] for place in chosen) if self.covers else ()
        return replace(self, least=self.least[chosen], most=self.most[chosen], covers=covers)

    @property
    def common(self) -> Envelope:
        """What all prosumers may hold, as of one: it holds the actual probabilities."""
        least, most = self.least.max(axis=0), self.most.min(axis=0)
        return Envelope.between(least[None], most[None], self.probability)

    def tail(self, costs: Matrix) -> Tail:
        """The worst expectation of costs, (N, S), EUR: exactly, by sorting."""
        group = np.repeat(np.arange(len(costs)), costs.shape[1])
        found = worst(costs.ravel(), self.least.ravel(), self.most.ravel(), group)
        if not self.covers:
            return found
        value, level = found.value.copy(), found.value_at_risk.copy()
        tau = found.probability.reshape(costs.shape).copy()
        for cover, theirs in self._covered():
            value[theirs], tau[theirs] = cover.worst(costs[theirs])
            level[theirs] = np.nan
        return Tail(value=value, value_at_risk=level, probability=tau.ravel())

    def outside(self, held: Matrix) -> Matrix:
        """How far probabilities, (N, S), are outside, relative to the actual ones."""
        beyond = np.maximum(self.least - held, held - self.most) / self.probability
        for cover, theirs in self._covered():
            own = cover.outside(held[theirs], self.probability)
            beyond[theirs] = np.maximum(beyond[theirs], own[:, None])
        return np.maximum(beyond, 0.0)

    def _covered(self) -> Iterator[tuple[Cover, Labels]]:
        """Each different cover, and the places of those who have it."""
        whose: dict[int, list[int]] = {}
        for place, own in enumerate(self.covers):
            if own is not None:
                whose.setdefault(id(own), []).append(place)
        for places in whose.values():
            found = self.covers[places[0]]
            assert found is not None
            yield found, np.array(places)

    def worst(self, cost: xr.DataArray) -> Risk:
        """`tail` of costs with dims (scenario, prosumer)."""
        like = cost.transpose(SCENARIO, PROSUMER)
        found = self.tail(like.to_numpy().T)
        first = like.isel({SCENARIO: 0}, drop=True)
        return Risk(
            value=first.copy(data=found.value),
            value_at_risk=first.copy(data=found.value_at_risk),
            probability=like.copy(data=found.probability.reshape(self.least.shape).T),
        )


class ByContent:
    """An array along one dim that equals another of the same labels and numbers."""

    def __init__(self, array: xr.DataArray) -> None:
        self.array = array
        self._content = (array.to_numpy().tobytes(), *map(tuple, array.indexes.values()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByContent) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


@lru_cache(maxsize=64)  # more than a sweep asks for before it solves the first
def _remembered(measure: RiskMeasure, of_scenarios: ByContent, of_prosumers: ByContent) -> Envelope:
    return measure._envelope(of_scenarios, of_prosumers)


_KEPT = (
    "its fields must be numbers, text, or tuples and dicts by text of them, and all it is made "
    "from, so that a solved network can keep it"
)


def _restored(value: Any) -> Any:
    """A field's value from what JSON made of it: lists were tuples."""
    if isinstance(value, list):
        return tuple(map(_restored, value))
    if isinstance(value, Mapping):
        return {name: _restored(one) for name, one in value.items()}
    return value


def _along(end: Any, like: xr.DataArray) -> Matrix:
    """The numbers of a limit along all dims of `like`."""
    dims = [dim for dim in like.dims if dim in getattr(end, "dims", ())]
    fits = len(dims) == getattr(end, "ndim", -1) and all(
        like.indexes[dim].equals(end.indexes.get(dim)) for dim in dims
    )
    if not fits:
        end, dims = end + 0 * like, list(like.dims)
    shape = [like.sizes[dim] if dim in dims else 1 for dim in like.dims]
    values = end.transpose(*dims).to_numpy().astype(float).reshape(shape)
    return np.asarray(np.broadcast_to(values, like.shape))


def _name(kind: type[RiskMeasure]) -> str:
    own = kind.__module__.split(".")[0] == __name__.split(".")[0]
    return kind.__name__ if own else f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True)
class RiskMeasure(ABC):
    """A coherent risk measure: the worst expectation over an envelope of probabilities.

    Write a frozen dataclass with one method, `limits`, and pass an instance as ``risk=``: every
    market solves with it, and everything that is done with markets knows it.

    Examples
    --------
    Nobody fears a scenario more than twice as much as it is likely:

    >>> from dataclasses import dataclass
    >>> import pypsa_p2p as p2p
    >>> @dataclass(frozen=True)
    ... class AtMostTwice(p2p.RiskMeasure):
    ...     def limits(self, probability, attitude):
    ...         return 0 * probability, 2 * probability
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=AtMostTwice(), surplus=False).optimize(n)
    ('ok', 'optimal')
    """

    #: Measures that can be read back from a solved network, by the name their settings have.
    known: ClassVar[dict[str, type[RiskMeasure]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        RiskMeasure.known[_name(cls)] = cls

    @abstractmethod
    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Limits:
        """Least and most risk-adjusted probability of every scenario.

        Parameters
        ----------
        probability : DataArray (scenario)
        attitude : DataArray (prosumer)
            The ``risk_attitude`` of the network's prosumers; many measures have no use for it.

        Returns
        -------
        least, most : DataArray
            Dims scenario, prosumer, or both; between them lies `probability`.
        """

    @property
    def label(self) -> str:
        """What pictures call R."""
        return "risk-adjusted cost"

    def envelope(self, probability: xr.DataArray, attitude: xr.DataArray) -> Envelope:
        """Every prosumer's; only p itself where nothing is uncertain.

        One market asks for it again and again: the last few answers are remembered.

        Raises
        ------
        MarketError
            The limits leave p out.
        """
        asked = ByContent(probability), ByContent(attitude)
        return _remembered(self, *asked) if is_hashable(self) else self._envelope(*asked)

    def _envelope(self, of_scenarios: ByContent, of_prosumers: ByContent) -> Envelope:
        """What `limits` makes of probabilities and attitudes."""
        probability, attitude = of_scenarios.array, of_prosumers.array
        p, shape = probability.to_numpy()[:, None], (probability.size, attitude.size)
        labels = {
            SCENARIO: probability.indexes[SCENARIO],
            PROSUMER: attitude.indexes[PROSUMER],
        }
        like = xr.DataArray(np.broadcast_to(p, shape), coords=labels)
        least, most = self._checked_limits(probability, attitude, like)
        most = np.where(most < np.inf, most, 1.0)  # no limit
        slack = ACCURACY.rounding
        inside = (least >= 0) & (least <= p * (1 + slack)) & (most >= p * (1 - slack))
        if not inside.all():
            where = ~inside.all(axis=1)
            raise MarketError(
                f"{type(self).__name__}: in scenario {listed(like.indexes[SCENARIO][where])} the "
                "probability lies outside its limits: the least must be between 0 and the "
                "probability, the most no less than that."
            )
        return Envelope.between(least.T, most.T, p.ravel())

    def _checked_limits(
        self, probability: xr.DataArray, attitude: xr.DataArray, like: xr.DataArray
    ) -> list[Matrix]:
        """What `limits` returns, along the dims of `like`."""
        try:
            ends = [_along(end, like) for end in self.limits(probability, attitude)]
        except P2PError:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            ends, why = [], f" ({error})"
        else:
            why = ""
        if len(ends) != 2 or any(end.shape != like.shape or np.isnan(end).any() for end in ends):
            raise MarketError(
                f"{type(self).__name__}: limits must return two DataArrays of numbers, least and "
                f"most, with a value for every scenario, or every scenario and prosumer{why}."
            )
        return ends

    def require_kept(self) -> None:
        """Refuse fields from which a solved network could not make the measure again.

        Raises
        ------
        MarketError
        """
        try:
            again = RiskMeasure.of(json.loads(json.dumps(self.settings())))
        except (TypeError, ValueError) as error:
            raise MarketError(f"{type(self).__name__}: {_KEPT}; {error}.") from error
        if again != self:
            raise MarketError(f"{type(self).__name__}: {_KEPT}; read again it is {again!r}.")

    def worst(self, cost: xr.DataArray, probability: xr.DataArray, attitude: xr.DataArray) -> Risk:
        """R of costs, EUR, and what attains it; `cost` has dims (scenario, prosumer)."""
        return self.envelope(probability, attitude).worst(cost)

    def settings(self) -> dict[str, Any]:
        """What `of` makes the measure from again: plain values that survive netCDF."""
        given = {field.name: as_settings(getattr(self, field.name)) for field in fields(self)}
        return {**given, "measure": _name(type(self))}

    @staticmethod
    def of(settings: Mapping[str, Any]) -> RiskMeasure:
        """The measure with these `settings`.

        Raises
        ------
        MarketError
            No class of that name has been defined; nothing is imported to look for one. (Define
            yours in a module that a later script can import.)
        """
        kind = RiskMeasure.known.get(settings["measure"])
        if kind is None:
            raise MarketError(
                f"The market's risk measure, {settings['measure']}, is not defined here: import "
                "the module that defines it first."
            )
        given = {name: _restored(value) for name, value in settings.items() if name != "measure"}
        return kind(**given)


@dataclass(frozen=True)
class Expectation(RiskMeasure):
    """The expected cost, risk-neutral: what ``risk=None`` means."""

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Limits:
        """The probabilities themselves."""
        return probability, probability


@dataclass(frozen=True)
class WorstCase(RiskMeasure):
    r"""The cost of the costliest scenario: CVaR at an attitude of :math:`1-\min p` or more.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=WorstCase(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> round(n.objective, 6)
    18.161446
    """

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Limits:
        """From 0 to 1."""
        return 0 * probability, 1 + 0 * probability


#: The measure that leaves probabilities alone.
NEUTRAL = Expectation()
