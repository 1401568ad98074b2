"""Investment that a market cannot honour is refused, by name and before anything is solved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError, P2PError
from tests.conformance.markets import ASSETS, AVERSE, house, instance, market_network


def grid_plant(n: pypsa.Network) -> None:
    n.add("Bus", "village")
    n.add("Generator", "mill", bus="village", p_nom_extendable=True, capital_cost=1.0)


def differing(n: pypsa.Network) -> None:
    n.c["Generator"].static.loc[("peak", "plant"), "capital_cost"] = 5.0


REFUSED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "no cost": ({"capital_cost": np.inf}, None, "'plant'.*capital_cost"),
    "no number": ({"capital_cost": np.nan}, None, "'plant'.*capital_cost"),
    "no lifetime": ({"overnight_cost": 1.0, "discount_rate": np.nan}, None, "'plant'.*overnight"),
    "no limit": ({"p_nom_max": np.nan}, None, "'plant'.*p_nom_max"),
    "no floor": ({"p_nom_min": np.inf}, None, "'plant'.*p_nom_min"),
    "below nothing": ({"p_nom_min": -1.0}, None, "'plant'.*p_nom_min"),
    "crossed": ({"p_nom_min": 2.0, "p_nom_max": 1.0}, None, "'plant'.*p_nom_min exceeds"),
    "set below nothing": ({"p_nom_set": -1.0}, None, "'plant'.*p_nom_set"),
    "modules": ({"p_nom_mod": 0.5}, None, "'plant'.*modules"),
    "commitment": ({"committable": True}, None, "'plant'.*commitment"),
    "a cost known too late": ({}, differing, "'plant'.*differs between scenarios"),
    "nobody's": ({}, grid_plant, "'mill'.*no prosumer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_investment_that_cannot_be_honoured(case: str) -> None:
    values, edit, says = REFUSED[case]
    n = house((3.0, 5.0), scenarios=True, capital_cost=4.0)
    static = n.c["Generator"].static
    for column, value in values.items():
        static[column] = (
            static[column].astype(object) if column == "committable" else static[column]
        )
        static.loc[static.index.get_level_values(-1) == "plant", column] = value
    if edit is not None:
        edit(n)
    for door in (p2p.PeerToPeerMarket().optimize, lambda n: p2p.PeerToPeerMarket()(n, n.snapshots)):
        with pytest.raises(P2PError, match=says):
            door(n)
    assert "p2p" not in n.meta


def test_trade_capacity_is_data() -> None:
    n = market_network(instance(5), ())
    n.c["Link"].static["p_nom_extendable"] = True
    with pytest.raises(P2PError, match=r"Trade edges.*p_nom_extendable"):
        p2p.PeerToPeerMarket().optimize(n)


def test_contracts_at_unequal_weights_need_scenarios_apart() -> None:
    market = p2p.PeerToPeerMarket(
        risk=AVERSE, contracts=p2p.Contracts(), equilibrium="generalized", weights=[1.0, 2.0, 4.0]
    )
    with pytest.raises(MarketError, match="investment"):
        market.optimize(market_network(instance(5)))


def test_agents_know_no_investment() -> None:
    n = market_network(instance(5), ASSETS[:2])
    with pytest.raises(MarketError, match="p_nom_extendable"):
        p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), method=p2p.GaussSeidel())
