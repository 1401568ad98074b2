"""Bids in steps: what a prosumer would pay for energy, and at which prices she would sell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.names import DEMAND_BID_CARRIER, PROSUMER, SUPPLY_BID_CARRIER
from pypsa_p2p.common.tables import write
from pypsa_p2p.common.values import (
    Coordinates,
    Value,
    add_carriers,
    as_array,
    is_sequence,
    refuse,
    require_free,
)
from pypsa_p2p.network.prosumer_data import write_limits

Step = tuple[Value, Value]
Bids = Sequence[Step] | Mapping[str, Sequence[Step]] | pd.Series
"""Steps (price, quantity), EUR/MWh and MW, of all prosumers alike or by prosumer."""

_FORM = "give pairs (price, quantity), EUR/MWh and MW, or a mapping of such lists by prosumer"


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """The steps of all prosumers, K of them, each to be a Generator.

    Attributes
    ----------
    carrier : "demand bid" or "supply bid"
    names, buses : (K,)
        The generators, "<prosumer> demand bid 1" and so on, and whose they are.
    price, quantity : DataArray
        EUR/MWh and MW, over the steps and, where they vary, scenario and snapshot.
    """

    carrier: str
    names: pd.Index
    buses: pd.Index
    price: xr.DataArray
    quantity: xr.DataArray


def read_steps(
    n: pypsa.Network,
    bids: Bids,
    argument: str,
    carrier: str,
    prosumers: pd.Index,
    coordinates: Coordinates,
) -> Steps:
    """All steps as arrays, checked.

    Raises
    ------
    DataError
        What is no pair of price and quantity, naming prosumer and step; blocks among it.
    """
    others = {key: labels for key, labels in coordinates.items() if key != PROSUMER}
    names, buses, prices, quantities = [], [], [], []
    for prosumer, steps in _by_prosumer(bids, argument, prosumers):
        for k, (price, quantity) in enumerate(steps, start=1):
            names.append(f"{prosumer} {carrier} {k}")
            buses.append(prosumer)
            prices.append(as_array(price, f"{argument} price of {names[-1]!r}", others))
            quantities.append(as_array(quantity, f"{argument} quantity of {names[-1]!r}", others))
    labels = pd.Index(names, name=PROSUMER, dtype=object)
    require_free(n, "Generator", labels)
    quantity = _stacked(quantities, labels)
    refuse(quantity < 0, f"{argument} has a negative quantity", "demand and supply are both >= 0")
    return Steps(
        carrier=carrier,
        names=labels,
        buses=pd.Index(buses, dtype=object),
        price=_stacked(prices, labels),
        quantity=quantity,
    )


def add_steps(n: pypsa.Network, steps: Steps) -> None:
    """A Generator for each step, with its price as marginal cost; what is bought is negative."""
    if steps.names.empty:
        return
    add_carriers(n, [steps.carrier])
    n.add("Generator", list(steps.names), bus=steps.buses, carrier=steps.carrier, p_nom=1.0)
    write(n, "Generator", "marginal_cost", steps.names, steps.price)
    nothing = xr.zeros_like(steps.quantity)
    limits = {
        DEMAND_BID_CARRIER: (-steps.quantity, nothing),
        SUPPLY_BID_CARRIER: (nothing, steps.quantity),
    }
    write_limits(n, steps.names, *limits[steps.carrier])


def _by_prosumer(
    bids: object, argument: str, prosumers: pd.Index
) -> Iterator[tuple[str, list[Step]]]:
    """The steps of each prosumer who has some."""
    if isinstance(bids, pd.Series | Mapping):
        unknown = [key for key in bids.keys() if key not in prosumers]  # noqa: SIM118
        if unknown:
            raise DataError(
                f"Argument {argument} names {listed(unknown)}, who is none of the prosumers added "
                f"here, {listed(prosumers)}."
            )
        given = {str(key): bids[key] for key in bids.keys()}  # noqa: SIM118
    else:
        given = dict.fromkeys(prosumers, bids)
    for prosumer, steps in given.items():
        yield prosumer, _pairs(steps, f"Argument {argument} of prosumer {prosumer!r}")


def _pairs(steps: Any, what: str) -> list[Step]:
    if not is_sequence(steps):
        raise DataError(f"{what} is {shown(steps)}: {_FORM}.")
    for step in steps:
        if is_sequence(step) and len(step) > 2:
            raise DataError(
                f"{what} has {shown(step)}: a step is a price and a quantity, of which any part "
                "may be accepted. Blocks, all or nothing, are not available."
            )
        if not is_sequence(step) or len(step) != 2:
            raise DataError(f"{what} has {shown(step)}: {_FORM}.")
    return [(step[0], step[1]) for step in steps]


def _stacked(arrays: list[xr.DataArray], labels: pd.Index) -> xr.DataArray:
    """Arrays of some dims each as one, over the steps last."""
    if not arrays:
        return xr.DataArray([], coords={PROSUMER: labels})
    along = xr.concat(xr.broadcast(*arrays), labels, coords="minimal", compat="override")
    return along.transpose(..., PROSUMER)
