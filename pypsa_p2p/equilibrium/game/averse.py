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

from dataclasses import dataclass, replace

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.equilibrium.game.best_response import dispatched
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.hedging import Wanted
from pypsa_p2p.equilibrium.game.knapsack import Array, Knapsack, solve_knapsacks
from pypsa_p2p.equilibrium.game.pieces import Pieces, Positions

#: Newton steps an iteration of ADMM, where the last iteration's tau is the first guess.
_ROUNDS, _SEARCHES = 4, 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Subproblem:
    """Agents' decisions and costs, and what ADMM adds to them.

    Attributes
    ----------
    pieces : Pieces
    facing, price, target : (S, T, n, K)
        The partner's quantity in her own congestion cost, MW; y, EUR/MWh, and z, MW, of P.
    penalty : float
        rho, EUR/MW2h.
    probability : (S,)
    least, most : (S, n)
        Limits of tau.
    wanted : Wanted or None
        The same of contracts, which lower her costs by what they pay.
    """

    pieces: Pieces
    facing: Array
    price: Array
    target: Array
    penalty: float
    probability: Array
    least: Array
    most: Array
    wanted: Wanted | None = None

    def take(self, rows: Positions) -> Subproblem:
        """That of some of the agents."""
        of_pieces = ("facing", "price", "target")
        taken = {name: getattr(self, name)[..., rows, :] for name in of_pieces}
        taken |= {name: getattr(self, name)[:, rows] for name in ("least", "most")}
        wanted = None if self.wanted is None else self.wanted.take(rows)
        return replace(self, pieces=self.pieces.take(rows), wanted=wanted, **taken)


@dataclass(kw_only=True, eq=False)
class Reply:
    """Agents' minimisers at given tau.

    Attributes
    ----------
    own, price : (S, T, n, K), (S, T, n)
        Pieces, MW, and lambda over p w, EUR/MWh.
    gradient : (S, T, n, K)
        Of tau Pi + P over p w, EUR/MWh: of one MW more where a fee bends it.
    cost, rate : (S, n)
        Pi, less what contracts pay, EUR, and how it changes with tau, <= 0, EUR.
    volume : (K, n) or None
        Contracts held.
    """

    own: Array
    price: Array
    gradient: Array
    cost: Array
    rate: Array
    volume: Array | None = None

    def update(self, rows: Positions, other: Reply) -> None:
        """Put in the replies of some of the agents."""
        for name in ("own", "gradient"):
            getattr(self, name)[..., rows, :] = getattr(other, name)
        for name in ("price", "cost", "rate"):
            getattr(self, name)[..., rows] = getattr(other, name)
        if self.volume is not None:
            self.volume[:, rows] = other.volume


def pose(
    game: Game,
    pieces: Pieces,
    target: Array,
    price: Array,
    penalty: float,
    wanted: Wanted | None = None,
) -> Subproblem:
    """The agents' problems at targets and prices (S, T, 2E) of their trades."""
    nothing = np.zeros_like(game.lower)
    points = [game.joined(nothing, values) for values in (target, price)]
    return Subproblem(
        pieces=pieces,
        facing=pieces.facing(points[0]),
        price=pieces.own(points[1]),
        target=pieces.own(points[0]),
        penalty=penalty,
        probability=game.probability,
        least=game.least,
        most=game.most,
        wanted=wanted,
    )


def averse_reply(problem: Subproblem, tau: Array, accuracy: float) -> tuple[Reply, Array]:
    """Everybody's minimiser and her tau, (S, n), from a first guess of it.

    Ends when Newton's steps change tau / p by no more than `accuracy`, or after a few: ADMM
    goes on from there.
    """
    tau = tau.copy()
    reply = reply_to(problem, tau)
    p = problem.probability[:, None]
    for _ in range(_ROUNDS):
        step = _newton(problem, reply, tau) - tau
        rows = np.flatnonzero((np.abs(step) > accuracy * p).any(axis=0))
        if not rows.size:
            break
        rise = (reply.cost * step).sum(axis=0)[rows]
        tau[:, rows], found = _search(problem.take(rows), tau[:, rows], step[:, rows], rise)
        reply.update(rows, found)
    return reply, tau


