"""The game the agents' algorithms play, as plain arrays with dims ordered (S, T, ...)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.names import NAME, PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import dynamic_values
from pypsa_p2p.common.values import labelled
from pypsa_p2p.equilibrium.game.hedging import Traded
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.equilibrium.game.pieces import Pieces, Positions, arrange
from pypsa_p2p.equilibrium.game.refusals import (
    check_components,
    check_generators,
    refuse_day_ahead,
    refuse_generators,
)
from pypsa_p2p.equilibrium.game.stores import Stores, read_stores
from pypsa_p2p.markets.designs import PeerToPeerMarket
from pypsa_p2p.markets.record import require_trades_delivered
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.tail import Tail, worst


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """A market of prosumers with loads, generators and trades, nothing else (MODEL.md §2).

    S scenarios, T snapshots, N prosumers, G generators, E trade edges. Trade k < E is what the
    prosumer at bus0 of edge k buys over it, trade E + k what the one at bus1 buys. Elastic
    demand and must-take renewables are generators like any other. Units are those of the network
    as it is read, and the game's own once it is `scaled` (equilibrium.scaling).

    Attributes
    ----------
    data : MarketData
        Labels of all dimensions.
    generators : Index
        (G,) names.
    least, most
        (S, N) of the risk-adjusted probabilities tau; what insurance costs is the most.
    surplus
        Whether (1) is an inequality.
    owner, buyer
        (G,) prosumer of each generator; (2E,) prosumer who decides each trade.
    lower, upper, marginal_cost, quadratic_cost
        (S, T, G), MW, EUR/MWh and EUR/MW2h (of p squared).
    hours
        (T,), w, h.
    load, fixed_cost
        (S, T, N), MW, and (S, N), EUR.
    price, capacity, congestion, fee
        (S, T, 2E): b + p0 of the buyer, EUR/MWh; kappa, MW; a, EUR/MW2h; f of the buyer, EUR/MWh.
    traded, stores
        The contracts and the storage units, whose discharge and charge are the last generators;
        None where there are none.
    """

    data: MarketData
    generators: pd.Index
    least: Array
    most: Array
    surplus: bool
    owner: Positions
    buyer: Positions
    hours: Array
    lower: Array
    upper: Array
    marginal_cost: Array
    quadratic_cost: Array
    load: Array
    fixed_cost: Array
    price: Array
    capacity: Array
    congestion: Array
    fee: Array
    traded: Traded | None = None
    stores: Stores | None = None

    @cached_property
    def probability(self) -> Array:
        """p, (S,)."""
        return np.asarray(self.data.probability.to_numpy(), dtype=float)

    @cached_property
    def constants(self) -> Array:
        """What each prosumer's `fixed_cost` is on average, (N,), EUR."""
        return np.asarray(self.probability @ self.fixed_cost)

    @property
    def prosumers(self) -> int:
        """N."""
        return self.load.shape[-1]

    @property
    def edges(self) -> int:
        """E."""
        return self.buyer.size // 2

    @cached_property
    def seller(self) -> Positions:
        """(2E,) partner of each trade's buyer."""
        return np.roll(self.buyer, self.edges)

    @cached_property
    def pieces(self) -> Pieces:
        """All prosumers' decisions side by side."""
        columns = arrange(np.concatenate([self.owner, self.buyer]), self.prosumers)
        generators = self.owner.size
        last = generators + self.buyer.size
        back = generators + np.roll(np.arange(self.buyer.size), self.edges)
        partners = np.concatenate([np.full(generators, last), back, [last]])

        def side_by_side(of_generators: Array, of_trades: Array, padding: float) -> Array:
            return np.asarray(self.joined(of_generators, of_trades, padding)[..., columns])

        nothing = np.zeros_like(self.lower)
        endless = np.full_like(self.price, -np.inf)
        return Pieces(
            who=np.arange(self.prosumers),
            columns=columns,
            partners=partners[columns],
            trades=(columns >= generators) & (columns < last),
            stored=np.zeros(columns.shape, dtype=bool)
            if self.stores is None
            else np.isin(columns, self.stores.places),
            curvature=side_by_side(2 * self.quadratic_cost, 2 * self.congestion, 1.0),
            slope=side_by_side(self.marginal_cost, self.price, 0.0),
            congestion=side_by_side(nothing, self.congestion, 0.0),
            lower=side_by_side(self.lower, endless, 0.0),
            upper=side_by_side(self.upper, self.capacity, 0.0),
            fee=side_by_side(nothing, self.fee, 0.0) if self.fee.any() else None,
            load=self.load,
            fixed_cost=self.fixed_cost,
            hours=self.hours,
        )

    def joined(self, power: Array, quantity: Array, last: float = 0.0) -> Array:
        """A point, (S, T, G + 2E + 1), of powers and quantities."""
        end = np.full((*quantity.shape[:-1], 1), last)
        return np.concatenate([power, quantity, end], axis=-1)

    def parted(self, point: Array) -> tuple[Array, Array]:
        """Powers (S, T, G) and quantities (S, T, 2E) of a point."""
        generators = self.owner.size
        return point[..., :generators], point[..., generators:-1]

    def labelled(self, values: Array, names: pd.Index) -> xr.DataArray:
        """Numbers (S, T, names) with their labels, components along PyPSA's dimension."""
        data = self.data
        return labelled(values, {SCENARIO: data.scenarios, SNAPSHOT: data.snapshots, NAME: names})

    @cached_property
    def net_import_limits(self) -> tuple[Array, Array]:
        """Least and most each prosumer can import, (S, T, N), MW, by (3) and her limits.

        Her storage units stand idle.
        """
        idle = 1.0 if self.stores is None else self.stores.idle(self.owner.size)
        least, most = self.sum_by_owner(self.lower * idle), self.sum_by_owner(self.upper * idle)
        return self.load - most, self.load - least

    @cached_property
    def risk_averse(self) -> bool:
        """Whether any prosumer's risk-adjusted probabilities can differ from p."""
        return bool((self.most > self.least).any())

    def partner(self, quantity: Array) -> Array:
        """q_nm where `quantity` is q_mn, (S, T, 2E)."""
        return np.roll(quantity, self.edges, axis=-1)

    def sum_by_owner(self, power: Array) -> Array:
        """Sums over each prosumer's generators, (S, T, N)."""
        return power @ incidence(self.owner, self.prosumers)

    def net_import(self, quantity: Array) -> Array:
        """Q_n, (S, T, N), MW."""
        return quantity @ incidence(self.buyer, self.prosumers)

    def costs(self, point: Array) -> Array:
        """Pi (7), (S, N), EUR, constants included."""
        return self.pieces.costs(self.pieces.own(point), self.pieces.facing(point))

    def risk_adjusted(self, costs: Array) -> tuple[Array, Array]:
        """R, (N,), EUR, and a tau that attains it, (S, N), of costs (S, N)."""
        found = self._tail(costs)
        return found.value, found.probability.reshape(costs.shape[::-1]).T

    def value_at_risk(self, costs: Array) -> Array:
        """The least cost that counts for more than it must, (N,), EUR, of costs (S, N)."""
        return self._tail(costs).value_at_risk

    def _tail(self, costs: Array) -> Tail:
        group = np.repeat(np.arange(costs.shape[1]), costs.shape[0])
        return worst(costs.T.ravel(), self.least.T.ravel(), self.most.T.ravel(), group)


