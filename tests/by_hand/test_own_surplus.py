"""Who sells only what is her own: by hand, both routes, agents, scenarios, sweeps, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p


def fixed(demand: Any) -> dict[str, Any]:
    return {
        "demand": demand, "demand_min": demand, "demand_max": demand, "utility_quadratic": 0.0,
    }  # fmt: skip


def roof_and_shop(own_surplus: Any) -> pypsa.Network:
    """The roof has 1 MW of sun and sells at 100; the shop needs 1 MW, of 2 that she makes at 90."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n, ["roof", "shop"], **fixed([0, 1]), renewable=[1, 0], generation_max=[0, 2],
        marginal_cost=[0, 90],
    )  # fmt: skip
    p2p.add_retail(n, import_price=300, export_price=[100, 50])
    p2p.add_trades(n, "complete", capacity=5, own_surplus=own_surplus)
    return n


def solved(n: pypsa.Network, route: str = "direct") -> xr.Dataset:
    market = p2p.PeerToPeerMarket(surplus=False)
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)
    assert p2p.certify(n).is_equilibrium()
    return p2p.results(n).squeeze()


def test_no_resale_to_a_retailer(route: str) -> None:
    """-100 for the sun, 90 for the shop's: -10. With resale her second MW earns 10 more: -20."""
    assert float(solved(roof_and_shop(False), route).social_cost) == pytest.approx(-20, abs=1e-5)
    r = solved(roof_and_shop(["roof"]), route)
    assert float(r.social_cost) == pytest.approx(-10, abs=1e-5)
    assert abs(r.net_import).to_numpy() == pytest.approx([0, 0], abs=1e-6)


def a_day(own_surplus: Any, **contract: Any) -> pypsa.Network:
    """One with 3 MW of sun at noon and 1 MW of load, who alone buys at 50; two who buy at 300."""
    n = pypsa.Network(snapshots=["noon", "night"])
    p2p.add_prosumers(
        n, ["sun", "one", "two"], **fixed([1, 2, 2]),
        renewable=pd.DataFrame({"sun": [3.0, 0.0], "one": 0.0, "two": 0.0}, n.snapshots),
    )  # fmt: skip
    prices = {"sun": 50, "one": 300, "two": 300}
    p2p.add_retail(n, import_price=prices, export_price=10, **contract)
    p2p.add_trades(n, [("sun", "one"), ("sun", "two")], capacity=5, own_surplus=own_surplus)
    return n


@pytest.mark.parametrize("contract", [{}, {"peak_price": 1e-3}], ids=["energy", "peak"])
def test_no_resale_of_retail_energy(contract: dict[str, Any], route: str) -> None:
    """By resale she would serve all at 50: 5 at night and 2 at noon.

    Of her own she sells 2 at noon; others import 2 then, and 4 at night, at 300, she 1 at 50.
    """
    n = a_day(["sun"], **contract)
    r = solved(n, route)
    assert float(r.social_cost) == pytest.approx(6 * 300 + 50, rel=1e-4)
    assert r.retail_import.sel(prosumer="sun").to_numpy() == pytest.approx([0, 1], abs=1e-6)
    assert r.net_import.sel(prosumer="sun").to_numpy() == pytest.approx([-2, 0], abs=1e-6)
    resale = solved(a_day(False, **contract), route)
    assert float(resale.social_cost) == pytest.approx((2 + 5) * 50, rel=1e-4)
    alone = p2p.without_trades(n)
    assert float(p2p.results(alone).social_cost) == pytest.approx(8 * 300 + 50 - 20, rel=1e-4)
    assert (p2p.savings(n).saving_now > -1e-4).all()


def test_agents_know_it() -> None:
    n = a_day(["sun"])
    found = p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(surplus=False), p2p.ADMM())
    assert found.converged
    assert float(p2p.results(n).social_cost) == pytest.approx(6 * 300 + 50, rel=1e-5)


def test_by_scenario_and_in_sweeps() -> None:
    """Dull weather turns her surplus into a need; a sweep over the sun as market by market."""
    n = a_day(["sun"])
    sun = xr.DataArray(
        [[[3.0], [0.0]], [[0.5], [0.0]]], dims=["scenario", "snapshot", "prosumer"],
        coords={"scenario": ["fine", "dull"], "snapshot": n.snapshots, "prosumer": ["sun"]},
    )  # fmt: skip
    p2p.set_scenarios(n, {"fine": 0.5, "dull": 0.5}, xr.Dataset({"renewable": sun}))
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=0.3), surplus=False)
    market.optimize(n)
    assert p2p.certify(n).is_equilibrium()
    r = p2p.results(n).sel(prosumer="sun", snapshot="noon")
    assert r.net_import.sel(scenario=["fine", "dull"]).to_numpy() == pytest.approx(
        [-2, 0], abs=1e-5
    )
    factors = [0.2, 0.9, 3.0]
    swept = p2p.sweep(n, market, {"renewables": factors}, progress=False).social_cost.to_numpy()
    for factor, cost in zip(factors, swept, strict=True):
        m = n.copy()
        m.generators["p_nom"] *= np.where(m.generators.carrier == "renewable", factor, 1.0)
        market.optimize(m)
        assert float(p2p.results(m).social_cost) == pytest.approx(cost, rel=1e-8)


def test_a_surplus_that_is_still_to_be_decided_is_refused() -> None:
    with pytest.raises(p2p.MarketError, match=r"own_surplus for 'shop'.* from -1 to 1 MW"):
        solved(roof_and_shop(True))


def test_who_may_be_out_of_balance_could_sell_what_she_bought() -> None:
    n = a_day(["sun"])
    p2p.add_imbalance(n, ["sun"], buy=60, sell=10)
    with pytest.raises(p2p.MarketError, match="own_surplus for 'sun': she may be out of balance"):
        p2p.PeerToPeerMarket(surplus=False).optimize(n)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["flat"], "own_surplus has 'flat', who is at none"),
        (5, "own_surplus"),
        (None, "own_surplus"),
    ],
)
def test_wrong_names_are_refused(given: Any, message: str) -> None:
    with pytest.raises(p2p.DataError, match=message):
        roof_and_shop(given)


def test_surplus_that_brings_something_is_refused() -> None:
    """Nobody limits it, so she could import at 50 in order to sell at 80."""
    n = a_day(["sun"], import_capacity=3)
    n.buses_t.import_price[["sun", "one", "two"]] = 80.0
    with pytest.raises(p2p.MarketError, match="who sells only her own surplus could sell"):
        p2p.PeerToPeerMarket().optimize(n)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)


def test_a_roof_to_be_built_of_any_size_is_undecided() -> None:
    n = a_day(["sun"], import_capacity=9, export_capacity=9)
    n.add("Generator", "more sun", bus="sun", p_nom_extendable=True, capital_cost=1)
    with pytest.raises(
        p2p.MarketError, match=r"own_surplus for 'sun' in snapshot 'night'.* to inf MW"
    ):
        solved(n)
    n.remove("Generator", "more sun")
    n.add("Bus", "heat", carrier="heat")
    n.add("Link", "pump", bus0="sun", bus1="heat", p_nom=1.0, efficiency=3.0)
    n.add("Load", "warmth", bus="heat", p_set=1.0)
    with pytest.raises(p2p.MarketError, match=r"own_surplus for 'sun'"):
        solved(n)
