r"""Storage units of agents, which tie the hours of a scenario together (MODEL.md §4).

With discharge d >= 0 and charge c <= 0 among her pieces, the energy in a unit is

.. math:: e_t = k_t e_{t-1} - w_t (d_t / \eta_d + \eta_s c_t), \quad 0 \le e_t \le E,

so that the best response of whoever has one is a quadratic program over the hours of every scenario
instead of a knapsack in each. Scenarios stay apart: a risk measure changes nothing still.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pypsa
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import NAME, SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import dynamic_values, unusual_attributes
from pypsa_p2p.equilibrium.game.knapsack import Array, Flags, Knapsack
from pypsa_p2p.equilibrium.game.pieces import Positions
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.program import QuadraticProgram
from pypsa_p2p.solvers.quadratic import solve_quadratic

#: Attributes of storage units the agents know; any other must keep PyPSA's default.
_KNOWN = {
    "bus", "carrier", "p_nom", "p_min_pu", "p_max_pu", "marginal_cost", "marginal_cost_quadratic",
    "max_hours", "efficiency_store", "efficiency_dispatch", "standing_loss",
    "state_of_charge_initial", "cyclic_state_of_charge",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Stores:
    """Storage units of the game; each is two generators of its own, discharge and charge.

    Attributes
    ----------
    names : (U,)
    discharge, charge : (U,)
        Their places among a point's powers.
    energy, initial : (S, U)
        Most in the unit, and what is in it at first, MWh; NaN where it ends as it began.
    efficiency_store, efficiency_dispatch, kept : (S, T, U)
        Shares that go in, come out, and stay from one snapshot to the next.
    hours : (T,)
        For which a snapshot stands in the unit's balance, h.
    """

    names: pd.Index
    discharge: Positions
    charge: Positions
    energy: Array
    initial: Array
    efficiency_store: Array
    efficiency_dispatch: Array
    kept: Array
    hours: Array

    @property
    def places(self) -> Positions:
        """Of discharge, then charge, (2U,)."""
        return np.concatenate([self.discharge, self.charge])

    def idle(self, powers: int) -> Flags:
        """Which of so many powers are none of theirs, (G,)."""
        return ~np.isin(np.arange(powers), self.places)

    def scaled(self, energy: float, hours: float) -> Stores:
        """The same where 1 stands for so many MWh, and so many hours."""
        return replace(
            self,
            energy=self.energy / energy,
            initial=self.initial / energy,
            hours=self.hours / hours,
        )

    def balance(self, unit: int, scenario: int) -> sp.csr_matrix:
        """Of what is in a unit, (T, T), by what is in it at every snapshot."""
        count = self.hours.size
        before = np.roll(np.arange(count), 1)
        kept = self.kept[scenario, :, unit].copy()
        if np.isfinite(self.initial[scenario, unit]):
            kept[0] = 0.0
        last = sp.csr_matrix((kept, (np.arange(count), before)), shape=(count, count))
        return sp.csr_matrix(sp.identity(count) - last)

    def start(self, unit: int, scenario: int) -> Array:
        """What is there of the time before, (T,), MWh."""
        first = np.zeros(self.hours.size)
        initial = self.initial[scenario, unit]
        if np.isfinite(initial):
            first[0] = self.kept[scenario, 0, unit] * initial
        return first

    def contents(self, power: Array) -> Array:
        """What is in the units, (S, T, U), MWh, at powers (S, T, G); as little as can be."""
        taken = power[..., self.discharge] / self.efficiency_dispatch
        given = power[..., self.charge] * self.efficiency_store
        change = -self.hours[:, None] * (taken + given)
        found = np.zeros_like(change)
        for scenario, unit in np.ndindex(change.shape[0], change.shape[2]):
            matrix = self.balance(unit, scenario).toarray()
            moved = change[scenario, :, unit] + self.start(unit, scenario)
            level = np.linalg.lstsq(matrix, moved, rcond=None)[0]
            loose = (
                np.abs(matrix.sum(axis=1)).max() < ACCURACY.rounding
            )  # all of it may be more or less
            found[scenario, :, unit] = level - level.min() if loose else level
        return found


def read_stores(
    n: pypsa.Network, data: MarketData, first: int
) -> tuple[Stores | None, dict[str, Array]]:
    """Storage units, and their pieces, of which `first` is the place among a point's powers.

    Returns
    -------
    Stores or None
    dict
        Limits and costs of discharge, then charge, (S, T, 2U), MW, EUR/MWh and EUR/MW2h.

    Raises
    ------
    MarketError
        A unit has what agents do not know (naming it).
    """
    names = data.names("StorageUnit")
    if names.empty:
        return None, {}
    for attribute, culprits in unusual_attributes(n, "StorageUnit", _KNOWN, names).items():
        raise MarketError(
            f"StorageUnit {listed(culprits)} has {attribute!r}, which the agents' algorithms do "
            "not know. Use market.optimize(n), or clear it."
        )

    def values(attribute: str) -> Array:
        found = dynamic_values(n, "StorageUnit", attribute, names, data.snapshots)
        return np.asarray(found.transpose(SCENARIO, SNAPSHOT, NAME).to_numpy(), dtype=float)

    size, none = values("p_nom"), np.zeros_like(values("p_nom"))
    hours = n.snapshot_weightings.stores.reindex(data.snapshots).to_numpy(dtype=float)
    place, count = first + np.arange(names.size), names.size
    cyclic = values("cyclic_state_of_charge")[:, 0] > 0
    stores = Stores(
        names=names,
        discharge=place,
        charge=place + count,
        energy=(size * values("max_hours"))[:, 0],
        initial=np.where(cyclic, np.nan, values("state_of_charge_initial")[:, 0]),
        efficiency_store=values("efficiency_store"),
        efficiency_dispatch=values("efficiency_dispatch"),
        kept=(1.0 - values("standing_loss")) ** hours[:, None],
        hours=hours,
    )
    both = {
        "lower": (none, np.minimum(size * values("p_min_pu"), 0.0)),
        "upper": (np.maximum(size * values("p_max_pu"), 0.0), none),
        "marginal_cost": (values("marginal_cost"), none),
        "quadratic_cost": (values("marginal_cost_quadratic"), none),
    }
    return stores, {name: np.concatenate(pair, axis=-1) for name, pair in both.items()}


def stored_response(
    stores: Stores, problem: Knapsack, columns: Positions, weight: Array
) -> tuple[Array, Array]:
    """The best response of one prosumer who has units, (S, T, K), and its prices, (S, T).

    Parameters
    ----------
    problem : Knapsack
        Hers in every hour, (S, T, K).
    columns : (K,)
        Where a point has her pieces.
    weight : (T,)
        Hours for which the cost of a snapshot counts.
    """
    own = np.flatnonzero(np.isin(stores.discharge, columns))
    programs = [
        _over_hours(stores, own, scenario, problem, columns, weight)
        for scenario in range(problem.total.shape[0])
    ]
    found = solve_quadratic(_side_by_side(programs))
    if found.status != "optimal":
        raise MarketError(
            f"The prosumer with StorageUnit {listed(stores.names[own])} cannot balance in every "
            f"hour with what is offered to her ({found.status}). Take start='variational'."
        )
    shape, hours = problem.curvature.shape, problem.total.shape[1]
    width = hours * shape[-1]
    x = found.x.reshape(shape[0], -1)[:, :width].reshape(shape)
    y = found.row_dual.reshape(shape[0], -1)[:, :hours] / weight
    return np.clip(x, problem.lower, problem.upper), y


def _over_hours(
    stores: Stores,
    own: Positions,
    scenario: int,
    problem: Knapsack,
    columns: Positions,
    weight: Array,
) -> QuadraticProgram:
    """Her program in one scenario: columns (pieces by hour, |pieces| where fees, contents)."""
    h, c, lower, upper, total = (part[scenario] for part in problem[:5])
    hours, count = h.shape
    size, units = hours * count, own.size
    balance = sp.kron(sp.identity(hours), np.ones((1, count)))
    moved = sp.bmat(
        [
            [_moves(stores, unit, scenario, columns), *_beside(stores, own, k, scenario)]
            for k, unit in enumerate(own)
        ],
        format="csr",
    )
    contents = moved.shape[1] - size
    first = np.concatenate([stores.start(unit, scenario) for unit in own])
    costs = np.repeat(weight, count)
    program = QuadraticProgram(
        P=sp.diags(np.append(costs * h.ravel(), np.zeros(contents)), format="csc"),
        c=np.append(costs * c.ravel(), np.zeros(contents)),
        A=sp.vstack([sp.hstack([balance, sp.csr_matrix((hours, contents))]), moved], format="csr"),
        lower=np.append(total, first),
        upper=np.append(total, first),
        x_lower=np.append(lower.ravel(), np.zeros(contents)),
        x_upper=np.append(upper.ravel(), np.repeat(stores.energy[scenario, own], hours)),
    )
    assert contents == hours * units
    return (
        program
        if problem.fee is None
        else _with_fees(program, costs * problem.fee[scenario].ravel())
    )


def _moves(stores: Stores, unit: int, scenario: int, columns: Positions) -> sp.csr_matrix:
    """What her pieces take out of a unit, (T, T K), MWh per MW."""
    hours, count = stores.hours.size, columns.size
    at = np.arange(hours) * count
    out = at + int(np.flatnonzero(columns == stores.discharge[unit])[0])
    into = at + int(np.flatnonzero(columns == stores.charge[unit])[0])
    taken = stores.hours / stores.efficiency_dispatch[scenario, :, unit]
    given = stores.hours * stores.efficiency_store[scenario, :, unit]
    row = np.tile(np.arange(hours), 2)
    entries = np.append(taken, given), (row, np.append(out, into))
    return sp.csr_matrix(entries, shape=(hours, hours * count))


def _beside(
    stores: Stores, own: Positions, place: int, scenario: int
) -> list[sp.csr_matrix | None]:
    """The contents of her units in the balance of one of them."""
    row: list[sp.csr_matrix | None] = [None] * own.size
    row[place] = stores.balance(own[place], scenario)
    return row


def _with_fees(program: QuadraticProgram, fee: Array) -> QuadraticProgram:
    """The same with a fee on the size of the first columns."""
    charged = np.flatnonzero(fee > 0)
    n, count = program.c.size, charged.size
    here = sp.csr_matrix((np.ones(count), (np.arange(count), charged)), shape=(count, n))
    one, free = sp.identity(count), np.full(count, np.inf)
    return QuadraticProgram(
        P=sp.block_diag([program.P, sp.csc_matrix((count, count))], format="csc"),
        c=np.append(program.c, fee[charged]),
        A=sp.bmat([[program.A, None], [here, one], [-here, one]], format="csr"),
        lower=np.concatenate([program.lower, np.zeros(2 * count)]),
        upper=np.concatenate([program.upper, free, free]),
        x_lower=np.append(program.x_lower, np.zeros(count)),
        x_upper=np.append(program.x_upper, free),
    )


def _side_by_side(programs: list[QuadraticProgram]) -> QuadraticProgram:
    """One program of several that have nothing in common."""

    def joined(name: str) -> Array:
        return np.concatenate([getattr(one, name) for one in programs])

    return QuadraticProgram(
        P=sp.block_diag([one.P for one in programs], format="csc"),
        c=joined("c"),
        A=sp.block_diag([one.A for one in programs], format="csr"),
        lower=joined("lower"),
        upper=joined("upper"),
        x_lower=joined("x_lower"),
        x_upper=joined("x_upper"),
    )
