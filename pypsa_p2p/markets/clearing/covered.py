r"""Risk whose envelope is no box, as columns and rows of the market's program (MODEL.md §3).

.. math:: R_n[\Pi_n] = \min_y \{ \max_\omega (\Pi_n^\omega - y^\omega) + R_n[y] \}

Whoever has such a measure is a prosumer who minds her worst case and privately buys cover y at its
price :math:`R_n[y]`, the linear program of `solvers.cover`. Stationarity in y says that her
risk-adjusted probabilities are in the envelope.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.solvers.curved import Curved
from pypsa_p2p.solvers.program import UNOWNED


def with_covers(problem: MarketProblem) -> MarketProblem:
    """The problem with cover in it, behind its own columns and rows."""
    program = problem.program
    scenarios = program.group.size // program.groups
    covered = [(group, cover) for group, cover in enumerate(problem.covers) if cover is not None]
    covers = [cover for _, cover in covered]
    of_costs = sp.block_diag([cover.of_costs for cover in covers])
    of_cover = sp.block_diag([cover.of_cover for cover in covers])
    rows = sp.hstack([-of_costs, of_cover])
    cells = [scenarios * group + np.arange(scenarios) for group, _ in covered]
    bought, paid = of_costs.shape[1], of_cover.shape[1]
    size, columns = bought + paid, program.c.size
    firsts = columns + bought + np.cumsum([0, *(cover.price.size for cover in covers[:-1])])
    least = np.where(np.concatenate([cover.free for cover in covers]), -np.inf, 0.0)
    extended = replace(
        program,
        P=sp.block_diag([program.P, sp.csc_matrix((size, size))], format="csc"),
        c=np.concatenate([program.c, -np.ones(bought), *(cover.price for cover in covers)]),
        A=sp.block_diag([program.A, rows], format="csr"),
        lower=np.append(program.lower, np.zeros(rows.shape[0])),
        upper=np.append(program.upper, np.full(rows.shape[0], np.inf)),
        x_lower=np.concatenate([program.x_lower, np.full(bought, -np.inf), least]),
        x_upper=np.append(program.x_upper, np.full(size, np.inf)),
        cell=np.concatenate([program.cell, *cells, np.full(paid, UNOWNED)]),
    )
    return replace(
        problem,
        program=extended,
        partner=sp.block_diag([problem.partner, sp.csr_matrix((size, size))], format="csr"),
        share=np.append(problem.share, np.ones(size)),
        aside=columns + np.arange(size),
        curved=tuple(
            Curved(columns=first + start + np.arange(scenarios), curve=curve)
            for first, cover in zip(firsts, covers, strict=True)
            for start, curve in cover.curves
        ),
    )
