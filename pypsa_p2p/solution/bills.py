"""What each household pays, by what it pays for."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.common.tables import ONLY_SCENARIO
from pypsa_p2p.common.values import require_network
from pypsa_p2p.solution.results import read_accounts

#: Parts of a bill, in the order of columns, and what they are.
PARTS: Final = {
    "energy": "generation and other assets in operation, and what is fixed",
    "investment": "capital cost of what is built",
    "retail_import": "energy from a retailer",
    "retail_export": "energy sold to a retailer; negative",
    "peak": "largest imports from a retailer",
    "operator": "surplus at the import price p0; negative where it is sold",
    "congestion": "congestion of trades",
    "fees": "fees on trades",
    "trades": "payments to other prosumers",
    "contracts": "premium of contracts and insurance less what they pay",
}
TOTAL: Final = "total"


def bills(n: pypsa.Network, scenario: str | None = None) -> pd.DataFrame:
    """What each household pays over the whole horizon, by what it pays for.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    scenario : str, optional
        That one. Default: the expectation over scenarios.

    Returns
    -------
    DataFrame
        EUR, index ``prosumer``; negative: she is paid. Columns, which add up to ``total``, the
        ``bill`` of `results`:

        ============= =========================================================================
        energy        generation, storage and other assets in operation, fixed cost; no utility
        investment    capital cost of what she builds
        retail_import energy from a retailer
        retail_export energy sold to a retailer
        peak          peak charges: the largest imports of each period
        operator      surplus, net_import at the grid operator's price p0
        congestion    congestion cost of her trades
        fees          fees on her trades
        trades        payments to other prosumers, at the market's prices
        contracts     premium of contracts and insurance, less what they pay
        ============= =========================================================================

        ``trades`` and ``total`` are NaN where money of a scenario has not one price (`results`).

    Raises
    ------
    MarketError
        No market is solved, or there is no such scenario.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> p2p.add_prosumers(n, ["roof", "flat"], demand=[0, 3], demand_max=[0, 3],
    ...                   demand_min=[0, 3], utility_quadratic=0, renewable=[2, 0])
    >>> p2p.add_retail(n, import_price=300, export_price=80)
    >>> p2p.add_trades(n, "complete", capacity=5)
    >>> p2p.PeerToPeerMarket().optimize(n)
    ('ok', 'optimal')
    >>> bill = p2p.bills(n).round(2) + 0.0
    >>> bill[["retail_import", "trades", "total"]].T.to_dict("list")
    {'roof': [0.0, -600.0, -600.0], 'flat': [300.0, 600.0, 900.0]}
    """
    require_network(n)
    accounts = read_accounts(n)
    data = accounts.data
    weight = data.probability.to_numpy()
    if scenario is not None:
        if scenario not in data.scenarios:
            known = listed(s for s in data.scenarios if s != ONLY_SCENARIO)
            raise MarketError(
                f"There is no scenario {shown(scenario)}; take one of {known}."
                if known
                else f"The network has no scenarios: leave scenario={shown(scenario)} out."
            )
        weight = (data.scenarios == scenario).astype(float)
    parts = accounts.parts_of_bills()
    chosen = weight > 0
    table = {
        name: np.tensordot(weight[chosen], parts[name][chosen], axes=1) + 0.0 for name in PARTS
    }
    found = pd.DataFrame(table, index=data.prosumers.rename(PROSUMER))
    found[TOTAL] = found.sum(axis=1, skipna=False)
    return found
