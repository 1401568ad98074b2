"""What a market needs from a network, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.names import (
    CONGESTION,
    DAY_AHEAD,
    DECIDED,
    FEE0,
    FEE1,
    FIXED_COST,
    IMPORT_PRICE,
    NAME,
    OPERATOR,
    PRICE0,
    PRICE1,
    PROSUMER,
    PROSUMER_CARRIER,
    REAL_TIME,
    RISK_ATTITUDE,
    ROLE,
    ROLES,
    SCENARIO,
    SNAPSHOT,
    TRADE_CARRIER,
    USAGE_BENEFIT,
)
from pypsa_p2p.common.tables import (
    as_numbers,
    carrier_names,
    dynamic_values,
    first_scenario,
    probabilities,
    static_values,
)
from pypsa_p2p.network.entries import require_entries
from pypsa_p2p.network.market_data import Flags, MarketData, require
from pypsa_p2p.network.own_surplus import with_own_surplus
from pypsa_p2p.network.ownership import bus_owners, own_assets
from pypsa_p2p.network.sites import read_sites


def read_market(n: pypsa.Network, sns: object = None, *, grid: bool = False) -> MarketData:
    """Sets and data of the market in a network, over snapshots `sns` (default: all).

    Parameters
    ----------
    grid : bool
        Whether the physical grid delivers what is traded, so that prosumers need sites on it.

    Raises
    ------
    DataError
        No prosumers, a trade edge whose end is not a prosumer, or values that make no sense
        (naming the element and the way out).
    MarketError
        Prosumers connected by more than trades, or without a site on the grid.
    """
    if not isinstance(n, pypsa.Network):
        raise DataError(f"A market needs a pypsa.Network, not a {type(n).__name__}.")
    sns = _snapshots(n, sns)
    require_entries(n, sns)
    prosumers = carrier_names(n, "Bus", PROSUMER_CARRIER).rename(PROSUMER)
    if prosumers.empty:
        raise DataError(
            "The network has no prosumers (buses of carrier 'prosumer'). Add them with "
            "add_prosumers(n, ...) or assign_prosumers(n, ...)."
        )
    edges = carrier_names(n, "Link", TRADE_CARRIER)
    numbers = _edge_numbers(n, edges, sns)
    owners = bus_owners(n)
    prices = _of_ends(n, (PRICE0, PRICE1), edges, sns)
    fees = _of_ends(n, (FEE0, FEE1), edges, sns, optional=True)
    data = MarketData(
        stochastic=bool(n.has_scenarios),
        probability=probabilities(n),
        weighting=xr.DataArray(
            as_numbers(
                "n.snapshot_weightings", n.snapshot_weightings["objective"].loc[sns], "objective"
            ),
            coords={SNAPSHOT: sns},
        ),
        risk_attitude=_prosumer_column(n, RISK_ATTITUDE, prosumers).isel({SCENARIO: 0}, drop=True),
        role=_roles(n, prosumers),
        usage_benefit=_prosumer_column(n, USAGE_BENEFIT, prosumers),
        fixed_cost=_prosumer_column(n, FIXED_COST, prosumers),
        import_price=_by_prosumer(dynamic_values(n, "Bus", IMPORT_PRICE, prosumers, sns)),
        bus0=_ends(n, "bus0", edges),
        bus1=_ends(n, "bus1", edges),
        price0=prices[0],
        price1=prices[1],
        fee0=fees[0],
        fee1=fees[1],
        capacity0=numbers[0],
        capacity1=numbers[1],
        congestion=numbers[2],
        day_ahead=_day_ahead(n, edges),
        owners=owners,
        assets=own_assets(n, owners),
        sites=None,
    )
    _check(n, data)
    data = with_own_surplus(n, data)
    return replace(data, sites=read_sites(n, prosumers)) if grid else data


def with_numbers_of(n: pypsa.Network, data: MarketData) -> MarketData:
    """The data of a network that differs in capacities and congestion only."""
    capacity0, capacity1, congestion = _edge_numbers(n, data.edges, data.snapshots)
    data = replace(data, capacity0=capacity0, capacity1=capacity1, congestion=congestion)
    return with_own_surplus(n, data)


def _edge_numbers(n: pypsa.Network, edges: pd.Index, sns: pd.Index) -> list[xr.DataArray]:
    """Capacities in both directions, and congestion."""
    p_nom = static_values(n, "Link", "p_nom", edges)
    return [
        -p_nom * dynamic_values(n, "Link", "p_min_pu", edges, sns),
        p_nom * dynamic_values(n, "Link", "p_max_pu", edges, sns),
        _of_edges(n, CONGESTION, edges),
    ]


def _snapshots(n: pypsa.Network, sns: object) -> pd.Index:
    """The snapshots asked for, in the network's order."""
    if not n.snapshots.is_unique:
        repeated = listed(n.snapshots[n.snapshots.duplicated()].unique())
        raise DataError(f"n.snapshots repeats {repeated}: name each snapshot once.")
    if sns is None:
        return pd.Index(n.snapshots, name=SNAPSHOT)
    if isinstance(sns, str | bytes) or not isinstance(sns, Sequence | pd.Index | np.ndarray):
        raise DataError(
            f"Snapshots must be a list or index of labels of n.snapshots, not {shown(sns)}."
        )
    wanted = pd.Index(sns, name=SNAPSHOT)
    positions = n.snapshots.get_indexer(wanted)
    if wanted.empty:
        raise DataError("No snapshots are given: name at least one, or leave them out for all.")
    if (positions < 0).any():
        raise DataError(
            f"Snapshots {listed(wanted[positions < 0])} are not in n.snapshots: leave them out."
        )
    if (np.diff(positions) <= 0).any():
        raise DataError("Snapshots must not repeat and must keep the order of n.snapshots.")
    return wanted


