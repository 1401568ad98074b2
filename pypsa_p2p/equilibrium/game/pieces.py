"""What each prosumer decides, side by side: the layout in which all can be solved at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pypsa_p2p.equilibrium.game.knapsack import Array

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    r"""Decisions of n prosumers, up to K each: generators, then trades, then padding.

    A piece x costs :math:`\frac12 h x^2 + (c + a r) x + f |x|` an hour, r being the partner's
    quantity: with h = 2a, c = b + p0 for a trade, (6) and (7); with a = f = 0 for a generator.
    Padding is fixed at 0. A *point* of the game is an array (S, T, G + 2E + 1): powers,
    quantities, and a last 0 that padding reads.

    Attributes
    ----------
    who : (n,)
        Positions of the prosumers.
    columns, partners : (n, K)
        Where a point has the piece, and the partner's quantity of the same edge.
    trades, stored : (n, K)
        Which pieces are trades, and which are of storage units, tied to those of other hours.
    curvature, slope, congestion, lower, upper : (S, T, n, K)
        h, EUR/MW2h; c, EUR/MWh; a, EUR/MW2h; limits, MW. Of trades, `upper` is the capacity
        and `lower` minus infinity: see `floored`.
    fee : (S, T, n, K) or None
        f, EUR/MWh; None where nobody pays one.
    load, fixed_cost, hours
        (S, T, n), MW; (S, n), EUR; (T,), h.
    """

    who: Positions
    columns: Positions
    partners: Positions
    trades: npt.NDArray[np.bool_]
    stored: npt.NDArray[np.bool_]
    curvature: Array
    slope: Array
    congestion: Array
    lower: Array
    upper: Array
    fee: Array | None
    load: Array
    fixed_cost: Array
    hours: Array

    def take(self, rows: Positions) -> Pieces:
        """Those of some of the prosumers, by their places here."""
        return replace(
            self,
            who=self.who[rows],
            columns=self.columns[rows],
            partners=self.partners[rows],
            trades=self.trades[rows],
            stored=self.stored[rows],
            curvature=self.curvature[..., rows, :],
            slope=self.slope[..., rows, :],
            congestion=self.congestion[..., rows, :],
            lower=self.lower[..., rows, :],
            upper=self.upper[..., rows, :],
            fee=None if self.fee is None else self.fee[..., rows, :],
            load=self.load[..., rows],
            fixed_cost=self.fixed_cost[:, rows],
        )

    def without_congestion(self) -> Pieces:
        """The same with a = 0."""
        return replace(
            self,
            curvature=self.curvature - 2 * self.congestion,
            congestion=np.zeros_like(self.congestion),
        )

    def own(self, point: Array) -> Array:
        """The prosumers' pieces of a point, (S, T, n, K)."""
        return np.asarray(point[..., self.columns])

    def facing(self, point: Array) -> Array:
        """What their partners buy from them over each trade, 0 elsewhere, (S, T, n, K)."""
        return np.asarray(point[..., self.partners])

    def put(self, point: Array, own: Array) -> None:
        """Write the prosumers' pieces into a point."""
        point[..., self.columns] = own  # padding writes its 0 into the last place

    def fee_at(self, own: Array) -> Array | float:
        """The fee in the marginal cost of every piece, EUR/MWh: of one MW more where it is 0."""
        return 0.0 if self.fee is None else np.where(own < 0, -self.fee, self.fee)

    def costs(self, own: Array, facing: Array) -> Array:
        """Pi (7), (S, n), EUR, constants included."""
        marginal = self.curvature / 2 * own + self.slope + self.congestion * facing
        hourly = ((marginal + self.fee_at(own)) * own).sum(-1)
        return np.einsum("t,stn->sn", self.hours, hourly) + self.fixed_cost

    def floored(self, upper: Array) -> Array:
        """`lower` with a finite limit of sales: more than the balance (3) leaves for one.

        It leaves what is over when all else is at `upper`. A limit right there could bind, and
        take a part in the price that no limit of the market has.
        """
        rest = self.load[..., None] - (upper.sum(axis=-1, keepdims=True) - upper)
        return np.where(self.trades, np.minimum(upper, rest) - 1.0, self.lower)


def arrange(owner: Positions, prosumers: int) -> Positions:
    """(N, K) places of what each prosumer owns; the number of places where she has less."""
    order = np.argsort(owner, kind="stable")
    count = np.bincount(owner, minlength=prosumers)
    rank = np.arange(owner.size) - np.repeat(np.cumsum(count) - count, count)
    columns = np.full((prosumers, max(1, int(count.max(initial=0)))), owner.size)
    columns[owner[order], rank] = order
    return columns
