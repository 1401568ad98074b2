"""What prosumers say: a copy of the network in which reports stand for the true targets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.pypsa_state import copy_without_model, forget_model
from pypsa_p2p.common.tables import dynamic_values, write
from pypsa_p2p.common.values import require_network
from pypsa_p2p.markets.record import forget_market
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.prosumer_data import write_limits
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.studies.privacy.refusals import elastic_of_each, load_of_each

EVERYWHERE = (SCENARIO, SNAPSHOT, PROSUMER)


def report(n: pypsa.Network, g: xr.Dataset, seed: int = 0) -> pypsa.Network:
    r"""Draw everybody's report, and give a copy of a network that has it for the true target.

    A target becomes :math:`D^*_n + \beta_n + \varepsilon_n` (MODEL.md §11). The limits of demand
    stay what they are, in MW. Any market may be solved on the copy; `settle` with both networks
    tells what that really costs everybody.

    Parameters
    ----------
    n : pypsa.Network
        With the true targets; it stays as it is.
    g : xarray.Dataset
        Of `solve_reports` for this network: ``deviation`` and ``noise_variance`` are drawn from,
        ``attrs["noise"]`` is the law.
    seed : int
        Of the draw, independent in every scenario, snapshot and prosumer.

    Returns
    -------
    pypsa.Network
        Nothing is solved on it.

    Raises
    ------
    DataError
        The dataset is not of this network's prosumers, scenarios and snapshots.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> p2p.add_prosumers(n, ["a", "b", "c"], demand=[4, 6, 2], demand_max=20, demand_min=-20,
    ...                   utility_quadratic=5, generation_max=[0, 0, 20], marginal_cost=10,
    ...                   marginal_cost_quadratic=1)
    >>> p2p.add_trades(n, "complete", capacity=50)
    >>> market = p2p.PeerToPeerMarket(surplus=False)
    >>> g = p2p.solve_reports(n, market, p2p.PrivateReports(loss=1, sensitivity=0.2, distance=0.1))
    >>> m = p2p.report(n, g, seed=1)
    >>> market.optimize(m)
    ('ok', 'optimal')
    >>> p2p.settle(n, m).net_cost.isel(scenario=0).round(3).values
    array([ 62.696, 105.464, -12.421])
    """
    require_network(n)
    Range(0, whole=True).require("report: seed", seed, error=DataError)
    data = read_market(n)
    return with_reports(n, data, drawn(g, data, seed))


def drawn(g: xr.Dataset, data: MarketData, seed: int | list[int]) -> xr.DataArray:
    """Report less truth, MW; dims (scenario, snapshot, prosumer)."""
    _require_same(g, data)
    deviation = g["deviation"].transpose(*EVERYWHERE)
    scale = np.sqrt(g["noise_variance"].transpose(*EVERYWHERE).to_numpy())
    draws = np.random.default_rng(seed)
    if g.attrs["noise"] == "laplace":
        noise = draws.laplace(0.0, scale / np.sqrt(2))
    else:
        noise = draws.normal(0.0, scale)
    return deviation.copy(data=deviation.to_numpy() + noise)


def with_reports(n: pypsa.Network, data: MarketData, shift: xr.DataArray) -> pypsa.Network:
    """A copy of a network whose targets are shifted, MW, and whose limits of demand are not."""
    m = copy_without_model(n)
    forget_market(m)
    forget_model(m)
    loads, elastic = load_of_each(n, data), elastic_of_each(n, data)
    by = data.for_model(shift)
    nominal, lower, upper = (
        data.for_model(_of(n, "Generator", attribute, elastic, data))
        for attribute in ("p_nom", "p_min_pu", "p_max_pu")
    )
    write(m, "Load", "p_set", loads, data.for_model(_of(n, "Load", "p_set", loads, data)) + by)
    write_limits(m, elastic, nominal * lower + by, nominal * upper + by)
    return m


def _of(
    n: pypsa.Network, component: str, attribute: str, names: pd.Index, data: MarketData
) -> xr.DataArray:
    """Numbers of one component of each prosumer; dims (scenario, snapshot, prosumer)."""
    values = dynamic_values(n, component, attribute, names, data.snapshots).to_numpy()
    labels = (data.scenarios, data.snapshots, data.prosumers)
    return xr.DataArray(values, coords=dict(zip(EVERYWHERE, labels, strict=True)))


def _require_same(g: xr.Dataset, data: MarketData) -> None:
    """Refuse reports of another network."""
    known = {SCENARIO: data.scenarios, SNAPSHOT: data.snapshots, PROSUMER: data.prosumers}
    if not isinstance(g, xr.Dataset) or not {"deviation", "noise_variance"} <= set(g):
        raise DataError("report needs what solve_reports(n, market, reports) returned.")
    for dim, labels in known.items():
        if dim not in g.indexes or list(g.indexes[dim]) != list(labels):
            raise DataError(
                f"The reports are of other labels of {dim} than the network: call solve_reports "
                "for this network."
            )
