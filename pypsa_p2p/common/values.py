"""Every accepted form of data as a labelled array."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common import names
from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.tables import Numbers, by_scenario

Value = (
    float
    | Sequence[float]
    | Numbers
    | pd.Index
    | Mapping[str, float]
    | pd.Series
    | pd.DataFrame
    | xr.DataArray
)
"""What a user may give for one quantity; see `as_array`."""

Coordinates = Mapping[str, pd.Index]
"""Dimensions a quantity may have, in order, with the labels of each."""

Labels = Mapping[str, Any]
"""An Index of each dimension a value has; None where it is in the order of those it will meet."""

COLORS = {
    names.PROSUMER_CARRIER: "#33658a",
    names.TRADE_CARRIER: "#f26419",
    names.ELASTIC_DEMAND_CARRIER: "#86bbd8",
    names.GENERATION_CARRIER: "#758e4f",
    names.RENEWABLE_CARRIER: "#f6ae2d",
    names.DEMAND_BID_CARRIER: "#5d9cc2",
    names.SUPPLY_BID_CARRIER: "#97a978",
    names.RETAIL_IMPORT_CARRIER: "#8b5a8c",
    names.RETAIL_EXPORT_CARRIER: "#c9a2ca",
    names.IMBALANCE_CARRIER: "#a23b3b",
}


def as_array(value: object, argument: str, coordinates: Coordinates) -> xr.DataArray:
    """One quantity as an array of finite numbers, aligned by label.

    Parameters
    ----------
    value
        Scalar; sequence (list, tuple, one-dimensional numpy array or Index) in the order of the
        last dimension; mapping or Series by the labels of the last dimension; DataFrame snapshot x
        last dimension; DataArray with any of the dimensions. Labels may come in any order.
    argument
        Name of the argument, for messages.
    coordinates
        The dimensions allowed, in order, each with the labels it must have.

    Returns
    -------
    DataArray of float whose dimensions are a subset of `coordinates`, in that order: those that
    `value` has. Labels are in the order of `coordinates`. Units are those of `value`.

    Raises
    ------
    DataError
        A form, dimension, length or label that does not fit; text, booleans, NaN or infinity.

    Examples
    --------
    >>> import pandas as pd
    >>> as_array({"b": 2, "a": 1}, "demand", {"prosumer": pd.Index(["a", "b"])}).values
    array([1., 2.])
    """
    return _numbers(aligned(value, f"Argument {argument}", coordinates), argument)


def as_text(value: object, argument: str, dimension: str, labels: pd.Index) -> pd.Series:
    """Text by label, from one text, a sequence, a mapping or a Series; see `as_array`."""
    array = aligned(value, f"Argument {argument}", {dimension: labels})
    wrong = [not isinstance(text, str) for text in array.to_numpy().flat]
    bad = array.copy(data=np.reshape(np.array(wrong, dtype=bool), array.shape))
    refuse(bad, f"{argument} is not text", 'give a name, or ""')
    return pd.Series(np.broadcast_to(array.to_numpy(), len(labels)), index=labels, dtype=object)


def aligned(value: object, what: str, coordinates: Coordinates) -> xr.DataArray:
    """The values as they are, with the labels and the order of `coordinates`.

    `what` opens the messages of errors, as "Argument demand".
    """
    values, labels = read_form(value, what, tuple(coordinates))
    for axis, (dimension, given) in enumerate(labels.items()):
        expected = coordinates[dimension]
        if given is None:
            _require_length(len(values), expected, what, dimension)
        else:
            order = _positions(given, expected, what, dimension)
            values = np.take(values, order, axis=axis)
    array = labelled(values, {dimension: coordinates[dimension] for dimension in labels})
    return array.transpose(*[dimension for dimension in coordinates if dimension in labels])


def read_form(
    value: object, what: str, dimensions: Sequence[str], rows: str | None = names.SNAPSHOT
) -> tuple[Numbers, Labels]:
    """Values as they were given, and the labels, each once, of every dimension they have.

    Of the `dimensions` allowed, the last is that of sequences, mappings, Series and columns;
    `rows` is that of the rows of a DataFrame, which is refused where there is none.
    """
    values, labels = _parts(scalar(value), what, dimensions, rows)
    unknown = [dimension for dimension in labels if dimension not in dimensions]
    if unknown:
        raise DataError(
            f"{what} has the dimension {listed(unknown)}, but may only have "
            f"{listed(dimensions) or 'none'}: select along it, or rename it."
        )
    return values, {key: _distinct(index, what, key) for key, index in labels.items()}


def labelled(values: Numbers, coordinates: Coordinates) -> xr.DataArray:
    """A DataArray with these dimensions and labels; snapshots may be (period, timestep)."""
    array = xr.DataArray(values, dims=list(coordinates))
    for dimension, index in coordinates.items():
        if isinstance(index, pd.MultiIndex):
            array = array.assign_coords(xr.Coordinates.from_pandas_multiindex(index, dimension))
        else:
            # PyPSA keeps names as objects; text dtypes differ between versions of pandas.
            plain = index.astype(object) if pd.api.types.is_string_dtype(index.dtype) else index
            array = array.assign_coords({dimension: plain.rename(dimension)})
    return array


def refuse(bad: xr.DataArray, problem: str, remedy: str) -> None:
    """Raise DataError naming the labels where `bad` is true, if there are any.

    `problem` opens with the name of an argument; `remedy` says what to do.
    """
    if not bool(bad.any()):
        return
    places = []
    for dimension in sorted(map(str, bad.dims)):
        found = bad.any([other for other in bad.dims if other != dimension]).to_numpy()
        places.append(f"{dimension} {listed(bad.indexes[dimension][found])}")
    where = f" ({'; '.join(places)})" if places else ""
    raise DataError(f"Argument {problem}{where}: {remedy}.")


def as_names(value: object, what: str) -> pd.Index:
    """Names as an Index of distinct, non-empty text; a single text is one name."""
    found = [value] if isinstance(value, str) else value
    if isinstance(found, (Mapping, Set)) or not isinstance(found, Iterable):
        raise DataError(
            f"Argument {what} must be names in order, such as a list, not {shown(value)}."
        )
    found = list(found)
    if not found:
        raise DataError(f"Argument {what} is empty: give at least one name.")
    wrong = [name for name in found if not isinstance(name, str) or not name]
    if wrong:
        raise DataError(
            f"Argument {what} must be non-empty text, not {listed(wrong)}: use str(name)."
        )
    index = pd.Index([str(name) for name in found], dtype=object)
    if not index.is_unique:
        repeated = listed(index[index.duplicated()].unique())
        raise DataError(f"Argument {what} repeats {repeated}: name each once.")
    return index


def scalar(value: Any) -> Any:
    """A single value that numpy or xarray hold as Python's; all else as it is.

    An integer beyond all floats is infinite, as it is where anything is counted with it.
    """
    held = isinstance(value, np.generic | np.ndarray | xr.DataArray) and np.ndim(value) == 0
    found = value.item() if held else value
    if isinstance(found, int) and abs(found) > sys.float_info.max:
        return math.inf if found > 0 else -math.inf
    return found


def is_sequence(value: object) -> TypeGuard[Sequence[Any] | Numbers | pd.Index]:
    """Whether a value is several in order: a list, a tuple, an array, an Index; no text."""
    forms = (Sequence, pd.Index, np.ndarray)
    return isinstance(value, forms) and not isinstance(value, (str, bytes))


def _forms(dimensions: Sequence[str], rows: str | None) -> str:
    """What to give where a form is none of those accepted."""
    if not dimensions:
        return "give one number"
    frame = f"a DataFrame {rows} x {dimensions[-1]}, " if rows in dimensions[:-1] else ""
    return (
        f"give a number, a sequence in order, a mapping or Series by {dimensions[-1]}, {frame}"
        "or a DataArray with labelled dimensions"
    )


def _parts(
    value: Any, what: str, dimensions: Sequence[str], rows: str | None
) -> tuple[Numbers, Labels]:
    """What `read_form` returns, unchecked."""
    last = dimensions[-1] if dimensions else names.PROSUMER
    match value:
        case xr.DataArray():
            return value.to_numpy(), _array_labels(value, what)
        case pd.DataFrame() if rows is not None:
            return value.to_numpy(), {rows: value.index, last: value.columns}
        case pd.Series():
            return value.to_numpy(), {last: value.index}
        case Mapping():
            keys = pd.Index(list(value), dtype=object, tupleize_cols=False)
            return _objects(value.values()), {last: keys}
        case Real() | str():
            return np.asarray(value, dtype=object), {}
        case _ if is_sequence(value):
            return _sequence(value, what, dimensions), {last: None}
    kind = "a DataFrame" if isinstance(value, pd.DataFrame) else shown(value)
    raise DataError(f"{what} is {kind}: {_forms(dimensions, rows)}.")


def _objects(values: Iterable[object]) -> Numbers:
    """A one-dimensional array of the values as they are, whatever they are."""
    found = list(values)
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array


def _array_labels(array: xr.DataArray, what: str) -> Labels:
    unlabelled = [dimension for dimension in array.dims if dimension not in array.indexes]
    if unlabelled:
        raise DataError(
            f"{what} has no labels along {listed(unlabelled)}: "
            "add them with assign_coords, so that values meet the right names."
        )
    return {str(dimension): array.indexes[dimension] for dimension in array.dims}


def _sequence(
    value: Sequence[object] | Numbers | pd.Index, what: str, dimensions: Sequence[str]
) -> Numbers:
    """The values of a sequence along the last dimension."""
    if not dimensions:
        raise DataError(f"{what} must be one number, not a sequence.")
    if isinstance(value, np.ndarray) and value.ndim > 1:
        forms = _forms(dimensions, names.SNAPSHOT)
        raise DataError(f"{what} is an array of shape {value.shape} without labels: {forms}.")
    return value if isinstance(value, np.ndarray) else _objects(value)


def _distinct(labels: pd.Index | None, what: str, dimension: str) -> pd.Index | None:
    """The labels, each once; those of scenarios as text, as PyPSA's set_scenarios has them."""
    if labels is None:
        return None
    if dimension == names.SCENARIO:
        if any(isinstance(label, tuple) for label in labels):
            raise DataError(f"{what} has tuples along {dimension!r}: give text or numbers.")
        labels = labels.map(str)
    if not labels.is_unique:
        repeated = listed(labels[labels.duplicated()].unique())
        raise DataError(f"{what} repeats {dimension} {repeated}: give each once.")
    return labels


