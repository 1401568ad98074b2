"""Commands for scripted studies: ``pypsa-p2p solve``, ``compare`` and ``sweep``."""

from __future__ import annotations

import argparse
import sys
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p import plot
from pypsa_p2p.designs import DESIGNS, market_from
from pypsa_p2p.errors import DataError, P2PError, listed
from pypsa_p2p.fairness import fairness
from pypsa_p2p.grids import list_grids, load_grid
from pypsa_p2p.markets import Market
from pypsa_p2p.quiet import quiet_libraries
from pypsa_p2p.results import results
from pypsa_p2p.study import compare
from pypsa_p2p.sweeping import sweep

FAILED: Final = 2  # exit code when something cannot be done, as for arguments argparse refuses
PICTURES: Final = ("trades", "prices", "costs", "risk")
_USUAL: Final[dict[str, dict[str, Any]]] = {
    "centralized": {"design": "centralized"},
    "peer-to-peer": {},
    "risk-averse": {"risk": True},
    "contracts": {"risk": True, "contracts": True},
}
_NETWORK: Final = (
    "a network with prosumers and trades: a file PyPSA reads (.nc, .h5), a folder of its CSV "
    "files, or the name of a bundled grid (" + ", ".join(list_grids()) + ")"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``solve``, ``compare`` or ``sweep``; each says with ``--help`` what it takes.

    Parameters
    ----------
    argv : sequence of str, optional
        The command and its arguments. Default: those of the process.

    Returns
    -------
    int
        0, or 2 with a message on stderr when something cannot be done; a sweep of which single
        points failed says so and returns 1. Arguments that make no sense end in argparse's
        ``SystemExit(2)``.
    """
    options = _parser().parse_args(argv)
    try:
        with quiet_libraries():
            return int(options.run(options))
    except (P2PError, OSError) as error:
        print(f"pypsa-p2p {options.command}: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pypsa-p2p",
        description="Risk-averse peer-to-peer electricity markets on PyPSA networks.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_solve(commands)
    _add_compare(commands)
    _add_sweep(commands)
    return parser


def _add_solve(commands: Any) -> None:
    solve = _command(commands, "solve", _solve, "solve a network as one market")
    solve.add_argument("network", help=_NETWORK)
    solve.add_argument(
        "--market", choices=DESIGNS, default="peer-to-peer", help="design (default: peer-to-peer)"
    )
    solve.add_argument(
        "--risk", action="store_true", help="prosumers minimise CVaR at their own risk attitudes"
    )
    solve.add_argument(
        "--attitude", type=float, metavar="CHI", help="one risk attitude for all, 0 <= CHI < 1"
    )
    solve.add_argument(
        "--weight", type=float, metavar="THETA", help="of CVaR against the expectation, 0 to 1"
    )
    solve.add_argument("--contracts", action="store_true", help="prosumers trade risk as well")
    solve.add_argument(
        "--insurance-price",
        type=float,
        metavar="GAMMA",
        help="with contracts: cover is also sold from outside, EUR per EUR in every scenario",
    )
    solve.add_argument(
        "--contract-limit",
        type=float,
        metavar="EUR",
        help="with contracts: most that each may buy or sell of each",
    )
    solve.add_argument(
        "--delivery",
        choices=("trades", "grid"),
        default="trades",
        help="whether trades must be deliverable over the physical grid (default: trades)",
    )
    solve.add_argument(
        "--no-surplus", action="store_true", help="nothing is sold outside the community"
    )
    solve.add_argument("--out", type=Path, metavar="FILE.nc", help="the solved network")
    solve.add_argument("--results", type=Path, metavar="FILE.nc", help="labelled results")
    solve.add_argument("--pictures", type=Path, metavar="FOLDER", help=", ".join(PICTURES))


def _add_compare(commands: Any) -> None:
    side_by_side = _command(commands, "compare", _compare, "compare market designs on a network")
    side_by_side.add_argument("network", help=_NETWORK)
    side_by_side.add_argument(
        "--markets",
        type=Path,
        metavar="FILE.toml",
        help="designs as tables [markets.NAME] (default: " + ", ".join(_USUAL) + ")",
    )
    side_by_side.add_argument("--out", type=Path, metavar="FILE.csv", help="the table")
    side_by_side.add_argument(
        "--fairness", action="store_true", help="with measures of fairness in the table"
    )


def _add_sweep(commands: Any) -> None:
    swept = _command(
        commands, "sweep", _sweep, "solve markets over a grid of values, from a TOML file"
    )
    swept.add_argument(
        "study",
        type=Path,
        help="TOML: network = ..., optional [markets.NAME] tables, and [over] with lists of values",
    )
    swept.add_argument("--out", type=Path, metavar="FILE.nc", help="all figures as a dataset")
    swept.add_argument("--csv", type=Path, metavar="FILE.csv", help="figures as a table, row=point")
    swept.add_argument(
        "--store", type=Path, metavar="FOLDER", help="where points are kept, so as to resume"
    )
    swept.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    swept.add_argument("--quiet", action="store_true", help="no progress bar")


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.set_defaults(run=run)
    return parser


def _solve(options: argparse.Namespace) -> int:
    market = market_from(_asked(options))
    n = _read_network(options.network, Path())
    market.optimize(n)
    print(compare({options.market: n}).T.to_string(header=False, float_format="{:,.4f}".format))
    if options.out is not None:
        _written(options.out, lambda: n.export_to_netcdf(options.out))
    if options.results is not None:
        _written(options.results, lambda: results(n).to_netcdf(options.results))
    if options.pictures is not None:
        for name in PICTURES:
            _draw(n, name, options.pictures / f"{name}.png")
    return 0


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """The market that options of `solve` ask for, as settings."""
    risk = _given(attitude=options.attitude, weight=options.weight)
    contracts = _given(insurance_price=options.insurance_price, limit=options.contract_limit)
    hedged = bool(contracts) or options.contracts
    return {
        "design": options.market,
        "risk": risk or options.risk or hedged,
        "contracts": contracts or hedged,
        "surplus": not options.no_surplus,
        "delivery": options.delivery,
    }


def _given(**values: float | None) -> dict[str, float]:
    """Those values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _compare(options: argparse.Namespace) -> int:
    markets = _markets({} if options.markets is None else _read_toml(options.markets))
    n = _read_network(options.network, Path())
    networks = {name: n.copy() for name in markets}
    for name, market in markets.items():
        market.optimize(networks[name])
    table = compare(networks)
    if options.fairness:
        measures = pd.DataFrame({name: fairness(m) for name, m in networks.items()}).T
        table = table.join(measures.drop(columns="cost_gini"))
    print(table.T.to_string(float_format="{:,.4f}".format))
    if options.out is not None:
        _written(options.out, lambda: table.to_csv(options.out))
    return 0


def _sweep(options: argparse.Namespace) -> int:
    study = _read_toml(options.study)
    unknown = [name for name in study if name not in ("network", "markets", "over")]
    if unknown or "network" not in study:
        raise DataError(
            f"{options.study}: needs network = ..., may have [markets.NAME] and [over]; unknown: "
            f"{listed(unknown) or 'none'}."
        )
    d = sweep(
        _read_network(study["network"], options.study.parent),
        _markets(study),
        study.get("over", {}),
        store=options.store,
        workers=options.workers,
        progress=not options.quiet,
    )
    table = _flat(d)
    print(table.to_string(index=False, float_format="{:,.4f}".format))
    if options.out is not None:
        _written(options.out, lambda: d.to_netcdf(options.out))
    if options.csv is not None:
        _written(options.csv, lambda: table.to_csv(options.csv, index=False))
    failed = int((d["error"] != "").sum())
    if failed:
        print(f"{failed} of {d['error'].size} points failed, see 'error'.", file=sys.stderr)
    return 1 if failed else 0


def _flat(d: xr.Dataset) -> pd.DataFrame:
    """Figures of the community, one row per point."""
    figures = [name for name in d if set(d[name].dims) == set(d["error"].dims)]
    return d[figures].to_dataframe().reset_index()


def _markets(study: Mapping[str, Any]) -> dict[str, Market]:
    """Markets by name: those of a TOML file, or the usual ones."""
    settings = study.get("markets", _USUAL)
    if not isinstance(settings, Mapping) or not settings:
        raise DataError("markets: give each a table, [markets.NAME].")
    markets = {}
    for name, each in settings.items():
        if not isinstance(each, Mapping):
            raise DataError(f"markets: {name!r} must be a table, [markets.{name}].")
        try:
            markets[name] = market_from(each)
        except P2PError as error:
            raise DataError(f"[markets.{name}]: {error}") from error
    return markets


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not TOML: {error}") from error


def _read_network(given: str, beside: Path) -> pypsa.Network:
    """A network from a file or folder, or a bundled grid with its market."""
    path = beside / given
    if path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return _without_gaps(pypsa.Network(path))
            except Exception as error:
                raise DataError(f"PyPSA cannot read {path}: {error}") from error
    if given in list_grids():
        return load_grid(given, market=True)
    raise DataError(
        f"There is no file {path}, and no bundled grid of this name; there are "
        f"{listed(list_grids())}."
    )


def _without_gaps(n: pypsa.Network) -> pypsa.Network:
    """The network with defaults where PyPSA's files have gaps.

    In a file series that are all default are left out, scenario by scenario; when read, those of
    other scenarios are there and these are NaN.
    """
    for name in sorted(n.all_components):
        component = n.c[name]
        for attribute, series in component.dynamic.items():
            if not series.empty and series.isna().to_numpy().any():
                default = component.defaults.at[attribute, "default"]
                component.dynamic[attribute] = series.fillna(default)
    return n


def _written(path: Path, write: Callable[[], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write()
    print(f"Written: {path}", file=sys.stderr)


def _draw(n: pypsa.Network, name: str, path: Path) -> None:
    figure: Any = getattr(plot, name)(n).figure
    _written(path, lambda: figure.savefig(path, dpi=300))


COMMANDS: Final = ("solve", "compare", "sweep")
