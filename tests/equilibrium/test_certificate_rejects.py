"""The certificate rejects what is off by a little, and tells generalized from variational."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.names import KEPT_DUALS
from pypsa_p2p.solution.certificate.certify import certify
from tests.equilibrium.cases import small


@cache
def certified(*market: Any) -> bool:
    """Whether a small market passes as it is."""
    return certify(small(*market)).is_equilibrium()


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


MARKETS = (
    ("neutral", True, "peer-to-peer"),
    ("averse", False, "peer-to-peer"),
    ("contracts", False, "peer-to-peer"),
    ("neutral", True, "centralized"),
)


@pytest.mark.parametrize(
    ("what", "market", "sign"), [*product([*QUANTITIES, *PRICES], MARKETS, (1, -1))]
)
def test_perturbed_solutions_are_rejected(
    market: tuple[str, bool, str], what: str, sign: int
) -> None:
    """A thousandth of a MW or of a EUR/MWh, in one place, and it is no solution any more."""
    assert certified(*market)
    n = small(*market).copy()
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
    gap = abs((traded - 1) - (5 - traded)) / max(traded, 6 - traded)
    assert found.multiplier_misalignment == pytest.approx(gap, abs=1e-12)


def test_no_equilibrium_by_hand() -> None:
    """x = 1/2: b can buy no more, but a would rather sell 1, with or without anybody to buy it.

    Her cost is G^2 / 2 - x, her own preference being all she minds, and (1) lets her sell more:
    1/8 - 1/2 now, 1/2 - 1 at best. The market's money is 1/8 + 5.5^2 / 2 and a preference of 1/2
    on each side.
    """
    found = certify(two_prosumers(0.5))
    gain, money = -3 / 8 + 1 / 2, 1 / 8 + 5.5**2 / 2 + 1
    assert float(found.exploitability.sel(prosumer="a")) == pytest.approx(gain / money)
    assert not found.is_equilibrium(equilibrium="generalized")
