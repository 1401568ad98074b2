r"""Conditions of social cost functions (MODEL.md §14): that the weights are those of the choice.

Together with the market's own conditions at these weights they prove the first choice: where
:math:`\sum_n m_n c_n` is least, m is a slope of F at c, and what it has beyond holds costs at their
references. Of the choices after the first no multipliers are kept: costs are worked out anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.names import PROSUMER, REFERENCE_COST, WELFARE_WEIGHT
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.places import Places
from pypsa_p2p.markets.clearing.planner import Planner
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.clearing.welfare import reference_costs, solve_for_welfare
from pypsa_p2p.markets.designs import CentralizedMarket
from pypsa_p2p.markets.record import recorded_risk
from pypsa_p2p.markets.social_cost import SocialCost
from pypsa_p2p.network.books import read_books
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.accounts import Accounts
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket
from pypsa_p2p.solution.certificate.scale import Scale, relative
from pypsa_p2p.solution.certificate.trading import END, Trading
from pypsa_p2p.solution.decided import in_tables
from pypsa_p2p.solution.money import at
from pypsa_p2p.solvers.arrays import Vector


def compares(settings: Mapping[str, Any]) -> bool:
    """Whether a planner compared costs."""
    return settings.get(WELFARE_WEIGHT) is not None


def welfare_residuals(
    n: pypsa.Network,
    data: MarketData,
    settings: Mapping[str, Any],
    compiled: CompiledModel,
    scale: Scale,
) -> dict[str, float]:
    """How far weights and references are from those of the social cost, relative."""
    planner, problem = _asked(data, settings, compiled)
    accounts = Accounts(data=data, books=read_books(n, data), found=in_tables(n, data, settings))
    cost = accounts.figures()["risk_adjusted_cost"]
    weight = np.asarray(settings[WELFARE_WEIGHT], dtype=float)
    reference = reference_costs(compiled, problem, planner)
    found = {"welfare weights": _of_weights(planner, cost, weight, reference, scale)}
    if reference is not None:
        kept = np.asarray(settings[REFERENCE_COST], dtype=float)
        found["reference costs"] = relative(kept - reference, scale.risk)
    if planner.participation and reference is not None:
        found["participation"] = relative((cost - reference).clip(min=0.0), scale.risk)
    if planner.aims == "lexicographic":
        anew = solve_for_welfare(compiled, problem, planner).welfare
        off = np.inf if anew is None else np.sort(cost) - np.sort(anew.cost)
        found["the next largest costs"] = relative(off, scale.risk)
    return found


def as_minded(game: HeldMarket, settings: Mapping[str, Any]) -> HeldMarket:
    """The market in which what is paid in no scenario counts for nothing where its payer does."""
    if not compares(settings):
        return game
    program, owner = game.program, game.compiled.owner
    counts = np.append(np.asarray(settings[WELFARE_WEIGHT], dtype=float) > 0.0, True)[owner]
    cost = np.where((program.cell < 0) & ~counts, 0.0, program.c)
    return replace(game, program=replace(program, c=cost))


def _asked(
    data: MarketData, settings: Mapping[str, Any], compiled: CompiledModel
) -> tuple[Planner, MarketProblem]:
    """The planner, and the market she has, as they were asked for."""
    measure, attitude = recorded_risk(settings, data)
    welfare = settings.get("welfare")
    market = CentralizedMarket(
        risk=measure if settings["risk_averse"] else None,
        surplus=settings["surplus"],
        here_and_now=settings.get("here_and_now", ()),
        welfare=None if welfare is None else SocialCost.of(welfare),
        participation=settings["participation"],
    )
    then = replace(data, risk_attitude=attitude)
    planner = market.planner(then)
    assert planner is not None
    return planner, market.problem(compiled, Places.of(compiled, then), then)


def _of_weights(
    planner: Planner, cost: Vector, weight: Vector, reference: Vector | None, scale: Scale
) -> float:
    """How far weights are from a slope of F at these costs, and multipliers of references."""
    size = weight.max()
    slack = np.full(cost.size, np.inf)
    if planner.participation and reference is not None and planner.aims != "gains":
        slack = np.maximum(reference - cost, 0.0)
    if planner.aims == "gains":
        gain = planner.beyond(reference) - cost
        known = np.minimum(1.0, gain / (ACCURACY.small_gain * scale.risk))
        off = known * (weight * gain / planner.weight - 1.0)
        return relative(off, 1.0) if (gain > 0.0).all() else np.inf
    if planner.aims == "sum":
        beyond = weight - planner.weight
        lost = np.where(np.isfinite(slack), beyond * np.minimum(slack, scale.risk), 0.0)
        held = np.where(np.isfinite(slack), np.minimum(beyond, 0.0), beyond)
        return max(relative(lost, scale.risk * size), relative(held, size))
    excess = cost - planner.beyond(reference)
    gap = excess.max() - excess
    lost = weight * np.minimum(np.minimum(gap, slack), scale.risk)
    near = gap <= ACCURACY.promised * scale.risk
    alone = near & (slack > ACCURACY.promised * scale.risk)
    missing = max(1.0 - weight[near].sum(), weight[alone].sum() - 1.0, 0.0)
    return max(relative(lost, scale.risk * size), missing, relative(weight.clip(max=0.0), size))


def misweighed(
    trading: Trading, data: MarketData, settings: Mapping[str, Any], scale: Scale
) -> float:
    """What the ends' prices of an edge, times their weights, differ by: they are one multiplier."""
    weight = np.asarray(settings[WELFARE_WEIGHT], dtype=float)
    share = weight / weight.mean()
    unit = xr.DataArray(np.where(share > 0.0, share, 1.0), coords={PROSUMER: data.prosumers})
    ends = xr.concat([at(unit, data.bus0), at(unit, data.bus1)], END)
    common = trading.price_now * ends
    return relative(common.max(END) - common.min(END), scale.price)
