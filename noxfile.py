"""All checks on both stacks: `nox`. One of them: `nox -s quick`, `nox -s "tests(stack='new')"`."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "docs", "tests"]

# pandapower 3.5 asks for pandas 2, which PyPSA 1.2 is the last to accept.
STACKS = {
    "new": (".[test]", "pandas>=3"),
    "pandapower": (".[test,simbench]", "pandas<3"),
}
# What depends on the versions of PyPSA and pandas: tables in, tables out, other packages. The
# laws and the solvers depend on numbers alone.
ON_OLDER_PANDAS = (
    "pypsa_p2p",
    "tests/by_hand",
    "tests/conversions",
    "tests/integration/test_commands.py",
    "tests/integration/test_examples.py::test_example[13_a_real_community]",
    "tests/integration/test_existing_models.py",
    "tests/integration/test_main_job.py",
    "tests/integration/test_pandapower.py",
    *(
        f"tests/unit/test_{name}.py"
        for name in (
            "assigning", "bids", "building", "costs", "grids", "objective", "prosumers", "results",
            "roles", "scenarios", "stale", "study", "trades",
        )
    ),
)  # fmt: skip
# What is run after every change: on the direct route, without what takes longest.
QUICK = (
    "pypsa_p2p", "tests/by_hand", "tests/unit", "-k", "not hook",
    *(
        f"--ignore=tests/{name}.py"
        for name in (
            "by_hand/test_contract_prices", "by_hand/test_contracts", "by_hand/test_units",
            "unit/test_assigning", "unit/test_building", "unit/test_fairness", "unit/test_grids",
            "unit/test_markets", "unit/test_markets_unsolvable", "unit/test_plot",
            "unit/test_plot_over_time", "unit/test_plot_scales", "unit/test_power_flow",
            "unit/test_results", "unit/test_scenarios", "unit/test_site", "unit/test_stale",
            "unit/test_study", "unit/test_sweeping", "unit/test_ties",
        )
    ),
)  # fmt: skip
# The test workers fill the cores; threads of BLAS inside them would only be in the way.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@nox.session
@nox.parametrize("stack", list(STACKS))
def tests(session: nox.Session, stack: str) -> None:
    """Tests and doctests, with the newest PyPSA or with pandapower."""
    session.install("-q", "-e", *STACKS[stack])
    session.run("pip", "list")
    what = session.posargs or (ON_OLDER_PANDAS if stack == "pandapower" else ())
    session.run("pytest", "-n", "2", "--dist", "worksteal", *what, env=ONE_THREAD)


@nox.session
@nox.parametrize("stack", list(STACKS))
def newest(session: nox.Session, stack: str) -> None:
    """Tests with pre-releases of what the package stands on; a schedule runs it, not CI."""
    package, pandas = STACKS[stack]
    more = ("pandapower",) if stack == "pandapower" else ()
    session.install("-q", "-e", package, pandas)
    on = ("pypsa", "linopy", "highspy", "xarray", pandas, *more)
    session.install("-q", "--pre", "--upgrade", *on)
    session.run("pip", "list")
    what = session.posargs or (*ON_OLDER_PANDAS, "tests/conformance")
    session.run("pytest", "-n", "2", "--dist", "worksteal", "-q", *what, env=ONE_THREAD)


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Linters, doctests, most tests by hand and of single modules; installed once."""
    install_once(session)
    linters(session)
    session.run("pytest", "-q", "-n", "2", "--dist", "worksteal", *QUICK, env=ONE_THREAD)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format; mypy's types."""
    session.install("-q", "-e", ".[lint]")
    linters(session)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site in site/; a warning is an error."""
    session.install("-q", "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", "-q", env={"NO_MKDOCS_2_WARNING": "1"})


def linters(session: nox.Session) -> None:
    """Ruff's rules and format; mypy's types."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


def install_once(session: nox.Session) -> None:
    """The package and its tools, where they were not installed for this very pyproject.toml."""
    wanted = Path("pyproject.toml").read_text(encoding="utf-8")
    done = Path(session.virtualenv.location, "installed.toml")
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        session.install("-q", "-e", ".[dev]")
        done.write_text(wanted, encoding="utf-8")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Times of whole calls and their parts beside raw solvers, for README's table."""
    session.install("-q", "-e", ".[test]")
    session.run("pytest", "-m", "benchmark", "-s", "tests/benchmarks", *session.posargs)
