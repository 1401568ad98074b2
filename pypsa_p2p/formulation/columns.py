"""Which columns and rows of a market's model are whose, by PyPSA's names of things."""

from __future__ import annotations

import linopy
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import NAME
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.delivery import SURPLUS
from pypsa_p2p.formulation.fees import BOUGHT, SOLD, fee_labels
from pypsa_p2p.formulation.trading import (
    NODAL_BALANCE,
    QUANTITY1,
)
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import asset_owners
from pypsa_p2p.solvers.arrays import Flags, Labels


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
    at0, at1 = (data.bus0.copy(data=at) for at in data.ends)
    owners[QUANTITY1] = at1
    for bought, sold, at in zip(BOUGHT, SOLD, (at0, at1), strict=True):
        owners |= {bought: at, sold: at}
    return owners


def fee_columns(compiled: CompiledModel) -> Labels:
    """Columns of what fees are paid on: what is bought and what is sold over edges with a fee."""
    labels = [of.to_numpy().ravel() for of in fee_labels(compiled.model)]
    found = np.concatenate([*labels, np.empty(0, dtype=np.int64)])
    return compiled.columns(xr.DataArray(found[found >= 0]))


def balances(m: linopy.Model) -> list[str]:
    """PyPSA's balances of buses, one constraint for each number of terms."""
    return [name for name in m.constraints if name.endswith(NODAL_BALANCE)]


def balance_rows(compiled: CompiledModel, buses: pd.Index | None = None) -> Flags:
    """Which rows are balances, (rows,): of these buses, or of any."""
    rows = np.zeros(compiled.row_labels.size, dtype=bool)
    for name in balances(compiled.model):
        labels = compiled.model.constraints[name].labels
        if buses is not None:
            labels = labels.isel({NAME: labels.indexes[NAME].isin(buses)})
        rows[compiled.rows(labels)[labels.to_numpy().ravel() >= 0]] = True
    return rows


def export_columns(compiled: CompiledModel) -> Labels:
    """Columns of what leaves the grid at its connections, where nothing may come in."""
    m = compiled.model
    if SURPLUS not in m.variables:
        return np.empty(0, dtype=np.int64)
    leaving = compiled.columns(m[SURPLUS].labels)
    return leaving[np.isfinite(compiled.program.x_lower[leaving])]
