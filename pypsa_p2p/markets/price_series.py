"""What PyPSA's multipliers do not tell of a market's prices, as series of its own (MODEL.md §4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
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
from pypsa_p2p.formulation.places import Places, values_at
from pypsa_p2p.markets.clearing.convex import MarketSolution, Unweighed
from pypsa_p2p.markets.writing import write_table
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Flags, Labels


def write_price_series(
    n: pypsa.Network, data: MarketData, places: Places, solution: MarketSolution
) -> None:
    """Which prices are one of a range, and prices in scenarios that somebody does not weigh.

    Nothing is written where there is nothing to say.
    """
    forget_price_series(n)
    found = unweighed_prices(data, places, solution)
    several = prices_in_range(places, solution)
    if several is not None:
        found["Bus", PRICE_IN_RANGE] = several
    names = {"Bus": data.prosumers, "Link": data.edges}
    labelled = {
        (component, column): xr.DataArray(
            values,
            coords={
                SCENARIO: data.scenarios,
                SNAPSHOT: data.snapshots,
                NAME: names[component].rename(NAME),
            },
        )
        for (component, column), values in found.items()
    }
    write_series(n, data, labelled)


def prices_in_range(places: Places, solution: MarketSolution) -> Numbers | None:
    """1 where the price of a prosumer's energy is one of a range, else 0; (S, T, N).

    None where no price is.
    """
    if solution.unique is None or solution.unique.all():
        return None
    return values_at((~solution.unique).astype(np.float64), places.energy)


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


def unweighed_prices(
    data: MarketData, places: Places, solution: MarketSolution
) -> dict[tuple[str, str], Numbers]:
    """Prices of the limit by class and column: NaN where they follow from tau, or there is none.

    (S, T, N) of the prosumers' buses, (S, T, E) of the edges; nothing where everybody weighs
    every scenario.
    """
    unweighed = solution.unweighed
    if unweighed is None or not (unweighed.weight > 0.0).any():
        return {}
    limit = _Limit.of(data, places, solution, unweighed)
    found = {("Bus", UNWEIGHED_PRICE): limit.of_buses(places.energy)}
    if places.grid is not None:
        found["Bus", UNWEIGHED_GRID_PRICE] = limit.of_buses(places.grid)
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
    places: Places
    solution: MarketSolution
    unweighed: Unweighed
    weight: Numbers
    nothing: Numbers
    worthless: Flags

    @classmethod
    def of(
        cls, data: MarketData, places: Places, solution: MarketSolution, unweighed: Unweighed
    ) -> _Limit:
        """Of a solution."""
        shape = len(data.scenarios), 1, len(data.prosumers)
        nothing = ACCURACY.no_price * solution.units.price * data.probability.to_numpy()
        weight = np.broadcast_to(unweighed.weight.T[:, None], shape)
        now = values_at(solution.row_dual, places.energy)
        return cls(
            data=data,
            places=places,
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

    def of_buses(self, balances: Labels) -> Numbers:
        """Prices of the balances of a bus for each prosumer, (S, T, N)."""
        limit = values_at(self.unweighed.row_dual, balances)
        return self.in_money(limit, np.arange(len(self.data.prosumers)))

    def of_edges(self, end: int) -> tuple[Numbers, Numbers]:
        """Prices of all edges and of their capacity to the prosumers at bus0 (0) or bus1 (1)."""
        whose = self.data.ends[end]
        rows = (self.places.reciprocity, self.places.capacity[end])
        zeta, xi = (values_at(self.unweighed.row_dual, at) for at in rows)
        if end == 1 and self.unweighed.reciprocity1 is not None:
            zeta = self.unweighed.reciprocity1.reshape(zeta.shape)
        now = (values_at(self.solution.row_dual, at) for at in rows)
        exists = np.logical_and(*(np.abs(one) <= self.nothing for one in now))
        exists &= xi >= -self.nothing  # else the limit holds the edge where its capacity does
        of_edge, of_capacity = (
            np.where(exists, self.in_money(limit, whose), np.nan) for limit in (zeta, xi)
        )
        return of_edge, of_capacity
