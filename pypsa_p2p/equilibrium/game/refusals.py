"""What agents' algorithms refuse of a network: whatever has no closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.tables import first_scenario, unusual_attributes
from pypsa_p2p.equilibrium.game.knapsack import Flags
from pypsa_p2p.markets.base import Market
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import NOBODY
from pypsa_p2p.network.retail_contracts import retail_contracts

#: Components without a decision or a cost of their own.
_PASSIVE = {"Bus", "Carrier", "Shape", "SubNetwork", "LineType", "TransformerType"}
#: Attributes of generators the agents know; any other must keep PyPSA's default.
_KNOWN = {
    "bus", "carrier", "efficiency", "p_nom", "p_min_pu", "p_max_pu",
    "marginal_cost", "marginal_cost_quadratic",
}  # fmt: skip


def check_components(n: pypsa.Network, data: MarketData) -> None:
    """Refuse all but loads, generators and trades of prosumers; an idle grid may stand by."""
    for component in [c.name for c in n.components if len(c.static)]:
        if component in _PASSIVE:
            continue
        if component not in n.one_port_components | n.branch_components:
            culprits = n.c[component].static.index
            raise MarketError(
                f"{component} {listed(culprits)}: the agents' algorithms do not know it. "
                "Use market.optimize(n), or remove it."
            )
        names = data.names(component)
        if names.empty:
            continue
        whose = data.owner_of(component).to_numpy()
        if component in ("Generator", "Load", "StorageUnit"):
            refused, why = names[whose == NOBODY], "belongs to no prosumer"
        elif component in n.passive_branch_components or component == "ShuntImpedance":
            refused, why = names[whose != NOBODY], "stands behind a prosumer's meter"
        else:
            refused, why = names, "is no load, generator or trade edge"
        if len(refused):
            raise MarketError(
                f"{component} {listed(refused)} {why}; the agents' algorithms know only "
                "prosumers with loads, generators and trades. Use market.optimize(n)."
            )
    for component in ("Generator", "Load", "StorageUnit"):
        _check_at_own_bus(n, data, component)


def refuse_day_ahead(market: Market, data: MarketData) -> None:
    """Refuse what is decided before the scenario is known, and edges that share a capacity."""
    paired = (data.ahead_of >= 0).any()
    if len(data.ahead) and (paired or len(data.scenarios) > 1):
        raise MarketError(
            f"Trade edges {listed(data.ahead)} are decided day ahead, which the agents' algorithms "
            "do not know: use market.optimize(n), or add_trades(n, ..., decided='real-time')."
        )
    if market.here_and_now and len(data.scenarios) > 1:
        raise MarketError(
            f"Option here_and_now={listed(market.here_and_now)}: the agents' algorithms decide "
            "everything when the scenario is known. Use market.optimize(n), or leave it out."
        )


def _check_at_own_bus(n: pypsa.Network, data: MarketData, component: str) -> None:
    at = first_scenario(n, component)["bus"].reindex(data.names(component))
    stray = at.index[~at.isin(data.prosumers)]
    if len(stray):
        raise MarketError(
            f"{component} {listed(stray)} is not at a prosumer's own bus. Move it there, or use "
            "market.optimize(n)."
        )


def check_generators(n: pypsa.Network, names: pd.Index) -> None:
    """Refuse attributes that would change what a generator can do."""
    for attribute, culprits in unusual_attributes(n, "Generator", _KNOWN, names).items():
        peaks = culprits.isin(retail_contracts(n).index).all()
        why = "charges its peaks" if peaks else f"has {attribute!r}"
        way = "add_retail without peak_price" if peaks else "clear it"
        raise MarketError(
            f"Generator {listed(culprits)} {why}, which the agents' algorithms do not know. Use "
            f"market.optimize(n), or {way}."
        )


def refuse_generators(names: pd.Index, good: Flags, what: str) -> None:
    """Name the generators that are not good in every hour."""
    culprits = names[np.flatnonzero(~good.all(axis=(0, 1)))]
    if len(culprits):
        raise MarketError(f"The agents' algorithms need {what}; not so of {listed(culprits)}.")
