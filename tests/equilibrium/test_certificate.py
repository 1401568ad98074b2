"""The certificate accepts solutions, whatever computed them, and rejects everything else."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.network.checksums import checksums
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.certificate.certify import certify
from tests.conformance.markets import meshed
from tests.conformance.markets import solve as solve_by
from tests.equilibrium.cases import DESIGNS, SETTINGS, draw, small, solve
from tests.reference.best_response import _best, exploitability
from tests.reference.instances import Instance, network, random_instance
from tests.reference.package import ROUTES, as_solution

# ------------------------------------------------------------------------------ solutions pass


@pytest.mark.filterwarnings("ignore:Of several equilibria the one reported")
@pytest.mark.parametrize("seed", range(200))
def test_variational_equilibria_are_certified(seed: int) -> None:
    """Every VE, risk-neutral or averse, congested or not, with and without surplus.

    What agents could gain is worked out twice: by the certificate, and by a general solver on
    each agent's own problem. Of the averse that one solves min tau Pi with the tau that attains
    her R: what she gains by it is no less than what she can gain (weak duality of (25)), and the
    conic solver, exact on small markets (below), gives up on some large ones.
    """
    instance, setting = draw(seed)
    n = solve(instance, **setting)
    found = certify(n)
    tolerance = 1e-5 if instance.congestion.any() and "risk" in setting else 1e-6
    assert found.is_equilibrium(tolerance), found
    s = as_solution(instance, p2p.results(n))
    held = (s.tau * s.cost).sum(axis=1)
    size = np.maximum(1, np.abs(s.risk_adjusted_cost))
    assert (abs(held - s.risk_adjusted_cost) <= tolerance * size).all()
    trades = s.quantity.transpose(2, 0, 1).reshape(2 * len(instance.edges), -1)
    least = [
        _best(instance, k, trades, setting["surplus"], s.tau[k], 0.0, 0.0)
        for k in range(len(instance.names))
    ]
    assert (held - least <= tolerance * size).all()
    assert found.kkt_residual == max(found.residuals.values())
    assert list(found.exploitability.prosumer.values) == list(instance.names)


@pytest.mark.parametrize(
    ("design", "setting", "congestion", "surplus", "route"),
    [*product(DESIGNS, SETTINGS, (False, True), (True, False), ROUTES)],
)
def test_every_design_on_both_routes(
    design: str, setting: str, congestion: bool, surplus: bool, route: str
) -> None:
    if design == "centralized" and congestion and "averse" in setting:
        pytest.skip("not convex (MODEL.md §4)")
    instance = random_instance(5, 4, 3, 2, congestion=congestion)
    n = solve(instance, route, design=design, surplus=surplus, **SETTINGS[setting])
    assert certify(n).is_equilibrium(1e-6), certify(n)


@pytest.mark.parametrize("congestion", [False, True], ids=["a=0", "a>0"])
def test_community(congestion: bool) -> None:
    """(24): one tau for all, which attains the risk of the sum and of no one in particular."""
    instance = random_instance(3, 4, 4, 1, congestion=congestion)
    risk = ("CVaR", 0.6, 0.8)
    n = solve(instance, design="centralized", risk=risk, aggregate="community")
    found = certify(n)
    assert found.is_equilibrium(1e-6), found


def test_one_prosumer_and_no_trades() -> None:
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a"], demand=3.0, demand_max=4.0, utility_quadratic=1.0, renewable=2.0)
    for market in (p2p.PeerToPeerMarket(), p2p.CentralizedMarket(surplus=False)):
        market.optimize(n)
        assert certify(n).is_equilibrium(1e-9), certify(n)


@pytest.mark.parametrize("route", ["hook", "direct"])
def test_copies_and_files_are_certified_alike(tmp_path: Path, route: str) -> None:
    """Tables are all that is read: no model, no solver."""
    n = solve(random_instance(5, 4, 3, 2), route, **SETTINGS["averse"])
    first = certify(n)
    assert certify(n).residuals == first.residuals
    n.export_to_netcdf(tmp_path / "n.nc")
    loaded = certify(pypsa.Network(tmp_path / "n.nc"))
    n.model.solver_model = None
    for found in (certify(n.copy()), loaded):
        assert found.is_equilibrium()
        assert found.kkt_residual == pytest.approx(first.kkt_residual, abs=1e-12)
        np.testing.assert_allclose(found.exploitability, first.exploitability, atol=1e-12)


def test_nothing_is_changed() -> None:
    """Certifying leaves the network and its model as they are."""
    n = small("neutral")
    model, tables = n.model, n.generators_t.p.copy()
    certify(n)
    assert n.model is model and len(model.variables) == len(n.model.variables)
    pd.testing.assert_frame_equal(n.generators_t.p, tables)
    assert p2p.results(n).attrs["market"] == "PeerToPeerMarket"


def test_some_snapshots_only() -> None:
    n = network(random_instance(5, 4, 3, 3))
    p2p.PeerToPeerMarket().optimize(n, n.snapshots[1:])
    assert certify(n).is_equilibrium(), certify(n)


# ------------------------------------------------------------- exploitability, independently


@pytest.mark.parametrize(
    ("design", "setting", "surplus", "congestion"),
    [*product(DESIGNS, SETTINGS, (True, False), (True, False))],
)
def test_exploitability_is_the_cone_programs(
    design: str, setting: str, surplus: bool, congestion: bool
) -> None:
    """Against cvxpy, each prosumer's own problem: 0 at a VE, large at a congested optimum."""
    if design == "centralized" and congestion and "averse" in setting:
        pytest.skip("not convex (MODEL.md §4)")
    instance = random_instance(21, 4, 3, 2, congestion=congestion)
    n = solve(instance, design=design, surplus=surplus, **SETTINGS[setting])
    compare_exploitability(instance, n, setting, surplus)
    found = certify(n)
    gains = design == "centralized" and congestion and surplus
    assert (float(found.exploitability.max()) > 1e-2) == gains


