"""Whose costs count how much? The IEEE 14-bus market under four social cost functions, with risk.

A market minimises the sum of the prosumers' risk-adjusted costs. A planner who may not move money
between them may rather mind the one who gains least, or the product of all gains (MODEL.md,
section 14: which of these makes sense depends on what of costs means the same to all). Gains are
against what each would pay without trades. What do they cost, and who pays? Writes
what_fairness_costs.png.
"""

import logging

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pypsa_p2p as p2p

mpl.use("Agg")
logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve
logging.getLogger("pypsa").setLevel(logging.ERROR)  # case14 has transformers without resistance

n = p2p.load_grid("ieee14", market=True)
p2p.add_retail(n, import_price=150.0, export_price=10.0)  # so that everybody can live alone
n.c.buses.static["usage_benefit"] = 0.0  # costs of energy and of what is gone without, above 0
choices = {
    "sum": {"participation": True},
    "Nash": {"welfare": p2p.Nash()},
    "least gain": {"welfare": p2p.Maximin(reference="alone")},
    "leximin of gains": {"welfare": p2p.Leximin(reference="alone")},
}
designs = {}
for name, choice in choices.items():
    designs[name] = n.copy()
    p2p.CentralizedMarket(risk=p2p.CVaR(), surplus=False, **choice).optimize(designs[name])

table = p2p.compare(designs, of="cost")
shown = [
    "social_cost",
    "price_of_fairness",
    "largest_cost",
    "least_gain",
    "nash_value",
    "cost_gini",
]
print(table[shown].round(4).to_string(), "\n")
gains = pd.DataFrame({name: p2p.results(m).gain.to_series() for name, m in designs.items()})
weights = pd.DataFrame(
    {name: p2p.results(m).welfare_weight.to_series() for name, m in designs.items()}
)
print("Gains (EUR):\n" + gains.round(3).to_string(), "\n")
print("Weights, 1 on average:\n" + (weights / weights.mean()).round(3).to_string(), "\n")

figure, axes = plt.subplots(figsize=(3.5, 2.6), layout="constrained")
for (name, column), marker in zip(gains.items(), "osv^", strict=True):
    axes.plot(np.sort(column.to_numpy()), marker=marker, markersize=3, linewidth=0.8, label=name)
axes.set(xlabel="prosumers, those who gain least first", ylabel="gain on living alone (EUR)")
axes.legend(frameon=False, fontsize=7)
figure.savefig("what_fairness_costs.png", dpi=200)
print("Written: what_fairness_costs.png")

# Nash needs no common unit of costs, the sum does: count those of every other prosumer tenfold.
scale = dict(zip(gains.index, np.where(np.arange(len(gains)) % 2, 10.0, 1.0), strict=True))
for name in ("sum", "Nash"):
    market = p2p.CentralizedMarket(risk=p2p.CVaR(), surplus=False, **choices[name])
    moved = p2p.welfare_invariance(n, market, scale)
    print(f"{name}: costs move by up to {float(abs(moved.change).max()):.2g} EUR")
    assert moved.invariant == (name == "Nash")

# Nobody is worse off, each is best at what it minds, and fairness costs something.
assert (gains > -1e-4).all(axis=None)
assert table["social_cost"].idxmin() == "sum"
assert (table["price_of_fairness"].drop("sum") > 0).all()
assert table["nash_value"].idxmax() == "Nash"
assert abs(table.loc["least gain", "least_gain"] - table["least_gain"].max()) < 1e-4
assert abs(table.loc["leximin of gains", "least_gain"] - table["least_gain"].max()) < 1e-4
assert all(p2p.certify(m).is_equilibrium() for m in designs.values())
