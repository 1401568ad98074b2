"""A small market, edits of its data, and how to see that nothing has touched it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pypsa
import xarray as xr

import pypsa_p2p as p2p

NAMES = ["a", "b", "c"]
EDGE = "a - b"
Edit = Callable[[pypsa.Network], None]


def build(*, scenarios: bool, trades: bool = True) -> pypsa.Network:
    """Three prosumers, two snapshots, one or two scenarios."""
    n = pypsa.Network()
    n.set_snapshots(pd.RangeIndex(2, name="snapshot"))
    p2p.add_prosumers(
        n,
        NAMES,
        demand=pd.DataFrame([[3.0, 4.0, 5.0], [4.0, 3.0, 6.0]], n.snapshots, NAMES),
        demand_max=9.0,
        utility_quadratic=0.5,
        generation_max=[8.0, 2.0, 5.0],
        marginal_cost=[0.5, 3.0, 1.0],
        marginal_cost_quadratic=0.2,
        renewable=1.0,
        risk_attitude=[0.2, 0.5, 0.7],
        import_price=pd.DataFrame(0.1, n.snapshots, NAMES),
    )
    if trades:
        p2p.add_trades(n, "complete", capacity=3.0, price=0.3)
    if scenarios:
        wind = xr.DataArray(
            [[2.0, 0.5, 0.0], [0.0, 2.5, 1.0]],
            coords={"scenario": ["wet", "dry"], "prosumer": NAMES},
        )
        p2p.set_scenarios(n, {"wet": 0.5, "dry": 0.5}, xr.Dataset({"renewable": wind}))
    return n


def tables(n: pypsa.Network) -> dict[str, pd.DataFrame]:
    """Every table of a network, by name."""
    found = {"snapshot_weightings": n.snapshot_weightings.copy()}
    for component in n.components:
        found[component.name] = component.static.copy(deep=True)
        for attribute, table in component.dynamic.items():
            found[f"{component.name} {attribute}"] = table.copy(deep=True)
    return found


def assert_untouched(
    n: pypsa.Network, before: dict[str, pd.DataFrame], meta: dict[str, Any]
) -> None:
    after = tables(n)
    assert after.keys() == before.keys()
    for name, table in before.items():
        pd.testing.assert_frame_equal(after[name], table, obj=name)
    assert n.meta == meta


def static(component: str, name: str, **values: object) -> Edit:
    """Write to a component's static table, in all scenarios."""

    def edit(n: pypsa.Network) -> None:
        table = n.c[component].static
        for column, value in values.items():
            rows = table.index.get_level_values(-1) == name
            table.loc[rows, column] = value

    return edit


def series(component: str, attribute: str, name: str, value: float) -> Edit:
    """Write to a component's time series in the first snapshot, in the last scenario."""

    def edit(n: pypsa.Network) -> None:
        table = n.c[component].dynamic[attribute]
        column = (n.scenarios[-1], name) if n.has_scenarios else name
        if column not in table:
            table[column] = n.c[component].static.loc[column, attribute]
        table.loc[n.snapshots[0], column] = value

    return edit


def adding(component: str, name: str, **values: Any) -> Edit:
    return lambda n: n.add(component, name, **values) and None
