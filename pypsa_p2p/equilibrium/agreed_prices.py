"""Prices that agents agreed on, by the rule of MODEL.md §4 where several would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import NAME, SCENARIO, SNAPSHOT
from pypsa_p2p.common.pypsa_state import forget_model
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.knapsack import Array, Flags
from pypsa_p2p.equilibrium.running import Answer
from pypsa_p2p.formulation.columns import variable_owners
from pypsa_p2p.formulation.compiled import CompiledModel, by_label, compile_model
from pypsa_p2p.formulation.model import build_model
from pypsa_p2p.formulation.trading import (
    CAPACITY0,
    CAPACITY1,
    NODAL_BALANCE,
    RECIPROCITY,
    quantities,
)
from pypsa_p2p.markets.clearing.own_units import OwnUnits
from pypsa_p2p.markets.clearing.prices import optimum_at
from pypsa_p2p.markets.designs import PeerToPeerMarket
from pypsa_p2p.solvers.arrays import Vector


def by_the_rule(
    n: pypsa.Network, market: PeerToPeerMarket, game: Game, answer: Answer
) -> tuple[Answer, Flags]:
    """An answer with the prices of the rule, and which of them are the only ones possible.

    Of agreements on one price of every edge; agents who each have their own keep them. The
    network's model is dropped.

    Returns
    -------
    Answer
    (S, T, N)
        Whether the price of energy is unique.
    """
    unique = np.ones(answer.price.shape, dtype=bool)
    if not answer.aligned or not len(game.data.edges):
        return answer, unique
    data = game.data
    build_model(n, data, {}, bare=True)
    market.formulate(n.model, data)
    compiled = compile_model(n.model, data.scenarios.to_numpy(object), variable_owners(n, data))
    forget_model(n)
    problem = market.problem(compiled, data)
    own = OwnUnits.of(problem)
    price = own.units.price / own.row
    optimum = optimum_at(
        own.problem(problem),
        _decisions(compiled, game, answer.point) / own.units.power,
        answer.risk_adjusted_probability.T,
        _multipliers(compiled, game, answer) / price,
    )
    dual, only = replace(optimum, exact=ACCURACY.agreed).by_rule()
    balances = _balances(compiled)
    unique = _by_prosumer(compiled, game, balances, only.astype(float)) > 0.0
    if only[problem.reported].all():
        return answer, unique
    chosen = dual * price
    hours = game.probability[:, None, None] * game.hours[:, None]
    zeta, xi0, xi1 = (
        _by_edge(compiled, game, name, chosen) for name in (RECIPROCITY, CAPACITY0, CAPACITY1)
    )
    moved = answer._replace(
        price=_by_prosumer(compiled, game, balances, chosen) / hours,
        reciprocity=np.concatenate([zeta, zeta], axis=-1) / hours,
        capacity=np.concatenate([xi0, xi1], axis=-1) / hours,
    )
    return moved, unique


def _decisions(compiled: CompiledModel, game: Game, point: Array) -> Vector:
    """The agents' decisions by the model's columns, MW."""
    x = np.zeros(compiled.column_labels.size)
    power, quantity = game.parted(point)
    p0, p1 = np.split(-quantity, 2, axis=-1)
    labels = [compiled.model["Generator-p"].labels, *quantities(compiled.model, game.data)]
    names = (game.generators, game.data.edges, game.data.edges)
    for values, label, of in zip((power, p0, p1), labels, names, strict=True):
        array = _named(game, values, of).reindex({NAME: label.indexes[NAME]}, fill_value=0.0)
        x[compiled.columns(label)] = _like(game, array, label)
    return x


def _multipliers(compiled: CompiledModel, game: Game, answer: Answer) -> Vector:
    """lambda and zeta, (rows,), EUR/MW; multipliers of bounds follow from them."""
    y = np.zeros(compiled.row_labels.size)
    hours = game.probability[:, None, None] * game.hours[:, None]
    zeta, _ = np.split(answer.reciprocity, 2, axis=-1)
    prices = _named(game, hours * answer.price, game.data.prosumers)
    for name in _balances(compiled):
        label = compiled.model.constraints[name].labels
        array = prices.reindex({NAME: label.indexes[NAME]}, fill_value=0.0)
        active = label.to_numpy().ravel() >= 0
        y[compiled.rows(label)[active]] = _like(game, array, label)[active]
    label = compiled.model.constraints[RECIPROCITY].labels
    y[compiled.rows(label)] = _like(game, _named(game, hours * zeta, game.data.edges), label)
    return y


def _balances(compiled: CompiledModel) -> list[str]:
    return [name for name in compiled.model.constraints if name.endswith(NODAL_BALANCE)]


def _named(game: Game, values: Array, names: pd.Index) -> xr.DataArray:
    coords = {SCENARIO: game.data.scenarios, SNAPSHOT: game.data.snapshots, NAME: names}
    return xr.DataArray(
        values, coords={key: pd.Index(index, name=key) for key, index in coords.items()}
    )


def _like(game: Game, array: xr.DataArray, label: xr.DataArray) -> Vector:
    return np.asarray(game.data.for_model(array).transpose(*label.dims).to_numpy().ravel())


def _by_edge(compiled: CompiledModel, game: Game, name: str, values: Vector) -> Array:
    """Values of the rows of a constraint of trades, (S, T, E)."""
    return _read(compiled, game, [name], values, game.data.edges)


def _by_prosumer(compiled: CompiledModel, game: Game, balances: list[str], values: Vector) -> Array:
    """Values of the prosumers' balances, (S, T, N)."""
    return _read(compiled, game, balances, values, game.data.prosumers)


def _read(
    compiled: CompiledModel, game: Game, constraints: list[str], values: Vector, names: pd.Index
) -> Array:
    dense = np.nan_to_num(by_label(compiled.row_labels, values))
    labels = [compiled.model.constraints[name].labels for name in constraints]
    found = xr.concat([one.copy(data=dense[one.to_numpy()]) for one in labels], NAME)
    if SCENARIO not in found.dims:
        found = found.expand_dims({SCENARIO: game.data.scenarios})
    ordered = found.reindex({NAME: names}, fill_value=0.0)
    return np.asarray(ordered.transpose(SCENARIO, SNAPSHOT, NAME).to_numpy())
