"""What a solved market leaves in the network, all of it in PyPSA's own tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import xarray as xr
from numpy.typing import NDArray

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.files import in_order
from pypsa_p2p.common.names import (
    CONTRACT_PAYOUT,
    INSURANCE,
    KEPT_DUALS,
    META,
    OWN_MULTIPLIERS,
    PROSUMER,
    REFERENCE_COST,
    RISK_ADJUSTED_PROBABILITY,
    RISK_ATTITUDE,
    SCENARIO,
    TERMS,
    WELFARE_WEIGHT,
)
from pypsa_p2p.common.pypsa_state import model_of, objective_of
from pypsa_p2p.common.units import Units
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.planner import Welfare
from pypsa_p2p.markets.clearing.volumes import Hedges
from pypsa_p2p.markets.contract_terms import Terms
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.markets.risk import RiskMeasure
from pypsa_p2p.network.checksums import checksums
from pypsa_p2p.network.market_data import MarketData

#: Status of models whose solve failed; a copied network's model counts as not yet solved.
_FAILED = ("warning", "error", "aborted", "unknown")

#: Of what is noted, what is asked for wherever a solved market is read.
_NEEDED = frozenset({"design", "surplus", "delivery", "objective", "snapshots", "constraints"})


def forget_market(n: pypsa.Network) -> None:
    """Note that no market is solved: another is about to be."""
    n.meta.pop(META, None)


def record_market(
    n: pypsa.Network,
    data: MarketData,
    solution: MarketSolution,
    *,
    settings: Mapping[str, Any],
    terms: Terms | None,
    common: Envelope,
) -> None:
    """Note which market it is, and tau of every prosumer, in ``n.meta`` and ``n.buses``.

    Parameters
    ----------
    settings : mapping
        What was asked for, as plain values that survive netCDF.
    terms : Terms, optional
        Of the contracts traded.
    common : Envelope
        What all prosumers may hold, by which the paper prices contracts.
    """
    tau = np.broadcast_to(
        solution.risk_adjusted_probability.T, (len(data.scenarios), len(data.prosumers))
    )
    labelled = xr.DataArray(tau, coords={SCENARIO: data.scenarios, PROSUMER: data.prosumers})
    _write_bus_column(n, data, RISK_ADJUSTED_PROBABILITY, labelled)
    contracts = record_contracts(n, data, solution.hedges, terms, common)
    for column in KEPT_DUALS:
        n.c["Link"].static[column] = 0.0
    usual = usual_units(solution, data)
    n.meta[META] = {
        **settings,
        "solver": solution.solver,
        "objective": solution.objective,
        "objective_scale": solution.scale,
        "typical_price": usual.price,
        "typical_power": usual.power,
        **attitudes_of(data),
        "inputs": checksums(n, data, settings["delivery"]),
        OWN_MULTIPLIERS: solution.reciprocity1 is not None,
        **welfare_of(solution.welfare),
        "snapshots": n.snapshots.get_indexer(data.snapshots).tolist(),
        "constraints": sorted(n.model.constraints),
        **contracts,
    }


def record_contracts(
    n: pypsa.Network, data: MarketData, hedges: Hedges | None, terms: Terms | None, common: Envelope
) -> dict[str, Any]:
    """Write what contracts pay into ``n.buses``; the entry of ``n.meta["p2p"]`` about them."""
    held = contracts_held(hedges, terms, common)
    if held is None:
        static = n.c["Bus"].static
        for column in {CONTRACT_PAYOUT, INSURANCE} & set(static):
            del static[column]
        return {}
    coords = {SCENARIO: data.scenarios, PROSUMER: data.prosumers}
    for column in (CONTRACT_PAYOUT, INSURANCE):
        _write_bus_column(n, data, column, xr.DataArray(held.pop(column), coords=coords))
    return {
        TERMS: {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in held.items()
        }
    }


def contracts_held(
    hedges: Hedges | None, terms: Terms | None, common: Envelope
) -> dict[str, Any] | None:
    """Contracts and insurance as they are recorded, arrays by name; None where there are none.

    Parameters
    ----------
    common : Envelope
        What all prosumers may hold, by which the paper prices contracts.
    """
    if terms is None or hedges is None:
        return None
    own = not terms.every_scenario
    return {
        CONTRACT_PAYOUT: terms.payoff.T @ hedges.volume,
        INSURANCE: hedges.insurance,
        "clearing_price": hedges.price,
        "price": terms.paid(hedges.price, common),
        "insurance_price": terms.insurance_price,
        "limit": terms.limit,
        "payoff": terms.payoff if own else None,
        "volume": hedges.volume if own else None,
        "names": list(map(str, terms.names)),
    }


def usual_units(solution: MarketSolution, data: MarketData) -> Units:
    """A typical power, MW, of a market's solution, and what it pays for it in an hour, EUR."""
    power = solution.units.power
    return Units(
        power=power,
        money=solution.units.price / float(np.median(data.weighting.to_numpy())) * power,
    )


