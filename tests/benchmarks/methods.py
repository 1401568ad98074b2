"""``python -m tests.benchmarks.methods``: the table of docs/equilibria.md."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pypsa_p2p as p2p
from tests.benchmarks.clock import Duration
from tests.reference.instances import network, random_instance

Size = tuple[int, int, int]  # prosumers, scenarios, snapshots

SIZES: tuple[Size, ...] = ((14, 10, 1), (30, 20, 4), (100, 100, 1))
SEED = 1
TOLERANCE = 1e-6
MOST = 500  # iterations of ADMM with risk-averse agents; others stop by themselves
#: Risk of the market, whether a > 0, and the method, by what the table calls them.
RISK: dict[str, p2p.CVaR | None] = {"neutral": None, "averse": p2p.CVaR()}
CASES: tuple[tuple[str, bool, str, Any], ...] = (
    ("neutral", True, "direct", None),
    ("neutral", True, "best responses in turn", p2p.GaussSeidel(tolerance=TOLERANCE)),
    (
        "neutral",
        True,
        "the same, regularised",
        p2p.GaussSeidel(tolerance=TOLERANCE, regularisation=1.0),
    ),
    ("neutral", True, "best responses at once", p2p.Jacobi(tolerance=TOLERANCE)),
    ("neutral", True, "ADMM", p2p.ADMM(tolerance=TOLERANCE)),
    ("neutral", False, "direct", None),
    ("neutral", False, "ADMM", p2p.ADMM(tolerance=TOLERANCE)),
    ("averse", False, "direct", None),
    ("averse", False, "best responses in turn", p2p.GaussSeidel(tolerance=TOLERANCE)),
    ("averse", False, "ADMM", p2p.ADMM(tolerance=TOLERANCE, max_iterations=MOST)),
)
HEAD = (
    "N, S, T", "agents", "a", "method", "iterations", "time, s", "per iteration, ms", "messages",
    "numbers", "social cost", "exploitability", "misalignment",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One method on one market."""

    size: Size
    case: tuple[str, bool, str, Any]
    eq: p2p.Equilibrium
    taken: Duration

    def cells(self) -> list[str]:
        agents, congested, name, method = self.case
        history = self.eq.history
        many = self.eq.iterations
        misaligned = p2p.certify(self.eq.n).multiplier_misalignment
        return [
            ", ".join(map(str, self.size)),
            agents,
            "> 0" if congested else "0",
            name,
            "–" if method is None else f"{many}" if self.eq.converged else f"{many}, not done",
            f"{self.taken.cpu:.2f}",
            "–" if method is None else f"{1000 * self.taken.cpu / many:.1f}",
            f"{int(history.messages.sum()):,}",
            f"{int(history.numbers.sum()):,}",
            f"{self.eq.n.objective:.2f}",
            "–" if method is None else f"{float(history.exploitability[-1]):.0e}",
            f"{misaligned:.0e}",
        ]


def measure(size: Size) -> Iterator[Line]:
    """Every method at one size, each on a network of its own."""
    for case in CASES:
        agents, congested, _, method = case
        n = network(random_instance(SEED, *size, congestion=congested))
        market = p2p.PeerToPeerMarket(risk=RISK[agents])
        start = Duration.now()
        eq = p2p.solve_equilibrium(n, market, method, progress=False)
        yield Line(size, case, eq, Duration.now() - start)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.methods", description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="only the smallest market")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # PyPSA's own, of what will change
    logging.disable(logging.WARNING)
    _say(HEAD)
    _say(("---",) * len(HEAD))
    for size in SIZES[: 1 if options.smallest else None]:
        for line in measure(size):
            _say(line.cells())


def _say(cells: list[str] | tuple[str, ...]) -> None:
    sys.stdout.write("| " + " | ".join(cells) + " |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
