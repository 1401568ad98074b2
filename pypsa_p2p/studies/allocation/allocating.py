"""Who pays what of a solved market, by its own prices or as a game of coalitions (MODEL.md §10)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.names import OWN_MULTIPLIERS, PROSUMER, WELFARE_WEIGHT
from pypsa_p2p.common.values import require_network
from pypsa_p2p.markets.on_record import RecordedMarket
from pypsa_p2p.markets.record import payments_at_risk, recorded
from pypsa_p2p.solution.results import read_results
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.studies.allocation import asking
from pypsa_p2p.studies.allocation.by_hour import ByHour
from pypsa_p2p.studies.allocation.games import (
    Costs,
    beginnings,
    by_size,
    drawn_orders,
    everybody,
    members_of,
)
from pypsa_p2p.studies.allocation.market import market_costs, own_costs
from pypsa_p2p.studies.allocation.methods import Asked, Found, allocated
from pypsa_p2p.studies.allocation.solving import Question, coalition_costs, names_in

COALITION: Final = "coalition"
_DESCRIBED: Final = {
    "allocation": ("EUR", "what each prosumer bears of the social cost, now"),
    "transfer": ("EUR", "allocation less her own cost R"),
    "saving": ("EUR", "what she would bear alone less allocation"),
    "payment": ("EUR", "what each pays in the hour by the rule; negative: is paid"),
    "standard_error": ("EUR", "of allocation, which is a mean over drawn orders"),
    "coalition_cost": ("EUR", "social cost of the market of the coalition's members alone"),
    "member": ("1", "whether the prosumer is in the coalition"),
    "core_excess": ("EUR", "most that a coalition could save beyond its allocation; <= 0: none"),
    "worst_coalition": ("1", "the coalition of core_excess"),
}

#: Why coalitions have no cost where a grid delivers.
_NOT_SAID: Final = (
    "how much of the grid a coalition may use nobody has said, so that it has no cost of its own"
)


def allocate(
    n: pypsa.Network,
    method: str = asking.MARKET,
    *,
    buy: Any = None,
    sell: Any = None,
    weights: Any = None,
    coalitions: Iterable[Iterable[str]] | None = None,
    samples: int | None = None,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> xr.Dataset:
    r"""Allocate the social cost of a solved market to its prosumers (MODEL.md §10).

    With c(S) the social cost of the market of the prosumers S alone, of what is theirs and of
    their trades with each other, and :math:`v(S) = \sum_{n \in S} c(n) - c(S)` what they save
    together, each bears :math:`x_n = c(n) - y_n` with :math:`\sum_n y_n = v(N)`.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market, which is on record there; it stays as it is.
    method : str
        =================== ====================================================================
        ``"market"``        what the market itself makes her pay: her own cost R and her payments
                            for trades, in money now. It needs no coalition itself, and none
                            can do better where nothing is congested
        ``"shapley"``       what she adds to those who came before her, on average over all orders
        ``"nucleolus"``     the worst coalition is as well off as can be, then the next worst...
        ``"least_core"``    the worst coalition is, and savings are as even as that leaves them
        ``"variance_core"`` the most even savings with which no coalition can do better
        ``"nash"``          equal savings, or savings in proportion to `weights`
        ``"mid_market"``,   the risk measure of her net cost with what `settle` makes her pay by
        ``"bill_sharing"``, that rule, hour by hour, the community being one customer of a retailer;
        ``"supply_demand_   no further market either
        ratio"``
        =================== ====================================================================
    buy, sell : float or by snapshot, scenario, optional
        Prices at which the retailer sells and buys, EUR/MWh, for the three rules by the hour alone.
        Default: those of the network's retail contracts, where they are the same for all.
    weights : scalar, or by prosumer, optional
        Positive, for "nash" alone: bargaining power. A sequence, mapping, Series or DataArray.
    coalitions : sequence of sequences of names, optional
        Those that the core is of, instead of all: ``[["a", "b"], ["b", "c"]]``. Everybody alone
        and all together are always among them; with ``[]`` they are all.
    samples : int, optional
        Draw, instead of taking all: so many orders of prosumers for "shapley", which then has a
        ``standard_error``; so many coalitions for the ``core_excess`` of "market" and "nash".
        Default: all coalitions up to 12 prosumers, 100 draws beyond.
    seed : int
        Of these draws.
    store : path, optional
        A folder that keeps what coalitions cost, as that of `sweep` keeps points: another method,
        or the same call again, solves only what is missing.
    workers : int
        Processes. With more than one a script needs the usual ``if __name__ == "__main__":``.
    progress : bool
        Whether a bar on stderr tells how far it is, on a terminal or in a notebook.

    Returns
    -------
    xarray.Dataset
        By prosumer ``allocation``, ``transfer`` and ``saving``; by coalition ``coalition_cost``,
        and, with both dims, ``member``; ``core_excess``, :math:`\max_S v(S) - y(S)`, and
        ``worst_coalition``. By the hour also ``payment`` (scenario, snapshot, prosumer). Units are
        in ``attrs``. The dataset's own ``attrs`` say how coalitions were chosen (``coalitions``:
        all, drawn, given or none) and how many are known.

    Raises
    ------
    MarketError
        No solved market; one in which a coalition has no cost of its own: that of unequal weights,
        of constraints that several share, and, for all but "market", of a grid which delivers; a
        coalition without a solution, by name; arguments that a method does not take; an empty core.
    DataError
        Retail prices that are missing, differ between prosumers, or that a rule cannot take.

    Notes
    -----
    Coalitions have the design, scenarios and contracts of the market on record. 2^N of them are
    solved up to N = 12 prosumers; beyond, "market", "nash" and rules by the hour stay exact,
    ``core_excess`` is that of drawn coalitions, and the cores need `coalitions`. An operator
    (``role="operator"``) is a player as others are.

    Rules by the hour sum to the social cost of a risk-neutral market whose retail contracts have
    their prices, where nobody exports while another imports and no surplus is sold. By how much
    they do not is ``attrs["sum_less_social_cost"]``, EUR. ``attrs["retailer_gets_more"]`` is the
    part that the rule's retailer gets beyond what is paid to retailers and the operator in the
    market, expected; the rest is risk, which a rule shares otherwise than the market does.

    With ``delivery="grid"`` there are no coalitions: "market" allocates R_n and payments for
    trades, which sum to the social cost. What is paid for the grid is not in it, so that its rent
    stays over. ``saving`` and ``core_excess`` are NaN; ``attrs["why_no_coalitions"]`` says why.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> d = p2p.allocate(n)
    >>> d.allocation.round(6).values
    array([-1.866934,  2.694467,  6.782757])
    >>> round(float(d.core_excess), 6)
    -0.697285
    >>> p2p.allocate(n, "shapley").allocation.round(6).values
    array([-6.312961,  7.379265,  6.543986])

    By the hour, between a retailer's prices:

    >>> d = p2p.allocate(n, "mid_market", buy=3.0, sell=1.0)
    >>> d.allocation.round(3).values
    array([-8.677,  1.209, 15.078])
    """
    require_network(n)
    method = asking.require_method(method, buy=buy, sell=sell, weights=weights)
    power = asking.WEIGHTS.read(weights)
    settings = recorded(n)
    delivered = settings["delivery"] == "grid"
    _require_coalitions(settings, method)
    data, r = read_results(n)
    count, own = len(data.prosumers), own_costs(r)
    share = None if power is None else asking.WEIGHTS.on(power, data.prosumers).to_numpy()
    chosen, masks = asking.asked_coalitions(
        method, data.prosumers, coalitions, samples, seed, delivered=delivered
    )
    by_hour = ByHour.of(n, method, buy=buy, sell=sell) if method in asking.BY_HOUR else None
    orders = None
    if method == asking.SHAPLEY and chosen == asking.DRAWN:
        orders = drawn_orders(count, asking.drawn_number(samples), seed)
        masks = by_size([*masks, *(mask for grown in beginnings(orders) for mask in grown)])
    if delivered:
        cost: Costs = {everybody(count): float(own.sum())}
    else:
        market = RecordedMarket.of(settings, data)
        question = Question.of(n, market, data.snapshots, settings["constraints"])
        cost = coalition_costs(question, masks, store=store, workers=workers, progress=progress)
        cost = _as_recorded(cost, own, count)
    asked = Asked(
        data=data,
        cost=cost,
        own=own,
        of_market=market_costs(r),
        weights=np.ones(count) if share is None else share,
        orders=orders,
        by_hour=by_hour,
    )
    found = allocated(asked, method)
    return _labelled(asked, found).assign_attrs(
        method=method,
        market=str(settings["design"]),
        coalitions=chosen,
        coalitions_known=len(masks),
        **_said(asked, found, delivered=delivered),
    )


def _said(asked: Asked, found: Found, *, delivered: bool) -> dict[str, Any]:
    """What else the dataset's attributes say."""
    if delivered:
        return {"why_no_coalitions": f"delivery='grid': {_NOT_SAID}."}
    if asked.by_hour is None:
        return {}
    return {
        "sum_less_social_cost": float(found.cost.sum() - asked.own.sum()),
        "retailer_gets_more": asked.by_hour.retailer_gets_more,
    }


