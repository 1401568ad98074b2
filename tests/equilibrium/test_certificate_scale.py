"""The certificate judges by the market's own scale: what happens sets it, and nothing else."""

from __future__ import annotations

from dataclasses import astuple
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.names import KEPT_DUALS
from pypsa_p2p.network.checksums import checksums
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.certificate.certify import certify
from tests.conformance.test_delivery import MARKETS, meshed
from tests.equilibrium.cases import small
from tests.reference.instances import network, random_instance

# ------------------------------------------------------------------------- the scale, by hand


def seller(**more: Any) -> pypsa.Network:
    """In hours of 1 h and 3 h a sells b 4 MW, then 2 MW, out of G + 1/2 G^2; c stands idle.

    b minds every MWh she buys with 2. So prices are 1 + G, 5 and 3, at a, and 7 and 5 at b.
    Costs: 4 + 8 + 8 in the first hour, and three times 2 + 2 + 4, 44 in all.
    """
    n = pypsa.Network()
    n.set_snapshots(["now", "then"])
    load = xr.DataArray(
        [[0.0, 4.0, 0.0], [0.0, 2.0, 0.0]],
        coords={"snapshot": ["now", "then"], "prosumer": ["a", "b", "c"]},
    )
    data = {
        "generation_max": [100.0, 0.0, 100.0],
        "marginal_cost": [1.0, 0.0, 70.0],
        "marginal_cost_quadratic": [0.5, 0.0, 0.0],
        "fixed_cost": [1e4, 0.0, 0.0],
        **more,
    }
    p2p.add_prosumers(
        n,
        ["a", "b", "c"],
        demand=load,
        demand_min=load,
        demand_max=load,
        utility_quadratic=0.0,
        **data,
    )
    n.snapshot_weightings["objective"] = [1.0, 3.0]
    price = {("a", "b"): 0.0, ("b", "a"): 2.0, ("b", "c"): 0.0, ("c", "b"): 0.0}
    p2p.add_trades(n, [("a", "b"), ("b", "c")], capacity=50.0, price=price)
    return n


def test_the_scale_by_hand() -> None:
    """Nothing of c's, no limit and no constant is in it."""
    n = seller()
    p2p.set_scenarios(n, {"s": 1.0})
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    found = certify(n)
    assert found.is_equilibrium(), found
    assert found.scale.power == pytest.approx(4.0)
    assert found.scale.price == pytest.approx(7.0)
    assert found.scale.money == found.scale.risk == pytest.approx(44.0)
    assert found.scale.hours == 2.0


def test_what_scenarios_differ_in_is_a_risk() -> None:
    """Constants of 5 and 8 EUR/h, for four hours: 12 EUR more with probability 1/4."""
    n = seller()
    fixed = xr.DataArray([1e4 + 5, 1e4 + 8], coords={"scenario": ["good", "bad"]})
    p2p.set_scenarios(n, {"good": 0.75, "bad": 0.25}, xr.Dataset({"fixed_cost": fixed}))
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    found = certify(n).scale
    assert found.money == pytest.approx(44.0)
    assert found.risk == pytest.approx(44.0 + 3 * 12 / 4)


# ------------------------------------------------------------------------ units do not matter

#: What numbers of a solved network are measured in: powers of MW and of EUR.
MEASURED = {
    "p": (1, 0), "p0": (1, 0), "p1": (1, 0), "p_nom": (1, 0), "p_nom_opt": (1, 0),
    "p_set": (1, 0), "s_nom": (1, 0), "v_nom": (0.5, 0), "net_import": (1, 0), "surplus": (1, 0),
    "p_dispatch": (1, 0), "p_store": (1, 0), "state_of_charge": (1, 0),
    "marginal_cost": (-1, 1), "marginal_price": (-1, 1), "import_price": (-1, 1),
    "price0": (-1, 1), "price1": (-1, 1), **dict.fromkeys(KEPT_DUALS, (-1, 1)),
    "marginal_cost_quadratic": (-2, 1), "congestion": (-2, 1),
    "usage_benefit": (0, 1), "fixed_cost": (0, 1), "contract": (0, 1), "insurance": (0, 1),
}  # fmt: skip
UNITS = {"MW": (1.0, 1.0), "W": (1e6, 1.0), "MEUR": (1.0, 1e-6), "TW, cents": (1e-6, 1e2)}


