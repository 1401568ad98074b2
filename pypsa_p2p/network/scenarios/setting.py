"""Scenarios: PyPSA's own, with the data of prosumers that differ between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import (
    DEMAND_SUFFIX,
    ELASTIC_DEMAND_SUFFIX,
    GENERATION_SUFFIX,
    PROSUMER,
    RENEWABLE_SUFFIX,
    SCENARIO,
    SNAPSHOT,
)
from pypsa_p2p.common.values import as_array, labelled, read_form, refuse, require_network
from pypsa_p2p.network.prosumer_data import (
    COSTS,
    DIMENSIONS,
    Data,
    check_data,
    read_arguments,
    write_data,
)
from pypsa_p2p.network.prosumers import prosumer_names
from pypsa_p2p.network.retail_contracts import fit_retail

# Numbers that share a table entry: where one changes, the others are kept from the network.
TOGETHER = (("demand", "demand_max", "demand_min"), ("generation_max", "generation_min"))

# The component that holds each number; those not listed are held by the bus.
HOLDERS = {
    "demand": ("Load", DEMAND_SUFFIX),
    "demand_max": ("Generator", ELASTIC_DEMAND_SUFFIX),
    "demand_min": ("Generator", ELASTIC_DEMAND_SUFFIX),
    "generation_max": ("Generator", GENERATION_SUFFIX),
    "generation_min": ("Generator", GENERATION_SUFFIX),
    "renewable": ("Generator", RENEWABLE_SUFFIX),
    **{argument: ("Generator", suffix) for argument, (suffix, _) in COSTS.items()},
}


def set_scenarios(
    n: pypsa.Network,
    probability: Mapping[str, float] | pd.Series | xr.DataArray,
    data: xr.Dataset | None = None,
) -> None:
    """Make the network stochastic, and write what differs between the scenarios.

    p_omega > 0, sum over omega of p_omega = 1 (MODEL.md section 1). Calls `n.set_scenarios`, so
    every component gets PyPSA's scenario level.

    Parameters
    ----------
    n : pypsa.Network
        Without scenarios yet; changed in place.
    probability : mapping, Series or DataArray
        Probability of each scenario, by its label. Labels become text, as in PyPSA.
    data : xarray.Dataset, optional
        Variables named as the numbers of `add_prosumers`, in their units, over any of the
        dimensions scenario, snapshot, prosumer. Labels in any order; all scenarios and snapshots,
        all or some prosumers. Without the dimension prosumer a variable holds for all of them.
        What is not given stays as it is: demand limits do not move with demand.
        `risk_attitude` may not depend on the scenario.

    Raises
    ------
    DataError
        Probabilities that are none, scenarios that exist already, data that do not fit; `n` is
        then as it was.

    Examples
    --------
    >>> import pypsa, xarray as xr
    >>> from pypsa_p2p.network.prosumers import add_prosumers
    >>> n = pypsa.Network()
    >>> add_prosumers(n, ["a"], demand=1.0, demand_max=10.0, utility_quadratic=0.5)
    >>> wind = xr.DataArray([[4.0], [0.0]], coords={"scenario": ["windy", "calm"],
    ...                                             "prosumer": ["a"]})
    >>> set_scenarios(n, {"windy": 0.3, "calm": 0.7}, xr.Dataset({"renewable": wind}))
    >>> n.generators_t.p_max_pu[("calm", "a renewable")].item()
    0.0
    """
    require_network(n)
    if n.has_scenarios:
        raise DataError(
            f"the network already has the scenarios {listed(n.scenarios)}, and PyPSA cannot change "
            "them: build the network again, or n.copy() it before setting scenarios"
        )
    weights = _probabilities(probability)
    parts = [] if data is None else _parts(n, data, weights.index)
    n.set_scenarios(weights)
    for prosumers, values in parts:
        write_data(n, prosumers, values)
    fit_retail(n)


def _probabilities(probability: object) -> pd.Series:
    """Probabilities by scenario, checked."""
    if not isinstance(probability, (xr.DataArray, pd.Series, Mapping)):
        raise DataError(
            "probability must be a mapping, Series or DataArray by scenario, "
            f"not {type(probability).__name__}"
        )
    _, found = read_form(probability, "Argument probability", (SCENARIO,))
    labels = pd.Index(found.get(SCENARIO, ()), dtype=object)
    if labels.empty:
        raise DataError("probability must have a label for each scenario, and at least one")
    array = as_array(probability, "probability", {SCENARIO: labels})
    refuse(array <= 0, "probability is not positive", "leave out scenarios that cannot happen")
    total = float(array.sum())
    if abs(total - 1.0) > ACCURACY.probability:
        raise DataError(f"probability sums to {total!r}, not to 1: divide by the sum")
    return pd.Series(array.to_numpy(), index=pd.Index(labels, name=SCENARIO))


def _parts(n: pypsa.Network, data: xr.Dataset, scenarios: pd.Index) -> list[tuple[pd.Index, Data]]:
    """What to write: for some prosumers each, complete and checked."""
    labels = _prosumers_of(n, data)
    arrays: Data = {}
    for argument, prosumers in labels.items():
        coordinates = {SCENARIO: scenarios, SNAPSHOT: n.snapshots, PROSUMER: prosumers}
        arrays |= read_arguments({argument: data[argument]}, coordinates)
    grouped = [set(group) & set(arrays) for group in TOGETHER]
    parts = [
        _completed(n, {argument: arrays[argument] for argument in given}, group, labels)
        for group, given in zip(TOGETHER, grouped, strict=True)
        if given
    ]
    alone = set(arrays).difference(*grouped)
    parts += [(labels[argument], {argument: arrays[argument]}) for argument in sorted(alone)]
    for _, values in parts:
        check_data(values)
    return parts


def _prosumers_of(n: pypsa.Network, data: object) -> dict[str, pd.Index]:
    """The prosumers each variable is for, in the order of the network."""
    if not isinstance(data, xr.Dataset):
        raise DataError(f"data must be an xarray.Dataset, not {type(data).__name__}")
    variables = [str(variable) for variable in data.data_vars]
    unknown = [variable for variable in variables if variable not in DIMENSIONS]
    if unknown:
        raise DataError(
            f"data has the unknown {listed(unknown)}: it may have {', '.join(DIMENSIONS)}"
        )
    everyone = prosumer_names(n)
    covered = pd.Index(data.indexes.get(PROSUMER, everyone))
    strangers = covered[~covered.isin(everyone)]
    if len(strangers) or everyone.empty:
        raise DataError(
            f"data is for {listed(strangers) or 'prosumers'}, but the network has the prosumers "
            f"{listed(everyone) or 'none'}: add them first"
        )
    some = everyone[everyone.isin(covered)]
    found = {key: some if PROSUMER in data[key].dims else everyone for key in variables}
    for argument, prosumers in found.items():
        _require_holder(n, argument, prosumers)
    return found


def _require_holder(n: pypsa.Network, argument: str, prosumers: pd.Index) -> None:
    """Refuse numbers of components that prosumers do not have."""
    if argument not in HOLDERS:
        return
    component, suffix = HOLDERS[argument]
    without = prosumers[~(prosumers + suffix).isin(n.components[component].names)]
    if len(without):
        raise DataError(
            f"data has {argument} for prosumer {listed(without)}, who has no {component} "
            f"{listed(without + suffix)}: leave them out, and write to the tables of their "
            "own assets after setting the scenarios"
        )


def _completed(
    n: pypsa.Network, given: Data, group: tuple[str, ...], labels: Mapping[str, pd.Index]
) -> tuple[pd.Index, Data]:
    """The numbers of a group for everyone who gets one of them, the rest as in the network."""
    prosumers = max((labels[argument] for argument in given), key=len)
    for argument in group:
        _require_holder(n, argument, prosumers)
    kept = _read_limits(n, prosumers, group)
    values: Data = {}
    for argument in group:
        array = given.get(argument, kept[argument])
        if PROSUMER in array.dims and array.sizes[PROSUMER] < len(prosumers):
            array = array.reindex({PROSUMER: prosumers}).fillna(kept[argument])
        values[argument] = array
    return prosumers, values


def _read_limits(n: pypsa.Network, prosumers: pd.Index, arguments: Iterable[str]) -> Data:
    """Demand, or limits of demand or generation, as the tables of a network have them.

    Only without scenarios. Dimensions snapshot and prosumer, MW.
    """

    def read(component: str, attribute: str, suffix: str) -> xr.DataArray:
        frame = n.get_switchable_as_dense(component, attribute)[prosumers + suffix]
        return labelled(frame.to_numpy(), {SNAPSHOT: n.snapshots, PROSUMER: prosumers})

    def power(attribute: str, suffix: str) -> xr.DataArray:
        nominal = n.generators.loc[prosumers + suffix, "p_nom"].to_numpy()
        return read("Generator", attribute, suffix) * labelled(nominal, {PROSUMER: prosumers})

    def demand() -> xr.DataArray:
        return read("Load", "p_set", DEMAND_SUFFIX)

    readers: dict[str, Callable[[], xr.DataArray]] = {
        "demand": demand,
        "demand_max": lambda: demand() - power("p_min_pu", ELASTIC_DEMAND_SUFFIX),
        "demand_min": lambda: demand() - power("p_max_pu", ELASTIC_DEMAND_SUFFIX),
        "generation_max": lambda: power("p_max_pu", GENERATION_SUFFIX),
        "generation_min": lambda: power("p_min_pu", GENERATION_SUFFIX),
    }
    return {argument: readers[argument]() for argument in arguments}
