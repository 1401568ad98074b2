"""The demonstration: four market designs on the IEEE 14-bus grid, side by side."""

from __future__ import annotations

import sys
import textwrap
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.contracts import Contracts
from pypsa_p2p.markets.cvar import CVaR
from pypsa_p2p.markets.designs import CentralizedMarket, PeerToPeerMarket
from pypsa_p2p.network.bundled_grids import add_grid_market, load_grid
from pypsa_p2p.network.pandapower.conversion import from_pandapower
from pypsa_p2p.solution.results import results
from pypsa_p2p.studies.comparison import compare
from pypsa_p2p.studies.plot import pictures as plot

CENTRALIZED: Final = "centralized"
PEER_TO_PEER: Final = "peer-to-peer"
RISK_AVERSE: Final = "risk-averse"
WITH_CONTRACTS: Final = "risk-averse, contracts"
DESIGNS: Final[dict[str, Market]] = {
    CENTRALIZED: CentralizedMarket(),
    PEER_TO_PEER: PeerToPeerMarket(),
    RISK_AVERSE: PeerToPeerMarket(risk=CVaR()),
    WITH_CONTRACTS: PeerToPeerMarket(risk=CVaR(), contracts=Contracts()),
}
PRICE_RULES: Final = ("table", "uniform", "heterogeneous")
GRIDS: Final = ("auto", "pandapower", "bundled")
_WIDTH: Final = 80  # of a terminal, letters

_READING: Final = (
    "Social cost is the sum of the prosumers' risk-adjusted costs; negative: using energy is worth "
    "more than it costs. Loss is expected cost above the centralized design's. Traded energy is "
    "expected, and counts on every edge it takes. Nodal prices are money of their scenario: what "
    "a MWh is worth there to whoever weighs it, which the risk-averse do differently."
)


def demonstrate(
    output: Path,
    *,
    grid: str = "auto",
    scenarios: int | None = None,
    seed: int | None = None,
    prices: str = "table",
    quiet: bool = False,
) -> None:
    """Solve the designs, print how they compare, and write everything to a folder.

    Parameters
    ----------
    output : Path
        The folder for networks, results, table and picture; made where it is missing.
    grid, scenarios, seed, prices
        As `grid`, `number`, `seed` and `rule` of `build_market`.
    quiet : bool
        Whether nothing but the table is printed.

    Raises
    ------
    DataError
        pandapower is asked for and not installed.
    """
    started = time.perf_counter()
    output.mkdir(parents=True, exist_ok=True)
    n, origin = build_market(grid, scenarios, seed, prices)
    if not quiet:
        print(f"Market of 14 prosumers in {len(n.scenarios)} scenarios, on {origin}.")
    networks = _solve_all(n, quiet)
    table = compare(networks, reference=CENTRALIZED)
    print(render(table))
    files = _write(output, networks, table)
    if not quiet:
        print("\nWritten:", *files, sep="\n  ")
        print(f"Done in {time.perf_counter() - started:.0f} s.")


def build_market(
    grid: str = "auto",
    number: int | None = None,
    seed: int | None = None,
    rule: str = "table",
) -> tuple[pypsa.Network, str]:
    """Prosumers, trades and scenarios on the IEEE 14-bus grid, and where the grid comes from.

    Parameters
    ----------
    grid : {"auto", "pandapower", "bundled"}
        pandapower's case14 or the bundled copy; "auto": pandapower's if it is installed.
    number, seed : int, optional
        Scenarios drawn, and seed of all draws. Default: those of the bundled market.toml.
    rule : {"table", "uniform", "heterogeneous"}
        Of trade prices, see `draw_trade_prices`.

    Returns
    -------
    pypsa.Network, str

    Raises
    ------
    DataError
        pandapower is asked for and not installed.
    """
    n, origin = _bare_grid(grid)
    add_grid_market(n, "ieee14", number=number, seed=seed, rule=rule)
    return n, origin


