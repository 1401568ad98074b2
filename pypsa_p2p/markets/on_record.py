"""The market a network was solved with, as a market again: of all of its prosumers, or of some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.names import OWN_MULTIPLIERS, PROSUMER, TERMS
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.contract_terms import CLEARING, Terms
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.markets.record import recorded_risk
from pypsa_p2p.markets.risk import NEUTRAL
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedMarket(Market):
    """What is on record of a market, which is all that solving it takes.

    Data may be those of some of its prosumers: each keeps her risk, attitude and limits.

    Attributes
    ----------
    minded : float
        `cross`.
    together : bool
        Whether the community's risk is taken.
    attitude : DataArray (prosumer)
        Of all prosumers, when it was solved.
    traded : Terms or None
        The contracts, with the limits of all prosumers.
    """

    minded: float
    together: bool
    attitude: xr.DataArray
    traded: Terms | None

    @classmethod
    def of(cls, settings: Mapping[str, Any], data: MarketData) -> RecordedMarket:
        """The market on record, of which `data` are those of all prosumers.

        It is that of equal weights.

        Raises
        ------
        MarketError
            Its risk measure is not defined here.
        """
        assert not settings.get(OWN_MULTIPLIERS, False), "weights are not kept here"
        risk, attitude = recorded_risk(settings, data)
        return cls(
            risk=risk if settings["risk_averse"] else None,
            surplus=settings["surplus"],
            delivery=settings["delivery"],
            here_and_now=settings.get("here_and_now", ()),
            minded=float(settings["cross"]),
            together=settings["together"],
            attitude=attitude,
            traded=_terms(settings[TERMS], data) if settings["contracts"] else None,
        )

    @property
    def cross(self) -> float:
        """As it was."""
        return self.minded

    def envelope(self, data: MarketData) -> Envelope:
        """The members' rows of what all may hold."""
        every = (self.risk or NEUTRAL).envelope(data.probability, self.attitude)
        whose = self._places(data)
        return every.among(whose)

    def terms(self, data: MarketData) -> Terms | None:
        """The contracts, with the members' limits."""
        if self.traded is None or self.traded.limit is None:
            return self.traded
        return replace(self.traded, limit=self.traded.limit[:, self._places(data)])

    def groups(self, each: Envelope) -> Envelope:
        """Everybody's own, or the community's, as one."""
        return each.of_first if self.together else each

    @property
    def prosumers(self) -> pd.Index:
        """Names of all of its prosumers, (N,)."""
        return self.attitude.indexes[PROSUMER]

    def _places(self, data: MarketData) -> Labels:
        """Positions of the data's prosumers among all."""
        return np.asarray(self.prosumers.get_indexer(data.prosumers))


def _terms(kept: Mapping[str, Any], data: MarketData) -> Terms:
    """The contracts on record; what is paid for them moves money inside only."""

    def array(key: str) -> Any:
        return None if kept[key] is None else np.asarray(kept[key], dtype=float)

    payoff = array("payoff")
    return Terms(
        names=pd.Index(kept["names"], dtype=object),
        payoff=np.eye(len(data.scenarios)) if payoff is None else payoff,
        limit=array("limit"),
        insurance_price=array("insurance_price"),
        price=CLEARING,
        every_scenario=payoff is None,
    )
