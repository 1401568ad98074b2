r"""Who sells only what is her own: hours in which she may not take, and those in which not give.

What her assets at her own bus leave over, x = generation - consumption (storage is neither), is
hers to sell. A prosumer of this kind buys and imports nothing where x > 0, so that all she sells
and exports is her own; and she sells and exports nothing where x <= 0 (MODEL.md §2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError, shown
from pypsa_p2p.common.names import (
    NAME,
    OWN_SURPLUS,
    RETAIL_CARRIERS,
    RETAIL_IMPORT_CARRIER,
    SCENARIO,
    SNAPSHOT,
)
from pypsa_p2p.common.tables import (
    ONLY_SCENARIO,
    Numbers,
    carrier_names,
    dynamic_numbers,
    first_scenario,
    static_values,
)
from pypsa_p2p.network.assets import extendable_names, sum_by_owner
from pypsa_p2p.network.market_data import MarketData
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
        of = data.scenarios[scenario]
        where = "" if of == ONLY_SCENARIO else f", scenario {shown(of)}"
        raise MarketError(
            f"own_surplus of prosumer {shown(data.prosumers[who])}: what her own assets leave over "
            f"in snapshot {shown(data.snapshots[snapshot])}{where} may be anything from "
            f"{least[scenario, snapshot, who]:g} to {most[scenario, snapshot, who]:g} MW, as her "
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
    least, most = total.copy(), total.copy()
    generators = data.names("Generator").difference(carrier_names(n, "Generator", *RETAIL_CARRIERS))
    size = [_size(n, generators, end) for end in ("_min", "_max")]
    limits = [dynamic_numbers(n, "Generator", one, generators, sns) for one in _PER_UNIT]
    power = [
        np.where(limit == 0, 0.0, limit) * np.where(limit == 0, 0.0, one)
        for limit in limits
        for one in size
    ]
    sign = dynamic_numbers(n, "Generator", "sign", generators, sns, default=1.0)
    whose = at_own_bus("Generator", generators)
    ends = [sum_by_owner(one, whose, count) for one in _range(power, sign)]
    least, most = least + ends[0], most + ends[1]
    for component in sorted(n.branch_components):
        names = data.names(component)
        carried = largest_powers(n, component, names, endless=True)[None, None]
        for column in bus_columns(first_scenario(n, component)) if len(names) else ():
            at_end = sum_by_owner(carried, at_own_bus(component, names, column), count)
            least, most = least - at_end, most + at_end
    return least, most


_PER_UNIT: Final = ("p_min_pu", "p_max_pu")


def _range(power: list[Numbers], sign: Numbers) -> tuple[Numbers, Numbers]:
    """Least and greatest of several powers, as they come at the bus."""
    every = np.stack([np.broadcast_to(one * sign, sign.shape) for one in power])
    return every.min(axis=0), every.max(axis=0)


def _size(n: pypsa.Network, names: pd.Index, end: str) -> Numbers:
    """The capacity of generators, (S, 1, K), MW: an end of what it may be where it is decided."""
    given = static_values(n, "Generator", "p_nom", names).to_numpy()
    free = names.isin(extendable_names(n, "Generator"))
    default = 0.0 if end == "_min" else np.inf
    limit = static_values(n, "Generator", f"p_nom{end}", names, default).to_numpy()
    chosen = static_values(n, "Generator", "p_nom_set", names, np.nan).to_numpy()
    return np.where(free, np.where(np.isfinite(chosen), chosen, limit), given)[:, None]
