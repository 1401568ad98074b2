"""The labelled results of a solved market, read from the network's own tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pypsa
import xarray as xr

from pypsa_p2p.common.names import DAY_AHEAD, PROSUMER, SCENARIO, SNAPSHOT, TRADE
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.markets.record import recorded
from pypsa_p2p.network.books import read_books
from pypsa_p2p.network.checksums import require_unchanged
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.accounts import Accounts
from pypsa_p2p.solution.decided import in_tables
from pypsa_p2p.solution.grid_prices import grid_results, taken_from_grid
from pypsa_p2p.solution.money import Money

Names = npt.NDArray[np.object_]

_MW, _PRICE, _EUR = "MW", "EUR/MWh", "EUR"
DESCRIBED: Final = {
    "demand": (_MW, "consumption D"),
    "generation": (_MW, "net injection of generators, storage and other assets G"),
    "renewable": (_MW, "must-take renewable generation"),
    "net_import": (_MW, "net purchases Q from all trade partners"),
    "retail_import": (_MW, "bought from a retailer, part of generation"),
    "retail_export": (_MW, "sold to a retailer, of which generation is less"),
    "quantity": (_MW, "what buyer buys from seller, q; negative: sells"),
    "nodal_price": (_PRICE, "price of energy to the prosumer in the scenario, lambda/(tau w)"),
    "price_unique": (
        "1",
        "whether no other nodal price would do; not where there is none",
    ),
    "import_price": (_PRICE, "price p0 at which the grid operator trades"),
    "grid_price": (_PRICE, "price of using the grid at the prosumer's bus of it"),
    "grid_payment": (
        _EUR,
        "what she takes from the grid at grid_price; in no payment or bill",
    ),
    "congestion_rent_now": (_EUR, "what grid prices collect over all snapshots, EUR now"),
    "congestion_rent": (_EUR, "the same in money of the scenario, where all weigh it alike"),
    "trade_price": (_PRICE, "price of the edge to buyer in the scenario, zeta/(tau w)"),
    "day_ahead_price": (_PRICE, "price of an edge day ahead, the sum over scenarios of zeta/w"),
    "capacity_price": (_PRICE, "price of the trade capacity to buyer in the scenario, xi/(tau w)"),
    "cost": (_EUR, "the paper's Pi: with utility, without what prosumers pay each other"),
    "payment": (_EUR, "for trades in the scenario, where all weigh it alike; not part of cost"),
    "payment_now": (_EUR, "for trades, EUR now: sum of zeta * quantity; not part of cost"),
    "fee": (_EUR, "fees on what is traded over edges, in cost and in bill"),
    "fee_revenue": (_EUR, "all fees, which whoever runs the network gets; no transfer inside"),
    "bill": (_EUR, "money alone: generation, imports, fees, trades, contracts; without utility"),
    "net_cost": (_EUR, "cost and bill in one: cost, payment for trades, contracts settled"),
    "expected_cost": (_EUR, "expectation of cost"),
    "expected_net_cost": (_EUR, "expectation of net_cost"),
    "net_cost_value_at_risk": (_EUR, "quantile of net_cost, from which on it is weighed"),
    "risk_adjusted_net_cost": (_EUR, "her risk measure of net_cost"),
    "value_at_risk": (
        _EUR,
        "quantile of cost after contracts, from which on it is weighed",
    ),
    "risk_adjusted_cost": (_EUR, "R, contracts paid"),
    "welfare_weight": ("", "what another EUR of her cost adds to what the planner minimises"),
    "reference_cost": (_EUR, "what her cost is compared with: without trades, or as given"),
    "gain": (_EUR, "reference_cost less risk_adjusted_cost"),
    "risk_adjusted_probability": ("1", "tau, the weight of the scenario in R"),
    "contract": (_EUR, "what contracts W bought inside the community pay"),
    "insurance": (_EUR, "insurance J bought outside"),
    "contract_price": ("1", "alpha, EUR now per EUR in the scenario, or per unit"),
    "contract_volume": ("1", "units W of each contract bought inside the community"),
    "contract_payoff": (_EUR, "what a unit of each contract pays"),
    "insurance_price": ("1", "gamma, EUR now per EUR in the scenario"),
    "at_cap": ("1", "whether every tau is at the cap of the least averse; coordinate regime"),
    "social_cost": (_EUR, "sum of R, or the risk measure of the community's cost"),
    "social_cost_without_fees": (_EUR, "less what fees are worth now to whoever pays them"),
}

#: Dims of what `Accounts.figures` returns.
DIMS: Final = {
    **dict.fromkeys(
        ("demand", "generation", "renewable", "nodal_price", "price_unique", "import_price"),
        (SCENARIO, SNAPSHOT, PROSUMER),
    ),
    **dict.fromkeys(
        ("net_import", "retail_import", "retail_export"), (SCENARIO, SNAPSHOT, PROSUMER)
    ),
    **dict.fromkeys(
        ("quantity", "trade_price", "capacity_price"),
        (SCENARIO, SNAPSHOT, TRADE),
    ),
    **dict.fromkeys(
        (
            "payment_now",
            "payment",
            "cost",
            "fee",
            "bill",
            "net_cost",
            "risk_adjusted_probability",
        ),
        (SCENARIO, PROSUMER),
    ),
    **dict.fromkeys(
        (
            "expected_cost",
            "expected_net_cost",
            "net_cost_value_at_risk",
            "risk_adjusted_net_cost",
            "value_at_risk",
            "risk_adjusted_cost",
            "welfare_weight",
            "reference_cost",
            "gain",
        ),
        (PROSUMER,),
    ),
    "day_ahead_price": (SNAPSHOT, TRADE),
    "fee_revenue": (SCENARIO,),
    "social_cost": (),
    "social_cost_without_fees": (),
}


def results(n: pypsa.Network) -> xr.Dataset:
    """Results of the market solved on a network.

    Names follow MODEL.md §1-5; units are in the variables' ``attrs``.

    Three variables tell what a scenario costs a prosumer: ``cost`` is the paper's Pi, with utility
    and without what prosumers pay each other; ``bill`` is money alone, all she pays and is paid;
    ``net_cost`` is both, her bill less her utility.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market, by ``n.optimize(extra_functionality=market)`` or
        ``market.optimize(n)``.

    Returns
    -------
    xarray.Dataset
        Dims ``scenario`` (length 1 when the network has none), ``snapshot``, ``prosumer`` and
        ``trade`` (both directions of every edge; coords ``buyer``, ``seller``). Powers in MW,
        prices in EUR/MWh of their scenario, costs in EUR over the snapshots solved. `to_netcdf`
        works on it.

    Raises
    ------
    MarketError
        Nothing was solved, the last solve failed, constraints were added after the market, or
        data that costs and prices follow from were changed since.

    Notes
    -----
    Prices are money of the scenario: a multiplier is divided by the hours and by the risk-adjusted
    probability of whoever pays. Within her limits a prosumer's nodal price is her marginal utility
    and her marginal cost. In a scenario that she does not weigh it is that of the limit in which
    she does; NaN if she sells there what only others weigh, who would pay her any price, and in
    answers that agents found (`solve_equilibrium`), who agree on no price of it. Where
    demand and supply are steps or at limits, several prices would do (``price_unique`` is False):
    the middle between those of least and of greatest total price, or the finite end
    (MODEL.md §4). `price_range` has both ends of each. So it is where fees keep partners from
    trading.

    Trades day ahead have one quantity and one price for all scenarios, ``day_ahead_price``, NaN of
    all others: what is paid in every scenario, which is what multipliers of all scenarios add up
    to. Their ``trade_price`` and ``capacity_price`` are the same in every scenario, ``payment``
    counts them whatever anybody fears, and ``payment_now`` has each scenario's probability of them
    (MODEL.md §12).

    ``payment``, ``bill`` and ``net_cost`` are NaN in scenarios that prosumers weigh differently,
    whose money has no one worth to them; ``payment_now`` is there always, and cancels over every
    edge of a variational equilibrium. Where all agree, net costs of a scenario sum to its costs
    (insurance apart). ``bill`` counts what generation, congestion, imports at p0, fees,
    trades, contracts and capital cost, and no preference b, which is paid to nobody.

    Where payments are at risk (``payments="risk"``) money of a scenario has one price to all:
    ``risk_adjusted_cost``, ``value_at_risk`` and ``social_cost`` are those of ``net_cost``, and
    ``payment_now``, but with contracts, is ``payment`` times the scenario's probability
    (MODEL.md §13).

    ``renewable`` is the output of must-take generators, whatever their carrier: those whose
    ``p_min_pu`` equals ``p_max_pu`` in every snapshot and scenario of the network. Elastic
    demand is known by its carrier, ``elastic demand``: nothing else tells a Generator that sheds
    load from one that generates. All other injections are ``generation``; a generator without
    capacity counts nowhere, as its output is 0. Where prosumers have retail contracts, what they
    buy and sell there is a part of ``generation``, and besides in ``retail_import`` and
    ``retail_export``, neither negative.

    Capacities found (``p_nom_opt``) are in PyPSA's own tables; ``cost`` holds the capital cost of
    all of a prosumer's extendable capacity, the same in every scenario. What stood before is
    included, of which PyPSA's ``n.objective`` leaves out ``n.objective_constant``.

    With contracts, ``contract`` and ``insurance`` are what W pays and J, ``contract_price`` is what
    is paid inside the community, and ``at_cap`` with the coordinate ``regime`` tells the regimes
    of Theorem 15 (`hedges.regimes`). Contracts with a payoff of their own have their volumes,
    prices and payoffs along the dim ``contract_name``.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).nodal_price.sel(prosumer="0").round(5).values.ravel()
    array([0.93944, 0.52706, 2.11376])
    """
    return read_results(n)[1]


def read_results(n: pypsa.Network) -> tuple[MarketData, xr.Dataset]:
    """The market's data, and `results`."""
    settings = recorded(n)
    delivered = settings["delivery"] == "grid"
    accounts = read_accounts(n)
    data = accounts.data
    dataset = labelled(accounts.figures(), data).assign(accounts.contracts())
    if delivered:
        dataset = dataset.assign(grid_results(Money.of(n, data), taken_from_grid(dataset)))
    for name, (unit, meaning) in DESCRIBED.items():
        if name in dataset:
            dataset[name].attrs = {"unit": unit, "long_name": meaning}
    dataset.attrs = {"market": str(settings["design"]), "solver": str(settings["solver"])}
    return data, dataset


