"""The errors users see: what is wrong, which names, what to do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class P2PError(ValueError):
    """Anything this package refuses. Catch it to catch all of them.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> try:
    ...     p2p.CVaR(attitude=2.0)
    ... except p2p.P2PError as error:
    ...     print(error)
    CVaR: attitude 2.0 must be a number in [0, 1); 0 is risk-neutral.
    """


class DataError(P2PError):
    """The data of prosumers, trades or scenarios are not usable as given."""


class MarketError(P2PError):
    """The market asked for cannot be formed or solved on this network."""


class ConvergenceError(P2PError):
    """A solver stopped before its answer met the package's own residual checks.

    Attributes
    ----------
    history : tuple of float
        Residual by iteration, where there were any to tell.
    """

    def __init__(self, message: str, history: Iterable[float] = ()) -> None:
        super().__init__(message)
        self.history = tuple(history)


def shown(value: object) -> str:
    """A value as it appears in a message: numpy's scalars as the plain values they hold.

    >>> import numpy as np
    >>> shown((np.str_("a"), np.float64(3.0)))
    "('a', 3.0)"
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))}{',' * (len(value) == 1)})"
    if isinstance(value, np.number | np.str_ | np.bool_):
        return repr(value.item())
    return repr(value)


def listed(names: Iterable[object], limit: int = 5) -> str:
    """Names as they appear in a message: at most `limit`, then how many more.

    >>> listed(["a", "b"])
    "'a', 'b'"
    >>> listed(range(7), limit=2)
    '0, 1 and 5 more'
    """
    found = [shown(name) for name in names]
    rest = len(found) - limit
    head = ", ".join(found[:limit])
    return f"{head} and {rest} more" if rest > 0 else head
