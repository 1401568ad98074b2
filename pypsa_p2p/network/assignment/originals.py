"""What a network was before its assets got owners, kept in the network itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.files import in_order
from pypsa_p2p.common.names import (
    CARRIERS,
    CONTROLLABLE,
    MARKET_RESULTS,
    MARKET_SERIES,
    META,
    NAME,
    PROSUMER_CARRIER,
)
from pypsa_p2p.common.pypsa_state import (
    Objective,
    drop_unit_commitment_flag,
    forget_model,
    has_unit_commitment_flag,
    objective_of,
    set_objective,
)

#: In ``n.meta``: what `remember` notes, in plain values that PyPSA's files keep.
ORIGINAL: Final = "p2p_original"
#: Ending of series, in ``n.c[...].dynamic``, that stand for those of the same name before.
BEFORE: Final = "_before"
#: Inputs that PyPSA computes from a branch's type whenever it solves.
_OF_TYPE: Final = {
    "Line": ("r", "x", "b"),
    "Transformer": ("r", "x", "g", "b", "phase_shift", "s_nom", "tap_side", "tap_ratio"),
}
#: Classes whose blank carrier PyPSA fills with that of the bus.
_BLANK_CARRIER: Final = ("Line", "Link", "Store")
#: Columns that PyPSA adds when it solves.
_ADDED: Final = {"Line": ("v_nom",), "ShuntImpedance": ("v_nom",), "SubNetwork": ("obj",)}

Rows = list[Any]
"""Pairs of a row, a name or (scenario, name), and its value."""


def remember(n: pypsa.Network, grid_bus: pd.Series, generators: Iterable[str]) -> None:
    """Note what `restore` needs, before assets move to prosumers from their `grid_bus`.

    The first assignment counts; later ones add prosumers and set points of their generators.
    """
    before = dict(n.meta.get(ORIGINAL) or _state(n))
    before["grid_bus"] = {**before["grid_bus"], **grid_bus.astype(str).to_dict()}
    c = n.components.generators
    free = controllable(n, generators)
    points = c.static.loc[free, "p_set"].dropna()
    before["set_points"] = [*before["set_points"], *_rows(points)]
    series = c.dynamic["p_set"]
    cleared = series.columns[series.columns.isin(free)]
    if len(cleared):
        kept = c.dynamic.get(f"p_set{BEFORE}", series).copy()
        kept[cleared] = series[cleared]
        c.dynamic[f"p_set{BEFORE}"] = kept
    n.meta[ORIGINAL] = before


def controllable(n: pypsa.Network, generators: Iterable[str]) -> pd.Index:
    """Those of these generators whose column `controllable` is True, as rows of their table."""
    static = n.components.generators.static
    if CONTROLLABLE not in static:
        return static.index[:0]
    # eq: components added later have NaN in this column, and netCDF then makes it 1.0 and 0.0.
    free = static.index.get_level_values(NAME).isin(list(generators))
    found: pd.Index = static.index[free & static[CONTROLLABLE].eq(True).to_numpy()]
    return found


def restore(n: pypsa.Network) -> None:
    """Bring back what `remember` noted; assets and buses are where they were by now."""
    before = n.meta[ORIGINAL]
    _restore_set_points(n, before["set_points"])
    _restore_sub_networks(n, before["sub_networks"])
    filled = {PROSUMER_CARRIER, *n.components.buses.static["carrier"]}
    for c in _classes(n):
        _restore_series(c, n.snapshots)
        _restore_static(c, before["static"].get(c.name, {}), filled)
        _restore_forms(c, before["types"].get(c.name, {}))
        dtype, label = before["labels"][c.name]
        c.static.columns = c.static.columns.astype(dtype).rename(label)
    if n.has_scenarios:
        _restore_labels(n)
    _forget_model(n, before)
    n.meta = {key: value for key, value in n.meta.items() if key not in (ORIGINAL, META)}
    if before["market"] is not None:
        n.meta[META] = before["market"]


def _restore_labels(n: pypsa.Network) -> None:
    """Labels of scenarios in the tables that grew in between, as they are in all others."""
    grew = ("Bus", "Carrier", "Link")
    others = [c.static.index for c in _classes(n) if len(c.static) and c.name not in grew]
    like = others[0].levels[0] if others else n.scenarios
    for c in map(n.components.__getitem__, grew):
        if len(c.static):
            index = in_order(c.static.index)
            labels: Any = index.levels[0].astype(like.dtype)
            c.static.index = index.set_levels(labels, level=0)


def _state(n: pypsa.Network) -> dict[str, Any]:
    """Solution, and forms of tables, of a network nothing of which is assigned yet."""
    for c in _classes(n):
        for attribute in _results(c, "varying"):
            series = c.dynamic.get(attribute)
            if series is not None and len(series.columns):
                c.dynamic[f"{attribute}{BEFORE}"] = series.copy()
    objective = objective_of(n)
    return {
        "grid_bus": {},
        "set_points": [],
        "static": {c.name: static for c in _classes(n) for static in [_static(c)] if static},
        "types": {c.name: types for c in _classes(n) for types in [_types(c)] if types},
        "labels": {c.name: _labels(c) for c in _classes(n)},
        "carriers": sorted(set(CARRIERS) & set(n.components.carriers.names)),
        "sub_networks": _sub_networks(n),
        "market": n.meta.get(META),
        "linearized": has_unit_commitment_flag(n),
        "objective": objective.value,
        "objective_constant": objective.constant,
    }


def _classes(n: pypsa.Network) -> list[Any]:
    """All classes of components; iterating over ``n.components`` leaves out empty ones."""
    return [n.components[name] for name in sorted(n.all_components)]


def _forget_model(n: pypsa.Network, before: dict[str, Any]) -> None:
    """The model, and what PyPSA notes about it."""
    set_objective(n, Objective(before["objective"], before["objective_constant"]))
    forget_model(n)
    if not before["linearized"]:
        drop_unit_commitment_flag(n)


def _results(c: Any, kind: str) -> list[str]:
    """Attributes that a solution writes: static ones, or varying ones."""
    output = c.defaults["status"].eq("Output") & c.defaults[kind].astype(bool)
    if kind == "varying":
        return [*c.defaults.index[output], *MARKET_SERIES.get(c.name, ())]
    control = ("control",) if c.name == "Generator" else ()  # by the search for slack buses
    return [*c.defaults.index[output], *MARKET_RESULTS.get(c.name, ()), *control]


def _static(c: Any) -> dict[str, Rows]:
    """By column what a solution would overwrite: results, branches' types, blank carriers."""
    noted = {}
    for column in _results(c, "static"):
        if column in c.static:
            values = c.static[column]
            noted[column] = _rows(values[values.ne(_default(c, column)) & values.notna()])
    for column in _OF_TYPE.get(c.name, ()):
        noted[column] = _rows(c.static.loc[c.static["type"] != "", column])
    if c.name in _BLANK_CARRIER:
        noted["carrier"] = _rows(c.static.loc[c.static["carrier"] == "", "carrier"])
    return {column: rows for column, rows in noted.items() if rows}


