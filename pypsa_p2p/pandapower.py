"""pandapower networks as PyPSA networks.

Equivalent circuits of the branches are left to two kept converters, pandapower's `to_ppc` and
PyPSA's `import_from_pypower_ppc`. Everything those two lose on the way (names, separate loads and
generators, limits, costs, coordinates, what is out of service) is read from pandapower's tables.
"""

from __future__ import annotations

import json
from typing import Any, Final

import networkx as nx
import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.errors import DataError
from pypsa_p2p.names import FIXED_COST
from pypsa_p2p.pandapower_branches import BRANCH_TABLES, add_branches, branch_case
from pypsa_p2p.pandapower_tables import (
    CONTROLLABLE,
    Losses,
    add_rows,
    flag_column,
    names_of,
    number_column,
    on_buses,
    tables_of,
)
from pypsa_p2p.pandapower_tables import PANDAPOWER_INDEX as PANDAPOWER_INDEX
from pypsa_p2p.pandapower_tables import PANDAPOWER_TABLE as PANDAPOWER_TABLE
from pypsa_p2p.pandapower_tables import UNLIMITED as UNLIMITED

_GENERATOR_TABLES: Final = ("ext_grid", "gen", "sgen")
_CONVERTED: Final = (*BRANCH_TABLES, *_GENERATOR_TABLES, "bus", "switch", "load", "shunt")


def from_pandapower(net: Any, *, set_points: bool = True) -> pypsa.Network:
    """Convert a pandapower network to a PyPSA network.

    Buses, lines, two- and three-winding transformers, impedances, switches, loads, static
    generators, generators, external grids, shunts and polynomial costs are converted; `n.pf()`
    then gives the voltages and flows of `pandapower.runpp(calculate_voltage_angles=True)`, angles
    relative to the slack bus. Names are pandapower's where they are given and unique, else the
    table and index ("load 3"); columns ``pandapower_table`` and ``pandapower_index`` say where a
    component comes from. What is out of service is there with ``active=False``.

    Parameters
    ----------
    net : pandapowerNet
        Left unchanged.
    set_points : bool, default True
        Whether generators carry their active power as ``p_set``. `n.pf()`
        needs it; but PyPSA's `n.optimize()` *fixes* every dispatch that has a ``p_set`` and
        so is infeasible with losses left out: pass False (or set ``n.generators["p_set"] = nan``)
        for an optimal power flow. For a market either will do: `assign_prosumers` clears it where
        a generator is ``controllable``.

    Returns
    -------
    pypsa.Network
        Power in MW and MVar, voltages in kV and per unit, costs in EUR/MWh (``marginal_cost`` =
        cp1), EUR/MW2h (``marginal_cost_quadratic`` = cp2) and EUR/h (column ``fixed_cost`` = cp0).
        Generators have columns ``q_min`` and ``q_max`` (MVar), which PyPSA does not enforce, and
        ``controllable``, pandapower's own, by default True of generators and False of static ones;
        True of every external grid, whose limits are all that pandapower's flag is about.
        Ratings (``s_nom``, MVA) are pandapower's; those of many IEEE cases are dummies, 9900 MVA
        and more, and limit nothing. What has no rating or limit gets 1e6.

    Raises
    ------
    DataError
        pandapower is not installed, `net` is not one of its networks or has no bus in service, or
        pandapower itself cannot build the branches.

    Warns
    -----
    UserWarning
        Once, naming every element that could not be carried over as it was.
    """
    _check_is_pandapower(net)
    lost = Losses()
    n = pypsa.Network(name=str(net.get("name") or ""))
    n.add("Carrier", "AC")
    case = branch_case(net)
    bus_of = _add_buses(n, net, case, lost)
    add_branches(n, net, case, bus_of, lost)
    _add_generators(n, net, bus_of, lost, set_points)
    _add_costs(n, net, lost)
    _add_loads(n, net, bus_of, lost)
    _add_shunts(n, net, bus_of, lost)
    _note_unknown_tables(net, lost)
    _note_islands(n, lost)
    lost.warn()
    return n


def _check_is_pandapower(net: object) -> None:
    """Refuse anything but a pandapower network with a bus in service."""
    try:
        from pandapower.auxiliary import pandapowerNet  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise DataError(
            "from_pandapower needs pandapower, which is not installed. Install it with "
            'pip install "pypsa-p2p[pandapower]".'
        ) from error
    if not isinstance(net, pandapowerNet):
        raise DataError(
            f"from_pandapower needs a pandapower network, not a {type(net).__name__}. Pass what "
            "pandapower.networks.case14(), pandapower.from_json(...) and the like return."
        )
    if not net.bus["in_service"].astype(bool).any():
        raise DataError("The pandapower network has no bus in service. Add one, or switch one on.")