def _prosumer_column(n: pypsa.Network, attribute: str, prosumers: pd.Index) -> xr.DataArray:
    return _by_prosumer(static_values(n, "Bus", attribute, prosumers))


def _roles(n: pypsa.Network, prosumers: pd.Index) -> xr.DataArray:
    """Prosumers of networks that know no roles are all "prosumer"."""
    column = first_scenario(n, "Bus").get(ROLE, pd.Series(dtype=object)).reindex(prosumers)
    roles = column.fillna(PROSUMER).replace("", PROSUMER)
    unknown = roles[~roles.isin(ROLES)]
    if len(unknown):
        raise DataError(
            f"n.buses.role of prosumer {listed(unknown.index)} is {listed(unknown.unique())}: set "
            f"{' or '.join(map(repr, ROLES))}."
        )
    if (roles == OPERATOR).all():
        raise DataError("n.buses.role is 'operator' for everybody: a market needs a prosumer.")
    return xr.DataArray(roles.to_numpy(object), coords={PROSUMER: prosumers})


def _by_prosumer(by_name: xr.DataArray) -> xr.DataArray:
    return by_name.rename({NAME: PROSUMER})


def _of_edges(n: pypsa.Network, attribute: str, edges: pd.Index) -> xr.DataArray:
    _require_column(n, attribute, edges)
    return static_values(n, "Link", attribute, edges)


def _of_ends(
    n: pypsa.Network,
    attributes: tuple[str, str],
    edges: pd.Index,
    sns: pd.Index,
    *,
    optional: bool = False,
) -> list[xr.DataArray]:
    """Numbers of both ends of every edge: by snapshot where a series of one of them is there."""
    if not optional:
        for attribute in attributes:
            _require_column(n, attribute, edges)
    tables = [n.c["Link"].dynamic.get(attribute) for attribute in attributes]
    columns = [table.columns for table in tables if table is not None and not table.empty]
    if any(names.get_level_values(-1).isin(edges).any() for names in columns):
        return [dynamic_values(n, "Link", attribute, edges, sns) for attribute in attributes]
    return [static_values(n, "Link", attribute, edges) for attribute in attributes]


