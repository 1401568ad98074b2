"""Market designs side by side."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.common.units import Units
from pypsa_p2p.markets.record import recorded_units
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.results import results
from pypsa_p2p.studies.amounts import Amount, amount_of, risk_adjusted, who_trades

DESIGN = "design"


def compare(
    networks: Mapping[str, pypsa.Network],
    *,
    reference: str | None = None,
    of: Amount | None = None,
) -> pd.DataFrame:
    r"""Solved designs side by side, one row each.

    What they cost each prosumer is told as ``net_cost`` (her bill less her utility), as ``bill``
    (money alone) or as ``cost`` (the paper's :math:`\Pi`: with utility, but without what
    prosumers pay each other, so that by it every good seller loses by trading).

    Parameters
    ----------
    networks : mapping from names of designs to networks
        Each solved with a market.
    reference : str, optional
        The design that efficiency is measured against. Default: the first.
    of : {"net_cost", "bill", "cost"}, optional
        What is compared between prosumers. Default: net_cost, where money of every scenario has
        one price in all designs, else cost; the columns' names say which.

    Returns
    -------
    DataFrame
        Index ``design``. Columns, all over the whole horizon:

        ============================ ========= ===============================================
        social_cost                  EUR       what the design minimises: :math:`\sum_n R_n`, or
                                               the risk measure of the community's cost
        expected_social_cost         EUR       :math:`\sum_n E[\Pi_n]`
        efficiency_loss              EUR       expected social cost above the reference's
        efficiency                   1         1 less the loss, relative to the reference's
                                               expected social cost without its sign
        traded_energy                MWh       expectation of what prosumers buy from each other;
                                               energy passed on counts on every edge it takes
        price_min, _mean, _max       EUR/MWh   nodal prices over scenarios, snapshots, and
                                               prosumers who trade at all; if none does, of all
        "<of>_gini"                  1         inequality of what follows, see `gini`;
                                               operators' left out
        "<of> <prosumer>"            EUR       her risk measure of it, contracts paid
        ============================ ========= ===============================================

        Where a design compares costs (``welfare=``, ``participation=``), besides, of risk-adjusted
        costs as it compares them:

        ============================ ========= ===============================================
        price_of_fairness            1         the sum over the reference's, less 1; NaN where
                                               that is not above 0
        largest_cost                 EUR       of the worst off
        least_gain                   EUR       on what the designs compare costs with
        nash_value                   1         sum of the logarithms of gains; NaN where somebody
                                               gains nothing
        ============================ ========= ===============================================

    Raises
    ------
    MarketError
        No designs, an unknown reference, a network without a solved market (saying which), or
        an amount that one of them does not have.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> designs = {"neutral": p2p.load_grid("three_node"), "averse": p2p.load_grid("three_node")}
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(designs["neutral"])
    ('ok', 'optimal')
    >>> p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(designs["averse"])
    ('ok', 'optimal')
    >>> compare(designs)["social_cost"].round(5).to_dict()
    {'neutral': 7.61029, 'averse': 13.97712}
    """
    if not isinstance(networks, Mapping):
        raise MarketError(
            'compare needs solved networks by name, {"name": n, ...}, not '
            f"a {type(networks).__name__}."
        )
    if not networks:
        raise MarketError('There is nothing to compare: give solved networks, {"name": n, ...}.')
    first = next(iter(networks)) if reference is None else reference
    if not isinstance(first, Hashable) or first not in networks:
        raise MarketError(
            f"The reference {shown(first)} is none of the designs {listed(networks)}."
        )
    solved = {name: _results(name, n) for name, n in networks.items()}
    amount = amount_of(solved, of)
    figures = {name: _figures(networks[name], r, amount) for name, r in solved.items()}
    table = pd.DataFrame(figures).T
    table.index.name = DESIGN
    expected = table["expected_social_cost"]
    loss = expected - expected[first]
    relative = loss / abs(expected[first]) if expected[first] else loss * np.nan
    table.insert(2, "efficiency_loss", loss)
    table.insert(3, "efficiency", 1.0 - relative)
    for number, (name, column) in enumerate(_compared(solved, first).items(), start=4):
        table.insert(number, name, column)
    return table


def _compared(solved: Mapping[str, xr.Dataset], reference: str) -> dict[str, pd.Series]:
    """Figures of the prosumers' costs, where a design compares these."""
    if not any("welfare_weight" in r for r in solved.values()):
        return {}
    cost = {name: r["risk_adjusted_cost"] for name, r in solved.items()}
    total = pd.Series({name: float(c.sum()) for name, c in cost.items()})
    whole = total[reference]
    found = {
        "price_of_fairness": total / whole - 1.0 if whole > 0.0 else total * np.nan,
        "largest_cost": pd.Series({name: float(c.max()) for name, c in cost.items()}),
    }
    known = [r["reference_cost"] for r in solved.values() if "reference_cost" in r]
    if not known:
        return found
    gain = {name: known[0] - c for name, c in cost.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        value = {name: float(np.log(g.to_numpy()).sum()) for name, g in gain.items()}
    return {
        **found,
        "least_gain": pd.Series({name: float(g.min()) for name, g in gain.items()}),
        "nash_value": pd.Series(value),
    }


def gini(cost: np.ndarray, nothing: float = 0.0) -> float:
    r"""Gini coefficient of amounts of either sign, in [0, 1]; 0 where all are equal.

    .. math:: G = \frac{\sum_i \sum_j |x_i - x_j|}{2 N \sum_i |x_i|}

    The usual coefficient where all signs agree; dividing by absolute amounts keeps it below 1
    where they do not (Raffinetti, Siletti, Vernizzi 2015, doi 10.1007/s10260-014-0293-4).
    Constants of cost and utility count, so compare designs of one community with it.
    Amounts of which the mean size is not above `nothing` are all 0.

    Examples
    --------
    >>> [gini(np.array(cost)) for cost in ([2.0, 2.0], [0.0, 2.0], [-1.0, 1.0], [-2.0, 1.0, 1.0])]
    [0.0, 0.5, 0.5, 0.5]
    """
    size = float(np.abs(cost).sum())
    if np.isnan(size):
        return size
    if size <= nothing * cost.size:
        return 0.0
    return float(np.abs(cost[:, None] - cost[None, :]).sum() / (2 * cost.size * size))


def rounding_of_money(usual: Units, data: MarketData) -> float:
    """Amounts of money over the whole horizon that are rounding, EUR."""
    return ACCURACY.promised * usual.money * float(data.weighting.to_numpy().sum())


def _results(name: str, n: pypsa.Network) -> xr.Dataset:
    """Results of a design; errors say of which."""
    try:
        return results(n)
    except MarketError as error:
        raise MarketError(f"Design {shown(name)}: {error}") from error


def _figures(n: pypsa.Network, r: xr.Dataset, of: Amount) -> dict[str, float]:
    """Everything about one design that needs no other."""
    data = read_market(n, pd.Index(r["snapshot"].to_numpy()))
    usual = recorded_units(n)
    arrays = {str(name): array.to_numpy() for name, array in r.data_vars.items()}
    figures = community_figures(arrays, data, usual)
    for other in ("cost_gini", "net_cost_gini", "contracts_traded", "insurance_bought"):
        figures.pop(other, None)
    worth = risk_adjusted(n, r, data, of)
    return {
        **figures,
        f"{of}_gini": gini(worth.to_numpy()[data.counted], rounding_of_money(usual, data)),
        **{f"{of} {who}": float(worth.sel({PROSUMER: who})) for who in data.prosumers},
    }


def community_figures(
    figures: Mapping[str, Numbers], data: MarketData, usual: Units
) -> dict[str, float]:
    """Figures of a community as a whole: those of `compare`, and volumes of contracts, EUR.

    ``contracts_traded`` is what is bought inside, summed over scenarios; where there are no
    contracts, neither it nor ``insurance_bought`` is among the figures. ``net_cost_gini`` is NaN
    where net costs are.

    Parameters
    ----------
    figures : mapping of arrays
        What `results` returns, without labels.
    usual : Units
        What much smaller amounts than these are rounding of.
    """
    rounding = rounding_of_money(usual, data)
    hours = np.multiply.outer(data.probability.to_numpy(), data.weighting.to_numpy())[..., None]
    counts = who_trades(figures["quantity"], data, usual)
    price = figures["nodal_price"][..., counts]
    known = ~np.isnan(price)  # what is NaN has no weight
    prices = price[known]
    weight = np.broadcast_to(hours, price.shape)[known]
    bought = {"contract": "contracts_traded", "insurance": "insurance_bought"}
    return {
        "social_cost": float(figures["social_cost"]),
        "expected_social_cost": float(figures["expected_cost"].sum()),
        "traded_energy": float((figures["quantity"].clip(min=0.0) * hours).sum()),
        "price_min": float(prices.min()) if prices.size else np.nan,
        "price_mean": float((prices * weight).sum() / weight.sum()) if prices.size else np.nan,
        "price_max": float(prices.max()) if prices.size else np.nan,
        "cost_gini": gini(figures["risk_adjusted_cost"][data.counted], rounding),
        "net_cost_gini": gini(figures["risk_adjusted_net_cost"][data.counted], rounding),
        **{
            name: float(figures[volume].clip(min=0.0).sum())
            for volume, name in bought.items()
            if volume in figures
        },
    }
