"""Contracts as columns and rows of the market's program (MODEL.md §5, (43)).

With V_n^s what n's contracts pay her in scenario s, W_n^k the units she bought of contract k
(negative: sold) and J_n^s >= 0 her insurance,

    min  sum_n R_n[Pi_n - V_n] + sum_n,s gamma_s J_n^s
    s.t. V_n^s = sum_k payoff_k^s W_n^k + J_n^s,   sum_n W_n^k = 0,   -limit <= W <= limit.

Stationarity in W and J: alpha_k = sum_s payoff_k^s tau_n^s within the limits, alpha the multiplier
of clearing, and tau_n <= gamma with equality where n insures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import null_space

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.clearing.volumes import Covered, Hedges, Position, least_volumes
from pypsa_p2p.markets.contract_terms import Terms
from pypsa_p2p.solvers.arrays import Sparse, Vector
from pypsa_p2p.solvers.cover import Attained
from pypsa_p2p.solvers.program import UNOWNED, RiskProgram
from pypsa_p2p.solvers.sides import Sides

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class WithContracts:
    """A market's problem with contracts in it, behind its own columns and rows.

    Attributes
    ----------
    problem : MarketProblem
    columns, rows : int
        How many of the program's are the market's own; then come V, W and J, and the rows that
        define V, those of clearing and those that make the volumes finite.
    clearing : slice
        Rows of clearing; none where the community is told apart by nobody.
    unit : float
        EUR in which V, W and J are counted: with the largest price within reach, their prices are
        of the size of those of energy, and as exact.
    """

    problem: MarketProblem
    columns: int
    rows: int
    clearing: slice
    unit: float

    def found(self, x: Vector, row_dual: Vector) -> Hedges | None:
        """The contracts a solver chose; None where only the community's insurance is known."""
        terms, groups = self.problem.terms, self.problem.program.groups - 1
        if terms is None or groups == 1:
            return None
        contracts, scenarios = terms.payoff.shape
        bought = self.unit * x[self.columns + groups * scenarios :]
        volume, insurance = np.split(bought, [groups * contracts])
        insurance = insurance if insurance.size else np.zeros(groups * scenarios)
        return Hedges(
            volume=volume.reshape(groups, contracts).T,
            insurance=np.maximum(insurance, 0.0).reshape(groups, scenarios).T,
            price=-row_dual[self.clearing] / self.unit,
        )


def with_contracts(problem: MarketProblem, terms: Terms) -> WithContracts:
    """Add contracts to a problem.

    Where its groups are the community as a whole, contracts inside it cancel and only insurance
    remains.
    """
    program = problem.program
    n, m = program.c.size, program.A.shape[0]
    groups = program.groups - 1
    scenarios = program.group.size // program.groups
    contracts = len(terms.names) if groups > 1 else 0
    insured = terms.insurance_price is not None
    paid = groups * scenarios
    rows = _rows(terms, groups, contracts, insured)
    clearing = m + paid
    costs = np.abs(program.c)
    unit = float(costs.max(initial=1.0, where=costs <= ACCURACY.far))  # not of what is never used
    columns = _Columns.of(terms, program, groups, contracts, unit)
    size = columns.c.size
    extended = replace(
        program,
        P=sp.block_diag([program.P, sp.csc_matrix((size, size))], format="csc"),
        c=np.append(program.c, columns.c),
        A=sp.block_diag([program.A, rows], format="csr"),
        lower=np.append(program.lower, np.zeros(rows.shape[0])),
        upper=np.append(program.upper, np.zeros(rows.shape[0])),
        x_lower=np.append(program.x_lower, columns.lower),
        x_upper=np.append(program.x_upper, columns.upper),
        cell=np.append(program.cell, columns.cell),
    )
    partner = sp.block_diag([problem.partner, sp.csr_matrix((size, size))], format="csr")
    return WithContracts(
        problem=replace(
            problem,
            program=extended,
            partner=partner,
            share=np.append(problem.share, np.ones(size)),
        ),
        columns=n,
        rows=m,
        clearing=slice(clearing, clearing + contracts),
        unit=unit,
    )


