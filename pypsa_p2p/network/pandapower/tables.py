"""pandapower's tables as PyPSA's: names, numbers, truth values, and what could not be kept."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable
from itertools import count
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed

#: Limit of what pandapower leaves without one, MW or MVA.
UNLIMITED: Final = 1e6
#: Table and index of an element in the pandapower network, columns of every component.
PANDAPOWER_TABLE: Final = "pandapower_table"
PANDAPOWER_INDEX: Final = "pandapower_index"


class Losses:
    """Elements that could not be carried over, by the reason why."""

    def __init__(self) -> None:
        self._elements: dict[str, list[str]] = {}

    def add(self, reason: str, elements: Iterable[object]) -> None:
        """Note elements under a reason; nothing happens when there are none."""
        names = [str(element) for element in elements]
        if names:
            self._elements.setdefault(reason, []).extend(names)

    def warn(self) -> None:
        """One warning about all of them."""
        if self._elements:
            parts = [f"{why}: {listed(who, len(who))}" for why, who in self._elements.items()]
            warnings.warn(
                "Not everything in the pandapower network could be carried over. "
                + "; ".join(parts)
                + ".",
                UserWarning,
                stacklevel=3,
            )


def _text(value: object) -> str:
    """A name as text: "" for a missing one, "1" for the float 1.0."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def names_of(net: Any, tables: Iterable[str]) -> dict[str, pd.Series]:
    """Names, unique over all the tables; by table and pandapower's index."""
    rows = [(table, index) for table in tables for index in net[table].index]
    given = [
        _text(value)
        for table in tables
        for value in net[table].get("name", pd.Series(None, net[table].index, dtype=object))
    ]
    plain = pd.Series([f"{table} {index}" for table, index in rows], dtype=object)
    names = pd.Series(given, dtype=object).where(lambda name: name != "", plain)
    names = names.where(~names.duplicated(keep=False), names + " (" + plain + ")")
    names = names if names.is_unique else plain
    owner = np.array([table for table, _ in rows], dtype=object)
    return {
        table: pd.Series(names[owner == table].to_numpy(), net[table].index, dtype=object)
        for table in tables
    }


def unused_names(net: Any, wanted: Iterable[str]) -> list[str]:
    """Names for what has none in pandapower, with a stroke behind those that an element has."""
    taken: set[str] = set()
    for table, rows in net.items():
        if isinstance(rows, pd.DataFrame) and not table.startswith(("_", "res_")):
            given = [_text(name) for name in rows["name"]] if "name" in rows else [""] * len(rows)
            plain = [f"{table} {index}" for index in rows.index]
            both = [f"{name} ({own})" for name, own in zip(given, plain, strict=True)]
            taken.update(given, plain, both)
    return [unused_name(name, taken) for name in wanted]


def unused_name(name: str, taken: Container[str]) -> str:
    """The name, with as many strokes behind it as make it new."""
    return next(new for new in (name + "'" * strokes for strokes in count()) if new not in taken)


def number_column(table: pd.DataFrame, name: str, default: float) -> pd.Series:
    """A numeric column, `default` where it is missing or empty."""
    if name not in table:
        return pd.Series(default, table.index, dtype=float)
    numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
    wrong = table.loc[numbers.isna() & table[name].notna(), name]
    if len(wrong):
        raise DataError(
            f"pandapower's column {name} holds {listed(wrong.unique())}, which is no number, at "
            f"index {listed(wrong.index)}. Give numbers."
        )
    return numbers.fillna(default)


def flag_column(table: pd.DataFrame, name: str, default: bool) -> pd.Series:
    """A boolean column, `default` where it is missing or empty."""
    if name not in table:
        return pd.Series(default, table.index, dtype=bool)
    return table[name].map(lambda value: default if pd.isna(value) else bool(value)).astype(bool)


def phase_sum(rows: pd.DataFrame, letter: str, unit: str) -> pd.Series:
    """Power of the three phases together, scaled, of a table with a column for each."""
    phases = [number_column(rows, f"{letter}_{phase}_{unit}", 0.0) for phase in "abc"]
    return (phases[0] + phases[1] + phases[2]) * number_column(rows, "scaling", 1.0)


def on_buses(
    net: Any, table: str, names: pd.Series, bus_of: pd.Series, lost: Losses, *, note: bool = True
) -> pd.DataFrame:
    """Rows of a table that sit on converted buses, with what every component has.

    Those that do not are noted, unless `note` is False because the table is read a second time.
    """
    rows = net[table]
    at_bus = rows["bus"].isin(bus_of.index)
    if note:
        lost.add(f"{table} on a bus out of service", names[~at_bus])
    rows = rows[at_bus]
    return pd.DataFrame(rows).assign(
        name=names[at_bus],
        pypsa_bus=rows["bus"].map(bus_of),
        active=flag_column(rows, "in_service", True),
        **{PANDAPOWER_TABLE: table, PANDAPOWER_INDEX: rows.index},
    )


def add_rows(
    n: pypsa.Network,
    component: str,
    rows: pd.DataFrame,
    bus_column: str = "bus",
    /,
    **columns: object,
) -> None:
    """Add rows made by `on_buses` as components with more columns."""
    if rows.empty:
        return
    table = pd.DataFrame(columns, index=rows.index).assign(
        **{bus_column: rows["pypsa_bus"]},
        active=rows["active"],
        **{column: rows[column] for column in (PANDAPOWER_TABLE, PANDAPOWER_INDEX)},
    )
    table.index = pd.Index(rows["name"], name="name")
    n.add(component, list(table.index), **table)


def tables_of(net: Any) -> list[tuple[str, pd.DataFrame]]:
    """Element and cost tables of a network that have rows."""
    return [
        (name, table)
        for name, table in net.items()
        if isinstance(table, pd.DataFrame)
        and len(table)
        and not name.startswith(("_", "res_"))
        and ("in_service" in table or name in ("switch", "poly_cost", "pwl_cost"))
    ]
