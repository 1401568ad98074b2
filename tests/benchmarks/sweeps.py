"""``python -m tests.benchmarks.sweeps``: markets a second, of sweeps on one core.

Everything counts: reading, checking and compiling the network, solving, figures and the dataset
that comes back. Beside it some of the same markets one by one, `market.optimize(n)` and
`results(n)`, and a bare solver on them.
"""

from __future__ import annotations

import argparse
import gc
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pypsa

import pypsa_p2p as p2p
from pypsa_p2p.markets.base import Market
from pypsa_p2p.studies.sweep_points import DATA_DIMENSIONS, MARKET_DIMENSIONS
from tests.benchmarks.clock import Duration, direct_route
from tests.benchmarks.raw import conical, quadratic
from tests.benchmarks.report import SEED, say, table
from tests.reference.instances import network, random_instance

HEAD = (
    "market", "over", "markets", "ms a market", "markets a second", "/ one by one",
    "/ bare Clarabel",
)  # fmt: skip
_FEW = 5  # markets of each sweep that are solved one by one
AVERSE = p2p.PeerToPeerMarket(risk=p2p.CVaR())
HEDGED = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts())
#: Name, market, dimension, values, and the program that the bare solver gets.
CASES: tuple[tuple[str, Any, str, tuple[float, float], Any], ...] = (
    ("risk-averse", AVERSE, "attitude", (0.01, 0.9), conical),
    ("with contracts", HEDGED, "attitude", (0.01, 0.9), quadratic),
    ("risk-averse", AVERSE, "renewables", (0.5, 1.5), conical),
)


@dataclass(frozen=True)
class Line:
    """A sweep."""

    name: str
    dimension: str
    markets: int
    each: float  # CPU seconds a market
    one_by_one: float
    bare: float

    def cells(self) -> list[str]:
        return [
            self.name,
            self.dimension,
            str(self.markets),
            f"{1000 * self.each:.1f}",
            f"{1 / self.each:.0f}",
            f"{self.each / self.one_by_one:.2f}",
            f"{self.each / self.bare:.2f}",
        ]


def measure(count: int) -> Iterator[Line]:
    """Every case, of `count` markets of 14 prosumers and 10 scenarios."""
    n = network(random_instance(SEED, 14, 10, 1))
    for name, market, dimension, (first, last), build in CASES:
        values = list(np.linspace(first, last, count))
        singles = [_single(n, market, dimension, value) for value in values[:: -(-count // _FEW)]]
        one_by_one = [_alone(own, on) for own, on in singles]
        bare = [build(direct_route(own, on)[1]).run()[0].cpu for own, on in singles]
        gc.collect()
        start = Duration.now()
        d = p2p.sweep(n, market, {dimension: values}, progress=False)
        swept = Duration.now() - start
        assert (d.error == "").all()
        each = swept.cpu / count
        yield Line(
            name, dimension, count, each, float(np.median(one_by_one)), float(np.median(bare))
        )


def _single(
    n: pypsa.Network, market: Market, dimension: str, value: float
) -> tuple[Market, pypsa.Network]:
    """The market and the network of a value."""
    if dimension in MARKET_DIMENSIONS:
        return MARKET_DIMENSIONS[dimension](market, value), n
    on = n.copy()
    DATA_DIMENSIONS[dimension](on, value)
    return market, on


def _alone(market: Market, n: pypsa.Network) -> float:
    """CPU seconds of one market with its results."""
    start = Duration.now()
    market.optimize(n)
    p2p.results(n)
    return (Duration.now() - start).cpu


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sweeps", description=__doc__)
    parser.add_argument("--markets", type=int, default=60, help="of each sweep")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    say(table(HEAD, measure(options.markets)))


if __name__ == "__main__":
    main()