@pytest.mark.parametrize(("setting", "congestion"), [*product([*SETTINGS][:3], (False, True))])
def test_exploitability_of_no_trade(setting: str, congestion: bool) -> None:
    """A feasible point far from equilibrium: everybody at home, nothing offered.

    Nobody can buy what nobody offers, but who sells surplus at the import price can still gain.
    """
    risk = SETTINGS[setting].get("risk")
    instance = random_instance(22, 4, 3, 2, congestion=congestion)
    instance.capacity[:] = 0.0
    n = solve(instance, risk=None if congestion else risk)
    wide = random_instance(22, 4, 3, 2, congestion=congestion)
    n.links["p_nom"] = np.tile(wide.capacity, 3)
    n.links["p_min_pu"], n.links["p_max_pu"] = -1.0, 1.0
    n.meta["p2p"]["inputs"] = checksums(
        n, read_market(n), "trades"
    )  # or the change would be refused
    compare_exploitability(wide, n, "neutral" if congestion else setting, True)
    assert float(certify(n).exploitability.max()) > 1e-3
    assert not certify(n).is_equilibrium()


def compare_exploitability(
    instance: Instance, n: pypsa.Network, setting: str, surplus: bool
) -> None:
    r = p2p.results(n)
    s = as_solution(instance, r)
    wanted = exploitability(
        instance,
        s.demand,
        s.generation,
        s.quantity,
        s.cost,
        SETTINGS[setting].get("risk"),
        surplus,
        s.contract_price,
    )
    certificate = certify(n)
    money = certificate.scale.risk if "contract_price" in r else certificate.scale.money
    found = certificate.exploitability * money
    order = list(instance.names)
    np.testing.assert_allclose(found.sel(prosumer=order), wanted, rtol=1e-6, atol=2e-6)


