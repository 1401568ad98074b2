"""Who trades with whom when prosumers fear risk: network pictures, after the paper's Figures 1, 2.

Writes a folder `pictures`:

figures-1-2          trades of risk-averse prosumers in one scenario, without contracts and with
                     them, as in the paper's two figures. Its data are not published: these are the
                     three nodes of MODEL.md, section 9, where contracts change most
trades-ieee14        not in the paper: the IEEE 14-bus market, risk-neutral and risk-averse, in the
                     first of its scenarios
prices, costs, risk  what contracts do to the three nodes

The three nodes trade in a circle, 0 to 2 to 1 to 0: what they charge for trades (b) is 4 EUR/MWh
for its buyers, and 5 for its sellers, who get it.
"""

import logging
from pathlib import Path

import matplotlib as mpl
import pypsa

import pypsa_p2p as p2p

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve
logging.getLogger("pypsa").setLevel(logging.ERROR)  # case14 has transformers without resistance

folder = Path("pictures")
folder.mkdir(exist_ok=True)


def pictured(file: str, networks: dict[str, pypsa.Network], scenario: str, amounts: bool) -> None:
    """The trades of each network in one scenario, side by side; `amounts` writes MW beside them.

    Widths are relative to the greatest trade of a picture, amounts are not.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 4.0), layout="constrained")
    for ax, (title, n) in zip(axes, networks.items(), strict=True):
        p2p.plot.trades(n, ax=ax, scenario=scenario, colour="role")
        ax.set_title(f"{title}, scenario {scenario}", fontsize=8)
        if amounts:
            write_amounts(ax, n, scenario)
    figure.savefig(folder / f"{file}.png", dpi=300)


def write_amounts(ax: Axes, n: pypsa.Network, scenario: str) -> None:
    """How much is traded, MW, in the middle of each edge."""
    place = n.buses.xs(scenario, level="scenario")[["x", "y"]]
    bought = p2p.results(n).quantity.sel(scenario=scenario).isel(snapshot=0).clip(min=0)
    for trade in bought[bought > 0]:
        middle = place.loc[[trade.buyer.item(), trade.seller.item()]].mean()
        ax.text(middle.x, middle.y, f"{trade.item():.2f} MW", fontsize=7, ha="center", va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip


def solved(grid: str, market: p2p.PeerToPeerMarket) -> pypsa.Network:
    """A bundled market, solved."""
    n = p2p.load_grid(grid, market=True)
    market.optimize(n)
    return n


averse = p2p.CVaR()
three = {
    "Risk-neutral": p2p.PeerToPeerMarket(surplus=False),
    "Without contracts": p2p.PeerToPeerMarket(risk=averse, surplus=False),
    "With contracts": p2p.PeerToPeerMarket(risk=averse, contracts=p2p.Contracts(), surplus=False),
}
nodes = {name: solved("three_node", market) for name, market in three.items()}
results = {name: p2p.results(n) for name, n in nodes.items()}
neutral, alone, hedged = results.values()
changed = abs(hedged.quantity - alone.quantity).sum(["trade", "snapshot"])
most = str(changed.idxmax("scenario").item())
pictured("figures-1-2", {name: nodes[name] for name in list(three)[1:]}, most, amounts=True)

buses = {
    "Risk-neutral": solved("ieee14", p2p.PeerToPeerMarket()),
    "Risk-averse": solved("ieee14", p2p.PeerToPeerMarket(risk=averse)),
}
pictured("trades-ieee14", buses, str(buses["Risk-averse"].scenarios[0]), amounts=False)

for name in ("prices", "costs", "risk"):
    ax = getattr(p2p.plot, name)(nodes["With contracts"])
    ax.figure.savefig(folder / f"{name}.png", dpi=300)
    assert ax.get_xlabel()

traded = p2p.compare(nodes).traded_energy
print(f"Traded energy in three nodes (MWh, expected):\n{traded.round(1).to_string()}")
print("Written:", *sorted(map(str, folder.iterdir())), sep="\n  ")

sold = -hedged.net_import.sel(scenario=most).isel(snapshot=0).to_series()  # MW
generated = hedged.generation.sel(scenario=most).isel(snapshot=0).to_series()
difference = float(abs(hedged.quantity - neutral.quantity).max())
claims = {
    "Figures 1 and 2: contracts change who trades what": (
        float(changed.max()) > 1.0,
        f"{float(changed.max()) / 2:.2f} MW in scenario {most}",
    ),
    "with contracts trades are those of risk-neutral prosumers": (
        difference < 1e-4,
        f"largest difference {difference:.0e} MW",
    ),
    "text of Figure 2: node 1 sells what it generates by conventional means": (
        bool(generated["1"] > 1e-3),
        f"node 1 generates {generated['1']:.2f} MW, node 0 {generated['0']:.2f} MW",
    ),
}
for claim, (holds, number) in claims.items():
    print(f"{'holds' if holds else 'does not hold here'}: {claim} ({number})")
assert [holds for holds, _ in claims.values()] == [True, True, False]

# Node 0 is the seller, as in the paper's Table III. Risk-averse prosumers depend less on others.
assert sold.idxmax() == "0"
assert traded["Without contracts"] < traded["Risk-neutral"]
assert all(p2p.certify(n).is_equilibrium() for n in (*nodes.values(), *buses.values()))
assert len(list(folder.glob("*.png"))) == 5
