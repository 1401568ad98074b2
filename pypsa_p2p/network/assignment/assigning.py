"""Assets of an existing network given to prosumers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import networkx as nx
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import AC, DC, IMPORT_PRICE, NAME, PROSUMER, RISK_ATTITUDE
from pypsa_p2p.common.tables import first_scenario
from pypsa_p2p.common.values import (
    Value,
    as_names,
    as_text,
    coordinates_of,
    require_free,
    require_network,
)
from pypsa_p2p.network.assignment.meters import (
    CONVERTERS,
    ONE_PORTS,
    Part,
    Places,
    all_ends,
    read_places,
)
from pypsa_p2p.network.assignment.originals import controllable, remember
from pypsa_p2p.network.ownership import bus_owners, require_buses
from pypsa_p2p.network.prosumer_data import check_data, read_arguments, write_data
from pypsa_p2p.network.prosumers import Texts, add_prosumer_buses, read_roles

ASSETS = (*ONE_PORTS, *CONVERTERS)


def assign_prosumers(
    n: pypsa.Network,
    owner: str | Iterable[str] | Mapping[Any, str] | pd.Series,
    *,
    risk_attitude: Value = 0.0,
    import_price: Value = 0.0,
    role: Texts = PROSUMER,
) -> None:
    """Give the assets of an existing network to prosumers.

    Every owner becomes a prosumer with a bus of her own. Her generators, loads, storage units and
    stores move there, and `grid_bus` remembers where they were. Loads stay inelastic. What is
    nobody's stays in the grid as it is. `release_prosumers` undoes all of it.

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
        every asset of that name, ("Load", name) for the one of that class. All assets of a
        prosumer must sit at one bus, but for those behind her meter. Several prosumers may sit at
        one bus.
    risk_attitude, import_price, role
        As in `add_prosumers`, by the names of the new prosumers.

    Raises
    ------
    DataError
        Unknown buses or assets, assets that have an owner, owners at several buses, converters
        that several prosumers share, names in use, unusable numbers; `n` is then as it was.

    Notes
    -----
    *Behind the meter.* A heat pump, an electrolyser or a battery made of a Store and two Links
    lead from a bus of the grid to buses of other carriers. Where Links and Processes connect
    those to that bus alone, all of it is hers: the ends at the grid bus move to her bus, and the
    rest stays where it is. Bus by bus, the grid are buses of carrier "AC", at lines and
    transformers, and DC buses between several of these; a Link between two of them is the grid's.
    A converter that leads to buses which others use as well cannot be hers, and is refused. With
    a mapping she gets what it names, Links and Processes included, and what they lead to if
    nothing but hers stands there.

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
    for component in sorted(n.one_port_components | n.branch_components):
        require_buses(n, component)
    by_asset = isinstance(owner, (Mapping, pd.Series))
    owned = _owned_by_name(n, owner) if by_asset else _owned_by_bus(n, owner)
    grid_buses = owned.groupby("owner", sort=False)["bus"].first()
    prosumers = as_names(grid_buses.index, "owner: names of prosumers")
    require_free(n, "Bus", prosumers)
    numbers = {RISK_ATTITUDE: risk_attitude, IMPORT_PRICE: import_price}
    data = read_arguments(numbers, coordinates_of(n, prosumers))
    check_data(data)
    roles = read_roles(role, prosumers)
    generators = owned.loc[owned["component"] == "Generator", "asset"]
    remember(n, grid_buses, generators)
    add_prosumer_buses(n, prosumers, grid_buses, roles)
    _move(n, owned)
    _clear_set_points(n, generators)
    write_data(n, prosumers, data)


