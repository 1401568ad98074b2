"""What is swept: dimensions, their values, labels and points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Final

import numpy as np

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import CONTRACT_NAME, PROSUMER, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.markets.base import Market
from pypsa_p2p.solution.results import DESCRIBED
from pypsa_p2p.studies.sweep_figures import FIGURES, KEPT
from pypsa_p2p.studies.sweep_joining import ERROR
from pypsa_p2p.studies.sweep_points import (
    DATA_DIMENSIONS,
    MARKET,
    MARKET_DIMENSIONS,
    Apply,
    Point,
    dimensions_of,
)

_BUILT_IN: Final = (*MARKET_DIMENSIONS, *DATA_DIMENSIONS)
_TAKEN: Final = frozenset(
    {MARKET, ERROR, SCENARIO, SNAPSHOT, PROSUMER, TRADE, CONTRACT_NAME, *FIGURES, *KEPT}
)


def read_dimensions(
    markets: Any, over: Mapping[str, Iterable[Any]], apply: Apply | None, wanted: tuple[str, ...]
) -> dict[str, dict[Any, Any]]:
    """Values of every dimension by their labels, checked."""
    if not isinstance(over, Mapping):
        raise MarketError(f"over must be a mapping from dimensions to values, not {shown(over)}.")
    applied = _applied(apply, over)
    free = callable(apply) or (callable(markets) and not isinstance(markets, Market))
    unknown = [name for name in over if name not in _BUILT_IN and name not in applied]
    if unknown and not free:
        raise MarketError(
            f"over: sweep does not know the dimension {listed(unknown)}; it knows "
            f"{', '.join(_BUILT_IN)}. Say what it changes with apply=, a function of the network "
            "and the point."
        )
    taken = [name for name in over if name in _TAKEN.union(wanted)]
    if taken:
        raise MarketError(
            f"over: {listed(taken)} is a name of the results; take another, or leave it out of "
            "keep."
        )
    named = {MARKET: _named_markets(markets)} if isinstance(markets, Mapping) else {}
    if not named and not isinstance(markets, Market) and not callable(markets):
        raise MarketError(
            f"markets must be a market, {{name: market}} or a function of the point, not "
            f"{type(markets).__name__}."
        )
    return named | {name: _labelled(name, values) for name, values in over.items()}


def kept_names(names: Any) -> tuple[str, ...]:
    """Names of variables to keep, checked."""
    given = [names] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
    unknown = [name for name in given if name not in list(DESCRIBED)]
    if unknown:
        raise MarketError(
            f"keep: results have no {listed(unknown)}; they may have {listed(DESCRIBED, 50)}."
        )
    return tuple(given)


def _applied(apply: Any, over: Mapping[str, Any]) -> set[str]:
    """The dimensions that a mapping `apply` names, checked."""
    if apply is None or callable(apply):
        return set()
    changes = list(apply.values()) if isinstance(apply, Mapping) else [apply]
    if not changes:
        raise MarketError("apply: the mapping is empty; give a function, or leave apply out.")
    for change in changes:
        if not callable(change):
            raise MarketError(
                f"apply must be a function of the network and the point, not {change!r}, or a "
                "mapping from dimensions to such functions."
            )
    named = {name for key in apply for name in dimensions_of(key)}
    missing = [name for name in named if name not in over]
    if missing:
        raise MarketError(
            f"apply: {listed(sorted(map(str, missing)))} is no dimension of over: give its values "
            "there, or leave the function out."
        )
    return named


def _named_markets(markets: Mapping[str, Any]) -> dict[Any, Any]:
    odd = [name for name in markets if not isinstance(name, str | int | float)]
    if odd:
        raise MarketError(f"markets: {listed(odd)} must be text or a number to name a market.")
    others = [name for name, market in markets.items() if not isinstance(market, Market)]
    if others or not markets:
        raise MarketError(
            f"markets: {listed(others) or 'none'} given; a mapping holds markets by their names."
        )
    return {name: name for name in markets}


def _labelled(name: str, values: Any) -> dict[Any, Any]:
    """Values by label: a mapping's keys, or the values themselves."""
    if isinstance(values, Mapping) and values:
        return dict(values)
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise MarketError(f"over: {name!r} needs several values, a sequence or a mapping.")
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    odd = [value for value in plain if not isinstance(value, str | int | float)]
    if odd or not plain:
        raise MarketError(
            f"over: values of {name!r} must be numbers or text, and at least one; give others as "
            "a mapping from labels to values."
        )
    if len(set(plain)) < len(plain):
        raise MarketError(f"over: {name!r} has a value twice; each names a place of the result.")
    return {value: value for value in plain}


def points_of(dimensions: Mapping[str, Mapping[Any, Any]]) -> list[Point]:
    """All combinations, the last dimension running fastest."""
    combinations = product(*(values.values() for values in dimensions.values()))
    return [dict(zip(dimensions, values, strict=True)) for values in combinations]
