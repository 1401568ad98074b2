r"""Best-response dynamics: prosumers answer each other's trades, in turn or all at once.

What they converge to. With a surplus allowed every point at which nobody wants to move is a
generalized Nash equilibrium, and a continuum of points is: which one is reached depends on the
start. From no trade nobody can buy what nobody offers, so the dynamics stop far from the
variational equilibrium and (nearly always) at a higher social cost; from the variational
equilibrium they do not move at all. Regularised sweeps converge where the game has a
generalized potential, which needs congestion a = 0 (Facchinei, Piccialli, Sciandrone 2011;
Remark 17); elsewhere convergence is what one observes, not what is proved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.given import Range
from pypsa_p2p.equilibrium.game.best_response import best_response, multipliers
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.equilibrium.game.pieces import Positions
from pypsa_p2p.equilibrium.options import Start, require_start, stored_order
from pypsa_p2p.equilibrium.running import Answer, Iterate, assessed, relative
from pypsa_p2p.equilibrium.scaling import GameUnits


@dataclass(frozen=True, kw_only=True)
class GaussSeidel:
    r"""Prosumers answer in turn, each seeing what those before her have just decided.

    Stops at a generalized Nash equilibrium that depends on the start (and on the order): see
    the module. Where the marginal costs of several trades tie, she stays close to where she was.

    Parameters
    ----------
    regularisation : float
        Adds :math:`\frac12` regularisation :math:`(q_{mn} - q_{mn}^{before})^2`, EUR/MW2h, to
        each prosumer's hourly cost.
    start : {"least", "zero", "variational", "random"} or array, optional
        Quantities to start from: in each hour the trades of least norm with which everybody can
        meet her least demand (none, where nobody depends on trade), no trade, the direct solution,
        random feasible trades, or an array as `results(n).quantity` (scenario, snapshot, trade),
        MW. Default: the warm start, else "least". A prosumer who cannot balance without selling
        starts with her cheapest sales.
    seed : int
        Of the random start, at least 0.
    order : sequence of str, optional
        Names of the prosumers in the order of their turns. Default: the network's.
    tolerance : float
        On movement and on exploitability, both relative; from 0 to 1.
    max_iterations : int
        Sweeps.

    Raises
    ------
    MarketError
        A setting that is not of its kind or outside its limits.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> market = p2p.PeerToPeerMarket()
    >>> found = p2p.solve_equilibrium(n, market, GaussSeidel(), progress=False)
    >>> found.converged, round(n.objective, 5)
    (True, 17.20992)
    >>> found = p2p.solve_equilibrium(n, market, GaussSeidel(start="variational"), progress=False)
    >>> found.converged, round(n.objective, 5)
    (True, 7.48876)
    """

    regularisation: float = 0.0
    start: Start = None
    seed: int = 0
    order: Sequence[str] | None = None
    tolerance: float = ACCURACY.agents
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        _require_shared(self)
        object.__setattr__(self, "order", stored_order("GaussSeidel", self.order))

    def in_units(self, units: GameUnits) -> GaussSeidel:
        """The same for a game in units of its own."""
        return replace(self, regularisation=units.setting(self.regularisation))

    def iterates(self, game: Game, start: Array) -> Iterator[Iterate]:
        """Sweeps from a start, without end."""
        turns = [game.pieces.take(who) for who in turns_of(game, _positions(game, self.order))]
        point = start
        while True:
            before, point = point, point.copy()
            for pieces in turns:
                own, _ = best_response(game, point, pieces, regularisation=self.regularisation)
                pieces.put(point, own)
            yield _iterate(game, point, point - before, len(turns))


@dataclass(frozen=True, kw_only=True)
class Jacobi:
    r"""All prosumers answer at once, and move part of the way.

    Stops at generalized Nash equilibria, as `GaussSeidel` does. If both ends of an edge moved
    the whole way, each would rely on what the other has just withdrawn; up to half the way (1)
    stays satisfied, since it ties no more than two prosumers.

    Parameters
    ----------
    damping : float
        Share of the way, in (0, 1/2].
    regularisation, start, seed, tolerance, max_iterations
        As in `GaussSeidel`.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> market = p2p.PeerToPeerMarket()
    >>> found = p2p.solve_equilibrium(n, market, Jacobi(start="variational"), progress=False)
    >>> found.converged, round(n.objective, 5)
    (True, 7.48876)
    """

    damping: float = 0.5
    regularisation: float = 0.0
    start: Start = None
    seed: int = 0
    tolerance: float = ACCURACY.agents
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        _require_shared(self)
        why = "beyond half the way partners would rely on trades both have withdrawn"
        Range(0, 0.5, ends="(]", why=why).require("Jacobi: damping", self.damping)

    def in_units(self, units: GameUnits) -> Jacobi:
        """The same for a game in units of its own."""
        return replace(self, regularisation=units.setting(self.regularisation))

    def iterates(self, game: Game, start: Array) -> Iterator[Iterate]:
        """Rounds from a start, without end."""
        point = start
        while True:
            response = point.copy()
            own, _ = best_response(game, point, regularisation=self.regularisation)
            game.pieces.put(response, own)
            change = response - point
            point = point + self.damping * change
            yield _iterate(game, point, change, 1)


def _require_shared(method: GaussSeidel | Jacobi) -> None:
    """Refuse settings of both methods outside their limits."""
    name = type(method).__name__
    Range(0).require(f"{name}: regularisation", method.regularisation)
    require_start(name, method.start)
    Range(0, whole=True).require(f"{name}: seed", method.seed)
    Range(0, 1).require(f"{name}: tolerance", method.tolerance)
    Range(1, whole=True).require(f"{name}: max_iterations", method.max_iterations)


def _iterate(game: Game, point: Array, change: Array, rounds: int) -> Iterate:
    movement = relative(change, point)
    recorded = {"movement": movement, **assessed(game, point), "rounds": rounds}
    return Iterate(
        residual=max(movement, recorded["exploitability"]),
        recorded=recorded,
        answer=partial(_answer, game, point),
    )


def _answer(game: Game, point: Array) -> Answer:
    """Everybody's own multipliers, weighted by her own risk-adjusted probabilities."""
    price, zeta, xi = multipliers(game, point)
    _, tau = game.risk_adjusted(game.costs(point))
    ratio = (tau / game.probability[:, None])[:, None]
    of_trade = ratio[..., game.buyer]
    return Answer(point, tau, price * ratio, zeta * of_trade, xi * of_trade, aligned=False)


def turns_of(game: Game, order: Positions) -> list[Positions]:
    """Prosumers who may answer together without changing the outcome of one-by-one turns.

    Each goes right after the last of her partners who comes before her in the order.
    """
    place = np.argsort(order)
    turn = np.zeros(game.prosumers, dtype=np.int64)
    for prosumer in order:  # each turn depends on those before
        partners = game.seller[game.buyer == prosumer]
        earlier = partners[place[partners] < place[prosumer]]
        turn[prosumer] = 1 + turn[earlier].max(initial=-1)
    return [np.flatnonzero(turn == k) for k in range(int(turn.max()) + 1)]


def _positions(game: Game, order: Sequence[str] | None) -> Positions:
    names = game.data.prosumers
    if order is None:
        return np.arange(len(names))
    positions = names.get_indexer(pd.Index(list(order)))
    if sorted(positions.tolist()) != list(range(len(names))):
        missing = names.difference(list(order))
        raise MarketError(
            "GaussSeidel: order must name every prosumer once; missing: "
            f"{listed(missing)}; given: {listed(order)}."
        )
    return np.asarray(positions, dtype=np.int64)