def _require_length(length: int, expected: pd.Index, what: str, dimension: str) -> None:
    if length != len(expected):
        there = "is 1 label" if len(expected) == 1 else f"are {len(expected)} labels"
        raise DataError(
            f"{what} has {length} values, but there {there} of {dimension!r} "
            f"({listed(expected)}): give one value for each, or a mapping by name."
        )


def _positions(given: pd.Index, expected: pd.Index, what: str, dimension: str) -> Numbers:
    """Where each expected label stands among the given ones, which must be the same set."""
    if given.nlevels != expected.nlevels:
        raise DataError(
            f"{what} has {given.nlevels} levels of labels along {dimension!r}, "
            f"the network has {expected.nlevels}: give labels of as many."
        )
    order = given.get_indexer(expected)
    missing, unknown = expected[order < 0], given[~np.isin(np.arange(len(given)), order)]
    told = [f"lacks {listed(missing)}"] if len(missing) else []
    told += [f"has the unknown {listed(unknown)}"] if len(unknown) else []
    if told:
        raise DataError(
            f"{what} {' and '.join(told)} along {dimension!r}: "
            "give a value for every label, and for no other."
        )
    return order


def _numbers(array: xr.DataArray, argument: str) -> xr.DataArray:
    """The array as float, refusing what is no finite number."""
    kind = array.dtype.kind
    if kind == "O":
        flat = [isinstance(v, Real) and not isinstance(v, bool) for v in array.to_numpy().flat]
        wrong = ~np.array(flat, dtype=bool).reshape(array.shape)
    else:
        wrong = np.full(array.shape, kind not in "iuf")
    refuse(array.copy(data=wrong), f"{argument} is not a number", "give numbers, no text or bool")
    array = array.astype(float)
    infinite = array.copy(data=~np.isfinite(array.to_numpy()))
    refuse(infinite, f"{argument} is NaN or infinite", "give finite numbers")
    return array


