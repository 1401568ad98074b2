"""Who insures whom: prices, volumes and regimes of contracts in the three-node market.

The tables of the paper on contracts: risk-adjusted probabilities tau without and with contracts,
prices alpha, and phi = gamma - alpha, what insurance from outside costs above the community's own
price. Insurance at 0.45 EUR per EUR is too dear to be bought; at 0.35 it caps the price.
"""

import logging

import numpy as np
import pandas as pd

import pypsa_p2p as p2p

logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve

n = p2p.load_grid("three_node")
DESIGNS = {
    "no contracts": None,
    "inside only": p2p.Contracts(),
    "dear insurance": p2p.Contracts(insurance_price=0.45),
    "cheap insurance": p2p.Contracts(insurance_price=0.35),
}

solved = {}
for name, contracts in DESIGNS.items():
    network = n.copy()
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=contracts, surplus=False)
    market.optimize(network)
    r = solved[name] = p2p.results(network)
    table = r.risk_adjusted_probability.to_pandas().add_prefix("tau ")
    if contracts is not None:
        table["alpha"] = r.contract_price.to_series()
        table = table.join(r.contract.to_pandas().add_prefix("W "))
    if contracts is not None and contracts.insurance_price is not None:
        table["phi"] = contracts.insurance_price - table["alpha"]
        table = table.join(r.insurance.to_pandas().add_prefix("J "))
        table["regime"] = r.regime.to_series()
    print(f"\n{name}, social cost {float(r.social_cost):.4f} EUR")
    print(table.round(4).to_string())

# Without contracts everybody has probabilities of her own; a contract market makes them one.
inside, dear, cheap = (solved[name] for name in list(DESIGNS)[1:])
assert float(solved["no contracts"].risk_adjusted_probability.std("prosumer").max()) > 0.1
for r in (inside, dear, cheap):
    np.testing.assert_allclose(r.risk_adjusted_probability - r.contract_price, 0.0, atol=1e-6)
    np.testing.assert_allclose(r.contract_price.sum(), 1.0, atol=1e-6)
    np.testing.assert_allclose(r.contract.sum("prosumer"), 0.0, atol=1e-6)

# The published prices (MODEL.md, section 9); insurance above them changes nothing.
np.testing.assert_allclose(inside.contract_price, [0.358080, 0.283839, 0.358080], atol=1e-6)
np.testing.assert_allclose(dear.contract_price, inside.contract_price, atol=1e-6)
np.testing.assert_allclose(dear.insurance, 0.0, atol=1e-6)

# Cheap insurance is bought where its price is the community's, and there alone (Theorem 15).
phi = 0.35 - cheap.contract_price
bought = cheap.insurance.sum("prosumer")
assert float(phi.min()) >= -1e-6
np.testing.assert_allclose((phi * bought), 0.0, atol=1e-5)
assert float(bought.max()) > 0.1
assert float(cheap.social_cost) < float(inside.social_cost)

costs = pd.Series({name: float(r.social_cost) for name, r in solved.items()})
print(f"\nSocial cost (EUR):\n{costs.round(4).to_string()}")
assert costs["no contracts"] > costs["inside only"]
