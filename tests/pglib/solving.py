"""One case of pglib-opf, by PyPSA alone and as the market whose optimum is the same."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pypsa

import pypsa_p2p as p2p
from tests.pglib.cases import Case, network


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A solved case: costs in $/h, what cannot be avoided included; times in s."""

    n: pypsa.Network
    cost: float
    pypsas: float
    seconds: float
    pypsas_seconds: float


def solved(case: Case) -> Solved:
    """README's lines on a case: every bus with assets is a prosumer."""
    n, constant = network(case)
    alone, start = n.copy(), time.perf_counter()
    alone.optimize(log_to_console=False)
    between = time.perf_counter()
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=1e5)
    p2p.CentralizedMarket(delivery="grid", surplus=False).optimize(n)
    return Solved(
        n=n,
        cost=float(n.objective) + constant,
        pypsas=float(alone.objective) + constant,
        seconds=time.perf_counter() - between,
        pypsas_seconds=between - start,
    )