def require_network(n: object) -> None:
    """Refuse anything but a `pypsa.Network`."""
    if not isinstance(n, pypsa.Network):
        raise DataError(f"Argument n must be a pypsa.Network, not a {type(n).__name__}.")


def require_free(n: pypsa.Network, component: str, wanted: pd.Index) -> None:
    """Refuse names that a component of this class already has."""
    used = wanted[wanted.isin(n.components[component].names)]
    if len(used):
        raise DataError(f"{component} {listed(used)} exists already: choose other names.")


def coordinates_of(n: pypsa.Network, prosumers: pd.Index) -> dict[str, pd.Index]:
    """The dimensions that data of these prosumers may have on this network."""
    scenarios = {names.SCENARIO: n.scenarios} if n.has_scenarios else {}
    return {**scenarios, names.SNAPSHOT: n.snapshots, names.PROSUMER: prosumers}


def add_carriers(n: pypsa.Network, carriers: Sequence[str]) -> None:
    """Add the carriers the network does not have yet, with a colour."""
    known = n.components.carriers.names
    missing = [carrier for carrier in carriers if carrier not in known]
    if missing:
        n.add("Carrier", missing, color=[COLORS[carrier] for carrier in missing])
        by_scenario(n, "Carrier")


def is_hashable(value: object) -> bool:
    """Whether a value has a hash: one with fields of the user's own may hold what has none."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
