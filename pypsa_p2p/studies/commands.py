"""The command line, ``pypsa-p2p``: markets solved, compared and swept, and a demonstration.

Exit codes: 0 when all is done; 1 when a market or its data are refused, or points of a sweep
failed or are missing, with a message on stderr; 2 when the command itself makes no sense.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError, P2PError
from pypsa_p2p.common.quiet import quiet_libraries
from pypsa_p2p.network.bundled_grids import list_grids
from pypsa_p2p.solution.results import results
from pypsa_p2p.studies.amounts import AMOUNTS, Amount
from pypsa_p2p.studies.comparison import compare
from pypsa_p2p.studies.demonstration import GRIDS, PRICE_RULES, demonstrate
from pypsa_p2p.studies.fairness import fairness
from pypsa_p2p.studies.making import make
from pypsa_p2p.studies.market_words import DESIGNS, WELFARES, market_from
from pypsa_p2p.studies.plot import pictures as plot
from pypsa_p2p.studies.study_files import USUAL, Study, read_network, read_study, usual_markets
from pypsa_p2p.studies.sweep_shards import Shard, asked_shard
from pypsa_p2p.studies.sweeping import sweep
from pypsa_p2p.studies.terminal import FILE, show, write

PICTURES: Final = ("trades", "prices", "costs", "risk")
_NETWORK: Final = (
    "NETWORK has prosumers and trades. It is a file that PyPSA reads, a folder of its CSV files, "
    "or the name of a bundled grid: " + ", ".join(list_grids()) + "."
)


class Commands(click.Group):
    """A group that lists its commands as they were written and first, and ends as promised."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names in the order of the file."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands, then options."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it refuses is a message and exit code 1, no traceback."""
        try:
            with quiet_libraries():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
        except (P2PError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(package_name="pypsa-p2p", prog_name="pypsa-p2p")
def command_line() -> None:
    """Risk-averse peer-to-peer electricity markets on PyPSA networks."""


command_line.add_command(make)


@command_line.command("solve", epilog=_NETWORK)
@click.argument("network", type=FILE)
@click.option("--market", type=click.Choice(DESIGNS), default="peer-to-peer", help="Design.")
@click.option("--risk", is_flag=True, help="Prosumers minimise CVaR at their own risk attitudes.")
@click.option(
    "--attitude", type=float, metavar="CHI", help="One risk attitude for all, 0 <= CHI < 1."
)
@click.option(
    "--weight", type=float, metavar="THETA", help="Of CVaR against the expectation, 0 to 1."
)
@click.option(
    "--payments-at-risk",
    is_flag=True,
    help="With risk, peer-to-peer: of cost and what is paid for trades.",
)
@click.option("--contracts", is_flag=True, help="Prosumers trade risk as well.")
@click.option(
    "--insurance-price",
    type=float,
    metavar="GAMMA",
    help="With contracts: cover is also sold from outside, EUR per EUR in every scenario.",
)
@click.option(
    "--contract-limit",
    type=float,
    metavar="EUR",
    help="With contracts: most that each may buy or sell of each.",
)
@click.option(
    "--delivery",
    type=click.Choice(["trades", "grid"]),
    default="trades",
    help="Whether trades must be deliverable over the physical grid.",
)
@click.option("--no-surplus", is_flag=True, help="Nothing is sold outside the community.")
@click.option(
    "--welfare",
    type=click.Choice(WELFARES),
    default=None,
    help="With --market centralized: which function of the prosumers' costs is minimised.",
)
@click.option(
    "--reference", type=click.Choice(["alone"]), help="With --welfare: costs without trades."
)
@click.option(
    "--participation",
    is_flag=True,
    help="With --market centralized: nobody pays more than without trades.",
)
@click.option("--out", type=FILE, metavar="FILE.nc", help="The solved network.")
@click.option("--results", "labelled", type=FILE, metavar="FILE.nc", help="Labelled results.")
@click.option("--pictures", type=FILE, metavar="FOLDER", help=f"Of {', '.join(PICTURES)}.")
def solve_one(
    network: Path,
    market: str,
    out: Path | None,
    labelled: Path | None,
    pictures: Path | None,
    **asked: Any,
) -> None:
    """Solve a network as one market."""
    posed = market_from(_settings(market, **asked))
    n = read_network(str(network))
    posed.optimize(n)
    show(compare({market: n}).T, header=False)
    write(out, n.export_to_netcdf)
    write(labelled, lambda path: results(n).to_netcdf(path))
    if pictures is not None:
        for name in PICTURES:
            _draw(n, name, pictures / f"{name}.png")


def _settings(
    design: str,
    *,
    risk: bool,
    attitude: float | None,
    weight: float | None,
    payments_at_risk: bool,
    contracts: bool,
    insurance_price: float | None,
    contract_limit: float | None,
    delivery: str,
    no_surplus: bool,
    welfare: str | None,
    reference: str | None,
    participation: bool,
) -> dict[str, Any]:
    """The market that options of `solve` ask for; an argument of a part asks for the part."""
    measure = _given(attitude=attitude, weight=weight)
    terms = _given(insurance_price=insurance_price, limit=contract_limit)
    hedged = bool(terms) or contracts
    compared: dict[str, Any] = {"participation": True} if participation else {}
    if welfare is not None or reference is not None:
        compared["welfare"] = _named(welfare=welfare, reference=reference)
    return {
        **compared,
        "design": design,
        "risk": measure or risk or hedged,
        "contracts": terms or hedged,
        "surplus": not no_surplus,
        "delivery": delivery,
        **({"payments": "risk"} if payments_at_risk else {}),
    }


def _named(**words: str | None) -> dict[str, str]:
    """Those words that were given."""
    return {name: word for name, word in words.items() if word is not None}


def _given(**values: float | None) -> dict[str, float]:
    """Those values that were given."""
    return {name: value for name, value in values.items() if value is not None}


@command_line.command("compare", epilog=_NETWORK)
@click.argument("network", type=FILE)
@click.option(
    "--markets",
    type=FILE,
    metavar="FILE.toml",
    help=f"Designs as tables [markets.NAME].  [default: {', '.join(USUAL)}]",
)
@click.option("--out", type=FILE, metavar="FILE.csv", help="The table.")
@click.option("--fairness", "fair", is_flag=True, help="With measures of fairness in the table.")
@click.option(
    "--of",
    type=click.Choice(list(AMOUNTS)),
    help="What prosumers' money is: bill less utility, money alone, or the paper's cost.  "
    "[default: net_cost where scenarios have one price for all, else cost]",
)
def compare_designs(
    network: Path, markets: Path | None, out: Path | None, fair: bool, of: Amount | None
) -> None:
    """Compare market designs on a network."""
    designs = usual_markets() if markets is None else read_study(markets).markets
    if not designs:
        raise DataError(f"{markets}: there are no markets; give each a table, [markets.NAME].")
    n = read_network(str(network))
    networks = {name: n.copy() for name in designs}
    for name, market in designs.items():
        market.optimize(networks[name])
    table = compare(networks, of=of)
    if fair:
        measures = pd.DataFrame({name: fairness(m) for name, m in networks.items()}).T
        table = table.join(measures.loc[:, ~measures.columns.str.endswith("_gini")])
    show(table.T)
    write(out, table.to_csv)


@command_line.command("sweep")
@click.argument("study", type=FILE)
@click.option("--out", type=FILE, metavar="FILE.nc", help="All figures as a dataset.")
@click.option("--csv", type=FILE, metavar="FILE.csv", help="Figures as a table, row = point.")
@click.option(
    "--store", type=FILE, metavar="FOLDER", help="Where points are kept, so as to resume."
)
@click.option(
    "--shard", metavar="K/M", help="Solve only the K-th of M parts of the points into the store."
)
@click.option("--collect", is_flag=True, help="Solve nothing: all points are in the store.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, metavar="N", help="Number of processes."
)
@click.option("--quiet", is_flag=True, help="No progress bar; there is none without a terminal.")
def sweep_study(
    study: Path,
    out: Path | None,
    csv: Path | None,
    store: Path | None,
    shard: str | None,
    collect: bool,
    workers: int,
    quiet: bool,
) -> None:
    """Solve markets over a grid of values, from a TOML file.

    STUDY names a network (a file beside it, or a bundled grid), any number of markets, and the
    values of each dimension:

    \b
        network = "three_node"
        [markets.alone]
        risk = true
        [markets.contracts]
        risk = true
        contracts = true
        [over]
        attitude = [0.0, 0.6]

    On M machines each solves a part, --store FOLDER --shard K/M; then --store FOLDER --collect.
    """  # noqa: D301  click needs the character, not the letters
    own = _own(shard, store, collect=collect, written=bool(out or csv))
    asked = read_study(study)
    d = sweep(
        _network_of(asked, study),
        asked.markets or usual_markets(),
        asked.over,
        store=store,
        shard=shard,
        collect=collect,
        workers=workers,
        progress=not quiet,
    )
    table = _flat(d).iloc[own.places(d["error"].size)]
    show(table, index=False)
    write(out, d.to_netcdf)
    write(csv, lambda path: table.to_csv(path, index=False))
    failed = int((table["error"] != "").sum())
    if failed and shard is None:
        raise click.ClickException(f"{failed} of {d['error'].size} points failed, see 'error'.")


def _own(shard: str | None, store: Path | None, *, collect: bool, written: bool) -> Shard:
    """The points that the options ask for, where these make sense together."""
    if shard is not None and written:
        raise click.UsageError("--shard fills the store: leave --out and --csv to --collect.")
    try:
        return asked_shard(shard, collect=collect, stored=store is not None)
    except P2PError as error:
        raise click.UsageError(f"--{error}") from error  # it begins with the argument's name


def _network_of(study: Study, path: Path) -> pypsa.Network:
    """The network that a study names, a path beginning beside the study's file."""
    if not study.network:
        raise DataError(f'{path} needs network = "...": a file beside it, or a bundled grid.')
    return read_network(study.network, path.parent)


def _flat(d: xr.Dataset) -> pd.DataFrame:
    """Figures of the community, one row per point."""
    figures = [name for name in d if set(d[name].dims) == set(d["error"].dims)]
    return d[figures].to_dataframe().reset_index()


@command_line.command("demo")
@click.option(
    "--output",
    type=FILE,
    default="results",
    metavar="FOLDER",
    help="Where networks, results, table and picture go.",
)
@click.option(
    "--grid",
    type=click.Choice(GRIDS),
    default="auto",
    help="pandapower's case14 or the bundled copy of it; auto: pandapower's if installed.",
)
@click.option(
    "--scenarios",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="How many equiprobable scenarios are drawn.",
    show_default="20",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Of the draws of scenarios and of heterogeneous prices.",
)
@click.option(
    "--prices",
    type=click.Choice(PRICE_RULES),
    default="table",
    help="Of trades: the bundled table's, 1 EUR/MWh everywhere, or drawn anew.",
)
@click.option("--quiet", is_flag=True, help="Print the table only.")
def demo(**asked: Any) -> None:
    """Four market designs side by side on the IEEE 14-bus grid.

    14 prosumers trade under uncertainty: centralized, peer-to-peer, risk-averse, risk-averse with
    contracts. For networks of your own there are solve, compare and sweep.
    """
    demonstrate(**asked)


def _draw(n: pypsa.Network, name: str, path: Path) -> None:
    figure: Any = getattr(plot, name)(n).figure
    write(path, lambda file: figure.savefig(file, dpi=300))
