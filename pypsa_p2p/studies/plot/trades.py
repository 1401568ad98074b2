"""Who buys from whom: the network of prosumers and their trades."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.studies.plot import graph
from pypsa_p2p.studies.plot.drawing import (
    ACCENT,
    LIGHT,
    SECOND,
    TEXT,
    matplotlib_module,
    plain,
    plain_numbers,
    wide_range,
)
from pypsa_p2p.studies.plot.interactive import (
    figure_of_trades,
    map_of_trades,
    require_no_axes,
)
from pypsa_p2p.studies.plot.naming import (
    ALL_NAMED,
    draw_names_beside,
    draw_names_inside,
    fits_inside,
)
from pypsa_p2p.studies.plot.solved import Traded, require_label, traded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PRICE_COLOURS: Final = "viridis"  # legible in grey and to colour-blind readers
_NEGLIGIBLE: Final = 0.01  # of the greatest net import: who has less is neither buyer nor seller


@overload
def trades(
    n: pypsa.Network,
    ax: Axes | None = ...,
    scenario: str | None = ...,
    snapshot: Any = ...,
    *,
    colour: Literal["price", "role"] = ...,
    interactive: Literal[False] = ...,
) -> Axes: ...


@overload
def trades(
    n: pypsa.Network,
    ax: None = ...,
    scenario: str | None = ...,
    snapshot: Any = ...,
    *,
    colour: Literal["price"] = ...,
    interactive: Literal[True, "map"],
) -> Any: ...


def trades(
    n: pypsa.Network,
    ax: Axes | None = None,
    scenario: str | None = None,
    snapshot: Any = None,
    *,
    colour: Literal["price", "role"] = "price",
    interactive: bool | Literal["map"] = False,
) -> Any:
    """Who buys from whom: an arrow from seller to buyer, as wide as what is traded.

    Widths are expectations over scenarios and means over the hours of snapshots; an edge used
    in both directions has an arrow for each. Edges without trade (less than a hundredth of the
    greatest) are thin and grey. Prosumers are coloured by their mean nodal price, EUR/MWh, or by
    their role, and stand at their buses' coordinates; where those coincide or are missing, in a
    spring layout with a fixed seed.

    Sizes follow the number of prosumers. Of more trades than can be told apart the largest are
    drawn, and of more names than find room those of who trades most; the title says so. Power is
    in the unit that fits, W to GW. Prices within a hundredth of the largest have nearly one colour.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure, 3.5 inches wide, or 7.16 with more than 30 prosumers.
    scenario, snapshot : label, optional
        That one only, instead of the expectation and the mean.
    colour : {"price", "role"}
        Of prosumers; by role net sellers and net buyers are told apart.
    interactive : bool or "map"
        A figure of plotly instead, with prices and trades under the pointer. ``"map"``: the map of
        ``n.explore()``, with an arc for each trade from its seller (orange) to its buyer (blue);
        coordinates of prosumers must be degrees.

    Returns
    -------
    matplotlib.axes.Axes, plotly.graph_objects.Figure or pydeck.Deck

    Raises
    ------
    P2PError
        matplotlib (plotly, pydeck) is not installed, the network holds no solved market, there is
        no such scenario, snapshot or colour, or prosumers have no place on a map.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket().optimize(n)
    ('ok', 'optimal')
    >>> trades(n).get_title()
    'Expected trades'
    >>> trades(n, interactive=True).data[0].hovertext[0]
    '0 sells 7.089 MW to 2'
    """
    require_label("colour", "" if colour is None else colour, pd.Index(["price", "role"]))
    require_label("interactive", interactive or None, pd.Index([True, "map"], dtype=object))
    require_no_axes(ax, interactive)
    t = traded(n, scenario, snapshot)
    names = [str(who) for who in t.price.index]
    sizes = graph.Sizes(prosumers=len(names))
    drawn, all_of_them = graph.largest(t.amounts, sizes)
    title = "Expected trades" if scenario is None else f"Trades in scenario {plain(scenario)}"
    if interactive == "map":
        return map_of_trades(n, t, drawn)
    if interactive:
        said = _told(title, len(names), len(names), len(drawn), all_of_them)
        return figure_of_trades(t, drawn, said.replace("\n", "<br>"))
    ax = sizes.axes(ax)
    _draw(ax, t, drawn, all_of_them, colour=colour, title=title)
    return ax


def _draw(
    ax: Axes,
    t: Traded,
    drawn: Mapping[tuple[str, str], float],
    of: int,
    *,
    colour: str,
    title: str,
) -> None:
    """What is around the network first, since it takes room, then the network in what is left."""
    names = [str(who) for who in t.price.index]
    place = np.array([t.where[who] for who in names])
    sizes = graph.Sizes(prosumers=len(names))
    graph.frame(ax, place)
    colours, roles = _by_role(t.net_import) if colour == "role" else _by_price(ax, t.price)
    unused = [pair for pair in t.edges if pair not in drawn and pair[::-1] not in drawn]
    grey = graph.shows_edges(unused)
    without = "no trade" if len(drawn) == of else "smaller or no trade"
    graph.draw_key(ax, drawn, sizes, without if grey else None, roles)
    ax.set_title(_told(title, len(names), len(names), len(drawn), of), fontsize=TEXT + 1)
    points, box = graph.laid_out(ax, place)
    disc = graph.disc_size(points)
    graph.draw_discs(ax, place, disc, colours)
    named = _draw_names(ax, names, place, points, box, disc, colours, t)
    graph.draw_arrows(ax, drawn, t.where, sizes, disc)
    if grey:
        graph.draw_edges(ax, unused, t.where)
    ax.set_title(_told(title, len(names), named, len(drawn), of), fontsize=TEXT + 1)


def _told(title: str, prosumers: int, named: int, drawn: int, of: int) -> str:
    """The title, and below it what is left out where there is much."""
    if prosumers <= ALL_NAMED and drawn == of:
        return title
    who = f"{prosumers} prosumers" + (f" ({named} named)" if named < prosumers else "")
    what = f"{of} trades" if drawn == of else f"the {drawn} largest of {of} trades"
    return f"{title}\n{who}, {what}"


def _draw_names(
    ax: Axes,
    names: list[str],
    place: np.ndarray,
    points: np.ndarray,
    box: tuple[float, float],
    disc: float,
    colours: np.ndarray,
    t: Traded,
) -> int:
    """Names, and how many there was room for."""
    if fits_inside(names, disc):
        draw_names_inside(ax, names, place, colours)
        return len(names)
    busy = pd.Series(0.0, index=names)
    for (seller, buyer), amount in t.amounts.items():
        busy[[seller, buyer]] += amount
    return draw_names_beside(
        ax,
        names,
        place,
        points=points,
        box=box,
        disc=disc,
        size=graph.names_size(disc),
        importance=busy.to_numpy(),
    )


def _by_price(ax: Axes, price: pd.Series) -> tuple[np.ndarray, dict[str, str]]:
    """Colours of discs by price, grey without one, and a bar that tells them."""
    low, high = wide_range(price.to_numpy())
    colours = matplotlib_module("pyplot").get_cmap(_PRICE_COLOURS).with_extremes(bad=LIGHT)
    scale = matplotlib_module("cm").ScalarMappable(
        matplotlib_module("colors").Normalize(low, high), colours
    )
    if np.isfinite(price.to_numpy()).any():
        bar = ax.figure.colorbar(scale, cax=ax.inset_axes((1.02, 0.05, 0.035, 0.9)))
        plain_numbers(bar.ax.yaxis)
        bar.set_label("Nodal price (EUR/MWh)", fontsize=TEXT)
        bar.ax.tick_params(labelsize=TEXT)
    return scale.to_rgba(np.ma.masked_invalid(price.to_numpy(dtype=float))), {}


def _by_role(net_import: pd.Series) -> tuple[np.ndarray, dict[str, str]]:
    """Colours of discs by whether their prosumer sells more than she buys, and a key to them."""
    least = _NEGLIGIBLE * float(net_import.abs().max())
    roles = {
        "net seller": (net_import < -least, ACCENT),
        "net buyer": (net_import > least, SECOND),
        "neither": (net_import.abs() <= least, LIGHT),
    }
    colour = pd.Series(LIGHT, index=net_import.index, dtype=object)
    for chosen, ink in roles.values():
        colour[chosen] = ink
    rgba: np.ndarray = matplotlib_module("colors").to_rgba_array(list(colour))
    return rgba, {role: ink for role, (chosen, ink) in roles.items() if chosen.any()}
