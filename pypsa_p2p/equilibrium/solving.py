"""`solve_equilibrium`: how decentralised agents find an equilibrium, step by step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.pypsa_state import objective_of
from pypsa_p2p.equilibrium.admm import ADMM
from pypsa_p2p.equilibrium.answers import write_answer
from pypsa_p2p.equilibrium.game.game import Game, known_game, read_game
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.equilibrium.gauss_seidel import GaussSeidel, Jacobi
from pypsa_p2p.equilibrium.running import Run, as_history, run
from pypsa_p2p.equilibrium.scaling import GameUnits, restored, scaled, units_of
from pypsa_p2p.equilibrium.starts import (
    feasible_start,
    given_start,
    least_trades,
    random_trades,
    remembered,
)
from pypsa_p2p.markets.checks import check_network
from pypsa_p2p.markets.designs import PeerToPeerMarket
from pypsa_p2p.network.reading import read_market

logger = logging.getLogger(__name__)

Method = GaussSeidel | Jacobi | ADMM


@dataclass(frozen=True, kw_only=True, eq=False)
class Equilibrium:
    """What `solve_equilibrium` found; the solution itself is in the network, for `results(n)`.

    Attributes
    ----------
    n : pypsa.Network
    method : GaussSeidel, Jacobi, ADMM or None
        None: the direct solve.
    converged : bool
        Whether the method's own tolerance was met. If not, the network holds the best iterate.
    iterations : int
        Of this run.
    history : xarray.Dataset
        Over ``iteration`` = 1, 2, ...: ``residual``, its parts (``movement``, or
        ``primal_residual``, ``dual_residual`` and ``penalty``), ``social_cost``,
        ``exploitability``, and ``messages``, ``numbers`` and ``rounds`` per iteration.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> found = p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), p2p.ADMM(), progress=False)
    >>> found.converged, found.iterations == found.history.sizes["iteration"]
    (True, True)
    """

    n: pypsa.Network
    method: Method | None
    converged: bool
    iterations: int
    history: xr.Dataset


def solve_equilibrium(
    n: pypsa.Network,
    market: PeerToPeerMarket,
    method: Method | None = None,
    *,
    snapshots: pd.Index | None = None,
    warm_start: pypsa.Network | Equilibrium | None = None,
    progress: bool = True,
) -> Equilibrium:
    """An equilibrium of a peer-to-peer market, the way its agents would find it.

    What each method converges to is not the same. `ADMM` agrees on one price per edge: the
    variational equilibrium. `GaussSeidel` and `Jacobi` stop at a generalized Nash equilibrium
    that depends on the start; from no trade nobody can buy what nobody offers. `method=None`
    is ``market.optimize(n)``.

    The agents' methods know prosumers with loads, generators of convex quadratic or linear cost
    and trades, any scenarios and snapshots, risk-averse or not, with congestion or not, and `ADMM`
    contracts that pay 1 EUR in one scenario, complete or limited, and insurance; `GaussSeidel` and
    `Jacobi` storage units. They refuse whatever else stands behind a meter. Best responses to a
    linear cost are found exactly (a jump of the supply curve); where they are several, the one
    closest to the last is taken (but for who has storage).

    Parameters
    ----------
    n : pypsa.Network
        The solution is written to it.
    market : PeerToPeerMarket
    method : GaussSeidel, Jacobi or ADMM, optional
        Default: the direct solve.
    snapshots : sequence, optional
        A subset of ``n.snapshots``; default all.
    warm_start : Network or Equilibrium, optional
        Solved before, with the same trades: quantities, prices and risk-adjusted probabilities
        to start from. May be `n`.
    progress : bool
        Whether to show a progress line on stderr, on a terminal or in a notebook.

    Returns
    -------
    Equilibrium
        An interrupt (Ctrl-C) ends the run cleanly: the best iterate is kept, and `converged`
        is False.

    Raises
    ------
    DataError, MarketError
        The data make no sense, or the method does not know the market (naming what).

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> market = p2p.PeerToPeerMarket(surplus=False)
    >>> eq = solve_equilibrium(n, market, ADMM(tolerance=1e-9), progress=False)
    >>> eq.converged, round(n.objective, 6)
    (True, 7.61029)
    """
    market = known_game("solve_equilibrium", market)
    if method is None:
        return _direct(n, market, snapshots)
    if not isinstance(method, Method):
        raise MarketError(f"method must be GaussSeidel, Jacobi, ADMM or None, not {method!r}.")
    _check(market, method)
    data = read_market(n, snapshots)
    check_network(n, data)
    market.require(n, data)
    game = read_game(n, market, data)
    units = units_of(game)
    source = warm_start.n if isinstance(warm_start, Equilibrium) else warm_start
    memory = None if source is None else remembered(game, source)
    own, agents = scaled(game, units), method.in_units(units)
    if isinstance(agents, ADMM):
        iterates = agents.iterates(own, *_beliefs(own, memory, units))
    else:
        start = _start(n, market, game, own, agents, memory)
        iterates = agents.iterates(own, feasible_start(own, start))
    name = type(method).__name__
    found = run(iterates, method.tolerance, method.max_iterations, name, progress)
    found = restored(found, units, float(game.constants.sum()))
    write_answer(n, market, game, found, name)
    if not found.converged:
        _warn(name, found)
    return Equilibrium(
        n=n,
        method=method,
        converged=found.converged,
        iterations=found.history.sizes["iteration"],
        history=found.history,
    )


def _direct(n: pypsa.Network, market: PeerToPeerMarket, snapshots: pd.Index | None) -> Equilibrium:
    """The direct solve as an equilibrium of one iteration without messages."""
    market.optimize(n, snapshots)
    nothing = {"residual": 0.0, "social_cost": objective_of(n).whole, "messages": 0}
    row = {**nothing, "exploitability": np.nan, "numbers": 0, "rounds": 0}
    return Equilibrium(n=n, method=None, converged=True, iterations=1, history=as_history([row]))


def _check(market: PeerToPeerMarket, method: Method) -> None:
    if not isinstance(method, ADMM) and not market.surplus:
        raise MarketError(
            f"{type(method).__name__} needs surplus=True: where (1) is an equality, the partner's "
            "quantity leaves a prosumer nothing to decide about a trade, so best responses never "
            "leave their start. Use ADMM, or allow a surplus."
        )
    if not isinstance(method, ADMM) and market.contracts is not None:
        raise MarketError(
            f"{type(method).__name__} trades no contracts: since volumes sum to zero, the others' "
            "leave a prosumer nothing to decide about her own, so best responses never leave the "
            "contracts they start with. Use ADMM, or market.optimize(n)."
        )
    if market.weights is not None:
        raise MarketError(
            f"{type(method).__name__} does not look for the equilibrium that weights select: use "
            "market.optimize(n), or leave weights out."
        )
    if isinstance(method, ADMM) and market.equilibrium != "variational":
        raise MarketError(
            "ADMM finds the variational equilibrium only; use equilibrium='variational'."
        )


def _beliefs(
    game: Game, memory: dict[str, Array] | None, units: GameUnits
) -> tuple[Array, Array, Array]:
    """Targets, multipliers of (1) over p w, and tau that ADMM starts from, in its units."""
    neutral = np.repeat(game.probability[:, None], game.prosumers, axis=1)
    if memory is None:
        return np.zeros_like(game.price), np.zeros_like(game.price), neutral
    zeta = (memory["reciprocity"] + game.partner(memory["reciprocity"])) / 2
    tau = memory["risk_adjusted_probability"] if game.risk_averse else neutral
    return units.powers(memory["quantity"]), units.prices(zeta), tau


def _start(
    n: pypsa.Network,
    market: PeerToPeerMarket,
    game: Game,
    own: Game,
    method: GaussSeidel | Jacobi,
    memory: dict[str, Array] | None,
) -> Array:
    """The trades a method asks to start from, in the units of the agents' `own` game.

    Its own, else the warm start, else the least that everybody can live with.
    """
    start: Any = method.start
    powers = units_of(game).powers
    if start is None and memory is not None:
        return powers(memory["quantity"])
    if start is None or (isinstance(start, str) and start == "least"):
        return least_trades(own)
    if not isinstance(start, str):
        return powers(given_start(game, start))
    if start == "zero":
        return np.zeros_like(game.price)
    if start == "random":
        return random_trades(own, least_trades(own), method.seed)
    market.optimize(n, game.data.snapshots)
    return powers(remembered(game, n)["quantity"])


def _warn(name: str, found: Run) -> None:
    why = "was interrupted" if found.interrupted else "reached its last iteration"
    logger.warning(
        "%s %s at a residual of %.1e, above its tolerance: the network holds the best iterate, "
        "which is no equilibrium.",
        name,
        why,
        float(found.history["residual"].min()),
    )
