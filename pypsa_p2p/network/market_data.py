"""What a market needs from a network, as labelled arrays (MODEL.md §1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import DataError, shown
from pypsa_p2p.common.names import (
    NAME,
    OPERATOR,
    PROSUMER,
    SCENARIO,
    SNAPSHOT,
)
from pypsa_p2p.common.tables import ONLY_SCENARIO, Numbers
from pypsa_p2p.network.sites import Sites

Flags = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

_NOTHING = xr.DataArray(np.empty(0, object), coords={NAME: pd.Index([], dtype=object)})


@dataclass(frozen=True, kw_only=True)
class MarketData:
    """Sets and data of a market, read from a network and checked.

    Attributes
    ----------
    probability : DataArray (scenario)
        Sums to 1; one scenario of probability 1 when the network has none.
    weighting : DataArray (snapshot)
        ``snapshot_weightings.objective``, h.
    risk_attitude : DataArray (prosumer)
    role : DataArray (prosumer)
        One of `ROLES`.
    usage_benefit, fixed_cost : DataArray (scenario, prosumer)
        EUR/h.
    import_price : DataArray (scenario, snapshot, prosumer)
        EUR/MWh.
    bus0, bus1 : DataArray (name)
        Prosumers at the two ends of each trade edge; ``name`` are the Links.
    capacity0, capacity1 : DataArray (scenario, snapshot, name)
        Most that the prosumer at bus0 (bus1) may buy over the edge, MW.
    price0, price1, fee0, fee1 : DataArray (scenario, name), with snapshot where one of two varies
        Of the prosumer at bus0 (bus1) on what she trades over the edge, EUR/MWh.
    congestion : DataArray (scenario, name)
        EUR/MW2h.
    day_ahead : DataArray (name)
        Whether trades over the edge are decided before the scenario is known.
    owners : Series (bus)
        The prosumer each bus belongs to; `NOBODY` for buses of the grid.
    assets : mapping of DataArray (name)
        By class, the owner of each active component, trade edges left out.
    closed : DataArray (scenario, snapshot, name) or None
        Whether a retail contract is closed, where somebody sells only what is her own.
    sites : Sites or None
        Prosumers on the physical grid, where it delivers what is traded.
    """

    stochastic: bool
    probability: xr.DataArray
    weighting: xr.DataArray
    risk_attitude: xr.DataArray
    role: xr.DataArray
    usage_benefit: xr.DataArray
    fixed_cost: xr.DataArray
    import_price: xr.DataArray
    bus0: xr.DataArray
    bus1: xr.DataArray
    capacity0: xr.DataArray
    capacity1: xr.DataArray
    price0: xr.DataArray
    price1: xr.DataArray
    fee0: xr.DataArray
    fee1: xr.DataArray
    congestion: xr.DataArray
    day_ahead: xr.DataArray
    owners: pd.Series
    assets: Mapping[str, xr.DataArray]
    sites: Sites | None
    closed: xr.DataArray | None = None

    @property
    def scenarios(self) -> pd.Index:
        """Labels of the scenarios, (S,)."""
        return self.probability.indexes[SCENARIO]

    @property
    def snapshots(self) -> pd.Index:
        """Labels of the snapshots, (T,)."""
        return self.weighting.indexes[SNAPSHOT]

    @property
    def prosumers(self) -> pd.Index:
        """Names of the prosumers, (N,)."""
        return self.risk_attitude.indexes[PROSUMER]

    @property
    def edges(self) -> pd.Index:
        """Names of the Links that are trade edges, (E,)."""
        return self.bus0.indexes[NAME]

    @cached_property
    def ends(self) -> tuple[Positions, Positions]:
        """Positions of the prosumers at bus0 and at bus1 of every edge, (E,) each."""
        at0, at1 = (
            self.prosumers.get_indexer(pd.Index(end.to_numpy())) for end in (self.bus0, self.bus1)
        )
        return at0, at1

    @property
    def charged(self) -> bool:
        """Whether anybody pays a fee on what she trades."""
        return bool(self.fee0.any() or self.fee1.any())

    @property
    def ahead(self) -> pd.Index:
        """Names of the trade edges that are decided before the scenario is known."""
        return self.edges[self.day_ahead.to_numpy()]

    @property
    def ahead_of(self) -> Positions:
        """Of each trade in real time, that of its buyer and seller day ahead, (2 E,); else -1.

        Trades are both directions of every edge: first those in which the prosumers at bus0 buy.
        """
        at0, at1 = self.ends
        pair = np.concatenate([at0, at1]) * len(self.prosumers) + np.concatenate([at1, at0])
        ahead = np.tile(self.day_ahead.to_numpy(), 2)
        before = np.flatnonzero(ahead)
        found = pd.Index(pair[before]).get_indexer(pd.Index(pair))
        return np.where(ahead | (found < 0), -1, np.append(before, -1)[found])

    @property
    def delivering(self) -> Sites | None:
        """The sites where the grid has something to deliver: what is traded, or retailed."""
        if self.sites is None or (self.edges.empty and self.sites.retail.empty):
            return None
        return self.sites

    @property
    def counted(self) -> Flags:
        """Who counts where people are compared, (N,): all but operators."""
        return np.asarray(self.role.to_numpy() != OPERATOR)

    @property
    def fixed_part(self) -> Numbers:
        """Cost no decision changes, sum_t w_t (d - b~), EUR, (S, N)."""
        an_hour = self.fixed_cost.to_numpy() - self.usage_benefit.to_numpy()
        return np.asarray(an_hour * self.weighting.to_numpy().sum())

    def owner_of(self, component: str) -> xr.DataArray:
        """Owner of each active component of a class, trade edges left out; dims (name)."""
        return self.assets.get(component, _NOTHING)

    def names(self, component: str) -> pd.Index:
        """Names of the active components of a class, trade edges left out."""
        return self.owner_of(component).indexes[NAME]

    def for_model(self, array: xr.DataArray) -> xr.DataArray:
        """`array` as a PyPSA model wants it: without the scenario dim when there is none."""
        return array if self.stochastic else array.isel({SCENARIO: 0}, drop=True)


def in_words(data: MarketData, scenario: int, snapshot: int, prosumer: int) -> str:
    """A prosumer's hour by its positions: "for 'a' in snapshot 'now', scenario 'x'"."""
    of = data.scenarios[scenario]
    where = "" if of == ONLY_SCENARIO else f", scenario {shown(of)}"
    who, when = data.prosumers[prosumer], data.snapshots[snapshot]
    return f"for {shown(who)} in snapshot {shown(when)}{where}"


def require(good: xr.DataArray, what: str, must: str) -> None:
    """Refuse data that are not `good`, naming the first labels where they are not."""
    if bool(good.all()):
        return
    if SCENARIO in good.dims and list(good.indexes[SCENARIO]) == [ONLY_SCENARIO]:
        good = good.isel({SCENARIO: 0}, drop=True)  # a label users have not given
    labels = {dim: good.indexes[dim] for dim in good.dims}
    culprits = [
        " ".join(f"{dim} {shown(labels[dim][i])}" for dim, i in zip(labels, at, strict=True))
        for at in np.argwhere(~good.to_numpy())[:3]
    ]
    raise DataError(f"The {what} must {must}; look at {'; '.join(culprits)}.")