def _types(c: Any) -> dict[str, str]:
    """Types of columns that are the user's own, or not of PyPSA's type."""
    usual = c.defaults["dtype"]
    found = {str(column): str(dtype) for column, dtype in c.static.dtypes.items()}
    return {name: t for name, t in found.items() if t != str(usual.get(name, "none of PyPSA's"))}


def _labels(c: Any) -> list[Any]:
    """Type and name of the columns' labels."""
    return [str(c.static.columns.dtype), c.static.columns.name]


def _sub_networks(n: pypsa.Network) -> str:
    """Which parts of the network PyPSA has found to be sub-networks, if it has looked."""
    found = len(n.components.sub_networks.static)
    parts = n.components.buses.static["sub_network"].nunique()
    return "none" if not found else "all" if found >= parts else "connected"


def _default(c: Any, column: str) -> Any:
    return c.defaults["default"].get(column, 0.0)


def _rows(series: pd.Series) -> Rows:
    return [list(pair) for pair in zip(series.index.tolist(), series.tolist(), strict=True)]


def _values(index: pd.Index, rows: Rows) -> pd.Series:
    """Remembered values by row of a table, without those not remembered.

    What was noted before there were scenarios holds in all of them.
    """
    given = {tuple(row) if isinstance(row, (list, tuple)) else row: value for row, value in rows}
    nothing = object()
    names = index.get_level_values(NAME)
    found = [
        given.get(row, given.get(name, nothing)) for row, name in zip(index, names, strict=True)
    ]
    known = np.array([value is not nothing for value in found], dtype=bool)
    values = [value for value in found if value is not nothing]
    return pd.Series(values, index=index[known], dtype=object)


