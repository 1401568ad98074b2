"""What the physical grid adds to a certificate, where it delivers the trades (MODEL.md §6, §7).

The constraints that prosumers share are then reciprocity and PyPSA's own of the grid: balances
of its buses, limits and Kirchhoff's voltage law of its branches. At a variational equilibrium
all see one price at each bus of it. Prices being given, whoever runs the grid must have nothing
to gain; quantities being given, a prosumer may move as far as the grid has room for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pypsa
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.certificate.gains import solve_or_raise
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket
from pypsa_p2p.solution.certificate.scale import Scale, relative
from pypsa_p2p.solution.grid_prices import prices_at
from pypsa_p2p.solution.solved_market import require_common_grid_prices
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector
from pypsa_p2p.solvers.program import QuadraticProgram

Matrix = npt.NDArray[np.float64]


def require_known_grid(settings: Mapping[str, Any], what: str) -> None:
    """Refuse deliveries over the grid whose multipliers or losses the tables do not tell.

    Raises
    ------
    MarketError
    """
    if settings["delivery"] != "grid":
        return
    require_common_grid_prices(settings, what)
    losses = [name for name in settings["constraints"] if "-loss" in name]
    if losses:
        raise MarketError(
            f"{what} is not available for delivery='grid' with transmission losses: how PyPSA "
            f"was asked to approximate them ({listed(losses)}) is not in the network's tables. "
            "Solve without transmission_losses."
        )


def prices_by_prosumer(n: pypsa.Network, data: MarketData) -> xr.DataArray:
    """What the grid adds to each prosumer's price, mu/w, EUR/MWh now; 0 if it delivers nothing.

    Returns
    -------
    DataArray (scenario, snapshot, prosumer)
    """
    if data.sites is None:
        return xr.zeros_like(data.import_price)
    return prices_at(n, data, data.sites.bus, PROSUMER)


def grid_optimality(game: HeldMarket, scale: Scale) -> float:
    r"""How far flows and assets of the grid are from optimal at its prices, relative.

    Whoever runs the grid chooses flows f, the surplus and the dispatch of what is nobody's, x
    together, of cost C and with incidence K, so that

    .. math:: \nabla C(x) - K' \mu = A' y, \qquad
        y_i^+ (A x - \underline b)_i = 0, \quad y_i^- (\overline b - A x)_i = 0

    for multipliers y of all rows but the balances: Kirchhoff's voltage law (any sign), limits of
    branches and of assets (nonnegative). Of a line within its limits: prices at its ends differ
    by what the cycles through it are worth. The tables keep no y: the y taken are those that
    violate all the equations the least, a linear program; what is returned is what they do.

    Raises
    ------
    ConvergenceError
        The linear program could not be solved.
    """
    program, x = game.program, game.held
    mine = game.compiled.owner < 0
    rows = sp.csr_matrix(program.A)
    gradient = program.weighted(program.probability).gradient(x) - rows.T @ game.balance_price
    own = sp.csr_matrix(rows[:, mine])
    rest = ~game.is_balance & (np.diff(own.indptr) > 0)
    matrix = sp.vstack([own[rest], sp.identity(int(mine.sum()))], format="csr")
    activity = np.append((rows @ x)[rest], x[mine])
    lower = np.append(program.lower[rest], program.x_lower[mine])
    upper = np.append(program.upper[rest], program.x_upper[mine])
    price = scale.price or 1.0
    # Rows in MW, Kirchhoff's law too, which PyPSA states in large units.
    power = _size(matrix) * (scale.power or 1.0)
    violation = _least_violation(
        matrix @ sp.diags(1 / game.unit[mine]),
        # A limit takes up the cost of what is idle, however large.
        np.clip((gradient / game.unit)[mine] / price, -ACCURACY.far, ACCURACY.far),
        (activity - lower) / power,
        (upper - activity) / power,
        lower == upper,
    )
    return relative(violation * price, scale.price)


def _least_violation(
    effect: Sparse, wanted: Vector, below: Vector, above: Vector, equal: Flags
) -> float:
    r"""The least t for which :math:`|w - E' y| \le t` and products y x distance are at most t.

    Parameters
    ----------
    effect : (rows, columns)
        E; every row is scaled to entries of at most 1.
    wanted : (columns,)
        w.
    below, above : (rows,)
        Distances from the lower and the upper limit.
    equal : (rows,)
        Whether the limits are one and the same.
    """
    effect = sp.csr_matrix(sp.diags(1 / _size(effect)) @ effect)
    lower, upper = (
        np.flatnonzero(~equal & (room <= ACCURACY.near_limit)) for room in (below, above)
    )
    by = sp.vstack([effect[equal], effect[lower], -effect[upper]], format="csr").T
    either = int(equal.sum())
    distance = np.concatenate([np.zeros(either), below[lower], above[upper]]).clip(min=0)
    found = _least_multipliers(by, wanted, distance, either)
    unmet = np.max(abs(wanted - by @ found), initial=0.0)
    return float(max(unmet, np.max(found * distance, initial=0.0)))


def _least_multipliers(by: Sparse, wanted: Vector, distance: Vector, either: int) -> Vector:
    """The y of `_least_violation`, the first `either` of them of any sign."""
    equations, count = by.shape
    inner = np.flatnonzero(distance > 0)
    products = sp.csr_matrix((distance[inner], (np.arange(inner.size), inner)), (inner.size, count))
    t, less = np.ones((equations, 1)), -np.ones((inner.size, 1))
    free = np.full(equations, np.inf)
    least = np.append(np.full(either, -np.inf), np.zeros(count + 1 - either))
    qp = QuadraticProgram(
        P=sp.csc_matrix((count + 1, count + 1)),
        c=np.append(np.zeros(count), 1.0),
        A=sp.bmat([[by, t], [by, -t], [products, less]], format="csr"),
        lower=np.concatenate([wanted, -free, np.full(inner.size, -np.inf)]),
        upper=np.concatenate([free, wanted, np.zeros(inner.size)]),
        x_lower=least,
        x_upper=np.full(count + 1, np.inf),
    )
    return np.maximum(solve_or_raise(qp, "Multipliers of the grid"), least)[:-1]


def _size(matrix: Sparse) -> Vector:
    """The largest entry of every row; 1 where there is none."""
    largest = abs(sp.csr_matrix(matrix)).max(axis=1).toarray().ravel()
    return np.where(largest > 0, largest, 1.0)


def unpaid_rent(game: HeldMarket) -> float:
    r"""What users of the grid pay and its branches do not earn, EUR in expectation.

    .. math:: \sum_b \mu_b \Big( \sum_{n \text{ at } b} Q_n + s_b + x_b \Big)
        = \sum_\ell (\mu_{b_1(\ell)} - \mu_{b_0(\ell)}) f_\ell

    with s the surplus that leaves and x what the grid's own assets take. Bus by bus, so that one
    does not make up for another.
    """
    program = game.program
    touched = np.diff(sp.csr_matrix(program.A[:, game.compiled.owner < 0]).indptr) > 0
    of_grid = game.is_balance & touched
    unbalanced = (program.A @ game.held - program.upper)[of_grid]
    return float(np.sum(abs(game.balance_price[of_grid] * unbalanced)))


def with_room_on_the_grid(game: HeldMarket) -> HeldMarket:
    """The game in which a prosumer's net import may move as far as the grid lets it.

    Everybody else's trades and the grid's own assets stay; flows and the surplus that leaves at
    the connection follow her by Kirchhoff's laws, within the limits of all branches. Since she
    moves one quantity an hour, what the grid permits is an interval of it.
    """
    if not game.net_import.size:
        return game
    program, q = game.program, game.net_import
    balances = np.unique(sp.csc_matrix(program.A)[:, q].indices)
    balances = balances[game.is_balance[balances]]
    limits = {
        name: getattr(program, name).copy() for name in ("lower", "upper", "x_lower", "x_upper")
    }
    limits["lower"][balances], limits["upper"][balances] = -np.inf, np.inf
    limits["x_lower"][q], limits["x_upper"][q] = net_import_limits(game)
    return replace(game, program=replace(program, **limits))


def net_import_limits(game: HeldMarket) -> tuple[Vector, Vector]:
    """Least and most that every prosumer alone could take from the grid, MW; as `net_import`."""
    program, x = game.program, game.held
    matrix, activity = sp.csc_matrix(program.A), program.A @ x
    equal = program.lower == program.upper
    below, above = program.lower - activity, program.upper - activity
    limits = np.empty((2, x.size))
    laws, response = np.empty((0, 0)), np.empty((0, 0))
    hours = (_by_hour(game, columns) for columns in (game.net_import, game.flows))
    for mine, flows in zip(*hours, strict=True):  # networks are small
        taken = matrix[:, mine].indices
        rows = np.union1d(matrix[:, flows].indices, taken[game.is_balance[taken]])
        block = matrix[:, np.append(flows, mine)][rows].toarray()
        if not np.array_equal(laws, block[equal[rows]]):  # most hours share their laws
            laws = block[equal[rows]]
            response = _response(laws, mine.size)
        limited = rows[~equal[rows]]
        room = _room(
            np.vstack([block[~equal[rows], : flows.size] @ response, response]),
            np.append(below[limited], (program.x_lower - x)[flows]),
            np.append(above[limited], (program.x_upper - x)[flows]),
        )
        limits[:, mine] = x[mine] + np.where(np.isnan(response).any(axis=0), 0.0, room)
    return limits[0, game.net_import], limits[1, game.net_import]


def _by_hour(game: HeldMarket, columns: Labels) -> Labels:
    """Columns that every hour of every scenario has alike, (hours, number in one)."""
    hour = game.hour[columns]
    return columns[np.argsort(hour, kind="stable")].reshape(np.unique(hour).size, -1)


def _response(block: Matrix, prosumers: int) -> Matrix:
    """How flows and surplus follow one more MW of each prosumer; nan where they cannot."""
    scaled = block / np.maximum(abs(block).max(axis=1, keepdims=True), np.finfo(float).tiny)
    laws, taken = scaled[:, :-prosumers], scaled[:, -prosumers:]
    response = -np.linalg.lstsq(laws, taken, rcond=None)[0]
    unmet = abs(laws @ response + taken).max(axis=0, initial=0.0)
    return np.where(unmet > ACCURACY.no_effect, np.nan, response)


def _room(slope: Matrix, below: Vector, above: Vector) -> Matrix:
    """Least and most of a quantity that moves others by `slope`, (2, quantities)."""
    moved = abs(slope) > ACCURACY.no_effect
    safe = np.where(moved, slope, 1.0)
    ends = np.stack([below.clip(max=0)[:, None] / safe, above.clip(min=0)[:, None] / safe])
    least = np.where(moved, ends.min(axis=0), -np.inf)
    most = np.where(moved, ends.max(axis=0), np.inf)
    return np.stack([least.max(axis=0, initial=-np.inf), most.min(axis=0, initial=np.inf)])
