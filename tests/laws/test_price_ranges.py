"""Ends of prices that are one of a range: of any answer the same (MODEL.md §4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import ConvergenceError
from tests.unit.test_multipliers import optimum

PRECISE = {"rtol": 0.0, "atol": 1e-6}


def steps(seed: int) -> pypsa.Network:
    """Five prosumers whose demand and supply are steps, over four hours."""
    rng, names = np.random.default_rng(seed), list("abcde")
    n = pypsa.Network(snapshots=range(4))
    p2p.add_prosumers(
        n, names, demand=rng.integers(0, 4, 5), demand_max=4, utility_quadratic=0,
        generation_max=rng.integers(0, 4, 5), marginal_cost=rng.integers(5, 40, 5),
    )  # fmt: skip
    bids = n.generators.index[n.generators.index.str.endswith("elastic demand")]
    n.generators.loc[bids, "marginal_cost"] = np.round(rng.uniform(20, 50, 5))
    p2p.add_trades(n, "complete", capacity=3)
    return n


@pytest.mark.parametrize("seed", [3, 5, 6])
def test_agents_prices_have_the_same_ends(seed: int) -> None:
    """Their answer is not exact, in any of the hours."""
    n, market = steps(seed), p2p.PeerToPeerMarket()
    market.optimize(n)
    central, ends = p2p.results(n), p2p.price_range(n)
    assert (ends.greatest > ends.least + 1).all()
    p2p.solve_equilibrium(n, market, p2p.ADMM(), progress=False)
    agents, theirs = p2p.results(n), p2p.price_range(n)
    for name in ends:
        np.testing.assert_allclose(theirs[name], ends[name], **PRECISE)
    np.testing.assert_allclose(agents.nodal_price, central.nodal_price, rtol=0, atol=1e-4)
    xr.testing.assert_equal(agents.price_unique, central.price_unique)


def test_what_is_no_optimum_has_no_prices() -> None:
    """Half of a MWh that costs 1 is bought at 3: no price makes both of it."""
    found = optimum([[1.0, 1.0]], [1.0], [1.0, 5.0], [1.0, 3.0], [0.5, 0.5], [2.0])
    with pytest.raises(ConvergenceError, match="no prices at which everybody"):
        replace(found, known=False).face.nearest_possible()
