"""What a market's figures follow from besides its decisions: whose assets are, and their prices.

Read once from PyPSA's tables, whatever is then solved on the network (MODEL.md §2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import (
    CONSUMPTION,
    NAME,
    RETAIL_EXPORT_CARRIER,
    RETAIL_IMPORT_CARRIER,
    SCENARIO,
    SNAPSHOT,
)
from pypsa_p2p.common.tables import Numbers, carrier_names, dynamic_numbers, first_scenario
from pypsa_p2p.network.assets import (
    CAPACITIES,
    OPERATING_PRICES,
    capital_cost,
    extendable_names,
)
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import bus_columns

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A result of some components of a class that concerns prosumers.

    Attributes
    ----------
    component, attribute : str
        PyPSA's class, and its name of the result.
    names : Index
    whose : (K,)
        Positions of the prosumers concerned; -1 where it is nobody.
    factor : (S, T, K), or (S, K) of capacities
        What a unit counts for: a sign, or a price in EUR/MWh or EUR/MW.
    square : (S, T, K) or None
        EUR/MW2h.
    """

    component: str
    attribute: str
    names: pd.Index
    whose: Labels
    factor: Numbers
    square: Numbers | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Books:
    """Whose results of a network are which, and what they cost.

    Attributes
    ----------
    consumed, given_up, must_take, generated : list of Entry
        Power into the prosumers' own buses: of Loads; of elastic demand and demand bids; of
        generation without a choice; of everything else.
    operated : list of Entry
        What costs their owners something in operation.
    forgone : list of Entry
        Of that the utility that is given up, or had of bids, paid to nobody.
    imported, exported : list of Entry
        Power bought from retailers, and sold to them (a negative result).
    import_charges, export_charges, run : list of Entry
        Of what is operated: what that costs; and all else but what is forgone.
    peaks : list of Entry
        Of what is built: the largest imports from retailers.
    built : list of Entry
        Capacities to be found. What stood before is a part of them; what is given costs nothing
        here, as nothing decides about it.
    buyer : (2 E,)
        Positions of the buyers of all trades: both directions of every edge.
    price, fee, congestion : (S, T, 2 E), or (S, 1, 2 E) where it does not vary in time
        Of the buyer, EUR/MWh, and on what she buys or sells; EUR/MW2h.
    """

    consumed: list[Entry]
    given_up: list[Entry]
    must_take: list[Entry]
    generated: list[Entry]
    operated: list[Entry]
    forgone: list[Entry]
    imported: list[Entry]
    exported: list[Entry]
    import_charges: list[Entry]
    export_charges: list[Entry]
    run: list[Entry]
    peaks: list[Entry]
    built: list[Entry]
    buyer: Labels
    price: Numbers
    fee: Numbers
    congestion: Numbers


def read_books(n: pypsa.Network, data: MarketData) -> Books:
    """The books of a network in which a market's data were read."""
    generators = data.names("Generator")
    elastic = carrier_names(n, "Generator", *CONSUMPTION)
    fixed = must_take(n, generators.difference(elastic))
    others = {
        "Generator": generators.difference([*elastic, *fixed]),
        "StorageUnit": data.names("StorageUnit"),
        "Store": data.names("Store"),
    }
    bought, sold = (
        generators.intersection(carrier_names(n, "Generator", carrier), sort=False)
        for carrier in (RETAIL_IMPORT_CARRIER, RETAIL_EXPORT_CARRIER)
    )
    built = _built(n, data)
    own = {c: data.names(c) for c, *_ in OPERATING_PRICES}
    run = {**own, "Generator": generators.difference([*elastic, *bought, *sold], sort=False)}
    generated = [entry for c, names in others.items() for entry in _injected(n, data, c, names)]
    return Books(
        consumed=_injected(n, data, "Load", data.names("Load")),
        given_up=_injected(n, data, "Generator", elastic),
        must_take=_injected(n, data, "Generator", fixed),
        generated=generated + _of_branches(n, data),
        operated=_operated(n, data, own),
        forgone=_operated(n, data, {"Generator": generators.intersection(elastic)}),
        imported=_injected(n, data, "Generator", bought),
        exported=_injected(n, data, "Generator", sold),
        import_charges=_operated(n, data, {"Generator": bought}),
        export_charges=_operated(n, data, {"Generator": sold}),
        run=_operated(n, data, run),
        peaks=[_part(entry, bought) for entry in built if entry.component == "Generator"],
        built=built,
        buyer=np.concatenate(data.ends),
        price=_by_trade(data.price0, data.price1),
        fee=_by_trade(data.fee0, data.fee1),
        congestion=_by_trade(data.congestion, data.congestion),
    )


