"""What PyPSA's multipliers do not tell of a market's prices, as series of its own (MODEL.md §4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
from pypsa_p2p.formulation.columns import of_balances, of_constraint
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.trading import CAPACITY0, CAPACITY1, RECIPROCITY
from pypsa_p2p.markets.clearing.convex import MarketSolution, Unweighed
from pypsa_p2p.markets.writing import write_table
from pypsa_p2p.network.market_data import MarketData


def write_price_series(
    n: pypsa.Network, data: MarketData, compiled: CompiledModel, solution: MarketSolution
) -> None:
    """Which prices are one of a range, and prices in scenarios that somebody does not weigh.

    Nothing is written where there is nothing to say.
    """
    forget_price_series(n)
    if solution.unique is not None and not solution.unique.all():
        several = of_balances(compiled, (~solution.unique).astype(np.float64), _own_buses(data))
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
    """Prices of the limit by class and column: NaN where they follow from tau, or there is none."""
    limit = _Limit.of(data, compiled, solution, unweighed)
    own = _own_buses(data)
    found = {("Bus", UNWEIGHED_PRICE): limit.of_buses(own)}
    if data.sites is not None:
        found["Bus", UNWEIGHED_GRID_PRICE] = limit.of_buses(data.sites.bus.reindex(own.index))
    for end in range(2) if len(data.edges) else ():
        zeta, xi = limit.of_edges(end)
        found["Link", UNWEIGHED_TRADE_PRICES[end]] = zeta
        found["Link", UNWEIGHED_CAPACITY_PRICES[end]] = xi
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Limit:
    """What prices are made of where the scenario is not weighed.

    What is worth something now, to a prosumer who does not weigh the scenario, has no price.

    Attributes
    ----------
    weight : DataArray (scenario, prosumer)
        What the limit weighs her cost by; 0 where her measure does.
    nothing : DataArray (scenario)
        The largest multiplier that is none, EUR/MW now.
    worthless : DataArray (scenario, snapshot, prosumer)
        Whether her energy is worth nothing now.
    """

    data: MarketData
    compiled: CompiledModel
    solution: MarketSolution
    unweighed: Unweighed
    weight: xr.DataArray
    nothing: xr.DataArray
    worthless: xr.DataArray

    @classmethod
    def of(
        cls,
        data: MarketData,
        compiled: CompiledModel,
        solution: MarketSolution,
        unweighed: Unweighed,
    ) -> _Limit:
        """Of a solution."""
        shape = len(data.scenarios), len(data.prosumers)
        nothing = ACCURACY.no_price * solution.units.price * data.probability
        now = of_balances(compiled, solution.row_dual, _own_buses(data)).rename({NAME: PROSUMER})
        return cls(
            data=data,
            compiled=compiled,
            solution=solution,
            unweighed=unweighed,
            weight=xr.DataArray(
                np.broadcast_to(unweighed.weight.T, shape),
                coords={SCENARIO: data.scenarios, PROSUMER: data.prosumers},
            ),
            nothing=nothing,
            worthless=abs(now) <= nothing,
        )

    def in_money(self, limit: xr.DataArray, buyers: xr.DataArray) -> xr.DataArray:
        """Multipliers of the limit, (scenario, snapshot, name), in money of those who buy."""
        counts, exists = (
            values.sel({PROSUMER: buyers}).drop_vars(PROSUMER)
            for values in (self.weight, self.worthless)
        )
        return (limit / (counts.where(counts > 0.0) * self.data.weighting)).where(exists)

    def of_buses(self, buses: pd.Series) -> xr.DataArray:
        """Prices of the balances of a bus for each prosumer."""
        buyers = xr.DataArray(buses.index.to_numpy(object), coords={NAME: buses.index.rename(NAME)})
        return self.in_money(of_balances(self.compiled, self.unweighed.row_dual, buses), buyers)

    def of_edges(self, end: int) -> tuple[xr.DataArray, xr.DataArray]:
        """Prices of all edges and of their capacity to the prosumers at bus0 (0) or bus1 (1)."""
        buyers, capacity = ((self.data.bus0, CAPACITY0), (self.data.bus1, CAPACITY1))[end]
        names = (RECIPROCITY, capacity)
        zeta, xi = (of_constraint(self.compiled, self.unweighed.row_dual, name) for name in names)
        if end == 1 and self.unweighed.reciprocity1 is not None:
            zeta = zeta.copy(data=self.unweighed.reciprocity1.reshape(zeta.shape))
        now = [abs(of_constraint(self.compiled, self.solution.row_dual, name)) for name in names]
        exists = (now[0] <= self.nothing) & (now[1] <= self.nothing)
        return self.in_money(zeta, buyers).where(exists), self.in_money(xi, buyers).where(exists)


def _own_buses(data: MarketData) -> pd.Series:
    """Each prosumer's own bus, by her name."""
    return pd.Series(data.prosumers, index=data.prosumers)
