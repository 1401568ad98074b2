"""Costs and sums straight from arrays of labels: what linopy's operators would arrive at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import linopy
import numpy as np
import xarray as xr
from linopy.constants import FACTOR_DIM, TERM_DIM

from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.solvers.arrays import Labels, Vector

NO_VARIABLE = -1  # linopy's label of a term that is not there


def total_cost(m: linopy.Model, terms: Sequence[tuple[xr.DataArray, ...]]) -> Any:
    r"""The number :math:`\sum c\, x + \sum c\, x\, y` as a linopy expression.

    Parameters
    ----------
    terms
        Each ``(c, x)`` or ``(c, x, y)``: coefficients and labels of variables, with the same
        dims, in some order, and the same coordinates.
    """
    coefficients, first, second = [], [], []
    for c, x, *rest in terms:
        values = c.transpose(*x.dims).to_numpy().ravel()
        there = values != 0
        y = rest[0].transpose(*x.dims).to_numpy() if rest else np.full(x.shape, NO_VARIABLE)
        coefficients.append(values[there])
        first.append(x.to_numpy().ravel()[there])
        second.append(y.ravel()[there])
    coeffs = (TERM_DIM, np.concatenate(coefficients))
    factors = np.stack([np.concatenate(first), np.concatenate(second)])
    if (factors[1] == NO_VARIABLE).all():
        return linear_cost(m, coeffs[1], factors[0])
    data = xr.Dataset({"coeffs": coeffs, "vars": ((FACTOR_DIM, TERM_DIM), factors)})
    return linopy.QuadraticExpression(data, m)


def linear_cost(m: linopy.Model, cost: Vector, labels: Labels) -> linopy.LinearExpression:
    """The number cost' x as a linopy expression, x the variables with these labels."""
    data = xr.Dataset({"coeffs": (TERM_DIM, cost), "vars": (TERM_DIM, labels)})
    return linopy.LinearExpression(data, m)


def sum_at(power: Numbers, at: Labels, places: int) -> Numbers:
    """Sum of powers, (scenario, name, snapshot), over what stands at each place, MW."""
    summed = np.zeros((places, power.shape[0], power.shape[2]))
    np.add.at(summed, at, power.swapaxes(0, 1))
    return summed.swapaxes(0, 1)
