"""The package's answer to an instance, in the shapes of the reference's `Solution`.

Only public names are used: the builders, the two markets, `CVaR`, `Contracts`, `results`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import pypsa_p2p as p2p
from tests.reference.instances import Array, Instance, network
from tests.reference.solve import Risk, Solution

ROUTES = ("hook", "direct")


def market_of(
    instance: Instance,
    design: str = "centralized",
    risk: Risk | None = None,
    aggregate: str = "prosumers",
    contracts: bool = False,
    surplus: bool = True,
) -> Any:
    """The market object that `solve` of the reference takes the same arguments for."""
    measure = None
    if risk is not None:
        attitude = risk[1]
        if attitude is not None and np.ndim(attitude):
            attitude = dict(zip(instance.names, np.asarray(attitude).tolist(), strict=True))
        elif attitude is not None:
            attitude = float(attitude)
        measure = p2p.CVaR(attitude=attitude, weight=risk[2])
    options = {
        "risk": measure,
        "contracts": p2p.Contracts() if contracts else None,
        "surplus": surplus,
    }
    if design == "centralized":
        return p2p.CentralizedMarket(aggregate=aggregate, **options)
    return p2p.PeerToPeerMarket(**options)


def solved(instance: Instance, market: Any, route: str = "direct") -> tuple[Any, xr.Dataset]:
    """The solved network and its labelled results."""
    n = network(instance)
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)
    return n, p2p.results(n)


def answer(
    instance: Instance,
    design: str = "centralized",
    risk: Risk | None = None,
    aggregate: str = "prosumers",
    contracts: bool = False,
    surplus: bool = True,
    route: str = "direct",
) -> Solution:
    """Solve with the package and hand the results over as the reference's `Solution`."""
    market = market_of(instance, design, risk, aggregate, contracts, surplus)
    return as_solution(instance, solved(instance, market, route)[1])


def as_solution(instance: Instance, r: xr.Dataset) -> Solution:
    """`p2p.results(n)` with prosumers, trades and scenarios in the order of the instance."""
    e = len(instance.edges)
    trades = trade_order(instance, r)

    def by_prosumer(name: str) -> Array:
        values = _ordered(instance, r[name]).transpose("prosumer", "scenario", "snapshot")
        return values.to_numpy()

    def by_trade(name: str) -> Array:
        values = _ordered(instance, r[name]).isel(trade=trades)
        return values.transpose("scenario", "snapshot", "trade").to_numpy()

    def by_scenario(name: str) -> Array:
        return _ordered(instance, r[name]).transpose("prosumer", "scenario").to_numpy()

    return Solution(
        demand=by_prosumer("demand"),
        generation=by_prosumer("generation"),
        quantity=by_trade("quantity"),
        cost=by_scenario("cost"),
        risk_adjusted_cost=_ordered(instance, r["risk_adjusted_cost"]).to_numpy(),
        social_cost=float(r["social_cost"]),
        expected_social_cost=float(r["expected_cost"].sum()),
        nodal_price=by_prosumer("nodal_price"),
        trade_price=by_trade("trade_price")[..., :e],
        capacity_price=by_trade("capacity_price"),
        tau=by_scenario("risk_adjusted_probability"),
        contract=by_scenario("contract") if "contract" in r else None,
        contract_price=(
            _ordered(instance, r["contract_price"]).to_numpy() if "contract_price" in r else None
        ),
    )


def trade_order(instance: Instance, r: xr.Dataset) -> list[int]:
    """Position in `r.trade` of each of the instance's directed trades."""
    pairs = zip(r["buyer"].to_numpy().tolist(), r["seller"].to_numpy().tolist(), strict=True)
    position = {pair: k for k, pair in enumerate(pairs)}
    names = instance.names
    pairs_wanted = zip(instance.buyer, instance.seller, strict=True)
    return [position[names[i], names[j]] for i, j in pairs_wanted]


def _ordered(instance: Instance, values: xr.DataArray) -> xr.DataArray:
    if "prosumer" in values.dims:
        values = values.sel(prosumer=list(instance.names))
    if "scenario" in values.dims and len(instance.probability) > 1:
        values = values.sel(scenario=instance.scenarios)
    return values


def money_of(solution: Solution, probability: Array) -> Array:
    """Nodal prices of a reference, which divides by p, in money of the scenario, (N, S, T)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(solution.nodal_price * (probability / solution.tau)[:, :, None])


def unique_prices(instance: Instance, solution: Solution) -> Any:
    """Where the nodal price is the only one possible, (N, S, T) of bool.

    There the prosumer cares about the scenario (tau > 0) and her demand or her generation lies
    inside its limits, so that (17) or (18) without bound multipliers gives lambda.
    """
    wide = (slice(None), None, None)
    inside = np.zeros(solution.demand.shape, bool)
    for value, low, high in (
        (solution.demand, instance.demand_min, instance.demand_max),
        (solution.generation, instance.generation_min, instance.generation_max),
    ):
        inside |= (value > low[wide] + 1e-4) & (value < high[wide] - 1e-4)
    return inside & (solution.tau > 1e-4)[:, :, None]
