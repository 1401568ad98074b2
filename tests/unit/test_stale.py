"""`results` of a network whose data were changed after the solve: never silently wrong."""

from __future__ import annotations

import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.errors import MarketError
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
