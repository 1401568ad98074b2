"""The main job, ``python -m pypsa_p2p``: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr
from click.testing import CliRunner, Result
from matplotlib.image import imread

import pypsa_p2p.studies.demonstration as job
from pypsa_p2p.network.bundled_grids import load_grid
from pypsa_p2p.solution.results import results
from pypsa_p2p.studies.commands import command_line

mpl.use("Agg")

STEMS = {name: name.replace(", ", "-") for name in job.DESIGNS}
SCENARIOS = 6


def demo(*arguments: str) -> Result:
    """The command in this process; what is not refused in plain words is raised here."""
    return CliRunner().invoke(command_line, ["demo", *arguments], catch_exceptions=False)


@dataclass(frozen=True)
class Run:
    """One run of the main job."""

    code: int
    folder: Path
    out: str
    err: str
    table: pd.DataFrame


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("job") / "new" / "folder"
    done = demo("--output", str(folder), "--scenarios", str(SCENARIOS))
    table = pd.read_csv(folder / "designs.csv", index_col="design")
    return Run(done.exit_code, folder, done.stdout, done.stderr, table)


def build(*arguments: Any) -> pypsa.Network:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return job.build_market(*arguments)[0]


def test_writes_and_lists_every_file(run: Run) -> None:
    expected = {"designs.csv", "trades.png"} | {
        f"{stem}-{kind}.nc" for stem in STEMS.values() for kind in ("network", "results")
    }
    assert run.code == 0
    assert {file.name for file in run.folder.iterdir()} == expected
    assert set(run.out.split("Written:")[1].split()) >= {
        str(run.folder / name) for name in expected
    }


def test_terminal_shows_the_table_and_progress_only(run: Run) -> None:
    for name, row in run.table.iterrows():
        line = next(line for line in run.out.splitlines() if line.startswith(f"{name!s:22} "))
        assert f"{row.social_cost:,.1f}" in line
        assert f"{row.traded_energy:,.1f}" in line
    assert [line.split(" ... ")[0] for line in run.err.splitlines()] == [
        f"[{k}/4] {name}" for k, name in enumerate(job.DESIGNS, start=1)
    ]
    assert "Warning" not in run.out
    table_and_text = run.out.split("Written:")[0].splitlines()
    assert max(map(len, table_and_text[1:])) <= 80


def test_sentences_state_differences_of_the_table(run: Run) -> None:
    social = run.table["social_cost"]
    risk = social["risk-averse"] - social["peer-to-peer"]
    saved = social["risk-averse"] - social["risk-averse, contracts"]
    assert f"Risk costs {risk:,.1f} EUR" in run.out
    assert f"Contracts save {saved:,.1f} EUR, {saved / risk:.0%} of that" in run.out


def test_laws_hold_between_the_designs(run: Run) -> None:
    """a = 0: equilibrium = optimum; RN <= with contracts <= RA (MODEL.md §4, §5, §9)."""
    social, loss = run.table["social_cost"], run.table["efficiency_loss"]
    assert social["peer-to-peer"] == pytest.approx(social["centralized"], abs=1e-5)
    assert social["peer-to-peer"] < social["risk-averse, contracts"] < social["risk-averse"]
    # Contracts bring the risk-neutral dispatch back; without them prosumers leave it.
    assert loss["risk-averse, contracts"] == pytest.approx(0.0, abs=1e-4)
    assert loss["risk-averse"] > 1.0
    assert (run.table["price_min"] <= run.table["price_mean"]).all()
    assert (run.table["price_mean"] <= run.table["price_max"]).all()


@pytest.mark.parametrize("design", job.DESIGNS)
def test_network_reloads_with_the_stored_results(run: Run, design: str) -> None:
    stem = STEMS[design]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyPSA about its own reading of netCDF
        again = results(pypsa.Network(run.folder / f"{stem}-network.nc"))
    with xr.open_dataset(run.folder / f"{stem}-results.nc") as stored:
        assert set(stored) == set(again)
        assert dict(stored.sizes) == dict(again.sizes)
        for name in stored:
            one, other = stored[name], again[name].reindex_like(stored[name])
            np.testing.assert_allclose(other, one, atol=1e-9, rtol=1e-9, err_msg=str(name))
            assert stored[name].attrs["unit"] == again[name].attrs["unit"]


def test_social_cost_of_the_stored_results_is_the_tables(run: Run) -> None:
    for design, stem in STEMS.items():
        with xr.open_dataset(run.folder / f"{stem}-results.nc") as stored:
            assert float(stored["social_cost"]) == pytest.approx(
                run.table.loc[design, "social_cost"], rel=1e-12
            )


def test_picture_shows_something(run: Run) -> None:
    image = imread(run.folder / "trades.png")
    assert min(image.shape[:2]) > 500
    assert 0.02 < (image[..., :3].min(axis=2) < 0.95).mean() < 0.5


def test_default_market_is_the_bundled_one() -> None:
    ours, theirs = build("bundled"), load_grid("ieee14", market=True)
    pd.testing.assert_frame_equal(ours.scenario_weightings, theirs.scenario_weightings)
    for component in ("Bus", "Generator", "Load", "Link", "Line", "Transformer"):
        one, other = ours.c[component], theirs.c[component]
        columns = list(other.static)
        pd.testing.assert_frame_equal(one.static[columns], other.static, check_dtype=False)
        for attribute, series in other.dynamic.items():
            pd.testing.assert_frame_equal(one.dynamic[attribute], series, obj=attribute)


def test_pandapower_gives_the_same_market() -> None:
    pytest.importorskip("pandapower")
    ours, theirs = build("pandapower"), build("bundled")
    assert set(ours.buses.index) == set(theirs.buses.index)
    for component, columns in {"Line": ["x", "r"], "Transformer": ["x"], "Bus": ["x", "y"]}.items():
        one, other = ours.c[component].static, theirs.c[component].static
        pd.testing.assert_frame_equal(one[columns], other[columns].loc[one.index])
    pd.testing.assert_frame_equal(ours.generators_t.p_max_pu, theirs.generators_t.p_max_pu)


def test_options_reach_the_market() -> None:
    uniform = build("bundled", 3, None, "uniform")
    assert len(uniform.scenarios) == 3
    trades = uniform.links[uniform.links.carrier == "p2p"]
    assert (trades[["price0", "price1"]] == 1.0).all(axis=None)
    one, same, other = (build("bundled", 2, seed, "heterogeneous") for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one.links, same.links)
    assert not one.links["price0"].equals(other.links["price0"])
    assert not one.loads_t.p_set.equals(other.loads_t.p_set)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--prices", "free"],
        ["--scenarios", "0"],
        ["--scenarios", "many"],
        ["--seed", "-1"],
        ["--grid", "case9"],
        ["nonsense"],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    done = demo(*arguments)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr


def test_pandapower_asked_for_and_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "find_spec", lambda _: None)
    done = demo("--grid", "pandapower", "--output", str(tmp_path))
    assert done.exit_code == 1
    assert "pip install" in done.stderr


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    taken = tmp_path / "results"
    taken.write_text("in the way")
    done = demo("--output", str(taken))
    assert done.exit_code == 1
    assert str(taken) in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenarios", "0"], "Invalid value for '--scenarios': 0 is not in the range"),
        (["solve"], "Missing argument 'NETWORK'"),
    ],
    ids=["demonstration", "other command"],
)
def test_as_a_program_without_traceback(arguments: list[str], message: str) -> None:
    """``python -m pypsa_p2p`` is the demonstration, and any other command where one is named."""
    command = [sys.executable, "-m", "pypsa_p2p", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: python -m pypsa_p2p ")
    assert "Traceback" not in done.stderr
    assert message in done.stderr
