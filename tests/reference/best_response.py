"""Is a point an equilibrium? Each prosumer re-optimises alone, the others' trades held."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np

from tests.reference.instances import Array, Instance
from tests.reference.solve import Risk, attitudes, risk_of, run, scenario_sum


def exploitability(
    instance: Instance,
    demand: Array,
    generation: Array,
    quantity: Array,
    cost: Array,
    risk: Risk | None = None,
    surplus: bool = True,
    contract_price: Array | None = None,
) -> Array:
    """How much each prosumer's objective falls when she alone changes, (N,), EUR.

    Shapes as in `Solution`. With contracts at prices `contract_price` (alpha) within her bounds
    on tau, what she can reach is the least of sum alpha Pi, whatever her attitude: W is free.
    """
    n, s, t, e = instance.shape
    q = quantity.transpose(2, 0, 1).reshape(2 * e, s * t)
    p = instance.probability
    chi, theta = (attitudes(instance, risk[1]), risk[2]) if risk else (np.zeros(n), 1.0)
    gain = np.empty(n)
    for k in range(n):
        if contract_price is not None:
            held = float(contract_price @ cost[k])
            best = _best(instance, k, q, surplus, contract_price, 0.0, 0.0)
        else:
            held = risk_of(p, cost[k], chi[k], theta)
            best = _best(instance, k, q, surplus, p, chi[k], theta)
        gain[k] = held - best
    return gain


def _best(
    instance: Instance,
    k: int,
    held: Array,
    surplus: bool,
    weights: Array,
    chi: float,
    theta: float,
) -> float:
    """The least R prosumer k reaches, `held` (2E, S T) giving the others' trades."""
    _, s, t, e = instance.shape
    own = np.flatnonzero(instance.buyer == k)
    partner = held[(own + e) % (2 * e)]
    D, G = cp.Variable(s * t), cp.Variable(s * t)
    q = cp.Variable((len(own), s * t))
    net_import = cp.sum(q, axis=0)
    capacity = instance.capacity[own % e][:, None] * np.ones((1, s * t))
    rows: list[Any] = [
        q <= capacity,
        q + partner <= 0 if surplus else q + partner == 0,
        D == G + instance.renewable[k].ravel() + net_import,
        D >= instance.demand_min[k],
        D <= instance.demand_max[k],
        G >= instance.generation_min[k],
        G <= instance.generation_max[k],
    ]
    a = instance.congestion[own % e][:, None]
    trades = cp.multiply(a, cp.square(q)) + cp.multiply(
        a * partner + instance.price[own][:, None], q
    )
    hourly = (
        instance.a[k] / 2 * cp.square(G)
        + instance.b[k] * G
        + instance.d[k]
        + cp.sum(trades, axis=0)
        + cp.multiply(instance.import_price[:, :, k].ravel(), net_import)
        + instance.utility_quadratic[k] * cp.square(D - instance.demand[k].ravel())
        - instance.usage_benefit[k]
    )
    cost = hourly @ scenario_sum(instance)
    objective = (1 - theta) * (weights @ cost) if theta < 1 else 0
    if theta > 0:
        eta, excess = cp.Variable(), cp.Variable(s, nonneg=True)
        rows.append(cost - eta <= excess)
        objective = objective + theta * (eta + (weights / (1 - chi)) @ excess)
    problem = cp.Problem(cp.Minimize(objective), rows)
    run(problem)
    return float(problem.value)
