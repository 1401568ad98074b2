"""Bars are for people who watch: on a terminal, not in a log."""

from __future__ import annotations

import pytest

from pypsa_p2p.common.progress import progress_bar


def run(shown: bool = True) -> None:
    with progress_bar(2, "walk", "step", shown=shown) as bar:
        bar.update(2)


def test_a_terminal_shows_a_bar(terminal: pytest.CaptureFixture[str]) -> None:
    run()
    seen = terminal.readouterr()
    assert "walk: 100%" in seen.err
    assert "step/s" in seen.err
    assert not seen.out
    run(shown=False)
    assert not terminal.readouterr().err


def test_a_log_stays_without_bars(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert capsys.readouterr() == ("", "")
