"""Bars that show how far a long call is, where somebody may be looking."""

from __future__ import annotations

from typing import Any, Final

from tqdm.auto import tqdm

#: Columns from which a solve takes long enough for somebody to look.
LARGE: Final = 100_000


def progress_bar(total: int, name: str, unit: str, *, shown: bool) -> Any:
    """tqdm's bar on stderr, on a terminal or in a notebook; anywhere else, as in a log, none."""
    return tqdm(total=total, desc=name, unit=unit, disable=None if shown else True)


def iterations_shown(columns: int) -> Any:
    """A counter of a solver's iterations, shown as bars are, of large programs only.

    `update` it by one, and `set_postfix` what is left.
    """
    shown = columns >= LARGE
    name = f"solving {columns:,} variables"
    return tqdm(desc=name, unit=" iterations", leave=False, disable=None if shown else True)
