"""Risk programs as second-order cone programs, by Clarabel: slower, and independent.

With u_k >= 0 the excess cost and eta_g the value at risk, cell k's epigraph (26) reads
1/2 |F_k x|^2 <= e_k, where e_k = eta_g + u_k - c_k'x - constant_k and F_k'F_k = P_k. As a cone,
1/2 |F x|^2 <= e  if and only if  |(e - s, sqrt(2 s) F x)| <= e + s, for any s > 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import clarabel
import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Labels, Sparse, Vector
from pypsa_p2p.solvers.backends.clarabel import LinearCones, solve_cones
from pypsa_p2p.solvers.curves import Curve
from pypsa_p2p.solvers.presolve import presolve
from pypsa_p2p.solvers.program import RiskProgram, Solution, no_solution

# Measured: one cone per cell is fastest up to a few quadratic terms, beyond it one cone per
# term under a linear epigraph.
_TERMS_IN_ONE_CONE = 4
_CONE_SCALE = 10.0  # s above: measured between 1 and 1000, most accurate on small markets


class CurvedColumns(Protocol):
    """Columns that cost what a curve says."""

    @property
    def columns(self) -> Labels:
        """(S,)."""

    @property
    def curve(self) -> Curve:
        """What they cost together."""


def solve_risk_conic(program: RiskProgram, curved: Sequence[CurvedColumns] = ()) -> Solution:
    """Solve a risk program with Clarabel; status "optimal" is Clarabel's claim, unchecked.

    Parameters
    ----------
    curved
        Columns that cost what curves say, beside their c.

    The objective is right to about 1e-8 (relative); where optima are degenerate or scenarios
    very unlikely, stationarity per unit of probability is not better than 1e-6.

    Returns
    -------
    Solution
        With tau and the value at risk. "infeasible" comes with row weights in `certificate`.
    """
    reduction = presolve(program)
    if reduction.certificate is not None:
        return no_solution(program, "infeasible", "presolve", 0, reduction.certificate)
    small = reduction.program
    cells = np.flatnonzero(small.at_risk)
    base = small.least.copy()
    linear = LinearCones.of(small)
    epigraphs = _epigraphs(small, cells)
    on_curves = _on_curves(small, [(one.curve, reduction.places(one.columns)) for one in curved])
    n, added = small.c.size, epigraphs.cost.size + on_curves.cost.size - small.c.size
    expected = small.weighted(base)
    lines, padding = linear.offset.size, sparse.csr_matrix((linear.offset.size, added))
    answer = solve_cones(
        sparse.block_diag([expected.P, sparse.csc_matrix((added, added))]),
        np.concatenate([expected.c + on_curves.cost[:n], epigraphs.cost, on_curves.cost[n:]]),
        sparse.vstack(
            [
                sparse.hstack([linear.matrix, padding]),
                -_spread(epigraphs.matrix, n, 0, on_curves.cost.size - n),
                -_spread(on_curves.matrix, n, epigraphs.cost.size, 0),
            ]
        ),
        np.concatenate([linear.offset, epigraphs.offset, on_curves.offset]),
        linear.cones + epigraphs.cones + on_curves.cones,
    )
    y, z = linear.multipliers(answer.z[:lines])
    if answer.status != "optimal":
        certificate = reduction.full_certificate(y) if answer.status == "infeasible" else None
        return no_solution(program, answer.status, "clarabel", answer.iterations, certificate)
    base[cells] += epigraphs.sigma @ answer.z[lines : lines + epigraphs.offset.size]
    x, iterations = answer.x[:n], answer.iterations
    return reduction.solution(x, y, z, solver="clarabel", iterations=iterations, tau=base)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Epigraphs:
    """Lines matrix @ (x, added variables) + offset in the cones; `cost` of what was added.

    `sigma` takes the lines' multipliers to those of the cells' epigraphs.
    """

    matrix: Sparse
    offset: Vector
    cones: list[Any]
    cost: Vector
    sigma: Sparse


@dataclass(frozen=True, kw_only=True, eq=False)
class _OnCurves:
    """Lines matrix @ (x, added variables) + offset in the cones; `cost` of both, beside c."""

    matrix: Sparse
    offset: Vector
    cones: list[Any]
    cost: Vector


def _on_curves(program: RiskProgram, placed: Sequence[tuple[Curve, Labels]]) -> _OnCurves:
    """What curves say of columns."""
    n = program.c.size
    own, added, offset, cones = [], [], [np.zeros(0)], []
    cost, price = np.zeros(n), [np.zeros(0)]
    for curve, columns in placed:
        found, count = curve.cones(), columns.size
        here = sparse.csr_matrix((np.ones(count), (np.arange(count), columns)), (count, n))
        own.append(found.matrix[:, :count] @ here)
        added.append(found.matrix[:, count:])
        offset.append(found.offset)
        cones += found.cones
        cost[columns] += found.of_costs
        price.append(found.price)
    nothing = sparse.csr_matrix((0, n))
    matrix = sparse.hstack([sparse.vstack(own), sparse.block_diag(added)]) if own else nothing
    return _OnCurves(
        matrix=sparse.csr_matrix(matrix),
        offset=np.concatenate(offset),
        cones=cones,
        cost=np.concatenate([cost, *price]),
    )


def _spread(matrix: Sparse, first: int, before: int, after: int) -> Sparse:
    """A matrix with columns of zeros before and after those behind the first."""
    matrix, rows = sparse.csc_matrix(matrix), matrix.shape[0]
    wider = [sparse.csr_matrix((rows, count)) for count in (before, after)]
    return sparse.hstack([matrix[:, :first], wider[0], matrix[:, first:], wider[1]], format="csr")


def _epigraphs(program: RiskProgram, cells: Labels) -> _Epigraphs:
    """Epigraphs of the given cells; added variables are eta, u and, where many terms, t."""
    n, count, groups = program.c.size, cells.size, program.groups
    position = np.full(program.group.size + 1, -1)
    position[cells] = np.arange(count)
    member = position[program.cell]  # of each column; -1 where not at risk
    factor, first_column = factor_of(program.P, np.flatnonzero(member >= 0))
    cell_of_term, terms = member[first_column], factor.shape[0]
    together = np.max(np.bincount(cell_of_term, minlength=1)) <= _TERMS_IN_ONE_CONE
    excess = _excess(program, cells, member, cell_of_term[:0] if together else cell_of_term)
    constant, width = -program.constant[cells], excess.shape[1]
    squares = sparse.hstack([factor, sparse.csr_matrix((terms, width - n))], format="csr")
    u = sparse.eye(count, width, k=n + groups)
    cost = np.zeros(width - n)
    cost[program.group[cells]] = program.to_assign[program.group[cells]]
    cost[groups : groups + count] = program.room[cells]
    if together:
        cone = rotated_cones(excess, constant, squares, cell_of_term)
        lines, offset = u, np.zeros(count)
        sigma = sparse.hstack([sparse.csr_matrix((count, count)), cone.heads])
    else:
        t = sparse.eye(terms, width, k=width - terms)
        cone = rotated_cones(t, np.zeros(terms), squares)
        lines = sparse.vstack([u, excess])
        offset = np.concatenate([np.zeros(count), constant])
        sigma = sparse.eye(count, 2 * count + cone.offset.size, k=count)
    return _Epigraphs(
        matrix=sparse.vstack([lines, cone.matrix]),
        offset=np.concatenate([offset, cone.offset]),
        cones=[clarabel.NonnegativeConeT(lines.shape[0]), *cone.cones],
        cost=cost,
        sigma=sigma,
    )


def _excess(program: RiskProgram, cells: Labels, member: Labels, of_term: Labels) -> Sparse:
    """eta + u - c'x - sum of t, one row per cell; t >= 1/2 (F x)^2, one per term given."""
    n, count, owned = program.c.size, cells.size, np.flatnonzero(member >= 0)
    here = np.arange(count)
    parts = [
        (-program.c[owned], (member[owned], owned), n),
        (np.ones(count), (here, program.group[cells]), program.groups),
        (np.ones(count), (here, here), count),
        (-np.ones(of_term.size), (of_term, np.arange(of_term.size)), of_term.size),
    ]
    blocks = [sparse.csr_matrix((v, at), shape=(count, width)) for v, at, width in parts]
    return sparse.hstack(blocks, format="csr")


