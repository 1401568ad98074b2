"""Fairness measures: by hand on a market of two, bounds and invariances."""

from __future__ import annotations

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.studies.fairness import (
    min_max,
    perceived_price,
    quality_of_experience,
    quality_of_service,
    served_share,
)


def three(capacity: float, far: float = 2.0) -> pypsa.Network:
    """A seller with free generation; two buyers, who want 4 MW each, over edges of `capacity`.

    At 2 MW each buyer sees 2 (4 - 2) = 4 EUR/MWh and the seller 0.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["seller", "near", "far"],
        demand=[0.0, 4.0, 4.0],
        demand_max=10.0,
        utility_quadratic=1.0,
        generation_max=[20.0, 0.0, 0.0],
    )
    edges = [("seller", "near"), ("seller", "far")]
    p2p.add_trades(n, edges, capacity={edges[0]: capacity, edges[1]: far})
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    return n


def test_by_hand() -> None:
    """Near gets 3 of 4 MW at 2 EUR/MWh, far 2 of 4 at 4; the seller sees 0."""
    n = three(capacity=3.0)
    share, price = served_share(n), perceived_price(n)
    assert np.isnan(share["seller"])
    assert share[["near", "far"]].tolist() == pytest.approx([0.75, 0.5], abs=1e-6)
    assert price.tolist() == pytest.approx([0.0, 2.0, 4.0], abs=1e-5)
    measures = p2p.fairness(n, of="cost")
    assert measures["quality_of_service"] == pytest.approx(1.25**2 / (2 * 0.8125), abs=1e-6)
    assert measures["quality_of_experience"] == pytest.approx(1 - np.sqrt(8 / 3) / 2, abs=1e-5)
    assert measures["min_max"] == pytest.approx(0.0, abs=1e-5)
    # Costs 0, 1, 4: differences 1 + 4 + 3, each twice, over 2 * 3 * 5.
    assert measures["cost_gini"] == pytest.approx(16 / 30, abs=1e-5)


def test_equal_treatment_is_fair() -> None:
    measures = p2p.fairness(three(capacity=2.0))
    assert measures["quality_of_service"] == pytest.approx(1.0)
    plenty = p2p.fairness(three(capacity=9.0, far=9.0))
    evenness = ["quality_of_service", "quality_of_experience", "min_max"]
    assert plenty[evenness].tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_expectations_are_over_scenarios() -> None:
    """The buyer always gets 2 MW of the 4 or, more likely, 6 she would like."""
    n = pypsa.Network()
    p2p.add_prosumers(n, ["seller", "buyer"], demand=[0.0, 4.0], demand_max=10.0,
                      utility_quadratic=1.0, generation_max=[20.0, 0.0])  # fmt: skip
    p2p.add_trades(n, "complete", capacity=2.0)
    wanted = xr.DataArray(
        [[4.0], [6.0]], coords={"scenario": ["calm", "cold"], "prosumer": ["buyer"]}
    )
    p2p.set_scenarios(n, {"calm": 0.25, "cold": 0.75}, xr.Dataset({"demand": wanted}))
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    assert served_share(n)["buyer"] == pytest.approx(2 / 5.5, abs=1e-6)
    assert perceived_price(n)["buyer"] == pytest.approx(0.25 * 4 + 0.75 * 8, abs=1e-5)


def test_measures_keep_their_bounds() -> None:
    rng = np.random.default_rng(3)
    for size in (1, 2, 7, 30):
        x = rng.uniform(0.0, 5.0, size)
        assert 1 / size - 1e-12 <= quality_of_service(x) <= 1 + 1e-12
        assert quality_of_service(3 * x) == pytest.approx(quality_of_service(x))
        assert 0 <= quality_of_experience(x, 0.0, 5.0) <= 1
        moved = quality_of_experience(2 * x - 7, -7.0, 3.0)
        assert moved == pytest.approx(quality_of_experience(x, 0.0, 5.0))
        assert 0 <= min_max(x) <= 1


def test_all_equal_and_one_for_all() -> None:
    same = np.full(4, 3.0)
    assert quality_of_service(same) == min_max(same) == 1.0
    assert quality_of_experience(same, 3.0, 3.0) == 1.0
    assert quality_of_service(np.array([0.0, 0.0, 0.0, 5.0])) == pytest.approx(0.25)
    assert quality_of_service(np.zeros(3)) == min_max(np.zeros(3)) == 1.0


def test_refusals() -> None:
    with pytest.raises(p2p.MarketError, match="needs amounts >= 0"):
        quality_of_service(np.array([1.0, -1.0]))
    with pytest.raises(p2p.MarketError, match=r"not on the scale from 0\.0 to 1\.0"):
        quality_of_experience(np.array([0.5, 2.0]), 0.0, 1.0)
    with pytest.raises(p2p.MarketError, match="no solved market"):
        p2p.fairness(p2p.load_grid("three_node"))


@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_who_all_do_nothing_are_equal(size: float) -> None:
    """What rounding leaves of costs of 0 is no inequality, in MW or in W."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["a", "b", "c"], demand=0, demand_max=0, utility_quadratic=0, generation_max=size,
        marginal_cost=[3, 4, 5],
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=3 * size)
    p2p.PeerToPeerMarket().optimize(n)
    measures = p2p.fairness(n)
    assert measures["net_cost_gini"] == 0.0
    assert p2p.compare({"idle": n}).loc["idle", "net_cost_gini"] == 0.0
    assert measures["quality_of_experience"] == 1.0


def test_amounts_that_there_are_not() -> None:
    """Who weigh scenarios differently have no common money: the design is named."""
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    with pytest.raises(p2p.MarketError, match="Of 'averse' there is no bill"):
        p2p.compare({"averse": n}, of="bill")
    with pytest.raises(p2p.MarketError, match="of must be one of"):
        p2p.compare({"averse": n}, of=["bill"])  # type: ignore[arg-type]