# --- buses --------------------------------------------------------------------------------------


def _add_buses(n: pypsa.Network, net: Any, case: Any, lost: Losses) -> pd.Series:
    """Add the buses in service; return the name of each by pandapower's index.

    Buses joined by a closed switch without impedance are one bus, called by the first of them.
    """
    bus = net.bus[net.bus["in_service"].astype(bool)]
    names = names_of(net, ["bus"])["bus"]
    lost.add("bus out of service", names.drop(bus.index))
    node = pd.Series(case["lookups"]["bus"][bus.index.to_numpy()], bus.index)
    first = node.drop_duplicates()
    bus_of = node.map(pd.Series(names[first.index].to_numpy(), first.to_numpy()))
    merged = bus_of[names[bus.index] != bus_of]
    lost.add("buses merged by closed switches", names[merged.index] + " into " + merged)
    kept = bus.loc[first.index]
    x, y = _coordinates(net, kept.index)
    n.add(
        "Bus",
        list(names[kept.index]),
        v_nom=kept["vn_kv"].to_numpy(float),
        v_mag_pu_min=number_column(kept, "min_vm_pu", 0.0).to_numpy(),
        v_mag_pu_max=number_column(kept, "max_vm_pu", np.inf).to_numpy(),
        x=x,
        y=y,
        **{PANDAPOWER_TABLE: "bus", PANDAPOWER_INDEX: kept.index.to_numpy()},
    )
    return bus_of


