"""What certificates ask of those who take prices and mind the risk of payments (MODEL.md §13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.names import NAME, PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.formulation.places import columns_of, rows_of
from pypsa_p2p.formulation.trading import QUANTITY1, RECIPROCITY
from pypsa_p2p.markets.record import payments_at_risk
from pypsa_p2p.network.assets import sum_by_owner
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.certificate.gains import saved_taking_prices
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket
from pypsa_p2p.solution.certificate.scale import Scale
from pypsa_p2p.solution.certificate.trading import END, Trading


@dataclass(frozen=True, kw_only=True)
class TakingPrices:
    """What is paid, and what could be gained at the prices it is paid at.

    Attributes
    ----------
    payment : DataArray (scenario, prosumer)
        EUR of the scenario; for trades day ahead the same in all.
    saved : DataArray (prosumer)
        What each would save who trades what she likes at these prices, at her tau, EUR.
    """

    payment: xr.DataArray
    saved: xr.DataArray


def taking_prices(
    settings: Mapping[str, Any],
    data: MarketData,
    tau: xr.DataArray,
    game: HeldMarket,
    trading: Trading,
    scale: Scale,
) -> TakingPrices | None:
    """Of a market whose payments are at risk; None of others.

    Parameters
    ----------
    tau : DataArray (scenario, prosumer)
        Risk-adjusted probabilities.
    """
    if not payments_at_risk(settings):
        return None
    edges, compiled = data.edges, game.compiled
    columns = np.stack([columns_of(compiled, name, edges) for name in ("Link-p", QUANTITY1)])
    now = trading.price_now * data.probability * trading.feared * data.weighting
    price = np.zeros(game.held.size)
    price[columns] = -_by_end(now)  # p0 is what she sells
    saved = saved_taking_prices(
        tau.transpose(PROSUMER, SCENARIO).to_numpy(),
        price,
        rows_of(compiled, RECIPROCITY, edges).ravel(),
        game,
        scale,
    )
    first = tau.transpose(SCENARIO, PROSUMER).isel({SCENARIO: 0}, drop=True)
    return TakingPrices(payment=_payment(trading, data, tau), saved=first.copy(data=saved))


def _payment(trading: Trading, data: MarketData, tau: xr.DataArray) -> xr.DataArray:
    """What everybody pays in every scenario, EUR: nothing where a scenario has no price."""
    in_scenario = (trading.trade_price / trading.density.where(trading.density > 0.0)).fillna(0.0)
    agreed = (trading.price_now * data.probability).sum(SCENARIO)
    price = in_scenario.where(~trading.day_ahead, agreed)
    paid = _by_end((price * trading.quantity * data.weighting).broadcast_like(trading.quantity))
    buyers = data.prosumers.get_indexer(pd.Index(np.concatenate([data.bus0, data.bus1])))
    by_trade = np.concatenate(list(paid), axis=-1)
    like = tau.transpose(SCENARIO, PROSUMER)
    return like.copy(data=sum_by_owner(by_trade.sum(axis=1), buyers, len(data.prosumers)))


def _by_end(values: xr.DataArray) -> Numbers:
    """(2, S, T, E)."""
    return np.asarray(values.transpose(END, SCENARIO, SNAPSHOT, NAME).to_numpy())
