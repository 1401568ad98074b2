"""Proof that a solution is what it claims to be, without trusting who computed it (MODEL.md §7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p import certificate_kkt as kkt
from pypsa_p2p.certificate_game import (
    Game,
    costs_and_best_responses,
    gain_at_prices,
    primal_residual,
    rebuild,
)
from pypsa_p2p.costs import own_names
from pypsa_p2p.errors import ConvergenceError, MarketError, listed
from pypsa_p2p.hedging import contract_volumes
from pypsa_p2p.market_data import MarketData, read_market, static_values
from pypsa_p2p.names import NAME, PROSUMER, SCENARIO
from pypsa_p2p.ownership import NOBODY, asset_owners, bus_owners
from pypsa_p2p.price_data import PARTNERS_SHARE
from pypsa_p2p.record import (
    OWN_MULTIPLIERS,
    RISK_ADJUSTED_PROBABILITY,
    TERMS,
    recorded,
    require_trades_delivered,
)
from pypsa_p2p.risk import CVaR

Equilibrium = Literal["variational", "generalized"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Certificate:
    """What `certify` found; every number is 0 at an exact solution and has no unit.

    Attributes
    ----------
    design : str
        "CentralizedMarket" or "PeerToPeerMarket".
    equilibrium : {"variational", "generalized", None}
        What the market promised; None of the centralized design.
    kkt_residual : float
        The largest of `residuals`.
    residuals : mapping of str to float
        By condition of MODEL.md §2-5, how much it is violated: powers relative to the largest
        power, prices to the largest price, money to the objective, each of them at least 1.
    exploitability : DataArray (prosumer)
        How much a prosumer's own objective falls when she alone decides anew, relative to
        max(1, abs(her objective)). Of the centralized design for information: a planner makes
        prosumers do what they would not, where a > 0.
    multiplier_misalignment : float
        Largest difference of the two ends' prices of an edge, relative to the largest price.
    budget_imbalance : float
        What payments for trades on an edge or for contracts in a scenario fail to cancel by,
        relative to max(1, abs(objective)).
    unknown_constraints : tuple of str
        Constraints of the model that are not the market's (a user's own). The certificate is of
        the market without them: where one binds, its multiplier shows up as `kkt_residual`, and
        what it forbids prosumers as `exploitability`.
    """

    design: str
    equilibrium: Equilibrium | None
    kkt_residual: float
    residuals: Mapping[str, float]
    exploitability: xr.DataArray
    multiplier_misalignment: float
    budget_imbalance: float
    unknown_constraints: tuple[str, ...] = ()

    def is_equilibrium(
        self, tolerance: float = 1e-6, *, equilibrium: Equilibrium | None = None
    ) -> bool:
        """Whether the solution is what its market promises, up to `tolerance`.

        Parameters
        ----------
        tolerance : float
            Relative.
        equilibrium : {"variational", "generalized"}, optional
            The kind asked for; default: the one the market promised.

            - variational: `kkt_residual`, `exploitability` of everybody,
              `multiplier_misalignment` and `budget_imbalance`.
            - generalized: `kkt_residual` and `exploitability`. The ends of an edge may value it
              differently, and then have no one price to pay.

            Of the centralized design, which is an optimum and no game: `kkt_residual` and
            `budget_imbalance`.

        Raises
        ------
        MarketError
            The kind is unknown or the design is centralized and one was asked for.
        """
        kind = self._kind(equilibrium)
        required = [self.kkt_residual]
        if kind is not None:
            required.append(float(self.exploitability.max()))
        if kind != "generalized":
            required += [self.multiplier_misalignment, self.budget_imbalance]
        return all(value <= tolerance for value in required)  # nan is not

    def _kind(self, asked: Equilibrium | None) -> Equilibrium | None:
        if asked is None:
            return self.equilibrium
        if asked not in ("variational", "generalized"):
            raise MarketError(f"equilibrium must be 'variational' or 'generalized', not {asked!r}.")
        if self.equilibrium is None:
            raise MarketError(
                "The centralized design is an optimum, not an equilibrium of a game: call "
                "is_equilibrium without a kind."
            )
        return asked

    def __repr__(self) -> str:
        what = f"{self.equilibrium} equilibrium" if self.equilibrium else "the planner's optimum"
        verdict = what if self.is_equilibrium() else f"not {what}"
        culprit = max(self.residuals, key=lambda name: self.residuals[name])
        gains = self.exploitability.to_series()
        lines = [
            f"Certificate of {self.design}: {verdict}, to 1e-6",
            f"  kkt_residual             {self.kkt_residual:.1e}  (largest: {culprit})",
            f"  exploitability           {gains.max():.1e}  (largest: {gains.idxmax()!r})",
            f"  multiplier_misalignment  {self.multiplier_misalignment:.1e}",
            f"  budget_imbalance         {self.budget_imbalance:.1e}",
        ]
        if self.unknown_constraints:
            lines.append(f"  without constraints      {listed(self.unknown_constraints)}")
        return "\n".join(lines)


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
        The network holds no solved market.
    ConvergenceError
        The best responses could not be computed.

    Notes
    -----
    Assets with rows of their own (storage, ramp limits, branches behind the meter) have no
    prices in the network's tables; that they are optimal is checked by what they could gain at
    the nodal prices. Options given to PyPSA's ``create_model`` are not known here.

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
    held, least = (solved.labelled(costs) for costs in costs_and_best_responses(solved.game))
    hedged, volumes = _hedged(solved, held)
    objective = _objective(solved, held, hedged)
    residuals = {
        **_energy_residuals(solved, objective),
        **_risk_residuals(solved, held, hedged, volumes),
    }
    trading = solved.trading
    return Certificate(
        design=solved.settings["design"],
        equilibrium=solved.settings.get("equilibrium"),
        kkt_residual=max(residuals.values()),
        residuals=residuals,
        exploitability=_exploitability(solved, held, least),
        multiplier_misalignment=kkt.misalignment(trading),
        budget_imbalance=_budget_imbalance(solved, volumes, objective),
        unknown_constraints=_unknown_constraints(solved),
    )


@dataclass(frozen=True, kw_only=True)
class _Solved:
    """What the tables of a solved network hold."""

    n: pypsa.Network
    data: MarketData
    settings: Mapping[str, Any]
    risk: CVaR
    attitude: xr.DataArray
    tau: xr.DataArray
    game: Game
    trading: kkt.Trading

    @classmethod
    def of(cls, n: pypsa.Network) -> _Solved:
        settings = recorded(n)
        require_trades_delivered(settings, "certify")
        _require_complete(settings)
        data = read_market(n, n.snapshots[settings["snapshots"]])
        risk = CVaR(attitude=settings["attitude"], weight=settings["weight"])
        attitude = data.risk_attitude.copy(data=settings["attitudes"])
        tau = static_values(n, "Bus", RISK_ADJUSTED_PROBABILITY, data.prosumers)
        tau = tau.rename({NAME: PROSUMER})
        return cls(
            n=n,
            data=data,
            settings=settings,
            risk=risk,
            attitude=attitude,
            tau=tau,
            game=rebuild(n, data, settings["surplus"], attitude.to_numpy(), risk.weight),
            trading=kkt.read_trading(n, data, tau, own=bool(settings.get(OWN_MULTIPLIERS, False))),
        )

    @property
    def together(self) -> bool:
        """Whether the operator takes the risk of the community's cost."""
        return bool(self.settings.get("aggregate") == "community" and self.settings["risk_averse"])

    def labelled(self, by_cell: np.ndarray[Any, Any]) -> xr.DataArray:
        """(N, S) numbers as (scenario, prosumer)."""
        return self.tau.transpose(SCENARIO, PROSUMER).copy(data=by_cell.T)

    def risk_of(self, cost: xr.DataArray) -> xr.DataArray:
        """R of every prosumer, EUR."""
        return kkt.risk_adjusted(cost, self.data.probability, self.attitude, self.risk.weight)


