"""Decisions of all scenarios at once: what of them is refused, and the one price of a trade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pypsa
import scipy.sparse as sp

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import NAME
from pypsa_p2p.common.tables import dynamic_numbers, first_scenario
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.places import Places, rows_of
from pypsa_p2p.formulation.shared import DECISIONS, SHARED
from pypsa_p2p.formulation.trading import QUANTITY1
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.solvers.program import RiskProgram


def check_here_and_now(n: pypsa.Network, data: MarketData, names: Sequence[str]) -> None:
    """Refuse names of what is no asset with a decision, and assets that cannot do the same.

    Raises
    ------
    MarketError
    """
    known = {component: first_scenario(n, component) for component in DECISIONS}
    trades = [name for name in names if name in data.edges]
    if trades:
        raise MarketError(
            f"Option here_and_now has the trade edge {listed(trades)}: trades say themselves when "
            "they are decided, add_trades(n, ..., decided='day-ahead')."
        )
    unknown = [name for name in names if all(name not in static.index for static in known.values())]
    if unknown:
        raise MarketError(
            f"Option here_and_now has {listed(unknown)}, which is no {listed(DECISIONS)} of the "
            "network: name assets, as n.generators.index has them."
        )
    chosen = known["Generator"].index.intersection(pd.Index(names, dtype=object), sort=False)
    if len(chosen):
        _require_common_output(n, data, pd.Index(chosen, name=NAME))


def _require_common_output(n: pypsa.Network, data: MarketData, names: pd.Index) -> None:
    """Refuse generators that no output of theirs is possible for in all scenarios."""
    given = first_scenario(n, "Generator").loc[names]
    names = names[~given["p_nom_extendable"].to_numpy(bool)]
    size, least, most = (
        dynamic_numbers(n, "Generator", one, names, data.snapshots)
        for one in ("p_nom", "p_min_pu", "p_max_pu")
    )
    apart = ((size * least).max(axis=0) > (size * most).min(axis=0)).any(axis=0)
    if apart.any():
        raise MarketError(
            f"Option here_and_now has the Generator {listed(names[apart])}, whose limits leave no "
            "output that is possible in all scenarios: leave it out, or widen p_min_pu, p_max_pu."
        )


def with_day_ahead_once(program: RiskProgram, places: Places, data: MarketData) -> RiskProgram:
    """The program with (1) of trades day ahead in the first scenario alone.

    It says the same in all of them, and so many times it would tie what scenarios share together.
    """
    again = places.reciprocity[1:, :, data.day_ahead.to_numpy()].ravel()
    if not again.size:
        return program
    counts = np.ones(program.lower.size)
    counts[again] = 0.0
    rows = sp.csr_matrix(sp.diags(counts) @ program.A)
    rows.eliminate_zeros()
    lower, upper = program.lower.copy(), program.upper.copy()
    lower[again], upper[again] = -np.inf, np.inf
    return replace(program, A=rows, lower=lower, upper=upper)


def with_day_ahead_prices(
    compiled: CompiledModel, places: Places, data: MarketData, solution: MarketSolution
) -> MarketSolution:
    r"""A solution with the price of trades day ahead split over scenarios by their probability.

    .. math:: \zeta^\omega = p_\omega \sum_{\omega'} \zeta^{\omega'}

    Only the sum is a price (MODEL.md §12): what ties the scenarios takes up any split of it.
    """
    ahead = data.day_ahead.to_numpy()
    if solution.status != "optimal" or len(data.scenarios) == 1 or not ahead.any():
        return solution
    at = places.reciprocity[..., ahead]
    share = data.probability.to_numpy()[:, None, None]
    dual = solution.row_dual.copy()
    change = share * dual[at].sum(axis=0) - dual[at]
    dual[at] += change
    other, change1 = solution.reciprocity1, change
    if other is not None:
        zeta1 = other.reshape(places.reciprocity.shape).copy()
        of_ahead = zeta1[..., ahead]
        change1 = share * of_ahead.sum(axis=0) - of_ahead
        zeta1[..., ahead] += change1
        other = zeta1.ravel()
    for variable, moved in (("Link-p", change), (QUANTITY1, change1)):
        _take_up(compiled, data, dual, SHARED + variable, moved)
    return replace(solution, row_dual=dual, reciprocity1=other)


def _take_up(
    compiled: CompiledModel, data: MarketData, dual: Vector, constraint: str, change: Vector
) -> None:
    """Let the multipliers of what ties scenarios give way to a change of prices, in place."""
    rows = rows_of(compiled, constraint, data.ahead)
    dual[rows] -= np.asarray(change)[1:]
