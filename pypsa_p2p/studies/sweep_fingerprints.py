"""Names for what the figures of a sweep's point follow from, by which its store keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import MARKET_RESULTS
from pypsa_p2p.markets.base import Market

_WRITTEN: Final = {name for of_class in MARKET_RESULTS.values() for name in of_class}


def fingerprint(inputs: str, market: Market, keep: tuple[str, ...]) -> str:
    """A name for what a point's figures follow from: inputs, market, version, and what is kept."""
    shared = (*_versions(), sorted(keep), inputs)
    return hashlib.sha256(repr((shared, _canonical(market))).encode()).hexdigest()[:32]


@cache
def _versions() -> tuple[str, str]:
    return version("pypsa-p2p"), version("pypsa")


def inputs_of(n: pypsa.Network) -> str:
    """A name for a network's inputs; results that an earlier solve left in it do not count."""
    digest = hashlib.sha256()
    for name, frame in (("snapshot_weightings", n.snapshot_weightings), *_inputs(n)):
        digest.update(repr([name, frame.shape, *map(str, frame.columns)]).encode())
        digest.update(pd.util.hash_pandas_object(frame.index).to_numpy().tobytes())
        digest.update(b"".join(_content(frame[column]) for column in frame))
    if n.has_scenarios:
        digest.update(repr(_canonical(n.scenario_weightings["weight"])).encode())
    return digest.hexdigest()


def _content(column: pd.Series) -> bytes:
    """A column's values, numbers as they are: whole ones are the same as those with a point."""
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.to_numpy(float, na_value=np.nan)
        return np.where(np.isnan(numbers), np.nan, numbers).tobytes()  # one NaN of many
    return pd.util.hash_array(column.to_numpy(object)).tobytes()


def _inputs(n: pypsa.Network) -> list[tuple[str, pd.DataFrame]]:
    """Tables of the network without results and their names, tables and columns in fixed order."""
    tables = []
    for name in sorted(n.all_components):
        component = n.c[name]
        if component.static.empty:
            continue
        defaults = component.defaults
        ignored = _WRITTEN.union(defaults.index[defaults["status"] == "Output"])
        columns = sorted(set(component.static.columns) - ignored)
        tables.append((name, component.static[columns]))
        for attribute in sorted(set(component.dynamic) - ignored):
            frame = component.dynamic[attribute]
            if not frame.empty:
                tables.append(
                    (f"{name} {attribute}", frame.set_axis(frame.columns.map(str), axis=1))
                )
    return tables


def _canonical(value: Any) -> Any:
    """A value as plain lists and texts that say all of it."""
    parts = _taken_apart(value)
    if isinstance(parts, Mapping):
        return sorted([repr(key), _canonical(item)] for key, item in parts.items())
    if isinstance(parts, list | tuple):
        return [_canonical(item) for item in parts]
    return repr(parts)


def _taken_apart(value: Any) -> Any:
    """Labels and numbers of a labelled value, fields of a dataclass; others as they are."""
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return [type(value).__module__, type(value).__qualname__, named]
    if isinstance(value, xr.DataArray):
        indexes = {dim: list(index) for dim, index in value.indexes.items()}
        return [value.dims, indexes, value.to_numpy()]
    if isinstance(value, pd.DataFrame | pd.Series):
        return [*map(list, value.axes), value.to_numpy()]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
