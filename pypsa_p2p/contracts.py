"""Risk-hedging contracts: what can be traded on the outcome of a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pypsa_p2p.errors import MarketError


@dataclass(frozen=True, kw_only=True)
class Contracts:
    r"""Contracts that pay 1 EUR in one scenario, traded inside the community (MODEL.md §5, (43)).

    Prosumer *n* buys :math:`W_n^\omega` (negative: sells) at :math:`\alpha^\omega`;
    :math:`\sum_n W_n^\omega = 0`. With every scenario traded at the clearing price the market
    is complete: the prices are everybody's risk-adjusted probabilities (Corollary 16).

    Parameters
    ----------
    insurance_price : array-like by scenario, optional
        Price of cover sold from outside the community. Not available in this version.
    price : {"clearing"}
        The clearing price, EUR now per EUR in the scenario.
    limit, payoff
        Volume limits and incomplete contracts. Not available in this version.
    """

    insurance_price: Any = None
    price: Any = "clearing"
    limit: Any = None
    payoff: Any = None

    def __post_init__(self) -> None:
        given = [
            name
            for name in ("insurance_price", "limit", "payoff")
            if getattr(self, name) is not None
        ]
        if not (isinstance(self.price, str) and self.price == "clearing"):
            given.append("price")
        if given:
            raise MarketError(
                f"Contracts: {', '.join(given)} cannot be used yet; this version offers complete "
                "contracts at the clearing price, Contracts()."
            )
