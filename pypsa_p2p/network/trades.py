"""Trade edges as native PyPSA links of the carrier `p2p`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.names import (
    CONGESTION,
    DAY_AHEAD,
    DECIDED,
    FEE0,
    FEE1,
    PRICE0,
    PRICE1,
    PROSUMER,
    REAL_TIME,
    SNAPSHOT,
    TRADE_CARRIER,
)
from pypsa_p2p.common.tables import Numbers, by_scenario, first_scenario, write_series
from pypsa_p2p.common.values import add_carriers, as_names, labelled, require_free, require_network
from pypsa_p2p.network.edge_values import (
    EdgeValue,
    directed,
    sorted_pairs,
    symmetric,
)
from pypsa_p2p.network.own_surplus import set_own_surplus
from pypsa_p2p.network.prosumers import prosumer_names
from pypsa_p2p.network.retail_contracts import fit_retail
from pypsa_p2p.network.sites import note_connections
from pypsa_p2p.network.trade_pairs import read_pairs


def add_trades(
    n: pypsa.Network,
    edges: str | Iterable[tuple[str, str]] | nx.Graph,
    *,
    capacity: EdgeValue,
    price: EdgeValue = 0.0,
    congestion: EdgeValue = 0.0,
    fee: EdgeValue = 0.0,
    own_surplus: bool | Iterable[str] = False,
    decided: str = REAL_TIME,
) -> None:
    r"""Let pairs of prosumers trade: one link for each edge {m, n} of the trade graph.

    q_mn <= capacity, and the agent that decides q_mn pays
    (a_mn (q_mn + q_nm) + b_mn) q_mn + f_mn |q_mn| (MODEL.md sections 1 and 2; arXiv 2004.02470,
    equation 6, without the fee f). Nobody buys more than the capacity; where surplus is sold at
    the import price, sales over an edge may exceed it.

    The price b is the paper's preference and is signed: it costs the buyer b q and pays the seller
    b |q|. It is no charge: alike on both ends it deters nothing, and unlike it can make trades in
    circles earn money. Nobody pays it either; bills leave it out. A charge that deters trade is
    the fee: whoever buys or sells over the edge pays it to whoever runs the network.

    Parameters
    ----------
    n : pypsa.Network
        With prosumers; with or without scenarios; changed in place. May be called repeatedly.
    edges : "complete", "grid", iterable of pairs, or networkx.Graph
        "complete": every two prosumers. "grid": prosumers at the same bus of the grid, or at two
        that its active branches join with nobody's buses in between (junctions, converters), if
        any. Directions do not matter: a pair in both of its orders is one edge.
    capacity
        kappa, the most that one may buy of the other, at least 0, MW: a number, a mapping or
        Series {(buyer, seller): kappa}, in which one order of a pair holds for both unless the
        other is there, too, or a DataFrame buyer x seller; also by snapshot, see the notes. An
        edge of one way has 0 in the other.
    price
        Preference price b, EUR/MWh: a number, a mapping or Series {(buyer, seller): b}, or a
        DataFrame buyer x seller. Both directions of every edge; also by snapshot.
    congestion
        Coefficient a of each edge, at least 0, EUR/MW2h: a number, by pair (one of its two
        orders, or both alike), or a symmetric DataFrame.
    fee
        Fee f on what is bought or sold, at least 0, EUR/MWh: a number that either end pays, or
        {(payer, partner): f} in the forms of `price`; also by snapshot. Where surplus is sold, the
        seller alone pays her fee on it. `distance_fees`, `voltage_fees` and `zone_fees` make
        usual tariffs.
    own_surplus : bool or iterable of str
        Who at these edges, everybody or some of them, sells only what is her own, over any edge
        and to her retailer: where her generation exceeds her consumption she buys and imports
        nothing, and where it falls short she sells and exports nothing. Whether it does has to
        follow from the data: a market refuses it where that is still to be decided. What storage
        gives and takes is neither.
    decided : {"real-time", "day-ahead"}
        When these trades are settled. "day-ahead": before the scenario is known, one quantity and
        one price for all scenarios (MODEL.md §12). A pair may trade at both times; the
        capacity of its edge in real time is then that of both together.

    Raises
    ------
    DataError
        Unknown prosumers, edges that exist or repeat, values that miss or do not fit an edge; `n`
        is then as it was.

    Notes
    -----
    The edge ("a", "b") is the Link "a - b", day ahead "a - b day-ahead", from bus0 "a" to bus1 "b",
    `p_nom` the larger of its two capacities, of which "a" may buy -`p_min_pu` and "b" `p_max_pu`,
    with the columns `price0` (of "a" buying from "b"), `price1`, `congestion`, `fee0` (that "a"
    pays), `fee1` and `decided`. Its `marginal_cost` is next to nothing: PyPSA builds no model where
    nothing at all costs anything.

    By snapshot: a Series over ``n.snapshots`` holds for all edges; a mapping by pair may have one
    for each; a DataFrame has rows of snapshots and columns of pairs; a DataArray has the dims
    ``snapshot``, ``buyer`` and ``seller``, some of them, or ``trade`` with the last two as its
    coordinates, as `results` has them. What varies is in ``n.links_t``: `price0`, `price1`,
    `fee0`, `fee1`, `p_min_pu` and `p_max_pu`.

    Examples
    --------
    >>> import pypsa
    >>> from pypsa_p2p.network.prosumers import add_prosumers
    >>> n = pypsa.Network()
    >>> add_prosumers(n, ["a", "b"], demand=5, demand_max=10, utility_quadratic=0.5)
    >>> add_trades(n, "complete", capacity=3, price={("a", "b"): 1.0, ("b", "a"): 2.0})
    >>> print(*n.links.loc["a - b", ["bus0", "bus1", "p_nom", "price0", "price1"]])
    a b 3.0 1.0 2.0

    Whoever trades pays the network 0.5 EUR/MWh, at night nothing:

    >>> n = pypsa.Network(snapshots=["night", "day"])
    >>> add_prosumers(n, ["a", "b"], demand=5, demand_max=10, utility_quadratic=0.5)
    >>> add_trades(n, "complete", capacity=3, fee=pd.Series({"night": 0.0, "day": 0.5}))
    >>> n.links_t.fee0["a - b"].tolist()
    [0.0, 0.5]
    """
    require_network(n)
    _require_time(decided)
    prosumers = prosumer_names(n)
    pairs = read_pairs(n, edges, prosumers)
    if pairs.empty:
        return
    _require_new(n, pairs, decided)
    own = _sellers(own_surplus, pairs)
    labels = _edge_names(n, pairs, decided)
    ordered, sns = sorted_pairs(pairs), n.snapshots
    of_ends = pairs, prosumers, sns
    price0, price1 = directed(price, "price", *of_ends)
    fee0, fee1 = directed(fee, "fee", *of_ends, signed=False)
    most = directed(capacity, "capacity", *of_ends, signed=False, either_order=True)
    largest, share0, share1 = _capacity(most)
    coefficient = symmetric(congestion, "congestion", ordered, prosumers, sns)
    if coefficient.ndim > 1:
        raise DataError("Argument congestion is by snapshot: give one number for each edge.")
    series = {PRICE0: price0, PRICE1: price1, FEE0: fee0, FEE1: fee1}
    columns: dict[str, Any] = {"p_nom": largest, CONGESTION: coefficient, DECIDED: decided}
    for name, values in series.items():
        columns[name] = np.where(_varies(values), 0.0, _first(values))
    _without_columns_yet(n)
    if len(own):
        set_own_surplus(n, own)
    add_carriers(n, [TRADE_CARRIER])
    n.add(
        "Link",
        list(labels),
        bus0=pairs.get_level_values(0),
        bus1=pairs.get_level_values(1),
        carrier=TRADE_CARRIER,
        p_min_pu=-_first(share0),
        p_max_pu=_first(share1),
        marginal_cost=ACCURACY.next_to_nothing,
        **columns,
    )
    series |= {"p_min_pu": -share0, "p_max_pu": share1}
    for attribute, values in series.items():
        _write_varying(n, attribute, labels, values)
    by_scenario(n, "Link")
    fit_retail(n)
    note_connections(n)


def trade_edges(n: pypsa.Network) -> pd.DataFrame:
    """The links that are trade edges, by name, in the order of the network: static columns."""
    links = first_scenario(n, "Link")
    return links[links["carrier"] == TRADE_CARRIER]


def _sellers(own_surplus: object, pairs: pd.MultiIndex) -> pd.Index:
    """Who of the ends of these pairs sells only what is her own."""
    ends = pairs.get_level_values(0).append(pairs.get_level_values(1)).unique()
    if isinstance(own_surplus, bool):
        return ends if own_surplus else ends[:0]
    names = as_names(own_surplus, "own_surplus")
    unknown = names[~names.isin(ends)]
    if len(unknown):
        raise DataError(
            f"Argument own_surplus has {listed(unknown)}, who is at none of these edges: name "
            "prosumers who are, or give True for all of them."
        )
    return names


def _require_time(decided: object) -> None:
    if decided not in (DAY_AHEAD, REAL_TIME):
        raise DataError(
            f"Argument decided is {shown(decided)}: give {DAY_AHEAD!r}, before the scenario is "
            f"known, or {REAL_TIME!r}."
        )


def _require_new(n: pypsa.Network, pairs: pd.MultiIndex, decided: str) -> None:
    existing = trade_edges(n)
    if existing.empty:
        return
    if DECIDED in existing:
        existing = existing[existing[DECIDED].fillna(REAL_TIME) == decided]
    elif decided == DAY_AHEAD:
        return
    known = pd.MultiIndex.from_arrays([existing["bus0"], existing["bus1"]])
    old = sorted_pairs(pairs).isin(sorted_pairs(known))
    if old.any():
        raise DataError(
            f"Prosumers trade already over the edges {listed(pairs[old])}: leave those out."
        )


def _edge_names(n: pypsa.Network, pairs: pd.MultiIndex, decided: str) -> pd.Index:
    labels = pairs.get_level_values(0) + " - " + pairs.get_level_values(1)
    ahead = decided == DAY_AHEAD
    taken = labels.isin(trade_edges(n).index)  # by edges whose column was set by hand
    labels = labels.where(~(taken | ahead), labels + f" {decided}")
    if not labels.is_unique:
        twice = listed(labels[labels.duplicated()].unique())
        raise DataError(f"Two edges would have the name {twice}: rename prosumers with ' - '.")
    require_free(n, "Link", labels)
    return labels


def _capacity(both: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The largest capacity of each edge, (E,), MW, and what of it bus0, and bus1, may buy.

    Of (2, E) or (2, T, E); the shares are (E,) or (T, E).
    """
    largest = both.max(axis=tuple(range(both.ndim - 1)))
    share = np.divide(both, largest, out=np.ones_like(both), where=largest > 0)
    return largest, share[0], share[1]


def _varies(values: Numbers) -> Numbers:
    """(E,) whether a number is not the same in all snapshots."""
    return np.asarray((np.atleast_2d(values) != _first(values)).any(axis=0))


def _first(values: Numbers) -> Numbers:
    return np.asarray(np.atleast_2d(values)[0])


def _write_varying(n: pypsa.Network, attribute: str, edges: pd.Index, values: Numbers) -> None:
    """Put the numbers of those edges whose numbers vary, of (T, E), into the dynamic table."""
    varying = _varies(values)
    if varying.any():
        chosen = edges[varying]
        array = labelled(values[:, varying], {SNAPSHOT: n.snapshots, PROSUMER: chosen})
        write_series(n, "Link", attribute, chosen, array)


def _without_columns_yet(n: pypsa.Network) -> None:
    """Note that the trade edges of a network that knows no fees have none, and are in real time."""
    static = n.components.links.static
    ours = (static["carrier"] == TRADE_CARRIER).to_numpy(bool)
    for column in (FEE0, FEE1):
        if column not in static and ours.any():
            static[column] = np.where(ours, 0.0, np.nan)
    if DECIDED not in static and len(static):
        static[DECIDED] = np.where(ours, REAL_TIME, "").astype(object)
