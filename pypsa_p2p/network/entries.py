"""Whether what a user wrote into PyPSA's tables is of its kind: numbers, flags, hours and names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError, listed
from pypsa_p2p.common.names import TRADE_SERIES
from pypsa_p2p.common.tables import as_numbers


def require_entries(n: pypsa.Network, sns: pd.Index) -> None:
    """Refuse columns and series that PyPSA takes otherwise than they are meant, or not at all.

    Raises
    ------
    DataError
        Text among numbers, flags that are missing; series of other hours than the snapshots, with
        a name twice or of True and False.
    """
    for c in n.components:
        if not len(c.static):
            continue
        for attribute, dtype in c.static.dtypes.items():
            if dtype.kind not in "fiub":
                _check_column(c, str(attribute))
        for attribute, table in c.dynamic.items():
            ours = c.name == "Link" and attribute in TRADE_SERIES
            if len(table.columns) and (ours or _is_input(c, attribute)):
                _check_series(c.name, attribute, table, sns)


def _is_input(c: pypsa.Components, attribute: str) -> bool:
    known = c.defaults.index
    return attribute in known and str(c.defaults.at[attribute, "status"]).startswith("Input")


def _check_column(c: pypsa.Components, attribute: str) -> None:
    kind: Any = c.defaults.at[attribute, "typ"] if _is_input(c, attribute) else None
    if kind is float:
        as_numbers(c.name, c.static[attribute], attribute)
    elif kind is bool and c.static[attribute].isna().any():
        missing = c.static.index[c.static[attribute].isna()]
        raise DataError(f"{c.name} {listed(missing)}: {attribute} is missing; give True or False.")


def _check_series(component: str, attribute: str, table: pd.DataFrame, sns: pd.Index) -> None:
    what = f"The series of {component} {attribute!r}"
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{what}: {listed(twice.unique())} is there twice; keep one of each.")
    if table.index is not sns and not table.index.equals(sns):
        lacking = sns[~sns.isin(table.index)]
        if len(lacking) or not table.index.is_unique:
            said = f"lack {listed(lacking)}" if len(lacking) else "hold some twice"
            raise DataError(f"{what}: its hours {said}. Give one value for each of n.snapshots.")
    flags = table.columns[(table.dtypes == np.bool_).to_numpy()]
    if len(flags):
        raise DataError(f"{what}: {listed(flags)} holds True and False; give numbers.")
