"""Folders form floors: a module imports from its own folder and from floors below, in no circle.

Imports for the sake of types alone count: who reads a signature has to know them too. The floors
are also the map of the code in CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pypsa_p2p

PACKAGE = Path(pypsa_p2p.__file__).parent

#: A folder stands for all that is in it.
FLOORS = {
    "common": 0,
    "network": 1,
    "solvers": 1,
    "formulation": 2,
    "markets": 3,
    "solution": 4,
    "equilibrium": 5,
    "studies": 6,
    "__init__": 7,
    "__main__": 7,
}
#: All that solvers import from elsewhere, Python's own library apart.
NUMBERS = {"clarabel", "numpy", "piqp", "qdldl", "scipy"}


def modules() -> dict[str, Path]:
    """Every module of the package, as "solvers.tail"; a folder's __init__ as "solvers.__init__"."""
    paths = sorted(path for path in PACKAGE.rglob("*.py") if "_grids" not in path.parts)
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


MODULES = modules()


def top(module: str) -> str:
    """The folder a module is in, or itself beside the folders."""
    return module.split(".", maxsplit=1)[0]


def imported(path: Path) -> set[str]:
    """All that a file imports, wherever in it, by dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively; say from pypsa_p2p..."
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path: Path) -> set[str]:
    """Modules of the package that a file imports."""
    return {_module(name) for name in imported(path)} - {""}


def _module(dotted: str) -> str:
    """The module of the package that an imported name is or is in, "" for others' names."""
    package, _, inside = dotted.partition(".")
    if package != "pypsa_p2p":
        return ""
    parents = [inside.rpartition(".")[0], inside]
    known = [m for name in parents for m in (name, f"{name}.__init__".lstrip(".")) if m in MODULES]
    return known[-1] if known else "__init__"


def test_imports_are_found(tmp_path: Path) -> None:
    """The reader sees all forms of imports, in functions and for types too, and no others."""
    source = tmp_path / "module.py"
    source.write_text(
        "import numpy\nimport pypsa_p2p.markets.risk\nfrom pypsa_p2p import CVaR\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pypsa_p2p.markets.base import Market\n"
        "def f():\n    from pypsa_p2p.common import names\n"
    )
    assert own(source) == {"markets.risk", "__init__", "markets.base", "common.names"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_below(module: str) -> None:
    here = top(module)
    assert here in FLOORS, f"{module} is in no folder of FLOORS and of CONTRIBUTING.md's map."
    others = {name for name in own(MODULES[module]) if top(name) != here}
    above = {name for name in others if FLOORS[top(name)] >= FLOORS[here]}
    assert not above, f"{module} (floor {FLOORS[here]}) imports from beside or above: {above}"


def test_no_circles() -> None:
    """Raises CycleError, naming the circle, where modules of a folder import each other."""
    TopologicalSorter({name: own(path) for name, path in MODULES.items()}).prepare()


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) == "solvers"])
def test_solvers_know_numbers_only(module: str) -> None:
    others = {name.split(".")[0] for name in imported(MODULES[module])} - {"pypsa_p2p"}
    assert others <= NUMBERS | sys.stdlib_module_names


@pytest.mark.parametrize("module", [name for name in MODULES if name.endswith(".__init__")])
def test_a_folder_is_one_sentence(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1, f"{module} holds more than what the folder is."


PRIVATE = re.compile(r"\b(?:n|twin|m|model|self\.n)\._(?:model|objective|multi|optimize|linear)\w*")


@pytest.mark.parametrize("module", MODULES)
def test_private_attributes_of_pypsa_stand_in_one_file(module: str) -> None:
    """Whoever upgrades PyPSA looks at `common/pypsa_state.py` alone."""
    if module != "common.pypsa_state":
        assert not PRIVATE.findall(MODULES[module].read_text(encoding="utf-8"))
