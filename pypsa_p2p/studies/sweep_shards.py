"""A sweep on several machines: which points each of them solves, and what is missing in the end."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.given import Range
from pypsa_p2p.studies.sweep_points import Outcome, Point, label


@dataclass(frozen=True)
class Shard:
    """Every `of`-th point of a sweep, beginning with the `number`-th; by default all of them.

    Examples
    --------
    >>> print(Shard(3, 40), Shard(3, 40).places(100))
    3/40 [2, 42, 82]
    """

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def places(self, total: int) -> list[int]:
        """Places of its points among all."""
        return list(range(self.number - 1, total, self.of))

    def left(self, total: int) -> dict[int, Outcome]:
        """What this shard says of the points of the others."""
        own = set(self.places(total))
        return {
            place: Outcome(error=f"Left to shard {place % self.of + 1}/{self.of}.")
            for place in range(total)
            if place not in own
        }


def read_shard(given: Any) -> Shard:
    """A shard from ``"3/40"`` or ``(3, 40)``.

    Raises
    ------
    MarketError
        It is neither, or there is no such shard.

    Examples
    --------
    >>> read_shard("3/40") == read_shard((3, 40))
    True
    >>> read_shard("41/40")
    Traceback (most recent call last):
    ...
    pypsa_p2p.common.errors.MarketError: shard '41/40' is none; give K/M, the K-th of M parts with 1 <= K <= M, as 3/40 (in Python (3, 40)).
    """  # noqa: E501  the message is one line
    text = re.fullmatch(r"(\d{1,9})/(\d{1,9})", given, re.ASCII) if isinstance(given, str) else None
    pair = [int(number) for number in text.groups()] if text else given
    if isinstance(pair, list | tuple) and len(pair) == 2:
        number, of = pair
        if of in Range(1, whole=True) and number in Range(1, of, whole=True):
            return Shard(int(number), int(of))
    raise MarketError(
        f"shard {shown(given)} is none; give K/M, the K-th of M parts with 1 <= K <= M, as 3/40 "
        "(in Python (3, 40))."
    )


def asked_shard(shard: Any, *, collect: Any, stored: bool) -> Shard:
    """The points that a call of `sweep` asks for. Messages begin with the argument's name.

    Raises
    ------
    MarketError
        A shard that is none, both a part and the whole, or no store to keep or find points in.
    """
    if not isinstance(collect, bool):
        raise MarketError(f"collect must be True or False, not {shown(collect)}.")
    if collect and shard is not None:
        raise MarketError("shard is one part and collect takes all: leave out one of them.")
    if not stored and (collect or shard is not None):
        raise MarketError(
            f"{'collect' if collect else 'shard'} needs a store, the folder that all shards share."
        )
    return Shard() if shard is None else read_shard(shard)


def require_kept(shard: Shard, outcomes: Mapping[int, Outcome]) -> None:
    """Refuse to call a shard done whose points broke down, so that somebody solves it again.

    Raises
    ------
    MarketError
        Says how many, and why the first of them.
    """
    broken = [outcome.error for outcome in outcomes.values() if outcome.broken]
    if broken:
        raise MarketError(
            f"shard {shard}: {len(broken)} of its points broke down and are not kept, the first "
            f"by {broken[0]!r}. Solve the shard again, which takes its other points from the store."
        )


def require_all(
    outcomes: Mapping[int, Outcome], points: Sequence[Point], store: Any, parts: Collection[int]
) -> None:
    """Refuse to collect a sweep of which points are missing.

    Parameters
    ----------
    outcomes : mapping from places to outcomes
        Missing are those with neither figures nor error.
    points : sequence of points
    store : path
        Where they are not.
    parts : collection of int
        In how many parts the points that are there were solved; shards are named if all agree.

    Raises
    ------
    MarketError
        Says how many are missing, which first, of which shards, and what to do.
    """
    missing = [p for p, found in outcomes.items() if found.figures is None and not found.error]
    if not missing:
        return
    whose = ""
    if len(parts) == 1:
        (of,) = parts
        shards = sorted({place % of + 1 for place in missing})
        whose = f" They belong to shards {listed(shards, 40)} of {of}."
    raise MarketError(
        f"collect: {len(missing)} of {len(points)} points are not in {os.fspath(store)}, the first "
        f"at {label(points[min(missing)])}.{whose} Solve them as shards, or here, with neither "
        "shard nor collect. Points of other data, markets or versions do not count."
    )
