"""`results` of a network whose data were changed after the solve: never silently wrong."""

from __future__ import annotations

from functools import cache

import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError
from tests.by_hand.markets import add_seller_and_buyer
from tests.reference.instances import network, random_instance


def test_attitudes_are_those_of_the_solve() -> None:
    n = network(random_instance(11, 3, 3, 2))
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    before = p2p.results(n)
    n.buses["risk_attitude"] = 0.9
    xr.testing.assert_identical(p2p.results(n), before)


@pytest.mark.parametrize(
    "what",
    ["probability", "weighting", "price0", "import_price", "p_set of Load", "p_nom of Generator"],
)
def test_changed_data_are_named(what: str) -> None:
    n = network(random_instance(11, 3, 3, 2))
    p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)
    probability, hours, links = n.scenario_weightings, n.snapshot_weightings, n.c["Link"].static
    if what == "probability":
        probability["weight"] = [0.5, 0.25, 0.25]
    elif what == "weighting":
        hours["objective"] = [1.0, 7.0]
    elif what == "price0":
        links["price0"] += 1.0
    elif what == "p_set of Load":
        n.loads_t.p_set += 1.0
    elif what == "p_nom of Generator":
        n.generators["p_nom"] *= 1.5
    else:
        n.buses_t["import_price"] += 1.0
    with pytest.raises(MarketError, match=f"Changed after the market was solved: .*'{what}'"):
        p2p.results(n)


@cache
def delivered(delivery: str) -> pypsa.Network:
    n = pypsa.Network()
    n.add("Bus", ["west", "east"])
    n.add("Line", "line", bus0="west", bus1="east", x=0.1, s_nom=2.0)
    n.add("Link", "cable", bus0="west", bus1="east", p_nom=9.0, p_min_pu=-1.0)
    add_seller_and_buyer(n)
    p2p.CentralizedMarket(delivery=delivery).optimize(n)
    return n


@pytest.mark.parametrize(
    "what",
    [
        *("s_nom of Line", "s_max_pu of Line", "r of Line", "x of Line", "bus0 of Line"),
        *("p_nom of Link", "efficiency of Link", "grid_bus", "v_nom of Bus", "a new line"),
    ],
)
def test_a_changed_grid_is_noticed_where_it_delivers(what: str) -> None:
    def changed(delivery: str) -> pypsa.Network:
        n = delivered(delivery).copy()
        p2p.results(n)
        if what == "grid_bus":
            n.buses.loc["B", "grid_bus"] = "west"
        elif what == "p_nom of Link":
            n.links.loc["cable", "p_nom"] = 3.0
        elif what == "efficiency of Link":
            n.links.loc["cable", "efficiency"] = 0.9
        elif what == "bus0 of Line":
            n.lines.loc["line", ["bus0", "bus1"]] = ["east", "west"]
        elif what == "v_nom of Bus":
            n.buses["v_nom"] = 20.0
        elif what == "r of Line":
            n.lines["r"] = 0.01
        elif what == "a new line":
            n.add("Line", "second", bus0="west", bus1="east", x=0.1, s_nom=2.0)
        else:
            n.lines[what.split(maxsplit=1)[0]] *= 0.5
        return n

    named = "s_nom of Line" if what == "a new line" else what
    with pytest.raises(MarketError, match=f"Changed after the market was solved: .*'{named}'"):
        p2p.results(changed("grid"))
    if what != "grid_bus":
        p2p.results(changed("trades"))
