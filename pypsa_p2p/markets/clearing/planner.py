"""What a planner compares of the prosumers' costs, in numbers (MODEL.md §14)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from pypsa_p2p.solvers.arrays import Vector
from pypsa_p2p.solvers.welfare import Aim, Largest, LogGains, WeightedSum

Aims = Literal["sum", "largest", "lexicographic", "gains"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Planner:
    """Which function of the prosumers' costs is minimised.

    Attributes
    ----------
    aims : {"sum", "largest", "lexicographic", "gains"}
    weight : (N,)
        Of costs in the sum, or of the logarithms of gains.
    given : (N,) or None
        What costs are compared with, EUR; None where nothing, or what she pays alone, is.
    gains : bool
        Whether costs are compared with a reference at all.
    participation : bool
        Whether nobody may pay more than alone, or than what was given.
    prosumers : Index
    zero : (N,)
        No cost, as costs are counted here: 0 but in a market's own units.
    """

    aims: Aims
    weight: Vector
    given: Vector | None
    gains: bool
    participation: bool
    prosumers: pd.Index
    zero: Vector | None = None

    @property
    def asks_alone(self) -> bool:
        """Whether it matters what prosumers pay alone."""
        return self.given is None and (self.gains or self.participation)

    def counted(self, shift: Vector, unit: float) -> Planner:
        """The planner where costs are less a shift, (N,), and in a unit, EUR."""
        given = None if self.given is None else (self.given - shift) / unit
        return replace(self, given=given, zero=-shift / unit)

    def rescaled(self, scale: Vector, shift: Vector) -> Planner:
        """The planner where costs were shift + scale c, and references with them."""
        return replace(self, given=None if self.given is None else shift + scale * self.given)

    def beyond(self, reference: Vector | None) -> Vector:
        """(N,) what costs are compared with."""
        if self.gains and reference is not None:
            return reference
        return np.zeros(self.weight.size) if self.zero is None else self.zero

    def aim(self, reference: Vector | None, gain: Vector | None = None) -> Aim:
        """What is minimised first; `gain`, (N,): some that all can have at once."""
        if self.aims == "sum":
            return WeightedSum(weight=self.weight)
        if self.aims == "gains":
            unit = np.ones(self.weight.size) if gain is None else gain
            return LogGains(reference=self.beyond(reference), weight=self.weight, unit=unit)
        everybody = np.ones(self.weight.size, dtype=bool)
        return Largest(beyond=self.beyond(reference), among=everybody)


@dataclass(frozen=True, kw_only=True, eq=False)
class Welfare:
    """What a planner found.

    Attributes
    ----------
    weight : (N,)
        m, what another EUR of each one's cost adds to what is minimised.
    cost : (N,)
        c, EUR.
    reference : (N,) or None
        What they would pay alone, or what was given, EUR.
    """

    weight: Vector
    cost: Vector
    reference: Vector | None
