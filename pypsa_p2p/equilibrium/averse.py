r"""A risk-averse agent's own problem in ADMM, all agents at once.

Agent n minimises :math:`R_n[\Pi_n(x)] + P_n(x)`, where P holds what ADMM adds *outside* her risk
measure, :math:`\sum_{\omega t} p_\omega w_t (y q + \frac\rho2 (q - z)^2)`. In its dual face this
is :math:`\max_\tau d(\tau)`, :math:`d(\tau) = \sum_\omega \min_x \tau^\omega \Pi^\omega(x)
+ P^\omega(x)` over the risk-adjusted probabilities of MODEL.md §3: concave, and separable but for
:math:`\sum_\omega \tau^\omega = 1`. Each min is one knapsack per hour, and
:math:`\partial d / \partial \tau^\omega = \Pi^\omega`, which falls continuously as
:math:`\tau^\omega` rises, at a rate that the knapsack's free pieces give in closed form.
So Newton's step on :math:`\tau` is a knapsack too, over scenarios.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pypsa_p2p.equilibrium.best_response import Response, Terms, dispatch, quantity_floor, respond
from pypsa_p2p.equilibrium.game import Game
from pypsa_p2p.equilibrium.knapsack import Array, Knapsack, solve_knapsacks

_ROUNDS = 40
_SEARCHES = 8
#: Change of tau below which a step counts as none; the steps before it shrank quadratically.
_STILL = 1e-10
#: Below this tau / p, powers follow from quantities by cost, not from the weighted knapsack.
_UNSEEN = 1e-6


class Proximal(NamedTuple):
    """P of the module: y and z, (S, T, 2E), rho, and the partners' quantities in her own cost."""

    price: Array
    target: Array
    penalty: float
    partner: Array


class Reply(NamedTuple):
    """An agent's minimiser at given tau, its cost Pi (S, N) and dPi/dtau <= 0 (S, N)."""

    response: Response
    terms: Terms
    cost: Array
    rate: Array


def averse_response(game: Game, near: Proximal, tau: Array) -> tuple[Reply, Array]:
    """Everybody's minimiser and her risk-adjusted probabilities, (S, N), from a first guess."""
    reply = reply_to(game, near, tau)
    for _ in range(_ROUNDS):
        step = _newton(game, reply, tau) - tau
        if np.abs(step).max() <= _STILL:
            break
        tau, reply = _search(game, near, tau, step, reply)
    return reply, tau


def reply_to(game: Game, near: Proximal, tau: Array) -> Reply:
    """The minimiser of sum tau Pi + P for given tau, (S, N)."""
    ratio = (tau / game.probability[:, None])[:, None]  # of the weight of an hour, p w
    terms = _terms(game, near, ratio)
    response = respond(game, terms, game.lower, near.target)
    power = response.power
    if bool((ratio < _UNSEEN).any()):
        seen = (ratio >= _UNSEEN)[..., game.owner]
        power = np.where(seen, power, dispatch(game, response.quantity).power)
    response = response._replace(power=power)
    marginal_trade = game.price + game.congestion * near.partner
    quantity = response.quantity
    trading = (marginal_trade + game.congestion * quantity) * quantity
    own = (game.marginal_cost + game.quadratic_cost * power) * power
    hourly = game.sum_by_owner(own) + game.net_import(trading)
    marginal = np.concatenate(
        [
            game.marginal_cost + 2 * game.quadratic_cost * power,
            marginal_trade + 2 * game.congestion * quantity,
        ],
        axis=-1,
    )
    cost = np.einsum("t,stn->sn", game.hours, hourly) + game.fixed_cost
    rate = _rate(game, terms, np.concatenate([power, quantity], axis=-1), marginal)
    return Reply(response, terms, cost, rate)


def _terms(game: Game, near: Proximal, ratio: Array) -> Terms:
    """tau Pi + P per p w."""
    of_power, of_trade = ratio[..., game.owner], ratio[..., game.buyer]
    own_trade = game.price + game.congestion * near.partner
    curvature = (
        2 * of_power * game.quadratic_cost,
        2 * of_trade * game.congestion + near.penalty,
    )
    slope = (
        of_power * game.marginal_cost,
        of_trade * own_trade + near.price - near.penalty * near.target,
    )
    return Terms(
        np.concatenate(curvature, axis=-1),
        np.concatenate(slope, axis=-1),
        np.concatenate([game.lower, quantity_floor(game, game.capacity)], axis=-1),
        np.concatenate([game.upper, game.capacity], axis=-1),
    )


def _rate(game: Game, terms: Terms, x: Array, marginal: Array) -> Array:
    r"""dPi/dtau: minus the variance of marginal costs over free pieces, weighted by 1/H.

    .. math:: \frac{d x_i}{d\tau} = \frac{\mu - C_i'}{p H_i}, \quad
        \mu = \frac{\sum_i C_i'/H_i}{\sum_i 1/H_i}, \quad
        \frac{d\Pi}{d\tau} = -\frac1p \sum_t w \sum_i \frac{(C_i' - \mu)^2}{H_i}
    """
    slack = 1e-12 * np.maximum(1.0, np.abs(x))
    free = (x > terms.lower + slack) & (x < terms.upper - slack)
    weight = free / np.maximum(terms.curvature, 1e-12)
    total = _by_prosumer(game, weight)
    mean = np.divide(
        _by_prosumer(game, weight * marginal), total, out=np.zeros_like(total), where=total > 0
    )
    owner = np.concatenate([game.owner, game.buyer])
    spread = _by_prosumer(game, weight * (marginal - mean[..., owner]) ** 2)
    return -np.einsum("t,stn->sn", game.hours, spread) / game.probability[:, None]


def _by_prosumer(game: Game, values: Array) -> Array:
    generators = game.owner.size
    return game.sum_by_owner(values[..., :generators]) + game.net_import(values[..., generators:])


def _newton(game: Game, reply: Reply, tau: Array) -> Array:
    """Maximiser of d's quadratic model at tau over the risk-adjusted probabilities, (S, N)."""
    curvature = np.maximum(-reply.rate, 1e-10 * (1.0 + np.abs(reply.cost)))
    p = game.probability[:, None]
    least = np.broadcast_to((1 - game.weight) * p, tau.shape)
    found, _ = solve_knapsacks(
        Knapsack(
            curvature.T,
            (-reply.cost - curvature * tau).T,
            least.T,
            (least + game.weight * p / (1 - game.attitude)).T,
            np.ones(game.prosumers),
        )
    )
    return found.T


def _search(
    game: Game, near: Proximal, tau: Array, step: Array, reply: Reply
) -> tuple[Array, Reply]:
    """Along each agent's step, as far as d rises: the whole way wherever its model is good."""
    rise = (reply.cost * step).sum(axis=0)
    low, high = np.zeros(game.prosumers), np.ones(game.prosumers)
    at_low = rise
    share = np.ones(game.prosumers)
    for _ in range(_SEARCHES):
        reply = reply_to(game, near, tau + share * step)
        slope = (reply.cost * step).sum(axis=0)
        over = slope < -0.1 * np.maximum(rise, 0.0) - 1e-14
        under = (slope > 0.5 * rise) & (share < high)
        if not bool((over | under).any()):
            break
        secant = at_low / np.maximum(at_low - slope, 1e-300)
        within = low + np.clip(secant, 0.1, 0.9) * (share - low)
        low, at_low = np.where(under, share, low), np.where(under, slope, at_low)
        high = np.where(over, share, high)
        share = np.where(over, within, np.where(under, (share + high) / 2, share))
    return tau + share * step, reply