def incidence(owner: Positions, prosumers: int) -> Array:
    """1 where a column belongs to a prosumer, (columns, N)."""
    return np.asarray(owner[:, None] == np.arange(prosumers), dtype=float)


def known_game(who: str, market: object) -> PeerToPeerMarket:
    """The market, unless agents would not play its game: another class, or a changed design.

    Raises
    ------
    MarketError
    """
    kind = type(market)
    if not isinstance(market, PeerToPeerMarket):
        raise MarketError(f"{who} needs a PeerToPeerMarket, not a {kind.__name__}.")
    for name in ("cross", "formulate", "groups", "shares"):
        if getattr(kind, name) is not getattr(PeerToPeerMarket, name):
            raise MarketError(
                f"{who} plays the game of a PeerToPeerMarket, but {kind.__name__} has a {name!r} "
                "of its own, which agents do not know: use market.optimize(n)."
            )
    return market


def read_game(n: pypsa.Network, market: PeerToPeerMarket, data: MarketData) -> Game:
    """The game of a market on a network.

    Raises
    ------
    MarketError
        The market or an asset is not one the agents' algorithms know (naming it).
    """
    if market.payments == "risk":
        raise MarketError(
            "The agents' algorithms play the game in which payments are no part of anybody's risk: "
            "use market.optimize(n) or sample_equilibria, or payments='none'."
        )
    require_trades_delivered(market.settings(), "An agents' algorithm")
    check_components(n, data)
    refuse_day_ahead(market, data)
    names = data.names("Generator")
    check_generators(n, names)
    each = market.envelope(data)
    if each.covers:
        raise MarketError(
            "The agents' algorithms know CVaR, WorstCase and what else is given by limits of each "
            "probability only: use market.optimize(n), or one of these."
        )
    terms, most = market.terms(data), each.most.T
    traded = None if terms is None else Traded.of(terms, most)
    if terms is not None and terms.insurance_price is not None:
        most = np.minimum(most, terms.insurance_price[:, None])
    values = {
        attribute: dynamic_values(n, "Generator", attribute, names, data.snapshots)
        for attribute in ("p_nom", "p_min_pu", "p_max_pu", *_COSTS)
    }
    if data.closed is not None:
        open_ = (~data.closed).reindex({NAME: names}, fill_value=True)
        values["p_nom"] = values["p_nom"] * open_
    arrays = {
        "lower": _array(values["p_nom"] * values["p_min_pu"]),
        "upper": _array(values["p_nom"] * values["p_max_pu"]),
        "marginal_cost": _array(values["marginal_cost"]),
        "quadratic_cost": _array(values["marginal_cost_quadratic"]),
    }
    stores, pieces = read_stores(n, data, names.size)
    for name, of_stores in pieces.items():
        arrays[name] = np.concatenate([arrays[name], of_stores], axis=-1)
    owner = _whose(data, "Generator")
    if stores is not None:
        owner = np.concatenate([owner, np.tile(_whose(data, "StorageUnit"), 2)])
    game = Game(
        data=data,
        generators=names,
        least=each.least.T,
        most=most,
        surplus=market.surplus,
        owner=owner,
        buyer=np.concatenate(data.ends),
        hours=np.asarray(data.weighting.to_numpy(), dtype=float),
        load=_load(n, data),
        fixed_cost=data.fixed_part,
        traded=traded,
        stores=stores,
        **arrays,
        **_trade_arrays(data),
    )
    _check_numbers(game)
    return game


