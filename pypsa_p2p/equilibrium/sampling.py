"""`sample_equilibria`: how far apart a market's generalized Nash equilibria lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import ConvergenceError, MarketError
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.common.progress import progress_bar
from pypsa_p2p.common.pypsa_state import copy_without_model
from pypsa_p2p.equilibrium.game.game import Game, known_game, read_game
from pypsa_p2p.equilibrium.game.knapsack import Array
from pypsa_p2p.equilibrium.gauss_seidel import GaussSeidel
from pypsa_p2p.equilibrium.scaling import scaled, units_of
from pypsa_p2p.equilibrium.solving import solve_equilibrium
from pypsa_p2p.equilibrium.starts import feasible_start, random_trades, remembered
from pypsa_p2p.markets.contracts import Contracts
from pypsa_p2p.markets.designs import CentralizedMarket, PeerToPeerMarket
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.certificate.certify import certify
from pypsa_p2p.solution.results import results

SAMPLE = "sample"
_DESCRIBED = {
    "kind": ("", "how it was found: variational, weights, no trade, random start, price takers"),
    "social_cost": ("EUR", "sum of R"),
    "risk_adjusted_cost": ("EUR", "R of each prosumer, contracts paid"),
    "exploitability": ("1", "largest gain from re-optimising alone over her cost"),
    "multiplier_misalignment": ("1", "largest difference of the two ends' prices of an edge"),
    "converged": ("", "whether it is certified as a generalized equilibrium"),
    "weight": ("1", "Rosen's weights, 1 on average; nan where a start selected"),
    "centralized_social_cost": ("EUR", "the planner's optimum; nan where it is not convex"),
    "best_social_cost": ("EUR", "least found"),
    "worst_social_cost": ("EUR", "largest found"),
    "price_of_stability": ("1", "best found over the planner's: the true one is no larger"),
    "price_of_anarchy": ("1", "worst found over the planner's: the true one is no smaller"),
}


def sample_equilibria(
    n: pypsa.Network,
    market: PeerToPeerMarket,
    *,
    weights: int = 5,
    starts: int = 5,
    spread: float = 10.0,
    seed: int = 0,
    snapshots: pd.Index | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """A map of a market's generalized Nash equilibria, and what the best and the worst cost.

    The variational equilibrium; equilibria selected by random Rosen weights of the prosumers;
    and points where best responses in random turns stop, first from no trade, then from random
    trades. All are certified (`certify`). The network is left as it is.

    With ``payments="risk"`` instead all equilibria that Newton's method finds from many starts: of
    two scenarios and at most three prosumers who decide before the scenario is known, from every
    combination of the ends of their risk-adjusted probabilities and what lies between; else from
    `starts` that are drawn (MODEL.md §13). There may be more.

    Parameters
    ----------
    n : pypsa.Network
    market : PeerToPeerMarket
        Its own `equilibrium` and `weights` do not matter.
    weights : int
        How many draws of weights, each prosumer's log-uniform in [1/spread, spread]; none with
        ``payments="risk"``.
    starts : int
        How many best-response runs, which need ``surplus=True``, no contracts, and nothing but
        loads, generators and trades. With ``payments="risk"``, how many starts of Newton's method.
    spread : float
        Above 1.
    seed : int
        Of weights, starts and turns.
    snapshots : sequence, optional
        A subset of ``n.snapshots``; default all.
    progress : bool
        Whether to show a progress line on stderr, on a terminal or in a notebook.

    Returns
    -------
    xarray.Dataset
        Over ``sample``: ``kind``, ``social_cost``, ``exploitability``,
        ``multiplier_misalignment``, ``converged``; ``risk_adjusted_cost`` and ``weight`` also
        over ``prosumer``. Without dims: the ``best_`` and ``worst_social_cost`` of those that
        converged, the ``centralized_social_cost``, and their ratios: ``price_of_stability`` from
        above, ``price_of_anarchy`` from below; nan unless the planner's cost is positive.

    Raises
    ------
    DataError
        The data make no sense.
    MarketError
        Numbers out of range, or a market that cannot be sampled so (naming what).

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> found = sample_equilibria(n, p2p.PeerToPeerMarket(), weights=1, starts=1, progress=False)
    >>> found.kind.values.tolist(), bool(found.converged.all())
    (['variational', 'weights', 'no trade'], True)
    >>> bool(found.best_social_cost < found.worst_social_cost)
    True
    """
    _check(market, weights, starts, spread, seed)
    twin = copy_without_model(n)
    data = read_market(twin, snapshots)
    market = replace(market, equilibrium="variational", weights=None)
    if market.payments == "risk":
        rows = list(_price_takers(twin, market, data, starts, seed))
        return _bounded(_as_dataset(rows, data), _planned(twin, market, data))
    plan = _Plan(twin, market, data, np.random.default_rng(seed), spread)
    rows = []
    total = 1 + weights + starts
    with progress_bar(total, "equilibria", " samples", shown=progress) as bar:
        for row in plan.samples(weights, starts):
            rows.append(row)
            bar.set_postfix(social_cost=f"{row['social_cost']:.6g}", refresh=False)
            bar.update()
    return _bounded(_as_dataset(rows, data), plan.centralized())


def _check(market: object, weights: int, starts: int, spread: float, seed: int) -> None:
    """Refuse arguments that make no sense, and starts where no start is left."""
    market = known_game("sample_equilibria", market)
    why = "a number of samples must not be negative"
    for name, value in {"weights": weights, "starts": starts}.items():
        Range(0, whole=True, why=why).require(f"sample_equilibria: {name}", value)
    Range(0, whole=True).require("sample_equilibria: seed", seed)
    why = "weights are drawn from [1/spread, spread], so that spread must exceed 1"
    Range(1, ends="()", why=why).require("sample_equilibria: spread", spread)
    if starts and market.contracts is not None and market.payments == "none":
        raise MarketError(
            "Best responses trade no contracts, whose volumes sum to zero, so that the others' "
            "leave nothing to decide: use starts=0, or leave contracts out."
        )
    if starts and not market.surplus and market.payments == "none":
        raise MarketError(
            "Where (1) is an equality, best responses never leave their start: use starts=0, or "
            "allow a surplus."
        )


@dataclass(frozen=True)
class _Plan:
    """What is drawn and solved, on a network of its own."""

    n: pypsa.Network
    market: PeerToPeerMarket
    data: MarketData
    rng: np.random.Generator
    spread: float

    def samples(self, weights: int, starts: int) -> Iterator[dict[str, Any]]:
        """A row per equilibrium."""
        game = read_game(self.n, self.market, self.data) if starts else None
        ones = np.ones(len(self.data.prosumers))
        yield self._direct("variational", self.market, ones)
        quantity = remembered(game, self.n)["quantity"] if game is not None else None
        for _ in range(weights):
            drawn = np.exp(self.rng.uniform(-1, 1, ones.size) * np.log(self.spread))
            drawn = drawn / drawn.mean()
            chosen = dict(zip(self.data.prosumers, drawn.tolist(), strict=True))
            market = replace(self.market, equilibrium="generalized", weights=chosen)
            yield self._direct("weights", market, drawn)
        for k in range(starts):
            assert game is not None and quantity is not None
            yield self._played(game, quantity, from_no_trade=k == 0)

    def _direct(self, kind: str, market: PeerToPeerMarket, weight: Array) -> dict[str, Any]:
        try:
            market.optimize(self.n, self.data.snapshots)
        except ConvergenceError:
            return {**self._nothing(), "kind": kind, "weight": weight}
        return {**_assessed(self.n), "kind": kind, "weight": weight}

    def _played(self, game: Game, variational: Array, from_no_trade: bool) -> dict[str, Any]:
        """Best responses in a random order of turns, from no trade where that is feasible."""
        order = self.rng.permutation(self.data.prosumers.to_numpy(object)).tolist()
        start = random_trades(game, variational, int(self.rng.integers(2**31)))
        kind = "random start"
        if from_no_trade and _can_stay_alone(game):
            kind, start = "no trade", np.zeros_like(start)
        method = GaussSeidel(start=start, order=order)
        solve_equilibrium(
            self.n, self.market, method, snapshots=self.data.snapshots, progress=False
        )
        weight = np.full(len(self.data.prosumers), np.nan)
        return {**_assessed(self.n), "kind": kind, "weight": weight}

    def _nothing(self) -> dict[str, Any]:
        """What is known of a sample that no solver found."""
        numbers = ("social_cost", "exploitability", "multiplier_misalignment")
        costs = np.full(len(self.data.prosumers), np.nan)
        return {**dict.fromkeys(numbers, np.nan), "risk_adjusted_cost": costs, "converged": False}

    def centralized(self) -> float:
        """Social cost of the planner who minimises the sum of R, EUR; nan if she cannot."""
        return _planned(self.n, self.market, self.data)


def _price_takers(
    n: pypsa.Network, market: PeerToPeerMarket, data: MarketData, starts: int, seed: int
) -> Iterator[dict[str, Any]]:
    """A row per equilibrium of those who take prices, the least costly first."""
    posed = market.pose(n, data.snapshots)
    if market.contracts is None:
        found = market.solutions(*posed[1:3], posed.data, draws=starts, seed=seed)
    else:
        found = [market.solution(*posed[1:3], posed.data)]
    for solution in found:
        market.write(n, posed, solution)
        nothing = np.full(len(data.prosumers), np.nan)
        yield {**_assessed(n), "kind": "price takers", "weight": nothing}


def _assessed(n: pypsa.Network) -> dict[str, Any]:
    """What is recorded of a solved network's equilibrium."""
    r, certificate = results(n), certify(n)
    return {
        "social_cost": float(r["social_cost"]),
        "risk_adjusted_cost": r["risk_adjusted_cost"].to_numpy(),
        "exploitability": float(certificate.exploitability.max()),
        "multiplier_misalignment": certificate.multiplier_misalignment,
        "converged": certificate.is_equilibrium(ACCURACY.sampled, equilibrium="generalized"),
    }


