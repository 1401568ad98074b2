"""Bundled grids and markets, read from tables a person can read and change."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.errors import DataError, listed
from pypsa_p2p.names import GRID_BUS, PRICE0, PRICE1, PROSUMER, SCENARIO
from pypsa_p2p.prosumers import add_prosumers
from pypsa_p2p.sampling import (
    RENEWABLE_CAPACITY,
    RENEWABLE_KIND,
    draw_trade_prices,
    sample_scenarios,
)
from pypsa_p2p.scenarios import set_scenarios
from pypsa_p2p.trades import add_trades

_TABLES: Final = {
    "Bus": "buses.csv",
    "Line": "lines.csv",
    "Transformer": "transformers.csv",
    "Load": "loads.csv",
    "Generator": "generators.csv",
    "ShuntImpedance": "shunt_impedances.csv",
}
_MARKET: Final = "market"
#: Columns that stay text even where they look like numbers.
_LABELS: Final = (
    "name",
    "bus",
    "bus0",
    "bus1",
    "prosumer0",
    "prosumer1",
    GRID_BUS,
    RENEWABLE_KIND,
    SCENARIO,
    PROSUMER,
)


def grids_folder() -> Path:
    """Folder of the bundled grids: in the package once installed, beside it in a checkout."""
    package = Path(str(files("pypsa_p2p")))
    inside = package / "_grids"
    return inside if inside.is_dir() else package.parent / "grids"


def list_grids() -> list[str]:
    """Names that `load_grid` takes, in alphabetical order.

    Examples
    --------
    >>> list_grids()
    ['ieee14', 'three_node']
    """
    folder = grids_folder()
    return sorted(
        entry.name for entry in folder.iterdir() if _has_grid(entry) or _has_market(entry)
    )


def load_grid(name: str, *, market: bool | None = None, set_points: bool = False) -> pypsa.Network:
    """Load a bundled grid; no other package is needed.

    Source, licence, units and assumptions of each grid are in grids/README.md.

    Parameters
    ----------
    name : str
        One of `list_grids()`: "ieee14", the IEEE 14-bus case, or "three_node", the three-node
        market of MODEL.md section 9.
    market : bool, optional
        Whether to add the grid's own market: prosumers, trades and equiprobable scenarios, ready
        to solve. The prosumers replace the loads and generators of the grid, so that nothing is
        counted twice. Default: only where the grid is nothing but a market ("three_node").
    set_points : bool, default False
        Whether generators of the bare grid keep their active power as ``p_set``, which `n.pf()`
        needs. PyPSA's `n.optimize()` *fixes* every dispatch that has a ``p_set``, so by default
        there is none.

    Returns
    -------
    pypsa.Network
        MW, kV, per unit, EUR/MWh. Generators have a column ``fixed_cost``, EUR/h.

    Raises
    ------
    DataError
        No such grid, or none with (or without) a market.

    Examples
    --------
    >>> n = load_grid("ieee14")
    >>> len(n.buses), len(n.lines), len(n.transformers)
    (14, 15, 5)
    """
    if name not in list_grids():
        raise DataError(f"There is no bundled grid {name!r}. Take one of {listed(list_grids())}.")
    folder = grids_folder() / name
    with_market = not _has_grid(folder) if market is None else market
    if with_market and not _has_market(folder):
        raise DataError(
            f"The grid {name!r} has no market of its own. Load it with market=False, then use "
            "assign_prosumers or add_prosumers."
        )
    if not with_market and not _has_grid(folder):
        raise DataError(f"{name!r} is a market without a grid. Leave out market=False.")
    n = pypsa.Network(name=name)
    n.add("Carrier", "AC")
    for component, file in _TABLES.items():
        if (folder / file).exists() and not (with_market and component in ("Load", "Generator")):
            _add_table(n, component, folder / file)
    if not set_points:
        n.generators["p_set"] = np.nan
    if with_market:
        add_grid_market(n, name)
    return n


def _has_grid(folder: Path) -> bool:
    return (folder / _TABLES["Bus"]).is_file()


def _has_market(folder: Path) -> bool:
    return (folder / _MARKET / "prosumers.csv").is_file()


def _read(path: Path) -> pd.DataFrame:
    """A table with its labels as text, and its numbers to the last digit."""
    table = pd.read_csv(path, dtype=str, na_filter=False)
    return pd.DataFrame(
        {name: table[name] if name in _LABELS else _parsed(table[name]) for name in table}
    )


def _parsed(column: pd.Series) -> pd.Series:
    """Numbers or truth values where all entries are, else text."""
    if column.isin(["True", "False"]).all():
        return column == "True"
    try:
        return column.astype(float)
    except ValueError:
        return column


def _add_table(n: pypsa.Network, component: str, path: Path) -> None:
    """Add the components of one table; what it has no column for is PyPSA's default."""
    table = _read(path).set_index("name")
    n.add(component, list(table.index), **table)


