"""What the physical grid adds to prices where it has to deliver the trades (MODEL.md §6)."""

from __future__ import annotations

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import NAME, PROSUMER, SCENARIO, SNAPSHOT, UNWEIGHED_GRID_PRICE
from pypsa_p2p.common.tables import dynamic_values, first_scenario
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import NOBODY, branches, bus_columns
from pypsa_p2p.solution.money import Money


def taken_from_grid(r: xr.Dataset) -> xr.DataArray:
    """What each prosumer takes from the grid, MW: of her partners, and of her retailer."""
    if "retail_import" not in r:
        return r["net_import"]
    return r["net_import"] + r["retail_import"] - r["retail_export"]


def grid_results(money: Money, taken: xr.DataArray) -> dict[str, xr.DataArray]:
    r"""Grid prices, what prosumers would pay at them, and the congestion rent they leave.

    .. math:: \pi_n = \mu_{b(n)}/(\tau_n w), \qquad
        \mathrm{rent\ now} = -\sum_t \sum_{\ell, i} \mu_{b(\ell, i)} f_{\ell i}

    with b(n) the prosumer's bus of the grid and f what a branch of the grid takes at its end i,
    losses included. At the connection, where the surplus leaves, the price is 0 wherever nodal
    prices allow it (`clearing.connection`), and else what more energy would be worth there.

    Returns
    -------
    dict
        ``grid_price`` (scenario, snapshot, prosumer), EUR/MWh of the scenario; her nodal price is
        the price of her trades plus it. ``grid_payment`` (scenario, prosumer), EUR of the
        scenario. ``congestion_rent_now`` (scenario), EUR now over all snapshots, and
        ``congestion_rent``, EUR of the scenario, NaN where prosumers do not weigh it alike.
    """
    n, data = money.n, money.data
    assert data.sites is not None
    now = prices_at(n, data, data.sites.bus, PROSUMER)
    price = money.by_prosumer(now, UNWEIGHED_GRID_PRICE)
    rent = sum((_collected(n, data, kind) for kind in branches(n)), xr.zeros_like(data.probability))
    in_scenario = money.alike & money.weighed.all(PROSUMER)
    return {
        "grid_price": price.transpose(SCENARIO, SNAPSHOT, PROSUMER),
        "grid_payment": (price * taken * data.weighting).sum(SNAPSHOT, skipna=False),
        "congestion_rent_now": rent,
        "congestion_rent": rent / money.tau.max(PROSUMER).where(in_scenario),
    }


def _collected(n: pypsa.Network, data: MarketData, component: str) -> xr.DataArray:
    """What the grid's branches of a class earn by buying and selling at their ends, EUR now."""
    names = data.names(component)
    names = names[(data.owner_of(component) == NOBODY).to_numpy()]
    static = first_scenario(n, component).loc[names]
    total = xr.zeros_like(data.probability)
    for column in bus_columns(static) if len(names) else ():
        ends = static[column].fillna("")
        ends = ends[ends != ""]
        here = pd.Index(ends.index, name=NAME, dtype=object)
        taken = dynamic_values(n, component, f"p{column[3:]}", here, data.snapshots)
        worth = prices_at(n, data, ends, NAME) * taken * data.weighting
        total = total - worth.sum([SNAPSHOT, NAME])
    return total


def prices_at(n: pypsa.Network, data: MarketData, bus: pd.Series, dim: str) -> xr.DataArray:
    """PyPSA's marginal price, mu/w, at the bus of each row of a table, EUR/MWh now.

    Returns
    -------
    DataArray (scenario, snapshot, dim)
    """
    buses = pd.Index(bus.unique(), name=NAME, dtype=object)
    price = dynamic_values(n, "Bus", "marginal_price", buses, data.snapshots)
    at = xr.DataArray(bus.to_numpy(object), dims="end")
    found = price.sel({NAME: at}).drop_vars(NAME).rename({"end": dim})
    return found.assign_coords({dim: pd.Index(bus.index, dtype=object)})
