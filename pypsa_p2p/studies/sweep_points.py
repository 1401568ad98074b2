"""One point of a sweep: its market and data, its fingerprint, and what is kept of its solution."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError, P2PError
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.names import (
    CONGESTION,
    ELASTIC_DEMAND_CARRIER,
    KEPT_DUALS,
    PRICE_SERIES,
    RECIPROCITY1,
    RISK_ADJUSTED_PROBABILITY,
    TRADE_CARRIER,
)
from pypsa_p2p.common.quiet import quiet_libraries
from pypsa_p2p.markets.base import Market
from pypsa_p2p.solution.results import read_results
from pypsa_p2p.studies.comparison import community_figures

Point = dict[str, Any]
Apply = Callable[[pypsa.Network, Point], pypsa.Network | None]
Markets = Market | Mapping[str, Market] | Callable[[Point], Market]

MARKET: Final = "market"
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
_WRITTEN: Final = {
    RISK_ADJUSTED_PROBABILITY,
    RECIPROCITY1,
    *KEPT_DUALS,
    *(series for of_class in PRICE_SERIES.values() for series in of_class),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all points of a sweep share beside the network."""

    markets: Markets
    apply: Apply | None
    keep: tuple[str, ...]
    stored: bool  # whether points are kept, by their fingerprints
    known: frozenset[str]  # of points that need not be solved again


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a point; neither figures nor error where its fingerprint was known."""

    key: str = ""
    figures: xr.Dataset | None = None
    error: str = ""


def solve_point(network: bytes, job: Job, point: Point) -> Outcome:
    """Solve a point on its own copy of the network; errors are an outcome, not raised."""
    key = ""
    try:
        with quiet_libraries():
            n, market = _posed(pickle.loads(network), job, point)
            key = fingerprint(n, market, job.keep) if job.stored else ""
            if key and key in job.known:
                return Outcome(key=key)
            market.optimize(n)
            return Outcome(key=key, figures=_figures(n, job.keep))
    except P2PError as error:  # follows from the inputs: their key goes with it
        return Outcome(key=key, error=str(error))
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}")


def _posed(n: pypsa.Network, job: Job, point: Point) -> tuple[pypsa.Network, Market]:
    """Network and market of a point."""
    for name, change in DATA_DIMENSIONS.items():
        if name in point:
            change(n, point[name])
    if job.apply is not None:
        returned = job.apply(n, point)
        n = n if returned is None else returned
    if isinstance(job.markets, Mapping):
        market = job.markets[point[MARKET]]
    else:
        market = job.markets if isinstance(job.markets, Market) else job.markets(point)
    if not isinstance(market, Market):
        raise MarketError(f"markets(point) must return a market, not {type(market).__name__}.")
    for name, vary in MARKET_DIMENSIONS.items():
        if name in point:
            market = vary(market, point[name])
    return n, market


def _with(part: str, field: str) -> Callable[[Market, Any], Market]:
    """How a field of a market's risk measure, or of its contracts, is set."""

    def vary(market: Market, value: Any) -> Market:
        """The market with that value; markets without the part stay as they are."""
        given = getattr(market, part)
        if given is None:
            return market
        if field not in (one.name for one in fields(given)):
            raise MarketError(
                f"{field}: {type(given).__name__} has no such number. Sweep over markets with a "
                "measure for each value instead, or leave the dimension out."
            )
        return replace(market, **{part: replace(given, **{field: value})})

    return vary


def _scale_renewables(n: pypsa.Network, factor: float) -> None:
    """Multiply the capacity of must-take generators."""
    static = n.c["Generator"].static
    limits = [n.get_switchable_as_dense("Generator", end) for end in ("p_min_pu", "p_max_pu")]
    fixed = (limits[0] == limits[1]).all()
    by_name = fixed.groupby(level="name").all() if fixed.index.nlevels > 1 else fixed
    names = static.index.get_level_values("name")
    elastic = (static["carrier"] == ELASTIC_DEMAND_CARRIER).to_numpy(bool)
    chosen = by_name.reindex(names).to_numpy(bool) & ~elastic
    Range(0).require("renewables, a factor on capacities:", factor)
    static.loc[chosen, "p_nom"] *= float(factor)


