"""What a real street pays: 39 homes, farms and shops on a low-voltage grid of SimBench's.

A winter and a summer week, hour by hour, of the grid "LV4.101" with the panels, batteries and heat
pumps of SimBench's near future (S. Meinecke and others, *SimBench: A Benchmark Dataset of Electric
Power Systems*, Energies 13(12), 2020). Everybody has a retailer who sells at 300 and buys at 80
EUR/MWh. They trade through a pool, and pay the network a fee on what they buy or sell there;
whatever is traded or retailed must be carried by the street's lines and transformer. With --fast it
is a day of each week. Needs SimBench: pip install ".[simbench,plot]" in a checkout.

Writes a_real_community.png (prices over time, what the fee does) and its_bills.png.
"""

import argparse
import logging

import matplotlib as mpl
import numpy as np
import pandas as pd
import pypsa
import simbench

import pypsa_p2p as p2p

mpl.use("Agg")
import matplotlib.pyplot as plt

logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve
logging.getLogger("pypsa").setLevel(logging.ERROR)

parser = argparse.ArgumentParser()
parser.add_argument("--fast", action="store_true", help="a day of each week")
days = 1 if parser.parse_args().fast else 7

IMPORT, EXPORT = 300.0, 80.0  # EUR/MWh
FEES = (0.0, 40.0, 80.0, 110.0)  # EUR/MWh that each end pays; 2 x 110 is all there is to share
USUAL = 40.0

# --- the street ---------------------------------------------------------------------------------

net = simbench.get_simbench_net("1-LV-semiurb4--2-no_sw")
profiles = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
times = pd.to_datetime(net.profiles["load"]["time"], format="%d.%m.%Y %H:%M")
weeks = [pd.date_range(day, periods=24 * days, freq="h") for day in ("2016-01-18", "2016-07-04")]
hours = weeks[0].append(weeks[1])


def hourly(element: str) -> pd.DataFrame:
    """Means over the hours of both weeks, MW, by name."""
    table = profiles[element, "p_mw"].rename(columns=net[element]["name"])
    return table.set_index(pd.DatetimeIndex(times)).resample("h").mean().loc[hours]


n = p2p.from_pandapower(net)
n.set_snapshots(hours)
n.loads_t.p_set = hourly("load")[n.loads.index]
sun = hourly("sgen")
panels, batteries = sun.columns, n.storage_units.index
n.generators.loc[panels, "p_set"] = np.nan  # set points of a power flow
n.generators_t.p_max_pu = sun / n.generators.p_nom[panels]
n.generators_t.p_min_pu = n.generators_t.p_max_pu
n.storage_units["p_set"] = np.nan
n.storage_units["cyclic_state_of_charge"] = True
n.storage_units[["efficiency_store", "efficiency_dispatch"]] = 0.95

station = n.transformers.bus0.iloc[0]
n.remove("Generator", n.generators.index[n.generators.bus == station])  # retailers bring it instead
places = list(n.loads.bus.unique())
homes = [f"{place} prosumer" for place in places]
p2p.assign_prosumers(n, places)
p2p.add_prosumers(n, ["pool"], role="operator", grid_bus=station)
p2p.add_retail(n, homes, import_price=IMPORT, export_price=EXPORT)


def market(fee: float) -> pypsa.Network:
    """The street with its pool, solved; everybody but the pool pays the fee."""
    m = n.copy()
    fees = {(home, "pool"): fee for home in homes} | {("pool", home): 0.0 for home in homes}
    p2p.add_trades(m, [("pool", home) for home in homes], capacity=0.2, fee=fees)
    p2p.PeerToPeerMarket(delivery="grid", surplus=False).optimize(m)
    return m


# --- with and without, fee by fee ---------------------------------------------------------------

