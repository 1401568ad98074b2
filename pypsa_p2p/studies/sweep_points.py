"""One point of a sweep: its market and data, its fingerprint, and what is kept of its solution."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from threading import get_ident
from typing import Any, Final

import pypsa

from pypsa_p2p.common.errors import MarketError, P2PError
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.names import (
    CONGESTION,
    ELASTIC_DEMAND_CARRIER,
    TRADE_CARRIER,
)
from pypsa_p2p.common.quiet import quiet_libraries
from pypsa_p2p.common.values import is_hashable
from pypsa_p2p.markets.base import Market
from pypsa_p2p.studies.sweep_figures import Figures
from pypsa_p2p.studies.sweep_networks import SweptNetwork

Point = dict[str, Any]
Apply = Callable[[pypsa.Network, Point], pypsa.Network | None]
Markets = Market | Mapping[str, Market] | Callable[[Point], Market]

MARKET: Final = "market"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all points of a sweep share beside the network."""

    markets: Markets
    apply: Apply | None
    keep: tuple[str, ...]
    stored: bool  # whether points are kept, by their fingerprints
    known: frozenset[str]  # of points that need not be solved again
    collect: bool = False  # whether the others are not solved either


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a point; neither figures nor error where it was not solved."""

    key: str = ""
    figures: Figures | None = None
    error: str = ""
    broken: bool = False  # whether the error may be gone another time


def label(point: Point) -> str:
    """A point in a message or a file: ``attitude=0.1, renewables=0.8``."""
    return ", ".join(f"{name}={value}" for name, value in point.items())


def solve_point(network: bytes, job: Job, point: Point) -> Outcome:
    """Solve a point on its own copy of the network; errors are an outcome, not raised."""
    key = ""
    try:
        with quiet_libraries():
            on = _network(network, job, point)
            market = _market(job.markets, point)
            key = on.fingerprint(market, job.keep) if job.stored else ""
            if job.collect or (key and key in job.known):
                return Outcome(key=key)
            return Outcome(key=key, figures=on.figures(market, job.keep))
    except P2PError as error:  # follows from the inputs: their key goes with it
        return Outcome(key=key, error=str(error))
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}", broken=True)


def _data_of(point: Point) -> tuple[tuple[str, Any], ...]:
    """What of a point changes the network, where no `apply` does."""
    return tuple((name, point[name]) for name in DATA_DIMENSIONS if name in point)


def side_by_side(points: list[Point]) -> list[int]:
    """Places of the points, those of one network next to each other."""
    seen: dict[str, int] = {}
    order = [seen.setdefault(repr(_data_of(point)), len(seen)) for point in points]
    return sorted(range(len(points)), key=order.__getitem__)


def _network(network: bytes, job: Job, point: Point) -> SweptNetwork:
    """The network of a point: shared by those that change nothing else of it."""
    data = _data_of(point)
    if job.apply is None and is_hashable(data):
        return shared_network(network, data, get_ident())
    n = _changed(network, data)
    returned = None if job.apply is None else job.apply(n, point)
    return SweptNetwork(n if returned is None else returned)


@lru_cache(maxsize=8)
def shared_network(
    network: bytes,
    data: tuple[tuple[str, Any], ...],
    thread: int,  # noqa: ARG001 - part of the key: two threads must not share one
) -> SweptNetwork:
    """The last networks with these `data`, and what was found on them, one for each thread."""
    return SweptNetwork(_changed(network, data))


def _changed(network: bytes, data: tuple[tuple[str, Any], ...]) -> pypsa.Network:
    n: pypsa.Network = pickle.loads(network)
    for name, value in data:
        DATA_DIMENSIONS[name](n, value)
    return n


def _market(markets: Markets, point: Point) -> Market:
    """The market of a point."""
    if isinstance(markets, Mapping):
        market = markets[point[MARKET]]
    else:
        market = markets if isinstance(markets, Market) else markets(point)
    if not isinstance(market, Market):
        raise MarketError(f"markets(point) must return a market, not {type(market).__name__}.")
    for name, vary in MARKET_DIMENSIONS.items():
        if name in point:
            market = vary(market, point[name])
    return market


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
