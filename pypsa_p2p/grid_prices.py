"""What the physical grid adds to prices where it has to deliver the trades (MODEL.md §6)."""

from __future__ import annotations

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.market_data import MarketData, dynamic_values
from pypsa_p2p.names import NAME, PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.sites import read_sites


def grid_results(
    n: pypsa.Network, data: MarketData, net_import: xr.DataArray
) -> dict[str, xr.DataArray]:
    r"""Grid prices and the congestion rent they leave.

    .. math:: \pi_n = (\mu_{b(n)} - \mu_{c(n)})/(p\, w), \qquad
        \mathrm{rent} = \sum_t w_t \sum_n \pi_n Q_n

    with b(n) the prosumer's bus of the grid, c(n) the connection of her part of it, where the
    price of using the grid is 0, and Q what she takes from it.

    Returns
    -------
    dict
        ``grid_price`` (scenario, snapshot, prosumer), EUR/MWh; her nodal price is the price of
        her trades plus it. ``congestion_rent`` (scenario), EUR over all snapshots.
    """
    sites = read_sites(n, data)
    here, there = (_price(n, data, buses) for buses in (sites.bus, sites.connection))
    price = ((here - there) / data.probability).transpose(SCENARIO, SNAPSHOT, PROSUMER)
    rent = (price * net_import * data.weighting).sum([SNAPSHOT, PROSUMER])
    return {"grid_price": price, "congestion_rent": rent}


def _price(n: pypsa.Network, data: MarketData, bus: pd.Series) -> xr.DataArray:
    """PyPSA's marginal price at each prosumer's bus of these, EUR/MWh times probability."""
    buses = pd.Index(bus.unique(), name=NAME, dtype=object)
    price = dynamic_values(n, "Bus", "marginal_price", buses, data.snapshots)
    at = xr.DataArray(bus.to_numpy(object), coords={PROSUMER: data.prosumers})
    return price.sel({NAME: at}).drop_vars(NAME)
