"""Data that a market refuses: before any solver starts, by name, and leaving all as it was."""

from __future__ import annotations

import copy

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import P2PError
from tests.unit.markets import (
    EDGE,
    Edit,
    adding,
    assert_untouched,
    build,
    series,
    static,
    tables,
)


def weighting(value: float) -> Edit:
    def edit(n: pypsa.Network) -> None:
        n.snapshot_weightings.loc[n.snapshots[1], "objective"] = value

    return edit


def stray_edge(n: pypsa.Network) -> None:
    n.add("Bus", "grid")
    n.add("Link", "stray", bus0="a", bus1="grid", carrier="p2p", p_nom=1.0, p_min_pu=-1.0)


def third_end(n: pypsa.Network) -> None:
    n.c.links.static["bus2"] = ""
    static("Link", EDGE, bus2="c")(n)


def storage(component: str, name: str, **values: float) -> Edit:
    """Add a storage asset of 1 MW and 2 MWh, then edit its table: PyPSA's `add` drops NaN."""

    def edit(n: pypsa.Network) -> None:
        size = {"p_nom": 1.0, "max_hours": 2.0} if component == "StorageUnit" else {"e_nom": 2.0}
        n.add(component, name, bus="a", **size)
        static(component, name, **values)(n)

    return edit


def nobody(n: pypsa.Network) -> None:
    n.c.buses.static["carrier"] = ""


MARKET_DATA: dict[str, tuple[Edit, str]] = {
    "capacity missing": (static("Link", EDGE, p_nom=np.nan), EDGE),
    "capacity infinite": (static("Link", EDGE, p_nom=np.inf), EDGE),
    "capacity negative": (static("Link", EDGE, p_nom=-1.0), EDGE),
    "trade limits missing": (static("Link", EDGE, p_max_pu=np.nan), EDGE),
    "a trade that must flow": (static("Link", EDGE, p_min_pu=0.5), EDGE),
    "a trade that may not be bought": (static("Link", EDGE, p_max_pu=-0.5), EDGE),
    "price missing": (static("Link", EDGE, price0=np.nan), EDGE),
    "other price infinite": (static("Link", EDGE, price1=np.inf), EDGE),
    "congestion missing": (static("Link", EDGE, congestion=np.nan), EDGE),
    "congestion negative": (static("Link", EDGE, congestion=-1.0), EDGE),
    "lossy trade": (static("Link", EDGE, efficiency=0.9), EDGE),
    "trade with a cost": (static("Link", EDGE, marginal_cost=0.1), EDGE),
    "trade with a third end": (third_end, EDGE),
    "self-trade": (static("Link", EDGE, bus1="a"), EDGE),
    "trade to nowhere": (static("Link", EDGE, bus1="nowhere"), EDGE),
    "extendable trade": (static("Link", EDGE, p_nom_extendable=True), EDGE),
    "committable trade": (static("Link", EDGE, committable=True), EDGE),
    "fixed trade": (static("Link", EDGE, p_set=1.0), EDGE),
    "edge to the grid": (stray_edge, "stray"),
    "attitude one": (static("Bus", "b", risk_attitude=1.0), "b"),
    "attitude negative": (static("Bus", "b", risk_attitude=-0.1), "b"),
    "attitude missing": (static("Bus", "b", risk_attitude=np.nan), "b"),
    "benefit missing": (static("Bus", "b", usage_benefit=np.nan), "b"),
    "fixed cost infinite": (static("Bus", "b", fixed_cost=np.inf), "b"),
    "import price missing": (series("Bus", "import_price", "b", np.nan), "b"),
    "import price infinite": (series("Bus", "import_price", "b", -np.inf), "b"),
    "weighting missing": (weighting(np.nan), "weighting"),
    "weighting zero": (weighting(0.0), "weighting"),
    "no prosumers": (nobody, "prosumers"),
}
ASSET_DATA: dict[str, tuple[Edit, str]] = {
    "demand missing": (series("Load", "p_set", "b demand", np.nan), "b demand"),
    "demand infinite": (series("Load", "p_set", "b demand", np.inf), "b demand"),
    "cost missing": (static("Generator", "b generation", marginal_cost=np.nan), "b generation"),
    "cost infinite": (static("Generator", "b generation", marginal_cost=np.inf), "b generation"),
    "curvature missing": (
        static("Generator", "b elastic demand", marginal_cost_quadratic=np.nan),
        "b elastic demand",
    ),
    "curvature infinite": (
        static("Generator", "b elastic demand", marginal_cost_quadratic=np.inf),
        "b elastic demand",
    ),
    "curvature negative": (
        static("Generator", "b generation", marginal_cost_quadratic=-1.0),
        "b generation",
    ),
    "curvature of a store negative": (
        storage("Store", "tank", marginal_cost_quadratic=-1.0),
        "tank",
    ),
    "size missing": (static("Generator", "b generation", p_nom=np.nan), "b generation"),
    "size negative": (static("Generator", "b generation", p_nom=-1.0), "b generation"),
    "limit missing": (static("Generator", "b generation", p_max_pu=np.nan), "b generation"),
    "limit infinite": (static("Generator", "b generation", p_min_pu=np.inf), "b generation"),
    "limits crossed": (static("Generator", "b generation", p_min_pu=2.0), "b generation"),
    "renewables missing": (series("Generator", "p_max_pu", "b renewable", np.nan), "b renewable"),
    "renewables infinite": (series("Generator", "p_max_pu", "b renewable", np.inf), "b renewable"),
    "size of a battery missing": (
        storage("StorageUnit", "battery", p_nom=np.nan),
        "battery",
    ),
    "cost of a battery missing": (
        storage("StorageUnit", "battery", marginal_cost=np.nan),
        "battery",
    ),
    "generator nowhere": (static("Generator", "b generation", bus="nowhere"), "b generation"),
    "investment without a cost": (
        static("Generator", "b generation", p_nom_extendable=True, capital_cost=np.nan),
        "b generation",
    ),
    "investment in a store without a limit": (
        adding("Store", "tank", bus="a", e_nom_extendable=True, e_nom_min=3.0, e_nom_max=2.0),
        "tank",
    ),
    "commitment": (static("Generator", "b generation", committable=True), "b generation"),
    "line between prosumers": (adding("Line", "l", bus0="a", bus1="b", x=0.1, s_nom=1.0), "Line l"),
    "link between prosumers": (adding("Link", "l", bus0="a", bus1="b", p_nom=1.0), "Link l"),
}
EDITS = MARKET_DATA | ASSET_DATA


