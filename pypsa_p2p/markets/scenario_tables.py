"""Tables with a column for each scenario, as arguments of risk measures: by name, or in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.given import ANY, ByName
from pypsa_p2p.common.names import SCENARIO
from pypsa_p2p.common.tables import ONLY_SCENARIO

Array = np.ndarray[Any, np.dtype[np.float64]]

#: Rows in order, of numbers in order or by scenario; or, where rows are scenarios, by name as well.
Table = tuple[tuple[float, ...] | ByName, ...] | ByName


def read_table(what: str, given: Any, *, square: bool = False) -> tuple[Table, Array]:
    """A table in plain form, which compares and hashes by value and reads as itself; its numbers.

    Parameters
    ----------
    what : str
        The argument, as it opens messages.
    given
        Any array, its columns in the network's order of scenarios; or by name: a DataFrame, a
        DataArray with labels, mappings by scenario, one for each row.
    square : bool
        Whether rows are scenarios, too.

    Raises
    ------
    MarketError
        What is no table of finite numbers, and names that repeat.
    """
    frame = _labelled(given, square)
    if frame is None:
        numbers = _numbers(what, given)
        return tuple(map(tuple, numbers.tolist())), numbers
    columns = _names(what, frame.columns)
    if square:
        names = _names(what, frame.index)
        _require_same(what, names, "its columns are", columns)
        frame = frame.iloc[[names.index(name) for name in columns]]
    numbers = _numbers(what, frame.to_numpy(object))
    rows = [ByName(zip(columns, row, strict=True)) for row in numbers.tolist()]
    if not square:
        return tuple(rows), numbers
    of_scenario: dict[str, Any] = dict(zip(columns, rows, strict=True))
    return ByName(of_scenario), numbers


def in_order(what: str, table: Table, scenarios: pd.Index) -> Table:
    """A table that `read_table` made, with columns, and rows by name, in this order of scenarios.

    Raises
    ------
    MarketError
        Scenarios that are missing or unknown, or another number of columns than of them.
    """
    names = [str(scenario) for scenario in scenarios]
    rows = list(_by_name(what, table, names) if isinstance(table, Mapping) else table)
    if isinstance(rows[0], Mapping):
        return tuple(tuple(_by_name(what, row, names)) for row in rows)
    if len(rows[0]) != len(names):
        one = len(names) == 1
        raise MarketError(
            f"{what} has {len(rows[0])} columns, but the network has {len(names)} "
            f"scenario{'' if one else 's'}."
        )
    return tuple(rows)


def _labelled(given: Any, square: bool) -> pd.DataFrame | None:
    """What names its scenarios, as a DataFrame; None where nothing does."""
    if isinstance(given, xr.DataArray) and given.ndim == 2:
        if SCENARIO in given.dims and not square:
            given = given.transpose(..., SCENARIO)
        if given.dims[-1] in given.indexes:
            return given.to_pandas()
    if isinstance(given, pd.DataFrame):
        return given
    if square and isinstance(given, Mapping):
        rows = list(given.values())
        named = all(isinstance(row, Mapping) for row in rows)
        return pd.DataFrame(rows, index=list(given), dtype=object) if rows and named else None
    if isinstance(given, Sequence) and given and all(isinstance(row, Mapping) for row in given):
        return pd.DataFrame(list(given), dtype=object)
    return None


def _numbers(what: str, given: Any) -> Array:
    """Finite numbers in two dimensions."""
    try:
        found = np.array(given, dtype=object)
    except ValueError:
        found = np.empty(0)
    if found.ndim != 2 or not found.size or not all(x in ANY for x in found.flat):
        raise MarketError(f"{what} must be a table of finite numbers, not {shown(given)}.")
    return found.astype(float)


def _names(what: str, index: pd.Index) -> list[str]:
    names = index.map(str)
    if names.has_duplicates:
        raise MarketError(
            f"{what} repeats {listed(names[names.duplicated()].unique())}: give each scenario once."
        )
    return list(names)


def _by_name(what: str, of_scenario: Mapping[Any, Any], names: list[str]) -> list[Any]:
    """What a mapping has of each scenario, in order."""
    _require_same(what, of_scenario, "the network has", names)
    return [of_scenario[name] for name in names]


def _require_same(what: str, given: Iterable[str], others: str, names: Iterable[str]) -> None:
    """Refuse other scenarios than these, whatever their order."""
    if {*given} != {*names}:
        found = listed(name for name in names if name != ONLY_SCENARIO) or "none"
        raise MarketError(
            f"{what} names the scenarios {listed(given)}, but {others} {found}: name each of them, "
            "and no other."
        )
