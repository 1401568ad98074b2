"""What must not matter: order, names, orientation, units, cuts in time, the way it is solved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.laws.markets import CONGESTED, Draw, Setting, instance_of, package
from tests.reference.instances import (
    Instance,
    edges_turned,
    money_scaled,
    permuted,
    random_instance,
    snapshots_split,
)
from tests.reference.package import answer, unique_prices
from tests.reference.solve import Solution

DRAW = Draw(8, prosumers=4, scenarios=3, snapshots=2)
SETTINGS = {
    "neutral": Setting(),
    "equilibrium": Setting("peer-to-peer", surplus=False),
    "averse": Setting("peer-to-peer", theta=1.0),
    "contracts": Setting(theta=1.0, contracts=True),
}
EVERY = pytest.mark.parametrize("key", SETTINGS)


def of(instance: Instance, setting: Setting) -> Solution:
    """The package's answer to a changed instance."""
    s = setting
    return answer(instance, s.design, s.risk, s.aggregate, s.contracts, s.surplus)


def same(found: Solution, wanted: Solution, order: Any = slice(None), money: float = 1.0) -> None:
    """Costs, dispatch and risk agree; `order` lists the prosumers of `wanted` as in `found`."""
    scale = money * max(1.0, abs(wanted.social_cost))
    assert found.social_cost == pytest.approx(money * wanted.social_cost, abs=1e-6 * scale)
    loose: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
    cared = (wanted.tau[order] > 1e-4)[:, :, None]
    for name in ("demand", "generation"):
        wanted_values = getattr(wanted, name)[order]
        values = np.where(cared, getattr(found, name), wanted_values)
        np.testing.assert_allclose(values, wanted_values, **loose)
    np.testing.assert_allclose(found.tau, wanted.tau[order], **loose)
    cost = money * wanted.risk_adjusted_cost[order]
    np.testing.assert_allclose(found.risk_adjusted_cost, cost, rtol=0, atol=1e-5 * scale)


@EVERY
def test_order_and_names_of_prosumers(key: str) -> None:
    """Turning the list round and renaming everybody moves the answers, nothing else.

    The new names sort differently from the old ones.
    """
    data = instance_of(DRAW)
    order = np.random.default_rng(0).permutation(len(data.names))
    changed = permuted(data, order)
    changed = replace(changed, names=tuple(f"z{9 - k} house" for k in range(len(order))))
    found, wanted = of(changed, SETTINGS[key]), package(DRAW, SETTINGS[key])
    same(found, wanted, order)
    np.testing.assert_allclose(found.quantity, wanted.quantity, atol=1e-4)


@pytest.mark.parametrize(
    ("draw", "key"),
    [(DRAW, "averse"), (CONGESTED, "neutral"), (CONGESTED, "equilibrium")],
    ids=["averse", "congested neutral", "congested equilibrium"],
)
def test_orientation_of_edges(draw: Draw, key: str) -> None:
    """bus0 and bus1 of an edge are interchangeable, also where more than kappa is sold."""
    found = of(edges_turned(instance_of(draw)), SETTINGS[key])
    wanted = package(draw, SETTINGS[key])
    same(found, wanted)
    e = len(instance_of(draw).edges)
    turned = np.concatenate([found.quantity[..., e:], found.quantity[..., :e]], axis=-1)
    np.testing.assert_allclose(turned, wanted.quantity, atol=1e-4)


@pytest.mark.parametrize(
    ("key", "factor"),
    [("neutral", 0.01), ("averse", 100.0), ("averse", 0.01), ("contracts", 100.0)],
)
def test_unit_of_money(key: str, factor: float) -> None:
    """In cents every cost and price is a hundred times what it is in euros; MW stay."""
    data = instance_of(DRAW)
    found, wanted = of(money_scaled(data, factor), SETTINGS[key]), package(DRAW, SETTINGS[key])
    same(found, wanted, money=factor)
    unique = unique_prices(data, wanted)
    np.testing.assert_allclose(
        found.nodal_price[unique] / factor, wanted.nodal_price[unique], atol=1e-5
    )


@EVERY
def test_snapshots_cut_in_two(key: str) -> None:
    """Two halves of an hour with the same data are that hour: costs, prices and dispatch."""
    data = instance_of(DRAW)
    found, wanted = of(snapshots_split(data), SETTINGS[key]), package(DRAW, SETTINGS[key])
    assert found.social_cost == pytest.approx(wanted.social_cost, rel=1e-6)
    np.testing.assert_allclose(found.tau, wanted.tau, atol=1e-5)
    cared = (wanted.tau > 1e-4)[:, :, None]
    unique = unique_prices(data, wanted)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        for name, where in (("demand", cared), ("generation", cared), ("nodal_price", unique)):
            values, before = getattr(found, name)[:, :, half], getattr(wanted, name)
            np.testing.assert_allclose(np.where(where, values, before), before, atol=1e-5)


@EVERY
def test_both_routes(key: str) -> None:
    """n.optimize with the hook and market.optimize give one answer, trades included."""
    hook = package(DRAW, SETTINGS[key], "hook")
    direct = package(DRAW, SETTINGS[key], "direct")
    same(hook, direct)
    unique = unique_prices(instance_of(DRAW), direct)
    np.testing.assert_allclose(hook.nodal_price[unique], direct.nodal_price[unique], atol=1e-5)
    np.testing.assert_allclose(hook.quantity, direct.quantity, atol=1e-4)


@pytest.mark.parametrize("key", ["averse", "contracts"])
def test_equal_scenarios_are_one(key: str) -> None:
    """A scenario written twice with half the probability each changes no cost."""
    data = random_instance(21, prosumers=3, scenarios=2)
    twice = np.array([0, 0, 1])
    doubled = replace(
        data,
        probability=data.probability[twice] * np.array([0.5, 0.5, 1.0]),
        demand=data.demand[:, twice],
        renewable=data.renewable[:, twice],
        import_price=data.import_price[twice],
    )
    found, wanted = of(doubled, SETTINGS[key]), of(data, SETTINGS[key])
    assert found.social_cost == pytest.approx(wanted.social_cost, rel=1e-6)
    np.testing.assert_allclose(found.risk_adjusted_cost, wanted.risk_adjusted_cost, atol=1e-5)


def test_one_scenario_leaves_nothing_to_be_averse_to(route: str) -> None:
    """A network without scenarios: every attitude gives the risk-neutral market."""
    draw = Draw(32, scenarios=1, snapshots=2)
    neutral = package(draw, Setting(), route)
    averse = package(draw, Setting(theta=1.0), route)
    assert averse.social_cost == pytest.approx(neutral.social_cost, rel=1e-6)
    np.testing.assert_allclose(averse.demand, neutral.demand, atol=1e-5)
