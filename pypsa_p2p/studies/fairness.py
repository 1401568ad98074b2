"""Fairness of a solved market, in the measures of the community-market literature."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.names import DEMAND_BID_CARRIER, PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import carrier_names, dynamic_values, static_values
from pypsa_p2p.markets.record import recorded_units
from pypsa_p2p.network.assets import by_owner
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.results import results
from pypsa_p2p.studies.amounts import Amount, amount_of, prices_of_traders, risk_adjusted
from pypsa_p2p.studies.comparison import gini, rounding_of_money


def fairness(n: pypsa.Network, *, of: Amount | None = None) -> pd.Series:
    r"""How evenly a solved market treats its prosumers.

    The three measures by which F. Moret and P. Pinson judge energy collectives (*Energy
    Collectives: A Community and Fairness Based Approach to Future Electricity Markets*, IEEE
    Transactions on Power Systems 34(5), 2019; also in the review of T. Sousa et al., Renewable
    and Sustainable Energy Reviews 104, 2019), and the Gini coefficient. The measures say how
    uneven an allocation is, not of what: here, of service and of perceived prices, as below.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    of : {"net_cost", "bill", "cost"}, optional
        What the Gini coefficient is of, as in `compare`: net costs (bills less utility), bills
        (money alone) or the paper's costs. Default: net_cost where there is one, else cost.

    Returns
    -------
    Series
        All without unit; 1 is fairest, but for the Gini coefficient, where 0 is:

        ===================== ================================================================
        quality_of_service    evenness of `served_share`, see `quality_of_service`; NaN where
                              nobody has a target demand
        quality_of_experience evenness of `perceived_price` on the scale from the least to the
                              greatest nodal price seen, see `quality_of_experience`
        min_max               least over greatest perceived price, see `min_max`
        "<of>_gini"           of her risk measure, see `pypsa_p2p.studies.comparison.gini`
        ===================== ================================================================

        Prices are those of prosumers who trade at all: others have none of their own. If nobody
        trades, those of all. Operators, who are nobody's household, are left out everywhere.

    Raises
    ------
    MarketError
        No market is solved on `n`, or its results are stale; see `results`.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n, market = p2p.load_grid("three_node"), p2p.PeerToPeerMarket()
    >>> market.optimize(n)
    ('ok', 'optimal')
    >>> p2p.fairness(n).round(3).to_dict()
    {'quality_of_service': 0.765, 'quality_of_experience': 0.533, 'min_max': 0.445,
     'net_cost_gini': 0.511}
    """
    r = results(n)
    amount = amount_of({"the market": r}, of)
    data = read_market(n, pd.Index(r["snapshot"].to_numpy()))
    usual = recorded_units(n)
    prices = prices_of_traders(r, data, usual)
    low, high = float(prices.min()), float(prices.max())
    perceived = _perceived_price(r, data).where(prices.notnull().any([SCENARIO, SNAPSHOT]))
    seen = perceived.dropna(PROSUMER).clip(low, high).to_numpy()
    rounding = ACCURACY.promised * max(usual.price, abs(low), abs(high))
    seen = np.where(abs(seen) <= rounding, 0.0, seen)
    if high - low <= rounding:
        seen, low, high = np.full_like(seen, seen[0]), float(seen[0]), float(seen[0])
    share = _served_share(n, r, data)[data.counted].dropna(PROSUMER).to_numpy()
    return pd.Series(
        {
            "quality_of_service": quality_of_service(share) if share.size else np.nan,
            "quality_of_experience": quality_of_experience(seen, low, high),
            "min_max": min_max(seen),
            f"{amount}_gini": gini(
                risk_adjusted(n, r, data, amount).to_numpy()[data.counted],
                rounding_of_money(usual, data),
            ),
        }
    )


def served_share(n: pypsa.Network) -> pd.Series:
    r"""Share of the energy she would like that a prosumer uses, :math:`E[D_n]/E[D^*_n]`.

    What she bids for counts as what she would like.

    By prosumer, without unit; NaN where she would like none. `n` is solved with a market.
    """
    r = results(n)
    return _served_share(n, r, read_market(n, pd.Index(r["snapshot"].to_numpy()))).to_series()


def perceived_price(n: pypsa.Network) -> pd.Series:
    r"""What a MWh that a prosumer trades is worth to her on average, EUR/MWh.

    .. math:: \bar\lambda_n = \frac{E[\sum_t w_t \lambda_n |Q_n|]}{E[\sum_t w_t |Q_n|]}

    By (22) her nodal price is all that a bought MWh costs her: trade price, preference, import
    price and scarcity of the edge. Where she never trades, it is her mean nodal price.
    By prosumer. `n` is solved with a market.
    """
    r = results(n)
    return _perceived_price(r, read_market(n, pd.Index(r["snapshot"].to_numpy()))).to_series()


def quality_of_service(amounts: np.ndarray) -> float:
    r"""Jain's index of amounts >= 0, in (0, 1]; 1 where all are equal, 1/N where one has all.

    .. math:: QoS = \frac{(\sum_n x_n)^2}{N \sum_n x_n^2}

    R. Jain, D. Chiu, W. Hawe, *A Quantitative Measure of Fairness and Discrimination for
    Resource Allocation in Shared Computer Systems*, DEC-TR-301, 1984.

    Raises
    ------
    MarketError
        A negative amount, for which the index means nothing.

    Examples
    --------
    >>> [quality_of_service(np.array(x)) for x in ([2.0, 2.0], [0.0, 3.0], [1.0, 3.0])]
    [1.0, 0.5, 0.8]
    """
    _require_not_negative(amounts, "quality_of_service")
    square = float((amounts**2).sum())
    return float(amounts.sum()) ** 2 / (amounts.size * square) if square else 1.0


def quality_of_experience(values: np.ndarray, low: float, high: float) -> float:
    r"""Evenness of values on a scale from `low` to `high`, in [0, 1]; 1 where all are equal.

    .. math:: QoE = 1 - \frac{\sigma}{\sigma_{max}}, \quad \sigma_{max} = \frac{H - L}{2},

    as no values on the scale have a standard deviation above :math:`\sigma_{max}`. Unlike
    Jain's index it does not depend on where the scale has its zero.
    T. Hoßfeld, L. Skorin-Kapov, P. Heegaard, M. Varela, *Definition of QoE Fairness in Shared
    Systems*, IEEE Communications Letters 21(1), 2017.

    Examples
    --------
    >>> [quality_of_experience(np.array(x), 0.0, 4.0) for x in ([3.0, 3.0], [0.0, 4.0], [1.0, 3.0])]
    [1.0, 0.0, 0.5]
    """
    if values.min() < low or values.max() > high:
        raise MarketError(
            f"quality_of_experience: values from {values.min()} to {values.max()} are not on the "
            f"scale from {low} to {high}; widen it."
        )
    return 1.0 - 2.0 * float(values.std()) / (high - low) if high > low else 1.0


def min_max(values: np.ndarray) -> float:
    r"""Least value over the greatest, :math:`MiM = \min_n x_n / \max_n x_n`, of values >= 0.

    In [0, 1]; 1 where all are equal, also where all are 0. NaN where a value is negative, as
    prices may be.

    Examples
    --------
    >>> [min_max(np.array(x)) for x in ([2.0, 2.0], [1.0, 4.0], [-1.0, 4.0])]
    [1.0, 0.25, nan]
    """
    if values.min() < 0:
        return float("nan")
    return float(values.min() / values.max()) if values.max() > 0 else 1.0


def _require_not_negative(amounts: np.ndarray, measure: str) -> None:
    if amounts.size == 0 or amounts.min() < 0:
        raise MarketError(f"{measure} needs amounts >= 0, at least one; got {amounts.tolist()}.")


def _served_share(n: pypsa.Network, r: xr.Dataset, data: MarketData) -> xr.DataArray:
    names = data.names("Load")
    target = dynamic_values(n, "Load", "p_set", names, data.snapshots)
    target = by_owner(target, data.owner_of("Load"), data)
    bids = carrier_names(n, "Generator", DEMAND_BID_CARRIER)
    if len(bids):
        size = static_values(n, "Generator", "p_nom", bids)
        asked = -size * dynamic_values(n, "Generator", "p_min_pu", bids, data.snapshots)
        target = target + by_owner(asked, data.owner_of("Generator"), data)
    wanted = _expected(target, data)
    return (_expected(r["demand"], data) / wanted.where(wanted > 0)).rename("served_share")


def _perceived_price(r: xr.Dataset, data: MarketData) -> xr.DataArray:
    traded = abs(r["net_import"])
    price = r["nodal_price"]
    mean = price.weighted(data.weighting * data.probability).mean([SCENARIO, SNAPSHOT])
    energy = _expected(traded.where(price.notnull(), 0.0), data)
    weighted = _expected((price * traded).fillna(0.0), data) / energy.where(energy > 0)
    return weighted.fillna(mean).rename("perceived_price")


def _expected(values: xr.DataArray, data: MarketData) -> xr.DataArray:
    """Expectation of the sum over snapshots; dims (prosumer)."""
    return (values * data.weighting * data.probability).sum([SCENARIO, SNAPSHOT])
