"""Does trading freely cost anything? Centralized and peer-to-peer on the IEEE 14-bus grid.

Without congestion costs the equilibrium of selfish prosumers is what a market operator would
choose. With them it is not: a buyer does not care that she makes her partner's trade dearer.
"""

import logging

import numpy as np

import pypsa_p2p as p2p

logging.getLogger("pypsa").setLevel(logging.ERROR)  # case14 has transformers without resistance

n = p2p.load_grid("ieee14", market=True)

free = {"centralized": n.copy(), "peer-to-peer": n.copy()}
p2p.CentralizedMarket().optimize(free["centralized"])
p2p.PeerToPeerMarket().optimize(free["peer-to-peer"])

is_trade = n.links.carrier == "p2p"
n.links.loc[is_trade, "congestion"] = 0.05  # EUR/MW2h
congested = {"centralized": n.copy(), "peer-to-peer": n.copy()}
p2p.CentralizedMarket().optimize(congested["centralized"])
p2p.PeerToPeerMarket().optimize(congested["peer-to-peer"])

columns = ["social_cost", "efficiency_loss", "traded_energy", "price_mean", "cost_gini"]
without, with_congestion = p2p.compare(free), p2p.compare(congested)
print("Without congestion costs:", without[columns].round(3), "", sep="\n")
print("With congestion costs:", with_congestion[columns].round(3), sep="\n")

# Without: the same dispatch, and so the same cost (MODEL.md, Proposition 12).
operator, market = (p2p.results(network) for network in free.values())
np.testing.assert_allclose(market.demand, operator.demand, atol=1e-5)
np.testing.assert_allclose(without.efficiency_loss, 0.0, atol=1e-4)

# With: nobody can do better than the operator, and congestion costs do not come for free.
assert with_congestion.efficiency_loss["peer-to-peer"] > 0
assert (with_congestion.social_cost > without.social_cost).all()
