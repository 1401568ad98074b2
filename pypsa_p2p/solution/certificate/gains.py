"""What could be gained beside a market's answer: by prosumers alone, and by assets at its prices.

Programs are posed in the market's own scale, in which powers and prices are about 1. No decision
moves without end in them, only many times as far as the largest is: gains are concave in how
far one goes, so that who could gain farther off gains on the way. Nor does what stands idle cost
more than many times the largest price: nobody gains by it at less. So limits and costs of 1e9
that matter to nobody do not spoil the solvers' numbers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket
from pypsa_p2p.solution.certificate.scale import Scale
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector, sum_by
from pypsa_p2p.solvers.program import QuadraticProgram, RiskProgram
from pypsa_p2p.solvers.quadratic import solve_quadratic


def costs_held(game: HeldMarket) -> Vector:
    """Costs Pi of every prosumer as they are, (N, S), EUR; without capital costs."""
    program = held_by_others(game.program, game.compiled.owner, game.held)
    return program.costs(game.held).reshape(program.groups, -1)[:-1]


def best_responses(game: HeldMarket, scale: Scale) -> Vector:
    """The least costs Pi that each prosumer reaches alone, (N, S), EUR.

    Of constants these hold what scenarios differ in. Given the others' decisions nothing ties
    prosumers or scenarios together, so one quadratic program, the sum of all costs, holds all
    best responses; and since risk measures are monotone, costs at their least in every scenario
    have the least risk.

    Raises
    ------
    ConvergenceError
        The best responses could not be computed.
    """
    program = held_by_others(_at_near_costs(game, scale), game.compiled.owner, game.held)
    weighted = program.weighted(np.ones(program.group.size))
    near = _within(weighted, game.held, ACCURACY.reach * scale.power)
    best = solve_or_raise(near, "Best responses", scale.power, scale.cost)
    return program.costs(best).reshape(program.groups, -1)[:-1]


def saved_at(risk_adjusted: Vector, game: HeldMarket, scale: Scale) -> Vector:
    r"""How much each prosumer saves alone at given risk-adjusted probabilities, (N,), EUR.

    .. math:: \max_{x_n, K_n} \; c'(\hat K_n - K_n)
        + \sum_\omega \tau_n^\omega (\Pi_n(\hat x, \hat K) - \Pi_n(x, K))

    What she builds serves all scenarios, so that their costs have no least one by one. No measure
    is below its costs at any :math:`\tau` it allows: she saves no more by her own, and as much
    where tau is that of her best response.

    Parameters
    ----------
    risk_adjusted : (N, S)
        tau.

    Raises
    ------
    ConvergenceError
        The best responses could not be computed.
    """
    owner = game.compiled.owner
    program = held_by_others(_at_near_costs(game, scale), owner, game.held)
    qp = program.weighted(_with_nobody(risk_adjusted, program))
    near = _within(qp, game.held, ACCURACY.reach * scale.power)
    best = solve_or_raise(near, "Best responses", scale.power, scale.cost)
    saved = qp.cost_by_column(game.held) - qp.cost_by_column(best)
    return sum_by(owner[owner >= 0], saved[owner >= 0], len(risk_adjusted))


def saved_taking_prices(
    risk_adjusted: Vector, price: Vector, paid: Labels, game: HeldMarket, scale: Scale
) -> Vector:
    r"""How much each prosumer saves who may trade what she likes at given prices, (N,), EUR.

    .. math:: \max_{x_n} \sum_\omega \tau_n^\omega (\Pi_n(\hat x) - \Pi_n(x)
        + \zeta (\hat q - q))

    (1) is the market's affair, not hers. As in `saved_at` she saves no more by her own measure.

    Parameters
    ----------
    risk_adjusted : (N, S)
        tau.
    price : (columns,)
        What a unit more of each column is paid, EUR now per MW; 0 of what is no trade.
    paid : array of int
        Rows of (1).

    Raises
    ------
    ConvergenceError
        The best responses could not be computed.
    """
    owner, program = game.compiled.owner, _at_near_costs(game, scale)
    lower, upper = program.lower.copy(), program.upper.copy()
    lower[paid], upper[paid] = -np.inf, np.inf
    program = held_by_others(replace(program, lower=lower, upper=upper), owner, game.held)
    qp = program.weighted(_with_nobody(risk_adjusted, program))
    qp = replace(qp, c=qp.c + price)
    near = _within(qp, game.held, ACCURACY.reach * scale.power)
    best = solve_or_raise(near, "Best responses", scale.power, scale.cost)
    saved = qp.cost_by_column(game.held) - qp.cost_by_column(best)
    return sum_by(owner[owner >= 0], saved[owner >= 0], len(risk_adjusted))


def _with_nobody(risk_adjusted: Vector, program: RiskProgram) -> Vector:
    """tau of all cells, (K,): what is nobody's counts by its probability."""
    return np.append(risk_adjusted.ravel(), program.probability[risk_adjusted.size :])


