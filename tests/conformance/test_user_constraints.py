"""The user's own constraints: in force on both routes, priced, and caught when late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.markets.base import Market
from tests.conformance.assets import Extra, Reference, solve_with
from tests.reference.instances import Instance, network, random_instance
from tests.reference.solve import Model, columns

User = Callable[[pypsa.Network, pd.Index], Any]
DESIGNS: dict[str, tuple[Market, dict[str, Any]]] = {
    "neutral": (p2p.CentralizedMarket(), {}),
    "averse": (p2p.PeerToPeerMarket(risk=p2p.CVaR()), {"averse": True}),
    "community": (
        p2p.CentralizedMarket(risk=p2p.CVaR(attitude=0.5), aggregate="community"),
        {"averse": True, "attitude": 0.5, "community": True},
    ),
    "contracts": (
        p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
        {"averse": True, "contracts": True},
    ),
}
EVERY = pytest.mark.parametrize("design", DESIGNS)


@cache
def instance() -> Instance:
    """Three prosumers who can all generate, two scenarios, three snapshots of unequal length."""
    data = random_instance(5, 3, 2, 3)
    return replace(data, generation_max=np.array([3.0, 5.0, 4.0]))


def solve(n: pypsa.Network, market: Market, user: User, route: str) -> xr.Dataset:
    """Solve with the user's function before the market."""
    if route == "direct":
        status = market.optimize(n, extra_functionality=user)
    else:
        status = n.optimize(
            extra_functionality=lambda n, sns: (user(n, sns), market(n, sns)),
            log_to_console=False,
        )
    assert tuple(status) == ("ok", "optimal")
    return p2p.results(n)


@cache
def free(design: str) -> Reference:
    """Without the user's constraint."""
    return solve_with(instance(), **DESIGNS[design][1])


def check(r: xr.Dataset, wanted: Reference, unconstrained: Reference) -> None:
    """The optimum under the constraint, which costs something."""
    assert float(r.social_cost) == pytest.approx(wanted.social_cost, rel=1e-6)
    assert wanted.social_cost > unconstrained.social_cost + 1e-3, "the constraint binds"
    cared = (r.risk_adjusted_probability > 1e-4).transpose("prosumer", "scenario").to_numpy()
    demand = r.demand.transpose("prosumer", "scenario", "snapshot").to_numpy()
    keep = np.broadcast_to(cared[:, :, None], demand.shape)
    np.testing.assert_allclose(demand[keep], wanted.demand[keep], atol=1e-5)


@EVERY
def test_one_budget_for_all_scenarios(design: str, route: str) -> None:
    """At most 6 MW of flexible generation, summed over prosumers, snapshots and scenarios.

    With complete contracts this ties the scenarios, so dispatching each alone would be wrong.
    """
    names = [f"{name} generation" for name in instance().names]

    def budget(n: pypsa.Network, sns: pd.Index) -> None:
        n.model.add_constraints(n.model["Generator-p"].sel(name=names).sum() <= 6.0, name="budget")

    def rows(model: Model, _: list[Extra]) -> list[Any]:
        return [cp.sum(model.G) <= 6.0]

    market, arguments = DESIGNS[design]
    r = solve(network(instance()), market, budget, route)
    assert float(r.generation.sum()) <= 6.0 + 1e-6
    check(r, solve_with(instance(), coupling=rows, **arguments), free(design))


@EVERY
def test_one_level_for_all_scenarios(design: str, route: str) -> None:
    """A decision of the user's own, made before the scenario is known: p1's generation."""
    name = f"{instance().names[1]} generation"

    def plan(n: pypsa.Network, sns: pd.Index) -> None:
        level = n.model.add_variables(lower=0.0, coords=[sns], name="plan")
        n.model.add_constraints(
            n.model["Generator-p"].sel(name=name, drop=True) - level == 0, name="planned"
        )

    def rows(model: Model, _: list[Extra]) -> list[Any]:
        t = instance().weighting.size
        return [model.G[1, :t] == model.G[1, t:]]

    market, arguments = DESIGNS[design]
    r = solve(network(instance()), market, plan, route)
    by_scenario = r.generation.sel(prosumer=instance().names[1]).transpose("scenario", "snapshot")
    np.testing.assert_allclose(by_scenario[0], by_scenario[1], atol=1e-6)
    check(r, solve_with(instance(), coupling=rows, **arguments), free(design))


