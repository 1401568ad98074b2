"""What prosumers settle with the grid operator where they are not in balance themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.names import IMBALANCE_CARRIER, RETAIL_CAPACITY
from pypsa_p2p.common.tables import by_scenario, write
from pypsa_p2p.common.values import Value, add_carriers, refuse, require_free, require_network
from pypsa_p2p.network.retail import chosen_prosumers, prices_of
from pypsa_p2p.network.retail_contracts import contracts_of, fit_retail, remove_contracts
from pypsa_p2p.network.room import room

#: Behind the names of prosumers: their generators.
BOUGHT_SUFFIX: Final = f" {IMBALANCE_CARRIER} bought"
SOLD_SUFFIX: Final = f" {IMBALANCE_CARRIER} sold"


def add_imbalance(
    n: pypsa.Network, prosumers: Iterable[str] | None = None, *, buy: Value, sell: Value
) -> None:
    r"""Let prosumers be out of balance, at a price: what they lack is bought, what is over sold.

    It adds to the cost of prosumer n (MODEL.md §12)

    .. math:: \sum_t w_t (\pi^+ e^+ - \pi^- e^-), \qquad e^\pm(\omega, t) \ge 0

    decided when the scenario is known. Where trades are settled day ahead, this is how they are
    kept. A second call for the same prosumer replaces her prices.

    Parameters
    ----------
    n : pypsa.Network
        With prosumers; with or without scenarios; changed in place.
    prosumers : iterable of str, optional
        Who may. Default: everybody.
    buy, sell
        What a missing MWh costs, and one too many brings, EUR/MWh: in the forms of
        `add_prosumers`, by prosumer, snapshot, scenario; also a Series over ``n.snapshots``.

    Raises
    ------
    DataError
        Anything that does not fit; a price to sell above the one to buy in the same hour, which
        would make money without end; somebody who may build an asset without limit. `n` is then
        as it was.

    Notes
    -----
    Of "a" they are the Generators "a imbalance bought" and "a imbalance sold", whose p is not
    positive, of carrier ``imbalance``; in `results` they are parts of ``generation``. They have no
    limit: their capacities are finite ones that cannot bind, as those of `add_retail`. With
    ``delivery="grid"`` the grid carries this energy, too, within its limits.

    Examples
    --------
    >>> import pypsa, xarray as xr, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> p2p.add_prosumers(n, ["roof", "flat"], demand=[0, 3], demand_max=[0, 3],
    ...                   demand_min=[0, 3], utility_quadratic=0)
    >>> sun = xr.DataArray([[2.0, 0.0], [1.0, 0.0]],
    ...                    {"scenario": ["clear", "cloudy"], "prosumer": ["roof", "flat"]})
    >>> p2p.set_scenarios(n, {"clear": 0.75, "cloudy": 0.25}, xr.Dataset({"renewable": sun}))
    >>> p2p.add_trades(n, "complete", capacity=5, decided="day-ahead")
    >>> p2p.add_imbalance(n, buy=60, sell=10)
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).day_ahead_price.values.round(6)
    array([[60., 60.]])
    """
    require_network(n)
    names = chosen_prosumers(n, prosumers)
    bought, sold = prices_of(n, buy, "buy", names), prices_of(n, sell, "sell", names)
    refuse(
        sold > bought,
        "sell exceeds buy",
        "being short on purpose would make money without end; lower it",
    )
    room(n, names)  # refuses assets of any size
    before = contracts_of(n, IMBALANCE_CARRIER)
    own = before.index[before["bus"].isin(names)]
    for suffix in (BOUGHT_SUFFIX, SOLD_SUFFIX):
        labels = names + suffix
        require_free(n, "Generator", labels[~labels.isin(own)])
    remove_contracts(n, names, IMBALANCE_CARRIER)
    add_carriers(n, [IMBALANCE_CARRIER])
    _add(n, names + BOUGHT_SUFFIX, names, (0.0, 1.0))
    _add(n, names + SOLD_SUFFIX, names, (-1.0, 0.0))
    write(n, "Generator", "marginal_cost", names + BOUGHT_SUFFIX, bought)
    write(n, "Generator", "marginal_cost", names + SOLD_SUFFIX, sold)
    by_scenario(n, "Generator")
    fit_retail(n)


def _add(n: pypsa.Network, labels: pd.Index, owners: pd.Index, limits: tuple[float, float]) -> None:
    """Generators without limit but of direction, and without prices yet."""
    asked: dict[str, Any] = {RETAIL_CAPACITY: np.inf}
    n.add(
        "Generator",
        list(labels),
        bus=owners,
        carrier=IMBALANCE_CARRIER,
        p_nom=0.0,
        p_min_pu=limits[0],
        p_max_pu=limits[1],
        **asked,
    )
