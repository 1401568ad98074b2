"""Agents take the same steps in any unit, and end where they do in MW and EUR."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.laws.units import UNITS, in_units, results_in_units
from tests.reference.instances import network, random_instance

FOUR_UNITS = ("W, EUR", "GW, EUR", "MW, MEUR", "kW, MEUR")
#: Method, congestion, risk.
PLAYED: dict[str, tuple[Any, bool, p2p.CVaR | None]] = {
    "ADMM": (p2p.ADMM(), False, None),
    "ADMM, congested": (p2p.ADMM(), True, None),
    "ADMM, averse": (p2p.ADMM(), False, p2p.CVaR()),
    "ADMM, averse, congested": (p2p.ADMM(), True, p2p.CVaR(weight=0.5)),
    "Gauss-Seidel": (p2p.GaussSeidel(), True, None),
    "Gauss-Seidel, averse": (p2p.GaussSeidel(), False, p2p.CVaR()),
    "Gauss-Seidel, random start": (p2p.GaussSeidel(start="random", seed=3), False, None),
    "Jacobi": (p2p.Jacobi(), True, None),
}
#: Accuracy of results, relative to the largest of their kind.
SAME = 1e-6
#: At which the agents' equilibria are certified.
CERTIFIED = 1e-5


def written(unit: str, congestion: bool, scenarios: int = 3) -> pypsa.Network:
    """A market of four prosumers in some units, not solved."""
    n = network(random_instance(2, 4, scenarios, 2, congestion=congestion))
    return in_units(n, UNITS[unit].power, UNITS[unit].money)


@cache
def played(name: str, unit: str) -> tuple[Any, xr.Dataset]:
    method, congestion, risk = PLAYED[name]
    n = written(unit, congestion)
    market = p2p.PeerToPeerMarket(risk=risk)
    found = p2p.solve_equilibrium(n, market, method, progress=False)
    return found, p2p.results(n)


@pytest.mark.parametrize(("name", "unit"), [*product(PLAYED, FOUR_UNITS)])
def test_agents_take_the_same_steps(name: str, unit: str) -> None:
    """Converged, in as many iterations, to the same costs, dispatch and trades."""
    eq, r = played(name, unit)
    before, wanted = played(name, "MW, EUR")
    assert eq.converged and before.converged
    assert abs(eq.iterations - before.iterations) <= 1
    wanted = results_in_units(wanted, UNITS[unit].power, UNITS[unit].money)
    for variable in ("cost", "demand", "generation", "quantity", "trade_price"):
        scale = float(abs(wanted[variable]).max())
        np.testing.assert_allclose(r[variable], wanted[variable], rtol=0, atol=SAME * scale)
    tau = "risk_adjusted_probability"
    np.testing.assert_allclose(r[tau], wanted[tau], rtol=0, atol=SAME)
    kind = "variational" if name.startswith("ADMM") else "generalized"
    found = p2p.certify(eq.n)
    assert found.is_equilibrium(CERTIFIED, equilibrium=kind), found


@pytest.mark.parametrize(("name", "unit"), [*product(["ADMM", "Jacobi"], FOUR_UNITS)])
def test_the_same_history(name: str, unit: str) -> None:
    """Residuals have no unit; social costs have that of money."""
    history, before = (played(name, u)[0].history for u in (unit, "MW, EUR"))
    steps = slice(0, min(history.sizes["iteration"], before.sizes["iteration"], 20))
    found, wanted = (h.isel(iteration=steps) for h in (history, before))
    np.testing.assert_allclose(found.residual, wanted.residual, rtol=1e-3, atol=1e-10)
    cost = wanted.social_cost * UNITS[unit].money
    np.testing.assert_allclose(found.social_cost, cost, rtol=0, atol=SAME * float(abs(cost).max()))


@cache
def sampled(unit: str, congestion: bool) -> xr.Dataset:
    market = p2p.PeerToPeerMarket()
    options = {"weights": 1, "starts": 2, "seed": 1, "progress": False}
    return p2p.sample_equilibria(written(unit, congestion, scenarios=2), market, **options)


@pytest.mark.parametrize(("congestion", "unit"), [*product([False, True], FOUR_UNITS)])
def test_samples_are_the_same(congestion: bool, unit: str) -> None:
    """The same equilibria in the same order, all certified, of the same costs."""
    found, wanted = sampled(unit, congestion), sampled("MW, EUR", congestion)
    assert found.kind.values.tolist() == wanted.kind.values.tolist()
    assert found.converged.all() and wanted.converged.all()
    money = UNITS[unit].money
    scale = float(abs(wanted.risk_adjusted_cost).max()) * money
    for variable in ("social_cost", "risk_adjusted_cost"):
        cost = wanted[variable] * money
        np.testing.assert_allclose(found[variable], cost, rtol=0, atol=SAME * scale)
    for variable in ("weight", "multiplier_misalignment"):
        np.testing.assert_allclose(found[variable], wanted[variable], rtol=0, atol=SAME)
