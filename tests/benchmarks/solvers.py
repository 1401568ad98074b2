"""``python -m tests.benchmarks.solvers``: solvers beside each other on the package's own programs.

Each gets the same finished matrices, at a tolerance of 1e-11, on one thread; set-up and solve are
counted. QOCO is measured where it is installed (`pip install qoco`).
"""

from __future__ import annotations

import argparse
import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import clarabel
import numpy as np
import piqp
from scipy import sparse

import pypsa_p2p as p2p
from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.program import RiskProgram
from pypsa_p2p.solvers.risk_averse import solve_risk
from tests.benchmarks.clock import Duration, direct_route, medians
from tests.benchmarks.raw import RawProgram, conical, quadratic
from tests.benchmarks.report import SEED, SIZES, Size, say, shown, table
from tests.reference.instances import network, random_instance

Run = Callable[[RawProgram], tuple[Duration, str]]
HEAD = ("N, S, T", "columns", "program", "solver", "s", "/ Clarabel", "it says")


@dataclass(frozen=True)
class Line:
    """A solver on one program."""

    size: Size
    columns: int
    program: str
    solver: str
    taken: Duration
    clarabel: Duration
    status: str

    def cells(self) -> list[str]:
        return [
            shown(self.size),
            f"{self.columns:,}",
            self.program,
            self.solver,
            f"{self.taken.cpu:.3f}",
            f"{self.taken.cpu / self.clarabel.cpu:.2f}",
            self.status,
        ]


def by_clarabel(raw: RawProgram) -> tuple[Duration, str]:
    taken, status, _ = raw.run()
    return taken, status


def by_piqp(raw: RawProgram) -> tuple[Duration, str]:
    """Quadratic programs only."""
    equal, limited = _rows(raw)
    A, b = raw.A[equal], raw.b[equal]
    G, h = raw.A[limited], raw.b[limited]
    gc.collect()
    start = Duration.now()
    solver = piqp.SparseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = ACCURACY.solver
    none = np.full(h.size, -np.inf)
    P = raw.P + sparse.triu(raw.P, 1).T
    solver.setup(sparse.csc_matrix(P), raw.q, _csc(A), b, _csc(G), none, h)
    status = solver.solve()
    return Duration.now() - start, str(status).rsplit(".", 1)[-1]


def by_qoco(raw: RawProgram) -> tuple[Duration, str]:
    equal, limited = _rows(raw)
    A, b = _csc(raw.A[equal]), raw.b[equal]
    G, h = _csc(raw.A[limited]), raw.b[limited]
    sizes = [cone.dim for cone in raw.cones if isinstance(cone, clarabel.SecondOrderConeT)]
    plain = h.size - sum(sizes)
    gc.collect()
    start = Duration.now()
    solver = import_module("qoco").QOCO()
    solver.setup(
        raw.q.size, h.size, b.size, raw.P, raw.q, A, b, G, h, plain, len(sizes), np.array(sizes),
        abstol=ACCURACY.solver, reltol=ACCURACY.solver, verbose=0,
    )  # fmt: skip
    status = solver.solve().status
    return Duration.now() - start, str(status)


SOLVERS: dict[str, Run] = {"Clarabel": by_clarabel, "PIQP": by_piqp}
if find_spec("qoco"):
    SOLVERS["QOCO"] = by_qoco


def _csc(matrix: Any) -> Any:
    return sparse.csc_matrix(matrix)


def _rows(raw: RawProgram) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows of the equalities, and of all other cones, which come after one another."""
    ends = np.cumsum([0, *(cone.dim for cone in raw.cones)])
    is_equal = np.zeros(raw.b.size, dtype=bool)
    for cone, start, end in zip(raw.cones, ends, ends[1:], strict=False):
        is_equal[start:end] = isinstance(cone, clarabel.ZeroConeT)
    return np.flatnonzero(is_equal), np.flatnonzero(~is_equal)


def measure(size: Size, repeat: int) -> Iterator[Line]:
    """All solvers on the neutral and the risk-averse program of a market, taking turns."""
    n = network(random_instance(SEED, *size))
    neutral = direct_route(p2p.CentralizedMarket(), n)[1]
    averse = direct_route(p2p.PeerToPeerMarket(risk=p2p.CVaR()), n)[1]
    for name, raw, own in (
        ("QP", quadratic(neutral), None),
        ("cones", conical(averse), averse),
    ):
        runs = {s: run for s, run in SOLVERS.items() if s != "PIQP" or name == "QP"}
        taken: dict[str, list[tuple[Duration, str]]] = {s: [] for s in runs}
        if own is not None:
            taken["this package's interior point"] = []
        for _ in range(repeat):
            for solver, run in runs.items():
                taken[solver].append(run(raw))
            if own is not None:
                taken["this package's interior point"].append(_own(own))
        medians_of = {s: medians([{"it": t} for t, _ in each])["it"] for s, each in taken.items()}
        for solver, each in taken.items():
            yield Line(
                size=size,
                columns=raw.q.size,
                program=name,
                solver=solver,
                taken=medians_of[solver],
                clarabel=medians_of["Clarabel"],
                status=each[-1][1],
            )


def _own(program: RiskProgram) -> tuple[Duration, str]:
    gc.collect()
    start = Duration.now()
    status = solve_risk(program).status
    return Duration.now() - start, status


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.solvers", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; medians are printed")
    parser.add_argument("--smallest", action="store_true", help="only the smallest market")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sizes = SIZES[: 1 if options.smallest else 4]
    say(table(HEAD, (line for size in sizes for line in measure(size, options.repeat))))


if __name__ == "__main__":
    main()
