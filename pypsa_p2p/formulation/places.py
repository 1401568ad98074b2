"""Where a market's model has its prices and quantities: positions of rows and columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from pypsa_p2p.common.names import NAME, SCENARIO, SNAPSHOT
from pypsa_p2p.formulation.columns import balances
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.trading import CAPACITY0, CAPACITY1, QUANTITY1, RECIPROCITY
from pypsa_p2p.network.market_data import MarketData

Positions = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Rows and columns of a compiled market; -1 where there is none.

    Attributes
    ----------
    energy : (S, T, N)
        Rows of the balances of the prosumers' own buses.
    grid : (S, T, N) or None
        Rows of the balances of their buses of the grid, where it delivers the trades.
    quantity : pair of (S, T, E)
        Columns of p0 and p1 of every edge.
    reciprocity : (S, T, E)
        Rows of (1).
    capacity : pair of (S, T, E)
        Rows of (2) of the prosumers at bus0 and at bus1.
    trade : (S, T, E)
        Positions among all trades in the order of the model.
    """

    energy: Positions
    grid: Positions | None
    quantity: tuple[Positions, Positions]
    reciprocity: Positions
    capacity: tuple[Positions, Positions]
    trade: Positions

    @classmethod
    def of(cls, compiled: CompiledModel, data: MarketData) -> Places:
        """Look them up in the model."""
        sites = None if data.sites is None else data.sites.bus.reindex(data.prosumers)
        none = np.empty((len(data.scenarios), len(data.snapshots), 0), dtype=np.int64)
        edges, trades = data.edges, len(data.edges) > 0

        def rows(constraint: str) -> Positions:
            return rows_of(compiled, constraint, edges) if trades else none

        def columns(variable: str) -> Positions:
            return columns_of(compiled, variable, edges) if trades else none

        return cls(
            energy=rows_of_balances(compiled, data.prosumers),
            grid=None if sites is None else rows_of_balances(compiled, pd.Index(sites)),
            quantity=(columns("Link-p"), columns(QUANTITY1)),
            reciprocity=rows(RECIPROCITY),
            capacity=(rows(CAPACITY0), rows(CAPACITY1)),
            trade=_in_order(compiled.model.variables[QUANTITY1].labels, edges) if trades else none,
        )


def columns_of(compiled: CompiledModel, variable: str, names: pd.Index) -> Positions:
    """Columns of a variable of some components, (S, T, K)."""
    labels = _labels(compiled.model.variables[variable].labels, names)
    return compiled.positions_of_columns(labels)


def rows_of(compiled: CompiledModel, constraint: str, names: pd.Index) -> Positions:
    """Rows of a constraint of some components, (S, T, K)."""
    return compiled.positions_of_rows(_labels(compiled.model.constraints[constraint].labels, names))


def rows_of_balances(compiled: CompiledModel, buses: pd.Index) -> Positions:
    """Rows of the balances of some buses, which may repeat, (S, T, K)."""
    parts = [rows_of(compiled, name, buses) for name in balances(compiled.model)]
    return np.asarray(np.max(parts, axis=0))


def values_at(values: Numbers, places: Positions) -> Numbers:
    """Values of rows or columns at places, 0 where there is none."""
    return np.append(values, 0.0)[places]


def _labels(labels: xr.DataArray, names: pd.Index) -> Positions:
    """linopy's labels, (S, T, K), of some names; -1 where there is none."""
    dims = [SCENARIO, SNAPSHOT, NAME] if SCENARIO in labels.dims else [SNAPSHOT, NAME]
    array, at = labels.transpose(*dims).to_numpy(), labels.indexes[NAME].get_indexer(names)
    found = np.where(at >= 0, array[..., at], -1)
    return found if SCENARIO in labels.dims else found[None]


def _in_order(labels: xr.DataArray, names: pd.Index) -> Positions:
    """Where each of a variable's entries stands among them, (S, T, K)."""
    return _labels(labels.copy(data=np.arange(labels.size).reshape(labels.shape)), names)
