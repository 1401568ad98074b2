r"""Mixed complementarity problems, by Newton's method on the Fischer-Burmeister function.

Given bounds and F, find z with, for every i, one of

.. math:: l_i < z_i < u_i,\ F_i(z) = 0; \quad z_i = l_i,\ F_i(z) \ge 0; \quad
    z_i = u_i,\ F_i(z) \le 0

What an equilibrium is where nothing is minimised: conditions of several who mind different things.
There may be several solutions; which one is found depends on the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Sparse, Vector

#: F at a point, (n,), and its sparse Jacobian, (n, n).
Conditions = Callable[[Vector], Vector]
Slopes = Callable[[Vector], Sparse]

#: Steps at most, and halvings of one of them.
MOST_STEPS, MOST_HALVINGS = 150, 30
#: By how many of the last points a decrease is judged: Newton's method may have to climb.
_REMEMBERED = 5
#: Steps in which what is left, squared, must fall below such a share of the least before.
_PATIENCE, _SLOW = 40, 0.7


class Complementary(NamedTuple):
    """Where Newton's method ended.

    Attributes
    ----------
    z : (n,)
    residual : float
        The largest of the Fischer-Burmeister functions, 0 at a solution.
    steps : int
    """

    z: Vector
    residual: float
    steps: int


def solve_complementarity(
    conditions: Conditions, slopes: Slopes, start: Vector, lower: Vector, upper: Vector
) -> Complementary:
    """Newton's method from a start, each step regularised and as long as it helps.

    Parameters
    ----------
    conditions, slopes : callable
        F and its Jacobian.
    lower, upper : (n,)
        Bounds, possibly infinite; equal ones hold z there.

    Examples
    --------
    z is at least 1, and F = z - 3 says 3:

    >>> F, slope = lambda z: z - 3.0, lambda z: sp.csc_matrix([[1.0]])
    >>> found = solve_complementarity(F, slope, np.zeros(1), np.ones(1), np.full(1, np.inf))
    >>> found.z.round(9), found.residual < 1e-9
    (array([3.]), True)
    """
    z = np.clip(start, lower, upper)
    merits: list[float] = []
    for step in range(MOST_STEPS):
        value, by_z, by_f = fischer_burmeister(z, conditions(z), lower, upper)
        residual = float(np.abs(value).max(initial=0.0))
        if residual <= ACCURACY.complementary or not np.isfinite(residual):
            break
        merits.append(0.5 * float(value @ value))
        if step >= _PATIENCE and min(merits[-_PATIENCE:]) > _SLOW * min(merits[:-_PATIENCE]):
            break
        direction = _direction(value, by_z, by_f, slopes(z))
        reached = _line_search(conditions, z, direction, lower, upper, merits[-_REMEMBERED:])
        if reached is None:
            break
        z = reached
    return Complementary(z=z, residual=residual, steps=step)


def fischer_burmeister(
    z: Vector, F: Vector, lower: Vector, upper: Vector
) -> tuple[Vector, Vector, Vector]:
    r"""What is 0 where z and F are complementary, (n,), and its slopes in z and in F.

    .. math:: \Phi = \varphi(z - l, -\varphi(u - z, -F)), \quad
        \varphi(a, b) = a + b - \sqrt{a^2 + b^2}

    which with infinite bounds is F itself.
    """
    inner, in_z, in_f = F, np.zeros(z.size), np.ones(z.size)
    bounded = np.isfinite(upper)
    value, of_room, of_f = _phi(np.where(bounded, upper - z, 0.0), -F)
    inner = np.where(bounded, -value, inner)
    in_z, in_f = np.where(bounded, of_room, in_z), np.where(bounded, of_f, in_f)
    bounded = np.isfinite(lower)
    value, of_room, of_inner = _phi(np.where(bounded, z - lower, 0.0), inner)
    fixed = lower == upper
    phi = np.where(bounded, value, inner)
    by_z = np.where(bounded, of_room + of_inner * in_z, in_z)
    by_f = np.where(bounded, of_inner * in_f, in_f)
    return (
        np.where(fixed, z - lower, phi),
        np.where(fixed, 1.0, by_z),
        np.where(fixed, 0.0, by_f),
    )


def _phi(a: Vector, b: Vector) -> tuple[Vector, Vector, Vector]:
    """a + b - |(a, b)| without cancellation, and its slopes; at the kink one of many."""
    size = np.hypot(a, b)
    both = (a > 0.0) & (b > 0.0)
    safe = np.where(both, a + b + size, 1.0)
    value = np.where(both, 2.0 * a * b / safe, a + b - size)
    kink = size == 0.0
    length = np.where(kink, 1.0, size)
    half = np.sqrt(0.5)
    return (
        value,
        1.0 - np.where(kink, half, a / length),
        1.0 - np.where(kink, half, b / length),
    )


def _direction(value: Vector, by_z: Vector, by_f: Vector, jacobian: Sparse) -> Vector:
    """A step of Newton's method; more regular where the system is singular."""
    size = value.size
    least, *others = ACCURACY.step_proximals
    first = min(least, ACCURACY.step_proximal * float(np.abs(value).max()))
    for proximal in (first, *others):
        near = jacobian + proximal * sp.identity(size, format="csc")
        system = sp.diags(by_z) + sp.diags(by_f) @ near
        try:
            step = splu(sp.csc_matrix(system)).solve(-value)
        except RuntimeError:
            continue
        if np.isfinite(step).all():
            return np.asarray(step)
    return -value


def _line_search(
    conditions: Conditions,
    z: Vector,
    direction: Vector,
    lower: Vector,
    upper: Vector,
    merits: list[float],
) -> Vector | None:
    """The longest of the halved steps after which less is left than lately; None if none is."""
    length = 1.0
    for _ in range(MOST_HALVINGS):
        reached = z + length * direction
        value, *_ = fischer_burmeister(reached, conditions(reached), lower, upper)
        merit = 0.5 * float(value @ value)
        if merit <= max(merits) - 2.0 * ACCURACY.step_enough * length * merits[-1]:
            return reached
        length /= 2.0
    return None
