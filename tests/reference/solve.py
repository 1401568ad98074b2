"""The market written straight from MODEL.md §2-5 in cvxpy, and solved as one cone program.

It shares nothing with the package: no linopy, no PyPSA, no shortcut for contracts, no dual face.
CLARABEL solves it, see `run`.

Columns of every variable are the pairs (scenario, snapshot), scenario first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np

from tests.reference.instances import Array, Instance

TOLERANCE = 1e-11
ENOUGH = 1e-7
PROXIMAL = 1e-2
Risk = tuple[str, Any, float]  # ("CVaR", attitude or None, theta)


@dataclass(frozen=True, eq=False)
class Solution:
    """What the market decides. Prices are duals over p w, in EUR/MWh."""

    demand: Array  # (N, S, T)
    generation: Array  # (N, S, T)
    quantity: Array  # (S, T, 2E)
    cost: Array  # (N, S) Pi
    risk_adjusted_cost: Array  # (N,) R; in the community: cost weighted by tau
    social_cost: float  # the objective
    expected_social_cost: float
    nodal_price: Array  # (N, S, T) lambda / (p w)
    trade_price: Array  # (S, T, E) zeta / (p w)
    capacity_price: Array  # (S, T, 2E) xi / (p w)
    tau: Array  # (N, S)
    contract: Array | None = None  # (N, S)
    contract_price: Array | None = None  # (S,) alpha

    @property
    def surplus(self) -> Array:
        """s = -(q_mn + q_nm), (S, T, E)."""
        e = self.quantity.shape[-1] // 2
        return -(self.quantity[..., :e] + self.quantity[..., e:])


@dataclass
class Model:
    """Variables and constraints of one market, before an objective is chosen."""

    instance: Instance
    D: cp.Variable
    G: cp.Variable
    q: cp.Variable
    constraints: list[cp.Constraint]
    balance: cp.Constraint
    reciprocity: cp.Constraint
    capacity: cp.Constraint
    duals: list[tuple[cp.Constraint, float]] = field(default_factory=list)  # (26), its theta


def columns(values: Array) -> Array:
    """(N, S, T) to (N, S T)."""
    return values.reshape(values.shape[0], -1)


def scenario_sum(instance: Instance) -> Array:
    """(S T, S): w_t where the column belongs to the scenario."""
    _, s, _, _ = instance.shape
    return np.kron(np.eye(s), instance.weighting[:, None])


def physical_model(instance: Instance, surplus: bool) -> Model:
    """(1), (2), (3) and limits. Nothing but (1) and (3) bounds q from below."""
    n, s, t, e = instance.shape
    D, G, q = (cp.Variable((rows, s * t)) for rows in (n, n, 2 * e))
    both = q[:e] + q[e:]
    balance = D - G - columns(instance.renewable) - instance.incidence @ q == 0
    reciprocity = both <= 0 if surplus else both == 0
    capacity = q <= np.tile(instance.capacity, 2)[:, None] * np.ones((1, s * t))
    limits = [
        D >= instance.demand_min[:, None] * np.ones((1, s * t)),
        D <= instance.demand_max[:, None] * np.ones((1, s * t)),
        G >= instance.generation_min[:, None] * np.ones((1, s * t)),
        G <= instance.generation_max[:, None] * np.ones((1, s * t)),
    ]
    rows = [balance, reciprocity, capacity, *limits]
    return Model(instance, D, G, q, rows, balance, reciprocity, capacity)


def own_cost(model: Model) -> cp.Expression:
    """(7) without the congestion term, (N, S T) per hour: C(G) + b q + f |q| + p0 Q - U(D)."""
    data = model.instance
    fees = np.tile(data.fees, (1, data.shape[1]))
    shortfall = model.D - columns(data.demand)
    import_price = columns(data.import_price.transpose(2, 0, 1))
    generation = cp.multiply(data.a[:, None] / 2, cp.square(model.G))
    return (
        generation
        + cp.multiply(data.b[:, None], model.G)
        + cp.multiply(data.utility_quadratic[:, None], cp.square(shortfall))
        + (data.d - data.usage_benefit)[:, None]
        + data.incidence @ cp.multiply(data.price[:, None], model.q)
        + data.incidence @ cp.multiply(fees, cp.abs(model.q))
        + cp.multiply(import_price, data.incidence @ model.q)
    )


def frozen_congestion(model: Model, partner: Array) -> cp.Expression:
    """a (q_mn + partner) q_mn summed by buyer, (N, S T), the partner's quantity held."""
    data = model.instance
    a = np.tile(data.congestion, 2)[:, None]
    return data.incidence @ (cp.multiply(a, cp.square(model.q)) + cp.multiply(a * partner, model.q))


