"""Bars are for people who watch: on a terminal, not in a log."""

from __future__ import annotations

import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common import progress
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


def test_large_markets_say_how_far_the_solver_is(
    terminal: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    n, market = p2p.load_grid("three_node"), p2p.PeerToPeerMarket(risk=p2p.CVaR())
    market.optimize(n)
    assert "iterations" not in terminal.readouterr().err
    monkeypatch.setattr(progress, "LARGE", 10)
    market.optimize(n)
    seen = terminal.readouterr().err
    assert "variables" in seen
    assert "iterations" in seen
