"""Welfare programs as cone programs, by Clarabel.

e_k >= Pi_k is a line and a second-order cone for each square in Pi_k, and of
t_g <= log((reference_g - z_g) / unit_g) each is an exponential cone. The rest are lines of
`welfare_lines`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from pypsa_p2p.solvers.arrays import Labels, Sparse, Vector
from pypsa_p2p.solvers.backends.clarabel import LinearCones, solve_cones
from pypsa_p2p.solvers.backends.conic import factor_of, rotated_cones
from pypsa_p2p.solvers.welfare import (
    LogGains,
    WelfareProgram,
    WelfareSolution,
    no_welfare_solution,
)
from pypsa_p2p.solvers.welfare_lines import Lines, WelfareLines


def solve_welfare_conic(whole: WelfareProgram, regularisation: float) -> WelfareSolution:
    """Solve a welfare program with Clarabel; status "optimal" is Clarabel's claim, unchecked."""
    small, reduction = whole.without_fixed()
    if reduction.certificate is not None:
        return no_welfare_solution(whole, "infeasible", "presolve", reduction.certificate)
    cones = _Cones.of(small)
    linear, lines = LinearCones.of(small.program), cones.lines
    added = lines.columns - small.program.c.size
    padding = sparse.csr_matrix((linear.offset.size, added))
    parts = [cones.costs, lines.excess, lines.sums, lines.limits, lines.level]
    curved = [cones.squares, cones.logarithms]
    every = [*parts, *(of_cones for of_cones, _ in curved)]
    answer = solve_cones(
        sparse.csc_matrix((lines.columns, lines.columns)),
        cones.objective,
        sparse.vstack(
            [
                sparse.hstack([linear.matrix, padding]),
                *(-part.matrix for part in every),
            ]
        ),
        np.concatenate([linear.offset, *(part.offset for part in every)]),
        [
            *linear.cones,
            *(clarabel.NonnegativeConeT(part.offset.size) for part in parts),
            *(cone for _, each in curved for cone in each),
        ],
        regularisation,
    )
    ends = np.cumsum([linear.offset.size, *(part.offset.size for part in parts)])
    of_linear, of_costs, _, of_sums, of_limits = np.split(answer.z, ends)[:5]
    y, z = linear.multipliers(of_linear)
    if answer.status != "optimal":
        proof = reduction.full_certificate(y) if answer.status == "infeasible" else None
        return no_welfare_solution(whole, answer.status, "clarabel", proof)
    sigma = np.append(of_costs, np.zeros(whole.program.group.size - whole.cells))
    extra = np.zeros(whole.count)
    extra[lines.limited] = of_limits
    x = reduction.primal(answer.x[: small.program.c.size])
    gradient = whole.weighted(sigma, of_sums).gradient(x)
    row_dual, bound_dual = reduction.dual(y, z, gradient)
    return WelfareSolution(
        status="optimal",
        solver="clarabel",
        x=x,
        row_dual=row_dual,
        bound_dual=bound_dual,
        sigma=sigma,
        weight=of_sums,
        slope=of_sums - extra,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cones:
    """What is curved in a welfare program; t of `lines` are squares, then logarithms.

    Attributes
    ----------
    factor, of_square : (squares, n), (squares,)
        F with F'F = P, and the cell of each of its rows.
    """

    lines: WelfareLines
    factor: Sparse
    of_square: Labels

    @classmethod
    def of(cls, whole: WelfareProgram) -> _Cones:
        """Of a program without fixed columns."""
        program = whole.program
        factor, first = factor_of(program.P, whole.owned)
        logarithms = whole.count if isinstance(whole.aim, LogGains) else 0
        lines = WelfareLines.of(whole, factor.shape[0] + logarithms)
        return cls(lines=lines, factor=factor, of_square=program.cell[first])

    @property
    def objective(self) -> Vector:
        """F."""
        cost, aim = self.lines.objective, self.lines.whole.aim
        if isinstance(aim, LogGains):
            cost[self.lines.place("t")][self.of_square.size :] = -aim.weight
        return cost

    @property
    def costs(self) -> Lines:
        """e_k - c'x - constant_k - sum of t."""
        whole, squares = self.lines.whole, self.of_square.size
        program, cells, owned = whole.program, whole.cells, whole.owned
        cost = sparse.csr_matrix(
            (-program.c[owned], (program.cell[owned], owned)), (cells, program.c.size)
        )
        t = sparse.csr_matrix(
            (-np.ones(squares), (self.of_square, np.arange(squares))), (cells, self.lines.own)
        )
        matrix = self.lines.block(cells, x=cost, e=sparse.identity(cells), t=t)
        return Lines(matrix=matrix, offset=-program.constant[:cells])

    @property
    def squares(self) -> tuple[Lines, list[Any]]:
        """t >= 1/2 (F x)^2."""
        count = self.of_square.size
        t = self.lines.block(count, t=sparse.eye(count, self.lines.own))
        cones = rotated_cones(t, np.zeros(count), self.lines.block(count, x=self.factor))
        return Lines(matrix=cones.matrix, offset=cones.offset), cones.cones

    @property
    def logarithms(self) -> tuple[Lines, list[Any]]:
        """(t_g, 1, (reference_g - z_g) / unit_g) in the exponential cone."""
        lines, aim = self.lines, self.lines.whole.aim
        if not isinstance(aim, LogGains):
            return Lines(matrix=lines.block(0), offset=np.zeros(0)), []
        count = lines.whole.count
        t = lines.block(count, t=sparse.eye(count, lines.own, k=self.of_square.size))
        z = lines.costs_of(np.arange(count))
        per_unit = sparse.diags(1.0 / aim.unit)
        stacked = sparse.vstack([t, lines.block(count), -per_unit @ z], format="csr")
        offset = np.concatenate([np.zeros(count), np.ones(count), aim.reference / aim.unit])
        order = np.arange(3 * count).reshape(3, count).T.ravel()
        cones = [clarabel.ExponentialConeT() for _ in range(count)]
        return Lines(matrix=stacked[order], offset=offset[order]), cones
