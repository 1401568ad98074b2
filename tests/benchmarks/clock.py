"""Time on two clocks, and the moments at which a market's call passes from part to part."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest import mock

import pypsa

from pypsa_p2p.markets import base
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.clearing import convex
from pypsa_p2p.solvers.program import RiskProgram


@dataclass(frozen=True)
class Duration:
    """Seconds of this process's own work and seconds on the wall."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Duration:
        return cls(time.process_time(), time.perf_counter())

    def __add__(self, other: Duration) -> Duration:
        return Duration(self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: Duration) -> Duration:
        return Duration(self.cpu - other.cpu, self.wall - other.wall)


Parts = dict[str, Duration]


def medians(runs: list[Parts]) -> Parts:
    """The median of each part on each clock."""
    return {
        name: Duration(median(r[name].cpu for r in runs), median(r[name].wall for r in runs))
        for name in runs[0]
    }


class Spans:
    """Wraps functions so that it knows when they last began and ended and what they were given."""

    def __init__(self) -> None:
        self.begin: dict[str, Duration] = {}
        self.end: dict[str, Duration] = {}
        self.arguments: dict[str, tuple[Any, ...]] = {}

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **kwargs: Any) -> Any:
            self.begin[name], self.arguments[name] = Duration.now(), args
            try:
                return function(*args, **kwargs)
            finally:
                self.end[name] = Duration.now()

        return watching

    def length(self, name: str) -> Duration:
        return self.end[name] - self.begin[name]

    @contextmanager
    def watching(self, owners: dict[str, Any]) -> Iterator[None]:
        """Watch functions where they are looked up: name -> the module that calls them."""
        with ExitStack() as stack:
            for name, owner in owners.items():
                watched = self.watched(name, getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, watched))
            yield


def direct_route(market: Market, n: pypsa.Network) -> tuple[Parts, RiskProgram]:
    """One `market.optimize(n)` in parts, and the program it solved.

    The parts add up to the whole: reading the network and building the model, the solver, what
    breaking ties adds to it, and writing back.
    """
    spans = Spans()
    gc.collect()
    watched = {
        "solve_market": base,
        "solve_quadratic": convex,
        "solve_risk": convex,
    }
    with spans.watching(watched):
        start = Duration.now()
        market.optimize(n)
        end = Duration.now()
    solver = "solve_risk" if "solve_risk" in spans.end else "solve_quadratic"
    parts = {
        "whole": end - start,
        "building": spans.begin["solve_market"] - start,
        "solver": spans.length(solver),
        "ties": spans.length("solve_market") - spans.length(solver),
        "writing": end - spans.end["solve_market"],
    }
    return parts, spans.arguments["solve_market"][1].program


def hook_route(market: Market, n: pypsa.Network) -> Parts:
    """One `n.optimize(extra_functionality=market)` in parts that add up to the whole."""
    spans = Spans()
    gc.collect()
    start = Duration.now()
    n.optimize(
        extra_functionality=spans.watched("market", market),
        include_objective_constant=False,
        log_to_console=False,
    )
    end = Duration.now()
    return {
        "whole": end - start,
        "create_model": spans.begin["market"] - start,
        "market": spans.length("market"),
        "solve_and_write": end - spans.end["market"],
    }
