"""What rules by the hour make everybody bear, in money now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.solution.results import read_accounts
from pypsa_p2p.solution.settlement.settle import OF_RETAILERS, Rule, settle
from pypsa_p2p.solvers.arrays import Vector


@dataclass(frozen=True, kw_only=True, eq=False)
class ByHour:
    r"""A solved market settled by a rule of hours.

    Attributes
    ----------
    payment : DataArray (scenario, snapshot, prosumer)
        What each pays in the hour, EUR.
    cost : (N,)
        The risk measure of her net cost with these payments, EUR.
    retailer_gets_more : float
        What the retailer of the rule gets, less what retailers and the grid operator get in the
        market, expected, EUR.
    """

    payment: xr.DataArray
    cost: Vector
    retailer_gets_more: float

    @classmethod
    def of(cls, n: pypsa.Network, rule: str, *, buy: Any, sell: Any) -> ByHour:
        """Settle a solved network, as `settle` does.

        Raises
        ------
        MarketError, DataError
            What `settle` raises.
        """
        settled = settle(n, cast("Rule", rule), buy=buy, sell=sell)
        accounts = read_accounts(n)
        net_cost = settled["net_cost"].transpose(SCENARIO, PROSUMER).to_numpy()
        p, parts = accounts.data.probability.to_numpy(), accounts.parts_of_bills()
        gets = settled["retailer"].transpose(SCENARIO, SNAPSHOT).to_numpy().sum(axis=1)
        got = sum(parts[name].sum(axis=1) for name in OF_RETAILERS)
        return cls(
            payment=settled["payment"],
            cost=np.asarray(accounts.risks(net_cost, net_cost)["risk_adjusted_net_cost"]),
            retailer_gets_more=float(p @ (gets - got)),
        )
