"""Prices in money of the scenario (MODEL.md §4).

A multiplier is worth now, before the scenario is known. What it is in money of the scenario
depends on who pays: it is divided by her risk-adjusted probability of the scenario, and by the
hours. Money of a scenario is worth the same to all, and can be paid between them at one price,
where all their risk-adjusted probabilities agree.
"""

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
    META,
    NAME,
    PROSUMER,
    RISK_ADJUSTED_PROBABILITY,
    SCENARIO,
    SNAPSHOT,
    WELFARE_WEIGHT,
)
from pypsa_p2p.common.tables import Numbers, dynamic_values, static_values
from pypsa_p2p.markets.record import worth_of_money
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Flags


def weighs(tau: Numbers, probability: Numbers) -> Flags:
    """Whether each prosumer weighs each scenario at all, (S, N)."""
    return np.asarray(tau > ACCURACY.promised * probability[:, None])


def has_weight(settings: Mapping[str, Any], like: xr.DataArray) -> Flags:
    """Whether the market minds what each prosumer pays at all, (N,)."""
    given = settings.get(WELFARE_WEIGHT)
    return np.ones(like.sizes[PROSUMER], dtype=bool) if given is None else np.array(given) > 0.0


def alike(tau: Numbers) -> Flags:
    """Whether all prosumers' probabilities, (S, N), of a scenario agree, (S,)."""
    most = tau.max(axis=1)
    return np.asarray(most - tau.min(axis=1) <= ACCURACY.promised * most)


def in_money(now: Numbers, of_limit: Numbers | float, tau: Numbers, weighed: Flags) -> Numbers:
    """Prices now in money of the scenario: those of the limit where it is not weighed.

    All (S, T, K); `tau` and `weighed` of those who pay.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weighed, now / tau, of_limit)


def feared(n: pypsa.Network, data: MarketData) -> xr.DataArray:
    """Risk-adjusted probabilities on record, (scenario, prosumer)."""
    tau = static_values(n, "Bus", RISK_ADJUSTED_PROBABILITY, data.prosumers)
    return tau.rename({NAME: PROSUMER}).transpose(SCENARIO, PROSUMER)


@dataclass(frozen=True, kw_only=True)
class Money:
    """What money of each scenario is worth now to each prosumer.

    Attributes
    ----------
    n, data : Network, MarketData
        Solved with a market.
    tau : DataArray (scenario, prosumer)
        Her risk-adjusted probability, EUR now per EUR in the scenario; the probability where
        multipliers are prices times that (`record.worth_of_money`), 0 of whose cost a planner does
        not mind, whose money has no price.
    weighed : DataArray (scenario, prosumer)
        Whether she weighs the scenario at all.
    """

    n: pypsa.Network
    data: MarketData
    tau: xr.DataArray
    weighed: xr.DataArray

    @classmethod
    def of(cls, n: pypsa.Network, data: MarketData) -> Money:
        """What the tables of a solved network hold."""
        like = feared(n, data)
        p = data.probability.to_numpy()
        counts = has_weight(n.meta[META], like)
        worth = worth_of_money(like.to_numpy(), p, n.meta[META])
        tau = like.copy(data=np.where(counts, worth, 0.0))
        weighed = like.copy(data=weighs(tau.to_numpy(), p))
        return cls(n=n, data=data, tau=tau, weighed=weighed)

    @property
    def alike(self) -> xr.DataArray:
        """Whether all prosumers' probabilities of a scenario agree, (scenario)."""
        agree = alike(self.tau.transpose(SCENARIO, PROSUMER).to_numpy())
        return self.data.probability.copy(data=agree)

    @property
    def feared_over_tau(self) -> xr.DataArray:
        """Risk-adjusted probabilities over `tau`, (scenario, prosumer): 1 where it is those."""
        real = feared(self.n, self.data)
        return real.copy(data=np.where(real == self.tau, 1.0, real / self.tau.where(self.weighed)))

    @property
    def counted(self) -> xr.DataArray:
        """What an error in money of a scenario counts for: tau, and at least p."""
        return self.tau.where(self.tau >= self.data.probability, self.data.probability)

    def of_limit(self, series: str) -> xr.DataArray:
        """Prices of scenarios that prosumers do not weigh, NaN elsewhere and where none is.

        Dims (scenario, snapshot, prosumer), EUR/MWh.
        """
        prosumers, sns = self.data.prosumers, self.data.snapshots
        kept = dynamic_values(self.n, "Bus", series, prosumers, sns, np.nan)
        return kept.rename({NAME: PROSUMER}).where(~self.weighed)

    def by_prosumer(self, now: xr.DataArray, series: str) -> xr.DataArray:
        """Prices of prosumers now, EUR/MWh (scenario, snapshot, prosumer), in their money.

        `series` holds those of scenarios that they do not weigh.
        """
        dims = (SCENARIO, SNAPSHOT, PROSUMER)
        tau, weighed = (
            one.transpose(SCENARIO, PROSUMER).to_numpy()[:, None]
            for one in (self.tau, self.weighed)
        )
        like, kept = now.transpose(*dims), self.of_limit(series).transpose(*dims).to_numpy()
        return like.copy(data=in_money(like.to_numpy(), kept, tau, weighed))

    def edge_of_limit(self, series: str, buyer: xr.DataArray) -> xr.DataArray:
        """`of_limit` of one direction of all edges, (scenario, snapshot, name)."""
        kept = dynamic_values(self.n, "Link", series, self.data.edges, self.data.snapshots, np.nan)
        return kept.where(~at(self.weighed, buyer))


def at(by_prosumer: xr.DataArray, ends: xr.DataArray) -> xr.DataArray:
    """Values of the prosumers at some ends of the edges, `prosumer` becoming ``name``."""
    whose = by_prosumer.indexes[PROSUMER].get_indexer(pd.Index(ends.to_numpy()))
    values = by_prosumer.transpose(..., PROSUMER)
    coords = {dim: values.coords[dim].variable for dim in values.dims if dim != PROSUMER}
    return xr.DataArray(
        values.to_numpy()[..., whose],
        coords={**coords, NAME: ends.indexes[NAME]},
        dims=(*coords, NAME),
    )
