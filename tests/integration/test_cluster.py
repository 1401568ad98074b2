"""examples/cluster: its scripts as they are, with stand-ins for what starts jobs on a cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from math import prod
from pathlib import Path
from types import SimpleNamespace

import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.studies.study_files import read_network, read_study
from tests.unit.sweeps import assert_same

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"
README = (CLUSTER / "README.md").read_text(encoding="utf-8")
SLURM, SNAKEMAKE, BY_HAND = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)

#: The command that `pypsa-p2p` is, whether or not it is installed.
PYPSA_P2P = "from pypsa_p2p.studies.commands import command_line; command_line()"
#: As SLURM does: all tasks of an array at once, output to a file, the job's number on stdout.
SBATCH = """
import argparse, os, re, subprocess
from pathlib import Path

p = argparse.ArgumentParser()
p.add_argument("script", nargs="?")
p.add_argument("--array")
p.add_argument("--wrap")
p.add_argument("--dependency")
p.add_argument("--parsable", action="store_true")
asked = p.parse_args()
if asked.wrap:
    jobs = {"": ["bash", "-c", asked.wrap]}
else:
    within = re.search(r"#SBATCH --array=(\\S+)", Path(asked.script).read_text())[1]
    tasks = []
    for part in (asked.array or within).split(","):
        first, _, last = part.partition("-")
        tasks += range(int(first), int(last or first) + 1)
    jobs = {str(task): ["bash", asked.script] for task in tasks}
with open("slurm.out", "a") as out:
    running = []
    for task, job in jobs.items():
        env = {**os.environ, "SLURM_ARRAY_TASK_ID": task}
        running.append(subprocess.Popen(job, env=env, stdout=out, stderr=out))
    for job in running:
        job.wait()
print(1 if asked.parsable else "Submitted batch job 1")
"""


#: The example's study with fewer values: six points.
STUDY = re.sub(
    r"attitude = .*\nrenewables = .*",
    "attitude = [0.1, 0.4, 0.7]\nrenewables = [0.8]",
    (CLUSTER / "study.toml").read_text(encoding="utf-8"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """The study in one process, without a store."""
    path = tmp_path_factory.mktemp("whole") / "study.toml"
    path.write_text(STUDY, encoding="utf-8")
    study = read_study(path)
    d = p2p.sweep(read_network(study.network), study.markets, study.over, progress=False)
    assert (d.error == "").all()
    assert d.error.size == 6
    return d


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example, in which `pypsa-p2p` and `sbatch` are commands."""
    folder = tmp_path / "cluster"
    shutil.copytree(CLUSTER, folder)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, code in {"pypsa-p2p": PYPSA_P2P, "sbatch": SBATCH}.items():
        script = commands / name
        script.write_text(f"#!{sys.executable}\n{code}", encoding="utf-8")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(Path(p2p.__file__).parents[1]), prepend=os.pathsep)
    monkeypatch.chdir(folder)
    return folder


def shell(commands: str) -> None:
    command = ["bash", "-euc", commands]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def times() -> dict[str, int]:
    """When every point was written."""
    return {path.name: path.stat().st_mtime_ns for path in Path("points").iterdir()}


def require_the_same(whole: xr.Dataset) -> None:
    with xr.load_dataset("study.nc") as d:
        assert_same(d, whole)


def test_slurm(here: Path, whole: xr.Dataset) -> None:
    """Both lines of the README, four shards in processes of their own."""
    shell(SLURM)
    assert len(list(Path("points").iterdir())) == 6
    require_the_same(whole)


def test_lost_shards(here: Path, whole: xr.Dataset) -> None:
    """README's way to find out and mend it; what is there is not written again."""
    _, collect = SLURM.splitlines()
    collect = collect.replace("$array", "1")
    (mend,) = re.findall(r"`(sbatch --array=2,3 .*?)`", README)
    shell(mend.replace("2,3", "1,4"))
    kept = times()
    shell(collect)
    assert "3 of 6 points are not in points" in Path("slurm.out").read_text()
    assert "They belong to shards 2, 3 of 4." in Path("slurm.out").read_text()
    assert not Path("study.nc").exists()
    shell(mend)
    assert times().items() >= kept.items()
    shell(collect)
    require_the_same(whole)


def test_snakemake(here: Path, whole: xr.Dataset) -> None:
    """The commands of the Snakefile's rules, for all that the first of them asks for."""
    assert SNAKEMAKE == "snakemake --cores 2\n"
    text = (here / "Snakefile").read_text(encoding="utf-8")
    collect, shard = re.findall(r'shell: "(.*)"', text)
    shards = int(re.findall(r"^SHARDS = (\d+)$", text, flags=re.MULTILINE)[0])
    assert 'expand("shards/{k}", k=range(1, SHARDS + 1))' in text
    names = [SimpleNamespace(k=k) for k in range(1, shards + 1)]
    shell("\n".join(f"{shard.format(wildcards=k, SHARDS=shards)} &" for k in names) + "\nwait")
    shell(collect.format(output="study.nc"))
    require_the_same(whole)


def test_by_hand(here: Path, whole: xr.Dataset) -> None:
    shell(BY_HAND)
    require_the_same(whole)


def test_all_scripts_run_the_same_commands() -> None:
    """One for every shard and one in the end, whoever starts them: `test_slurm` runs both."""
    texts = [(CLUSTER / name).read_text("utf-8") for name in ("Snakefile", "sweep.sbatch")]
    found = re.findall(r"pypsa-p2p sweep [^\n&]+", "\n".join([*texts, SLURM, BY_HAND]))
    given = {re.sub(r"(--shard|--out) \S+", r"\1", command).strip(' "') for command in found}
    sweep = "pypsa-p2p sweep study.toml --store points"
    assert len(found) == 7
    assert given == {f"{sweep} --shard", f"{sweep} --collect --out"}


def test_array_and_parts_agree() -> None:
    """A part of the array is still a part of all shards."""
    text = (CLUSTER / "sweep.sbatch").read_text(encoding="utf-8")
    last = re.findall(r"#SBATCH --array=1-(\d+)$", text, flags=re.MULTILINE)
    assert last == re.findall(r"^shards=(\d+)", text, flags=re.MULTILINE)


def test_study_of_the_example() -> None:
    """As it is, not with fewer values."""
    study = read_study(CLUSTER / "study.toml")
    assert len(study.markets) * prod(len(values) for values in study.over.values()) == 24
    assert "24 markets" in (CLUSTER / "study.toml").read_text(encoding="utf-8")
