"""Blocks of the documents, and what they print: ``python -m tests.site docs/page.md`` writes it.

A block is Python that runs alone; a block of text right behind it is what it prints.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib as mpl

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<text>.*?)```\n)?", re.DOTALL)


def pages() -> list[Path]:
    """README and all documents with blocks of Python, but those of the gallery."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    of_examples = ROOT / "docs" / "gallery"
    return [
        page
        for page in found
        if page.parent != of_examples and _BLOCK.search(page.read_text(encoding="utf-8"))
    ]


def blocks(page: Path) -> list[tuple[str, str | None]]:
    """Code, and what it is said to print."""
    text = page.read_text(encoding="utf-8")
    return [(found["code"], found["text"]) for found in _BLOCK.finditer(text)]


def printed_by(code: str, where: Path) -> str:
    """What a block prints, alone, in a folder."""
    mpl.use("Agg")
    before, out = Path.cwd(), io.StringIO()
    os.chdir(where)
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, "a block of the documents", "exec"), {"__name__": "__main__"})
    finally:
        os.chdir(before)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def rewritten(page: Path) -> str:
    """The page with what its blocks print, behind each that prints anything."""

    def block(found: re.Match[str]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            printed = printed_by(found["code"], Path(folder))
        text = f"\n```text\n{printed}```\n" if printed else ""
        return f"```python\n{found['code']}```\n{text}"

    return _BLOCK.sub(block, page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(rewritten(path), encoding="utf-8")