def recorded_units(n: pypsa.Network) -> Units:
    """A typical power, MW, of a solved market, and what it pays for it in an hour, EUR.

    What is much smaller than these is rounding.
    """
    return units_of(recorded(n))


def units_of(settings: Mapping[str, Any]) -> Units:
    """The same, from what is recorded."""
    power = settings.get("typical_power", ACCURACY.tiny)
    return Units(power=power, money=settings.get("typical_price", 0.0) * power)


def recorded(n: pypsa.Network) -> dict[str, Any]:
    """What `record_market` noted.

    Raises
    ------
    MarketError
        No market was solved on this network, its last solve failed, or constraints were added
        after the market had been.
    """
    settings = n.meta.get(META) if isinstance(n, pypsa.Network) else None
    model = model_of(n) if settings is not None else None
    ended = model.termination_condition if model is not None and model.status in _FAILED else ""
    if settings is not None and not (isinstance(settings, Mapping) and _NEEDED <= set(settings)):
        raise MarketError(
            f'n.meta["{META}"] is not what a market left there: solve the market again.'
        )
    if settings is None or not (n.is_solved or ended):
        raise MarketError(
            "The network holds no solved market. Solve one first: market.optimize(n) or "
            "n.optimize(extra_functionality=market)."
        )
    if ended:
        raise MarketError(
            f"The last solve ended with {ended!r}, so there is nothing to "
            "report. If constraints were added after the market, let the market come last."
        )
    scale = settings.get("objective_scale", abs(settings["objective"]))
    rounding = ACCURACY.rounding * abs(settings["objective"])
    if abs(objective_of(n).whole - settings["objective"]) > ACCURACY.promised * scale + rounding:
        raise MarketError(
            "The network was solved again without the market, whose results are gone. Solve it "
            "with the market: market.optimize(n) or n.optimize(extra_functionality=market)."
        )
    added = [] if model is None else sorted(set(model.constraints) - set(settings["constraints"]))
    if added:
        raise MarketError(
            f"Constraints {', '.join(map(repr, added))} were added after the market, which does "
            "not know them: let the market come last in extra_functionality."
        )
    return dict(settings)


def payments_at_risk(settings: Mapping[str, Any]) -> bool:
    """Whether prosumers' risk is that of cost and payments (MODEL.md §13)."""
    return bool(settings.get("payments", "none") == "risk")


def worth_of_money(
    tau: NDArray[np.float64], probability: NDArray[np.float64], settings: Mapping[str, Any]
) -> NDArray[np.float64]:
    """What multipliers on record weigh money of each scenario by, (S, N): tau.

    Where prosumers take prices of the scenario whatever they fear, and share no contracts,
    multipliers are those prices times the probability of the scenario.
    """
    if payments_at_risk(settings) and not settings["contracts"]:
        return np.broadcast_to(probability[:, None], tau.shape)
    return tau


def welfare_of(welfare: Welfare | None) -> dict[str, Any]:
    """The entries of ``n.meta["p2p"]`` about costs that a planner compared; none where she sums."""
    if welfare is None:
        return {}
    found = {WELFARE_WEIGHT: welfare.weight.tolist()}
    if welfare.reference is not None:
        found[REFERENCE_COST] = welfare.reference.tolist()
    return found


def attitudes_of(data: MarketData) -> dict[str, Any]:
    """The entry of ``n.meta["p2p"]`` about the prosumers' own attitudes when it was solved."""
    return {RISK_ATTITUDE: data.risk_attitude.to_numpy().tolist()}


def recorded_risk(
    settings: Mapping[str, Any], data: MarketData
) -> tuple[RiskMeasure, xr.DataArray]:
    """The measure a market was solved with, and the prosumers' attitudes then.

    Raises
    ------
    MarketError
        The measure is not defined here, or the market is one of an earlier version.
    """
    if "risk" not in settings:
        raise MarketError("An earlier version of pypsa_p2p solved this market: solve it again.")
    attitude = data.risk_attitude.copy(data=settings[RISK_ATTITUDE])
    return RiskMeasure.of(settings["risk"]), attitude


def require_trades_delivered(settings: Mapping[str, Any], what: str) -> None:
    """Refuse a market whose trades the grid delivers where prices of the grid are not known.

    Raises
    ------
    MarketError
    """
    if settings["delivery"] == "grid":
        raise MarketError(
            f"{what} is not available for delivery='grid' in this version, whose nodal prices hold "
            "grid prices too. Use delivery='trades'."
        )


def _write_bus_column(
    n: pypsa.Network, data: MarketData, column: str, values: xr.DataArray
) -> None:
    static = n.c["Bus"].static
    if data.stochastic:
        index = pd.MultiIndex.from_product([data.scenarios, data.prosumers])
        series = pd.Series(values.transpose(SCENARIO, PROSUMER).to_numpy().ravel(), index=index)
    else:
        series = pd.Series(values.isel({SCENARIO: 0}).to_numpy(), index=data.prosumers)
    static[column] = series.reindex(static.index).fillna(0.0).to_numpy()
    if data.stochastic:
        static.index = in_order(static.index)
