"""How each method allocates what a market costs (MODEL.md §10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.studies.allocation import asking
from pypsa_p2p.studies.allocation.by_hour import ByHour
from pypsa_p2p.studies.allocation.core import least_core, nucleolus, variance_core
from pypsa_p2p.studies.allocation.games import Costs, Game, Orders, alone_of, savings
from pypsa_p2p.studies.allocation.shapley import shapley, shapley_drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What methods allocate from.

    Attributes
    ----------
    cost : mapping
        Of every known coalition, EUR.
    own, of_market : (N,)
        R_n, and that with payments for trades, EUR.
    weights : (N,)
    orders : (K, N) or None
        In which prosumers come together, where these are drawn.
    by_hour : ByHour or None
        What a rule by the hour makes everybody pay, where that is the method.
    """

    data: MarketData
    cost: Costs
    own: Vector
    of_market: Vector
    weights: Vector
    orders: Orders | None
    by_hour: ByHour | None

    @property
    def count(self) -> int:
        """N."""
        return len(self.own)

    @property
    def alone(self) -> Vector:
        """What everybody bears alone, (N,), EUR; NaN where coalitions have no cost."""
        return alone_of(self.cost, self.count)

    @property
    def game(self) -> Game:
        """What coalitions save."""
        return Game.of_values(savings(self.cost, self.count), self.count)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What everybody bears, (N,), EUR, and its standard error where orders were drawn."""

    cost: Vector
    error: Vector | None = None


def allocated(asked: Asked, method: str) -> Found:
    """What everybody bears by a method."""
    return _METHODS[method](asked)


def _by_saving(share: Callable[[Game], Vector]) -> Callable[[Asked], Found]:
    """A method that shares out what all save together."""
    return lambda asked: Found(cost=asked.alone - share(asked.game))


def _by_market(asked: Asked) -> Found:
    return Found(cost=asked.of_market)


def _by_shapley(asked: Asked) -> Found:
    value = savings(asked.cost, asked.count)
    if asked.orders is None:
        return Found(cost=asked.alone - shapley(value, asked.count))
    share, error = shapley_drawn(value, asked.orders)
    return Found(cost=asked.alone - share, error=error)


def _by_nash(asked: Asked) -> Found:
    r""":math:`y_n = w_n v(N) / \sum_m w_m`: what maximises :math:`\prod_n y_n^{w_n}`."""
    weights = asked.weights / asked.weights.sum()
    return Found(cost=asked.alone - weights * asked.game.total)


def _by_hour(asked: Asked) -> Found:
    assert asked.by_hour is not None, "payments are asked for with the method"
    return Found(cost=asked.by_hour.cost)


_METHODS: Final[Mapping[str, Callable[[Asked], Found]]] = {
    asking.MARKET: _by_market,
    asking.SHAPLEY: _by_shapley,
    asking.NUCLEOLUS: _by_saving(nucleolus),
    asking.LEAST_CORE: _by_saving(least_core),
    asking.VARIANCE_CORE: _by_saving(variance_core),
    asking.NASH: _by_nash,
    **dict.fromkeys(asking.BY_HOUR, _by_hour),
}
