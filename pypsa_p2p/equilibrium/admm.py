r"""Consensus ADMM on the bilateral quantities: how agents agree on the variational equilibrium.

Both ends of an edge hold their own idea q of what they buy. Each iteration

1. every agent solves her own problem, her risk measure included, given a price y and a target z
   of each of her trades, with a penalty :math:`\frac\rho2 (q - z)^2`;
2. partners tell each other their quantities, and both work out the same next targets, which
   satisfy (1), and prices, in closed form.

An edge's multiplier of (1) is one number for both ends, so what it converges to is the
*variational* equilibrium. Risk-neutral, it solves the convex potential problem of MODEL.md §4,
whose congestion terms join the second step, and converges from any start; the same for
risk-averse agents with a = 0 (Proposition 12). Risk-averse with a > 0 there is no potential: each
agent takes the partner's quantity in a q_mn q_nm from the last exchange. A fixed point is a
variational equilibrium; that it is reached is observed, not proved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pypsa_p2p.equilibrium.averse import Proximal, averse_response, reply_to
from pypsa_p2p.equilibrium.game import Game
from pypsa_p2p.equilibrium.gauss_seidel import check_numbers
from pypsa_p2p.equilibrium.knapsack import Array
from pypsa_p2p.equilibrium.play import Answer, Iterate, assessed, relative
from pypsa_p2p.errors import MarketError


@dataclass(frozen=True, kw_only=True)
class ADMM:
    r"""Agents agree on quantities edge by edge, and so find the variational equilibrium.

    Parameters
    ----------
    penalty : float
        rho, EUR/MW2h: how dearly disagreement is paid. The first one where it adapts.
    relaxation : float
        In (0, 2): how far past their last targets the agents' answers count; 1 is plain ADMM.
    adaptive : bool
        Keep the primal and the dual residual in balance by changing rho (ever more rarely).
    tolerance : float
        On the primal residual (disagreement, relative to the quantities) and on the dual one
        (movement of targets times rho, relative to the prices).
    max_iterations : int
    """

    penalty: float = 1.0
    relaxation: float = 1.6
    adaptive: bool = True
    tolerance: float = 1e-8
    max_iterations: int = 5000

    def __post_init__(self) -> None:
        check_numbers(self, tolerance=(0, 1), max_iterations=(1, np.inf))
        if not 0 < self.penalty < np.inf:
            raise MarketError(f"ADMM: penalty {self.penalty!r} must be positive.")
        if not 0 < self.relaxation < 2:
            raise MarketError(f"ADMM: relaxation {self.relaxation!r} must lie in (0, 2).")

    def iterates(
        self, game: Game, target: Array, reciprocity: Array, tau: Array
    ) -> Iterator[Iterate]:
        """Iterations without end from targets, multipliers of (1) over p w, and tau."""
        require_supply(game)
        shared = np.zeros_like(game.congestion) if game.risk_averse else game.congestion
        price = reciprocity + _edge_marginal(shared, game, target)
        balance = Balance(self.penalty, self.adaptive)
        while True:
            penalty = balance.penalty
            near = Proximal(price, target, penalty, game.partner(target))
            reply, tau = agents_reply(game, near, tau)
            power, quantity, _ = reply.response
            counted = self.relaxation * quantity + (1 - self.relaxation) * target
            agreed = edges_agree(game, shared, counted + price / penalty, penalty)
            price = price + penalty * (counted - agreed)
            moved, target = agreed - target, agreed
            primal = relative(quantity - target, quantity)
            dual = relative(penalty * moved, price)
            zeta = price - _edge_marginal(shared, game, target)
            yield Iterate(
                residual=max(primal, dual),
                recorded={
                    "primal_residual": primal,
                    "dual_residual": dual,
                    "penalty": penalty,
                    **assessed(game, power, quantity),
                    "rounds": 1,
                },
                answer=_Answering(game, near, tau, zeta),
            )
            balance.adapt(primal, dual)
"""placeholder"""
