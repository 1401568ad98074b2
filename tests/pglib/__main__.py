"""A table of pglib-opf's published DC costs and ours: `python -m tests.pglib --up-to 500`."""

from __future__ import annotations

import logging
import warnings

import click

import pypsa_p2p as p2p
from tests.pglib.cases import published
from tests.pglib.solving import solved


@click.command()
@click.option("--up-to", default=500, show_default=True, help="Number of buses of the largest.")
def table(up_to: int) -> None:
    """Rows of the table in docs/benchmarks.md."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    click.echo("| case | buses | published ($/h) | ours ($/h) | PyPSA (s) | ours (s) | certified |")
    click.echo("|---|---|---|---|---|---|---|")
    for case in published():
        if case.buses <= up_to:
            found = solved(case)
            certified = "yes" if p2p.certify(found.n).is_equilibrium() else "NO"
            click.echo(
                f"| {case.short} | {case.buses} | {case.cost:,.7g} | {found.cost:,.8g} | "
                f"{found.pypsas_seconds:.1f} | {found.seconds:.1f} | {certified} |"
            )


if __name__ == "__main__":
    table()
