"""The certificate accepts solutions, whatever computed them, and rejects everything else."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.certificate import certify
from pypsa_p2p.record import KEPT_DUALS
from tests.reference.best_response import exploitability
from tests.reference.instances import Instance, network, random_instance
from tests.reference.package import as_solution, market_of

SETTINGS: dict[str, dict[str, Any]] = {
    "neutral": {},
    "averse": {"risk": ("CVaR", None, 1.0)},
    "half averse": {"risk": ("CVaR", None, 0.5)},
    "contracts": {"risk": ("CVaR", None, 1.0), "contracts": True},
}


def draw(seed: int) -> tuple[Instance, dict[str, Any]]:
    """A market of 3-20 prosumers, 1-20 scenarios, 1-6 snapshots, and what it is solved as."""
    rng = np.random.default_rng([seed, 7])
    size = np.exp(rng.uniform(np.log([3, 1, 1]), np.log([21, 21, 7]))).astype(int)
    congestion, averse, surplus = seed % 2 == 1, seed // 2 % 2 == 1, seed // 4 % 2 == 0
    instance = random_instance(seed, *map(int, size), congestion=congestion)
    setting = "averse" if averse else "neutral"
    return instance, {**SETTINGS[setting], "surplus": surplus}


def solve(instance: Instance, route: str = "direct", **setting: Any) -> pypsa.Network:
    """A solved network; the test is skipped where the market is not available."""
    n = network(instance)
    market = market_of(instance, **{"design": "peer-to-peer", **setting})
    try:
        if route == "hook":
            n.optimize(extra_functionality=market, include_objective_constant=False)
        else:
            market.optimize(n)
    except p2p.MarketError as error:
        if "not available" not in str(error):
            raise
        pytest.skip(str(error))
    return n


@cache
def small(setting: str, congestion: bool = False, design: str = "peer-to-peer") -> pypsa.Network:
    """A small market solved once; copy it before changing it."""
    instance = random_instance(11, 4, 3, 2, congestion=congestion)
    return solve(instance, design=design, **SETTINGS[setting])


# ------------------------------------------------------------------------------ solutions pass


@pytest.mark.parametrize("seed", range(200))
def test_variational_equilibria_are_certified(seed: int) -> None:
    """Every VE, risk-neutral or averse, congested or not, with and without surplus."""
    instance, setting = draw(seed)
    found = certify(solve(instance, **setting))
    tolerance = 1e-5 if instance.congestion.any() and "risk" in setting else 1e-6
    assert found.is_equilibrium(tolerance), found
    assert found.kkt_residual == max(found.residuals.values())
    assert list(found.exploitability.prosumer.values) == list(instance.names)


@pytest.mark.parametrize("surplus", [True, False], ids=["surplus", "equality"])
@pytest.mark.parametrize("congestion", [False, True], ids=["a=0", "a>0"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("design", ["centralized", "peer-to-peer"])
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


@pytest.mark.parametrize("surplus", [True, False], ids=["surplus", "equality"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("design", ["centralized", "peer-to-peer"])
@pytest.mark.parametrize("congestion", [False, True], ids=["a=0", "a>0"])
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


@pytest.mark.parametrize("setting", ["neutral", "averse", "half averse"])
@pytest.mark.parametrize("congestion", [False, True], ids=["a=0", "a>0"])
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
    price = r.risk_adjusted_probability if "contract_price" in r else None
    now = (price * r.cost).sum("scenario") if price is not None else r.risk_adjusted_cost
    found = certify(n).exploitability * np.maximum(1, abs(now))
    order = list(instance.names)
    np.testing.assert_allclose(found.sel(prosumer=order), wanted, rtol=1e-6, atol=2e-6)


# ------------------------------------------------------------------------- perturbations fail


def perturb(n: pypsa.Network, what: str, by: float = 1e-3) -> None:
    """Change one number of one table."""
    scenario, snapshot = n.scenarios[0], n.snapshots[0]
    component, attribute, name = {
        "demand": ("Generator", "p", "p0 elastic demand"),
        "load": ("Load", "p", "p0 demand"),
        "generation": ("Generator", "p", "p1 generation"),
        "renewable": ("Generator", "p", "p0 renewable"),
        "what bus0 buys": ("Link", "p0", None),
        "what bus1 buys": ("Link", "p1", None),
        "nodal price": ("Bus", "marginal_price", "p2"),
        "trade price": ("Link", "mu_reciprocity", None),
        "capacity price at bus0": ("Link", "mu_capacity0", None),
        "capacity price at bus1": ("Link", "mu_capacity1", None),
        "tau": ("Bus", "risk_adjusted_probability", "p1"),
    }[what]
    if name is None:
        name = n.links.xs(scenario).index[1]
    if attribute == "risk_adjusted_probability":
        n.buses.loc[(scenario, name), attribute] += by
        n.buses.loc[(n.scenarios[1], name), attribute] -= by
        return
    assert (scenario, name) in n.c[component].dynamic[attribute].columns
    n.c[component].dynamic[attribute].loc[snapshot, (scenario, name)] += by


QUANTITIES = ("demand", "load", "generation", "renewable", "what bus0 buys", "what bus1 buys")
PRICES = (
    "nodal price",
    "trade price",
    "capacity price at bus0",
    "capacity price at bus1",
    "tau",
)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("what", [*QUANTITIES, *PRICES])
@pytest.mark.parametrize(
    ("setting", "congestion", "design"),
    [
        ("neutral", True, "peer-to-peer"),
        ("averse", False, "peer-to-peer"),
        ("contracts", False, "peer-to-peer"),
        ("neutral", True, "centralized"),
    ],
)
def test_perturbed_solutions_are_rejected(
    setting: str, congestion: bool, design: str, what: str, sign: int
) -> None:
    """A thousandth of a MW or of a EUR/MWh, in one place, and it is no solution any more."""
    n = small(setting, congestion, design).copy()
    assert certify(n).is_equilibrium()
    perturb(n, what, sign * 1e-3)
    found = certify(n)
    assert not found.is_equilibrium(), found
    assert not found.is_equilibrium(1e-5), found


@pytest.mark.parametrize("setting", ["averse", "half averse"])
def test_tau_must_attain_the_risk(setting: str) -> None:
    """Even where prices follow a wrong tau: (25) is checked by sorting."""
    n = small(setting).copy()
    tau = n.buses.risk_adjusted_probability
    for p in p2p.results(n).prosumer.values:
        tau.loc[(n.scenarios[0], p)], tau.loc[(n.scenarios[1], p)] = (
            tau[n.scenarios[1], p],
            tau[n.scenarios[0], p],
        )
    n.buses["risk_adjusted_probability"] = tau
    found = certify(n).residuals
    assert max(found["risk attained (25), (36)"], found["envelope of tau (37)"]) > 1e-3


# ------------------------------------------------------------------ generalized equilibria


def two_prosumers(traded: float) -> pypsa.Network:
    """a sells x to b: prices at the two ends are what each of them has of it.

    a: cost G^2 / 2, so lambda_a = x; b: D* = 6, a~ = 1/2, so lambda_b = 6 - x; each minds a MWh
    with b = 1. The ends of the edge value it at zeta_a = x - 1 and zeta_b = 5 - x: both are >= 0,
    and nobody can gain alone, for any x from 1 to 5. They agree at x = 3 only.
    """
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["a", "b"],
        demand=[0.0, 6.0],
        demand_max=[0.0, 6.0],
        utility_quadratic=0.5,
        generation_max=[10.0, 0.0],
        marginal_cost_quadratic=0.5,
    )
    p2p.add_trades(n, [("a", "b")], capacity=10.0, price=1.0)
    p2p.PeerToPeerMarket().optimize(n)
    edge, now = n.links.index[0], n.snapshots[0]
    n.generators_t.p.loc[now, "a generation"] = traded
    n.generators_t.p.loc[now, "b elastic demand"] = 6 - traded
    n.links_t.p0.loc[now, edge], n.links_t.p1.loc[now, edge] = traded, -traded
    n.buses_t.marginal_price.loc[now, ["a", "b"]] = [traded, 6 - traded]
    for multiplier, value in zip(KEPT_DUALS, (traded - 1, 0.0, 0.0), strict=True):
        n.links_t[multiplier].loc[now, edge] = value
    n.meta["p2p"]["own_multipliers"] = True
    n.links_t["mu_reciprocity1"] = n.links_t.mu_reciprocity.assign(**{edge: 5 - traded})
    return n


@pytest.mark.parametrize("traded", [1.0, 2.0, 3.0, 4.5])
def test_generalized_equilibria_by_hand(traded: float) -> None:
    """x in [1, 5] is an equilibrium; x = 3 the variational one."""
    found = certify(two_prosumers(traded))
    assert found.kkt_residual < 1e-12
    assert float(found.exploitability.max()) < 1e-9
    assert found.is_equilibrium(equilibrium="generalized")
    assert found.is_equilibrium() == (traded == 3.0)
    gap = abs((traded - 1) - (5 - traded)) / max(1, traded, 6 - traded, 5 - traded)
    assert found.multiplier_misalignment == pytest.approx(gap, abs=1e-12)


def test_no_equilibrium_by_hand() -> None:
    """x = 1/2: b can buy no more, but a would rather sell 1, with or without anybody to buy it.

    Her cost is G^2 / 2 - x, her own preference being all she minds, and (1) lets her sell more:
    1/8 - 1/2 now, 1/2 - 1 at best.
    """
    found = certify(two_prosumers(0.5))
    assert float(found.exploitability.sel(prosumer="a")) == pytest.approx(-3 / 8 + 1 / 2)
    assert not found.is_equilibrium(equilibrium="generalized")


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


def test_representation_and_refusals() -> None:
    found = certify(small("neutral"))
    assert repr(found).startswith("Certificate of PeerToPeerMarket: variational equilibrium")
    with pytest.raises(p2p.MarketError, match="'variational' or 'generalized'"):
        found.is_equilibrium(equilibrium="nash")  # type: ignore[arg-type]
    central = certify(small("neutral", design="centralized"))
    assert "the planner's optimum" in repr(central)
    with pytest.raises(p2p.MarketError, match="not an equilibrium of a game"):
        central.is_equilibrium(equilibrium="variational")
    with pytest.raises(p2p.MarketError, match="no solved market"):
        certify(network(random_instance(1)))
