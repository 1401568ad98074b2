"""Who pays whom for what was traded, by the market's prices or another rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import DataError, MarketError, listed, shown
from pypsa_p2p.common.names import (
    PROSUMER,
    RETAIL_EXPORT_CARRIER,
    RETAIL_IMPORT_CARRIER,
    SCENARIO,
    SNAPSHOT,
)
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.common.values import Value, as_array, require_network
from pypsa_p2p.network.assets import sum_by_owner
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.retail_contracts import retail_prices
from pypsa_p2p.solution.accounts import Accounts
from pypsa_p2p.solution.results import read_accounts, read_results
from pypsa_p2p.solution.settlement.asks import bid_prices
from pypsa_p2p.solution.settlement.hourly_rules import (
    HOURLY_RULES,
    NEEDED,
    paid_by_rule,
    retailers_share,
    unusable,
)
from pypsa_p2p.solution.settlement.true_costs import with_true_targets
from pypsa_p2p.solution.solved_market import SolvedMarket
from pypsa_p2p.solvers.arrays import Flags

Own = Callable[[xr.DataArray, xr.Dataset], xr.DataArray | xr.Dataset]
Rule = Literal["prices", "mid_market", "bill_sharing", "supply_demand_ratio", "pay_as_bid"] | Own

EVERYWHERE: Final = (SCENARIO, SNAPSHOT, PROSUMER)
RULES: Final = ("prices", *HOURLY_RULES, "pay_as_bid")
#: Parts of a bill that are settled anew: by rules of trades, and by those with a retailer.
_OF_TRADES: Final = ("trades",)
#: Of these, what rules with a retailer replace besides trades: what retailers and the operator get.
OF_RETAILERS: Final = ("retail_import", "retail_export", "operator")


def settle(
    n: pypsa.Network,
    rule: Rule | pypsa.Network = "prices",
    *,
    buy: Value | None = None,
    sell: Value | None = None,
) -> xr.Dataset:
    r"""Who pays what for the energy of a solved market, hour by hour (MODEL.md §4).

    The dispatch stays; a rule says what is paid for it. Whatever it is, what some pay others are
    paid.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    rule : str, callable or pypsa.Network

        - "prices": every trade at the market's price, where money of a scenario has one.
        - "pay_as_bid": every trade at what it costs the seller, the marginal cost of the dearest
          of her supply that runs, less her preference and with her fee; she passes on what she
          bought at what that cost.
        - "mid_market", "bill_sharing", "supply_demand_ratio": the community as one customer of a
          retailer; what each takes from the others and the retailer together (net_import +
          retail_import - retail_export) is paid at the rule's price of the hour. It replaces what
          is paid to retailers for energy, and to the grid operator for surplus.
        - a callable of ``(net_import, results)``, DataArray (scenario, snapshot, prosumer) in MW
          and Dataset, which returns what each pays, a DataArray (scenario, snapshot, prosumer) in
          EUR that cancels in every hour; or a Dataset of ``payment`` and ``retailer`` (scenario,
          snapshot), what a retailer gets of it, which likewise replaces what retailers are paid.
        - a network `m`, solved with a market on reported targets (`report`): what is settled is its
          outcome, at the market's prices, and `n`, which need not be solved, has the true targets.

    buy, sell : float or by snapshot, scenario
        Prices at which the retailer sells and buys, EUR/MWh, of the three rules that need them.
        Default: those of the network's retail contracts, where they are the same for all.

    Returns
    -------
    xarray.Dataset
        ``payment`` (scenario, snapshot, prosumer), EUR, of which the sum over prosumers is
        ``retailer`` (scenario, snapshot): 0 of rules without one. ``bill`` and ``net_cost``
        (scenario, prosumer), EUR: as in `results`, by this rule. Of "prices" and "pay_as_bid" also
        ``price`` (scenario, snapshot, trade), EUR/MWh, of what ``buyer`` buys from ``seller``.
        Of a network `m`, ``net_cost`` is cost and payment with consumption held against the true
        targets, and ``cost`` (scenario, prosumer) the part of it that is no payment.

    Raises
    ------
    MarketError
        An unknown rule; "prices" where money of a scenario has not one price; payments of another
        shape, or that do not balance, naming the hour.
    DataError
        Prices that are missing, differ between prosumers, or that the rule cannot take; a network
        `m` that differs from `n` in more than target demand.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.settle(n).payment.isel(scenario=2, snapshot=0).round(3).values
    array([-4.307,  4.904, -0.597])
    >>> by_hour = p2p.settle(n, "mid_market", buy=3.0, sell=1.0)
    >>> by_hour.payment.isel(scenario=2, snapshot=0).round(3).values
    array([-7.735, -0.172,  7.907])

    A rule of one's own: who takes pays 1.5 EUR/MWh, who gives is paid as much.

    >>> def flat(net_import, results):
    ...     return 1.5 * net_import
    >>> p2p.settle(n, flat).payment.isel(scenario=2, snapshot=0).round(3).values
    array([-5.801, -0.129,  5.93 ])
    """
    require_network(n)
    _require_needed(rule, buy=buy, sell=sell)
    if isinstance(rule, pypsa.Network):
        return with_true_targets(n, rule, settle(rule))
    data, r = read_results(n)
    accounts = read_accounts(n)
    price = None
    if callable(rule):
        paid, retailer = _by_callable(rule, r)
        _require_balance(paid, retailer, accounts)
    elif not isinstance(rule, str) or rule not in RULES:
        raise MarketError(
            f"rule is {shown(rule)}: take one of {listed(RULES, len(RULES))}, or give a callable."
        )
    elif rule in HOURLY_RULES:
        paid, retailer = _by_hours(n, rule, data, r, (buy, sell))
    else:
        if rule == "pay_as_bid" and len(data.ahead):
            raise MarketError(
                f"pay_as_bid: trade edges {listed(data.ahead)} are settled day ahead, before "
                "anybody knows which of her supply will run. Take another rule."
            )
        price = bid_prices(SolvedMarket.of(n), accounts) if rule == "pay_as_bid" else _agreed(r)
        paid, retailer = _transfers(price, accounts, r), None
    settled = _settled(paid, retailer, accounts, r, str(getattr(rule, "__name__", rule)))
    if price is not None:
        settled["price"] = r["quantity"].copy(data=price)
        settled["price"].attrs = {"unit": "EUR/MWh", "long_name": "what buyer pays seller"}
    return settled


def _require_needed(rule: Any, **prices: Value | None) -> None:
    """Refuse retail prices that a rule does not ask for."""
    given = [argument for argument, value in prices.items() if value is not None]
    if given and not (isinstance(rule, str) and rule in HOURLY_RULES):
        raise MarketError(
            f"Argument {listed(given)}: retail prices belong to the rules {listed(HOURLY_RULES)}; "
            f"leave them out with {_called(rule)}."
        )


def _called(rule: Any) -> str:
    """A rule as it appears in a message."""
    if isinstance(rule, pypsa.Network):
        return "a network of reports"
    return f"rule {shown(getattr(rule, '__name__', rule))}"


def _agreed(r: xr.Dataset) -> Numbers:
    """The market's price of every trade, EUR/MWh."""
    without = r["payment"].isnull().any(PROSUMER)
    if bool(without.any()):
        scenarios = r.indexes[SCENARIO][without.to_numpy()]
        raise MarketError(
            f"Money of scenario {listed(scenarios)} has not one price to all, so that there are no "
            "payments in it. Take another rule; or complete contracts, the community's risk or "
            "equal weights, in which all agree. What trades are worth now is payment_now."
        )
    return np.nan_to_num(r["trade_price"].to_numpy())


