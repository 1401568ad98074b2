r"""Who sells only what is her own: hours in which she may not take, and those in which not give.

What her assets at her own bus leave over, x = generation - consumption (storage is neither), is
hers to sell. A prosumer of this kind buys and imports nothing where x > 0, so that all she sells
and exports is her own; and she sells and exports nothing where x <= 0 (MODEL.md §2).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.names import (
    IMBALANCE_CARRIER,
    NAME,
    OWN_SURPLUS,
    RETAIL_CARRIERS,
    RETAIL_IMPORT_CARRIER,
    SCENARIO,
    SNAPSHOT,
)
from pypsa_p2p.common.tables import (
    Numbers,
    carrier_names,
    dynamic_numbers,
    first_scenario,
    static_values,
)
from pypsa_p2p.network.assets import extendable_names, sum_by_owner
from pypsa_p2p.network.market_data import MarketData, in_words
from pypsa_p2p.network.ownership import bus_columns
from pypsa_p2p.network.room import largest_powers


def set_own_surplus(n: pypsa.Network, prosumers: pd.Index) -> None:
    """Note that these prosumers sell only what is their own."""
    static = n.components.buses.static
    names = static.index.get_level_values(NAME)
    before = static.get(OWN_SURPLUS, pd.Series(False, static.index))
    static[OWN_SURPLUS] = before.eq(True) | names.isin(prosumers)  # NaN of buses added since


def sellers_of_their_own(n: pypsa.Network, prosumers: pd.Index) -> np.ndarray:
    """Which prosumers sell only what is their own, (N,)."""
    column = first_scenario(n, "Bus").get(OWN_SURPLUS)
    if column is None:
        return np.zeros(len(prosumers), dtype=bool)
    return np.asarray(column.reindex(prosumers).eq(True), dtype=bool)


def with_own_surplus(n: pypsa.Network, data: MarketData) -> MarketData:
    """The data of a market in which those who sell only their own do nothing else.

    Their capacities of trade are 0, and their retail contracts closed, in the hours named above.

    Raises
    ------
    MarketError
        Somebody's surplus may have either sign, as it is still to be decided.
    """
    chosen = sellers_of_their_own(n, data.prosumers)
    if not chosen.any():
        return data
    least, most = _left_over(n, data)
    undecided = chosen & (least < 0) & (most > 0)
    if undecided.any():
        scenario, snapshot, who = np.argwhere(undecided)[0]
        _refuse_imbalance(n, data.prosumers[who])
        raise MarketError(
            f"own_surplus {in_words(data, scenario, snapshot, who)}: what her own assets leave "
            f"over may be anything from {least[scenario, snapshot, who]:g} to "
            f"{most[scenario, snapshot, who]:g} MW, as her "
            "demand or generation is still to be decided. Give it limits that settle whether she "
            "has a surplus, or leave her out: add_trades(..., own_surplus=[names])."
        )
    takes = ~(chosen & (least >= 0) & (most > 0))
    gives = ~(chosen & (most <= 0))
    ends = [data.prosumers.get_indexer(pd.Index(end.to_numpy())) for end in (data.bus0, data.bus1)]
    dims = (SCENARIO, SNAPSHOT, NAME)
    capacity = [
        one.transpose(*dims).copy(
            data=one.transpose(*dims).to_numpy() * (takes[..., buyer] & gives[..., seller])
        )
        for one, buyer, seller in (
            (data.capacity0, ends[0], ends[1]),
            (data.capacity1, ends[1], ends[0]),
        )
    ]
    return replace(
        data,
        capacity0=capacity[0],
        capacity1=capacity[1],
        closed=_closed(n, data, takes, gives),
    )


def _refuse_imbalance(n: pypsa.Network, who: str) -> None:
    """Say so where it is imbalance that leaves a surplus open: who buys it could sell it on."""
    names = carrier_names(n, "Generator", IMBALANCE_CARRIER)
    if (first_scenario(n, "Generator")["bus"].loc[names] == who).any():
        raise MarketError(
            f"own_surplus for {who!r}: she may be out of balance, add_imbalance, so that what she "
            "sells need not be her own. Leave her out of one of them: "
            "add_trades(..., own_surplus=[names]), add_imbalance(n, [names], ...)."
        )


def _closed(n: pypsa.Network, data: MarketData, takes: Numbers, gives: Numbers) -> xr.DataArray:
    """When retail contracts are closed, (scenario, snapshot, name)."""
    names = carrier_names(n, "Generator", *RETAIL_CARRIERS)
    static = first_scenario(n, "Generator").loc[names]
    whose = data.prosumers.get_indexer(pd.Index(static["bus"]))
    imports = (static["carrier"] == RETAIL_IMPORT_CARRIER).to_numpy(bool)
    open_ = np.where(imports, takes[..., whose], gives[..., whose])
    return xr.DataArray(
        ~open_, coords={SCENARIO: data.scenarios, SNAPSHOT: data.snapshots, NAME: names}
    )


def _left_over(n: pypsa.Network, data: MarketData) -> tuple[Numbers, Numbers]:
    """The least and the most that is left of their own generation, (S, T, N), MW."""
    sns, count = data.snapshots, len(data.prosumers)

    def at_own_bus(component: str, names: pd.Index, column: str = "bus") -> np.ndarray:
        return data.prosumers.get_indexer(pd.Index(first_scenario(n, component)[column].loc[names]))

    loads = data.names("Load")
    taken = dynamic_numbers(n, "Load", "p_set", loads, sns)
    total = -sum_by_owner(taken, at_own_bus("Load", loads), count)
    generators = data.names("Generator").difference(carrier_names(n, "Generator", *RETAIL_CARRIERS))
    whose = at_own_bus("Generator", generators)
    least, most = (
        total + sum_by_owner(end, whose, count) for end in _generated(n, generators, sns)
    )
    for component in sorted(n.branch_components):
        names = data.names(component)
        carried = largest_powers(n, component, names, endless=True)[None, None]
        for column in bus_columns(first_scenario(n, component)) if len(names) else ():
            at_end = sum_by_owner(carried, at_own_bus(component, names, column), count)
            least, most = least - at_end, most + at_end
    return least, most


def _generated(n: pypsa.Network, names: pd.Index, sns: pd.Index) -> tuple[Numbers, Numbers]:
    """The least and the most that generators may give at their buses, (S, T, K), MW."""
    sign = dynamic_numbers(n, "Generator", "sign", names, sns, default=1.0)
    powers = []
    for limit in ("p_min_pu", "p_max_pu"):
        share = dynamic_numbers(n, "Generator", limit, names, sns)
        for end in ("_min", "_max"):
            size = np.where(share == 0.0, 0.0, _size(n, names, end))  # nothing of any size
            powers.append(sign * share * size)
    return np.min(powers, axis=0), np.max(powers, axis=0)


def _size(n: pypsa.Network, names: pd.Index, end: str) -> Numbers:
    """The capacity of generators, (S, 1, K), MW: an end of what it may be where it is decided."""
    given = static_values(n, "Generator", "p_nom", names).to_numpy()
    free = names.isin(extendable_names(n, "Generator"))
    default = 0.0 if end == "_min" else np.inf
    limit = static_values(n, "Generator", f"p_nom{end}", names, default).to_numpy()
    chosen = static_values(n, "Generator", "p_nom_set", names, np.nan).to_numpy()
    return np.where(free, np.where(np.isfinite(chosen), chosen, limit), given)[:, None]
