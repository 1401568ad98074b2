"""What a pandapower network needs as a whole for PyPSA's power flow to give the same answer.

PyPSA starts its power flow at angle 0 everywhere, has one slack in an island and fails in an island
without a generator; pandapower starts from the linear power flow, has as many slacks as one likes
and leaves out what none of them reaches.
"""

from __future__ import annotations

import copy
import logging
import warnings
from typing import Any, Final

import networkx as nx
import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.network.pandapower.tables import PANDAPOWER_INDEX, PANDAPOWER_TABLE, Losses

#: Column of buses, degrees: what pandapower's voltage angle has beyond PyPSA's.
ANGLE_OFFSET: Final = "v_ang_offset"
#: Column of transformers, degrees: what pandapower's phase shift has beyond PyPSA's.
VECTOR_GROUP: Final = "vector_group"

_CLOCK_HOUR: Final = 30.0  # degrees; phase shifts of vector groups are multiples of it
_OUT_OF_USE: Final = 1e4  # makes a spanning tree prefer branches in service


def prepare_islands(n: pypsa.Network, net: Any, lost: Losses, *, set_points: bool) -> None:
    """Leave out what cannot be supplied, keep one slack per island, and turn vector groups away."""
    _remove_unsupplied(n, lost)
    _silence_inactive(n, lost)
    island = _islands(n)
    slack = n.generators[(n.generators["control"] == "Slack") & n.generators["active"]]
    further = slack.index[slack["bus"].map(island).duplicated()]
    _hold_further_slacks(n, net, further, lost, set_points=set_points)
    without = n.buses.index[~island.isin(slack["bus"].map(island))]
    lost.add("bus without a slack in its island, so that PyPSA chooses one", without)
    _turn_vector_groups(n, slack["bus"])


def _islands(n: pypsa.Network) -> pd.Series:
    """Number of the island that each bus is in, joined by branches in service."""
    graph = nx.Graph()
    graph.add_nodes_from(n.buses.index)
    for branches in (n.lines, n.transformers):
        on = branches[branches["active"]]
        graph.add_edges_from(zip(on["bus0"], on["bus1"], strict=True))
    return _numbers(graph).reindex(n.buses.index)


def _numbers(graph: nx.Graph) -> pd.Series:
    """Number of the connected part that each node is in."""
    parts = enumerate(nx.connected_components(graph))
    return pd.Series({node: number for number, part in parts for node in part}, dtype=int)


def _remove_unsupplied(n: pypsa.Network, lost: Losses) -> None:
    """Remove islands without a generator in service, with all that is connected to them."""
    island = _islands(n)
    supplied = island[n.generators["bus"][n.generators["active"]]].unique()
    dead = n.buses.index[~island.isin(supplied)]
    if dead.empty:
        return
    for component in n.components:
        static = component.static
        ends = [column for column in ("bus", "bus0", "bus1") if column in static]
        if component.name == "SubNetwork" or static.empty or not ends:
            continue
        gone = static.index[static[ends].isin(dead).any(axis=1)]
        lost.add("element that no generator supplies, left out", gone)
        if len(gone):
            n.remove(component.name, gone)
    named = n.buses[PANDAPOWER_TABLE][dead] == "bus"
    lost.add("bus that no generator supplies, left out", dead[named])
    n.remove("Bus", dead)


def _silence_inactive(n: pypsa.Network, lost: Losses) -> None:
    """Give what is out of service nothing that PyPSA's power flow heeds all the same.

    It asks of lines, transformers and powers whether they are active, but not of generators that
    hold a voltage, nor of shunts and links.
    """
    n.generators.loc[~n.generators["active"], "control"] = "PQ"
    links = n.links.index[~n.links["active"] & n.links["p_set"].notna()]
    n.links.loc[links, "p_set"] = 0.0
    shunts = n.shunt_impedances
    idle = shunts.index[~shunts["active"] & shunts[["g", "b"]].ne(0.0).any(axis=1)]
    n.shunt_impedances.loc[idle, ["g", "b"]] = 0.0
    lost.add("shunt out of service, which PyPSA would count, now without admittance", idle)


