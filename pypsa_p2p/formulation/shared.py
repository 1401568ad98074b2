r"""What is decided before the scenario is known, as linopy constraints (MODEL.md §12).

A decision that all scenarios share keeps PyPSA's variable of each of them, tied to that of the
first:

.. math:: x(\omega) = x(\omega_1) \quad \forall \omega

so that what it costs may differ by scenario, and its owner's risk is that of her cost in each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import linopy
import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.linopy_state import add_constraints
from pypsa_p2p.common.names import NAME, SCENARIO
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.trading import QUANTITY1
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Labels

#: What the names of these constraints begin with; behind it stands the variable's.
SHARED: Final = "p2p-shared-"
#: What somebody decides about an asset, by PyPSA's class; all else follows.
DECISIONS: Final = {
    "Generator": ("p",),
    "Link": ("p",),
    "StorageUnit": ("p_dispatch", "p_store"),
    "Store": ("p",),
}


def define_shared(m: linopy.Model, data: MarketData, here_and_now: Iterable[str]) -> None:
    """Tie the decisions of all scenarios: trades day ahead, and assets by their names."""
    if len(data.scenarios) == 1:
        return
    names = pd.Index(list(here_and_now), dtype=object)
    assets = {
        f"{component}-{decision}": names
        for component, decisions in DECISIONS.items()
        for decision in decisions
    }
    trades = {"Link-p": names.append(data.ahead), QUANTITY1: data.ahead}
    for variable, chosen in (assets | trades).items():
        if variable in m.variables:
            _tie(m, variable, chosen)


def tied_rows(compiled: CompiledModel) -> Labels:
    """Rows that tie a scenario's copy of a decision to that of the first, (t,)."""
    constraints = compiled.model.constraints
    tied = [constraints[name].labels for name in constraints if name.startswith(SHARED)]
    rows = compiled.rows(*tied)
    return rows[rows >= 0]


def _tie(m: linopy.Model, variable: str, names: pd.Index) -> None:
    """A variable of some components is in every scenario what it is in the first."""
    labels = m[variable].labels
    labels = labels.isel({NAME: labels.indexes[NAME].isin(names)})
    if SCENARIO not in labels.dims or not labels.size:
        return
    first, others = labels.isel({SCENARIO: [0]}), labels.isel({SCENARIO: slice(1, None)})
    pairs = np.stack(np.broadcast_arrays(others.to_numpy(), first.to_numpy()), axis=-1)
    there = np.asarray((pairs >= 0).all(axis=-1))
    zero = xr.zeros_like(others, dtype=float)
    pairs = np.where(there[..., None], pairs, -1)
    add_constraints(m, SHARED + variable, pairs, [1.0, -1.0], "=", zero, there)
