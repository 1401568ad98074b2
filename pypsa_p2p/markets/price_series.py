"""What PyPSA's multipliers do not tell of a market's prices, as series of its own (MODEL.md §4)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import (
    NAME,
    PRICE_IN_RANGE,
    PRICE_SERIES,
    PROSUMER,
    SCENARIO,
    UNWEIGHED_CAPACITY_PRICES,
    UNWEIGHED_GRID_PRICE,
    UNWEIGHED_PRICE,
    UNWEIGHED_TRADE_PRICES,
)
from pypsa_p2p.common.tables import ONLY_SCENARIO
from pypsa_p2p.formulation.compiled import CompiledModel, by_label
from pypsa_p2p.formulation.trading import CAPACITY0, CAPACITY1, NODAL_BALANCE, RECIPROCITY
from pypsa_p2p.markets.clearing.convex import MarketSolution, Unweighed
from pypsa_p2p.markets.writing import write_table
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Vector


def write_price_series(
    n: pypsa.Network, data: MarketData, compiled: CompiledModel, solution: MarketSolution
) -> None:
    """Which prices are one of a range, and prices in scenarios that somebody does not weigh.

    Nothing is written where there is nothing to say.
    """
    forget_price_series(n)
    if solution.unique is not None and not solution.unique.all():
        several = _balances(compiled, (~solution.unique).astype(np.float64), data.prosumers)
        write_series(n, data, {("Bus", PRICE_IN_RANGE): several})
    unweighed = solution.unweighed
    if unweighed is not None and (unweighed.weight > 0.0).any():
        write_series(n, data, _unweighed_prices(data, compiled, solution, unweighed))


def forget_price_series(n: pypsa.Network) -> None:
    """Drop the series of an earlier solution."""
    for component, columns in PRICE_SERIES.items():
        for column in columns:
            n.c[component].dynamic.pop(column, None)
            if column in n.c[component].static:
                del n.c[component].static[column]


def write_series(
    n: pypsa.Network, data: MarketData, series: Mapping[tuple[str, str], xr.DataArray]
) -> None:
    """Write arrays (scenario, snapshot, name) by class and column, NaN included."""
    for (component, column), values in series.items():
        n.c[component].static[column] = 0.0  # so that PyPSA's files keep the series
        write_table(n, data, component, column, data.for_model(values), missing=np.nan)


def _unweighed_prices(
    data: MarketData, compiled: CompiledModel, solution: MarketSolution, unweighed: Unweighed
) -> dict[tuple[str, str], xr.DataArray]:
    """Prices of the limit by class and column: NaN where they follow from tau, or there is none.

    What is worth something now, to a prosumer who does not weigh the scenario, has none.
    """
    shape = len(data.scenarios), len(data.prosumers)
    weight = xr.DataArray(
        np.broadcast_to(unweighed.weight.T, shape),
        coords={SCENARIO: data.scenarios, PROSUMER: data.prosumers},
    )
    own = pd.Series(data.prosumers, index=data.prosumers)
    nothing = ACCURACY.no_price * solution.units.price * data.probability
    worthless = abs(_at_buses(compiled, solution.row_dual, own)).rename({NAME: PROSUMER}) <= nothing

    def in_money(
        limit: xr.DataArray, buyers: xr.DataArray, exists: xr.DataArray | bool = True
    ) -> xr.DataArray:
        counts, known = (
            values.sel({PROSUMER: buyers}).drop_vars(PROSUMER) for values in (weight, worthless)
        )
        price = limit / (counts.where(counts > 0.0) * data.weighting)
        return price.where(known & exists)  # NaN where she weighs the scenario, too

    found = {}
    buyers = xr.DataArray(own.to_numpy(object), coords={NAME: data.prosumers.rename(NAME)})
    sites = None if data.sites is None else data.sites.bus.reindex(data.prosumers)
    for column, buses in ((UNWEIGHED_PRICE, own), (UNWEIGHED_GRID_PRICE, sites)):
        if buses is not None:
            limit = _at_buses(compiled, unweighed.row_dual, buses)
            found["Bus", column] = in_money(limit, buyers)
    if not len(data.edges):
        return found
    zeta0 = zeta1 = _rows(compiled, unweighed.row_dual, RECIPROCITY)
    if unweighed.reciprocity1 is not None:
        zeta1 = _reshaped(compiled, unweighed.reciprocity1)
    zeta_now = abs(_rows(compiled, solution.row_dual, RECIPROCITY)) <= nothing
    for k, (zeta, capacity, ends) in enumerate(
        ((zeta0, CAPACITY0, data.bus0), (zeta1, CAPACITY1, data.bus1))
    ):
        xi = _rows(compiled, unweighed.row_dual, capacity)
        exists = zeta_now & (abs(_rows(compiled, solution.row_dual, capacity)) <= nothing)
        found["Link", UNWEIGHED_TRADE_PRICES[k]] = in_money(zeta, ends, exists)
        found["Link", UNWEIGHED_CAPACITY_PRICES[k]] = in_money(xi, ends, exists)
    return found


def _rows(compiled: CompiledModel, values: Vector, constraint: str) -> xr.DataArray:
    """Values of rows by linopy's labels of a constraint, 0 where it has none."""
    labels = compiled.model.constraints[constraint].labels
    dense = np.nan_to_num(by_label(compiled.row_labels, values))
    return _full(labels.copy(data=dense[labels.to_numpy()]))


def _reshaped(compiled: CompiledModel, values: Vector) -> xr.DataArray:
    labels = compiled.model.constraints[RECIPROCITY].labels
    return _full(labels.copy(data=values.reshape(labels.shape)))


def _balances(compiled: CompiledModel, values: Vector, names: pd.Index) -> xr.DataArray:
    """Values of the balances of some buses, 0 of those without one."""
    found = [
        _rows(compiled, values, name)
        for name in compiled.model.constraints
        if name.endswith(NODAL_BALANCE)
    ]
    return xr.concat(found, NAME).reindex({NAME: names}, fill_value=0.0)


def _at_buses(compiled: CompiledModel, values: Vector, buses: pd.Series) -> xr.DataArray:
    """Values of the balance of the bus of each row of a table, which become ``name``."""
    unique = pd.Index(buses.unique(), name=NAME, dtype=object)
    at = xr.DataArray(buses.to_numpy(object), dims="end")
    found = _balances(compiled, values, unique).sel({NAME: at}).drop_vars(NAME)
    return found.rename(end=NAME).assign_coords({NAME: buses.index.rename(NAME)})


def _full(array: xr.DataArray) -> xr.DataArray:
    """With a scenario dim where the model has none; plain labels."""
    if SCENARIO in array.dims:
        return array
    return array.expand_dims({SCENARIO: [ONLY_SCENARIO]})
