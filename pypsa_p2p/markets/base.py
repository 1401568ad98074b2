"""What markets share: a hook for PyPSA's optimize, and the fastest way to the same answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import pandas as pd
import pypsa

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.pypsa_state import beside_constant
from pypsa_p2p.formulation.columns import variable_owners
from pypsa_p2p.formulation.compiled import CompiledModel, compile_model
from pypsa_p2p.formulation.model import build_model
from pypsa_p2p.formulation.own_surplus import define_own_surplus
from pypsa_p2p.formulation.places import Places, Posed
from pypsa_p2p.formulation.posed import pose_linear
from pypsa_p2p.formulation.renumbered import renumbered
from pypsa_p2p.formulation.shared import define_shared
from pypsa_p2p.markets.checks import check_network
from pypsa_p2p.markets.clearing.clearing import solve_for_cost, solve_market
from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.infeasibility import explain
from pypsa_p2p.markets.clearing.mixed_sizes import warn_of_mixed_sizes
from pypsa_p2p.markets.contract_terms import (
    look_at_hubs,
    require_agreement,
    require_no_arbitrage,
)
from pypsa_p2p.markets.day_ahead import (
    check_here_and_now,
    with_day_ahead_prices,
)
from pypsa_p2p.markets.designing import Design
from pypsa_p2p.markets.model_checks import warn_of_losses
from pypsa_p2p.markets.options import (
    require_model,
    require_options,
)
from pypsa_p2p.markets.price_series import write_price_series
from pypsa_p2p.markets.record import forget_market, record_market
from pypsa_p2p.markets.retail_checks import require_no_resale, require_nothing_resold
from pypsa_p2p.markets.writing import forget_solution, write_own_multipliers, write_solution
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market, with_numbers_of

Extra = Callable[[pypsa.Network, pd.Index], Any]


@dataclass(frozen=True, kw_only=True)
class Market(Design):
    """What all market designs share. Use `CentralizedMarket` or `PeerToPeerMarket`.

    A design of your own derives from this or from one of them, as a frozen, keyword-only dataclass
    whose fields are plain values. It says what it minds, `cross`, and may say what it refuses
    (`check`), whose risk it takes (`groups`), how it weighs prosumers (`shares`) and what else it
    puts into the model (`formulate`). It is solved, read, explained and certified like any other.
    """

    def __new__(cls, *arguments: Any, **_: Any) -> Self:
        """A market; a class given as the hook is told what to give."""
        if arguments and isinstance(arguments[0], pypsa.Network):
            raise MarketError(
                f"The hook is a market, not its class: extra_functionality={cls.__name__}()."
            )
        return super().__new__(cls)

    def __call__(self, n: pypsa.Network, sns: pd.Index) -> None:
        """Turn `n.model` into this market: PyPSA's ``extra_functionality``; see `optimize`."""
        data = self._read(n, sns)
        require_model(n, data)
        forget_market(n)
        compiled = self._compiled(n, data)
        places = Places.of(compiled, data)
        solution = self.solution(compiled, places, data)
        self._record(n, data, solution)
        write_own_multipliers(n, data, solution.reciprocity1)
        write_price_series(n, data, places, solution)
        forget_solution(n, data)
        objective = beside_constant(n, solution.objective)
        pose_linear(compiled, solution.x, solution.row_dual, objective, solution.units.power)

    def optimize(
        self,
        n: pypsa.Network,
        snapshots: pd.Index | None = None,
        *,
        extra_functionality: Extra | None = None,
        **model_options: Any,
    ) -> tuple[str, str]:
        """Solve the market the fastest way and write the solution to the network.

        Parameters
        ----------
        n : pypsa.Network
        snapshots : sequence, optional
            A subset of ``n.snapshots``; default all.
        extra_functionality : callable, optional
            The user's own ``f(n, snapshots)`` that adds to ``n.model``; its constraints hold.
        **model_options
            Passed to ``n.optimize.create_model`` (``transmission_losses``, ...).

        Returns
        -------
        status, condition : str
            PyPSA's, ("ok", "optimal").

        Raises
        ------
        DataError, MarketError
            The data make no sense, the market cannot be formed, or it has no solution.
        ConvergenceError
            No solver met the package's own residual checks.
        """
        return self.clear(n, self.pose(n, snapshots, extra_functionality, model_options))

    def pose(
        self,
        n: pypsa.Network,
        snapshots: pd.Index | None = None,
        extra_functionality: Extra | None = None,
        model_options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Posed:
        """Read a network's market, refuse what cannot be honoured, build the model and compile it.

        Markets whose `formulation` is the same may `clear` it, one after the other.
        """
        data = self._read(n, snapshots)
        require_options(n, extra_functionality, dict(model_options))
        bare = extra_functionality is None and self.delivery == "trades"
        plain = build_model(n, data, model_options, bare=bare)
        forget_market(n)
        if extra_functionality is not None:
            extra_functionality(n, data.snapshots)
        compiled = self._compiled(n, data)
        return Posed(data, compiled, Places.of(compiled, data), plain)

    def repose(self, n: pypsa.Network, posed: Posed) -> Posed:
        """The market of a network that differs from one on which it was posed in numbers only.

        In capacities of generators and trades, and congestion: `renumbered` says what of the model
        that is. For plain models.
        """
        data = with_numbers_of(n, posed.data)
        if data.closed is not None:  # when, depends on these numbers
            return self.pose(n, data.snapshots)
        self.require(n, data)
        compiled, places = renumbered(posed.compiled, posed.places, n, data, self.cross)
        return Posed(data, compiled, places, posed.plain)

    def clear(self, n: pypsa.Network, posed: Posed) -> tuple[str, str]:
        """Solve the market that was posed on a network and write the solution there."""
        solution = self.solution(posed.compiled, posed.places, posed.data)
        return self.write(n, posed, solution)

    def write(self, n: pypsa.Network, posed: Posed, solution: MarketSolution) -> tuple[str, str]:
        """Write a solution of the market that was posed on a network to it."""
        data, compiled, places, plain = posed
        self._record(n, data, solution)
        objective = beside_constant(n, solution.objective)
        status = compiled.assign(solution.x, solution.row_dual, objective, solution.solver)
        write_solution(n, data, plain=plain)
        write_own_multipliers(n, data, solution.reciprocity1)
        write_price_series(n, data, places, solution)
        return status

    def _record(self, n: pypsa.Network, data: MarketData, solution: MarketSolution) -> None:
        """Note in the network which market was solved, and how."""
        each = self.envelope(data)
        record_market(
            n,
            data,
            solution,
            settings={**self.settings(), **self.promise(data, each)},
            terms=self.terms(data),
            common=each.common,
        )

    def _read(self, n: pypsa.Network, sns: object) -> MarketData:
        """Read the market and refuse what cannot be honoured, before anything is built."""
        data = read_market(n, sns, grid=self.delivery == "grid")
        check_network(n, data)
        check_here_and_now(n, data, self.here_and_now)
        if self.surplus:
            require_no_resale(n, data)
            require_nothing_resold(n, data)
        elif data.sites is not None:
            warn_of_losses(n, data)
        self.require(n, data)
        return data

    def require(self, n: pypsa.Network, data: MarketData) -> None:
        """Refuse what this market cannot honour of a network that any market could.

        Raises
        ------
        MarketError
        """
        self.check(data)
        each, terms = self.envelope(data), self.terms(data)
        self.require_convex(data, each)
        if terms is not None:
            require_agreement(terms, each, data.prosumers)
            require_no_arbitrage(terms, each, data.prosumers)
            look_at_hubs(n, data, each, terms)

    def _compiled(self, n: pypsa.Network, data: MarketData) -> CompiledModel:
        """Formulate the market on `n.model`, as arrays."""
        m = n.model
        if m.objective.sense == "max":  # assigning an objective, below, would make it "min"
            raise MarketError(
                "The model's objective is to be maximised, but a market minimises cost: leave its "
                "sense 'min' and write benefits as negative costs."
            )
        define_own_surplus(m, data)
        self.formulate(m, data)
        define_shared(m, data, self.here_and_now)
        return compile_model(m, data.scenarios.to_numpy(object), variable_owners(n, data))

    def solution(self, compiled: CompiledModel, places: Places, data: MarketData) -> MarketSolution:
        """Solve the market, or say why it has no solution."""
        found = solve_market(compiled, self.problem(compiled, places, data))
        return self.accepted(found, compiled, places, data)

    def accepted(
        self, solution: MarketSolution, compiled: CompiledModel, places: Places, data: MarketData
    ) -> MarketSolution:
        """A solution, the prices of trades day ahead among it; or why it is none."""
        if solution.status != "optimal":
            raise explain(compiled, solution, trading=len(data.edges) > 0, surplus=self.surplus)
        warn_of_mixed_sizes(compiled, solution.x, data.prosumers)
        return with_day_ahead_prices(compiled, places, data, solution)

    def social_cost(self, compiled: CompiledModel, places: Places, data: MarketData) -> float:
        """What the market costs, EUR, and nothing else of its solution, or why it has none."""
        found = solve_for_cost(compiled, self.problem(compiled, places, data))
        if found.status != "optimal":
            raise explain(compiled, found, trading=len(data.edges) > 0, surplus=self.surplus)
        return found.objective
