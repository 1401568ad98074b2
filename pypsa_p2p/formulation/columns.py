"""Which columns and rows of a market's model are whose, by PyPSA's names of things."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import NAME
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.delivery import SURPLUS
from pypsa_p2p.formulation.trading import (
    NODAL_BALANCE,
    QUANTITY1,
    RECIPROCITY,
    partner_prices,
    quantities,
)
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import asset_owners
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector


def variable_owners(n: pypsa.Network, data: MarketData) -> dict[str, xr.DataArray]:
    """By class of components, the position of each one's prosumer; -1 where it is nobody's.

    A trade edge's ``Link-p`` is what the prosumer at bus0 decides; ``Link-p1`` is a class of
    its own here, decided at bus1.
    """
    owners = {}
    for component in n.all_components:
        if component in n.one_port_components | n.branch_components and len(n.c[component].static):
            names = asset_owners(n, component, data.owners)
            owners[component] = names.copy(
                data=data.prosumers.get_indexer(pd.Index(names.to_numpy()))
            )
    position = data.prosumers.get_indexer(pd.Index(data.bus1.to_numpy()))
    owners[QUANTITY1] = data.bus1.copy(data=position)
    return owners


def trade_arrays(compiled: CompiledModel, data: MarketData) -> tuple[Labels, Labels, Vector]:
    """Columns of both quantities of every trade, rows of (1), and `partner_prices`."""
    m = compiled.model
    if not len(data.edges):
        return np.empty((2, 0), dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    p0, p1 = quantities(m, data)
    reciprocity = m.constraints[RECIPROCITY].labels.transpose(*p0.dims)
    return (
        compiled.columns(p0, p1).reshape(2, -1),
        compiled.rows(reciprocity),
        partner_prices(data, p0).to_numpy().ravel(),
    )


def balance_rows(compiled: CompiledModel, data: MarketData) -> tuple[Flags, Flags]:
    """Which rows are balances of prosumers, and which of any bus; (rows,) each."""
    found = []
    for known in (data.prosumers, None):
        rows = np.zeros(compiled.row_labels.size, dtype=bool)
        for name, constraint in compiled.model.constraints.items():
            if name.endswith(NODAL_BALANCE):
                here = constraint.labels
                if known is not None:
                    here = here.isel({NAME: here.indexes[NAME].isin(known)})
                active = here.to_numpy().ravel() >= 0
                rows[compiled.rows(here)[active]] = True
        found.append(rows)
    return found[0], found[1]


def export_columns(compiled: CompiledModel) -> Labels:
    """Columns of what leaves the grid at its connections, where nothing may come in."""
    m = compiled.model
    if SURPLUS not in m.variables:
        return np.empty(0, dtype=np.int64)
    leaving = compiled.columns(m[SURPLUS].labels)
    return leaving[np.isfinite(compiled.program.x_lower[leaving])]
