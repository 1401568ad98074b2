"""``python -m tests.benchmarks.growth``: how time and memory grow with the market.

Each size runs in a process of its own, so that its peak memory is known; one run each.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import pypsa_p2p as p2p
from pypsa_p2p.markets.base import Market
from tests.benchmarks.clock import direct_route
from tests.benchmarks.report import SEED, Size, say, shown, table
from tests.reference.instances import network, random_instance

DESIGNS: dict[str, Market] = {
    "risk-neutral": p2p.PeerToPeerMarket(),
    "with contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
    "risk-averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
}
LADDERS: dict[str, tuple[Size, ...]] = {
    "N": ((25, 20, 4), (50, 20, 4), (100, 20, 4), (200, 20, 4)),
    "S": ((14, 125, 1), (14, 250, 1), (14, 500, 1), (14, 1000, 1)),
    "T": ((14, 20, 6), (14, 20, 12), (14, 20, 24), (14, 20, 48)),
}
LARGE: tuple[Size, ...] = ((100, 20, 24), (500, 20, 24))
HEAD = (
    "N, S, T", "design", "variables", "whole, s", "solver, s", "ties, s", "peak, GB",
    "us a variable",
)  # fmt: skip
GROWTH = ("in", "from", "to", "design", "exponent of the whole", "of solver and ties")


@dataclass(frozen=True)
class Line:
    """One market."""

    size: Size
    design: str
    variables: int
    whole: float
    solver: float
    ties: float
    peak: float

    def cells(self) -> list[str]:
        return [
            shown(self.size),
            self.design,
            f"{self.variables:,}",
            f"{self.whole:.2f}",
            f"{self.solver:.2f}",
            f"{self.ties:.2f}",
            f"{self.peak:.1f}",
            f"{1e6 * self.whole / self.variables:.1f}",
        ]


@dataclass(frozen=True)
class Growth:
    """How the time of a design grows along a ladder: the slope between its last two steps."""

    dimension: str
    design: str
    lines: list[Line]

    def cells(self) -> list[str]:
        one, other = self.lines[-2:]
        ratio = np.log(np.prod(other.size) / np.prod(one.size))
        whole = np.log(other.whole / one.whole) / ratio
        solving = np.log((other.solver + other.ties) / (one.solver + one.ties)) / ratio
        sizes = shown(one.size), shown(other.size)
        return [self.dimension, *sizes, self.design, f"{whole:.2f}", f"{solving:.2f}"]


def measured(size: Size, design: str) -> Line:
    """In a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--one", json.dumps([size, design])]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return Line(size, design, **found)


def _measure_here(size: Size, design: str) -> dict[str, float]:
    n = network(random_instance(SEED, *size))
    DESIGNS[design].optimize(network(random_instance(SEED, 3, 2, 1)))  # imports, and warms up
    parts, program = direct_route(DESIGNS[design], n)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "variables": program.c.size,
        **{name: parts[name].cpu for name in ("whole", "solver", "ties")},
        "peak": peak,
    }


def _growths(found: dict[tuple[str, str], list[Line]]) -> Iterator[Growth]:
    for (dimension, design), lines in found.items():
        yield Growth(dimension, design, lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    parser.add_argument("--large", action="store_true", help="the largest markets as well")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if options.one:
        size, design = json.loads(options.one)
        say([json.dumps(_measure_here(tuple(size), design))])
        return
    found: dict[tuple[str, str], list[Line]] = {}

    def lines() -> Iterator[Line]:
        for dimension, ladder in LADDERS.items():
            for design in DESIGNS:
                for size in ladder:
                    line = measured(size, design)
                    found.setdefault((dimension, design), []).append(line)
                    yield line
        for size in LARGE if options.large else ():
            for design in DESIGNS:
                yield measured(size, design)

    say(table(HEAD, lines()))
    say([""])
    say(table(GROWTH, _growths(found)))


if __name__ == "__main__":
    main()
