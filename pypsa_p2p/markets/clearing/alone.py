"""What every prosumer would pay without trades: one problem for all, which nothing ties together.

Nothing but trades may join prosumers; else what one has of it alone nobody has said.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError, MarketError, listed
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.solvers.arrays import Labels, Vector, ends_by_row, sum_by
from pypsa_p2p.solvers.presolve import presolve
from pypsa_p2p.solvers.program import UNOWNED, RiskProgram
from pypsa_p2p.solvers.risk_averse import solve_risk
from pypsa_p2p.solvers.welfare import WelfareProgram

_OTHERWISE = "Give costs to compare with, reference={...} by prosumer, instead."


def costs_alone(asked: WelfareProgram, problem: MarketProblem, prosumers: pd.Index) -> Vector:
    """(N,) the least cost of each prosumer where all trades are 0, in the problem's units.

    Raises
    ------
    MarketError
        Somebody cannot do without trades, or something else joins prosumers.
    ConvergenceError
    """
    program = without_trades(asked.program, problem)
    _require_apart(program, asked.payer, prosumers)
    found = solve_risk(program)
    if found.status == "infeasible":
        culprits = _culprits(program, asked.payer, found.certificate)
        raise MarketError(
            f"Prosumers {listed(prosumers[culprits])} cannot meet their demand without trades, so "
            f"that there is no cost alone to compare with. {_OTHERWISE}"
        )
    if found.status == "unbounded":
        raise MarketError(
            "What prosumers pay alone has no least: somebody earns without limit. Give assets and "
            "contracts a capacity."
        )
    if found.status != "optimal":
        raise ConvergenceError(
            f"What prosumers pay alone was not found ({found.solver}: {found.status}). {_OTHERWISE}"
        )
    return asked.costs(found.x)


def without_trades(program: RiskProgram, problem: MarketProblem) -> RiskProgram:
    """The program in which nothing is traded."""
    lower, upper = program.x_lower.copy(), program.x_upper.copy()
    for columns in (problem.trades.ravel(), problem.fees):
        lower[columns], upper[columns] = 0.0, 0.0
    return replace(program, x_lower=lower, x_upper=upper)


def _require_apart(program: RiskProgram, payer: Labels, prosumers: pd.Index) -> None:
    """Refuse rows in which decisions of several, other than trades, are."""
    small = presolve(program)
    if small.certificate is not None:
        return
    owner = payer[small.columns]
    _, least, most = ends_by_row(small.program.A.tocsr(), owner)
    shared = np.flatnonzero(least < most)
    if shared.size:
        whose = np.unique([least[shared], most[shared]])
        names = listed(prosumers[whose[whose != UNOWNED]])
        raise MarketError(
            f"Something else than trades joins prosumers {names} (a limit on the emissions of all, "
            "a grid, or a constraint of your own), and what each would have of it alone nobody "
            f"has said. {_OTHERWISE}"
        )


def _culprits(program: RiskProgram, payer: Labels, certificate: Vector | None) -> Labels:
    """Owners of rows that cannot hold together: whose part of the proof is one by itself.

    Parameters
    ----------
    certificate : (rows,) or None
        y, of which A'y = 0 while the sides that y is of add up to more than 0.
    """
    count = int(payer.max(initial=-1)) + 1
    if certificate is None:
        return np.arange(count)
    side = np.where(certificate > 0.0, program.lower, program.upper)
    side = np.where((certificate != 0.0) & np.isfinite(side), side, 0.0)
    moving = program.x_lower < program.x_upper
    filled, _, owner = ends_by_row(program.A.tocsr(), np.where(moving, payer, UNOWNED))
    whose = np.full(certificate.size, UNOWNED)
    whose[filled] = owner
    here = whose >= 0
    proof = sum_by(whose[here], (certificate * side)[here], count)
    culprits = np.flatnonzero(proof > ACCURACY.minor_weight * proof.max(initial=0.0))
    return culprits if culprits.size else np.arange(count)
