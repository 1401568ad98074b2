"""Who trades with whom when prosumers fear risk: network pictures, as the paper's Figures 1 and 2.

Writes a folder `pictures`: trades of the three-node market and of the IEEE 14-bus market, with
risk-neutral and with risk-averse prosumers, and what contracts do to costs and probabilities.
"""

import logging
from pathlib import Path

import matplotlib as mpl
import numpy as np

import pypsa_p2p as p2p

mpl.use("Agg")
import matplotlib.pyplot as plt

logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve
logging.getLogger("pypsa").setLevel(logging.ERROR)  # case14 has transformers without resistance

folder = Path("pictures")
folder.mkdir(exist_ok=True)
MARKETS = {
    "risk-neutral": p2p.PeerToPeerMarket(),
    "risk-averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
}

widths = {}
for grid in ("three_node", "ieee14"):
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 4.0), layout="constrained")
    for ax, (name, market) in zip(axes, MARKETS.items(), strict=True):
        n = p2p.load_grid(grid, market=True)
        market.optimize(n)
        p2p.plot.trades(n, ax=ax, colour="role")
        ax.set_title(name, fontsize=8)
        widths[grid, name] = p2p.compare({name: n}).traded_energy.iloc[0]
        np.testing.assert_allclose(p2p.results(n).payment.sum("prosumer"), 0.0, atol=1e-3)
    figure.savefig(folder / f"trades-{grid}.png", dpi=300)

contracts = p2p.load_grid("three_node")
p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()).optimize(contracts)
for name in ("prices", "costs", "risk"):
    ax = getattr(p2p.plot, name)(contracts)
    ax.figure.savefig(folder / f"{name}.png", dpi=300)
    assert ax.get_xlabel()

print("Traded energy (MWh, expected):")
for (grid, name), energy in widths.items():
    print(f"  {grid:12}{name:14}{energy:8.1f}")
print("Written:", *sorted(map(str, folder.iterdir())), sep="\n  ")

# Risk-averse prosumers depend less on each other in the three-node market.
assert widths["three_node", "risk-averse"] < widths["three_node", "risk-neutral"]
assert len(list(folder.glob("*.png"))) == 5
