"""Random markets that the laws are checked on, and each solved only once a session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pypsa
import xarray as xr

from tests.reference.instances import Instance, random_instance
from tests.reference.package import as_solution, market_of, solved
from tests.reference.solve import Solution, solve


@dataclass(frozen=True)
class Draw:
    """Arguments of `random_instance`, hashable."""

    seed: int
    prosumers: int = 4
    scenarios: int = 3
    snapshots: int = 1
    congestion: bool = False
    symmetric_prices: bool = False

    def __str__(self) -> str:
        return f"{self.seed}-{self.prosumers}x{self.scenarios}x{self.snapshots}"


@dataclass(frozen=True)
class Setting:
    """Arguments of `solve`, hashable: theta None is risk-neutral."""

    design: str = "centralized"
    theta: float | None = None
    attitude: float | None = None
    aggregate: str = "prosumers"
    contracts: bool = False
    surplus: bool = True

    @property
    def risk(self) -> tuple[str, float | None, float] | None:
        """As `solve` takes it."""
        return None if self.theta is None else ("CVaR", self.attitude, self.theta)


NEUTRAL = Setting()
AVERSE = Setting(theta=1.0)
HEDGED = Setting(theta=1.0, contracts=True)

# The first is small; the second has more of everything, and trades that may circulate.
DRAWS = (Draw(1, prosumers=3), Draw(2, 5, 4, 2, symmetric_prices=True))
SMALL, LARGE = DRAWS
CONGESTED = Draw(3, congestion=True)


@cache
def instance_of(draw: Draw) -> Instance:
    """The market of a draw."""
    return random_instance(
        draw.seed,
        draw.prosumers,
        draw.scenarios,
        draw.snapshots,
        congestion=draw.congestion,
        symmetric_prices=draw.symmetric_prices,
    )


@cache
def solved_network(
    draw: Draw, setting: Setting, route: str = "direct"
) -> tuple[pypsa.Network, xr.Dataset]:
    """The network solved with the package, and its labelled results."""
    s = setting
    data = instance_of(draw)
    return solved(
        data, market_of(data, s.design, s.risk, s.aggregate, s.contracts, s.surplus), route
    )


def package(draw: Draw, setting: Setting, route: str = "direct") -> Solution:
    """The package's answer in the shapes of the reference's."""
    return as_solution(instance_of(draw), solved_network(draw, setting, route)[1])


@cache
def reference(draw: Draw, setting: Setting) -> Solution:
    """The cone program's answer."""
    s = setting
    return solve(instance_of(draw), s.design, s.risk, s.aggregate, s.contracts, s.surplus)
