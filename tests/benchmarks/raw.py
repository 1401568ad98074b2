"""The bare solver: Clarabel, called with finished matrices and nothing around it."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any
from unittest import mock

import clarabel
import numpy as np
from scipy import sparse

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.backends import conic
from pypsa_p2p.solvers.backends.clarabel import ConicAnswer, LinearCones
from pypsa_p2p.solvers.presolve import presolve
from pypsa_p2p.solvers.program import RiskProgram
from tests.benchmarks.clock import Duration


@dataclass(frozen=True, eq=False)
class RawProgram:
    """min 1/2 x'Px + q'x subject to A x + s = b, s in the cones, of a market's reduced program."""

    market: RiskProgram
    P: sparse.csc_matrix
    q: np.ndarray[Any, Any]
    A: sparse.csc_matrix
    b: np.ndarray[Any, Any]
    cones: list[Any]

    def run(self) -> tuple[Duration, str, float]:
        """Time of setting the solver up and solving, its status, and the market's objective, EUR.

        The solver's tolerances are the package's own, 1e-11, and it has one thread.
        """
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.max_threads = 1
        settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = ACCURACY.solver
        gc.collect()
        start = Duration.now()
        solver = clarabel.DefaultSolver(self.P, self.q, self.A, self.b, self.cones, settings)
        answer = solver.solve()
        taken = Duration.now() - start
        reduction = presolve(self.market)
        x = reduction.primal(np.asarray(answer.x)[: reduction.columns.size])
        return taken, str(answer.status), self.market.objective(x)


def quadratic(program: RiskProgram) -> RawProgram:
    """The QP of the risk-neutral market and of the market with complete contracts.

    As the package's solver gets it: limits of single variables are bounds, scenarios have weight
    1 and the largest cost is 1. Kinder to Clarabel than probabilities, and the same dispatch.
    """
    return _quadratic(program, np.ones(program.group.size))


def quadratic_expected(program: RiskProgram) -> RawProgram:
    """The same QP with scenarios weighted by probability: the objective the market is about."""
    return _quadratic(program, program.probability)


def _quadratic(program: RiskProgram, weights: np.ndarray[Any, Any]) -> RawProgram:
    reduced = presolve(program.weighted(weights)).program
    scale = 1.0 / max(abs(reduced.c).max(), abs(reduced.P.data).max(initial=0.0))
    lines = LinearCones.of(reduced)
    upper = sparse.csc_matrix(sparse.triu(reduced.P * scale))
    A = sparse.csc_matrix(lines.matrix)
    return RawProgram(program, upper, reduced.c * scale, A, lines.offset, lines.cones)


def conical(program: RiskProgram) -> RawProgram:
    """The second-order cone program of a risk-averse market, in the layout measured fastest."""
    handed: list[tuple[Any, ...]] = []

    def instead(*arguments: Any) -> ConicAnswer:
        handed.append(arguments)
        return ConicAnswer(
            status="failed", x=np.zeros(0), z=np.zeros(arguments[3].size), iterations=0
        )

    with mock.patch.object(conic, "solve_cones", instead):
        conic.solve_risk_conic(program)
    P, q, A, b, cones = handed[0]
    upper = sparse.csc_matrix(sparse.triu(P))
    return RawProgram(program, upper, q, sparse.csc_matrix(A), b, cones)
