"""pandapower networks as PyPSA networks.

Equivalent circuits of the branches are left to two kept converters, pandapower's `to_ppc` and
PyPSA's `import_from_pypower_ppc`. Everything those two lose on the way (names, separate loads and
generators, limits, costs, coordinates, what is out of service) is read from pandapower's tables.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import networkx as nx
import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.errors import DataError, listed
from pypsa_p2p.names import FIXED_COST

#: Limit of what pandapower leaves without one, MW or MVA.
UNLIMITED: Final = 1e6
#: Table and index of an element in the pandapower network, columns of every component.
PANDAPOWER_TABLE: Final = "pandapower_table"
PANDAPOWER_INDEX: Final = "pandapower_index"

_BRANCH_TABLES: Final = ("line", "trafo", "trafo3w", "impedance")
_GENERATOR_TABLES: Final = ("ext_grid", "gen", "sgen")
_CONVERTED: Final = (*_BRANCH_TABLES, *_GENERATOR_TABLES, "bus", "switch", "load", "shunt")
#: Tables without an `in_service` column whose rows would change a power flow or a cost.
_UNCONVERTED: Final = ("pwl_cost",)
_ENDS_OF_THREE: Final = (" hv", " mv", " lv")
_CIRCUIT_COLUMNS: Final = {
    "Line": ["r", "x", "b", "s_nom"],
    "Transformer": ["r", "x", "b", "s_nom", "tap_ratio", "phase_shift", "model"],
}
_RATING: Final = 5  # column of a PYPOWER branch, MVA


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
        for an optimal power flow.

    Returns
    -------
    pypsa.Network
        Power in MW and MVar, voltages in kV and per unit, costs in EUR/MWh (``marginal_cost`` =
        cp1), EUR/MW2h (``marginal_cost_quadratic`` = cp2) and EUR/h (column ``fixed_cost`` = cp0).
        Generators have columns ``q_min`` and ``q_max`` (MVar), which PyPSA does not enforce.
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
    lost = _Losses()
    n = pypsa.Network(name=str(net.get("name") or ""))
    n.add("Carrier", "AC")
    case = _branch_case(net)
    bus_of = _add_buses(n, net, case, lost)
    _add_branches(n, net, case, bus_of, lost)
    _add_generators(n, net, bus_of, lost, set_points)
    _add_costs(n, net, lost)
    _add_loads(n, net, bus_of, lost)
    _add_shunts(n, net, bus_of, lost)
    _note_unknown_tables(net, lost)
    _note_islands(n, lost)
    lost.warn()
    return n


class _Losses:
    """Elements that could not be carried over, by the reason why."""

    def __init__(self) -> None:
        self._elements: dict[str, list[str]] = {}

    def add(self, reason: str, elements: Iterable[object]) -> None:
        """Note elements under a reason; nothing happens when there are none."""
        names = [str(element) for element in elements]
        if names:
            self._elements.setdefault(reason, []).extend(names)

    def warn(self) -> None:
        """One warning about all of them."""
        if self._elements:
            parts = [f"{why}: {listed(who, len(who))}" for why, who in self._elements.items()]
            warnings.warn(
                "Not everything in the pandapower network could be carried over. "
                + "; ".join(parts)
                + ".",
                UserWarning,
                stacklevel=3,
            )


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


# --- tables -------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """A name as text: "" for a missing one, "1" for the float 1.0."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _names(net: Any, tables: Iterable[str]) -> dict[str, pd.Series]:
    """Names, unique over all the tables; by table and pandapower's index."""
    rows = [(table, index) for table in tables for index in net[table].index]
    given = [
        _text(value)
        for table in tables
        for value in net[table].get("name", pd.Series(None, net[table].index, dtype=object))
    ]
    plain = pd.Series([f"{table} {index}" for table, index in rows], dtype=object)
    names = pd.Series(given, dtype=object).where(lambda name: name != "", plain)
    names = names.where(~names.duplicated(keep=False), names + " (" + plain + ")")
    names = names if names.is_unique else plain
    owner = np.array([table for table, _ in rows], dtype=object)
    return {
        table: pd.Series(names[owner == table].to_numpy(), net[table].index, dtype=object)
        for table in tables
    }


def _column(table: pd.DataFrame, name: str, default: float) -> pd.Series:
    """A numeric column, `default` where it is missing or empty."""
    if name not in table:
        return pd.Series(default, table.index, dtype=float)
    return pd.to_numeric(table[name]).astype(float).fillna(default)


