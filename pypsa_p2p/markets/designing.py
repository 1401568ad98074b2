"""What a market design says of itself: what is minimised, by whom, at whose risk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, Self

import linopy
import numpy as np

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.given import as_settings
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.delivery import define_delivery
from pypsa_p2p.formulation.places import Places
from pypsa_p2p.formulation.trading import define_trading, trade_cost
from pypsa_p2p.markets.by_prosumer import RiskByProsumer
from pypsa_p2p.markets.clearing.planner import Planner
from pypsa_p2p.markets.clearing.problem import MarketProblem, risk_program
from pypsa_p2p.markets.contract_terms import Terms
from pypsa_p2p.markets.contracts import Contracts
from pypsa_p2p.markets.day_ahead import with_day_ahead_once
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.markets.options import as_assets, require_choice, require_type
from pypsa_p2p.markets.risk import NEUTRAL, RiskMeasure
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.program import RiskProgram

#: `cross` of a market in which everybody minds her own cost only.
EQUILIBRIUM: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Design(ABC):
    """The options of all designs, and what a `Market` is solved and recorded by.

    A design overrides what it says otherwise: `cross`, `check`, `groups`, `shares`, `planner`,
    `formulate`.
    """

    risk: RiskMeasure | None = None
    contracts: Contracts | None = None
    surplus: bool = True
    delivery: Literal["trades", "grid"] = "trades"
    here_and_now: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.risk, Mapping):
            object.__setattr__(self, "risk", RiskByProsumer(self.risk))
        require_type("risk", self.risk, RiskMeasure, "a mapping from prosumers to such")
        if self.risk is not None:
            self.risk.require_kept()
        require_type("contracts", self.contracts, Contracts)
        require_choice("surplus", self.surplus, (True, False))
        require_choice("delivery", self.delivery, ("trades", "grid"))
        object.__setattr__(self, "here_and_now", as_assets(self.here_and_now))
        if self.contracts is not None and self.risk is None:
            raise MarketError(
                "Contracts hedge risk, but the market is risk-neutral: give a risk measure, "
                "risk=CVaR(), or drop the contracts."
            )

    @property
    @abstractmethod
    def cross(self) -> float:
        """Share of the partner's congestion cost that whoever decides a trade minds.

        1: all of it, as a planner (12); 0.5: a buyer minds her own cost only (22), since of
        a q_mn q_nm one half is hers.
        """

    def check(self, data: MarketData) -> None:  # noqa: B027 - most designs refuse nothing
        """Raise `MarketError` for what this design cannot honour."""

    def terms(self, data: MarketData) -> Terms | None:
        """The contracts traded, as arrays; None where there are none."""
        if self.contracts is None:
            return None
        return self.contracts.terms(data.scenarios, data.prosumers)

    def envelope(self, data: MarketData) -> Envelope:
        """The risk-adjusted probabilities that each prosumer may hold."""
        return (self.risk or NEUTRAL).envelope(data.probability, data.risk_attitude)

    def whose_risk(self, data: MarketData, each: Envelope) -> Envelope:
        """What each group may hold whose risk is taken: the prosumers, or the community, as one.

        With complete contracts the community holds what all of its members may (MODEL.md §5); a
        risk-neutral community needs no distinction.
        """
        terms = self.terms(data)
        if (terms is not None and terms.complete) or not each.averse:
            return each.common
        return self.groups(each)

    def groups(self, each: Envelope) -> Envelope:
        """Whose risk is taken where it is not shared: everybody's own."""
        return each

    def shares(self, data: MarketData) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Weight of each prosumer's cost in what is solved, 1 on average."""
        return np.ones(len(data.prosumers))

    def planner(self, data: MarketData) -> Planner | None:  # noqa: ARG002
        """Who compares the prosumers' costs otherwise than by a sum of `shares`."""
        return None

    @property
    def formulation(self) -> Self | None:
        """What the model depends on: the market without risk and contracts, which add nothing.

        None for designs of one's own that put something else into the model.
        """
        own = type(self).formulate is not Design.formulate
        return None if own else replace(self, risk=None, contracts=None)

    def formulate(self, m: linopy.Model, data: MarketData) -> None:
        """Add trades, their cost and, where the grid delivers them, its part to a PyPSA model."""
        if len(data.edges):
            define_trading(m, data, self.surplus)
            m.objective = m.objective.expression + trade_cost(m, data, self.cross)
        if data.delivering is not None:
            define_delivery(m, data, data.delivering)

    def problem(self, compiled: CompiledModel, places: Places, data: MarketData) -> MarketProblem:
        """What is minimised, and by whom."""
        each, terms = self.envelope(data), self.terms(data)
        held = self.whose_risk(data, each)
        return MarketProblem(
            program=with_day_ahead_once(self._program(compiled, data, held), places, data),
            partner=places.partner,
            cross=self.cross,
            share=np.append(self.shares(data), 1.0)[compiled.owner],
            trades=np.stack(places.quantity).reshape(2, -1),
            fees=places.fees,
            reciprocity=places.reciprocity.ravel(),
            exports=places.exports,
            priced=places.priced.astype(float),
            covers=held.covers,
            reported=places.reported,
            terms=terms,
            by_prosumer=None if terms is None else self._program(compiled, data, each),
            covers_by_prosumer=() if terms is None else each.covers,
            planner=self.planner(data),
        )

    def _program(self, compiled: CompiledModel, data: MarketData, held: Envelope) -> RiskProgram:
        p = data.probability.to_numpy()
        return risk_program(compiled, p, (held.least, held.most), data.fixed_part)

    def require_convex(self, data: MarketData, each: Envelope) -> None:
        """Refuse a planner who sums the risks of several, where trades are congested."""
        several = self.whose_risk(data, each).count > 1
        if self.cross == 1.0 and several and bool((data.congestion > 0).any()):
            raise MarketError(
                "A planner who sums the prosumers' CVaR faces a problem that is not convex when "
                "congestion > 0: the cross term a q_mn q_nm is weighted by the risk-adjusted "
                "probabilities of one prosumer on one side and of another on the other. Use "
                "aggregate='community', complete Contracts(), or congestion 0."
            )

    def promise(self, data: MarketData, each: Envelope) -> dict[str, Any]:
        """Whose risk was taken, and which equilibrium, if any, the solution is."""
        together = self.groups(each).count < len(data.prosumers)
        kind = getattr(self, "equilibrium", "variational")
        if np.ptp(self.shares(data)) > 0:
            kind = "generalized"
        return {
            "together": together and self.risk is not None,
            "equilibrium": kind if self.cross == EQUILIBRIUM else None,
        }

    def settings(self) -> dict[str, Any]:
        """What was asked for, as plain values that survive netCDF."""
        return {
            **{field.name: as_settings(getattr(self, field.name)) for field in fields(self)},
            "design": type(self).__name__,
            "cross": self.cross,
            "risk_averse": self.risk is not None,
            "risk": (self.risk or NEUTRAL).settings(),
            "contracts": self.contracts is not None,
        }