def _restore_set_points(n: pypsa.Network, rows: Rows) -> None:
    """Set points come back, but for generators that got others since."""
    c = n.components.generators
    points = _values(c.static.index, rows).astype(float)
    if len(points):
        c.static["p_set"] = c.static["p_set"].fillna(points)
    before = c.dynamic.pop(f"p_set{BEFORE}", None)
    if before is not None:
        now = c.dynamic["p_set"]
        order = before.columns.append(now.columns[~now.columns.isin(before.columns)])
        merged = pd.concat([before.loc[:, ~before.columns.isin(now.columns)], now], axis=1)
        merged = merged.reindex(columns=order)
        merged.columns = order if order.nlevels > 1 else order.astype(before.columns.dtype)
        c.dynamic["p_set"] = merged


def _restore_sub_networks(n: pypsa.Network, had: str) -> None:
    c = n.components.sub_networks
    if had != "none":
        n.determine_network_topology(skip_isolated_buses=had == "connected")
    elif len(c.static):
        n.remove("SubNetwork", list(c.static.index))


def _restore_series(c: Any, snapshots: pd.Index) -> None:
    """Series of the solution there was; none if there was none."""
    for attribute in _results(c, "varying"):
        before = c.dynamic.pop(f"{attribute}{BEFORE}", None)
        if before is not None:
            c.dynamic[attribute] = before
        elif attribute not in c.defaults.index:
            c.dynamic.pop(attribute, None)
        elif attribute in c.dynamic and len(c.dynamic[attribute].columns):
            none = c.dynamic[attribute].columns[:0]
            c.dynamic[attribute] = pd.DataFrame(index=snapshots, columns=none, dtype=float)


def _restore_static(c: Any, noted: dict[str, Rows], filled: set[str]) -> None:
    """Results, what follows from branches' types, and carriers that PyPSA `filled` in."""
    index = c.static.index
    for column in _results(c, "static"):
        if column in c.static:
            values = pd.Series([_default(c, column)] * len(index), index=index, dtype=object)
            values.update(_values(index, noted.get(column, [])))
            c.static[column] = values.infer_objects()
    for column in _OF_TYPE.get(c.name, ()):
        values = _values(index, noted.get(column, []))
        c.static.loc[values.index, column] = values.to_numpy(c.static[column].dtype)
    if c.name in _BLANK_CARRIER:
        blank = _values(index, noted.get("carrier", [])).index
        c.static.loc[index.isin(blank) & c.static["carrier"].isin(filled), "carrier"] = ""


def _restore_forms(c: Any, types: dict[str, str]) -> None:
    """Drop columns that solving adds, and give all others the types they had."""
    ours = (*MARKET_RESULTS.get(c.name, ()), *_ADDED.get(c.name, ()))
    c.static = c.static.drop(columns=[x for x in ours if x in c.static and x not in types])
    usual = c.defaults["dtype"].astype(str)
    for column, dtype in c.static.dtypes.items():
        wanted = types.get(str(column), usual.get(column, str(dtype)))
        if str(dtype) != wanted and column not in ours and not c.static[column].isna().any():
            c.static[column] = c.static[column].astype(wanted)
