"""What a real street pays: 39 homes, farms and shops of SimBench's low-voltage grids.

A winter and a summer week, hour by hour, of the "LV4.101" grid with its panels and batteries in
SimBench's scenario of the near future (S. Meinecke and others, *SimBench: A Benchmark Dataset of
Electric Power Systems*, Energies 13(12), 2020). Each household has a retailer who sells at 300 and
buys at 80 EUR/MWh. Together they trade through a pool, which charges both ends a fee, and whatever
is traded or retailed must be carried by the street's lines and transformer. Needs pandapower and
simbench: pip install ".[simbench,plot]". Writes a_real_community.png and its_bills.png; with
--fast it takes a day of each week.
"""

import argparse
import logging

import matplotlib as mpl
import numpy as np
import pandas as pd
import simbench

import pypsa_p2p as p2p

mpl.use("Agg")

logging.getLogger("linopy").setLevel(logging.WARNING)
logging.getLogger("pypsa").setLevel(logging.ERROR)

parser = argparse.ArgumentParser()
parser.add_argument("--fast", action="store_true", help="a day of each week")
days = 1 if parser.parse_args().fast else 7

IMPORT, EXPORT = 300.0, 80.0  # EUR/MWh
FEES = [0.0, 20.0, 60.0, 110.0]  # EUR/MWh that either end pays the pool
kilo = 1000.0

# --- the street ---------------------------------------------------------------------------------

net = simbench.get_simbench_net("1-LV-semiurb4--2-no_sw")
profiles = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
times = pd.to_datetime(net.profiles["load"]["time"], format="%d.%m.%Y %H:%M")


def hourly(element: str) -> pd.DataFrame:
    """Means over hours of the whole year, MW, by name of the element."""
    table = profiles[element, "p_mw"].rename(columns=net[element]["name"])
    return table.set_index(pd.DatetimeIndex(times)).resample("h").mean()


load, sun = hourly("load"), hourly("sgen")
weeks = [
    pd.date_range(start, periods=24 * days, freq="h") for start in ("2016-01-18", "2016-07-04")
]
hours = weeks[0].append(weeks[1])

n = p2p.from_pandapower(net)
n.set_snapshots(hours)
n.loads_t.p_set = load.loc[hours, n.loads.index]
peak = sun.max()
n.generators.loc[peak.index, "p_nom"] = peak
n.generators_t.p_max_pu = (sun / peak).loc[hours]
n.generators_t.p_min_pu = n.generators_t.p_max_pu
n.generators.loc[peak.index, "p_set"] = np.nan
n.storage_units["p_set"] = np.nan  # SimBench's set points: here the market decides
n.storage_units["cyclic_state_of_charge"] = True
n.storage_units[["efficiency_store", "efficiency_dispatch"]] = 0.95

grid_bus = n.loads.bus.unique()
p2p.assign_prosumers(n, list(grid_bus))
homes = [f"{bus} prosumer" for bus in grid_bus]
station = n.transformers.bus0.iloc[0]
p2p.add_prosumers(n, ["pool"], role="operator", grid_bus=station)
p2p.add_retail(n, homes, import_price=IMPORT, export_price=EXPORT)


def solved(fee: float) -> tuple:
    """The street with its pool at a fee, and what everybody saves by it."""
    m = n.copy()
    p2p.add_trades(
        m,
        [("pool", home) for home in homes],
        capacity=1.0,
        fee={(home, "pool"): fee for home in homes} | {("pool", home): 0.0 for home in homes},
    )
    p2p.PeerToPeerMarket(surplus=False, delivery="grid").optimize(m)
    return m, p2p.results(m)
