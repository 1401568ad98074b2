"""The problems the solvers take and the solutions they return, as plain arrays.

Nothing here knows PyPSA, linopy or prosumers. A *cell* is one prosumer (or the community) in
one scenario; a *group* is the set of cells of one prosumer, over which her risk is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector, sum_by
from pypsa_p2p.solvers.tail import Tail, worst

Status = Literal["optimal", "infeasible", "unbounded", "failed"]

UNOWNED = -1  # cell of a column that belongs to nobody


@dataclass(frozen=True, kw_only=True, eq=False)
class Constraints:
    """Rows and bounds: lower <= A x <= upper and x_lower <= x <= x_upper.

    Parameters
    ----------
    P
        (n, n) sparse, symmetric, both triangles stored, positive semidefinite.
    c
        (n,) linear cost.
    A
        (m, n) sparse.
    lower, upper
        (m,), possibly infinite; equal means equality.
    x_lower, x_upper
        (n,), possibly infinite.
    """

    P: Sparse
    c: Vector
    A: Sparse
    lower: Vector
    upper: Vector
    x_lower: Vector
    x_upper: Vector

    def __post_init__(self) -> None:
        m, n = self.A.shape
        if self.P.shape != (n, n):
            raise ValueError(f"P has shape {self.P.shape}, A has {n} columns")
        shapes = {"c": n, "x_lower": n, "x_upper": n, "lower": m, "upper": m}
        for name, length in shapes.items():
            if getattr(self, name).shape != (length,):
                shape = getattr(self, name).shape
                raise ValueError(f"{name} has shape {shape}, expected ({length},)")

    def cost_by_column(self, x: Vector) -> Vector:
        """(n,) each column's share x_i (c_i + (P x)_i / 2) of the cost."""
        return np.asarray(x * (self.c + 0.5 * (self.P @ x)))


@dataclass(frozen=True, kw_only=True, eq=False)
class QuadraticProgram(Constraints):
    """min 1/2 x'Px + c'x + constant subject to the rows and bounds of `Constraints`."""

    constant: float = 0.0

    def objective(self, x: Vector) -> float:
        """1/2 x'Px + c'x + constant."""
        return float(self.cost_by_column(x).sum() + self.constant)

    def gradient(self, x: Vector) -> Vector:
        """P x + c, of shape (n,)."""
        return np.asarray(self.P @ x + self.c)


