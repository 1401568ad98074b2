"""The risk-adjusted probabilities that prosumers may hold, and the worst of them (MODEL.md §3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import PROSUMER, SCENARIO
from pypsa_p2p.solvers.arrays import Labels, Vector
from pypsa_p2p.solvers.cover import Cover, box
from pypsa_p2p.solvers.cover import common as common_cover
from pypsa_p2p.solvers.tail import Tail, worst

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

    @classmethod
    def of(cls, tail: Tail, cost: xr.DataArray) -> Risk:
        """With the labels of costs whose dims are (scenario, prosumer)."""
        first = cost.isel({SCENARIO: 0}, drop=True)
        return cls(
            value=first.copy(data=tail.value),
            value_at_risk=first.copy(data=tail.value_at_risk),
            probability=cost.copy(data=tail.probability.reshape(cost.shape[::-1]).T),
        )


def by_cover(covers: Sequence[Cover | None]) -> Iterator[tuple[Cover, Labels]]:
    """Each different cover, and the places of those who have it."""
    whose: dict[int, tuple[Cover, list[int]]] = {}
    for place, own in enumerate(covers):
        if own is not None:
            whose.setdefault(id(own), (own, []))[1].append(place)
    for own, places in whose.values():
        yield own, np.array(places)


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
        if all(own is None for own in covers):
            covers = ()
        return replace(self, least=self.least[chosen], most=self.most[chosen], covers=covers)

    @property
    def common(self) -> Envelope:
        """What all prosumers may hold, as of one: it holds the actual probabilities."""
        least, most = self.least.max(axis=0), self.most.min(axis=0)
        shared = Envelope.between(least[None], most[None], self.probability)
        if not (self.covers and shared.averse):
            return shared
        different = [self.cover_of(place) for place in self.places_of_different]
        return replace(shared, covers=(common_cover(different),))

    @property
    def places_of_different(self) -> list[int]:
        """A prosumer for each envelope that somebody has, each once."""
        first: dict[object, int] = {}
        for place, (least, most) in enumerate(zip(self.least, self.most, strict=True)):
            own = self.covers[place] if self.covers else None
            first.setdefault(id(own) if own else least.tobytes() + most.tobytes(), place)
        return list(first.values())

    @property
    def hold_actual(self) -> bool:
        """Whether everybody may hold the actual probabilities."""
        if not self.covers:
            return True
        some = self.among(np.array(self.places_of_different))
        beyond = some.outside(np.tile(self.probability, (some.count, 1)))
        return bool((beyond <= ACCURACY.at_end).all())

    @property
    def dearest(self) -> Vector:
        """The most that 1 EUR in each scenario is worth to the first, (S,); NaN to nobody."""
        own = self.covers[0] if self.covers else None
        if own is None:
            return np.asarray(self.most[0])
        if own.empty:
            return np.full(self.probability.size, np.nan)
        return own.worst(np.identity(self.probability.size))[0]

    def cover_of(self, place: int) -> Cover:
        """Of one prosumer, also where it is a box."""
        own = self.covers[place] if self.covers else None
        return own or box(self.least[place], self.most[place])

    def tail(self, costs: Matrix) -> Tail:
        """The worst expectation of costs, (N, S), EUR: exactly, by sorting."""
        group = np.repeat(np.arange(len(costs)), costs.shape[1])
        found = worst(costs.ravel(), self.least.ravel(), self.most.ravel(), group)
        if not self.covers:
            return found
        value, level = found.value.copy(), found.value_at_risk.copy()
        tau = found.probability.reshape(costs.shape).copy()
        for cover, theirs in by_cover(self.covers):
            value[theirs], tau[theirs] = cover.worst(costs[theirs])
            level[theirs] = np.nan
        return Tail(value=value, value_at_risk=level, probability=tau.ravel())

    def outside(self, held: Matrix) -> Matrix:
        """How far probabilities, (N, S), are outside, relative to the actual ones."""
        beyond = np.maximum(self.least - held, held - self.most) / self.probability
        for cover, theirs in by_cover(self.covers):
            own = cover.outside(held[theirs], self.probability)
            beyond[theirs] = np.maximum(beyond[theirs], own[:, None])
        return np.maximum(beyond, 0.0)

    def worst(self, cost: xr.DataArray) -> Risk:
        """`tail` of costs with dims (scenario, prosumer)."""
        like = cost.transpose(SCENARIO, PROSUMER)
        return Risk.of(self.tail(like.to_numpy().T), like)
