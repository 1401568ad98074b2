"""What is measured, and the tables it is printed in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pypsa_p2p as p2p
from pypsa_p2p.markets.base import Market
from pypsa_p2p.solvers.program import RiskProgram
from tests.benchmarks.clock import Duration, Parts, direct_route, hook_route, medians
from tests.benchmarks.raw import RawProgram, conical, quadratic, quadratic_expected
from tests.reference.instances import network, random_instance

Size = tuple[int, int, int]  # prosumers, scenarios, snapshots

SIZES: tuple[Size, ...] = ((14, 10, 1), (14, 100, 1), (14, 1000, 1), (30, 20, 24), (100, 20, 24))
HOOK_SIZES: tuple[Size, ...] = SIZES[:2]
SEED = 1


@dataclass(frozen=True)
class Design:
    """A market and the bare programs it is measured against."""

    name: str
    market: Market
    raw: dict[str, Callable[[RiskProgram], RawProgram]]


DESIGNS = (
    Design(
        "risk-neutral",
        p2p.CentralizedMarket(),
        {"QP": quadratic, "QP, expected cost": quadratic_expected},
    ),
    Design("risk-averse", p2p.PeerToPeerMarket(risk=p2p.CVaR()), {"cones": conical}),
    Design(
        "with contracts",
        p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
        {"QP": quadratic, "cones": conical},
    ),
)


@dataclass(frozen=True)
class Direct:
    """One line of the first table: `market.optimize(n)` beside one bare program."""

    size: Size
    design: str
    program: str
    status: str
    raw: Duration
    parts: Parts
    objective: float  # the network's, EUR
    raw_objective: float

    def cells(self) -> list[str]:
        parts = (self.parts[name] for name in ("building", "solver", "ties", "writing"))
        return [
            shown(self.size),
            self.design,
            f"{self.program} ({self.status})",
            f"{self.raw.cpu:.3f}",
            f"{self.parts['whole'].cpu:.3f}",
            f"{self.parts['whole'].wall:.3f}",
            f"**{self.parts['whole'].cpu / self.raw.cpu:.2f}**",
            *(f"{part.cpu / self.raw.cpu:.2f}" for part in parts),
        ]


@dataclass(frozen=True)
class Hook:
    """One line of the second table: `n.optimize(extra_functionality=market)`."""

    size: Size
    design: str
    parts: Parts

    def cells(self) -> list[str]:
        whole = self.parts["whole"]
        parts = (self.parts[name] for name in ("create_model", "market", "solve_and_write"))
        return [
            shown(self.size),
            self.design,
            f"{whole.cpu:.2f}",
            f"{whole.wall:.2f}",
            *(f"{part.cpu / whole.cpu:.2f}" for part in parts),
        ]


DIRECT_HEAD = (
    "N, S, T", "design", "bare Clarabel on", "bare, s", "whole, s", "whole, wall s",
    "whole / bare", "building", "solver", "ties", "writing",
)  # fmt: skip
HOOK_HEAD = (
    "N, S, T", "design", "whole, s", "whole, wall s", "PyPSA's create_model", "the market",
    "PyPSA's solve and writing",
)  # fmt: skip


def measure_direct(size: Size, repeat: int) -> Iterator[Direct]:
    """Every design at one size; call and bare solvers take turns, medians of `repeat` each."""
    n = network(random_instance(SEED, *size))
    for design in DESIGNS:
        program = direct_route(design.market, n)[1]  # also warms caches up
        bare = {name: build(program) for name, build in design.raw.items()}
        calls: list[Parts] = []
        runs: dict[str, list[tuple[Duration, str, float]]] = {name: [] for name in bare}
        for _ in range(repeat):
            calls.append(direct_route(design.market, n)[0])
            for name, raw in bare.items():
                runs[name].append(raw.run())
        for name, results in runs.items():
            yield Direct(
                size=size,
                design=design.name,
                program=name,
                status=results[-1][1],
                raw=medians([{name: taken} for taken, _, _ in results])[name],
                parts=medians(calls),
                objective=float(n.objective),
                raw_objective=results[-1][2],
            )


def measure_hook(size: Size, repeat: int) -> Iterator[Hook]:
    """Every design at one size, medians of `repeat` runs, each on a new network.

    PyPSA merges what it writes into the tables of an earlier solve, which takes far longer.
    """
    instance = random_instance(SEED, *size)
    for design in DESIGNS:
        runs = [hook_route(design.market, network(instance)) for _ in range(repeat)]
        yield Hook(size, design.name, medians(runs))


class Cells(Protocol):
    """A line of a table."""

    def cells(self) -> list[str]: ...


def table(head: tuple[str, ...], lines: Iterable[Cells]) -> Iterator[str]:
    """A Markdown table, line by line as the measurements come in."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield "| " + " | ".join(line.cells()) + " |"


def shown(size: Size) -> str:
    """A size as the tables have it."""
    return ", ".join(map(str, size))


def say(lines: Iterable[str]) -> None:
    """Print lines as they come."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
