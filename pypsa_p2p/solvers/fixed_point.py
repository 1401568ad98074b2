"""Fixed points of contractions, reached faster than by repetition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError

Vector = npt.NDArray[np.float64]

MOST = 60
MEMORY = 6


def fixed_point(
    answer: Callable[[Vector], Vector | None], start: Vector, settled: float = ACCURACY.fixed_point
) -> list[float]:
    """Anderson's acceleration of z = answer(z).

    Parameters
    ----------
    answer : callable
        Of z, (k,); None stops the search: there is no answer.
    start : (k,)
    settled : float
        Change, relative to the largest entry or 1, at which a point counts as fixed.

    Returns
    -------
    list of float
        The change, relative to the largest entry or 1, of every iteration. The last call of
        `answer` was at the fixed point.

    Raises
    ------
    ConvergenceError
        Not settled after `MOST` iterations; its `history` holds the changes.
    """
    points: list[Vector] = []
    changes: list[Vector] = []
    history: list[float] = []
    z = start
    while len(history) < MOST:
        found = answer(z)
        if found is None:
            return history
        points.append(found)
        changes.append(found - z)
        size = np.abs(found).max(initial=1.0)
        history.append(float(np.abs(changes[-1]).max(initial=0.0) / size))
        if history[-1] <= settled or _exhausted(history):
            return history
        kept = 1 if _stalled(history) else MEMORY
        points, changes = points[-kept:], changes[-kept:]
        z = _mixed(points, changes)
    raise ConvergenceError(
        f"Prosumers' answers to each other's trades did not settle in {MOST} rounds: the last "
        f"changed them by {history[-1]:.1e} of the largest. Look for congestion coefficients of "
        "very different sizes.",
        history,
    )


def _exhausted(history: list[float]) -> bool:
    """Whether changes are as small as rounding, and three rounds have not made them smaller."""
    return (
        len(history) > 3
        and history[-1] <= ACCURACY.fixed_point_nearly
        and history[-1] > 0.5 * history[-4]
    )


def _stalled(history: list[float]) -> bool:
    """Whether the last rounds tell little of the next: it jumped, or five have not helped."""
    jumped = len(history) > 1 and history[-1] > 3 * history[-2]
    return jumped or (len(history) % 5 == 0 and history[-1] > 0.5 * history[-5])


def _mixed(points: list[Vector], changes: list[Vector]) -> Vector:
    """The combination of past answers whose change, were it linear, would be the least."""
    if len(points) == 1:
        return points[0]
    differences = np.diff(np.stack(changes, axis=1), axis=1)
    weights, *_ = np.linalg.lstsq(differences, changes[-1], rcond=ACCURACY.mixing)
    return np.asarray(points[-1] - np.diff(np.stack(points, axis=1), axis=1) @ weights)
