"""CVaR, the measure of the paper, alone or mixed with the expectation (MODEL.md §3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.markets.risk import Limits, Risk, RiskMeasure

Attitude = float | Mapping[Any, float] | pd.Series | Sequence[float] | np.ndarray | xr.DataArray


@dataclass(frozen=True)
class CVaR(RiskMeasure):
    r"""Conditional value at risk, alone or mixed with the expectation (MODEL.md §3, (25)).

    .. math:: R[X] = (1-\theta)\,E[X] + \theta\,\min_\eta\{\eta + E[(X-\eta)^+]/(1-\chi)\}

    Also known as expected shortfall or average value at risk. :math:`\chi` is a confidence
    level: 0 leaves the expectation, towards 1 only the worst scenario counts. (Tools that
    call the tail probability :math:`\alpha` mean :math:`1-\chi`.)

    Parameters
    ----------
    attitude : float or by prosumer, optional
        :math:`\chi`, each in [0, 1). By prosumer: a mapping, Series or DataArray by name, or a
        sequence in the network's order of prosumers. Default: the ``risk_attitude`` column of
        ``n.buses``. Kept as a number, a dict or a tuple, so that measures compare and hash by
        value.
    weight : float
        :math:`\theta` in [0, 1], the share of CVaR against the expectation.

    Raises
    ------
    MarketError
        An attitude or weight that is no number or out of range, or a form not named above.

    Examples
    --------
    >>> CVaR(attitude=0.6)
    CVaR(attitude=0.6, weight=1.0)
    >>> CVaR(attitude=pd.Series({"a": 0.2, "b": 0.6}))
    CVaR(attitude={'a': 0.2, 'b': 0.6}, weight=1.0)
    >>> CVaR(attitude=1.0)
    Traceback (most recent call last):
    ...
    pypsa_p2p.common.errors.MarketError: CVaR: attitude 1.0 must lie in [0, 1); 0 is risk-neutral.
    """

    attitude: Attitude | None = None
    weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        weight = _plain(self.weight)
        if not _is_number(weight) or not 0 <= weight <= 1:
            raise MarketError(f"CVaR: weight {weight!r} must be a number in [0, 1].")
        object.__setattr__(self, "weight", float(weight))
        object.__setattr__(self, "attitude", _stored(self.attitude))

    def __hash__(self) -> int:
        given = self.attitude
        return hash((frozenset(given.items()) if isinstance(given, dict) else given, self.weight))

    @property
    def label(self) -> str:
        """What pictures call R."""
        return "CVaR" if self.weight == 1 else super().label

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Limits:
        r"""(33)-(37): :math:`(1-\theta) p \le \tau \le (1-\theta) p + \theta p / (1-\chi)`."""
        least = (1 - self.weight) * probability
        return least, least + self.weight * probability / (1 - self.attitudes(attitude))

    def worst(self, cost: xr.DataArray, probability: xr.DataArray, attitude: xr.DataArray) -> Risk:
        r"""R and :math:`\tau`; the value at risk is that at :math:`\chi`, for any weight."""
        found = super().worst(cost, probability, attitude)
        if self.weight > 0:
            return found
        level = replace(self, weight=1.0).worst(cost, probability, attitude).value_at_risk
        return found._replace(value_at_risk=level)

    def settings(self) -> dict[str, Any]:
        """As `RiskMeasure.settings`, attitudes as numbers, a list or by name."""
        return {**super().settings(), "attitude": plain(self.attitude)}

    def attitudes(self, default: xr.DataArray) -> xr.DataArray:
        """Attitude of each prosumer, dims (prosumer), where `default` are the network's own.

        Raises
        ------
        MarketError
            Attitudes that are not one for each prosumer.
        """
        given, prosumers = self.attitude, default.indexes[PROSUMER]
        if given is None:
            return default
        if isinstance(given, dict):
            missing = [name for name in prosumers if name not in given]
            unknown = [name for name in given if name not in prosumers]
            if missing or unknown:
                raise MarketError(
                    f"CVaR: attitude must name every prosumer once; missing: {listed(missing)}; "
                    f"unknown: {listed(unknown)}."
                )
            return default.copy(data=[given[name] for name in prosumers])
        if isinstance(given, tuple) and len(given) != len(prosumers):
            raise MarketError(
                f"CVaR: attitude has {len(given)} values for the {len(prosumers)} prosumers "
                f"{listed(prosumers)}; give one for each, in this order, or by name."
            )
        return default.copy(data=np.broadcast_to(np.asarray(given, dtype=float), len(prosumers)))


def _stored(attitude: Any) -> float | dict[Any, float] | tuple[float, ...] | None:
    """Attitudes as plain values that compare and hash, checked."""
    if attitude is None:
        return None
    attitude = _plain(attitude)
    if isinstance(attitude, xr.DataArray):
        attitude = _without_dims(attitude)
    if isinstance(attitude, pd.Series):
        repeated = attitude.index[attitude.index.duplicated()].unique()
        if len(repeated):
            raise MarketError(
                f"CVaR: attitude repeats prosumer {listed(repeated)}; give each one value."
            )
    if isinstance(attitude, Mapping | pd.Series):
        return {name: _checked(x, f" of prosumer {name!r}") for name, x in attitude.items()}
    if isinstance(attitude, pd.Index | np.ndarray) and np.ndim(attitude) == 1:
        attitude = list(attitude)
    if isinstance(attitude, Sequence) and not isinstance(attitude, str | bytes):
        return tuple(_checked(x, f" at position {k}") for k, x in enumerate(attitude))
    if isinstance(attitude, np.ndarray | pd.DataFrame | Set):
        raise MarketError(
            f"CVaR: attitude, of type {type(attitude).__name__}, gives prosumers no one order; "
            "give a number in [0, 1), or one for each prosumer, in order or by name."
        )
    return _checked(attitude, "")


def _without_dims(attitude: xr.DataArray) -> Any:
    """A DataArray as a Series by name, or as values in order where it has no names."""
    if attitude.dims != (PROSUMER,):
        raise MarketError(
            f"CVaR: attitude has the dimensions {listed(attitude.dims)} but may only have "
            f"{PROSUMER!r}: select along the others, or rename."
        )
    return attitude.to_series() if PROSUMER in attitude.indexes else attitude.to_numpy()


def _checked(value: object, whose: str) -> float:
    value = _plain(value)
    if not _is_number(value) or not 0 <= value < 1:
        raise MarketError(f"CVaR: attitude {value!r}{whose} must lie in [0, 1); 0 is risk-neutral.")
    return float(value)


def _plain(value: Any) -> Any:
    """numpy's numbers as Python's, which read better in messages."""
    number = isinstance(value, np.generic | np.ndarray | xr.DataArray) and np.ndim(value) == 0
    return value.item() if number else value


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(by_prosumer: Any) -> Any:
    """A value by prosumer as plain numbers that survive netCDF."""
    if isinstance(by_prosumer, Mapping | pd.Series):
        return {str(name): float(value) for name, value in dict(by_prosumer).items()}
    if by_prosumer is None or np.ndim(by_prosumer) == 0:
        return by_prosumer
    return np.asarray(by_prosumer, dtype=float).tolist()