def _flag(table: pd.DataFrame, name: str, default: bool) -> pd.Series:
    """A boolean column, `default` where it is missing or empty."""
    if name not in table:
        return pd.Series(default, table.index, dtype=bool)
    return table[name].map(lambda value: default if pd.isna(value) else bool(value)).astype(bool)


def _on_buses(
    net: Any, table: str, names: pd.Series, bus_of: pd.Series, lost: _Losses
) -> pd.DataFrame:
    """Rows of a table that sit on converted buses, with what every component has."""
    rows = net[table]
    at_bus = rows["bus"].isin(bus_of.index)
    lost.add(f"{table} on a bus out of service", names[~at_bus])
    rows = rows[at_bus]
    return pd.DataFrame(rows).assign(
        name=names[at_bus],
        pypsa_bus=rows["bus"].map(bus_of),
        active=_flag(rows, "in_service", True),
        **{PANDAPOWER_TABLE: table, PANDAPOWER_INDEX: rows.index},
    )


def _add(n: pypsa.Network, component: str, rows: pd.DataFrame, **columns: object) -> None:
    """Add rows made by `_on_buses` as components with more columns."""
    if rows.empty:
        return
    table = pd.DataFrame(columns, index=rows.index).assign(
        bus=rows["pypsa_bus"],
        active=rows["active"],
        **{column: rows[column] for column in (PANDAPOWER_TABLE, PANDAPOWER_INDEX)},
    )
    table.index = pd.Index(rows["name"], name="name")
    n.add(component, list(table.index), **table)


# --- buses --------------------------------------------------------------------------------------


def _add_buses(n: pypsa.Network, net: Any, case: Any, lost: _Losses) -> pd.Series:
    """Add the buses in service; return the name of each by pandapower's index.

    Buses joined by a closed switch without impedance are one bus, called by the first of them.
    """
    bus = net.bus[net.bus["in_service"].astype(bool)]
    names = _names(net, ["bus"])["bus"]
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
        v_mag_pu_min=_column(kept, "min_vm_pu", 0.0).to_numpy(),
        v_mag_pu_max=_column(kept, "max_vm_pu", np.inf).to_numpy(),
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


# --- branches -----------------------------------------------------------------------------------


