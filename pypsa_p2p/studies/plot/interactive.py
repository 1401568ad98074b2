"""Pictures for a browser, with numbers under the pointer (plotly and pydeck come with PyPSA)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import MarketError, P2PError
from pypsa_p2p.common.names import TRADE_CARRIER
from pypsa_p2p.common.tables import first_scenario
from pypsa_p2p.studies.plot.drawing import number, power_unit, wide_range
from pypsa_p2p.studies.plot.solved import Traded

_THICKEST: Final = 8.0  # of a trade, pixels
_BRANCHES: Final = ("Line", "Transformer", "Link")


def require_no_axes(ax: object, interactive: object) -> None:
    """Interactive pictures are figures of their own."""
    if interactive and ax is not None:
        raise MarketError("An interactive picture has no axes of matplotlib: leave ax= out.")


def _module(name: str) -> Any:
    """plotly or pydeck, or a part of it."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise P2PError(
            f"This picture needs {package}, which is not installed: pip install {package}. "
            "PyPSA brings it, usually."
        ) from error


def figure_over_time(values: pd.DataFrame, label: str, stack: Mapping[str, str]) -> Any:
    """Lines over snapshots, named under the pointer; those with a colour stacked.

    Parameters
    ----------
    values : DataFrame (snapshot, name)
    label : str
        Of the axis, with the unit.
    stack : mapping
        Colours of columns that are areas upon each other: what is negative downwards from 0.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    go = _module("plotly.graph_objects")
    figure = go.Figure()
    for name, column in values.items():
        area: dict[str, Any] = {}
        if name in stack:
            way = "up" if column.sum() >= 0 else "down"
            area = {"stackgroup": way, "fillcolor": stack[str(name)]}
        figure.add_scatter(
            x=values.index,
            y=column.to_numpy(),
            name=str(name),
            mode="lines",
            line={"shape": "hv", "width": 0.5 if area else 1.5, "color": stack.get(str(name))},
            hovertemplate="%{y:,.4g}",
            **area,
        )
    many = len(values.columns) > 20
    figure.update_layout(
        template="plotly_white",
        xaxis_title="Snapshot",
        yaxis_title=label,
        hovermode="closest" if many else "x unified",
        showlegend=not many,
    )
    if many:
        figure.update_traces(hovertemplate="%{fullData.name}, %{x}: %{y:,.4g}<extra></extra>")
    return figure


def figure_of_trades(t: Traded, drawn: Mapping[tuple[str, str], float], title: str) -> Any:
    """Prosumers, and the trades drawn as lines; what each is under the pointer.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    go = _module("plotly.graph_objects")
    figure = go.Figure()
    greatest = max(drawn.values(), default=1.0)
    for (seller, buyer), amount in drawn.items():
        ends = np.array([t.where[seller], t.where[buyer]])
        figure.add_annotation(
            x=ends[1, 0], y=ends[1, 1], ax=ends[0, 0], ay=ends[0, 1], xref="x", yref="y",
            axref="x", ayref="y", arrowhead=2, arrowcolor="rgba(70,70,70,0.7)", text="",
            arrowwidth=max(0.7, _THICKEST / 2 * amount / greatest), standoff=7, startstandoff=7,
            arrowsize=0.7,
        )  # fmt: skip
    if drawn:
        middles = np.array([(t.where[a] + 2 * t.where[b]) / 3 for a, b in drawn])
        figure.add_scatter(
            x=middles[:, 0], y=middles[:, 1], mode="markers", name="trades", showlegend=False,
            marker={"size": 7, "color": "rgba(70,70,70,0.25)"}, hoverinfo="text",
            hovertext=[_told(pair, amount) for pair, amount in drawn.items()],
        )  # fmt: skip
    _add_prosumers(figure, t)
    hidden = {"visible": False}
    figure.update_layout(
        template="plotly_white", title=title, xaxis=hidden,
        yaxis=hidden | {"scaleanchor": "x"}, hovermode="closest",
    )  # fmt: skip
    return figure


