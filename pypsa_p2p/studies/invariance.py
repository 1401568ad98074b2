"""Which social cost functions mind in what units, and from what zero, costs are counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, shown
from pypsa_p2p.common.given import ANY, POSITIVE, Given
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.common.pypsa_state import copy_without_model
from pypsa_p2p.common.quiet import quiet_libraries
from pypsa_p2p.common.values import require_network
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.planner import Planner
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.clearing.welfare import solve_for_welfare
from pypsa_p2p.markets.designs import CentralizedMarket
from pypsa_p2p.markets.social_cost import Utilitarian
from pypsa_p2p.solvers.arrays import Vector

SCALE: Final = Given("welfare_invariance: scale", (PROSUMER,), POSITIVE)
SHIFT: Final = Given("welfare_invariance: shift", (PROSUMER,), ANY)


def welfare_invariance(
    n: pypsa.Network, market: CentralizedMarket, scale: Any = 1.0, shift: Any = 0.0
) -> xr.Dataset:
    r"""What a planner would choose if each prosumer's cost were counted otherwise.

    The market is solved as it is and with :math:`s_n + k_n c_n` for :math:`c_n`, and so for the
    costs that these are compared with. A choice that is the same needs no more of costs than such a
    change leaves of them (MODEL.md §14): Nash none of unit and zero, the sum a common unit, the
    largest gain that too, the largest cost a common unit and zero.

    Parameters
    ----------
    n : pypsa.Network
        Stays as it is.
    market : CentralizedMarket
    scale : scalar, or by prosumer
        k > 0.
    shift : scalar, or by prosumer, EUR
        s.

    Returns
    -------
    xarray.Dataset
        By prosumer, EUR, all counted as they are: ``cost`` of what the market chooses,
        ``cost_rescaled`` of what it chooses where costs are counted otherwise, and ``change``. The
        attribute ``invariant`` says whether there is none.

    Raises
    ------
    MarketError
        No `CentralizedMarket`, one that has no such costs to compare, or one without a solution.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> k = {"0": 2.0, "1": 0.5, "2": 10.0}
    >>> nash = p2p.CentralizedMarket(welfare=p2p.Nash(), surplus=False)
    >>> total = p2p.CentralizedMarket(surplus=False)
    >>> [bool(welfare_invariance(n, market, k, 5.0).invariant) for market in (nash, total)]
    [True, False]
    """
    require_network(n)
    if not isinstance(market, CentralizedMarket):
        raise MarketError(
            f"welfare_invariance needs a CentralizedMarket, which compares costs, not "
            f"{shown(market)}."
        )
    apart = replace(market, participation=True)  # so that everybody's cost is told apart
    with quiet_libraries():
        posed = apart.pose(copy_without_model(n))
    data, compiled = posed.data, posed.compiled
    planner = (market.welfare or Utilitarian()).planner(data, market.participation)
    problem = apart.problem(compiled, posed.places, data)
    k = SCALE.on(SCALE.read(scale), data.prosumers).to_numpy()
    s = SHIFT.on(SHIFT.read(shift), data.prosumers).to_numpy()
    counted = planner, problem
    otherwise = planner.rescaled(k, s), _rescaled(problem, compiled, k, s)
    solved = [_solved(compiled, *each, apart, posed.places, data) for each in (counted, otherwise)]
    costs = [found.welfare.cost for found in solved if found.welfare is not None]
    cost, again = costs[0], (costs[1] - s) / k
    size = float(np.abs(cost).max())
    found = xr.Dataset(
        {
            "cost": (PROSUMER, cost),
            "cost_rescaled": (PROSUMER, again),
            "change": (PROSUMER, again - cost),
        },
        coords={PROSUMER: data.prosumers},
    )
    for name in found:
        found[name].attrs = {"unit": "EUR"}
    found.attrs["invariant"] = bool(np.abs(again - cost).max() <= ACCURACY.sampled * size)
    return found


def _solved(
    compiled: CompiledModel,
    planner: Planner,
    problem: MarketProblem,
    market: CentralizedMarket,
    places: Any,
    data: Any,
) -> MarketSolution:
    found = solve_for_welfare(compiled, problem, planner)
    return market.accepted(found, compiled, places, data)


def _rescaled(
    problem: MarketProblem, compiled: CompiledModel, scale: Vector, shift: Vector
) -> MarketProblem:
    """The market in which everybody's cost is multiplied by a number, and another added."""
    program = problem.program
    by_column = np.append(scale, 1.0)[compiled.owner]
    curvature = program.P.tocsc(copy=True)
    curvature.data = curvature.data * np.repeat(by_column, np.diff(curvature.indptr))
    of_cell, more = (
        np.append(values, neutral)[program.group]
        for values, neutral in ((scale, 1.0), (shift, 0.0))
    )
    return replace(
        problem,
        program=replace(
            program,
            P=curvature,
            c=program.c * by_column,
            constant=program.constant * of_cell + more,
        ),
    )