def edge_congestion(model: Model, potential: bool) -> cp.Expression:
    """The whole edge's term, (E, S T).

    Centralized: a (q_mn + q_nm)^2. Potential of the equilibrium: a (q_mn^2 + q_nm^2 + q_mn q_nm)
    = a/2 (q_mn^2 + q_nm^2 + (q_mn + q_nm)^2).
    """
    e = len(model.instance.edges)
    one, other = model.q[:e], model.q[e:]
    a = model.instance.congestion[:, None]
    if not potential:
        return cp.multiply(a, cp.square(one + other))
    return cp.multiply(a / 2, cp.square(one) + cp.square(other) + cp.square(one + other))


def cvar(model: Model, cost: cp.Expression, attitude: float, theta: float) -> cp.Expression:
    """(1 - theta) E + theta (25), through the epigraph (26); `cost` has one entry a scenario."""
    p = model.instance.probability
    eta, excess = cp.Variable(), cp.Variable(len(p), nonneg=True)
    row = cost - eta <= excess
    model.constraints.append(row)
    model.duals.append((row, theta))
    expected = p @ cost if theta < 1 else 0
    return (1 - theta) * expected + theta * (eta + (p / (1 - attitude)) @ excess)


def attitudes(instance: Instance, attitude: Any) -> Array:
    """One chi a prosumer: her own, or what overrides it."""
    if attitude is None:
        return instance.risk_attitude
    return np.broadcast_to(np.asarray(attitude, float), instance.risk_attitude.shape)


def solve(
    instance: Instance,
    design: str = "centralized",
    risk: Risk | None = None,
    aggregate: str = "prosumers",
    contracts: bool = False,
    surplus: bool = True,
    add: Callable[[Model], cp.Expression] | None = None,
) -> Solution:
    """Solve the market; `add` puts a further term in the objective (used to break ties).

    The risk-averse equilibrium with congestion is the fixed point of the problem with the
    partner's quantity held (MODEL.md §4), iterated to 1e-7.
    """
    congested = bool(instance.congestion.any())
    if design == "centralized" and aggregate == "prosumers" and congested and risk:
        raise ValueError("sum of prosumers' CVaR is not convex with congestion (MODEL.md §4)")
    args = (instance, design, risk, aggregate, contracts, surplus, add)
    if not (design == "peer-to-peer" and congested and risk):
        return _solve(*args, partner=None)
    return _fixed_point(*args)


def _fixed_point(
    instance: Instance,
    design: str,
    risk: Risk | None,
    aggregate: str,
    contracts: bool,
    surplus: bool,
    add: Callable[[Model], cp.Expression] | None,
) -> Solution:
    """Hold the partner's quantity, solve, repeat.

    A proximal term holds still whoever is indifferent (tau = 0). It vanishes at the fixed point.
    """
    _, s, t, e = instance.shape
    partner = np.zeros((2 * e, s * t))
    last: Solution | None = None

    def near(model: Model) -> cp.Expression:
        if last is None:
            return cp.Constant(0)
        return PROXIMAL * (
            cp.sum_squares(model.q - last.quantity.reshape(s * t, 2 * e).T)
            + cp.sum_squares(model.D - columns(last.demand))
            + cp.sum_squares(model.G - columns(last.generation))
        )

    for _ in range(400):
        solution = _solve(instance, design, risk, aggregate, contracts, surplus, near, partner)
        q = solution.quantity.reshape(s * t, 2 * e).T
        swapped = np.concatenate([q[e:], q[:e]])
        change = np.abs(swapped - partner).max()
        partner, last = swapped, solution
        if change < 1e-7:
            return solution
    raise RuntimeError(f"the held-partner iteration stopped at a change of {change:.1e}")


def _solve(
    instance: Instance,
    design: str,
    risk: Risk | None,
    aggregate: str,
    contracts: bool,
    surplus: bool,
    add: Callable[[Model], cp.Expression] | None,
    partner: Array | None,
) -> Solution:
    model = physical_model(instance, surplus)
    p, to_scenario = instance.probability, scenario_sum(instance)
    cost = own_cost(model)
    if partner is not None:
        cost = cost + frozen_congestion(model, partner)
    cost = cost @ to_scenario  # (N, S)
    edge = edge_congestion(model, design == "peer-to-peer") @ to_scenario  # (E, S)
    contract, clearing = None, None
    if contracts:
        contract = cp.Variable(cost.shape)
        clearing = cp.sum(contract, axis=0) == 0
        # volumes are free up to the riskless direction; the last prosumer's follows from clearing
        model.constraints += [clearing, contract[:-1] @ p == 0]
        cost = cost - contract
    if risk is None:
        objective = cp.sum(cost @ p)
    elif aggregate == "community":
        chi = float(np.asarray(risk[1]))
        objective = cvar(model, cp.sum(cost, axis=0) + cp.sum(edge, axis=0), chi, risk[2])
    else:
        chis = attitudes(instance, risk[1])
        objective = sum(cvar(model, cost[k], chi, risk[2]) for k, chi in enumerate(chis))
    if partner is None and (risk is None or aggregate == "prosumers"):
        objective = objective + cp.sum(edge @ p)
    extra = add(model) if add else 0
    problem = cp.Problem(cp.Minimize(objective + extra), model.constraints)
    run(problem)
    return _solution(model, contract, clearing, risk, aggregate)