def _require_complete(settings: Mapping[str, Any]) -> None:
    """Refuse contracts whose prices are not everybody's risk-adjusted probabilities alone."""
    terms = settings.get(TERMS) or {}
    given = [key for key in ("insurance_price", "limit", "payoff") if terms.get(key) is not None]
    if given:
        raise MarketError(
            f"certify does not know contracts with {listed(given)} in this version; it certifies "
            "complete contracts without limits, Contracts()."
        )


def _hedged(solved: _Solved, cost: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Costs after contracts, EUR, and the contracts' volumes; None where none fit the prices."""
    if not solved.settings["contracts"]:
        return cost, xr.zeros_like(cost)
    price = solved.tau.isel({PROSUMER: 0}, drop=True)
    try:
        volumes = contract_volumes(
            cost, price, solved.data.probability, solved.attitude, solved.risk.weight
        )
    except ConvergenceError:
        return cost, None
    return cost - volumes, volumes


def _objective(solved: _Solved, cost: xr.DataArray, hedged: xr.DataArray) -> float:
    """The market's objective, EUR: sum of R_n, or the risk of the community's cost."""
    if solved.together:
        return float((solved.tau * cost).sum())
    return float(solved.risk_of(hedged).sum())


def _energy_residuals(solved: _Solved, objective: float) -> dict[str, float]:
    """(1)-(3), all limits, and stationarity of demand, generation, other assets and trades."""
    n, data, game, trading = solved.n, solved.data, solved.game, solved.trading
    residuals = {
        "balances and limits": primal_residual(game),
        "demand as set": kkt.load_deviation(n, data),
        "reciprocity (1)": kkt.reciprocity(trading, solved.settings["surplus"]),
        "trade capacity (2)": kkt.capacity(trading),
        "trades (12), (22)": kkt.trade_stationarity(
            trading, PARTNERS_SHARE[solved.settings["design"]]
        ),
    }
    priced = game.priced
    owner = asset_owners(n, "Generator", bus_owners(n)).sel({NAME: own_names(n, "Generator")})
    if owner.sizes[NAME]:
        owner = owner[(owner != NOBODY).to_numpy()]
        residuals["demand and generation (17), (18)"] = kkt.generator_stationarity(
            n, data, owner, game.by_generator(priced), solved.tau
        )
    if (game.assets & ~priced).any():
        gain = gain_at_prices(game, solved.tau.transpose(PROSUMER, SCENARIO).to_numpy())
        residuals["other assets at nodal prices"] = gain / max(1.0, abs(objective))
    return residuals


def _risk_residuals(
    solved: _Solved,
    cost: xr.DataArray,
    hedged: xr.DataArray,
    volumes: xr.DataArray | None,
) -> dict[str, float]:
    """Risk-adjusted probabilities: inside their envelope, attaining R, and common where due."""
    p, tau, weight = solved.data.probability, solved.tau, solved.risk.weight
    attitude = solved.attitude
    residuals = {"envelope of tau (37)": kkt.envelope(tau, p, attitude, weight)}
    if solved.together or solved.settings["contracts"]:
        residuals["one tau for all"] = kkt.largest((tau - tau.isel({PROSUMER: 0})) / p)
    if solved.together:
        whole, operator = cost.sum(PROSUMER), {PROSUMER: [0]}
        cost_of_all = whole.expand_dims({PROSUMER: tau.indexes[PROSUMER][:1]})
        found = kkt.attainment(tau.isel(operator), cost_of_all, p, attitude.isel(operator), weight)
    else:
        found = kkt.attainment(tau, hedged, p, attitude, weight)
    residuals["risk attained (25), (36)"] = found if volumes is not None else np.inf
    return residuals


def _exploitability(solved: _Solved, held: xr.DataArray, least: xr.DataArray) -> xr.DataArray:
    """How much each prosumer gains alone; with contracts she hedges at their prices."""
    if solved.settings["contracts"]:
        # W is free at prices alpha inside her envelope, so that R is the price of her costs.
        now, best = ((solved.tau * cost).sum(SCENARIO) for cost in (held, least))
    else:
        now, best = solved.risk_of(held), solved.risk_of(least)
    gain = (now - best) / abs(now).clip(min=1.0)
    return gain.clip(min=0.0).rename("exploitability")


def _budget_imbalance(solved: _Solved, volumes: xr.DataArray | None, objective: float) -> float:
    """What payments for trades and contracts do not cancel by."""
    if volumes is None:
        return float("inf")
    premium = (solved.tau * volumes).sum(SCENARIO)
    unpaid = [
        kkt.largest(kkt.trade_payments(solved.trading, solved.data)),
        kkt.largest(volumes.sum(PROSUMER)),
        kkt.largest(premium),
    ]
    return max(unpaid) / max(1.0, abs(objective))


def _unknown_constraints(solved: _Solved) -> tuple[str, ...]:
    ours = set(solved.game.compiled.model.constraints)
    return tuple(sorted(set(solved.settings["constraints"]) - ours))