# ------------------------------------------------------------- assets, users' constraints, text


def with_storage() -> pypsa.Network:
    n = network(random_instance(6, 4, 3, 4))
    n.add("StorageUnit", "battery", bus="p1", p_nom=1.0, max_hours=2.0, efficiency_store=0.9)
    return n


@pytest.mark.parametrize("market", [p2p.CentralizedMarket(), p2p.PeerToPeerMarket(risk=p2p.CVaR())])
def test_storage(market: Any) -> None:
    """A battery is optimal at the nodal prices; idle, its limits hold, but it is not."""
    n = with_storage()
    market.optimize(n)
    found = certify(n)
    assert found.is_equilibrium(), found
    assert "other assets at nodal prices" in found.residuals
    assert n.storage_units_t.p_dispatch.to_numpy().max() > 0.1
    for attribute in ("p_dispatch", "p_store", "state_of_charge", "p"):
        n.storage_units_t[attribute][:] = 0.0
    found = certify(n)
    assert found.residuals["other assets at nodal prices"] > 1e-4
    assert not found.is_equilibrium()


def test_users_constraints_are_named() -> None:
    """The certificate is of the market without them, and says so."""

    def limit(n: pypsa.Network, sns: pd.Index) -> None:
        output = n.model["Generator-p"].sel(name="p0 elastic demand")
        n.model.add_constraints(output.sum(), "<=", 0.1, name="users-own")

    n = network(random_instance(6, 4, 3, 2))
    p2p.PeerToPeerMarket().optimize(n, extra_functionality=limit)
    found = certify(n)
    assert found.unknown_constraints == ("users-own",)
    assert "users-own" in repr(found)
    assert found.residuals["balances and limits"] < 1e-8
    assert not found.is_equilibrium()


@pytest.mark.parametrize("scenarios", [1, 2])
def test_an_idle_grid_is_known(route: str, scenarios: int) -> None:
    """Limits of lines and Kirchhoff's law are in PyPSA's own model, to which the hook adds."""
    n, market = meshed(1, limit=5.0, scenarios=scenarios), p2p.PeerToPeerMarket(surplus=False)
    solve_by(n, market, route)
    found = certify(n)
    assert found.unknown_constraints == ()
    assert found.is_equilibrium(), found
    if route == "hook":
        n.lines_t.p0.iloc[0, 0] = 7.0  # beyond its limit, and nobody sends it
        assert certify(n).residuals["balances and limits"] > 1e-2


def test_representation_and_refusals() -> None:
    found = certify(small("neutral"))
    assert repr(found).startswith("Certificate of PeerToPeerMarket: variational equilibrium")
    with pytest.raises(p2p.MarketError, match="'variational' or 'generalized'"):
        found.is_equilibrium(equilibrium="nash")  # type: ignore[arg-type]
    central = certify(small("neutral", design="centralized"))
    assert "its design's optimum" in repr(central)
    with pytest.raises(p2p.MarketError, match="not an equilibrium of a game"):
        central.is_equilibrium(equilibrium="variational")
    with pytest.raises(p2p.MarketError, match="no solved market"):
        certify(network(random_instance(1)))


def test_a_fixed_dispatch_is_certified() -> None:
    """PyPSA fixes generators with a p_set: whatever it costs is nobody's mistake."""
    n = pypsa.Network()
    n.add("Bus", ["x", "y"])
    n.add("Generator", "g", bus="x", p_nom=9, marginal_cost=4)
    n.add("Generator", "w", bus="y", p_nom=2, marginal_cost=1, p_set=1.0)
    n.add("Load", "d", bus="y", p_set=3)
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, [("x prosumer", "y prosumer")], capacity=50)
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    assert n.objective == pytest.approx(9.0)
    assert p2p.certify(n).is_equilibrium()
    n.generators_t.p["w"] = 1.1
    n.generators_t.p["g"] = 1.9
    assert not p2p.certify(n).is_equilibrium()
