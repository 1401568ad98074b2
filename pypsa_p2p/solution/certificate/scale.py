"""What the numbers of a certificate are relative to: the market's own scale, found at its answer.

The market in W or MEUR is the one in MW and EUR, so no residual is judged by 1 MW or 1 EUR.
What happens sets the scale, not what might: neither limits that do not bind, nor costs of what
stands idle, nor constants; with 1e9 in any of them every answer would be good enough
(MODEL.md §7).

Where nothing happens but a solver's rounding there is nothing to compare with. Then the scale is
the least of what the data name: of powers the smallest limit, load, or power at which a marginal
cost has doubled; of prices the lowest marginal cost, or what curvature adds to one at the largest
power; of money what that power costs at that price in all hours. The least, because it is the
strictest; and only where what is found is rounding even beside that, so that nothing which
happens can hide behind it. Where the data name nothing either, nothing but 0 is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, Vector
from pypsa_p2p.solvers.presolve import limits_of_columns
from pypsa_p2p.solvers.program import QuadraticProgram


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The scale of a market at its answer.

    Attributes
    ----------
    power : float
        The largest quantity, MW: of all decisions in MW, and of loads.
    price : float
        The largest price of anything produced, used or traded, EUR/MWh: of energy at buses where
        that happens, of trade edges with a quantity, and marginal costs of what runs.
    money : float
        The sum of the absolute terms of all prosumers' costs, EUR in expectation; constants left
        out.
    risk : float
        EUR: `money`, and what constants differ by between scenarios, which risk is taken of too.
    hours : float
        The typical weighting of a snapshot, h.
    """

    power: float
    price: float
    money: float
    risk: float
    hours: float

    @property
    def cost(self) -> float:
        """What the largest quantity costs in a typical snapshot at the largest price, EUR."""
        return self.power * self.price * self.hours


def largest(values: Any) -> float:
    """The largest absolute value, 0 if there is none; what is not a number counts as infinite."""
    array = np.abs(np.nan_to_num(np.asarray(values), nan=np.inf))
    return float(np.max(array, initial=0.0))


def relative(values: Any, scale: float) -> float:
    """The largest absolute value relative to a scale; of a scale of 0, 0 is 0, else infinite.

    Examples
    --------
    >>> relative([3.0, -4.0], 2.0), relative(0.0, 0.0), relative(1e-9, 0.0)
    (2.0, 0.0, inf)
    """
    size = largest(values)
    if size == 0.0:
        return 0.0
    return size / scale if scale > 0.0 and np.isfinite(size) else float("inf")


def relative_each(values: Any, scales: Any) -> float:
    """The largest of absolute values relative to a scale of each."""
    sizes, scales = np.abs(np.asarray(values, dtype=float)), np.asarray(scales, dtype=float)
    share = np.where(sizes == 0.0, 0.0, np.inf)
    return largest(np.divide(sizes, scales, out=share, where=(scales > 0.0) & (sizes != 0.0)))


