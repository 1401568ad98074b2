"""A market of one's own, by CONTRIBUTING.md's recipe: solved, certified, explained, stored."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p

RECIPES = Path(__file__).parents[2] / "CONTRIBUTING.md"


def recipe(title: str, name: str) -> Any:
    """The class of a section's code block, as it stands."""
    section = RECIPES.read_text(encoding="utf-8").split(f"## {title}")[1]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    module = ModuleType(f"recipe_{name}")
    sys.modules[module.__name__] = module  # dataclasses look there
    exec(block.group(1), vars(module))
    return vars(module)[name]


TolledMarket = recipe("How to add a market", "TolledMarket")
AtMost = recipe("How to add a risk measure", "AtMost")


def pair() -> pypsa.Network:
    """A produces at 2 + g EUR/MWh; B needs 4 MW, produces at 10 EUR/MWh or buys from A."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["A", "B"],
        demand=[0, 4],
        demand_min=[0, 4],
        demand_max=[0, 4],
        utility_quadratic=1.0,
        generation_max=10,
        marginal_cost=[2, 10],
        marginal_cost_quadratic=[0.5, 0],
    )
    p2p.add_trades(n, [("A", "B")], capacity=10.0, congestion=1.5)
    return n


def solved(market: p2p.Market, route: str = "direct") -> pypsa.Network:
    n = pair()
    if route == "direct":
        market.optimize(n)
    else:
        n.optimize(extra_functionality=market, log_to_console=False)
    return n


@pytest.mark.parametrize("toll", [0.0, 0.5, 1.0])
def test_by_hand(route: str, toll: float) -> None:
    """Both ends mind a q (2 - k), k = 1 + toll: 10 - (2 + q) = 2 a q (1 - toll)."""
    r = p2p.results(solved(TolledMarket(toll=toll, surplus=False), route))
    q = min(4.0, 8 / (1 + 3 * (1 - toll)))
    np.testing.assert_allclose(r.net_import.squeeze(), [-q, q], atol=1e-6)
    np.testing.assert_allclose(r.nodal_price.sel(prosumer="A").squeeze(), 2 + q, atol=1e-6)


@pytest.mark.parametrize(
    ("toll", "known"), [(0.0, p2p.PeerToPeerMarket), (1.0, p2p.CentralizedMarket)]
)
def test_ends_are_the_known_designs(toll: float, known: Any) -> None:
    found = p2p.results(solved(TolledMarket(toll=toll)))
    xr.testing.assert_allclose(found.drop_attrs(), p2p.results(solved(known())).drop_attrs())


def test_it_is_certified_and_explained() -> None:
    n = solved(TolledMarket(toll=0.5, surplus=False))
    certificate = p2p.certify(n)
    assert certificate.is_equilibrium(), certificate
    assert "TolledMarket" in repr(certificate)
    explained = p2p.prices.price_from_trades(n)  # what A buys, then what B buys
    np.testing.assert_allclose(explained.squeeze(), [2 + 3.2, 10], atol=1e-6)


def test_a_wrong_answer_of_it_is_not_certified() -> None:
    n = solved(TolledMarket(toll=0.5, surplus=False))
    n.meta["p2p"]["cross"] = 1.0  # as if the planner had been asked
    assert not p2p.certify(n).is_equilibrium()


def test_it_is_stored_and_read_again(tmp_path: Path) -> None:
    n = solved(TolledMarket(toll=0.5))
    n.export_to_netcdf(tmp_path / "n.nc")
    again = pypsa.Network(tmp_path / "n.nc")
    xr.testing.assert_allclose(p2p.results(again), p2p.results(n))
    assert p2p.certify(again).is_equilibrium()


def test_the_recipe_of_a_measure_stands() -> None:
    n, known = (p2p.load_grid("three_node") for _ in range(2))
    p2p.PeerToPeerMarket(risk=AtMost(), surplus=False).optimize(n)
    p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=0.5), surplus=False).optimize(known)
    assert n.objective == pytest.approx(known.objective, abs=1e-8)
    assert p2p.certify(n).is_equilibrium()


def congested() -> pypsa.Network:
    """Three nodes whose trades rise in price."""
    n = p2p.load_grid("three_node")
    n.links.loc[n.links.carrier == "p2p", "congestion"] = 1.0
    return n


@pytest.mark.parametrize("toll", [0.0, 0.5])
def test_tolls_where_people_are_averse(toll: float) -> None:
    """Nobody gains by another answer to the others' trades, at what she minds of their cost."""
    n = congested()
    TolledMarket(toll=toll, risk=AtMost(), surplus=False).optimize(n)
    certificate = p2p.certify(n)
    assert certificate.kkt_residual < 1e-6, certificate
    assert certificate.is_equilibrium()
    assert certificate.equilibrium == ("variational" if toll == 0 else None)


