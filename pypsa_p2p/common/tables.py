"""PyPSA's tables as labelled arrays, and labelled arrays into PyPSA's tables."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError, shown
from pypsa_p2p.common.files import in_order, off_default
from pypsa_p2p.common.names import NAME, PROSUMER, SCENARIO, SNAPSHOT

Numbers = np.ndarray[Any, Any]

#: Label of the one scenario of a network that has none.
ONLY_SCENARIO = "certain"


def carrier_names(n: pypsa.Network, component: str, *carriers: str) -> pd.Index:
    """Names of the active components of some carriers, in the network's order."""
    static = first_scenario(n, component)
    chosen: pd.Series = static["carrier"].isin(carriers)
    if "active" in static:
        chosen &= static["active"].astype(bool)
    return pd.Index(static.index[chosen], name=NAME, dtype=object)


def first_scenario(n: pypsa.Network, component: str) -> pd.DataFrame:
    """Static table of a component by name: that of the first scenario where there are several."""
    static = n.c[component].static
    if not n.has_scenarios or static.empty:
        return static
    if _is_product(static.index, _scenarios(n)):
        rows = static.iloc[: len(static) // len(n.scenarios)]
    else:
        rows = static[static.index.get_level_values(SCENARIO) == n.scenarios[0]]
    rows.index = rows.index.get_level_values(-1)  # of the slice, which is nobody else's
    return rows


def scenarios_and_names(n: pypsa.Network, component: str) -> pd.Index:
    """Columns of a time series of all of a class, scenario by scenario where there are several."""
    index = n.c[component].static.index
    if not n.has_scenarios or _is_product(index, _scenarios(n)):
        return index.rename([SCENARIO, NAME] if n.has_scenarios else NAME)
    names = first_scenario(n, component).index
    return pd.MultiIndex.from_product([n.scenarios, names], names=[SCENARIO, NAME])


def probabilities(n: pypsa.Network) -> xr.DataArray:
    """Probability of each scenario, dims (scenario)."""
    weights = n.scenario_weightings["weight"].to_numpy(float) if n.has_scenarios else [1.0]
    return xr.DataArray(weights, coords={SCENARIO: _scenarios(n)})


def _scenarios(n: pypsa.Network) -> pd.Index:
    labels = n.scenario_weightings.index if n.has_scenarios else [ONLY_SCENARIO]
    return pd.Index(labels, name=SCENARIO, dtype=object)


def as_numbers(component: str, table: pd.Series | pd.DataFrame, attribute: str) -> Numbers:
    """Values of one of PyPSA's tables, a static column or series, as floats in its shape.

    Raises
    ------
    DataError
        One of them is no number.
    """
    try:
        return np.asarray(table.to_numpy(float))
    except (TypeError, ValueError, OverflowError) as error:
        columns = table.to_frame().T if isinstance(table, pd.Series) else table
        for where, values in columns.items():
            for value in values[~values.map(_is_number)]:
                raise DataError(
                    f"{component} {shown(where)}: {attribute} is {shown(value)}, which is no "
                    "number. Give one."
                ) from error
        raise


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def static_values(
    n: pypsa.Network, component: str, attribute: str, names: pd.Index, default: float = 0.0
) -> xr.DataArray:
    """A numeric column of static data, dims (scenario, name); `default` where it is missing."""
    scenarios, names = _scenarios(n), _named(names)
    values = _static(n, component, attribute, scenarios, names, default)
    return xr.DataArray(values, coords={SCENARIO: scenarios, NAME: names})


def _named(names: pd.Index) -> pd.Index:
    return names if names.name == NAME else pd.Index(names, name=NAME)


def _static(
    n: pypsa.Network,
    component: str,
    attribute: str,
    scenarios: pd.Index,
    names: pd.Index,
    default: float,
) -> Numbers:
    """A numeric column of static data, (S, names); `default` where it is missing."""
    static = n.c[component].static
    if attribute not in static:
        return np.full((len(scenarios), len(names)), default)
    rows = _positions(n, static.index, scenarios, names)
    values = np.full(rows.shape, np.nan)
    values[rows >= 0] = as_numbers(component, static[attribute], attribute)[rows[rows >= 0]]
    return values


def dynamic_values(
    n: pypsa.Network,
    component: str,
    attribute: str,
    names: pd.Index,
    sns: pd.Index,
    default: float = 0.0,
) -> xr.DataArray:
    """A quantity that may vary in time, dims (scenario, snapshot, name).

    The time series where there is one, else the static value, else `default`.
    """
    values = dynamic_numbers(n, component, attribute, names, sns, default)
    return xr.DataArray(
        values, coords={SCENARIO: _scenarios(n), SNAPSHOT: sns, NAME: _named(names)}
    )


def dynamic_numbers(
    n: pypsa.Network,
    component: str,
    attribute: str,
    names: pd.Index,
    sns: pd.Index,
    default: float = 0.0,
) -> Numbers:
    """What `dynamic_values` labels, (S, T, names)."""
    scenarios = _scenarios(n)
    static = _static(n, component, attribute, scenarios, names, default)
    values = np.repeat(static[:, None, :], len(sns), axis=1)
    table = n.c[component].dynamic.get(attribute)
    if table is not None and not table.empty:
        columns = _positions(n, table.columns, scenarios, names)
        scenario, name = np.nonzero(columns >= 0)
        rows = table if sns.equals(table.index) else table.loc[sns]
        series = as_numbers(component, rows, attribute)
        if n.c[component].defaults["status"].get(attribute) == "Output":
            series = np.nan_to_num(series)  # PyPSA's files leave out series of zeros
        values[scenario, :, name] = series[:, columns[scenario, name]].T
    return values


def _positions(
    n: pypsa.Network, index: pd.Index, scenarios: pd.Index, names: pd.Index
) -> npt.NDArray[np.intp]:
    """Where (scenario, name) stand in the index of one of PyPSA's tables; -1 where nowhere.

    PyPSA lists the same names scenario by scenario, so that one scenario's names tell all
    positions; looking up each pair takes twenty times as long.
    """
    if not n.has_scenarios:
        return index.get_indexer(names)[None]
    if index.empty:
        return np.full((len(scenarios), len(names)), -1)
    if not (isinstance(index, pd.MultiIndex) and _is_product(index, scenarios)):
        pairs = pd.MultiIndex.from_product([scenarios, names])
        return index.get_indexer(pairs).reshape(len(scenarios), len(names))
    block = len(index) // len(scenarios)
    within = index[:block].get_level_values(-1).get_indexer(names)
    offset = block * np.arange(len(scenarios))[:, None]
    return np.where(within < 0, -1, within + offset)


def _is_product(index: pd.MultiIndex, scenarios: pd.Index) -> bool:
    """Whether the index is these scenarios times names.

    Not so where components were added after the scenarios had been set: they stand at the end.
    """
    if len(index) % len(scenarios):
        return False
    scenario, name = (codes.reshape(len(scenarios), -1) for codes in map(np.asarray, index.codes))
    repeated = (scenario == scenario[:, :1]).all() and (name == name[:1]).all()
    labels = index.levels[0].to_numpy(object)[scenario[:, 0]]
    return bool(repeated and (labels == scenarios.to_numpy(object)).all())


#: Attributes without effect on operation.
_NO_EFFECT = frozenset(
    {
        "active", "build_year", "capital_cost", "control", "discount_rate", "fom_cost", "length",
        "lifetime", "name", "overnight_cost", "p_nom_max", "p_nom_min", "p_nom_mod", "p_nom_opt",
        "p_nom_set", "q_set", "terrain_factor", "type", "weight",
    }
)  # fmt: skip


def unusual_attributes(
    n: pypsa.Network, component: str, allowed: Collection[str], names: pd.Index
) -> dict[str, pd.Index]:
    """Components, by attribute, that do not have PyPSA's default of it.

    `allowed` attributes, and those without effect on operation, are not looked at.
    """
    c, found = n.c[component], {}
    of_row = names.get_indexer(c.static.index.get_level_values(-1))
    for attribute, default in sorted(_input_defaults(c).items()):
        if attribute in allowed or attribute in _NO_EFFECT:
            continue
        odd = np.zeros(len(names), dtype=bool)
        if attribute in c.static:
            unusual = ~_is_default(c.static[attribute], default)
            odd[of_row[unusual & (of_row >= 0)]] = True
        table = c.dynamic.get(attribute)
        if table is not None and len(table.columns):
            odd |= names.isin(table.columns.get_level_values(-1))
        if odd.any():
            found[attribute] = names[odd]
    return found


def _input_defaults(c: Any) -> dict[str, Any]:
    """PyPSA's default of every input of a class of components."""
    is_input = [status.startswith("Input") for status in c.defaults["status"]]
    return dict(zip(c.defaults.index[is_input], c.defaults["default"][is_input], strict=True))


def _is_default(column: pd.Series, default: Any) -> Numbers:
    """Where a column holds the default; a missing value where that is missing is one."""
    values = column.to_numpy()
    if values.dtype.kind in "fiub" and isinstance(default, int | float):
        return (values == default) | (np.isnan(values) & np.isnan(default))
    usual: pd.Series = (column == default) | (column.isna() & pd.isna(default))
    return usual.to_numpy(bool)


def remove(n: pypsa.Network, component: str, names: Collection[str]) -> None:
    """Take components out in all scenarios, which PyPSA's own `remove` does from 1.4 on."""
    c = n.components[component]
    c.static = c.static[~c.static.index.get_level_values(NAME).isin(names)]
    for attribute, table in c.dynamic.items():
        here = table.columns.get_level_values(-1).isin(names)
        if here.any():
            c.dynamic[attribute] = table.loc[:, ~here]


def by_scenario(n: pypsa.Network, component: str) -> None:
    """Put what was added after the scenarios beside the others of its own: PyPSA's files ask it."""
    c = n.components[component]
    if n.has_scenarios and len(c.static):
        names = pd.unique(c.static.index.get_level_values(-1))
        order = pd.MultiIndex.from_product([n.scenarios, names], names=[SCENARIO, NAME])
        c.static = c.static.reindex(order)
        c.static.index = in_order(c.static.index)


def write(
    n: pypsa.Network, component: str, attribute: str, labels: pd.Index, array: xr.DataArray
) -> None:
    """Put an array into PyPSA's tables: static where it is constant, dynamic where it varies.

    `labels` are the components, in the order of the array's prosumers. Where a value varies, the
    static entry is PyPSA's default, as after `n.add`.
    """
    values = _dense(n, labels, array)
    constant = (values == values[:1, :1]).all(axis=(0, 1))
    default = n.components[component].defaults.at[attribute, "default"]
    _set_column(n, component, attribute, labels, np.where(constant, values[0, 0], default))
    _write_dynamic(n, component, attribute, labels, values, ~constant)


def write_series(
    n: pypsa.Network, component: str, attribute: str, labels: pd.Index, array: xr.DataArray
) -> None:
    """Put an array into the dynamic table, also where it is constant."""
    everywhere = np.ones(len(labels), dtype=bool)
    _write_dynamic(n, component, attribute, labels, _dense(n, labels, array), everywhere)


def write_static(
    n: pypsa.Network, component: str, attribute: str, labels: pd.Index, array: xr.DataArray
) -> None:
    """Put an array without snapshots into the static table."""
    _set_column(n, component, attribute, labels, _dense(n, labels, array)[:, 0])


def _set_column(
    n: pypsa.Network,
    component: str,
    attribute: str,
    labels: pd.Index,
    values: Numbers,
) -> None:
    """Values by label, or scenario x label, into a static column."""
    static = n.components[component].static
    shape = (max(len(n.scenarios), 1), len(labels))
    column = static[attribute].to_numpy(copy=True)
    column[static.index.get_indexer(_columns(n, labels))] = np.broadcast_to(values, shape).ravel()
    static[attribute] = column


def _columns(n: pypsa.Network, labels: pd.Index) -> pd.Index:
    if n.has_scenarios:
        return pd.MultiIndex.from_product([n.scenarios, labels], names=[SCENARIO, NAME])
    return labels.rename(NAME)


def _dense(n: pypsa.Network, labels: pd.Index, array: xr.DataArray) -> Numbers:
    """The array as scenario x snapshot x label."""
    sizes = {
        SCENARIO: max(len(n.scenarios), 1),
        SNAPSHOT: len(n.snapshots),
        PROSUMER: len(labels),
    }
    present = [dimension for dimension in sizes if dimension in array.dims]
    shape = [sizes[dimension] if dimension in present else 1 for dimension in sizes]
    values = array.transpose(*present).to_numpy().reshape(shape)
    return np.broadcast_to(values, tuple(sizes.values()))


def _write_dynamic(
    n: pypsa.Network,
    component: str,
    attribute: str,
    labels: pd.Index,
    values: Numbers,
    varying: Numbers,
) -> None:
    """Replace the columns of `labels` by those of the labels that vary."""
    dynamic = n.components[component].dynamic
    kept = dynamic.get(attribute)
    if kept is not None:
        kept = kept.loc[:, ~kept.columns.isin(_columns(n, labels))]
    columns = _columns(n, labels[varying])
    block = values[:, :, varying].transpose(1, 0, 2).reshape(len(n.snapshots), len(columns))
    defaults = n.components[component].defaults["default"]
    if n.has_scenarios and pd.notna(defaults.get(attribute)):
        block = off_default(block, float(defaults[attribute]))
    added = pd.DataFrame(block, index=n.snapshots, columns=columns)
    joined = added if kept is None or kept.shape[1] == 0 else pd.concat([kept, added], axis=1)
    dynamic[attribute] = joined
