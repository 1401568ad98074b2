"""What `allocate` may be asked: methods, and what of its arguments each of them takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pandas as pd

from pypsa_p2p.common.errors import DataError, MarketError, listed, shown
from pypsa_p2p.common.given import POSITIVE, Given, Range
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.common.values import as_names
from pypsa_p2p.solution.settlement.hourly_rules import HOURLY_RULES
from pypsa_p2p.studies.allocation.games import (
    ENUMERATED,
    always_needed,
    by_size,
    drawn_coalitions,
    every_coalition,
    everybody,
    mask_of,
)

MARKET, SHAPLEY, NUCLEOLUS, LEAST_CORE, VARIANCE_CORE, NASH = (
    "market", "shapley", "nucleolus", "least_core", "variance_core", "nash",
)  # fmt: skip
#: Rules by the hour, between retail prices, as `settle` has them.
BY_HOUR: Final = tuple(HOURLY_RULES)
METHODS: Final = (MARKET, SHAPLEY, NUCLEOLUS, LEAST_CORE, VARIANCE_CORE, NASH, *BY_HOUR)
#: What needs the costs of coalitions to allocate at all, and not only to judge what it allocates.
OF_CORES: Final = (NUCLEOLUS, LEAST_CORE, VARIANCE_CORE)

#: What is drawn where more prosumers than `ENUMERATED` come without `samples`.
_DRAWN: Final = 100
WEIGHTS: Final = Given("allocate: weights", (PROSUMER,), POSITIVE)
_AT_LEAST_TWO: Final = Range(2, whole=True, why="a number of draws")

ALL, DRAWN, GIVEN, NONE = "all", "drawn", "given", "none"


def require_method(method: object, *, buy: object, sell: object, weights: object) -> str:
    """The method, with arguments that mean something to it.

    Raises
    ------
    MarketError
    """
    if not isinstance(method, str) or method not in METHODS:
        raise MarketError(f"method must be one of {listed(METHODS, 10)}, not {shown(method)}.")
    for name, given in (("buy", buy), ("sell", sell)):
        if given is not None and method not in BY_HOUR:
            raise MarketError(
                f"{name}: retail prices belong to rules by the hour, {listed(BY_HOUR)}; leave it "
                f"out with method {method!r}."
            )
    if weights is not None and method != NASH:
        raise MarketError(f"weights belong to method {NASH!r}; leave them out with {method!r}.")
    return method


def asked_coalitions(
    method: str,
    prosumers: pd.Index,
    coalitions: Any,
    samples: Any,
    seed: Any,
    *,
    delivered: bool,
) -> tuple[str, list[int]]:
    """How coalitions are chosen, and which, small ones first: everybody alone and all are there.

    For Shapley's value by drawn orders it is these two kinds only; where a grid delivers it is all.

    Raises
    ------
    MarketError, DataError
    """
    count = len(prosumers)
    Range(0, whole=True).require("seed:", seed)
    if samples is not None:
        _AT_LEAST_TWO.require("samples:", samples)
    if delivered:
        if coalitions is not None or samples is not None:
            raise MarketError(
                "coalitions, samples: with delivery='grid' coalitions have no cost of their own; "
                "leave both out."
            )
        return NONE, [everybody(count)]
    if coalitions is not None:
        if method == SHAPLEY or samples is not None:
            raise MarketError(
                "coalitions: "
                + ("the Shapley value takes all" if method == SHAPLEY else "samples draws others")
                + "; give one of the two, coalitions= or samples=, and none of the first to "
                "'shapley'."
            )
        given = _read(coalitions, prosumers)
        return GIVEN, by_size([*always_needed(count), *given])
    if samples is None and count <= ENUMERATED:
        return ALL, by_size(every_coalition(count))
    if method in OF_CORES:
        why = f"there are {count} prosumers" if samples is None else "samples leaves some out"
        raise MarketError(
            f"method {method!r} needs every coalition, which are solved up to {ENUMERATED} "
            f"prosumers, and {why}: name those that count with coalitions=, or take 'market'."
        )
    drawn = [] if method == SHAPLEY else drawn_coalitions(count, drawn_number(samples), seed)
    return DRAWN, by_size([*always_needed(count), *drawn])


def drawn_number(samples: int | None) -> int:
    """How many orders, or coalitions, are drawn."""
    return _DRAWN if samples is None else int(samples)


def _read(coalitions: Any, prosumers: pd.Index) -> list[int]:
    """Coalitions given by the names of their members, as masks."""
    if isinstance(coalitions, str) or not isinstance(coalitions, Iterable):
        raise MarketError(
            f"coalitions must be groups of names, [[name, name], ...], not {shown(coalitions)}."
        )
    return [_mask(members, prosumers) for members in coalitions]


def _mask(members: Any, prosumers: pd.Index) -> int:
    try:
        names = as_names(sorted(members) if isinstance(members, set) else members, "coalitions")
    except DataError as error:
        raise MarketError(str(error)) from None
    unknown = names[~names.isin(prosumers)]
    if len(unknown):
        raise MarketError(
            f"coalitions: {listed(unknown)} is no prosumer; there are {listed(prosumers)}."
        )
    return mask_of(prosumers.get_indexer(names))


def is_whole(mask: int, count: int) -> bool:
    """Whether a coalition is all prosumers together."""
    return mask == everybody(count)
