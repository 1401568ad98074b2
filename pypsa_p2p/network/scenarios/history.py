"""Scenarios from history: days on record reduced to a few representative ones."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import DataError, P2PError, listed
from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.network.scenarios.copula import NUMBER, SEED

DAY: Final = "day"

Array = np.ndarray[Any, Any]

_STARTS: Final = 10  # of k-means, of which the best is kept
_DECIMALS: Final = 9  # to which days are told apart, every variable's variance being 1


def scenarios_from_history(
    data: xr.Dataset | pd.DataFrame,
    *,
    number: int,
    seed: int = 0,
    snapshots: pd.Index | None = None,
) -> tuple[pd.Series, xr.Dataset]:
    r"""Reduce days on record to `number` of them, with probabilities.

    .. math:: \min \sum_d \lVert x_d - c_{k(d)} \rVert^2, \qquad
        p_k = \lvert \{d : k(d) = k\} \rvert / \lvert \{d\} \rvert

    scikit-learn's k-means finds clusters of days. A cluster is represented by the real day in it
    that is nearest to its centre c, so that what happens at the same time stays together, and its
    probability is the cluster's share of the days. In x every variable is divided by the root of
    its variance between days, summed over its snapshots and prosumers: all variables count alike,
    whatever their units and numbers of prosumers, and within one of them its MW count as they are.

    Parameters
    ----------
    data : xarray.Dataset or DataFrame
        Variables named as in `set_scenarios`, in their units. As Dataset: over day, or over day
        and any of snapshot and prosumer; or, as long series, over snapshot (times) and perhaps
        prosumer. As DataFrame: a DatetimeIndex, and columns (variable, prosumer), or plain names
        of variables (or prosumer "") for what all prosumers share; `pd.concat` of a mapping from
        variables to DataFrames, with axis=1, is one. Long series are cut into calendar days, in
        the time zone they are in.
    number : int
        How many scenarios, at most as many as there are different days.
    seed : int, default 0
        Of k-means; the same seed gives the same scenarios.
    snapshots : Index, optional
        Labels of the network's snapshots, one for each step of a day. Default: the Dataset's own
        along snapshot, else 0, 1, ...: then use ``n.set_snapshots(data.indexes["snapshot"])``.

    Returns
    -------
    probability : Series (scenario)
        Its labels are those of the days ("2030-01-31"), in the order of `data`.
    data : xarray.Dataset
        The same variables over scenario instead of day, ready for `set_scenarios`. The coordinate
        ``representative`` (day) tells the scenario that stands for each day. ``attrs``:
        ``variance_explained``, the share of the variance of x that lies between clusters, from 0
        to 1. ``attrs`` of each variable: ``mean_of_history`` and ``mean_error``, the expectation
        of the scenarios less that mean, in the variable's unit. Means are not forced to agree.

    Raises
    ------
    DataError
        More clusters than different days, missing values, days that lack times or have other
        times than most, dimensions or labels that do not fit. Days are named.
    P2PError
        scikit-learn is not installed.

    Examples
    --------
    Half a year of wind, whose price falls with it, as four days:

    >>> times = pd.date_range("2030-01-01", periods=24 * 180, freq="h")
    >>> days = np.random.default_rng(1).uniform(0, 8, 180).repeat(24)
    >>> history = pd.DataFrame(
    ...     {("renewable", "farm"): days, ("import_price", ""): 50 - 3 * days}, index=times)
    >>> probability, data = scenarios_from_history(history, number=4)
    >>> dict(data.renewable.sizes), data.import_price.dims
    ({'scenario': 4, 'snapshot': 24, 'prosumer': 1}, ('scenario', 'snapshot'))
    >>> round(float(probability.sum()), 6), round(data.attrs["variance_explained"], 2)
    (1.0, 0.94)

    They become a network's scenarios:

    >>> import pypsa
    >>> import pypsa_p2p as p2p
    >>> n = pypsa.Network(snapshots=data.indexes["snapshot"])
    >>> p2p.add_prosumers(n, ["farm"], demand=5, demand_max=9, utility_quadratic=1)
    >>> p2p.set_scenarios(n, probability, data)
    >>> len(n.scenarios)
    4
    """
    NUMBER.require("number", number, error=DataError)
    SEED.require("seed", seed, error=DataError)
    days = _labelled(_cut(_as_dataset(data)), snapshots)
    _check_numbers(days)
    scaled = _scaled(days)
    different = len(np.unique(scaled.round(_DECIMALS), axis=0))
    if number > different:
        raise DataError(
            f"number is {number}, but the history has only {different} different days: ask for at "
            "most as many scenarios, or give more days."
        )
    cluster, centres = _clusters(scaled, number, seed)
    chosen = _nearest_members(scaled, cluster, centres)
    return _scenarios(days, chosen, cluster, _explained(scaled, cluster, centres))


def _as_dataset(data: object) -> xr.Dataset:
    """The history as variables with labelled dimensions."""
    if isinstance(data, pd.DataFrame):
        data = _from_frame(data)
    if not isinstance(data, xr.Dataset):
        raise DataError(
            f"The history is a {type(data).__name__}: give an xarray.Dataset, or a DataFrame with "
            "a DatetimeIndex."
        )
    if not data.data_vars:
        raise DataError("The history has no variable. Give at least one, such as demand.")
    return data


def _from_frame(frame: pd.DataFrame) -> xr.Dataset:
    """Columns (variable, prosumer), or variable alone, as variables over snapshot."""
    if frame.columns.nlevels > 2:
        raise DataError("Columns of the history must be (variable, prosumer), or variables.")
    keys = [key if isinstance(key, tuple) else (key, "") for key in frame.columns]
    if len(set(keys)) < len(keys):
        raise DataError("The history repeats columns: give each variable and prosumer once.")
    prosumers = list(dict.fromkeys(prosumer for _, prosumer in keys if prosumer != ""))
    variables: dict[str, tuple[tuple[str, ...], Any]] = {}
    for variable in dict.fromkeys(variable for variable, _ in keys):
        of_variable = [prosumer for name, prosumer in keys if name == variable]
        if of_variable == [""]:
            variables[variable] = ((SNAPSHOT,), frame.iloc[:, keys.index((variable, ""))])
        elif set(of_variable) == set(prosumers):
            columns = [keys.index((variable, prosumer)) for prosumer in prosumers]
            variables[variable] = ((SNAPSHOT, PROSUMER), frame.iloc[:, columns].to_numpy())
        else:
            raise DataError(
                f"Variable {variable!r} of the history is for prosumers {listed(of_variable)}, "
                f"others for {listed(prosumers)}. Give all of them for each, with 0 where there is "
                'nothing; what everyone shares has the one prosumer "".'
            )
    coordinates = {SNAPSHOT: pd.Index(frame.index, name=SNAPSHOT)}
    if prosumers:
        coordinates[PROSUMER] = pd.Index(prosumers, dtype=object)
    return xr.Dataset(variables, coords=coordinates)


def _cut(history: xr.Dataset) -> xr.Dataset:
    """The history by day and step of the day: long series are cut at midnight."""
    allowed = (DAY, SNAPSHOT, PROSUMER)
    strange = [str(dim) for dim in history.dims if dim not in allowed]
    if strange:
        raise DataError(
            f"The history has the dimension {listed(strange)}, but may only have {listed(allowed)}."
        )
    along = DAY if DAY in history.dims else SNAPSHOT
    without = [str(name) for name in history.data_vars if along not in history[name].dims]
    if without:
        raise DataError(
            f"Variable {listed(without)} of the history has no dimension {along!r}: what is the "
            "same every day is no scenario. Leave it out."
        )
    if along == DAY:
        return history
    times = history.indexes.get(SNAPSHOT)
    if not isinstance(times, pd.DatetimeIndex):
        raise DataError(
            "A history without the dimension 'day' needs times (a DatetimeIndex) to be cut into "
            "days. Set its index by pd.to_datetime."
        )
    return _by_day(history, times)


def _by_day(history: xr.Dataset, times: pd.DatetimeIndex) -> xr.Dataset:
    """Long series by day and step of the day, where all days have the same times."""
    if times.hasnans or not times.is_monotonic_increasing:
        raise DataError("Times of the history are missing or out of order. Sort by them.")
    day = times.normalize()
    dates = day.unique()
    clock = pd.Series(times.tz_localize(None) - day.tz_localize(None))
    of_day = clock.groupby(day.strftime("%Y-%m-%d").to_numpy()).agg(tuple)
    usual = of_day.mode().iloc[0]
    odd = of_day.index[of_day != usual]
    if len(odd):
        raise DataError(
            f"Days {listed(odd)} of the history lack times or have other times than most days, "
            f"which have {len(usual)}. Fill or leave out these days; with daylight saving time, "
            "use tz_convert('UTC') or a fixed offset first."
        )
    shape = (len(dates), len(usual))
    split = history.drop_vars(SNAPSHOT)
    return xr.Dataset(
        {
            name: ((DAY, SNAPSHOT, *rest), values.reshape(*shape, *values.shape[1:]))
            for name, array in split.data_vars.items()
            for rest in [[dim for dim in array.dims if dim != SNAPSHOT]]
            for values in [array.transpose(SNAPSHOT, *rest).to_numpy()]
        },
        coords={DAY: of_day.index.to_numpy(object), **split.coords},
    )


def _labelled(days: xr.Dataset, snapshots: Any) -> xr.Dataset:
    """With labels along all dimensions: text of the days, the network's snapshots."""
    if PROSUMER in days.dims and PROSUMER not in days.indexes:
        raise DataError("The history has no labels along 'prosumer': assign_coords their names.")
    if not days.sizes[DAY]:
        raise DataError("The history has no day. Give at least one.")
    labels = days.indexes.get(DAY, pd.RangeIndex(days.sizes[DAY]))
    if isinstance(labels, pd.DatetimeIndex) and (labels == labels.normalize()).all():
        labels = labels.strftime("%Y-%m-%d")
    text = pd.Index([str(label) for label in labels], dtype=object)
    if not text.is_unique:
        raise DataError(f"Days {listed(text[text.duplicated()].unique())} of the history repeat.")
    days = days.assign_coords({DAY: text})
    if SNAPSHOT not in days.dims:
        return days
    steps = days.sizes[SNAPSHOT]
    given = days.indexes.get(SNAPSHOT, pd.RangeIndex(steps)) if snapshots is None else snapshots
    index = pd.Index(given, name=SNAPSHOT)
    if len(index) != steps:
        raise DataError(
            f"snapshots has {len(index)} labels, but a day of the history has {steps} steps: give "
            "one label for each, such as n.snapshots."
        )
    return days.assign_coords({SNAPSHOT: index})


