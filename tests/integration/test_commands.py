"""The commands ``solve``, ``compare`` and ``sweep``: what they write and how they fail."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.__main__ import main as run_main

mpl.use("Agg")

STUDY = """
network = "three_node"

[markets.alone]
design = "centralized"
risk = true
surplus = false

[markets.contracts]
risk = { weight = 0.5 }
contracts = true

[over]
attitude = [0.0, 0.5]
"""


def main(command: str) -> int:
    return run_main(command.split())


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_solve_writes_network_results_and_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    command = "solve three_node --risk --no-surplus --out out/n.nc --results r.nc --pictures out"
    assert main(command) == 0
    assert "13.9771" in capsys.readouterr().out  # MODEL.md section 9
    with xr.open_dataset("r.nc") as r:
        assert float(r.social_cost) == pytest.approx(13.9771248, abs=1e-6)
    assert {path.name for path in Path("out").iterdir()} == {
        "n.nc", "trades.png", "prices.png", "costs.png", "risk.png"}  # fmt: skip
    # What was written can be asked for again.
    assert main("compare out/n.nc --fairness --out table.csv") == 0
    table = pd.read_csv("table.csv", index_col="design")
    assert list(table.index) == ["centralized", "peer-to-peer", "risk-averse", "contracts"]
    assert table.social_cost["contracts"] == pytest.approx(7.9707784, abs=1e-5)
    assert table["quality_of_service"].between(0, 1).all()


def test_solve_a_network_of_ones_own() -> None:
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b"], demand=2.0, demand_max=3.0, utility_quadratic=1.0,
                      generation_max=[9.0, 0.0], marginal_cost_quadratic=0.1)  # fmt: skip
    p2p.add_trades(n, "complete", capacity=5.0)
    n.export_to_netcdf("own.nc")
    assert main("solve own.nc --market community --out solved.nc") == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solved = pypsa.Network("solved.nc")
    p2p.CentralizedMarket(aggregate="community").optimize(n)
    expected = float(p2p.results(n).social_cost)
    assert float(p2p.results(solved).social_cost) == pytest.approx(expected, abs=1e-6)


def test_solve_with_contracts_of_all_kinds() -> None:
    command = "solve three_node --insurance-price 0.35 --contract-limit 2 --results r.nc"
    assert main(command) == 0
    contracts = p2p.Contracts(insurance_price=0.35, limit=2.0)
    n = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=contracts).optimize(n)
    with xr.open_dataset("r.nc") as r:
        expected = float(p2p.results(n).social_cost)
        assert float(r.social_cost) == pytest.approx(expected, abs=1e-7)
        assert float(abs(r.contract).max()) <= 2 + 1e-6


def test_sweep_from_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.toml").write_text(STUDY, encoding="utf-8")
    command = "sweep study.toml --out s.nc --csv s.csv --store points --quiet"
    assert main(command) == 0
    table = pd.read_csv("s.csv")
    assert table[["market", "attitude"]].to_numpy().tolist() == [
        ["alone", 0.0], ["alone", 0.5], ["contracts", 0.0], ["contracts", 0.5]]  # fmt: skip
    with xr.load_dataset("s.nc") as d:
        assert d.social_cost.values.ravel().tolist() == pytest.approx(table.social_cost.tolist())
        assert float(d.social_cost.sel(market="alone", attitude=0)) == pytest.approx(7.6102899)
        assert d.social_cost.attrs["unit"] == "EUR"
    assert len(list(Path("points").glob("*.nc"))) == 4
    assert main(command) == 0
    assert "contracts" in capsys.readouterr().out


def test_documented_study_runs() -> None:
    """The TOML and the Python of docs/studies.md, as they are."""
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    (study,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    Path("study.toml").write_text(study, encoding="utf-8")
    assert main("sweep study.toml --csv s.csv --quiet") == 0
    assert len(pd.read_csv("s.csv")) == 4
    session: dict[str, Any] = {}
    exec(compile(code, "studies.md", "exec"), session)
    assert (session["saved"] > 0).all()


def test_failed_points_show_in_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.toml").write_text(STUDY.replace("0.5]", "1.5]"), encoding="utf-8")
    assert main("sweep study.toml --csv s.csv --quiet") == 1
    assert "2 of 4 points failed" in capsys.readouterr().err
    assert pd.read_csv("s.csv").error.str.contains("must lie in").sum() == 2


@pytest.mark.parametrize(
    ("command", "file", "message"),
    [
        ("solve nothing.nc", "", "There is no file nothing.nc"),
        ("solve study.toml", "x", "PyPSA cannot read study.toml"),
        ("solve three_node --attitude 2", "", "attitude 2.0 must lie in"),
        ("sweep study.toml", "over = 1 =", "study.toml"),
        ("sweep study.toml", "[over]", "needs network"),
        ("sweep study.toml", 'network = "three_node"\nmarket = 1', "unknown: 'market'"),
        ("sweep study.toml", STUDY.replace("attitude", "mood"), "dimension 'mood'"),
        ("sweep study.toml", STUDY.replace('"centralized"', '"planned"'), "[markets.alone]"),
        ("compare three_node --markets study.toml", "[markets.a]\nhope = 1", "no setting 'hope'"),
        ("compare three_node --markets study.toml", "[markets]\na = 1", "'a' must be a table"),
        ("compare three_node --markets none.toml", "", "none.toml"),
    ],
)
def test_refusals(
    command: str, file: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message that names the command and what is wrong, exit code 2, no traceback."""
    Path("study.toml").write_text(file, encoding="utf-8")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"pypsa-p2p {command.partition(' ')[0]}: ")
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["solve", "compare", "sweep"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(f"{command} --help")
    assert ended.value.code == 0
    assert "three_node" in capsys.readouterr().out or command == "sweep"


def test_unknown_options_end_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main("solve --market bazaar three_node")
    assert ended.value.code == 2
    assert "invalid choice: 'bazaar'" in capsys.readouterr().err
