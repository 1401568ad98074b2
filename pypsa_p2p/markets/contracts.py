"""Risk-hedging contracts: what can be traded on the outcome of a scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import CONTRACT, PROSUMER, SCENARIO
from pypsa_p2p.common.tables import ONLY_SCENARIO
from pypsa_p2p.common.values import as_array, labelled, refuse
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
        `payoff`); 0 forbids. A sequence, mapping or Series is by prosumer; a DataFrame has
        contracts as rows; a DataArray has any of the dimensions ``scenario`` (or ``contract``,
        with a payoff) and ``prosumer``. Insurance has no limit. Default: none.
    payoff : contract x scenario, or names of scenarios, optional
        What a unit of each contract pays in each scenario, EUR: a DataFrame with contracts as
        rows, a DataArray (``contract``, ``scenario``), or, for a single contract, a mapping,
        Series or sequence by scenario. Names of scenarios stand for contracts that pay 1 EUR in
        those alone. Default: one for every scenario.

    Raises
    ------
    MarketError
        A form not named above. What does not fit the network is refused when a market reads it.

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
        for name in ("insurance_price", "price", "limit", "payoff"):
            object.__setattr__(self, name, _stored(getattr(self, name), name))
        named = self.price is None or isinstance(self.price, str)
        if named and self.price not in (CLEARING, PAPER):
            raise MarketError(
                f"Contracts: price must be 'clearing', 'paper' or numbers by scenario, "
                f"not {self.price!r}."
            )
        if isinstance(self.payoff, str):
            object.__setattr__(self, "payoff", (self.payoff,))

    def __hash__(self) -> int:
        given = (self.insurance_price, self.price, self.limit, self.payoff)
        return hash(tuple(frozenset(x.items()) if isinstance(x, dict) else x for x in given))

    def terms(self, scenarios: pd.Index, prosumers: pd.Index) -> Terms:
        """The contracts on a network's scenarios and prosumers, as arrays.

        Raises
        ------
        DataError, MarketError
            Labels that do not fit, numbers out of range.
        """
        self._require_scenarios(scenarios)
        names, payoff = self._payoffs(scenarios)
        kind = {CONTRACT: names}
        insurance = self._by_scenario("insurance_price", scenarios)
        if insurance is not None:
            refuse(insurance <= 0, "insurance_price is not positive", "give numbers above zero")
        limit = self._array("limit", {**kind, PROSUMER: prosumers})
        if limit is not None:
            refuse(limit < 0, "limit is negative", "give EUR from zero up")
        fixed = None if isinstance(self.price, str) else self._array("price", kind)
        return Terms(
            names=names,
            payoff=payoff,
            limit=None if limit is None else _full(limit, (len(names), len(prosumers))),
            insurance_price=None if insurance is None else _full(insurance, (len(scenarios),)),
            price=self.price if fixed is None else _full(fixed, (len(names),)),
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
        if self._names_scenarios:
            places = scenarios.get_indexer(pd.Index(given, dtype=object))
            unknown = [name for name, place in zip(given, places, strict=True) if place < 0]
            if unknown or not given or len(set(given)) < len(given):
                raise MarketError(
                    f"Contracts: payoff must name scenarios of the network once each, from "
                    f"{listed(scenarios)}, or be numbers by contract and scenario; "
                    f"not {listed(given) or 'nothing'}."
                )
            return scenarios[places], np.eye(len(scenarios))[places]
        if isinstance(given, Table) and CONTRACT in given.dims:
            labels = given.labels[given.dims.index(CONTRACT)]
            names = pd.Index(list(labels), dtype=object, tupleize_cols=False)
        else:
            names = pd.Index([ONLY], dtype=object)
        if not names.is_unique or not len(names):
            repeated = listed(names[names.duplicated()].unique())
            raise MarketError(
                f"Contracts: payoff must name each contract once; repeated: {repeated or 'none'}."
            )
        array = self._array("payoff", {CONTRACT: names, SCENARIO: scenarios})
        if array is None or SCENARIO not in array.dims:
            raise MarketError(
                f"Contracts: payoff must say what is paid in each scenario, not {shown(given)}."
            )
        return names, _full(array, (len(names), len(scenarios)))

    def _by_scenario(self, argument: str, scenarios: pd.Index) -> xr.DataArray | None:
        return self._array(argument, {SCENARIO: scenarios})

    def _array(self, argument: str, coordinates: dict[str, pd.Index]) -> xr.DataArray | None:
        """An argument by the labels of the network; None where it was not given."""
        given = getattr(self, argument)
        if given is None:
            return None
        alike = SCENARIO not in coordinates and (self.payoff is None or self._names_scenarios)
        if isinstance(given, Table):
            given = given.as_array({SCENARIO: CONTRACT} if alike else {})
        return as_array(given, argument, coordinates)

    @property
    def _names_scenarios(self) -> bool:
        """Whether payoff names scenarios."""
        given = self.payoff
        return isinstance(given, tuple) and all(isinstance(name, str) for name in given)


@dataclass(frozen=True)
class Table:
    """Labelled numbers that compare and hash by value."""

    dims: tuple[str, ...]
    labels: tuple[tuple[Any, ...], ...]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, array: xr.DataArray, argument: str) -> Table:
        """The numbers of a DataArray whose dimensions are all labelled."""
        bare = [dim for dim in array.dims if dim not in array.indexes]
        if bare:
            raise MarketError(
                f"Contracts: {argument} has no labels along {listed(bare)}: add them with "
                "assign_coords, so that values meet the right names."
            )
        return cls(
            dims=tuple(map(str, array.dims)),
            labels=tuple(tuple(array.indexes[dim]) for dim in array.dims),
            values=tuple(array.to_numpy().ravel().tolist()),
        )

    def as_array(self, rename: Mapping[str, str]) -> xr.DataArray:
        """As a DataArray, its dimensions renamed; names of scenarios are text."""
        values = np.empty(len(self.values), dtype=object)
        values[:] = self.values
        coords = {
            rename.get(dim, dim): pd.Index([str(x) for x in labels] if dim == SCENARIO else labels)
            for dim, labels in zip(self.dims, self.labels, strict=True)
        }
        shape = [len(labels) for labels in self.labels]
        dims = [rename.get(dim, dim) for dim in self.dims]
        return xr.DataArray(values.reshape(shape), coords=coords, dims=dims)


def _scenarios_in(given: Any) -> Sequence[Any]:
    """Scenarios that an argument by scenario names."""
    if isinstance(given, Table):
        return given.labels[given.dims.index(SCENARIO)] if SCENARIO in given.dims else ()
    if isinstance(given, tuple):
        return [label for label in given if isinstance(label, str)]
    return list(given) if isinstance(given, dict) else ()


def _full(array: xr.DataArray, shape: tuple[int, ...]) -> Numbers:
    """All values of an array that may lack dimensions: (K, N), (K, S), (K,) or (S,)."""
    values = array.to_numpy().astype(float)
    if len(shape) == 2 and values.ndim == 1 and CONTRACT in array.dims:
        values = values[:, None]
    return np.array(np.broadcast_to(values, shape))


def _stored(value: Any, argument: str) -> Any:
    """A value of any accepted form as one that compares and hashes."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if value is None or isinstance(value, str | Table):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, pd.DataFrame):
        last = SCENARIO if argument == "payoff" else PROSUMER
        value = labelled(value.to_numpy(), {CONTRACT: value.index, last: value.columns})
    if isinstance(value, xr.DataArray):
        return value.item() if value.ndim == 0 else Table.of(value, argument)
    if isinstance(value, pd.Series) and not value.index.is_unique:
        repeated = listed(value.index[value.index.duplicated()].unique())
        raise MarketError(f"Contracts: {argument} repeats {repeated}; give each label once.")
    if isinstance(value, Mapping | pd.Series):
        return {name: _plain(x) for name, x in value.items()}
    flat = isinstance(value, pd.Index | np.ndarray) and np.ndim(value) == 1
    if flat or (isinstance(value, Sequence) and not isinstance(value, bytes)):
        return tuple(map(_plain, value))
    kind = "set" if isinstance(value, Set) else type(value).__name__
    raise MarketError(
        f"Contracts: {argument} of type {kind} cannot be read; give a number, a sequence in order, "
        "a mapping or Series by name, a DataFrame or a DataArray with labelled dimensions."
    )


def _plain(value: Any) -> Any:
    """numpy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value
