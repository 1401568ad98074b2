"""The same variational equilibrium from a solver of games that knows nothing of energy.

`nashopt` takes any linear-quadratic game: agents' quadratic costs, shared linear constraints. It
gets the market's own numbers, weighted by p w, and poses the variational equilibrium as one
multiplier per shared row.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import pypsa_p2p as p2p
from tests.reference.instances import Array, Instance, network, random_instance
from tests.reference.package import as_solution


def game_solver() -> Any:
    """`nashopt.GNEP_LQ`; the test is skipped, with the reason, where it does not import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own dependencies' deprecations
        try:
            from nashopt import GNEP_LQ  # noqa: PLC0415 - optional, and slow to import
        except Exception as error:  # whatever keeps it from importing
            pytest.skip(f"nashopt does not import: {error!r}")
    return GNEP_LQ


class Found(NamedTuple):
    demand: Array  # (N, S, T), MW
    generation: Array  # (N, S, T), MW
    quantity: Array  # (S, T, 2E), MW
    trade_price: Array  # (S, T, E), EUR/MWh


def solved_as_a_game(instance: Instance, surplus: bool) -> Found:
    """Hour by hour, since risk-neutral nothing ties hours and scenarios together.

    Agent n decides D_n, G_n and q_mn of her trades, in this order.
    """
    n, s, t, e = instance.shape
    shapes = ((n, s, t), (n, s, t), (s, t, 2 * e), (s, t, e))
    found = Found(*(np.empty(shape) for shape in shapes))
    for scenario, hour in np.ndindex(s, t):
        weight = instance.probability[scenario] * instance.weighting[hour]
        x, multiplier, at = hourly_game(instance, scenario, hour, weight, surplus)
        found.demand[:, scenario, hour] = x[at.demand]
        found.generation[:, scenario, hour] = x[at.generation]
        found.quantity[scenario, hour] = x[at.quantity]
        found.trade_price[scenario, hour] = multiplier / weight
    return found


class Layout(NamedTuple):
    """Where decisions stand: D and G, (N,), and q, (2E,); how many each agent has, (N,)."""

    demand: Any
    generation: Any
    quantity: Any
    sizes: Any

    @classmethod
    def of(cls, instance: Instance) -> Layout:
        sizes = 2 + np.bincount(instance.buyer, minlength=len(instance.names))
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        q = np.empty(instance.buyer.size, dtype=int)
        for k, start in enumerate(first):
            q[instance.buyer == k] = start + 2 + np.arange(sizes[k] - 2)
        return cls(first, first + 1, q, sizes)


def hourly_game(
    instance: Instance, scenario: int, hour: int, weight: float, surplus: bool
) -> tuple[Array, Array, Layout]:
    """Decisions, multipliers of (1) and where D, G and q stand among the decisions."""
    n, _, _, e = instance.shape
    at = Layout.of(instance)
    total = int(at.sizes.sum())
    reciprocity, balance = np.zeros((e, total)), np.zeros((n, total))
    reciprocity[np.arange(e), at.quantity[:e]] = reciprocity[np.arange(e), at.quantity[e:]] = 1.0
    balance[np.arange(n), at.demand], balance[np.arange(n), at.generation] = 1.0, -1.0
    balance[instance.buyer, at.quantity] = -1.0
    lower, upper = np.full(total, -np.inf), np.full(total, np.inf)
    lower[at.demand], upper[at.demand] = instance.demand_min, instance.demand_max
    lower[at.generation], upper[at.generation] = instance.generation_min, instance.generation_max
    upper[at.quantity] = np.tile(instance.capacity, 2)
    sun = instance.renewable[:, scenario, hour]
    rows: dict[str, Any] = {"Aeq": balance, "beq": sun}
    if surplus:
        rows |= {"A": reciprocity, "b": np.zeros(e)}
    else:
        rows |= {"Aeq": np.vstack([balance, reciprocity]), "beq": np.append(sun, np.zeros(e))}
    Q, c = costs(instance, scenario, hour, at)
    game = game_solver()(
        at.sizes.tolist(),
        list(weight * Q),
        list(weight * c),
        lb=lower,
        ub=upper,
        variational=True,
        solver="qp_gnep",
        **rows,
    )
    found = game.solve(solver_options={"tol": 1e-13})
    assert found.status_str == "converged"
    prices = found.lam[:e] if surplus else found.mu[n:]
    return np.asarray(found.x), np.asarray(prices), at


def costs(instance: Instance, scenario: int, hour: int, at: Layout) -> tuple[Array, Array]:
    """Pi_n = 1/2 x'Q_n x + c_n'x of (7), constants left out: (N, x, x) and (N, x)."""
    n, total = len(instance.names), int(at.sizes.sum())
    Q, c = np.zeros((n, total, total)), np.zeros((n, total))
    everybody, buyer = np.arange(n), instance.buyer
    slope = 2 * instance.utility_quadratic
    Q[everybody, at.demand, at.demand] = slope
    c[everybody, at.demand] = -slope * instance.demand[:, scenario, hour]
    Q[everybody, at.generation, at.generation] = instance.a
    c[everybody, at.generation] = instance.b
    own, other = at.quantity, np.roll(at.quantity, len(instance.edges))
    a = np.tile(instance.congestion, 2)
    Q[buyer, own, own] = 2 * a
    Q[buyer, own, other] = Q[buyer, other, own] = a
    c[buyer, own] = instance.price + instance.import_price[scenario, hour, buyer]
    return Q, c


@pytest.mark.parametrize("surplus", [True, False], ids=["surplus", "equality"])
@pytest.mark.parametrize("size", [(2, 1, 1), (4, 3, 2), (7, 2, 1)], ids=str)
def test_three_ways_to_one_equilibrium(size: tuple[int, int, int], surplus: bool) -> None:
    """Direct, agents' ADMM and the game solver: with a > 0 there is one variational equilibrium."""
    instance = random_instance(sum(size), *size, congestion=True)
    wanted = solved_as_a_game(instance, surplus)
    market = p2p.PeerToPeerMarket(surplus=surplus)
    for method in (None, p2p.ADMM(tolerance=1e-9)):
        n = network(instance)
        assert p2p.solve_equilibrium(n, market, method, progress=False).converged
        found = as_solution(instance, p2p.results(n))
        for name, values in wanted._asdict().items():
            if name != "trade_price":
                np.testing.assert_allclose(getattr(found, name), values, atol=1e-5, err_msg=name)
        inside = priced(instance, wanted)
        assert inside.any()
        np.testing.assert_allclose(found.trade_price[inside], wanted.trade_price[inside], atol=1e-5)


def priced(instance: Instance, found: Found) -> Any:
    """Edges whose price is the only one possible, (S, T, E).

    An end that buys less than she may, with a nodal price of her own (`unique_prices`), tells it.
    """
    e = len(instance.edges)
    wide = (slice(None), None, None)
    free = np.zeros(found.demand.shape, bool)
    for value, low, high in (
        (found.demand, instance.demand_min, instance.demand_max),
        (found.generation, instance.generation_min, instance.generation_max),
    ):
        free |= (value > low[wide] + 1e-3) & (value < high[wide] - 1e-3)
    at_end = free[instance.buyer].transpose(1, 2, 0)
    below = found.quantity < np.tile(instance.capacity, 2) - 1e-3
    own = at_end & below  # (22) of this end alone gives zeta
    return own[..., :e] | own[..., e:]
