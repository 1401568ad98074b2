"""Capacities as first-stage decisions, against the cone program; files keep them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError
from tests.conformance.assets import Reference, solve_with
from tests.conformance.markets import (
    ASSETS,
    DESIGNS,
    assert_capacity_pays,
    built,
    found,
    house,
    instance,
    solve,
)

CASES = [(seed, design) for seed, design in zip((3, 5, 7, 11, 13), DESIGNS, strict=True)]
EVERY = pytest.mark.parametrize(("seed", "design"), CASES)


@cache
def wanted(seed: int, design: str) -> Reference:
    return solve_with(instance(seed), ASSETS, surplus=False, **DESIGNS[design][1])


@EVERY
def test_against_the_cone_program(seed: int, design: str, route: str) -> None:
    """Social cost, demand where somebody cares, and sum tau Pi: costs miss no investment."""
    n, r = found(seed, design, route)
    reference = wanted(seed, design)
    assert n.objective + n.objective_constant == pytest.approx(reference.social_cost, rel=1e-7)
    assert float(r.social_cost) == pytest.approx(reference.social_cost, rel=1e-7)
    weighed = r.risk_adjusted_probability
    assert float((weighed * r.cost).sum()) == pytest.approx(reference.social_cost, rel=1e-6)
    demand = r.demand.where(weighed > 1e-4).transpose("prosumer", "scenario", "snapshot")
    keep = demand.notnull().to_numpy()
    np.testing.assert_allclose(demand.to_numpy()[keep], reference.demand[keep], atol=2e-5)


@EVERY
def test_routes_agree(seed: int, design: str) -> None:
    one, hook = found(seed, design, "hook")
    other, direct = found(seed, design, "direct")
    for name in direct:
        np.testing.assert_allclose(hook[name], direct[name], rtol=1e-6, atol=1e-6, err_msg=name)
    for component in ("Generator", "Store", "Link"):
        assert built(one, component) == pytest.approx(built(other, component), abs=1e-6)
    assert one.objective_constant == other.objective_constant > 0.0


@EVERY
def test_marginal_value_of_capacity_is_its_cost(seed: int, design: str) -> None:
    n, r = found(seed, design, "direct")
    assert_capacity_pays(n, r, instance(seed))


@EVERY
def test_certified(seed: int, design: str, route: str) -> None:
    n, _ = found(seed, design, route)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("component", ["Generator", "Store", "Link"])
def test_what_does_not_pay_is_not_certified(component: str, factor: float) -> None:
    """A tenth more than pays, or less than is used."""
    solved, _ = found(5, "averse", "direct")
    n = solved.copy()
    size = {"Store": "e_nom"}.get(component, "p_nom")
    static = n.c[component].static
    extendable = static[f"{size}_extendable"].to_numpy(bool) & (static[f"{size}_opt"] > 0.01)
    assert extendable.any()
    static.loc[extendable, f"{size}_opt"] *= factor
    certificate = p2p.certify(n)
    assert not certificate.is_equilibrium(), certificate


def test_what_nobody_uses_could_be_saved() -> None:
    """Half a MW more than the 2 that pay, at 4 EUR/MW: who decides anew saves 2 EUR."""
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0)
    solve(n, p2p.CentralizedMarket())
    assert p2p.certify(n).is_equilibrium()
    n.c["Generator"].static.loc[(slice(None), "plant"), "p_nom_opt"] += 0.5
    certificate = p2p.certify(n)
    saved = float(certificate.exploitability.sum()) * certificate.scale.money
    assert saved == pytest.approx(2.0, abs=1e-6)
    assert not certificate.is_equilibrium()


def test_files_keep_results(tmp_path: Any) -> None:
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0, p_nom_max=9.0, p_nom=1.0)
    r = solve(n, p2p.CentralizedMarket(risk=p2p.CVaR(attitude=0.4)))
    path = tmp_path / "market.nc"
    n.export_to_netcdf(path)
    read = p2p.results(pypsa.Network(path))
    for name in r:
        np.testing.assert_allclose(read[name], r[name], rtol=1e-9, atol=1e-9, err_msg=name)
    assert float(read.social_cost) == pytest.approx(15 + 2 / 9, rel=1e-7)


@pytest.mark.parametrize(
    ("component", "column", "says"),
    [
        ("Generator", "capital_cost", "capital cost of Generator"),
        ("Generator", "p_nom_max", "p_nom_max of Generator"),
        ("Store", "e_nom_min", "e_nom_min of Store"),
        ("Link", "p_nom_extendable", "capital cost of Link"),
    ],
)
def test_changed_data_are_named(component: str, column: str, says: str) -> None:
    n = found(5, "averse", "direct")[0].copy()
    static = n.c[component].static
    rows = static[static.columns[static.columns.str.endswith("_nom_extendable")][0]].astype(bool)
    static.loc[rows, column] = False if column.endswith("extendable") else 1.25
    with pytest.raises(MarketError, match=says):
        p2p.results(n)


def test_standing_capacity_may_become_the_one_found() -> None:
    """`p_nom` of what is to be found plays no part: setting it to p_nom_opt changes nothing."""
    n, r = found(5, "averse", "direct")
    n = n.copy()
    static = n.c["Generator"].static
    rows = static["p_nom_extendable"].astype(bool)
    static.loc[rows, "p_nom"] = static.loc[rows, "p_nom_opt"]
    assert float(p2p.results(n).social_cost) == float(r.social_cost)
