"""Maps of generalized equilibria: what they cost, and that they are equilibria."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.reference.instances import Instance, network, random_instance
from tests.reference.solve import solve


@cache
def sampled(congestion: bool) -> tuple[Instance, pypsa.Network, xr.Dataset]:
    instance = random_instance(4, 5, 2, 1, congestion=congestion)
    # A cost above 0, so that it can be measured in parts of the planner's.
    instance = replace(instance, d=np.full(5, 20.0))
    n = network(instance)
    market = p2p.PeerToPeerMarket()
    return (
        instance,
        n,
        p2p.sample_equilibria(n, market, weights=2, starts=2, seed=1, progress=False),
    )


@pytest.mark.parametrize("congestion", [False, True], ids=["a=0", "a>0"])
def test_samples_are_equilibria_between_their_bounds(congestion: bool) -> None:
    instance, _, found = sampled(congestion)
    kinds = ["variational", *["weights"] * 2, "no trade", "random start"]
    assert found.kind.values.tolist() == kinds
    assert found.converged.all() and float(found.exploitability.max()) < 1e-6
    np.testing.assert_allclose(found.risk_adjusted_cost.sum("prosumer"), found.social_cost)
    assert float(found.best_social_cost) == float(found.social_cost.min())
    assert float(found.worst_social_cost) == float(found.social_cost.max())
    optimum = solve(instance, "centralized").social_cost
    variational = solve(instance, "peer-to-peer").social_cost
    assert float(found.centralized_social_cost) == pytest.approx(optimum, abs=1e-6)
    assert float(found.social_cost[0]) == pytest.approx(variational, abs=1e-6)
    assert float(found.price_of_stability) == pytest.approx(
        float(found.best_social_cost) / optimum, rel=1e-6
    )
    assert 1 - 1e-9 <= float(found.price_of_stability) < float(found.price_of_anarchy)
    assert float(found.multiplier_misalignment[0]) < 1e-9
    assert float(found.multiplier_misalignment[1:].min()) > 1e-3
    np.testing.assert_allclose(found.weight[:3].mean("prosumer"), 1)
    assert found.weight[3:].isnull().all()
    assert len(np.unique(found.social_cost.values.round(6))) == found.sizes["sample"]


def test_nothing_is_left_behind() -> None:
    _, n, _ = sampled(False)
    assert "p2p" not in n.meta and not n.is_solved
    n = network(random_instance(4, 3, 2, 1))
    p2p.CentralizedMarket().optimize(n)
    before, model = n.generators_t.p.copy(), n.model
    p2p.sample_equilibria(n, p2p.PeerToPeerMarket(), weights=1, starts=1, progress=False)
    pd.testing.assert_frame_equal(n.generators_t.p, before)
    assert n.model is model and p2p.results(n).attrs["market"] == "CentralizedMarket"


def test_a_seed_says_what_is_sampled() -> None:
    n = network(random_instance(4, 3, 2, 1))
    options = {"weights": 1, "starts": 1, "seed": 5, "progress": False}
    first, again = (p2p.sample_equilibria(n, p2p.PeerToPeerMarket(), **options) for _ in range(2))
    xr.testing.assert_identical(first, again)


def test_a_planner_who_is_not_convex_is_no_bound() -> None:
    n = network(random_instance(4, 3, 2, 1, congestion=True))
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR())
    found = p2p.sample_equilibria(n, market, weights=1, starts=1, progress=False)
    assert found.converged.all()
    assert np.isnan(found.centralized_social_cost) and np.isnan(found.price_of_anarchy)
    assert float(found.worst_social_cost) > float(found.best_social_cost)


def test_progress_and_refusals(terminal: pytest.CaptureFixture[str]) -> None:
    n = network(random_instance(0, 2, 1, 1))
    fixed = p2p.PeerToPeerMarket(surplus=False)
    p2p.sample_equilibria(n, fixed, weights=1, starts=0)
    assert "equilibria: 100%" in terminal.readouterr().err

    def refused(match: str, market: Any, **options: Any) -> None:
        with pytest.raises(p2p.MarketError, match=match):
            p2p.sample_equilibria(n, market, progress=False, **options)

    refused("starts=0", fixed)
    refused("PeerToPeerMarket", p2p.CentralizedMarket())
    refused("spread must exceed 1", p2p.PeerToPeerMarket(), spread=1.0)
    refused("must not be negative", p2p.PeerToPeerMarket(), weights=-1)
