"""The rule that makes a market of an IEEE case: ours, after the market of ieee14."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pypsa

LEAST_DEMAND = 1.0  # MW, at buses without load
DEMAND_LIMITS = (0.6, 1.4)  # shares of the target
UTILITY = 100.0  # EUR/MWh: 2 UTILITY is the price at which a prosumer would take nothing
USAGE_BENEFIT = 60.0  # EUR/MWh of the target
RENEWABLE_SHARE = 0.4  # of all load, as capacity
RENEWABLE_KINDS = ("wind", "wind", "solar")  # in turn, in the order of the buses
IMPORT_PRICE = 10.0  # EUR/MWh
CAPACITY_FACTOR = 1.5  # of the flow in the case's linear power flow
LEAST_CAPACITY = 20.0  # MW
CAPACITY_STEP = 5.0  # MW


def write_ieee_market(n: pypsa.Network, folder: Path) -> None:
    """Write prosumers and trades (without prices) of a case, with the seed of its market.toml."""
    settings = tomllib.loads((folder / "market.toml").read_text(encoding="utf-8"))
    edges = trades(n)
    who = prosumers(n, settings["rule"]["seed"])
    ends = pd.concat([edges.set_index(end)["capacity"] for end in ("prosumer0", "prosumer1")])
    who["renewable_capacity"] = who["renewable_capacity"].clip(upper=ends.groupby(level=0).sum())
    who.to_csv(folder / "prosumers.csv", index_label="name")
    edges.to_csv(folder / "trades.csv", index=False)


def prosumers(n: pypsa.Network, seed: int) -> pd.DataFrame:
    """One prosumer at each bus, with its load and its generator, at the case's costs."""
    buses = n.buses.index
    demand = n.loads.groupby("bus")["p_set"].sum().reindex(buses, fill_value=0.0)
    demand = demand.clip(lower=LEAST_DEMAND)
    generator = n.generators.set_index("bus", verify_integrity=True).reindex(buses)
    capacity, kind = _renewables(n)
    attitude = np.random.default_rng(seed).uniform(0.1, 0.9, len(buses)).round(1)
    table = pd.DataFrame(
        {
            "grid_bus": buses,
            "demand": demand,
            "demand_min": (DEMAND_LIMITS[0] * demand).round(4),
            "demand_max": (DEMAND_LIMITS[1] * demand).round(4),
            "utility_quadratic": (UTILITY / demand).round(3),
            "usage_benefit": (USAGE_BENEFIT * demand).round(4),
            "generation_max": generator["p_nom"].fillna(0.0).round(4),
            "marginal_cost": generator["marginal_cost"].fillna(0.0),
            "marginal_cost_quadratic": generator["marginal_cost_quadratic"].fillna(0.0),
            "risk_attitude": attitude,
            "import_price": IMPORT_PRICE,
            "renewable_capacity": capacity,
            "renewable_kind": kind,
        }
    )
    return table.set_axis("P" + buses)


def _renewables(n: pypsa.Network) -> tuple[pd.Series, pd.Series]:
    """Capacity in MW, alike at all generator buses but the slack's, and kind by bus."""
    sites = n.generators.loc[n.generators["control"] != "Slack", "bus"]
    sites = n.buses.index[n.buses.index.isin(sites)]
    each = round(RENEWABLE_SHARE * n.loads["p_set"].sum() / len(sites))
    kinds = [RENEWABLE_KINDS[place % len(RENEWABLE_KINDS)] for place in range(len(sites))]
    capacity = pd.Series(float(each), index=sites).reindex(n.buses.index, fill_value=0.0)
    return capacity, pd.Series(kinds, index=sites).reindex(n.buses.index, fill_value="")


def trades(n: pypsa.Network) -> pd.DataFrame:
    """One edge for all branches between two buses, wide enough for the case's power flow."""
    n.lpf()
    branches = pd.concat([n.lines, n.transformers])[["bus0", "bus1"]]
    flow = pd.concat([n.lines_t.p0.iloc[0], n.transformers_t.p0.iloc[0]])[branches.index]
    place = {bus: number for number, bus in enumerate(n.buses.index)}
    turned = branches["bus0"].map(place) > branches["bus1"].map(place)
    first = branches["bus0"].where(~turned, branches["bus1"])
    second = branches["bus1"].where(~turned, branches["bus0"])
    flow = flow.where(~turned, -flow).groupby([first.map(place), second.map(place)]).sum()
    wide = (CAPACITY_FACTOR * flow.abs()).clip(lower=LEAST_CAPACITY) / CAPACITY_STEP
    capacity = np.ceil(wide.round(6)) * CAPACITY_STEP
    names = ("P" + n.buses.index).to_numpy()
    return pd.DataFrame(
        {
            "prosumer0": names[flow.index.get_level_values(0)],
            "prosumer1": names[flow.index.get_level_values(1)],
            "capacity": capacity.to_numpy(),
        }
    )
