"""A user's own terms in the objective: honoured, or refused before anything is solved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError

Extra = Callable[[pypsa.Network, pd.Index], None]
MARKETS = [p2p.CentralizedMarket(), p2p.PeerToPeerMarket(risk=p2p.CVaR())]


def two() -> pypsa.Network:
    """Two prosumers, two snapshots, two scenarios."""
    n = pypsa.Network(snapshots=range(2))
    p2p.add_prosumers(
        n,
        ["a", "b"],
        demand=[3.0, 2.0],
        demand_max=10.0,
        utility_quadratic=0.5,
        generation_max=[4.0, 0.0],
        marginal_cost=1.0,
        marginal_cost_quadratic=0.2,
        risk_attitude=[0.3, 0.6],
    )
    p2p.add_trades(n, [("a", "b")], capacity=5.0, price=0.1)
    price = xr.DataArray([0.5, 1.5], coords={"scenario": ["s1", "s2"]})
    p2p.set_scenarios(n, {"s1": 0.4, "s2": 0.6}, xr.Dataset({"import_price": price}))
    return n


def add(n: pypsa.Network, term: Any) -> None:
    n.model.objective = n.model.objective.expression + term.sum()


def of_two_prosumers(n: pypsa.Network, sns: pd.Index) -> None:
    p = n.model["Generator-p"]
    mine, hers = (p.sel(name=name, drop=True) for name in ("a generation", "b elastic demand"))
    add(n, 0.05 * (mine * hers))


def of_two_scenarios(n: pypsa.Network, sns: pd.Index) -> None:
    p = n.model["Generator-p"].sel(name="a generation", drop=True)
    add(n, 0.05 * (p.sel(scenario="s1", drop=True) * p.sel(scenario="s2", drop=True)))


def concave(n: pypsa.Network, sns: pd.Index) -> None:
    p = n.model["Generator-p"].sel(name="a generation", drop=True)
    add(n, -5 * (p * p))


def maximised(n: pypsa.Network, sns: pd.Index) -> None:
    n.model.objective.sense = "max"


def solve(n: pypsa.Network, market: Any, extra: Extra, route: str) -> None:
    if route == "direct":
        market.optimize(n, extra_functionality=extra)
    else:
        n.optimize.create_model(include_objective_constant=False)
        extra(n, n.snapshots)
        market(n, n.snapshots)
        n.optimize.solve_model()


@pytest.mark.parametrize("market", MARKETS, ids=["neutral", "averse"])
@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (of_two_prosumers, "multiplies 'Generator-p' with each other"),
        (of_two_scenarios, "multiplies 'Generator-p' with each other"),
        (concave, "concave in 'Generator-p'"),
        (maximised, "sense 'min'"),
    ],
    ids=["prosumers", "scenarios", "concave", "max"],
)
def test_refused_terms(market: Any, extra: Extra, says: str, route: str) -> None:
    n = two()
    with pytest.raises(MarketError, match=says):
        solve(n, market, extra, route)
    with pytest.raises(MarketError, match="no solved market"):
        p2p.results(n)


def test_own_terms_are_honoured(route: str) -> None:
    """Another 0.3 EUR/MW2h for a's generation is as if it had been there from the start."""

    def dearer(n: pypsa.Network, sns: pd.Index) -> None:
        p = n.model["Generator-p"].sel(name="a generation")
        add(n, 0.3 * xr.DataArray([0.4, 0.6], coords={"scenario": ["s1", "s2"]}) * (p * p))

    added, given = two(), two()
    solve(added, MARKETS[0], dearer, route)
    rows = given.generators.index.get_level_values("name") == "a generation"
    given.generators.loc[rows, "marginal_cost_quadratic"] += 0.3
    MARKETS[0].optimize(given)
    assert added.objective == pytest.approx(given.objective, rel=1e-7)
    xr.testing.assert_allclose(
        p2p.results(added)["generation"], p2p.results(given)["generation"], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("stops", [{"time_limit": 0.0}, {"simplex_iteration_limit": 0}], ids=str)
@pytest.mark.parametrize("afterwards", [False, True])
def test_a_solver_that_stops_early(stops: dict[str, Any], afterwards: bool) -> None:
    """The market's own solution stands; of a model that was changed since there is none."""
    n, market = p2p.load_grid("three_node"), p2p.PeerToPeerMarket(risk=p2p.CVaR())

    def hook(n: pypsa.Network, sns: pd.Index) -> None:
        market(n, sns)
        if afterwards:  # which nothing keeps
            m = n.model
            m.add_constraints(m["Generator-p"] >= m["Generator-p"].upper + 1.0, name="more")

    options = {"solver_options": {**stops, "presolve": "off"}, "log_to_console": False}
    status, _ = n.optimize(extra_functionality=hook, **options)
    if afterwards:
        with pytest.raises(MarketError, match="'more' were added after the market"):
            p2p.results(n)
    else:
        assert status == "ok"
        assert float(p2p.results(n).social_cost) == pytest.approx(13.97712, abs=1e-5)
        assert p2p.certify(n).is_equilibrium()
