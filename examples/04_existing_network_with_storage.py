"""An existing network becomes a market: a household with a battery trades over a day.

Everything stays PyPSA's: the battery is a StorageUnit, loads are inelastic, and the assets at a
bus belong to its prosumer, with what lies behind her meter: the shop is heated by a heat pump.
The battery buys where energy is cheap in time, and sells where not. Then all is given back, and
the network is what it was.
"""

import numpy as np
import pandas as pd
import pypsa

import pypsa_p2p as p2p


def village(battery: float) -> pypsa.Network:
    """A household with sun on its roof, a farm with a generator, a shop; `battery` in MW."""
    n = pypsa.Network(snapshots=pd.date_range("2030-06-01", periods=24, freq="h"))
    hour = n.snapshots.hour.to_numpy()
    sun = np.clip(np.sin((hour - 6) / 12 * np.pi), 0.0, None)
    n.add("Bus", ["house", "farm", "shop"])
    n.add("Line", ["house - farm", "farm - shop"], bus0=["house", "farm"], bus1=["farm", "shop"],
          x=0.1, s_nom=10.0)  # fmt: skip
    n.add("Load", "cooking", bus="house", p_set=0.5 + 1.0 * (hour >= 18))
    n.add("Load", "mill", bus="farm", p_set=1.0)
    n.add("Load", "fridge", bus="shop", p_set=0.5)
    n.add("Bus", "shop heat", carrier="heat")
    n.add("Link", "heat pump", bus0="shop", bus1="shop heat", p_nom=1.0, efficiency=3.0)
    n.add("Load", "warmth", bus="shop heat", p_set=0.9)
    n.add("Generator", "roof", bus="house", p_nom=4.0, p_max_pu=sun)
    n.add("Generator", "engine", bus="farm", p_nom=6.0, marginal_cost=20.0,
          marginal_cost_quadratic=10.0)  # fmt: skip
    if battery:
        efficiency = {"efficiency_store": 0.95, "efficiency_dispatch": 0.95}
        n.add("StorageUnit", "battery", bus="house", p_nom=battery, max_hours=4,
              cyclic_state_of_charge=True, **efficiency)  # fmt: skip
    return n


def traded(n: pypsa.Network) -> pypsa.Network:
    """The network as a market of its three buses, along its lines; solved."""
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=5.0)
    market = p2p.PeerToPeerMarket()
    n.optimize(extra_functionality=market, solver_options={"output_flag": False})
    return n


networks = {"without battery": traded(village(0.0)), "with battery": traded(village(1.5))}
table = p2p.compare(networks)
print(table.T.round(2), "\n")

n = networks["with battery"]
r = p2p.results(n)
price = r.nodal_price.sel(prosumer="house prosumer").isel(scenario=0).to_series()
battery = n.storage_units_t
stored, fed = battery.p_store["battery"], battery.p_dispatch["battery"]
print(pd.DataFrame({"price": price, "stored": stored, "fed": fed}).round(2))

# A battery is one more possibility, so the community cannot lose by it; here it gains.
assert table.social_cost["with battery"] < table.social_cost["without battery"]

# It stores cheap energy and feeds in dear energy, by more than what it loses on the way.
paid, earned = (stored * price).sum() / stored.sum(), (fed * price).sum() / fed.sum()
assert earned * 0.95**2 > paid
np.testing.assert_allclose(fed.sum(), 0.95**2 * stored.sum(), rtol=1e-6)

# Who the market calls the house's has the battery behind its meter (equation 3).
house = r.sel(prosumer="house prosumer")
np.testing.assert_allclose(house.demand, house.generation + house.net_import, atol=1e-6)

# The heat pump feeds on what the shop buys: 0.9 MW of heat are 0.3 MW of electricity.
np.testing.assert_allclose(r.net_import.sel(prosumer="shop prosumer"), 0.5 + 0.9 / 3, atol=1e-6)

# Given back, the network is as it was before there was a market.
p2p.release_prosumers(n)
assert list(n.buses.index) == ["house", "farm", "shop", "shop heat"] and not n.meta
assert n.equals(village(1.5))
