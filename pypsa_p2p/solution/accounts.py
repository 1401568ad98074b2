"""The figures of a solved market in arrays: what `results` puts labels on (MODEL.md §1-5).

Arrays are of S scenarios, T snapshots, N prosumers, and of 2 E trades, both directions of every
edge: first those in which the prosumers at bus0 buy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.files import ABOVE_ZERO
from pypsa_p2p.common.names import (
    PROSUMER,
    SCENARIO,
    UNWEIGHED_CAPACITY_PRICES,
    UNWEIGHED_PRICE,
    UNWEIGHED_TRADE_PRICES,
)
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.network.assets import sum_by_owner
from pypsa_p2p.network.books import Books, Entry
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.decided import Decided
from pypsa_p2p.solution.hedges import regimes
from pypsa_p2p.solution.money import alike, in_money, weighs
from pypsa_p2p.solvers.arrays import Flags, Labels

Figures = dict[str, Numbers]


@dataclass(frozen=True, kw_only=True, eq=False)
class Accounts:
    """A market's books and what was decided."""

    data: MarketData
    books: Books
    found: Decided

    def figures(self) -> Figures:
        """Every variable of `results` but those of the grid and of contracts, by its name."""
        dispatch, trades = self.dispatch(), self.trades()
        costs = self.costs(trades)
        paid = self.payments(trades, costs)
        cost, fee = costs["cost"], costs["fee"]
        risks = self.risks(cost, paid["net_cost"])
        return {
            **dispatch,
            **trades,
            "cost": cost,
            "fee": fee,
            "fee_revenue": fee.sum(axis=1),
            **paid,
            **risks,
            **self.compared(risks["risk_adjusted_cost"]),
            "social_cost_without_fees": risks["social_cost"] - (self.found.tau * fee).sum(),
        }

    # ------------------------------------------------------------------ powers and prices

    def dispatch(self) -> Figures:
        """Demand, generation and renewables, and prices at the prosumers' buses, (S, T, N)."""
        books, found = self.books, self.found
        must_take = self._power(books.must_take)
        price = self._in_money(found.price_now, UNWEIGHED_PRICE, np.arange(self._prosumers))
        return {
            "demand": -self._power(books.consumed) - self._power(books.given_up),
            "generation": self._power(books.generated),
            "renewable": np.where(
                np.abs(must_take) > ABOVE_ZERO / ACCURACY.reported, must_take, 0.0
            ),
            "nodal_price": price,
            "price_unique": (found.in_range == 0.0) & ~np.isnan(price),
            "import_price": self.data.import_price.to_numpy(),
            **self.retail(),
        }

    def retail(self) -> Figures:
        """Power bought from retailers and sold to them, (S, T, N); nothing without contracts."""
        books = self.books
        if not (books.imported or books.exported):
            return {}
        sold = -self._power(books.exported)
        return {"retail_import": self._power(books.imported), "retail_export": sold + 0.0}

    def trades(self) -> Figures:
        """Quantities and prices of both directions of every edge, each price its buyer's."""
        found, hours = self.found, self._hours
        zeta, xi = (
            [
                self._in_money(one / hours, column, whose)
                for one, column, whose in zip(now, series, self._ends, strict=True)
            ]
            for now, series in (
                (found.zeta, UNWEIGHED_TRADE_PRICES),
                (found.xi, UNWEIGHED_CAPACITY_PRICES),
            )
        )
        quantity = np.concatenate(found.quantity, axis=-1)
        paid = np.concatenate(found.zeta, axis=-1) * quantity
        agreed = self._agreed_before(found.zeta)
        price = np.where(self._ahead, agreed, np.concatenate(zeta, axis=-1))
        of_capacity = np.concatenate(xi, axis=-1)
        ahead = {"day_ahead_price": agreed} if self._ahead.any() else {}
        return {
            "quantity": quantity,
            "trade_price": price,
            **ahead,
            "capacity_price": np.where(self._ahead, self._agreed_before(found.xi), of_capacity),
            "net_import": self._of_buyer(quantity),
            "payment_now": self._of_buyer(paid).sum(axis=1),
        }

    # ------------------------------------------------------------------ money

    def costs(self, trades: Figures) -> Figures:
        """Pi (7) of every prosumer, fees included, and what in it is no money, EUR, (S, N).

        That is the ``preference`` sum b q, paid to nobody, and the ``utility`` of consumption.
        """
        books, bought = self.books, trades["quantity"] * self._hours
        preference = self._of_buyer(books.price * bought).sum(axis=1)
        fee = self._of_buyer(books.fee * np.abs(bought)).sum(axis=1)
        congested, imported = self._congested(trades), self._imported(trades)
        own = self._cost(books.operated) + self._capital(books.built)
        benefit = self.data.usage_benefit.to_numpy() * self.data.weighting.to_numpy().sum()
        return {
            "cost": own + preference + congested + imported + fee + self.data.fixed_part,
            "fee": fee,
            "preference": preference,
            "utility": benefit - self._cost(books.forgone),
        }

    def _congested(self, trades: Figures) -> Numbers:
        """a (q_mn + q_nm) q_mn of every prosumer's trades, EUR, (S, N)."""
        quantity = trades["quantity"]
        rising = self.books.congestion * (quantity + other_direction(quantity))
        return self._of_buyer(rising * quantity * self._hours).sum(axis=1)

    def _imported(self, trades: Figures) -> Numbers:
        """p0 Q, EUR, (S, N)."""
        price = self.data.import_price.to_numpy()
        return np.asarray((price * trades["net_import"] * self._hours).sum(axis=1))

    def parts_of_bills(self) -> Figures:
        """What each prosumer's ``bill`` consists of, EUR, (S, N); they add up to it.

        As `bills` describes them; NaN of ``trades`` where money of a scenario has not one price.
        """
        books, hedges, trades = self.books, self.found.hedges, self.trades()
        fixed = self.data.fixed_cost.to_numpy() * self.data.weighting.to_numpy().sum()
        peak = self._capital(books.peaks)
        costs = self.costs(trades)
        held = np.zeros_like(peak)
        if hedges is not None:
            held = hedges.premium.to_numpy() - hedges.settled.to_numpy()
        return {
            "energy": self._cost(books.run) + fixed,
            "investment": self._capital(books.built) - peak,
            "retail_import": self._cost(books.import_charges),
            "retail_export": self._cost(books.export_charges),
            "peak": peak,
            "operator": self._imported(trades),
            "congestion": self._congested(trades),
            "fees": costs["fee"],
            "trades": self.payments(trades, costs)["payment"],
            "contracts": held,
        }

    def payments(self, trades: Figures, costs: Figures) -> Figures:
        r"""Payments, bills and net costs in money of the scenario, EUR, (S, N) (MODEL.md §4).

        .. math:: \mathrm{net\ cost} = \Pi + \mathrm{payment} - (W + J) + \mathrm{premium}
            = \mathrm{bill} - U + \sum_m b_{mn} q_{mn}

        NaN where money of the scenario has not one price, and something is paid.
        """
        price, hedges = trades["trade_price"], self.found.hedges
        paid = self._of_buyer(np.nan_to_num(price) * trades["quantity"] * self._hours).sum(axis=1)
        payment = np.where(self.prices_agree(trades)[:, None], paid, np.nan)
        net_cost = costs["cost"] + payment
        if hedges is not None:
            net_cost = net_cost - hedges.settled.to_numpy() + hedges.premium.to_numpy()
        bill = net_cost + costs["utility"] - costs["preference"]
        return {"payment": payment, "bill": bill, "net_cost": net_cost}

    def prices_agree(self, trades: Figures) -> Flags:
        """Whether what is traded has one price in money of a scenario, to both ends; (S,).

        It has where nothing is traded, or all weigh the scenario alike. Where nobody weighs it,
        the prices of the limit may agree or not. In an equilibrium of unequal weights the ends
        of an edge have prices of their own. A price agreed before the scenario is known is one.
        """
        quantity, price = np.abs(trades["quantity"]), trades["trade_price"]
        busy = quantity > ACCURACY.promised * quantity.max(initial=0.0)
        if not self.found.own_multipliers:
            busy = busy & ~self._ahead
        nothing = ~busy.any(axis=(1, 2))
        if self.found.own_multipliers:
            return nothing
        size = np.nan_to_num(np.abs(price)).max(initial=0.0)
        same = np.abs(price - other_direction(price)) <= ACCURACY.promised * size
        agreed = (same | ~busy).all(axis=(1, 2))  # NaN is not the same
        nobody = ~self._weighed.any(axis=1)
        agree: Flags = nothing | (alike(self.found.worth) & (~nobody | agreed))
        return agree

    def risks(self, cost: Numbers, net_cost: Numbers) -> Figures:
        """Risk-adjusted probabilities, (S, N), and costs, EUR, (N,) (MODEL.md §5)."""
        found, tau = self.found, self.found.tau
        p, hedges = self.data.probability.to_numpy()[:, None], found.hedges
        after = cost if hedges is None else cost - hedges.settled.to_numpy()
        (risk, level), (net_risk, net_level) = (
            self._worst(each) for each in (after, np.nan_to_num(net_cost))
        )
        if found.together:
            risk, net_risk = (tau * cost).sum(axis=0), (tau * net_cost).sum(axis=0)
            if hedges is not None:
                risk = risk + hedges.beyond_clearing.to_numpy()
        elif hedges is not None:
            risk = risk + hedges.premium.to_numpy()
        if found.payments_at_risk:
            risk, level = net_risk, net_level
        known = ~np.isnan(net_cost).any(axis=0)
        return {
            "expected_cost": (p * cost).sum(axis=0),
            "expected_net_cost": (p * net_cost).sum(axis=0),
            "net_cost_value_at_risk": np.where(known, net_level, np.nan),
            "risk_adjusted_net_cost": np.where(known, net_risk, np.nan),
            "value_at_risk": level,
            "risk_adjusted_cost": risk,
            "risk_adjusted_probability": tau,
            "social_cost": risk.sum(),
        }

    def compared(self, risk: Numbers) -> Figures:
        """Where a planner compares costs, (N,): their weights, and gains on the reference, EUR."""
        weight, reference = self.found.welfare_weight, self.found.reference_cost
        found = {} if weight is None else {"welfare_weight": weight}
        if reference is not None:
            found |= {"reference_cost": reference, "gain": reference - risk}
        return found

    def contracts(self, *, with_regimes: bool = True) -> dict[str, xr.DataArray]:
        """Contracts, insurance and regimes, where contracts are traded."""
        found, hedges = self.found, self.found.hedges
        if hedges is None:
            return {}
        if not with_regimes:
            return hedges.variables()
        may_hold = found.measure.envelope(self.data.probability, found.attitude)
        tau = self._labelled(found.tau)
        return {
            **hedges.variables(),
            "at_cap": regimes(hedges, tau, self.data.probability, may_hold),
        }

    # ------------------------------------------------------------------ sums

    @property
    def _prosumers(self) -> int:
        return len(self.data.prosumers)

    @property
    def _hours(self) -> Numbers:
        """(T, 1)."""
        return np.asarray(self.data.weighting.to_numpy()[:, None])

    @property
    def _ends(self) -> list[Labels]:
        return np.split(self.books.buyer, 2)

    @property
    def _weighed(self) -> Flags:
        found = weighs(self.found.worth, self.data.probability.to_numpy())
        weight = self.found.welfare_weight
        return found if weight is None else found & (weight > 0.0)

    @property
    def _ahead(self) -> Flags:
        """Which trades are decided before the scenario is known, (2 E,)."""
        return np.tile(self.data.day_ahead.to_numpy(), 2)

    def _agreed_before(self, now: tuple[Numbers, Numbers]) -> Numbers:
        """Prices of trades day ahead, EUR/MWh in every scenario, (T, 2 E); NaN of all others.

        What is paid in every scenario is worth itself, whatever anybody fears: the sum of what
        multipliers, EUR/MW now, say of each.
        """
        every = np.concatenate(now, axis=-1).sum(axis=0) / self._hours
        return np.where(self._ahead, every, np.nan)

    def _in_money(self, now: Numbers, series: str, whose: Labels) -> Numbers:
        """Prices now, (S, T, K), in money of those, (K,), who pay them."""
        worth, weighed = self.found.worth[:, None, whose], self._weighed[:, None, whose]
        return in_money(now, self.found.of_limit.get(series, np.nan), worth, weighed)

    def _power(self, entries: Iterable[Entry]) -> Numbers:
        """MW, (S, T, N)."""
        shape = (len(self.data.scenarios), len(self.data.snapshots), self._prosumers)
        total = np.zeros(shape)
        for one in entries:
            result = self.found.power(one.component, one.attribute, one.names)
            total += sum_by_owner(result * one.factor, one.whose, self._prosumers)
        return total

    def _cost(self, entries: Iterable[Entry]) -> Numbers:
        """EUR over all snapshots, (S, N)."""
        total = np.zeros((len(self.data.scenarios), self._prosumers))
        for one in entries:
            amount = self.found.power(one.component, one.attribute, one.names)
            cost = amount * one.factor
            if one.square is not None:
                cost = cost + amount**2 * one.square
            total += sum_by_owner((cost * self._hours).sum(axis=1), one.whose, self._prosumers)
        return total

    def _capital(self, entries: Iterable[Entry]) -> Numbers:
        """EUR, (S, N): that of what is built, the same in every scenario."""
        total = np.zeros((len(self.data.scenarios), self._prosumers))
        for one in entries:
            built = self.found.built(one.component, one.attribute, one.names)
            total += sum_by_owner(built * one.factor, one.whose, self._prosumers)
        return total

    def _of_buyer(self, by_trade: Numbers) -> Numbers:
        """Sum over the trades that each prosumer decides, as their buyer."""
        return sum_by_owner(by_trade, self.books.buyer, self._prosumers)

    def _worst(self, cost: Numbers) -> tuple[Numbers, Numbers]:
        """R of costs, (S, N), and its value at risk, (N,)."""
        found = self.found
        risk = found.measure.tail(cost.T, self.data.probability, found.attitude)
        return risk.value, risk.value_at_risk

    def _labelled(self, by_prosumer: Numbers) -> xr.DataArray:
        coords = {SCENARIO: self.data.scenarios, PROSUMER: self.data.prosumers}
        return xr.DataArray(by_prosumer, coords=coords)


def other_direction(by_trade: Numbers) -> Numbers:
    """The value of the other direction of every trade, (..., 2 E)."""
    return np.roll(by_trade, by_trade.shape[-1] // 2, axis=-1)
