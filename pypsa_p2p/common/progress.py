"""Bars that show how far a long call is, where somebody may be looking."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm


def progress_bar(total: int, name: str, unit: str, *, shown: bool) -> Any:
    """tqdm's bar on stderr, on a terminal or in a notebook; anywhere else, as in a log, none."""
    return tqdm(total=total, desc=name, unit=unit, disable=None if shown else True)
