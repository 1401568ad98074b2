"""What may be minimised of the groups' risk-adjusted costs, and how far an answer is from that.

With c_g the risk-adjusted cost of group g, everything she pays outside any scenario included,

    min  F(c_1, ..., c_G)   subject to the rows and bounds of a program and c_g <= most_g,

F convex and rising. At the optimum x solves the program in which cell k counts sigma_k = m_g tau_k,
m_g >= 0 the derivative of F in c_g plus the multiplier of c_g <= most_g (MODEL.md, "Which social
cost").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector, sum_by
from pypsa_p2p.solvers.presolve import Presolved, presolve
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram, Solution, Status
from pypsa_p2p.solvers.residuals import quadratic_residuals


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedSum:
    """The sum of w_g c_g; weight (G,)."""

    weight: Vector

    def value(self, cost: Vector) -> float:
        """F."""
        return float(self.weight @ cost)

    def broken(self, _: Vector, slope: Vector) -> float:
        """How far a slope, (G,), is from that of F, relative to its size."""
        size = float(self.weight.max(initial=0.0)) or 1.0
        return float(np.abs(slope - self.weight).max(initial=0.0)) / size


@dataclass(frozen=True, kw_only=True, eq=False)
class Largest:
    """The largest of c_g - beyond_g among some groups; beyond, among (G,)."""

    beyond: Vector
    among: Flags

    def value(self, cost: Vector) -> float:
        """F."""
        return float((cost - self.beyond)[self.among].max())

    def broken(self, cost: Vector, slope: Vector) -> float:
        """How far a slope, (G,), is from a subgradient of F, and what it loses, relative."""
        gap = self.value(cost) - (cost - self.beyond)
        size = max(1.0, float(np.abs(cost).max()))
        outside = float(np.maximum(-slope, 0.0).max()) + abs(float(slope.sum()) - 1.0)
        elsewhere = float(np.abs(slope[~self.among]).max(initial=0.0))
        return max(outside, elsewhere, float((slope * gap)[self.among].sum()) / size)


@dataclass(frozen=True, kw_only=True, eq=False)
class LogGains:
    """Minus the sum of w_g log(reference_g - c_g); reference, weight (G,).

    Gains in the unit that solvers see, (G,): what is usual of each.
    """

    reference: Vector
    weight: Vector
    unit: Vector

    def value(self, cost: Vector) -> float:
        """F; infinite where somebody gains nothing."""
        gain = self.reference - cost
        return float(-(self.weight @ np.log(gain))) if (gain > 0.0).all() else np.inf

    def broken(self, cost: Vector, slope: Vector) -> float:
        """How far a slope, (G,), is from w / gain, relative to it."""
        gain = self.reference - cost
        if not (gain > 0.0).all():
            return np.inf
        return float(np.abs(slope * gain / self.weight - 1.0).max())


Aim = WeightedSum | Largest | LogGains


@dataclass(frozen=True, kw_only=True, eq=False)
class WelfareProgram:
    """min F(c) subject to the rows and bounds of a program, and c_g <= most_g.

    Attributes
    ----------
    program : RiskProgram
        Its groups but the last, which is nobody's and costs nothing.
    payer : (n,)
        The group that each column belongs to; UNOWNED of none. It pays columns without a cell too.
    aim : WeightedSum, Largest or LogGains
        F.
    most : (G,)
        Limits of costs; infinite where there are none.
    paid : (G,)
        What groups pay besides, whatever is decided.
    expected : bool
        Whether all costs, in expectation, are added to F: the last choice among its optima.
    """

    program: RiskProgram
    payer: Labels
    aim: Aim
    most: Vector
    paid: Vector
    expected: bool = False

    @property
    def count(self) -> int:
        """G."""
        return int(self.most.size)

    @property
    def cells(self) -> int:
        """How many cells there are that are not nobody's; they are the first."""
        size = self.program.group.size
        return size - size // self.program.groups

    @property
    def in_expectation(self) -> Vector:
        """(K,) what cells count for in the expectation that is added."""
        p = self.program.probability.copy() * self.expected
        p[self.cells :] = 0.0
        return p

    @property
    def owned(self) -> Labels:
        """Columns of these cells."""
        return np.flatnonzero((self.program.cell >= 0) & (self.program.cell < self.cells))

    def outside(self, x: Vector) -> Vector:
        """(G,) what each group pays outside any scenario."""
        program = self.program
        free = (program.cell < 0) & (self.payer >= 0)
        return self.paid + sum_by(self.payer[free], program.cost_by_column(x)[free], self.count)

    def without_fixed(self) -> tuple[WelfareProgram, Presolved[RiskProgram]]:
        """The program without columns that cannot move, and the way back."""
        reduction = presolve(self.program)
        small = replace(
            self,
            program=reduction.program,
            payer=self.payer[reduction.columns],
            paid=self.outside(reduction.x_fixed),
        )
        return small, reduction

    def costs(self, x: Vector) -> Vector:
        """(G,) c, exact."""
        program = self.program
        return program.tail(program.costs(x)).value[:-1] + self.outside(x)

    def weighted(self, sigma: Vector, weight: Vector) -> QuadraticProgram:
        """The program in which cells count sigma, (K,), and what is paid outside them m, (G,)."""
        program = self.program
        of_payer = np.append(weight + float(self.expected), 1.0)[self.payer]
        by_column = np.where(program.cell < 0, of_payer, sigma[program.cell])
        whole = program.weighted(sigma)
        P = program.P.tocsc(copy=True)
        P.data = P.data * np.repeat(by_column, np.diff(P.indptr))
        return replace(whole, P=P, c=program.c * by_column)