def test_a_planner_of_several_risks_is_refused_where_trades_are_congested() -> None:
    with pytest.raises(p2p.MarketError, match="not convex"):
        TolledMarket(toll=1.0, risk=AtMost(), surplus=False).optimize(congested())


@dataclass(frozen=True, kw_only=True)
class Commune(p2p.Market):
    """The community's risk, as one."""

    @property
    def cross(self) -> float:
        return 1.0

    def groups(self, each: Any) -> Any:
        return each.of_first


def test_a_community_of_ones_own(route: str) -> None:
    n, known = (p2p.load_grid("three_node") for _ in range(2))
    market = Commune(risk=p2p.CVaR(attitude=0.5), surplus=False)
    if route == "direct":
        market.optimize(n)
    else:
        n.optimize(extra_functionality=market, log_to_console=False)
    p2p.CentralizedMarket(
        aggregate="community", risk=p2p.CVaR(attitude=0.5), surplus=False
    ).optimize(known)
    assert float(p2p.results(n).social_cost) == pytest.approx(n.objective, abs=1e-6)
    assert n.objective == pytest.approx(known.objective, abs=1e-6)
    assert p2p.certify(n).is_equilibrium()


@dataclass(frozen=True, kw_only=True)
class Weighed(p2p.Market):
    """Somebody's cost counts three times."""

    @property
    def cross(self) -> float:
        return 0.5

    def shares(self, data: Any) -> Any:
        return np.array([1.8, 0.6, 0.6])


def test_weights_of_ones_own_are_those_of_a_generalized_equilibrium() -> None:
    n, known = congested(), congested()
    Weighed(surplus=False).optimize(n)
    weights = {"0": 3.0, "1": 1.0, "2": 1.0}
    p2p.PeerToPeerMarket(equilibrium="generalized", weights=weights, surplus=False).optimize(known)
    xr.testing.assert_allclose(p2p.results(n).cost, p2p.results(known).cost)
    certificate = p2p.certify(n)
    assert certificate.equilibrium == "generalized"
    assert certificate.is_equilibrium(), certificate


@dataclass(frozen=True, kw_only=True)
class Narrow(p2p.PeerToPeerMarket):
    """Nobody sells more than 0.3 MW over an edge from its first end."""

    def formulate(self, m: Any, data: Any) -> None:
        super().formulate(m, data)
        m.add_constraints(m.variables["Link-p"] <= 0.3, name="narrow")


def test_agents_refuse_what_they_do_not_know() -> None:
    for ask in (
        lambda: p2p.solve_equilibrium(pair(), Narrow(), p2p.ADMM(), progress=False),
        lambda: p2p.sample_equilibria(pair(), Narrow(), progress=False),
    ):
        with pytest.raises(p2p.MarketError, match="Narrow has a 'formulate' of its own"):
            ask()


def test_constraints_of_ones_own_are_kept_and_named(route: str) -> None:
    n = solved(Narrow(surplus=False), route)
    assert float(n.model["Link-p"].solution.max()) <= 0.3 + 1e-6
    assert p2p.certify(n).unknown_constraints == ("narrow",)
