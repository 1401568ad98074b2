"""What is kept of a point of a sweep: figures of the community, and variables of `results`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.common.units import Units
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.accounts import Accounts
from pypsa_p2p.solution.results import DESCRIBED, DIMS, trade_labels
from pypsa_p2p.studies.comparison import community_figures

#: Variables of `results` that every point keeps, where its market has them.
KEPT: Final = (
    "cost",
    "expected_cost",
    "value_at_risk",
    "risk_adjusted_cost",
    "risk_adjusted_probability",
    "welfare_weight",
    "reference_cost",
    "gain",
    "contract",
    "insurance",
    "contract_price",
)
#: What `community_figures` returns, with units and meanings.
FIGURES: Final = {
    "social_cost": ("EUR", "what the design minimises: sum of R, or the community's risk"),
    "expected_social_cost": ("EUR", "sum of the prosumers' expected costs"),
    "traded_energy": ("MWh", "expectation of what prosumers buy from each other"),
    "price_min": ("EUR/MWh", "least nodal price of whoever trades"),
    "price_mean": ("EUR/MWh", "their mean nodal price, over time and scenarios by weight"),
    "price_max": ("EUR/MWh", "greatest nodal price of whoever trades"),
    "cost_gini": ("1", "Gini coefficient of the prosumers' risk-adjusted costs"),
    "net_cost_gini": ("1", "Gini coefficient of their risk-adjusted net costs"),
    "contracts_traded": (
        "EUR",
        "what contracts bought inside pay, summed over scenarios",
    ),
    "insurance_bought": ("EUR", "what insurance bought outside pays, summed over scenarios"),
}


#: Of these what there is only where contracts are traded.
OF_CONTRACTS: Final = ("contracts_traded", "insurance_bought")


class Figures(NamedTuple):
    """Arrays by name.

    Attributes
    ----------
    values : mapping
        Dims and numbers of each.
    labels : mapping of Index
        Of every dim.
    """

    values: Mapping[str, tuple[tuple[str, ...], Numbers]]
    labels: Mapping[str, pd.Index]

    @classmethod
    def of_dataset(cls, dataset: xr.Dataset) -> Figures:
        """What a dataset holds."""
        values = {
            str(name): (tuple(map(str, array.dims)), array.to_numpy())
            for name, array in dataset.data_vars.items()
        }
        return cls(values, {str(dim): _plain(index) for dim, index in dataset.indexes.items()})

    def dataset(self) -> xr.Dataset:
        """The same with labels, units and meanings."""
        variables = {
            name: (dims, values, described(name)) for name, (dims, values) in self.values.items()
        }
        used = {dim for dims, _ in self.values.values() for dim in dims}
        return xr.Dataset(variables, {dim: self.labels[dim] for dim in self.labels if dim in used})


def _plain(index: pd.Index) -> pd.Index:
    """Labels as networks have them: text read from a file has a type of its own."""
    return index.astype(object) if pd.api.types.is_string_dtype(index.dtype) else index


def described(name: str) -> dict[str, str]:
    """Unit and meaning of a figure."""
    unit, meaning = FIGURES.get(name) or DESCRIBED[name]
    return {"unit": unit, "long_name": meaning}


def figures_of_results(
    r: xr.Dataset, data: MarketData, usual: Units, keep: Iterable[str]
) -> Figures:
    """What is kept of the `results` of a solved network."""
    arrays = {str(name): array.to_numpy() for name, array in r.data_vars.items()}
    chosen = Figures.of_dataset(r[[name for name in (*KEPT, *keep) if name in r]])
    return Figures(
        {**chosen.values, **_without_dims(community_figures(arrays, data, usual))}, chosen.labels
    )


def figures_of_accounts(accounts: Accounts, keep: Iterable[str]) -> Figures:
    """What is kept of a market that was solved and is written nowhere."""
    data, found = accounts.data, accounts.figures()
    contracts = accounts.contracts(with_regimes="at_cap" in keep)
    arrays = {**found, **{name: array.to_numpy() for name, array in contracts.items()}}
    dims = {**DIMS, **{name: tuple(map(str, array.dims)) for name, array in contracts.items()}}
    community = community_figures(arrays, data, accounts.found.usual)
    labels = {
        SCENARIO: data.scenarios,
        SNAPSHOT: data.snapshots,
        PROSUMER: data.prosumers,
        TRADE: pd.Index(trade_labels(data), dtype=object),
    }
    for array in contracts.values():
        labels |= {str(dim): index for dim, index in array.indexes.items()}
    chosen = {name: (dims[name], arrays[name]) for name in (*KEPT, *keep) if name in arrays}
    return Figures({**chosen, **_without_dims(community)}, labels)


def _without_dims(figures: Mapping[str, float]) -> dict[str, tuple[tuple[str, ...], Numbers]]:
    return {name: ((), np.asarray(value)) for name, value in figures.items()}
