"""Whether a solution is still that of the network's data: one number for each of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import FEE0, FEE1, GRID_BUS, NAME, RISK_ATTITUDE
from pypsa_p2p.common.tables import dynamic_values, first_scenario, static_values
from pypsa_p2p.network.assets import (
    CAPACITIES,
    CAPACITY_LIMITS,
    OPERATING_PRICES,
    capital_cost,
    extendable_names,
)
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import NOBODY, bus_columns

#: What bounds operation: a solution is that of these numbers too.
_LIMITS = {
    "Generator": ("p_nom", "p_min_pu", "p_max_pu"),
    "Load": ("p_set",),
    "StorageUnit": ("p_nom", "max_hours"),
    "Store": ("e_nom",),
}

#: What bounds flows on the grid, and says where they go.
_BRANCHES = {
    "Line": ("s_nom", "s_max_pu", "r", "x", "num_parallel"),
    "Transformer": ("s_nom", "s_max_pu", "r", "x", "tap_ratio", "phase_shift"),
    "Link": ("p_nom", "p_min_pu", "p_max_pu", "efficiency"),
}


def checksums(n: pypsa.Network, data: MarketData, delivery: str) -> dict[str, float]:
    """One number for each of the data that a solution's prices and costs follow from.

    To be kept with a solution; the grid's are among them with delivery="grid". Attitudes are left
    out: a market may have its own, and those it took are kept beside.
    """
    return _checksums(_inputs(n, data, delivery))


def require_unchanged(
    n: pypsa.Network, data: MarketData, delivery: str, kept: Mapping[str, float]
) -> None:
    """Refuse data whose `checksums` are not those that were kept with the solution.

    Raises
    ------
    MarketError
        Naming the data that changed.
    """
    changed = changed_inputs(n, data, delivery, kept)
    if changed:
        raise MarketError(
            f"Changed after the market was solved: {listed(changed)}. The solution is not that of "
            "these data: solve the market again, or make changes on a copy, n.copy()."
        )


def changed_inputs(
    n: pypsa.Network, data: MarketData, delivery: str, kept: Mapping[str, float]
) -> list[str]:
    """Names of the data whose `checksums` are not those that were kept; none were: none."""
    if not kept:
        return []
    now = _inputs(n, data, delivery)
    same = {
        name: abs(found - kept[name]) <= ACCURACY.stored * float(abs(_finite(now[name])).sum())
        for name, found in _checksums(now).items()
        if name in kept
    }
    return [name for name in sorted({*now, *kept}) if not same.get(name, False)]


def _inputs(n: pypsa.Network, data: MarketData, delivery: str) -> dict[str, xr.DataArray]:
    """Data that a solution and its prices follow from, as numbers."""
    left_out = {RISK_ATTITUDE} if data.charged else {RISK_ATTITUDE, FEE0, FEE1}
    inputs = {
        name: array
        for name, array in vars(data).items()
        if isinstance(array, xr.DataArray) and array.dtype.kind == "f" and name not in left_out
    }
    # What is kept beside stands in the order of these.
    inputs["prosumers"] = _order(data.risk_attitude)
    inputs["scenarios"] = _order(data.probability)
    if data.day_ahead.any():
        inputs["decided of trade edges"] = data.day_ahead.astype(float)
    for end in ("bus0", "bus1"):
        inputs[f"{end} of trade edges"] = _whose(getattr(data, end))
    for component, _, *prices in OPERATING_PRICES:
        names = data.names(component)
        if names.empty:
            continue
        inputs[f"owners of {component}"] = _whose(data.owner_of(component))
        for price in filter(None, prices):
            series = dynamic_values(n, component, price, names, data.snapshots)
            inputs[f"{price} of {component}"] = series
    for component, attributes in _LIMITS.items():
        names = data.names(component)
        given = names[~names.isin(extendable_names(n, component))]
        for attribute in attributes:
            of = given if attribute == CAPACITIES.get(component) else names
            if len(of):
                series = dynamic_values(n, component, attribute, of, data.snapshots)
                inputs[f"{attribute} of {component}"] = series
    inputs |= _investments(n, data, delivery)
    if delivery == "grid":
        inputs |= _grid(n, data)
    return inputs


def _grid(n: pypsa.Network, data: MarketData) -> dict[str, xr.DataArray]:
    """Where prosumers sit on the grid, and its branches and voltages."""
    places = first_scenario(n, "Bus")[GRID_BUS].reindex(data.prosumers).to_numpy()
    inputs = {"grid_bus": _whose(data.risk_attitude.copy(data=places))}
    for component, attributes in _BRANCHES.items():
        names = data.names(component)
        if names.empty:
            continue
        for attribute in attributes:
            series = dynamic_values(n, component, attribute, names, data.snapshots)
            inputs[f"{attribute} of {component}"] = series
        ends = first_scenario(n, component).loc[names]
        for end in bus_columns(ends):
            buses = ends[end].fillna("").to_numpy(object)
            inputs[f"{end} of {component}"] = _whose(xr.DataArray(buses, coords={NAME: names}))
    buses = pd.Index(first_scenario(n, "Bus").index, name=NAME, dtype=object)
    inputs["v_nom of Bus"] = static_values(n, "Bus", "v_nom", buses)
    return inputs


def _investments(n: pypsa.Network, data: MarketData, delivery: str) -> dict[str, xr.DataArray]:
    """Data of the capacities that are to be found: the grid's own are where it delivers."""
    inputs = {}
    for component, capacity in CAPACITIES.items():
        names = extendable_names(n, component)
        if len(names) and delivery != "grid":
            names = names[(data.owner_of(component).sel({NAME: names}) != NOBODY).to_numpy()]
        for limit in CAPACITY_LIMITS if len(names) else ():
            values = static_values(n, component, capacity + limit, names, default=np.nan)
            inputs[f"{capacity}{limit} of {component}"] = values
            inputs[f"capital cost of {component}"] = capital_cost(n, component, names, values)
    return inputs


def _order(labelled: xr.DataArray) -> xr.DataArray:
    """Places of labels among all of them, from 1."""
    return labelled.copy(data=np.arange(1.0, labelled.size + 1))


def _whose(who: xr.DataArray) -> xr.DataArray:
    """Names of prosumers or buses as numbers."""
    return who.copy(data=_number(pd.Index(who.to_numpy())))


def _checksums(arrays: Mapping[str, xr.DataArray]) -> dict[str, float]:
    """For each array a sum that tells which label has which value, in whatever order they stand."""
    seen: dict[Hashable, list[tuple[pd.Index, np.ndarray]]] = {}
    return {name: _checksum(array, seen) for name, array in arrays.items()}


def _checksum(
    array: xr.DataArray, seen: dict[Hashable, list[tuple[pd.Index, np.ndarray]]]
) -> float:
    values = _finite(array)
    for dim in array.dims:
        known, index = seen.setdefault(dim, []), array.indexes[dim]
        number = next((number for labels, number in known if labels.equals(index)), None)
        if number is None:
            number = _number(index)
            known.append((index, number))
        values = np.tensordot(number, values, axes=1)
    return float(values)


def _finite(array: xr.DataArray) -> np.ndarray:
    """Values, -1 where a limit is none."""
    values = array.to_numpy()
    return np.where(np.isfinite(values), values, -1.0)


def _number(labels: pd.Index) -> np.ndarray:
    """A number between 1 and 2 for every label, the same wherever it is computed."""
    text = labels.astype(str).to_numpy(dtype=object)
    return 1.0 + pd.util.hash_array(text) / 2.0**64
