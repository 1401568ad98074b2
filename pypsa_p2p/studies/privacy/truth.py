"""The market at the true targets, as the arrays that the closed forms need (MODEL.md §11)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import NAME, PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.pypsa_state import copy_without_model
from pypsa_p2p.common.tables import Numbers, dynamic_numbers
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.record import recorded_units
from pypsa_p2p.network.assets import sum_by_owner
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.results import read_results
from pypsa_p2p.solvers.arrays import Flags
from pypsa_p2p.studies.privacy.refusals import (
    check_connected,
    check_design,
    check_network,
    elastic_of_each,
    owned,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What prices and costs are at the true targets, and how they respond to reports.

    Attributes
    ----------
    data : MarketData
    weight : (S, T, 1)
        p w, h: what an hour of a scenario counts for.
    utility : (S, T, N)
        Curvature of utility, EUR/MW2h.
    response : (S, T, N)
        B_n, MW by which her net import falls for each EUR/MWh of price: 1/(2 curvature) of demand
        and 1/a of every generator that no limit holds.
    answers : (S, T, N)
        Whether her report moves anything: not where her demand is at a limit.
    net_import, price : (S, T, N)
        Q, MW, and lambda, EUR/MWh.
    cost : (N,)
        Expectation of cost and payments for trades, EUR.
    local : bool
        Whether a limit binds somewhere.
    """

    data: MarketData
    weight: Numbers
    utility: Numbers
    response: Numbers
    answers: Flags
    net_import: Numbers
    price: Numbers
    cost: Numbers
    local: bool

    @property
    def total(self) -> Numbers:
        """B = sum of B_n, (S, T, 1), MW by which all would buy less for each EUR/MWh."""
        return np.asarray(self.response.sum(axis=-1, keepdims=True))

    @property
    def noise_cost(self) -> Numbers:
        """W_n = utility - B_n/(2 B^2), (S, T, N), EUR/MW2h: what own noise costs (P2).

        0 where her report moves nothing.
        """
        return np.where(self.answers, self.utility - self.response / (2 * self.total**2), 0.0)

    def by_prosumer(self, hourly: Numbers) -> Numbers:
        """Expected sum over the hours, (N,), EUR, of EUR/h, (S, T, N)."""
        return np.asarray((self.weight * hourly).sum(axis=(0, 1)))


def truth_of(n: pypsa.Network, market: Market) -> Truth:
    """Solve the market at the true targets, on a copy, and read how it responds.

    Raises
    ------
    MarketError
        Whatever would make the closed form inexact, by name.
    """
    check_design(market)
    data = read_market(n)
    check_network(n, data)
    solved = copy_without_model(n)
    market.optimize(solved)
    data, r = read_results(solved)
    check_connected(data, r)
    everywhere = (SCENARIO, SNAPSHOT, PROSUMER)
    response, answers, utility, local = _free(solved, data)
    hours = data.weighting.to_numpy()[:, None]
    p = data.probability.to_numpy()[:, None]
    truth = Truth(
        data=data,
        weight=p[:, None] * hours,
        utility=utility,
        response=response,
        answers=answers,
        net_import=r["net_import"].transpose(*everywhere).to_numpy(),
        price=r["nodal_price"].transpose(*everywhere).to_numpy(),
        cost=(p * (r["cost"] + r["payment"]).transpose(*everywhere[::2]).to_numpy()).sum(axis=0),
        local=local,
    )
    _require_two(truth)
    return truth


def _free(n: pypsa.Network, data: MarketData) -> tuple[Numbers, Flags, Numbers, bool]:
    """B_n, whose report moves something, utility's curvature, and whether a limit binds."""
    names = owned(data, "Generator")
    numbers = {
        attribute: dynamic_numbers(n, "Generator", attribute, names, data.snapshots)
        for attribute in ("p_nom", "p_min_pu", "p_max_pu", "marginal_cost_quadratic", "p")
    }
    lower, upper = (numbers["p_nom"] * numbers[f"p_{end}_pu"] for end in ("min", "max"))
    power, curvature = numbers["p"], 2 * numbers["marginal_cost_quadratic"]
    close = ACCURACY.promised * recorded_units(n).power
    has_room = upper - lower > close
    at_limit = has_room & ((power - lower <= close) | (upper - power <= close))
    free = has_room & ~at_limit
    _refuse_linear(names[(free & (curvature <= 0)).any(axis=(0, 1))])
    slope = np.where(free, 1 / np.where(free, curvature, 1.0), 0.0)
    owner = data.prosumers.get_indexer(
        pd.Index(data.owner_of("Generator").sel({NAME: names}).to_numpy())
    )
    count = len(data.prosumers)
    elastic = names.get_indexer(elastic_of_each(n, data))
    return (
        sum_by_owner(slope, owner, count),
        free[..., elastic],
        curvature[..., elastic] / 2,
        bool(at_limit.any()),
    )


def _refuse_linear(names: pd.Index) -> None:
    if len(names):
        raise MarketError(
            f"Generator {listed(names)} runs between its limits at a constant marginal cost, "
            "which holds the price whatever is reported: give it marginal_cost_quadratic > 0."
        )


def _require_two(truth: Truth) -> None:
    """Refuse hours in which fewer than two respond to the price."""
    alone = (truth.response > 0).sum(axis=-1) < 2
    if alone.any():
        scenario, snapshot = np.argwhere(alone)[0]
        raise MarketError(
            f"Fewer than two prosumers respond to the price in snapshot "
            f"{shown(truth.data.snapshots[snapshot])}, scenario "
            f"{shown(truth.data.scenarios[scenario])}: all others are at limits. "
            "Widen demand_min, demand_max or generation_max."
        )