def _transfers(price: Numbers, accounts: Accounts, r: xr.Dataset) -> xr.DataArray:
    """What buyers pay sellers for what is bought, at a price of every trade, EUR."""
    hours = accounts.data.weighting.to_numpy()[:, None]
    paid = price * np.maximum(r["quantity"].to_numpy(), 0.0) * hours
    buyer = accounts.books.buyer
    count = len(accounts.data.prosumers)
    seller = np.roll(buyer, buyer.size // 2)
    total = sum_by_owner(paid, buyer, count) - sum_by_owner(paid, seller, count)
    return r["net_import"].transpose(*EVERYWHERE).copy(data=total)


def _by_hours(
    n: pypsa.Network,
    rule: str,
    data: MarketData,
    r: xr.Dataset,
    given: tuple[Value | None, Value | None],
) -> tuple[xr.DataArray, xr.DataArray]:
    """What each pays by a rule of hours, and what the retailer gets, EUR."""
    buy, sell = (
        _retail_price(n, data, value, argument, carrier)
        for value, argument, carrier in zip(given, ("buy", "sell"), _CARRIERS, strict=True)
    )
    bad = unusable(rule, buy, sell)
    if bad.any():
        raise DataError(f"{rule} needs {NEEDED[rule]}; look at {_hour(bad, r)}.")
    exchange = r["net_import"].transpose(*EVERYWHERE)
    if "retail_import" in r:
        exchange = exchange + r["retail_import"] - r["retail_export"]
    taken, hours = exchange.to_numpy(), data.weighting.to_numpy()
    paid = exchange.copy(data=paid_by_rule(rule, taken, buy, sell) * hours[:, None])
    share = retailers_share(taken, buy, sell) * hours
    return paid, exchange.isel({PROSUMER: 0}, drop=True).copy(data=share)


_CARRIERS: Final = (RETAIL_IMPORT_CARRIER, RETAIL_EXPORT_CARRIER)


def _retail_price(
    n: pypsa.Network, data: MarketData, value: Value | None, argument: str, carrier: str
) -> Numbers:
    """A price of the retailer, (S, T), EUR/MWh: as given, or that of everybody's contract."""
    dims = {SCENARIO: data.scenarios, SNAPSHOT: data.snapshots}
    if value is not None:
        allowed = dims if data.stochastic else {SNAPSHOT: data.snapshots}
        found = as_array(value, argument, allowed)
        like = xr.DataArray(np.zeros([len(labels) for labels in dims.values()]), coords=dims)
        return np.asarray((like + found).transpose(*dims).to_numpy())
    price, _ = retail_prices(n, carrier, data.prosumers, data.snapshots)
    known = ~np.isnan(price)
    least = np.where(known, price, np.inf).min(axis=-1)
    most = np.where(known, price, -np.inf).max(axis=-1)
    if not known.any(axis=-1).all():
        raise DataError(
            f"Argument {argument} is missing, and not in every hour somebody has a {carrier} "
            f"contract: give {argument}, EUR/MWh, or contracts, add_retail(n, ...)."
        )
    if (least < most).any():
        raise DataError(
            f"Argument {argument} is missing, and prices of {carrier} differ between prosumers: "
            f"give {argument}, EUR/MWh, at which the community is settled."
        )
    return np.asarray(least)


def _by_callable(rule: Own, r: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray | None]:
    """What a rule of the user's own returns, checked."""
    like = r["net_import"].transpose(*EVERYWHERE)
    found: Any = rule(like.copy(), r.copy())
    retailer = None
    if isinstance(found, xr.Dataset) and {"payment", "retailer"} <= set(found):
        hours = like.isel({PROSUMER: 0}, drop=True)
        found, retailer = found["payment"], _as(found["retailer"], "retailer", hours)
    return _as(found, "payment", like), retailer


def _as(found: Any, what: str, like: xr.DataArray) -> xr.DataArray:
    """Finite numbers with the dims and labels of `like`."""
    wanted = f"a DataArray over {listed(like.dims)}"
    if not isinstance(found, xr.DataArray) or set(found.dims) != set(like.dims):
        given = tuple(found.dims) if isinstance(found, xr.DataArray) else type(found).__name__
        raise MarketError(f"The rule must return {wanted} for {what}, EUR, not {shown(given)}.")
    same = all(set(found.indexes.get(dim, ())) == set(like.indexes[dim]) for dim in like.dims)
    if not same or found.size != like.size or found.dtype.kind not in "iuf":
        raise MarketError(f"The rule must return {wanted} for {what}: numbers by the same labels.")
    aligned = found.reindex_like(like).transpose(*like.dims).astype(float)
    missing = ~np.isfinite(aligned.to_numpy())
    if missing.any():
        where = _hour(missing, like)
        raise MarketError(f"The rule returns no number for {what} everywhere; look at {where}.")
    return like.copy(data=aligned.to_numpy())


def _require_balance(paid: xr.DataArray, retailer: xr.DataArray | None, accounts: Accounts) -> None:
    """Refuse payments whose sum over prosumers is not what the retailer gets, in any hour."""
    values = paid.to_numpy()
    gap = values.sum(axis=-1) - (0.0 if retailer is None else retailer.to_numpy())
    usual = accounts.found.usual.money * accounts.data.weighting.to_numpy()
    rounding = ACCURACY.promised * np.abs(values).sum(axis=-1) + ACCURACY.rounding * usual
    bad = np.abs(gap) > rounding
    if bad.any():
        worst = float(gap.ravel()[np.abs(gap).argmax()])
        gets = "0" if retailer is None else "what the retailer gets"
        where = _hour(bad, paid)
        raise MarketError(
            f"Payments must sum to {gets} over prosumers in every hour; look at {where}, "
            f"where up to {worst:g} EUR are over."
        )


def _hour(bad: Flags, labelled: xr.Dataset | xr.DataArray) -> str:
    """The first hour in which something is bad, in words."""
    scenario, snapshot = np.argwhere(bad)[0][:2]
    labels = labelled.indexes
    return (
        f"scenario {shown(labels[SCENARIO][scenario])}, "
        f"snapshot {shown(labels[SNAPSHOT][snapshot])}"
    )


def _settled(
    paid: xr.DataArray, retailer: xr.DataArray | None, accounts: Accounts, r: xr.Dataset, rule: str
) -> xr.Dataset:
    """Payments, and what everybody's bill and net cost are with them."""
    parts = accounts.parts_of_bills()
    replaced = _OF_TRADES if retailer is None else (*_OF_TRADES, *OF_RETAILERS)
    kept = sum(amount for name, amount in parts.items() if name not in replaced)
    like = r["cost"].transpose(SCENARIO, PROSUMER)
    bill = like.copy(data=kept + paid.to_numpy().sum(axis=1))
    costs = accounts.costs(accounts.trades())
    found = {
        "payment": paid,
        "retailer": paid.sum(PROSUMER) if retailer is None else retailer,
        "bill": bill,
        "net_cost": bill - costs["utility"] + costs["preference"],
    }
    if retailer is None:
        found["retailer"] = xr.zeros_like(found["retailer"])
    dataset = xr.Dataset(found, attrs={"rule": rule})
    for name, meaning in _MEANINGS.items():
        dataset[name].attrs = {"unit": "EUR", "long_name": meaning}
    return dataset


_MEANINGS: Final = {
    "payment": "what each pays in the hour by the rule; negative: is paid",
    "retailer": "what the retailer gets of it",
    "bill": "money alone, by the rule",
    "net_cost": "bill less utility, with preferences",
}
