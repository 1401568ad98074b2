"""Scenarios drawn from any distributions, correlated by a Gaussian copula."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.names import PROSUMER, SCENARIO

Array = np.ndarray[Any, Any]
#: What a marginal is for: (variable, prosumer), or a variable that all prosumers share.
Key = tuple[str, str] | str

NUMBER: Final = Range(1, whole=True)
SEED: Final = Range(0, whole=True)


def sample_copula(
    marginals: Mapping[Key, Any],
    correlation: pd.DataFrame | None = None,
    *,
    number: int,
    seed: int,
) -> xr.Dataset:
    r"""Draw scenarios from any marginal distributions, correlated by a Gaussian copula.

    z ~ N(0, C), u = Phi(z), and each number is the u-quantile of its own marginal: the marginals
    hold exactly, and C says how they go together. Scenarios are equiprobable draws; the first
    ones stay the same (to rounding) when `number` grows.

    Parameters
    ----------
    marginals : mapping
        From (variable, prosumer), or from a variable that all prosumers share (an import price,
        say), to its distribution: a frozen one of scipy.stats (anything with a method ``ppf``);
        historical samples in any order, whose quantiles are drawn, linear in between; or a number
        that is always the same. Variables are named as in `set_scenarios`, in their units; those
        by prosumer have all the same prosumers.
    correlation : DataFrame, optional
        C, with keys of `marginals` in its rows and columns; what it leaves out is independent.
        It is the correlation r of z; Spearman's rank correlation of the numbers drawn is
        6/pi arcsin(r/2). So for the rank correlations of a `history`, give
        ``2 * np.sin(np.pi / 6 * history.corr("spearman"))``.
    number : int
        How many scenarios; they are labelled "0", "1", ...
    seed : int
        Of NumPy's PCG64 generator.

    Returns
    -------
    xarray.Dataset
        Variables over (scenario, prosumer), or (scenario) where shared, as `set_scenarios` takes
        it, with probabilities 1/number.

    Raises
    ------
    DataError
        Marginals that are none of these or have no finite quantiles, prosumers that differ
        between variables, a C with unknown keys or that is not a correlation matrix (symmetric,
        ones on its diagonal, positive semidefinite).

    Examples
    --------
    A farm's wind and the price at which surplus is sold, which is low when wind is strong:

    >>> wind, price = ("renewable", "farm"), "import_price"
    >>> c = pd.DataFrame([[1.0, -0.8], [-0.8, 1.0]], index=[wind, price], columns=[wind, price])
    >>> observed = [18.0, 22.0, 25.0, 31.0, 60.0]  # EUR/MWh
    >>> drawn = sample_copula({wind: stats.beta(2, 3, scale=10.0), price: observed}, c,
    ...                       number=500, seed=1)
    >>> dict(drawn.sizes)
    {'scenario': 500, 'prosumer': 1}
    >>> pair = [drawn.renewable.sel(prosumer="farm").values, drawn.import_price.values]
    >>> print(f"{stats.spearmanr(*pair).statistic:.1f}")
    -0.8

    and with them a network's scenarios:

    >>> probability = dict.fromkeys(drawn.scenario.values, 1 / 500)
    """
    NUMBER.require("number", number, error=DataError)
    distributions = _by_key(marginals)
    keys = list(distributions)
    quantiles = [_quantiles(marginal, key) for key, marginal in distributions.items()]
    uniform = correlated_uniform(_matrix(correlation, keys), number, seed)
    values = [quantile(u) for quantile, u in zip(quantiles, uniform.T, strict=True)]
    endless = [key for key, drawn in zip(keys, values, strict=True) if not np.isfinite(drawn).all()]
    if endless:
        raise DataError(
            f"The marginal of {listed(endless)} gives quantiles that are no finite numbers. Check "
            "its parameters."
        )
    return _dataset(keys, values, number)


def correlated_uniform(matrix: Array, number: int, seed: int) -> Array:
    """u = Phi(z), z ~ N(0, C): the core of all draws, (number, rows of C)."""
    SEED.require("seed", seed, error=DataError)
    normal = np.random.default_rng(seed).standard_normal((number, len(matrix)))
    return np.asarray(stats.norm.cdf(normal @ _factor(matrix).T))


def _factor(matrix: Array) -> Array:
    """L with C = L L': Cholesky's, or the symmetric root where C is singular.

    Both are unique, so that draws do not depend on the machine.
    """
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError as error:
        values, vectors = np.linalg.eigh(matrix)
        if values[0] < -ACCURACY.correlation:
            raise DataError(
                "The correlations contradict each other (their matrix is not positive "
                "semidefinite). Bring them closer to 0."
            ) from error
        return np.asarray((vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T)


def _by_key(marginals: object) -> dict[Key, Any]:
    """The marginals by their keys, which are checked."""
    if not isinstance(marginals, Mapping) or not marginals:
        raise DataError("marginals must be a mapping from (variable, prosumer) to distributions.")
    found = {_key(label): marginal for label, marginal in marginals.items()}
    pairs = [key for key in found if isinstance(key, tuple)]
    both = dict.fromkeys(variable for variable, _ in pairs if variable in found)
    if both or len(found) < len(marginals):
        raise DataError(
            f"marginals has {listed(both) or 'a variable'} both by prosumer and for all of them, "
            "or twice. Leave one out."
        )
    prosumers = dict.fromkeys(prosumer for _, prosumer in pairs)
    variables = dict.fromkeys(variable for variable, _ in pairs)
    absent = [(v, p) for v in variables for p in prosumers if (v, p) not in found]
    if absent:
        raise DataError(
            f"marginals lacks {listed(absent)}: every variable needs the same prosumers. A number "
            "stands for what is always the same."
        )
    return found


def _key(label: Any) -> Key:
    """A label of marginals as a key; (variable, "") is for all prosumers, as in tables."""
    parts = label if isinstance(label, tuple) else (label,)
    if len(parts) not in (1, 2) or not all(isinstance(part, str) for part in parts):
        raise DataError(
            f"{shown(label)} is no key of marginals: give (variable, prosumer), or the name of a "
            "variable that all prosumers share."
        )
    return (parts[0], parts[1]) if len(parts) == 2 and parts[1] else parts[0]


def _quantiles(marginal: Any, key: Key) -> Callable[[Array], Array]:
    """The quantile function of a marginal."""
    if isinstance(marginal, stats.rv_continuous | stats.rv_discrete):
        raise DataError(
            f"The marginal of {key!r} is a family of distributions: freeze it with its parameters, "
            f"as in stats.{marginal.name}(...)."
        )
    if callable(getattr(marginal, "ppf", None)):
        return lambda uniform: np.asarray(marginal.ppf(uniform), dtype=float)
    try:
        samples = np.asarray(marginal, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The marginal of {key!r} is {shown(marginal)}: give a frozen distribution of "
            "scipy.stats, a sequence of samples, or a number."
        ) from error
    if samples.ndim > 1 or not samples.size or not np.isfinite(samples).all():
        raise DataError(
            f"The marginal of {key!r} needs samples in one dimension, at least one and all of them "
            "finite numbers. Leave gaps out."
        )
    return lambda uniform: np.asarray(np.quantile(samples, uniform))


def _matrix(correlation: object, keys: Sequence[Key]) -> Array:
    """C in the order of the keys, checked; independent where nothing is said."""
    matrix = np.eye(len(keys))
    if correlation is None:
        return matrix
    if not isinstance(correlation, pd.DataFrame):
        raise DataError(
            f"correlation must be a DataFrame by the keys of marginals, not "
            f"{type(correlation).__name__}."
        )
    rows, columns = (list(map(_key, labels)) for labels in (correlation.index, correlation.columns))
    unknown = [label for label in [*rows, *columns] if label not in keys]
    if unknown:
        raise DataError(
            f"correlation names {listed(dict.fromkeys(unknown))}, which marginals does not have."
        )
    if len(set(rows)) < len(rows) or len(columns) != len(rows) or set(rows) != set(columns):
        raise DataError("correlation must have the same keys, once each, as rows and as columns.")
    order = [rows.index(label) for label in columns]
    given = correlation.to_numpy(float)[order]
    within = (
        np.isfinite(given).all() and np.abs(given - given.T).max(initial=0) <= ACCURACY.correlation
    )
    if not within or np.abs(np.diag(given) - 1).max(initial=0) > ACCURACY.correlation:
        raise DataError(
            "correlation is no correlation matrix: it must be symmetric with ones on its diagonal."
        )
    at = [keys.index(label) for label in columns]
    matrix[np.ix_(at, at)] = given
    return matrix


def _dataset(keys: Sequence[Key], values: Sequence[Array], number: int) -> xr.Dataset:
    """The draws as variables over (scenario, prosumer) or (scenario)."""
    prosumers = list(dict.fromkeys(key[1] for key in keys if isinstance(key, tuple)))
    drawn = dict(zip(keys, values, strict=True))
    variables: dict[str, tuple[tuple[str, ...], Array]] = {}
    for key in keys:
        if isinstance(key, str):
            variables[key] = ((SCENARIO,), drawn[key])
        else:
            by_prosumer = [drawn[key[0], prosumer] for prosumer in prosumers]
            variables[key[0]] = ((SCENARIO, PROSUMER), np.stack(by_prosumer, axis=1))
    coordinates = {SCENARIO: [str(label) for label in range(number)]}
    if prosumers:
        coordinates[PROSUMER] = prosumers
    return xr.Dataset(variables, coords=coordinates)
