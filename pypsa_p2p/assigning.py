"""Assets of an existing network given to prosumers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pypsa

from pypsa_p2p.errors import DataError, listed
from pypsa_p2p.market_data import first_scenario
from pypsa_p2p.names import IMPORT_PRICE, NAME, RISK_ATTITUDE
from pypsa_p2p.pandapower_tables import CONTROLLABLE
from pypsa_p2p.prosumers import (
    add_prosumer_buses,
    check_data,
    prosumer_names,
    read_arguments,
    write_data,
)
from pypsa_p2p.values import (
    Value,
    as_names,
    as_text,
    coordinates_of,
    require_free,
    require_network,
)

ASSETS = ("Generator", "Load", "StorageUnit", "Store")


def assign_prosumers(
    n: pypsa.Network,
    owner: str | Iterable[str] | Mapping[str, str] | pd.Series,
    *,
    risk_attitude: Value = 0.0,
    import_price: Value = 0.0,
) -> None:
    """Give the assets of an existing network to prosumers.

    Every owner becomes a prosumer with a bus of her own. Her generators, loads, storage units and
    stores move there, and `grid_bus` remembers where they were. Loads stay inelastic.

    A set point of a power flow is no decision that was made, but PyPSA's optimisation would fix
    the dispatch to it: generators she takes whose column ``controllable`` is True (as
    `from_pandapower` and `load_grid` write it) lose their ``p_set``, series included. Generators
    of a network without that column keep theirs.

    Parameters
    ----------
    n : pypsa.Network
        Changed in place.
    owner : "bus", iterable of str, mapping or Series
        "bus": each bus with assets becomes the prosumer "<bus> prosumer". Names of buses: only
        those. Mapping or Series: from names of assets to names of prosumers; a name stands for
        every asset of that name, and all assets of a prosumer must sit at one bus.
    risk_attitude, import_price
        As in `add_prosumers`, by the names of the new prosumers.

    Raises
    ------
    DataError
        Unknown buses or assets, assets that have an owner, owners at several buses, names in use,
        unusable numbers; `n` is then as it was.

    Examples
    --------
    >>> import pypsa
    >>> n = pypsa.Network()
    >>> n.add("Bus", "north", x=4.0, y=50.0)
    >>> n.add("Generator", "wind", bus="north", p_nom=10)
    >>> assign_prosumers(n, "bus", risk_attitude=0.3)
    >>> n.generators.bus["wind"], n.buses.grid_bus["north prosumer"]
    ('north prosumer', 'north')
    """
    require_network(n)
    assets = _assets(n)
    by_asset = isinstance(owner, (Mapping, pd.Series))
    owned = _owned_by_name(assets, owner) if by_asset else _owned_by_bus(n, assets, owner)
    grid_buses = _one_bus_each(owned)
    prosumers = as_names(grid_buses.index, "owner: names of prosumers")
    require_free(n, "Bus", prosumers)
    numbers = {RISK_ATTITUDE: risk_attitude, IMPORT_PRICE: import_price}
    data = read_arguments(numbers, coordinates_of(n, prosumers))
    check_data(data)
    add_prosumer_buses(n, prosumers, grid_buses)
    _move(n, owned)
    _clear_set_points(n, owned)
    write_data(n, prosumers, data)


def _assets(n: pypsa.Network) -> pd.DataFrame:
    """Columns component, asset, bus: one row for each one-port asset."""
    frames = [
        pd.DataFrame({"component": kind, "asset": rows.index, "bus": rows["bus"].to_numpy()})
        for kind in ASSETS
        for rows in [first_scenario(n, kind)]
    ]
    frame = pd.concat(frames, ignore_index=True).astype(object)
    return frame.assign(taken=frame["bus"].isin(prosumer_names(n)))


def _owned_by_bus(n: pypsa.Network, assets: pd.DataFrame, owner: object) -> pd.DataFrame:
    """The assets that get an owner, with a column owner, from names of buses."""
    free = assets[~assets["taken"]]
    if isinstance(owner, str) and owner == "bus":
        buses = pd.Index(free["bus"].unique())
    else:
        buses = as_names(owner, "owner")
    unknown = buses[~buses.isin(n.components.buses.names)]
    if len(unknown):
        raise DataError(
            f"Argument owner names {listed(unknown)}, which is no bus of the network: add it first."
        )
    empty = buses[~buses.isin(free["bus"])]
    if len(empty) or buses.empty:
        who = f"bus {listed(empty)}" if len(empty) else "the network"
        raise DataError(f"Argument owner: {who} has no asset without an owner. Add assets first.")
    owned = free[free["bus"].isin(buses)]
    return owned.assign(owner=owned["bus"] + " prosumer")


def _owned_by_name(assets: pd.DataFrame, owner: Any) -> pd.DataFrame:
    """The assets that get an owner, with a column owner, from names of assets."""
    keys = as_names(list(owner.keys()), "owner")
    owners = as_text(owner, "owner", "asset", keys)
    unknown = keys[~keys.isin(assets["asset"])]
    if len(unknown):
        raise DataError(
            f"Argument owner names {listed(unknown)}, which is no {', '.join(ASSETS)}. "
            "Add it first."
        )
    owned = assets[assets["asset"].isin(keys)]
    taken = owned.loc[owned["taken"], "asset"]
    if len(taken):
        raise DataError(
            f"Argument owner: asset {listed(taken)} belongs to a prosumer already. Leave it out."
        )
    return owned.assign(owner=owners.reindex(owned["asset"]).to_numpy())


def _one_bus_each(owned: pd.DataFrame) -> pd.Series:
    """The bus of every owner, in order of appearance."""
    places = owned[["owner", "bus"]].drop_duplicates()
    several = places.loc[places["owner"].duplicated(), "owner"].unique()
    if len(several):
        raise DataError(
            f"Argument owner: assets of prosumer {listed(several)} sit at several buses. "
            "Make her a prosumer at each of them."
        )
    return places.set_index("owner")["bus"]


def _move(n: pypsa.Network, owned: pd.DataFrame) -> None:
    """Attach every owned asset to the bus of its owner."""
    for component, rows in owned.groupby("component"):
        static = n.components[str(component)].static
        new = rows.set_index("asset")["owner"]
        by_row = static.index.get_level_values("name")
        static["bus"] = static["bus"].where(~by_row.isin(new.index), by_row.map(new.to_dict().get))


def _clear_set_points(n: pypsa.Network, owned: pd.DataFrame) -> None:
    """Take `p_set` from the owned generators whose column `controllable` is True."""
    generators = n.components.generators
    static = generators.static
    if CONTROLLABLE not in static:
        return
    taken = owned.loc[owned["component"] == "Generator", "asset"]
    # eq: components added later have NaN in this column, and netCDF then makes it 1.0 and 0.0.
    free = static.index.get_level_values(NAME).isin(taken) & static[CONTROLLABLE].eq(True)
    static["p_set"] = static["p_set"].mask(free)
    series = generators.dynamic["p_set"]
    generators.dynamic["p_set"] = series.loc[:, ~series.columns.isin(static.index[free])]
