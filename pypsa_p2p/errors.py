"""The errors users see: what is wrong, which names, what to do."""

from __future__ import annotations

from collections.abc import Iterable


class P2PError(ValueError):
    """Anything this package refuses. Catch it to catch all of them."""


class DataError(P2PError):
    """The data of prosumers, trades or scenarios are not usable as given."""


class MarketError(P2PError):
    """The market asked for cannot be formed or solved on this network."""


class ConvergenceError(P2PError):
    """A solver stopped before its answer met the package's own residual checks."""


def listed(names: Iterable[object], limit: int = 5) -> str:
    """Names as they appear in a message: at most `limit`, then how many more.

    >>> listed(["a", "b"])
    "'a', 'b'"
    >>> listed(range(7), limit=2)
    '0, 1 and 5 more'
    """
    shown = [repr(name) for name in names]
    rest = len(shown) - limit
    head = ", ".join(shown[:limit])
    return f"{head} and {rest} more" if rest > 0 else head
