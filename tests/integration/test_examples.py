"""Every example runs as a reader would run it; each ends in asserts of its own.

Those that take long have a setting --fast, which is what runs here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("[0-9]*.py"))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    text = example.read_text(encoding="utf-8")
    if "import simbench" in text:
        pytest.importorskip("simbench")
    command = [sys.executable, str(example), *(["--fast"] if "--fast" in text else [])]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "assert" in text