@dataclass(frozen=True, kw_only=True, eq=False)
class RiskProgram(Constraints):
    """min (cost of unowned columns) + sum_g R_g[Pi_k, k in group g], MODEL.md section 3.

    Pi_k(x) = constant_k + sum_{i in k} c_i x_i + 1/2 sum_{i,j in k} P_ij x_i x_j   [EUR]
    R_g     = max sum_{k in g} tau_k Pi_k  over  least <= tau <= most, sum_{k in g} tau_k = 1

    P and c are *not* multiplied by probabilities. Every off-diagonal entry of P lies within
    one cell; an unowned column's cost enters the objective with weight 1.

    Parameters
    ----------
    cell
        (n,) the cell of each column, 0..K-1, or -1 for an unowned column.
    constant
        (K,) cost of each cell at x = 0, EUR.
    group
        (K,) the group of each cell, 0..G-1.
    probability
        (K,) positive; sums to 1 within each group.
    least, most
        (K,) ends of the envelope of tau, the risk-adjusted probability. Both are p where it is
        not free: of a neutral group, or one with one scenario.
    """

    cell: Labels
    constant: Vector
    group: Labels
    probability: Vector
    least: Vector
    most: Vector

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell.shape != self.c.shape or not self.constant.shape == self.group.shape:
            raise ValueError("cell needs one entry per column, constant and group one per cell")
        p = self.probability
        if np.any((self.least < 0.0) | (self.least > p) | (self.most < p)):
            raise ValueError("probability must lie between least and most, and these above 0")
        if np.any(self.probability <= 0.0):
            raise ValueError("probability must be positive")

    @property
    def groups(self) -> int:
        """G, the last of which holds what nobody pays in particular."""
        return int(self.group.max()) + 1

    @property
    def at_risk(self) -> Flags:
        """(K,) whether a cell's risk-adjusted probability is free to differ from p."""
        return np.asarray(self.most > self.least)

    @property
    def room(self) -> Vector:
        """(K,) width of the envelope of tau."""
        return self.most - self.least

    @property
    def to_assign(self) -> Vector:
        """(G,) what `least` leaves of each group's probability to where it costs most."""
        return sum_by(self.group, self.probability - self.least, self.groups)

    def per_column(self, values: Vector, unowned: float = 1.0) -> Vector:
        """(n,) the value of each column's cell, `unowned` for columns without one."""
        return np.append(values, unowned)[self.cell]

    def costs(self, x: Vector) -> Vector:
        """(K,) Pi_k(x), EUR, not weighted by probability."""
        owned = self.cell >= 0
        share = self.cost_by_column(x)[owned]
        return self.constant + sum_by(self.cell[owned], share, self.constant.size)

    def tail(self, costs: Vector) -> Tail:
        """R_g, value at risk and a risk-adjusted probability attaining R_g."""
        return worst(costs, self.least, self.most, self.group)

    def objective(self, x: Vector) -> float:
        """Exact objective: CVaR by sorting, nothing smoothed."""
        unowned = self.cost_by_column(x)[self.cell < 0].sum()
        return float(unowned + self.tail(self.costs(x)).value.sum())

    def weighted(self, weights: Vector) -> QuadraticProgram:
        """The quadratic program with cell k's cost multiplied by weights[k].

        With weights = tau of the optimum it has the same optimal value and the same prices
        (MODEL.md section 3).
        """
        by_column = self.per_column(weights)
        P = self.P.tocsc(copy=True)
        # Off-diagonal entries stay within a cell, so weighting columns keeps P symmetric.
        P.data = P.data * np.repeat(by_column, np.diff(P.indptr))
        return QuadraticProgram(
            P=P,
            c=self.c * by_column,
            A=self.A,
            lower=self.lower,
            upper=self.upper,
            x_lower=self.x_lower,
            x_upper=self.x_upper,
            constant=float(weights @ self.constant),
        )


Program = TypeVar("Program", QuadraticProgram, RiskProgram)


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """What a solver found, with linopy's signs: y = d objective / d right-hand side.

    Stationarity reads grad f = A'y + z; y >= 0 where a row's lower side is active, y <= 0
    where its upper side is, and the same for z and the bounds.

    Attributes
    ----------
    status
        "optimal" only if the solver's answer passed this package's own residual checks.
    x
        (n,).
    row_dual, bound_dual
        y, (m,) and z, (n,), in objective units per unit of the row or bound.
    objective
        At x; nan unless optimal.
    solver, iterations
        Who solved it and in how many iterations.
    certificate
        (m,) weights of the rows in a proof of infeasibility, or None. Rows with a nonzero
        weight cannot hold together.
    risk_adjusted_probability, value_at_risk
        tau, (K,) and eta, (G,), EUR; of risk programs only.
    """

    status: Status
    x: Vector
    row_dual: Vector
    bound_dual: Vector
    objective: float
    solver: str
    iterations: int = 0
    certificate: Vector | None = None
    risk_adjusted_probability: Vector | None = None
    value_at_risk: Vector | None = None


def no_solution(
    program: Constraints,
    status: Status,
    solver: str,
    iterations: int = 0,
    certificate: Vector | None = None,
) -> Solution:
    """A solution that says why there is none; its arrays hold nan."""
    m, n = program.A.shape
    return Solution(
        status=status,
        x=np.full(n, np.nan),
        row_dual=np.full(m, np.nan),
        bound_dual=np.full(n, np.nan),
        objective=np.nan,
        solver=solver,
        iterations=iterations,
        certificate=certificate,
    )
