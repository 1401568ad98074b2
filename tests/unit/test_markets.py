"""What a market refuses: before any solver starts, by name, and leaving the network as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.errors import DataError, MarketError, P2PError
from pypsa_p2p.markets import Market

NAMES = ["a", "b", "c"]
EDGE = "a - b"
Edit = Callable[[pypsa.Network], None]


def build(*, scenarios: bool, trades: bool = True) -> pypsa.Network:
    """Three prosumers, two snapshots, one or two scenarios."""
    n = pypsa.Network()
    n.set_snapshots(pd.RangeIndex(2, name="snapshot"))
    p2p.add_prosumers(
        n,
        NAMES,
        demand=pd.DataFrame([[3.0, 4.0, 5.0], [4.0, 3.0, 6.0]], n.snapshots, NAMES),
        demand_max=9.0,
        utility_quadratic=0.5,
        generation_max=[8.0, 2.0, 5.0],
        marginal_cost=[0.5, 3.0, 1.0],
        marginal_cost_quadratic=0.2,
        renewable=1.0,
        risk_attitude=[0.2, 0.5, 0.7],
        import_price=pd.DataFrame(0.1, n.snapshots, NAMES),
    )
    if trades:
        p2p.add_trades(n, "complete", capacity=3.0, price=0.3)
    if scenarios:
        wind = xr.DataArray(
            [[2.0, 0.5, 0.0], [0.0, 2.5, 1.0]],
            coords={"scenario": ["wet", "dry"], "prosumer": NAMES},
        )
        p2p.set_scenarios(n, {"wet": 0.5, "dry": 0.5}, xr.Dataset({"renewable": wind}))
    return n


@pytest.fixture(scope="module", params=[False, True], ids=["certain", "scenarios"])
def original(request: pytest.FixtureRequest) -> pypsa.Network:
    return build(scenarios=request.param)


@pytest.fixture
def n(original: pypsa.Network) -> pypsa.Network:
    return original.copy()


def tables(n: pypsa.Network) -> dict[str, pd.DataFrame]:
    """Every table of a network, by name."""
    found = {"snapshot_weightings": n.snapshot_weightings.copy()}
    for component in n.components:
        found[component.name] = component.static.copy(deep=True)
        for attribute, table in component.dynamic.items():
            found[f"{component.name} {attribute}"] = table.copy(deep=True)
    return found


def assert_untouched(
    n: pypsa.Network, before: dict[str, pd.DataFrame], meta: dict[str, Any]
) -> None:
    after = tables(n)
    assert after.keys() == before.keys()
    for name, table in before.items():
        pd.testing.assert_frame_equal(after[name], table, obj=name)
    assert n.meta == meta


@pytest.fixture
def no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the market was formulated although its data make no sense")

    monkeypatch.setattr(Market, "_solve", refuse)


def static(component: str, name: str, **values: object) -> Edit:
    """Write to a component's static table, in all scenarios."""

    def edit(n: pypsa.Network) -> None:
        table = n.c[component].static
        for column, value in values.items():
            rows = table.index.get_level_values(-1) == name
            table.loc[rows, column] = value

    return edit


def series(component: str, attribute: str, name: str, value: float) -> Edit:
    """Write to a component's time series in the first snapshot, in the last scenario."""

    def edit(n: pypsa.Network) -> None:
        table = n.c[component].dynamic[attribute]
        column = (n.scenarios[-1], name) if n.has_scenarios else name
        if column not in table:
            table[column] = n.c[component].static.loc[column, attribute]
        table.loc[n.snapshots[0], column] = value

    return edit


def adding(component: str, name: str, **values: Any) -> Edit:
    return lambda n: n.add(component, name, **values) and None


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


def investing_in_a_line(n: pypsa.Network) -> None:
    n.add("Bus", "garage")
    n.add("Line", "l", bus0="a", bus1="garage", x=0.1, s_nom_extendable=True)


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
    "investment in a line": (investing_in_a_line, "'l': investment"),
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
    series("Bus", "import_price", "b", -1.0)(n)
    assert p2p.PeerToPeerMarket().optimize(n) == ("ok", "optimal")
    bought = p2p.results(n).quantity
    assert sorted(bought["trade"].values) == ["a <- b", "b <- a", "b <- c", "c <- b"]
    assert float(bought.sel(trade="b <- a").max()) <= 1e-8


