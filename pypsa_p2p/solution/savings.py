"""What trading saves each prosumer: against nobody trading, or another solved market."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, P2PError, listed
from pypsa_p2p.common.names import (
    META,
    OWN_MULTIPLIERS,
    PROSUMER,
    SCENARIO,
    SNAPSHOT,
    TERMS,
    TRADE_CARRIER,
)
from pypsa_p2p.common.pypsa_state import copy_without_model, forget_model
from pypsa_p2p.common.quiet import quiet_libraries
from pypsa_p2p.common.tables import carrier_names, remove
from pypsa_p2p.common.values import require_network
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.contracts import Contracts
from pypsa_p2p.markets.designs import PeerToPeerMarket
from pypsa_p2p.markets.record import payments_at_risk, recorded
from pypsa_p2p.markets.risk import RiskMeasure
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.retail_contracts import fit_retail
from pypsa_p2p.solution.results import read_results


def without_trades(n: pypsa.Network) -> pypsa.Network:
    """A copy in which nobody trades and nobody sells surplus over an edge, solved again.

    Each prosumer lives by her own assets and retail contract: her problem of the market without
    its trades, with the same measure of risk. Contracts among prosumers are trades, too; insurance
    from outside stays.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market; stays as it is.

    Returns
    -------
    pypsa.Network
        Without trade edges, and solved.

    Raises
    ------
    MarketError
        No market is solved; prosumers cannot do without trade, who are named.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> alone = p2p.without_trades(n)
    >>> p2p.results(alone).risk_adjusted_cost.round(6).values
    array([ 1.126464, 12.02064 , 11.543935])
    """
    require_network(n)
    settings = recorded(n)
    market = _alone(settings)
    copy = copy_without_model(n)
    forget_model(copy)
    remove(copy, "Link", list(carrier_names(copy, "Link", TRADE_CARRIER)))
    copy.meta = {key: value for key, value in copy.meta.items() if key != META}
    fit_retail(copy)
    _cost_something(copy)
    try:
        with quiet_libraries():
            market.optimize(copy, copy.snapshots[settings["snapshots"]])
    except P2PError as error:
        way = " Whoever cannot do without may have a retail contract, add_retail(n, ...)."
        advice = way if isinstance(error, MarketError) else ""
        raise type(error)(f"Without trades: {error}{advice}") from error
    return copy


def _cost_something(n: pypsa.Network) -> None:
    """Trade edges cost next to nothing, as PyPSA builds no model of nothing: generators do now."""
    static = n.c["Generator"].static
    cost = static["marginal_cost"]
    static["marginal_cost"] = cost.where(cost != 0, ACCURACY.next_to_nothing)


def savings(
    n: pypsa.Network, reference: pypsa.Network | None = None, *, settlement: Any = None
) -> xr.Dataset:
    r"""What each prosumer saves by trading, in money (MODEL.md §4).

    .. math:: \mathrm{saving\ now}_n = R_n[\mathrm{alone}]
        - \Big(R_n + \sum_\omega \mathrm{payment\ now}_n(\omega)\Big)

    Nobody loses by trading at the prices of a variational equilibrium without congestion: this is
    never negative there. In single scenarios, and in their expectation for who minds risk, it can
    be. (With ``delivery="grid"`` what is paid for the grid is in none of this: see
    ``grid_payment`` of `results`.)

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.
    reference : pypsa.Network, optional
        Solved with a market, of the same prosumers and scenarios. Default: `without_trades`.
    settlement : xarray.Dataset, optional
        What `settle` returned for `n`: net costs and bills are those of its rule.

    Returns
    -------
    xarray.Dataset
        EUR: ``saving_now`` (prosumer), at the market's prices: NaN where payments now do not
        cancel (unequal weights), and not there with a `settlement`; ``saving``
        (scenario, prosumer) of net cost and ``expected_saving`` (prosumer), NaN where money of a
        scenario has not one price in one of both markets; ``bill_before`` and ``bill_after``,
        ``net_cost_before`` and ``net_cost_after`` (scenario, prosumer).

    Raises
    ------
    MarketError
        No market is solved; somebody cannot do without trade; other prosumers or scenarios.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.savings(n).saving_now.round(4).values
    array([ 3.8945, 21.3733, 13.7822])
    """
    require_network(n)
    data, after = read_results(n)
    other = without_trades(n) if reference is None else reference
    of_other, before = read_results(other)
    _require_alike(data, of_other)
    before = before.reindex({dim: after.indexes[dim] for dim in (SCENARIO, PROSUMER)})
    paid = after if settlement is None else _of_settlement(settlement, after)
    saving = before["net_cost"] - paid["net_cost"]
    cancels = not any(recorded(one).get(OWN_MULTIPLIERS, False) for one in (n, other))
    found = {
        "saving_now": (_worth_now(other, before) - _worth_now(n, after)).where(cancels),
        "saving": saving,
        "expected_saving": (data.probability * saving).sum(SCENARIO, skipna=False),
        "bill_before": before["bill"],
        "bill_after": paid["bill"],
        "net_cost_before": before["net_cost"],
        "net_cost_after": paid["net_cost"],
    }
    if settlement is not None:
        del found["saving_now"]
    dataset = xr.Dataset({name: _plain(array) for name, array in found.items()})
    for name in dataset:
        dataset[name].attrs = {"unit": "EUR", "long_name": _MEANINGS[str(name)]}
    return dataset


def _require_alike(data: MarketData, of_reference: MarketData) -> None:
    """Refuse a reference of other people, scenarios or hours.

    Raises
    ------
    MarketError
    """
    for dim in (SCENARIO, PROSUMER, SNAPSHOT):
        one, other = (getattr(each, f"{dim}s") for each in (data, of_reference))
        if set(one) != set(other):
            raise MarketError(
                f"The reference has the {dim}s {listed(other)}, the market {listed(one)}: compare "
                "networks with the same."
            )
    for what in ("probability", "weighting"):
        here = getattr(data, what)
        there = getattr(of_reference, what).reindex_like(here)
        if not np.allclose(here, there, rtol=ACCURACY.probability, atol=0.0):
            raise MarketError(
                f"The {what} of the reference is not the market's: compare networks with the same."
            )


_MEANINGS: Final = {
    "saving_now": "R less payments now, before less after",
    "saving": "net cost before less after, in the scenario",
    "expected_saving": "expectation of saving",
    "bill_before": "bill of the reference",
    "bill_after": "bill",
    "net_cost_before": "net cost of the reference",
    "net_cost_after": "net cost",
}


def _worth_now(n: pypsa.Network, r: xr.Dataset) -> xr.DataArray:
    """R and all payments, EUR now; (prosumer). R may hold them already (MODEL.md §13)."""
    if payments_at_risk(recorded(n)):
        return r["risk_adjusted_cost"]
    return r["risk_adjusted_cost"] + r["payment_now"].sum(SCENARIO)


def _plain(array: xr.DataArray) -> xr.DataArray:
    bare = array.reset_coords(drop=True)  # of contracts, which may differ
    return bare.transpose(*[dim for dim in (SCENARIO, PROSUMER) if dim in bare.dims])


def _of_settlement(settlement: Any, r: xr.Dataset) -> xr.Dataset:
    needed = {"bill", "net_cost"}
    fits = isinstance(settlement, xr.Dataset) and needed <= set(settlement)
    if not fits or not all(
        set(settlement[name].indexes.get(dim, ())) == set(r.indexes[dim])
        for name in needed
        for dim in (SCENARIO, PROSUMER)
    ):
        raise MarketError("settlement must be what settle(n, ...) returns for this network.")
    return settlement


def _alone(settings: Mapping[str, Any]) -> Market:
    """The market of who trades with nobody: her own problem, whatever the design was."""
    risk = RiskMeasure.of(settings["risk"]) if settings["risk_averse"] else None
    insured = settings[TERMS]["insurance_price"] if settings["contracts"] and risk else None
    return PeerToPeerMarket(
        risk=risk,
        contracts=None if insured is None else Contracts(insurance_price=insured, limit=0.0),
        surplus=False,
        delivery=settings["delivery"],
        here_and_now=settings.get("here_and_now", ()),
    )
