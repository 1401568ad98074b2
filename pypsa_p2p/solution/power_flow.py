"""Whether the grid bears a solved market: its injections in PyPSA's AC power flow."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import DataError, shown
from pypsa_p2p.common.names import SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import dynamic_values, static_values
from pypsa_p2p.common.values import labelled
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.flow_solving import Flows, solve_flows
from pypsa_p2p.solution.grid_flows import (
    BRANCH,
    BUS,
    Array,
    Grid,
    read_grid,
    read_injections,
)
from pypsa_p2p.solution.grid_prices import taken_from_grid
from pypsa_p2p.solution.results import results

_DESCRIBED: Final = {
    "voltage": ("per unit", "voltage magnitude"),
    "voltage_min": ("per unit", "least voltage allowed, v_mag_pu_min"),
    "voltage_max": ("per unit", "highest voltage allowed, v_mag_pu_max"),
    "voltage_violation": ("per unit", "voltage above its limits; negative: below"),
    "loading": ("1", "apparent power at the more loaded end as a share of s_nom"),
    "loading_max": ("1", "highest loading allowed, s_max_pu"),
    "loading_violation": ("1", "loading above its limit"),
    "losses": ("MW", "active power lost in lines and transformers"),
    "connection": ("MW", "active power that balances the grid, given at its connections"),
    "converged": ("1", "whether a solution of the power flow was found"),
    "within_limits": ("1", "converged, and no voltage or loading is beyond its limits"),
}


def check_power_flow(
    n: pypsa.Network, *, power_factor: float | None = None, progress: bool = False
) -> xr.Dataset:
    r"""Put what a market decided into PyPSA's AC power flow: voltages, loadings, violations.

    Trading, and PyPSA's optimisation with it, knows active power on a grid without losses. Here
    every scenario and snapshot is a power flow of the physical grid alone:

    .. math:: P_b + i Q_b = V_b \sum_k \bar Y_{bk} \bar V_k

    P takes each prosumer's net import from her grid bus, and adds the grid's own assets and links
    as dispatched. Q is the ``q_set`` of loads and other assets, also behind the meter, where they
    stand on the grid. Generators whose ``control`` is "PV" hold ``v_mag_pu_set`` of their bus of
    the grid, whoever owns them, at any reactive power. So does the slack: the grid's connection,
    the bus at which the surplus leaves it (MODEL.md section 6), which takes the surplus and gives
    the losses. A part of the grid that only links connect to it has a slack of its own.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market of any ``delivery``, all of whose prosumers have a ``grid_bus``; it
        stays as it is.
    power_factor : float, optional
        In (0, 1], lagging: loads without ``q_set``, less what elastic demand sheds of them, take
        tan(arccos(power_factor)) MVar for every MW. Default: no reactive power but ``q_set``.
    progress : bool, default False
        Whether to show a progress bar on stderr, on a terminal or in a notebook.

    Returns
    -------
    xarray.Dataset
        ``voltage`` (scenario, snapshot, bus), per unit. ``loading`` (scenario, snapshot, branch),
        apparent power at the more loaded end of lines and transformers over ``s_nom``
        (``s_nom_opt`` where extendable). ``voltage_violation``, signed, and
        ``loading_violation``, how far beyond ``v_mag_pu_min``, ``v_mag_pu_max`` and ``s_max_pu``
        these are, 0 within. ``losses`` and ``connection``, what the slacks give, MW.
        ``converged`` and ``within_limits`` (scenario, snapshot). Where a power flow did not
        converge there is no voltage, loading or violation: they are NaN, and it is not within
        limits. Units and meanings are in the variables' ``attrs``.

    Raises
    ------
    MarketError
        No market was solved, or a prosumer has no place on the grid.
    DataError
        Branches without impedance, or a power factor outside (0, 1].

    See Also
    --------
    power_flow_violations : the violations as a table.

    Notes
    -----
    Limits of reactive power are not known to PyPSA's power flow. Set points of voltage outside a
    bus's own limits count as violations: IEEE cases have some.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("ieee14")
    >>> n.buses["v_mag_pu_set"] = n.buses.v_mag_pu_set.clip(upper=1.06)  # as its limits ask
    >>> p2p.assign_prosumers(n, "bus")
    >>> p2p.add_trades(n, "grid", capacity=300)
    >>> p2p.CentralizedMarket(delivery="grid").optimize(n)
    ('ok', 'optimal')
    >>> check = check_power_flow(n)
    >>> bool(check.within_limits.all()), round(float(check.losses.sum()), 1)
    (True, 13.6)
    """
    tangent = _tangent(power_factor)
    taken = taken_from_grid(results(n))
    data = read_market(n, taken.indexes[SNAPSHOT])
    grid = read_grid(n, data)
    power = read_injections(n, data, grid, taken, tangent)
    flows = solve_flows(n, data, grid, power, progress=progress)
    return _described(_dataset(n, data, grid, flows))


def power_flow_violations(check: xr.Dataset) -> pd.DataFrame:
    """List what `check_power_flow` found beyond limits, one row for each.

    Parameters
    ----------
    check : xarray.Dataset
        From `check_power_flow`.

    Returns
    -------
    DataFrame
        Columns scenario, snapshot, ``kind`` ("voltage", "loading" or "convergence"), ``element``
        (the bus or branch), ``value`` and ``limit`` (per unit of voltage, share of s_nom).
        Power flows that did not converge have a row each, without element and numbers.

    Examples
    --------
    Bus 8 of the IEEE case has a set point of 1.09 and a limit of 1.06:

    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("ieee14")
    >>> p2p.assign_prosumers(n, "bus")
    >>> p2p.add_trades(n, "grid", capacity=300)
    >>> p2p.CentralizedMarket(delivery="grid").optimize(n)
    ('ok', 'optimal')
    >>> table = power_flow_violations(check_power_flow(n))
    >>> table.loc[table.element == "8", ["kind", "value", "limit"]].values.tolist()
    [['voltage', 1.09, 1.06]]
    """
    if not isinstance(check, xr.Dataset) or "converged" not in check:
        raise DataError(
            f"power_flow_violations takes what check_power_flow returns, not {shown(check)}."
        )
    failed = (~check["converged"]).to_dataframe(name="failed").reset_index()
    frames = [failed.loc[failed["failed"], [SCENARIO, SNAPSHOT]].assign(kind="convergence")]
    for kind, dim in (("voltage", BUS), ("loading", BRANCH)):
        beyond = check[f"{kind}_violation"]
        found = xr.Dataset({"value": check[kind], "limit": check[kind] - beyond, "beyond": beyond})
        rows = found.reset_coords(drop=True).to_dataframe().reset_index()
        rows = rows[rows["beyond"].abs() > 0].rename(columns={dim: "element"})
        frames.append(rows.assign(kind=kind))
    columns = [SCENARIO, SNAPSHOT, "kind", "element", "value", "limit"]
    filled = [frame.reindex(columns=columns) for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame(columns=columns)
    return pd.concat(filled, ignore_index=True)


def _tangent(power_factor: Any) -> float:
    """MVar for every MW of load, tan(arccos(power factor))."""
    if power_factor is None:
        return 0.0
    number = isinstance(power_factor, int | float | np.number)
    if isinstance(power_factor, bool) or not number or not 0 < power_factor <= 1:
        raise DataError(f"power_factor is {shown(power_factor)}: give a number in (0, 1], or None.")
    return math.tan(math.acos(power_factor))


def _dataset(n: pypsa.Network, data: MarketData, grid: Grid, flows: Flows) -> xr.Dataset:
    """What the power flows say, beside the limits."""
    coordinates = {SCENARIO: data.scenarios, SNAPSHOT: data.snapshots}

    def array(values: Array, *last: pd.Index) -> xr.DataArray:
        return labelled(values, coordinates | {str(index.name): index for index in last})

    voltage = array(flows.voltage, grid.buses)
    low, high = (
        labelled(
            static_values(n, "Bus", f"v_mag_pu_{end}", grid.buses, default).to_numpy(),
            {SCENARIO: data.scenarios, BUS: grid.buses},
        )
        for end, default in (("min", 0.0), ("max", np.inf))
    )
    rating, allowed = _ratings(n, data, grid)
    loading = array(_share(flows.apparent, rating), grid.labels)
    most = array(allowed, grid.labels)
    over_voltage = _beyond(voltage - high) - _beyond(low - voltage)
    over_loading = _beyond(loading - most)
    converged = array(flows.converged)
    within = converged & (over_voltage == 0).all(BUS) & (over_loading == 0).all(BRANCH)
    dims = (SCENARIO, SNAPSHOT)
    found = {
        "voltage": voltage,
        "voltage_min": low,
        "voltage_max": high,
        "voltage_violation": over_voltage.transpose(*dims, BUS),
        "loading": loading,
        "loading_max": most,
        "loading_violation": over_loading.transpose(*dims, BRANCH),
        "losses": array(flows.losses),
        "connection": array(flows.connection),
        "converged": converged,
        "within_limits": within.transpose(*dims),
    }
    ends = {end: (BRANCH, grid.branches[end].to_numpy(object)) for end in ("bus0", "bus1")}
    return xr.Dataset(found).assign_coords(ends)


def _beyond(excess: xr.DataArray) -> xr.DataArray:
    """The part of an excess over a limit that is more than rounding; NaN stays."""
    return excess.where(~(excess <= ACCURACY.power_flow), 0.0)


def _share(apparent: Array, rating: Array) -> Array:
    """Apparent power as a share of the rating: infinite where there is none, but power."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = apparent / rating[:, None, :]
    rounding = ACCURACY.power_flow * np.nanmax(apparent, initial=0.0)
    idle = (rating[:, None, :] == 0) & (apparent <= rounding)
    return np.where(idle, 0.0, share)


def _ratings(n: pypsa.Network, data: MarketData, grid: Grid) -> tuple[Array, Array]:
    """``s_nom``, (scenario, branch), MVA, and ``s_max_pu``, (scenario, snapshot, branch)."""
    ratings, limits = [], []
    for component, names in grid.by_component.items():
        s_nom, optimised, extendable = (
            static_values(n, component, attribute, names).to_numpy()
            for attribute in ("s_nom", "s_nom_opt", "s_nom_extendable")
        )
        ratings.append(np.where(extendable > 0, optimised, s_nom))
        most = dynamic_values(n, component, "s_max_pu", names, data.snapshots, default=1.0)
        limits.append(most.to_numpy())
    return np.concatenate(ratings, axis=-1), np.concatenate(limits, axis=-1)


def _described(dataset: xr.Dataset) -> xr.Dataset:
    for name, (unit, meaning) in _DESCRIBED.items():
        dataset[name].attrs = {"unit": unit, "long_name": meaning}
    return dataset
