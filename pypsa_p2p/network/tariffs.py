"""Usual network tariffs as fees of trades: by distance, by voltage level, by zone (MODEL.md §1).

Each is a DataFrame of what a payer (rows) pays on trades with a partner (columns), EUR/MWh, as
`add_trades` takes it. Tariffs that come together are added: ``distance_fees(n, 0.1) + 2.0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import networkx as nx
import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.names import GRID_BUS, PROSUMER
from pypsa_p2p.common.tables import Numbers, first_scenario
from pypsa_p2p.common.values import as_text, require_network
from pypsa_p2p.network.ownership import branches, ports
from pypsa_p2p.network.prosumers import prosumer_names

_EARTH = 6371.0  # mean radius, km
_GEOGRAPHIC = 4326  # PyPSA's default: longitude and latitude


def distance_fees(
    n: pypsa.Network,
    rate: float,
    *,
    along: Literal["coordinates", "grid"] = "coordinates",
) -> pd.DataFrame:
    """Fees that grow with the distance between partners.

    Parameters
    ----------
    n : pypsa.Network
        With prosumers, who stand where their bus of the grid does, or else their own bus.
    rate : float
        EUR/MWh per km, at least 0; each of both ends pays it.
    along : {"coordinates", "grid"}
        As the crow flies between the coordinates of buses, ``x`` and ``y``: degrees of longitude
        and latitude, PyPSA's default, or metres where ``n.srid`` is another. Or the shortest way
        along the active branches of the grid, by the ``length`` of lines and links in km.

    Returns
    -------
    DataFrame payer x partner, EUR/MWh; NaN where no way on the grid leads from one to the other.

    Raises
    ------
    DataError
        No prosumers, no coordinates or lengths.
    MarketError
        A price below 0.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> n.add("Bus", ["north", "south"], x=[8.0, 8.0], y=[50.0, 49.0])
    >>> p2p.add_prosumers(n, ["a", "b"], demand=1, demand_max=2, utility_quadratic=1,
    ...                   grid_bus=["north", "south"])
    >>> fee = distance_fees(n, rate=0.01)
    >>> print(fee.loc["a", "b"].round(4))  # of 111 km
    1.1119
    >>> p2p.add_trades(n, "complete", capacity=5, fee=fee + 0.5)
    """
    places = _places(n)
    Range(0).require("distance_fees: rate", rate)
    ways = {"coordinates": _crow_flies, "grid": _along_grid}
    if along not in ways:
        raise DataError(f"Argument along is {shown(along)}: give 'coordinates' or 'grid'.")
    return pd.DataFrame(float(rate) * ways[along](n, places), places.index, places.index)


def voltage_fees(n: pypsa.Network, tariff: Mapping[float, float]) -> pd.DataFrame:
    """Fees by the levels of voltage that a trade uses.

    A payer pays what her own level costs, and every level above it up to her partner's: who
    stands at 0.4 kV pays for 0.4 and 20 kV on trades with someone at 20 kV, who pays for 20 kV.

    Parameters
    ----------
    n : pypsa.Network
        With prosumers at buses of a grid, ``grid_bus``.
    tariff : mapping of float
        EUR/MWh, at least 0, by level: ``v_nom`` of the buses, kV.

    Returns
    -------
    DataFrame payer x partner, EUR/MWh.

    Raises
    ------
    DataError
        No prosumers, or levels that the tariff lacks.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> n.add("Bus", ["street", "works"], v_nom=[0.4, 20.0])
    >>> p2p.add_prosumers(n, ["a", "b"], demand=1, demand_max=2, utility_quadratic=1,
    ...                   grid_bus=["street", "works"])
    >>> fee = voltage_fees(n, {0.4: 3.0, 20.0: 1.0})
    >>> print(fee.loc["a", "b"], fee.loc["b", "a"])
    4.0 1.0
    """
    places = _places(n)
    if not isinstance(tariff, Mapping) or not tariff:
        raise DataError(f"Argument tariff is {shown(tariff)}: give a mapping {{kV: EUR/MWh}}.")
    for level, price in tariff.items():
        Range(0).require(f"voltage_fees: the tariff of {level} kV", price)
    voltage = first_scenario(n, "Bus")["v_nom"].astype(float).reindex(places).to_numpy()
    levels = np.array(sorted(map(float, tariff)))
    unknown = voltage[~np.isin(voltage, levels)]
    if unknown.size:
        raise DataError(
            f"Argument tariff lacks {listed(np.unique(unknown))} kV, where "
            f"{listed(places.index[~np.isin(voltage, levels)])} stand: give a fee for each level."
        )
    up_to = np.cumsum([float(tariff[level]) for level in sorted(tariff)])
    place = np.searchsorted(levels, voltage)
    below = np.append(0.0, up_to)[place]
    fees = up_to[np.maximum.outer(place, place)] - below[:, None]
    return pd.DataFrame(fees, places.index, places.index)


def zone_fees(
    n: pypsa.Network,
    zone: Mapping[str, str] | pd.Series,
    *,
    inside: float = 0.0,
    across: float | Mapping[tuple[str, str], float] = 0.0,
) -> pd.DataFrame:
    """Fees by zone: within one, and from one to another.

    Parameters
    ----------
    n : pypsa.Network
        With prosumers.
    zone : mapping or Series
        The zone of every prosumer, by name.
    inside : float
        Fee on trades within a zone, EUR/MWh, at least 0.
    across : float or mapping
        Fee on trades between zones, EUR/MWh, at least 0; or by pair, {(payer's, partner's): fee}.

    Returns
    -------
    DataFrame payer x partner, EUR/MWh.

    Raises
    ------
    DataError
        No prosumers, prosumers without a zone, or pairs of zones that `across` lacks.
    MarketError
        A price below 0.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> p2p.add_prosumers(n, ["a", "b", "c"], demand=1, demand_max=2, utility_quadratic=1)
    >>> fee = zone_fees(n, {"a": "east", "b": "east", "c": "west"}, inside=0.5, across=2.0)
    >>> fee.loc["a", ["b", "c"]].tolist()
    [0.5, 2.0]
    """
    prosumers = _prosumers(n)
    whose = as_text(zone, "zone", PROSUMER, prosumers)
    Range(0).require("zone_fees: inside", inside)
    pairs = {(one, other) for one in whose for other in whose if one != other}
    if isinstance(across, Mapping):
        lacking = sorted(pairs - set(across))
        if lacking:
            raise DataError(f"Argument across lacks {listed(lacking)}: give each pair's fee.")
        fees = {pair: across[pair] for pair in pairs}
    else:
        fees = dict.fromkeys(pairs, across)
    for pair, fee in fees.items():
        Range(0).require(f"zone_fees: across {pair}", fee)
    rows = [[fees.get((one, other), inside) for other in whose] for one in whose]
    return pd.DataFrame(np.array(rows, dtype=float), prosumers, prosumers)


def _prosumers(n: pypsa.Network) -> pd.Index:
    require_network(n)
    prosumers = prosumer_names(n)
    if prosumers.empty:
        raise DataError("The network has no prosumers to charge fees: add them first.")
    return prosumers


def _places(n: pypsa.Network) -> pd.Series:
    """Where every prosumer stands: her bus of the grid, or her own."""
    prosumers = _prosumers(n)
    buses = first_scenario(n, "Bus").reindex(columns=[GRID_BUS]).loc[prosumers, GRID_BUS]
    own = pd.Series(prosumers, prosumers, dtype=object)
    return buses.where(buses.isin(first_scenario(n, "Bus").index), own)


def _crow_flies(n: pypsa.Network, places: pd.Series) -> Numbers:
    """Distances between buses by their coordinates, km."""
    x, y = first_scenario(n, "Bus")[["x", "y"]].astype(float).reindex(places).to_numpy().T
    unknown = ~np.isfinite(x + y)
    if unknown.any() or not (x.any() or y.any()):
        culprits = places.index[unknown] if unknown.any() else places.index
        raise DataError(
            f"Buses of {listed(culprits)} have no coordinates: set n.buses[['x', 'y']], or take "
            "along='grid'."
        )
    if n.srid != _GEOGRAPHIC:
        return np.asarray(np.hypot(np.subtract.outer(x, x), np.subtract.outer(y, y)) / 1e3)
    east, north = np.radians(x), np.radians(y)
    half = np.sin(np.subtract.outer(north, north) / 2) ** 2
    half += np.multiply.outer(np.cos(north), np.cos(north)) * (
        np.sin(np.subtract.outer(east, east) / 2) ** 2
    )
    return np.asarray(2 * _EARTH * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))


def _along_grid(n: pypsa.Network, places: pd.Series) -> Numbers:
    """Lengths of the shortest ways between buses along branches, km; NaN where there is none."""
    grid = nx.Graph()
    for component in branches(n):
        static = first_scenario(n, component)
        length = static.get("length", pd.Series(0.0, static.index)).astype(float)
        for name, ends in ports(n, component).items():
            for other in ends[1:]:
                shortest = grid.get_edge_data(ends[0], other, {"length": np.inf})["length"]
                grid.add_edge(ends[0], other, length=min(shortest, float(length[name])))
    if not any(length > 0 for _, _, length in grid.edges(data="length")):
        raise DataError(
            "No line has a length: set n.lines['length'], km, or take along='coordinates'."
        )
    grid.add_nodes_from(places)
    ways = {
        bus: nx.single_source_dijkstra_path_length(grid, bus, weight="length")
        for bus in places.unique()
    }
    found = [[ways[one].get(other, np.nan) for other in places] for one in places]
    return np.array(found, dtype=float)
