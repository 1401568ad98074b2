"""Risk programs some of whose columns cost what a curve says: cones first, then Newton's method.

Around an answer a curve is a quadratic, so that a step of Newton's method is a risk program with
curvature in columns that are nobody's. Cones find the answer to begin with; what is returned is
the risk program in which these columns stand still at what they cost there at the margin. It has
the same optimum exactly if that margin is in the curve's envelope and attains its cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Labels, Sparse, Vector
from pypsa_p2p.solvers.backends.conic import solve_risk_conic
from pypsa_p2p.solvers.backends.interior_point import solve_risk_interior_point
from pypsa_p2p.solvers.curves import Curve
from pypsa_p2p.solvers.limits import from_reach, within_reach
from pypsa_p2p.solvers.program import UNOWNED, RiskProgram, Solution, no_solution
from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import risk_residuals

_STEPS = 6  # of Newton's method, at most


@dataclass(frozen=True, kw_only=True, eq=False)
class Curved:
    """Columns of a program that cost what a curve says, beside their c.

    Attributes
    ----------
    columns : (S,)
    curve : Curve
    """

    columns: Labels
    curve: Curve


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A solution, and the program without curves that it solves; how far it is from optimal."""

    program: RiskProgram
    solution: Solution
    error: float


def solve_curved(
    program: RiskProgram, curved: Sequence[Curved], good: float = ACCURACY.solver
) -> Answer:
    """Solve a risk program with curves and check the answer against it; `good` is good enough."""
    feasibility = solve_quadratic(_expected(program, curved).weighted(program.probability))
    if feasibility.status == "infeasible":
        return Answer(program=program, solution=feasibility, error=np.inf)
    near = within_reach(program)
    best = _near(near, curved, good)
    if near is not program and best.error < np.inf:
        best = _judged(program, curved, from_reach(program, near, best.solution))
    if near is not program and not best.error <= ACCURACY.acceptable_risk:
        best = _near(program, curved, good)
    if best.error <= ACCURACY.acceptable_risk or best.solution.status == "unbounded":
        return best
    failed = no_solution(program, "failed", best.solution.solver, best.solution.iterations)
    return replace(best, solution=failed)


def _near(program: RiskProgram, curved: Sequence[Curved], good: float) -> Answer:
    """By cones, and from there by Newton's method as far as it leads nearer."""
    best = _judged(program, curved, solve_risk_conic(program, curved))
    for _ in range(_STEPS):
        if not good < best.error < np.inf:
            break
        step = _step(program, curved, best.solution)
        if step is None or not step.error < best.error:
            break
        best = step
    return best


def _judged(program: RiskProgram, curved: Sequence[Curved], found: Solution) -> Answer:
    """How far a solution is from optimal, in the program and on the curves."""
    if found.status != "optimal" or not np.isfinite(found.x).all():
        return Answer(program=program, solution=found, error=np.inf)
    margin = np.asarray(program.A.T @ found.row_dual) + found.bound_dual - program.c
    c, still, x = program.c.copy(), np.zeros(program.c.size, dtype=bool), found.x.copy()
    scale = max(1.0, float(np.abs(found.objective)))
    errors = []
    for one in curved:
        tau, costs = margin[one.columns], found.x[one.columns]
        value = one.curve.worst(costs[None])[0][0]
        off = abs(tau.sum() - 1.0)
        outside = one.curve.outside(tau[None], one.curve.probability)[0]
        errors += [abs(value - tau @ costs) / scale, off, outside]
        c[one.columns] += tau
        still[one.columns] = True
        x[one.columns] = one.curve.raised(costs, tau)
    plain = replace(
        program,
        c=c,
        x_lower=np.where(still, x, program.x_lower),
        x_upper=np.where(still, x, program.x_upper),
    )
    solution = replace(
        found,
        x=x,
        bound_dual=np.where(still, 0.0, found.bound_dual),
        objective=plain.objective(x),
    )
    errors.append(risk_residuals(plain, solution).worst)
    return Answer(program=plain, solution=solution, error=float(np.nanmax(errors)))


def _expected(program: RiskProgram, curved: Sequence[Curved]) -> RiskProgram:
    """The program in which curves are their expectations, which every envelope holds."""
    c = program.c.copy()
    for one in curved:
        c[one.columns] += one.curve.probability
    return replace(program, c=c)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Piece:
    """A curve near an answer: what its columns cost, and more columns and rows beside them.

    Attributes
    ----------
    gradient : (S,)
        Costs of the columns.
    beside : (rows, more)
        The rows are minus each column plus this, at least 0, or 0 where `equal`.
    price, stiffness : (more,)
        What the columns beside cost.
    equal : bool
    """

    gradient: Vector
    beside: Sparse
    price: Vector
    stiffness: Vector
    equal: bool

    @classmethod
    def of(cls, curve: Curve, costs: Vector) -> _Piece:
        """Second order at costs, (S,); where there is none, the largest of them."""
        model, count = curve.model(costs), costs.size
        if model is None:
            return cls(
                gradient=np.zeros(count),
                beside=sp.csr_matrix(np.ones((count, 1))),
                price=np.ones(1),
                stiffness=np.zeros(1),
                equal=False,
            )
        level = np.column_stack([np.ones(count), model.along])
        return cls(
            gradient=model.gradient,
            beside=sp.hstack([sp.identity(count), level], format="csr"),
            price=np.zeros(count + 2),
            stiffness=np.append(model.stiffness, [0.0, 0.0]),
            equal=True,
        )


def _step(program: RiskProgram, curved: Sequence[Curved], at: Solution) -> Answer | None:
    """From an answer to that of the pieces there.

    What is hardly weighed has hardly any curvature: nothing moves far, as no step has to.
    """
    pieces = [_Piece.of(one.curve, at.x[one.columns]) for one in curved]
    c, (m, n) = program.c.copy(), program.A.shape
    for one, piece in zip(curved, pieces, strict=True):
        c[one.columns] += piece.gradient
    columns = np.concatenate([one.columns for one in curved])
    here = sp.csr_matrix(
        (np.ones(columns.size), (np.arange(columns.size), columns)), (columns.size, n)
    )
    beside = sp.block_diag([piece.beside for piece in pieces])
    stiffness = np.concatenate([piece.stiffness for piece in pieces])
    upper = [np.full(piece.beside.shape[0], 0.0 if piece.equal else np.inf) for piece in pieces]
    free, room = np.full(stiffness.size, np.inf), np.full(n, np.inf)
    room[columns] = ACCURACY.tie_rough * max(1.0, float(np.abs(at.x[columns]).max()))
    found = solve_risk_interior_point(
        replace(
            program,
            P=sp.block_diag([program.P, sp.diags(stiffness)], format="csc"),
            c=np.concatenate([c, *(piece.price for piece in pieces)]),
            A=sp.bmat([[program.A, None], [-here, beside]], format="csr"),
            lower=np.append(program.lower, np.zeros(columns.size)),
            upper=np.concatenate([program.upper, *upper]),
            x_lower=np.append(np.maximum(program.x_lower, at.x - room), -free),
            x_upper=np.append(np.minimum(program.x_upper, at.x + room), free),
            cell=np.append(program.cell, np.full(stiffness.size, UNOWNED)),
        )
    )
    if found.status != "optimal":
        return None
    own = replace(
        found,
        x=found.x[:n],
        row_dual=found.row_dual[:m],
        bound_dual=found.bound_dual[:n],
        solver=f"{at.solver}, {found.solver}" if "," not in at.solver else at.solver,
        iterations=at.iterations + found.iterations,
    )
    return _judged(program, curved, own)