def _coordinates(net: Any, buses: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of buses, 0 where none are given; GeoJSON points or a `bus_geodata` table."""
    points = pd.DataFrame(0.0, index=buses, columns=["x", "y"])
    old = net.get("bus_geodata")
    if old is not None and len(old):
        points.update(old[["x", "y"]].astype(float))
    if "geo" in net.bus:
        for index, text in net.bus.loc[buses, "geo"].items():
            if isinstance(text, str) and text:
                points.loc[index] = [float(value) for value in json.loads(text)["coordinates"][:2]]
    return points["x"].to_numpy(), points["y"].to_numpy()


# --- what sits on a bus -------------------------------------------------------------------------


def _add_generators(
    n: pypsa.Network, net: Any, bus_of: pd.Series, lost: Losses, set_points: bool
) -> None:
    """Add external grids (slack), generators (PV or slack) and static generators (PQ)."""
    names = names_of(net, _GENERATOR_TABLES)
    for table in _GENERATOR_TABLES:
        rows = on_buses(net, table, names[table], bus_of, lost)
        scaling = number_column(rows, "scaling", 1.0)
        p_set = number_column(rows, "p_mw", 0.0) * scaling
        free = flag_column(rows, CONTROLLABLE, table != "sgen")
        external = table == "ext_grid"
        slack = flag_column(rows, "slack", False) | external
        control = np.where(slack, "Slack", "PQ" if table == "sgen" else "PV")
        add_rows(
            n,
            "Generator",
            rows,
            control=control,
            p_set=p_set if set_points else np.nan,
            q_set=number_column(rows, "q_mvar", 0.0) * scaling,
            q_min=number_column(rows, "min_q_mvar", -np.inf),
            q_max=number_column(rows, "max_q_mvar", np.inf),
            **_limits(rows, free, p_set, external=external),
            **{CONTROLLABLE: free | external},
        )
        if "vm_pu" in rows:
            on = rows[rows["active"]]
            n.buses.loc[on["pypsa_bus"], "v_mag_pu_set"] = on["vm_pu"].to_numpy(float)


def _limits(
    rows: pd.DataFrame, free: pd.Series, p_set: pd.Series, *, external: bool
) -> dict[str, pd.Series]:
    """Limits of active power as PyPSA has them: p_nom times p_min_pu and p_max_pu.

    As in pandapower, a generator that is not free (controllable) keeps its set point, and an
    external grid that is not has no limits.
    """
    low = number_column(rows, "min_p_mw", -UNLIMITED)
    high = number_column(rows, "max_p_mw", UNLIMITED)
    low = low.where(free, -UNLIMITED if external else p_set)
    high = high.where(free, UNLIMITED if external else p_set)
    p_nom = low.abs().clip(lower=high.abs())
    share = p_nom.where(p_nom > 0, 1.0)
    return {"p_nom": p_nom, "p_min_pu": low / share, "p_max_pu": high / share}


def _add_costs(n: pypsa.Network, net: Any, lost: Losses) -> None:
    """Polynomial costs: cp0 + cp1 p + cp2 p^2, in EUR/h with p in MW."""
    n.generators[FIXED_COST] = 0.0
    cost = net.poly_cost.drop_duplicates(["et", "element"], keep="last")
    labels = (
        "poly_cost "
        + cost.index.astype(str)
        + " of "
        + cost["et"]
        + " "
        + cost["element"].astype(int).astype(str)
    )
    key = pd.MultiIndex.from_arrays([cost["et"], cost["element"].astype(int)])
    generators = pd.Series(
        n.generators.index,
        pd.MultiIndex.from_frame(n.generators[[PANDAPOWER_TABLE, PANDAPOWER_INDEX]]),
    )
    known = key.isin(generators.index)
    lost.add("cost of something that is not a generator here", labels[~known])
    reactive = cost.filter(regex="^cq").fillna(0.0).ne(0.0).any(axis=1)
    lost.add("cost of reactive power", labels[known & reactive])
    target = generators.reindex(key[known]).to_numpy()
    for column, source in (
        (FIXED_COST, "cp0_eur"),
        ("marginal_cost", "cp1_eur_per_mw"),
        ("marginal_cost_quadratic", "cp2_eur_per_mw2"),
    ):
        n.generators.loc[target, column] = number_column(cost, source, 0.0)[known].to_numpy()


def _add_loads(n: pypsa.Network, net: Any, bus_of: pd.Series, lost: Losses) -> None:
    """Add loads of constant power."""
    names = names_of(net, ["load"])["load"]
    rows = on_buses(net, "load", names, bus_of, lost)
    scaling = number_column(rows, "scaling", 1.0)
    depends = rows.filter(regex="^const_[zi]_").fillna(0.0).ne(0.0).any(axis=1)
    lost.add("load that depends on voltage, now of constant power", rows["name"][depends])
    add_rows(
        n,
        "Load",
        rows,
        p_set=number_column(rows, "p_mw", 0.0) * scaling,
        q_set=number_column(rows, "q_mvar", 0.0) * scaling,
    )


def _add_shunts(n: pypsa.Network, net: Any, bus_of: pd.Series, lost: Losses) -> None:
    """Add shunts: g = p step / v_n^2 and b = -q step / v_n^2, siemens with MW, MVar and kV."""
    names = names_of(net, ["shunt"])["shunt"]
    rows = on_buses(net, "shunt", names, bus_of, lost)
    tabulated = flag_column(rows, "step_dependency_table", False)
    lost.add("shunt whose steps follow a table, now proportional", rows["name"][tabulated])
    step = number_column(rows, "step", 1.0)
    square = number_column(rows, "vn_kv", np.nan).fillna(rows["bus"].map(net.bus["vn_kv"])) ** 2
    add_rows(
        n,
        "ShuntImpedance",
        rows,
        g=number_column(rows, "p_mw", 0.0) * step / square,
        b=-number_column(rows, "q_mvar", 0.0) * step / square,
    )


# --- what is left -------------------------------------------------------------------------------


def _note_unknown_tables(net: Any, lost: Losses) -> None:
    """Note rows in service of tables this module has no counterpart for."""
    for table, rows in tables_of(net):
        if table not in (*_CONVERTED, "poly_cost"):
            present = rows.index[flag_column(rows, "in_service", True)]
            names = names_of(net, [table])[table]
            lost.add(f"{table}, which has no counterpart here", names[present])


def _note_islands(n: pypsa.Network, lost: Losses) -> None:
    """Note islands without a slack, and slacks beyond the first in an island."""
    graph = nx.Graph()
    graph.add_nodes_from(n.buses.index)
    for branches in (n.lines, n.transformers):
        on = branches[branches["active"]]
        graph.add_edges_from(zip(on["bus0"], on["bus1"], strict=True))
    island = pd.Series(
        {bus: label for label, part in enumerate(nx.connected_components(graph)) for bus in part}
    )
    slack = n.generators[(n.generators["control"] == "Slack") & n.generators["active"]]
    fed = slack["bus"].map(island)
    lost.add(
        "slack beyond the first of its island, which n.pf() holds at its set point",
        slack.index[fed.duplicated()],
    )
    without = n.buses.index[~n.buses.index.map(island).isin(fed)]
    lost.add("bus without a slack in its island, so that n.pf() says nothing there", without)
