"""Where costs of coalitions are kept: a line each, in files that only ever grow."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from pypsa_p2p.common.errors import P2PError


class CostStore:
    """A folder with the costs of coalitions, or none: then nothing is kept and nothing is found.

    Whoever writes has a file of her own, called by what is asked, machine and process, so that any
    number of processes and machines may share the folder, also with points of a sweep. A line that
    was not finished is nobody's.

    Parameters
    ----------
    folder : path, optional
        Made if it does not exist.
    asked : str
        Name for all that a coalition's cost follows from.

    Raises
    ------
    P2PError
        The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, asked: str) -> None:
        self._folder = None if folder is None else _made(folder)
        self._asked = asked
        self._known = dict(self._lines())

    def cost(self, names: Sequence[str]) -> float | None:
        """What a coalition costs, EUR; None where that is not known."""
        return self._known.get(tuple(names))

    def keep(self, names: Sequence[str], cost: float) -> None:
        """Keep what a coalition costs."""
        if self._folder is None:
            return
        writer = f"{self._asked}.{platform.node()}.{os.getpid()}.coalitions"
        try:
            with (self._folder / writer).open("a", encoding="utf-8") as file:
                file.write(json.dumps([list(names), cost]) + "\n")
        except OSError as error:
            raise P2PError(
                f"store: a coalition cannot be kept in {self._folder} ({error})."
            ) from error

    def _lines(self) -> Iterator[tuple[tuple[str, ...], float]]:
        """Coalitions and costs in the files about what is asked."""
        paths = [] if self._folder is None else self._folder.glob(f"{self._asked}.*.coalitions")
        for path in paths:
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    names, cost = json.loads(line)
                    yield tuple(map(str, names)), float(cost)
                except (ValueError, TypeError):
                    continue


def _made(folder: str | os.PathLike[str]) -> Path:
    try:
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
    except TypeError as error:
        raise P2PError(f"store must be a path, not {folder!r}.") from error
    except OSError as error:
        raise P2PError(f"store: {folder} is no folder to write to ({error}).") from error
    return path
