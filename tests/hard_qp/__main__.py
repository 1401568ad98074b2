"""A table of hard quadratic programs: `python -m tests.hard_qp`."""

from __future__ import annotations

import time

import click
import numpy as np

from pypsa_p2p.solvers.quadratic import solve_quadratic
from pypsa_p2p.solvers.residuals import quadratic_residuals
from tests.hard_qp.cases import FAMILIES, SIZES, Hard, case


def row(hard: Hard) -> str:
    """A program's row of the table."""
    start = time.process_time()
    found = solve_quadratic(hard.program)
    seconds = time.process_time() - start
    rows, columns = hard.program.A.shape
    worst = quadratic_residuals(hard.program, found).worst
    error = abs(found.objective - hard.least) / np.abs(hard.program.cost_by_column(found.x)).sum()
    return (
        f"| {hard.name} | {columns} | {rows} | {found.status}, {found.solver} | {worst:.0e} | "
        f"{error:.0e} | {seconds:.2f} |"
    )


click.echo("| program | columns | rows | found by | residual | error of the least | s |")
click.echo("|---|---|---|---|---|---|---|")
for family in FAMILIES:
    for size in SIZES:
        click.echo(row(case(family, size)))
