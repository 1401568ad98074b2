"""Every picture at every size, to be looked at: `python -m tests.pictures FOLDER [WORD ...]`.

A file for each, and `contact_sheet.png` of all of them: a row for each picture, a column for each
market. With words, only pictures and markets that have one of them in their names.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import matplotlib.pyplot as plt
import pypsa
from PIL import Image, ImageDraw

import pypsa_p2p as p2p
from tests.reference.instances import network, random_instance

_CELL: Final = (560, 900)  # pixels of a picture on the sheet, at most
_HEAD: Final = 24  # pixels above it for its name
_DPI: Final = 160

NEUTRAL: Final = p2p.PeerToPeerMarket(surplus=False)
AVERSE: Final = p2p.PeerToPeerMarket(risk=p2p.CVaR())
USUAL: Final = p2p.PeerToPeerMarket()
HEDGED: Final = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts())


def _random(market: p2p.Market, *sizes: int) -> pypsa.Network:
    n = network(random_instance(1, *sizes))
    market.optimize(n)
    return n


def _grid(name: str, market: p2p.Market) -> pypsa.Network:
    n = p2p.load_grid(name)
    if "prosumer" not in n.buses.carrier.array:
        p2p.assign_prosumers(n, "bus")
        p2p.add_trades(n, "grid", capacity=500.0)
    market.optimize(n)
    return n


def household_community() -> pypsa.Network:
    """Long names, trades of a few W, and one price but for rounding: no edge binds."""
    n = pypsa.Network()
    names = ["West prosumer", "Prosumer of the far east", "$3 a day", "town hall_2"]
    p2p.add_prosumers(
        n, names, demand=2e-6, demand_max=3e-6, utility_quadratic=1e6,
        generation_max=[9e-6, 0.0, 0.0, 0.0], marginal_cost_quadratic=1e5,
    )  # fmt: skip
    p2p.add_trades(n, "complete", capacity=1e-5)
    NEUTRAL.optimize(n)
    return n


#: Markets of 3, 14, 37, 118 and 500 prosumers; random ones have no coordinates, grids do.
MARKETS: Final[Mapping[str, Callable[[], pypsa.Network]]] = {
    "003 hedged": lambda: _grid("three_node", HEDGED),
    "004 equal prices, W": household_community,
    "014 grid, hedged": lambda: _grid("ieee14", HEDGED),
    "014 averse, 24 h": lambda: _random(AVERSE, 14, 3, 24),
    "037 averse": lambda: _random(AVERSE, 37, 10),
    "037 certain, 24 h": lambda: _random(NEUTRAL, 37, 1, 24),
    "057 grid": lambda: _grid("ieee57", AVERSE),
    "118 averse": lambda: _random(AVERSE, 118, 5),
    "118 grid": lambda: _grid("ieee118", AVERSE),
    "500 neutral, 4 h": lambda: _random(NEUTRAL, 500, 3, 4),
}
PICTURES: Final[Mapping[str, Callable[[pypsa.Network], Any]]] = {
    "trades": p2p.plot.trades,
    "trades by role": lambda n: p2p.plot.trades(n, colour="role"),
    "prices": p2p.plot.prices,
    "costs": p2p.plot.costs,
    "risk": p2p.plot.risk,
    "bills": p2p.plot.bills,
    "prices over time": lambda n: p2p.plot.over_time(n, "prices"),
    "dispatch over time": lambda n: p2p.plot.over_time(n, "dispatch"),
    "trades over time": lambda n: p2p.plot.over_time(n, "trades"),
}


def _sweep() -> Any:
    """Attitudes, with contracts and without, of several years of prices."""
    n = p2p.load_grid("three_node")
    markets = {"alone": AVERSE, "with contracts": HEDGED}
    over = {"attitude": [0.1 * k for k in range(9)], "seed": [0, 1, 2]}
    d = p2p.sweep(n, markets, over, apply={"seed": _dearer}, progress=False)
    return p2p.plot.sweep(d, "social_cost")


def _dearer(n: pypsa.Network, point: Mapping[str, Any]) -> None:
    n.generators["marginal_cost_quadratic"] *= 1.0 + 0.2 * float(point["seed"])


def _convergence(method: Any) -> Any:
    n = network(random_instance(0, 5, 2, 1, congestion=True))
    return p2p.plot.convergence(p2p.solve_equilibrium(n, USUAL, method, progress=False))


#: Pictures of something else than a market.
OTHERS: Final[Mapping[str, Callable[[], Any]]] = {
    "sweep": _sweep,
    "convergence of best responses": lambda: _convergence(p2p.GaussSeidel()),
    "convergence of ADMM": lambda: _convergence(p2p.ADMM()),
}


def main(folder: Path, words: list[str]) -> None:
    """Draw all that is asked for, and the sheet."""
    mpl.use("Agg")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore", FutureWarning)
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[tuple[str, str], Path] = {}
    for market, build in _asked(MARKETS, words).items():
        n = build()
        for picture, draw in _asked(PICTURES, words).items():
            path = folder / f"{picture}, {market}.png".replace(" ", "_")
            try:
                figure = draw(n).figure
            except p2p.P2PError as refused:
                sys.stdout.write(f"{picture}, {market}: {refused}\n")
                continue
            drawn[picture, market] = _saved(figure, path)
    for column, (picture, draw_it) in enumerate(_asked(OTHERS, words, or_all=not words).items()):
        path = folder / f"{picture}.png".replace(" ", "_")
        drawn["others", list(MARKETS)[column]] = _saved(draw_it().figure, path)
    _sheet(drawn, folder / "contact_sheet.png")


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=_DPI)
    plt.close("all")
    return path


def _asked(what: Mapping[str, Any], words: list[str], *, or_all: bool = True) -> dict[str, Any]:
    """Those with one of the words in their names; where none has one, all or none."""
    found = {name: value for name, value in what.items() if any(word in name for word in words)}
    return found if found or not or_all else dict(what)


def _sheet(drawn: Mapping[tuple[str, str], Path], path: Path) -> None:
    """All pictures on one, a row for each kind, each no larger than a cell."""
    rows = list(dict.fromkeys(picture for picture, _ in drawn))
    columns = list(dict.fromkeys(market for _, market in drawn))
    small = {place: Image.open(file).convert("RGB") for place, file in drawn.items()}
    for image in small.values():
        image.thumbnail(_CELL)
    heights = [
        _HEAD + max(small[row, c].height for c in columns if (row, c) in small) for row in rows
    ]
    sheet = Image.new("RGB", (_CELL[0] * len(columns), sum(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    for (row, column), image in small.items():
        left = _CELL[0] * columns.index(column)
        top = sum(heights[: rows.index(row)])
        pen.text((left + 4, top + 6), f"{row}: {column}", fill="black")
        sheet.paste(image, (left, top + _HEAD))
    sheet.save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
