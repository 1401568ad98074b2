"""Operators: they trade and are counted in costs, but are nobody's household."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p


def around_a_hub(role: str = "operator", attitude: float = 0.0) -> pypsa.Network:
    """A seller at 0, a buyer of 4 MW at 2 (4 - D), all through a hub; 2 MW to the hub at most."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["seller", "hub", "buyer"], demand=[0, 0, 4], demand_max=10, utility_quadratic=[1, 1, 1],
        generation_max=[20, 0, 0], risk_attitude=[0.5, attitude, 0.2],
        role={"seller": "prosumer", "hub": role, "buyer": "prosumer"},
    )  # fmt: skip
    p2p.add_trades(n, [("seller", "hub"), ("hub", "buyer")], capacity=2.0)
    return n


def sunny_and_cloudy(n: pypsa.Network) -> pypsa.Network:
    demand = xr.DataArray(
        [[4.0], [1.0]], coords={"scenario": ["x", "y"], "prosumer": ["buyer"]}, name="demand"
    )
    p2p.set_scenarios(n, {"x": 0.5, "y": 0.5}, demand.to_dataset())
    return n


def test_operators_are_counted_in_costs_and_left_out_of_fairness() -> None:
    """Costs 0, 0 and 4: two people have a Gini coefficient of 1/2, three of 2/3."""
    with_hub, of_three = around_a_hub(), around_a_hub("prosumer")
    for n in (with_hub, of_three):
        p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ginis = [p2p.fairness(n, of="cost")["cost_gini"] for n in (with_hub, of_three)]
    assert ginis == pytest.approx([1 / 2, 2 / 3], abs=1e-6)
    table = p2p.compare({"operator": with_hub, "prosumer": of_three}, of="cost")
    assert table["cost_gini"].tolist() == pytest.approx([1 / 2, 2 / 3], abs=1e-6)
    assert table["social_cost"].tolist() == pytest.approx([4.0, 4.0], abs=1e-6)
    assert {"cost hub", "cost seller"} <= set(table)
    assert np.array_equal(p2p.results(with_hub)["cost"], p2p.results(of_three)["cost"])


def test_prices_of_operators_are_in_no_mean() -> None:
    """0 at the seller, 4 at the buyer; the hub has 0 or 4, or what lies between."""
    n = around_a_hub()
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    assert p2p.compare({"n": n})["price_mean"].item() == pytest.approx(2.0, abs=1e-5)


def test_what_an_operator_may_insure_must_be_said() -> None:
    contracts: dict[str, Any] = {"risk": p2p.CVaR(), "contracts": p2p.Contracts()}
    n = sunny_and_cloudy(around_a_hub())
    with pytest.raises(p2p.MarketError, match="Operator 'hub' is risk-neutral"):
        p2p.PeerToPeerMarket(**contracts).optimize(n)
    out = {"seller": np.inf, "buyer": np.inf, "hub": 0.0}
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(limit=out)).optimize(n)
    assert not p2p.results(n)["contract"].sel(prosumer="hub").any()
    p2p.PeerToPeerMarket(**contracts).optimize(sunny_and_cloudy(around_a_hub(attitude=0.9)))
    neutral = p2p.CVaR(attitude=0.0)  # nobody minds risk: there is nothing to insure
    p2p.PeerToPeerMarket(risk=neutral, contracts=p2p.Contracts()).optimize(n)


def test_roles_are_kept_in_files_and_by_assigning(tmp_path: Path) -> None:
    n = sunny_and_cloudy(around_a_hub())
    n.export_to_netcdf(tmp_path / "n.nc")
    for kept in (n, n.copy(), pypsa.Network(tmp_path / "n.nc")):
        assert kept.buses.xs("x")["role"].tolist() == ["prosumer", "operator", "prosumer"]
    m = pypsa.Network()
    m.add("Bus", ["a", "b"])
    m.add("Generator", ["ga", "gb"], bus=["a", "b"], p_nom=1.0)
    p2p.assign_prosumers(m, "bus", role={"a prosumer": "operator", "b prosumer": "prosumer"})
    assert m.buses.role.tolist() == ["", "", "operator", "prosumer"]
    p2p.release_prosumers(m)
    assert "role" not in m.buses


def test_unknown_roles_are_refused() -> None:
    with pytest.raises(p2p.DataError, match="role 'boss' of prosumer 'hub' is unknown"):
        around_a_hub("boss")
    n = around_a_hub()
    n.buses["role"] = "boss"
    with pytest.raises(p2p.DataError, match=r"n.buses.role of prosumer .*'boss'"):
        p2p.PeerToPeerMarket().optimize(n)
    n.buses["role"] = "operator"
    with pytest.raises(p2p.DataError, match="'operator' for everybody"):
        p2p.PeerToPeerMarket().optimize(n)
    del n.buses["role"]  # as networks of earlier versions
    p2p.PeerToPeerMarket().optimize(n)
