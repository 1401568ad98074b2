"""A risk measure for every prosumer: what a mapping ``risk={"house": ..., "farm": ...}`` means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.given import ByName
from pypsa_p2p.common.names import PROSUMER, SCENARIO
from pypsa_p2p.markets.envelopes import Envelope, Matrix
from pypsa_p2p.markets.risk import ByContent, Limits, RiskMeasure
from pypsa_p2p.solvers.cover import Cover
from pypsa_p2p.solvers.tail import Tail


@dataclass(frozen=True)
class RiskByProsumer(RiskMeasure):
    r"""Every prosumer her own coherent measure :math:`R_n` (MODEL.md §3).

    Markets make it of a mapping: ``risk={"house": CVaR(attitude=0.3), "farm": WorstCase()}``.

    Parameters
    ----------
    measures : mapping from prosumers to risk measures
        One for each prosumer of the network; `CVaR` without an attitude takes her own.

    Raises
    ------
    MarketError
        What is no mapping of risk measures; on a network, prosumers without one, or names that are
        no prosumer's.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> risk = {"0": p2p.CVaR(attitude=0.3), "1": p2p.WorstCase(), "2": p2p.CVaR(attitude=0)}
    >>> p2p.PeerToPeerMarket(risk=risk).optimize(n)
    ('ok', 'optimal')
    """

    measures: Mapping[str, RiskMeasure]

    def __post_init__(self) -> None:
        if not isinstance(self.measures, Mapping) or not self.measures:
            raise MarketError(
                "risk by prosumer must be a mapping from prosumers to risk measures, "
                f'{{"house": CVaR(attitude=0.3), ...}}, not {self.measures!r}.'
            )
        own = {str(name): _measure(name, given) for name, given in self.measures.items()}
        object.__setattr__(self, "measures", ByName(own))  # type: ignore[arg-type]

    def limits(self, probability: xr.DataArray, attitude: xr.DataArray) -> Limits:
        """Those of each prosumer's own measure."""
        shape = (probability.size, attitude.size)
        coords = {
            SCENARIO: probability.indexes[SCENARIO],
            PROSUMER: attitude.indexes[PROSUMER],
        }
        least, most = (xr.DataArray(np.zeros(shape), coords=coords) for _ in range(2))
        for measure, theirs in self._parted(attitude.indexes[PROSUMER]):
            held = measure.envelope(probability, attitude.isel({PROSUMER: theirs}))
            least[:, theirs], most[:, theirs] = held.least.T, held.most.T
        return least, most

    def _envelope(self, of_scenarios: ByContent, of_prosumers: ByContent) -> Envelope:
        box, attitude = super()._envelope(of_scenarios, of_prosumers), of_prosumers.array
        covers: list[Cover | None] = [None] * attitude.size
        for measure, theirs in self._parted(attitude.indexes[PROSUMER]):
            held = measure.envelope(of_scenarios.array, attitude.isel({PROSUMER: theirs}))
            for place, own in zip(theirs, held.covers, strict=False):
                covers[place] = own
        return box if all(own is None for own in covers) else replace(box, covers=tuple(covers))

    def tail(self, costs: Matrix, probability: xr.DataArray, attitude: xr.DataArray) -> Tail:
        """R of costs, (N, S), EUR, and what attains it, each prosumer's by her own measure."""
        value, level, tau = np.zeros(len(costs)), np.zeros(len(costs)), np.zeros(costs.shape)
        for measure, theirs in self._parted(attitude.indexes[PROSUMER]):
            own = measure.tail(costs[theirs], probability, attitude.isel({PROSUMER: theirs}))
            value[theirs], level[theirs] = own.value, own.value_at_risk
            tau[theirs] = own.probability.reshape(-1, costs.shape[1])
        return Tail(value=value, value_at_risk=level, probability=tau.ravel())

    def settings(self) -> dict[str, Any]:
        """Those of each measure, by prosumer."""
        own = {name: measure.settings() for name, measure in self.measures.items()}
        return {**super().settings(), "measures": own}

    def _parted(self, prosumers: pd.Index) -> Iterator[tuple[RiskMeasure, np.ndarray[Any, Any]]]:
        """Each different measure, and the places of the prosumers who have it.

        Raises
        ------
        MarketError
            Prosumers without a measure, and names of nobody.
        """
        names = prosumers.map(str)
        missing, unknown = names.difference(list(self.measures)), set(self.measures) - {*names}
        if len(missing) or unknown:
            what = (
                f"{listed(sorted(unknown))} is no prosumer of this network"
                if unknown
                else (f"{listed(missing)} has none")
            )
            raise MarketError(
                f"risk by prosumer: {what}. Give each of {listed(names)} a risk measure; "
                "CVaR(attitude=0) is risk-neutral."
            )
        of_each: dict[RiskMeasure, list[int]] = {}
        for place, name in enumerate(names):
            of_each.setdefault(self.measures[name], []).append(place)
        for measure, places in of_each.items():
            yield measure, np.array(places)


def _measure(name: object, given: Any) -> RiskMeasure:
    """A measure, or what its settings make."""
    if isinstance(given, Mapping) and "measure" in given:
        given = RiskMeasure.of(given)
    if not isinstance(given, RiskMeasure) or isinstance(given, RiskByProsumer):
        raise MarketError(
            f"risk of {name!r} must be a risk measure, as CVaR(attitude=0.3), not {given!r}."
        )
    given.require_kept()
    return given
