"""The outcomes of all points of a sweep in one labelled dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.studies.sweep_points import Outcome

ERROR: Final = "error"


def joined(dimensions: Mapping[str, Mapping[Any, Any]], outcomes: list[Outcome]) -> xr.Dataset:
    """All outcomes in one dataset; labels that a point does not have are NaN there."""
    shape = tuple(len(values) for values in dimensions.values())
    swept = {name: list(values) for name, values in dimensions.items()}
    errors = np.array([outcome.error for outcome in outcomes], dtype=object).reshape(shape)
    found = {
        place: outcome.figures
        for place, outcome in zip(np.ndindex(shape), outcomes, strict=True)
        if outcome.figures is not None
    }
    labels = _labels(found.values())
    variables: dict[str, Any] = {}
    for figures in found.values():
        for name, array in figures.data_vars.items():
            if str(name) not in variables:
                variables[str(name)] = _stacked(str(name), array, found, shape, labels, list(swept))
    variables[ERROR] = xr.DataArray(
        errors, dims=list(swept), attrs={"long_name": 'why there is no solution, "" if there is'}
    )
    coordinates = {**swept, **labels}
    used = {dim for array in variables.values() for dim in array.dims}
    return xr.Dataset(variables, coords={d: v for d, v in coordinates.items() if d in used})


def _labels(figures: Iterable[xr.Dataset]) -> dict[str, pd.Index]:
    """Labels of every inner dimension at any point, in order of appearance."""
    labels: dict[str, dict[Any, None]] = {}
    for dataset in figures:
        for dimension, index in dataset.indexes.items():
            labels.setdefault(str(dimension), {}).update(dict.fromkeys(index))
    return {dimension: pd.Index(list(found)) for dimension, found in labels.items()}


def _stacked(
    name: str,
    first: xr.DataArray,
    found: Mapping[tuple[int, ...], xr.Dataset],
    shape: tuple[int, ...],
    labels: Mapping[str, pd.Index],
    swept: list[str],
) -> xr.DataArray:
    """One variable over the swept dimensions and its own."""
    own = [str(dimension) for dimension in first.dims]
    values = np.full((*shape, *(len(labels[dimension]) for dimension in own)), np.nan)
    for place, figures in found.items():
        if name in figures:
            where = [labels[dim].get_indexer(figures.indexes[dim]) for dim in own]
            if own:
                values[place][np.ix_(*where)] = figures[name].transpose(*own).to_numpy()
            else:
                values[place] = figures[name].item()
    return xr.DataArray(values, dims=[*swept, *own], attrs=first.attrs)
