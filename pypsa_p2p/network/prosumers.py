"""Prosumers as native PyPSA components: one bus each, with her demand and generation on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import (
    DEMAND_BID_CARRIER,
    DEMAND_SUFFIX,
    ELASTIC_DEMAND_CARRIER,
    ELASTIC_DEMAND_SUFFIX,
    FIXED_COST,
    GENERATION_CARRIER,
    GENERATION_SUFFIX,
    GRID_BUS,
    MARKET_RESULTS,
    PROSUMER,
    PROSUMER_CARRIER,
    PROSUMER_COLUMNS,
    RENEWABLE_CARRIER,
    RENEWABLE_SUFFIX,
    RISK_ATTITUDE,
    ROLE,
    ROLES,
    SUPPLY_BID_CARRIER,
    USAGE_BENEFIT,
)
from pypsa_p2p.common.tables import first_scenario
from pypsa_p2p.common.values import (
    Coordinates,
    Value,
    add_carriers,
    as_names,
    as_text,
    coordinates_of,
    require_free,
    require_network,
)
from pypsa_p2p.network.bids import Bids, add_steps, read_steps
from pypsa_p2p.network.prosumer_data import Data, check_data, read_arguments, write_data

Texts = str | Sequence[str] | Mapping[str, str] | pd.Series
"""A text for all prosumers, or by prosumer."""

GENERATORS = {
    ELASTIC_DEMAND_SUFFIX: ELASTIC_DEMAND_CARRIER,
    GENERATION_SUFFIX: GENERATION_CARRIER,
    RENEWABLE_SUFFIX: RENEWABLE_CARRIER,
}


def prosumer_names(n: pypsa.Network) -> pd.Index:
    """Names of the prosumers, in the order of the network's buses."""
    buses = first_scenario(n, "Bus")
    found: pd.Index = buses.index[buses["carrier"] == PROSUMER_CARRIER]
    return found.astype(object)


