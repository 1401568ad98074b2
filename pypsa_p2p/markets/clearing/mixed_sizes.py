"""Prosumers so much smaller than others that a market's accuracy is not theirs."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import shown
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.solvers.arrays import Vector, largest_entries


def warn_of_mixed_sizes(compiled: CompiledModel, x: Vector, prosumers: pd.Index) -> None:
    """Warn where a prosumer's balances and limits hold to less than is promised of her loads.

    What is promised is relative to the market's largest quantity; a household beside a power
    plant may be smaller than the error that leaves.

    Parameters
    ----------
    compiled : CompiledModel
    x : (columns,)
        The solution, MW.
    prosumers : Index
        By position, `compiled.owner`.
    """
    size, error = _sizes_and_errors(compiled, x, len(prosumers))
    share = np.divide(error, size, out=np.zeros_like(size), where=size > 0.0)
    worst, largest = int(share.argmax()), int(size.argmax())
    if share[worst] <= ACCURACY.promised:
        return
    warnings.warn(
        f"Quantities of prosumer {shown(prosumers[worst])} are exact to {share[worst]:.1g} only: "
        f"her load is {size[worst]:.3g} MW at most, beside {size[largest]:.3g} MW of prosumer "
        f"{shown(prosumers[largest])}. Solve such different sizes in markets of their own.",
        stacklevel=2,
    )


def _sizes_and_errors(compiled: CompiledModel, x: Vector, count: int) -> tuple[Vector, Vector]:
    """Every prosumer's largest load, and by how much her rows and bounds are violated, MW."""
    program, owner = compiled.program, compiled.owner
    matrix = sp.csr_matrix(program.A)
    coefficient = largest_entries(matrix)
    activity = matrix @ x
    beyond = np.maximum(program.lower - activity, activity - program.upper)
    beyond = np.maximum(beyond, 0.0) / coefficient
    outside = np.maximum(np.maximum(program.x_lower - x, x - program.x_upper), 0.0)
    size, error = np.zeros(count + 1), np.zeros(count + 1)  # the last: nobody
    np.maximum.at(error, owner, outside)
    entries = matrix.tocoo()
    load = np.where(program.lower == program.upper, np.abs(program.lower), 0.0) / coefficient
    np.maximum.at(size, owner[entries.col], load[entries.row])
    np.maximum.at(error, owner[entries.col], beyond[entries.row])
    return size[:count], error[:count]
