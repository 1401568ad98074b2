"""Bundled grids and markets, read from tables a person can read and change."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import (
    GENERATION_SUFFIX,
    GRID_BUS,
    PRICE0,
    PRICE1,
    PROSUMER,
    SCENARIO,
    SLACK,
    SNAPSHOT,
)
from pypsa_p2p.network.prosumer_data import DIMENSIONS
from pypsa_p2p.network.prosumers import add_prosumers
from pypsa_p2p.network.scenarios.sampling import RENEWABLE_KIND, draw_trade_prices, sample_scenarios
from pypsa_p2p.network.scenarios.setting import set_scenarios
from pypsa_p2p.network.trades import add_trades

_TABLES: Final = {
    "Bus": "buses.csv",
    "Line": "lines.csv",
    "Transformer": "transformers.csv",
    "Load": "loads.csv",
    "Generator": "generators.csv",
    "ShuntImpedance": "shunt_impedances.csv",
}
#: Further assets of prosumers, in the folder of the market.
_ASSETS: Final = {"StorageUnit": "storage_units.csv"}
_MARKET: Final = "market"
_PROFILES: Final = "profiles.csv"
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
    "time",
    "demand_profile",
    "cost_profile",
)
_DAY: Final = pd.Timedelta("1D")
#: The column that names a prosumer's profile of the day, and its exponent, by number: demand
#: answers to prices by the same share at any time.
_FOLLOWS: Final = {
    "demand": ("demand_profile", 1),
    "demand_min": ("demand_profile", 1),
    "demand_max": ("demand_profile", 1),
    "utility_quadratic": ("demand_profile", -1),
    "marginal_cost": ("cost_profile", 1),
    "renewable": (RENEWABLE_KIND, 1),
}


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
    ['ieee118', 'ieee14', 'ieee30', 'ieee57', 'lv_village', 'three_node']
    """
    folder = grids_folder()
    return sorted(
        entry.name for entry in folder.iterdir() if _has_grid(entry) or _has_market(entry)
    )


def load_grid(
    name: str,
    *,
    market: bool | None = None,
    set_points: bool = False,
    resolution: str | None = None,
) -> pypsa.Network:
    """Load a bundled grid; no other package is needed.

    Source, licence, units and assumptions of each grid are in grids/README.md.

    Parameters
    ----------
    name : str
        One of `list_grids()`: "ieee14", "ieee30", "ieee57" and "ieee118", the IEEE cases;
        "lv_village", a low-voltage grid of 36 households with a day of snapshots as its market; or
        "three_node", the three-node market of MODEL.md section 9.
    market : bool, optional
        Whether to add the grid's own market: prosumers, trades and equiprobable scenarios, ready
        to solve. The prosumers replace the loads and generators of the grid, so that nothing is
        counted twice. Default: only where the grid is nothing but a market ("three_node").
    set_points : bool, default False
        Whether generators of the bare grid keep their active power as ``p_set``, which `n.pf()`
        needs. PyPSA's `n.optimize()` *fixes* every dispatch that has a ``p_set``, so by default
        there is none.
    resolution : str, optional
        Length of a snapshot of a market that lasts a day ("lv_village"), as pandas writes it:
        "1h", "15min", or another that divides the day into whole numbers of the quarters of an
        hour in its ``profiles.csv``, which are averaged. Snapshot weightings are its hours.
        Default: that of the grid's ``market.toml``.

    Returns
    -------
    pypsa.Network
        With ``market=True`` ready to be solved in every design, with ``delivery="grid"`` too where
        there is a grid: prosumers have their ``grid_bus``. MW, kV, per unit, EUR/MWh. Generators
        have a column ``fixed_cost``, EUR/h.

    Raises
    ------
    DataError
        No such grid, or none with (or without) a market; a resolution of what does not last a
        day, or that does not divide it.

    Examples
    --------
    >>> n = load_grid("ieee14")
    >>> len(n.buses), len(n.lines), len(n.transformers)
    (14, 15, 5)
    >>> n = load_grid("lv_village", market=True, resolution="15min")
    >>> len(n.snapshots), len(n.scenarios), float(n.snapshot_weightings["objective"].iloc[0])
    (96, 10, 0.25)
    """
    if not isinstance(name, str) or name not in list_grids():
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
    if resolution is not None and not (with_market and _lasts_a_day(folder / _MARKET)):
        what = "The market" if with_market else "Without its market, the grid"
        raise DataError(f"{what} {name!r} is of one moment: leave out the resolution.")
    n = pypsa.Network(name=name)
    n.add("Carrier", "AC")
    for component, file in _TABLES.items():
        if (folder / file).exists() and not (with_market and component in ("Load", "Generator")):
            _add_table(n, component, folder / file)
    if not set_points:
        n.generators["p_set"] = np.nan
    if with_market:
        add_grid_market(n, name, resolution=resolution)
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
    resolution: str | None = None,
) -> None:
    """Add the market of a bundled grid: prosumers, trades and equiprobable scenarios.

    Parameters
    ----------
    n : pypsa.Network
        With the buses of that grid, without loads and generators; changed in place.
    name : str
        One of `list_grids()` that has a market.
    number, seed, rule, resolution : optional
        Scenarios drawn, seed of all draws, rule of the trade prices ("table", or one of
        `draw_trade_prices`), and length of a snapshot of a market that lasts a day, where the
        grid's ``market.toml`` is not to say. Scenarios that the grid lists in a table are not
        drawn.
    """
    folder = grids_folder() / name / _MARKET
    settings = _settings(folder, number=number, seed=seed, rule=rule, resolution=resolution)
    table = _read(folder / "prosumers.csv").set_index("name").rename_axis(PROSUMER)
    data = _scenarios(folder, table, settings)
    numbers: dict[str, Any] = {str(each): data[each].mean(SCENARIO) for each in data}
    numbers |= {column: table[column].to_xarray() for column in table if column in DIMENSIONS}
    if _lasts_a_day(folder):
        profiles = _profiles(folder, **settings["time"])
        _set_snapshots(n, profiles.index)
        numbers = _over_the_day(numbers, profiles, table)
        data = xr.Dataset(_over_the_day(data, profiles, table))
    add_prosumers(n, list(table.index), grid_bus=table.get(GRID_BUS, ""), **numbers)
    _keep_controls(n, folder.parent / _TABLES["Generator"], table)
    if "x" in table:
        n.buses.loc[table.index, ["x", "y"]] = table[["x", "y"]].astype(float)
    for component, file in _ASSETS.items():
        if (folder / file).is_file():
            _add_table(n, component, folder / file)
    _add_trades(n, folder, settings["prices"])
    labels = [str(label) for label in data[SCENARIO].values]
    set_scenarios(n, dict.fromkeys(labels, 1.0 / len(labels)), data)


