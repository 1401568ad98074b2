"""Where best-response dynamics start, and what a solved network remembers for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pypsa
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import NAME, RISK_ADJUSTED_PROBABILITY, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.common.tables import dynamic_values, static_values
from pypsa_p2p.equilibrium.game.best_response import best_response, dispatch
from pypsa_p2p.equilibrium.game.game import Game, incidence
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.markets.record import recorded
from pypsa_p2p.solvers.program import QuadraticProgram, Solution
from pypsa_p2p.solvers.quadratic import solve_quadratic


def remembered(game: Game, n: pypsa.Network) -> dict[str, Array]:
    """Quantities (S, T, 2E), zeta over p w (S, T, 2E) and tau (S, N) of a solved network.

    MW and EUR/MWh, for a game in the units of the network.

    Raises
    ------
    MarketError
        It holds no solved market, or not of these scenarios, snapshots, trades, prosumers.
    """
    recorded(n)
    data = game.data
    sides = {"quantity": ("p0", "p1"), "reciprocity": ("mu_reciprocity", "mu_reciprocity1")}
    table = n.c["Link"].dynamic
    if "mu_reciprocity1" not in table or table["mu_reciprocity1"].empty:
        sides["reciprocity"] = ("mu_reciprocity", "mu_reciprocity")
    known = set(n.c["Link"].static.index.get_level_values(-1))
    missing = [edge for edge in data.edges if edge not in known]
    stochastic = set(n.scenarios) if n.has_scenarios else set(data.scenarios[:1])
    if missing or set(data.scenarios) != stochastic or not data.snapshots.isin(n.snapshots).all():
        raise MarketError(
            "The warm start holds other scenarios, snapshots or trades"
            + (f" (missing: {listed(missing)})" if missing else "")
            + ". Take it from the same market."
        )
    found = {
        name: np.concatenate(
            [
                dynamic_values(n, "Link", end, data.edges, data.snapshots)
                .transpose(SCENARIO, SNAPSHOT, NAME)
                .to_numpy()
                for end in ends
            ],
            axis=-1,
        )
        for name, ends in sides.items()
    }
    weight = game.probability[:, None, None] * game.hours[:, None]
    tau = static_values(n, "Bus", RISK_ADJUSTED_PROBABILITY, data.prosumers)
    return {
        "quantity": -found["quantity"],
        "reciprocity": found["reciprocity"] / weight,
        "risk_adjusted_probability": tau.transpose(SCENARIO, NAME).to_numpy(),
    }


def feasible_start(game: Game, quantity: Array) -> Array:
    """The point of quantities everybody can live with, (S, T, G + 2E + 1).

    A prosumer whom they leave with more energy than she can use sells the rest at least cost, and
    whoever has storage answers them.

    Raises
    ------
    MarketError
        Quantities above capacity or against (1), or a prosumer left short of energy.
    """
    slack = ACCURACY.start_slack * max(1.0, float(np.abs(quantity).max(initial=0.0)))
    allowed = np.minimum(game.capacity, -game.partner(quantity))
    if bool((quantity > allowed + slack).any()):
        k = int(np.argmax((quantity - allowed).max(axis=(0, 1))))
        names = game.data.prosumers[[game.buyer[k], game.seller[k]]]
        raise MarketError(
            f"start: {names[0]!r} buys more from {names[1]!r} than the capacity or than "
            f"{names[1]!r} sells. Quantities must satisfy (1) and (2)."
        )
    quantity = np.minimum(quantity, allowed)
    least, most = game.net_import_limits
    stored = game.pieces.stored.any(axis=1)
    unable = (least > game.net_import(allowed) + slack) & ~stored
    if bool(unable.any()):
        names = game.data.prosumers[np.flatnonzero(unable.any(axis=(0, 1)))]
        raise MarketError(
            f"start: prosumers {listed(names)} cannot meet "
            "their least demand with what is offered to them. Take start='least' or 'variational'."
        )
    imported = game.net_import(quantity)
    unbalanced = (imported > most + slack) | (imported < least - slack) | stored
    point = game.joined(np.zeros_like(game.lower), quantity)
    for prosumer in np.flatnonzero(unbalanced.any(axis=(0, 1))):  # each sees the last one's sales
        pieces = game.pieces.take(np.array([prosumer]))
        own, _ = best_response(game, point, pieces)
        where = unbalanced[..., prosumer, None, None]
        pieces.put(point, np.where(where, own, pieces.own(point)))
    return dispatch(game, point)


def least_trades(game: Game) -> Array:
    r"""The trades of least norm with which everybody can meet her least demand, (S, T, 2E).

    .. math:: \min \tfrac12 \sum q_{mn}^2 \quad \text{s.t.} \quad q_{mn} + q_{nm} = 0, \quad
        q_{mn} \le \kappa_{mn}, \quad Q_n \ge \text{her least net import}

    None in hours in which nobody depends on trade. Storage stands idle, or, if that is impossible,
    gives what power it has in every hour; whether it holds that much is for its owner to find.

    Raises
    ------
    MarketError
        There are none: naming who cannot meet her least demand.
    """
    needs = [game.net_import_limits[0]]
    if game.stores is not None:
        needs.append(game.load - game.sum_by_owner(game.upper))
    for least in needs:
        depend = (least > 0.0).any(axis=-1, keepdims=True)
        if not depend.any():
            return np.zeros_like(game.price)
        found = _serving(game, least)
        if found.status == "optimal":
            quantity = np.where(depend, found.x.reshape(*game.price.shape[:-1], game.edges), 0.0)
            return np.concatenate([quantity, -quantity], axis=-1)
    raise _nobody_serves(game, found.certificate)


def _serving(game: Game, least: Array) -> Solution:
    """Trades of least norm with which everybody imports no less than she must, (S T E,)."""
    hours = int(np.prod(least.shape[:-1]))
    own, other = np.split(game.capacity, 2, axis=-1)
    bought, sold = (
        incidence(end, game.prosumers)[: game.edges] for end in (game.buyer, game.seller)
    )
    program = QuadraticProgram(
        P=sp.identity(own.size, format="csc"),
        c=np.zeros(own.size),
        A=sp.kron(sp.identity(hours), (bought - sold).T, format="csr"),
        lower=least.ravel(),
        upper=np.full(least.size, np.inf),
        x_lower=-other.ravel(),
        x_upper=own.ravel(),
    )
    return solve_quadratic(program)


def _nobody_serves(game: Game, certificate: Array | None) -> MarketError:
    """Names those whose least demands no trades meet, by weights of their rows."""
    weights = np.ones(game.prosumers) if certificate is None else certificate
    short = (weights.reshape(-1, game.prosumers) != 0.0).any(axis=0)
    return MarketError(
        f"start: no trades within capacities let prosumers {listed(game.data.prosumers[short])} "
        "all meet their least demand. Widen capacities, or their limits."
    )


def given_start(game: Game, start: Any) -> Array:
    """The user's quantities, (S, T, 2E), MW, for a game in the units of the network."""
    shape = game.price.shape
    if isinstance(start, xr.DataArray):
        wanted = {SCENARIO: game.data.scenarios, SNAPSHOT: game.data.snapshots}
        if set(start.dims) != {SCENARIO, SNAPSHOT, TRADE}:
            raise MarketError(
                f"start has dims {listed(start.dims)}; it must have scenario, snapshot and trade."
            )
        labels = {dim: index for dim, index in wanted.items() if dim in start.coords}
        try:
            start = start.sel(labels).transpose(SCENARIO, SNAPSHOT, TRADE).to_numpy()
        except KeyError as error:
            raise MarketError(f"start misses scenarios or snapshots: {error}.") from error
    try:
        values = np.asarray(start, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise MarketError(f"start holds what is no number ({error}).") from error
    if values.shape != shape or not np.isfinite(values).all():
        raise MarketError(
            f"start has shape {values.shape}; it must hold a finite number for each of "
            f"{shape[0]} scenarios, {shape[1]} snapshots and {shape[2]} trades, as "
            "results(n).quantity does."
        )
    return values


def random_trades(game: Game, quantity: Array, seed: int) -> Array:
    """Trades drawn edge by edge in random order, feasible if `quantity` is; (S, T, 2E), MW.

    Each is uniform between the limits that the trades already there leave it; no surplus.
    """
    rng = np.random.default_rng(seed)
    least, most = game.net_import_limits
    q = quantity.copy()
    imported = game.net_import(q)
    for k in rng.permutation(game.edges):  # each draw depends on those before
        back = k + game.edges
        m, n = game.buyer[k], game.buyer[back]
        rest_m, rest_n = imported[..., m] - q[..., k], imported[..., n] - q[..., back]
        low = np.maximum.reduce(
            [-game.capacity[..., back], least[..., m] - rest_m, rest_n - most[..., n]]
        )
        high = np.minimum.reduce(
            [game.capacity[..., k], most[..., m] - rest_m, rest_n - least[..., n]]
        )
        possible = low <= high
        drawn = low + rng.random(low.shape) * (high - low)
        q[..., k] = np.where(possible, drawn, q[..., k])
        q[..., back] = np.where(possible, -drawn, q[..., back])
        imported[..., m], imported[..., n] = rest_m + q[..., k], rest_n + q[..., back]
    return q
