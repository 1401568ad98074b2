"""Where costs that are compared are no convex problem, or nobody's: what is refused, and why."""

from __future__ import annotations

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.markets.base import Market
from pypsa_p2p.network.market_data import MarketData


def require_social_cost(market: Market, data: MarketData, *, named: str, aggregate: str) -> None:
    """Refuse what a social cost other than the sum cannot be minimised with.

    Parameters
    ----------
    named : str
        What is asked for, in messages.
    aggregate : str
        Whose costs are added up before their risk is taken.

    Raises
    ------
    MarketError
    """
    if aggregate == "community":
        raise MarketError(
            f"{named} compares what each prosumer's own risk-adjusted cost is, and with "
            "aggregate='community' only that of all together counts: take aggregate='prosumers'."
        )
    curved = [cover is not None and bool(cover.curves) for cover in market.envelope(data).covers]
    if any(curved):
        raise MarketError(
            f"{named} is not available in this version where the risk measure of "
            f"{listed(data.prosumers[curved])} is a curve "
            "(KullbackLeibler, EntropicVaR, ChiSquare): take one of the others."
        )
    if bool((data.congestion > 0).any()):
        raise MarketError(
            f"{named} is not a convex problem where congestion > 0: a prosumer's own cost holds "
            "a q_mn q_nm, a product of two decisions, which only cancels in the plain sum of all. "
            "Take congestion 0, or no welfare= and no participation=."
        )
    if market.contracts is not None:
        raise MarketError(
            f"{named} with contracts is no question of its own: contracts that pay the same in "
            "every scenario are payments, with which a planner makes anybody as well off as she "
            "likes at the least sum of costs. Solve CentralizedMarket(risk=..., contracts=...) and "
            "share what it saves: allocate(n, method='nash') and its like."
        )
    if market.delivery == "grid":
        raise MarketError(
            f"{named} is not available with delivery='grid' in this version: what the grid's "
            "limits are worth to prosumers of different weights has no one price at a bus. Take "
            "delivery='trades'."
        )
