"""What may stand behind a prosumer's meter: as PyPSA components, and again in cvxpy.

The two halves share nothing but the numbers. The cvxpy half extends the reference market of
`tests.reference.solve` by what an asset feeds into the prosumer's bus and what it costs her.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import cvxpy as cp
import numpy as np
import pypsa

from tests.reference.instances import Array, Instance
from tests.reference.solve import (
    Model,
    attitudes,
    columns,
    cvar,
    own_cost,
    physical_model,
    run,
    scenario_sum,
)

EFFICIENCY = 0.9


@dataclass
class Extra:
    """Power an asset feeds in, MW by column (scenario, snapshot), its hourly cost, its rows."""

    power: cp.Expression
    hourly_cost: cp.Expression
    rows: list[Any] = field(default_factory=list)


class Asset(Protocol):
    """One asset of one prosumer."""

    prosumer: int

    def add(self, n: pypsa.Network, bus: str) -> None:
        """Add it to the network, at the prosumer's bus."""

    def model(self, instance: Instance) -> Extra:
        """Write it in cvxpy."""


@dataclass(frozen=True)
class Battery:
    """A StorageUnit: 2 MW, 3 h, 90 % each way, 1 %/h standing loss, 0.05 EUR/MWh of dispatch."""

    prosumer: int
    cyclic: bool
    initial: float = 1.0

    def add(self, n: pypsa.Network, bus: str) -> None:
        n.add(
            "StorageUnit",
            f"{bus} battery",
            bus=bus,
            p_nom=2.0,
            max_hours=3.0,
            efficiency_store=EFFICIENCY,
            efficiency_dispatch=EFFICIENCY,
            standing_loss=0.01,
            marginal_cost=0.05,
            cyclic_state_of_charge=self.cyclic,
            state_of_charge_initial=self.initial,
        )

    def model(self, instance: Instance) -> Extra:
        _, s, t, _ = instance.shape
        charge, discharge, energy = (cp.Variable(s * t, nonneg=True) for _ in range(3))
        rows = [charge <= 2, discharge <= 2, energy <= 6]
        for column in range(s * t):
            hours = instance.weighting[column % t]
            first = column % t == 0
            before = 0.99**hours * energy[column + t - 1 if first else column - 1]
            if first and not self.cyclic:
                before = self.initial  # PyPSA lets the initial charge lose nothing
            stored = EFFICIENCY * charge[column] - discharge[column] / EFFICIENCY
            rows.append(energy[column] == before + hours * stored)
        return Extra(discharge - charge, 0.05 * discharge, rows)


@dataclass(frozen=True)
class StoreBehindLinks:
    """A Store of 4 MWh on a bus of its own, reached by links of 1.5 MW that lose 5 %."""

    prosumer: int

    def add(self, n: pypsa.Network, bus: str) -> None:
        inside = f"{bus} cellar"
        n.add("Bus", inside)
        n.add("Store", inside, bus=inside, e_nom=4.0, e_cyclic=True)
        n.add("Link", f"{bus} charger", bus0=bus, bus1=inside, p_nom=1.5, efficiency=0.95)
        n.add(
            "Link",
            f"{bus} discharger",
            bus0=inside,
            bus1=bus,
            p_nom=1.5,
            efficiency=0.95,
            marginal_cost=0.02,
        )

    def model(self, instance: Instance) -> Extra:
        _, s, t, _ = instance.shape
        into, out, energy = (cp.Variable(s * t, nonneg=True) for _ in range(3))
        rows = [into <= 1.5, out <= 1.5, energy <= 4]
        for column in range(s * t):
            before = energy[column + t - 1 if column % t == 0 else column - 1]
            change = instance.weighting[column % t] * (0.95 * into[column] - out[column])
            rows.append(energy[column] == before + change)
        return Extra(0.95 * out - into, 0.02 * out, rows)


@dataclass(frozen=True)
class Heating:
    """2 MW of heat from a heat pump (0.5 MW of power, COP 3) or gas."""

    prosumer: int
    demand: float = 2.0

    def add(self, n: pypsa.Network, bus: str) -> None:
        heat = f"{bus} heat"
        n.add("Bus", heat)
        n.add("Load", heat, bus=heat, p_set=self.demand)
        n.add("Link", f"{bus} heat pump", bus0=bus, bus1=heat, p_nom=0.5, efficiency=3.0)
        n.add("Generator", f"{bus} boiler", bus=heat, p_nom=3.0, marginal_cost=0.4)

    def model(self, instance: Instance) -> Extra:
        _, s, t, _ = instance.shape
        power, gas = cp.Variable(s * t, nonneg=True), cp.Variable(s * t, nonneg=True)
        rows = [power <= 0.5, gas <= 3, 3 * power + gas == self.demand]
        return Extra(-power, 0.4 * gas, rows)


@dataclass(frozen=True)
class LinearGenerators:
    """Two generators without curvature, and one that must run at half of its 0.4 MW."""

    prosumer: int

    def add(self, n: pypsa.Network, bus: str) -> None:
        n.add("Generator", f"{bus} cheap", bus=bus, p_nom=1.0, marginal_cost=0.3)
        n.add("Generator", f"{bus} dear", bus=bus, p_nom=2.0, marginal_cost=1.7)
        n.add("Generator", f"{bus} slow", bus=bus, p_nom=0.4, p_min_pu=0.5, marginal_cost=2.0)

    def model(self, instance: Instance) -> Extra:
        _, s, t, _ = instance.shape
        cheap, dear, slow = (cp.Variable(s * t, nonneg=True) for _ in range(3))
        rows = [cheap <= 1, dear <= 2, slow <= 0.4, slow >= 0.2]
        return Extra(cheap + dear + slow, 0.3 * cheap + 1.7 * dear + 2.0 * slow, rows)