@dataclass(frozen=True, kw_only=True, eq=False)
class WelfareSolution:
    """What a solver found.

    Attributes
    ----------
    status : {"optimal", "infeasible", "unbounded", "failed"}
    x, row_dual, bound_dual : (n,), (m,), (n,)
        Multipliers of the program in which cells count sigma.
    sigma : (K,)
        What each cell's cost counts for; 0 of what is nobody's.
    weight : (G,)
        m, their sums by group, without an expectation that is added.
    slope : (G,)
        The part of m that is the derivative of F.
    certificate : (rows,) or None
        Weights of rows that cannot hold together.
    """

    status: Status
    solver: str
    x: Vector
    row_dual: Vector
    bound_dual: Vector
    sigma: Vector
    weight: Vector
    slope: Vector
    certificate: Vector | None = None

    def tau(self, program: WelfareProgram) -> Vector:
        """(K,) sigma / m; where m is 0 one that attains the risk at x."""
        risk = program.program
        attained = risk.tail(risk.costs(self.x)).probability
        m = np.append(self.weight, 0.0)[risk.group]
        counts = m > 0.0
        of_risk = self.sigma - program.in_expectation
        return np.where(counts, of_risk / np.where(counts, m, 1.0), attained)

    def as_solution(self, program: WelfareProgram) -> tuple[QuadraticProgram, Solution]:
        """The program in which cells count sigma, and x as its solution."""
        qp = program.weighted(self.sigma, self.weight)
        return qp, Solution(
            status=self.status,
            x=self.x,
            row_dual=self.row_dual,
            bound_dual=self.bound_dual,
            objective=qp.objective(self.x),
            solver=self.solver,
        )


def no_welfare_solution(
    program: WelfareProgram, status: Status, solver: str, certificate: Vector | None = None
) -> WelfareSolution:
    """A solution that says why there is none; its arrays hold nan."""
    m, n = program.program.A.shape
    nothing = np.full(program.count, np.nan)
    return WelfareSolution(
        status=status,
        solver=solver,
        x=np.full(n, np.nan),
        row_dual=np.full(m, np.nan),
        bound_dual=np.full(n, np.nan),
        sigma=np.full(program.program.group.size, np.nan),
        weight=nothing,
        slope=nothing,
        certificate=certificate,
    )


def welfare_error(program: WelfareProgram, found: WelfareSolution) -> float:
    """The largest relative error of the conditions of an optimum, all worked out anew.

    x is feasible and optimal where cells count sigma; sigma_g is m_g times probabilities that
    attain her risk; the slope is one of F; and what m is beyond it holds c_g at most_g.
    """
    if found.status != "optimal" or not np.isfinite(found.x).all():
        return np.inf
    risk = program.program
    cost = program.costs(found.x)
    size = max(1.0, float(np.abs(cost).max()))
    of_cell = np.append(found.weight, 0.0)[risk.group]
    scale = max(float(found.weight.max()), float(program.expected), ACCURACY.tiny)
    sigma = found.sigma - program.in_expectation
    outside = np.maximum(of_cell * risk.least - sigma, sigma - of_cell * risk.most)
    outside = outside[: program.cells]
    sums = sum_by(risk.group, sigma, risk.groups)[:-1]
    attained = found.weight * (cost - program.outside(found.x))
    paid = sum_by(risk.group, sigma * risk.costs(found.x), risk.groups)[:-1]
    extra = found.weight - found.slope
    with np.errstate(invalid="ignore"):
        slack = np.where(np.isfinite(program.most), program.most - cost, 0.0)
    unlimited = np.where(np.isfinite(program.most), np.maximum(-extra, 0.0), np.abs(extra))
    errors = [
        quadratic_residuals(*found.as_solution(program)).worst,
        float(outside.max(initial=0.0)) / scale,
        float(np.abs(sums - found.weight).max()) / scale,
        float(np.abs(attained - paid).max()) / (scale * size),
        float(unlimited.max()) / scale,
        float(np.abs(extra * slack).max()) / (scale * size),
        float(np.maximum(-slack, 0.0).max()) / size,
        program.aim.broken(cost, found.slope),
    ]
    return float(np.max(np.nan_to_num(errors, nan=np.inf)))
