"""Three prosumers who trade with each other, from an empty PyPSA network.

A farm has a cheap generator, a mill an expensive one, a shop none. The market is a hook: PyPSA
builds and solves its own model, and the market turns the links between prosumers into trades.
"""

import numpy as np
import pypsa

import pypsa_p2p as p2p

n = pypsa.Network()
p2p.add_prosumers(
    n,
    ["farm", "mill", "shop"],
    demand=[4.0, 8.0, 6.0],  # MW, what each would like to use
    demand_max=10.0,
    utility_quadratic=2.0,  # EUR/MW2h, how much a deviation from that hurts
    generation_max=[20.0, 10.0, 0.0],  # MW
    marginal_cost=[5.0, 10.0, 0.0],  # EUR/MWh
    marginal_cost_quadratic=[0.2, 0.5, 0.0],  # EUR/MW2h, as in PyPSA: of the square
)
p2p.add_trades(
    n,
    [("farm", "mill"), ("farm", "shop")],
    capacity={("farm", "mill"): 3.0, ("farm", "shop"): 10.0},  # MW
    price={
        ("mill", "farm"): 1.0,  # the mill pays 1 EUR/MWh on what it buys from the farm
        ("farm", "mill"): 1.0,
        ("shop", "farm"): 0.5,
        ("farm", "shop"): 0.5,
    },
)

market = p2p.PeerToPeerMarket(surplus=False)
status, condition = n.optimize(extra_functionality=market, solver_options={"output_flag": False})
r = p2p.results(n)

now = r.isel(scenario=0, snapshot=0)
print(now[["demand", "generation", "net_import", "nodal_price"]].to_dataframe().round(3))
print(now.quantity.to_series().round(3))

assert (status, condition) == ("ok", "optimal")

# Everybody's energy is generated or bought (MODEL.md, equation 3), and nothing is lost.
np.testing.assert_allclose(now.demand, now.generation + now.net_import, atol=1e-6)
np.testing.assert_allclose(now.net_import.sum(), 0.0, atol=1e-6)

price, bought = now.nodal_price, now.quantity
farm, mill, shop = (float(price.sel(prosumer=who)) for who in ("farm", "mill", "shop"))

# The farm generates until one more MWh costs what it is worth there: a G + b. All that demand
# asks of it at its own price, and 3 MW for the mill, makes 8.75 MW at 8.50 EUR/MWh.
np.testing.assert_allclose(now.generation.sel(prosumer="farm"), 8.75, atol=1e-6)
np.testing.assert_allclose(farm, 5.0 + 2 * 0.2 * 8.75, atol=1e-5)

# The shop buys until it is indifferent: both ends of a trade face one price, and pay the same
# preference price, so that where there is room left their nodal prices are equal ...
assert bought.sel(trade="shop <- farm") < 10.0
np.testing.assert_allclose(shop, farm, atol=1e-5)

# ... while the mill would buy more if its trade were not full, and runs its own generator.
np.testing.assert_allclose(bought.sel(trade="mill <- farm"), 3.0, atol=1e-6)
np.testing.assert_allclose(mill, 12.0, atol=1e-5)
