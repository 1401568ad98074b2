"""Costs in pandapower networks, polynomial and piecewise linear, as PyPSA's marginal costs."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import FIXED_COST
from pypsa_p2p.network.pandapower.tables import (
    PANDAPOWER_INDEX,
    PANDAPOWER_TABLE,
    Losses,
    number_column,
)

_POLYNOMIAL: Final = {
    FIXED_COST: "cp0_eur",
    "marginal_cost": "cp1_eur_per_mw",
    "marginal_cost_quadratic": "cp2_eur_per_mw2",
}
#: Components that have costs, by the table they come from.
_BEARERS: Final = {"Generator": ("ext_grid", "gen", "sgen"), "Link": ("dcline",)}


def add_costs(n: pypsa.Network, net: Any, lost: Losses) -> None:
    """Costs of active power, polynomial and piecewise linear, in EUR/h with p in MW."""
    n.generators[FIXED_COST] = 0.0
    if len(net["dcline"]):
        n.links[FIXED_COST] = 0.0
    _add_polynomial(n, net["poly_cost"], lost)
    _add_piecewise(n, net["pwl_cost"], lost)


def _bearers(n: pypsa.Network, cost: pd.DataFrame) -> pd.DataFrame:
    """Component and name of what bears each cost, missing where it is nothing that can."""
    found = pd.DataFrame(None, cost.index, ["component", "name"], dtype=object)
    for component, tables in _BEARERS.items():
        static = n.c[component].static
        if static.empty:
            continue
        static = static[static[PANDAPOWER_TABLE].isin(tables)]
        names = pd.Series(
            static.index, pd.MultiIndex.from_frame(static[[PANDAPOWER_TABLE, PANDAPOWER_INDEX]])
        )
        key = pd.MultiIndex.from_arrays([cost["et"], cost["element"].astype(int)])
        known = key.isin(names.index)
        found.loc[known, "name"] = names.reindex(key[known]).to_numpy()
        found.loc[known, "component"] = component
    return found


def _labels(table: str, cost: pd.DataFrame) -> pd.Series:
    """How a cost is called in the warning: "poly_cost 3 of gen 1"."""
    return (
        f"{table} "
        + cost.index.astype(str).to_series(cost.index)
        + " of "
        + cost["et"].astype(str)
        + " "
        + cost["element"].astype(int).astype(str)
    )


def _add_polynomial(n: pypsa.Network, table: pd.DataFrame, lost: Losses) -> None:
    """Polynomial costs: cp0 + cp1 p + cp2 p^2."""
    cost = table.drop_duplicates(["et", "element"], keep="last")
    bearer, labels = _bearers(n, cost), _labels("poly_cost", cost)
    known = bearer["name"].notna()
    lost.add("cost of something that is not a generator here", labels[~known])
    reactive = cost.filter(regex="^cq").fillna(0.0).ne(0.0).any(axis=1)
    lost.add("cost of reactive power", labels[known & reactive])
    for component in _BEARERS:
        own = bearer["component"] == component
        for column, source in _POLYNOMIAL.items():
            if own.any():
                values = number_column(cost, source, 0.0)[own].to_numpy()
                n.c[component].static.loc[bearer["name"][own], column] = values


def _add_piecewise(n: pypsa.Network, table: pd.DataFrame, lost: Losses) -> None:
    """Piecewise linear costs: exact where one slope holds over the whole range of output.

    Otherwise the straight line between the costs at both ends of the range, named in the warning.
    """
    labels = _labels("pwl_cost", table)
    reactive = table["power_type"] == "q"
    lost.add("cost of reactive power", labels[reactive])
    cost = table[~reactive].drop_duplicates(["et", "element"], keep="last")
    bearer = _bearers(n, cost)
    known = bearer["name"].notna()
    lost.add("cost of something that is not a generator here", labels[cost.index[~known]])
    for index in cost.index[known]:
        component: Any = bearer.at[index, "component"]
        areas: Any = cost.at[index, "points"]
        static = n.c[component].static
        name = bearer.at[index, "name"]
        row = static.loc[name]
        limits = row["p_nom"] * row["p_min_pu"], row["p_nom"] * row["p_max_pu"]
        fixed, slope, exact = _line(areas, *limits)
        static.loc[name, list(_POLYNOMIAL)] = [fixed, slope, 0.0]
        if not exact:
            lost.add("cost of several slopes, now their mean from end to end", [labels[index]])


def _line(areas: list[list[float]], low: float, high: float) -> tuple[float, float, bool]:
    """Fixed cost (EUR/h) and slope (EUR/MWh) of a cost given by areas [from, to, slope].

    As in pandapower, the first area starts at the cost its slope gives from 0, and the outermost
    slopes go on beyond their areas. True where the line is the cost from `low` to `high` (MW).
    """
    start, stop, slope = np.array(areas, dtype=float).T
    breaks = stop[:-1]

    def cost_at(p: float) -> float:
        """Cost at the start of the first area, plus what each area adds up to p."""
        inner = np.clip(p, np.r_[-np.inf, breaks], np.r_[breaks, np.inf])
        origin = np.r_[start[0], breaks]
        return float(start[0] * slope[0] + slope @ (inner - origin))

    reached = (np.r_[breaks, np.inf] > low) & (np.r_[-np.inf, breaks] < high)
    used = slope[reached] if reached.any() else slope[:1]
    exact = bool(np.ptp(used) <= ACCURACY.rounding * np.abs(used).max())
    low, high = max(low, start[0]), min(high, stop[-1])
    mean = used[0] if exact or high <= low else (cost_at(high) - cost_at(low)) / (high - low)
    return cost_at(low) - mean * low, float(mean), exact