def _require_coalitions(settings: Mapping[str, Any], method: str) -> None:
    """Refuse a method that needs coalitions where these have no cost of their own.

    Raises
    ------
    MarketError
    """
    if settings["delivery"] == "grid" and method != asking.MARKET:
        raise MarketError(
            f"allocate has no method {method!r} for delivery='grid': {_NOT_SAID}. Take 'market', "
            "which needs no coalitions, or delivery='trades'."
        )
    if payments_at_risk(settings):
        raise MarketError(
            "allocate is not available for payments='risk': what a coalition costs holds what it "
            "pays, and there may be several equilibria of it. What each pays is in "
            "risk_adjusted_cost already; use payments='none' for coalitions."
        )
    if settings.get(WELFARE_WEIGHT) is not None:
        raise MarketError(
            "allocate is not available where a planner compares costs (welfare=, participation=): "
            "she has shared out already what it saves to be together, without payments. Solve "
            "CentralizedMarket() without these, and allocate the saving of that."
        )
    if settings.get(OWN_MULTIPLIERS, False):
        raise MarketError(
            "allocate is not available for generalized equilibria of unequal weights: payments do "
            "not cancel, as the ends of an edge have prices of their own, and of a coalition's "
            "many equilibria none is its cost. Use the variational equilibrium."
        )


