"""Small markets and programs for the tests of the numeric solvers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pypsa_p2p.solvers.presolve import presolve
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram
from pypsa_p2p.solvers.tail import Tail, worst

Array = npt.NDArray[np.float64]


def market(
    *,
    edges: Array,
    price: Array,
    capacity: Array,
    demand: Array,
    renewable: Array,
    utility: Array,
    curvature: Array,
    marginal: Array,
    fixed: Array,
    generation_max: Array,
    demand_max: float,
    probability: Array,
    attitude: Array,
    import_price: Array | float = 0.0,
    surplus: bool = True,
    weight: float = 1.0,
    community: bool = False,
) -> RiskProgram:
    """MODEL.md sections 1-3 with every limit a singleton row of its own.

    Columns D, G (N each) and q (one per direction: first q_mn then q_nm of every edge) for
    every scenario and snapshot; demand and renewable are (S, T, N), import_price (S, T).
    price and capacity are (2E,), ordered as q.
    """
    scenarios, snapshots, prosumers = demand.shape
    blocks, count = scenarios * snapshots, len(edges)
    width = 2 * prosumers + 2 * count
    buyer = np.concatenate([edges[:, 0], edges[:, 1]])
    owner = np.concatenate([np.arange(prosumers), np.arange(prosumers), buyer])
    incidence = sparse.csr_matrix(
        (np.ones(2 * count), (buyer, np.arange(2 * count))), shape=(prosumers, 2 * count)
    )
    identity = sparse.eye(prosumers)
    balance = sparse.hstack([identity, -identity, -incidence])
    pairs = sparse.hstack([sparse.eye(count), sparse.eye(count)])
    reciprocity = sparse.hstack([sparse.csr_matrix((count, 2 * prosumers)), pairs])
    block = sparse.vstack([balance, reciprocity, sparse.eye(width), -sparse.eye(width)])

    row_lower = np.full((blocks, block.shape[0]), -np.inf)
    row_upper = np.zeros((blocks, block.shape[0]))
    row_lower[:, :prosumers] = row_upper[:, :prosumers] = renewable.reshape(blocks, prosumers)
    if not surplus:
        row_lower[:, prosumers : prosumers + count] = 0.0
    limits = np.concatenate([np.full(prosumers, demand_max), generation_max, capacity])
    start = prosumers + count
    row_upper[:, start : start + width] = limits
    row_upper[:, start + width + 2 * prosumers :] = np.inf  # quantities may be negative

    P = np.concatenate([2.0 * utility, curvature, np.zeros(2 * count)])
    p0 = np.broadcast_to(import_price, (scenarios, snapshots)).reshape(blocks, 1)
    c = np.hstack(
        [
            -2.0 * utility * demand.reshape(blocks, prosumers),
            np.broadcast_to(marginal, (blocks, prosumers)),
            price + p0,
        ]
    )
    scenario = np.repeat(np.arange(scenarios), snapshots)
    cells = scenarios if community else scenarios * prosumers
    cell = scenario[:, None] + (0 if community else scenarios) * owner[None, :]
    benefit = (fixed + utility * demand**2).sum(axis=1)  # (S, N)
    least, most = (end.ravel() for end in envelope(probability, attitude, weight))
    return RiskProgram(
        P=sparse.diags(np.tile(P, blocks)).tocsc(),
        c=c.ravel(),
        A=sparse.kron(sparse.eye(blocks), block).tocsr(),
        lower=row_lower.ravel(),
        upper=row_upper.ravel(),
        x_lower=np.full(blocks * width, -np.inf),
        x_upper=np.full(blocks * width, np.inf),
        cell=cell.ravel().astype(np.int64),
        constant=benefit.sum(axis=1) if community else benefit.T.ravel(),
        group=np.arange(cells) // scenarios,
        probability=np.tile(probability, cells // scenarios),
        least=least,
        most=most,
    )


def envelope(probability: Array, attitude: Array, weight: float) -> tuple[Array, Array]:
    """Least and most tau, (G, S), of CVaR mixed with the expectation."""
    p, chi = probability[None], attitude[:, None]
    least = (1 - weight) * p + 0 * chi
    free = (chi > 0) & (weight > 0) & (probability.size > 1)
    return np.where(free, least, p), np.where(free, least + weight * p / (1 - chi), p)


def cvar(values: Array, probability: Array, attitude: Any, group: Any = None) -> Tail:
    """CVaR of every group's costs."""
    each = np.atleast_1d(attitude)[0 if group is None else group]
    return worst(values, np.zeros(values.size), probability / (1 - each), group)


