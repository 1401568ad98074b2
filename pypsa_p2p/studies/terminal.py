"""What commands share: paths, tables on stdout, files written whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import pandas as pd

#: What a path must be is found out where it is used, and refused with exit code 1.
FILE: Final = click.Path(path_type=Path, readable=False)


def show(table: pd.DataFrame, *, index: bool = True, header: bool = True) -> None:
    """A table on stdout."""
    click.echo(table.to_string(index=index, header=header, float_format="{:,.4f}".format))


def write(path: Path | None, write_to: Callable[[Path], object]) -> None:
    """Write a file that was asked for, whole or not at all, and say so."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        write_to(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    click.echo(f"Written: {path}", err=True)