def _planned(n: pypsa.Network, market: PeerToPeerMarket, data: MarketData) -> float:
    """Social cost of the planner who minimises the sum of R, EUR; nan if she cannot.

    Payments that are at risk hedge it, as contracts do: no equilibrium costs less than sharing all
    of it, which is what a planner would do.
    """
    each, contracts = market.envelope(data), market.contracts
    congested = bool((data.congestion > 0).any())
    if each.averse and congested and contracts is None:
        return float("nan")  # not convex
    if market.payments == "risk":
        if not each.hold_actual:
            return float("nan")  # they need not have anything in common
        contracts = contracts or Contracts()
    planner = CentralizedMarket(
        risk=market.risk,
        contracts=contracts,
        surplus=market.surplus,
        here_and_now=market.here_and_now,
    )
    planner.optimize(n, data.snapshots)
    return float(results(n)["social_cost"])


def _can_stay_alone(game: Game) -> bool:
    """Whether everybody can live without buying anything."""
    try:
        feasible_start(scaled(game, units_of(game)), np.zeros_like(game.price))
    except MarketError:
        return False
    return True


def _as_dataset(rows: list[dict[str, Any]], data: MarketData) -> xr.Dataset:
    dims: Mapping[str, tuple[str, ...]] = {
        name: (SAMPLE, PROSUMER) if name in ("risk_adjusted_cost", "weight") else (SAMPLE,)
        for name in rows[0]
    }
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    columns["kind"] = columns["kind"].astype(object)
    return xr.Dataset(
        {name: (dims[name], values) for name, values in columns.items()},
        {SAMPLE: np.arange(len(rows)), PROSUMER: data.prosumers},
    )


def _bounded(found: xr.Dataset, centralized: float) -> xr.Dataset:
    """With the best and the worst of those that converged, and both over the planner's cost."""
    cost = found["social_cost"].where(found["converged"])
    best, worst = float(cost.min()), float(cost.max())
    optimum = centralized if centralized > 0 else np.nan
    whole = found.assign(
        centralized_social_cost=centralized,
        best_social_cost=best,
        worst_social_cost=worst,
        price_of_stability=best / optimum,
        price_of_anarchy=worst / optimum,
    )
    for name, (unit, meaning) in _DESCRIBED.items():
        whole[name].attrs = {"unit": unit, "long_name": meaning}
    return whole
