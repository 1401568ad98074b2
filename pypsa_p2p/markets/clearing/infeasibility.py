"""Why a market has no solution, in the user's words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError, MarketError, P2PError, listed, shown
from pypsa_p2p.common.names import NAME
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.shared import SHARED
from pypsa_p2p.formulation.trading import NODAL_BALANCE
from pypsa_p2p.markets.clearing.convex import MarketSolution

_SHOWN = 5
_GLOBAL = "GlobalConstraint-"
#: PyPSA's constraints that fix a dispatch to its `p_set`, by the table that holds it.
_SET_POINTS = {
    "generators": "Generator-p_set",
    "links": "Link-p_set",
    "storage_units": "StorageUnit-p_set",
    "stores": "Store-p_set",
}

Rows = npt.NDArray[np.int64]


def explain(
    compiled: CompiledModel, solution: MarketSolution, *, trading: bool, surplus: bool
) -> P2PError:
    """The error to raise for a market whose status is not "optimal".

    Parameters
    ----------
    trading, surplus : bool
        Whether there are trade edges, and whether more may be sold over them than is bought.
    """
    if solution.status == "infeasible":
        return MarketError(
            "The market is infeasible: not all of its constraints can hold together"
            + _culprits(compiled, solution.certificate, solution.units.power)
            + _fixed_dispatch(compiled)
            + _advice(trading, surplus)
            + _of_stages(compiled)
        )
    if solution.status == "unbounded":
        return MarketError(
            "The market is unbounded: somebody gains without limit. Give every generator, trade "
            "edge and capacity to build (p_nom_max) a finite limit and check the signs of costs."
        )
    return ConvergenceError(
        f"The solvers ({solution.solver}) stopped before their answer met this package's own "
        "residual checks. Look for data of very different sizes (MW, EUR) or tiny probabilities."
    )


def _advice(trading: bool, surplus: bool) -> str:
    """What may help, and is not so already."""
    if not trading:
        return " Widen demand or generation limits, or add trades: there are none."
    if surplus:
        return " Widen demand or generation limits, or raise trade capacities."
    return " Widen demand or generation limits, raise trade capacities or allow surplus."


def _of_stages(compiled: CompiledModel) -> str:
    """What may help where something is decided before the scenario is known, a sentence, or ""."""
    if not any(name.startswith(SHARED) for name in compiled.model.constraints):
        return ""
    return (
        " What is decided before the scenario is known cannot follow it: let prosumers be out of "
        "balance, add_imbalance(n, ...), or trade in real time too."
    )


def _culprits(compiled: CompiledModel, certificate: np.ndarray | None, power: float) -> str:
    """What would have to give way, or weighs most in the proof, as linopy names it."""
    for kind in (_GLOBAL, NODAL_BALANCE):
        unmet = _giving_way(compiled, kind, power)
        if unmet.size:
            named = [_named(name, coords) for name, coords in _positions(compiled, unmet)]
            return f": {'; '.join(named)} cannot be met."
    if certificate is None or not np.any(certificate):
        return "."
    weight = np.abs(certificate)
    rows = np.argsort(-weight)[: 2 * _SHOWN]
    rows = rows[weight[rows] > ACCURACY.minor_weight * weight.max()]
    named = [_named(name, coords) for name, coords in _positions(compiled, rows)]
    named.sort(key=lambda text: not text.startswith("balance"))
    return ": " + "; ".join(named[:_SHOWN]) + "."


def _fixed_dispatch(compiled: CompiledModel) -> str:
    """What PyPSA fixes because it has a set point, a sentence; "" where nothing is fixed."""
    fixed = {}
    for table, constraint in _SET_POINTS.items():
        if constraint in compiled.model.constraints:
            labels = compiled.model.constraints[constraint].labels
            rows = (labels >= 0).any([dim for dim in labels.dims if dim != NAME])
            fixed[table] = rows.indexes[NAME][rows.to_numpy()]
    return "".join(
        f" n.{table}['p_set'] fixes {listed(names)}, a probable reason: set it to nan where the "
        "market is to decide."
        for table, names in fixed.items()
        if len(names)
    )


def _giving_way(compiled: CompiledModel, kind: str, power: float) -> Rows:
    """Constraints of a kind that must give way, by as little as possible, for all else to hold.

    Minimises the sum of the amounts missing, in units of `power`, MW; none if that does not help
    either.
    """
    qp = compiled.program
    of_kind = [
        constraint.labels.to_numpy().ravel()
        for name, constraint in compiled.model.constraints.items()
        if kind in name
    ]
    if not of_kind:
        return np.empty(0, dtype=np.int64)
    loose = np.flatnonzero(np.isin(compiled.row_labels, np.concatenate(of_kind)))
    count, n = loose.size, qp.c.size
    slack = sp.csr_matrix((np.ones(count), (loose, np.arange(count))), (qp.A.shape[0], count))
    rows = sp.hstack([qp.A, slack, -slack], format="csr")
    found = milp(  # a linear program: no variable is integer
        np.append(np.zeros(n), np.ones(2 * count)),
        constraints=LinearConstraint(rows, qp.lower / power, qp.upper / power),
        bounds=Bounds(
            np.append(qp.x_lower / power, np.zeros(2 * count)),
            np.append(qp.x_upper / power, np.full(2 * count, np.inf)),
        ),
    )
    if found.status != 0:
        return np.empty(0, dtype=np.int64)
    missing = found.x[n : n + count] + found.x[n + count :]
    worst = np.argsort(-missing)[:_SHOWN]
    return np.asarray(loose[worst[missing[worst] > ACCURACY.missing]])


def _positions(compiled: CompiledModel, rows: Rows) -> Any:
    """Constraint and coordinates of rows of the compiled model."""
    return compiled.model.constraints.get_label_position(compiled.row_labels[rows])


def _named(constraint: str, coords: dict[str, object]) -> str:
    name = coords.get(NAME)
    rest = ", ".join(f"{dim} {shown(value)}" for dim, value in coords.items() if dim != NAME)
    if constraint.startswith(_GLOBAL):
        return f"GlobalConstraint {constraint.removeprefix(_GLOBAL)!r}"
    kind = "balance" if constraint.endswith(NODAL_BALANCE) else constraint
    what = f"{kind} of {name!r}"
    return f"{what} ({rest})" if rest else what
