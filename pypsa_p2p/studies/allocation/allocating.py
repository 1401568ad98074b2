"""Who pays what of a solved market, by its own prices or as a game of coalitions (MODEL.md §10)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.names import OWN_MULTIPLIERS, PROSUMER
from pypsa_p2p.common.values import require_network
from pypsa_p2p.markets.on_record import RecordedMarket
from pypsa_p2p.markets.record import recorded
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solution.results import read_results
from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.studies.allocation import asking
from pypsa_p2p.studies.allocation.core import least_core, nucleolus, variance_core
from pypsa_p2p.studies.allocation.games import (
    Costs,
    Game,
    Orders,
    alone_of,
    beginnings,
    by_size,
    drawn_orders,
    everybody,
    members_of,
    savings,
)
from pypsa_p2p.studies.allocation.market import market_costs, own_costs
from pypsa_p2p.studies.allocation.shapley import shapley, shapley_drawn
from pypsa_p2p.studies.allocation.solving import Question, coalition_costs, names_in

COALITION: Final = "coalition"
_DESCRIBED: Final = {
    "allocation": ("EUR", "what each prosumer bears of the social cost, now; sums to it"),
    "transfer": ("EUR", "allocation less her own cost R; sums to 0"),
    "saving": ("EUR", "what she would bear alone less allocation"),
    "standard_error": ("EUR", "of allocation, which is a mean over drawn orders"),
    "coalition_cost": ("EUR", "social cost of the market of the coalition's members alone"),
    "member": ("1", "whether the prosumer is in the coalition"),
    "core_excess": ("EUR", "most that a coalition could save beyond its allocation; <= 0: none"),
    "worst_coalition": ("1", "the coalition of core_excess"),
}


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
                            for trades, in money now. Costs no further market, and no coalition
                            can do better where nothing is congested
        ``"shapley"``       what she adds to those who came before her, on average over all orders
        ``"nucleolus"``     the worst coalition is as well off as can be, then the next worst...
        ``"least_core"``    the worst coalition is, and savings are as even as that leaves them
        ``"variance_core"`` the most even savings with which no coalition can do better
        ``"nash"``          equal savings, or savings in proportion to `weights`
        =================== ====================================================================
    buy, sell : optional
        Retail prices, for rules by the hour, which this version does not have: leave them out.
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
        ``worst_coalition``. Units are in ``attrs``. The dataset's own ``attrs`` say how
        coalitions were chosen (``coalitions``: all, drawn or given) and how many are known.

    Raises
    ------
    MarketError
        No solved market; one in which a coalition has no cost of its own: that of a grid which
        delivers, of unequal weights, of constraints that several share; a coalition without a
        solution, by name; arguments that a method does not take; an empty core.

    Notes
    -----
    Coalitions have the design, scenarios and contracts of the market on record. 2^N of them are
    solved up to N = 12 prosumers; beyond, "market" and "nash" stay exact, ``core_excess`` is that
    of drawn coalitions, and the cores need `coalitions`.

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
    """
    require_network(n)
    method = asking.require_method(method, buy=buy, sell=sell, weights=weights)
    power = asking.WEIGHTS.read(weights)
    settings = recorded(n)
    _require_coalitions(settings)
    data, r = read_results(n)
    count = len(data.prosumers)
    share = None if power is None else asking.WEIGHTS.on(power, data.prosumers).to_numpy()
    chosen, masks = asking.asked_coalitions(method, data.prosumers, coalitions, samples, seed)
    orders = None
    if method == asking.SHAPLEY and chosen == asking.DRAWN:
        orders = drawn_orders(count, asking.drawn_number(samples), seed)
        masks = by_size([*masks, *(mask for grown in beginnings(orders) for mask in grown)])
    market = RecordedMarket.of(settings, data)
    question = Question.of(n, market, data.snapshots, settings["constraints"])
    cost = coalition_costs(question, masks, store=store, workers=workers, progress=progress)
    asked = _Asked(
        data=data,
        cost=_as_recorded(cost, own_costs(r), count),
        own=own_costs(r),
        of_market=market_costs(r),
        weights=np.ones(count) if share is None else share,
        orders=orders,
    )
    return _labelled(asked, _METHODS[method](asked)).assign_attrs(
        method=method,
        market=str(settings["design"]),
        coalitions=chosen,
        coalitions_known=len(masks),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """What methods allocate from.

    Attributes
    ----------
    cost : mapping
        Of every known coalition, EUR.
    own, of_market : (N,)
        R_n, and that with payments for trades, EUR.
    weights : (N,)
    orders : (K, N) or None
        In which prosumers come together, where these are drawn.
    """

    data: MarketData
    cost: Costs
    own: Vector
    of_market: Vector
    weights: Vector
    orders: Orders | None

    @property
    def count(self) -> int:
        """N."""
        return len(self.own)

    @property
    def alone(self) -> Vector:
        """What everybody bears alone, (N,), EUR."""
        return alone_of(self.cost, self.count)

    @property
    def game(self) -> Game:
        """What coalitions save."""
        return Game.of_values(savings(self.cost, self.count), self.count)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """What everybody bears, (N,), EUR, and its standard error where orders were drawn."""

    cost: Vector
    error: Vector | None = None


def _by_saving(share: Callable[[Game], Vector]) -> Callable[[_Asked], _Found]:
    """A method that shares out what all save together."""
    return lambda asked: _Found(cost=asked.alone - share(asked.game))


def _by_market(asked: _Asked) -> _Found:
    return _Found(cost=asked.of_market)


def _by_shapley(asked: _Asked) -> _Found:
    value = savings(asked.cost, asked.count)
    if asked.orders is None:
        return _Found(cost=asked.alone - shapley(value, asked.count))
    share, error = shapley_drawn(value, asked.orders)
    return _Found(cost=asked.alone - share, error=error)


def _by_nash(asked: _Asked) -> _Found:
    r""":math:`y_n = w_n v(N) / \sum_m w_m`: what maximises :math:`\prod_n y_n^{w_n}`."""
    weights = asked.weights / asked.weights.sum()
    return _Found(cost=asked.alone - weights * asked.game.total)


#: How each method allocates; rules by the hour are to stand here too.
_METHODS: Final[Mapping[str, Callable[[_Asked], _Found]]] = {
    asking.MARKET: _by_market,
    asking.SHAPLEY: _by_shapley,
    asking.NUCLEOLUS: _by_saving(nucleolus),
    asking.LEAST_CORE: _by_saving(least_core),
    asking.VARIANCE_CORE: _by_saving(variance_core),
    asking.NASH: _by_nash,
}


def _require_coalitions(settings: Mapping[str, Any]) -> None:
    """Refuse a market in which coalitions have no cost of their own.

    Raises
    ------
    MarketError
    """
    if settings["delivery"] == "grid":
        raise MarketError(
            "allocate is not available for delivery='grid': how much of the grid a coalition may "
            "use nobody has said, so that it has no cost of its own. Use delivery='trades'."
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


def _labelled(asked: _Asked, found: _Found) -> xr.Dataset:
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
    if found.error is not None:
        variables["standard_error"] = (PROSUMER, found.error)
    coords = {PROSUMER: prosumers, COALITION: pd.Index(labels, dtype=object)}
    dataset = xr.Dataset(variables, coords=coords)
    for name in dataset.data_vars:
        unit, meaning = _DESCRIBED[str(name)]
        dataset[name].attrs = {"unit": unit, "long_name": meaning}
    return dataset
