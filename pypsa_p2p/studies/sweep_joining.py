"""The outcomes of all points of a sweep in one labelled dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.studies.sweep_figures import FIGURES, OF_CONTRACTS, Figures, described
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
    variables: dict[str, Any] = {} if found else _nothing(shape, list(swept))
    for figures in found.values():
        for name in figures.values:
            if name not in variables:
                variables[name] = _stacked(name, found, shape, labels, list(swept))
    variables[ERROR] = xr.DataArray(
        errors, dims=list(swept), attrs={"long_name": 'why there is no solution, "" if there is'}
    )
    coordinates = {**swept, **labels}
    used = {dim for array in variables.values() for dim in array.dims}
    return xr.Dataset(variables, coords={d: v for d, v in coordinates.items() if d in used})


def _nothing(shape: tuple[int, ...], swept: list[str]) -> dict[str, xr.DataArray]:
    """Figures of a sweep in which no point has a solution."""
    return {
        name: xr.DataArray(np.full(shape, np.nan), dims=swept, attrs=described(name))
        for name in FIGURES
        if name not in OF_CONTRACTS
    }


def _labels(figures: Iterable[Figures]) -> dict[str, pd.Index]:
    """Labels of every inner dimension at any point, in order of appearance."""
    labels: dict[str, pd.Index] = {}
    for one in figures:
        for dimension, index in one.labels.items():
            known = labels.setdefault(dimension, index)
            if known is not index and not known.equals(index):
                labels[dimension] = pd.Index(list(dict.fromkeys([*known, *index])))
    return labels


def _stacked(
    name: str,
    found: Mapping[tuple[int, ...], Figures],
    shape: tuple[int, ...],
    labels: Mapping[str, pd.Index],
    swept: list[str],
) -> xr.DataArray:
    """One variable over the swept dimensions and its own."""
    having = {place: figures for place, figures in found.items() if name in figures.values}
    own, _ = next(iter(having.values())).values[name]
    stacked = np.full((*shape, *(len(labels[dimension]) for dimension in own)), np.nan)
    for place, figures in having.items():
        values = figures.values[name][1]
        if all(figures.labels[dim].equals(labels[dim]) for dim in own):
            stacked[place] = values
        else:
            where = [labels[dim].get_indexer(figures.labels[dim]) for dim in own]
            stacked[place][np.ix_(*where)] = values
    return xr.DataArray(stacked, dims=[*swept, *own], attrs=described(name))
