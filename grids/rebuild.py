"""Rebuild the tables of bundled grids that come from elsewhere.

Run `python grids/rebuild.py`. Needs pandapower (pip install "pypsa-p2p[pandapower]"). Everything
under market/ but the prices of the trades is written by hand and left alone.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandapower.networks
import pandas as pd
import pypsa

from pypsa_p2p.pandapower import PANDAPOWER_INDEX, PANDAPOWER_TABLE, from_pandapower
from pypsa_p2p.sampling import draw_trade_prices

HERE = Path(__file__).parent
COMPONENTS = ("Bus", "Line", "Transformer", "Load", "Generator", "ShuntImpedance")
DERIVED = [PANDAPOWER_INDEX, PANDAPOWER_TABLE]


def write_grid(n: pypsa.Network, folder: Path) -> None:
    """Write every component as a table of the columns that are not PyPSA's defaults."""
    folder.mkdir(exist_ok=True)
    for component in COMPONENTS:
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


if __name__ == "__main__":
    write_grid(from_pandapower(pandapower.networks.case14()), HERE / "ieee14")
    write_prices(HERE / "ieee14" / "market")
