"""Contracts in arrays: who may trade how much of what, and insurance too cheap to be offered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed

Numbers = npt.NDArray[np.float64]

CLEARING, PAPER = "clearing", "paper"


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """Contracts in arrays.

    Attributes
    ----------
    names : (K,)
        The contracts, or the scenarios they pay in.
    payoff : (K, S)
        EUR in the scenario per unit.
    limit : (K, N) or None
        Most bought or sold, in units.
    insurance_price : (S,) or None
        gamma, EUR now per EUR in the scenario.
    price : "clearing", "paper" or (K,)
    every_scenario : bool
        Whether there is one contract for every scenario, with its name.
    """

    names: pd.Index
    payoff: Numbers
    limit: Numbers | None
    insurance_price: Numbers | None
    price: str | Numbers
    every_scenario: bool

    @property
    def complete(self) -> bool:
        """Whether every scenario can be hedged without limit, by some combination of contracts."""
        if self.limit is not None:
            return False
        return self.every_scenario or _rank(self.payoff) == self.payoff.shape[1]

    @property
    def tradable(self) -> npt.NDArray[np.bool_]:
        """Which contracts at least two prosumers may trade, (K,)."""
        if self.limit is None:
            return np.ones(len(self.names), dtype=bool)
        return np.asarray(np.count_nonzero(self.limit, axis=1) > 1)

    @property
    def idle(self) -> bool:
        """Whether nobody can hedge: there are neither partners nor an insurer."""
        return self.insurance_price is None and not self.tradable.any()

    def paid(self, clearing: Numbers, probability: Numbers, attitude: float) -> Numbers:
        """Prices inside the community, (K,), where the clearing ones and min chi are known."""
        if isinstance(self.price, str):
            paper = self.payoff @ (probability / (1 - attitude))
            return clearing if self.price == CLEARING else paper
        return self.price


def require_no_arbitrage(
    terms: Terms, probability: Numbers, attitude: float, weight: float
) -> None:
    r"""Refuse insurance so cheap that somebody would buy it without end (MODEL.md §8.5).

    Insurance keeps every :math:`\tau^\omega \le \gamma^\omega`; with
    :math:`(1-\theta)p \le \tau \le (1-\theta)p + \theta p/(1-\chi)` and :math:`\sum\tau = 1` there
    must be room for such :math:`\tau` at the least of the attitudes, :math:`\chi`.

    Raises
    ------
    MarketError
        Naming the prices.
    """
    price = terms.insurance_price
    if price is None:
        return
    least = (1 - weight) * probability
    cap = np.minimum(least + weight * probability / (1 - attitude), price)
    if float(price.sum()) < 1 - ACCURACY.rounding:
        raise MarketError(
            f"Contracts: insurance_price {_numbers(price)} sums to {price.sum():.6g} over the "
            "scenarios: insurance of 1 EUR in every scenario costs less than the 1 EUR it pays, a "
            "sure profit. Raise the prices to a sum of 1 or more."
        )
    if (price < least * (1 - ACCURACY.rounding)).any() or float(cap.sum()) < 1 - ACCURACY.rounding:
        raise MarketError(
            f"Contracts: insurance_price {_numbers(price)} is so low that the least averse "
            f"prosumer (attitude {attitude:.6g}) would insure without end: risk-adjusted "
            f"probabilities between {_numbers(least)} and the lesser of her limits and these "
            f"prices, {_numbers(cap)}, cannot sum to 1 (they sum to {cap.sum():.6g} at most). "
            "Raise the lowest prices."
        )


def _rank(payoff: Numbers) -> int:
    return int(np.linalg.matrix_rank(payoff))


def _numbers(values: Numbers) -> str:
    return listed([float(f"{value:.6g}") for value in values])
