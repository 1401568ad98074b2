"""What PyPSA keeps of a solve in attributes without a public door: all of it is touched here.

For whoever upgrades PyPSA: these functions are what has to be looked at.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import linopy
import pandas as pd
import pypsa


class Objective(NamedTuple):
    """The last objective, EUR, and what of it PyPSA left out of the model; None: never solved."""

    value: float | None
    constant: float | None

    @property
    def whole(self) -> float:
        """Both together, EUR."""
        return (self.value or 0.0) + (self.constant or 0.0)


def model_of(n: pypsa.Network) -> linopy.Model | None:
    """The network's model, or None; ``n.model`` raises where there is none."""
    return n._model


def adopt_model(n: pypsa.Network, m: linopy.Model, sns: pd.Index) -> None:
    """Make `m` the network's model, as `create_model` would.

    PyPSA's `assign_solution` and `assign_duals` need nothing but these attributes.
    """
    m.parameters = m.parameters.assign(snapshots=sns)
    n._model = m
    n._objective_constant = 0.0
    n._multi_invest = 0
    if hasattr(n, "_optimize_window"):
        from pypsa.optimization.window import SnapshotWindow  # noqa: PLC0415  (PyPSA >= 1.4)

        n._optimize_window = SnapshotWindow.build(n, sns, "auto")


def forget_model(n: pypsa.Network) -> None:
    """Leave the network without a model, and without what PyPSA notes about it."""
    n._model = None
    if hasattr(n, "_optimize_window"):
        n._optimize_window = None


def copy_without_model(n: pypsa.Network) -> pypsa.Network:
    """A copy, solution included, without the model: a solver attached to it has no copy."""
    return copy.deepcopy(n, {id(n._model): None})


def objective_of(n: pypsa.Network) -> Objective:
    """What PyPSA keeps of the last objective."""
    value, constant = n._objective, n._objective_constant
    return Objective(
        None if value is None else float(value), None if constant is None else float(constant)
    )


def beside_constant(n: pypsa.Network, whole: float) -> float:
    """What ``n.objective`` is of a whole, EUR: all that PyPSA did not leave to its constant."""
    return whole - (objective_of(n).constant or 0.0)


def set_objective(n: pypsa.Network, objective: Objective) -> None:
    """What ``n.objective`` and ``n.objective_constant`` report, EUR."""
    n._objective, n._objective_constant = objective


def leaves_standing_capacity_out() -> bool:
    """Whether PyPSA's models, unless told otherwise, leave its capital cost to the constant."""
    chosen = pypsa.options.params.optimize.include_objective_constant
    return True if chosen is None else bool(chosen)


def has_unit_commitment_flag(n: pypsa.Network) -> bool:
    """Whether PyPSA noted how a solve took unit commitment, as it does at the first one."""
    return "_linearized_uc" in vars(n)


def drop_unit_commitment_flag(n: pypsa.Network) -> None:
    """Forget that note."""
    vars(n).pop("_linearized_uc", None)
