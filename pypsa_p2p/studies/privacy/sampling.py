"""Reports drawn and their markets solved, beside what the closed form says of the same draws."""

from __future__ import annotations

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.markets.base import Market
from pypsa_p2p.solution.settlement.settle import settle
from pypsa_p2p.studies.privacy.costs import cost_of_reports
from pypsa_p2p.studies.privacy.reporting import drawn, with_reports
from pypsa_p2p.studies.privacy.truth import Truth


def sampled_costs(
    n: pypsa.Network, market: Market, truth: Truth, g: xr.Dataset, samples: int, seed: int
) -> tuple[Numbers, Numbers]:
    """True costs of drawn reports by the market and by (P1), each (samples, N), EUR.

    One market after the other: each is as large as the network allows.
    """
    by_market, by_formula = [], []
    p = truth.data.probability
    for k in range(samples):
        shift = drawn(g, truth.data, [seed, k])
        m = with_reports(n, truth.data, shift)
        market.optimize(m)
        cost = (p * settle(n, m)["net_cost"]).sum(SCENARIO)
        by_market.append(cost.transpose(PROSUMER).to_numpy())
        hourly = shift.transpose(SCENARIO, SNAPSHOT, PROSUMER).to_numpy()
        by_formula.append(cost_of_reports(truth, hourly))
    return np.array(by_market), np.array(by_formula)
