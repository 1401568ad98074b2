"""What coalitions cost: the market of each by itself, in one model or several processes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import pandas as pd
import pypsa

from pypsa_p2p.common.errors import MarketError, P2PError, listed
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.progress import progress_bar
from pypsa_p2p.common.pypsa_state import copy_without_model
from pypsa_p2p.common.quiet import quiet_libraries
from pypsa_p2p.formulation.places import Posed
from pypsa_p2p.formulation.restricted import Coalitions
from pypsa_p2p.markets.on_record import RecordedMarket
from pypsa_p2p.studies.allocation.games import places_in
from pypsa_p2p.studies.allocation.keeping import CostStore
from pypsa_p2p.studies.sweep_fingerprints import fingerprint, inputs_of

#: Parts for each process: enough that none of them waits long for the last.
_PARTS = 4

#: What to do about a coalition without a solution.
_ALONE = " What the others save it has no measure, unless it can do without them at some price."

Solved = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """Whose coalitions are asked about.

    Attributes
    ----------
    n : Network
        A copy, which the market may be posed on.
    market : RecordedMarket
    snapshots : Index
        Of the market.
    constraints : frozenset of str
        Those of the model that was solved.
    """

    n: pypsa.Network
    market: RecordedMarket
    snapshots: pd.Index
    constraints: frozenset[str]

    @classmethod
    def of(
        cls,
        n: pypsa.Network,
        market: RecordedMarket,
        snapshots: pd.Index,
        constraints: Iterable[str],
    ) -> Question:
        """About a solved network, which stays as it is."""
        return cls(
            n=copy_without_model(n),
            market=market,
            snapshots=snapshots,
            constraints=frozenset(constraints),
        )

    @property
    def fingerprint(self) -> str:
        """A name for all that a coalition's cost follows from."""
        when = repr([str(snapshot) for snapshot in self.snapshots])
        return fingerprint(inputs_of(self.n), self.market, ("coalitions", when))

    def coalitions(self) -> Coalitions:
        """The market of all, of which those of coalitions can be had.

        Raises
        ------
        MarketError
            It has constraints that no coalition would know, or that tie prosumers to each other.
        """
        with quiet_libraries():
            posed = self.market.pose(self.n, self.snapshots)
            if posed.plain and self._unknown(posed):  # PyPSA's own model knows an idle grid
                posed = self.market.pose(self.n, self.snapshots, _nothing)
        unknown = self._unknown(posed)
        if unknown:
            raise MarketError(
                f"Constraints {listed(sorted(unknown))} of the market that was solved are not its "
                "own (extra_functionality adds such), so that nobody knows them of a coalition's "
                "market. Solve it without them."
            )
        return Coalitions(posed)

    def _unknown(self, posed: Posed) -> frozenset[str]:
        """Constraints of the model that was solved which this one does not have."""
        return self.constraints - set(posed.compiled.model.constraints)

    def costs(self, masks: Iterable[int]) -> Iterator[tuple[int, float]]:
        """What each of some coalitions costs by itself, EUR."""
        coalitions = self.coalitions()
        for mask in masks:
            yield mask, _cost(self.market, coalitions, mask)


def coalition_costs(
    question: Question,
    masks: Sequence[int],
    *,
    store: str | os.PathLike[str] | None,
    workers: int,
    progress: bool,
) -> dict[int, float]:
    """What coalitions cost by themselves, EUR, by mask.

    Raises
    ------
    MarketError
        A coalition without a solution, by name; processes that died.
    """
    Range(1, whole=True, why="a number of processes").require("workers:", workers)
    kept = CostStore(store, "" if store is None else question.fingerprint)
    names = {mask: names_in(mask, question.market.prosumers) for mask in masks}
    found = {mask: cost for mask in masks if (cost := kept.cost(names[mask])) is not None}
    missing = [mask for mask in masks if mask not in found]
    with progress_bar(len(masks), "allocate", "coalition", shown=progress) as bar:
        bar.update(len(found))

        def solved(mask: int, cost: float) -> None:
            found[mask] = cost
            kept.keep(names[mask], cost)
            bar.update()

        if workers > 1 and len(missing) > 1:
            _spread(question, missing, solved, workers)
        else:
            for mask, cost in question.costs(missing):
                solved(mask, cost)
    return {mask: found[mask] for mask in masks}


def _nothing(n: pypsa.Network, sns: pd.Index) -> None:
    """As `extra_functionality`: the model is PyPSA's, to which nothing is added."""


def names_in(mask: int, prosumers: pd.Index) -> list[str]:
    """Names of a coalition's members."""
    return [str(who) for who in prosumers[places_in(mask)]]


def _cost(market: RecordedMarket, coalitions: Coalitions, mask: int) -> float:
    """What the market of a coalition alone costs it, sum R of its members, EUR."""
    data, compiled, places, _ = coalitions.market(places_in(mask))
    try:
        with quiet_libraries():
            return market.social_cost(compiled, places, data)
    except P2PError as error:
        who = listed(names_in(mask, coalitions.prosumers), limit=mask.bit_count())
        advice = _ALONE if isinstance(error, MarketError) else ""
        raise type(error)(f"Coalition {who} alone: {error}{advice}") from error


def _spread(question: Question, masks: Sequence[int], solved: Solved, workers: int) -> None:
    """Solve coalitions in several processes; what has not begun when this ends is called off."""
    shared = pickle.dumps(question)
    step = max(1, -(-len(masks) // (_PARTS * workers)))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    futures = [
        pool.submit(_solve_part, shared, masks[start : start + step])
        for start in range(0, len(masks), step)
    ]
    try:
        for future in as_completed(futures):
            for mask, cost in future.result():
                solved(mask, cost)
    except BrokenProcessPool as error:
        raise MarketError(
            "A process died. If none ever started: a script that allocates with workers needs "
            '`if __name__ == "__main__":` around what it does. If memory ran out, take fewer.'
        ) from error
    finally:
        for future in futures:
            future.cancel()
        pool.shutdown()


def _solve_part(question: bytes, masks: Sequence[int]) -> list[tuple[int, float]]:
    return list(pickle.loads(question).costs(masks))
