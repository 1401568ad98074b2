"""What is refused where prosumers take prices and mind the risk of payments (MODEL.md §13)."""

from __future__ import annotations

import warnings

import pandas as pd

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.contract_terms import Terms
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Labels


def require_payable(market: Market) -> None:
    """Refuse options beside which payments are no part of anybody's risk.

    Raises
    ------
    MarketError
    """
    if market.risk is None:
        raise MarketError(
            "payments='risk' makes payments part of everybody's risk, but the market is "
            "risk-neutral, where they cancel: give a risk measure, risk=CVaR(), or leave payments "
            "out."
        )
    if market.delivery == "grid":
        raise MarketError(
            "payments='risk' is not available for delivery='grid', where prosumers also pay for "
            "the grid. Use delivery='trades', or payments='none'."
        )
    if getattr(market, "equilibrium", "variational") != "variational":
        raise MarketError(
            "payments='risk' gives an edge one price that both of its ends take: weights have no "
            "meaning there. Leave equilibrium and weights out, or use payments='none'."
        )


def require_takers(data: MarketData, terms: Terms | None) -> None:
    """Refuse networks and contracts for which these equilibria are not known.

    Raises
    ------
    MarketError
    """
    congested = data.edges[(data.congestion > 0).any("scenario").to_numpy()]
    if len(congested):
        raise MarketError(
            f"payments='risk': trade edges {listed(congested)} have congestion > 0, so that what a "
            "trade costs depends on the partner's too and nobody just takes a price. Set "
            "congestion to 0, or use payments='none'."
        )
    if terms is not None and not terms.complete:
        raise MarketError(
            "payments='risk' knows complete contracts only, with which its equilibrium is the "
            "optimum of who shares all risk. Leave limit and payoff out, or leave contracts out."
        )


def require_boxes_of(each: Envelope, prosumers: pd.Index, committed: Labels) -> None:
    """Refuse measures that are no limits of each probability, of who decides for all scenarios.

    Raises
    ------
    MarketError
        Naming them.
    """
    others = [prosumers[place] for place in committed if each.covers and each.covers[place]]
    if others:
        raise MarketError(
            f"payments='risk': prosumers {listed(others)} decide something before the scenario is "
            "known, and have a risk measure other than CVaR, WorstCase and what else is given by "
            "limits of each probability. Give them one of these, or use payments='none'."
        )


def warn_of_several(count: int) -> None:
    """Say that there are other equilibria."""
    if count > 1:
        warnings.warn(
            f"This market has {count} equilibria that were found, and may have more; the one of "
            "least social cost is reported. sample_equilibria(n, market) has them all.",
            stacklevel=3,
        )
