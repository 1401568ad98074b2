"""Points of a sweep: market and data, fingerprint, and what is kept of their solutions."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Final

import pandas as pd
import pypsa

from pypsa_p2p.common.errors import MarketError, P2PError
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.names import (
    CONGESTION,
    CONSUMPTION,
    FEE0,
    FEE1,
    TRADE_CARRIER,
)
from pypsa_p2p.common.quiet import quiet_libraries
from pypsa_p2p.common.tables import first_scenario
from pypsa_p2p.common.values import is_hashable
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.network.books import must_take
from pypsa_p2p.network.retail_contracts import fit_retail
from pypsa_p2p.studies.sweep_figures import Figures
from pypsa_p2p.studies.sweep_networks import Asked, SweptNetwork, solved_markets

Point = dict[str, Any]
Change = Callable[[pypsa.Network, Point], pypsa.Network | None]
Apply = Change | Mapping[str | tuple[str, ...], Change]
Markets = Market | Mapping[str, Market] | Callable[[Point], Market]

MARKET: Final = "market"

#: Points that are asked for before the first of them is solved.
_TOGETHER: Final = 20


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


def solve_points(network: bytes, job: Job, points: Sequence[Point]) -> Iterator[Outcome]:
    """Solve points of one model on copies of the network; errors are an outcome, not raised."""
    asking = _Asking(network, job)
    for start in range(0, len(points), _TOGETHER):
        steps = [asking.of(point) for point in points[start : start + _TOGETHER]]
        found = solved_markets({step.market for step in steps if isinstance(step, _Open)})
        for step in steps:
            yield step.closed(found) if isinstance(step, _Open) else step


@dataclass(frozen=True, kw_only=True)
class _Open:
    """A point whose market has still to be solved."""

    key: str
    market: Asked

    def closed(self, found: Mapping[Asked, MarketSolution]) -> Outcome:
        """What comes of it."""
        try:
            with quiet_libraries():
                return Outcome(key=self.key, figures=self.market.figures(found.get(self.market)))
        except Exception as error:
            return _failed(self.key, error)


class _Asking:
    """What is to be solved at points of one model, which share what they can."""

    def __init__(self, network: bytes, job: Job) -> None:
        self._copy, self._job = _Copy(network), job
        self._on: SweptNetwork | None = None
        self._values: Any = None  # of the known dimensions, on it

    def of(self, point: Point) -> _Open | Outcome:
        """A point's market to be solved, or what came of the point already."""
        job, key, found = self._job, "", None
        try:
            with quiet_libraries():
                on, market = self._network(point), _market(job.markets, point)
                key = on.fingerprint(market, job.keep) if job.stored else ""
                if not (job.collect or (key and key in job.known)):
                    found = on.ask(market, job.keep)
        except Exception as error:
            return _failed(key, error)
        if isinstance(found, Asked):
            return _Open(key=key, market=found)
        return Outcome(key=key, figures=found)

    def _network(self, point: Point) -> SweptNetwork:
        """The network of a point: the last one, where its numbers are the same."""
        values = _known_data(point)
        if self._on is None or values != self._values:
            self._on = SweptNetwork(self._copy.at(point, self._job.apply), like=self._on)
            self._values = values
        return self._on


def _failed(key: str, error: Exception) -> Outcome:
    """An error as an outcome; what follows from the inputs goes with their key."""
    if isinstance(error, P2PError):
        return Outcome(key=key, error=str(error))
    return Outcome(error=f"{type(error).__name__}: {error}", broken=True)


def by_model(points: list[Point], apply: Apply | None) -> list[list[int]]:
    """Places of the points, those of one model together, those of one network side by side."""
    together: dict[Hashable, dict[str, list[int]]] = {}
    for place, point in enumerate(points):
        of_model = together.setdefault(_structure(place, point, apply), {})
        of_model.setdefault(repr(_known_data(point)), []).append(place)
    return [list(chain.from_iterable(of_model.values())) for of_model in together.values()]


def _known_data(point: Point) -> list[tuple[str, Any]]:
    """Values of the known dimensions that change the network."""
    return [(name, point[name]) for name in DATA_DIMENSIONS if name in point]


def dimensions_of(key: str | tuple[str, ...]) -> tuple[str, ...]:
    """The dimensions that a key of a mapping `apply` names: one, or several."""
    return key if isinstance(key, tuple) else (key,)