def held_by_others(program: RiskProgram, owner: Labels, x: Vector) -> RiskProgram:
    """The program in which everybody decides against what the others are held at.

    A row that several prosumers share, such as (1), becomes one row for each, with what the
    others put into it moved to its limits; the cross term a q_mn q_nm of (7) becomes linear;
    what belongs to nobody stays. Limits that the held point breaks, if only by rounding, give
    way to it: `optimality.balances_and_limits` says by how much they are broken.
    """
    terms = sp.coo_matrix(program.P)
    own = owner[terms.row] == owner[terms.col]
    mine = sp.csc_matrix((terms.data[own], (terms.row[own], terms.col[own])), terms.shape)
    fixed = owner < 0
    return replace(
        _one_row_each(program, owner, x),
        P=mine,
        c=program.c + (program.P - mine) @ x,
        x_lower=np.where(fixed, x, np.minimum(program.x_lower, x)),
        x_upper=np.where(fixed, x, np.maximum(program.x_upper, x)),
    )


def _one_row_each(program: RiskProgram, owner: Labels, x: Vector) -> RiskProgram:
    terms = sp.coo_matrix(program.A)
    owners = int(np.max(owner, initial=-1)) + 2  # nobody counts as one
    pair = terms.row.astype(np.int64) * owners + owner[terms.col] + 1
    used, row = np.unique(pair, return_inverse=True)
    source = used // owners
    mine = sp.csr_matrix((terms.data, (row.ravel(), terms.col)), (used.size, x.size))
    activity = mine @ x
    others = (program.A @ x)[source] - activity
    lower, upper = program.lower[source], program.upper[source]
    return replace(
        program,
        A=mine,
        lower=np.where(lower == upper, activity, np.minimum(lower - others, activity)),
        upper=np.where(lower == upper, activity, np.maximum(upper - others, activity)),
    )


def gain_at_prices(
    game: HeldMarket, risk_adjusted: Vector, scale: Scale, held: Flags | None = None
) -> float:
    r"""How much all assets together would gain at the nodal prices, trades held, EUR.

    .. math:: \max_x \sum_{n, \omega} \Big[ \tau_n^\omega (\Pi_n(\hat x) - \Pi_n(x))
        - p_\omega \sum_t w_t \lambda_n (g_n(\hat x) - g_n(x)) \Big]

    over what prosumers decide beside their trades and what prices alone decide, g being what it
    feeds in. It is 0 exactly where such assets, storage included, are optimal at the prices: (17),
    (18) in general. No power moves farther than the largest is: what rounding in a price makes of
    a limit far away is no gain.

    Parameters
    ----------
    risk_adjusted : (N, S)
        tau.
    held : (columns,), optional
        What else stays as it is.
    """
    program, x = _at_near_costs(game, scale), game.held
    rows, rest = sp.csr_matrix(program.A), ~game.is_balance
    unbalanced = replace(
        program, A=rows[rest], lower=program.lower[rest], upper=program.upper[rest]
    )
    tau = _with_nobody(risk_adjusted, program)
    qp = held_by_others(unbalanced, game.compiled.owner, x).weighted(tau)
    fixed = ~game.assets | game.priced
    if held is not None:
        fixed = fixed | held
    room = np.where(game.energies, ACCURACY.reach * scale.power, scale.power)
    qp = replace(qp, c=qp.c - rows.T @ game.balance_price)
    qp = _within(qp, x, np.where(fixed, 0.0, room))
    best = solve_or_raise(qp, "Best uses of assets", scale.power, scale.cost)
    return max(0.0, qp.objective(x) - qp.objective(best))


def _at_near_costs(game: HeldMarket, scale: Scale) -> RiskProgram:
    """The program in which what stands idle costs, or earns, only many times the largest price."""
    program = game.program
    hours = game.unit / program.per_column(program.probability)
    most = ACCURACY.reach * scale.price * hours
    idle = (abs(game.held) <= ACCURACY.promised * scale.power) & (scale.price > 0.0)
    return replace(program, c=np.where(idle, np.clip(program.c, -most, most), program.c))


def _within(qp: QuadraticProgram, x: Vector, room: Vector | float) -> QuadraticProgram:
    """The program in which no column moves farther than `room` from x."""
    lower, upper = np.maximum(x - room, qp.x_lower), np.minimum(x + room, qp.x_upper)
    return replace(qp, x_lower=lower, x_upper=upper)


def solve_or_raise(
    qp: QuadraticProgram, what: str, power: float = 1.0, money: float = 1.0
) -> Vector:
    """The solution of a quadratic program that finds `what` a certificate needs.

    Parameters
    ----------
    power, money : float
        What 1 stands for while it is solved, MW and EUR; 0 where there is nothing to go by.

    Raises
    ------
    ConvergenceError
    """
    power, money = power or 1.0, money or 1.0
    posed = replace(
        qp,
        P=qp.P * (power**2 / money),
        c=qp.c * (power / money),
        constant=0.0,
        **{side: getattr(qp, side) / power for side in ("lower", "upper", "x_lower", "x_upper")},
    )
    # To a tenth of what is promised an answer still tells what can be gained.
    found = solve_quadratic(posed, acceptable=ACCURACY.promised / 10)
    if found.status != "optimal":
        raise ConvergenceError(
            f"{what} could not be computed ({found.solver}: {found.status}), so the solution is "
            "not certified. Check for costs and limits of very different size."
        )
    return np.asarray(power * found.x)
