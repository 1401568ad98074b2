"""Whose money is compared: net costs, bills, or the paper's costs, of a solved market."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import PROSUMER, SCENARIO
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.common.units import Units
from pypsa_p2p.markets.record import recorded, recorded_risk
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Flags

Amount = Literal["net_cost", "bill", "cost"]

#: What each is in words, as axes and tables name it.
AMOUNTS: Final[dict[Amount, str]] = {"net_cost": "net cost", "bill": "bill", "cost": "cost"}


def amount_of(solved: Mapping[str, xr.Dataset], of: Amount | None) -> Amount:
    """What is compared where `of` is given, or None.

    A household understands her net cost, what she pays less what her consumption is worth to her.
    It is the default where money of every scenario has one price; else it is her cost.

    Parameters
    ----------
    solved : mapping to Dataset
        Of all markets that are compared, by their names, what `results` returns.
    of : {"net_cost", "bill", "cost"} or None

    Raises
    ------
    MarketError
        An unknown name, or one that a market does not have.
    """
    if of is not None and not (isinstance(of, str) and of in AMOUNTS):
        raise MarketError(f"of must be one of {listed(AMOUNTS)}, not {shown(of)}.")
    without = [name for name, r in solved.items() if bool(r["net_cost"].isnull().any())]
    if of is None:
        return "cost" if without else "net_cost"
    if of != "cost" and without:
        raise MarketError(
            f"Of {listed(without)} there is no {AMOUNTS[of]}: there is none where prosumers "
            "weigh a scenario differently, or the ends of a trade price it differently (unequal "
            "weights). Take the cost (of='cost'; as an option, --of cost), or let complete "
            "contracts, the community's risk or equal weights make them agree."
        )
    return of


def risk_adjusted(n: pypsa.Network, r: xr.Dataset, data: MarketData, of: Amount) -> xr.DataArray:
    """What each prosumer's amount is worth to her, her risk measure of it.

    Returns
    -------
    DataArray (prosumer)
        EUR.
    """
    if of != "bill":
        return r[f"risk_adjusted_{of}"]
    settings = recorded(n)
    if settings["together"]:
        return (r["risk_adjusted_probability"] * r["bill"]).sum(SCENARIO)
    measure, attitude = recorded_risk(settings, data)
    return measure.worst(r["bill"], data.probability, attitude).value


def prices_of_traders(r: xr.Dataset, data: MarketData, usual: Units) -> xr.DataArray:
    """Nodal prices of `who_trades`, NaN of others, EUR/MWh."""
    counts = who_trades(r["quantity"].to_numpy(), data, usual)
    return r["nodal_price"].where(r[PROSUMER].copy(data=counts))


def who_trades(quantity: Numbers, data: MarketData, usual: Units) -> Flags:
    """Whose prices count, (N,): of whoever trades at all, (scenario, snapshot, trade), MW.

    Operators' do not. Who never trades has no price of her own: hers is one of many that would
    not make her. If nobody trades, all prices count. Trades much smaller than `usual` powers are
    rounding.
    """
    traded = np.abs(quantity).max(axis=(0, 1), initial=0.0)
    busy = traded > ACCURACY.promised * max(usual.power, float(traded.max(initial=0.0)))
    buyers = np.concatenate([data.bus0.to_numpy(), data.bus1.to_numpy()])[busy]
    counts: Flags = data.prosumers.isin(buyers) & data.counted
    return counts if counts.any() else data.counted
