"""The market designs: whose risk counts, and what each of them refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

import numpy as np

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.given import POSITIVE, Given
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.places import Places
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.payments import commits, with_risk_of_payments
from pypsa_p2p.markets.clearing.planner import Planner
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.clearing.taking_prices import DRAWS, equilibria
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.markets.options import require_choice, require_type
from pypsa_p2p.markets.price_takers import (
    require_boxes_of,
    require_payable,
    require_takers,
    warn_of_several,
)
from pypsa_p2p.markets.social_cost import SocialCost, Utilitarian
from pypsa_p2p.markets.social_cost_checks import require_social_cost
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Vector

WEIGHTS: Final = Given("PeerToPeerMarket: weights", (PROSUMER,), POSITIVE)


@dataclass(frozen=True, kw_only=True)
class CentralizedMarket(Market):
    r"""A market operator minimises social cost: the benchmark (MODEL.md §4, (10), (24), (28)).

    Solve it with ``market.optimize(n)``, or inside PyPSA's own call,
    ``n.optimize(extra_functionality=market)``; `results` reads the solution.

    Parameters
    ----------
    aggregate : {"prosumers", "community"}
        Whose risk counts, where `risk` is given: each prosumer's,
        :math:`\sum_n CVaR_{\chi_n}[\Pi_n]` (28), or that of all costs together,
        :math:`CVaR_\chi[\sum_n \Pi_n]` (24). The second needs one attitude for all:
        ``CVaR(attitude=0.5)``.
    risk : RiskMeasure, optional
        How costs that differ by scenario are weighed; ``CVaR()`` takes the prosumers' own
        attitudes. Default: their expectation, risk-neutral.
    contracts : Contracts, optional
        What prosumers may trade to hedge those costs; needs `risk`. Default: nothing.
    surplus : bool
        Whether more may be sold over a trade edge than is bought over it, (1): the rest goes to
        the grid operator at the import price. If False the two are equal.
    delivery : {"trades", "grid"}
        "trades": the trade edges move the energy, whatever the grid. "grid": it must get from
        `grid_bus` to `grid_bus` over PyPSA's lines, links and transformers, by PyPSA's linear
        power flow within their limits (MODEL.md §6).
    here_and_now : sequence of str
        Assets by name (generators, links, storage units, stores) whose decision is the same in all
        scenarios, as it is made before any is known (MODEL.md §12). Of trades `add_trades` says
        when they are decided.
    welfare : SocialCost, optional
        Which function of the prosumers' costs is minimised (MODEL.md §14): ``Utilitarian()``, the
        sum, weighted if asked for; ``Maximin()``, ``Leximin()`` or ``Nash()``. Default: the sum.
    participation : bool
        Whether nobody may pay more than her reference: what she pays without trades, or what
        `welfare` was given.

    Raises
    ------
    MarketError
        An option that is none of these, or contracts without risk. What does not fit the network
        is refused when the market is solved.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> round(n.objective, 6)
    7.61029
    """

    aggregate: Literal["prosumers", "community"] = "prosumers"
    welfare: SocialCost | None = None
    participation: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("aggregate", self.aggregate, ("prosumers", "community"))
        require_type("welfare", self.welfare, SocialCost)
        require_choice("participation", self.participation, (True, False))

    @property
    def compares(self) -> bool:
        """Whether it matters whose a cost is, beyond the risk she takes."""
        return self.participation or not (self.welfare is None or self.welfare.even)

    @property
    def cross(self) -> float:
        """The planner minds both sides' congestion cost."""
        return 1.0

    def groups(self, each: Envelope) -> Envelope:
        """Everybody's own, or the community's, as one."""
        return each if self.aggregate == "prosumers" else each.of_first

    def whose_risk(self, data: MarketData, each: Envelope) -> Envelope:
        """Everybody's own, where costs are compared."""
        return each if self.compares else super().whose_risk(data, each)

    def planner(self, data: MarketData) -> Planner | None:
        """Who compares costs, where their sum is not all that matters."""
        if not self.compares:
            return None
        return (self.welfare or Utilitarian()).planner(data, self.participation)

    @property
    def formulation(self) -> Self | None:
        """As of any market: which costs are compared adds nothing to the model, either."""
        if super().formulation is None:
            return None
        return replace(self, risk=None, contracts=None, welfare=None, participation=False)

    def settings(self) -> dict[str, Any]:
        """What was asked for, the social cost among it."""
        welfare = None if self.welfare is None else self.welfare.settings()
        return {**super().settings(), "welfare": welfare}

    def check(self, data: MarketData) -> None:
        """Refuse limits on contracts that cancel, attitudes that differ, what is not convex."""
        if self.compares:
            named = "participation=True" if self.welfare is None else type(self.welfare).__name__
            require_social_cost(self, data, named=named, aggregate=self.aggregate)
        terms = self.terms(data)
        limited = terms is not None and not terms.complete
        if self.aggregate == "community" and limited:
            raise MarketError(
                "aggregate='community' minimises the risk of the community's cost, in which "
                "contracts inside it cancel, so that limit and payoff mean nothing. Use "
                "aggregate='prosumers', or complete contracts, Contracts()."
            )
        if self.aggregate == "community" and not self.envelope(data).alike:
            raise MarketError(
                "aggregate='community' takes one measure for all, but the prosumers' differ, as "
                "their own attitudes do: give one, risk=CVaR(attitude=0.5)."
            )


