"""CVaR, the measure of the paper, alone or mixed with the expectation (MODEL.md §3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import xarray as xr

from pypsa_p2p.common.given import Given, Range
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.common.values import Value, scalar
from pypsa_p2p.markets.envelopes import Matrix
from pypsa_p2p.markets.risk import Limits, RiskMeasure
from pypsa_p2p.solvers.tail import Tail

ATTITUDE: Final = Given(
    "CVaR: attitude", (PROSUMER,), Range(0, 1, ends="[)", why="0 is risk-neutral")
)


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
    >>> import pandas as pd
    >>> CVaR(attitude=pd.Series({"a": 0.2, "b": 0.6}))
    CVaR(attitude={'a': 0.2, 'b': 0.6}, weight=1.0)
    >>> CVaR(weight=2)
    Traceback (most recent call last):
    ...
    pypsa_p2p.common.errors.MarketError: CVaR: weight 2 must be a number in [0, 1].
    """

    attitude: Value | None = None
    weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        weight = scalar(self.weight)
        Range(0, 1).require("CVaR: weight", weight)
        object.__setattr__(self, "weight", float(weight))
        object.__setattr__(self, "attitude", ATTITUDE.read(self.attitude))

    @property
    def label(self) -> str:
        """What pictures call R."""
        return "CVaR" if self.weight == 1 else super().label

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Limits:
        r"""(33)-(37): :math:`(1-\theta) p \le \tau \le (1-\theta) p + \theta p / (1-\chi)`."""
        least = (1 - self.weight) * probability
        return least, least + self.weight * probability / (1 - self.attitudes(attitude))

    def tail(self, costs: Matrix, probability: xr.DataArray, attitude: xr.DataArray) -> Tail:
        r"""R and :math:`\tau`; the value at risk is that at :math:`\chi`, for any weight."""
        found = super().tail(costs, probability, attitude)
        if self.weight > 0:
            return found
        level = replace(self, weight=1.0).tail(costs, probability, attitude).value_at_risk
        return found._replace(value_at_risk=level)

    def require_kept(self) -> None:
        """Numbers, and attitudes by name: a network keeps them."""

    def attitudes(self, default: xr.DataArray) -> xr.DataArray:
        """Attitude of each prosumer, dims (prosumer), where `default` are the network's own.

        Raises
        ------
        MarketError
            Attitudes that are not one for each prosumer.
        """
        if self.attitude is None:
            return default
        return default.copy(data=ATTITUDE.on(self.attitude, default.indexes[PROSUMER]).to_numpy())
