"""The rule that makes a market of households and their supplier on a low-voltage grid: ours."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pypsa

SUPPLIER = "supplier"
DAY = pd.timedelta_range("0h", periods=96, freq="15min")

#: Household demand over the day: a base, and bells of (height, hour, width in hours).
DEMAND_SHAPES = {
    "commuters": (0.30, [(0.7, 7.0, 0.8), (1.6, 19.5, 1.8)]),
    "at_home": (0.35, [(0.5, 8.0, 1.0), (1.0, 12.5, 1.2), (1.0, 19.0, 2.0)]),
    "late_risers": (0.35, [(0.4, 10.0, 1.2), (0.6, 14.0, 2.0), (1.6, 22.0, 1.6)]),
}
TARIFF_SHAPE = (1.0, [(0.12, 8.0, 1.5), (-0.20, 13.0, 2.5), (0.28, 19.5, 1.8)])
SUNRISE, SUNSET, CLEAR_NOON = 5.0, 21.0, 0.85  # hours, share of the capacity

MEAN_DEMAND = (0.0003, 0.0007)  # MW, drawn; 2.6 to 6.1 MWh a year
DEMAND_LIMITS = (0.6, 1.4)  # shares of the target
UTILITY = 1500.0  # EUR/MWh: 2 UTILITY is the price at which a household would take nothing
USAGE_BENEFIT = 600.0  # EUR/MWh of the target
MOST_PANELS = 0.006  # MW a household
IMPORT_PRICE = 80.0  # EUR/MWh
TARIFF, TARIFF_SLOPE = 280.0, 500.0  # EUR/MWh at no load, EUR/MW2h
SUPPLIER_DEMAND = 0.001  # MW: the station, and lamps
CONNECTION, CABLE = 0.015, 0.010  # MW, trade with the supplier and with neighbours
FROM_SUPPLIER = 10.0  # EUR/MWh, what a household minds buying from there
BATTERY = {
    "p_nom": 0.004,
    "max_hours": 2.5,
    "efficiency_store": 0.95,
    "efficiency_dispatch": 0.95,
    "cyclic_state_of_charge": True,
    "marginal_cost": 10.0,
    "marginal_cost_quadratic": 1000.0,
}


def write_village_market(n: pypsa.Network, folder: Path) -> None:
    """Write profiles, prosumers, batteries and trades."""
    settings = tomllib.loads((folder / "market.toml").read_text(encoding="utf-8"))
    who = prosumers(n, settings["rule"]["seed"])
    profiles().to_csv(folder / "profiles.csv", index_label="time")
    who.to_csv(folder / "prosumers.csv", index_label="name")
    batteries(who).to_csv(folder / "storage_units.csv", index_label="name")
    trades(n, who).to_csv(folder / "trades.csv", index=False)


def profiles() -> pd.DataFrame:
    """What a day looks like, by quarter of an hour; all but "solar" have a mean of 1."""
    middle = DAY.total_seconds().to_numpy() / 3600 + 0.125
    table = {name: _bells(middle, *shape) for name, shape in DEMAND_SHAPES.items()}
    table |= {"flat": np.ones(len(DAY)), "tariff": _bells(middle, *TARIFF_SHAPE)}
    light = np.sin((middle - SUNRISE) / (SUNSET - SUNRISE) * np.pi).clip(0.0)
    table["solar"] = CLEAR_NOON * light**1.6 * ((middle > SUNRISE) & (middle < SUNSET))
    labels = [f"{quarter // 4:02}:{quarter % 4 * 15:02}" for quarter in range(len(DAY))]
    return pd.DataFrame(table, index=labels).round(4)


def _bells(
    hour: npt.NDArray[np.float64], base: float, bells: list[tuple[float, float, float]]
) -> npt.NDArray[np.float64]:
    """A base and bell curves, round the clock, divided by their mean."""
    total = np.full(hour.shape, base)
    for height, centre, width in bells:
        away = (hour - centre + 12.0) % 24.0 - 12.0
        total += height * np.exp(-0.5 * (away / width) ** 2)
    return np.asarray(total / total.mean())


def prosumers(n: pypsa.Network, seed: int) -> pd.DataFrame:
    """A prosumer for each load, in the order of the buses, and the supplier at the connection."""
    rng = np.random.default_rng(seed)
    homes = n.buses.index[n.buses.index.isin(n.loads["bus"])]
    demand = rng.uniform(*MEAN_DEMAND, len(homes)).round(5)
    shapes = rng.choice(list(DEMAND_SHAPES), len(homes))
    attitude = rng.uniform(0.1, 0.9, len(homes)).round(1)
    panels = n.generators[n.generators["control"] != "Slack"].groupby("bus")["p_nom"].sum()
    panels = panels.reindex(homes, fill_value=0.0).clip(upper=MOST_PANELS)
    connection = n.generators.loc[n.generators["control"] == "Slack", "bus"].item()
    target = np.append(demand, SUPPLIER_DEMAND)
    none = np.zeros(len(homes))
    table = {
        "grid_bus": [*homes, connection],
        "demand": target,
        "demand_min": (DEMAND_LIMITS[0] * target).round(7),
        "demand_max": (DEMAND_LIMITS[1] * target).round(7),
        "demand_profile": [*shapes, "flat"],
        "utility_quadratic": (UTILITY / target).round(0),
        "usage_benefit": (USAGE_BENEFIT * target).round(4),
        "generation_max": [*none, n.transformers["s_nom"].sum()],
        "marginal_cost": [*none, TARIFF],
        "marginal_cost_quadratic": [*none, TARIFF_SLOPE],
        "cost_profile": [*[""] * len(homes), "tariff"],
        "risk_attitude": [*attitude, 0.1],
        "import_price": IMPORT_PRICE,
        "renewable_capacity": [*panels, 0.0],
        "renewable_kind": [*np.where(panels > 0.0, "solar", ""), ""],
    }
    return pd.DataFrame(table, index=[*(f"H{k}" for k in range(1, len(homes) + 1)), SUPPLIER])


def batteries(who: pd.DataFrame) -> pd.DataFrame:
    """A battery at every second household with panels, and at every fifth without."""
    homes = who.drop(index=SUPPLIER)
    panels = homes["renewable_capacity"] > 0.0
    owners = homes.index[panels][::2].union(homes.index[~panels][::5], sort=False)
    owners = homes.index[homes.index.isin(owners)]
    return pd.DataFrame({"bus": owners, **BATTERY}, index=owners + " battery")


def trades(n: pypsa.Network, who: pd.DataFrame) -> pd.DataFrame:
    """Every household with the supplier, and with those at the next joints of its cable."""
    homes = who.drop(index=SUPPLIER)
    ends = pd.concat([n.lines["bus0"], n.lines["bus1"]])
    others = pd.concat([n.lines["bus1"], n.lines["bus0"]])
    joint = pd.Series(others.to_numpy(), index=ends.to_numpy()).loc[homes["grid_bus"]]
    at = dict(zip(joint, homes.index, strict=True))
    along = n.lines[n.lines["bus0"].isin(at) & n.lines["bus1"].isin(at)]
    edges = [(home, SUPPLIER, CONNECTION, FROM_SUPPLIER, 0.0) for home in homes.index]
    edges += [
        (at[one], at[other], CABLE, 0.0, 0.0)
        for one, other in zip(along["bus0"], along["bus1"], strict=True)
    ]
    return pd.DataFrame(edges, columns=["prosumer0", "prosumer1", "capacity", "price0", "price1"])
