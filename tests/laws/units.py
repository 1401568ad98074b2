"""The same market written in other units: its tables, its contracts, and its results.

A `Unit` says how many of the new power unit make 1 MW, and how many of the new unit of money make
1 EUR: in W and EUR that is 1e6 and 1. Snapshots stay hours. What a column is measured in is read
from PyPSA's own list of attributes; `OF_MARKETS` adds the columns of this package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

import pypsa_p2p as p2p


@dataclass(frozen=True)
class Unit:
    """How many of the new units make 1 MW and 1 EUR."""

    power: float = 1.0
    money: float = 1.0

    def factor(self, power: float, money: float) -> float:
        """What a number measured in MW^power EUR^money is multiplied by."""
        return self.power**power * self.money**money


UNITS = {
    "MW, EUR": Unit(),
    "W, EUR": Unit(power=1e6),
    "kW, EUR": Unit(power=1e3),
    "GW, EUR": Unit(power=1e-3),
    "MW, cent": Unit(money=1e2),
    "MW, kEUR": Unit(money=1e-3),
    "MW, MEUR": Unit(money=1e-6),
    "kW, MEUR": Unit(power=1e3, money=1e-6),
}

#: Powers of MW and of EUR in what PyPSA calls its units. Voltages are in kV where powers are in
#: MW, as V^2 / Ohm is a power: in V where they are in W. So x in Ohm stays, and so do phase shifts.
OF_PYPSA = {
    "MW": (1.0, 0.0),
    "MWh": (1.0, 0.0),
    "MVA": (1.0, 0.0),
    "MVar": (1.0, 0.0),
    "kV": (0.5, 0.0),
    "tonnes/MWh": (-1.0, 0.0),
    "currency": (0.0, 1.0),
    "currency/h": (0.0, 1.0),
    "currency/MW": (-1.0, 1.0),
    "currency/MVA": (-1.0, 1.0),
    "currency/MWh": (-1.0, 1.0),
    "currency/MWh/h": (-1.0, 1.0),
}
#: Columns of a market, of whatever component; and what PyPSA calls EUR/MWh but is EUR/MW2h.
OF_MARKETS = {
    "marginal_cost_quadratic": (-2.0, 1.0),
    "usage_benefit": (0.0, 1.0),
    "fixed_cost": (0.0, 1.0),
    "import_price": (-1.0, 1.0),
    "price0": (-1.0, 1.0),
    "price1": (-1.0, 1.0),
    "congestion": (-2.0, 1.0),
}
#: Of `results`, by the unit each variable says it has.
OF_RESULTS = {"MW": (1.0, 0.0), "EUR": (0.0, 1.0), "EUR/MWh": (-1.0, 1.0), "1": (0.0, 0.0)}
#: A contract pays a number of the new units of money: of those, there are more.
OF_CONTRACTS = {"contract_volume": (0.0, 1.0), "contract_payoff": (0.0, 0.0)}


def in_units(n: pypsa.Network, power: float, money: float) -> pypsa.Network:
    """The same market, not solved, in units `power` of which make 1 MW and `money` 1 EUR."""
    kinds = n.c["GlobalConstraint"].static.get("type", pd.Series(dtype=object))
    assert not n.is_solved and kinds.isin(["primary_energy"]).all()
    twin, unit = n.copy(), Unit(power, money)
    for component in sorted(twin.all_components):
        for attribute, exponents in _measured(twin, component).items():
            factor = unit.factor(*exponents)
            static, series = twin.c[component].static, twin.c[component].dynamic
            if attribute in static:
                static[attribute] = static[attribute].astype(float) * factor
            if attribute in series:
                series[attribute] = series[attribute] * factor
    return twin


def _measured(n: pypsa.Network, component: str) -> dict[str, tuple[float, float]]:
    """Powers of MW and EUR in each input attribute of a component that has any."""
    listed = n.c[component].ctype.defaults
    inputs = listed[listed["status"].astype(str).str.startswith("Input")]
    known = {name: OF_PYPSA[unit] for name, unit in inputs["unit"].items() if unit in OF_PYPSA}
    columns = {*n.c[component].static, *n.c[component].dynamic}
    return {**known, **{name: OF_MARKETS[name] for name in columns & set(OF_MARKETS)}}


def contracts_in_units(contracts: p2p.Contracts, power: float, money: float) -> p2p.Contracts:
    """The same contracts where a unit pays 1 of the new money, or the payoff's number of them.

    Prices of contracts and of insurance are money now per money then: they stay.
    """
    return replace(contracts, limit=_times(contracts.limit, money))


def market_in_units(market: Any, power: float, money: float) -> Any:
    """The same market: contracts hold the only numbers with a unit."""
    if market.contracts is None:
        return market
    return replace(market, contracts=contracts_in_units(market.contracts, power, money))


def results_in_units(r: xr.Dataset, power: float, money: float) -> xr.Dataset:
    """The expected results, from those in MW and EUR."""
    unit = Unit(power, money)
    of = {name: OF_RESULTS[r[name].attrs["unit"]] for name in r if "unit" in r[name].attrs}
    of |= {name: OF_CONTRACTS[name] for name in OF_CONTRACTS if name in r}
    return r.assign({name: r[name] * unit.factor(*exponents) for name, exponents in of.items()})


def _times(value: Any, factor: float) -> Any:
    """A limit in any form that `Contracts` takes, times a number."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {name: factor * number for name, number in value.items()}
    if isinstance(value, tuple):
        return tuple(factor * number for number in value)
    return factor * np.asarray(value, float).item()