def random_market(
    prosumers: int = 6, scenarios: int = 5, snapshots: int = 1, seed: int = 0, **changes: Any
) -> RiskProgram:
    """A market of random prosumers on a ring with chords."""
    rng = np.random.default_rng(seed)
    ring = np.arange(prosumers)
    chords = np.column_stack([ring[::2], (ring[::2] + prosumers // 2) % prosumers])
    edges = np.vstack([np.column_stack([ring, (ring + 1) % prosumers]), chords])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    shape = (scenarios, snapshots, prosumers)
    data: dict[str, Any] = {
        "edges": edges,
        "price": rng.uniform(0.0, 3.0, 2 * len(edges)),
        "capacity": rng.uniform(3.0, 10.0, 2 * len(edges)),
        "demand": rng.uniform(0.0, 10.0, shape),
        "renewable": rng.uniform(0.0, 5.0, shape),
        "utility": rng.uniform(0.2, 1.0, prosumers),
        "curvature": rng.uniform(0.1, 1.0, prosumers),
        "marginal": rng.uniform(0.0, 0.5, prosumers),
        "fixed": rng.uniform(-1.0, 1.0, prosumers),
        "generation_max": np.where(rng.random(prosumers) < 0.5, 10.0, 0.0),
        "demand_max": 20.0,
        "probability": np.full(scenarios, 1.0 / scenarios),
        "attitude": rng.uniform(0.05, 0.95, prosumers),
        "import_price": rng.uniform(0.5, 1.5, (scenarios, snapshots)),
    }
    return market(**(data | changes))


def three_nodes(attitude: Array | None = None, **changes: Any) -> RiskProgram:
    """The three-node instance of MODEL.md section 9."""
    chi = np.array([0.06910997716902567, 0.7617642865089619, 0.9838119468874024])
    usage = np.array([0.43213666201039447, 0.3942880799602334, 0.8721268085292664])
    fixed = np.array([0.25656978557764465, 0.27860408681196946, 0.23100499807342023])
    renewable = [
        [2.8952561281927793, 2.2482975304187205, 0.5027259399294237],
        [1.658678780789261, 2.914545741971315, 2.351888189670447],
        [0.11592935698388074, 2.281324802297712, 0.37504136746821126],
    ]
    demand = [
        [1.3827676991716693, 0.08358222382569913, 3.426548494393181],
        [7.273058131105369, 5.5669381779891385, 4.775982414126223],
        [2.14630133232448, 5.392322110174859, 6.529404724500087],
    ]
    data: dict[str, Any] = {
        "edges": np.array([[0, 1], [0, 2], [1, 2]]),
        "price": np.array([1.0, 1.0, 1.0, 3.0, 2.0, 1.0]),
        "capacity": np.array([10.0, 10.0, 5.0, 10.0, 10.0, 5.0]),
        "demand": np.array(demand).T[:, None, :],
        "renewable": np.array(renewable).T[:, None, :],
        "utility": np.array([0.36030143572119644, 0.8194188912652529, 0.7073792742889289]),
        "curvature": np.array([0.5353027996733363, 0.2743886024182589, 0.6880650530486562]),
        "marginal": np.array([0.048638223979889705, 0.18135310781459213, 0.0550926893600856]),
        "fixed": fixed - usage,
        "generation_max": np.array([10.0, 0.0, 0.0]),
        "demand_max": 10.0,
        "probability": np.full(3, 1.0 / 3.0),
        "attitude": chi if attitude is None else attitude,
        "surplus": False,
    }
    return market(**(data | changes))


def quadratic_program(
    P: Any, c: Any, A: Any, lower: Any, upper: Any, x_lower: Any = None, x_upper: Any = None
) -> QuadraticProgram:
    """A small dense program; bounds default to infinite."""
    n = len(c)
    return QuadraticProgram(
        P=sparse.csc_matrix(np.diag(np.asarray(P, float)) if np.ndim(P) == 1 else P),
        c=np.asarray(c, float),
        A=sparse.csr_matrix(np.asarray(A, float).reshape(-1, n)),
        lower=np.asarray(lower, float),
        upper=np.asarray(upper, float),
        x_lower=np.full(n, -np.inf) if x_lower is None else np.asarray(x_lower, float),
        x_upper=np.full(n, np.inf) if x_upper is None else np.asarray(x_upper, float),
    )


def neutral(program: RiskProgram) -> QuadraticProgram:
    return program.weighted(program.probability)


def without_rows(program: RiskProgram) -> tuple[RiskProgram, Array]:
    """The same program with every singleton row turned into a bound, and the rows kept."""
    rows = np.diff(program.A.indptr) > 1
    small = presolve(program)
    bounds = {"x_lower": small.bounds.lower, "x_upper": small.bounds.upper}
    kept = {"A": program.A[rows], "lower": program.lower[rows], "upper": program.upper[rows]}
    return replace(program, **bounds, **kept), np.flatnonzero(rows)


def one_scenario(program: RiskProgram, scenario: int) -> RiskProgram:
    """One scenario's block of a market as a market of its own."""
    scenarios = np.unique(program.group, return_counts=True)[1][0]
    cells = np.arange(program.group.size) % scenarios == scenario
    columns = cells[program.cell]
    rows = np.asarray(abs(program.A) @ columns.astype(float)) > 0
    number = np.cumsum(cells) - 1
    return replace(
        program,
        P=program.P[:, columns][columns, :],
        c=program.c[columns],
        A=program.A[rows][:, columns],
        lower=program.lower[rows],
        upper=program.upper[rows],
        x_lower=program.x_lower[columns],
        x_upper=program.x_upper[columns],
        cell=number[program.cell[columns]],
        constant=program.constant[cells],
        group=program.group[cells],
        probability=np.ones(cells.sum()),
        least=np.ones(cells.sum()),
        most=np.ones(cells.sum()),
    )
