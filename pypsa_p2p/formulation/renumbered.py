"""A compiled market with other numbers: capacities of generators and trades, and congestion.

A sweep over these builds and compiles one model; for each of their values only what they stand
for is written anew: limits of power, and the curvature of what trades cost.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pypsa
import scipy.sparse as sp

from pypsa_p2p.common.names import NAME, SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import dynamic_numbers
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.places import Places, partner_prices, rows_of
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Sparse, Vector


def renumbered(
    compiled: CompiledModel, places: Places, n: pypsa.Network, data: MarketData, cross: float
) -> tuple[CompiledModel, Places]:
    """The market of a network that differs in these numbers only from the one compiled.

    Parameters
    ----------
    compiled, places
        Of a plain model, which has generators, loads and p2p Links only.
    cross : float
        Share of the partner's congestion cost in the objective, as in `trading.trade_cost`.
    """
    lower, upper = _limits(compiled, places, n, data)
    program = replace(
        compiled.program, P=_curvature(compiled, places, data, cross), lower=lower, upper=upper
    )
    partner = partner_prices(compiled, data, places.quantity)
    return replace(compiled, program=program), replace(places, partner=partner)


def _limits(
    compiled: CompiledModel, places: Places, n: pypsa.Network, data: MarketData
) -> tuple[Vector, Vector]:
    """Of all rows: those of generators (18) and of trades (2) as the network has them now."""
    lower, upper = compiled.program.lower.copy(), compiled.program.upper.copy()
    names = places.generators
    p_nom, p_min_pu, p_max_pu = (
        dynamic_numbers(n, "Generator", one, names, data.snapshots)
        for one in ("p_nom", "p_min_pu", "p_max_pu")
    )
    if len(names):
        lower[rows_of(compiled, "Generator-fix-p-lower", names)] = p_nom * p_min_pu
        upper[rows_of(compiled, "Generator-fix-p-upper", names)] = p_nom * p_max_pu
    for rows, capacity in zip(places.capacity, (data.capacity0, data.capacity1), strict=True):
        lower[rows] = -capacity.transpose(SCENARIO, SNAPSHOT, NAME).to_numpy()
    return lower, upper


def _curvature(compiled: CompiledModel, places: Places, data: MarketData, cross: float) -> Sparse:
    """Second derivatives of the expected cost, those of trades, a (q^2 + 2 cross q q'), anew."""
    here, there = (one.ravel() for one in places.quantity)
    hours = np.multiply.outer(data.probability.to_numpy(), data.weighting.to_numpy())
    a = (data.congestion.to_numpy()[:, None] * hours[..., None]).ravel()
    kept = compiled.program.P.tocoo()
    of_trades = np.isin(kept.row, np.concatenate([here, there]))
    row, column, value = (
        np.concatenate([old[~of_trades], *new])
        for old, new in (
            (kept.row, (here, there, here, there)),
            (kept.col, (here, there, there, here)),
            (kept.data, (2 * a, 2 * a, 2 * cross * a, 2 * cross * a)),
        )
    )
    P = sp.csc_matrix((value, (row, column)), kept.shape)
    P.eliminate_zeros()
    return P