def find_scale(
    game: HeldMarket,
    data: MarketData,
    quantity: xr.DataArray,
    trade_price: xr.DataArray,
    differing: xr.DataArray,
    counted: npt.NDArray[np.float64],
) -> Scale:
    """The scale of the market that a network's tables hold.

    Parameters
    ----------
    quantity, trade_price : DataArray
        What prosumers buy over edges, MW, and the prices of that, EUR/MWh; of the same dims.
    differing : DataArray (scenario, prosumer)
        What constants are beyond those of the first scenario, EUR.
    counted : (N, S)
        What each prosumer weighs each scenario's money by, over its probability, at least 1.
    """
    answer = _Answer(game=game, counted=counted)
    power = _unless_rounding(answer.largest_power, answer.named_powers)
    traded = trade_price.where(abs(quantity) > ACCURACY.promised * power, 0.0)
    found = max(answer.largest_price(power), _largest_finite(traded))
    price = _unless_rounding(found, answer.named_prices(power))
    all_hours = float(data.weighting.sum())
    money = _unless_rounding(answer.sum_of_terms, np.array([power * price * all_hours]))
    return Scale(
        power=power,
        price=price,
        money=money,
        risk=money + float((data.probability * abs(differing)).sum()),
        hours=float(data.weighting.median()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answer:
    """What happens in a market, and what its data name."""

    game: HeldMarket
    counted: npt.NDArray[np.float64]

    @cached_property
    def powers(self) -> Flags:
        """(columns,) decisions in MW: prosumers', and the grid's where it delivers."""
        in_market = (self.game.compiled.owner >= 0) | (self.game.net_import.size > 0)
        return np.asarray(in_market & ~self.game.energies & (self.game.hour >= 0))

    @cached_property
    def balances(self) -> Labels:
        """Rows of balances with such decisions in them."""
        touched = abs(self.game.program.A) @ self.powers > 0
        return np.flatnonzero(self.game.is_balance & touched)

    @cached_property
    def terms(self) -> Sparse:
        """Those rows, (balances, columns)."""
        return sp.csr_matrix(self.game.program.A)[self.balances]

    @cached_property
    def loads(self) -> Vector:
        """What is consumed at each of those buses, whatever it costs, MW."""
        return self.game.program.upper[self.balances]

    @cached_property
    def weighted(self) -> QuadraticProgram:
        """Expected costs."""
        return self.game.program.weighted(self.game.program.probability)

    @property
    def largest_power(self) -> float:
        """MW, loads included."""
        return max(_largest_finite(self.game.held[self.powers]), _largest_finite(self.loads))

    def largest_price(self, power: float) -> float:
        """Of energy, and of what makes it, where as much happens as counts, EUR/MWh."""
        game, least = self.game, ACCURACY.promised * power
        happens = abs(game.held) > least
        passing = np.zeros(happens.size, dtype=bool)
        passing[game.flows] = True  # what only passes a bus is not used there
        busy = (abs(self.terms) @ (happens & ~passing) > 0) | (abs(self.loads) > least)
        unit = self.terms.copy()
        beside = np.ones(game.program.group.size - self.counted.size)  # what is nobody's
        weight = game.program.per_column(np.concatenate([self.counted.ravel(), beside]))
        unit.data = (game.unit * weight)[unit.indices]
        unit = unit.max(axis=1).toarray().ravel()
        prices = (game.balance_price[self.balances] / unit)[busy]
        costs = (self.weighted.gradient(game.held) / game.unit)[happens & self.powers]
        return max(_largest_finite(prices), _largest_finite(costs))

    @property
    def sum_of_terms(self) -> float:
        """Absolute terms of what prosumers pay in expectation, EUR; capacity as it grows."""
        game, costs = self.game, self.weighted
        least = np.where(game.hour < 0, limits_of_columns(game.program)[0], 0.0)
        x = np.where((game.compiled.owner >= 0) & np.isfinite(game.held), game.held - least, 0.0)
        x = abs(x)
        return float(x @ (abs(costs.c) + 0.5 * (abs(costs.P) @ x)))

    @property
    def named_powers(self) -> Vector:
        """Limits, loads, and powers at which a marginal cost is twice what it is at 0, MW."""
        program = self.game.program
        rows = sp.csr_matrix(program.A)
        alone = np.flatnonzero(np.diff(rows.indptr) == 1)  # PyPSA states limits as rows
        alone = alone[self.powers[rows.indices[rows.indptr[alone]]]]
        factor = rows.data[rows.indptr[alone]]
        curvature = program.P.diagonal()
        bent = self.powers & (curvature > 0)
        return np.concatenate(
            [
                program.lower[alone] / factor,
                program.upper[alone] / factor,
                program.x_lower[self.powers],
                program.x_upper[self.powers],
                self.loads,
                program.c[bent] / curvature[bent],
            ]
        )

    def named_prices(self, power: float) -> Vector:
        """Marginal costs at 0, and what curvature adds to them at the largest power, EUR/MWh."""
        curvature = self.weighted.P.diagonal() * power
        prices = np.stack([self.weighted.c, curvature]) / self.game.unit
        return np.asarray(prices[:, self.powers].ravel())


def _unless_rounding(found: float, named: Vector) -> float:
    """What is found; the least of what the data name where it is rounding even beside that."""
    sizes = abs(named)
    sizes = sizes[np.isfinite(sizes)]
    real = sizes > ACCURACY.rounding * np.max(sizes, initial=0.0)
    least = float(np.min(sizes[real], initial=np.inf))
    return least if found <= ACCURACY.promised * least < np.inf else found


def _largest_finite(values: Any) -> float:
    """The largest absolute value that is a number: one that is none must not set the scale."""
    array = np.abs(np.asarray(values, dtype=float))
    return float(np.max(array[np.isfinite(array)], initial=0.0))
