"""Bids in steps: by hand, in every form, by scenario and snapshot, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.studies.fairness import served_share

STEPS = {"shop": [(60.0, 2.0), (30.0, 2.0)]}
OFFERS = {"plant": [(20.0, 3.0), (50.0, 5.0)]}


def traded(n: pypsa.Network, **bids: Any) -> pypsa.Network:
    given = {"demand_bids": STEPS, "supply_bids": OFFERS, **bids}
    p2p.add_prosumers(n, ["shop", "plant"], **given)
    p2p.add_trades(n, "complete", capacity=10.0)
    return n


def solved(n: pypsa.Network, route: str) -> xr.Dataset:
    market = p2p.PeerToPeerMarket(surplus=False)
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)
    assert p2p.certify(n).is_equilibrium()
    return p2p.results(n)


def test_two_steps_each(route: str) -> None:
    """3 of 4 MW at 30: what is offered at 20 is sold out, and half of what is wanted at 30 served.

    The plant pays 60 for it and gets 90; the shop's 3 MW are worth 150 to her.
    """
    n = traded(pypsa.Network())
    r = solved(n, route).squeeze()
    assert r["demand"].to_numpy() == pytest.approx([3.0, 0.0], abs=1e-6)
    assert r["generation"].to_numpy() == pytest.approx([0.0, 3.0], abs=1e-6)
    assert r["nodal_price"].to_numpy() == pytest.approx([30.0, 30.0], abs=1e-4)
    assert r["bill"].to_numpy() == pytest.approx([90.0, -30.0], abs=1e-4)
    assert r["net_cost"].to_numpy() == pytest.approx([-60.0, -30.0], abs=1e-4)
    assert float(r["social_cost"]) == pytest.approx(-90.0, abs=1e-5)
    assert served_share(n)["shop"] == pytest.approx(3 / 4, abs=1e-6)


def test_prices_by_snapshot_quantities_by_scenario(route: str) -> None:
    """The shop wants 1 MW, or 2 in scenario y, and pays what the plant asks in the second hour."""
    n = pypsa.Network(snapshots=["first", "second"])
    n.set_scenarios({"x": 0.5, "y": 0.5})
    wanted = xr.DataArray([1.0, 2.0], coords={"scenario": ["x", "y"]})
    bid = [(pd.Series({"first": 10.0, "second": 40.0}), wanted)]
    r = solved(traded(n, demand_bids={"shop": bid}), route)
    served = r["demand"].sel(prosumer="shop").transpose("scenario", "snapshot").to_numpy()
    np.testing.assert_allclose(served, [[0.0, 1.0], [0.0, 2.0]], atol=1e-6)


def test_agents_know_bids() -> None:
    n = traded(pypsa.Network())
    answer = p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(surplus=False), p2p.ADMM())
    assert answer.converged
    assert p2p.results(n)["demand"].to_numpy().ravel() == pytest.approx([3.0, 0.0], abs=1e-4)


FORMS = {
    "mapping": STEPS,
    "series": pd.Series({"shop": STEPS["shop"]}),
    "arrays": {"shop": np.array(STEPS["shop"])},
    "lists": {"shop": [list(step) for step in STEPS["shop"]], "plant": []},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    n = traded(pypsa.Network(), demand_bids=FORMS[form])
    bids = n.generators[n.generators.carrier == "demand bid"]
    assert bids.index.tolist() == ["shop demand bid 1", "shop demand bid 2"]
    assert bids[["marginal_cost", "p_nom", "p_min_pu", "p_max_pu"]].to_numpy().tolist() == [
        [60.0, 2.0, -1.0, 0.0],
        [30.0, 2.0, -1.0, 0.0],
    ]


def test_the_same_steps_for_everybody() -> None:
    n = traded(pypsa.Network(), supply_bids=[(20.0, 1.0)], demand_bids=())
    assert n.generators.index[-2:].tolist() == ["shop supply bid 1", "plant supply bid 1"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"demand_bids": {"shop": [(60.0, 2.0, "block")]}}, "Blocks, all or nothing"),
    ({"demand_bids": {"shop": [60.0]}}, "demand_bids of prosumer 'shop' has 60.0: give pairs"),
    ({"demand_bids": {"shop": 60.0}}, "demand_bids of prosumer 'shop' is 60.0: give pairs"),
    ({"demand_bids": {"mill": [(60.0, 2.0)]}}, "demand_bids names 'mill'"),
    ({"supply_bids": {"plant": [(60.0, -2.0)]}}, "supply_bids has a negative quantity.*'plant"),
    ({"supply_bids": {"plant": [(np.nan, 2.0)]}}, "supply_bids price of 'plant supply bid 1'"),
    ({"supply_bids": {"plant": [(1.0, np.inf)]}}, "supply_bids quantity of 'plant supply bid 1'"),
    ({"supply_bids": 7}, "supply_bids of prosumer 'shop' is 7"),
    ({"demand": 5.0}, "'demand_max', 'utility_quadratic' is missing"),
    ({"demand": 5.0, "demand_max": 6.0}, "'utility_quadratic' is missing"),
    ({"demand_min": -1.0, "utility_quadratic": 1.0}, "'demand_max' is missing"),
]


@pytest.mark.parametrize(("bids", "message"), REFUSED)
def test_what_is_no_bid_is_refused_and_changes_nothing(bids: dict[str, Any], message: str) -> None:
    n = pypsa.Network()
    with pytest.raises(p2p.DataError, match=message):
        traded(n, **bids)
    assert n.buses.empty and n.generators.empty
