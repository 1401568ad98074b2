"""How an agents' algorithm is run: iterate by iterate, with a record of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from pypsa_p2p.common.progress import progress_bar
from pypsa_p2p.equilibrium.game.best_response import exploitability
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.markets.clearing.volumes import Hedges

ITERATION = "iteration"

#: Unit and meaning of what is recorded of every iteration. What is relative to less than a
#: typical load, price or cost is relative to that.
RECORDED = {
    "residual": ("1", "largest of the measures that must fall below the tolerance"),
    "movement": ("1", "largest change of a quantity over the largest one"),
    "primal_residual": ("1", "largest disagreement on a quantity over the largest one"),
    "dual_residual": ("1", "largest change of a price over the largest one"),
    "contract_residual": ("1", "what contracts do not clear by, or their prices move"),
    "penalty": ("EUR/MW2h", "penalty on disagreement"),
    "social_cost": ("EUR", "sum of the prosumers' risk-adjusted costs"),
    "exploitability": ("1", "largest gain from re-optimising alone over her cost"),
    "messages": (
        "1",
        "messages sent: one per prosumer, trade edge and iteration; of contracts one",
    ),
    "numbers": (
        "1",
        "numbers in them: a quantity per scenario and snapshot; a volume per contract",
    ),
    "rounds": ("1", "times somebody waits for a message"),
}


class Answer(NamedTuple):
    """A point of the game and the multipliers there.

    Attributes
    ----------
    point
        (S, T, G + 2E + 1): powers, quantities and a 0, MW. Units are the game's.
    risk_adjusted_probability
        tau, (S, N).
    price, reciprocity, capacity
        lambda, (S, T, N), zeta and xi, (S, T, 2E), over p w: they carry tau / p. EUR/MWh.
    aligned
        Whether both sides of an edge have one zeta, as at a variational equilibrium.
    hedges
        Contracts held, where there are any, EUR.
    """

    point: Array
    risk_adjusted_probability: Array
    price: Array
    reciprocity: Array
    capacity: Array
    aligned: bool
    hedges: Hedges | None = None


@dataclass(frozen=True, kw_only=True)
class Iterate:
    """Where an algorithm is after an iteration; `answer` works out the multipliers."""

    residual: float
    recorded: dict[str, float]
    answer: Callable[[], Answer]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came out of an algorithm."""

    answer: Answer
    kept: int  # position of the answer in the history
    converged: bool
    interrupted: bool
    history: xr.Dataset


def run(
    iterates: Iterator[Iterate], tolerance: float, max_iterations: int, label: str, progress: bool
) -> Run:
    """Take iterates until one meets the tolerance, the last is reached, or the user interrupts.

    The answer is the iterate that met the tolerance, else that of least residual.

    Raises
    ------
    KeyboardInterrupt
        Before the first iterate: there is nothing to keep.
    """
    rows: list[dict[str, float]] = []
    best: Iterate | None = None
    kept = 0
    interrupted = False
    # The line that stays says how it ended.
    with progress_bar(max_iterations, label, " iterations", shown=progress) as bar:
        try:
            for iterate in iterates:
                rows.append({"residual": iterate.residual, **iterate.recorded})
                if best is None or iterate.residual <= best.residual:
                    best, kept = iterate, len(rows) - 1
                bar.set_postfix(residual=f"{iterate.residual:.1e}", refresh=False)
                bar.update()
                if iterate.residual <= tolerance or len(rows) == max_iterations:
                    break
        except KeyboardInterrupt:
            interrupted = True
    if best is None:
        raise KeyboardInterrupt
    return Run(
        answer=best.answer(),
        kept=kept,
        converged=best.residual <= tolerance,
        interrupted=interrupted,
        history=as_history(rows),
    )


def as_history(rows: list[dict[str, float]]) -> xr.Dataset:
    """What was recorded, over `iteration` = 1, 2, ..."""
    counts = ("messages", "numbers", "rounds")
    history = xr.Dataset(
        {
            name: (
                ITERATION,
                np.array([row[name] for row in rows], int if name in counts else float),
            )
            for name in RECORDED
            if name in rows[0]
        },
        {ITERATION: np.arange(1, len(rows) + 1)},
    )
    for name, variable in history.items():
        unit, meaning = RECORDED[str(name)]
        variable.attrs = {"unit": unit, "long_name": meaning}
    return history


def assessed(game: Game, point: Array, volume: Array | None = None) -> dict[str, float]:
    """Social cost and exploitability of a point, and what a round of messages takes.

    Every prosumer tells every partner her quantity in every hour and scenario, and those who
    trade contracts, of `volume` (K, N), tell an exchange how many they hold. Tests for
    convergence are not counted.
    """
    paid = np.zeros_like(game.fixed_cost)
    scenarios, snapshots, trades = game.price.shape
    messages, numbers = trades, trades * scenarios * snapshots
    if volume is not None and game.traded is not None:
        paid = game.traded.by_scenario(volume, scenarios)
        messages += int((game.traded.limit > 0).any(axis=0).sum())
        numbers += int(np.count_nonzero(game.traded.limit))
    costs, _ = game.risk_adjusted(game.costs(point) - paid)
    return {
        "social_cost": float(costs.sum()),
        "exploitability": float(exploitability(game, point, paid).max()),
        "messages": messages,
        "numbers": numbers,
    }


def relative(change: Array, size: Array) -> float:
    """Largest change over the largest size, or over a typical one, 1, if that is larger."""
    return float(np.abs(change).max(initial=0.0) / max(1.0, np.abs(size).max(initial=0.0)))