def reply_to(problem: Subproblem, tau: Array) -> Reply:
    """The minimisers of sum tau Pi + P for given tau, (S, n)."""
    pieces, penalty = problem.pieces, problem.penalty * problem.pieces.trades
    ratio = (tau / problem.probability[:, None])[:, None, :, None]  # of the weight of an hour, p w
    slope = pieces.slope + pieces.congestion * problem.facing
    curvature = ratio * pieces.curvature + penalty
    pull = ratio * slope + problem.price - penalty * problem.target
    fee = None if pieces.fee is None else ratio * pieces.fee
    own, price = solve_knapsacks(
        Knapsack(curvature, pull, pieces.lower, pieces.upper, pieces.load, fee)
    )
    unseen = np.broadcast_to(ratio[..., 0] < ACCURACY.unseen, price.shape)
    if bool(unseen.any()):
        own = dispatched(pieces, own, unseen)
    found = Reply(
        own=own,
        price=price,
        gradient=curvature * own + pull + ratio * pieces.fee_at(own),
        cost=pieces.costs(own, problem.facing),
        rate=_rate(problem, curvature, own, pieces.curvature * own + slope + pieces.fee_at(own)),
    )
    return found if problem.wanted is None else _hedged(problem, problem.wanted, found, tau)


def _hedged(problem: Subproblem, wanted: Wanted, found: Reply, tau: Array) -> Reply:
    """The same with the contracts that are best at tau, (S, n)."""
    p = problem.probability
    volume = wanted.volume(tau / p[:, None])
    return replace(
        found,
        cost=found.cost - wanted.traded.by_scenario(volume, p.size),
        rate=found.rate - wanted.rate(volume, p),
        volume=volume,
    )


def _rate(problem: Subproblem, curvature: Array, own: Array, marginal: Array) -> Array:
    r"""dPi/dtau: minus the variance of marginal costs over free pieces, weighted by 1/H.

    .. math:: \frac{d x_i}{d\tau} = \frac{\mu - C_i'}{p H_i}, \quad
        \mu = \frac{\sum_i C_i'/H_i}{\sum_i 1/H_i}, \quad
        \frac{d\Pi}{d\tau} = -\frac1p \sum_t w \sum_i \frac{(C_i' - \mu)^2}{H_i}
    """
    pieces = problem.pieces
    slack = ACCURACY.rounding * np.maximum(1.0, np.abs(own))
    free = (own > pieces.lower + slack) & (own < pieces.upper - slack)
    if pieces.fee is not None:  # which keeps some at 0
        free &= (np.abs(own) > slack) | (pieces.fee == 0)
    weight = free / np.maximum(curvature, ACCURACY.rounding)
    total = weight.sum(axis=-1, keepdims=True)
    mean = (weight * marginal).sum(axis=-1, keepdims=True) / np.where(total > 0, total, 1.0)
    spread = (weight * (marginal - mean) ** 2).sum(axis=-1)
    return -np.einsum("t,stn->sn", pieces.hours, spread) / problem.probability[:, None]


def _newton(problem: Subproblem, reply: Reply, tau: Array) -> Array:
    """Maximiser of d's quadratic model at tau over the risk-adjusted probabilities, (S, n)."""
    curvature = np.maximum(-reply.rate, ACCURACY.reply_curvature * (1.0 + np.abs(reply.cost)))
    found, _ = solve_knapsacks(
        Knapsack(
            curvature.T,
            (-reply.cost - curvature * tau).T,
            problem.least.T,
            problem.most.T,
            np.ones(tau.shape[1]),
        )
    )
    return found.T


def _search(problem: Subproblem, tau: Array, step: Array, rise: Array) -> tuple[Array, Reply]:
    """Along each agent's step, as far as d rises: the whole way wherever its model is good.

    `rise`, (n,), is the slope of d at the start of the step.
    """
    share, low, high = np.ones(rise.size), np.zeros(rise.size), np.ones(rise.size)
    at_low = np.maximum(rise, 0.0)
    reply = reply_to(problem, tau + step)
    searching, slope = np.arange(rise.size), (reply.cost * step).sum(axis=0)
    for _ in range(_SEARCHES - 1):
        k = searching
        noise = ACCURACY.differences * np.abs(reply.cost[:, k] * step[:, k]).sum(axis=0)
        over = slope[k] < -0.5 * rise[k] - noise
        under = (slope[k] > 0.5 * rise[k] + noise) & (share[k] < high[k])
        k, over = k[over | under], over[over | under]
        if not k.size:
            break
        part = np.divide(at_low[k], at_low[k] - slope[k], out=np.ones(k.size), where=over)
        secant = low[k] + np.clip(part, 0.1, 0.9) * (share[k] - low[k])
        low[k], at_low[k] = np.where(over, low[k], share[k]), np.where(over, at_low[k], slope[k])
        high[k] = np.where(over, share[k], high[k])
        share[k] = np.where(over, secant, (share[k] + high[k]) / 2)
        found = reply_to(problem.take(k), tau[:, k] + share[k] * step[:, k])
        reply.update(k, found)
        searching, slope[k] = k, (found.cost * step[:, k]).sum(axis=0)
    return tau + share * step, reply
