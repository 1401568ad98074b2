"""Financial products of energy as payoffs of contracts: settled at prices that are given."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pypsa_p2p.common.errors import MarketError, shown
from pypsa_p2p.common.given import ANY, Given, Range
from pypsa_p2p.common.names import SCENARIO
from pypsa_p2p.common.values import scalar

Payoff = pd.Series | list[float]
"""What a unit pays in each scenario, EUR: by name, or in the scenarios' order as prices were."""


def forward(price: Any) -> Payoff:
    r"""Payoff of a forward of energy: the reference price of each scenario (MODEL.md §5).

    A unit is a MWh bought before the scenario is known and settled in money at a reference price
    P from outside the market: an index, or the operator's. What is paid for it is the contract's
    price, so that a buyer of F at f has :math:`\Pi - (P - f) F`.

    Parameters
    ----------
    price : by scenario
        P, EUR/MWh: a mapping, Series or DataArray by the scenarios' names, or a sequence in their
        order.

    Returns
    -------
    pandas.Series or list
        Of ``Contracts(payoff=...)``; a list where a sequence was given. Series of several products
        make rows: ``pd.DataFrame([p2p.forward(P), p2p.price_cap(P, 50)])``.

    Raises
    ------
    MarketError
        Prices that are no finite numbers by scenario.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> p2p.forward({"dry": 80.0, "wet": 20.0}).to_dict()
    {'dry': 80.0, 'wet': 20.0}
    >>> contracts = p2p.Contracts(payoff=p2p.forward({"dry": 80.0, "wet": 20.0}), price=[50.0])
    """
    return _paid(_prices("forward", price), "forward")


def contract_for_difference(price: Any, strike: float) -> Payoff:
    r"""Payoff of a contract for difference: :math:`P - K`, EUR a MWh.

    A forward whose price is agreed as the strike K and paid at settlement: where it clears, its
    price is that of the `forward` less K.

    Parameters
    ----------
    price : by scenario
        P, EUR/MWh, as in `forward`.
    strike : float
        K, EUR/MWh.

    Returns
    -------
    pandas.Series or list
        As `forward`.

    Raises
    ------
    MarketError
        Prices or a strike that are no finite numbers.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> p2p.contract_for_difference({"dry": 80.0, "wet": 20.0}, strike=50.0).to_dict()
    {'dry': 30.0, 'wet': -30.0}
    """
    above = _prices("contract_for_difference", price) - _strike("contract_for_difference", strike)
    return _paid(above, f"contract for difference at {strike:g}")


def power_purchase_agreement(price: Any, strike: float, volume: Any) -> Payoff:
    r"""Payoff of a power purchase agreement, settled in money: :math:`(P - K) V`, EUR.

    A contract for difference on what a plant yields in each scenario, whatever that is, and not on
    a fixed volume ("pay as produced").

    Parameters
    ----------
    price : by scenario
        P, EUR/MWh, as in `forward`.
    strike : float
        K, EUR/MWh.
    volume : by scenario
        V, MWh, not negative, in the form of `price`; a unit of the contract is all of it.

    Returns
    -------
    pandas.Series or list
        As `forward`.

    Raises
    ------
    MarketError
        Numbers that are not finite, a negative volume, other scenarios than the prices'.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> p2p.power_purchase_agreement(
    ...     {"dry": 80.0, "wet": 20.0}, strike=50.0, volume={"wet": 3.0, "dry": 1.0}
    ... ).to_dict()
    {'dry': 30.0, 'wet': -90.0}
    """
    who = "power_purchase_agreement"
    prices, yielded = _prices(who, price), _prices(who, volume, "volume", Range(0))
    if set(prices.index) != set(yielded.index):
        raise MarketError(
            f"{who}: volume must be of the scenarios of price, {shown(list(prices.index))}, not "
            f"{shown(list(yielded.index))}."
        )
    above = prices - _strike(who, strike)
    return _paid(above * yielded.reindex(prices.index), f"agreement at {strike:g}")


def price_cap(price: Any, strike: float) -> Payoff:
    r"""Payoff of a cap, a call option on energy: :math:`\max(P - K, 0)`, EUR a MWh.

    Parameters
    ----------
    price : by scenario
        P, EUR/MWh, as in `forward`.
    strike : float
        K, EUR/MWh, above which the buyer of a cap pays no more.

    Returns
    -------
    pandas.Series or list
        As `forward`.

    Raises
    ------
    MarketError
        Prices or a strike that are no finite numbers.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> p2p.price_cap({"dry": 80.0, "wet": 20.0}, strike=50.0).to_dict()
    {'dry': 30.0, 'wet': 0.0}
    """
    above = _prices("price_cap", price) - _strike("price_cap", strike)
    return _paid(above.clip(lower=0.0), f"cap at {strike:g}")


def _prices(who: str, value: Any, argument: str = "price", allowed: Range = ANY) -> pd.Series:
    """Numbers by scenario, by place where they have no names."""
    if isinstance(value, pd.DataFrame):
        raise MarketError(
            f"{who}: {argument} is a table: give a number for each scenario, by name or in order; "
            "of a table its row, table.loc[name]."
        )
    kept = Given(f"{who}: {argument}", (SCENARIO,), allowed).read(value)
    if kept is None or isinstance(kept, float) or not kept:
        raise MarketError(f"{who}: {argument} must say a number for each scenario, not {value!r}.")
    named = isinstance(kept, dict)
    return pd.Series(list(kept.values()) if named else list(kept), list(kept) if named else None)


def _strike(who: str, strike: float) -> float:
    ANY.require(f"{who}: strike", scalar(strike))
    return float(strike)


def _paid(payoff: pd.Series, name: str) -> Payoff:
    """The payoff by name, which a row of a table then has; in order where prices were."""
    in_order = isinstance(payoff.index, pd.RangeIndex)
    return payoff.tolist() if in_order else payoff.rename(name).rename_axis(SCENARIO)
