r"""Contracts among agents: each pays 1 EUR in one scenario (MODEL.md §5).

An agent who holds W has the risk :math:`R_n[\Pi_n - W_n]`. Insurance from outside at
:math:`\gamma` keeps her risk-adjusted probabilities below it, :math:`\tau \le \gamma`, and she
buys of it what exceeds her value at risk there:

.. math:: \min_{J \ge 0} R[Y - J] + \sum_\omega \gamma^\omega J^\omega
    = \max \{ \tau' Y : \tau \in \mathcal{U}, \tau \le \gamma \}
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.equilibrium.game.knapsack import Array, Flags
from pypsa_p2p.equilibrium.game.pieces import Positions
from pypsa_p2p.markets.clearing.volumes import Hedges
from pypsa_p2p.markets.contract_terms import Terms


@dataclass(frozen=True, kw_only=True, eq=False)
class Traded:
    """The contracts of a game.

    Attributes
    ----------
    scenario : (K,)
        Position of the one in which each pays.
    limit : (K, N)
        Most that each may buy or sell, EUR in the scenario.
    complete : bool
        Whether there is one for every scenario, without limits.
    insured : (S, N)
        Where insurance is cheaper than the most an agent's probability may be.
    """

    scenario: Positions
    limit: Array
    complete: bool
    insured: Flags

    @classmethod
    def of(cls, terms: Terms, most: Array) -> Traded:
        """What terms say, `most` (S, N) being the largest probabilities without insurance.

        Raises
        ------
        MarketError
            A contract pays in several scenarios, or not 1 EUR.
        """
        several = terms.names[((terms.payoff != 0).sum(axis=1) != 1) | (terms.payoff.sum(1) != 1)]
        if len(several):
            raise MarketError(
                f"Contracts {listed(several)} do not pay 1 EUR in one scenario alone; the agents' "
                "algorithms know no other payoffs. Use market.optimize(n), or name scenarios: "
                "Contracts(payoff=[...])."
            )
        unlimited = np.full((len(terms.names), most.shape[1]), np.inf)
        limit = unlimited if terms.limit is None else terms.limit
        insured = np.zeros(most.shape, dtype=bool)
        if terms.insurance_price is not None:
            insured = terms.insurance_price[:, None] < most
        return cls(
            scenario=terms.payoff.argmax(axis=1),
            limit=np.where(terms.tradable[:, None], limit, 0.0),
            complete=terms.complete,
            insured=insured,
        )

    @property
    def nothing(self) -> Array:
        """No contracts, (K, N)."""
        return np.zeros_like(self.limit)

    def by_scenario(self, volume: Array, scenarios: int) -> Array:
        """What volumes, (K, n), pay, (S, n)."""
        paid = np.zeros((scenarios, volume.shape[1]))
        paid[self.scenario] = volume
        return paid

    def cleared(self, volume: Array) -> Array:
        """What volumes, (K, N), are on average over those who trade, (K,): 0 where they clear."""
        traders = np.count_nonzero(self.limit, axis=1)
        return np.asarray(volume.sum(axis=1) / np.maximum(traders, 1))

    def between(self, price: Array, tau: Array) -> Array:
        """Prices, (K,), no less and no more than what contracts are worth at tau, (S, N).

        The middle where nobody has a partner, as any would clear.
        """
        low, high = tau[self.scenario].min(axis=1), tau[self.scenario].max(axis=1)
        tradable = np.count_nonzero(self.limit, axis=1) > 1
        return np.where(tradable, np.clip(price, low, high), 0.5 * (low + high))

    def settled(self, volume: Array, price: Array, left: Array, level: Array) -> Hedges:
        """Volumes that clear, without premium where they are complete, and insurance.

        Parameters
        ----------
        volume : (K, N)
        price : (K,)
            EUR now.
        left, level : (S, N), (N,)
            Costs that volumes leave, and values at risk, EUR.
        """
        held = volume - self.cleared(volume)[:, None] * (self.limit > 0)
        insurance = np.where(self.insured, np.maximum(left - level, 0.0), 0.0)
        if self.complete:
            premium = price @ held / price.sum()
            held = held - premium
        return Hedges(volume=held, insurance=insurance, price=price)

    def scaled(self, money: float) -> Traded:
        """The same where 1 stands for so many EUR."""
        return replace(self, limit=self.limit / money)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    r"""What ADMM adds for contracts, outside of risk, and who wants how many of them.

    .. math:: \sum_k p_k \big( a_k W_k + \tfrac\rho2 (W_k - z_k)^2 \big), \quad |W_k| \le limit

    Attributes
    ----------
    traded : Traded
    price : (K,)
        a, EUR now over p.
    target, limit : (K, n)
        z and the agents' limits.
    penalty : float
        rho, 1/EUR.
    """

    traded: Traded
    price: Array
    target: Array
    limit: Array
    penalty: float

    def take(self, rows: Positions) -> Wanted:
        """That of some of the agents."""
        return replace(self, target=self.target[:, rows], limit=self.limit[:, rows])

    def volume(self, ratio: Array) -> Array:
        r"""The best W, (K, n), for :math:`\tau / p`, (S, n)."""
        gain = ratio[self.traded.scenario] - self.price[:, None]
        return np.clip(self.target + gain / self.penalty, -self.limit, self.limit)

    def rate(self, volume: Array, probability: Array) -> Array:
        r"""By how much what W pays rises with :math:`\tau`, (S, n)."""
        free = np.abs(volume) < self.limit
        weight = probability[self.traded.scenario][:, None] * self.penalty
        return self.traded.by_scenario(free / weight, probability.size)
