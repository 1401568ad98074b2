"""Thresholds stand in one place, and fit each other."""

from __future__ import annotations

import ast
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import pypsa_p2p
from pypsa_p2p.common.accuracy import ACCURACY, Accuracy

PACKAGE = Path(pypsa_p2p.__file__).parent
FILES = [path for path in PACKAGE.rglob("*.py") if path.name != "accuracy.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_threshold_stands_elsewhere(path: Path) -> None:
    """No number below a thousandth in code: it would be a threshold of its own."""
    numbers = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    assert not [value for value in numbers if 0 < abs(value) < 1e-3]


def test_thresholds_fit_each_other() -> None:
    """What is asked is tighter than what is believed, and that than what is promised."""
    a = ACCURACY
    assert a.rounding < a.solver * 10
    assert a.solver < a.good < a.acceptable < a.acceptable_risk < a.promised
    assert a.interior < a.good
    assert a.good < a.no_price  # what solvers leave in a multiplier is not taken for one
    assert a.tied < a.tie_good < a.promised
    assert a.room < a.promised
    with pytest.raises(ValueError, match="do not rise"):
        Accuracy(good=1e-3)
    with pytest.raises(FrozenInstanceError):
        a.good = 1.0  # type: ignore[misc]
