"""Values by prosumer that markets keep: plain numbers, which compare and survive files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import MarketError, shown


def stored_weights(weights: Any) -> Any:
    """Rosen's weights as plain values that compare by value, checked."""
    if isinstance(weights, xr.DataArray) and weights.ndim == 1:
        weights = weights.to_series()
    try:
        stored = plain(weights)
        numbers = np.asarray(list(stored.values()) if isinstance(stored, dict) else stored, float)
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if weights is not None and not (np.isfinite(numbers) & (numbers > 0)).all():
        raise MarketError(
            f"PeerToPeerMarket: weights {shown(weights)} must be positive numbers, one by prosumer."
        )
    return stored if weights is not None else None


def plain(by_prosumer: Any) -> Any:
    """A value by prosumer as plain numbers that survive netCDF."""
    if isinstance(by_prosumer, Mapping | pd.Series):
        return {str(name): float(value) for name, value in dict(by_prosumer).items()}
    if by_prosumer is None or np.ndim(by_prosumer) == 0:
        return by_prosumer
    return np.asarray(by_prosumer, dtype=float).tolist()
