"""One answer where contract volumes have many: no premium, then the least norm (MODEL.md §5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Sparse, Vector
from pypsa_p2p.solvers.cover import Attained
from pypsa_p2p.solvers.program import QuadraticProgram
from pypsa_p2p.solvers.quadratic import solve_quadratic

Matrix = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Hedges:
    """Contracts held.

    Attributes
    ----------
    volume : (K, N)
        W, units bought inside the community (negative: sold).
    insurance : (S, N)
        J, EUR in the scenario bought outside.
    price : (K,)
        alpha that clears, EUR now per unit.
    """

    volume: Matrix
    insurance: Matrix
    price: Vector


@dataclass(frozen=True, kw_only=True, eq=False)
class Covered:
    """A prosumer whose envelope is no box: which costs her probabilities are the worst of.

    Attributes
    ----------
    place : int
        Whose position it is.
    attained : Attained
    rough : bool
        Whether costs may be told apart less closely, as a small error of costs is a far smaller
        one of risk, its square.
    """

    place: int
    attained: Attained
    rough: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Position:
    r"""What is known of optimal contracts before their volumes are.

    Attributes
    ----------
    cost : (S, N)
        Pi, EUR.
    may_exceed, may_fall_short : (S, N)
        Where :math:`\Pi - V` may lie above (below) its common level :math:`\eta_n`: where
        :math:`\tau` is at its upper (lower) end. Elsewhere it equals :math:`\eta_n`.
    least, most : (K, N)
        Of W; equal where somebody trades as much as she may.
    most_insurance : (S, N)
        0 where insurance costs more than it is worth, else infinite.
    payoff : (K, S)
    price : (K,)
        alpha.
    limited : bool
        Whether there are limits, which may rule out a premium of zero.
    covered : tuple of Covered
        Prosumers of whom the above says nothing.
    """

    cost: Matrix
    may_exceed: Flags
    may_fall_short: Flags
    least: Matrix
    most: Matrix
    most_insurance: Matrix
    payoff: Matrix
    price: Vector
    limited: bool
    covered: tuple[Covered, ...] = ()


def least_volumes(position: Position) -> tuple[Matrix, Matrix] | None:
    r"""Volumes W (K, N) of least norm, and with them the insurance J (S, N) of least norm.

    .. math:: \min \sum W^2 \quad \text{s.t.} \quad \sum_n W_n^k = 0, \quad
        \sum_k \alpha^k W_n^k = 0,

    and :math:`\Pi_n^\omega - V_n^\omega` where `Position` says. The premium is held at zero where
    contracts can be combined to pay the same in every scenario and limits do not forbid it. None
    if there are no such volumes: the position is of no optimum.
    """
    cost = position.cost - position.cost.mean(axis=0)  # a constant moves eta alone
    largest = max(1.0, float(np.abs(position.cost).max(initial=0.0)))
    unit = max(float(np.abs(cost).max(initial=0.0)), ACCURACY.rounding * largest)
    least, most = position.least / unit, position.most / unit
    shares = [_Tolerance(share, share) for share in ACCURACY.equal_costs]
    if any(one.rough for one in position.covered):
        exact = ACCURACY.equal_costs[-1]
        shares += [_Tolerance(exact, share) for share in ACCURACY.equal_costs_on_curves]
    tolerances = [share.times(largest / unit) for share in shares]
    found = _volumes(replace(position, cost=cost / unit, least=least, most=most), tolerances)
    return None if found is None else (found[0] * unit, found[1] * unit)


class _Tolerance(NamedTuple):
    """How close costs have to be to be equal, of all and of those who are `Covered.rough`."""

    exact: float
    rough: float

    def times(self, unit: float) -> _Tolerance:
        return _Tolerance(self.exact * unit, self.rough * unit)

    def of(self, covered: Covered) -> float:
        return self.rough if covered.rough else self.exact


def _volumes(position: Position, tolerances: list[_Tolerance]) -> tuple[Matrix, Matrix] | None:
    """The volumes, where costs differ by 1 at most; those within a tolerance of each other tie."""
    free_premium = _pays_constant(position.payoff)
    attempts = [(free_premium, tolerance) for tolerance in tolerances]
    if free_premium and position.limited:
        attempts = [(True, tolerances[0]), (True, tolerances[-2])]
        attempts += [(False, tolerance) for tolerance in tolerances]
    contracts, scenarios = position.payoff.shape
    shape, prosumers = (contracts, position.cost.shape[1]), position.cost.shape[1]
    for no_premium, tolerance in attempts:
        found = solve_quadratic(_program(position, no_premium, tolerance))
        if found.status != "optimal":
            continue
        volume, insurance = np.split(found.x, [contracts * prosumers])
        insurance = insurance[: scenarios * prosumers].reshape(scenarios, prosumers)
        if not position.most_insurance.any():
            return volume.reshape(shape), np.zeros_like(insurance)
        looser = tolerances[tolerances.index(tolerance) :]
        least = _least_insurance(position, volume.reshape(shape), looser)
        return volume.reshape(shape), np.maximum(insurance if least is None else least, 0.0)
    return None


def _pays_constant(payoff: Matrix) -> bool:
    """Whether some combination of contracts pays 1 EUR in every scenario."""
    one = np.ones(payoff.shape[1])
    weight, *_ = np.linalg.lstsq(payoff.T, one, rcond=None)
    return bool(np.abs(payoff.T @ weight - one).max(initial=0.0) <= ACCURACY.constant_payoff)


def _least_insurance(
    position: Position, volume: Matrix, tolerances: list[_Tolerance]
) -> Matrix | None:
    """The insurance of least norm beside given volumes, (S, N)."""
    left = position.cost - position.payoff.T @ volume
    for tolerance in tolerances:
        attaining = _Attaining.of(position, left, tolerance)
        rest = attaining.lower_beside.size
        program = QuadraticProgram(
            P=sp.diags(np.append(np.ones(left.size), np.zeros(rest)), format="csc"),
            c=np.zeros(left.size + rest),
            A=sp.hstack([attaining.of_paid, attaining.beside], format="csr"),
            lower=attaining.lower,
            upper=attaining.upper,
            x_lower=np.append(np.zeros(left.size), attaining.lower_beside),
            x_upper=np.append(position.most_insurance.ravel(), attaining.upper_beside),
        )
        found = solve_quadratic(program)
        if found.status == "optimal":
            return np.asarray(found.x[: left.size].reshape(left.shape))
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Attaining:
    """Rows in what contracts pay, (S N,), and in what is beside it, by which tau attains R.

    Beside it are the common levels eta of all prosumers, and the cover of those who have one.
    """

    of_paid: Sparse
    beside: Sparse
    lower: Vector
    upper: Vector
    lower_beside: Vector
    upper_beside: Vector

    @classmethod
    def of(cls, position: Position, cost: Matrix, tolerance: _Tolerance) -> _Attaining:
        """For these costs before contracts, (S, N), that are equal within a tolerance."""
        scenarios, prosumers = cost.shape
        free = np.full(prosumers, np.inf)
        lower, upper = _sides(position, cost, tolerance.exact)
        of_paid, beside = [sp.identity(cost.size)], []
        lowers, uppers, ends = [lower], [upper], [(-free, free)]
        for one in position.covered:
            own = sp.csr_matrix(
                (
                    np.ones(scenarios),
                    np.arange(scenarios) * prosumers + one.place,
                    range(scenarios + 1),
                ),
                shape=(scenarios, cost.size),
            )
            attained, near = one.attained, tolerance.of(one)
            covered = attained.of_costs @ cost[:, one.place]
            of_paid.append(attained.of_costs @ own)
            beside.append(attained.of_cover)
            lowers.append(covered - near)
            uppers.append(np.where(attained.weighed, covered + near, np.inf))
            ends.append((attained.lower, attained.upper))
        level = sp.kron(np.ones((scenarios, 1)), sp.identity(prosumers))
        return cls(
            of_paid=sp.vstack(of_paid, format="csr"),
            beside=sp.block_diag([level, *beside], format="csr"),
            lower=np.concatenate(lowers),
            upper=np.concatenate(uppers),
            lower_beside=np.concatenate([low for low, _ in ends]),
            upper_beside=np.concatenate([high for _, high in ends]),
        )


def _sides(position: Position, cost: Matrix, tolerance: float) -> tuple[Vector, Vector]:
    """Limits of V + eta, (S N,): equal to the cost, at most it, or at least it."""
    flat, known = cost.ravel(), np.ones(cost.shape, dtype=bool)
    known[:, [one.place for one in position.covered]] = False
    may_exceed, may_fall_short = position.may_exceed | ~known, position.may_fall_short | ~known
    lower = np.where(may_exceed.ravel(), -np.inf, flat - tolerance)
    return lower, np.where(may_fall_short.ravel(), np.inf, flat + tolerance)


def _program(position: Position, no_premium: bool, tolerance: _Tolerance) -> QuadraticProgram:
    """The program above in columns (W by contract, J by scenario, what is beside them)."""
    prosumers = position.cost.shape[1]
    attaining = _Attaining.of(position, position.cost, tolerance)
    eye_n = sp.identity(prosumers)
    clearing = sp.kron(sp.identity(len(position.price)), np.ones((1, prosumers)))
    own = sp.vstack([clearing] + [sp.kron(position.price[None], eye_n)] * no_premium)
    paid = attaining.of_paid @ sp.kron(position.payoff.T, eye_n)
    count, volumes = own.shape[0], position.least.size
    others = position.cost.size + attaining.lower_beside.size
    none = np.zeros(count)
    return QuadraticProgram(
        P=sp.diags(np.append(np.ones(volumes), np.zeros(others)), format="csc"),
        c=np.zeros(volumes + others),
        A=sp.bmat([[own, None, None], [paid, attaining.of_paid, attaining.beside]], format="csr"),
        lower=np.append(none, attaining.lower),
        upper=np.append(none, attaining.upper),
        x_lower=np.concatenate(
            [position.least.ravel(), np.zeros(position.cost.size), attaining.lower_beside]
        ),
        x_upper=np.concatenate(
            [position.most.ravel(), position.most_insurance.ravel(), attaining.upper_beside]
        ),
    )