def read_accounts(n: pypsa.Network) -> Accounts:
    """The books of a solved network, and what was decided on it.

    Raises
    ------
    MarketError
        See `results`.
    """
    settings = recorded(n)
    sns = n.snapshots[settings["snapshots"]]
    data = read_market(n, sns, grid=settings["delivery"] == "grid")
    require_unchanged(n, data, settings["delivery"], settings.get("inputs", {}))
    return Accounts(data=data, books=read_books(n, data), found=in_tables(n, data, settings))


def labelled(figures: Mapping[str, Numbers], data: MarketData) -> xr.Dataset:
    """Figures with their dims, and labels along them."""
    buyer, seller = _both_directions(data)
    return xr.Dataset(
        {name: (DIMS[name], values) for name, values in figures.items()},
        coords={
            SCENARIO: data.scenarios,
            SNAPSHOT: data.snapshots,
            PROSUMER: data.prosumers,
            TRADE: np.array(trade_labels(data), dtype=object),
            "buyer": (TRADE, buyer),
            "seller": (TRADE, seller),
        },
    )


def trade_labels(data: MarketData) -> list[str]:
    """Labels of both directions of every edge; those day ahead say so."""
    when = np.where(np.tile(data.day_ahead.to_numpy(), 2), f" ({DAY_AHEAD})", "")
    ends = zip(*_both_directions(data), when, strict=True)
    return [f"{b} <- {s}{ahead}" for b, s, ahead in ends]


def _both_directions(data: MarketData) -> tuple[Names, Names]:
    """Buyers and sellers of both directions of every edge."""
    ends = data.bus0.to_numpy(), data.bus1.to_numpy()
    return np.concatenate(ends), np.concatenate(ends[::-1])
