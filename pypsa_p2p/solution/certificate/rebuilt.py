"""The market built anew from a solved network's tables.

Nothing of the model that was solved, nor of its solver, is used: data and decisions are read
from PyPSA's tables, the model from `formulation`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import linopy
import numpy as np
import pandas as pd
import pypsa
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.common.names import NAME, PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.pypsa_state import copy_without_model
from pypsa_p2p.common.tables import dynamic_values, static_values
from pypsa_p2p.formulation.columns import fee_columns, variable_owners
from pypsa_p2p.formulation.compiled import CompiledModel, compile_model
from pypsa_p2p.formulation.delivery import NET_IMPORT, SURPLUS, define_delivery
from pypsa_p2p.formulation.fees import BOUGHT, SOLD, parted
from pypsa_p2p.formulation.model import build_model, build_plain_model, is_plain
from pypsa_p2p.formulation.own_surplus import define_own_surplus
from pypsa_p2p.formulation.shared import define_shared, tied_rows
from pypsa_p2p.formulation.trading import (
    NODAL_BALANCE,
    define_trading,
    quantities,
    trade_cost,
)
from pypsa_p2p.markets.clearing.problem import risk_program
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Flags, Labels, Vector
from pypsa_p2p.solvers.program import RiskProgram

#: Of the congestion cost 2 a q_mn q_nm of an edge, each end bears half (7).
_OWN_SHARE = 0.5
#: Variables that count MWh, not MW.
_ENERGIES = ("Store-e", "Store-e_nom", "StorageUnit-state_of_charge")


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldMarket:
    """A market as arrays, and the decisions and nodal prices its network holds.

    Attributes
    ----------
    compiled : CompiledModel
    program : RiskProgram
        Costs by prosumer and scenario; its groups are the prosumers and, last, nobody. Its P
        ties the two ends of congested edges together. Its constants are `differing_constants`.
    held : (columns,)
        Decisions in the tables, MW or MWh; capacities to build among them.
    trades : (2 E S T,)
        Columns of the traded quantities.
    fees : (F,)
        Columns of what fees are paid on, which the quantities decide.
    net_import, flows : (N S T,), (columns,)
        Where the grid delivers: columns of what each prosumer takes from it, which her trades
        decide; and of flows on its branches and the surplus that leaves it. Else none.
    unit : (columns,)
        Probability times hours, h: what divides a cost to make it EUR/MWh; all hours of what is
        built once.
    hour : (columns,)
        Which hour of which scenario; -1 of what is built once.
    is_balance : (rows,)
        Whether a row is a nodal balance (3).
    balance_price : (rows,)
        PyPSA's marginal price of a nodal balance times hours, EUR/MW; 0 elsewhere.
    """

    compiled: CompiledModel
    program: RiskProgram
    held: Vector
    trades: Labels
    fees: Labels
    net_import: Labels
    flows: Labels
    unit: Vector
    hour: Labels
    is_balance: Flags
    balance_price: Vector

    @property
    def assets(self) -> Flags:
        """(columns,) whether a prosumer decides it and it is not a trade."""
        flags = np.asarray(self.compiled.owner >= 0)
        flags[np.concatenate([self.trades, self.fees, self.net_import])] = False
        return flags

    @property
    def commits(self) -> bool:
        """Whether anything is decided for all scenarios at once: built, or here and now."""
        return bool(tied_rows(self.compiled).size) or bool(self.compiled.capacities.size)

    @property
    def committed(self) -> Flags:
        """(columns,) whether all scenarios share it, or tie their copies of it."""
        flags = np.asarray(self.compiled.scenario < 0)
        flags[sp.csr_matrix(self.program.A)[tied_rows(self.compiled)].indices] = True
        return flags

    @property
    def energies(self) -> Flags:
        """(columns,) whether it is an energy stored, MWh, and no power."""
        flags = np.zeros(self.held.size, dtype=bool)
        for name in _ENERGIES:
            if name in self.compiled.model.variables:
                columns = self.compiled.columns(self.compiled.model[name].labels)
                flags[columns[columns >= 0]] = True
        return flags

    @property
    def priced(self) -> Flags:
        """(columns,) whether limits and nodal prices alone say where it is optimal.

        True of generators, unless a row ties them to other decisions: ramp limits, say, whose
        multipliers are no prices of the market.
        """
        rows = sp.csr_matrix(self.program.A)
        tying = np.flatnonzero((np.diff(rows.indptr) > 1) & ~self.is_balance)
        flags = np.zeros(self.held.size, dtype=bool)
        if "Generator-p" in self.compiled.model.variables:
            flags[self.compiled.columns(self.compiled.model["Generator-p"].labels)] = True
        flags[rows[tying].indices] = False
        flags[self._limited_otherwise] = False
        return flags

    @property
    def _limited_otherwise(self) -> Labels:
        """Columns of generators with limits besides those of their capacity: of energy, say."""
        model = self.compiled.model
        others = [
            model.constraints[name].labels
            for name in model.constraints
            if name.startswith("Generator-") and "-fix-" not in name and "p_set" not in name
        ]
        found = self.compiled.rows(*others)
        return np.asarray(sp.csr_matrix(self.program.A)[found[found >= 0]].indices)

    def by_generator(self, of_column: Flags) -> xr.DataArray:
        """Flags of columns as the model's ``Generator-p`` has them: name, snapshot, scenario."""
        labels = self.compiled.model["Generator-p"].labels
        return labels.copy(data=of_column[self.compiled.columns(labels)].reshape(labels.shape))


