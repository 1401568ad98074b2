"""What prosumers buy from retailers, and sell to them: native generators at their buses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError, listed, shown
from pypsa_p2p.common.names import (
    PROSUMER,
    RETAIL_CAPACITY,
    RETAIL_CARRIERS,
    RETAIL_EXPORT_CARRIER,
    RETAIL_IMPORT_CARRIER,
    SNAPSHOT,
)
from pypsa_p2p.common.tables import (
    Numbers,
    by_scenario,
    write,
)
from pypsa_p2p.common.values import (
    Value,
    add_carriers,
    aligned,
    as_array,
    as_names,
    coordinates_of,
    labelled,
    refuse,
    require_free,
    require_network,
)
from pypsa_p2p.network.prosumers import prosumer_names
from pypsa_p2p.network.retail_contracts import fit_retail, remove_contracts, retail_contracts
from pypsa_p2p.network.room import room

#: Behind the names of prosumers: their generators.
IMPORT_SUFFIX: Final = f" {RETAIL_IMPORT_CARRIER}"
EXPORT_SUFFIX: Final = f" {RETAIL_EXPORT_CARRIER}"

#: Periods of calendars by the names that pandas once had for them.
_CALENDAR = re.compile(r"^(\d*)(M|Q|Y)(-\w+)?$")


def add_retail(
    n: pypsa.Network,
    prosumers: Iterable[str] | None = None,
    *,
    import_price: Value,
    export_price: Value,
    import_capacity: Value = np.inf,
    export_capacity: Value = np.inf,
    peak_price: Value = 0.0,
    peak_period: str | None = None,
) -> None:
    r"""Give prosumers each a contract with a retailer, of whom she buys and to whom she sells.

    It adds to the cost of prosumer n (MODEL.md §1)

    .. math:: \sum_t w_t (\pi^+ e^+ - \pi^- e^-) + \sum_k P K_k, \qquad
        0 \le e^+(\omega, t) \le K_{k(t)}

    with imports :math:`e^+` and exports :math:`e^-`. The largest import :math:`K_k` of a period k
    is settled before the scenario is known, as in contracts of capacity: one number for all
    scenarios, so that what the peak costs is the same in each. What others pay or are paid plays no
    part: each has her own contract, whatever her trades. A second call for the same prosumer
    replaces her contract.

    Parameters
    ----------
    n : pypsa.Network
        With prosumers; with or without scenarios; changed in place.
    prosumers : iterable of str, optional
        Who gets one. Default: everybody.
    import_price, export_price
        What a MWh bought costs, and one sold brings, EUR/MWh: in the forms of `add_prosumers`,
        by prosumer, snapshot, scenario; also a Series over ``n.snapshots``.
    import_capacity, export_capacity
        Most of each, at least 0, MW, by prosumer; infinite where there is no limit.
    peak_price
        P, EUR per MW of the largest import of each period, at least 0, by prosumer.
    peak_period : str, optional
        Length of the periods, a frequency of pandas: "MS" or "M" is a month, "D" a day. Default:
        all snapshots are one.

    Raises
    ------
    DataError
        Anything that does not fit; export above import prices in the same hour where neither
        capacity is limited, which would make money without end; no limit for somebody who may
        build an asset without limit. `n` is then as it was.

    Notes
    -----
    The contract of "a" is the Generators "a retail import" of carrier ``retail import`` and
    "a retail export" of carrier ``retail export``, whose p is not positive (`p_min_pu` = -1,
    `p_max_pu` = 0). In `results` they are parts of ``generation``, and ``retail_import`` and
    ``retail_export`` besides.

    Peaks are capacities to be built: an extendable "a retail import" for each period (its first
    snapshot in the name, where there are several), available in that period alone, whose
    `capital_cost` is P.

    A capacity without limit is a finite one that cannot bind: twice what all that stands at her
    bus and behind her meter could take or give at once, and all she could trade. `add_trades`,
    `set_scenarios` and sweeps keep it so; where other assets came later and it no longer is, the
    market refuses it and asks for another call. Nor is there a limit to what surplus may be sold
    over a trade edge: an import price below what that brings is refused, too. The capacity that
    was asked for is in the column ``retail_capacity`` of ``n.generators``.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> p2p.add_prosumers(n, ["roof", "flat"], demand=[0, 3], demand_max=[0, 3],
    ...                   demand_min=[0, 3], utility_quadratic=0, renewable=[2, 0])
    >>> p2p.add_retail(n, import_price=300, export_price=80)
    >>> p2p.add_trades(n, "complete", capacity=5)
    >>> p2p.PeerToPeerMarket().optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).retail_import.sel(prosumer="flat").item()  # 2 of 3 MWh are the roof's
    1.0
    """
    require_network(n)
    names = chosen_prosumers(n, prosumers)
    everyone = {PROSUMER: names}
    contract = _Contract(
        names=names,
        buy=prices_of(n, import_price, "import_price", names),
        sell=prices_of(n, export_price, "export_price", names),
        most_bought=_capacities(import_capacity, "import_capacity", names),
        most_sold=_capacities(export_capacity, "export_capacity", names),
        peak=_by_prosumer(as_array(peak_price, "peak_price", everyone), names),
        periods=_periods(n.snapshots, peak_period),
    )
    contract.check()
    if peak_period is not None and not contract.peak.any():
        raise DataError(
            f"Argument peak_period is {shown(peak_period)}, but there is no peak_price: give one, "
            "EUR/MW of the largest import of each period, or leave the period out."
        )
    contract.require_place(n)
    remove_contracts(n, names, *RETAIL_CARRIERS)
    contract.write(n)
    by_scenario(n, "Generator")
    fit_retail(n)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Contract:
    """What `add_retail` is given, as arrays.

    Attributes
    ----------
    names : Index
    buy, sell : DataArray
        EUR/MWh, over some of scenario, snapshot, prosumer.
    most_bought, most_sold, peak : DataArray (prosumer)
        MW, or infinite; EUR/MW.
    periods : Series (snapshot)
        The period of each, as text; "" where all are one.
    """

    names: pd.Index
    buy: xr.DataArray
    sell: xr.DataArray
    most_bought: xr.DataArray
    most_sold: xr.DataArray
    peak: xr.DataArray
    periods: pd.Series

    def check(self) -> None:
        """Refuse numbers outside their range, and money machines."""
        refuse(self.peak < 0, "peak_price is negative", "it must be at least 0")
        endless = np.isinf(self.most_bought) & np.isinf(self.most_sold)
        refuse(
            (self.sell > self.buy) & endless,
            "export_price exceeds import_price",
            "buying in order to sell would make money without end; lower it, or limit "
            "import_capacity or export_capacity",
        )

    def require_place(self, n: pypsa.Network) -> None:
        """Refuse names that others have, and assets of any size beside contracts without limit."""
        endless = np.isinf(self.most_bought.to_numpy()) | np.isinf(self.most_sold.to_numpy())
        room(n, self.names[endless])
        contracts = retail_contracts(n)
        own = contracts.index[contracts["bus"].isin(self.names)]  # which make place
        for labels in (self.names + EXPORT_SUFFIX, *(one.labels for one in self.imports)):
            require_free(n, "Generator", labels[~labels.isin(own)])

    @property
    def imports(self) -> list[_Imports]:
        """The generators of imports: one, or one of each period where peaks are charged."""
        charged = self.names[self.peak.to_numpy() > 0]
        free = self.names.difference(charged, sort=False)
        found = [_Imports(free + IMPORT_SUFFIX, free, None)] if len(free) else []
        for period in self.periods.unique() if len(charged) else ():
            labels = charged + IMPORT_SUFFIX + (f" {period}" if period else "")
            within = (self.periods == period).to_numpy(float)
            found.append(_Imports(labels, charged, within if period else None))
        return found

    def write(self, n: pypsa.Network) -> None:
        """Add the generators, and their prices; those without limit have no capacity yet."""
        add_carriers(n, list(RETAIL_CARRIERS))
        for labels, owners, within in self.imports:
            capacity, peak = (
                one.sel({PROSUMER: owners}).to_numpy() for one in (self.most_bought, self.peak)
            )
            _add(n, labels, owners, RETAIL_IMPORT_CARRIER, capacity, peak)
            write(n, "Generator", "marginal_cost", labels, _of(self.buy, owners))
            if within is not None:
                share = labelled(within, {SNAPSHOT: n.snapshots})
                write(n, "Generator", "p_max_pu", labels, share)
        labels = self.names + EXPORT_SUFFIX
        no_peak = np.zeros(len(labels))
        _add(n, labels, self.names, RETAIL_EXPORT_CARRIER, self.most_sold.to_numpy(), no_peak)
        write(n, "Generator", "marginal_cost", labels, self.sell)


class _Imports(NamedTuple):
    """Generators of imports: whose they are, and 1 within their period; None: always."""

    labels: pd.Index
    owners: pd.Index
    within: Numbers | None


def chosen_prosumers(n: pypsa.Network, prosumers: Iterable[str] | None) -> pd.Index:
    """Those named, or everybody; refused where they are no prosumers."""
    everyone = prosumer_names(n)
    if everyone.empty:
        raise DataError("The network has no prosumers: add them first, add_prosumers(n, ...).")
    if prosumers is None:
        return everyone
    names = as_names(prosumers, "prosumers")
    unknown = names[~names.isin(everyone)]
    if len(unknown):
        raise DataError(
            f"Argument prosumers has {listed(unknown)}, which is no prosumer of {listed(everyone)}."
        )
    return names


def prices_of(n: pypsa.Network, value: Value, argument: str, names: pd.Index) -> xr.DataArray:
    """Prices by prosumer, snapshot, scenario, or some of these; also a Series over snapshots."""
    if isinstance(value, pd.Series) and value.index.equals(n.snapshots):
        value = labelled(value.to_numpy(), {SNAPSHOT: n.snapshots})
    return as_array(value, argument, coordinates_of(n, names))


def _capacities(value: Value, argument: str, names: pd.Index) -> xr.DataArray:
    """Numbers of at least 0, by prosumer, which may be infinite."""
    found = aligned(value, f"Argument {argument}", {PROSUMER: names})
    limited = as_array(found.where(found != np.inf, 0.0), argument, {PROSUMER: names})
    refuse(limited < 0, f"{argument} is negative", "it must be at least 0")
    return _by_prosumer(limited.where(found != np.inf, np.inf), names)


def _by_prosumer(values: xr.DataArray, names: pd.Index) -> xr.DataArray:
    return labelled(np.broadcast_to(values.to_numpy(), len(names)), {PROSUMER: names})


def _periods(snapshots: pd.Index, length: str | None) -> pd.Series:
    """The first snapshot of the period of each, as text; "" where all are one."""
    if length is None:
        return pd.Series("", snapshots)
    if not isinstance(snapshots, pd.DatetimeIndex):
        raise DataError(
            f"Argument peak_period is {shown(length)}, but n.snapshots are no times: leave it out, "
            "and all of them are one period, or set times with n.set_snapshots."
        )
    try:
        of_calendar = _CALENDAR.match(length)
        frequency = _CALENDAR.sub(r"\1\2E\3", length) if of_calendar else length
        grouped = pd.Series(snapshots, snapshots).groupby(pd.Grouper(freq=frequency))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Argument peak_period is {shown(length)}: give a frequency of pandas, as 'MS', 'W' or "
            "'D'."
        ) from error
    first = grouped.transform("first")
    days = first.dt.strftime("%Y-%m-%d")
    text = days if days.nunique() == first.nunique() else first.dt.strftime("%Y-%m-%d %H:%M")
    return text if text.nunique() > 1 else pd.Series("", snapshots)


def _add(
    n: pypsa.Network,
    labels: pd.Index,
    owners: pd.Index,
    carrier: str,
    capacity: Numbers,
    peak: Numbers,
) -> None:
    """Generators of contracts without prices: of those with a peak charge the size is decided."""
    imports = carrier == RETAIL_IMPORT_CARRIER
    to_find = peak > 0
    asked: dict[str, Any] = {RETAIL_CAPACITY: capacity}
    n.add(
        "Generator",
        list(labels),
        bus=owners,
        carrier=carrier,
        p_min_pu=0.0 if imports else -1.0,
        p_max_pu=1.0 if imports else 0.0,
        p_nom=np.where(to_find | np.isinf(capacity), 0.0, capacity),
        p_nom_max=np.where(to_find, capacity, np.inf),
        p_nom_extendable=to_find,
        capital_cost=peak,
        **asked,
    )


def _of(prices: xr.DataArray, owners: pd.Index) -> xr.DataArray:
    """The prices of some prosumers, where they vary between them."""
    return prices.sel({PROSUMER: owners}) if PROSUMER in prices.dims else prices