@pytest.mark.parametrize("case", EDITS)
@pytest.mark.usefixtures("no_solver")
def test_unusable_data(n: pypsa.Network, case: str) -> None:
    """Both doors refuse, name the culprit, and touch nothing."""
    edit, culprit = EDITS[case]
    edit(n)
    before, meta = tables(n), copy.deepcopy(n.meta)
    market = p2p.PeerToPeerMarket()
    for door in (market.optimize, lambda n: market(n, n.snapshots)):
        with pytest.raises(P2PError, match=culprit):
            door(n)
        assert_untouched(n, before, meta)


def test_data_that_look_odd_but_make_sense() -> None:
    """Negative prices, benefits and fixed costs, one-way edges and an edge switched off."""
    n = build(scenarios=False)
    static("Link", EDGE, price0=-1.0, p_max_pu=0.0)(n)
    static("Link", "a - c", active=False)(n)
    static("Bus", "b", usage_benefit=-1.0, fixed_cost=-2.0)(n)
    static("Generator", "b generation", marginal_cost=-0.5, p_min_pu=-1.0)(n)
    for who in ("a", "b", "c"):
        series("Bus", "import_price", who, -1.0)(n)
    assert p2p.PeerToPeerMarket().optimize(n) == ("ok", "optimal")
    bought = p2p.results(n).quantity
    assert sorted(bought["trade"].values) == ["a <- b", "b <- a", "b <- c", "c <- b"]
    assert float(bought.sel(trade="b <- a").max()) <= 1e-8