# --- slacks -------------------------------------------------------------------------------------


def _hold_further_slacks(
    n: pypsa.Network, net: Any, further: pd.Index, lost: Losses, *, set_points: bool
) -> None:
    """Make slacks beyond the first of an island generators with what they give in pandapower."""
    n.generators.loc[further, "control"] = "PV"
    if further.empty or not set_points:
        lost.add("slack beyond the first of its island, now one of its generators", further)
        return
    power = _power_flow_results(net)
    for name in further:
        table, index = n.generators.loc[name, [PANDAPOWER_TABLE, PANDAPOWER_INDEX]]
        if power is not None:
            n.generators.at[name, "p_set"] = power[table].at[index, "p_mw"]
    how = "0 MW, for pandapower finds no power flow" if power is None else "pandapower's own result"
    lost.add(f"slack beyond the first of its island, with {how} as set point", further)


def _power_flow_results(net: Any) -> dict[str, pd.DataFrame] | None:
    """Tables of results of pandapower's power flow for external grids and generators."""
    import pandapower  # noqa: PLC0415  (optional)

    solved = copy.deepcopy(net)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about numba and columns of older versions
            pandapower.runpp(solved, tolerance_mva=ACCURACY.pandapower, numba=False)
    except Exception:  # whatever its versions raise: there is no power flow to be had
        return None
    finally:
        logging.disable(level)
    return {"ext_grid": solved["res_ext_grid"], "gen": solved["res_gen"]}


# --- vector groups ------------------------------------------------------------------------------


def _turn_vector_groups(n: pypsa.Network, slack_buses: pd.Series) -> None:
    """Turn every bus by an angle that takes vector groups out of the phase shifts.

    V_i -> V_i exp(-j d_i) changes neither magnitudes nor flows where the phase shift of each
    branch becomes s - (d_0 - d_1). Parts joined by lines have one d; a tree of transformers, those
    without a vector group first, sets the rest; d is 0 at the slack.
    """
    group = _CLOCK_HOUR * (n.transformers["phase_shift"] / _CLOCK_HOUR).round()
    if not group.any():
        return
    lines = nx.Graph()
    lines.add_nodes_from(n.buses.index)
    lines.add_edges_from(zip(n.lines["bus0"], n.lines["bus1"], strict=True))
    part = _numbers(lines)
    start, end = (n.transformers[bus].map(part) for bus in ("bus0", "bus1"))
    weight = group.abs() + _OUT_OF_USE * ~n.transformers["active"]
    graph = nx.MultiGraph()
    graph.add_nodes_from(part)
    for name in n.transformers.index:
        graph.add_edge(start[name], end[name], weight=weight[name], start=start[name], name=name)
    tree = nx.minimum_spanning_tree(graph)
    offset = part.map(_angles(tree, group, part[slack_buses]))
    n.buses[ANGLE_OFFSET] = offset.reindex(n.buses.index)
    turned = _half_turn(n.transformers["bus0"].map(offset) - n.transformers["bus1"].map(offset))
    n.transformers[VECTOR_GROUP] = turned
    left = n.transformers["phase_shift"] - turned
    n.transformers["phase_shift"] = left.where(turned == 0, _half_turn(left))


def _angles(tree: nx.MultiGraph, group: pd.Series, roots: pd.Series) -> dict[int, float]:
    """Angle of every part, degrees: 0 at the roots, d_1 = d_0 - group over each transformer."""
    angle: dict[int, float] = {}
    for root in (*roots, *tree):
        if root in angle:
            continue
        angle[root] = 0.0
        for near, far in nx.bfs_edges(tree, root):
            ((_, edge),) = tree[near][far].items()
            sign = -1.0 if edge["start"] == near else 1.0
            angle[far] = float(_half_turn(angle[near] + sign * group[edge["name"]]))
    return angle


def _half_turn(angle: Any) -> Any:
    """The same angles between -180 and 180 degrees."""
    return np.mod(angle + 180.0, 360.0) - 180.0
