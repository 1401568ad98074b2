"""linopy's rows and costs straight from arrays of labels.

linopy's operators align and broadcast their operands, which takes 5 to 20 ms a call however small
these are. Where a model's labels are at hand, with as many coefficients in the same order, there
is nothing to align: these functions write down what the operators would arrive at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import linopy
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import xarray as xr
from linopy.constants import FACTOR_DIM, TERM_DIM

from pypsa_p2p.common.names import NAME

NO_VARIABLE = -1  # linopy's label of a term that is not there


def add_rows(
    m: linopy.Model,
    name: str,
    labels: npt.NDArray[np.int64],
    coefficients: npt.ArrayLike,
    sign: str,
    rhs: xr.DataArray,
) -> None:
    r"""Add the constraints :math:`\sum_k c_k x_k` `sign` `rhs`, one for each entry of `rhs`.

    Parameters
    ----------
    labels : (*rhs.shape, terms)
        Of the variables; NO_VARIABLE where a row has fewer terms than others.
    coefficients
        Broadcasts to the shape of `labels`.
    """
    terms = (*rhs.dims, TERM_DIM)
    data = xr.Dataset(
        {
            "coeffs": (terms, np.broadcast_to(coefficients, labels.shape).astype(float)),
            "vars": (terms, labels),
            "sign": (rhs.dims, np.full(rhs.shape, sign)),
            "rhs": (rhs.dims, rhs.to_numpy()),
        },
        # linopy numbers rows in the order of these, not in that of the arrays' dims.
        coords={dim: rhs.indexes[dim] for dim in rhs.dims},
    )
    m.add_constraints(linopy.Constraint(data, m, skip_broadcast=True), name=name)


def total_cost(m: linopy.Model, terms: Sequence[tuple[xr.DataArray, ...]]) -> Any:
    r"""The number :math:`\sum c\, x + \sum c\, x\, y` as a linopy expression.

    Parameters
    ----------
    terms
        Each ``(c, x)`` or ``(c, x, y)``: coefficients and labels of variables, with the same
        dims and coordinates.
    """
    coefficients, first, second = [], [], []
    for arrays in terms:
        c, *of_term = xr.align(*arrays, join="exact")
        x, y = [*of_term, xr.full_like(of_term[0], NO_VARIABLE)][:2]
        values = c.transpose(*x.dims).to_numpy().ravel()
        there = values != 0
        coefficients.append(values[there])
        first.append(x.to_numpy().ravel()[there])
        second.append(y.transpose(*x.dims).to_numpy().ravel()[there])
    coeffs = (TERM_DIM, np.concatenate(coefficients))
    factors = np.stack([np.concatenate(first), np.concatenate(second)])
    if (factors[1] == NO_VARIABLE).all():
        data = xr.Dataset({"coeffs": coeffs, "vars": (TERM_DIM, factors[0])})
        return linopy.LinearExpression(data, m)
    data = xr.Dataset({"coeffs": coeffs, "vars": ((FACTOR_DIM, TERM_DIM), factors)})
    return linopy.QuadraticExpression(data, m)


def sum_at_buses(power: xr.DataArray, bus: pd.Series, buses: pd.Index) -> xr.DataArray:
    """Sum of a power over the components at each bus, MW; `name` becomes the buses.

    `bus` is that of each component, by name.
    """
    components = power.sizes[NAME]
    row = buses.get_indexer(pd.Index(bus.reindex(power.indexes[NAME])))
    incidence = sp.csr_matrix(
        (np.ones(components), (row, np.arange(components))), shape=(len(buses), components)
    )
    others = [dim for dim in power.dims if dim != NAME]
    shape = [power.sizes[dim] for dim in others]
    values = power.transpose(NAME, *others).to_numpy().reshape(components, int(np.prod(shape)))
    coords = {NAME: buses, **{dim: power.indexes[dim] for dim in others}}
    summed = xr.DataArray((incidence @ values).reshape(len(buses), *shape), coords, [NAME, *others])
    return summed.transpose(*power.dims)