def _day_ahead(n: pypsa.Network, edges: pd.Index) -> xr.DataArray:
    """Whether each edge is decided before the scenario is known; not where nothing says so."""
    given = n.c["Link"].static.get(DECIDED, pd.Series(dtype=object))
    given = given.fillna(REAL_TIME).replace("", REAL_TIME)
    kinds = given.groupby(given.index.get_level_values(-1)).nunique()
    apart = edges[kinds.reindex(edges).to_numpy() > 1]
    if len(apart):
        raise DataError(
            f"n.links.decided of trade edge {listed(apart)} differs between scenarios: a trade is "
            "settled before any of them is known, or in each; set the same in all."
        )
    when = given.groupby(given.index.get_level_values(-1)).first().reindex(edges)
    when = when.fillna(REAL_TIME)
    unknown = when[~when.isin((DAY_AHEAD, REAL_TIME))]
    if len(unknown):
        raise DataError(
            f"n.links.decided of trade edge {listed(unknown.index)} is {listed(unknown.unique())}: "
            f"set {DAY_AHEAD!r} or {REAL_TIME!r}."
        )
    return xr.DataArray((when == DAY_AHEAD).to_numpy(bool), coords={NAME: edges})


def _require_column(n: pypsa.Network, attribute: str, edges: pd.Index) -> None:
    if len(edges) and attribute not in n.c["Link"].static:
        raise DataError(
            f"n.links has no column {attribute!r}, which trade edges {listed(edges)} need: "
            f"add_trades writes it; set n.links[{attribute!r}] = 0.0 if it is 0."
        )


def _ends(n: pypsa.Network, end: str, edges: pd.Index) -> xr.DataArray:
    values = first_scenario(n, "Link")[end].reindex(edges).to_numpy(object)
    return xr.DataArray(values, coords={NAME: edges})


def _check(n: pypsa.Network, data: MarketData) -> None:
    """Refuse what add_prosumers and add_trades would, for networks built or edited by hand."""
    for end in (data.bus0, data.bus1):
        stray = data.edges[~pd.Index(end.to_numpy()).isin(data.prosumers)]
        if len(stray):
            raise DataError(
                f"Trade edges {listed(stray)}: an end is not a prosumer. Connect p2p Links to "
                "prosumer buses only, or give these Links another carrier."
            )
    itself = data.edges[data.bus0.to_numpy() == data.bus1.to_numpy()]
    if len(itself):
        raise DataError(
            f"Trade edges {listed(itself)} lead from a prosumer to herself; remove them."
        )
    for name, array in vars(data).items():
        if isinstance(array, xr.DataArray) and array.dtype.kind == "f":
            must = "be finite (neither missing nor infinite)"
            _require(array, np.isfinite(array.to_numpy()), name, must)
    _require(data.probability, data.probability.to_numpy() > 0, "probability", "be positive")
    if abs(float(data.probability.sum()) - 1) > ACCURACY.probability:
        raise DataError(f"Probabilities sum to {float(data.probability.sum()):.12g}, not 1.")
    hours = "snapshot_weightings.objective"
    _require(data.weighting, data.weighting.to_numpy() > 0, hours, "be positive")
    chi = data.risk_attitude.to_numpy()
    _require(data.risk_attitude, (chi >= 0) & (chi < 1), RISK_ATTITUDE, "lie in [0, 1)")
    for array, what in (
        (data.capacity0, "capacity (p_nom * -p_min_pu)"),
        (data.capacity1, "capacity (p_nom * p_max_pu)"),
        (data.congestion, CONGESTION),
        (data.fee0, FEE0),
        (data.fee1, FEE1),
    ):
        _require(array, array.to_numpy() >= 0, what, "not be negative")
    if data.stochastic:
        first = static_values(n, "Bus", RISK_ATTITUDE, data.prosumers)
        same = first.to_numpy() == first.to_numpy()[0]
        _require(first, same, RISK_ATTITUDE, "be the same in all scenarios")


def _require(array: xr.DataArray, good: Flags, what: str, must: str) -> None:
    if not good.all():
        require(array.copy(data=good), what, must)
