"""``pypsa-p2p make``: a network with prosumers and trades out of a PyPSA model."""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from pypsa_p2p.common.errors import DataError
from pypsa_p2p.network.assignment.assigning import assign_prosumers
from pypsa_p2p.network.trades import add_trades
from pypsa_p2p.studies.study_files import read_network
from pypsa_p2p.studies.terminal import FILE, write

_GRAPHS = ("grid", "complete")


@click.command("make")
@click.argument("model", type=FILE)
@click.option("--out", type=FILE, metavar="FILE.nc", required=True, help="The network it makes.")
@click.option(
    "--owner",
    default="bus",
    metavar="bus|FILE.csv",
    help="Who owns what: everything at a bus is its prosumer's, or a table of asset and prosumer.",
)
@click.option(
    "--trades",
    default="grid",
    metavar="grid|complete|FILE.csv",
    help="Who may trade: neighbours on the grid, all with all, or a table of two prosumers a row.",
)
@click.option("--capacity", type=float, required=True, metavar="MW", help="Of every trade.")
@click.option("--fee", type=float, default=0.0, metavar="EUR/MWh", help="On what is traded.")
@click.option(
    "--import-price", type=float, default=0.0, metavar="EUR/MWh", help="At which surplus is sold."
)
@click.option("--attitude", type=float, default=0.0, metavar="CHI", help="To risk, 0 <= CHI < 1.")
def make(
    model: Path,
    out: Path,
    owner: str,
    trades: str,
    capacity: float,
    fee: float,
    import_price: float,
    attitude: float,
) -> None:
    """Make prosumers and trades of a PyPSA model, for `solve`, `compare` and `sweep`.

    MODEL is a file that PyPSA reads, or a folder of its CSV files.
    """
    n = read_network(str(model))
    owners = owner if owner == "bus" else dict(_pairs(Path(owner), "asset and prosumer"))
    assign_prosumers(n, owners, risk_attitude=attitude, import_price=import_price)
    edges = trades if trades in _GRAPHS else _pairs(Path(trades), "two prosumers")
    add_trades(n, edges, capacity=capacity, fee=fee)
    write(out, n.export_to_netcdf)


def _pairs(path: Path, what: str) -> list[tuple[str, str]]:
    """The rows of a table of two columns.

    Raises
    ------
    DataError
        It is none.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no table with commas: {error}") from error
    if len(table.columns) != 2:
        raise DataError(f"{path} must have two columns, {what}, not {len(table.columns)}.")
    return list(table.itertuples(index=False, name=None))
