"""Rebuild the tables of bundled grids that come from elsewhere, and the markets made by rule.

Run `python grids/rebuild.py`. Needs pandapower (pip install "pypsa-p2p[pandapower]"). What is
written by hand is left alone: three_node, every market.toml, and the market of ieee14 but for the
prices of its trades.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandapower.networks
import pandas as pd
import pypsa
from ieee_markets import write_ieee_market
from village_market import write_village_market

from pypsa_p2p.network.pandapower.conversion import from_pandapower
from pypsa_p2p.network.pandapower.tables import PANDAPOWER_INDEX, PANDAPOWER_TABLE
from pypsa_p2p.network.scenarios.sampling import draw_trade_prices

HERE = Path(__file__).parent
COMPONENTS = ("Bus", "Line", "Transformer", "Load", "Generator", "ShuntImpedance")
DERIVED = [PANDAPOWER_INDEX, PANDAPOWER_TABLE]

IEEE_CASES: dict[str, Callable[[], Any]] = {
    "ieee14": pandapower.networks.case14,
    "ieee30": pandapower.networks.case_ieee30,
    "ieee57": pandapower.networks.case57,
    "ieee118": pandapower.networks.case118,
}


def ieee_case(name: str) -> pypsa.Network:
    """An IEEE case as pandapower has it, its buses called by their IEEE numbers from 1."""
    net = IEEE_CASES[name]()
    net.bus["name"] = [str(bus + 1) for bus in net.bus.index]
    return from_pandapower(net)


def village() -> pypsa.Network:
    """The village's network, without the 150 degrees its transformer's windings shift.

    They change nothing but the angles on one side, and PyPSA's power flow, which starts from
    angles of 0, would not converge.
    """
    create = pandapower.networks.create_synthetic_voltage_control_lv_network
    n = from_pandapower(create("village_2"))
    n.transformers["phase_shift"] = 0.0
    return n


def write_grid(n: pypsa.Network, folder: Path) -> None:
    """Write every component as a table of the columns that are not PyPSA's defaults."""
    folder.mkdir(parents=True, exist_ok=True)
    for component in COMPONENTS:
        if n.c[component].static.empty:
            continue
        table = n.c[component].static.drop(columns=DERIVED, errors="ignore")
        default = n.components[component].defaults["default"]
        kept = [column for column in table if not _all_default(table[column], default)]
        table[kept].to_csv(folder / f"{n.components[component].list_name}.csv", index_label="name")


def write_prices(folder: Path) -> None:
    """Write heterogeneous trade prices with the seed that market.toml states."""
    prices = tomllib.loads((folder / "market.toml").read_text(encoding="utf-8"))["prices"]
    trades = pd.read_csv(folder / "trades.csv", dtype={"prosumer0": str, "prosumer1": str})
    edges = list(zip(trades["prosumer0"], trades["prosumer1"], strict=True))
    drawn = draw_trade_prices(edges, **prices | {"rule": "heterogeneous"})
    trades[["price0", "price1"]] = drawn.round(4).to_numpy()
    trades.to_csv(folder / "trades.csv", index=False)


def _all_default(column: pd.Series, default: pd.Series) -> bool:
    if column.name not in default.index:
        return False
    value = default[column.name]
    return bool(column.isna().all() if pd.isna(value) else (column == value).all())


def rebuild(folder: Path) -> None:
    """Write all tables that are not written by hand; each market.toml must be there."""
    for name in IEEE_CASES:
        n = ieee_case(name)
        write_grid(n, folder / name)
        if name != "ieee14":
            write_ieee_market(n, folder / name / "market")
        write_prices(folder / name / "market")
    n = village()
    write_grid(n, folder / "lv_village")
    write_village_market(n, folder / "lv_village" / "market")


if __name__ == "__main__":
    rebuild(HERE)