def in_units(n: pypsa.Network, power: float, money: float) -> pypsa.Network:
    """Data and solution in units of which so many are 1 MW and 1 EUR; numbers alone change."""
    twin = n.copy()
    for component in sorted(twin.all_components):
        for table in (twin.c[component].static, twin.c[component].dynamic):
            for name in set(table) & set(MEASURED):
                of_power, of_money = MEASURED[name]
                table[name] = table[name].astype(float) * power**of_power * money**of_money
    kept = twin.meta["p2p"]
    if "contract_terms" in kept and kept["contract_terms"]["limit"] is not None:
        kept["contract_terms"]["limit"] = (
            money * np.array(kept["contract_terms"]["limit"])
        ).tolist()
    kept["inputs"] = checksums(twin, read_market(twin), kept["delivery"])
    return twin


@cache
def solved(case: str) -> pypsa.Network:
    """Solved once in MW and EUR; `in_units` copies it."""
    if case in ("neutral", "averse"):
        n = small(case).copy()
    elif case == "grid":
        n = meshed(1, 1.5)
        MARKETS["averse"].optimize(n)
    else:
        n = network(random_instance(1, 4, 3, 2))
        if case == "storage":
            n.add("StorageUnit", "battery", bus="p1", p_nom=1.0, max_hours=2.0)
        {
            "limited": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(limit=0.5)),
            "community": insured_community(0.4),
            "storage": p2p.CentralizedMarket(risk=p2p.CVaR()),
        }[case].optimize(n)
    n.model.solver_model = None
    return n


def insured_community(insurance_price: float) -> p2p.CentralizedMarket:
    return p2p.CentralizedMarket(
        aggregate="community",
        risk=p2p.CVaR(attitude=0.4),
        contracts=p2p.Contracts(insurance_price=insurance_price),
    )


CASES = ("neutral", "averse", "limited", "community", "storage", "grid")
#: Numbers to change: component, attribute, and a name that every case has.
CHANGED = (
    ("Generator", "p", "p1 generation", "power"),
    ("Bus", "marginal_price", "p2", "price"),
    ("Link", "mu_reciprocity", None, "price"),
)


@pytest.mark.parametrize(("case", "unit"), [*product(CASES, [*UNITS][1:])])
def test_a_certificate_has_no_unit(case: str, unit: str) -> None:
    """A right answer passes in any of them; a wrong one is as wrong as in MW and EUR."""
    power, money = UNITS[unit]
    n = solved(case)
    first, found = certify(n), certify(in_units(n, power, money))
    assert found.is_equilibrium(1e-7), found
    assert found.scale.power == pytest.approx(power * first.scale.power)
    assert found.scale.price == pytest.approx(money / power * first.scale.price)
    assert found.scale.money == pytest.approx(money * first.scale.money)
    change = CHANGED[(CASES.index(case) + [*UNITS].index(unit)) % len(CHANGED)]
    wrong = changed(n, *change, getattr(first.scale, change[-1]))
    first, found = certify(wrong), certify(in_units(wrong, power, money))
    assert first.kkt_residual > 1e-5
    for name, residual in first.residuals.items():
        assert found.residuals[name] == pytest.approx(residual, rel=1e-6, abs=1e-9)
    assert found.budget_imbalance == pytest.approx(first.budget_imbalance, abs=1e-9)
    gain = first.exploitability
    xr.testing.assert_allclose(found.exploitability, gain, rtol=1e-6, atol=1e-8)


def changed(
    n: pypsa.Network, component: str, attribute: str, name: str | None, _: str, size: float
) -> pypsa.Network:
    """One number of one table off by a thousandth of the scale."""
    n, scenario = n.copy(), n.scenarios[0]
    name = n.links.xs(scenario).index[1] if name is None else name
    n.c[component].dynamic[attribute].loc[n.snapshots[0], (scenario, name)] += 1e-3 * size
    return n


# ----------------------------------------------------- what does not happen does not blind it


