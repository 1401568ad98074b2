r"""Every prosumer's best response to the others' trades, in closed form, all at once.

Given the partners' quantities, nothing ties one hour or scenario of a prosumer's problem (21),
(38) to another. A risk measure that prefers lower costs therefore changes nothing: least cost in
every scenario is least E, least CVaR and least of any mix, and in the scenarios her CVaR does
not see it is the choice that costs least on average. So a best response is the risk-neutral one;
her risk-adjusted probabilities only scale its multipliers. What is left of a scenario and hour is
a convex quadratic knapsack, whose price is :math:`\lambda_n/(\tau w)`:

.. math:: \min \sum_g c_g p_g + d_g p_g^2
    + \sum_m (a_{mn} q_{mn} + a_{mn} \bar q_{nm} + b_{mn} + p^0) q_{mn} + f_{mn} |q_{mn}|, \quad
    \sum_g p_g + \sum_m q_{mn} = \text{load}, \quad
    q_{mn} \le \min(\kappa_{mn}, -\bar q_{nm}).

With surplus a sale has no lower limit but what she can produce; without it (1) fixes every q.
Storage ties hours together, but no scenarios: who has some solves one program (`stores`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.knapsack import Array, Flags, Knapsack, solve_knapsacks
from pypsa_p2p.equilibrium.game.pieces import Pieces
from pypsa_p2p.equilibrium.game.stores import stored_response


def best_response(
    game: Game,
    point: Array,
    pieces: Pieces | None = None,
    *,
    regularisation: float = 0.0,
    keep: bool = False,
) -> tuple[Array, Array]:
    r"""Least cost of each prosumer given the others' quantities.

    Parameters
    ----------
    point : (S, T, G + 2E + 1)
        Responded to, MW. Where she is indifferent, she stays close to her own.
    pieces : Pieces, optional
        Of those who respond; default everybody.
    regularisation : float
        Adds :math:`\frac12` regularisation :math:`(q_{mn} - q_{mn}^{before})^2` to her cost.
    keep : bool
        Whether she may keep what she has where the partner does not sell that much (yet).

    Returns
    -------
    own : (S, T, n, K)
        Her pieces, MW.
    price : (S, T, n)
        lambda/(tau w), EUR/MWh.
    """
    pieces = game.pieces if pieces is None else pieces
    own, facing = pieces.own(point), pieces.facing(point)
    trades = pieces.trades
    upper = np.where(trades, np.minimum(pieces.upper, -facing), pieces.upper)
    if keep:
        upper = np.maximum(upper, np.where(trades, np.minimum(own, pieces.upper), upper))
    lower = pieces.floored(upper)
    if not game.surplus:
        lower, upper = np.where(trades, own, lower), np.where(trades, own, upper)
    curvature = pieces.curvature
    slope = pieces.slope + pieces.congestion * facing
    if regularisation:
        curvature = curvature + regularisation * trades
        slope = slope - regularisation * trades * own
    problem = Knapsack(curvature, slope, lower, upper, pieces.load, pieces.fee)
    found, price = solve_knapsacks(problem, near=own)
    if game.stores is not None:
        for row in np.flatnonzero(pieces.stored.any(axis=1)).tolist():  # each a program of her own
            found[..., row, :], price[..., row] = stored_response(
                game.stores, _of_one(problem, row), pieces.columns[row], pieces.hours
            )
    return found, price


def _of_one(problem: Knapsack, row: int) -> Knapsack:
    """The problem of one prosumer."""
    h, c, lower, upper, total, fee = problem
    fee = None if fee is None else fee[..., row, :]
    return Knapsack(
        h[..., row, :], c[..., row, :], lower[..., row, :], upper[..., row, :], total[..., row], fee
    )


def dispatch(game: Game, point: Array) -> Array:
    """The point of the same trades and storage whose other powers balance them at least cost."""
    point = point.copy()
    own = game.pieces.own(point)
    game.pieces.put(point, dispatched(game.pieces, own, np.ones(own.shape[:-1], dtype=bool)))
    return point


def dispatched(pieces: Pieces, own: Array, where: Flags) -> Array:
    """The prosumers' pieces; `where` (S, T, n), trades and storage stay and powers cost least."""
    found = own.copy()
    held = np.broadcast_to(pieces.trades | pieces.stored, own.shape)[where]
    kept = own[where]
    found[where], _ = solve_knapsacks(
        Knapsack(
            pieces.curvature[where],
            pieces.slope[where],
            np.where(held, kept, pieces.lower[where]),
            np.where(held, kept, pieces.upper[where]),
            pieces.load[where],
        )
    )
    return found


def exploitability(game: Game, point: Array, paid: Array | float = 0.0) -> Array:
    """How much each prosumer gains by re-optimising alone, (N,), over her cost.

    What contracts pay her, `paid` (S, N), EUR, stays as it is.

    Her cost is what she decides, fixed costs left out, or a typical one, 1, if that is larger.
    """
    costs = game.costs(point)
    held, tau = game.risk_adjusted(costs - paid)
    decided = (tau * (costs - game.fixed_cost)).sum(axis=0)
    return np.asarray(gains(game, point, held, paid) / np.maximum(1.0, np.abs(decided)))


def gains(game: Game, point: Array, held: Array, paid: Array | float = 0.0) -> Array:
    """By how much less than the R she has, `held`, each would have after her best response, EUR.

    Where the quantities break (1) by a rounding, or by what an algorithm has not agreed on yet,
    she may keep what she has.
    """
    response, _ = best_response(game, point, keep=True)
    costs = game.pieces.costs(response, game.pieces.facing(point))
    reached, _ = game.risk_adjusted(costs - paid)
    return held - reached


class Multipliers(NamedTuple):
    """Shadow prices over tau w, EUR/MWh: lambda (S, T, N), zeta and xi (S, T, 2E)."""

    price: Array
    reciprocity: Array
    capacity: Array


def multipliers(game: Game, point: Array) -> Multipliers:
    r"""Each prosumer's own multipliers at her best response (22).

    .. math:: \zeta_{nm} + \xi_{nm}
        = \lambda_n - 2a q_{mn} - a q_{nm} - b_{mn} - p^0 - \sigma f_{mn}

    where a limit binds, sigma being -1 if that makes her sell and else 1. Where a trade is at both
    of its limits, zeta is that of the partner as far as it goes. For markets with surplus: without
    it the prosumer decides no trade, and none of this is hers.
    """
    _, price = best_response(game, point)
    _, quantity = game.parted(point)
    partner = game.partner(quantity)
    marginal = game.congestion * (2 * quantity + partner) + game.price
    must_sell = (quantity < 0) & (np.minimum(game.capacity, -partner) <= 0)
    marginal = marginal + np.where(must_sell, -game.fee, game.fee)
    both = np.maximum(price[..., game.buyer] - marginal, 0.0)
    slack = ACCURACY.full * np.maximum(1.0, game.capacity)
    full = game.capacity <= -partner + slack
    given = -partner <= game.capacity + slack
    shared = np.minimum(both, game.partner(both))
    zeta = np.where(given, np.where(full, shared, both), 0.0)
    return Multipliers(price, zeta, both - zeta)