@dataclass(frozen=True)
class Panel:
    """A generator free to run at 60 % and then 20 % of what is built, at most 3 MW."""

    prosumer: int
    cost: float = 0.5

    def add(self, n: pypsa.Network, bus: str) -> None:
        available = np.resize([0.6, 0.2], len(n.snapshots))
        n.add(
            "Generator",
            f"{bus} panel",
            bus=bus,
            p_nom_extendable=True,
            p_nom_max=3.0,
            p_nom=1.0,
            capital_cost=self.cost,
            p_max_pu=available,
        )

    def model(self, instance: Instance) -> Extra:
        _, s, t, _ = instance.shape
        power, size = cp.Variable(s * t, nonneg=True), cp.Variable(nonneg=True)
        available = np.tile(np.resize([0.6, 0.2], t), s)
        return Extra(
            power, spread(instance, self.cost * size), [power <= available * size, size <= 3]
        )


@dataclass(frozen=True)
class Cellar:
    """A store and the link into it, both to be built; a given link leads out."""

    prosumer: int

    def add(self, n: pypsa.Network, bus: str) -> None:
        inside = f"{bus} cellar"
        n.add("Bus", inside)
        n.add("Store", inside, bus=inside, e_nom_extendable=True, capital_cost=0.02, e_cyclic=True)
        n.add(
            "Link",
            f"{bus} in",
            bus0=bus,
            bus1=inside,
            p_nom_extendable=True,
            capital_cost=0.05,
            efficiency=0.9,
            p_nom_max=2.0,
        )
        n.add("Link", f"{bus} out", bus0=inside, bus1=bus, p_nom=1.5)

    def model(self, instance: Instance) -> Extra:
        _, s, t, _ = instance.shape
        into, out, energy = (cp.Variable(s * t, nonneg=True) for _ in range(3))
        size, way = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        rows = [into <= way, out <= 1.5, energy <= size, way <= 2]
        for column in range(s * t):
            before = energy[column + t - 1 if column % t == 0 else column - 1]
            change = instance.weighting[column % t] * (0.9 * into[column] - out[column])
            rows.append(energy[column] == before + change)
        return Extra(out - into, spread(instance, 0.02 * size + 0.05 * way), rows)


def spread(instance: Instance, capital: cp.Expression) -> cp.Expression:
    """A cost now as an hourly one that adds up to it in every scenario."""
    _, s, t, _ = instance.shape
    return capital / instance.weighting.sum() * np.ones(s * t)


@dataclass(frozen=True)
class Reference:
    """The cone program's answer; shapes as in `tests.reference.solve.Solution`."""

    social_cost: float
    demand: Array
    quantity: Array
    cost: Array
    nodal_price: Array


Coupling = Callable[[Model, list[Extra]], list[Any]]


def solve_with(
    instance: Instance,
    assets: Iterable[Asset] = (),
    *,
    averse: bool = False,
    theta: float = 1.0,
    attitude: Any = None,
    community: bool = False,
    contracts: bool = False,
    surplus: bool = True,
    coupling: Coupling | None = None,
) -> Reference:
    """The centralized market without congestion, with assets and any further rows.

    Contracts are written out, (43): no shortcut, so that they may be combined with `coupling`.
    """
    n, s, t, e = instance.shape
    model = physical_model(instance, surplus)
    extras = [asset.model(instance) for asset in assets]
    injection, own = [0] * n, [0] * n
    for asset, extra in zip(assets, extras, strict=True):
        injection[asset.prosumer] = injection[asset.prosumer] + extra.power
        own[asset.prosumer] = own[asset.prosumer] + extra.hourly_cost
        model.constraints += extra.rows
    zero = np.zeros(s * t)
    rows = [
        model.D[k]
        - model.G[k]
        - columns(instance.renewable)[k]
        - instance.incidence[k] @ model.q
        - injection[k]
        == zero
        for k in range(n)
    ]
    model.constraints = [*rows, *model.constraints[1:]]
    if coupling is not None:
        model.constraints += coupling(model, extras)
    hourly = own_cost(model)
    hours, p = scenario_sum(instance), instance.probability
    cost = [(hourly[k] + own[k]) @ hours for k in range(n)]
    net = cost
    if contracts:
        volume = cp.Variable((n, s))
        model.constraints += [cp.sum(volume, axis=0) == 0, volume[:-1] @ p == 0]
        net = [cost[k] - volume[k] for k in range(n)]
    chi = attitudes(instance, attitude)
    if not averse:
        objective = sum(value @ p for value in net)
    elif community:
        objective = cvar(model, sum(net), float(chi[0]), theta)
    else:
        objective = sum(cvar(model, net[k], float(chi[k]), theta) for k in range(n))
    problem = cp.Problem(cp.Minimize(objective), model.constraints)
    run(problem)
    dual = np.array([row.dual_value for row in rows]).reshape(n, s, t)
    return Reference(
        social_cost=float(problem.value),
        demand=model.D.value.reshape(n, s, t),
        quantity=model.q.value.reshape(2 * e, s, t).transpose(1, 2, 0),
        cost=np.array([value.value for value in cost]),
        nodal_price=dual / (p[:, None] * instance.weighting),
    )