@dataclass(frozen=True, kw_only=True, eq=False)
class RotatedCones:
    """Cones of 1/2 |squares|^2 <= head; `heads` takes multipliers to those of the heads."""

    matrix: Sparse
    offset: Vector
    cones: list[Any]
    heads: Sparse


def rotated_cones(
    head: Sparse, constant: Vector, squares: Sparse, of_square: Labels | None = None
) -> RotatedCones:
    """Lines (head + s, head - s, sqrt(2 s) squares) of every head in turn.

    Parameters
    ----------
    of_square : (squares,), optional
        The head that each square belongs to; default: its own.
    """
    count, s = head.shape[0], _CONE_SCALE
    of_square = np.arange(count) if of_square is None else of_square
    of_line = np.concatenate([np.arange(count), np.arange(count), of_square])
    order = np.argsort(of_line, kind="stable")
    stacked = sparse.vstack([head, head, np.sqrt(2.0 * s) * squares], format="csr")
    offset = np.concatenate([constant + s, constant - s, np.zeros(squares.shape[0])])
    heads = sparse.hstack(
        [sparse.eye(count), sparse.eye(count), sparse.csr_matrix((count, of_square.size))],
        format="csc",
    )
    return RotatedCones(
        matrix=stacked[order],
        offset=offset[order],
        cones=[clarabel.SecondOrderConeT(int(size)) for size in np.bincount(of_line)],
        heads=heads[:, order],
    )


def factor_of(P: Sparse, columns: Labels) -> tuple[Sparse, Labels]:
    """F with F'F = P on the given columns (rows of zeros left out), and a column of each row.

    P falls into small blocks (1 x 1, or 2 x 2 for the two directions of an edge); blocks of
    one size are factored together.
    """
    n = P.shape[0]
    block_P = sparse.csr_matrix(P[:, columns][columns, :])
    blocks, label = connected_components(block_P, directed=False)
    size = np.bincount(label, minlength=blocks)
    order = np.argsort(label, kind="stable")
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    values, rows, places, first = (
        [np.zeros(0)],
        [np.zeros(0, int)],
        [np.zeros(0, int)],
        [np.zeros(0, int)],
    )
    done = 0
    for width in np.unique(size):
        # (blocks of this size, width): the columns of each block
        members = order[start[size == width][:, None] + np.arange(width)]
        left, right = np.repeat(members, width, axis=1), np.tile(members, width)
        dense = np.asarray(block_P[left.ravel(), right.ravel()]).reshape(-1, width, width)
        eigenvalue, vector = np.linalg.eigh(dense)
        eigenvalue = np.where(
            eigenvalue > ACCURACY.no_curvature * eigenvalue[:, -1:], eigenvalue, 0.0
        )
        block, kept = np.nonzero(eigenvalue > 0.0)
        values.append((vector[block, :, kept] * np.sqrt(eigenvalue[block, kept])[:, None]).ravel())
        rows.append(np.repeat(done + np.arange(block.size), width))
        places.append(columns[members[block]].ravel())
        first.append(columns[members[block, 0]])
        done += block.size
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(places)))
    return sparse.csr_matrix(entries, shape=(done, n)), np.concatenate(first)
