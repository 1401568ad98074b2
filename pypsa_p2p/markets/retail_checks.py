"""What of retail contracts a market refuses: capacities that came to bind, and money machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, MarketError, listed
from pypsa_p2p.common.names import (
    NAME,
    RETAIL_CARRIERS,
    SCENARIO,
    SNAPSHOT,
)
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.network.market_data import MarketData, in_words
from pypsa_p2p.network.own_surplus import sellers_of_their_own
from pypsa_p2p.network.retail_contracts import unlimited_contracts, unlimited_prices
from pypsa_p2p.network.room import room
from pypsa_p2p.solvers.arrays import Flags


def check_retail(n: pypsa.Network, data: MarketData) -> None:
    """Refuse contracts without limit whose capacity could bind, or that make money without end.

    Raises
    ------
    DataError
    """
    if unlimited_contracts(n).empty:
        return
    _require_room(n)
    buy, sell = unlimited_prices(n, data.prosumers, data.snapshots)
    where = _where(sell > buy, data)
    if where:
        raise DataError(
            "The price at which a retailer buys, or at which what is over is sold, exceeds the one "
            f"to import, or for imbalance, {where}: buying in order to sell "
            "would make money without end. Lower it; or limit the contract, add_retail(n, ..., "
            "import_capacity=...); or call add_imbalance(n, ...) anew with other prices."
        )


def require_no_resale(n: pypsa.Network, data: MarketData) -> None:
    """Refuse imports without limit that surplus sold over a trade edge pays for, in full.

    Nobody limits what surplus a prosumer sells over an edge, at p0 and her preference less her fee.

    Raises
    ------
    MarketError
    """
    if unlimited_contracts(n).empty or not len(data.edges):
        return
    buy, _ = unlimited_prices(n, data.prosumers, data.snapshots)
    worth = data.import_price.to_numpy() + _best_of_edges(data)
    where = _where(worth > buy, data)
    if where:
        raise MarketError(
            "Surplus sold over a trade edge, at import_price and the seller's own price, brings "
            f"more than her retail import or imbalance costs {where}: buying in order to sell "
            "would make money without end. Take surplus=False, a lower import_price, or limit the "
            "contract: add_retail(n, ..., import_capacity=...); what is bought out of balance has "
            "no limit: add_imbalance(n, ..., buy=...) at a higher price."
        )


def require_nothing_resold(n: pypsa.Network, data: MarketData) -> None:
    """Refuse `own_surplus` where surplus sold over a trade edge brings something.

    Nobody limits what surplus a prosumer sells over an edge, so what is not her own could be sold.

    Raises
    ------
    MarketError
    """
    if data.closed is None or not len(data.edges):
        return
    chosen = sellers_of_their_own(n, data.prosumers)
    worth = data.import_price.to_numpy() + _best_of_edges(data)
    where = _where((worth > 0) & chosen, data)
    if where:
        raise MarketError(
            "Surplus sold over a trade edge, at import_price and the seller's own price, brings "
            f"something {where}, and who sells only her own surplus could sell what is not. Take "
            "surplus=False, or import_price=0."
        )


def _require_room(n: pypsa.Network) -> None:
    contracts = unlimited_contracts(n)
    contracts = contracts[~contracts["p_nom_extendable"].astype(bool)]
    if contracts.empty:
        return
    owners = pd.Index(contracts["bus"])
    needed = pd.Series(room(n, owners.unique()), owners.unique()).reindex(owners).to_numpy()
    capacity = contracts["p_nom"].to_numpy(float)
    short = contracts.index[(capacity <= needed) & (needed > 0)]
    if len(short):
        of_retailer = contracts.at[short[0], "carrier"] in RETAIL_CARRIERS
        again = "add_retail" if of_retailer else "add_imbalance"
        raise DataError(
            f"Generator {listed(short)}: this contract has no limit, but its capacity could "
            "bind by what stands at the bus, or is traded there, by now. Call "
            f"{again} after all that is added or changed by hand."
        )


def _best_of_edges(data: MarketData) -> Numbers:
    """What selling a MWh brings each at most besides p0, EUR/MWh (S, T, N); -inf without edges."""
    shape = len(data.scenarios), len(data.snapshots), len(data.prosumers)
    best = np.full(shape, -np.inf)
    prices, fees = (data.price0, data.price1), (data.fee0, data.fee1)
    for whose, price, fee in zip(data.ends, prices, fees, strict=True):
        gain = price - fee
        if SNAPSHOT not in gain.dims:
            gain = gain.expand_dims({SNAPSHOT: data.snapshots})
        values = gain.transpose(SCENARIO, SNAPSHOT, NAME).to_numpy()
        of_each: Any = (..., whose)
        np.maximum.at(best, of_each, values)
    return best


def _where(bad: Flags, data: MarketData) -> str:
    """The first of some places, (S, T, N), in words; "" where there is none."""
    if not bad.any():
        return ""
    return in_words(data, *np.argwhere(bad)[0])