def rebuild(
    n: pypsa.Network,
    data: MarketData,
    surplus: bool,
    may_hold: Envelope,
    solved: Iterable[str] = (),
    here_and_now: Iterable[str] = (),
) -> HeldMarket:
    """The game that a network's tables describe, and the point they hold.

    Parameters
    ----------
    surplus : bool
        Whether (1) is an inequality.
    may_hold : Envelope
        The risk-adjusted probabilities of each prosumer (MODEL.md §3).
    solved : iterable of str
        Constraints of the model that was solved. Where those of an idle grid are among them, as in
        PyPSA's own model to which the hook adds a market, they are in this one.
    here_and_now : iterable of str
        Assets whose decision all scenarios share.
    """
    bare = data.sites is None and not any(_is_of_grid(n, name) for name in solved)
    m = _model(n, data, bare=bare)
    define_own_surplus(m, data)
    if len(data.edges):
        define_trading(m, data, surplus)
        m.objective = m.objective.expression + trade_cost(m, data, _OWN_SHARE)
    owners = variable_owners(n, data)
    if data.delivering is not None:
        define_delivery(m, data, data.delivering)
        owners[NET_IMPORT] = _positions(data)
    define_shared(m, data, here_and_now)
    compiled = compile_model(m, data.scenarios.to_numpy(object), owners)
    constants = differing_constants(data).transpose(SCENARIO, PROSUMER).to_numpy()
    p = data.probability.to_numpy()
    program = risk_program(compiled, p, (may_hold.least, may_hold.most), constants)
    is_balance, price = _balances(n, data, compiled)
    unit, hour = _hours(data, compiled)
    net_import, flows = _delivery(n, compiled)
    return HeldMarket(
        compiled=compiled,
        program=program,
        held=_held(n, data, compiled),
        trades=compiled.columns(*quantities(m, data)),
        fees=fee_columns(compiled),
        net_import=net_import,
        flows=flows,
        unit=unit,
        hour=hour,
        is_balance=is_balance,
        balance_price=price,
    )


def differing_constants(data: MarketData) -> xr.DataArray:
    """Costs no decision changes, less those of the first scenario, EUR; (scenario, prosumer).

    A constant alike in all scenarios moves neither a decision nor a risk-adjusted probability,
    and is exactly 0 here, however large.
    """
    fixed = data.fixed_cost.copy(data=data.fixed_part)
    return fixed - fixed.isel({SCENARIO: 0}, drop=True)


def _model(n: pypsa.Network, data: MarketData, *, bare: bool) -> linopy.Model:
    """PyPSA's model of a network, leaving the network and its own model as they are."""
    if bare and is_plain(n, data):
        return build_plain_model(n, data)
    twin = copy_without_model(n)
    build_model(twin, data, {}, bare=False)
    return twin.model


