r"""Consensus ADMM on the bilateral quantities: how agents agree on the variational equilibrium.

Both ends of an edge hold their own idea q of what they buy. Each iteration

1. every agent solves her own problem, her risk measure included, given a price y and a target z
   of each of her trades, with a penalty :math:`\frac\rho2 (q - z)^2`;
2. partners tell each other their quantities, and both work out the same next targets, which
   satisfy (1), and prices, in closed form.

An edge's multiplier of (1) is one number for both ends, so what it converges to is the
*variational* equilibrium. Risk-neutral, it solves the convex potential problem of MODEL.md §4,
whose congestion terms join the second step (fees stay with whoever pays them, in the first), and
converges from any start; the same for risk-averse agents with a = 0 (Proposition 12). Risk-averse
with a > 0 there is no potential: each agent takes the partner's quantity in a q_mn q_nm from the
last exchange. A fixed point is a variational equilibrium; that it is reached is observed, not
proved.

Contracts (MODEL.md §5) are agreed on the same way, all at once instead of edge by edge: an agent's
problem has :math:`p_k (a_k W_k + \frac\rho2 (W_k - z_k)^2)` outside her risk, too, and what W pays
inside of it; the second step makes volumes clear. Prices a p are those of the equilibrium.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.given import Range
from pypsa_p2p.equilibrium.game.averse import Reply, Subproblem, averse_reply, pose, reply_to
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.hedging import Traded, Wanted
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.equilibrium.options import require_flag
from pypsa_p2p.equilibrium.running import Answer, Iterate, assessed, relative
from pypsa_p2p.equilibrium.scaling import GameUnits
from pypsa_p2p.markets.clearing.volumes import Hedges

#: Iteration of the first change of the penalty; each next one is this much later.
_FIRST_CHANGE, _RARER = 10, 1.3


@dataclass(frozen=True, kw_only=True)
class ADMM:
    r"""Agents agree on quantities edge by edge, and so find the variational equilibrium.

    Parameters
    ----------
    penalty : float, optional
        rho > 0, EUR/MW2h: how dearly disagreement is paid. The first one where it adapts.
        Default: what suits the market, a typical price over a typical power.
    relaxation : float
        In (0, 2): how far past their last targets the agents' answers count; 1 is plain ADMM.
    adaptive : bool
        Keep the primal and the dual residual in balance by changing rho (ever more rarely).
    tolerance : float
        On the primal residual (disagreement, relative to the quantities or to typical loads) and
        on the dual one (movement of targets times rho, relative to the prices); from 0 to 1.
    max_iterations : int

    Raises
    ------
    MarketError
        Numbers outside their limits, or `adaptive` neither True nor False.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> market = p2p.PeerToPeerMarket(surplus=False)
    >>> found = p2p.solve_equilibrium(n, market, ADMM(), progress=False)
    >>> found.converged, round(n.objective, 5)
    (True, 7.61029)
    """

    penalty: float | None = None
    relaxation: float = 1.6
    adaptive: bool = True
    tolerance: float = ACCURACY.agents
    max_iterations: int = 5000

    def __post_init__(self) -> None:
        if self.penalty is not None:
            Range(0, ends="()").require("ADMM: penalty", self.penalty)
        Range(0, 2, ends="()").require("ADMM: relaxation", self.relaxation)
        require_flag("ADMM: adaptive", self.adaptive)
        Range(0, 1).require("ADMM: tolerance", self.tolerance)
        Range(1, whole=True).require("ADMM: max_iterations", self.max_iterations)

    def in_units(self, units: GameUnits) -> ADMM:
        """The same for a game in units of its own."""
        penalty = None if self.penalty is None else units.setting(self.penalty)
        return replace(self, penalty=penalty)

    def iterates(
        self, game: Game, target: Array, reciprocity: Array, tau: Array
    ) -> Iterator[Iterate]:
        """Iterations without end from targets, multipliers of (1) over p w, and tau."""
        require_supply(game)
        # Risk-neutral, the potential's congestion terms belong to the edges, not to the agents.
        shared = np.zeros_like(game.price) if game.risk_averse else game.congestion
        pieces = game.pieces if game.risk_averse else game.pieces.without_congestion()
        pieces = replace(pieces, lower=pieces.floored(pieces.upper))
        price = reciprocity + _edge_marginal(shared, game, target)
        penalty, due, residual = self.penalty or 1.0, _FIRST_CHANGE, 1.0
        exchange = None if game.traded is None else Exchange.opened(game.traded)
        for iteration in count(1):
            wanted = None if exchange is None else exchange.wanted
            problem = pose(game, pieces, target, price, penalty, wanted)
            reply, tau = _replies(game, problem, tau, residual)
            point = np.zeros((*game.price.shape[:-1], game.owner.size + game.buyer.size + 1))
            pieces.put(point, reply.own)
            quantity = game.parted(point)[1]
            counted = self.relaxation * quantity + (1 - self.relaxation) * target
            agreed = agree(game, shared, counted + price / penalty, penalty)
            price = price + penalty * (counted - agreed)
            primal = relative(quantity - agreed, quantity)
            dual = relative(penalty * (agreed - target), price)
            target = agreed
            recorded = {"primal_residual": primal, "dual_residual": dual, "penalty": penalty}
            zeta = price - _edge_marginal(shared, game, target)
            residual = max(primal, dual)
            if exchange is not None:
                exchange = exchange.after(reply.volume, self.relaxation)
                residual = max(residual, exchange.residual)
                recorded["contract_residual"] = exchange.residual
            yield Iterate(
                residual=residual,
                recorded={**recorded, **assessed(game, point, reply.volume), "rounds": 1},
                answer=partial(_answer, game, point, reply, tau, zeta, exchange),
            )
            if self.adaptive and iteration >= due:
                penalty *= _change(primal, dual)
                exchange = None if exchange is None else exchange.balanced
                due = 1 + int(_RARER * iteration)


@dataclass(frozen=True, kw_only=True, eq=False)
class Exchange:
    r"""Where contracts are cleared: what agents want, and how far they are from clearing.

        Every agent tells it how many she wants, W; all are told the average, which is 0 at the
        equilibrium, and work out their next targets and the price of each contract by it.

        .. math:: z_n = W_n - \bar W, \quad a' = a + \rho \bar W

    Attributes
    ----------
        wanted : Wanted
        primal, dual : float
            Relative to the largest volume, and price; or to a typical one, 1, if that is larger.
    """

    wanted: Wanted
    primal: float = 1.0
    dual: float = 1.0

    @classmethod
    def opened(cls, traded: Traded) -> Exchange:
        """Before anybody wants any: each costs what its scenario is likely."""
        price = np.ones(traded.scenario.size)
        return cls(
            wanted=Wanted(
                traded=traded, price=price, target=traded.nothing, limit=traded.limit, penalty=1.0
            )
        )

    @property
    def residual(self) -> float:
        """The larger of the two."""
        return max(self.primal, self.dual)

    def after(self, volume: Array | None, relaxation: float) -> Exchange:
        """When agents want volumes, (K, N)."""
        assert volume is not None, "agents with contracts answer with volumes"
        traded, penalty, before = self.wanted.traded, self.wanted.penalty, self.wanted.target
        counted = relaxation * volume + (1 - relaxation) * before
        excess = traded.cleared(counted)
        target = (counted - excess[:, None]) * (traded.limit > 0)
        price = self.wanted.price + penalty * excess
        return Exchange(
            wanted=replace(self.wanted, price=price, target=target),
            primal=relative(volume - target, volume),
            dual=relative(penalty * (target - before), price),
        )

    @property
    def balanced(self) -> Exchange:
        """The same with a penalty that brings the two residuals into balance."""
        penalty = self.wanted.penalty * _change(self.primal, self.dual)
        return replace(self, wanted=replace(self.wanted, penalty=penalty))


def _change(primal: float, dual: float) -> float:
    """By what the penalty is multiplied to bring the two residuals into balance."""
    ratio = (primal + ACCURACY.tiny) / (dual + ACCURACY.tiny)
    return float(np.clip(np.sqrt(ratio), 0.2, 5.0))


def agree(game: Game, congestion: Array, wish: Array, penalty: float) -> Array:
    r"""The next targets of both ends of every edge, (S, T, 2E): the second step.

    .. math:: \min\; a (z_{mn}^2 + z_{nm}^2 + z_{mn} z_{nm})
        + \tfrac\rho2 ((z_{mn} - v_{mn})^2 + (z_{nm} - v_{nm})^2), \quad z_{mn} + z_{nm} \le 0

    in sum and difference, which do not interact; v is the `wish`.
    """
    other = game.partner(wish)
    total = penalty * (wish + other) / (penalty + 3 * congestion)
    total = np.minimum(total, 0.0) if game.surplus else np.zeros_like(total)
    return (total + penalty * (wish - other) / (penalty + congestion)) / 2


def _edge_marginal(congestion: Array, game: Game, quantity: Array) -> Array:
    """Derivative a (2 q_mn + q_nm) of the potential's congestion terms, EUR/MWh."""
    return congestion * (2 * quantity + game.partner(quantity))