def _structure(place: int, point: Point, apply: Apply | None) -> Hashable:
    """What of a point may change more of the network; its place where that cannot be known.

    Where there are changes of the user's own they come last, and what they do may depend on all.
    """
    names = [name for name in DATA_DIMENSIONS if name not in _NUMBERS]
    if isinstance(apply, Mapping):
        names = [*DATA_DIMENSIONS, *(name for key in apply for name in dimensions_of(key))]
    elif apply is not None:
        return place
    data = tuple((name, point[name]) for name in names if name in point)
    return data if is_hashable(data) else place


class _Copy:
    """A copy of the network, to which the numbers of one point after the other are given."""

    def __init__(self, network: bytes) -> None:
        self._network = network
        self._n: Any = None  # a Network, once somebody asks for it

    def at(self, point: Point, apply: Apply | None) -> pypsa.Network:
        """It with the data of a point, of which all but the numbers are as in the last one."""
        if self._n is None or apply is not None:
            n = pickle.loads(self._network)
            _set(n, point, DATA_DIMENSIONS.keys() - _NUMBERS.keys())  # may be refused
            self._n, self._given = n, _columns(n)
        n = self._n
        for (component, column), given in self._given.items():
            n.c[component].static[column] = given
        _set(n, point, _NUMBERS.keys())
        for part, change in _changes(apply, point):
            returned = change(n, part)
            n = n if returned is None else returned
        return n


def _columns(n: pypsa.Network) -> dict[tuple[str, str], pd.Series]:
    """The columns of numbers as they are, by class and name."""
    there = {(c, of) for c, of in _NUMBERS.values() if of in n.c[c].static}
    return {(c, of): n.c[c].static[of].copy() for c, of in there}


def _set(n: pypsa.Network, point: Point, names: Collection[str]) -> None:
    """Give a network the values of some known dimensions."""
    for name, set_to in DATA_DIMENSIONS.items():
        if name in point and name in names:
            set_to(n, point[name])
    fit_retail(n)


def _changes(apply: Apply | None, point: Point) -> Iterator[tuple[Point, Change]]:
    """What changes the network besides, each with its part of the point."""
    if isinstance(apply, Mapping):
        for key, change in apply.items():
            yield {name: point[name] for name in dimensions_of(key)}, change
    elif apply is not None:
        yield point, apply


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
    every = pd.Index(first_scenario(n, "Generator").index)
    elastic = static["carrier"].isin(CONSUMPTION).to_numpy(bool)
    chosen = static.index.get_level_values("name").isin(must_take(n, every)) & ~elastic
    Range(0).require("renewables, a factor on capacities:", factor)
    if not chosen.any():
        raise MarketError(
            "renewables: no generator here is must-take, p_min_pu = p_max_pu, so that the factor "
            "would change nothing. Scale what you mean with apply=, or leave the dimension out."
        )
    static["p_nom"] = static["p_nom"].where(~chosen, static["p_nom"] * float(factor))


def _trades(n: pypsa.Network, dimension: str) -> tuple[pd.DataFrame, pd.Series]:
    """The table of Links, and which of them are trade edges."""
    static = n.c["Link"].static
    trades = static["carrier"] == TRADE_CARRIER
    if not trades.any():
        raise MarketError(f"{dimension}: the network has no trade edges. Leave the dimension out.")
    return static, trades


def _scale_capacity(n: pypsa.Network, factor: float) -> None:
    """Multiply the capacity of every trade edge."""
    static, trades = _trades(n, "trade_capacity")
    Range(0).require("trade_capacity, a factor on capacities:", factor)
    static["p_nom"] = static["p_nom"].where(~trades, static["p_nom"] * float(factor))


def _set_congestion(n: pypsa.Network, value: float) -> None:
    """Give every trade edge the same congestion coefficient."""
    static, trades = _trades(n, "congestion")
    Range(0).require("congestion of trades:", value)
    static[CONGESTION] = static[CONGESTION].where(~trades, float(value))


def _scale_fees(n: pypsa.Network, factor: float) -> None:
    """Multiply the fees of every trade edge."""
    Range(0).require("fees, a factor on those of trades:", factor)
    (static, trades), links = _trades(n, "fees"), n.c["Link"]
    for fee in (FEE0, FEE1):
        if fee in static:
            static[fee] = static[fee].where(~trades, static[fee] * float(factor))
        if fee in links.dynamic:
            links.dynamic[fee] = links.dynamic[fee] * float(factor)


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
    "fees": _scale_fees,
}
#: Of these what changes numbers of a compiled model only, and in which column.
_NUMBERS: Final = {
    "renewables": ("Generator", "p_nom"),
    "trade_capacity": ("Link", "p_nom"),
    "congestion": ("Link", CONGESTION),
}