def with_congestion_of(data: MarketData, books: Books) -> Books:
    """The books of a network that differs in capacities and congestion only."""
    return replace(books, congestion=_by_trade(data.congestion, data.congestion))


def _by_trade(at_bus0: xr.DataArray, at_bus1: xr.DataArray) -> Numbers:
    """Numbers of both ends of every edge, (S, T, 2 E), or (S, 1, 2 E)."""
    ends = []
    for one in (at_bus0, at_bus1):
        whole = one if SNAPSHOT in one.dims else one.expand_dims(SNAPSHOT)
        ends.append(whole.transpose(SCENARIO, SNAPSHOT, NAME).to_numpy())
    return np.concatenate(ends, axis=-1)


def must_take(n: pypsa.Network, names: pd.Index) -> pd.Index:
    """Those of some generators that have no choice, p_min_pu = p_max_pu, at any time.

    All of the network's snapshots count, so that the answer is the same for a part of them.
    """
    least, most = (
        dynamic_numbers(n, "Generator", limit, names, n.snapshots)
        for limit in ("p_min_pu", "p_max_pu")
    )
    return names[(least == most).all(axis=(0, 1))]


def _injected(n: pypsa.Network, data: MarketData, component: str, names: pd.Index) -> list[Entry]:
    """What components of a class feed into the prosumers' own buses."""
    if names.empty:
        return []
    bus = first_scenario(n, component)["bus"].reindex(names)
    return [
        Entry(
            component=component,
            attribute="p",
            names=names,
            whose=data.prosumers.get_indexer(pd.Index(bus)),
            factor=dynamic_numbers(n, component, "sign", names, data.snapshots, default=1.0),
        )
    ]


def _of_branches(n: pypsa.Network, data: MarketData) -> list[Entry]:
    """What branches behind the meter feed into the prosumers' own buses."""
    found = []
    for component in sorted(n.branch_components):
        names = data.names(component)
        static = first_scenario(n, component)
        for column in bus_columns(static) if len(names) else ():
            whose = data.prosumers.get_indexer(pd.Index(static[column].reindex(names)))
            here = whose >= 0
            if here.any():
                entry = Entry(
                    component=component,
                    attribute=f"p{column[3:]}",
                    names=names[here],
                    whose=whose[here],
                    factor=np.array(-1.0),
                )
                found.append(entry)
    return found


def _operated(n: pypsa.Network, data: MarketData, names: dict[str, pd.Index]) -> list[Entry]:
    """What some components of some classes cost their owners in operation."""
    found = []
    for component, result, price, quadratic in OPERATING_PRICES:
        of_class = names.get(component, pd.Index([]))
        if of_class.empty:
            continue
        prices = [
            None if one is None else dynamic_numbers(n, component, one, of_class, data.snapshots)
            for one in (price, quadratic)
        ]
        entry = Entry(
            component=component,
            attribute=result,
            names=of_class,
            whose=_owners(data, component, of_class),
            factor=np.asarray(prices[0]),
            square=prices[1],
        )
        found.append(entry)
    return found


def _built(n: pypsa.Network, data: MarketData) -> list[Entry]:
    """Capital cost of what prosumers may build, the same in every scenario."""
    found = []
    for component, capacity in CAPACITIES.items():
        names = extendable_names(n, component)
        if len(names):
            like = xr.DataArray(
                np.zeros((len(data.scenarios), len(names))),
                coords={SCENARIO: data.scenarios, NAME: names},
            )
            entry = Entry(
                component=component,
                attribute=f"{capacity}_opt",
                names=names,
                whose=_owners(data, component, names),
                factor=capital_cost(n, component, names, like).to_numpy(),
            )
            found.append(entry)
    return found


def _part(entry: Entry, names: pd.Index) -> Entry:
    """That of some names alone."""
    chosen = entry.names.isin(names)
    return replace(
        entry,
        names=entry.names[chosen],
        whose=entry.whose[chosen],
        factor=entry.factor[..., chosen],
    )


def _owners(data: MarketData, component: str, names: pd.Index) -> Labels:
    owner = data.owner_of(component)
    return data.prosumers.get_indexer(
        pd.Index(owner.to_numpy()[owner.indexes[NAME].get_indexer(names)])
    )
