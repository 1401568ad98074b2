"""Retail contracts as a network has them: whose, at which prices, and with capacities that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.names import (
    NAME,
    RETAIL_CAPACITY,
    RETAIL_CARRIERS,
    RETAIL_IMPORT_CARRIER,
)
from pypsa_p2p.common.tables import (
    Numbers,
    dynamic_numbers,
    first_scenario,
    remove,
)
from pypsa_p2p.network.room import ample, room


def retail_contracts(n: pypsa.Network) -> pd.DataFrame:
    """The generators that are retail contracts, by name: static columns."""
    generators = first_scenario(n, "Generator")
    return generators[generators["carrier"].isin(RETAIL_CARRIERS)]


def remove_retail(n: pypsa.Network, prosumers: pd.Index) -> None:
    """Take the retail contracts of some prosumers out of a network."""
    contracts = retail_contracts(n)
    remove(n, "Generator", list(contracts.index[contracts["bus"].isin(prosumers)]))


def fit_retail(n: pypsa.Network) -> None:
    """Give contracts without limit capacities that cannot bind, by what stands there now."""
    contracts = unlimited_contracts(n)
    names = contracts.index[~contracts["p_nom_extendable"].astype(bool)]
    if names.empty:
        return
    owners = pd.Index(contracts.loc[names, "bus"])
    capacity = pd.Series(ample(room(n, owners.unique())), owners.unique()).reindex(owners)
    static = n.c["Generator"].static
    place = names.get_indexer(static.index.get_level_values(-1))
    column = static["p_nom"].to_numpy(dtype=float, copy=True)
    column[place >= 0] = capacity.to_numpy()[place[place >= 0]]
    static["p_nom"] = column


def unlimited_contracts(n: pypsa.Network) -> pd.DataFrame:
    """Those of the retail contracts that have no limit: static columns."""
    contracts = retail_contracts(n)
    if RETAIL_CAPACITY not in contracts:
        return contracts.iloc[:0]
    return contracts[contracts[RETAIL_CAPACITY] == np.inf]


def retail_prices(
    n: pypsa.Network, carrier: str, prosumers: pd.Index, sns: pd.Index
) -> tuple[Numbers, Numbers]:
    """Prices of the contracts of a carrier, EUR/MWh, NaN where there is none; both (S, T, N).

    The second are those of contracts without limit alone. Where several are open at once, the
    least import and the greatest export price.
    """
    contracts = retail_contracts(n)
    contracts = contracts[(contracts["carrier"] == carrier) & contracts["active"].astype(bool)]
    names = pd.Index(contracts.index, name=NAME)
    price, low, high = (
        dynamic_numbers(n, "Generator", one, names, sns)
        for one in ("marginal_cost", "p_min_pu", "p_max_pu")
    )
    price = np.where((low != 0) | (high != 0), price, np.nan)
    limit = contracts.get(RETAIL_CAPACITY, pd.Series(np.nan, names)).to_numpy(float)
    best = np.fmin if carrier == RETAIL_IMPORT_CARRIER else np.fmax
    whose = prosumers.get_indexer(pd.Index(contracts["bus"]))
    found = []
    for values in (price, np.where(limit == np.inf, price, np.nan)):
        by_prosumer = np.full((*price.shape[:2], len(prosumers)), np.nan)
        here = np.flatnonzero(whose >= 0)
        of_each: Any = (..., whose[here])
        best.at(by_prosumer, of_each, values[..., here])
        found.append(by_prosumer)
    return found[0], found[1]
