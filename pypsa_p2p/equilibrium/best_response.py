r"""Every prosumer's best response to the others' trades, in closed form, all at once.

Given the partners' quantities, nothing ties one hour or scenario of a prosumer's problem (21),
(38) to another. A risk measure that prefers lower costs therefore changes nothing: least cost in
every scenario is least E, least CVaR and least of any mix, and in the scenarios her CVaR does
not see it is the choice that costs least on average. So a best response is the risk-neutral one;
her risk-adjusted probabilities only scale its multipliers. What is left of a scenario and hour is
a convex quadratic knapsack, whose price is :math:`\lambda_n/(\tau w)`:

.. math:: \min \sum_g c_g p_g + d_g p_g^2
    + \sum_m (a_{mn} q_{mn} + a_{mn} \bar q_{nm} + b_{mn} + p^0) q_{mn}, \quad
    \sum_g p_g + \sum_m q_{mn} = \text{load}, \quad
    q_{mn} \le \min(\kappa_{mn}, -\bar q_{nm}).

With surplus a sale has no lower limit but what she can produce; without it (1) fixes every q.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pypsa_p2p.equilibrium.game import Game, Positions
from pypsa_p2p.equilibrium.knapsack import Array, Knapsack, solve_knapsacks


class Response(NamedTuple):
    """What prosumers decide; entries of those not asked are what they were.

    Attributes
    ----------
    power, quantity
        (S, T, G) and (S, T, 2E), MW.
    price
        lambda/(tau w), (S, T, N), EUR/MWh; 0 for prosumers not asked.
    """

    power: Array
    quantity: Array
    price: Array


class Terms(NamedTuple):
    """Curvature and slope of a cost in powers and quantities, and limits; each (S, T, G + 2E)."""

    curvature: Array
    slope: Array
    lower: Array
    upper: Array


def best_response(
    game: Game,
    power: Array,
    quantity: Array,
    who: Positions | None = None,
    regularisation: float = 0.0,
    allowed: Array | None = None,
) -> Response:
    r"""Least cost of each prosumer given the others' quantities.

    Parameters
    ----------
    power, quantity : (S, T, G), (S, T, 2E)
        The point responded to, MW. Where she is indifferent, she stays close to her own.
    who : positions, optional
        Prosumers who respond, no two of them partners if the result is to be feasible; default
        all.
    regularisation : float
        Adds :math:`\frac12` regularisation :math:`(q_{mn} - q_{mn}^{before})^2` to her cost.
    allowed : (S, T, 2E), optional
        Most each may buy because of (1); default what the partner sells.
    """
    allowed = -game.partner(quantity) if allowed is None else allowed
    terms = _own_terms(game, quantity, allowed, regularisation)
    return respond(game, terms, power, quantity, who)


def respond(
    game: Game, terms: Terms, power: Array, quantity: Array, who: Positions | None = None
) -> Response:
    """Each prosumer's minimiser of `terms` under (3): one knapsack per hour and scenario."""
    who = np.arange(game.prosumers) if who is None else who
    pieces = game.pieces[who]  # an index of -1 reads the padding appended below
    before = np.concatenate([power, quantity], axis=-1)
    padding = (1.0, 0.0, 0.0, 0.0)  # curved, and fixed at 0
    problem = Knapsack(
        *(_padded(t, p)[..., pieces] for t, p in zip(terms, padding, strict=True)),
        total=game.load[..., who],
    )
    x, found = solve_knapsacks(problem, near=_padded(before, 0.0)[..., pieces])
    after = before.copy()
    after[..., pieces[pieces >= 0]] = x[..., pieces >= 0]
    price = np.zeros_like(game.load)
    price[..., who] = found
    generators = power.shape[-1]
    return Response(after[..., :generators], after[..., generators:], price)


def dispatch(game: Game, quantity: Array) -> Response:
    """The cheapest powers that balance the given quantities."""
    terms = _own_terms(game, quantity, quantity, 0.0, fixed=True)
    return respond(game, terms, np.zeros_like(game.lower), quantity)


def exploitability(game: Game, power: Array, quantity: Array) -> Array:
    """How much each prosumer gains by re-optimising alone, (N,), over max(1, abs(R_n)).

    Where the quantities break (1) by a rounding, or by what an algorithm has not agreed on yet,
    she may keep what she has.
    """
    allowed = np.maximum(-game.partner(quantity), quantity)
    response = best_response(game, power, quantity, allowed=allowed)
    held, _ = game.risk_adjusted(game.costs(power, quantity))
    reached, _ = game.risk_adjusted(responded_costs(game, response, quantity))
    return np.asarray((held - reached) / np.maximum(1.0, np.abs(held)))


def responded_costs(game: Game, response: Response, quantity: Array) -> Array:
    """Pi of each prosumer at her response while the others hold `quantity`, (S, N), EUR."""
    mine = response.quantity
    moved = game.congestion * mine * (game.partner(quantity) - game.partner(mine))
    return game.costs(response.power, mine) + np.einsum(
        "t,stn->sn", game.hours, game.net_import(moved)
    )


class Multipliers(NamedTuple):
    """Shadow prices over tau w, EUR/MWh: lambda (S, T, N), zeta and xi (S, T, 2E)."""

    price: Array
    reciprocity: Array
    capacity: Array


def multipliers(game: Game, power: Array, quantity: Array) -> Multipliers:
    r"""Each prosumer's own multipliers at her best response (22).

    .. math:: \zeta_{nm} + \xi_{nm} = \lambda_n - 2a q_{mn} - a q_{nm} - b_{mn} - p^0

    Where a trade is at both of its limits, zeta is that of the partner as far as it goes. For
    markets with surplus: without it the prosumer decides no trade, and none of this is hers.
    """
    price = best_response(game, power, quantity).price
    partner = game.partner(quantity)
    marginal = game.congestion * (2 * quantity + partner) + game.price
    both = price[..., game.buyer] - marginal
    both = np.maximum(both, 0.0)
    slack = 1e-9 * np.maximum(1.0, game.capacity)
    full = game.capacity <= -partner + slack
    given = -partner <= game.capacity + slack
    shared = np.minimum(both, game.partner(both))
    zeta = np.where(given, np.where(full, shared, both), 0.0)
    return Multipliers(price, zeta, both - zeta)


def _own_terms(
    game: Game, quantity: Array, allowed: Array, regularisation: float, *, fixed: bool = False
) -> Terms:
    partner = game.partner(quantity)
    upper = np.minimum(game.capacity, allowed)
    lower = quantity_floor(game, upper)
    if fixed or not game.surplus:
        lower = upper = quantity
    return Terms(
        np.concatenate([2 * game.quadratic_cost, 2 * game.congestion + regularisation], axis=-1),
        np.concatenate(
            [
                game.marginal_cost,
                game.price + game.congestion * partner - regularisation * quantity,
            ],
            axis=-1,
        ),
        np.concatenate([game.lower, lower], axis=-1),
        np.concatenate([game.upper, upper], axis=-1),
    )


def quantity_floor(game: Game, upper: Array) -> Array:
    """The least a balance (3) leaves of each quantity when all others are at `upper`, MW."""
    least, _ = game.net_import_limits
    others = game.net_import(upper)[..., game.buyer] - upper
    return np.minimum(upper, least[..., game.buyer] - others)


def _padded(values: Array, last: float) -> Array:
    return np.concatenate([values, np.full((*values.shape[:-1], 1), last)], axis=-1)