def add_grid_market(
    n: pypsa.Network,
    name: str,
    *,
    number: int | None = None,
    seed: int | None = None,
    rule: str | None = None,
) -> None:
    """Add the market of a bundled grid: prosumers, trades and equiprobable scenarios.

    Parameters
    ----------
    n : pypsa.Network
        With the buses of that grid, without loads and generators; changed in place.
    name : str
        One of `list_grids()` that has a market.
    number, seed, rule : optional
        Scenarios drawn, seed of all draws, and rule of the trade prices ("table", or one of
        `draw_trade_prices`), where the grid's ``market.toml`` is not to say. Scenarios that the
        grid lists in a table are not drawn.
    """
    folder = grids_folder() / name / _MARKET
    settings = _settings(folder, number, seed, rule)
    prosumers = _read(folder / "prosumers.csv").set_index("name")
    data = _scenarios(folder, prosumers, settings)
    own = [RENEWABLE_CAPACITY, RENEWABLE_KIND, "x", "y"]
    given = prosumers.drop(columns=own, errors="ignore")
    arguments: dict[str, Any] = {str(column): given[column] for column in given}
    mean = {str(variable): data[variable].mean(SCENARIO).to_series() for variable in data}
    add_prosumers(n, list(prosumers.index), **(mean | arguments))
    if "x" in prosumers:
        n.buses.loc[prosumers.index, ["x", "y"]] = prosumers[["x", "y"]].astype(float)
    _add_trades(n, folder, settings["prices"])
    labels = [str(label) for label in data[SCENARIO].values]
    set_scenarios(n, dict.fromkeys(labels, 1.0 / len(labels)), data)


def _settings(
    folder: Path, number: int | None, seed: int | None, rule: str | None
) -> dict[str, dict[str, Any]]:
    """Options of scenarios and prices: those given, the others from ``market.toml``."""
    settings = tomllib.loads((folder / "market.toml").read_text(encoding="utf-8"))
    given: dict[str, dict[str, Any]] = {
        "scenarios": {"number": number, "seed": seed},
        "prices": {"rule": rule, "seed": seed},
    }
    return {
        part: settings.get(part, {})
        | {option: value for option, value in options.items() if value is not None}
        for part, options in given.items()
    }


def _scenarios(folder: Path, prosumers: pd.DataFrame, settings: dict[str, Any]) -> xr.Dataset:
    """What differs between scenarios: the table where there is one, else drawn."""
    if (folder / "scenarios.csv").is_file():
        return _read(folder / "scenarios.csv").set_index([SCENARIO, PROSUMER]).to_xarray()
    return sample_scenarios(prosumers, **settings["scenarios"])


def _add_trades(n: pypsa.Network, folder: Path, prices: dict[str, Any]) -> None:
    """Add the trade edges, at the prices in the table or by a rule."""
    trades = _read(folder / "trades.csv").set_index(["prosumer0", "prosumer1"])
    edges = list(trades.index)
    price = trades[[PRICE0, PRICE1]]
    if prices["rule"] != "table":
        price = draw_trade_prices(edges, **prices)
    both = pd.concat([price[PRICE0], price[PRICE1].swaplevel()])
    add_trades(n, edges, capacity=trades["capacity"], price=both)
