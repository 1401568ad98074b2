"""Retail contracts that are closed to who sells only what is her own (MODEL.md §2)."""

from __future__ import annotations

import linopy
import numpy as np
import xarray as xr

from pypsa_p2p.common.linopy_state import add_constraints
from pypsa_p2p.common.names import NAME
from pypsa_p2p.network.market_data import MarketData

CLOSED = "Generator-own_surplus"


def define_own_surplus(m: linopy.Model, data: MarketData) -> None:
    """Nothing is bought from a retailer, or sold to him, in hours in which a contract is closed."""
    if data.closed is None or not bool(data.closed.any()):
        return
    power = m["Generator-p"].labels.sel({NAME: data.closed.indexes[NAME]})
    closed = data.for_model(data.closed).transpose(*power.dims).to_numpy()
    labels = np.where(closed, power.to_numpy(), -1)[..., None]
    add_constraints(m, CLOSED, labels, 1.0, "=", xr.zeros_like(power, dtype=float), closed)
