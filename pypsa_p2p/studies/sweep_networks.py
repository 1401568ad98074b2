"""A network of a sweep: read and compiled once for all markets that are solved on it."""

from __future__ import annotations

from typing import Final

import pypsa
import xarray as xr

from pypsa_p2p.common.pypsa_state import adopt_model
from pypsa_p2p.markets.base import Market, Posed
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.results import read_results
from pypsa_p2p.studies.comparison import community_figures
from pypsa_p2p.studies.sweep_fingerprints import fingerprint, inputs_of

#: Variables of `results` that every point keeps, where its market has them.
KEPT: Final = (
    "cost",
    "expected_cost",
    "value_at_risk",
    "risk_adjusted_cost",
    "risk_adjusted_probability",
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


class SweptNetwork:
    """A network that nobody changes any more, and what was found on it.

    Markets of one formulation share its model; a market that comes again is not solved again.
    """

    def __init__(self, n: pypsa.Network) -> None:
        self._n = n
        self._inputs = ""
        self._posed: dict[Market, Posed] = {}
        self._found: dict[tuple[Market, tuple[str, ...]], xr.Dataset] = {}

    def fingerprint(self, market: Market, keep: tuple[str, ...]) -> str:
        """What a point's figures follow from."""
        self._inputs = self._inputs or inputs_of(self._n)
        return fingerprint(self._inputs, market, keep)

    def figures(self, market: Market, keep: tuple[str, ...]) -> xr.Dataset:
        """What is kept of the solved market: figures of the community, variables of `results`."""
        if not is_known_again(market):
            market.optimize(self._n)
            return _figures(self._n, keep)
        if (market, keep) not in self._found:
            data = self._solve(market)
            self._found[market, keep] = _figures(self._n, keep, data)
        return self._found[market, keep]

    def _solve(self, market: Market) -> MarketData:
        formulation = market.formulation
        posed = None if formulation is None else self._posed.get(formulation)
        if posed is None:
            posed = market.pose(self._n)
            if formulation is not None and posed.plain:
                self._posed[formulation] = posed
        else:
            market.require(self._n, posed.data)
            adopt_model(self._n, posed.compiled.model, posed.data.snapshots)
        market.clear(self._n, posed)
        return posed.data


def is_known_again(value: object) -> bool:
    """Whether a value has a hash: a market with a measure of one's own may hold what has none."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _figures(n: pypsa.Network, keep: tuple[str, ...], data: MarketData | None = None) -> xr.Dataset:
    """What is kept of a solved point: figures of the community, and variables of `results`."""
    data, r = read_results(n, data)
    figures = community_figures(n, r, data)
    chosen = r[[name for name in (*KEPT, *keep) if name in r]]
    kept = chosen.drop_vars([name for name in chosen.coords if name not in chosen.dims])
    for name, value in figures.items():
        unit, meaning = FIGURES[name]
        kept[name] = xr.DataArray(value, attrs={"unit": unit, "long_name": meaning})
    return kept.assign_attrs({})
