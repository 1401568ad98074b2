r"""Fees on what is traded, :math:`f_{mn} |q_{mn}|`, as linopy variables and constraints.

A quantity that somebody pays a fee on is parted into what she buys and what she sells, of which
one is 0 wherever the fee is worth anything to her (MODEL.md §2):

.. math:: q_{mn} = q^+_{mn} - q^-_{mn}, \quad q^\pm_{mn} \ge 0, \quad
    f_{mn} |q_{mn}| = f_{mn} (q^+_{mn} + q^-_{mn})

Where there is no fee there are no such variables: markets without fees are as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import linopy
import numpy as np
import xarray as xr

from pypsa_p2p.common.linopy_state import add_constraints, add_positive_variables
from pypsa_p2p.common.names import NAME
from pypsa_p2p.network.market_data import MarketData

#: What the prosumers at bus0 and bus1 buy, and sell, over edges with a fee of theirs, MW. PyPSA
#: writes what belongs to no component of its own to no table.
BOUGHT: Final = ("p2p-bought0", "p2p-bought1")
SOLD: Final = ("p2p-sold0", "p2p-sold1")
#: That what is sold less what is bought is p0, or p1; the multiplier is the fee's part in prices.
PARTED: Final = ("p2p-parted0", "p2p-parted1")


def define_fees(m: linopy.Model, data: MarketData, quantities: list[xr.DataArray]) -> None:
    r"""Part the quantities with a fee, :math:`p = q^- - q^+` in PyPSA's signs.

    Parameters
    ----------
    quantities
        Labels of p0 and p1 in the model.
    """
    for end, (p, fee) in enumerate(zip(quantities, (data.fee0, data.fee1), strict=True)):
        charged = _charged(p, fee, data) > 0
        if not charged.size:
            continue
        there = charged.to_numpy()
        coords = {str(dim): charged.indexes[dim] for dim in charged.dims}
        bought, sold = (
            add_positive_variables(m, names[end], coords, there).to_numpy()
            for names in (BOUGHT, SOLD)
        )
        whole = np.where(there, p.sel({NAME: charged.indexes[NAME]}).to_numpy(), -1)
        labels = np.stack([whole, bought, sold], axis=-1)
        zero = xr.zeros_like(charged, dtype=float)
        add_constraints(m, PARTED[end], labels, [1.0, 1.0, -1.0], "=", zero, there)


def fee_terms(m: linopy.Model, data: MarketData) -> Iterator[tuple[xr.DataArray, xr.DataArray]]:
    """Expected fees as coefficients, EUR/MW, and labels of what they are paid on."""
    hours = data.probability * data.weighting
    for bought, sold, fee in zip(BOUGHT, SOLD, (data.fee0, data.fee1), strict=True):
        for name in (bought, sold) if bought in m.variables else ():
            labels = m[name].labels
            yield _like(fee * hours, labels, data), labels


def fee_labels(m: linopy.Model) -> list[xr.DataArray]:
    """Labels of what fees are paid on; -1 where there is none."""
    return [m[name].labels for name in (*BOUGHT, *SOLD) if name in m.variables]


def parted(sent: xr.DataArray, name: str) -> xr.DataArray:
    """What a variable of `BOUGHT` or `SOLD` is, MW, where p0 or p1 is `sent`, in PyPSA's signs."""
    return (-sent if name in BOUGHT else sent).clip(min=0.0)


def _charged(p: xr.DataArray, fee: xr.DataArray, data: MarketData) -> xr.DataArray:
    """Fees of the edges that have one at any time, with the dims, in their order, of `p`."""
    somewhere = fee.any([dim for dim in fee.dims if dim != NAME]).to_numpy()
    names = p.indexes[NAME][p.indexes[NAME].isin(fee.indexes[NAME][somewhere])]
    return _like(fee, p.sel({NAME: names}), data)


def _like(array: xr.DataArray, labels: xr.DataArray, data: MarketData) -> xr.DataArray:
    """An array with the names, dims and their order of a variable's labels."""
    chosen = data.for_model(array.sel({NAME: labels.indexes[NAME]}))
    coords = {dim: labels.coords[dim] for dim in labels.dims}
    full = chosen.broadcast_like(labels).transpose(*labels.dims)
    return xr.DataArray(full.to_numpy(), coords=coords, dims=labels.dims)
