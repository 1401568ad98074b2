"""Laws of social cost functions on random markets (MODEL.md §14)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.markets.clearing.convex import MarketSolution
from tests.reference.instances import network, random_instance

SEEDS = pytest.mark.parametrize("seed", range(100))

Vector = npt.NDArray[np.float64]

#: Prosumers, scenarios and snapshots, from and below.
SIZES = ((2, 6), (1, 5), (1, 3))
#: Social cost functions, and whether nobody may pay more than alone.
DESIGNS: dict[str, tuple[Any, bool]] = {
    "sum": (None, True),
    "largest": (p2p.Maximin(), False),
    "largest gain": (p2p.Maximin(reference="alone"), False),
    "leximin": (p2p.Leximin(), False),
    "leximin gain": (p2p.Leximin(reference="alone"), False),
    "nash": (p2p.Nash(), False),
    "largest with participation": (p2p.Maximin(), True),
}


@cache
def solved(seed: int) -> tuple[float, dict[str, Vector], Vector]:
    """The least sum of costs, costs by design, and those alone; Nash only where all can gain."""
    rng = np.random.default_rng([seed, 17])
    prosumers, scenarios, snapshots = (int(rng.integers(low, high)) for low, high in SIZES)
    fees = 0.3 if seed % 5 == 0 else 0.0
    n = network(random_instance(seed, prosumers, scenarios, snapshots, fees=fees))
    risk = p2p.CVaR() if seed % 2 else None
    plain = p2p.CentralizedMarket(risk=risk, surplus=bool(rng.integers(2)))
    posed = plain.pose(n)

    def answer(welfare: Any, participation: bool) -> MarketSolution:
        """On the model that all designs share."""
        market = p2p.CentralizedMarket(
            risk=risk, surplus=plain.surplus, welfare=welfare, participation=participation
        )
        return market.solution(posed.compiled, posed.places, posed.data)

    least = plain.social_cost(posed.compiled, posed.places, posed.data)
    costs, alone = {}, np.zeros(0)
    for name, (welfare, participation) in DESIGNS.items():
        if name == "nash" and (alone - costs["largest gain"]).min() <= 1e-5:
            continue  # some cannot gain
        found = answer(welfare, participation).welfare
        assert found is not None
        costs[name] = found.cost
        alone = alone if found.reference is None else found.reference
    return least, costs, alone


def tolerance(costs: dict[str, Vector]) -> float:
    """EUR that are rounding."""
    return 1e-6 * max(1.0, *(float(np.abs(cost).max()) for cost in costs.values()))


@SEEDS
def test_order_of_social_costs(seed: int) -> None:
    """No sum is below the least, nobody pays more than alone who may stay away, and so on."""
    least, costs, alone = solved(seed)
    rounding = tolerance(costs)
    for cost in costs.values():
        assert cost.sum() >= least - rounding
    for name in ("sum", "largest with participation"):
        assert (costs[name] <= alone + rounding).all()
    assert (alone - costs["largest gain"]).min() >= -rounding
    assert costs["largest"].max() <= min(cost.max() for cost in costs.values()) + rounding
    gains = {name: alone - cost for name, cost in costs.items()}
    assert gains["largest gain"].min() >= max(gain.min() for gain in gains.values()) - rounding
    if "nash" in costs:
        assert (gains["nash"] > 0).all()
        values = {name: np.log(gain).sum() for name, gain in gains.items() if (gain > 0).all()}
        assert values["nash"] >= max(values.values()) - 1e-7


@SEEDS
def test_leximin_is_first_in_order(seed: int) -> None:
    """Its costs, the largest first, are before those of any other design; its gains likewise."""
    _, costs, alone = solved(seed)
    rounding = tolerance(costs)
    for name, beyond in (("leximin", 0.0 * alone), ("leximin gain", alone)):
        best = np.sort(costs[name] - beyond)[::-1]
        for cost in costs.values():
            other = np.sort(cost - beyond)[::-1]
            differ = np.flatnonzero(np.abs(other - best) > rounding)
            assert not differ.size or best[differ[0]] < other[differ[0]]


@SEEDS
def test_nobody_can_be_better_off_without_another_being_worse(seed: int) -> None:
    """The points of Nash, leximin and maximin are on the Pareto front."""
    _, costs, _ = solved(seed)
    rounding = tolerance(costs)
    for name, cost in costs.items():
        for other in costs.values():
            change = other - cost
            assert (change > rounding).any() or (change > -100 * rounding).all(), name
