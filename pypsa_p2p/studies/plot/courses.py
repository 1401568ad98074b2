"""What pictures over time show: prices, dispatch and trades by snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.studies.plot.drawing import number, power_unit
from pypsa_p2p.studies.plot.solved import between_pairs

DEMAND: Final = "demand"
#: What dispatch is made of, with its colour: that of bills where they have it.
PARTS: Final = {
    "renewable": "#e69f00",
    "generation": "#009e73",
    "retail import": "#0072b2",
    "bought": "#d55e00",
    "into storage": "#9bd3bf",
    "retail export": "#56b4e9",
    "sold": "#f2b28c",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What is drawn over time.

    Attributes
    ----------
    values : DataFrame (snapshot, name)
        In the unit that the label tells.
    label : str
        Of the axis.
    among : array (snapshot, scenario), optional
        Scenarios of the only line there is.
    aside : str
        What is said of what is not drawn.
    """

    values: pd.DataFrame
    label: str
    among: np.ndarray | None = None
    aside: str = ""


def _expected(values: xr.DataArray, data: MarketData, scenario: str | None) -> xr.DataArray:
    """Expectation over scenarios of what there is, or the scenario named."""
    if scenario is not None:
        return values.sel({SCENARIO: scenario})
    return values.weighted(data.probability).mean(SCENARIO)


def prices(r: xr.Dataset, data: MarketData, whom: pd.Index, scenario: str | None) -> Course:
    """A column for each prosumer; those of many are made into bands when they are drawn."""
    price = r["nodal_price"].sel({PROSUMER: whom})
    values = _expected(price, data, scenario).transpose(SNAPSHOT, PROSUMER)
    frame = pd.DataFrame(values.to_numpy(), data.snapshots, [str(who) for who in whom])
    among = None
    if len(whom) == 1 and scenario is None and len(data.scenarios) > 1:
        among = price.isel({PROSUMER: 0}).transpose(SNAPSHOT, SCENARIO).to_numpy()
    return Course(values=frame, label="Nodal price (EUR/MWh)", among=among)


def dispatch(r: xr.Dataset, data: MarketData, whom: pd.Index, scenario: str | None) -> Course:
    """Columns that add up to demand, which is the last."""

    def power(name: str) -> np.ndarray:
        if name not in r:
            return np.zeros(len(data.snapshots))
        every = r[name].sel({PROSUMER: whom}).sum(PROSUMER)
        result: np.ndarray = _expected(every, data, scenario).transpose(SNAPSHOT).to_numpy()
        return result

    bought, sold = power("retail_import"), power("retail_export")
    own, traded = power("generation") - bought + sold, power("net_import")
    parts = {
        "renewable": power("renewable"),
        "generation": own.clip(min=0.0),
        "retail import": bought,
        "bought": traded.clip(min=0.0),
        "into storage": own.clip(max=0.0),
        "retail export": -sold,
        "sold": traded.clip(max=0.0),
    }
    demand = power("demand")
    greatest = max(float(np.abs(part).max()) for part in (*parts.values(), demand))
    factor, unit = power_unit(greatest)
    shown = {
        name: factor * part
        for name, part in parts.items()
        if np.abs(part).max() > ACCURACY.promised * greatest
    }
    who = "all prosumers" if len(whom) == len(data.prosumers) else ", ".join(map(str, whom))
    who = who if len(who) <= 30 else f"{len(whom)} prosumers"
    frame = pd.DataFrame({**shown, DEMAND: factor * demand}, data.snapshots)
    return Course(values=frame, label=f"Power of {who} ({unit})")


def trades(
    r: xr.Dataset, data: MarketData, whom: pd.Index, scenario: str | None, most: int
) -> Course:
    """A column for each of the largest trades; of the others it is said how much they are."""
    bought = _expected(between_pairs(r, data).clip(min=0.0), data, scenario)
    buyer, seller = (pd.Index(bought[end].to_numpy()) for end in ("buyer", "seller"))
    theirs = np.flatnonzero(buyer.isin(whom) | seller.isin(whom))
    power = bought.transpose(SNAPSHOT, TRADE).to_numpy()[:, theirs]
    weighting = data.weighting.to_numpy()
    energy = weighting @ power
    traded = int((energy > ACCURACY.promised * energy.max(initial=0.0)).sum())
    order = np.argsort(-energy, kind="stable")[:traded]
    single, others = order[:most], order[most:]
    factor, unit = power_unit(float(power[:, single].max(initial=0.0)))
    names = [f"{seller[k]} to {buyer[k]}" for k in theirs[single]]
    aside = ""
    if others.size:
        share = 100.0 * energy[others].sum() / energy.sum()
        aside = f"the {single.size} largest of {traded} trades; the others are {number(share, 0)} %"
    when = "" if scenario is None else f" in scenario {scenario}"
    return Course(
        values=pd.DataFrame(factor * power[:, single], data.snapshots, names),
        label=f"Trade{when} ({unit})",
        aside=aside,
    )