def _owned_by_bus(n: pypsa.Network, owner: object) -> pd.DataFrame:
    """The ends that move, with a column owner, from names of buses."""
    owners = bus_owners(n)
    free = all_ends(n, ONE_PORTS)
    free = free[~free["bus"].map(owners).fillna("").astype(bool)]
    named = None if isinstance(owner, str) and owner == "bus" else as_names(owner, "owner")
    if named is not None:
        unknown = named[~named.isin(n.components.buses.names)]
        if len(unknown):
            raise DataError(
                f"Argument owner names {listed(unknown)}, which is no bus of the network: add it "
                "first."
            )
    grid = read_places(n, named, free["bus"])
    roots = _places_of(grid, free["bus"].unique()) if named is None else named
    _require_places(grid, roots)
    _require_unshared(grid, roots)
    empty = [root for root in roots if not free["bus"].isin(_site(grid, root)).any()]
    if empty or not len(roots):
        who = f"bus {listed(empty)}" if empty else "the network"
        raise DataError(f"Argument owner: {who} has no asset without an owner. Add assets first.")
    hers = {branch for root in roots for part in grid.behind(root) for branch in part.branches}
    converters = all_ends(n, CONVERTERS)
    pairs = pd.Series(zip(converters["component"], converters["asset"], strict=True), dtype=object)
    moved = pd.concat([free, converters[pairs.isin(hers)]], ignore_index=True)
    moved = moved[moved["bus"].isin(roots)]
    return moved.assign(owner=moved["bus"] + " prosumer")


def _site(grid: Places, place: str) -> set[str]:
    """A place and all that lies behind it."""
    return {place}.union(*(part.buses for part in grid.behind(place)))


def _places_of(grid: Places, buses: Iterable[str]) -> pd.Index:
    """The places of buses: they themselves, or that before their meter."""
    found = []
    for bus in buses:
        part = grid.part_of(bus)
        if part is None:
            found.append(bus)
        elif len(part.places) == 1:
            found.extend(part.places)
        else:
            raise _shared(part)
    return pd.Index(found, dtype=object).unique()


def _require_places(grid: Places, named: Iterable[str]) -> None:
    for bus in named:
        part = grid.part_of(bus)
        if part is not None:
            raise DataError(
                f"Argument owner names {bus!r}, which lies behind {listed(sorted(part.places))}: "
                f"{listed(_names(part))} leads there. Name the bus of the grid, or assets one by "
                "one in a mapping."
            )


def _require_unshared(grid: Places, roots: Iterable[str]) -> None:
    for root in roots:
        for part in grid.shared(root):
            raise _shared(part)


def _shared(part: Part) -> DataError:
    return DataError(
        f"Argument owner: {listed(_names(part))} connects {listed(sorted(part.buses))}, which "
        f"{listed(sorted(part.places))} share, so it cannot be one prosumer's. Give each a bus of "
        "her own there; or name the assets that get an owner in a mapping, and all others stay "
        "with the grid."
    )


def _names(part: Part) -> list[str]:
    return [f"{component} {name}" for component, name in part.branches]


def _owned_by_name(n: pypsa.Network, owner: Any) -> pd.DataFrame:
    """The ends that move, with a column owner, from names of assets."""
    of_class = {key: " ".join(key) for key in owner.keys() if _is_class_and_name(key)}  # noqa: SIM118
    given = {of_class.get(key, key): whose for key, whose in owner.items()}
    keys = as_names(list(given), "owner")
    owners = as_text(given, "owner", "asset", keys)
    assets = all_ends(n, ASSETS)
    with_class = assets["component"] + " " + assets["asset"]
    named = with_class.isin(of_class.values())
    assets = assets.assign(key=assets["asset"].where(~named, with_class))
    unknown = keys[~keys.isin(assets["key"])]
    if len(unknown):
        raise DataError(
            f"Argument owner names {listed(unknown)}, which is no {', '.join(ASSETS)}. "
            "Add it first."
        )
    owned = assets[assets["key"].isin(keys)]
    taken = owned.loc[owned["bus"].map(bus_owners(n)).fillna("").astype(bool), "asset"]
    if len(taken):
        raise DataError(
            f"Argument owner: asset {listed(taken.unique())} belongs to a prosumer already. Leave "
            "it out."
        )
    owned = owned.assign(owner=owners.reindex(owned["key"]).to_numpy())
    places = _one_bus_each(n, owned)
    _require_one_carrier(places, first_scenario(n, "Bus")["carrier"])
    return owned[owned["bus"] == owned["owner"].map(places)]