def with_huge_numbers(n: pypsa.Network) -> pypsa.Network:
    """1e9 wherever it changes nothing: constants, limits that do not bind, costs of the idle."""
    n = n.copy()
    n.buses["fixed_cost"], n.buses["usage_benefit"] = 1e9, -3e8
    free = [
        edge
        for edge in n.links.xs(n.scenarios[0]).index
        if max(n.links_t[m].xs(edge, level=1, axis=1).to_numpy().max() for m in KEPT_DUALS[1:])
        < 1e-9
    ]
    assert free
    of_free = n.links.index.get_level_values("name").isin(free)
    n.links.loc[of_free, ["p_nom", "p_min_pu", "p_max_pu"]] = [1e9, -1.0, 1.0]
    tau = n.buses["risk_adjusted_probability"].unstack("name")
    minded = [name for name in ("p0", "p1", "p2", "p3") if tau[name].min() > 1e-3]
    assert minded  # where a scenario is none of her business, nothing is too dear to run in it
    for name in minded:
        n.add("Generator", f"{name} dear", bus=name, p_nom=1e9, marginal_cost=1e9)
    return n


@pytest.mark.parametrize("case", ["neutral", "averse", "limited"])
def test_huge_numbers_that_matter_to_nobody(case: str) -> None:
    """They neither break a right answer nor let a wrong one pass."""
    plain, n = certify(solved(case)), with_huge_numbers(solved(case))
    found = certify(n)
    assert found.is_equilibrium(1e-7), found
    np.testing.assert_allclose(astuple(found.scale), astuple(plain.scale), rtol=1e-12)
    for change in CHANGED:
        found = certify(changed(n, *change, getattr(plain.scale, change[-1])))
        assert not found.is_equilibrium(1e-5), found


def test_a_limit_far_away_makes_nothing_of_rounding() -> None:
    """a could generate 1e9 MW; her price is right to 1e-10 of it, and then to 1e-3."""
    n = seller()
    p2p.set_scenarios(n, {"s": 1.0})
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    n.generators.loc[("s", "a generation"), "p_nom"] = 1e9
    price = n.buses_t.marginal_price
    price.loc["now", ("s", "a")] += 1e-10
    assert certify(n).is_equilibrium(), certify(n)
    price.loc["now", ("s", "a")] += 1e-3
    found = certify(n).residuals
    assert found["demand and generation (17), (18)"] == pytest.approx(1e-3 / 7, rel=1e-6)


def test_an_idle_asset_that_runs_is_seen_whatever_it_costs() -> None:
    """A thousandth of the power out of c's generator at 70, or at 1e9."""
    n = seller()
    p2p.set_scenarios(n, {"s": 1.0})
    p2p.PeerToPeerMarket(surplus=False).optimize(n)
    a, c = (("s", f"{name} generation") for name in ("a", "c"))
    n.generators_t.p.loc["now", [a, c]] += [-4e-3, 4e-3]
    n.links_t.p0.loc["now"] += [-4e-3, -4e-3]
    n.links_t.p1.loc["now"] += [4e-3, 4e-3]
    for cost in (70.0, 1e9):
        n.generators.loc[c, "marginal_cost"] = cost
        found = certify(n)
        assert found.residuals["balances and limits"] < 1e-9
        assert found.residuals["demand and generation (17), (18)"] > 1e-4
        assert not found.is_equilibrium(1e-5), found


# -------------------------------------------------------------------- where nothing happens


def idle(import_price: float = 0.0) -> pypsa.Network:
    """Two prosumers who want nothing, of whom one could generate at 20 + G."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["a", "b"],
        demand=0.0,
        demand_max=0.0,
        utility_quadratic=1.0,
        generation_max=[10.0, 0.0],
        marginal_cost=20.0,
        marginal_cost_quadratic=0.5,
        import_price=import_price,
    )
    p2p.add_trades(n, "complete", capacity=5.0, price=1.0)
    p2p.set_scenarios(n, {"s": 1.0})
    p2p.PeerToPeerMarket().optimize(n)
    return n


def rounded(n: pypsa.Network, of_power: float, of_price: float) -> pypsa.Network:
    """Every number of the solution off by some rounding."""
    rng = np.random.default_rng(0)
    for component, attribute, size in (
        ("Generator", "p", of_power),
        ("Link", "p0", of_power),
        ("Link", "p1", of_power),
        ("Bus", "marginal_price", of_price),
        *(("Link", multiplier, of_price) for multiplier in KEPT_DUALS),
    ):
        table = n.c[component].dynamic[attribute]
        table += size * rng.uniform(-1, 1, table.shape)
    return n


@pytest.mark.parametrize("unit", [*UNITS.values()][:3], ids=[*UNITS][:3])
def test_an_idle_market(unit: tuple[float, float]) -> None:
    """Rounding of its data is accepted; a MW generated for nothing, or a gain missed, is not."""
    n = idle()
    assert np.abs(n.generators_t.p.to_numpy()).max() < 1e-6
    assert certify(in_units(n, *unit)).is_equilibrium(), certify(in_units(n, *unit))
    near = rounded(n.copy(), 1e-12, 1e-11)
    assert certify(in_units(near, *unit)).is_equilibrium(), certify(in_units(near, *unit))
    n.generators_t.p["s", "a generation"] += 1e-3
    assert not certify(in_units(n, *unit)).is_equilibrium()
    missed = idle()
    missed.buses_t["import_price"].loc[:] = 50.0
    found = certify(in_units(missed, *unit))
    assert float(found.exploitability.max()) > 0.1
    assert not found.is_equilibrium(equilibrium="generalized")


def test_limits_of_what_happens_are_no_scale_of_it() -> None:
    """3 MW are sold at 22 and b's 1 where every limit is 1e9: nothing is idle, or hidden."""
    n = idle(import_price=22.0)
    assert n.generators_t.p.to_numpy().max() == pytest.approx(3.0, abs=1e-6)
    n.generators.loc[("s", "a generation"), "p_nom"] = 1e9
    n.links["p_nom"] = 1e9
    found = certify(n)
    assert found.is_equilibrium(), found
    assert found.scale.power == pytest.approx(3.0, abs=1e-6)
    n.generators_t.p["s", "a generation"] += 1e-3
    assert not certify(n).is_equilibrium(1e-5)