def add_prosumers(
    n: pypsa.Network,
    names: Iterable[str],
    *,
    demand: Value = 0.0,
    demand_max: Value | None = None,
    demand_min: Value = 0.0,
    utility_quadratic: Value | None = None,
    usage_benefit: Value = 0.0,
    generation_max: Value = 0.0,
    generation_min: Value = 0.0,
    marginal_cost: Value = 0.0,
    marginal_cost_quadratic: Value = 0.0,
    fixed_cost: Value = 0.0,
    renewable: Value = 0.0,
    risk_attitude: Value = 0.0,
    import_price: Value = 0.0,
    grid_bus: Texts = "",
    role: Texts = PROSUMER,
    demand_bids: Bids = (),
    supply_bids: Bids = (),
) -> None:
    r"""Add prosumers: a bus each, with elastic demand, flexible and renewable generation.

    C_n(G) = 1/2 a G^2 + b G + d and U_n(D) = -utility_quadratic (D - demand)^2 + usage_benefit
    (MODEL.md section 1; arXiv 2004.02470, equations 4 and 5).

    Each number may be a scalar; a sequence; a mapping or Series by prosumer; a DataFrame snapshot x
    prosumer; a DataArray over any of scenario (if `n` has scenarios), snapshot and prosumer.

    Parameters
    ----------
    n : pypsa.Network
        With or without scenarios; changed in place.
    names : iterable of str
        The prosumers; one text is one prosumer. Sequences below are in this order.
    demand, demand_min, demand_max
        Target demand D* and the limits of demand, MW. Who has no demand but bids needs none.
    utility_quadratic
        Curvature of utility, at least 0, EUR/MW2h; to be given with demand.
    usage_benefit, fixed_cost
        Constants of utility and of generation cost, EUR/h; the same in every snapshot.
    generation_min, generation_max
        Limits of flexible generation, MW.
    marginal_cost, marginal_cost_quadratic
        b, EUR/MWh, and a/2 (PyPSA's coefficient of p^2), at least 0, EUR/MW2h.
    renewable
        Must-take generation, at least 0, MW.
    risk_attitude
        Confidence level of the conditional value at risk, in [0, 1); by prosumer only.
    import_price
        Price at which the grid operator buys surplus, EUR/MWh.
    grid_bus : str, sequence, mapping or Series
        Bus of the physical grid each prosumer sits at, "" for none.
    role : str, sequence, mapping or Series
        "prosumer", or "operator": a community's manager, pool or shared storage, who trades but
        is nobody's household. Balances and costs count her; fairness, Gini coefficients and mean
        prices do not. Where contracts are traded, her risk attitude or her limit must be said.

    demand_bids, supply_bids : sequence of (price, quantity), mapping or Series
        Steps: what she would pay for up to so much more energy, and at which price she would sell
        it, EUR/MWh and MW >= 0; the same for all prosumers, or a mapping of such lists by
        prosumer. Any part of a step may be accepted. Price and quantity may vary by scenario and
        snapshot.

    Raises
    ------
    DataError
        Anything that does not fit; `n` is then as it was.

    Notes
    -----
    Prosumer "a" is the Bus "a", the Load "a demand" (`p_set` = D*) and the Generators
    "a elastic demand", "a generation" and "a renewable". The elastic one produces p = D* - D. Its
    `p_nom` is 1 MW, so `p_min_pu` = D* - demand_max and `p_max_pu` = D* - demand_min are in MW and
    can follow D* through scenarios, where PyPSA wants one `p_nom`. Her bids are the Generators
    "a demand bid 1" (p <= 0), "a supply bid 1" and so on, with the price as `marginal_cost`.

    Examples
    --------
    >>> import pypsa
    >>> n = pypsa.Network()
    >>> add_prosumers(n, ["a", "b"], demand=[5, 2], demand_max=10, utility_quadratic=0.5,
    ...               generation_max={"a": 8, "b": 0}, marginal_cost=2.0)
    >>> list(prosumer_names(n))
    ['a', 'b']
    >>> float(n.generators.p_min_pu["a elastic demand"])
    -5.0

    Bids in steps:

    >>> n = pypsa.Network()
    >>> add_prosumers(n, ["shop", "plant"], demand_bids={"shop": [(60, 2), (30, 2)]},
    ...               supply_bids={"plant": [(20, 3), (50, 5)]})
    >>> float(n.generators.marginal_cost["shop demand bid 1"])
    60.0
    """
    numbers = {
        "demand": demand,
        "demand_max": demand if demand_max is None else demand_max,
        "demand_min": demand_min,
        "utility_quadratic": 0.0 if utility_quadratic is None else utility_quadratic,
        "usage_benefit": usage_benefit,
        "generation_max": generation_max,
        "generation_min": generation_min,
        "marginal_cost": marginal_cost,
        "marginal_cost_quadratic": marginal_cost_quadratic,
        "fixed_cost": fixed_cost,
        "renewable": renewable,
        "risk_attitude": risk_attitude,
        "import_price": import_price,
    }
    require_network(n)
    prosumers = as_names(names, "names")
    _require_free_names(n, prosumers)
    grid_buses = _grid_buses(n, grid_bus, prosumers)
    roles = read_roles(role, prosumers)
    coordinates = coordinates_of(n, prosumers)
    data = _read_numbers(numbers, coordinates, names)
    check_data(data)
    _require_whole_demand(data, demand_max, utility_quadratic)
    whose = prosumers, coordinates
    bids = [
        read_steps(n, demand_bids, "demand_bids", DEMAND_BID_CARRIER, *whose),
        read_steps(n, supply_bids, "supply_bids", SUPPLY_BID_CARRIER, *whose),
    ]
    add_prosumer_buses(n, prosumers, grid_buses, roles)
    _add_components(n, prosumers)
    write_data(n, prosumers, data)
    for steps in bids:
        add_steps(n, steps)


def _require_whole_demand(data: Data, demand_max: object, utility_quadratic: object) -> None:
    """Refuse a demand of which limits or utility are left out."""
    given = {"demand_max": demand_max, "utility_quadratic": utility_quadratic}
    missing = [argument for argument, value in given.items() if value is None]
    if missing and any((data[key] != 0).any() for key in ("demand", "demand_max", "demand_min")):
        raise DataError(
            f"Argument {listed(missing)} is missing: a demand has a target, demand_max and "
            "utility_quadratic. Where it is fixed, both limits are the target."
        )


