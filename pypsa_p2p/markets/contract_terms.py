"""Contracts in arrays: who may trade how much of what, and insurance too cheap to be offered."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import dynamic_values
from pypsa_p2p.markets.envelopes import Envelope
from pypsa_p2p.network.assets import extendable_names
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.cover import below, common

Numbers = npt.NDArray[np.float64]

CLEARING, PAPER = "clearing", "paper"


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """Contracts in arrays.

    Attributes
    ----------
    names : (K,)
        The contracts, or the scenarios they pay in.
    payoff : (K, S)
        EUR in the scenario per unit.
    limit : (K, N) or None
        Most bought or sold, in units.
    insurance_price : (S,) or None
        gamma, EUR now per EUR in the scenario.
    price : "clearing", "paper" or (K,)
    every_scenario : bool
        Whether there is one contract for every scenario, with its name.
    """

    names: pd.Index
    payoff: Numbers
    limit: Numbers | None
    insurance_price: Numbers | None
    price: str | Numbers
    every_scenario: bool

    @property
    def complete(self) -> bool:
        """Whether every scenario can be hedged without limit, by some combination of contracts."""
        if self.limit is not None:
            return False
        return self.every_scenario or _rank(self.payoff) == self.payoff.shape[1]

    @property
    def tradable(self) -> npt.NDArray[np.bool_]:
        """Which contracts at least two prosumers may trade, (K,)."""
        if self.limit is None:
            return np.ones(len(self.names), dtype=bool)
        return np.asarray(np.count_nonzero(self.limit, axis=1) > 1)

    @property
    def idle(self) -> bool:
        """Whether nobody can hedge: there are neither partners nor an insurer."""
        return self.insurance_price is None and not self.tradable.any()

    def paid(self, clearing: Numbers, common: Envelope) -> Numbers:
        """Prices inside the community, (K,), by those that clear and what all may hold.

        The paper's is the most that a EUR in the scenario is worth to the least averse.
        """
        if isinstance(self.price, str):
            return clearing if self.price == CLEARING else self.payoff @ common.dearest
        return self.price


def require_no_arbitrage(terms: Terms, each: Envelope, prosumers: pd.Index) -> None:
    r"""Refuse insurance so cheap that somebody would buy it without end (MODEL.md §8.5).

    Insurance keeps every :math:`\tau^\omega \le \gamma^\omega`. What a prosumer may hold, or all
    may where contracts are complete, must leave room for such :math:`\tau`, :math:`\sum\tau = 1`.

    Raises
    ------
    MarketError
        Naming the prices.
    """
    price = terms.insurance_price
    if price is None:
        return
    rounding = ACCURACY.rounding
    if float(price.sum()) < 1 - rounding:
        raise MarketError(
            f"Contracts: insurance_price {_numbers(price)} sums to {price.sum():.6g} over the "
            "scenarios: insurance of 1 EUR in every scenario costs less than the 1 EUR it pays, a "
            "sure profit. Raise the prices to a sum of 1 or more."
        )
    held = each.common if terms.complete else each
    _require_cover_below(terms, price, held, prosumers)
    least, most = held.least, held.most
    cap = np.minimum(most, price)
    total = np.where((price < least * (1 - rounding)).any(axis=1), -np.inf, cap.sum(axis=1))
    worst = int(total.argmin())
    if total[worst] < 1 - rounding:
        who = "the least averse prosumer" if terms.complete else f"prosumer {prosumers[worst]!r}"
        raise MarketError(
            f"Contracts: insurance_price {_numbers(price)} is so low that {who} would insure "
            f"without end: risk-adjusted probabilities between {_numbers(least[worst])} and the "
            f"lesser of {_numbers(most[worst])} and these prices cannot sum to 1 (they sum to "
            f"{cap[worst].sum():.6g} at most). Raise the lowest prices."
        )


def _require_cover_below(terms: Terms, price: Numbers, held: Envelope, prosumers: pd.Index) -> None:
    """The same of envelopes that are no boxes."""
    for place, own in enumerate(held.covers):
        if own is not None and common([own, below(price)]).empty:
            who = "somebody" if terms.complete else f"prosumer {prosumers[place]!r}"
            raise MarketError(
                f"Contracts: insurance_price {_numbers(price)} is so low that {who} would insure "
                "without end: no risk-adjusted probabilities that may be held are below these "
                "prices in every scenario. Raise the lowest prices."
            )


def require_agreement(terms: Terms, each: Envelope, prosumers: pd.Index) -> None:
    """Refuse contracts without limit between prosumers who can never agree on their worth.

    So the paper's price, the most of what all may hold, where nothing is. Whose probabilities may
    all be the actual ones can agree on those.

    Raises
    ------
    MarketError
        Naming two who would bet against each other, or all of whom no price suits.
    """
    paper = isinstance(terms.price, str) and terms.price == PAPER
    if (terms.limit is not None and not paper) or each.hold_actual:
        return
    places = each.places_of_different
    if _agree(terms, each, places):
        return
    pair = next((two for two in combinations(places, 2) if not _agree(terms, each, two)), places)
    raise MarketError(
        f"Contracts: prosumers {listed(prosumers[list(pair)])} would bet against each other "
        "without limit: no probabilities of the scenarios are in the envelopes of all of them, so "
        "that at any price somebody gains by buying and somebody by selling. Limit the contracts, "
        "Contracts(limit=...), or give them risk measures that have beliefs in common."
    )


def _agree(terms: Terms, each: Envelope, places: Sequence[int]) -> bool:
    """Whether these prosumers may hold probabilities by which all contracts are worth the same."""
    return not common([each.cover_of(place).paying(terms.payoff) for place in places]).empty


def _rank(payoff: Numbers) -> int:
    return int(np.linalg.matrix_rank(payoff))


def _numbers(values: Numbers) -> str:
    return listed([float(f"{value:.6g}") for value in values])


def look_at_hubs(n: pypsa.Network, data: MarketData, each: Envelope, terms: Terms) -> None:
    """Who has no aversion of her own, and may trade contracts, bears all risk, for nothing.

    An operator is refused, unless limits say what she may hold; a prosumer without assets is
    warned of.

    Raises
    ------
    MarketError
        Naming the operators.
    """
    neutral = (each.most - each.least).max(axis=1) <= ACCURACY.rounding
    if not neutral.all() and terms.limit is None and (neutral & ~data.counted).any():
        raise MarketError(
            f"Operator {listed(data.prosumers[neutral & ~data.counted])} is risk-neutral, so that "
            "with contracts she insures everybody for nothing. Say what she may do: give her a "
            "risk_attitude, or limits by prosumer, Contracts(limit=...), 0 to leave her out, "
            "float('inf') for no limit."
        )
    out = np.zeros(len(data.prosumers), dtype=bool)
    if terms.limit is not None:
        out = (terms.limit == 0.0).all(axis=0)
    if neutral.all() or not (neutral & ~out).any():
        return
    owners = _owners_of_something(n, data)
    hubs = [who for who in data.prosumers[neutral & ~out] if who not in owners]
    if hubs:
        warnings.warn(
            f"Prosumer {listed(hubs)} has no assets and is risk-neutral, so that with contracts "
            "she insures everybody for nothing. Give her a risk_attitude, or leave her out: "
            "Contracts(limit=...) by prosumer, 0 for her and float('inf') for the others.",
            stacklevel=2,
        )


def _owners_of_something(n: pypsa.Network, data: MarketData) -> set[str]:
    """Prosumers with anything that can take or give power."""
    owners: set[str] = set()
    for component, whose in data.assets.items():
        size = {"Load": "p_set", "Generator": "p_nom", "StorageUnit": "p_nom"}.get(component)
        something = xr.ones_like(whose, dtype=bool)
        if size is not None:
            values = dynamic_values(n, component, size, data.names(component), data.snapshots)
            if component == "Generator":
                least, most = (
                    abs(dynamic_values(n, component, end, data.names(component), data.snapshots))
                    for end in ("p_min_pu", "p_max_pu")
                )
                values = values * (least + most)
            built = data.names(component).isin(extendable_names(n, component))
            something = (values != 0).any([SCENARIO, SNAPSHOT]) | built
        owners |= set(whose.to_numpy()[something.to_numpy()])
    return owners