def _settings(
    folder: Path, *, number: int | None, seed: int | None, rule: str | None, resolution: str | None
) -> dict[str, dict[str, Any]]:
    """Options of scenarios, prices and time: those given, the others from ``market.toml``."""
    settings = tomllib.loads((folder / "market.toml").read_text(encoding="utf-8"))
    given: dict[str, dict[str, Any]] = {
        "scenarios": {"number": number, "seed": seed},
        "prices": {"rule": rule, "seed": seed},
        "time": {"resolution": resolution},
    }
    return {
        part: settings.get(part, {})
        | {option: value for option, value in options.items() if value is not None}
        for part, options in given.items()
    }


def _scenarios(folder: Path, table: pd.DataFrame, settings: dict[str, Any]) -> xr.Dataset:
    """What differs between scenarios: the table where there is one, else drawn."""
    if (folder / "scenarios.csv").is_file():
        return _read(folder / "scenarios.csv").set_index([SCENARIO, PROSUMER]).to_xarray()
    return sample_scenarios(table, **settings["scenarios"])


def _lasts_a_day(folder: Path) -> bool:
    return (folder / _PROFILES).is_file()


def _profiles(folder: Path, start: date, resolution: str) -> pd.DataFrame:
    """Profiles of the day by snapshot, each the mean over its time."""
    table = _read(folder / _PROFILES).set_index("time")
    try:
        first, second = pd.date_range(start, periods=2, freq=resolution)
        length = second - first
    except (TypeError, ValueError):
        length = pd.Timedelta(0)
    rows, rest = divmod(length, _DAY / len(table))
    if rest or rows < 1 or len(table) % rows:
        raise DataError(
            f"The resolution {resolution!r} does not divide a day of {len(table)} rows in "
            f'{_PROFILES}: take "1h", "15min" or the like.'
        )
    means = table.groupby(np.arange(len(table)) // rows).mean()
    return means.set_axis(pd.date_range(start, periods=len(means), freq=length, name=SNAPSHOT))


def _set_snapshots(n: pypsa.Network, snapshots: Any) -> None:
    """Snapshots of a day, weighted with their hours."""
    n.set_snapshots(snapshots)
    n.snapshot_weightings = pd.DataFrame(
        24.0 / len(snapshots), index=n.snapshots, columns=n.snapshot_weightings.columns
    )


def _over_the_day(
    numbers: Mapping[Any, xr.DataArray], profiles: pd.DataFrame, table: pd.DataFrame
) -> dict[str, xr.DataArray]:
    """Numbers by snapshot, where they follow the profile that a prosumer's row names."""
    shaped = {str(argument): number for argument, number in numbers.items()}
    for argument, (column, power) in _FOLLOWS.items():
        if argument not in shaped or column not in table:
            continue
        names = table[column]
        unknown = names[~names.isin(["", *profiles])]
        if len(unknown):
            raise DataError(f"{_PROFILES} has no {listed(unknown.unique())}, a {column}. Add it.")
        profile = profiles.assign(**{"": 1.0})[names].set_axis(table.index, axis=1)
        shaped[argument] = shaped[argument] * xr.DataArray(profile**power)
    return shaped


def _keep_controls(n: pypsa.Network, path: Path, prosumers: pd.DataFrame) -> None:
    """Generation holds the voltage where the grid's own generators do, and is its slack there."""
    if not path.is_file():
        return
    generators = _read(path)
    for control in ("PV", SLACK):
        held = generators.loc[generators["control"] == control, "bus"]
        hers = prosumers.index[prosumers[GRID_BUS].isin(held)] + GENERATION_SUFFIX
        n.generators.loc[hers, "control"] = control


def _add_trades(n: pypsa.Network, folder: Path, prices: dict[str, Any]) -> None:
    """Add the trade edges, at the prices in the table or by a rule."""
    trades = _read(folder / "trades.csv").set_index(["prosumer0", "prosumer1"])
    edges = list(trades.index)
    price = trades[[PRICE0, PRICE1]]
    if prices["rule"] != "table":
        price = draw_trade_prices(edges, **prices)
    both = pd.concat([price[PRICE0], price[PRICE1].swaplevel()])
    add_trades(n, edges, capacity=trades["capacity"], price=both)
