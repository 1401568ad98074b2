"""Risk measures: how a prosumer turns costs that differ by scenario into one figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.errors import MarketError, listed
from pypsa_p2p.names import PROSUMER


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


@dataclass(frozen=True, kw_only=True)
class CVaR:
    r"""Conditional value at risk, alone or mixed with the expectation (MODEL.md §3, (25)).

    .. math:: R[X] = (1-\theta)\,E[X] + \theta\,\min_\eta\{\eta + E[(X-\eta)^+]/(1-\chi)\}

    Also known as expected shortfall or average value at risk. :math:`\chi` is a confidence
    level: 0 leaves the expectation, towards 1 only the worst scenario counts. (Tools that
    call the tail probability :math:`\alpha` mean :math:`1-\chi`.)

    Parameters
    ----------
    attitude : float, mapping or Series by prosumer, optional
        :math:`\chi`, each in [0, 1). Default: the ``risk_attitude`` column of ``n.buses``.
    weight : float
        :math:`\theta` in [0, 1], the share of CVaR against the expectation.

    Examples
    --------
    >>> CVaR(attitude=0.6)
    CVaR(attitude=0.6, weight=1.0)
    >>> CVaR(attitude=1.0)
    Traceback (most recent call last):
    ...
    pypsa_p2p.errors.MarketError: CVaR: attitude 1.0 must lie in [0, 1); 0 is risk-neutral.
    """

    attitude: float | Mapping[str, float] | pd.Series | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not _is_number(self.weight) or not 0 <= self.weight <= 1:
            raise MarketError(f"CVaR: weight {self.weight!r} must be a number in [0, 1].")
        if self.attitude is None:
            return
        if isinstance(self.attitude, Mapping | pd.Series):
            values = dict(self.attitude)
        else:
            values = {None: self.attitude}
        for name, value in values.items():
            if not _is_number(value) or not 0 <= value < 1:
                whose = "" if name is None else f" of prosumer {name!r}"
                raise MarketError(
                    f"CVaR: attitude {value!r}{whose} must lie in [0, 1); 0 is risk-neutral."
                )

    def attitudes(self, default: xr.DataArray) -> xr.DataArray:
        """Attitude of each prosumer, dims (prosumer), where `default` are the network's own."""
        if self.attitude is None:
            return default
        prosumers = default.indexes[PROSUMER]
        if not isinstance(self.attitude, Mapping | pd.Series):
            return xr.full_like(default, float(self.attitude))
        given = pd.Series(dict(self.attitude), dtype=float)
        missing = prosumers.difference(given.index)
        unknown = given.index.difference(prosumers)
        if len(missing) or len(unknown):
            raise MarketError(
                f"CVaR: attitude must name every prosumer once; missing: {listed(missing)}; "
                f"unknown: {listed(unknown)}."
            )
        return default.copy(data=given.reindex(prosumers).to_numpy())


#: The risk measure that leaves probabilities alone: what ``risk=None`` means.
NEUTRAL = CVaR(attitude=0.0)
