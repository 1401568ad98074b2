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
    SCENARIO,
    SNAPSHOT,
    UNWEIGHED_CAPACITY_PRICES,
    UNWEIGHED_GRID_PRICE,
    UNWEIGHED_PRICE,
    UNWEIGHED_TRADE_PRICES,
)
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.formulation.columns import of_balances, of_constraint
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.trading import CAPACITY0, CAPACITY1, RECIPROCITY
from pypsa_p2p.markets.clearing.convex import MarketSolution, Unweighed
from pypsa_p2p.markets.writing import write_table
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Flags, Labels


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
    """What prices are made of where the scenario is not weighed; arrays of S, T and N.

    What is worth something now, to a prosumer who does not weigh the scenario, has no price.

    Attributes
    ----------
    weight : (S, 1, N)
        What the limit weighs her cost by; NaN where her measure does.
    nothing : (S, 1, 1)
        The largest multiplier that is none, EUR/MW now.
    worthless : (S, T, N)
        Whether her energy is worth nothing now.
    """

    data: MarketData
    compiled: CompiledModel
    solution: MarketSolution
    unweighed: Unweighed
    weight: Numbers
    nothing: Numbers
    worthless: Flags

    @classmethod
    def of(
        cls,
        data: MarketData,
        compiled: CompiledModel,
        solution: MarketSolution,
        unweighed: Unweighed,
    ) -> _Limit:
        """Of a solution."""
        shape = len(data.scenarios), 1, len(data.prosumers)
        nothing = ACCURACY.no_price * solution.units.price * data.probability.to_numpy()
        weight = np.broadcast_to(unweighed.weight.T[:, None], shape)
        now = _numbers(of_balances(compiled, solution.row_dual, _own_buses(data)))
        return cls(
            data=data,
            compiled=compiled,
            solution=solution,
            unweighed=unweighed,
            weight=np.where(weight > 0.0, weight, np.nan),
            nothing=nothing[:, None, None],
            worthless=np.abs(now) <= nothing[:, None, None],
        )

    def in_money(self, limit: Numbers, whose: Labels) -> Numbers:
        """Multipliers of the limit, (S, T, K), in money of those, (K,), who buy."""
        price = limit / (self.weight[..., whose] * self.data.weighting.to_numpy()[:, None])
        return np.where(self.worthless[..., whose], price, np.nan)

    def of_buses(self, buses: pd.Series) -> xr.DataArray:
        """Prices of the balances of a bus for each prosumer."""
        whose = self.data.prosumers.get_indexer(buses.index)
        limit = _numbers(of_balances(self.compiled, self.unweighed.row_dual, buses))
        return self._labelled(self.in_money(limit, whose), buses.index)

    def of_edges(self, end: int) -> tuple[xr.DataArray, xr.DataArray]:
        """Prices of all edges and of their capacity to the prosumers at bus0 (0) or bus1 (1)."""
        buyers, capacity = ((self.data.bus0, CAPACITY0), (self.data.bus1, CAPACITY1))[end]
        whose = self.data.prosumers.get_indexer(pd.Index(buyers.to_numpy()))
        names = (RECIPROCITY, capacity)
        zeta, xi = (of_constraint(self.compiled, self.unweighed.row_dual, name) for name in names)
        if end == 1 and self.unweighed.reciprocity1 is not None:
            zeta = zeta.copy(data=self.unweighed.reciprocity1.reshape(zeta.shape))
        worthless = [
            np.abs(_numbers(of_constraint(self.compiled, self.solution.row_dual, name)))
            <= self.nothing
            for name in names
        ]
        exists = worthless[0] & worthless[1]
        of_edge, of_capacity = (
            self._labelled(
                np.where(exists, self.in_money(_numbers(of), whose), np.nan), of.indexes[NAME]
            )
            for of in (zeta, xi)
        )
        return of_edge, of_capacity

    def _labelled(self, values: Numbers, names: pd.Index) -> xr.DataArray:
        coords = {
            SCENARIO: self.data.scenarios,
            SNAPSHOT: self.data.snapshots,
            NAME: names.rename(NAME),
        }
        return xr.DataArray(values, coords=coords)


def _numbers(values: xr.DataArray) -> Numbers:
    return np.asarray(values.transpose(SCENARIO, SNAPSHOT, NAME).to_numpy())


def _own_buses(data: MarketData) -> pd.Series:
    """Each prosumer's own bus, by her name."""
    return pd.Series(data.prosumers, index=data.prosumers)
