"""The units agents play in: the game's own, so that they play alike in whatever the user's are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.units import Units, typical
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.equilibrium.running import Run


@dataclass(frozen=True, kw_only=True)
class GameUnits(Units):
    """What 1 stands for among agents.

    Attributes
    ----------
    power : float
        MW.
    money : float
        EUR.
    hours : float
        h, of one snapshot.
    """

    hours: float = 1.0

    @property
    def hourly_price(self) -> float:
        """EUR/MWh."""
        return self.price / self.hours

    @property
    def curvature(self) -> float:
        """EUR/MW2h: a typical price over a typical power."""
        return self.hourly_price / self.power

    def powers(self, values: Array) -> Array:
        """MW in the agents' units."""
        return _seen(values / self.power)

    def prices(self, values: Array) -> Array:
        """EUR/MWh in the agents' units."""
        return _seen(values / self.hourly_price)

    def curvatures(self, values: Array) -> Array:
        """EUR/MW2h in the agents' units."""
        return _seen(values / self.curvature)

    def setting(self, value: float) -> float:
        """A setting in EUR/MW2h in the agents' units; above 0, it stays there however small."""
        return float(_seen(np.asarray(value / self.curvature), typical_size=0.0))


def _seen(values: Array, typical_size: float = 1.0) -> Array:
    """Values rounded, so that what the user's units left in them by rounding does not show.

    Which way a prosumer goes who is indifferent, and when a search ends, may turn on that.
    """
    _, exponent = np.frexp(np.maximum(typical_size, np.abs(values)))
    step = np.ldexp(ACCURACY.told_apart, exponent)
    return np.asarray(np.rint(values / step) * step)


def units_of(game: Game) -> GameUnits:
    """A typical load, a typical price of what can be decided, and a typical snapshot's hours.

    Where nobody has a load, or no price is anything but 0, the least limits and 1 stand in.
    """
    power = typical(_given_power(game)) or typical(_least_limits(game)) or 1.0
    hours = typical(game.hours) or 1.0
    price = typical(_prices(game, power)) or typical(game.fee) or 1.0
    return GameUnits(power=power, money=price * power * hours, hours=hours)


def _given_power(game: Game) -> Array:
    """Loads and must-take generation, MW."""
    fixed = game.lower == game.upper
    return np.concatenate([game.load.ravel(), game.lower[fixed]])


def _least_limits(game: Game) -> Array:
    """The first limit each prosumer can meet in each hour, (S, T, N), MW; those of 0 aside.

    What may be as large as it likes has a limit, too, which says nothing.
    """
    pieces = game.pieces
    sizes = np.abs(np.stack([pieces.lower, pieces.upper]))
    return np.where(sizes > 0, sizes, np.inf).min(axis=(0, -1))


def _prices(game: Game, power: float) -> Array:
    """Marginal costs, trade prices, and by how much they rise with a typical power, EUR/MWh."""
    decided, traded = game.lower < game.upper, game.capacity > 0
    sizes = np.abs(
        np.concatenate(
            [
                game.marginal_cost[decided],
                2 * power * game.quadratic_cost[decided],
                game.price[traded],
                2 * power * game.congestion[traded],
            ]
        )
    )
    # What is left of b + p0 = 0 is no price.
    return sizes[sizes > ACCURACY.rounding * sizes.max(initial=0.0)]


def scaled(game: Game, units: GameUnits) -> Game:
    """The same game in other units, without the `constants`: who decides does not see them."""
    return replace(
        game,
        hours=game.hours / units.hours,
        lower=units.powers(game.lower),
        upper=units.powers(game.upper),
        load=units.powers(game.load),
        capacity=units.powers(game.capacity),
        marginal_cost=units.prices(game.marginal_cost),
        price=units.prices(game.price),
        fee=units.prices(game.fee),
        quadratic_cost=units.curvatures(game.quadratic_cost),
        congestion=units.curvatures(game.congestion),
        fixed_cost=_seen((game.fixed_cost - game.constants) / units.money),
        stores=None
        if game.stores is None
        else game.stores.scaled(units.power * units.hours, units.hours),
        traded=None if game.traded is None else game.traded.scaled(units.money),
    )


def restored(found: Run, units: GameUnits, constant: float) -> Run:
    """A run in the user's units; the constant, EUR, joins the social cost again."""
    answer, price, held = found.answer, units.hourly_price, found.answer.hedges
    if held is not None:
        volume, insurance = units.money * held.volume, units.money * held.insurance
        held = replace(held, volume=volume, insurance=insurance)
    history = found.history.copy(deep=True)
    history["social_cost"].data = constant + units.money * history["social_cost"].data
    if "penalty" in history:
        history["penalty"].data = units.curvature * history["penalty"].data
    return replace(
        found,
        history=history,
        answer=answer._replace(
            point=units.power * answer.point,
            price=price * answer.price,
            reciprocity=price * answer.reciprocity,
            capacity=price * answer.capacity,
            hedges=held,
        ),
    )
