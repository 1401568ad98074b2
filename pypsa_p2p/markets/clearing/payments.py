r"""Prosumers whose risk is that of cost and payments, and who take prices (MODEL.md §13).

.. math:: \min R_n\Big[\Pi_n(\omega) + \sum_m \zeta_{mn}(\omega) q_{mn}\Big], \qquad
    0 \le \zeta(\omega) \perp -(q_{mn} + q_{nm}) \ge 0

zeta in EUR of the scenario. Where nobody who fears anything decides before the scenario is known,
what she fears cancels from every condition: everybody minimises each scenario's cost alone. The
dispatch and prices are the risk-neutral ones, and all that is left is what risk makes of the costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.places import Places
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.solvers.arrays import Labels, Vector, ends_by_row
from pypsa_p2p.solvers.program import RiskProgram

Matrix = npt.NDArray[np.float64]


def commits(compiled: CompiledModel, each: Envelope) -> Labels:
    """Prosumers at risk with a decision that scenarios share or are joined by, by positions."""
    if each.probability.size == 1:
        return np.empty(0, dtype=np.int64)
    A, scenario = compiled.program.A.tocsr(), compiled.scenario
    filled, least, most = ends_by_row(A, scenario)
    shared = np.zeros(scenario.size, dtype=bool)
    shared[scenario == -1] = True
    spanning = filled[np.flatnonzero(least < most)]
    shared[A[spanning].indices] = True
    owners = np.unique(compiled.owner[shared])
    owners = owners[owners >= 0]
    averse = np.asarray((each.most > each.least).any(axis=1))
    return np.asarray(owners[averse[owners]])


def with_risk_of_payments(
    neutral: MarketSolution,
    program: RiskProgram,
    each: Envelope,
    problem: MarketProblem,
    places: Places,
) -> MarketSolution:
    """The risk-neutral answer, and what everybody's risk makes of her costs and payments in it.

    Parameters
    ----------
    program : RiskProgram
        Costs of every prosumer, and last of nobody.
    """
    price = _prices(neutral, each, places)
    costs = program.costs(neutral.x) + problem.payments(program, neutral.x, price)
    at_risk = RiskOfPayments.of(program, each, costs, neutral.x)
    return replace(
        neutral,
        risk_adjusted_probability=at_risk.tau,
        objective=at_risk.value,
        unweighed=None,
    )


class RiskOfPayments(NamedTuple):
    """What everybody's risk makes of costs and payments.

    Attributes
    ----------
    tau : (N, S)
        Probabilities that attain it; the rounding of costs that are alike does not choose.
    value : float
        Sum of R, EUR, with what no risk is taken of.
    """

    tau: Matrix
    value: float

    @classmethod
    def of(cls, program: RiskProgram, each: Envelope, costs: Vector, x: Vector) -> RiskOfPayments:
        """Of costs and payments of every cell, (K,), at decisions x."""
        by_group = costs.reshape(program.groups, -1)
        owned, nobody = by_group[:-1], by_group[-1]
        unit = ACCURACY.tied * float(np.abs(owned).max(initial=0.0)) or 1.0
        tau = each.tail(np.round(owned / unit) * unit).probability.reshape(owned.shape)
        certain = program.cost_by_column(x)[program.cell < 0].sum()
        value = each.tail(owned).value.sum() + each.probability @ nobody + certain
        return cls(tau=tau, value=float(value))


def _prices(neutral: MarketSolution, each: Envelope, places: Places) -> Vector:
    """Of trades, (S T E,), EUR/MW; what is traded day ahead is paid in every scenario."""
    now = neutral.row_dual[places.reciprocity]
    return np.asarray(now / each.probability[:, None, None]).ravel()