def _rows(terms: Terms, groups: int, contracts: int, insured: bool) -> Sparse:
    """V - payoff W - J = 0, clearing, and what keeps volumes finite; in the columns (V, W, J)."""
    scenarios = terms.payoff.shape[1]
    paid = groups * scenarios
    payout = sp.kron(sp.identity(groups), terms.payoff.T[:, :contracts])
    rest = [-sp.identity(paid)] if insured else []
    blocks = [[sp.identity(paid), -payout, *rest]]
    nothing = [None] if insured else []
    if contracts:
        blocks.append([None, sp.kron(np.ones((1, groups)), sp.identity(contracts)), *nothing])
        idle = _idle_portfolios(terms.payoff) if terms.limit is None else np.empty((0, contracts))
        if len(idle) and groups > 1:
            first = sp.identity(groups, format="csr")[: groups - 1]
            blocks.append([None, sp.kron(first, idle), *nothing])
    return sp.bmat(blocks, format="csr")


def _idle_portfolios(payoff: Matrix) -> Matrix:
    """Combinations of contracts that pay the same in every scenario, (r, K), orthonormal.

    One unit of it costs what it pays, so that without limits any amount is as good as none;
    they are held at none, which takes no choice away from anybody.
    """
    spread = payoff - payoff.mean(axis=1, keepdims=True)
    return np.asarray(null_space(spread.T).T)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Columns:
    """Costs, cells and bounds of V, W and J, each by group first."""

    c: Vector
    cell: npt.NDArray[np.int64]
    lower: Vector
    upper: Vector

    @classmethod
    def of(
        cls, terms: Terms, program: RiskProgram, groups: int, contracts: int, unit: float
    ) -> _Columns:
        """The columns, in `unit`, of so many groups and contracts; J only where it is sold.

        V lowers the cost of its own cell; W costs nothing and J gamma, outside any risk measure.
        J is held at 0 where gamma is as much as a EUR can be worth, or more.
        """
        cells = groups * terms.payoff.shape[1]
        volume = _most_volume(terms, program, groups, contracts).ravel() / unit
        free = np.full(cells, np.inf)
        insurance, price = np.empty(0), np.empty(0)
        if terms.insurance_price is not None:
            price = np.tile(terms.insurance_price, groups)
            insurance = np.where(program.most[:cells] > price, np.inf, 0.0)
        return cls(
            c=unit * np.concatenate([-np.ones(cells), np.zeros(volume.size), price]),
            cell=np.append(np.arange(cells), np.full(volume.size + price.size, UNOWNED)),
            lower=np.concatenate([-free, -volume, np.zeros(price.size)]),
            upper=np.concatenate([free, volume, insurance]),
        )


def _most_volume(terms: Terms, program: RiskProgram, groups: int, contracts: int) -> Matrix:
    """Upper limits of W, (G, K); lower ones are minus these.

    Between two risk-neutral prosumers any volume is as good as none, so that without limits one
    of them trades for all.
    """
    if terms.limit is not None:
        return terms.limit.T[:, :contracts]
    neutral = np.flatnonzero(program.to_assign[:groups] == 0.0)
    most = np.full((groups, contracts), np.inf)
    most[neutral[1:]] = 0.0
    return most


def hedges(
    problem: MarketProblem,
    x: Vector,
    tau: Matrix,
    tail: Sides | None,
    bought: Hedges | None,
    price: Vector | None = None,
) -> Hedges:
    """The contracts held at a solution: no premium, least norm (MODEL.md §5).

    Parameters
    ----------
    x : (n,)
        In the market's own columns.
    tau : (G, S)
        Of every prosumer, or of the community.
    tail : Sides or None
        Where costs after contracts lie; None where tau is exact.
    bought : Hedges or None
        A solver's choice and its price, where prosumers were told apart.
    price : (S T E,) or None
        Of trades, EUR/MW of their scenario, where payments are at risk and are hedged, too.

    Raises
    ------
    ConvergenceError
        No volumes fit.
    """
    terms, own = problem.terms, problem.by_prosumer
    if terms is None or own is None:
        raise TypeError("a problem with contracts is needed")
    shape = terms.payoff.shape[1], own.groups - 1
    tau = np.broadcast_to(_at_ends(problem.program, tau, tail).T, shape)
    worth = terms.payoff @ tau
    if terms.idle:
        alpha = _price(terms, worth[:, 0], worth)
        return Hedges(volume=np.zeros(worth.shape), insurance=np.zeros(tau.shape), price=alpha)
    alpha = worth[:, 0] if bought is None else _price(terms, bought.price, worth)
    cost = problem.costs_by_prosumer(x)
    if price is not None:
        cost = cost + problem.payments_by_prosumer(x, price)
    position = _position(problem, cost, tau, alpha, exact=tail is None, only=bought is None)
    found = least_volumes(position)
    if found is not None:
        least_held = Hedges(volume=found[0], insurance=found[1], price=alpha)
        if _attain(problem, position, least_held, tau):
            return least_held
    if bought is not None and price is None:
        return replace(bought, price=alpha)
    raise ConvergenceError(
        "No contract volumes reproduce the contract prices; the solution's prices and costs "
        "do not fit each other. Look for data of very different sizes (EUR, probabilities)."
    )


