"""Modules form floors: each imports only from its own floor or from those below, and in no circle.

The floors are also the map of the code in CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pypsa_p2p

PACKAGE = Path(pypsa_p2p.__file__).parent

#: Floor of every module; a folder stands for all modules in it. Names not written yet are allowed.
FLOORS = {
    # 0: words, errors, and the forms of values users may give
    "names": 0,
    "errors": 0,
    "values": 0,
    "files": 0,
    "tables": 0,
    "quiet": 0,
    "progress": 0,
    "accuracy": 0,
    "units": 0,
    # 1: networks from and to tables; small value types
    "prosumers": 1,
    "assigning": 1,
    "meters": 1,
    "originals": 1,
    "releasing": 1,
    "trades": 1,
    "scenarios": 1,
    "sampling": 1,
    "copula": 1,
    "histories": 1,
    "grids": 1,
    "pandapower": 1,
    "pandapower_branches": 1,
    "pandapower_costs": 1,
    "pandapower_demand": 1,
    "pandapower_islands": 1,
    "pandapower_supply": 1,
    "pandapower_tables": 1,
    "risk": 1,
    "contracts": 1,
    "contract_terms": 1,
    "weights": 1,
    "market_data": 1,
    "ownership": 1,
    "sites": 1,
    "costs": 1,
    # 2: algebra
    "formulation": 2,
    "solvers": 2,
    # 3: problems and their answers
    "market": 3,
    "markets": 3,
    "assembly": 3,
    "checks": 3,
    "record": 3,
    "writing": 3,
    "results": 3,
    "grid_prices": 3,
    "hedging": 3,
    "infeasibility": 3,
    "mixed_sizes": 3,
    "certificate": 3,
    "certificate_contracts": 3,
    "certificate_gains": 3,
    "certificate_game": 3,
    "certificate_grid": 3,
    "certificate_kkt": 3,
    "certificate_scale": 3,
    "prices": 3,
    "price_data": 3,
    "flows": 3,
    "power_flow": 3,
    "equilibrium": 3,
    # 4: what is done with answers
    "plot": 4,
    "plot_convergence": 4,
    "drawing": 4,
    "study": 4,
    "fairness": 4,
    "sweeping": 4,
    "sweep_points": 4,
    "sweep_store": 4,
    "designs": 4,
    "study_files": 4,
    "demonstration": 4,
    # 5: the doors
    "__init__": 5,
    "__main__": 5,
    "commands": 5,
}


def modules() -> dict[str, Path]:
    """Every module of the package, as "solvers.risk"; a folder's __init__ as "solvers.__init__"."""
    paths = sorted(path for path in PACKAGE.rglob("*.py") if "_grids" not in path.parts)
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


MODULES = modules()


def floor(module: str) -> int | None:
    """The floor of a module, None where the table has neither it nor its folder."""
    return FLOORS.get(module, FLOORS.get(module.split(".", maxsplit=1)[0]))


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, except for the sake of types alone."""
    found: set[str] = set()
    for node in _running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively; say from pypsa_p2p..."
            found |= {_module(f"{node.module}.{alias.name}") for alias in node.names}
    return found - {""}


def _module(dotted: str) -> str:
    """The module of the package that an imported name is or is in, "" for others' names."""
    package, _, inside = dotted.partition(".")
    if package != "pypsa_p2p":
        return ""
    parents = [inside.rpartition(".")[0], inside]
    known = [m for name in parents for m in (name, f"{name}.__init__".lstrip(".")) if m in MODULES]
    return known[-1] if known else "__init__"


def _running(node: ast.AST) -> list[ast.AST]:
    """A node and all below it that may run: not what stands under `if TYPE_CHECKING`."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return [below for child in node.orelse for below in _running(child)]
    return [node, *(below for child in ast.iter_child_nodes(node) for below in _running(child))]


def test_imports_are_found(tmp_path: Path) -> None:
    """The reader sees all forms of imports, also inside functions, and no others."""
    source = tmp_path / "module.py"
    source.write_text(
        "import numpy\nimport pypsa_p2p.risk\nfrom pypsa_p2p import names, CVaR\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pypsa_p2p.markets import Market\n"
        "def f():\n    from pypsa_p2p.solvers.tail import cvar\n"
    )
    assert imported(source) == {"risk", "names", "__init__", "solvers.tail"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_below(module: str) -> None:
    own = floor(module)
    assert own is not None, f"{module} has no floor: list it in FLOORS and in CONTRIBUTING.md."
    above = {name: floor(name) for name in imported(MODULES[module]) if (floor(name) or 0) > own}
    assert not above, f"{module} (floor {own}) imports from floors above: {above}"


def test_no_circles() -> None:
    """Raises CycleError, naming the circle, where modules of a floor import each other."""
    TopologicalSorter({name: imported(path) for name, path in MODULES.items()}).prepare()