def _scale_capacity(n: pypsa.Network, factor: float) -> None:
    """Multiply the capacity of every trade edge."""
    static = n.c["Link"].static
    trades = static["carrier"] == TRADE_CARRIER
    Range(0).require("trade_capacity, a factor on capacities:", factor)
    static.loc[trades, "p_nom"] *= float(factor)


def _set_congestion(n: pypsa.Network, value: float) -> None:
    """Give every trade edge the same congestion coefficient."""
    static = n.c["Link"].static
    trades = static["carrier"] == TRADE_CARRIER
    Range(0).require("congestion of trades:", value)
    static.loc[trades, CONGESTION] = float(value)


#: Dimensions that need no `apply`, and what a value of theirs does.
MARKET_DIMENSIONS: Final = {
    "attitude": _with("risk", "attitude"),
    "weight": _with("risk", "weight"),
    "insurance_price": _with("contracts", "insurance_price"),
    "contract_limit": _with("contracts", "limit"),
}
DATA_DIMENSIONS: Final = {
    "renewables": _scale_renewables,
    "trade_capacity": _scale_capacity,
    "congestion": _set_congestion,
}


def _figures(n: pypsa.Network, keep: tuple[str, ...]) -> xr.Dataset:
    """What is kept of a solved point: figures of the community, and variables of `results`."""
    data, r = read_results(n)
    figures = community_figures(n, r, data)
    chosen = r[[name for name in (*KEPT, *keep) if name in r]]
    kept = chosen.drop_vars([name for name in chosen.coords if name not in chosen.dims])
    for name, value in figures.items():
        unit, meaning = FIGURES[name]
        kept[name] = xr.DataArray(value, attrs={"unit": unit, "long_name": meaning})
    return kept.assign_attrs({})


def fingerprint(n: pypsa.Network, market: Market, keep: tuple[str, ...]) -> str:
    """A name for what a point's figures follow from: inputs, market, version, and what is kept.

    Results that an earlier solve left in the network do not count.
    """
    digest = hashlib.sha256()
    shared = (version("pypsa-p2p"), version("pypsa"), sorted(keep))
    digest.update(repr((shared, _canonical(market))).encode())
    for frame in (n.snapshot_weightings, *_inputs(n)):
        digest.update(repr([frame.shape, *map(str, frame.columns)]).encode())
        digest.update(pd.util.hash_pandas_object(frame.index).to_numpy().tobytes())
        digest.update(b"".join(_content(frame[column]) for column in frame))
    if n.has_scenarios:
        digest.update(repr(_canonical(n.scenario_weightings["weight"])).encode())
    return digest.hexdigest()[:32]


def _content(column: pd.Series) -> bytes:
    """A column's values, numbers as they are: whole ones are the same as those with a point."""
    if pd.api.types.is_numeric_dtype(column) and not column.hasnans:
        return column.to_numpy(float).tobytes()
    return pd.util.hash_array(column.to_numpy(object)).tobytes()


def _inputs(n: pypsa.Network) -> list[pd.DataFrame]:
    """Tables of the network without results, in a fixed order of tables and columns."""
    tables = []
    for name in sorted(n.all_components):
        component = n.c[name]
        if component.static.empty:
            continue
        defaults = component.defaults
        ignored = _WRITTEN.union(defaults.index[defaults["status"] == "Output"])
        columns = sorted(set(component.static.columns) - ignored)
        tables.append(component.static[columns])
        for attribute in sorted(set(component.dynamic) - ignored):
            frame = component.dynamic[attribute]
            if not frame.empty:
                tables.append(frame.set_axis(frame.columns.map(str), axis=1))
    return tables


def _canonical(value: Any) -> Any:
    """A value as plain lists and texts that say all of it."""
    parts = _taken_apart(value)
    if isinstance(parts, Mapping):
        return sorted([repr(key), _canonical(item)] for key, item in parts.items())
    if isinstance(parts, list | tuple):
        return [_canonical(item) for item in parts]
    return repr(parts)


def _taken_apart(value: Any) -> Any:
    """Labels and numbers of a labelled value, fields of a dataclass; others as they are."""
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return [type(value).__name__, named]
    if isinstance(value, xr.DataArray):
        indexes = {dim: list(index) for dim, index in value.indexes.items()}
        return [value.dims, indexes, value.to_numpy()]
    if isinstance(value, pd.DataFrame | pd.Series):
        return [*map(list, value.axes), value.to_numpy()]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