def run(problem: cp.Problem) -> None:
    """CLARABEL as far as it gets, at least to `ENOUGH`; cvxpy checks the convexity itself.

    An objective right to 1e-10 leaves demands wrong by 1e-5, the optimum being flat, so the
    target is out of reach on purpose and stopping short of it is no reason to warn.
    """
    gaps = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
    options = dict.fromkeys(gaps, TOLERANCE) | {f"reduced_{name}": ENOUGH for name in gaps}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
        problem.solve(solver=cp.CLARABEL, max_step_fraction=0.95, **options)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise RuntimeError(f"reference solver: {problem.status}")


def cost_of(instance: Instance, demand: Array, generation: Array, quantity: Array) -> Array:
    """(7) with its congestion term, (N, S), by plain numpy. Shapes as in `Solution`."""
    e = len(instance.edges)
    q = quantity.transpose(2, 0, 1)  # (2E, S, T)
    both = np.tile(q[:e] + q[e:], (2, 1, 1))
    preference = np.tile(instance.congestion, 2)[:, None, None] * both
    preference = (preference + instance.price[:, None, None]) * q
    preference = preference + instance.fees[:, None, :] * np.abs(q)
    net_import = np.einsum("nk,kst->nst", instance.incidence, q)
    wide = (slice(None), None, None)
    hourly = (
        instance.a[wide] / 2 * generation**2
        + instance.b[wide] * generation
        + instance.d[wide]
        + np.einsum("nk,kst->nst", instance.incidence, preference)
        + instance.import_price.transpose(2, 0, 1) * net_import
        + instance.utility_quadratic[wide] * (demand - instance.demand) ** 2
        - instance.usage_benefit[wide]
    )
    result: Array = hourly @ instance.weighting
    return result


def risk_of(p: Array, cost: Array, attitude: float, theta: float = 1.0) -> float:
    """(1 - theta) E + theta CVaR of one cost by scenario: the tail average, by sorting."""
    order = np.argsort(-cost)
    tail = 1 - attitude
    before = np.cumsum(p[order]) - p[order]
    mass = np.clip(tail - before, 0, p[order])
    return float((1 - theta) * p @ cost + theta * mass @ cost[order] / tail)


def _solution(
    model: Model,
    contract: cp.Variable | None,
    clearing: cp.Constraint | None,
    risk: Risk | None,
    aggregate: str,
) -> Solution:
    data = model.instance
    n, s, t, e = data.shape
    p = data.probability
    demand, generation = model.D.value.reshape(n, s, t), model.G.value.reshape(n, s, t)
    quantity = model.q.value.reshape(2 * e, s, t).transpose(1, 2, 0)
    cost = cost_of(data, demand, generation, quantity)
    per_hour = p[:, None] * data.weighting

    def price(row: cp.Constraint, rows: int) -> Array:
        return row.dual_value.reshape(rows, s, t) / per_hour

    tau = np.tile(p, (n, 1))
    rows = [(row.dual_value, theta) for row, theta in model.duals if theta > 0]
    if rows:
        tau = np.array([(1 - theta) * p + theta * dual / dual.sum() for dual, theta in rows])
        tau = np.broadcast_to(tau, (n, s)).copy()
    volumes, alpha, premium, net = None, None, np.zeros(n), cost
    if contract is not None and clearing is not None:
        alpha = clearing.dual_value
        volumes = contract.value - (contract.value @ alpha)[:, None]  # zero premium
        premium, net = volumes @ alpha, cost - volumes
    chi, theta = (attitudes(data, risk[1]), risk[2]) if risk else (np.zeros(n), 1.0)
    if aggregate == "community" and risk:
        averse = (tau * cost).sum(axis=1)
        social = risk_of(p, cost.sum(axis=0), float(chi[0]), theta)
    else:
        averse = np.array([risk_of(p, net[k], chi[k], theta) for k in range(n)]) + premium
        social = float(averse.sum())
    return Solution(
        demand,
        generation,
        quantity,
        cost,
        averse,
        social,
        float(p @ cost.sum(axis=0)),
        price(model.balance, n),
        price(model.reciprocity, e).transpose(1, 2, 0),
        price(model.capacity, 2 * e).transpose(1, 2, 0),
        tau,
        volumes,
        alpha,
    )
