r"""Which social cost a planner minimises: of what the prosumers' costs she compares (MODEL.md §14).

All are functions of the prosumers' risk-adjusted costs :math:`c_n = R_n[\Pi_n]`, in EUR now, that
rise with each. Which one fits depends on what of these costs means the same to all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

import numpy as np

from pypsa_p2p.common.errors import MarketError, shown
from pypsa_p2p.common.given import ANY, POSITIVE, Given, as_settings
from pypsa_p2p.common.names import PROSUMER
from pypsa_p2p.markets.clearing.planner import Aims, Planner
from pypsa_p2p.network.market_data import MarketData

ALONE: Final = "alone"


@dataclass(frozen=True, kw_only=True)
class SocialCost(ABC):
    """What a planner makes of the prosumers' costs: `Utilitarian`, `Maximin`, `Leximin`, `Nash`."""

    #: Those that can be read back from a solved network, by name.
    known: ClassVar[dict[str, type[SocialCost]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        SocialCost.known[cls.__name__] = cls

    @property
    @abstractmethod
    def aims(self) -> Aims:
        """How costs are compared."""

    def planner(self, data: MarketData, participation: bool) -> Planner:
        """The choice, in numbers of a network's prosumers."""
        given = getattr(self, "reference", None)
        numbers = None
        if given is not None and given != ALONE:
            numbers = self._given("reference").on(given, data.prosumers).to_numpy()
        weights, weight = getattr(self, "weights", None), np.ones(len(data.prosumers))
        if weights is not None:
            weight = self._given("weights").on(weights, data.prosumers).to_numpy()
        return Planner(
            aims=self.aims,
            weight=weight,
            given=numbers,
            gains=given is not None,
            participation=participation,
            prosumers=data.prosumers,
        )

    @property
    def even(self) -> bool:
        """Whether it is the plain sum of costs."""
        return False

    def settings(self) -> dict[str, Any]:
        """What `of` makes it from again: plain values that survive netCDF."""
        given = {field.name: as_settings(getattr(self, field.name)) for field in fields(self)}
        return {**given, "welfare": type(self).__name__}

    @staticmethod
    def of(settings: Mapping[str, Any]) -> SocialCost:
        """The social cost with these `settings`.

        Raises
        ------
        MarketError
            No such social cost, or arguments that it does not have.
        """
        kind = SocialCost.known.get(str(settings.get("welfare")))
        if kind is None:
            names = ", ".join(sorted(SocialCost.known))
            raise MarketError(f"welfare {shown(settings.get('welfare'))} is none of {names}.")
        given = {name: value for name, value in settings.items() if name != "welfare"}
        known = [field.name for field in fields(kind)]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise MarketError(
                f"{kind.__name__} has no {shown(unknown[0])}; it has {', '.join(known)}."
            )
        return kind(**given)

    def _given(self, name: str) -> Given:
        allowed = POSITIVE if name == "weights" else ANY
        return Given(f"{type(self).__name__}: {name}", (PROSUMER,), allowed)

    def _read(self, name: str) -> None:
        """Keep an argument in plain form."""
        value = getattr(self, name)
        if isinstance(value, str) and name == "reference":
            if value != ALONE:
                raise MarketError(
                    f"{type(self).__name__}: reference must be 'alone' or costs by prosumer, EUR, "
                    f"not {shown(value)}."
                )
            return
        object.__setattr__(self, name, self._given(name).read(value))


@dataclass(frozen=True, kw_only=True)
class Utilitarian(SocialCost):
    r"""The sum of costs, :math:`\min \sum_n w_n c_n`: what a market minimises anyway.

    It asks for costs whose differences mean the same to all, as EUR do where they can be paid.

    Parameters
    ----------
    weights : scalar, sequence, mapping or Series by prosumer, optional
        w > 0; only their ratios matter. Default: 1.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(participation=True, surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).gain.round(6).values
    array([ 2.143396, 14.042033,  0.89532 ])
    """

    weights: Any = None

    def __post_init__(self) -> None:
        self._read("weights")

    @property
    def aims(self) -> Aims:
        """The sum."""
        return "sum"

    @property
    def even(self) -> bool:
        """Whether no weights are given, or equal ones."""
        given = self.weights
        numbers = list(given.values()) if isinstance(given, Mapping) else given
        return given is None or np.ptp(np.atleast_1d(numbers)) == 0.0


@dataclass(frozen=True, kw_only=True)
class Maximin(SocialCost):
    r"""The largest cost, :math:`\min \max_n (c_n - o_n)`: of the worst off.

    Of all solutions the one of least sum is reported.

    Parameters
    ----------
    reference : None, "alone", or costs by prosumer, EUR
        :math:`o_n`: None: 0, so that costs are compared; "alone": what she would pay without
        trades, so that gains are.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(welfare=p2p.Maximin(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).welfare_weight.round(6).values
    array([0.      , 0.333333, 0.666667])
    """

    reference: Any = None

    def __post_init__(self) -> None:
        self._read("reference")

    @property
    def aims(self) -> Aims:
        """The largest."""
        return "largest"


@dataclass(frozen=True, kw_only=True)
class Leximin(SocialCost):
    """The largest cost; then, that being so, the next, and so on.

    Parameters
    ----------
    reference : None, "alone", or costs by prosumer, EUR
        As of `Maximin`.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(welfare=p2p.Leximin(reference="alone"), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).gain.round(4).values
    array([2.8882, 3.7926, 3.7926])
    """

    reference: Any = None

    def __post_init__(self) -> None:
        self._read("reference")

    @property
    def aims(self) -> Aims:
        """The largest, then the next."""
        return "lexicographic"


@dataclass(frozen=True, kw_only=True)
class Nash(SocialCost):
    r"""The product of gains, :math:`\max \sum_n w_n \log(c_n^{ref} - c_n)`.

    It asks for nothing that costs have in common: each may be counted in a unit, and from a zero,
    of its own.

    Parameters
    ----------
    reference : "alone", or costs by prosumer, EUR
        :math:`c_n^{ref}`, what each pays where nothing is agreed. Default: without trades.
    weights : scalar, sequence, mapping or Series by prosumer, optional
        w > 0, bargaining power; only their ratios matter. Default: 1.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.CentralizedMarket(welfare=p2p.Nash(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).gain.round(5).values
    array([2.48932, 7.58472, 3.79236])
    """

    reference: Any = ALONE
    weights: Any = None

    def __post_init__(self) -> None:
        self._read("weights")
        self._read("reference")
        if self.reference is None:
            raise MarketError(
                "Nash: reference must be 'alone' or costs by prosumer, EUR: gains are measured "
                "from it."
            )

    @property
    def aims(self) -> Aims:
        """The product of gains."""
        return "gains"