def _check_numbers(days: xr.Dataset) -> None:
    """Refuse what is no finite number, naming the days."""
    for name, array in days.data_vars.items():
        if array.dtype.kind not in "iuf":
            raise DataError(f"Variable {name!r} of the history is not made of numbers.")
        finite = xr.apply_ufunc(np.isfinite, array)
        gaps = (~finite).any([dim for dim in array.dims if dim != DAY])
        if bool(gaps.any()):
            raise DataError(
                f"Variable {name!r} of the history has missing or infinite values on days "
                f"{listed(days.indexes[DAY][gaps.to_numpy()])}. Fill them or leave out these days."
            )


def _scaled(days: xr.Dataset) -> Array:
    """x: what is known of each day, every variable with total variance 1; (days, features)."""
    columns = []
    for array in days.data_vars.values():
        values = array.transpose(DAY, ...).to_numpy().astype(float).reshape(days.sizes[DAY], -1)
        centred = values - values.mean(axis=0)
        variance = centred.var(axis=0).sum()
        varies = variance > ACCURACY.rounding**2 * (values**2).mean(axis=0).sum()
        columns.append(centred / np.sqrt(variance) if varies else 0.0 * centred)
    return np.concatenate(columns, axis=1)


def _clusters(scaled: Array, number: int, seed: int) -> tuple[Array, Array]:
    """The cluster of each day, (days,), and the clusters' centres, (number, features)."""
    try:
        from sklearn.cluster import KMeans  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise P2PError(
            "Scenarios from history need scikit-learn, which is not installed: "
            'pip install "pypsa-p2p[scenarios]".'
        ) from error
    found = KMeans(n_clusters=number, n_init=_STARTS, random_state=seed).fit(scaled)
    return np.asarray(found.labels_), np.asarray(found.cluster_centers_)


