"""Best responses of agents with storage: what ties their hours together (MODEL.md §4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from tests.reference.instances import network, random_instance


def with_battery(seed: int, **options: Any) -> pypsa.Network:
    """Three prosumers, two scenarios, four hours; two of them have batteries."""
    n = network(random_instance(seed, 3, 2, 4, congestion=False))
    for who in ("p0", "p2"):
        own = {"p_nom": 1.0, "max_hours": 2.0, "marginal_cost": 0.1, **options}
        n.add("StorageUnit", f"battery {who}", bus=who, **own)
    return n


def battery(n: pypsa.Network, column: str) -> np.ndarray:
    return n.c["StorageUnit"].dynamic[column].to_numpy()


KINDS = {
    "cyclic": {"cyclic_state_of_charge": True, "efficiency_store": 0.9},
    "initial": {"state_of_charge_initial": 1.5, "efficiency_dispatch": 0.8},
    "leaking": {
        "cyclic_state_of_charge": True,
        "standing_loss": 0.1,
        "marginal_cost_quadratic": 0.2,
    },
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_alone_it_is_the_direct_solution(kind: str, seed: int) -> None:
    """Without a capacity to trade everybody's best response is the market's optimum."""
    n, direct = with_battery(seed, **KINDS[kind]), with_battery(seed, **KINDS[kind])
    for one in (n, direct):
        one.c["Link"].static["p_nom"] = 0.0
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR())
    eq = p2p.solve_equilibrium(n, market, p2p.GaussSeidel(start="zero"), progress=False)
    market.optimize(direct)
    r, wanted = p2p.results(n), p2p.results(direct)
    assert eq.converged
    assert n.objective == pytest.approx(direct.objective, rel=1e-7, abs=1e-7)
    np.testing.assert_allclose(r.demand, wanted.demand, rtol=0, atol=1e-5)
    if kind == "leaking":  # the only one in which nothing of it is indifferent
        at = battery(direct, "state_of_charge")
        np.testing.assert_allclose(battery(n, "state_of_charge"), at, rtol=0, atol=1e-4)
    assert p2p.certify(n).is_equilibrium(equilibrium="generalized")


@pytest.mark.parametrize("fee", [0.0, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_from_the_variational_equilibrium_nobody_moves(kind: str, fee: float) -> None:
    n = with_battery(5, **KINDS[kind])
    if fee:
        for column in ("fee0", "fee1"):
            n.c["Link"].static[column] = fee
    market = p2p.PeerToPeerMarket()
    market.optimize(n)
    cost = n.objective
    eq = p2p.solve_equilibrium(n, market, p2p.GaussSeidel(), warm_start=n, progress=False)
    assert eq.history.exploitability[0] <= 1e-7
    assert n.objective == pytest.approx(cost, rel=1e-6, abs=1e-6)
    assert p2p.certify(n).is_equilibrium(equilibrium="generalized")


def test_a_battery_carries_the_sun_into_the_evening() -> None:
    """2 MW of sun at noon, 1.5 MW needed in the evening: .75 of 2 go in and come out as 1.5."""
    n = pypsa.Network(snapshots=["noon", "evening"])
    p2p.add_prosumers(
        n,
        ["house", "shop"],
        demand={"house": 0.0, "shop": 1.0},
        demand_max={"house": 2.0, "shop": 1.0},
        utility_quadratic=1.0,
        generation_max={"house": 0.0, "shop": 5.0},
        marginal_cost=30.0,
    )
    load = n.c["Load"].static.index[n.c["Load"].static["bus"] == "house"][0]
    n.c["Load"].dynamic["p_set"][load] = [0.0, 1.5]
    n.add("Generator", "sun", bus="house", p_nom=2.0, p_min_pu=1.0, p_max_pu=1.0)
    n.c["Generator"].dynamic["p_min_pu"]["sun"] = [1.0, 0.0]
    n.c["Generator"].dynamic["p_max_pu"]["sun"] = [1.0, 0.0]
    n.add(
        "StorageUnit",
        "battery",
        bus="house",
        p_nom=3.0,
        max_hours=1.0,
        efficiency_store=0.75,
        cyclic_state_of_charge=True,
    )
    p2p.add_trades(n, [("house", "shop")], capacity=1.0)
    eq = p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), p2p.GaussSeidel(), progress=False)
    assert eq.converged
    np.testing.assert_allclose(battery(n, "p")[:, 0], [-2.0, 1.5], atol=1e-6)
    np.testing.assert_allclose(battery(n, "state_of_charge")[:, 0], [1.5, 0.0], atol=1e-6)


def test_the_village_starts_without_an_argument() -> None:
    n = p2p.load_grid("lv_village", market=True, resolution="12h")
    method = p2p.GaussSeidel(max_iterations=2)
    eq = p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), method, progress=False)
    assert eq.history.exploitability[-1] <= 1e-2


def test_what_is_not_known_of_storage_is_named() -> None:
    market = p2p.PeerToPeerMarket()
    with pytest.raises(p2p.MarketError, match="'battery p0', 'battery p2' ties hours"):
        p2p.solve_equilibrium(with_battery(0), market, p2p.ADMM(), progress=False)
    with pytest.raises(p2p.MarketError, match="has 'inflow'"):
        p2p.solve_equilibrium(with_battery(0, inflow=1.0), market, p2p.Jacobi(), progress=False)
    n = with_battery(0)
    n.add("Store", "tank", bus="p1", e_nom=1.0)
    with pytest.raises(p2p.MarketError, match="Store 'tank' is no load"):
        p2p.solve_equilibrium(n, market, p2p.GaussSeidel(), progress=False)
