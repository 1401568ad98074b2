"""What a solved market decided, as arrays: from the network's tables, or from a solution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import (
    KEPT_DUALS,
    OWN_MULTIPLIERS,
    PRICE_IN_RANGE,
    RECIPROCITY1,
    REFERENCE_COST,
    RISK_ADJUSTED_PROBABILITY,
    UNWEIGHED_CAPACITY_PRICES,
    UNWEIGHED_PRICE,
    UNWEIGHED_TRADE_PRICES,
    WELFARE_WEIGHT,
)
from pypsa_p2p.common.tables import Numbers, dynamic_numbers, static_values
from pypsa_p2p.common.units import Units
from pypsa_p2p.formulation.places import Posed, values_at
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.price_series import prices_in_range, unweighed_prices
from pypsa_p2p.markets.record import (
    contracts_held,
    payments_at_risk,
    recorded_risk,
    units_of,
    usual_units,
    welfare_of,
    worth_of_money,
)
from pypsa_p2p.markets.risk import NEUTRAL, RiskMeasure
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.hedges import RecordedHedges, labelled_hedges, recorded_hedges

#: A result by class, PyPSA's name of it, and names of components: (S, T, K), or capacities (S, K).
Read = Callable[[str, str, pd.Index], Numbers]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """A market's decisions and multipliers, and what of the question its figures depend on.

    Attributes
    ----------
    measure, attitude : RiskMeasure, DataArray (prosumer)
        What everybody fears, and her own attitude when the market was solved.
    together : bool
        Whether the community's risk was taken.
    own_multipliers : bool
        Whether the ends of an edge have prices of their own (unequal weights).
    usual : Units
        What much smaller amounts than these are rounding of.
    tau : (S, N)
        Risk-adjusted probabilities.
    worth : (S, N)
        What multipliers weigh money of the scenario by: tau, or the probability.
    payments_at_risk : bool
        Whether risk is that of costs and payments.
    power, built : callable
        Results of components, MW, and capacities that were found.
    price_now, in_range : (S, T, N)
        Price of energy at the prosumers' buses, EUR/MWh now; 1 where it is one of a range, else 0.
    quantity : pair of (S, T, E)
        Bought at bus0 and at bus1 of every edge, MW.
    zeta, xi : pair of (S, T, E)
        Multipliers of (1) and (2) of the prosumers there, EUR/MW now.
    of_limit : mapping of (S, T, K)
        Prices where a scenario is not weighed, by PyPSA's name of the series; NaN where there is
        none, and not in it where there are none at all.
    hedges : RecordedHedges or None
        Contracts, where they are traded.
    welfare_weight, reference_cost : (N,) or None
        Where a planner compares costs: what each one's count for, and with what they are compared.
    """

    measure: RiskMeasure
    attitude: xr.DataArray
    together: bool
    own_multipliers: bool
    usual: Units
    tau: Numbers
    worth: Numbers
    payments_at_risk: bool
    power: Read
    built: Read
    price_now: Numbers
    in_range: Numbers
    quantity: tuple[Numbers, Numbers]
    zeta: tuple[Numbers, Numbers]
    xi: tuple[Numbers, Numbers]
    of_limit: Mapping[str, Numbers]
    hedges: RecordedHedges | None
    welfare_weight: Numbers | None = None
    reference_cost: Numbers | None = None


def in_tables(n: pypsa.Network, data: MarketData, settings: Mapping[str, Any]) -> Decided:
    """What a solved network holds in its own tables, and what is recorded of its market."""
    measure, attitude = recorded_risk(settings, data)
    own = settings.get(OWN_MULTIPLIERS, False)

    def power(component: str, attribute: str, names: pd.Index) -> Numbers:
        return dynamic_numbers(n, component, attribute, names, data.snapshots)

    def built(component: str, attribute: str, names: pd.Index) -> Numbers:
        return np.asarray(static_values(n, component, attribute, names).to_numpy())

    def of_limit(component: str, series: str, names: pd.Index) -> Numbers:
        return dynamic_numbers(n, component, series, names, data.snapshots, np.nan)

    of_edges = (*KEPT_DUALS, RECIPROCITY1 if own else KEPT_DUALS[0])
    zeta0, xi0, xi1, zeta1 = (power("Link", column, data.edges) for column in of_edges)
    trades = (*UNWEIGHED_TRADE_PRICES, *UNWEIGHED_CAPACITY_PRICES)
    tau = built("Bus", RISK_ADJUSTED_PROBABILITY, data.prosumers)
    return Decided(
        measure=measure,
        attitude=attitude,
        together=settings["together"],
        own_multipliers=own,
        usual=units_of(settings),
        tau=tau,
        worth=worth_of_money(tau, data.probability.to_numpy(), settings),
        payments_at_risk=payments_at_risk(settings),
        power=power,
        built=built,
        price_now=power("Bus", "marginal_price", data.prosumers),
        in_range=power("Bus", PRICE_IN_RANGE, data.prosumers),
        quantity=(-power("Link", "p0", data.edges), -power("Link", "p1", data.edges)),
        zeta=(zeta0, zeta1),
        xi=(xi0, xi1),
        of_limit={
            UNWEIGHED_PRICE: of_limit("Bus", UNWEIGHED_PRICE, data.prosumers),
            **{series: of_limit("Link", series, data.edges) for series in trades},
        },
        hedges=recorded_hedges(n, data, settings),
        **_compared(settings),
    )


def _compared(settings: Mapping[str, Any]) -> dict[str, Numbers]:
    """What is recorded of costs that a planner compares."""
    return {
        name: np.asarray(settings[name], dtype=float)
        for name in (WELFARE_WEIGHT, REFERENCE_COST)
        if settings.get(name) is not None
    }


def in_solution(market: Market, posed: Posed, solution: MarketSolution, load: Numbers) -> Decided:
    """What a market on a plain model decided, before it is written anywhere.

    A plain model has generators, loads and p2p Links only.

    Parameters
    ----------
    load : (S, T, K)
        What Loads take, MW, which is given.
    """
    data, places, x, y = posed.data, posed.places, solution.x, solution.row_dual
    each, terms = market.envelope(data), market.terms(data)
    held = contracts_held(solution.hedges, terms, each.common)
    shape = len(data.scenarios), len(data.snapshots)
    generators, output = places.generators, values_at(x, places.output)

    def power(component: str, _: str, names: pd.Index) -> Numbers:
        if component == "Load":
            return load
        if component == "Generator":
            return output[..., generators.get_indexer(names)]
        return np.zeros((*shape, len(names)))

    def built(component: str, attribute: str, _: pd.Index) -> Numbers:
        raise AssertionError(f"nobody builds {component} {attribute} in a plain market")

    zeta0 = values_at(y, places.reciprocity)
    settings = market.settings()
    tau = np.broadcast_to(
        solution.risk_adjusted_probability.T, (len(data.scenarios), len(data.prosumers))
    )
    other = solution.reciprocity1
    several = prices_in_range(places, solution)
    return Decided(
        measure=market.risk or NEUTRAL,
        attitude=data.risk_attitude,
        together=market.promise(data, each)["together"],
        own_multipliers=other is not None,
        usual=usual_units(solution, data),
        tau=tau,
        worth=worth_of_money(tau, data.probability.to_numpy(), settings),
        payments_at_risk=payments_at_risk(settings),
        power=power,
        built=built,
        price_now=values_at(y, places.energy) / data.weighting.to_numpy()[:, None],
        in_range=np.zeros((*shape, len(data.prosumers))) if several is None else several,
        quantity=(-values_at(x, places.quantity[0]), -values_at(x, places.quantity[1])),
        zeta=(zeta0, zeta0 if other is None else other.reshape(zeta0.shape)),
        xi=(values_at(y, places.capacity[0]), values_at(y, places.capacity[1])),
        of_limit={
            series: values
            for (_, series), values in unweighed_prices(data, places, solution).items()
        },
        hedges=None if held is None else labelled_hedges(data, held),
        **_compared(welfare_of(solution.welfare)),
    )
