"""What does it cost to hide what one needs? The price of privacy on the IEEE 14-bus market.

Prosumers report their target demand with a deviation and noise, so that two targets that lie a
twentieth of what they use apart can hardly be told apart; the market is solved on the reports
(MODEL.md, section 11: a reconstruction from an abstract). The more private, the dearer. Where only
prices are seen, all share one noise, and the cheapest of them hides everybody. Writes
price_of_privacy.png.

In this market trades have no preferences and capacities that never bind, and demand has room: the
closed form is exact where no limit is reached. With --fast two levels instead of seven.
"""

import argparse
import logging
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd

import pypsa_p2p as p2p

mpl.use("Agg")
logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve
logging.getLogger("pypsa").setLevel(logging.ERROR)  # case14 has transformers without resistance

parser = argparse.ArgumentParser()
parser.add_argument("--fast", action="store_true", help="two levels of privacy")
fast = parser.parse_args().fast

n = p2p.load_grid("ieee14", market=True)
trades = n.links.carrier == "p2p"
n.links.loc[trades, ["price0", "price1"]] = 0.0
n.links.loc[trades, "p_nom"] = 1000.0  # MW
elastic = n.generators.carrier == "elastic demand"
n.generators.loc[elastic, "p_nom"] = 20.0  # limits of demand twenty times as far from the target
market = p2p.PeerToPeerMarket(surplus=False)

market.optimize(n)
used = p2p.results(n).demand.mean(["scenario", "snapshot"]).to_series()
close = (0.05 * used).to_dict()
reports = p2p.PrivateReports(loss=1.0, sensitivity=close, distance=close)

levels = {
    float(loss): p2p.solve_reports(n, market, replace(reports, loss=float(loss)))
    for loss in np.geomspace(0.5, 32.0, 2 if fast else 7)
}
table = pd.DataFrame(
    {
        "noise (MW)": {a: float(np.sqrt(g.noise_variance).mean()) for a, g in levels.items()},
        "cost (EUR)": {a: float(g.social_cost - g.truthful_social_cost) for a, g in levels.items()},
        "of deviations": {a: float(g.by_deviation.sum()) for a, g in levels.items()},
        "price, least": {a: float(g.privacy_price.min()) for a, g in levels.items()},
        "price, most": {a: float(g.privacy_price.max()) for a, g in levels.items()},
        "gain alone": {a: float(abs(g.exploitability).max()) for a, g in levels.items()},
    }
).rename_axis("loss")
print(table.round(4).to_string(), "\n")
p2p.plot.privacy(levels).figure.savefig("price_of_privacy.png", dpi=200)
print("Written: price_of_privacy.png")

# Against an observer of prices alone: one noise for all, of those to whom it costs least.
strict = levels[0.5]
behind = p2p.solve_reports(n, market, replace(reports, loss=0.5, observer="price"))
makers = behind.noise_variance.sum(["scenario", "snapshot"]).to_series()
who = ", ".join(makers.index[makers > 0])
print(f"\nBehind the price, {who} makes the noise for all; own noise costs (EUR):")
costs = {"seen reports": strict, "seen prices": behind}
for name, g in costs.items():
    print(f"{name}: {float(g.by_noise.sum()):.3f}")

# The closed form against the market itself, on reports that are drawn.
mild = p2p.solve_reports(n, market, replace(reports, loss=32.0), samples=2)
print("\nMarket less closed form (EUR):", f"{float(abs(mild.beyond_formula).max()):.1e}")

# Privacy costs, more of it costs more, and nobody would report otherwise.
assert (np.diff(table["cost (EUR)"]) < 0).all()
assert (np.diff(table["price, most"]) < 0).all()
assert (table["gain alone"] < 1e-6).all()
np.testing.assert_allclose(strict.privacy_loss, 0.5)
np.testing.assert_allclose(behind.privacy_loss.max(), 0.5)
assert 0.0 < float(behind.by_noise.sum()) < float(strict.by_noise.sum())
assert float(abs(mild.beyond_formula).max()) < 1e-4 * abs(float(mild.truthful_social_cost))
