r"""Risk measures: how a prosumer turns costs that differ by scenario into one figure (MODEL.md §3).

A coherent measure is the worst of many expectations: R[X] = max of :math:`\sum \tau X` over the
risk-adjusted probabilities :math:`\tau` of its *envelope*. What solves, certifies, reports, draws
and stores a market asks the measure for its envelope, for R and a :math:`\tau` that attains it, and
for its settings, and knows nothing else of it. Here the envelope is the box of `limits`; those that
are no boxes have a cover besides (`covers`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from inspect import isabstract
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, P2PError, listed
from pypsa_p2p.common.given import as_settings
from pypsa_p2p.common.names import PROSUMER, SCENARIO
from pypsa_p2p.common.values import is_hashable
from pypsa_p2p.markets.envelopes import Envelope, Matrix, Risk
from pypsa_p2p.solvers.tail import Tail

Limits = tuple[xr.DataArray, xr.DataArray]


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
        like = cost.transpose(SCENARIO, PROSUMER)
        return Risk.of(self.tail(like.to_numpy().T, probability, attitude), like)

    def tail(self, costs: Matrix, probability: xr.DataArray, attitude: xr.DataArray) -> Tail:
        """The same of costs, (N, S), without labels."""
        return self.envelope(probability, attitude).tail(costs)

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
            usable = {name for name, one in RiskMeasure.known.items() if not isabstract(one)}
            own = sorted(name for name in usable if "." not in name)
            raise MarketError(
                f"The market's risk measure, {settings['measure']}, is not defined here: import "
                f"the module that defines it first, or name one of {', '.join(own)}."
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
