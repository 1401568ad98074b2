"""Proof that a solution is what it claims to be, without trusting who computed it (MODEL.md §7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.names import NAME, OWN_MULTIPLIERS, PROSUMER, SCENARIO
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.markets.record import recorded, recorded_risk
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import NOBODY
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.certificate import contracts, grid, welfare
from pypsa_p2p.solution.certificate import optimality as kkt
from pypsa_p2p.solution.certificate.certificate import Certificate
from pypsa_p2p.solution.certificate.gains import (
    best_responses,
    costs_held,
    gain_at_prices,
    saved_at,
)
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket, differing_constants, rebuild
from pypsa_p2p.solution.certificate.scale import Scale, find_scale, relative
from pypsa_p2p.solution.certificate.tables import what_follows
from pypsa_p2p.solution.certificate.taking_prices import TakingPrices, taking_prices
from pypsa_p2p.solution.certificate.trading import Trading, read_trading
from pypsa_p2p.solution.hedges import RecordedHedges, recorded_hedges
from pypsa_p2p.solution.money import Money, feared
from pypsa_p2p.solution.solved_market import partners_share
from pypsa_p2p.solvers.arrays import Flags


def certify(n: pypsa.Network) -> Certificate:
    """Check a solved market from its quantities and prices alone.

    Data, decisions and prices are read from the network's tables; the market is built anew from
    them, also after ``n.copy()`` or from netCDF. Neither the solver nor its model is asked.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market, by whatever method.

    Returns
    -------
    Certificate
        ``certify(n).is_equilibrium()`` is the verdict; printing it shows the numbers.

    Raises
    ------
    MarketError
        The network holds no solved market, or one that is not certified yet: with
        ``delivery="grid"`` and transmission losses or unequal weights.
    ConvergenceError
        The best responses could not be computed.

    Notes
    -----
    With ``delivery="grid"`` balances, limits and Kirchhoff's voltage law of the grid are shared
    constraints too. Prosumers see PyPSA's prices at the grid's buses on top of those of trade;
    flows and what is nobody's must be optimal at these prices, for some multipliers of limits
    and cycles, which are worked out anew. Who decides alone, for the exploitability, meets the
    others' trades and the grid's own assets as they are, while flows and the surplus at the
    connection follow her net import within the limits of all branches.

    Assets with rows of their own (storage, ramp limits, branches behind the meter) have no
    prices in the network's tables; that they are optimal is checked by what they could gain at
    the nodal prices. Options given to PyPSA's ``create_model`` are not known here.

    Where prosumers build, or decide here and now, what one could gain alone is worked out at her
    risk-adjusted probabilities, which is no less than she could: 0 proves that she could not.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> certify(n).is_equilibrium()
    True
    """
    solved = _Solved.of(n)
    scale = solved.scale
    held = solved.labelled(costs_held(solved.game))
    taking = taking_prices(
        solved.settings, solved.data, solved.tau, solved.game, solved.trading, scale
    )
    minded = held if taking is None else held + taking.payment
    hedged = minded if solved.hedges is None else minded - solved.hedges.settled
    risk = solved.risk_adjusted(hedged)
    residuals = {**_energy_residuals(solved), **_risk_residuals(solved, hedged)}
    if solved.hedges is not None:
        p = solved.data.probability
        residuals.update(contracts.contract_residuals(solved.hedges, solved.tau, p, scale))
    if welfare.compares(solved.settings):
        residuals.update(
            welfare.welfare_residuals(n, solved.data, solved.settings, solved.game.compiled, scale)
        )
        residuals["one price at the weights"] = welfare.misweighed(
            solved.trading, solved.data, solved.settings, scale
        )
    return Certificate(
        design=solved.settings["design"],
        equilibrium=solved.settings["equilibrium"],
        kkt_residual=max(residuals.values()),
        residuals=residuals,
        exploitability=_exploitability(solved, risk, held, taking),
        multiplier_misalignment=kkt.misalignment(solved.trading, scale),
        budget_imbalance=_budget_imbalance(solved),
        scale=scale,
        unknown_constraints=_unknown_constraints(solved),
        uneven=bool(solved.settings[OWN_MULTIPLIERS]),
    )


@dataclass(frozen=True, kw_only=True)
class _Solved:
    """What the tables of a solved network hold."""

    n: pypsa.Network
    data: MarketData
    settings: Mapping[str, Any]
    may_hold: Envelope
    tau: xr.DataArray
    money: Money
    hedges: RecordedHedges | None
    game: HeldMarket
    trading: Trading
    scale: Scale

    @classmethod
    def of(cls, n: pypsa.Network) -> _Solved:
        """What a network's tables hold, and the game built anew from them."""
        settings = recorded(n)
        grid.require_known_grid(settings, "certify")
        delivered = settings["delivery"] == "grid"
        data = read_market(n, n.snapshots[settings["snapshots"]], grid=delivered)
        measure, attitude = recorded_risk(settings, data)
        may_hold = measure.envelope(data.probability, attitude)
        money = Money.of(n, data)
        own = bool(settings.get(OWN_MULTIPLIERS))
        game = rebuild(
            n,
            data,
            settings["surplus"],
            may_hold,
            settings["constraints"],
            settings.get("here_and_now", ()),
        )
        trading = read_trading(money, grid.prices_by_prosumer(n, data), own=own)
        counted = (money.counted / data.probability).transpose(PROSUMER, SCENARIO).to_numpy()
        paid = trading.quantity, trading.trade_price
        return cls(
            n=n,
            data=data,
            settings=settings,
            may_hold=may_hold,
            tau=feared(n, data),
            money=money,
            hedges=recorded_hedges(n, data, settings),
            game=game,
            trading=trading,
            scale=find_scale(game, data, *paid, differing_constants(data), counted),
        )

    @property
    def weighed_otherwise(self) -> Flags | None:
        """(columns,) decisions that prices in the scenario alone do not judge; None: of nobody."""
        return None if bool((self.money.feared_over_tau == 1.0).all()) else self.game.committed

    @property
    def together(self) -> bool:
        """Whether the operator takes the risk of the community's cost."""
        return bool(self.settings["together"])

    def labelled(self, by_cell: np.ndarray[Any, Any]) -> xr.DataArray:
        """(N, S) numbers as (scenario, prosumer)."""
        return self.tau.transpose(SCENARIO, PROSUMER).copy(data=by_cell.T)

    def risk_of(self, cost: xr.DataArray) -> xr.DataArray:
        """R of every prosumer, EUR, of costs as they are."""
        return self.may_hold.worst(cost).value

    def risk_adjusted(self, hedged: xr.DataArray) -> xr.DataArray:
        """R of every prosumer, EUR: of her cost after contracts, and what those cost her."""
        risk = self.risk_of(hedged)
        return risk if self.hedges is None else risk + self.hedges.premium_at_clearing