def _add_prosumers(figure: Any, t: Traded) -> None:
    """A disc for each, in the colour of her price."""
    names = [str(who) for who in t.price.index]
    place = np.array([t.where[who] for who in names])
    low, high = wide_range(t.price.to_numpy())
    figure.add_scatter(
        x=place[:, 0],
        y=place[:, 1],
        mode="markers+text" if len(names) <= 40 else "markers",
        text=names,
        textposition="top center",
        name="prosumers",
        showlegend=False,
        hoverinfo="text",
        hovertext=[_told_of(who, t) for who in names],
        marker={
            "size": 14 if len(names) <= 40 else 9,
            "color": t.price.to_numpy(),
            "colorscale": "Viridis",
            "cmin": low,
            "cmax": high,
            "colorbar": {"title": "EUR/MWh"},
            "line": {"color": "white", "width": 1},
        },
    )


def _told(pair: tuple[str, str], amount: float) -> str:
    """A trade in words: "a sells 2.5 MW to b"."""
    factor, unit = power_unit(amount)
    return f"{pair[0]} sells {number(float(f'{factor * amount:.4g}'))} {unit} to {pair[1]}"


def _told_of(who: str, t: Traded) -> str:
    """A prosumer in words: her price, and what she buys or sells in all."""
    factor, unit = power_unit(abs(float(t.net_import[who])))
    net = float(f"{factor * t.net_import[who]:.4g}")
    price = float(t.price[who])
    told = f"{number(float(f'{price:.5g}'))} EUR/MWh" if np.isfinite(price) else "no price"
    return f"{who}<br>{told}<br>net purchases {number(net)} {unit}"


def map_of_trades(n: pypsa.Network, t: Traded, drawn: Mapping[tuple[str, str], float]) -> Any:
    """The map of `n.explore()`, with an arc for every trade drawn, from seller to buyer.

    Returns
    -------
    pydeck.Deck
    """
    place = first_scenario(n, "Bus").loc[list(t.price.index), ["x", "y"]].astype(float).to_numpy()
    degrees = (np.abs(place) <= (180.0, 90.0)).all()  # false of NaN, too
    if not degrees or len(np.unique(place, axis=0)) < len(place):
        raise MarketError(
            "Prosumers have no places of their own on a map: give their buses x (longitude) and y "
            "(latitude) in degrees, or take interactive=True."
        )
    deck = _module("pydeck")
    grid = _grid_alone(n)
    branches = [name for name in _BRANCHES if len(grid.c[name].static)]
    draw: Any = grid.plot
    found = draw.explore(branch_components=branches)
    greatest = max(drawn.values(), default=1.0)
    arcs = [
        {
            "from": [float(x) for x in t.where[seller]],
            "to": [float(x) for x in t.where[buyer]],
            "width": max(1.0, _THICKEST * amount / greatest),
            "tooltip_html": _told((seller, buyer), amount),
        }
        for (seller, buyer), amount in drawn.items()
    ]
    found.layers.append(
        deck.Layer(
            "ArcLayer",
            arcs,
            id="trades",
            get_source_position="from",
            get_target_position="to",
            get_width="width",
            get_source_color=[213, 94, 0, 200],
            get_target_color=[0, 114, 178, 200],
            pickable=True,
        )
    )
    return found


def _grid_alone(n: pypsa.Network) -> pypsa.Network:
    """Buses and branches without trades, in the first scenario: maps know no scenarios."""
    grid = pypsa.Network()
    buses = first_scenario(n, "Bus")
    grid.add("Bus", list(buses.index), x=buses["x"], y=buses["y"], carrier=buses["carrier"])
    for component in _BRANCHES:
        table = first_scenario(n, component)
        table = table[table["carrier"] != TRADE_CARRIER] if component == "Link" else table
        if len(table):
            grid.add(component, list(table.index), bus0=table["bus0"], bus1=table["bus1"])
    return grid