_COSTS = ("marginal_cost", "marginal_cost_quadratic")


def _array(values: xr.DataArray, last: str = NAME) -> Array:
    return np.ascontiguousarray(values.transpose(SCENARIO, SNAPSHOT, last).to_numpy(), dtype=float)


def _whose(data: MarketData, component: str) -> Positions:
    """Position of the owner of each component of a class."""
    owner = pd.Index(data.owner_of(component).to_numpy())
    return np.asarray(data.prosumers.get_indexer(owner), dtype=np.int64)


def _load(n: pypsa.Network, data: MarketData) -> Array:
    names = data.names("Load")
    power = -dynamic_values(n, "Load", "p_set", names, data.snapshots)
    power = power * dynamic_values(n, "Load", "sign", names, data.snapshots, default=-1.0)
    return _array(power) @ incidence(_whose(data, "Load"), len(data.prosumers))


def _trade_arrays(data: MarketData) -> dict[str, Array]:
    """Both directions of every edge, (S, T, 2E)."""
    like = data.capacity0
    import0, import1 = (
        data.import_price.sel({PROSUMER: end}).drop_vars(PROSUMER) for end in (data.bus0, data.bus1)
    )
    both = {
        "price": (data.price0 + import0, data.price1 + import1),
        "capacity": (data.capacity0, data.capacity1),
        "congestion": (data.congestion, data.congestion),
        "fee": (data.fee0, data.fee1),
    }
    return {
        name: np.concatenate([_array(part.broadcast_like(like)) for part in parts], axis=-1)
        for name, parts in both.items()
    }


def _check_numbers(game: Game) -> None:
    names = game.generators
    if game.stores is not None:
        names = names.append([game.stores.names, game.stores.names])
    for what, good in {
        "finite limits and costs": np.isfinite(
            game.lower + game.upper + game.marginal_cost + game.quadratic_cost
        ),
        "marginal_cost_quadratic of at least 0": game.quadratic_cost >= 0,
        "a lower limit not above the upper one": game.lower <= game.upper,
    }.items():
        refuse_generators(names, good, what)