@dataclass(frozen=True, kw_only=True)
class PeerToPeerMarket(Market):
    r"""Every prosumer minimises her own risk-adjusted cost, given the others' trades.

    A generalized Nash game (MODEL.md §4, (21), (38)); its variational equilibrium gives an
    edge one price, whoever looks at it.

    Parameters
    ----------
    equilibrium : {"variational", "generalized"}
        At the variational equilibrium both ends of an edge value it alike: it has one price. At a
        generalized Nash equilibrium they may not; there are many, of which `weights` select one.
    weights : scalar, sequence, mapping or Series by prosumer, optional
        Rosen's weights r > 0, with "generalized" alone; only their ratios matter: r_n times n's
        multipliers of what is shared is the same for all. The larger her weight, the less a
        shared limit costs her; equal weights, the default, give the variational one.
    payments : {"none", "risk"}
        Whether what a prosumer pays for her trades in a scenario is part of her risk. "none": it is
        that of her cost Pi (7) alone, as in the paper. "risk": that of cost and payments, at prices
        that nobody moves; needs `risk`, no congestion and ``delivery="trades"``, and contracts that
        are complete where there are any. Without decisions that scenarios share the dispatch is the
        risk-neutral one; with them there may be several equilibria: the one of least social cost is
        reported, and `sample_equilibria` has all that are found (MODEL.md §13).
    risk, contracts, surplus, delivery, here_and_now
        As in `CentralizedMarket`; it is each prosumer's own risk that counts.

    Notes
    -----
    With congestion > 0 and risk there is no potential: everybody's best answers to the others'
    trades are repeated until they settle, a convex problem each time, sped up by extrapolation.
    Where they do not settle, `ConvergenceError` holds the changes of every round in `history`.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).risk_adjusted_cost.round(6).values
    array([-0.678826,  3.981606, 10.674345])

    With what they pay for their trades in the risk:

    >>> p2p.PeerToPeerMarket(risk=p2p.CVaR(), payments="risk", surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).risk_adjusted_cost.round(4).values
    array([-1.7865,  8.7513, 15.0955])
    """

    equilibrium: Literal["variational", "generalized"] = "variational"
    weights: Any = None
    payments: Literal["none", "risk"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("payments", self.payments, ("none", "risk"))
        require_choice("equilibrium", self.equilibrium, ("variational", "generalized"))
        object.__setattr__(self, "weights", WEIGHTS.read(self.weights))
        if self.equilibrium == "variational" and self.weights is not None:
            raise MarketError(
                "At the variational equilibrium all weights are equal: leave weights out, or ask "
                "for equilibrium='generalized'."
            )
        if self.payments == "risk":
            require_payable(self)

    @property
    def cross(self) -> float:
        """A buyer minds her own congestion cost."""
        return 0.5

    def check(self, data: MarketData) -> None:
        """Refuse contracts that are not complete at unequal weights."""
        averse = self.envelope(data).averse
        uneven = bool(np.ptp(self.shares(data)) > 0)
        terms = self.terms(data)
        limited = terms is not None and not terms.complete
        if uneven and averse and limited:
            raise MarketError(
                "In an equilibrium of unequal weights contracts must be complete: leave limit and "
                "payoff out, or use equal weights."
            )
        if self.payments == "risk":
            require_takers(data, terms)

    @property
    def formulation(self) -> Self | None:
        """The market without risk, contracts, and payments in it, which add nothing."""
        plain = replace(self, risk=None, contracts=None, payments="none")
        return super(PeerToPeerMarket, plain).formulation

    def problem(self, compiled: CompiledModel, places: Places, data: MarketData) -> MarketProblem:
        """What is minimised, and by whom; and which trades are paid at prices of the scenario."""
        problem = super().problem(compiled, places, data)
        if self.payments == "none":
            return problem
        paid = np.broadcast_to(~data.day_ahead.to_numpy(), places.reciprocity.shape)
        return replace(problem, paid=paid.ravel())

    def solution(self, compiled: CompiledModel, places: Places, data: MarketData) -> MarketSolution:
        """Solve the market, or say why it has no solution."""
        if self.payments == "none" or self.contracts is not None:
            return super().solution(compiled, places, data)
        found = self.solutions(compiled, places, data)
        warn_of_several(len(found))
        return found[0]

    def solutions(
        self,
        compiled: CompiledModel,
        places: Places,
        data: MarketData,
        *,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> list[MarketSolution]:
        """All equilibria found where payments are at risk, the least costly first.

        Raises
        ------
        MarketError
            The market has no solution, or is not one of price takers (naming why).
        ConvergenceError
            None was found.
        """
        each, problem = self.envelope(data), self.problem(compiled, places, data)
        neutral = replace(self, risk=None, payments="none").solution(compiled, places, data)
        committed = commits(compiled, each)
        if not committed.size:
            program = self._program(compiled, data, each)
            return [with_risk_of_payments(neutral, program, each, problem, places)]
        require_boxes_of(each, data.prosumers, committed)
        return equilibria(compiled, problem, places, data, each, neutral, draws=draws, seed=seed)

    def social_cost(self, compiled: CompiledModel, places: Places, data: MarketData) -> float:
        """What the market costs, EUR, and nothing else of its solution, or why it has none."""
        if self.payments == "none" or self.contracts is not None:
            return super().social_cost(compiled, places, data)
        return self.solutions(compiled, places, data)[0].objective

    def shares(self, data: MarketData) -> Vector:
        """Rosen's weights, 1 on average; (prosumer)."""
        weights = super().shares(data)
        if self.weights is not None:
            weights = WEIGHTS.on(self.weights, data.prosumers).to_numpy()
        return weights / weights.mean() if np.ptp(weights) > 0 else np.ones(weights.size)
