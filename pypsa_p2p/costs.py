"""What every asset of a solved network cost, read from PyPSA's tables (MODEL.md §2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.errors import MarketError, listed
from pypsa_p2p.market_data import MarketData, dynamic_values, first_scenario
from pypsa_p2p.names import NAME, PROSUMER, RISK_ATTITUDE, SNAPSHOT, TRADE_CARRIER
from pypsa_p2p.ownership import asset_owners, bus_owners

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

#: Difference of checksums, relative to the values, that a file may leave: text rounds.
_SAME = 1e-9


#: What bounds operation: a solution is that of these numbers too.
_LIMITS = {
    "Generator": ("p_nom", "p_min_pu", "p_max_pu"),
    "Load": ("p_set",),
    "StorageUnit": ("p_nom", "max_hours"),
    "Store": ("e_nom",),
}


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


def checksums(n: pypsa.Network, data: MarketData) -> dict[str, float]:
    """One number for each of the data that a solution's prices and costs follow from.

    To be kept with a solution. Attitudes are left out: a market may have its own, and those it
    took are kept beside.
    """
    return {name: _checksum(array) for name, array in _inputs(n, data).items()}


def require_unchanged(n: pypsa.Network, data: MarketData, kept: Mapping[str, float]) -> None:
    """Refuse data whose `checksums` are not those that were kept with the solution.

    Raises
    ------
    MarketError
        Naming the data that changed.
    """
    if not kept:
        return
    now = _inputs(n, data)
    same = {
        name: abs(_checksum(array) - kept[name]) <= _SAME * float(abs(array).sum())
        for name, array in now.items()
        if name in kept
    }
    changed = [name for name in sorted({*now, *kept}) if not same.get(name, False)]
    if changed:
        raise MarketError(
            f"Changed after the market was solved: {listed(changed)}. The solution is not that of "
            "these data: solve the market again, or make changes on a copy, n.copy()."
        )


def _inputs(n: pypsa.Network, data: MarketData) -> dict[str, xr.DataArray]:
    """Data that the costs and prices of a given dispatch follow from, as numbers."""
    inputs = {
        name: array
        for name, array in vars(data).items()
        if isinstance(array, xr.DataArray) and array.dtype.kind == "f" and name != RISK_ATTITUDE
    }
    inputs["prosumers"] = xr.ones_like(data.risk_attitude)
    for end in ("bus0", "bus1"):
        inputs[f"{end} of trade edges"] = _positions(getattr(data, end), data)
    owners = bus_owners(n)
    for component, _, *prices in _PRICES:
        names = own_names(n, component)
        if names.empty:
            continue
        whose = asset_owners(n, component, owners).sel({NAME: names})
        inputs[f"owners of {component}"] = _positions(whose, data)
        for price in filter(None, prices):
            series = dynamic_values(n, component, price, names, data.snapshots)
            inputs[f"{price} of {component}"] = series
    for component, attributes in _LIMITS.items():
        names = own_names(n, component)
        for attribute in attributes if len(names) else ():
            series = dynamic_values(n, component, attribute, names, data.snapshots)
            inputs[f"{attribute} of {component}"] = series
    return inputs


def _positions(who: xr.DataArray, data: MarketData) -> xr.DataArray:
    """Places of prosumers among all of them, from 1; 0 of what is nobody's."""
    return who.copy(data=1.0 + data.prosumers.get_indexer(pd.Index(who.to_numpy())))


def _checksum(array: xr.DataArray) -> float:
    """A sum that tells where values stand: each has a weight of its own between 1 and 2."""
    weight = 1.0 + np.modf(np.arange(1, array.size + 1) * np.sqrt(2.0))[0]
    return float(array.to_numpy().ravel() @ weight)
