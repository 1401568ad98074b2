"""Who insures whom: prices, volumes and regimes of contracts in the three-node market.

The tables of the paper on contracts: risk-adjusted probabilities tau without and with contracts,
and what a EUR in a scenario costs. Of the paper's two differences of prices,

sigma = gamma - alpha   is what insurance from outside costs above the community's own price,
phi   = tau - alpha     is what the EUR is worth to a prosumer above its price: 0 at the clearing
                        price, and not where a price is fixed otherwise (Table II).

Insurance at 0.40 EUR per EUR and above is too dear to be bought; at 0.35 it caps the price. The
last table is Table II's line: attitudes (.3, .4, .5) and the paper's fixed price. The paper's own
data are not published; "holds" and "does not hold here" are said of these.
"""

import logging

import numpy as np
import pandas as pd
import xarray as xr

import pypsa_p2p as p2p

logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve

n = p2p.load_grid("three_node")
TABLE_TWO = {"0": 0.3, "1": 0.4, "2": 0.5}
DESIGNS = {
    "no contracts": None,
    "inside only": p2p.Contracts(),
    "dear insurance": p2p.Contracts(insurance_price=0.4),
    "cheap insurance": p2p.Contracts(insurance_price=0.35),
    "Table II": p2p.Contracts(price="paper"),
}


def worth_above_price(r: xr.Dataset) -> xr.DataArray:
    """Phi = tau - alpha, by scenario and prosumer, EUR now per EUR in the scenario."""
    return r.risk_adjusted_probability - r.contract_price


solved = {}
for name, contracts in DESIGNS.items():
    network = n.copy()
    risk = p2p.CVaR(TABLE_TWO) if name == "Table II" else p2p.CVaR()
    p2p.PeerToPeerMarket(risk=risk, contracts=contracts, surplus=False).optimize(network)
    r = solved[name] = p2p.results(network)
    table = r.risk_adjusted_probability.to_pandas().add_prefix("tau ")
    if contracts is not None:
        table["alpha"] = r.contract_price.to_series()
        table = table.join(worth_above_price(r).to_pandas().round(9).add_prefix("phi "))
        table = table.join(r.contract.to_pandas().add_prefix("W "))
    print(f"\n{name}, social cost {float(r.social_cost):.4f} EUR")
    print(table.round(6 if name == "Table II" else 4).to_string())
    if contracts is not None and contracts.insurance_price is not None:
        insurance = r.insurance.to_pandas().add_prefix("J ")
        insurance["sigma"] = contracts.insurance_price - r.contract_price.to_series()
        insurance["regime"] = r.regime.to_series()
        print(insurance.round(4).to_string())

costs = pd.Series({name: float(r.social_cost) for name, r in solved.items()})
print(f"\nSocial cost (EUR):\n{costs.round(4).to_string()}\n")

inside, dear, cheap, fixed = (solved[name] for name in list(DESIGNS)[1:])
cap = float(inside.contract_price.max())  # p / (1 - min chi): the two worst scenarios are at it
sigma = 0.35 - cheap.contract_price
bought, volume = cheap.insurance.sum("prosumer"), cheap.contract.sum("prosumer")
uninsured = cheap.contract_price.where(bought < 1e-6, drop=True)
phi = worth_above_price(fixed).isel(prosumer=0)
claims = {
    "Corollary 16: contract prices are everybody's risk-adjusted probabilities": (
        float(abs(worth_above_price(inside)).max()) < 1e-6,
        f"largest difference {float(abs(worth_above_price(inside)).max()):.1e}",
    ),
    "Theorem 15: where insurance is bought, its price is the community's": (
        float(sigma.min()) > -1e-6 and float(abs(sigma * bought).max()) < 1e-5,
        f"sigma J at most {float(abs(sigma * bought).max()):.1e}",
    ),
    "(44): W and J sum to zero": (
        float(abs(volume + bought).max()) < 1e-6,
        f"W does, {float(abs(volume).max()):.1e}; J sums to {float(bought.max()):.4f}",
    ),
    "Theorem 15 (1.b), (2.a): where nobody insures, tau = 0": (
        float(uninsured.max()) < 1e-6,
        f"J = 0 and tau = {float(uninsured.max()):.4f}",
    ),
    f"Theorem 15 (3), (3.a): insurance above the cap of tau, {cap:.4f}, is bought": (
        float(dear.insurance.sum()) > 1e-6,
        f"at 0.40 J sums to {float(dear.insurance.sum()):.4f}",
    ),
    "Table II: alpha .476190, tau .047619 in the best scenario, phi -.428571": (
        bool(np.allclose(fixed.contract_price, 1 / 2.1) and np.allclose(phi.min(), -0.9 / 2.1)),
        f"phi {', '.join(f'{x:.6f}' for x in phi.values.round(9) + 0.0)}",
    ),
    "Table II, (47a): its fixed price is an equilibrium's, phi = 0 and prices sum to 1": (
        float(abs(phi).max()) < 1e-6,
        f"prices sum to {float(fixed.contract_price.sum()):.4f}",
    ),
}
for claim, (holds, number) in claims.items():
    print(f"{'holds' if holds else 'does not hold here'}: {claim} ({number})")
assert [holds for holds, _ in claims.values()] == [True, True, False, False, False, True, False]

# Without contracts everybody has probabilities of her own; a contract market makes them one.
assert float(solved["no contracts"].risk_adjusted_probability.std("prosumer").max()) > 0.1
for r in (inside, dear, cheap):
    np.testing.assert_allclose(worth_above_price(r), 0.0, atol=1e-6)
    np.testing.assert_allclose(r.contract_price.sum(), 1.0, atol=1e-6)
    np.testing.assert_allclose(r.contract.sum("prosumer"), 0.0, atol=1e-6)

# The published prices (MODEL.md, section 9); insurance above them changes nothing.
np.testing.assert_allclose(inside.contract_price, [0.358080, 0.283839, 0.358080], atol=1e-6)
np.testing.assert_allclose(dear.contract_price, inside.contract_price, atol=1e-6)
np.testing.assert_allclose(cheap.contract_price, [0.35, 0.30, 0.35], atol=1e-6)
assert float(bought.max()) > 0.1
assert costs["cheap insurance"] < costs["inside only"] < costs["no contracts"]

# Table II's line, for every prosumer: the fixed price is hers in the two worst scenarios alone.
np.testing.assert_allclose(fixed.contract_price, [0.476190, 0.476190, 0.476190], atol=1e-6)
for who in TABLE_TWO:
    tau = fixed.risk_adjusted_probability.sel(prosumer=who)
    np.testing.assert_allclose(tau, [0.476190, 0.047619, 0.476190], atol=1e-6)
    of_hers = worth_above_price(fixed).sel(prosumer=who)
    np.testing.assert_allclose(of_hers, [0.0, -0.428571, 0.0], atol=1e-6)
