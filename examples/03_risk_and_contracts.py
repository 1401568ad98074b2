"""What risk costs, and what contracts between prosumers save: the three-node market.

A contract pays 1 EUR in one scenario. Prosumers who fear different scenarios have something to
trade: after it all see the same probabilities, and dispatch is what it would be without risk.
"""

import numpy as np

import pypsa_p2p as p2p

n = p2p.load_grid("three_node")
designs = {
    "risk-neutral": p2p.PeerToPeerMarket(),
    "risk-averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "with contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
}
networks = {name: n.copy() for name in designs}
for name, market in designs.items():
    market.optimize(networks[name])
table = p2p.compare(networks)
print(table.T.round(4), "\n")

averse, hedged = p2p.results(networks["risk-averse"]), p2p.results(networks["with contracts"])
print("Contracts bought (EUR):", hedged.contract.to_pandas().round(3), sep="\n")
print("at the prices", hedged.contract_price.values.round(4))

# Risk costs something, and contracts save a part of it.
social = table.social_cost
assert social["risk-neutral"] < social["with contracts"] < social["risk-averse"]
np.testing.assert_allclose(social["with contracts"], 7.9707784, atol=1e-6)  # MODEL.md, section 9

# With contracts the dispatch is the risk-neutral one again.
np.testing.assert_allclose(table.efficiency_loss["with contracts"], 0.0, atol=1e-5)

# A sure EUR costs 1 EUR: prices are probabilities. They are everybody's own (Corollary 16).
np.testing.assert_allclose(hedged.contract_price.sum(), 1.0, atol=1e-9)
np.testing.assert_allclose(hedged.risk_adjusted_probability - hedged.contract_price, 0.0, atol=1e-9)

# Contracts only move money: in every scenario what some receive others pay.
np.testing.assert_allclose(hedged.contract.sum("prosumer"), 0.0, atol=1e-8)

# Without contracts each prosumer looks at the scenarios that are bad for her.
np.testing.assert_allclose(averse.risk_adjusted_probability.sum("scenario"), 1.0, atol=1e-9)
tau = averse.risk_adjusted_probability
assert float((tau.max("prosumer") - tau.min("prosumer")).max()) > 0.1
