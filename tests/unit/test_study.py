"""`compare`: figures by hand and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.studies.comparison import compare, gini


def two(price: float = 0.0, capacity: float = 2.0) -> pypsa.Network:
    """A seller with free generation, a buyer who would use 4 MW, for three hours; solved.

    The buyer's 2 MW cost her (4 - 2)^2 = 4 EUR/h of utility, and price * 2 EUR/h.
    """
    n = pypsa.Network(snapshots=pd.RangeIndex(1))
    n.snapshot_weightings.loc[:, :] = 3.0
    p2p.add_prosumers(
        n,
        ["seller", "buyer"],
        demand=[0.0, 4.0],
        demand_max=10.0,
        utility_quadratic=1.0,
        generation_max=[10.0, 0.0],
    )
    p2p.add_trades(
        n,
        [("seller", "buyer")],
        capacity=capacity,
        price={
            ("buyer", "seller"): price,
            ("seller", "buyer"): 0.0,
        },
    )
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    return n


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return compare({"narrow": two(), "dear": two(price=1.0)}, of="cost")


def test_figures_by_hand(table: pd.DataFrame) -> None:
    """Without the hours costs would be 4 and 6, traded energy 2."""
    assert list(table.index) == ["narrow", "dear"]
    assert table.index.name == "design"
    assert table["social_cost"].tolist() == pytest.approx([12.0, 18.0], abs=1e-6)
    assert table["expected_social_cost"].tolist() == pytest.approx([12.0, 18.0], abs=1e-6)
    assert table["traded_energy"].tolist() == pytest.approx([6.0, 6.0], abs=1e-6)
    assert table["efficiency_loss"].tolist() == pytest.approx([0.0, 6.0], abs=1e-6)
    assert table["efficiency"].tolist() == pytest.approx([1.0, 0.5], abs=1e-6)
    assert table["cost buyer"].tolist() == pytest.approx([12.0, 18.0], abs=1e-6)
    assert table["cost seller"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert table["price_min"].tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert table["price_max"].tolist() == pytest.approx([4.0, 4.0], abs=1e-5)
    assert table["cost_gini"].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_costs_by_prosumer_sum_to_the_social_cost(table: pd.DataFrame) -> None:
    costs = table[[column for column in table if column.startswith("cost ")]]
    np.testing.assert_allclose(costs.sum(axis=1), table["social_cost"], rtol=1e-12)


def test_reference_by_name() -> None:
    networks = {"narrow": two(), "dear": two(price=1.0)}
    loss = compare(networks, reference="dear")["efficiency_loss"]
    assert loss.tolist() == pytest.approx([-6.0, 0.0], abs=1e-6)


def test_efficiency_of_a_community_that_gains() -> None:
    """Costs -10 and -8: efficiency .8, not 1.25 or 1.2."""
    networks = {"best": two(), "dear": two(price=1.0)}
    for n in networks.values():
        n.buses["usage_benefit"] = [0.0, 10.0]
        p2p.PeerToPeerMarket(surplus=False).optimize(n)
    efficiency = compare(networks)["efficiency"]
    assert efficiency["dear"] == pytest.approx(1 - 6 / 18, abs=1e-6)


def test_refusals() -> None:
    with pytest.raises(p2p.MarketError, match="nothing to compare"):
        compare({})
    with pytest.raises(
        p2p.MarketError, match="reference 'optimum' is none of the designs 'narrow'"
    ):
        compare({"narrow": two()}, reference=np.str_("optimum"))
    with pytest.raises(p2p.MarketError, match="Design 'unsolved': The network holds no solved"):
        compare({"narrow": two(), "unsolved": p2p.load_grid("three_node")})


def test_gini_keeps_its_bounds() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 5, 40):
        cost = rng.normal(size=size)
        assert 0.0 <= gini(cost) <= 1.0
        assert gini(cost) == pytest.approx(gini(-3.0 * cost))
    assert gini(np.zeros(3)) == 0.0
    assert gini(np.full(4, 2.0)) == 0.0
    # All with one of N: (N - 1)/N.
    assert gini(np.array([0.0, 0.0, 0.0, 5.0])) == pytest.approx(0.75)
