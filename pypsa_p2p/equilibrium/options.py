"""What the agents' methods may be asked for, refused on construction where it makes no sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, Literal

import numpy as np

from pypsa_p2p.common.errors import MarketError, listed, shown

Start = Literal["least", "zero", "variational", "random"] | Any
"""Names of starts, or quantities (scenario, snapshot, trade)."""

_STARTS = ("least", "zero", "variational", "random")


def require_flag(what: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise MarketError(f"{what} {shown(value)} must be True or False.")


def require_start(method: str, start: object) -> None:
    """Refuse names of starts that do not exist, and what cannot be quantities by trade."""
    wanted = (
        f"{method}: start must be {listed(_STARTS)} or an array of quantities "
        "as results(n).quantity (scenario, snapshot, trade), not"
    )
    if isinstance(start, str) and start not in _STARTS:
        raise MarketError(f"{wanted} {start!r}.")
    if start is None or isinstance(start, str):
        return
    try:
        dimensions = np.asarray(start, dtype=float).ndim
    except (TypeError, ValueError, OverflowError):
        raise MarketError(f"{wanted} a {type(start).__name__}.") from None
    if dimensions != 3:
        raise MarketError(f"{wanted} {dimensions} dimensions.")


def stored_order(method: str, order: Any) -> tuple[str, ...] | None:
    """Names of prosumers in the order of their turns, as a tuple; None where there is none."""
    if order is None:
        return None
    if isinstance(order, str | Mapping | Set) or not isinstance(order, Iterable):
        raise MarketError(f"{method}: order must be a sequence of names, not {shown(order)}.")
    names = tuple(order)
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise MarketError(f"{method}: order must be names, which are text, not {listed(odd)}.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise MarketError(
            f"{method}: order must name every prosumer once; twice: {listed(repeated)}."
        )
    return tuple(map(str, names))
