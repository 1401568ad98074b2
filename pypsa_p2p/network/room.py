"""How much power may flow at a prosumer's bus: what a contract without limit has to allow."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import (
    CONTRACT_CARRIERS,
    NAME,
    RETAIL_CAPACITY,
    TRADE_CARRIER,
)
from pypsa_p2p.common.tables import (
    Numbers,
    carrier_names,
    dynamic_numbers,
    first_scenario,
    static_values,
)
from pypsa_p2p.network.ownership import asset_owners, bus_owners, own_names

#: What may be decided between, by class: PyPSA's capacity, and limits per unit of it.
_LIMITS = {
    "Generator": ("p_nom", ("p_min_pu", "p_max_pu")),
    "Line": ("s_nom", ("s_max_pu",)),
    "Link": ("p_nom", ("p_min_pu", "p_max_pu")),
    "Process": ("p_nom", ("p_min_pu", "p_max_pu")),
    "StorageUnit": ("p_nom", ("p_min_pu", "p_max_pu")),
    "Store": ("e_nom", ("e_min_pu", "e_max_pu")),
    "Transformer": ("s_nom", ("s_max_pu",)),
}
#: Inputs of what turns one carrier into others, which may give more than they take.
_FACTORS = ("efficiency", "rate")


def ample(most: Numbers) -> Numbers:
    """A capacity, MW, that is no limit where `most` is all that may flow: no multiplier has it."""
    return 2.0 * most


def room(n: pypsa.Network, prosumers: pd.Index) -> Numbers:
    """All that could flow at once at the buses of each prosumer, (N,), MW.

    Both ways and of all she has, the capacity of her trades included; no contract without limit.
    What she imports is taken by one of these, what she exports given by one: it is a bound of both.

    Raises
    ------
    DataError
        Something of theirs may be built without limit.
    """
    if prosumers.empty:
        return np.zeros(0)
    owners = bus_owners(n)
    total = pd.Series(0.0, prosumers)
    for component in sorted(n.one_port_components | n.branch_components):
        names = own_names(n, component)
        if component == "Generator":
            names = names[~_unlimited(n, names)]
        whose = asset_owners(n, component, owners).to_series().reindex(names)
        mine = whose[whose.isin(prosumers)]
        if len(mine):
            of = pd.Series(largest_powers(n, component, pd.Index(mine.index, name=NAME)), mine)
            total = total.add(of.groupby(level=0).sum(), fill_value=0.0)
    return total.add(_traded(n), fill_value=0.0).reindex(prosumers).to_numpy(float)


def _traded(n: pypsa.Network) -> pd.Series:
    """The capacity of all trades of each prosumer, MW."""
    edges = carrier_names(n, "Link", TRADE_CARRIER)
    if edges.empty:
        return pd.Series(dtype=float)
    ends = first_scenario(n, "Link").loc[edges]
    capacity = largest_powers(n, "Link", edges)
    both = pd.concat([pd.Series(capacity, ends[end].to_numpy()) for end in ("bus0", "bus1")])
    return both.groupby(level=0).sum()


def _unlimited(n: pypsa.Network, generators: pd.Index) -> Numbers:
    """Which generators are contracts without limit."""
    static = first_scenario(n, "Generator").loc[generators]
    if RETAIL_CAPACITY not in static:
        return np.zeros(len(generators), dtype=bool)
    without = static["carrier"].isin(CONTRACT_CARRIERS) & (static[RETAIL_CAPACITY] == np.inf)
    return without.to_numpy(bool)


def largest_powers(
    n: pypsa.Network, component: str, names: pd.Index, *, endless: bool = False
) -> Numbers:
    """The largest power of each asset, in whatever direction, scenario and snapshot, MW.

    Of what may be built without limit it is infinite, where that may be (`endless`).
    """

    def largest(attribute: str, default: float = 1.0) -> Numbers:
        values = dynamic_numbers(n, component, attribute, names, n.snapshots, default)
        return np.asarray(np.abs(values).max(axis=(0, 1)))

    if component == "Load":
        return largest("p_set", 0.0)
    if component not in _LIMITS:  # shunts, of which a linear power flow has none
        return np.zeros(len(names))
    nominal, limits = _LIMITS[component]
    share = np.max([largest(limit) for limit in limits], axis=0)
    most = _capacity(n, component, nominal, names, endless) * share
    if component == "Store":
        hours = n.snapshot_weightings["stores"].to_numpy(float)
        return 2.0 * most / (hours[hours > 0].min(initial=np.inf) if (hours > 0).any() else 1.0)
    if component in ("Link", "Process"):
        inputs = [
            column
            for column in map(str, n.c[component].static)
            if column.rstrip("0123456789") in _FACTORS
        ]
        most = most * np.max([np.ones(len(names)), *map(largest, inputs)], axis=0)
    return np.asarray(most)


def _capacity(
    n: pypsa.Network, component: str, nominal: str, names: pd.Index, endless: bool
) -> Numbers:
    """The largest capacity that each asset may have, MW or MWh."""
    given, flag, most, fixed = (
        static_values(n, component, f"{nominal}{end}", names, default).to_numpy()
        for end, default in (("", 0.0), ("_extendable", 0.0), ("_max", np.inf), ("_set", np.nan))
    )
    to_build = np.where(np.isfinite(fixed), fixed, most)
    capacity = np.where(flag > 0, to_build, given).max(axis=0)
    unlimited = names[~np.isfinite(capacity)]
    if len(unlimited) and not endless:
        raise DataError(
            f"{component} {listed(unlimited)} may have any size, so that a contract without limit, "
            f"of retail or imbalance, has no finite capacity that cannot bind: give {nominal}_max, "
            "or a retail contract import_capacity and export_capacity."
        )
    return np.asarray(capacity)
