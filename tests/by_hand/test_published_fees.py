"""Markets with fees as others have published them: powers within their tolerance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p

PUBLISHED = Path(__file__).parents[1] / "published"


def solved(n: pypsa.Network, route: str) -> np.ndarray:
    """Net production of every agent, MW."""
    market = p2p.PeerToPeerMarket(surplus=False)
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    elif route == "direct":
        market.optimize(n)
    else:
        assert p2p.solve_equilibrium(n, market, p2p.ADMM()).converged
    assert p2p.certify(n).is_equilibrium(1e-5)
    return -p2p.results(n)["net_import"].to_numpy().ravel()


@pytest.mark.parametrize("way", ["hook", "direct", "agents"])
def test_four_agents_who_all_pay_1(way: str) -> None:
    """Two consumers, a plant and one who may be either; the prosumer happens to buy.

    B. Thomas and others, `beatho/EndogenousP2PMarket`, test "PAC 2" of the four-agent case: powers
    -11.1764, -11.1764, 24.033, -1.6809 to 0.01. By hand: the price is 70 - 11.1764 less 1, or
    40 + 0.7 x 24.033 and 1 more. Without the fees the plant would give 26.05.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["one", "two", "plant", "either"],
        demand=[70, 70, 0, 0], demand_min=[1, 2, 0, 0], demand_max=[30, 30, 0, 0],
        utility_quadratic=0.5, generation_min=[0, 0, 0, -20], generation_max=[0, 0, 60, 30],
        marginal_cost=[0, 0, 40, 60], marginal_cost_quadratic=0.35,
    )  # fmt: skip
    edges = [("one", "plant"), ("two", "plant"), ("one", "either"), ("two", "either")]
    p2p.add_trades(n, [*edges, ("plant", "either")], capacity=60, fee=1.0)
    np.testing.assert_allclose(solved(n, way), [-11.1764, -11.1764, 24.033, -1.6809], atol=1e-3)


@pytest.mark.parametrize("fee", [0.0, 9.0])
@pytest.mark.parametrize("way", ["hook", "direct"])
def test_39_buses_and_31_agents(way: str, fee: float) -> None:
    table = pd.read_csv(PUBLISHED / "baroche39.csv", index_col="name")
    buyer, seller = table.index[table["least"] < 0], table.index[table["most"] > 0]
    n = pypsa.Network()
    p2p.add_prosumers(
        n, table.index, generation_min=table["least"], generation_max=table["most"],
        marginal_cost=table["b"], marginal_cost_quadratic=table["a"] / 2,
    )  # fmt: skip
    p2p.add_trades(n, [(b, s) for b in buyer for s in seller], capacity=2000, fee=fee / 2)
    published = table["power_with_fee" if fee else "power"].to_numpy()
    np.testing.assert_allclose(solved(n, way), published, atol=0.05)
