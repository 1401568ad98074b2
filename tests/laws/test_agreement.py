"""The package against the cone program written from MODEL.md, in every design."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.laws.markets import (
    CONGESTED,
    LARGE,
    SMALL,
    Draw,
    Setting,
    instance_of,
    package,
    reference,
)
from tests.reference.instances import Array, Instance
from tests.reference.package import money_of, unique_prices
from tests.reference.solve import Solution, cost_of, risk_of

SETTINGS = {
    "centralized": Setting(),
    "centralized, no surplus": Setting(surplus=False),
    "equilibrium": Setting("peer-to-peer"),
    "averse": Setting(theta=1.0),
    "averse, no surplus": Setting(theta=1.0, surplus=False),
    "averse equilibrium": Setting("peer-to-peer", theta=1.0),
    "mixed": Setting(theta=0.4),
    "community": Setting(theta=1.0, attitude=0.5, aggregate="community"),
    "contracts": Setting(theta=1.0, contracts=True),
    "contracts, equilibrium": Setting("peer-to-peer", theta=1.0, contracts=True, surplus=False),
    "contracts, mixed": Setting(theta=0.4, contracts=True),
}
WITH_CONGESTION = {
    "centralized": Setting(),
    "equilibrium": Setting("peer-to-peer"),
    "equilibrium, no surplus": Setting("peer-to-peer", surplus=False),
    "community": Setting(theta=1.0, attitude=0.5, aggregate="community"),
}
CASES = {
    f"{draw} {key} {route}": (draw, setting, route)
    for draw, settings, routes in (
        (SMALL, SETTINGS, ("hook", "direct")),
        (LARGE, SETTINGS, ("direct",)),
        (CONGESTED, WITH_CONGESTION, ("hook", "direct")),
    )
    for key, setting in settings.items()
    for route in routes
}
EVERY = pytest.mark.parametrize(("draw", "setting", "route"), CASES.values(), ids=list(CASES))


def cared_about(solution: Solution) -> npt.NDArray[np.bool_]:
    """tau > 0, (N, S, 1): elsewhere a risk-averse prosumer is indifferent."""
    return (solution.tau > 1e-4)[:, :, None]


def close(
    found: Array, wanted: Array, where: npt.NDArray[np.bool_], tolerance: float = 1e-5
) -> None:
    """Equal to `tolerance` wherever `where` holds."""
    np.testing.assert_allclose(np.where(where, found, wanted), wanted, rtol=0, atol=tolerance)


@EVERY
def test_social_cost(draw: Draw, setting: Setting, route: str) -> None:
    """The objective to 1e-6 of itself."""
    found = package(draw, setting, route).social_cost
    assert found == pytest.approx(reference(draw, setting).social_cost, rel=1e-6, abs=1e-6)


@EVERY
def test_dispatch_and_prices(draw: Draw, setting: Setting, route: str) -> None:
    """D, G, lambda to 1e-5 where they are unique."""
    found, wanted = package(draw, setting, route), reference(draw, setting)
    close(found.demand, wanted.demand, cared_about(wanted))
    close(found.generation, wanted.generation, cared_about(wanted))
    price = money_of(wanted, instance_of(draw).probability)
    close(found.nodal_price, price, unique_prices(instance_of(draw), wanted))


@EVERY
def test_risk_adjusted_probabilities(draw: Draw, setting: Setting, route: str) -> None:
    """tau of every prosumer and scenario, to 1e-5."""
    found, wanted = package(draw, setting, route), reference(draw, setting)
    np.testing.assert_allclose(found.tau, wanted.tau, rtol=0, atol=1e-5)


@EVERY
def test_reported_costs_follow_from_the_decisions(draw: Draw, setting: Setting, route: str) -> None:
    """Pi is (7) at the reported D, G, q; R is its risk measure, premium included."""
    data: Instance = instance_of(draw)
    found = package(draw, setting, route)
    cost = cost_of(data, found.demand, found.generation, found.quantity)
    np.testing.assert_allclose(found.cost, cost, rtol=1e-9, atol=1e-7)
    if setting.aggregate == "community":
        social = risk_of(data.probability, cost.sum(axis=0), float(setting.attitude or 0), 1.0)
        assert found.social_cost == pytest.approx(social, rel=1e-6)
        return
    chi = np.zeros(len(data.names)) if setting.theta is None else data.risk_attitude
    premium, net = np.zeros(len(chi)), cost
    if found.contract is not None and found.contract_price is not None:
        premium, net = found.contract @ found.contract_price, cost - found.contract
    theta = setting.theta or 0.0
    averse = [risk_of(data.probability, net[k], chi[k], theta) for k in range(len(chi))]
    np.testing.assert_allclose(found.risk_adjusted_cost, averse + premium, rtol=1e-6, atol=1e-6)
    assert found.social_cost == pytest.approx(sum(averse) + premium.sum(), rel=1e-6)


@EVERY
def test_constraints_hold(draw: Draw, setting: Setting, route: str) -> None:
    """(1), (2), (3) and limits at the reported decisions, to 1e-6 MW."""
    data = instance_of(draw)
    found = package(draw, setting, route)
    net_import = np.einsum("nk,stk->nst", data.incidence, found.quantity)
    balance = found.demand - found.generation - data.renewable - net_import
    np.testing.assert_allclose(balance, 0, atol=1e-6)
    assert found.surplus.min() >= -1e-6
    if not setting.surplus:
        assert found.surplus.max() <= 1e-6
    assert (found.quantity <= np.tile(data.capacity, 2) + 1e-6).all()
    wide = (slice(None), None, None)
    assert (found.demand >= data.demand_min[wide] - 1e-6).all()
    assert (found.demand <= data.demand_max[wide] + 1e-6).all()
    assert (found.generation >= data.generation_min[wide] - 1e-6).all()
    assert (found.generation <= data.generation_max[wide] + 1e-6).all()
