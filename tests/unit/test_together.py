"""Small markets solved together: each gets the solution it has alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.clearing import together
from pypsa_p2p.markets.clearing.clearing import solve_market
from pypsa_p2p.markets.clearing.together import Asked, solved_together
from tests.reference.instances import network, random_instance

AVERSE = p2p.PeerToPeerMarket(risk=p2p.CVaR())


def asked(n: pypsa.Network, market: Market) -> Asked:
    """What is minimised in a market on a network."""
    posed = market.pose(n)
    return posed.compiled, market.problem(posed.compiled, posed.places, posed.data)


def several(seed: int) -> Iterator[Asked]:
    """Markets of one set of scenarios, of different sizes and attitudes."""
    rng = np.random.default_rng(seed)
    for _ in range(4):
        instance = random_instance(int(rng.integers(1000)), int(rng.integers(3, 7)), 4, 1)
        instance = replace(instance, probability=np.full(4, 0.25))
        attitude = float(rng.uniform(0.05, 0.95))
        yield asked(network(instance), replace(AVERSE, risk=p2p.CVaR(attitude=attitude)))


@pytest.mark.parametrize("seed", range(40))
def test_every_market_gets_its_own_solution(seed: int) -> None:
    """Decisions to what is promised; costs, which do not hang on ties, much closer."""
    markets = list(several(seed))
    found = solved_together(markets)
    assert len(found) in (0, len(markets))
    for place, solution in found.items():
        alone = solve_market(*markets[place])
        assert solution.status == alone.status == "optimal"
        assert solution.objective == pytest.approx(alone.objective, rel=1e-8)
        size = max(1.0, np.abs(alone.x).max())
        np.testing.assert_allclose(solution.x, alone.x, rtol=0, atol=1e-5 * size)
        price = max(1.0, np.abs(alone.row_dual).max())
        np.testing.assert_allclose(solution.row_dual, alone.row_dual, rtol=0, atol=1e-5 * price)
        np.testing.assert_allclose(
            solution.risk_adjusted_probability, alone.risk_adjusted_probability, atol=1e-5
        )
        assert (solution.unique == alone.unique).mean() > 0.99


def test_they_are_solved_together_indeed() -> None:
    assert set(solved_together(list(several(0)))) == {0, 1, 2, 3}


def test_other_scenarios_large_markets_and_other_designs_stay_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n = p2p.load_grid("three_node")
    unlike = network(replace(random_instance(0, 3, 3, 1), probability=np.array([0.2, 0.3, 0.5])))
    neutral, hedged = p2p.PeerToPeerMarket(), replace(AVERSE, contracts=p2p.Contracts())
    assert not solved_together([asked(n, neutral), asked(n, neutral)])
    assert not solved_together([asked(n, hedged), asked(n, hedged)])
    assert not solved_together([asked(n, AVERSE)])
    assert not solved_together([asked(n, AVERSE), asked(unlike, AVERSE)])
    pair = [asked(n, AVERSE), asked(n, replace(AVERSE, risk=p2p.CVaR(attitude=0.2)))]
    assert set(solved_together(pair)) == {0, 1}
    monkeypatch.setattr(together, "SMALL", 5)
    assert not solved_together(pair)


def test_one_without_a_solution_leaves_all_to_be_solved_alone() -> None:
    n, full = p2p.load_grid("three_node"), p2p.load_grid("three_node")
    full.c["Link"].static["p_nom"] *= 0.0
    full.c["Generator"].static["p_nom"] *= 0.0
    markets = [
        asked(n, replace(AVERSE, surplus=False)),
        asked(full, replace(AVERSE, surplus=False)),
    ]
    statuses = [solve_market(*each).status for each in markets]
    assert statuses == ["optimal", "infeasible"]
    assert not solved_together(markets)


def test_a_part_that_does_not_solve_its_market_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = together.priced_by_rule

    def wrong(problem: Any, found: Any) -> Any:
        answer = real(problem, found)
        return replace(answer, x=answer.x + 1e-3)

    markets = list(several(0))
    monkeypatch.setattr(together, "priced_by_rule", wrong)
    assert not solved_together(markets)