def _is_class_and_name(key: object) -> bool:
    return isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, str) for part in key)


def _require_one_carrier(places: pd.Series, carrier: pd.Series) -> None:
    """Refuse prosumers who would trade one carrier for another, MW for MW."""
    traded = places.map(carrier).replace({DC: AC})
    other = traded[traded != traded.iloc[0]]
    if len(other):
        raise DataError(
            f"Argument owner: prosumer {listed(other.index)} sits at bus "
            f"{listed(places[other.index])} of carrier {listed(other.unique())}, but "
            f"{places.index[0]!r} at one of carrier {traded.iloc[0]!r}: a trade between them would "
            "turn one into the other. Give her the Link or Process that leads there too."
        )


def _one_bus_each(n: pypsa.Network, owned: pd.DataFrame) -> pd.Series:
    """The grid bus of every owner: the one bus of hers where others have something too.

    Buses where all is hers, and where her Links and Processes lead, lie behind her meter.
    """
    everything = all_ends(n, sorted(n.one_port_components | n.branch_components))
    whose = everything.merge(
        owned[["component", "asset", "owner"]].drop_duplicates(), how="left"
    ).assign(owner=lambda rows: rows["owner"].fillna(""))
    several = whose.groupby("bus")["owner"].nunique()
    alone = several.index[several == 1]
    carrier = first_scenario(n, "Bus")["carrier"]
    places = {
        owner: _place(rows, rows["bus"].isin(alone), carrier)
        for owner, rows in owned.groupby("owner", sort=False)
    }
    lost = [owner for owner, place in places.items() if place is None]
    if lost:
        raise DataError(
            f"Argument owner: assets of prosumer {listed(lost)} sit at several buses. Make her a "
            "prosumer at each of them; or name the Links between them, and all else there, too."
        )
    return pd.Series(places, dtype=object)


def _place(rows: pd.DataFrame, alone: pd.Series, carrier: pd.Series) -> str | None:
    """The bus of the grid among those of one owner; None where it is not one."""
    buses = pd.Index(rows["bus"].unique())
    graph = nx.Graph()
    graph.add_nodes_from(buses)
    graph.add_edges_from(zip(rows["component"] + " " + rows["asset"], rows["bus"], strict=True))
    outside = rows.loc[~alone, "bus"].unique()
    if not len(outside):
        outside = buses[(carrier[buses] == AC).to_numpy()] if len(buses) > 1 else buses
    return str(outside[0]) if len(outside) == 1 and nx.is_connected(graph) else None


def _move(n: pypsa.Network, owned: pd.DataFrame) -> None:
    """Attach every owned end to the bus of its owner.

    What has no carrier has that of its bus in PyPSA, which goes by it: so it gets it before.
    """
    carrier = first_scenario(n, "Bus")["carrier"]
    for class_, end in (("Line", "bus0"), ("Link", "bus0"), ("Store", "bus")):
        static = n.components[class_].static
        blank = static["carrier"] == ""
        static["carrier"] = static["carrier"].where(~blank, static[end].map(carrier))
    for (component, column), rows in owned.groupby(["component", "column"]):
        static = n.components[str(component)].static
        new = rows.set_index("asset")["owner"]
        by_row = static.index.get_level_values(NAME)
        kept = static[column].where(~by_row.isin(new.index), by_row.map(new.to_dict().get))
        static[column] = kept


def _clear_set_points(n: pypsa.Network, generators: pd.Series) -> None:
    """Take `p_set` from those of these generators whose column `controllable` is True."""
    free = controllable(n, generators)
    if not len(free):
        return
    c = n.components.generators
    c.static["p_set"] = c.static["p_set"].mask(c.static.index.isin(free))
    series = c.dynamic["p_set"]
    c.dynamic["p_set"] = series.loc[:, ~series.columns.isin(free)]