@pytest.mark.parametrize("market", [p2p.CentralizedMarket, p2p.PeerToPeerMarket])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"contracts": p2p.Contracts()}, "risk=CVaR"),
        ({"contracts": True}, "Contracts or None"),
        ({"contracts": p2p.Contracts}, "Contracts or None"),
        ({"risk": 0.5}, "CVaR or None"),
        ({"risk": "CVaR"}, "CVaR or None"),
        ({"risk": p2p.CVaR}, "CVaR or None"),
        ({"surplus": "no"}, "True, False"),
        ({"surplus": None}, "True, False"),
        ({"surplus": np.array([1, 0])}, "True, False"),
        ({"delivery": "mail"}, "'trades', 'grid'"),
    ],
)
def test_unusable_choices(market: type[Market], arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(MarketError, match=says):
        market(**arguments)


def test_unusable_choices_of_one_design() -> None:
    with pytest.raises(MarketError, match="'prosumers', 'community'"):
        p2p.CentralizedMarket(aggregate="everybody")
    with pytest.raises(MarketError, match="'variational', 'generalized'"):
        p2p.PeerToPeerMarket(equilibrium="Nash")
    with pytest.raises(MarketError, match="weights"):
        p2p.PeerToPeerMarket(weights={"a": 1.0})


def test_markets_are_frozen_values() -> None:
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=0.5))
    assert market == p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=0.5))
    assert replace(market, surplus=False).surplus is False
    with pytest.raises(FrozenInstanceError):
        market.surplus = False  # type: ignore[misc]
    with pytest.raises(TypeError):
        p2p.PeerToPeerMarket("variational")  # type: ignore[misc]


@pytest.mark.parametrize(
    "attitude",
    [1.0, -0.1, np.nan, np.inf, True, "much", [0.1, 1.2], {"a": 1.0}, {"a": "b"}],
)
def test_unusable_attitudes(attitude: Any) -> None:
    with pytest.raises(MarketError, match=r"\[0, 1\)"):
        p2p.CVaR(attitude=attitude)


def test_the_prosumer_of_an_unusable_attitude_is_named() -> None:
    with pytest.raises(MarketError, match="prosumer 'b'"):
        p2p.CVaR(attitude=pd.Series({"a": 0.1, "b": 1.5}))


@pytest.mark.parametrize("weight", [1.1, -0.1, np.nan, "1", None, True, [0.5]])
def test_unusable_weights(weight: Any) -> None:
    with pytest.raises(MarketError, match=r"weight .* \[0, 1\]"):
        p2p.CVaR(weight=weight)


@pytest.mark.parametrize(
    ("attitude", "says"),
    [
        ({"a": 0.1, "b": 0.2}, "missing: 'c'"),
        ({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, "unknown: 'd'"),
        ({}, "missing: 'a', 'b', 'c'"),
        (pd.Series([0.1, 0.2, 0.3], list("abd")), "missing: 'c'; unknown: 'd'"),
        ({1: 0.1, "b": 0.2, "c": 0.3}, "missing: 'a'; unknown: 1"),
    ],
)
@pytest.mark.usefixtures("no_solver")
def test_attitudes_of_the_wrong_prosumers(n: pypsa.Network, attitude: Any, says: str) -> None:
    before, meta = tables(n), copy.deepcopy(n.meta)
    with pytest.raises(MarketError, match=says):
        p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=attitude)).optimize(n)
    assert_untouched(n, before, meta)


AVERSE = p2p.CVaR()


@pytest.mark.parametrize(
    ("market", "says"),
    [
        (p2p.CentralizedMarket(aggregate="community", risk=AVERSE), "attitude=0.5"),
        (p2p.CentralizedMarket(risk=AVERSE), "not convex"),
        (p2p.CentralizedMarket(risk=p2p.CVaR(attitude=0.3)), "not convex"),
    ],
)
@pytest.mark.usefixtures("no_solver")
def test_designs_with_congestion_that_have_no_convex_form(market: Market, says: str) -> None:
    n = build(scenarios=True)
    static("Link", EDGE, congestion=0.2)(n)
    before, meta = tables(n), copy.deepcopy(n.meta)
    with pytest.raises(MarketError, match=says):
        market.optimize(n)
    assert_untouched(n, before, meta)


@pytest.mark.parametrize("risk", [p2p.CVaR(attitude=0.0), p2p.CVaR(weight=0.0)], ids=repr)
@pytest.mark.parametrize("design", [p2p.CentralizedMarket, p2p.PeerToPeerMarket])
def test_congestion_with_a_measure_that_is_risk_neutral(
    n: pypsa.Network, design: type[Market], risk: p2p.CVaR
) -> None:
    """chi = 0 and theta = 0 are the expectation, whose optimum exists."""
    static("Link", EDGE, congestion=0.2)(n)
    design(risk=risk).optimize(n)
    found = float(p2p.results(n).social_cost)
    design().optimize(n)
    assert found == pytest.approx(float(p2p.results(n).social_cost), rel=1e-9)


def test_investment_periods() -> None:
    n = build(scenarios=False)
    n.set_investment_periods([2030, 2040])
    with pytest.raises(P2PError, match="one period"):
        p2p.PeerToPeerMarket().optimize(n)


@pytest.mark.parametrize("thing", [None, "network", pd.DataFrame(), 3])
def test_what_is_no_network(thing: Any) -> None:
    market = p2p.PeerToPeerMarket()
    with pytest.raises(P2PError, match=r"network|Network"):
        market.optimize(thing)
    with pytest.raises(DataError, match="Network"):
        market(thing, pd.RangeIndex(1))
    with pytest.raises(MarketError):
        p2p.results(thing)


