"""Numbers of prosumers: read as arrays, checked, and written into the tables of PyPSA."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.files import limits_off_default
from pypsa_p2p.common.names import (
    DEMAND_SUFFIX,
    ELASTIC_DEMAND_SUFFIX,
    FIXED_COST,
    GENERATION_SUFFIX,
    IMPORT_PRICE,
    PROSUMER,
    RENEWABLE_SUFFIX,
    RISK_ATTITUDE,
    SCENARIO,
    SNAPSHOT,
    USAGE_BENEFIT,
)
from pypsa_p2p.common.tables import write, write_series, write_static
from pypsa_p2p.common.values import Coordinates, as_array, refuse

Data = dict[str, xr.DataArray]
"""Arguments of `add_prosumers` as arrays over a subset of scenario, snapshot, prosumer."""

EVERYWHERE = (SCENARIO, SNAPSHOT, PROSUMER)
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "demand": EVERYWHERE,
    "demand_max": EVERYWHERE,
    "demand_min": EVERYWHERE,
    "utility_quadratic": EVERYWHERE,
    "usage_benefit": (SCENARIO, PROSUMER),
    "generation_max": EVERYWHERE,
    "generation_min": EVERYWHERE,
    "marginal_cost": EVERYWHERE,
    "marginal_cost_quadratic": EVERYWHERE,
    "fixed_cost": (SCENARIO, PROSUMER),
    "renewable": EVERYWHERE,
    "risk_attitude": (PROSUMER,),
    "import_price": EVERYWHERE,
}
"""The dimensions each number of a prosumer may have."""

NOT_NEGATIVE = ("utility_quadratic", "marginal_cost_quadratic", "renewable")
LIMITS = (("demand_min", "demand_max"), ("generation_min", "generation_max"))

# Arguments that are one attribute of one of the prosumer's generators.
COSTS = {
    "utility_quadratic": (ELASTIC_DEMAND_SUFFIX, "marginal_cost_quadratic"),
    "marginal_cost": (GENERATION_SUFFIX, "marginal_cost"),
    "marginal_cost_quadratic": (GENERATION_SUFFIX, "marginal_cost_quadratic"),
}


def read_arguments(numbers: Mapping[str, object], coordinates: Coordinates) -> Data:
    """Every number as an array with the dimensions it may have."""
    return {
        argument: as_array(
            value,
            argument,
            {key: coordinates[key] for key in DIMENSIONS[argument] if key in coordinates},
        )
        for argument, value in numbers.items()
    }


def check_data(data: Data) -> None:
    """Refuse numbers outside their range: see `add_prosumers`."""
    for argument in NOT_NEGATIVE:
        if argument in data:
            refuse(data[argument] < 0, f"{argument} is negative", "it must be at least 0")
    if "risk_attitude" in data:
        attitude = data["risk_attitude"]
        refuse(
            (attitude < 0) | (attitude >= 1),
            "risk_attitude is outside [0, 1)",
            "0 is risk neutral; take a level below 1 for the worst case",
        )
    for lower, upper in LIMITS:
        if lower in data and upper in data:
            refuse(data[lower] > data[upper], f"{lower} exceeds {upper}", "exchange or widen them")


def write_data(n: pypsa.Network, prosumers: pd.Index, data: Data) -> None:
    """Write what `data` has into the tables of these prosumers, which exist."""
    for argument in (RISK_ATTITUDE, USAGE_BENEFIT, FIXED_COST):
        if argument in data:
            write_static(n, "Bus", argument, prosumers, data[argument])
    if IMPORT_PRICE in data:
        write_series(n, "Bus", IMPORT_PRICE, prosumers, data[IMPORT_PRICE])
    for argument, (suffix, attribute) in COSTS.items():
        if argument in data:
            write(n, "Generator", attribute, prosumers + suffix, data[argument])
    if "demand" in data:
        _write_demand(n, prosumers, data)
    if "generation_max" in data:
        limits = data["generation_min"], data["generation_max"]
        write_limits(n, prosumers + GENERATION_SUFFIX, *limits)
    if "renewable" in data:
        write_limits(n, prosumers + RENEWABLE_SUFFIX, data["renewable"], data["renewable"])


def _write_demand(n: pypsa.Network, prosumers: pd.Index, data: Data) -> None:
    """Load = D*, and D* - D_max <= D* - D <= D* - D_min for the elastic generator."""
    demand, elastic = data["demand"], prosumers + ELASTIC_DEMAND_SUFFIX
    write(n, "Load", "p_set", prosumers + DEMAND_SUFFIX, demand)
    write_static(n, "Generator", "p_nom", elastic, xr.DataArray(1.0))
    _write_per_unit(n, elastic, demand - data["demand_max"], demand - data["demand_min"])


def write_limits(
    n: pypsa.Network, generators: pd.Index, lower: xr.DataArray, upper: xr.DataArray
) -> None:
    """Limits in MW, with the greatest one as `p_nom`: PyPSA wants one in all scenarios."""
    size = abs(lower).where(abs(lower) > abs(upper), abs(upper))
    nominal = size.max([dimension for dimension in size.dims if dimension != PROSUMER])
    divisor = nominal.where(nominal > 0, 1.0)
    write_static(n, "Generator", "p_nom", generators, nominal)
    _write_per_unit(n, generators, lower / divisor, upper / divisor)


def _write_per_unit(
    n: pypsa.Network, generators: pd.Index, lower: xr.DataArray, upper: xr.DataArray
) -> None:
    lower, upper = limits_off_default(lower, upper)
    write(n, "Generator", "p_min_pu", generators, lower)
    write(n, "Generator", "p_max_pu", generators, upper)
