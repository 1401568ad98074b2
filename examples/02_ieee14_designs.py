"""Does trading freely cost anything? Market designs on the IEEE 14-bus grid.

Without congestion costs the equilibrium of selfish prosumers is what a market operator would
choose. With them it is not: both ends of a trade pay for what they see of its congestion, the
operator sees that their two payments cancel, and so prosumers trade less than would be good.
"""

import logging

import numpy as np

import pypsa_p2p as p2p

logging.getLogger("pypsa").setLevel(logging.ERROR)  # case14 has transformers without resistance

n = p2p.load_grid("ieee14", market=True)
networks = {name: n.copy() for name in ("centralized", "peer-to-peer", "congested")}

trades = networks["congested"].links.carrier == "p2p"
networks["congested"].links.loc[trades, "congestion"] = 0.05  # EUR/MW2h

p2p.CentralizedMarket().optimize(networks["centralized"])
p2p.PeerToPeerMarket().optimize(networks["peer-to-peer"])
p2p.PeerToPeerMarket().optimize(networks["congested"])

table = p2p.compare(networks)
print(table.T.round(3))
operator, market, congested = (p2p.results(network) for network in networks.values())

# Without congestion: the same dispatch, and so the same cost (MODEL.md, Proposition 12).
np.testing.assert_allclose(market.demand, operator.demand, atol=1e-5)
np.testing.assert_allclose(table.efficiency_loss["peer-to-peer"], 0.0, atol=1e-4)

# With congestion: on every edge a (q + q') (q + q') is left of the two payments, which is 0 without
# surplus. The operator would lose nothing, so that all of this is the price of selfishness.
assert table.efficiency_loss["congested"] > 0

# Prosumers minimise a potential that has a q^2 added for every edge: q^2 can only become less.
assert (congested.quantity**2).sum() < (market.quantity**2).sum()