solved = {fee: market(fee) for fee in FEES}
results = {fee: p2p.results(m) for fee, m in solved.items()}
alone = p2p.without_trades(solved[USUAL])
saved = {fee: p2p.savings(m, alone).saving_now.to_series() for fee, m in solved.items()}
traded = {
    fee: float(r.net_import.clip(min=0).sel(prosumer=homes).sum()) for fee, r in results.items()
}
table = pd.DataFrame(
    {
        "traded, MWh": traded,
        "households save, EUR": {fee: saved[fee][homes].sum() for fee in FEES},
        "network earns, EUR": {fee: float(r.fee_revenue.sum()) for fee, r in results.items()},
        "who save": {fee: int((saved[fee][homes] > 0.01).sum()) for fee in FEES},
    }
).rename_axis("fee, EUR/MWh")
before = float(p2p.results(alone).bill.sum())
print(f"{len(homes)} households, {len(hours)} hours; alone they pay {before:.2f} EUR.")
print(table.round(2).to_string(), "\n")
best = saved[USUAL][homes].sort_values(ascending=False)
print(f"At {USUAL:g} EUR/MWh, who saves most, EUR:")
print(best.head(5).round(2).to_string(), "\n")

flows = p2p.check_power_flow(solved[USUAL], progress=False)
low, high = float(flows.voltage.min()), float(flows.voltage.max())
print(
    f"AC check: voltage {low:.3f} to {high:.3f} per unit, branches loaded up to "
    f"{float(flows.loading.max()):.0%}, losses {float(flows.losses.sum()) * 1000:.0f} kWh."
)

# --- what is drawn ------------------------------------------------------------------------------

r = results[USUAL]
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained", width_ratios=[1, 1, 0.8])
for ax, week, season in zip(axes, weeks, ("winter", "summer"), strict=False):
    price = r.nodal_price.squeeze("scenario").sel(snapshot=week, prosumer=homes)
    for quantile, colour in ((1.0, "#b33a3a"), (0.5, "#33658a"), (0.0, "#d98e04")):
        ax.step(week, price.quantile(quantile, "prosumer"), where="post", color=colour, linewidth=1)
    ax.axhspan(EXPORT, IMPORT, color="0.95", zorder=0)
    ax.set_title(f"a week of {season}" if days > 1 else f"a day of {season}")
    ax.set_ylim(0, 1.1 * IMPORT)
    ax.tick_params(axis="x", rotation=30, labelsize=7)
axes[0].set_ylabel("nodal price, EUR/MWh")
axes[0].legend(["dearest household", "median", "cheapest"], fontsize=7, loc="lower left")
axes[2].plot(table.index, table["households save, EUR"], "o-", color="#33658a")
axes[2].plot(table.index, table["network earns, EUR"], "s--", color="#f26419")
axes[2].set(xlabel="fee at each end, EUR/MWh", ylabel="EUR", title="who gets what of trading")
axes[2].legend(["households", "network"], fontsize=7)
figure.savefig("a_real_community.png", dpi=150)

p2p.plot.bills(solved[USUAL], alone)
plt.gcf().savefig("its_bills.png", dpi=150, bbox_inches="tight")

# --- what must hold -----------------------------------------------------------------------------

assert len(homes) >= 30
for fee in FEES:
    assert saved[fee].min() > -1e-4, "nobody loses by trading at the market's prices"
    m, power = solved[fee], solved[fee].generators_t.p
    bought, sold = (
        power.filter(like=f"retail {way}").to_numpy().sum() for way in ("import", "export")
    )
    charged = fee * abs(m.links_t.p1[m.links.index[m.links.carrier == "p2p"]].to_numpy()).sum()
    paid = float(results[fee].bill.sum())
    assert abs(IMPORT * bought + EXPORT * sold + charged - paid) < 1e-4 * paid, "bills, by tables"
    price = results[fee].nodal_price.sel(prosumer=homes)
    assert float(price.max()) < IMPORT + 0.01 and float(price.min()) > -0.01
assert traded[110.0] < 0.02 * traded[0.0], "a fee above all differences of prices ends trade"
assert bool((table["network earns, EUR"].iloc[[0, -1]] < 1.0).all())
assert bool(flows.converged.all()) and 0.95 < low < high < 1.05
