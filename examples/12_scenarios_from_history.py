"""A year on record becomes a few scenarios, and the wires are asked what they say to the market.

`scenarios_from_history` reduces days to representative real ones; `sample_copula` draws scenarios
from distributions fitted to the same days. What is traded then goes into an AC power flow: what
`delivery="grid"` promises, lines that bear it in a linear power flow, and what it does not know.
"""

import logging
import sys

import numpy as np
import pandas as pd
import pypsa
from scipy import stats

import pypsa_p2p as p2p
from pypsa_p2p.network.scenarios.copula import sample_copula
from pypsa_p2p.network.scenarios.history import scenarios_from_history
from pypsa_p2p.solution.power_flow import check_power_flow, power_flow_violations

for library in ("linopy", "pypsa"):
    logging.getLogger(library).setLevel(logging.ERROR)  # no report of every solve
DAYS, STEPS = (60, 4) if "--fast" in sys.argv else (365, 24)
NAMES = ["house", "farm", "shop"]

# A made-up record: MW of demand and of sun and wind, and the price at which surplus is sold.
rng = np.random.default_rng(1)
times = pd.date_range("2030-01-01", periods=DAYS * STEPS, freq=f"{24 // STEPS}h")
hour, season = times.hour.to_numpy(), np.sin(np.pi * times.day_of_year.to_numpy() / 365)
wind = rng.beta(1.6, 3.0, DAYS).repeat(STEPS)
clear = rng.beta(3, 1, DAYS).repeat(STEPS)
sun = np.clip(np.sin((hour - 6) / 12 * np.pi), 0, None) * season * clear
price = 30 - 20 * wind + rng.normal(0, 3, DAYS).repeat(STEPS)
demand = {"house": 0.6 + 0.6 * (hour >= 18), "farm": 1 - 0.2 * season, "shop": 0.3 + (hour > 7)}
history = pd.concat(
    {
        "demand": pd.DataFrame(demand, index=times),
        "renewable": pd.DataFrame({"house": 2 * sun, "farm": 3 * wind, "shop": 0.0}, index=times),
        "import_price": pd.DataFrame({"": price}, index=times),  # everybody's
    },
    axis=1,
)


def village(snapshots: pd.Index) -> pypsa.Network:
    """Three prosumers on a feeder of 10 kV, the farm at its far end."""
    n = pypsa.Network(snapshots=snapshots)
    n.add("Carrier", "AC")
    n.add("Bus", ["station", "street", "field"], v_nom=10.0, v_mag_pu_min=0.97, v_mag_pu_max=1.03)
    n.add("Line", ["cable", "wire"], bus0=["station", "street"], bus1=["street", "field"],
          r=[0.8, 2.0], x=[0.5, 1.2], s_nom=[4.0, 1.0])  # fmt: skip
    p2p.add_prosumers(
        n,
        NAMES,
        demand=1.0,
        demand_max=2.0,
        utility_quadratic=[40.0, 20.0, 60.0],
        generation_max=[0.0, 0.5, 3.0],
        marginal_cost=[0.0, 70.0, 90.0],
        marginal_cost_quadratic=[0.0, 20.0, 10.0],
        risk_attitude=[0.2, 0.6, 0.4],
        grid_bus=["street", "field", "station"],
    )
    p2p.add_trades(n, "complete", capacity=5.0)
    return n


# Representative days: which they are, how probable, and how well they stand for the record.
probability, data = scenarios_from_history(history, number=4, seed=1)
print(probability.round(3).to_string())
print(f"\nVariance explained: {data.attrs['variance_explained']:.1%}")
for name, variable in data.data_vars.items():
    print(f"{name}: mean {variable.mean_of_history:.3f}, scenarios' {variable.mean_error:+.3f}")

# Traded freely, and traded as far as the lines deliver it. Does the AC power flow agree? Delivery
# keeps MW within the lines' limits in a linear power flow; losses and MVar come on top, and of
# voltages it knows nothing: wind that the wire does bear may still lift them too high.
checks, delivered = {}, pd.Series(dtype=float)
for delivery in ("trades", "grid"):
    n = village(data.indexes["snapshot"])
    p2p.set_scenarios(n, probability, data)
    p2p.PeerToPeerMarket(delivery=delivery).optimize(n)
    checks[delivery] = check_power_flow(n, power_factor=0.98)
    table = power_flow_violations(checks[delivery])
    print(f"\ndelivery={delivery!r}: {len(table)} violations; worst of each element:")
    print(table.groupby(["kind", "element"])[["value", "limit"]].max().round(3).to_string())
    if delivery == "grid":
        share = n.lines_t.p0.abs() / n.lines.s_nom
        delivered = share.T.groupby(level="name").max().max(axis=1)
        print("Share of s_nom in the linear power flow:", delivered.round(3).to_dict())

# Or draws of a single hour: marginals of the record's noons, wind and price as they go together.
noon = history[history.index.hour == 12]
windy, price = ("renewable", "farm"), ("import_price", "")
correlation = 2 * np.sin(np.pi / 6 * noon[[windy, price]].corr("spearman"))
marginals = {windy: noon[windy], price: noon[price], ("renewable", "shop"): 0.0}
marginals[("renewable", "house")] = stats.beta(2, 2, scale=2.0)  # no record of this roof
drawn = sample_copula(marginals, correlation, number=20, seed=1)
n = village(pd.Index(["noon"]))
p2p.set_scenarios(n, dict.fromkeys(drawn.scenario.values, 1 / 20), drawn)
p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
print(
    "\nRisk-adjusted cost of noon:",
    p2p.results(n).risk_adjusted_cost.to_series().round(1).to_dict(),
)

assert abs(probability.sum() - 1) < 1e-9
assert set(probability.index) <= set(times.strftime("%Y-%m-%d"))  # real days
assert data.attrs["variance_explained"] > 0.5
assert all(bool(check.converged.all()) for check in checks.values())
assert float(delivered.max()) < 1 + 1e-6  # what delivery="grid" promises: no more than s_nom
loading = {delivery: float(check.loading.max()) for delivery, check in checks.items()}
assert loading["trades"] > 1.2  # the wire does not bear what wind trades freely
assert loading["grid"] < 1.1  # delivered: but for losses and MVar
assert stats.spearmanr(drawn.renewable.sel(prosumer="farm"), drawn.import_price).statistic < -0.5
