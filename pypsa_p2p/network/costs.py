"""What every asset of a solved network cost, read from PyPSA's tables (MODEL.md §2)."""

from __future__ import annotations

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import ELASTIC_DEMAND_CARRIER, SNAPSHOT
from pypsa_p2p.common.tables import carrier_names, dynamic_values, static_values
from pypsa_p2p.network.assets import (
    CAPACITIES,
    OPERATING_PRICES,
    by_owner,
    capital_cost,
    extendable_names,
)
from pypsa_p2p.network.market_data import MarketData


def operating_cost(n: pypsa.Network, data: MarketData) -> xr.DataArray:
    """Operating cost of each prosumer's assets, EUR over all snapshots; (scenario, prosumer)."""
    costs = (_cost_of(n, data, *prices, data.names(prices[0])) for prices in OPERATING_PRICES)
    return sum(costs, xr.zeros_like(data.fixed_cost))


def forgone_utility(n: pypsa.Network, data: MarketData) -> xr.DataArray:
    """What elastic demand gives up below its target, EUR over all snapshots; (scenario, prosumer).

    It is the operating cost of generators of carrier ``elastic demand``, and paid to nobody.
    """
    elastic = carrier_names(n, "Generator", ELASTIC_DEMAND_CARRIER)
    names = data.names("Generator").intersection(elastic)
    (prices,) = (prices for prices in OPERATING_PRICES if prices[0] == "Generator")
    return _cost_of(n, data, *prices, names)


def _cost_of(
    n: pypsa.Network,
    data: MarketData,
    component: str,
    result: str,
    price: str,
    quadratic: str | None,
    names: pd.Index,
) -> xr.DataArray:
    """What a result of some components of a class costs their owners; (scenario, prosumer)."""
    if names.empty:
        return xr.zeros_like(data.fixed_cost)
    amount = dynamic_values(n, component, result, names, data.snapshots)
    cost = amount * dynamic_values(n, component, price, names, data.snapshots)
    if quadratic is not None:
        square = dynamic_values(n, component, quadratic, names, data.snapshots)
        cost = cost + amount**2 * square
    summed = (cost * data.weighting).sum(SNAPSHOT)
    return by_owner(summed, data.owner_of(component), data)


def investment_cost(n: pypsa.Network, data: MarketData) -> xr.DataArray:
    """Capital cost of each prosumer's extendable assets, EUR; (scenario, prosumer).

    That of the whole capacity, of which what stood before is a part, as PyPSA's objective and
    ``n.objective_constant`` have it together; the same in every scenario. Assets of a given
    capacity have none: nothing decides about it.
    """
    total = xr.zeros_like(data.fixed_cost)
    for component, capacity in CAPACITIES.items():
        names = extendable_names(n, component)
        if len(names):
            built = static_values(n, component, f"{capacity}_opt", names)
            cost = built * capital_cost(n, component, names, built)
            total = total + by_owner(cost, data.owner_of(component), data)
    return total
