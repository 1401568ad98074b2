"""PyPSA's own example networks, with a market, against PyPSA's own optimum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p

NETWORKS = Path(__file__).parents[1] / "networks"


def solve(n: pypsa.Network) -> None:
    """README's lines, with the market whose optimum is PyPSA's own."""
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=1e5)
    status = p2p.CentralizedMarket(delivery="grid", surplus=False).optimize(n)
    assert status == ("ok", "optimal")


@pytest.mark.parametrize(("name", "mean"), [("ac-dc-meshed", 0.9038), ("storage-hvdc", None)])
def test_prices_where_capacities_are_just_enough(name: str, mean: float | None) -> None:
    """Capacities fixed at their optimum: prices have no limit above, and the finite end is taken.

    It is at most what a modeller sees of PyPSA's simplex, another point of the same set.
    """
    n = pypsa.Network(NETWORKS / f"{name}.nc")
    n.optimize(log_to_console=False)
    n.optimize.fix_optimal_capacities()
    n.optimize(log_to_console=False)
    objective, price = n.objective, n.buses_t["marginal_price"].copy()
    solve(n)
    assert n.objective == pytest.approx(objective, rel=1e-6)
    found = p2p.results(n)["nodal_price"]
    assert not p2p.results(n)["price_unique"].all()
    if mean is not None:
        assert price.to_numpy().mean() == pytest.approx(mean, abs=1e-4)
        assert float(found.mean()) == pytest.approx(mean, abs=1e-3)
    assert np.abs(found).max() <= 1.01 * price.abs().max().max()
    assert p2p.certify(n).is_equilibrium()


def star(n: pypsa.Network) -> list[tuple[str, str]]:
    """Everybody trades with the first prosumer."""
    hub, *others = n.buses.index[n.buses["carrier"] == "prosumer"]
    return [(hub, other) for other in others]


@pytest.mark.parametrize(
    ("hours", "objective"),
    [pytest.param(2, 606148.4019, id="2 h"), pytest.param(24, 6684817.32, id="24 h")],
)
@pytest.mark.filterwarnings("ignore:Some prices are one of a range, and the solver's own")
def test_hundreds_of_buses_where_everything_is_linear(hours: int, objective: float) -> None:
    """scigrid-de: 585 buses, degenerate; PyPSA's own optimum by HiGHS."""
    n = pypsa.Network(NETWORKS / "scigrid-de.nc")
    n.set_snapshots(n.snapshots[:hours])
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, star(n), capacity=1e5)
    market = p2p.CentralizedMarket(delivery="grid", surplus=False)
    assert market.optimize(n) == ("ok", "optimal")
    assert n.objective == pytest.approx(objective, rel=1e-8)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize(
    "name", ["ac-dc-meshed", "storage-hvdc", "model-energy", "stochastic-network"]
)
@pytest.mark.filterwarnings("ignore:Prosumers .* can trade with nobody")
def test_an_existing_model_in_five_lines(name: str) -> None:
    """A day of it, its investments too: PyPSA's own optimum, in which nothing is left out."""
    n = pypsa.Network(NETWORKS / f"{name}.nc")
    n.set_snapshots(n.snapshots[:24])
    before, alone = n.copy(), n.copy()
    alone.optimize(log_to_console=False)
    solve(n)
    assert n.objective == pytest.approx(alone.objective, rel=1e-9)
    assert n.objective_constant == pytest.approx(alone.objective_constant, rel=1e-12)
    assert p2p.certify(n).is_equilibrium()
    price = alone.buses_t["marginal_price"].abs().to_numpy().max()
    assert np.abs(n.buses_t["marginal_price"].to_numpy()).max() <= (1 + 1e-6) * price
    p2p.release_prosumers(n)
    assert n.equals(before)