def _branch_case(net: Any) -> dict[str, Any]:
    """PYPOWER case of nothing but the buses and branches, by pandapower's `to_ppc`.

    Branches out of service between buses in service are switched on, so that they are converted
    too; `_add_branches` switches them off again.
    """
    from pandapower.converter.pypower.to_ppc import to_ppc  # noqa: PLC0415  (optional)

    bare = copy.deepcopy(net)
    in_service = bare.bus.index[bare.bus["in_service"].astype(bool)]
    for table, rows in _tables(bare):
        if table not in ("bus", "switch", *_BRANCH_TABLES):
            bare[table] = rows.iloc[:0]
    for table in _BRANCH_TABLES:
        rows = bare[table]
        ends = rows[[name for name in rows if str(name).endswith("_bus")]]
        rows["in_service"] = ends.isin(in_service).all(axis=1) | rows["in_service"].astype(bool)
        rows["max_loading_percent"] = _column(rows, "max_loading_percent", 100.0)
    bare["ext_grid"] = pd.DataFrame(
        {"bus": in_service[:1], "vm_pu": 1.0, "va_degree": 0.0, "slack_weight": 1.0}
    ).assign(in_service=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about columns that older versions did not write
            case: dict[str, Any] = to_ppc(bare, init="flat", mode="pf", check_connectivity=False)
    except Exception as error:
        raise DataError(
            f"pandapower cannot build the branches of this network: {error}. Check it with "
            "pandapower.diagnostic(net)."
        ) from error
    return case | {"lookups": bare["_pd2ppc_lookups"]}


def _tables(net: Any) -> list[tuple[str, pd.DataFrame]]:
    """Element and cost tables of a network that have rows."""
    return [
        (name, table)
        for name, table in net.items()
        if isinstance(table, pd.DataFrame)
        and len(table)
        and not name.startswith(("_", "res_"))
        and ("in_service" in table or name in ("switch", "poly_cost", *_UNCONVERTED))
    ]


def _branch_labels(net: Any, case: dict[str, Any]) -> pd.DataFrame:
    """Name, table, index and status of every branch that pandapower kept, in its order."""
    names = _names(net, _BRANCH_TABLES)
    parts = []
    for table, (start, stop) in case["lookups"]["branch"].items():
        count = stop - start
        if table in _BRANCH_TABLES:
            copies = count // len(net[table])
            ends = _ENDS_OF_THREE if copies == len(_ENDS_OF_THREE) else ("",)
            index = np.tile(net[table].index.to_numpy(), copies)
            label = [name + end for end in ends for name in names[table]]
            active = np.tile(_flag(net[table], "in_service", True).to_numpy(), copies)
        else:
            index, active = np.arange(count), np.ones(count, dtype=bool)
            label = [f"{table} {position}" for position in range(count)]
        parts.append(
            pd.DataFrame(
                {
                    "name": label,
                    "active": active,
                    PANDAPOWER_TABLE: table,
                    PANDAPOWER_INDEX: index,
                }
            )
        )
    columns = ["name", "active", PANDAPOWER_TABLE, PANDAPOWER_INDEX]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _add_branches(
    n: pypsa.Network, net: Any, case: dict[str, Any], bus_of: pd.Series, lost: _Losses
) -> None:
    """Add lines and transformers, with the open ends and star points pandapower models as buses.

    A transformer of ratio 1 between buses of equal voltage is the same circuit as a line and
    becomes one.
    """
    labels = _branch_labels(net, case)
    kept = case["internal"]["branch_is"].astype(bool)
    lost.add("branch on a bus out of service", labels["name"][~kept & labels["active"]])
    labels = labels[kept].reset_index(drop=True)
    if labels.empty:
        return
    circuit = _circuit(case, labels, lost)
    nodes = _node_names(n, case, bus_of, circuit, labels)
    conductance = np.real(case.get("branch_g", np.zeros(len(labels)))) * case["baseMVA"]
    for component, columns in _CIRCUIT_COLUMNS.items():
        table = circuit.c[component].static
        if table.empty:
            continue
        origin = labels.loc[table["original_index"].astype(int)]
        v_nom = table["bus0"].map(circuit.buses["v_nom"])
        base = v_nom**2 if component == "Line" else table["s_nom"]
        data = table[columns].set_index(pd.Index(origin["name"], name="name"))
        data["bus0"] = table["bus0"].map(nodes).to_numpy()
        data["bus1"] = table["bus1"].map(nodes).to_numpy()
        data["g"] = conductance[origin.index] / base.to_numpy()
        for column in ("active", PANDAPOWER_TABLE, PANDAPOWER_INDEX):
            data[column] = origin[column].to_numpy()
        n.add(component, list(data.index), **data)


def _circuit(case: dict[str, Any], labels: pd.DataFrame, lost: _Losses) -> pypsa.Network:
    """Buses and branches of a PYPOWER case with PyPSA's units, by PyPSA's own importer."""
    branch = np.real(case["branch"])
    unrated = ~(branch[:, _RATING] > 0)
    branch[unrated, _RATING] = UNLIMITED
    lost.add(f"branch without rating, now {UNLIMITED:g} MVA", labels["name"][unrated])
    lost.add("asymmetric branch, now symmetric", _asymmetric(case, labels))
    circuit = pypsa.Network()
    with _quiet("pypsa.network"):
        circuit.import_from_pypower_ppc(case | {"branch": branch, "gen": np.zeros((0, 21))})
    circuit.transformers["model"] = "pi"
    return circuit


def _asymmetric(case: dict[str, Any], labels: pd.DataFrame) -> pd.Series:
    """Names of the branches whose two ends differ, which PyPSA cannot represent."""
    keys = ("branch_r_asym", "branch_x_asym", "branch_g_asym", "branch_b_asym")
    differs = np.zeros(len(labels), dtype=bool)
    for key in keys:
        differs |= np.real(case.get(key, np.zeros(len(labels)))) != 0
    return labels["name"][differs]


def _node_names(
    n: pypsa.Network,
    case: dict[str, Any],
    bus_of: pd.Series,
    circuit: pypsa.Network,
    labels: pd.DataFrame,
) -> pd.Series:
    """Bus name of every node in the PYPOWER case; adds those pandapower made up itself."""
    nodes = case["lookups"]["bus"][bus_of.index.to_numpy()]
    names = pd.Series(bus_of.to_numpy(), nodes.astype(str))
    names = names[~names.index.duplicated()]
    ends = pd.concat([circuit.lines, circuit.transformers]).sort_values("original_index")
    ends.index = pd.Index(labels["name"][ends["original_index"].astype(int)])
    for side in ("bus0", "bus1"):
        made = ends[side][~ends[side].isin(names.index)].drop_duplicates()
        if len(made):
            added = [f"{branch} {side}" for branch in made.index]
            n.add("Bus", added, v_nom=circuit.buses["v_nom"][made].to_numpy())
            n.buses.loc[added, PANDAPOWER_TABLE] = "branch"
            names = pd.concat([names, pd.Series(added, made.to_numpy())])
    return names


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Hold back a logger's warnings about what this module looks after itself."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


# --- what sits on a bus -------------------------------------------------------------------------


def _add_generators(
    n: pypsa.Network, net: Any, bus_of: pd.Series, lost: _Losses, set_points: bool
) -> None:
    """Add external grids (slack), generators (PV or slack) and static generators (PQ)."""
    names = _names(net, _GENERATOR_TABLES)
    for table in _GENERATOR_TABLES:
        rows = _on_buses(net, table, names[table], bus_of, lost)
        scaling = _column(rows, "scaling", 1.0)
        p_set = _column(rows, "p_mw", 0.0) * scaling
        slack = _flag(rows, "slack", False) | (table == "ext_grid")
        control = np.where(slack, "Slack", "PQ" if table == "sgen" else "PV")
        _add(
            n,
            "Generator",
            rows,
            control=control,
            p_set=p_set if set_points else np.nan,
            q_set=_column(rows, "q_mvar", 0.0) * scaling,
            q_min=_column(rows, "min_q_mvar", -np.inf),
            q_max=_column(rows, "max_q_mvar", np.inf),
            **_limits(rows, table, p_set),
        )
        if "vm_pu" in rows:
            on = rows[rows["active"]]
            n.buses.loc[on["pypsa_bus"], "v_mag_pu_set"] = on["vm_pu"].to_numpy(float)


def _limits(rows: pd.DataFrame, table: str, p_set: pd.Series) -> dict[str, pd.Series]:
    """Limits of active power as PyPSA has them: p_nom times p_min_pu and p_max_pu.

    As in pandapower, a generator that is not controllable (by default the static ones) keeps its
    set point, and an external grid that is not controllable has no limits.
    """
    free = _flag(rows, "controllable", table != "sgen")
    low, high = _column(rows, "min_p_mw", -UNLIMITED), _column(rows, "max_p_mw", UNLIMITED)
    external = table == "ext_grid"
    low = low.where(free, -UNLIMITED if external else p_set)
    high = high.where(free, UNLIMITED if external else p_set)
    p_nom = low.abs().clip(lower=high.abs())
    share = p_nom.where(p_nom > 0, 1.0)
    return {"p_nom": p_nom, "p_min_pu": low / share, "p_max_pu": high / share}


def _add_costs(n: pypsa.Network, net: Any, lost: _Losses) -> None:
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
        n.generators.loc[target, column] = _column(cost, source, 0.0)[known].to_numpy()


def _add_loads(n: pypsa.Network, net: Any, bus_of: pd.Series, lost: _Losses) -> None:
    """Add loads of constant power."""
    names = _names(net, ["load"])["load"]
    rows = _on_buses(net, "load", names, bus_of, lost)
    scaling = _column(rows, "scaling", 1.0)
    depends = rows.filter(regex="^const_[zi]_").fillna(0.0).ne(0.0).any(axis=1)
    lost.add("load that depends on voltage, now of constant power", rows["name"][depends])
    _add(
        n,
        "Load",
        rows,
        p_set=_column(rows, "p_mw", 0.0) * scaling,
        q_set=_column(rows, "q_mvar", 0.0) * scaling,
    )


def _add_shunts(n: pypsa.Network, net: Any, bus_of: pd.Series, lost: _Losses) -> None:
    """Add shunts: g = p step / v_n^2 and b = -q step / v_n^2, siemens with MW, MVar and kV."""
    names = _names(net, ["shunt"])["shunt"]
    rows = _on_buses(net, "shunt", names, bus_of, lost)
    tabulated = _flag(rows, "step_dependency_table", False)
    lost.add("shunt whose steps follow a table, now proportional", rows["name"][tabulated])
    step = _column(rows, "step", 1.0)
    square = _column(rows, "vn_kv", np.nan).fillna(rows["bus"].map(net.bus["vn_kv"])) ** 2
    _add(
        n,
        "ShuntImpedance",
        rows,
        g=_column(rows, "p_mw", 0.0) * step / square,
        b=-_column(rows, "q_mvar", 0.0) * step / square,
    )


# --- what is left -------------------------------------------------------------------------------


def _note_unknown_tables(net: Any, lost: _Losses) -> None:
    """Note rows in service of tables this module has no counterpart for."""
    for table, rows in _tables(net):
        if table not in (*_CONVERTED, "poly_cost"):
            present = rows.index[_flag(rows, "in_service", True)]
            names = _names(net, [table])[table]
            lost.add(f"{table}, which has no counterpart here", names[present])


def _note_islands(n: pypsa.Network, lost: _Losses) -> None:
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
