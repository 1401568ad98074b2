"""Scenarios of demand, wind and sun drawn from correlated distributions with a stated seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.given import POSITIVE, Range
from pypsa_p2p.common.names import PRICE0, PRICE1, PROSUMER, SCENARIO
from pypsa_p2p.common.tables import as_numbers
from pypsa_p2p.common.values import is_sequence
from pypsa_p2p.network.scenarios.copula import NUMBER, SEED, Array, correlated_uniform

#: Columns of the prosumer table that say what must-take generation there is.
RENEWABLE_CAPACITY: Final = "renewable_capacity"  # MW
RENEWABLE_KIND: Final = "renewable_kind"  # a key of `capacity_factor`, or empty
DEMAND: Final = "demand"

_USUAL_SHAPES: Final[dict[str, Any]] = {"wind": (1.6, 3.0), "solar": (1.2, 3.0)}
_CORRELATION: Final = Range(-1, 1)
_NEEDED: Final = (DEMAND, "demand_min", "demand_max", RENEWABLE_CAPACITY, RENEWABLE_KIND)


def sample_scenarios(
    prosumers: pd.DataFrame,
    *,
    number: int,
    seed: int,
    demand_deviation: float = 0.1,
    capacity_factor: Mapping[str, Sequence[float]] | None = None,
    correlation: Mapping[str, float] | None = None,
) -> xr.Dataset:
    r"""Draw demand targets and must-take generation by a Gaussian copula.

    z ~ N(0, C), u = Phi(z); D*_n is the u-quantile of a normal distribution around `demand` cut
    off at [demand_min, demand_max], and generation is capacity times the u-quantile of a beta
    distribution. C has ones on its diagonal and otherwise depends only on what two numbers are,
    not on where: see `correlation`. Scenarios are equiprobable draws; the first ones stay the
    same when `number` grows.

    Parameters
    ----------
    prosumers : DataFrame
        One row per prosumer, her name in the index; columns ``demand``, ``demand_min``,
        ``demand_max``, ``renewable_capacity`` (MW) and ``renewable_kind``.
    number : int
        How many scenarios; they are labelled "0", "1", ...
    seed : int
        Of NumPy's PCG64 generator.
    demand_deviation : float, default 0.1
        Standard deviation of D* before it is cut off, as a share of ``demand``.
    capacity_factor : mapping, optional
        The two parameters of the beta distribution by kind of generation. Default: wind (1.6, 3),
        mean 0.35; solar (1.2, 3), mean 0.29.
    correlation : mapping, optional
        Entries of C: "wind" between two wind parks, "demand" between two demands,
        "demand-wind" (or "wind-demand") across; 0 where nothing is said.

    Returns
    -------
    xarray.Dataset
        ``demand`` and ``renewable``, MW, dims (scenario, prosumer), as `set_scenarios` takes it.

    Raises
    ------
    DataError
        Missing columns, unknown kinds, demand outside its limits, or a C that is not a
        correlation matrix (positive semidefinite).

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"demand": 10.0, "demand_min": 5.0, "demand_max": 15.0,
    ...      "renewable_capacity": [0.0, 8.0], "renewable_kind": ["", "wind"]}, index=["a", "b"])
    >>> drawn = sample_scenarios(table, number=3, seed=1)
    >>> dict(drawn.sizes)
    {'scenario': 3, 'prosumer': 2}
    >>> drawn["renewable"].sel(prosumer="a").values.tolist()
    [0.0, 0.0, 0.0]
    """
    shapes = _USUAL_SHAPES | _mapping(capacity_factor, "capacity_factor")
    prosumers = _as_table(prosumers)
    _check(prosumers, number, demand_deviation, shapes)
    SEED.require("seed", seed, error=DataError)
    correlation = _mapping(correlation, "correlation")
    _check_correlation(correlation, [DEMAND, *shapes])
    capacity = prosumers[RENEWABLE_CAPACITY].to_numpy(float)
    sites = np.flatnonzero(capacity > 0)
    kinds = prosumers[RENEWABLE_KIND].to_numpy()[sites]
    matrix = _correlation_matrix([DEMAND] * len(prosumers) + list(kinds), correlation)
    uniform = correlated_uniform(matrix, number, seed)
    demand = _demand(prosumers, demand_deviation, uniform[:, : len(prosumers)])
    renewable = np.zeros((number, len(prosumers)))
    for site, kind, draw in zip(sites, kinds, uniform.T[len(prosumers) :], strict=True):
        renewable[:, site] = capacity[site] * stats.beta.ppf(draw, *shapes[kind])
    return xr.Dataset(
        {DEMAND: ((SCENARIO, PROSUMER), demand), "renewable": ((SCENARIO, PROSUMER), renewable)},
        coords={
            SCENARIO: [str(label) for label in range(number)],
            PROSUMER: [str(name) for name in prosumers.index],
        },
    )


def draw_trade_prices(
    edges: Sequence[tuple[str, str]], *, rule: str, seed: int, grid_connection: str
) -> pd.DataFrame:
    """Trade prices by the paper's two rules (arXiv 2004.02470, section VI).

    "uniform": 1 in both directions of every edge. "heterogeneous": uniform draws from [0, 1]
    between prosumers and from [1, 2] for buying from the prosumer at the grid connection, who
    pays 1 herself.

    Parameters
    ----------
    edges : sequence of (str, str)
        The two prosumers of every trade edge.
    rule : {"uniform", "heterogeneous"}
    seed : int
        Of NumPy's PCG64 generator; of no effect under "uniform".
    grid_connection : str
        The prosumer at the grid connection.

    Returns
    -------
    DataFrame
        ``price0`` and ``price1``, EUR/MWh, what the first and the second prosumer of the edge
        pays for buying; rows in the order of `edges`.

    Raises
    ------
    DataError
        A rule that is neither, or a seed that is none.
    """
    index = pd.MultiIndex.from_tuples(edges, names=["prosumer0", "prosumer1"])
    if rule == "uniform":
        return pd.DataFrame(1.0, index=index, columns=[PRICE0, PRICE1])
    if rule != "heterogeneous":
        raise DataError(f"No rule of prices is called {rule!r}: 'uniform' or 'heterogeneous'.")
    SEED.require("seed", seed, error=DataError)
    prices = np.random.default_rng(seed).uniform(0.0, 1.0, size=(len(edges), 2))
    buyer = np.array(edges, dtype=object)
    seller = buyer[:, ::-1]
    prices = prices + (seller == grid_connection)
    return pd.DataFrame(
        np.where(buyer == grid_connection, 1.0, prices), index=index, columns=[PRICE0, PRICE1]
    )


def _mapping(value: Any, argument: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise DataError(f"{argument} must be a mapping, not {shown(value)}.")
    return dict(value or {})


def _as_table(prosumers: object) -> pd.DataFrame:
    """The table, its numbers as such."""
    if not isinstance(prosumers, pd.DataFrame):
        raise DataError(
            f"Prosumers are a {type(prosumers).__name__}: give a DataFrame with the columns "
            f"{listed(_NEEDED)}, one row each."
        )
    numbers = [name for name in _NEEDED if name != RENEWABLE_KIND and name in prosumers]
    return prosumers.assign(
        **{name: as_numbers("Prosumer", prosumers[name], name) for name in numbers}
    )


def _check_correlation(correlation: Mapping[str, float], kinds: Sequence[str]) -> None:
    """Refuse names of nothing, and what is no correlation."""
    for key, value in correlation.items():
        parts = key.split("-") if isinstance(key, str) else [key]
        if len(parts) > 2 or any(part not in list(kinds) for part in parts):
            raise DataError(
                f"correlation has {shown(key)}: name one of {listed(kinds)}, or two as "
                "'wind-solar'."
            )
        _CORRELATION.require(f"correlation of {shown(key)},", value, error=DataError)


def _check(
    prosumers: pd.DataFrame, number: int, deviation: float, shapes: Mapping[str, Sequence[float]]
) -> None:
    """Refuse what cannot be drawn from."""
    missing = [name for name in _NEEDED if name not in prosumers]
    if missing:
        raise DataError(f"The table of prosumers lacks {listed(missing)}. Add the columns.")
    NUMBER.require("number", number, error=DataError)
    POSITIVE.require("demand_deviation, a share of demand,", deviation, error=DataError)
    for kind, shape in shapes.items():
        if not is_sequence(shape) or len(shape) != 2 or any(x not in POSITIVE for x in shape):
            raise DataError(
                f"capacity_factor of {shown(kind)} is {shown(shape)}: give the two parameters of "
                "a beta distribution, both above 0."
            )
    demand = prosumers[DEMAND]
    outside = ~demand.between(prosumers["demand_min"], prosumers["demand_max"]) | ~(demand > 0)
    if outside.any():
        raise DataError(
            f"demand of {listed(prosumers.index[outside])} is not positive or outside "
            "[demand_min, demand_max]. Move it, or the limits."
        )
    has = prosumers[RENEWABLE_CAPACITY] > 0
    unknown = has & ~prosumers[RENEWABLE_KIND].isin(list(shapes))
    if unknown.any():
        raise DataError(
            f"renewable_kind of {listed(prosumers.index[unknown])} is none of {listed(shapes)}. "
            "Name one of them, or give its capacity_factor."
        )


def _correlation_matrix(kinds: Sequence[str], correlation: Mapping[str, float]) -> Array:
    """C by what the numbers are: ones on the diagonal, the mapping's entries elsewhere."""
    known = list(dict.fromkeys(kinds))
    between = pd.DataFrame(0.0, index=known, columns=known)
    for key, value in correlation.items():
        first, _, second = key.partition("-")
        if first in known and (second or first) in known:
            between.loc[first, second or first] = value
            between.loc[second or first, first] = value
    matrix = between.loc[list(kinds), list(kinds)].to_numpy(copy=True)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _demand(prosumers: pd.DataFrame, deviation: float, uniform: Array) -> Array:
    """Quantiles of the normal distributions around `demand`, cut off at its limits; MW."""
    centre = prosumers[DEMAND].to_numpy(float)
    scale = deviation * centre
    low = (prosumers["demand_min"].to_numpy(float) - centre) / scale
    high = (prosumers["demand_max"].to_numpy(float) - centre) / scale
    drawn = stats.truncnorm.ppf(uniform, low, high, loc=centre, scale=scale)
    return np.asarray(drawn, dtype=float)
