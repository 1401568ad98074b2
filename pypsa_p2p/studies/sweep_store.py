"""Where a sweep keeps its points: one netCDF file each, named by its fingerprint."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import xarray as xr

from pypsa_p2p.common.errors import P2PError
from pypsa_p2p.studies.sweep_figures import Figures
from pypsa_p2p.studies.sweep_points import Outcome, Point, label

_ERROR = "error"
_POINT = "point"
_PARTS = "parts"


class PointStore:
    """A folder of points, or none: then nothing is kept and nothing is found.

    Parameters
    ----------
    folder : path, optional
        Made if it does not exist. Any number of processes and machines may share it.
    parts : int, optional
        In how many shards the sweep is solved; points that are kept remember it.

    Attributes
    ----------
    parts : set of int
        In how many shards the points that are `known` were solved, where a shard solved them.

    Raises
    ------
    P2PError
        The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, parts: int | None = None) -> None:
        try:
            self._folder = None if folder is None else Path(folder)
        except TypeError as error:
            raise P2PError(f"store must be a path, not {folder!r}.") from error
        self._found: dict[str, Outcome] = {}
        self._parts = parts
        self.parts: set[int] = set()
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise P2PError(f"store: {folder} is no folder to write to ({error}).") from error

    def known(self) -> frozenset[str]:
        """Fingerprints of the points that are there and can be read."""
        if self._folder is None:
            return frozenset()
        read = {path.stem: self._read(path) for path in self._folder.glob("*.nc")}
        self._found = {key: outcome for key, outcome in read.items() if outcome is not None}
        return frozenset(self._found)

    def load(self, key: str) -> Outcome:
        """The outcome kept under a fingerprint that is `known`."""
        return self._found[key]

    def save(self, outcome: Outcome, point: Point) -> None:
        """Keep an outcome that follows from its inputs; a file is there whole or not at all."""
        if self._folder is None or not outcome.key:
            return
        dataset = xr.Dataset() if outcome.figures is None else outcome.figures.dataset()
        notes = {_ERROR: outcome.error, _POINT: label(point)}
        if self._parts is not None:
            notes[_PARTS] = str(self._parts)
        dataset = dataset.assign_attrs(notes)
        writer = f"{platform.node()}.{os.getpid()}"  # others may write the same point just now
        unfinished = self._folder / f"{outcome.key}.{writer}.part"
        try:
            dataset.to_netcdf(unfinished)
            unfinished.replace(self._folder / f"{outcome.key}.nc")
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise P2PError(f"store: a point cannot be kept in {self._folder} ({error}).") from error

    def _read(self, path: Path) -> Outcome | None:
        """The outcome in a file; None where it is no file of ours, so that it is solved again."""
        try:
            dataset = xr.load_dataset(path)
        except (OSError, ValueError, RuntimeError, KeyError):  # RuntimeError: a flipped bit
            return None
        error = dataset.attrs.pop(_ERROR, None)
        if error is None:
            return None
        dataset.attrs.pop(_POINT, None)
        self.parts.update(int(parts) for parts in [dataset.attrs.pop(_PARTS, None)] if parts)
        figures = None if error else Figures.of_dataset(dataset)
        return Outcome(key=path.stem, figures=figures, error=str(error))
