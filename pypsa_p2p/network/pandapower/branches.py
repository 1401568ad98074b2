"""Branches of pandapower networks, by two kept converters: `to_ppc` and PyPSA's own importer."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import DataError
from pypsa_p2p.network.pandapower.tables import (
    PANDAPOWER_INDEX,
    PANDAPOWER_TABLE,
    UNLIMITED,
    Losses,
    flag_column,
    names_of,
    number_column,
    tables_of,
    unused_name,
    unused_names,
)

BRANCH_TABLES: Final = ("line", "trafo", "trafo3w", "impedance", "xward")
_ENDS: Final = ("bus", "from_bus", "to_bus", "hv_bus", "mv_bus", "lv_bus")
_ENDS_OF_THREE: Final = (" hv", " mv", " lv")
_CIRCUIT_COLUMNS: Final = {
    "Line": ["r", "x", "b", "s_nom"],
    "Transformer": ["r", "x", "b", "s_nom", "tap_ratio", "phase_shift", "model"],
}
_RATING: Final = 5  # column of a PYPOWER branch, MVA


def branch_case(net: Any) -> dict[str, Any]:
    """PYPOWER case of nothing but the buses and branches, by pandapower's `to_ppc`.

    Branches out of service between buses in service are switched on, so that they are converted
    too; `add_branches` switches them off again.
    """
    from pandapower.converter.pypower.to_ppc import to_ppc  # noqa: PLC0415  (optional)

    bare = copy.deepcopy(net)
    in_service = bare.bus.index[bare.bus["in_service"].astype(bool)]
    for table, rows in tables_of(bare):
        if table not in ("bus", "switch", *BRANCH_TABLES):
            bare[table] = rows.iloc[:0]
    for table in BRANCH_TABLES:
        rows = bare[table]
        ends = rows[[column for column in _ENDS if column in rows]]
        rows["in_service"] = ends.isin(in_service).all(axis=1) | rows["in_service"].astype(bool)
        rows["max_loading_percent"] = number_column(rows, "max_loading_percent", 100.0)
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
    switches = bare["switch"].index[np.asarray(bare["_impedance_bb_switches"], dtype=bool)]
    return case | {"lookups": bare["_pd2ppc_lookups"], "switches": switches}


def _branch_labels(net: Any, case: dict[str, Any]) -> pd.DataFrame:
    """Name, table, index and status of every branch that pandapower kept, in its order.

    Those it has beside its tables of branches are switches with an impedance.
    """
    names = names_of(net, BRANCH_TABLES)
    parts = []
    for table, (start, stop) in case["lookups"]["branch"].items():
        count = stop - start
        if table in BRANCH_TABLES:
            copies = count // len(net[table])
            three = copies == len(_ENDS_OF_THREE)
            index = np.tile(net[table].index.to_numpy(), copies)
            label = list(names[table])
            if three:
                label = unused_names(net, [a + b for b in _ENDS_OF_THREE for a in label])
            active = np.tile(flag_column(net[table], "in_service", True).to_numpy(), copies)
        else:
            index, active = case["switches"].to_numpy(), np.ones(count, dtype=bool)
            used = set(pd.concat(names.values()))
            label = [unused_name(name, used) for name in names_of(net, [table])[table][index]]
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


def add_branches(
    n: pypsa.Network, net: Any, case: dict[str, Any], bus_of: pd.Series, lost: Losses
) -> None:
    """Add lines and transformers, with the open ends and star points pandapower models as buses.

    A transformer of ratio 1 between buses of equal voltage is the same circuit as a line and
    becomes one.
    """
    labels = _branch_labels(net, case)
    kept = case["internal"]["branch_is"].astype(bool)
    lost.add("branch on a bus out of service", labels["name"][~kept])
    labels = labels[kept].reset_index(drop=True)
    if labels.empty:
        return
    circuit = _circuit(case, labels, lost)
    unequal = _uneven_shunts(case)
    nodes = _node_names(n, net, case, bus_of, circuit, labels)
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
        _add_uneven_shunts(n, net, data, unequal[origin.index], case["baseMVA"])


def _uneven_shunts(case: dict[str, Any]) -> np.ndarray:
    """Admittance (per unit) that the end of each branch has beyond what its beginning has."""
    zero = np.zeros(len(case["branch"]))
    g, b = (np.real(case.get(f"branch_{part}_asym", zero)) for part in "gb")
    return (g + 1j * b) / 2


def _add_uneven_shunts(
    n: pypsa.Network, net: Any, data: pd.DataFrame, unequal: np.ndarray, base: float
) -> None:
    """Add the difference between the shunts at both ends of branches as shunts at the last bus."""
    own = data.assign(extra=unequal)[unequal != 0]
    if own.empty:
        return
    siemens = own["extra"] * base / own["bus1"].map(n.buses["v_nom"]) ** 2
    n.add(
        "ShuntImpedance",
        unused_names(net, own.index + " bus1"),
        bus=own["bus1"].to_numpy(),
        g=np.real(siemens),
        b=np.imag(siemens),
        active=own["active"].to_numpy(),
        **{column: own[column].to_numpy() for column in (PANDAPOWER_TABLE, PANDAPOWER_INDEX)},
    )


def _circuit(case: dict[str, Any], labels: pd.DataFrame, lost: Losses) -> pypsa.Network:
    """Buses and branches of a PYPOWER case with PyPSA's units, by PyPSA's own importer."""
    branch = np.real(case["branch"])
    unrated = ~(branch[:, _RATING] > 0)
    branch[unrated, _RATING] = UNLIMITED
    named = unrated & (labels[PANDAPOWER_TABLE] != "xward").to_numpy()  # sources have none
    lost.add(f"branch without rating, now {UNLIMITED:g} MVA", labels["name"][named])
    lost.add(
        "branch of unequal impedances, now the forward one both ways", _asymmetric(case, labels)
    )
    circuit = pypsa.Network()
    with _quiet("pypsa.network"):
        circuit.import_from_pypower_ppc(case | {"branch": branch, "gen": np.zeros((0, 21))})
    for component in _CIRCUIT_COLUMNS:  # where a case has none, PyPSA's importer adds an empty one
        static = circuit.c[component].static
        if "original_index" in static:
            circuit.remove(component, static.index[static["original_index"].isna()])
    circuit.transformers["model"] = "pi"
    return circuit


def _asymmetric(case: dict[str, Any], labels: pd.DataFrame) -> pd.Series:
    """Names of the branches with an impedance for each direction, which PyPSA cannot represent."""
    differs = np.zeros(len(labels), dtype=bool)
    for key in ("branch_r_asym", "branch_x_asym"):
        differs |= np.real(case.get(key, np.zeros(len(labels)))) != 0
    return labels["name"][differs]


def _node_names(
    n: pypsa.Network,
    net: Any,
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
            added = unused_names(net, made.index + f" {side}")
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