@pytest.mark.parametrize("unit", [*UNITS.values()][:3], ids=[*UNITS][:3])
def test_energy_for_nothing(unit: tuple[float, float]) -> None:
    """More sun than anybody wants: all prices are 0, and a thousandth of a price is too much."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["a", "b"],
        demand=[1.0, 2.0],
        demand_max=5.0,
        utility_quadratic=2.0,
        renewable=[4.0, 0.0],
    )
    p2p.add_trades(n, "complete", capacity=5.0)
    p2p.set_scenarios(n, {"s": 1.0})
    p2p.PeerToPeerMarket().optimize(n)
    near = rounded(n.copy(), 0.0, 1e-11)
    for right in (n, near):
        found = certify(in_units(right, *unit))
        assert found.is_equilibrium(), found
    n.buses_t.marginal_price["s", "b"] += 1e-3
    assert not certify(in_units(n, *unit)).is_equilibrium(1e-5)


# ------------------------------------------------------------------------------- contracts


@pytest.mark.parametrize("insurance_price", [0.36, 0.4, 0.5, 0.8])
def test_insurance_that_binds_for_the_community(insurance_price: float) -> None:
    """What the operator insures is no cost any more that her tau must attain the risk of."""
    n = p2p.load_grid("three_node")
    insured_community(insurance_price).optimize(n)
    found = certify(n)
    assert found.is_equilibrium(1e-8), found
    assert "insurance (Theorem 15)" in found.residuals
    insured = float(n.buses["insurance"].abs().max()) > 1e-3
    assert insured == (insurance_price < 1 / 3 / (1 - 0.4))  # the most a EUR is worth to her
    n.buses.loc[(n.scenarios[0], "1"), "insurance"] += 0.5
    assert not certify(n).is_equilibrium()


@pytest.mark.parametrize("limit", [1e6, 1e9, 1e12])
def test_contracts_with_a_limit_far_away(limit: float) -> None:
    """They are those without a limit; a price off by a thousandth is seen all the same."""
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(limit=limit)).optimize(n)
    found = certify(n)
    assert found.is_equilibrium(1e-8), found
    n.meta["p2p"]["contract_terms"]["clearing_price"][0] *= 1.001
    found = certify(n)
    assert found.residuals["contract prices and limits"] == pytest.approx(3.6e-4 * 3, rel=0.2)


@pytest.mark.parametrize("limit", [None, 1.0, 1e9])
def test_a_contract_that_pays_nothing(limit: float | None) -> None:
    """It is worth nothing to anybody, which is its price; at any other everybody would trade."""
    n = p2p.load_grid("three_node")
    payoff = xr.DataArray(
        [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
        coords={"contract": ["nothing", "something"], "scenario": list(n.scenarios)},
    )
    terms = p2p.Contracts(payoff=payoff, limit=limit)
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=terms).optimize(n)
    found = certify(n)
    assert found.is_equilibrium(1e-8), found
    n.meta["p2p"]["contract_terms"]["clearing_price"][0] = 0.01
    assert not certify(n).is_equilibrium()
