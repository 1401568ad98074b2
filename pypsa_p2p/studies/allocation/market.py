"""What the market itself makes everybody pay, in money now."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pypsa_p2p.common.names import SCENARIO
from pypsa_p2p.solvers.arrays import Vector


def own_costs(r: xr.Dataset) -> Vector:
    """R_n of every prosumer, contracts and insurance paid, (N,), EUR; they sum to c(N)."""
    return np.asarray(r["risk_adjusted_cost"].to_numpy())


def market_costs(r: xr.Dataset) -> Vector:
    r"""Her own cost and what she pays for trades, :math:`R_n + \sum_\omega` payment now, (N,), EUR.

    At a variational equilibrium payments cancel, so that these sum to c(N) too.
    """
    paid = r["payment_now"].sum(SCENARIO).to_numpy()
    return np.asarray(own_costs(r) + paid)
