"""Contracts in full, (43), as one cone program in cvxpy: no shortcut, nothing of the package's.

Insurance, limits and payoffs are written out for every prosumer, also where contracts are
complete and the package dispatches scenario by scenario. Prices are multipliers of clearing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import numpy as np

from tests.reference.instances import Array, Instance
from tests.reference.solve import (
    attitudes,
    cost_of,
    cvar,
    frozen_congestion,
    own_cost,
    physical_model,
    risk_of,
    run,
    scenario_sum,
)


@dataclass(frozen=True, eq=False)
class Hedged:
    """A market with contracts. Volumes are one choice of many."""

    social_cost: float
    cost: Array  # (N, S) Pi
    net_import: Array  # (N, S, T)
    tau: Array  # (N, S)
    price: Array  # (K,) alpha
    volume: Array  # (N, K) W
    insurance: Array  # (N, S) J
    quantity: Array  # (S, T, 2E)


def solve_hedged(
    instance: Instance,
    *,
    theta: float = 1.0,
    payoff: Array | None = None,
    limit: Array | float | None = None,
    insurance_price: Array | None = None,
    surplus: bool = True,
) -> Hedged:
    """Every prosumer's own CVaR after contracts; the equilibrium where trades are congested.

    The equilibrium is the fixed point with the partner's quantity held (MODEL.md §4).
    """
    _, s, t, e = instance.shape
    terms = (np.eye(s) if payoff is None else payoff, limit, insurance_price)
    if not instance.congestion.any():
        return _solve(instance, theta, *terms, surplus, None)
    partner = np.zeros((2 * e, s * t))
    for _ in range(200):
        solution = _solve(instance, theta, *terms, surplus, partner)
        q = solution.quantity.reshape(s * t, 2 * e).T
        swapped = np.concatenate([q[e:], q[:e]])
        change, partner = np.abs(swapped - partner).max(), swapped
        if change < 1e-6:
            return solution
    raise RuntimeError(f"the held-partner iteration stopped at a change of {change:.1e}")


def _solve(
    instance: Instance,
    theta: float,
    payoff: Array,
    limit: Array | float | None,
    insurance_price: Array | None,
    surplus: bool,
    partner: Array | None,
) -> Hedged:
    n, s, t, e = instance.shape
    model = physical_model(instance, surplus)
    cost = own_cost(model)
    if partner is not None:
        cost = cost + frozen_congestion(model, partner)
    cost = cost @ scenario_sum(instance)
    W, J = cp.Variable((n, len(payoff))), cp.Variable((n, s), nonneg=True)
    clearing = cp.sum(W, axis=0) == 0
    model.constraints.append(clearing)
    if limit is not None:
        model.constraints.append(cp.abs(W) <= np.broadcast_to(limit, W.shape))
    elif np.linalg.matrix_rank(np.vstack([payoff, np.ones(s)])) == np.linalg.matrix_rank(payoff):
        # contracts combine to what pays the same in every scenario: volumes are free up to that
        model.constraints.append(W[:-1] @ payoff @ instance.probability == 0)
    premium = cp.Constant(0)
    if insurance_price is None:
        model.constraints.append(J == 0)
    else:
        premium = cp.sum(J @ insurance_price)
    net = cost - W @ payoff - J
    chi = attitudes(instance, None)
    objective = sum(cvar(model, net[k], chi[k], theta) for k in range(n)) + premium
    assert partner is not None or not instance.congestion.any()
    run(cp.Problem(cp.Minimize(objective), model.constraints))
    p = instance.probability
    duals = [row.dual_value for row, _ in model.duals]
    tau = np.array([(1 - theta) * p + theta * dual / dual.sum() for dual in duals])
    quantity = model.q.value.reshape(2 * e, s, t).transpose(1, 2, 0)
    demand, generation = (v.value.reshape(n, s, t) for v in (model.D, model.G))
    own = cost_of(instance, demand, generation, quantity)
    left = own - W.value @ payoff - J.value
    risk = sum(risk_of(p, left[k], chi[k], theta) for k in range(n))
    return Hedged(
        social_cost=float(risk + premium.value),
        cost=own,
        net_import=np.einsum("nk,stk->nst", instance.incidence, quantity),
        tau=tau,
        price=clearing.dual_value,
        volume=W.value,
        insurance=J.value,
        quantity=quantity,
    )
