"""Certificates of markets with contracts: complete, limited, insured, of any payoff."""

from __future__ import annotations

from typing import Any

import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.reference.instances import network, random_instance

PAYOFF = xr.DataArray(
    [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]],
    coords={"contract": ["x", "y"], "scenario": ["s0", "s1", "s2"]},
)
TERMS: dict[str, dict[str, Any]] = {
    "complete": {},
    "limited": {"limit": 0.5},
    "insured": {"insurance_price": 0.4},
    "both": {"insurance_price": 0.6, "limit": 1.0},
    "paper": {"price": "paper"},
    "payoff": {"payoff": PAYOFF},
}


def solved(terms: str, design: Any = p2p.PeerToPeerMarket, currency: float = 1.0) -> Any:
    """A market, with its costs in EUR or in a currency of which a EUR is worth so many."""
    n = network(random_instance(1, 4, 3, 1))
    n.c["Generator"].static[["marginal_cost", "marginal_cost_quadratic"]] *= currency
    n.c["Generator"].dynamic["marginal_cost"] *= currency
    n.c["Link"].static[["price0", "price1"]] *= currency
    n.c["Bus"].static[["fixed_cost", "usage_benefit"]] *= currency
    n.c["Bus"].dynamic["import_price"] *= currency
    terms_of = TERMS[terms]
    if "payoff" in terms_of:
        terms_of = {"payoff": PAYOFF.assign_coords(scenario=list(n.scenarios))}
    design(risk=p2p.CVaR(), contracts=p2p.Contracts(**terms_of)).optimize(n)
    return n


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("design", [p2p.PeerToPeerMarket, p2p.CentralizedMarket])
def test_contracts_are_certified(terms: str, design: Any) -> None:
    found = p2p.certify(solved(terms, design))
    assert found.is_equilibrium(1e-7), found
    assert float(found.exploitability.max()) <= 1e-7


@pytest.mark.parametrize("terms", ["payoff", "both"])
def test_contracts_are_as_exact_where_prices_are_large(terms: str) -> None:
    """A contract pays a unit of money, which is small beside what a MWh costs then."""
    found = p2p.certify(solved(terms, currency=1e4))
    assert found.is_equilibrium(1e-8), found


@pytest.mark.parametrize("terms", TERMS)
def test_other_volumes_are_rejected(terms: str) -> None:
    """Contracts that do not clear, or that somebody would rather not hold."""
    n = solved(terms)
    mine = n.buses.index.get_level_values("name") == "p0"
    n.buses.loc[mine, "contract"] += 0.01
    assert not p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("terms", ["insured", "both"])
def test_other_insurance_is_rejected(terms: str) -> None:
    """A EUR of cover where it is not worth its price is money lost."""
    n = solved(terms)
    r = p2p.results(n)
    dear = (r.insurance_price - r.risk_adjusted_probability).sel(prosumer="p0")
    scenario = str(dear.scenario[int(dear.to_numpy().argmax())].item())
    assert float(dear.max()) > 0.05
    n.buses.loc[(scenario, "p0"), "insurance"] += 0.5
    assert not p2p.certify(n).is_equilibrium()


def test_other_prices_are_rejected() -> None:
    """A price beyond what every buyer would pay: the limits leave room only below."""
    n = solved("limited")
    prices = n.meta["p2p"]["contract_terms"]["clearing_price"]
    prices[0] += 0.5
    assert p2p.certify(n).residuals["contract prices and limits"] > 1e-4
