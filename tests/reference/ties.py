"""Among many optima, which one the package must report (MODEL.md §8.8, §8.9).

The limit delta -> 0 of a problem perturbed by delta is read off three solves, at delta, delta/2
and delta/4, by Richardson extrapolation: error O(delta^3) where the active set has settled. The
solves also say how far the extrapolation can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cvxpy as cp
import numpy as np

from tests.reference.instances import Array, Instance
from tests.reference.solve import Solution, physical_model, run, scenario_sum, solve

DELTA = 3e-4
Values = tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Limit:
    """Extrapolated values, and by how much the last two orders of extrapolation differ in each."""

    values: Values
    uncertainty: tuple[float, ...]


def extrapolated(at: Callable[[float], Values]) -> Limit:
    """The limit of `at(delta)` for delta -> 0."""
    one, two, four = (at(DELTA / k) for k in (1, 2, 4))
    second = [2 * y - x for x, y in zip(one, two, strict=True)]
    third = [2 * y - x for x, y in zip(two, four, strict=True)]
    values = tuple((4 * y - x) / 3 for x, y in zip(second, third, strict=True))
    gaps = tuple(float(np.abs(v - y).max()) for v, y in zip(values, third, strict=True))
    return Limit(values, gaps)


def least_expected_cost(
    instance: Instance, attitude: object = None, surplus: bool = True, contracts: bool = False
) -> Limit:
    """D, G and E[SC] of the risk-averse optimum of least expected social cost (theta -> 1)."""

    def at(delta: float) -> Values:
        found: Solution = solve(
            instance, risk=("CVaR", attitude, 1 - delta), surplus=surplus, contracts=contracts
        )
        return found.demand, found.generation, np.array(found.expected_social_cost)

    return extrapolated(at)


def least_norm(
    instance: Instance,
    demand: Array,
    generation: Array,
    quantity: Array,
    surplus: bool = True,
    together: bool = True,
) -> Array:
    """The least-norm trades that may replace an optimum's (a = 0), (S, T, 2E).

    D and G stay, hence Q. What must stay of the costs is their sum in each scenario if the
    optimum is risk-neutral or hedged by complete contracts (`together`): this is the whole set of
    optimal trades. Otherwise each prosumer's cost in each scenario stays: some optimal trades.
    """
    _, s, t, e = instance.shape
    model = physical_model(instance, surplus)
    held = quantity.reshape(s * t, 2 * e).T
    net_import = (demand - generation - instance.renewable).reshape(-1, s * t)
    spent = cp.multiply(instance.price[:, None], model.q - held)
    spent = instance.incidence @ spent @ scenario_sum(instance)
    rows = [
        model.reciprocity,
        model.capacity,
        instance.incidence @ model.q == net_import,
        (cp.sum(spent, axis=0) if together else spent) == 0,
    ]
    run(cp.Problem(cp.Minimize(cp.sum_squares(model.q)), rows))
    result: Array = model.q.value.T.reshape(s, t, 2 * e)
    return result
