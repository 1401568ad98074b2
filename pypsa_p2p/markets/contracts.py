"""Risk-hedging contracts: what can be traded on the outcome of a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.given import ANY, POSITIVE, Given, Range
from pypsa_p2p.common.names import CONTRACT, PROSUMER, SCENARIO
from pypsa_p2p.common.tables import ONLY_SCENARIO
from pypsa_p2p.common.values import is_sequence, scalar
from pypsa_p2p.markets.contract_terms import CLEARING, PAPER, Numbers, Terms

#: Name of the only contract, where its payoff is given by scenario.
ONLY = "contract"


@dataclass(frozen=True, kw_only=True)
class Contracts:
    r"""Contracts that pay 1 EUR in one scenario, traded inside the community (MODEL.md §5, (43)).

    Prosumer *n* buys :math:`W_n^\omega` (negative: sells) at :math:`\alpha^\omega` inside the
    community, :math:`\sum_n W_n^\omega = 0`, and :math:`J_n^\omega \ge 0` at
    :math:`\gamma^\omega` from an insurer outside:

    .. math:: R_n = \sum_\omega (\alpha^\omega W_n^\omega + \gamma^\omega J_n^\omega)
        + CVaR_{\chi_n}[\Pi_n - W_n - J_n]

    ``Contracts()`` are complete: every scenario traded, without limits or insurance. Then the
    prices are everybody's risk-adjusted probabilities (Corollary 16).

    Parameters
    ----------
    insurance_price : scalar or by scenario, optional
        :math:`\gamma`, EUR now per EUR in the scenario, positive: a number for all scenarios, a
        sequence in their order, a mapping, Series or DataArray by their names. Over the scenarios
        it must sum to 1 or more. Above :math:`p/(1-\min\chi)` nobody insures. Default: no
        insurance is sold.
    price : {"clearing", "paper"} or by scenario
        What is paid inside the community. It moves money between prosumers; dispatch, volumes
        and social cost are those of the clearing price in any case.

        - clearing: the price at which volumes sum to zero.
        - paper: :math:`p/(1-\min\chi)` in every scenario, as the paper's tables are computed
          (MODEL.md §8.4); the sum over scenarios exceeds 1.
        - numbers: the price of each contract, EUR now per unit, in the forms of
          `insurance_price` (by contract, where `payoff` defines them).
    limit : scalar, by prosumer, or contract x prosumer, optional
        Most that each may buy or sell of each contract, units (of 1 EUR in the scenario, without
        `payoff`); 0 forbids, infinity allows any. A sequence, mapping or Series is by prosumer; a
        DataFrame has contracts as rows; a DataArray has any of the dimensions ``scenario`` (or
        ``contract``, with a payoff) and ``prosumer``. Insurance has no limit. Default: none.
    payoff : contract x scenario, or names of scenarios, optional
        What a unit of each contract pays in each scenario, EUR: a DataFrame with contracts as
        rows, a DataArray (``contract``, ``scenario``), or, for a single contract, a mapping,
        Series or sequence by scenario. Names of scenarios stand for contracts that pay 1 EUR in
        those alone. `forward`, `contract_for_difference`, `power_purchase_agreement` and
        `price_cap` make payoffs. Default: one for every scenario.

    Raises
    ------
    MarketError
        A form not named above, or a number out of range. What does not fit the network is refused
        when a market reads it.

    Notes
    -----
    Give them to a market with a risk measure: ``PeerToPeerMarket(risk=CVaR(),
    contracts=Contracts())``. What each holds is in `results`: ``contract``, ``insurance``,
    ``contract_price``.

    Examples
    --------
    >>> Contracts(insurance_price=pd.Series({"dry": 0.6, "wet": 0.9}), limit=50)
    Contracts(insurance_price={'dry': 0.6, 'wet': 0.9}, price='clearing', limit=50.0, payoff=None)
    """

    insurance_price: Any = None
    price: Any = CLEARING
    limit: Any = None
    payoff: Any = None

    def __post_init__(self) -> None:
        self._keep_payoff()
        named = self.price is None or isinstance(self.price, str)
        if named and self.price not in (CLEARING, PAPER):
            raise MarketError(
                f"Contracts: price must be 'clearing', 'paper' or numbers by scenario, "
                f"not {self.price!r}."
            )
        for argument in ("insurance_price", "limit", *(() if named else ("price",))):
            self._keep(argument)

    def _keep_payoff(self) -> None:
        """Keep the payoff as numbers, or as a tuple of the scenarios it names."""
        given = scalar(self.payoff)
        names = [given] if isinstance(given, str) else given
        if is_sequence(names) and all(isinstance(name, str) for name in names):
            object.__setattr__(self, "payoff", tuple(map(str, names)))
            return
        self._keep("payoff")
        kept = self.payoff
        if isinstance(kept, float) or any(type(x) is tuple and len(x) == 1 for x in kept or ()):
            raise MarketError(
                f"Contracts: payoff must say what is paid in each scenario, not {shown(given)}."
            )

    def _keep(self, argument: str) -> None:
        """Keep an argument in plain form; scenarios may be called contracts where they are."""
        value, given = getattr(self, argument), self._given(argument)
        dims = value.dims if isinstance(value, xr.DataArray) else ()
        if CONTRACT in dims and SCENARIO not in dims and CONTRACT not in given.dims:
            value = value.rename({CONTRACT: SCENARIO})
        object.__setattr__(self, argument, given.read(value))

    def _given(self, argument: str) -> Given:
        """What an argument may be; the contracts are scenarios, unless payoff has numbers."""
        contract = SCENARIO if self._names_scenarios else CONTRACT
        dims, allowed = {
            "insurance_price": ((SCENARIO,), POSITIVE),
            "price": ((contract,), ANY),
            "limit": ((contract, PROSUMER), Range(0, infinite=True)),
            "payoff": ((CONTRACT, SCENARIO), ANY),
        }[argument]
        return Given(f"Contracts: {argument}", dims, allowed)

    @property
    def _names_scenarios(self) -> bool:
        """Whether every contract is a scenario's: payoff names some, or none is given."""
        names = () if self.payoff is None else self.payoff
        return isinstance(names, tuple) and all(isinstance(name, str) for name in names)

    def terms(self, scenarios: pd.Index, prosumers: pd.Index) -> Terms:
        """The contracts on a network's scenarios and prosumers, as arrays.

        Raises
        ------
        MarketError
            Labels that do not fit.
        """
        self._require_scenarios(scenarios)
        names, payoff = self._payoffs(scenarios)
        price = self.price if isinstance(self.price, str) else self._numbers("price", names)
        limit = self._numbers("limit", names, prosumers)
        return Terms(
            names=names,
            payoff=payoff,
            limit=None if limit is None or np.isinf(limit).all() else limit,
            insurance_price=self._numbers("insurance_price", scenarios),
            price=price,
            every_scenario=self.payoff is None,
        )

    def _require_scenarios(self, scenarios: pd.Index) -> None:
        """Refuse names of scenarios on a network that has none."""
        if list(scenarios) != [ONLY_SCENARIO]:
            return
        for argument in ("insurance_price", "payoff"):
            named = [x for x in _scenarios_in(getattr(self, argument)) if x != ONLY_SCENARIO]
            if named:
                raise MarketError(
                    f"Contracts: {argument} names the scenarios {listed(named)}, but the network "
                    "has none: set_scenarios(n, probability) gives it some."
                )

    def _payoffs(self, scenarios: pd.Index) -> tuple[pd.Index, Numbers]:
        """Names of the contracts and what they pay, (K,) and (K, S)."""
        given = self.payoff
        if given is None:
            return scenarios, np.eye(len(scenarios))
        if not self._names_scenarios:
            tables = [key[0] for key in given if isinstance(key, tuple)] or [ONLY]
            names = pd.Index([*dict.fromkeys(tables)], dtype=object, tupleize_cols=False)
            return names, self._numbers("payoff", names, scenarios)
        places = scenarios.get_indexer(pd.Index(given, dtype=object))
        unknown = [name for name, place in zip(given, places, strict=True) if place < 0]
        if unknown or not given or len(set(given)) < len(given):
            raise MarketError(
                f"Contracts: payoff must name scenarios of the network once each, from "
                f"{listed(scenarios)}, or be numbers by contract and scenario; "
                f"not {listed(given) or 'nothing'}."
            )
        return scenarios[places], np.eye(len(scenarios))[places]

    def _numbers(self, argument: str, *labels: pd.Index) -> Any:
        """An argument by the labels of the network; None where it was not given."""
        kept = getattr(self, argument)
        return None if kept is None else self._given(argument).on(kept, *labels).to_numpy()


def _scenarios_in(given: Any) -> list[str]:
    """Scenarios that an argument by scenario names."""
    labels = given if isinstance(given, tuple | dict) else ()
    last = [label[-1] if isinstance(label, tuple) else label for label in labels]
    return [name for name in dict.fromkeys(last) if isinstance(name, str)]