def _bare_grid(grid: str) -> tuple[pypsa.Network, str]:
    """The grid without loads and generators, which are the prosumers' own."""
    installed = find_spec("pandapower") is not None
    if grid == "pandapower" and not installed:
        raise DataError(
            'pandapower is not installed: pip install "pypsa-p2p[pandapower]", or take the bundled '
            "copy of its case14, --grid bundled."
        )
    if installed and grid != "bundled":
        net = import_module("pandapower.networks").case14()
        n, origin = from_pandapower(net, set_points=False), "pandapower's case14"
    else:
        n, origin = load_grid("ieee14", market=False), "the bundled copy of the IEEE 14-bus grid"
    for component in ("Load", "Generator"):
        n.remove(component, n.c[component].static.index)
    return n, origin


def _solve_all(n: pypsa.Network, quiet: bool) -> dict[str, pypsa.Network]:
    """A solved copy of the network for each design."""
    networks = {}
    for number, (name, market) in enumerate(DESIGNS.items(), start=1):
        started = time.perf_counter()
        _report(f"[{number}/{len(DESIGNS)}] {name} ... ", quiet)
        networks[name] = n.copy()
        market.optimize(networks[name])
        _report(f"{time.perf_counter() - started:.1f} s\n", quiet)
    return networks


def _report(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, end="", file=sys.stderr, flush=True)


def render(table: pd.DataFrame) -> str:
    """The comparison as a person reads it on a terminal."""
    above = f"{'':22}{'Social':>11}{'Effi-':>9}{'Loss':>8}{'Traded':>9}{'Nodal price, EUR/MWh':>21}"
    below = f"{'Design':22}{'cost, EUR':>11}{'ciency':>9}{'EUR':>8}{'MWh':>9}"
    below += f"{'min':>7}{'mean':>7}{'max':>7}"
    rows = [_row(str(name), figures) for name, figures in table.to_dict("index").items()]
    return "\n".join(["", above, below, "-" * _WIDTH, *rows, "", *_sentences(table)])


def _row(name: str, figures: dict[Any, float]) -> str:
    loss = round(figures["efficiency_loss"], 1) + 0.0  # no "-0.0"
    return (
        f"{name:22}{figures['social_cost']:>11,.1f}{figures['efficiency']:>9.2%}{loss:>8,.1f}"
        f"{figures['traded_energy']:>9,.1f}{figures['price_min']:>7.1f}"
        f"{figures['price_mean']:>7.1f}{figures['price_max']:>7.1f}"
    )


def _sentences(table: pd.DataFrame) -> list[str]:
    """What risk costs and contracts save, and how to read the figures."""
    social, efficiency = table["social_cost"], table["efficiency"]
    risk = social[RISK_AVERSE] - social[PEER_TO_PEER]
    saved = social[RISK_AVERSE] - social[WITH_CONTRACTS]
    share = f", {saved / risk:.0%} of that" if risk > 0.05 else ""
    about_risk = (
        f"Risk costs {risk:,.1f} EUR: the social cost of risk-averse prosumers less that of "
        "risk-neutral ones."
    )
    about_contracts = (
        f"Contracts save {saved:,.1f} EUR{share}; efficiency goes from "
        f"{efficiency[RISK_AVERSE]:.2%} to {efficiency[WITH_CONTRACTS]:.2%}."
    )
    return [_wrapped(text) for text in (about_risk, about_contracts, "", _READING)]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def _write(folder: Path, networks: dict[str, pypsa.Network], table: pd.DataFrame) -> list[Path]:
    """Table, networks and results of every design, and the picture of the trades."""
    files = [folder / "designs.csv", folder / "trades.png"]
    table.to_csv(files[0])
    _draw(networks[PEER_TO_PEER], files[1])
    for name, n in networks.items():
        stem = name.replace(", ", "-")
        files += [folder / f"{stem}-network.nc", folder / f"{stem}-results.nc"]
        n.export_to_netcdf(files[-2])
        results(n).to_netcdf(files[-1])
    return files


def _draw(n: pypsa.Network, file: Path) -> None:
    figure: Any = plot.trades(n).figure
    figure.savefig(file, dpi=300)
