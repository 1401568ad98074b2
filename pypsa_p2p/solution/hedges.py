"""Contracts of a solved market: volumes, prices and the regimes of Theorem 15 (MODEL.md §5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import (
    CONTRACT_NAME,
    CONTRACT_PAYOUT,
    INSURANCE,
    PROSUMER,
    SCENARIO,
    TERMS,
)
from pypsa_p2p.common.tables import static_values
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.network.market_data import MarketData

INSURED, TRADED, WORTHLESS = "insured", "traded", "worthless"


@dataclass(frozen=True, kw_only=True)
class RecordedHedges:
    """Contracts of a solved market, as its network keeps them or its solution has them.

    Attributes
    ----------
    payout, insurance : DataArray (scenario, prosumer)
        What W pays, and J; EUR in the scenario.
    volume : DataArray (scenario or contract_name, prosumer)
        W, units.
    clearing_price, price : DataArray (scenario or contract_name)
        alpha that clears, and what is paid inside the community; EUR now per unit.
    payoff : DataArray (contract_name, scenario) or None
        What a unit pays, EUR; None: 1 EUR in its scenario.
    insurance_price : DataArray (scenario) or None
        gamma.
    limit : DataArray (scenario or contract_name, prosumer) or None
    """

    payout: xr.DataArray
    insurance: xr.DataArray
    volume: xr.DataArray
    clearing_price: xr.DataArray
    price: xr.DataArray
    payoff: xr.DataArray | None
    insurance_price: xr.DataArray | None
    limit: xr.DataArray | None

    @property
    def premium(self) -> xr.DataArray:
        r"""What each prosumer pays now, :math:`\sum(\alpha W + \gamma J)`, EUR; (prosumer)."""
        paid = (self.price * self.volume).sum(self.price.dims)
        if self.insurance_price is None:
            return paid
        return paid + (self.insurance_price * self.insurance).sum(SCENARIO)

    @property
    def premium_at_clearing(self) -> xr.DataArray:
        """What each would pay now at the clearing prices, EUR; (prosumer)."""
        return self.premium - self.beyond_clearing

    @property
    def settled(self) -> xr.DataArray:
        """What contracts and insurance pay, EUR; (scenario, prosumer)."""
        return self.payout + self.insurance

    def worth(self, tau: xr.DataArray) -> xr.DataArray:
        """What a unit of each contract is worth at risk-adjusted probabilities, EUR now."""
        return tau if self.payoff is None else (self.payoff * tau).sum(SCENARIO)

    @property
    def beyond_clearing(self) -> xr.DataArray:
        """What each pays for W above the clearing prices, EUR; (prosumer); sums to zero."""
        extra = self.price - self.clearing_price
        return (extra * self.volume).sum(extra.dims)

    def variables(self) -> dict[str, xr.DataArray]:
        """As `results` shows them."""
        found = {
            "contract": self.payout,
            "insurance": self.insurance,
            "contract_price": self.price,
        }
        if self.insurance_price is not None:
            found["insurance_price"] = self.insurance_price
        if self.payoff is not None:
            found |= {"contract_volume": self.volume, "contract_payoff": self.payoff}
        return found


def recorded_hedges(
    n: pypsa.Network, data: MarketData, settings: Mapping[str, Any]
) -> RecordedHedges | None:
    """The contracts that `record_market` wrote; None where the market had none."""
    if not settings["contracts"]:
        return None
    paid = {
        column: static_values(n, "Bus", column, data.prosumers).to_numpy()
        for column in (CONTRACT_PAYOUT, INSURANCE)
    }
    return labelled_hedges(data, {**settings[TERMS], **paid})


def labelled_hedges(data: MarketData, terms: Mapping[str, Any]) -> RecordedHedges:
    """What `record.contracts_held` returns, with labels."""
    own = terms["payoff"] is not None
    kind = {CONTRACT_NAME: pd.Index(terms["names"])} if own else {SCENARIO: data.scenarios}
    by_prosumer = {**kind, PROSUMER: data.prosumers}
    each = {SCENARIO: data.scenarios, PROSUMER: data.prosumers}

    def array(key: str, coords: Mapping[str, pd.Index]) -> xr.DataArray | None:
        values = terms[key]
        if values is None:
            return None
        return xr.DataArray(np.asarray(values, dtype=float), coords=coords, dims=list(coords))

    payout, insurance = array(CONTRACT_PAYOUT, each), array(INSURANCE, each)
    price, clearing = array("price", kind), array("clearing_price", kind)
    volume = array("volume", by_prosumer) if own else payout
    assert payout is not None and insurance is not None
    assert price is not None and clearing is not None and volume is not None
    return RecordedHedges(
        payout=payout,
        insurance=insurance,
        volume=volume,
        clearing_price=clearing,
        price=price,
        payoff=array("payoff", {**kind, SCENARIO: data.scenarios}) if own else None,
        insurance_price=array("insurance_price", {SCENARIO: data.scenarios}),
        limit=array("limit", by_prosumer),
    )


def regimes(
    hedges: RecordedHedges, tau: xr.DataArray, probability: xr.DataArray, may_hold: Envelope
) -> xr.DataArray:
    r"""The regimes of Theorem 15, by scenario.

    Parameters
    ----------
    may_hold : Envelope
        The risk-adjusted probabilities of each prosumer.

    Returns
    -------
    DataArray (scenario)
        Whether every :math:`\tau_n` is the most that all may hold, :math:`p/(1-\min\chi)` of CVaR.
        Its coordinate ``regime`` says

        - "insured" where a EUR in the scenario is worth the insurer's price to somebody,
          :math:`\alpha = \gamma`;
        - "worthless" where it is worth nothing to anybody, every :math:`\tau_n = 0`; that nobody
          insures does not alone make it so (MODEL.md §8.6);
        - else "traded", :math:`\alpha < \gamma`.
    """
    most = tau.max(PROSUMER)
    worthless = most <= ACCURACY.promised * probability
    insured = xr.zeros_like(worthless)
    if hedges.insurance_price is not None:
        insured = most >= hedges.insurance_price * (1 - ACCURACY.promised)
    cap = tau.isel({PROSUMER: 0}, drop=True).copy(data=may_hold.common.dearest)
    kind = np.where(insured, INSURED, np.where(worthless, WORTHLESS, TRADED))
    at_cap = (abs(tau - cap) <= ACCURACY.promised * cap).all(PROSUMER)
    return at_cap.assign_coords(regime=(SCENARIO, kind.astype(object)))
