"""Writing what agents found to the network, where `results` reads it."""

from __future__ import annotations

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.names import (
    KEPT_DUALS,
    META,
    OWN_MULTIPLIERS,
    PRICE_IN_RANGE,
    PROSUMER,
    RECIPROCITY1,
    RISK_ADJUSTED_PROBABILITY,
    SCENARIO,
)
from pypsa_p2p.common.pypsa_state import Objective, forget_model, set_objective
from pypsa_p2p.common.tables import dynamic_values, first_scenario, write_static
from pypsa_p2p.equilibrium.agreed_prices import by_the_rule
from pypsa_p2p.equilibrium.game.game import Game
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.equilibrium.game.stores import Stores
from pypsa_p2p.equilibrium.running import Answer, Run
from pypsa_p2p.equilibrium.scaling import units_of
from pypsa_p2p.markets.designs import PeerToPeerMarket
from pypsa_p2p.markets.price_series import forget_price_series, write_series
from pypsa_p2p.markets.record import attitudes_of, record_contracts
from pypsa_p2p.markets.writing import write_table
from pypsa_p2p.network.checksums import checksums
from pypsa_p2p.network.market_data import MarketData


def write_answer(
    n: pypsa.Network, market: PeerToPeerMarket, game: Game, found: Run, solver: str
) -> None:
    """Write a point, its multipliers and risk-adjusted probabilities, as the direct solve does.

    Multipliers carry tau and hours, ``marginal_price`` carries tau, and ``n.model`` is dropped:
    it would be another market's.
    """
    answer, data = found.answer, game.data
    forget_model(n)
    forget_price_series(n)
    answer, unique = by_the_rule(n, market, game, answer)
    if not unique.all():
        in_range = game.labelled((~unique).astype(float), data.prosumers)
        write_series(n, data, {("Bus", PRICE_IN_RANGE): in_range})
    _write_power(n, game, answer.point)
    _write_prices(n, game, answer)
    tau = xr.DataArray(
        answer.risk_adjusted_probability,
        coords={SCENARIO: data.scenarios, PROSUMER: data.prosumers},
    )
    n.c["Bus"].static[RISK_ADJUSTED_PROBABILITY] = 0.0
    write_static(n, "Bus", RISK_ADJUSTED_PROBABILITY, data.prosumers, data.for_model(tau))
    for component in ("Generator", "Link"):
        n.c[component].static["p_nom_opt"] = n.c[component].static["p_nom"]
    units = units_of(game)
    objective = float(found.history["social_cost"][found.kept])
    set_objective(n, Objective(objective, 0.0))
    each = market.envelope(data)
    n.meta[META] = {
        **market.settings(),
        **market.promise(data, each),
        **attitudes_of(data),
        "inputs": checksums(n, data, market.delivery),
        "solver": solver,
        "snapshots": n.snapshots.get_indexer(data.snapshots).tolist(),
        "constraints": [],
        "objective": objective,
        **record_contracts(n, data, answer.hedges, market.terms(data), each.common),
        "typical_price": units.hourly_price,
        "typical_power": units.power,
        OWN_MULTIPLIERS: not answer.aligned,
        "converged": bool(found.converged),
    }


def _write_power(n: pypsa.Network, game: Game, point: Array) -> None:
    """Dispatch and trades (p0 and p1 are minus what the two ends buy), MW; a grid is idle."""
    data = game.data
    power, quantity = game.parted(point)
    loads = first_scenario(n, "Load").index
    load = dynamic_values(n, "Load", "p_set", loads, data.snapshots)
    _write(n, data, "Load", "p", load)
    generated = power[..., : game.generators.size]
    _write(n, data, "Generator", "p", game.labelled(generated, game.generators))
    if game.stores is not None:
        _write_stores(n, game, game.stores, power)
    p0, p1 = np.split(-quantity, 2, axis=-1)
    for attribute, sent in {"p": p0, "p0": p0, "p1": p1}.items():
        _write(n, data, "Link", attribute, game.labelled(sent, data.edges))
    injection = game.sum_by_owner(power) - game.load + game.net_import(quantity)
    _write(n, data, "Bus", "p", game.labelled(injection, data.prosumers))
    for component in sorted(n.passive_branch_components):
        names = first_scenario(n, component).index
        for end in ("p0", "p1") if len(names) else ():
            nothing = np.zeros((*injection.shape[:2], len(names)))
            _write(n, data, component, end, game.labelled(nothing, names))


def _write_stores(n: pypsa.Network, game: Game, stores: Stores, power: Array) -> None:
    """What storage units do, MW, and what is in them, MWh."""
    dispatched, taken = power[..., stores.discharge], -power[..., stores.charge]
    tables = {
        "p": dispatched - taken,
        "p_dispatch": dispatched,
        "p_store": taken,
        "state_of_charge": stores.contents(power),
    }
    for attribute, values in tables.items():
        _write(n, game.data, "StorageUnit", attribute, game.labelled(values, stores.names))


def _write_prices(n: pypsa.Network, game: Game, answer: Answer) -> None:
    """lambda at the buses, per probability; zeta and xi of both ends, per p w."""
    data = game.data
    p = game.probability[:, None, None]
    _write(n, data, "Bus", "marginal_price", game.labelled(p * answer.price, data.prosumers))
    weight = p * game.hours[:, None]
    zeta0, zeta1 = np.split(weight * answer.reciprocity, 2, axis=-1)
    xi0, xi1 = np.split(weight * answer.capacity, 2, axis=-1)
    columns = (*KEPT_DUALS, RECIPROCITY1)
    for column, values in zip(columns, (zeta0, xi0, xi1, zeta1), strict=True):
        n.c["Link"].static[column] = 0.0
        _write(n, data, "Link", column, game.labelled(values, data.edges))


def _write(
    n: pypsa.Network, data: MarketData, component: str, attribute: str, values: xr.DataArray
) -> None:
    write_table(n, data, component, attribute, data.for_model(values))
