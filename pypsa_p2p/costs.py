"""What every asset of a solved network cost, read from PyPSA's tables (MODEL.md §2)."""

from __future__ import annotations

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.market_data import MarketData, dynamic_values, first_scenario
from pypsa_p2p.names import NAME, PROSUMER, SNAPSHOT, TRADE_CARRIER
from pypsa_p2p.ownership import asset_owners

#: PyPSA's operating costs: class, its result, and the prices of the result and its square.
_PRICES: tuple[tuple[str, str, str, str | None], ...] = (
    ("Generator", "p", "marginal_cost", "marginal_cost_quadratic"),
    ("Link", "p0", "marginal_cost", "marginal_cost_quadratic"),
    ("Process", "p", "marginal_cost", "marginal_cost_quadratic"),
    ("Store", "p", "marginal_cost", "marginal_cost_quadratic"),
    ("Store", "e", "marginal_cost_storage", None),
    ("StorageUnit", "p_dispatch", "marginal_cost", "marginal_cost_quadratic"),
    ("StorageUnit", "state_of_charge", "marginal_cost_storage", None),
    ("StorageUnit", "spill", "spill_cost", None),
)


def operating_cost(n: pypsa.Network, data: MarketData, owners: pd.Series) -> xr.DataArray:
    """Operating cost of each prosumer's assets, EUR over all snapshots; (scenario, prosumer)."""
    total = xr.zeros_like(data.fixed_cost)
    for component, result, price, quadratic in _PRICES:
        names = own_names(n, component)
        if names.empty:
            continue
        amount = dynamic_values(n, component, result, names, data.snapshots)
        cost = amount * dynamic_values(n, component, price, names, data.snapshots)
        if quadratic is not None:
            square = dynamic_values(n, component, quadratic, names, data.snapshots)
            cost = cost + amount**2 * square
        summed = (cost * data.weighting).sum(SNAPSHOT)
        total = total + by_owner(summed, asset_owners(n, component, owners), data)
    return total


def own_names(n: pypsa.Network, component: str) -> pd.Index:
    """Names of the active components of a class, trade edges left out."""
    if component not in n.all_components:
        return pd.Index([], dtype=object)
    static = first_scenario(n, component)
    if static.empty:
        return pd.Index([], dtype=object)
    chosen: pd.Series = static["active"].astype(bool)
    if component == "Link":
        chosen &= static["carrier"] != TRADE_CARRIER
    return pd.Index(static.index[chosen], name=NAME, dtype=object)


def by_owner(values: xr.DataArray, owner: xr.DataArray, data: MarketData) -> xr.DataArray:
    """Sum of `values` over the components of each prosumer; `name` becomes `prosumer`."""
    whose = owner.sel({NAME: values.indexes[NAME]}).rename(PROSUMER)
    summed = values.groupby(whose).sum()
    return summed.reindex({PROSUMER: data.prosumers}, fill_value=0.0)
