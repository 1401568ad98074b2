"""One answer where contract volumes have many: no premium, then the least norm (MODEL.md §5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Vector
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
    tolerances = [share * largest / unit for share in ACCURACY.equal_costs]
    found = _volumes(replace(position, cost=cost / unit, least=least, most=most), tolerances)
    return None if found is None else (found[0] * unit, found[1] * unit)


def _volumes(position: Position, tolerances: list[float]) -> tuple[Matrix, Matrix] | None:
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


def _least_insurance(position: Position, volume: Matrix, tolerances: list[float]) -> Matrix | None:
    """The insurance of least norm beside given volumes, (S, N)."""
    scenarios, prosumers = position.cost.shape
    left = position.cost - position.payoff.T @ volume
    eye = sp.identity(left.size)
    level = sp.kron(np.ones((scenarios, 1)), sp.identity(prosumers))
    free = np.full(prosumers, np.inf)
    for tolerance in tolerances:
        lower, upper = _sides(position, left, tolerance)
        program = QuadraticProgram(
            P=sp.diags(np.append(np.ones(left.size), np.zeros(prosumers)), format="csc"),
            c=np.zeros(left.size + prosumers),
            A=sp.hstack([eye, level], format="csr"),
            lower=lower,
            upper=upper,
            x_lower=np.append(np.zeros(left.size), -free),
            x_upper=np.append(position.most_insurance.ravel(), free),
        )
        found = solve_quadratic(program)
        if found.status == "optimal":
            return np.asarray(found.x[: left.size].reshape(left.shape))
    return None


def _sides(position: Position, cost: Matrix, tolerance: float) -> tuple[Vector, Vector]:
    """Limits of V + eta, (S N,): equal to the cost, at most it, or at least it."""
    flat = cost.ravel()
    lower = np.where(position.may_exceed.ravel(), -np.inf, flat - tolerance)
    return lower, np.where(position.may_fall_short.ravel(), np.inf, flat + tolerance)


def _program(position: Position, no_premium: bool, tolerance: float) -> QuadraticProgram:
    """The program above in columns (W by contract, J by scenario, eta), each by prosumer."""
    scenarios, prosumers = position.cost.shape
    one_s, eye_n = np.ones((scenarios, 1)), sp.identity(prosumers)
    clearing = sp.kron(sp.identity(len(position.price)), np.ones((1, prosumers)))
    level = [sp.kron(position.payoff.T, eye_n), sp.identity(position.cost.size)]
    own = [clearing] + [sp.kron(position.price[None], eye_n)] * no_premium
    count, others = sum(block.shape[0] for block in own), position.cost.size + prosumers
    traded = sp.hstack([sp.vstack(own), sp.csr_matrix((count, others))])
    lower, upper = _sides(position, position.cost, tolerance)
    none, volumes = np.zeros(count), position.least.size
    return QuadraticProgram(
        P=sp.diags(np.append(np.ones(volumes), np.zeros(others)), format="csc"),
        c=np.zeros(volumes + others),
        A=sp.vstack([traded, sp.hstack([*level, sp.kron(one_s, eye_n)])], format="csr"),
        lower=np.append(none, lower),
        upper=np.append(none, upper),
        x_lower=np.concatenate(
            [position.least.ravel(), np.zeros(position.cost.size), np.full(prosumers, -np.inf)]
        ),
        x_upper=np.concatenate(
            [position.most.ravel(), position.most_insurance.ravel(), np.full(prosumers, np.inf)]
        ),
    )
