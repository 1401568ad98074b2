"""What the documents promise: public names, their docstrings, and README's code and commands."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pypsa
import pytest

import pypsa_p2p as p2p
from tests.site import blocks as code_and_text
from tests.site import pages

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

PUBLIC = [name for name in p2p.__all__ if not inspect.ismodule(getattr(p2p, name))]
ERRORS = [name for name in PUBLIC if name.endswith("Error")]
#: What users call: all but errors, and what is only handed to them or derived from.
HANDED = ("Certificate", "Equilibrium", "Market", "RiskMeasure", "SocialCost")
CALLED = [name for name in PUBLIC if name not in (*ERRORS, *HANDED)]


def parameters_of(documented: Any) -> list[str]:
    """Names of the parameters a caller may give, without * and **."""
    return list(inspect.signature(documented).parameters)


def documented_parameters(documented: Any) -> set[str]:
    """Names under "Parameters" of a numpydoc docstring."""
    text = inspect.getdoc(documented) or ""
    _, _, rest = text.partition("Parameters\n----------\n")
    section = re.split(r"\n\n\w[\w ]*\n-{3,}\n", rest)[0]
    entries = re.findall(r"^(\*{0,2}\w.*?)(?: : .*)?$", section, flags=re.MULTILINE)
    return {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_exported(name: str) -> None:
    assert getattr(p2p, name).__module__.startswith("pypsa_p2p")


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name: str) -> None:
    text = inspect.getdoc(getattr(p2p, name))
    assert text
    assert text.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", CALLED)
def test_every_parameter_is_documented(name: str) -> None:
    documented = getattr(p2p, name)
    missing = set(parameters_of(documented)) - documented_parameters(documented)
    assert not missing, f"{name} says nothing of {sorted(missing)}"


@pytest.mark.parametrize("name", CALLED)
def test_public_names_are_typed(name: str) -> None:
    """A type for every parameter, and for what comes back."""
    signature = inspect.signature(getattr(p2p, name))
    untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert not untyped
    assert signature.return_annotation is not signature.empty


def test_errors_are_one_family() -> None:
    assert all(issubclass(getattr(p2p, name), p2p.P2PError) for name in ERRORS)
    assert issubclass(p2p.P2PError, ValueError)


def blocks(language: str) -> list[str]:
    """README's code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_readme_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Each block alone; that of an existing model has a test of its own."""
    (code,) = [block for block in blocks("python") if "model.nc" not in block]
    exec(compile(code, "README.md", "exec"), {})
    assert "house" in capsys.readouterr().out


def test_readme_takes_an_existing_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five lines from a file to what everybody pays."""
    (code,) = [block for block in blocks("python") if "model.nc" in block]
    n = pypsa.Network()
    n.add("Bus", ["mill", "farm"])
    n.add("Line", "road", bus0="mill", bus1="farm", x=0.1, s_nom=9)
    n.add("Load", "saw", bus="mill", p_set=3.0)
    n.add("Generator", "engine", bus="farm", p_nom=5, marginal_cost=2.0)
    monkeypatch.chdir(tmp_path)
    n.export_to_netcdf("model.nc")
    exec(compile(code, "README.md", "exec"), {})
    assert len(re.findall(r"^\w", code, flags=re.MULTILINE)) == 6  # one import, five lines
    printed = capsys.readouterr().out
    assert "mill prosumer" in printed
    assert "6.0" in printed  # EUR, the farm's: 3 MW at 2 EUR/MWh


def test_households_of_the_studies() -> None:
    """The block about what households pay: nobody loses by trading."""
    (page,) = [page for page in pages() if page.name == "studies.md"]
    (text,) = [text for code, text in code_and_text(page) if "add_retail" in code]
    saved = ast.literal_eval(str(text))
    assert 0.0 <= saved["min"] < saved["mean"] < saved["max"]


ERRATA = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("code", "printed"),
    re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", ERRATA, flags=re.DOTALL),
    ids=re.findall(r"^## (\d+)\.(?:(?!^## ).)*?```python", ERRATA, flags=re.DOTALL | re.MULTILINE),
)
def test_docs_of_errata_run(code: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each block alone; it prints what stands below it."""
    exec(compile(code, "docs/errata.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_every_block_of_errata_says_what_it_prints() -> None:
    assert ERRATA.count("```python\n") == ERRATA.count("```text\n") > 0


def test_commands_of_errata_exist() -> None:
    tests = re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", ERRATA)
    assert tests
    for file, name in tests:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
    examples = re.findall(r"examples/\w+\.py", ERRATA)
    assert examples
    assert all((ROOT / example).is_file() for example in examples)


def test_readme_has_two_commands() -> None:
    """Each one line; the second is the one line that .ci/run finds and runs."""
    job, tests = (block.strip() for block in blocks("bash"))
    for command in (job, tests):
        assert "\n" not in command
        assert command.startswith("python3 -m venv ")
    assert "python -m pypsa_p2p" in job
    runner = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"grep -E '(.*?)' README.md", runner)
    assert re.findall(rf"{pattern}.*", README, flags=re.MULTILINE) == [tests]


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([\w./-]+)\)", README)
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
