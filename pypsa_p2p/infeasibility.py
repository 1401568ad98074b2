"""Why a market has no solution, in the user's words."""

from __future__ import annotations

from typing import Any

import numpy as np

from pypsa_p2p.errors import ConvergenceError, MarketError, P2PError
from pypsa_p2p.solvers.compiled import CompiledModel
from pypsa_p2p.solvers.market import MarketSolution

_SHOWN = 5


def explain(compiled: CompiledModel, solution: MarketSolution) -> P2PError:
    """The error to raise for a market whose status is not "optimal"."""
    if solution.status == "infeasible":
        return MarketError(
            "The market is infeasible: not all of its constraints can hold together"
            + _culprits(compiled, solution.certificate)
            + " Widen demand or generation limits, raise trade capacities or allow surplus."
        )
    if solution.status == "unbounded":
        return MarketError(
            "The market is unbounded: somebody gains without limit. Give every generator and "
            "trade edge a finite limit and check the signs of costs."
        )
    return ConvergenceError(
        f"The solvers ({solution.solver}) stopped before their answer met this package's own "
        "residual checks. Look for data of very different sizes (MW, EUR) or tiny probabilities."
    )


def _culprits(compiled: CompiledModel, certificate: np.ndarray | None) -> str:
    """The rows that weigh most in the proof of infeasibility, as linopy names them."""
    if certificate is None or not np.any(certificate):
        return "."
    weight = np.abs(certificate)
    rows = np.argsort(-weight)[: 2 * _SHOWN]
    rows = rows[weight[rows] > 1e-3 * weight.max()]
    labels = compiled.row_labels[rows]
    positions: Any = compiled.model.constraints.get_label_position(labels)
    named = [_named(name, coords) for name, coords in positions]
    named.sort(key=lambda text: not text.startswith("balance"))
    return ": " + "; ".join(named[:_SHOWN]) + "."


def _named(constraint: str, coords: dict[str, object]) -> str:
    name = coords.get("name")
    rest = ", ".join(f"{dim} {value!r}" for dim, value in coords.items() if dim != "name")
    what = (
        f"balance of {name!r}"
        if constraint.endswith("nodal_balance")
        else (f"{constraint} of {name!r}")
    )
    return f"{what} ({rest})" if rest else what
