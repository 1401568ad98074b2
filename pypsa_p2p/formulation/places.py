"""Where a market's model has its prices and quantities: positions of rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.common.names import NAME, SCENARIO, SNAPSHOT
from pypsa_p2p.formulation.columns import balance_rows, balances, export_columns, fee_columns
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.trading import CAPACITY0, CAPACITY1, QUANTITY1, RECIPROCITY
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Flags, Sparse

Positions = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Rows and columns of a compiled market; -1 where there is none.

    Attributes
    ----------
    generators : Index
    output : (S, T, G)
        Columns of their output.
    energy : (S, T, N)
        Rows of the balances of the prosumers' own buses.
    grid : (S, T, N) or None
        Rows of the balances of their buses of the grid, where it delivers the trades.
    quantity : pair of (S, T, E)
        Columns of p0 and p1 of every edge.
    fees : (F,)
        Columns of what fees are paid on.
    reciprocity : (S, T, E)
        Rows of (1).
    capacity : pair of (S, T, E)
        Rows of (2) of the prosumers at bus0 and at bus1.
    exports : (X,)
        Columns of what leaves the grid at its connections, where nothing may come in.
    priced, reported : (rows,)
        Whether a row is the balance of a prosumer's own bus; any balance, or (1).
    partner : (columns, columns)
        How much a column's own price rises with its partner's quantity, a w, EUR/MW2: what n pays
        over an edge, a (q_mn + q_nm) q_mn, holds a q_nm q_mn. Not weighted by probability.
    """

    generators: pd.Index
    output: Positions
    energy: Positions
    grid: Positions | None
    quantity: tuple[Positions, Positions]
    fees: Positions
    reciprocity: Positions
    capacity: tuple[Positions, Positions]
    exports: Positions
    priced: Flags
    reported: Flags
    partner: Sparse

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

        quantity = columns("Link-p"), columns(QUANTITY1)
        reciprocity = rows(RECIPROCITY)
        reported = balance_rows(compiled)
        reported[reciprocity] = True
        generators = data.names("Generator")
        return cls(
            generators=generators,
            output=columns_of(compiled, "Generator-p", generators) if len(generators) else none,
            energy=rows_of_balances(compiled, data.prosumers),
            grid=None if sites is None else rows_of_balances(compiled, pd.Index(sites)),
            quantity=quantity,
            fees=fee_columns(compiled),
            reciprocity=reciprocity,
            capacity=(rows(CAPACITY0), rows(CAPACITY1)),
            exports=export_columns(compiled),
            priced=balance_rows(compiled, data.prosumers),
            reported=reported,
            partner=partner_prices(compiled, data, quantity),
        )


class Posed(NamedTuple):
    """A market posed on a network: its data, its model as arrays, whether that is a plain one."""

    data: MarketData
    compiled: CompiledModel
    places: Places
    plain: bool


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


def partner_prices(
    compiled: CompiledModel, data: MarketData, quantity: tuple[Positions, Positions]
) -> Sparse:
    """How much a column's own price rises with its partner's quantity, EUR/MW2, (n, n)."""
    size, (here, there) = compiled.owner.size, quantity
    price = data.congestion.to_numpy()[:, None] * data.weighting.to_numpy()[:, None]
    both = np.concatenate([here, there], axis=None), np.concatenate([there, here], axis=None)
    entries = sp.csr_matrix((np.tile(price.ravel(), 2), both), (size, size))
    entries.eliminate_zeros()
    return entries