def _read_numbers(
    numbers: Mapping[str, object], coordinates: Coordinates, names: Iterable[str]
) -> Data:
    """The arguments as data; where one text was given as names, an error says that it is one."""
    try:
        return read_arguments(numbers, coordinates)
    except DataError as error:
        if not isinstance(names, str):
            raise
        hint = f"names={names!r} is one prosumer; several are a list, names=['a', 'b']"
        raise DataError(f"{error} ({hint}.)") from error


def _require_free_names(n: pypsa.Network, prosumers: pd.Index) -> None:
    require_free(n, "Bus", prosumers)
    require_free(n, "Load", prosumers + DEMAND_SUFFIX)
    for suffix in GENERATORS:
        require_free(n, "Generator", prosumers + suffix)


def _grid_buses(n: pypsa.Network, grid_bus: object, prosumers: pd.Index) -> pd.Series:
    """The grid bus of every prosumer, which must be a bus of the grid, or ""."""
    found = as_text(grid_bus, GRID_BUS, PROSUMER, prosumers)
    grid = n.components.buses.names.difference(prosumer_names(n))
    unknown = found[~found.isin([*grid, ""])]
    if len(unknown):
        raise DataError(
            f"Argument grid_bus {listed(unknown.unique())} of prosumer {listed(unknown.index)} is "
            'no bus of the grid: add it with n.add("Bus", ...) first, or leave grid_bus "".'
        )
    return found


def read_roles(role: object, prosumers: pd.Index) -> pd.Series:
    """The role of every prosumer, one of `ROLES`."""
    found = as_text(role, ROLE, PROSUMER, prosumers)
    unknown = found[~found.isin(ROLES)]
    if len(unknown):
        raise DataError(
            f"Argument role {listed(unknown.unique())} of prosumer {listed(unknown.index)} is "
            f"unknown: give {' or '.join(map(repr, ROLES))}."
        )
    return found


def add_prosumer_buses(
    n: pypsa.Network, prosumers: pd.Index, grid_buses: pd.Series, roles: pd.Series
) -> None:
    """A bus for every prosumer, at the place of her bus in the grid, with the user's columns of it.

    What is hers by now is counted as before where the user, or PyPSA, goes by these: a country,
    ``nom_max_wind``.
    """
    place = first_scenario(n, "Bus").reindex(grid_buses)[["x", "y"]].fillna(0.0).to_numpy()
    columns: dict[str, Any] = dict.fromkeys((RISK_ATTITUDE, USAGE_BENEFIT, FIXED_COST), 0.0)
    columns[GRID_BUS], columns[ROLE] = grid_buses.to_numpy(), roles.to_numpy()
    inherited = _of_users(n).reindex(grid_buses)
    columns |= {str(name): inherited[name].to_numpy() for name in inherited}
    add_carriers(n, [PROSUMER_CARRIER])
    n.add(
        "Bus",
        list(prosumers),
        carrier=PROSUMER_CARRIER,
        x=place[:, 0],
        y=place[:, 1],
        **columns,
    )
    # PyPSA leaves NaN in columns it does not know; no grid bus is "", as for prosumers without one.
    buses = n.components.buses.static
    buses[GRID_BUS] = buses[GRID_BUS].fillna("")
    buses[ROLE] = buses[ROLE].fillna("")


def _of_users(n: pypsa.Network) -> pd.DataFrame:
    """Columns of buses that neither PyPSA nor this package knows, by bus."""
    ours = {*PROSUMER_COLUMNS, *MARKET_RESULTS["Bus"]}
    known = ours.union(n.components.buses.defaults.index)
    buses = first_scenario(n, "Bus")
    return buses[[column for column in buses if column not in known]]


def _add_components(n: pypsa.Network, prosumers: pd.Index) -> None:
    """The load and the generators of every prosumer, without numbers."""
    add_carriers(n, list(GENERATORS.values()))
    loads = list(prosumers + DEMAND_SUFFIX)
    n.add("Load", loads, bus=prosumers, carrier=ELASTIC_DEMAND_CARRIER)
    for suffix, carrier in GENERATORS.items():
        n.add("Generator", list(prosumers + suffix), bus=prosumers, carrier=carrier, p_nom=1.0)
