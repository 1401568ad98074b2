"""A day on a low-voltage feeder: 36 households, their panels and batteries, and a supplier.

Five designs over quarters of an hour (with --fast over steps of two hours) in ten scenarios of
sunshine and demand. Writes day_on_a_feeder.png. The last design must deliver its trades through a
transformer of 20 kVA, a twentieth of the one that is there and limits nothing.
"""

import argparse
import logging
import time

import matplotlib as mpl
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

import pypsa_p2p as p2p

mpl.use("Agg")
import matplotlib.dates as mdates
import matplotlib.pyplot as plt

logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve
logging.getLogger("pypsa").setLevel(logging.ERROR)  # nor of duals it keeps in the model

parser = argparse.ArgumentParser()
parser.add_argument("--fast", action="store_true", help="steps of two hours")
resolution = "2h" if parser.parse_args().fast else "15min"

WEAK = "deliverable, 20 kVA"
averse = p2p.CVaR()  # of the cost of the whole day, at each prosumer's own attitude
designs = {
    "centralized": p2p.CentralizedMarket(),
    "peer-to-peer": p2p.PeerToPeerMarket(),
    "risk-averse": p2p.PeerToPeerMarket(risk=averse),
    "with contracts": p2p.PeerToPeerMarket(risk=averse, contracts=p2p.Contracts()),
    WEAK: p2p.PeerToPeerMarket(delivery="grid"),
}
networks, seconds = {}, {}
for name, market in designs.items():
    n = p2p.load_grid("lv_village", market=True, resolution=resolution)
    if name == WEAK:
        n.transformers["s_nom"] = 0.02  # MVA
    start = time.perf_counter()
    market.optimize(n)
    seconds[name] = time.perf_counter() - start
    networks[name] = n

table = p2p.compare(networks).iloc[:, :8].assign(seconds=seconds)
print(f"{len(n.snapshots)} snapshots, {len(n.scenarios)} scenarios:")
print(table.T.round(3).to_string(), "\n")

# --- what is drawn ------------------------------------------------------------------------------

n = networks["peer-to-peer"]
r = p2p.results(n)
homes = r.sel(prosumer=r.prosumer != "supplier")
sunshine = homes.renewable.sum(["prosumer", "snapshot"])
days = {"dullest": str(sunshine.idxmin().item()), "sunniest": str(sunshine.idxmax().item())}
COLOURS = {"dullest": "#3b6ea5", "sunniest": "#d98e04"}
kilo = 1000.0  # kW and kWh of MW and MWh


def stored(network: pypsa.Network, scenario: str) -> pd.Series:
    """What all batteries hold at the end of each snapshot, kWh."""
    return network.storage_units_t.state_of_charge[scenario].sum(axis=1) * kilo


def price(design: str) -> xr.DataArray:
    """Mean price of the households by scenario and snapshot, EUR/MWh."""
    found = p2p.results(networks[design]).nodal_price
    return found.sel(prosumer=homes.prosumer).mean("prosumer")


def line(ax: plt.Axes, values: np.ndarray, **style: object) -> None:
    """Values that hold over their snapshots, up to the end of the last one."""
    ax.stairs(values, edges, baseline=None, linewidth=1.3, **style)


edges = mdates.date2num([*n.snapshots, n.snapshots[-1] + (n.snapshots[1] - n.snapshots[0])])
plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
figure, ((top, energy), (battery, who)) = plt.subplots(
    2, 2, figsize=(7.2, 5.4), layout="constrained", sharex=True
)

for label, scenario in days.items():
    style = {"color": COLOURS[label]}
    line(top, price("peer-to-peer").sel(scenario=scenario), label=label, **style)
    line(top, price(WEAK).sel(scenario=scenario), linestyle=":", **style)
top.plot([], [], ":", color="0.4", label="20 kVA")
top.axhline(80.0, color="0.6", linewidth=0.8)
top.annotate("price of surplus", (edges[-1], 80.0), xytext=(0, -10), ha="right", color="0.4",
             textcoords="offset points")  # fmt: skip
top.set(title="Price at the households", ylabel="EUR/MWh")
top.legend(frameon=False, fontsize=7, loc="lower left", handlelength=1.4)

day = homes.sel(scenario=days["sunniest"])
via_supplier = (day.seller == "supplier") & (day.buyer != "supplier")
neighbours = (day.seller != "supplier") & (day.buyer != "supplier")
bought = day.quantity.clip(min=0.0) * kilo
line(energy, day.renewable.sum("prosumer") * kilo, color="#d98e04", label="panels")
line(energy, day.demand.sum("prosumer") * kilo, color="0.2", label="demand")
line(energy, bought.sel(trade=via_supplier).sum("trade"), color="#3b6ea5", label="via supplier")
line(energy, bought.sel(trade=neighbours).sum("trade"), color="#4b9b6e", label="neighbours")
energy.set(title="Households together, sunniest day", ylabel="kW")
energy.legend(frameon=False, fontsize=7, loc="upper left", handlelength=1.4)

for label, scenario in days.items():
    held = stored(n, scenario)
    battery.plot(edges, [held.iloc[-1], *held], color=COLOURS[label], linewidth=1.3, label=label)
batteries = n.storage_units.loc[days["sunniest"]]
full = float((batteries.p_nom * batteries.max_hours).sum()) * kilo
battery.axhline(full, color="0.6", linewidth=0.8)
battery.annotate("full", (edges[0], full), xytext=(2, -9), textcoords="offset points", color="0.4")
battery.set(title=f"State of charge of {len(batteries)} batteries", ylabel="kWh")
battery.set_ylim(0.0, 1.08 * full)
battery.legend(frameon=False, fontsize=7, loc="center left")

trade = day.net_import.transpose("prosumer", "snapshot") * kilo
most = float(abs(trade).max())
mesh = who.pcolormesh(edges, np.arange(37) + 0.5, trade, cmap="PuOr_r", vmin=-most, vmax=most)
figure.colorbar(mesh, ax=who, label="kW bought (sold: negative)")
who.set(title="Trades of each household, sunniest day", ylabel="household", yticks=[1, 12, 24, 36])
for ax in (battery, who):
    ax.set_xlim(edges[0], edges[-1])
    ax.xaxis.set_major_locator(mdates.HourLocator(byhour=range(0, 24, 6)))
    ax.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
    ax.set_xlabel("time of the day")
figure.savefig("day_on_a_feeder.png", dpi=200)
print("Written: day_on_a_feeder.png")

# --- what must hold -----------------------------------------------------------------------------

# Nobody is made worse off by trading for herself: without congestion the market is efficient.
cost = table.social_cost
np.testing.assert_allclose(cost["peer-to-peer"], cost["centralized"], rtol=1e-6)

# Risk aversion costs, contracts win some of it back; a narrow transformer costs too.
assert cost["peer-to-peer"] < cost["with contracts"] < cost["risk-averse"]
assert cost["peer-to-peer"] < cost[WEAK]

# Batteries hold as much at the end of the day as at its beginning, whatever the weather.
for scenario in n.scenarios:
    charge = n.storage_units_t.p_store[scenario].sum() * 0.95
    fed = n.storage_units_t.p_dispatch[scenario].sum() / 0.95
    np.testing.assert_allclose(charge, fed, atol=1e-6)

# The narrow transformer is full at some time, and then its two sides differ in price.
flow = abs(networks[WEAK].transformers_t.p0)
np.testing.assert_allclose(flow.max().max(), 0.02, rtol=1e-4)
assert float(abs(p2p.results(networks[WEAK]).grid_price).max()) > 1.0