def _energy_residuals(solved: _Solved) -> dict[str, float]:
    """(1)-(3), all limits, and stationarity of demand, generation, other assets and trades."""
    n, data, game, trading = solved.n, solved.data, solved.game, solved.trading
    scale = solved.scale
    residuals = {
        "balances and limits": kkt.balances_and_limits(game, scale),
        "demand as set": kkt.load_deviation(n, data, scale),
        "tables that follow": what_follows(n, data, scale, lossy=_is_lossy(solved)),
        "reciprocity (1)": kkt.reciprocity(trading, solved.settings["surplus"], scale),
        "trade capacity (2)": kkt.capacity(trading, scale),
        "trades (12), (22)": kkt.trade_stationarity(
            trading, partners_share(solved.settings), scale
        ),
    }
    if not solved.money.weighed.all():
        residuals["prices now of what she does not weigh"] = kkt.worth_now(solved.money, scale)
    priced = game.priced
    owner = data.owner_of("Generator")
    if owner.sizes[NAME]:
        owner = owner[(owner != NOBODY).to_numpy()]
        residuals["demand and generation (17), (18)"] = kkt.generator_stationarity(
            solved.money, owner, game.by_generator(priced), scale
        )
    if (game.assets & ~priced).any():
        weight = solved.money.tau.transpose(PROSUMER, SCENARIO).to_numpy()
        minded = welfare.as_minded(game, solved.settings)
        gain = gain_at_prices(minded, weight, scale, solved.weighed_otherwise)
        residuals["other assets at nodal prices"] = relative(gain, scale.money)
    if game.net_import.size:
        residuals["grid at its prices"] = grid.grid_optimality(game, scale)
    return residuals