def _is_of_grid(n: pypsa.Network, constraint: str) -> bool:
    """Whether a constraint is PyPSA's of lines and transformers, by its name."""
    return constraint.split("-", maxsplit=1)[0] in (*n.passive_branch_components, "Kirchhoff")


def _positions(data: MarketData) -> xr.DataArray:
    prosumers = data.prosumers.rename(NAME)
    return xr.DataArray(np.arange(len(prosumers)), coords={NAME: prosumers})


def _delivery(n: pypsa.Network, compiled: CompiledModel) -> tuple[Labels, Labels]:
    """Columns of net imports, and of flows and surplus of the grid that delivers them."""
    variables = compiled.model.variables
    if NET_IMPORT not in variables:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    branches = [name for c in n.passive_branch_components if (name := f"{c}-s") in variables]
    labels = [variables[name].labels for name in [*sorted(branches), SURPLUS]]
    active = np.concatenate([of.to_numpy().ravel() >= 0 for of in labels])
    flows = compiled.columns(*labels)[active]
    return compiled.columns(variables[NET_IMPORT].labels), flows[compiled.owner[flows] < 0]


def _hours(data: MarketData, compiled: CompiledModel) -> tuple[Vector, Labels]:
    """Of every column probability times hours, and which hour of which scenario it is of."""
    hours = data.probability * data.weighting
    unit = np.full(compiled.column_labels.size, float(hours.sum()))
    hour = np.full(unit.size, -1, dtype=np.int64)
    count = hours.copy(data=np.arange(hours.size).reshape(hours.shape))
    for _, variable in compiled.model.variables.items():  # noqa: PERF102  (it has no values)
        labels = variable.labels
        if SNAPSHOT not in labels.dims:
            continue
        at = compiled.columns(labels)
        active = labels.to_numpy().ravel() >= 0
        for target, values in ((unit, hours), (hour, count)):
            known = data.for_model(values)
            same = known.reindex({dim: labels.indexes[dim] for dim in known.dims})
            full = same.broadcast_like(labels).transpose(*labels.dims).to_numpy().ravel()
            target[at[active]] = full[active]
    return unit, hour


def _held(n: pypsa.Network, data: MarketData, compiled: CompiledModel) -> Vector:
    """Values of the model's variables in the network's tables."""
    x = np.zeros(compiled.column_labels.size)
    for name, variable in compiled.model.variables.items():
        component, attribute = name.split("-", 1)
        if component in n.branch_components and attribute in ("p", "s"):
            attribute = "p0" if "p0" in n.c[component].dynamic else attribute
        labels, names = variable.labels, variable.indexes[NAME]
        if name in (*BOUGHT, *SOLD):
            sent = dynamic_values(n, "Link", f"p{attribute[-1]}", names, data.snapshots)
            values = parted(sent, name)
        elif SNAPSHOT in labels.dims:
            values = dynamic_values(n, component, attribute, names, data.snapshots)
        else:  # a capacity, the same in all scenarios
            built = static_values(n, component, f"{attribute}_opt", names)
            values = built.isel({SCENARIO: 0}, drop=True)
        known = data.for_model(values) if SCENARIO in values.dims else values
        flat = known.transpose(*labels.dims).to_numpy().ravel()
        active = labels.to_numpy().ravel() >= 0
        x[compiled.columns(labels)[active]] = flat[active]
    return x


def _balances(n: pypsa.Network, data: MarketData, compiled: CompiledModel) -> tuple[Flags, Vector]:
    """Which rows are nodal balances, and their marginal price times hours, EUR/MW."""
    is_balance = np.zeros(compiled.row_labels.size, dtype=bool)
    price = np.zeros(compiled.row_labels.size)
    position = pd.Index(compiled.row_labels)
    constraints = compiled.model.constraints
    for name in [name for name in constraints if name.endswith(NODAL_BALANCE)]:
        labels = constraints[name].labels
        marginal = dynamic_values(n, "Bus", "marginal_price", labels.indexes[NAME], data.snapshots)
        values = data.for_model(marginal * data.weighting).transpose(*labels.dims)
        rows = position.get_indexer(pd.Index(labels.to_numpy().ravel()))
        active = rows >= 0
        is_balance[rows[active]] = True
        price[rows[active]] = values.to_numpy().ravel()[active]
    return is_balance, price
