"""The command line: what its commands write, what its help says, and how they fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pypsa
import pytest
import xarray as xr
from click.testing import CliRunner, Result

import pypsa_p2p as p2p
from pypsa_p2p.studies.commands import command_line

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


COMMANDS = ["make", "solve", "compare", "sweep", "demo"]
#: The command that `pypsa-p2p` is, whether or not it is installed.
SCRIPT = "from pypsa_p2p.studies.commands import command_line; command_line(prog_name='pypsa-p2p')"


def run(command: str) -> Result:
    """A command in this process; what is not refused in plain words is raised here."""
    return CliRunner().invoke(
        command_line, command.split(), prog_name="pypsa-p2p", catch_exceptions=False
    )


def main(command: str) -> int:
    return run(command).exit_code


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_solve_writes_network_results_and_pictures() -> None:
    command = "solve three_node --risk --no-surplus --out out/n.nc --results r.nc --pictures out"
    done = run(command)
    assert done.exit_code == 0
    assert "13.9771" in done.stdout  # MODEL.md section 9
    assert done.stderr.splitlines()[0] == f"Written: {Path('out/n.nc')}"
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


def test_make_a_market_of_a_model() -> None:
    """By bus and along the grid, or by tables: the network that the builders make."""
    n = pypsa.Network()
    n.add("Bus", ["mill", "farm"])
    n.add("Line", "road", bus0="mill", bus1="farm", x=0.1, s_nom=9)
    n.add("Load", "saw", bus="mill", p_set=3.0)
    n.add("Generator", "engine", bus="farm", p_nom=5, marginal_cost=2.0)
    n.export_to_netcdf("model.nc")
    assert main("make model.nc --capacity 4 --fee 0.5 --attitude 0.3 --out made.nc") == 0
    assert main("solve made.nc --out solved.nc") == 0
    p2p.assign_prosumers(n, "bus", risk_attitude=0.3)
    p2p.add_trades(n, "grid", capacity=4, fee=0.5)
    p2p.PeerToPeerMarket().optimize(n)
    solved = pypsa.Network("solved.nc")
    xr.testing.assert_allclose(p2p.results(solved).cost, p2p.results(n).cost)
    assert solved.buses.risk_attitude["mill prosumer"] == 0.3

    Path("owners.csv").write_text("asset,prosumer\nsaw,Ann\nengine,Bob\n", encoding="utf-8")
    Path("trades.csv").write_text("one,other\nAnn,Bob\n", encoding="utf-8")
    command = "make model.nc --owner owners.csv --trades trades.csv --capacity 4 --out named.nc"
    assert main(command) == 0
    assert {"Ann", "Bob"} <= set(pypsa.Network("named.nc").buses.index)
    assert main("make model.nc --owner nowhere.csv --capacity 4 --out x.nc") == 1
    Path("one.csv").write_text("asset\nsaw\n", encoding="utf-8")
    result = run("make model.nc --owner one.csv --capacity 4 --out x.nc")
    assert (result.exit_code, Path("x.nc").exists()) == (1, False)
    assert "must have two columns, asset and prosumer, not 1" in result.stderr


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


def test_sweep_from_a_file() -> None:
    Path("study.toml").write_text(STUDY, encoding="utf-8")
    command = "sweep study.toml --out s.nc --csv s.csv --store points"
    assert main(command) == 0
    table = pd.read_csv("s.csv")
    assert table[["market", "attitude"]].to_numpy().tolist() == [
        ["alone", 0.0], ["alone", 0.5], ["contracts", 0.0], ["contracts", 0.5]]  # fmt: skip
    with xr.load_dataset("s.nc") as d:
        assert d.social_cost.values.ravel().tolist() == pytest.approx(table.social_cost.tolist())
        assert float(d.social_cost.sel(market="alone", attitude=0)) == pytest.approx(7.6102899)
        assert d.social_cost.attrs["unit"] == "EUR"
    assert len(list(Path("points").glob("*.nc"))) == 4
    done = run(command)
    assert done.exit_code == 0
    assert "contracts" in done.stdout
    assert "sweep: " not in done.stderr  # no bar where there is no terminal


def test_documented_study_runs() -> None:
    """The TOML and the Python of docs/studies.md, as they are."""
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    (study,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    Path("study.toml").write_text(study, encoding="utf-8")
    assert main("sweep study.toml --csv s.csv --quiet") == 0
    assert len(pd.read_csv("s.csv")) == 4
    sessions: list[dict[str, Any]] = [{} for _ in blocks]
    for session, code in zip(sessions, blocks, strict=True):
        exec(compile(code, "studies.md", "exec"), session)
    assert any("saved" in session and (session["saved"] > 0).all() for session in sessions)


def test_failed_points_show_in_the_exit_code() -> None:
    Path("study.toml").write_text(STUDY.replace("0.5]", "1.5]"), encoding="utf-8")
    done = run("sweep study.toml --csv s.csv --quiet")
    assert done.exit_code == 1
    assert "2 of 4 points failed" in done.stderr
    assert pd.read_csv("s.csv").error.str.contains("must be a number in").sum() == 2


def test_shards_and_what_they_lack() -> None:
    """A refused point is done: a shard with one ends well, and collecting tells of both refused."""
    Path("study.toml").write_text(STUDY.replace("0.5]", "1.5]"), encoding="utf-8")
    sweep = "sweep study.toml --store points"
    refused(
        f"{sweep} --collect --out s.nc", "2 of 4 points are not in points, the first at market=a"
    )
    done = run(f"{sweep} --shard 1/2")
    assert done.exit_code == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        ["alone", "0.0000"], ["contracts", "0.0000"]]  # fmt: skip
    assert main(f"{sweep} --shard 2/2") == 0
    done = run(f"{sweep} --collect --out s.nc --csv s.csv")
    assert done.exit_code == 1
    assert "2 of 4 points failed" in done.stderr
    assert len(pd.read_csv("s.csv")) == 4
    with xr.open_dataset("s.nc") as d:
        assert (d.error != "").sum() == 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("solve nothing.nc", "There is no file nothing.nc"),
        ("solve study.toml", "PyPSA cannot read study.toml"),
        ("solve model.h5", "model.h5 is HDF5, in which PyPSA keeps tables as pickles"),
        ("solve three_node --attitude 2", "attitude 2.0 must be a number in"),
        ("solve three_node --delivery grid", "no place on the grid"),
        ("compare three_node --markets none.toml", "none.toml cannot be read: No such file"),
        ("sweep none.toml", "none.toml cannot be read: No such file"),
        ("sweep .", ". cannot be read: Is a directory"),
        ("demo --output study.toml", "study.toml"),
    ],
)
def test_refusals(command: str, message: str) -> None:
    """What is wrong on stderr, exit code 1, no traceback."""
    Path("study.toml").write_text("", encoding="utf-8")
    refused(command, message)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("over = 1 =", "study.toml is not TOML"),
        ("[over]", 'needs network = "..."'),
        ("network = 5", "'network' must be written as in network = "),
        ('network = "three_node"\nover = [0.5]', "'over' must be written as in network = "),
        ('network = "three_node"\nmarkets = 1', "'markets' must be written as in network = "),
        ('netwrok = "three_node"', "no 'netwrok'; it may have network = "),
        (STUDY.replace("markets.", "market."), "no 'market'; it may have network = "),
        (STUDY.replace("[over]", "[ovr]"), "no 'ovr'; it may have network = "),
        (STUDY.replace("attitude", "mood"), "dimension 'mood'; it knows attitude, weight"),
        (STUDY.replace('"centralized"', '"planned"'), "[markets.alone]"),
        ('network = "model.h5"', "model.h5 is HDF5, in which PyPSA keeps tables as pickles"),
        ('network = "no.nc"', "There is no file no.nc, and no bundled grid of this name"),
    ],
)
def test_studies_refused(file: str, message: str) -> None:
    """Names that mean nothing are told, with those that do."""
    Path("study.toml").write_text(file, encoding="utf-8")
    refused("sweep study.toml", message)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("[market.x]\nrisk = true", "no 'market'; it may have network = "),
        ("[x]\nrisk = true", "no 'x'; it may have network = "),
        ("risk = true", "no 'risk'; it may have network = "),
        ("", "there are no markets; give each a table, [markets.NAME]"),
        ("[markets]", "give each a table, [markets.NAME]"),
        ("[markets]\na = 1", "'a' must be a table"),
        ("[markets.a]\nhope = 1", "[markets.a]: A market has no setting 'hope'. It has design: "),
        ("[markets.a]\nrisk = { atitude = 0.5 }", "'atitude'; it may be true, or a table of att"),
    ],
)
def test_markets_refused(file: str, message: str) -> None:
    """A misspelt table does not pass for none at all, which would be the usual designs."""
    Path("study.toml").write_text(file, encoding="utf-8")
    refused("compare three_node --markets study.toml", message)


def test_a_file_that_cannot_be_written() -> None:
    Path("taken").write_text("", encoding="utf-8")
    done = run("solve three_node --out taken/n.nc")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert "taken" in done.stderr


def test_text_that_is_not_utf8() -> None:
    Path("study.toml").write_bytes(b'network = "r\xe9seau.nc"')
    refused("sweep study.toml", "study.toml is not in UTF-8, as TOML must be")


def refused(command: str, message: str) -> None:
    done = run(command)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("solve", "Missing argument 'NETWORK'"),
        ("solve three_node three_node", "unexpected extra argument"),
        ("solve --market bazaar three_node", "'bazaar' is not one of 'centralized'"),
        ("solve --attitude much three_node", "'much' is not a valid float"),
        ("solve --atitude 0.5 three_node", "No such option"),
        ("sweep study.toml --workers 0", "0 is not in the range x>=1"),
        (
            "sweep study.toml --store points --shard 0/40",
            "--shard '0/40' is none; give K/M, the K-",
        ),
        ("sweep study.toml --store points --shard 41/40", "--shard '41/40' is none; give K/M"),
        ("sweep study.toml --store points --shard 3", "--shard '3' is none; give K/M"),
        ("sweep study.toml --store points --shard x/y", "--shard 'x/y' is none; give K/M"),
        ("sweep study.toml --shard 3/40", "--shard needs a store"),
        ("sweep study.toml --collect", "--collect needs a store"),
        ("sweep study.toml --store p --collect --shard 1/2", "--shard is one part and collect"),
        ("sweep study.toml --store p --shard 1/2 --out s.nc", "leave --out and --csv to --collect"),
        ("solv three_node", "No such command 'solv'"),
    ],
)
def test_wrong_usage_ends_with_code_2(command: str, message: str) -> None:
    done = run(command)
    assert done.exit_code == 2
    assert done.stderr.startswith("Usage: pypsa-p2p ")
    assert message in done.stderr


def test_help_names_commands_before_options() -> None:
    done = run("--help")
    assert done.exit_code == 0
    places = [done.stdout.index(text) for text in ("Commands:", *COMMANDS, "Options:", "--version")]
    assert places == sorted(places)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str) -> None:
    done = run(f"{command} --help")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: pypsa-p2p {command} ")
    assert "three_node" in done.stdout or command in ("make", "demo")


def test_version() -> None:
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"pypsa-p2p, version {p2p.__version__}\n")


def test_no_command_is_a_question_for_help() -> None:
    """As with click's other programs: the help on stderr, exit code 2, and no work."""
    done = run("")
    assert done.exit_code == 2
    assert done.stderr == run("--help").stdout
    assert not done.stdout
    assert not list(Path().iterdir())


def as_program(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, which finds this package from any folder."""
    paths = [str(Path(p2p.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **settings}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=300, check=False
    )


def test_as_a_program_without_traceback() -> None:
    done = as_program("-c", SCRIPT, "solve", "nothing.nc")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: There is no file nothing.nc")
    assert "Traceback" not in done.stderr


def test_completion_of_the_shell() -> None:
    words = {"COMP_WORDS": "pypsa-p2p s", "COMP_CWORD": "1"}
    done = as_program("-c", SCRIPT, _PYPSA_P2P_COMPLETE="bash_complete", **words)
    assert done.stdout.split() == ["plain,solve", "plain,sweep"]


def test_the_package_does_without_click() -> None:
    """Only the commands import it."""
    done = as_program("-c", "import sys, pypsa_p2p; print('click' in sys.modules)")
    assert done.stdout.split() == ["False"]