def _as_recorded(cost: Costs, own: Vector, count: int) -> Costs:
    """The costs, that of all together as it is on record, which it must be to start with."""
    whole, recorded_cost = everybody(count), float(own.sum())
    size = float(np.abs(own).sum()) + abs(cost[whole])
    if abs(cost[whole] - recorded_cost) > ACCURACY.sampled * size:
        raise MarketError(
            f"Solved anew, the market of all costs {cost[whole]:.9g} EUR, but {recorded_cost:.9g} "
            "on record: something of it is not on record (costs of extra_functionality or of a "
            "design's own), or it has several equilibria. Coalitions would not be of this market."
        )
    return {**cost, whole: recorded_cost}


def _labelled(asked: Asked, found: Found) -> xr.Dataset:
    """What was found, and what coalitions say to it."""
    masks, prosumers = list(asked.cost), asked.data.prosumers
    labels = [" + ".join(names_in(mask, prosumers)) for mask in masks]
    excess = asked.game.excess(asked.alone - found.cost)
    worst = int(excess.argmax()) if excess.size else -1
    proper = [k for k, mask in enumerate(masks) if not asking.is_whole(mask, asked.count)]
    variables: dict[str, Any] = {
        "allocation": (PROSUMER, found.cost),
        "transfer": (PROSUMER, found.cost - asked.own),
        "saving": (PROSUMER, asked.alone - found.cost),
        "coalition_cost": (COALITION, list(asked.cost.values())),
        "member": ((COALITION, PROSUMER), members_of(masks, asked.count)),
        "core_excess": excess[worst] if excess.size else np.nan,
        "worst_coalition": labels[proper[worst]] if excess.size else "",
    }
    if asked.by_hour is not None:
        variables["payment"] = asked.by_hour.payment
    if found.error is not None:
        variables["standard_error"] = (PROSUMER, found.error)
    coords = {PROSUMER: prosumers, COALITION: pd.Index(labels, dtype=object)}
    dataset = xr.Dataset(variables, coords=coords)
    for name in dataset.data_vars:
        unit, meaning = _DESCRIBED[str(name)]
        dataset[name].attrs = {"unit": unit, "long_name": meaning}
    return dataset