def _position(
    problem: MarketProblem, cost: Matrix, tau: Matrix, alpha: Vector, *, exact: bool, only: bool
) -> Position:
    """What is known of the contracts at costs and tau, (S, N), and prices alpha, (K,).

    Parameters
    ----------
    exact : bool
        Whether tau is.
    only : bool
        Whether there are no other volumes than those that are found.
    """
    terms, own = problem.terms, problem.by_prosumer
    assert terms is not None
    assert own is not None
    least, most = (end.reshape(-1, len(cost))[:-1].T for end in (own.least, own.most))
    curved = any(cover is not None and bool(cover.curves) for cover in problem.covers_by_prosumer)
    at_end = ACCURACY.at_end_found if curved else ACCURACY.at_end
    least_volume, most_volume = _limits(terms, terms.payoff @ tau - alpha[:, None])
    return Position(
        cost=cost,
        may_exceed=tau >= most - at_end * most,
        may_fall_short=tau <= least + at_end * most,
        least=least_volume,
        most=most_volume,
        most_insurance=_most_insurance(terms, tau, at_end if exact else ACCURACY.at_end_found),
        payoff=terms.payoff,
        price=alpha,
        limited=terms.limit is not None,
        covered=tuple(
            _covered(place, cover.attained(tau[:, place]), only=only)
            for place, cover in enumerate(problem.covers_by_prosumer)
            if cover is not None
        ),
    )


def _covered(place: int, attained: Attained, *, only: bool) -> Covered:
    """A prosumer's; where volumes have to be found, the only ones, roughly along a curve."""
    return Covered(place=place, attained=attained, rough=only and attained.smooth)


def _attain(problem: MarketProblem, position: Position, found: Hedges, tau: Matrix) -> bool:
    """Whether tau, (S, N), is the worst of what contracts leave of costs, to what is promised."""
    left = position.cost - position.payoff.T @ found.volume - found.insurance
    expected = (tau * left).sum(axis=0)
    beyond = [
        cover.worst(left[:, place][None])[0][0] - expected[place]
        for place, cover in enumerate(problem.covers_by_prosumer)
        if cover is not None
    ]
    size = max(1.0, float(np.abs(position.cost).max(initial=0.0)))
    return max(beyond, default=0.0) <= ACCURACY.promised * size


def _at_ends(program: RiskProgram, tau: Matrix, tail: Sides | None) -> Matrix:
    """tau with the limits it is at by its multipliers, (G, S)."""
    if tail is None:
        return tau
    shape = (-1, tau.shape[1])
    below, above, least, most = (
        values.reshape(shape)[:-1]
        for values in (tail.below, tail.above, program.least, program.most)
    )
    return np.where(below, least, np.where(above, most, tau))


def _price(terms: Terms, multiplier: Vector, worth: Matrix) -> Vector:
    """alpha, (K,): what clears, between the least and the most a unit is worth to anybody.

    Where limits leave nobody a partner any price clears; the middle is taken.
    """
    low, high = worth.min(axis=1), worth.max(axis=1)
    return np.where(terms.tradable, np.clip(multiplier, low, high), 0.5 * (low + high))


def _limits(terms: Terms, gain: Matrix) -> tuple[Matrix, Matrix]:
    """Least and most W, (K, N), where a unit gains its buyer so much: as much as she may."""
    if terms.limit is None:
        return np.full(gain.shape, -np.inf), np.full(gain.shape, np.inf)
    size = ACCURACY.at_end_found * np.maximum(1.0, np.abs(terms.payoff).sum(axis=1, keepdims=True))
    least = np.where(gain > size, terms.limit, -terms.limit)
    return least, np.where(gain < -size, -terms.limit, terms.limit)


def _most_insurance(terms: Terms, tau: Matrix, near: float) -> Matrix:
    """Infinite where insurance is worth its price, else 0; (S, N)."""
    if terms.insurance_price is None:
        return np.zeros(tau.shape)
    price = terms.insurance_price[:, None]
    return np.where(tau >= price * (1 - near), np.inf, 0.0)
