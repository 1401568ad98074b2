"""Retail contracts as a network has them: whose, at which prices, and with capacities that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.names import (
    CONTRACT_CARRIERS,
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
    return contracts_of(n, *RETAIL_CARRIERS)


def contracts_of(n: pypsa.Network, *carriers: str) -> pd.DataFrame:
    """The generators that are contracts of these carriers, by name: static columns."""
    generators = first_scenario(n, "Generator")
    return generators[generators["carrier"].isin(carriers)]


def remove_contracts(n: pypsa.Network, prosumers: pd.Index, *carriers: str) -> None:
    """Take the contracts of these carriers of some prosumers out of a network."""
    contracts = contracts_of(n, *carriers)
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
    """The contracts that have no limit, with retailers or for imbalance: static columns."""
    contracts = contracts_of(n, *CONTRACT_CARRIERS)
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
    contracts = contracts[contracts["carrier"] == carrier]
    without = contracts.get(RETAIL_CAPACITY, pd.Series(np.nan, contracts.index)) == np.inf
    imports = carrier == RETAIL_IMPORT_CARRIER
    whole, unlimited = (
        _best_prices(n, pd.Index(names, name=NAME), prosumers, sns, imports=imports)
        for names in (contracts.index, contracts.index[without])
    )
    return whole, unlimited


def unlimited_prices(
    n: pypsa.Network, prosumers: pd.Index, sns: pd.Index
) -> tuple[Numbers, Numbers]:
    """The least price to buy at without limit, and the greatest to sell at, EUR/MWh; (S, T, N).

    Of retailers and for imbalance; NaN where there is none.
    """
    names = pd.Index(unlimited_contracts(n).index, name=NAME)
    ends = (("p_max_pu", True), ("p_min_pu", False))
    able = [dynamic_numbers(n, "Generator", end, names, sns).any(axis=(0, 1)) for end, _ in ends]
    buy, sell = (
        _best_prices(n, names[can], prosumers, sns, imports=imports)
        for can, (_, imports) in zip(able, ends, strict=True)
    )
    return buy, sell


def _best_prices(
    n: pypsa.Network, names: pd.Index, prosumers: pd.Index, sns: pd.Index, *, imports: bool
) -> Numbers:
    """The least, or greatest, price of contracts that are open, (S, T, N); NaN without any."""
    contracts = first_scenario(n, "Generator").loc[names]
    names = names[contracts["active"].to_numpy(bool)]
    price, low, high = (
        dynamic_numbers(n, "Generator", one, names, sns)
        for one in ("marginal_cost", "p_min_pu", "p_max_pu")
    )
    price = np.where((low != 0) | (high != 0), price, np.nan)
    whose = prosumers.get_indexer(pd.Index(contracts.loc[names, "bus"]))
    here = np.flatnonzero(whose >= 0)
    found = np.full((*price.shape[:2], len(prosumers)), np.nan)
    of_each: Any = (..., whose[here])
    (np.fmin if imports else np.fmax).at(found, of_each, price[..., here])
    return found
