"""Ties in markets with many optima: the trades reported do not depend on who solves, or when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.clearing import convex
from pypsa_p2p.solvers.backends.conic import solve_risk_conic
from pypsa_p2p.solvers.program import RiskProgram
from pypsa_p2p.solvers.sides import Sides
from tests.reference.instances import Instance, network, random_instance

#: Prices alike in both directions and everywhere: power may take any way round the ring.
RING: Instance = replace(
    random_instance(21, 4, 3, 1, symmetric_prices=True),
    price=np.full(12, 0.5),
    capacity=np.full(6, 6.0),
)
MARKETS: dict[str, Market] = {
    "neutral": p2p.CentralizedMarket(),
    "no surplus": p2p.PeerToPeerMarket(surplus=False),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
}
EVERY = pytest.mark.parametrize("key", MARKETS)


def solved(market: Market, **options: Any) -> tuple[pypsa.Network, xr.Dataset]:
    n = network(RING)
    if options:
        assert n.optimize(extra_functionality=market, log_to_console=False, **options)[0] == "ok"
    else:
        assert market.optimize(n) == ("ok", "optimal")
    return n, p2p.results(n)


def test_the_ring_has_ties() -> None:
    """Six edges among four prosumers with one price: circulating power changes no cost."""
    assert len(RING.edges) > len(RING.names) - 1
    assert set(RING.price) == {0.5}


@EVERY
def test_two_runs_are_equal_to_the_last_bit(key: str) -> None:
    _, first = solved(MARKETS[key])
    _, second = solved(MARKETS[key])
    xr.testing.assert_equal(first, second)


@EVERY
def test_solving_again_on_the_same_network_changes_nothing(key: str) -> None:
    n, first = solved(MARKETS[key])
    MARKETS[key].optimize(n)
    xr.testing.assert_equal(first, p2p.results(n))


@EVERY
@pytest.mark.parametrize(
    "options",
    [{"solver_name": "highs"}, {"solver_name": "highs", "solver_options": {"solver": "ipm"}}],
    ids=["simplex", "interior point"],
)
def test_trades_do_not_depend_on_the_solver_of_the_hook_route(
    key: str, options: dict[str, Any]
) -> None:
    _, direct = solved(MARKETS[key])
    _, hook = solved(MARKETS[key], **options)
    np.testing.assert_allclose(hook.quantity, direct.quantity, atol=1e-6)
    np.testing.assert_allclose(hook.cost, direct.cost, atol=1e-6)


def test_trades_do_not_depend_on_the_solver_of_the_direct_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cones instead of the structured interior point: another algorithm, the same trades."""
    _, wanted = solved(MARKETS["averse"])
    replacement: Callable[..., Any] = solve_risk_conic
    monkeypatch.setattr(convex, "solve_risk", replacement)
    _, found = solved(MARKETS["averse"])
    np.testing.assert_allclose(found.quantity, wanted.quantity, atol=1e-4)
    np.testing.assert_allclose(found.cost, wanted.cost, atol=1e-4)


@EVERY
def test_no_circulation_has_a_smaller_norm(key: str) -> None:
    """Power sent round a triangle of edges costs nothing at one price for all: none is left.

    The least-norm trades are orthogonal to every circulation that no capacity stops; where (1)
    holds with equality q_nm = -q_mn, so each edge's flow is q_mn.
    """
    _, r = solved(MARKETS[key])
    flow = {}
    for k, (buyer, seller) in enumerate(zip(r.buyer.values, r.seller.values, strict=True)):
        flow[seller, buyer] = r.quantity.isel(trade=k).to_numpy()
    names = list(RING.names)
    for a, b, c in ((0, 1, 2), (0, 1, 3), (1, 2, 3)):
        ring = [(names[a], names[b]), (names[b], names[c]), (names[c], names[a])]
        if not all(edge in flow for edge in ring):
            continue
        tight = [np.abs(flow[i, j] + flow[j, i]) < 1e-6 for i, j in ring]
        free = [np.abs(flow[edge]) < 6.0 - 1e-3 for edge in ring]
        clear = np.logical_and.reduce([*tight, *free])
        around = sum(flow[i, j] - flow[j, i] for i, j in ring)
        np.testing.assert_allclose(np.where(clear, around, 0.0), 0.0, atol=1e-4)


def test_the_cells_next_to_a_value_at_risk() -> None:
    """Dearest below and cheapest above, group by group; those of fixed weight are neither."""
    costs = np.array([3.0, 1.0, 7.0, 5.0, 2.0, 9.0, 4.0, 6.0])
    below = np.array([True, True, False, False, True, False, False, False])
    above = ~below
    above[5] = False  # tied, at the value at risk of its group
    least = np.where(below, -np.inf, 0.0)
    least[[6, 7]] = -np.inf  # a group whose weights are fixed
    tail = Sides(below=below, above=above, least=least, most=np.where(above, np.inf, 0.0))
    group = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    program = cast(RiskProgram, SimpleNamespace(costs=lambda x: x, group=group))
    assert sorted(tail.nearest(program, costs)) == [0, 3, 4]
