"""Assets of a network: which are active, what can be built, and where PyPSA has their prices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import NAME, PROSUMER
from pypsa_p2p.common.tables import Numbers, first_scenario
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import own_names

Labels = npt.NDArray[np.int64]

#: PyPSA's operating costs: class, its result, and the prices of the result and its square.
OPERATING_PRICES: tuple[tuple[str, str, str, str | None], ...] = (
    ("Generator", "p", "marginal_cost", "marginal_cost_quadratic"),
    ("Link", "p0", "marginal_cost", "marginal_cost_quadratic"),
    ("Process", "p", "marginal_cost", "marginal_cost_quadratic"),
    ("Store", "p", "marginal_cost", "marginal_cost_quadratic"),
    ("Store", "e", "marginal_cost_storage", None),
    ("StorageUnit", "p_dispatch", "marginal_cost", "marginal_cost_quadratic"),
    ("StorageUnit", "state_of_charge", "marginal_cost_storage", None),
    ("StorageUnit", "spill", "spill_cost", None),
)

#: What may be built: class, and PyPSA's column of its capacity.
CAPACITIES: Mapping[str, str] = {
    "Generator": "p_nom",
    "Line": "s_nom",
    "Link": "p_nom",
    "Process": "p_nom",
    "StorageUnit": "p_nom",
    "Store": "e_nom",
    "Transformer": "s_nom",
}

#: What limits a capacity to build, behind its column's name.
CAPACITY_LIMITS = ("_min", "_max", "_set")


def capital_cost(
    n: pypsa.Network, component: str, names: pd.Index, like: xr.DataArray
) -> xr.DataArray:
    """What a unit of capacity costs as PyPSA's objective has it, EUR/MW; dims of `like`.

    From ``capital_cost``, or else ``overnight_cost``, ``discount_rate`` and ``lifetime``, and
    ``fom_cost`` besides.
    """
    cost = n.c[component].periodized_cost.sel({NAME: names})
    dims = [dim for dim in like.dims if dim in cost.dims]
    values = cost.transpose(*dims).reindex({dim: like.indexes[dim] for dim in dims}).to_numpy()
    return like.copy(data=np.broadcast_to(values, like.shape))


def extendable_names(n: pypsa.Network, component: str) -> pd.Index:
    """Names of the active components of a class whose capacity is to be found."""
    names, flag = own_names(n, component), f"{CAPACITIES.get(component, '')}_extendable"
    if names.empty or flag not in n.c[component].static:
        return pd.Index([], dtype=object)
    static = first_scenario(n, component)
    found: pd.Index = names[static[flag].reindex(names).astype(bool).to_numpy()]
    return found


def by_owner(values: xr.DataArray, owner: xr.DataArray, data: MarketData) -> xr.DataArray:
    """Sum of `values` over the components of each prosumer; `name` becomes `prosumer`, the last."""
    at = owner.indexes[NAME].get_indexer(values.indexes[NAME])
    whose = data.prosumers.get_indexer(pd.Index(owner.to_numpy()[at]))
    return summed(values, NAME, whose, data)


def summed(values: xr.DataArray, dim: str, whose: Labels, data: MarketData) -> xr.DataArray:
    """Sum over `dim` of what is each prosumer's, by position, -1 nobody's; NaN counts as 0."""
    array = values.transpose(..., dim)
    total = sum_by_owner(array.to_numpy(), whose, len(data.prosumers))
    coords = {other: values.coords[other].variable for other in array.dims if other != dim}
    return xr.DataArray(
        total, coords={**coords, PROSUMER: data.prosumers}, dims=(*coords, PROSUMER)
    )


def sum_by_owner(values: Numbers, whose: Labels, count: int) -> Numbers:
    """Sums, (..., N), of values, (..., K), by whose they are, -1 nobody's; NaN counts as 0.

    Examples
    --------
    >>> sum_by_owner(np.array([[1.0, 2.0, 4.0]]), np.array([1, -1, 1]), 2)
    array([[0., 5.]])
    """
    array = np.nan_to_num(values, posinf=np.inf, neginf=-np.inf)
    total = np.zeros((count + 1, *array.shape[:-1]))  # the last is nobody's
    np.add.at(total, whose, np.moveaxis(array, -1, 0))
    return np.moveaxis(total[:-1], 0, -1)