@pytest.mark.parametrize("design", ["neutral", "contracts"])
def test_limit_of_a_trade(design: str, route: str) -> None:
    """Nobody may buy more than 0.05 MW over any edge, by the user's rows on `Link-p`."""

    def narrow(n: pypsa.Network, sns: pd.Index) -> None:
        n.model.add_constraints(n.model["Link-p"] >= -0.05, name="narrow")
        n.model.add_constraints(n.model["Link-p"] <= 0.05, name="wide")

    def rows(model: Model, _: list[Extra]) -> list[Any]:
        first = model.q[: len(instance().edges)]
        return [first <= 0.05, first >= -0.05]

    market, arguments = DESIGNS[design]
    r = solve(network(instance()), market, narrow, route)
    check(r, solve_with(instance(), coupling=rows, **arguments), free(design))


def certain() -> Instance:
    """The first scenario of the instance for certain."""
    data = instance()
    return replace(
        data,
        probability=np.ones(1),
        demand=data.demand[:, :1],
        renewable=data.renewable[:, :1],
        import_price=data.import_price[:1],
    )


@pytest.mark.parametrize("design", ["neutral", "contracts"])
def test_global_constraint(design: str, route: str) -> None:
    """PyPSA's limit of emissions, 1 t/MWh of flexible generation, at 2 t over all snapshots."""
    market, arguments = DESIGNS[design]
    n = network(certain())
    n.c.carriers.static.loc["flexible generation", "co2_emissions"] = 1.0
    n.add(
        "GlobalConstraint",
        "climate",
        type="primary_energy",
        constant=2.0,
        carrier_attribute="co2_emissions",
        sense="<=",
    )
    r = solve(n, market, lambda n, sns: None, route)
    hours = xr.DataArray(certain().weighting, dims="snapshot")
    assert float((r.generation * hours).sum()) == pytest.approx(2.0, abs=1e-6)

    def rows(model: Model, _: list[Extra]) -> list[Any]:
        return [cp.sum(model.G @ certain().weighting) <= 2.0]

    wanted = solve_with(certain(), coupling=rows, **arguments)
    check(r, wanted, solve_with(certain(), **arguments))
    slope = (
        solve_with(
            certain(),
            coupling=lambda m, _: [cp.sum(m.G @ certain().weighting) <= 2.01],
            **arguments,
        ).social_cost
        - wanted.social_cost
    ) / 0.01
    assert float(n.global_constraints.mu["climate"]) == pytest.approx(slope, abs=1e-2)


def test_user_constraint_without_influence_changes_nothing(route: str) -> None:
    market, _ = DESIGNS["contracts"]

    def wide(n: pypsa.Network, sns: pd.Index) -> None:
        n.model.add_constraints(n.model["Generator-p"].sum() <= 1e4, name="wide")

    r = solve(network(instance()), market, wide, route)
    assert float(r.social_cost) == pytest.approx(free("contracts").social_cost, rel=1e-6)
    np.testing.assert_allclose(columns(r.contract.sum("prosumer").to_numpy()[None]), 0, atol=1e-7)


@EVERY
@pytest.mark.parametrize("limit", [6.0, 1e4], ids=["violated", "slack"])
def test_constraint_after_the_market_is_caught(design: str, limit: float) -> None:
    """Violated by the market's solution: the solve is not ok. Not violated: `results` objects."""
    market, _ = DESIGNS[design]
    n = network(instance())

    def late(n: pypsa.Network, sns: pd.Index) -> None:
        market(n, sns)
        names = [f"{name} generation" for name in instance().names]
        n.model.add_constraints(n.model["Generator-p"].sel(name=names).sum() <= limit, name="late")

    status, _condition = n.optimize(extra_functionality=late, log_to_console=False)
    if limit == 6.0:
        assert status != "ok"
    with pytest.raises(MarketError, match="let the market come last"):
        p2p.results(n)