def _nearest_members(scaled: Array, cluster: Array, centres: Array) -> Array:
    """Position of the day nearest to each centre among its cluster's, (number,)."""
    distance = ((scaled - centres[cluster]) ** 2).sum(axis=1)
    nearest = pd.Series(distance).groupby(cluster).idxmin()
    return nearest.sort_index().to_numpy()


def _explained(scaled: Array, cluster: Array, centres: Array) -> float:
    """Share of the variance that lies between clusters; 1 where there is none at all."""
    total = float((scaled**2).sum())
    within = float(((scaled - centres[cluster]) ** 2).sum())
    return 1.0 - within / total if total > 0 else 1.0


def _scenarios(
    days: xr.Dataset, chosen: Array, cluster: Array, explained: float
) -> tuple[pd.Series, xr.Dataset]:
    """Probabilities and data of the representative days, in the order of the days."""
    labels = days.indexes[DAY]
    order = np.sort(chosen)
    names = pd.Index(labels[order].to_numpy(object), name=SCENARIO, dtype=object)
    share = np.bincount(cluster) / len(cluster)
    probability = pd.Series(share[cluster[order]], index=names, name="probability")
    data = days.isel({DAY: order}).rename({DAY: SCENARIO}).assign_coords({SCENARIO: names})
    for name, array in data.data_vars.items():
        mean = float(days[name].mean())
        expected = array.mean([dim for dim in array.dims if dim != SCENARIO])
        error = float((expected.to_numpy() * probability.to_numpy()).sum()) - mean
        array.attrs |= {"mean_of_history": mean, "mean_error": error}
    stands_for = labels[chosen[cluster]].to_numpy(object)
    data = data.assign_coords({DAY: labels.to_numpy(object), "representative": (DAY, stands_for)})
    return probability, data.assign_attrs(variance_explained=explained)
