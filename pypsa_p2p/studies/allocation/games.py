"""Coalitions and what they save: games in which money can be paid (MODEL.md §10).

A coalition is a mask: bit k is set where prosumer k is a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pypsa_p2p.solvers.arrays import Flags, Labels, Vector

#: Most prosumers of whom every coalition is solved.
ENUMERATED = 12

#: What each known coalition costs, EUR, by its mask.
Costs = Mapping[int, float]
Orders = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """What coalitions save, of all or of those that are known.

    Attributes
    ----------
    members : (C, N)
        Who is in each coalition; neither nobody nor everybody.
    value : (C,)
        v(S), EUR.
    total : float
        v(N), EUR.
    """

    members: Flags
    value: Vector
    total: float

    @classmethod
    def of_values(cls, value: Mapping[int, float], count: int) -> Game:
        """The game of `count` prosumers with these values, those of all among them."""
        whole = everybody(count)
        known = [mask for mask in value if 0 < mask < whole]
        return cls(
            members=members_of(known, count),
            value=np.array([value[mask] for mask in known], dtype=float),
            total=float(value[whole]),
        )

    @property
    def count(self) -> int:
        """N."""
        return int(self.members.shape[1])

    def excess(self, share: Vector) -> Vector:
        """v(S) - y(S), (C,): what each coalition could save beyond what its members get."""
        return np.asarray(self.value - self.members @ share)


def savings(cost: Costs, count: int) -> dict[int, float]:
    r"""What coalitions save against everybody alone, :math:`v(S) = \sum_n c(n) - c(S)`, EUR."""
    alone = alone_of(cost, count)
    masks = list(cost)
    together = members_of(masks, count) @ alone
    return {mask: float(of) - cost[mask] for mask, of in zip(masks, together, strict=True)}


def alone_of(cost: Costs, count: int) -> Vector:
    """c(n) of every prosumer alone, (N,), EUR; NaN where it is not known."""
    return np.array([cost.get(1 << k, np.nan) for k in range(count)])


def everybody(count: int) -> int:
    """The mask of all."""
    return (1 << count) - 1


def members_of(masks: Sequence[int], count: int) -> Flags:
    """Who is in each coalition, (C, N)."""
    flags = [[bool(mask >> k & 1) for k in range(count)] for mask in masks]
    return np.array(flags, dtype=bool).reshape(len(masks), count)


def places_in(mask: int) -> Labels:
    """Positions of a coalition's members, ascending."""
    return np.array([k for k in range(mask.bit_length()) if mask >> k & 1], dtype=np.int64)


def mask_of(places: Iterable[int]) -> int:
    """The coalition of prosumers at these positions."""
    return sum(1 << int(k) for k in set(places))


def by_size(masks: Iterable[int]) -> list[int]:
    """Coalitions, each once, small ones first."""
    return sorted(set(masks), key=lambda mask: (mask.bit_count(), mask))


def always_needed(count: int) -> list[int]:
    """Everybody alone, and all together."""
    return [*(1 << k for k in range(count)), everybody(count)]


def every_coalition(count: int) -> list[int]:
    """All but that of nobody."""
    return list(range(1, everybody(count) + 1))


def drawn_coalitions(count: int, samples: int, seed: int) -> list[int]:
    """All but one of everybody, and as many others as `samples`, of sizes alike in number."""
    whole, rng = everybody(count), np.random.default_rng(seed)
    found = {whole ^ (1 << k) for k in range(count) if count > 2}
    aim = min(len(found) + samples, whole - 1 - count)  # there are no more of two and more
    while len(found) < aim:
        size = rng.integers(2, count)
        found.add(mask_of(rng.permutation(count)[:size]))
    return list(found)


def drawn_orders(count: int, samples: int, seed: int) -> Orders:
    """Orders in which prosumers come together, (samples, N)."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(count) for _ in range(samples)])


def beginnings(orders: Orders) -> list[list[int]]:
    """The coalitions that grow in each order, from the first alone to all."""
    return [[mask_of(order[: k + 1]) for k in range(order.size)] for order in orders]
