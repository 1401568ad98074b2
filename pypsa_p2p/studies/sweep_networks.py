"""A network of a sweep: read and compiled once for all markets that are solved on it."""

from __future__ import annotations

from collections.abc import Collection

import pypsa

from pypsa_p2p.common.tables import Numbers, dynamic_numbers
from pypsa_p2p.common.values import is_hashable
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.places import Posed
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.clearing.together import solved_together
from pypsa_p2p.markets.record import recorded_units
from pypsa_p2p.network.books import Books, read_books, with_congestion_of
from pypsa_p2p.solution.accounts import Accounts
from pypsa_p2p.solution.decided import in_solution
from pypsa_p2p.solution.results import read_results
from pypsa_p2p.studies.sweep_figures import Figures, figures_of_accounts, figures_of_results
from pypsa_p2p.studies.sweep_fingerprints import fingerprint, inputs_of


class Asked:
    """A market on a plain model that nobody writes to a network, and what is found of it.

    Parameters
    ----------
    load : (S, T, K)
        What Loads take, MW.
    """

    def __init__(
        self, market: Market, keep: tuple[str, ...], posed: Posed, books: Books, load: Numbers
    ) -> None:
        self._market, self._keep = market, keep
        self._posed, self._books, self._load = posed, books, load
        self._figures: Figures | None = None

    @property
    def open(self) -> bool:
        """Whether it has still to be solved."""
        return self._figures is None

    def problem(self) -> tuple[CompiledModel, MarketProblem]:
        """What is minimised."""
        posed = self._posed
        return posed.compiled, self._market.problem(posed.compiled, posed.places, posed.data)

    def figures(self, solution: MarketSolution | None) -> Figures:
        """What is kept of a solution; the market is solved here where none is given."""
        if self._figures is None:
            market, posed = self._market, self._posed
            if solution is None:
                solution = market.solution(posed.compiled, posed.places, posed.data)
            else:
                solution = market.accepted(solution, posed.compiled, posed.places, posed.data)
            found = in_solution(market, posed, solution, self._load)
            accounts = Accounts(data=posed.data, books=self._books, found=found)
            self._figures = figures_of_accounts(accounts, self._keep)
        return self._figures


def solved_markets(asked: Collection[Asked]) -> dict[Asked, MarketSolution]:
    """Solutions of those not solved yet that can be solved together; the others get their own."""
    still = [market for market in asked if market.open]
    found = solved_together([market.problem() for market in still])
    return {still[place]: solution for place, solution in found.items()}


class SweptNetwork:
    """A network that nobody changes any more, and what was found on it.

    Markets of one formulation share its model; a market that comes again is not solved again.

    Parameters
    ----------
    like : SweptNetwork, optional
        One that differs from this in known dimensions only, whose models serve for this as well.
    """

    def __init__(self, n: pypsa.Network, like: SweptNetwork | None = None) -> None:
        self._n = n
        self._like = {} if like is None else like._posed
        self._inputs = ""
        self._posed: dict[Market, tuple[Posed, Books, Numbers]] = {}
        self._asked: dict[tuple[Market, tuple[str, ...]], Asked | Figures] = {}

    def fingerprint(self, market: Market, keep: tuple[str, ...]) -> str:
        """What a point's figures follow from."""
        self._inputs = self._inputs or inputs_of(self._n)
        return fingerprint(self._inputs, market, keep)

    def ask(self, market: Market, keep: tuple[str, ...]) -> Asked | Figures:
        """What is kept of the solved market, or what is to be solved for that."""
        if not is_hashable(market):
            return self._solved_and_written(market, keep)
        if (market, keep) not in self._asked:
            self._asked[market, keep] = self._ask(market, keep)
        return self._asked[market, keep]

    def _ask(self, market: Market, keep: tuple[str, ...]) -> Asked | Figures:
        """Of a market posed once for all of its formulation, if its model is a plain one."""
        formulation = market.formulation
        if formulation is None:
            return self._solved_and_written(market, keep)
        if formulation not in self._posed:
            posed = self._pose(market, formulation)
            if not posed.plain:
                market.clear(self._n, posed)
                return self._read(keep)
        else:
            market.require(self._n, self._posed[formulation][0].data)
        return Asked(market, keep, *self._posed[formulation])

    def _pose(self, market: Market, formulation: Market) -> Posed:
        """Pose a market whose formulation is new here, and remember it if its model is plain."""
        if formulation in self._like:
            same, books, load = self._like[formulation]
            posed = market.repose(self._n, same)
            self._posed[formulation] = posed, with_congestion_of(posed.data, books), load
            return posed
        posed = market.pose(self._n)
        if posed.plain:
            self._posed[formulation] = posed, read_books(self._n, posed.data), self._load(posed)
        return posed

    def _load(self, posed: Posed) -> Numbers:
        data = posed.data
        return dynamic_numbers(self._n, "Load", "p_set", data.names("Load"), data.snapshots)

    def _solved_and_written(self, market: Market, keep: tuple[str, ...]) -> Figures:
        market.optimize(self._n)
        return self._read(keep)

    def _read(self, keep: tuple[str, ...]) -> Figures:
        data, r = read_results(self._n)
        return figures_of_results(r, data, recorded_units(self._n), keep)