def _replies(game: Game, problem: Subproblem, tau: Array, residual: float) -> tuple[Reply, Array]:
    """The agents' answers: the more exact, the nearer they are to agreement."""
    if not game.risk_averse:  # contracts change no tau then
        return reply_to(problem, tau), tau
    accuracy = float(np.clip(ACCURACY.care * residual, ACCURACY.reply, ACCURACY.care))
    return averse_reply(problem, tau, accuracy)


def _answer(
    game: Game, point: Array, reply: Reply, tau: Array, zeta: Array, exchange: Exchange | None
) -> Answer:
    """The agents' point; xi is what is missing where a trade is at its capacity."""
    gradients = np.zeros_like(point)
    game.pieces.put(gradients, reply.gradient)
    _, gradient = game.parted(gradients)
    _, quantity = game.parted(point)
    full = quantity >= game.capacity - ACCURACY.full * np.maximum(1.0, game.capacity)
    xi = np.where(full, np.maximum(reply.price[..., game.buyer] - gradient, 0.0), 0.0)
    hedges = None if exchange is None else _hedges(game, point, reply, tau, exchange)
    return Answer(point, tau, reply.price, zeta, xi, aligned=True, hedges=hedges)


def _hedges(game: Game, point: Array, reply: Reply, tau: Array, exchange: Exchange) -> Hedges:
    """The contracts agents hold, their prices, and the insurance that is best beside them."""
    traded = exchange.wanted.traded
    assert reply.volume is not None, "agents with contracts answer with volumes"
    price = traded.between(exchange.wanted.price * game.probability[traded.scenario], tau)
    left = game.costs(point) - traded.by_scenario(reply.volume, game.probability.size)
    return traded.settled(reply.volume, price, left, game.value_at_risk(left))


def require_supply(game: Game) -> None:
    """Refuse a market in which a prosumer cannot meet her least demand or shed her excess.

    Raises
    ------
    MarketError
        Naming her.
    """
    if game.stores is not None:
        raise MarketError(
            f"StorageUnit {listed(game.stores.names)} ties hours together, which "
            "ADMM's agents do not know: use GaussSeidel, Jacobi or market.optimize(n)."
        )
    least, most = game.net_import_limits
    bought = game.net_import(game.capacity)
    sold = np.inf if game.surplus else game.net_import(game.partner(game.capacity))
    slack = ACCURACY.full * np.maximum(1.0, np.abs(bought))
    short, long = least > bought + slack, most < -sold - slack
    unable = (short | long).any(axis=(0, 1))
    if bool(unable.any()):
        names = game.data.prosumers[np.flatnonzero(unable)]
        raise MarketError(
            f"Prosumers {listed(names)} cannot balance: least demand "
            "exceeds, or least generation cannot be got rid of within, what their limits and "
            "trade capacities allow. Widen them."
        )