@pytest.mark.parametrize("snapshots", [[5], [], [0, 5], [0, 0], 0, "today", slice(0, 1)], ids=repr)
@pytest.mark.usefixtures("no_solver")
def test_unusable_snapshots(n: pypsa.Network, snapshots: Any) -> None:
    before, meta = tables(n), copy.deepcopy(n.meta)
    with pytest.raises(DataError, match=r"[Ss]napshot"):
        p2p.PeerToPeerMarket().optimize(n, snapshots)
    assert_untouched(n, before, meta)


def test_a_hook_without_a_model(n: pypsa.Network) -> None:
    with pytest.raises(P2PError, match="create_model"):
        p2p.PeerToPeerMarket()(n, n.snapshots)


def test_user_functions_that_are_none(n: pypsa.Network) -> None:
    before, meta = tables(n), copy.deepcopy(n.meta)
    with pytest.raises(P2PError, match="extra_functionality"):
        p2p.PeerToPeerMarket().optimize(n, extra_functionality=3)  # type: ignore[arg-type]
    assert_untouched(n, before, meta)


@pytest.mark.parametrize("losses", [{"mode": "tangents", "segments": -1}, "many"], ids=repr)
def test_options_with_values_that_pypsa_refuses(n: pypsa.Network, losses: Any) -> None:
    p2p.PeerToPeerMarket().optimize(n)
    before = p2p.results(n)
    with pytest.raises(MarketError, match="transmission_losses"):
        p2p.PeerToPeerMarket().optimize(n, transmission_losses=losses)
    assert p2p.results(n).identical(before)


@pytest.mark.parametrize("trades", [True, False], ids=["trades", "no trades"])
def test_one_model_holds_one_market(trades: bool) -> None:
    n = build(scenarios=False, trades=trades)
    n.optimize.create_model(include_objective_constant=False)
    p2p.PeerToPeerMarket()(n, n.snapshots)
    with pytest.raises(MarketError, match="market already"):
        p2p.CentralizedMarket()(n, n.snapshots)


def test_results_before_solving(n: pypsa.Network) -> None:
    with pytest.raises(MarketError, match="Solve one first"):
        p2p.results(n)


def run(n: pypsa.Network, market: Market, route: str) -> Any:
    if route == "direct":
        return market.optimize(n)
    return n.optimize(extra_functionality=market, log_to_console=False)


def demanding(n: pypsa.Network) -> None:
    """An inelastic load of 100 MW that nobody can serve."""
    n.add("Load", "smelter", bus="b", p_set=100.0)


def bottomless(n: pypsa.Network, sns: pd.Index) -> None:
    """A decision of the user's own that nothing limits and that pays."""
    well = n.model.add_variables(name="well")
    n.model.objective = n.model.objective.expression - 5.0 * well


def test_an_infeasible_market_names_who_cannot_be_met(n: pypsa.Network, route: str) -> None:
    demanding(n)
    with pytest.raises(MarketError, match=r"infeasible.*balance of 'b'"):
        run(n, p2p.PeerToPeerMarket(), route)
    with pytest.raises(MarketError):
        p2p.results(n)


@pytest.mark.parametrize("risk", [None, AVERSE], ids=["neutral", "averse"])
def test_an_isolated_prosumer_who_cannot_be_met_is_the_only_one_named(
    risk: p2p.CVaR | None, route: str
) -> None:
    n = build(scenarios=True, trades=False)
    demanding(n)
    with pytest.raises(MarketError, match=r"infeasible.*balance of 'b'") as caught:
        run(n, p2p.PeerToPeerMarket(risk=risk), route)
    assert "'a" not in str(caught.value)
    assert "'c" not in str(caught.value)


@pytest.mark.parametrize("risk", [None, AVERSE], ids=["neutral", "averse"])
def test_an_unbounded_market(n: pypsa.Network, route: str, risk: p2p.CVaR | None) -> None:
    market = p2p.PeerToPeerMarket(risk=risk)

    def both(n: pypsa.Network, sns: pd.Index) -> None:
        bottomless(n, sns)
        market(n, sns)

    solve = {
        "direct": lambda: market.optimize(n, extra_functionality=bottomless),
        "hook": lambda: n.optimize(extra_functionality=both, log_to_console=False),
    }[route]
    with pytest.raises(MarketError, match="unbounded"):
        solve()
    with pytest.raises(MarketError):
        p2p.results(n)


def test_a_load_that_nothing_can_supply_is_named() -> None:
    """PyPSA itself ends with an error about empty left-hand sides."""
    n = pypsa.Network()
    n.add("Bus", ["hut", "mill", "farm"])
    n.add("Load", ["lamp", "saw"], bus=["hut", "mill"], p_set=1.0)
    n.add("Generator", "engine", bus="farm", p_nom=5, marginal_cost=2.0)
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, [("mill prosumer", "farm prosumer")], capacity=5)
    with pytest.raises(MarketError, match="Load 'lamp' at bus 'hut prosumer': nothing there can"):
        p2p.PeerToPeerMarket().optimize(n)
    n.loads.loc["lamp", "p_set"] = 0.0
    assert p2p.PeerToPeerMarket().optimize(n) == ("ok", "optimal")