def _risk_residuals(solved: _Solved, hedged: xr.DataArray) -> dict[str, float]:
    """Risk-adjusted probabilities: inside their envelope, attaining R, and common where due."""
    p, tau, may_hold = solved.data.probability, solved.tau, solved.may_hold
    residuals = {"envelope of tau (37)": kkt.envelope(tau, may_hold)}
    if solved.together:
        residuals["one tau for all"] = relative((tau - tau.isel({PROSUMER: 0})) / p, 1.0)
        # Contracts inside the community cancel: what is left of them is its insurance.
        whole = hedged.sum(PROSUMER).expand_dims({PROSUMER: tau.indexes[PROSUMER][:1]})
        tau, may_hold, hedged = tau[{PROSUMER: [0]}], may_hold.common, whole
    residuals["risk attained (25), (36)"] = kkt.attainment(tau, hedged, may_hold, solved.scale)
    return residuals


def _exploitability(
    solved: _Solved, risk: xr.DataArray, held: xr.DataArray, taking: TakingPrices | None
) -> xr.DataArray:
    """How much each prosumer gains alone; with contracts she hedges at their prices.

    Whoever builds, decides here and now, or holds contracts, is judged at her tau: see `saved_at`.
    So is who takes prices.
    """
    hedges, scale, tau = solved.hedges, solved.scale, solved.tau
    if taking is not None:
        at_tau = (tau * (held + taking.payment)).sum(SCENARIO)
        now = at_tau if solved.together else risk
        money = scale.money if hedges is None else scale.risk
        gain = (now - at_tau + taking.saved).clip(min=0.0)
        return gain.copy(data=[relative(one, money) for one in gain]).rename("exploitability")
    game, at_tau = grid.with_room_on_the_grid(solved.game), (tau * held).sum(SCENARIO)
    if game.commits:
        saved = saved_at(tau.transpose(PROSUMER, SCENARIO).to_numpy(), game, scale)
        now, best = solved.risk_of(held), at_tau - saved
    else:
        least = solved.labelled(best_responses(game, scale))
        now, best = solved.risk_of(held), solved.risk_of(least)
        if hedges is not None:
            best = (tau * least).sum(SCENARIO)
    if solved.together and (game.commits or hedges is not None):
        now = at_tau
    elif hedges is not None:
        # Whatever she holds, R is no less than her costs at tau less what limits leave unpaid.
        now = risk
        if hedges.limit is not None:
            excess = abs(hedges.worth(tau) - hedges.clearing_price)
            reach = contracts.payable_units(hedges, hedges.limit, solved.data.probability, scale)
            best = best - (reach * excess).where(excess > 0, 0.0).sum(str(excess.dims[0]))
    gain = (now - best).clip(min=0.0)
    money = scale.money if hedges is None else scale.risk
    return gain.copy(data=[relative(one, money) for one in gain]).rename("exploitability")


def _budget_imbalance(solved: _Solved) -> float:
    """What payments for trades and contracts do not cancel by."""
    scale = solved.scale
    unpaid = [relative(kkt.trade_payments(solved.trading, solved.data), scale.money)]
    if solved.game.net_import.size:
        unpaid.append(relative(grid.unpaid_rent(solved.game), scale.money))
    if solved.hedges is not None:
        unpaid.append(contracts.uncleared(solved.hedges, scale))
    return max(unpaid)


def _is_lossy(solved: _Solved) -> bool:
    return any("-loss" in name for name in solved.settings["constraints"])


def _unknown_constraints(solved: _Solved) -> tuple[str, ...]:
    ours = set(solved.game.compiled.model.constraints)
    return tuple(sorted(set(solved.settings["constraints"]) - ours))
