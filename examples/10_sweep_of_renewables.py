"""How much do contracts save as renewables grow, and is the market fair? A sweep.

`sweep` solves markets at every combination of values and returns one labelled dataset. Names such
as `attitude` and `renewables` it knows; anything else is a function that changes the network.
"""

import logging

import numpy as np
import pandas as pd
import pypsa

import pypsa_p2p as p2p

logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve

n = p2p.load_grid("three_node")
markets = {
    "alone": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
}

# Known dimensions: renewables is a factor on the capacity of must-take generators.
d = p2p.sweep(n, markets, {"attitude": [0.1, 0.7], "renewables": [0.5, 1.5]}, progress=False)
saved = d.social_cost.sel(market="alone") - d.social_cost.sel(market="contracts")
print("Contracts save (EUR):", saved.to_pandas().round(3), sep="\n")


# A dimension of one's own: the price at which the grid operator buys what is left over, EUR/MWh.
def priced(network: pypsa.Network, point: dict[str, float]) -> None:
    """Set the import price; `network` is a copy that belongs to the point."""
    network.c.buses.dynamic["import_price"].loc[:, :] = point["import_price"]


neutral = p2p.PeerToPeerMarket()
t = p2p.sweep(n, neutral, {"import_price": [0.0, 1.0]}, apply=priced, progress=False)
print("\nBy import price:", t[["traded_energy", "social_cost"]].to_dataframe().round(3), sep="\n")

# The same market with scarce and with plenty of trade, by measures of fairness (1 is even).
fairness = {}
for capacity in (0.2, 1.0):
    network = n.copy()
    network.links["p_nom"] *= capacity
    neutral.optimize(network)
    fairness[f"capacity x {capacity}"] = p2p.fairness(network)
print("\nFairness:", pd.DataFrame(fairness).round(3), sep="\n")

assert (d.error == "").all()
assert (saved > -1e-6).all()  # contracts never cost anything
assert (d.social_cost.diff("attitude") > 0).all()  # aversion does
assert (t.social_cost.diff("import_price") < 0).all()  # the community sells its surplus
assert "p2p" not in n.meta  # the network given is as it was: nothing was solved on it
np.testing.assert_allclose(
    d.social_cost.sel(market="contracts"),
    (d.risk_adjusted_probability * d.cost).sum(["scenario", "prosumer"]).sel(market="contracts"),
    atol=1e-6,
)
