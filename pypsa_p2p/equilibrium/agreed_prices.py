"""Prices that agents agreed on, by the rule of MODEL.md §4 where several would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import NAME
from pypsa_p2p.common.pypsa_state import forget_model
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.knapsack import Array, Flags
from pypsa_p2p.equilibrium.running import Answer
from pypsa_p2p.formulation.columns import balances, variable_owners
from pypsa_p2p.formulation.compiled import CompiledModel, compile_model
from pypsa_p2p.formulation.fees import BOUGHT, PARTED, SOLD, parted
from pypsa_p2p.formulation.model import build_model
from pypsa_p2p.formulation.places import Places, rows_of, rows_of_balances, values_at
from pypsa_p2p.formulation.trading import CAPACITY0, CAPACITY1, RECIPROCITY, quantities
from pypsa_p2p.markets.clearing.own_units import OwnUnits
from pypsa_p2p.markets.clearing.prices import optimum_at
from pypsa_p2p.markets.designs import PeerToPeerMarket
from pypsa_p2p.solvers.arrays import Labels, Vector


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
    market = replace(market, contracts=None)  # tau is known
    market.formulate(n.model, data)
    compiled = compile_model(n.model, data.scenarios.to_numpy(object), variable_owners(n, data))
    forget_model(n)
    problem = market.problem(compiled, Places.of(compiled, data), data)
    own = OwnUnits.of(problem)
    price = own.units.price / own.row
    optimum = optimum_at(
        own.problem(problem),
        _decisions(compiled, game, answer.point) / own.units.power,
        answer.risk_adjusted_probability.T,
        _multipliers(compiled, game, answer) / price,
    )
    dual, only = replace(optimum, exact=ACCURACY.agreed).by_rule()
    unique = _by_prosumer(compiled, game, only.astype(float)) > 0.0
    if only[problem.reported].all():
        return answer, unique
    return _moved(compiled, game, answer, dual * price), unique


def _moved(compiled: CompiledModel, game: Game, answer: Answer, dual: Vector) -> Answer:
    """The answer at other multipliers of the rows, EUR/MW."""
    hours = game.probability[:, None, None] * game.hours[:, None]
    zeta, xi0, xi1 = (
        values_at(dual, rows_of(compiled, name, game.data.edges))
        for name in (RECIPROCITY, CAPACITY0, CAPACITY1)
    )
    return answer._replace(
        price=_by_prosumer(compiled, game, dual) / hours,
        reciprocity=np.concatenate([zeta, zeta], axis=-1) / hours,
        capacity=np.concatenate([xi0, xi1], axis=-1) / hours,
    )


def _decisions(compiled: CompiledModel, game: Game, point: Array) -> Vector:
    """The agents' decisions by the model's columns, MW."""
    x = np.zeros(compiled.column_labels.size)
    power, quantity = game.parted(point)
    p0, p1 = np.split(-quantity, 2, axis=-1)
    labels = [compiled.model["Generator-p"].labels, *quantities(compiled.model, game.data)]
    names = (game.generators, game.data.edges, game.data.edges)
    for values, label, of in zip((power, p0, p1), labels, names, strict=True):
        _put(x, compiled.columns(label), game, game.labelled(values, of), label)
    for bought, sold, sent in zip(BOUGHT, SOLD, (p0, p1), strict=True):
        for name in (bought, sold) if bought in compiled.model.variables else ():
            label = compiled.model[name].labels
            part = parted(game.labelled(sent, game.data.edges), name)
            _put(x, compiled.columns(label), game, part, label)
    return x


def _multipliers(compiled: CompiledModel, game: Game, answer: Answer) -> Vector:
    """lambda, zeta and what fees add to prices, (rows,), EUR/MW; those of bounds follow."""
    y = np.zeros(compiled.row_labels.size)
    hours = game.probability[:, None, None] * game.hours[:, None]
    zeta, _ = np.split(answer.reciprocity, 2, axis=-1)
    prices = game.labelled(hours * answer.price, game.data.prosumers)
    rows = dict.fromkeys(balances(compiled.model), prices)
    rows[RECIPROCITY] = game.labelled(hours * zeta, game.data.edges)
    for name, fee in zip(PARTED, np.split(_fees(game, answer), 2, axis=-1), strict=True):
        if name in compiled.model.constraints:
            rows[name] = game.labelled(hours * fee, game.data.edges)
    for name, values in rows.items():
        label = compiled.model.constraints[name].labels
        _put(y, compiled.rows(label), game, values, label)
    return y


def _fees(game: Game, answer: Answer) -> Array:
    """Fees in the marginal costs of trades, (S, T, 2E), over p w, of which none is 0 by choice.

    Where nothing is traded, what the other prices leave to be explained, as far as the fee goes.
    """
    _, quantity = game.parted(answer.point)
    ratio = (answer.risk_adjusted_probability / game.probability[:, None])[:, None, game.buyer]
    most = ratio * game.fee
    cost = game.congestion * (2 * quantity + game.partner(quantity)) + game.price
    gap = answer.price[..., game.buyer] - ratio * cost - answer.reciprocity - answer.capacity
    return np.where(quantity == 0, np.clip(gap, -most, most), np.sign(quantity) * most)


def _put(
    vector: Vector, places: Labels, game: Game, values: xr.DataArray, label: xr.DataArray
) -> None:
    """Write values to the places of the labels that a model has, 0 where none is given."""
    full = values.reindex({NAME: label.indexes[NAME]}, fill_value=0.0)
    active = label.to_numpy().ravel() >= 0
    flat = game.data.for_model(full).transpose(*label.dims).to_numpy().ravel()
    vector[places[active]] = flat[active]


def _by_prosumer(compiled: CompiledModel, game: Game, values: Vector) -> Array:
    """Values of the prosumers' balances, (S, T, N)."""
    return values_at(values, rows_of_balances(compiled, game.data.prosumers))
