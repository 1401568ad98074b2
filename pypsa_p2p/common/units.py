"""The units a market is solved in: its own, so that it is the same market in any of the user's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Units:
    """What 1 stands for inside the solvers.

    Attributes
    ----------
    power : float
        MW; of energies MWh.
    money : float
        EUR.
    """

    power: float = 1.0
    money: float = 1.0

    @property
    def price(self) -> float:
        """EUR per MW, for all the hours that a typical quantity is paid for."""
        return self.money / self.power


#: The user's own: MW and EUR.
UNITS_OF_USER = Units()


def typical(values: Numbers) -> float | None:
    """The median size of what is neither 0 nor infinite; None where there is nothing.

    A median: one power plant among households, or one limit of 1e9 that means "none", does not
    decide what is typical.

    Examples
    --------
    >>> typical(np.array([0.0, -2.0, 3.0, 4.0, np.inf]))
    3.0
    """
    sizes = np.abs(values)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0.0)]
    return float(np.median(sizes)) if sizes.size else None
