"""What users install holds all the package needs away from its checkout."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pypsa_p2p

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout, built without asking the network for anything."""
    pytest.importorskip("hatchling", reason="building a wheel takes hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    package = ROOT / "pypsa_p2p"
    files = {p for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    missing = {p.relative_to(ROOT).as_posix() for p in files} - set(wheel.namelist())
    assert (package / "py.typed") in files
    assert not missing


def test_wheel_holds_every_grid(wheel: zipfile.ZipFile) -> None:
    grids = ROOT / "grids"
    tables = [p for p in grids.rglob("*") if p.suffix in {".csv", ".toml", ".md"}]
    assert {p.relative_to(grids).parts[0] for p in tables} >= {"ieee14", "three_node"}
    for path in tables:
        inside = f"pypsa_p2p/_grids/{path.relative_to(grids).as_posix()}"
        assert wheel.read(inside) == path.read_bytes()


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"pypsa_p2p", f"pypsa_p2p-{pypsa_p2p.__version__}.dist-info"}


def test_one_version() -> None:
    assert pypsa_p2p.__version__ == importlib.metadata.version("pypsa-p2p")
    for name in ("CITATION.cff", "CHANGELOG.md"):
        assert pypsa_p2p.__version__ in (ROOT / name).read_text(encoding="utf-8")
