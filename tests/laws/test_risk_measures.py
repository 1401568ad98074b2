"""Laws of coherent risk measures, and of markets whose prosumers have them (MODEL.md §3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from tests.by_hand.test_risk_measures import taken
from tests.reference.instances import network, random_instance

Family = Callable[[float], p2p.RiskMeasure]
FAMILIES: dict[str, Family] = {
    "spectral": lambda share: p2p.Spectral({0.0: 1 - share, 0.7: share}),
    "TV": p2p.TotalVariation,
    "W": p2p.Wasserstein,
    "semi": p2p.Semideviation,
}
FIGURES = ("cost", "demand", "quantity", "nodal_price", "trade_price", "risk_adjusted_cost")


def value(measure: p2p.RiskMeasure, costs: np.ndarray, p: np.ndarray) -> float:
    return taken(measure, costs, p).value.item()


def assert_coherent(family: Family, seed: int, atol: float) -> None:
    """Monotone, equivariant, homogeneous, subadditive; between mean and worst; nested sets."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(5))
    costs, other = rng.normal(0, 10, (2, 5))
    share = float(rng.uniform(0.05, 0.9))
    R = family(share)
    risk = value(R, costs, p)
    assert value(R, costs + np.abs(other), p) >= risk - atol
    assert value(R, costs + 7.0, p) == pytest.approx(risk + 7.0, abs=atol)
    assert value(R, 3.0 * costs, p) == pytest.approx(3.0 * risk, abs=atol)
    assert value(R, costs + other, p) <= risk + value(R, other, p) + atol
    assert p @ costs - atol <= risk <= costs.max() + atol
    assert value(family(0.5 * share), costs, p) <= risk + atol
    assert value(family(0.0), costs, p) == pytest.approx(p @ costs, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("family", FAMILIES)
def test_coherence(family: str, seed: int) -> None:
    assert_coherent(FAMILIES[family], seed, atol=1e-8)


@pytest.mark.parametrize("seed", range(10))
def test_total_variation_is_a_mixture(seed: int) -> None:
    """rho max + (1 - rho) CVaR_rho; and the sum of what may be moved is its radius."""
    rng = np.random.default_rng(seed)
    p, costs = rng.dirichlet(np.ones(6)), rng.normal(0, 10, 6)
    rho = float(rng.uniform(0.05, 0.8))
    found = taken(p2p.TotalVariation(rho), costs, p)
    mixed = rho * costs.max() + (1 - rho) * value(p2p.Spectral({rho: 1.0}), costs, p)
    assert found.value.item() == pytest.approx(mixed, abs=1e-8)
    moved = 0.5 * np.abs(found.probability.to_numpy().ravel() - p).sum()
    assert moved <= rho + 1e-9


def test_far_scenarios_are_not_reached() -> None:
    p, costs = np.array([0.2, 0.5, 0.3]), np.array([1.0, 5.0, 2.0])
    far = p2p.Wasserstein(0.1, distance=1e9 * (1 - np.identity(3)))
    assert value(far, costs, p) == pytest.approx(p @ costs, abs=1e-6)


def same(n: pypsa.Network, one: p2p.RiskMeasure, other: p2p.RiskMeasure, **options: object) -> None:
    """Two ways to say one measure are one market."""
    found = []
    for risk in (one, other):
        own = n.copy()
        p2p.PeerToPeerMarket(risk=risk, **options).optimize(own)
        assert p2p.certify(own).is_equilibrium()
        found.append(p2p.results(own))
    for figure in FIGURES:
        size = max(1.0, float(abs(found[0][figure]).max()))
        np.testing.assert_allclose(found[1][figure], found[0][figure], rtol=0, atol=2e-6 * size)


@pytest.mark.parametrize("seed", range(20))
def test_one_attitude_is_cvar(seed: int) -> None:
    """Its ties are broken alike: also what nobody weighs is decided at least expected cost."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(2, 6)), int(rng.integers(2, 7)), int(rng.integers(1, 3)))
    chi = float(rng.uniform(0.1, 0.8))
    n = network(random_instance(seed, *size))
    same(n, p2p.CVaR(attitude=chi), p2p.Spectral({chi: 1.0}), surplus=bool(seed % 2))


@pytest.mark.parametrize("case", ["congested", "stored", "weighted", "worst"])
def test_one_attitude_is_cvar_in_other_markets(case: str) -> None:
    n = network(random_instance(3, 4, 4, 2))
    names = list(dict.fromkeys(n.buses.index.get_level_values("name")))
    options: dict[str, object] = {}
    chi, wide = 0.4, p2p.Spectral({0.4: 1.0})
    if case == "congested":
        n.c["Link"].static["congestion"] = 0.3
    if case == "stored":
        n.add("StorageUnit", "battery", bus=names[0], p_nom=2.0, max_hours=2.0)
    if case == "weighted":
        options = {
            "equilibrium": "generalized",
            "weights": dict(zip(names, (1, 2, 3, 4), strict=True)),
        }
    if case == "worst":
        chi, wide = 0.99, p2p.Spectral({1.0: 1.0})
    same(n, p2p.CVaR(attitude=chi), wide, **options)


def test_the_wider_the_dearer() -> None:
    n = network(random_instance(1, 5, 4, 1))
    costs = []
    for radius in (0.0, 0.1, 0.3, 0.6):
        p2p.PeerToPeerMarket(risk=p2p.TotalVariation(radius)).optimize(n)
        costs.append(n.objective)
    p2p.PeerToPeerMarket().optimize(n)
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(n.objective, rel=1e-8)
