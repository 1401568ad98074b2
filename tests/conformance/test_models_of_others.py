"""What models of others hold, and how a market takes it: PyPSA's own optimum is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pypsa
import pytest

import pypsa_p2p as p2p

EFFICIENT = p2p.CentralizedMarket(delivery="grid", surplus=False)


def two() -> pypsa.Network:
    """80 MW are wanted at b, where gas at 30 EUR/MWh stands; a line leads there from a."""
    n = pypsa.Network()
    n.add("Bus", ["a", "b"], v_nom=110.0, carrier="AC")
    n.add("Line", "ab", bus0="a", bus1="b", x=0.1, s_nom=1000.0)
    n.add("Load", "load", bus="b", p_set=80.0)
    n.add("Generator", "gas", bus="b", p_nom=500.0, marginal_cost=30.0)
    return n


def two_with_coal() -> pypsa.Network:
    """100 MW of coal at 10 EUR/MWh at a besides."""
    n = two()
    n.add("Generator", "coal", bus="a", p_nom=100.0, marginal_cost=10.0)
    return n


def solve(n: pypsa.Network, market: p2p.Market = EFFICIENT, price: float = 0.0) -> float:
    """README's lines; the objective."""
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, "grid", capacity=1e4, price=price)
    assert market.optimize(n) == ("ok", "optimal")
    return float(n.objective)


def pypsas(n: pypsa.Network) -> float:
    alone = n.copy()
    assert alone.optimize(log_to_console=False)[0] == "ok"
    return float(alone.objective)


@pytest.mark.filterwarnings("ignore:Nominal constraints per bus:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Nominal constraints per bus:FutureWarning")
def test_what_may_be_built_at_a_bus() -> None:
    """40 MW of wind at most, by PyPSA's column of buses; its owner's bus has it now."""
    n = two()
    n.add("Carrier", "wind")
    n.add("Generator", "wind", bus="a", carrier="wind", p_nom_extendable=True, capital_cost=1.0)
    n.buses["nom_max_wind"] = [40.0, np.nan]
    before = n.copy()
    assert solve(n) == pytest.approx(40 + 40 * 30, rel=1e-9)
    assert n.generators.p_nom_opt["wind"] == pytest.approx(40.0, rel=1e-9)
    p2p.release_prosumers(n)
    assert n.equals(before)


@pytest.mark.filterwarnings("ignore:Nominal constraints per bus:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Nominal constraints per bus:FutureWarning")
def test_what_several_may_build_together_is_refused() -> None:
    n = two()
    n.add("Carrier", "wind")
    n.add("Load", "at a", bus="a", p_set=1.0)
    for name in ("hers", "his"):
        n.add("Generator", name, bus="a", carrier="wind", p_nom_extendable=True, capital_cost=1.0)
    n.buses["nom_max_wind"] = [40.0, np.nan]
    p2p.assign_prosumers(n, {"hers": "A", "his": "B", "gas": "C", "load": "C"})
    p2p.add_trades(n, "grid", capacity=1e4)
    with pytest.raises(p2p.MarketError, match="Bus 'a': nom_max_wind limits what several"):
        EFFICIENT.optimize(n)


def test_a_limit_of_operation_counts_stores_by_their_bus() -> None:
    """PyPSA gives a Store without carrier that of its bus, AC: 5 of its 50 MWh may be used."""
    n = two()
    n.add("Store", "store", bus="b", e_nom=100.0, e_initial=50.0)
    n.add("Generator", "wind", bus="a", p_nom=500.0, marginal_cost=1.0)
    n.add(
        "GlobalConstraint", "limit", type="operational_limit", carrier_attribute="AC", sense="<=",
        constant=5.0,
    )  # fmt: skip
    before = n.copy()
    assert solve(n) == pytest.approx(75.0, rel=1e-9) == pypsas(before)
    p2p.release_prosumers(n)
    assert n.equals(before)


def test_a_limit_of_investment_at_a_bus_names_where_it_is_now() -> None:
    n = two()
    n.add("Carrier", "wind")
    n.add("Generator", "wind", bus="a", carrier="wind", p_nom_extendable=True, capital_cost=1.0)
    n.add(
        "GlobalConstraint", "limit", type="tech_capacity_expansion_limit", bus="a",
        carrier_attribute="wind", sense="<=", constant=40.0,
    )  # fmt: skip
    with pytest.raises(p2p.MarketError, match=r"GlobalConstraint 'limit' .* at 'a prosumer'"):
        solve(n)
    n.global_constraints.loc["limit", "bus"] = "a prosumer"
    EFFICIENT.optimize(n)
    assert n.generators.p_nom_opt["wind"] == pytest.approx(40.0, rel=1e-9)


def test_users_columns_of_buses_go_with_their_assets() -> None:
    n = two_with_coal()
    n.buses["country"] = ["DE", "DK"]
    p2p.assign_prosumers(n, "bus")
    assert n.generators.bus.map(n.buses.country).to_dict() == {"gas": "DK", "coal": "DE"}


def test_curves_are_refused() -> None:
    n = two_with_coal()
    if not hasattr(n.c.generators, "piecewise"):
        pytest.skip("PyPSA knows curves from 1.4 on")
    curve = {0.0: 0.0, 0.5: 10.0, 1.0: 20.0}
    n.add("Generator", "curve", bus="a", p_nom=100.0, marginal_cost=curve)
    with pytest.raises(p2p.MarketError, match="Generator 'curve': a piecewise marginal_cost"):
        solve(n)


@pytest.mark.parametrize("component", ["Line", "Generator"])
def test_what_is_not_active(component: str) -> None:
    n = two_with_coal()
    if component == "Line":
        n.add("Line", "off", bus0="a", bus1="b", x=0.1, s_nom=1000.0, active=False)
    else:
        n.add("Generator", "off", bus="a", p_nom=9.0, marginal_cost_quadratic=0.1, active=False)
    assert solve(n) == pytest.approx(800.0, rel=1e-9)
    assert p2p.certify(n).is_equilibrium()


def test_nothing_but_trades_costs() -> None:
    n = two_with_coal()
    n.generators["marginal_cost"] = 0.0
    assert solve(n, price=1.0) == pytest.approx(0.0, abs=1e-6)


def test_trades_across_a_junction() -> None:
    n = pypsa.Network()
    n.add("Bus", list("abcdj"), v_nom=110.0, carrier="AC")
    for one, other in ("ab", "cd", "bj", "dj"):
        n.add("Line", one + other, bus0=one, bus1=other, x=0.1, s_nom=1000.0)
    n.add("Generator", ["at a", "at c"], bus=["a", "c"], p_nom=[100, 5], marginal_cost=[10, 20])
    n.add("Load", ["at d", "at b"], bus=["d", "b"], p_set=[30, 1])
    assert solve(n) == pytest.approx(310.0, rel=1e-9)


def test_a_lossy_link_of_the_grid_has_room_for_nobody() -> None:
    """36 of 40 MW arrive; who buys them cannot take the 4 that are lost."""
    n = two_with_coal()
    n.remove("Line", "ab")
    n.add("Link", "ab", bus0="a", bus1="b", efficiency=0.9, p_nom=40.0)
    assert solve(n, p2p.PeerToPeerMarket(delivery="grid")) == pytest.approx(1720.0, rel=1e-9)
    certificate = p2p.certify(n)
    assert float(certificate.exploitability.max()) < 1e-9
    assert certificate.is_equilibrium()


def test_lines_of_direct_current_have_no_such_power_flow() -> None:
    n = two_with_coal()
    n.remove("Line", "ab")
    n.add("Bus", ["c", "d"], v_nom=110.0, carrier="DC")
    n.add("Link", ["ac", "db"], bus0=["a", "d"], bus1=["c", "b"], p_nom=100.0, p_min_pu=-1.0)
    n.add("Line", "cd", bus0="c", bus1="d", r=0.1, s_nom=100.0)
    assert solve(n) == pytest.approx(800.0, rel=1e-9)
    with pytest.raises(p2p.MarketError, match="Line 'cd' joins DC buses"):
        p2p.check_power_flow(n)


def test_a_limit_of_emissions_that_cannot_hold_is_named() -> None:
    n = two_with_coal()
    n.add("Carrier", "gas", co2_emissions=0.2)
    n.generators["carrier"] = "gas"
    n.add(
        "GlobalConstraint", "co2_limit", carrier_attribute="co2_emissions", sense="<=", constant=1.0
    )
    with pytest.raises(p2p.MarketError, match="GlobalConstraint 'co2_limit' cannot be met"):
        solve(n)


def test_one_name_for_two_assets() -> None:
    n = two_with_coal()
    n.add("Generator", "1", bus="a", p_nom=10.0, marginal_cost=5.0)
    n.add("Load", "1", bus="b", p_set=5.0)
    p2p.assign_prosumers(n, {("Generator", "1"): "A", "coal": "A"})
    assert n.generators.bus["1"] == n.generators.bus["coal"] == "A"
    assert n.loads.bus["1"] == "b"


def test_hydrogen_that_several_share_stays_with_the_grid() -> None:
    """Each leads an electrolyser to one bus; the way out that is told gives PyPSA's optimum."""
    n = two_with_coal()
    n.add("Bus", "h2", carrier="H2")
    n.add("Link", ["el a", "el b"], bus0=["a", "b"], bus1="h2", p_nom=10.0, efficiency=0.7)
    n.add("Load", "h2 load", bus="h2", p_set=3.0)
    with pytest.raises(p2p.DataError, match="name the assets that get an owner in a mapping"):
        p2p.assign_prosumers(n, "bus")
    objective = pypsas(n)
    p2p.assign_prosumers(n, {"coal": "A", "gas": "B", "load": "B"})
    p2p.add_trades(n, "grid", capacity=1e4)
    p2p.CentralizedMarket(delivery="grid").optimize(n)  # what hydrogen takes is left over
    assert n.objective == pytest.approx(objective, rel=1e-9) == 10 * (80 + 3 / 0.7)
    assert p2p.certify(n).is_equilibrium()


def test_an_island_stops_nobody() -> None:
    n = two()
    n.add("Bus", "island", v_nom=110.0, carrier="AC")
    n.add("Generator", "alone", bus="island", p_nom=4.0, marginal_cost=5.0)
    with pytest.warns(UserWarning, match="island"):
        assert solve(n) == pytest.approx(2400.0, rel=1e-9)


def with_a_store(attribute: str, value: float) -> Callable[[pypsa.Network], Any]:
    def change(n: pypsa.Network) -> None:
        if attribute == "e_initial":
            n.add("Store", "store", bus="b", e_nom=10.0)
            n.stores[attribute] = value
        else:
            n.add("StorageUnit", "store", bus="b", p_nom=10.0, max_hours=4.0)
            n.storage_units[attribute] = value

    return change


def column(component: str, attribute: str, value: Any) -> Callable[[pypsa.Network], Any]:
    def change(n: pypsa.Network) -> None:
        static = n.c[component].static
        static[attribute] = static[attribute].astype(object if isinstance(value, str) else float)
        static[attribute] = value

    return change


def emitting(n: pypsa.Network) -> None:
    """1 MWh of gas makes infinite emissions."""
    n.add("Carrier", "fuel", co2_emissions=0.2)
    n.generators.loc["gas", ["carrier", "efficiency"]] = ["fuel", 0.0]
    n.add("GlobalConstraint", "co2", type="primary_energy", sense="<=", constant=9.0)


def ring(n: pypsa.Network) -> None:
    """PyPSA's default impedance is 0, with which a cycle has no law."""
    n.add("Bus", "c", v_nom=110.0, carrier="AC")
    n.add("Line", ["bc", "ca"], bus0=["b", "c"], bus1=["c", "a"], s_nom=10.0)


UNUSABLE = {
    "energy from nowhere": (with_a_store("state_of_charge_initial", np.nan), "'store': state_of"),
    "infinite energy": (with_a_store("state_of_charge_initial", np.inf), "'store': state_of"),
    "a store's too": (with_a_store("e_initial", np.nan), "Store 'store': e_initial is missing"),
    "dispatch without end": (
        with_a_store("efficiency_dispatch", 0.0),
        "'store': efficiency_dispatch is not above zero",
    ),
    "dispatch that fills": (with_a_store("efficiency_dispatch", -0.5), "'store': efficiency_disp"),
    "storing that empties": (with_a_store("efficiency_store", -0.5), "'store': efficiency_store"),
    "more is lost than stored": (with_a_store("standing_loss", 1.5), "'store': standing_loss"),
    "stored energy that grows": (with_a_store("standing_loss", -0.1), "'store': standing_loss"),
    "emissions without end": (emitting, "Generator 'gas': efficiency is 0"),
    "hours": (
        lambda n: n.snapshot_weightings.__setitem__("stores", np.nan),
        r"snapshot_weightings\['stores'\]",
    ),
    "no impedance in a ring": (ring, "Line '(bc|ca)': x is 0"),
    "impedance missing": (column("Line", "x", np.nan), "Line 'ab': x is nan"),
    "voltage missing": (column("Bus", "v_nom", np.nan), "Bus 'a': v_nom"),
    "voltage of 0": (column("Bus", "v_nom", 0.0), "Bus 'a': v_nom"),
    "limit missing": (column("Line", "s_nom", np.nan), "Line 'ab': s_nom"),
    "text for a cost": (column("Generator", "marginal_cost", "dear"), "'gas': marginal_cost is 'd"),
    "an infinite load": (column("Load", "p_set", np.inf), "Load 'load': p_set"),
}


@pytest.mark.parametrize("case", UNUSABLE)
@pytest.mark.parametrize("delivery", ["grid", "trades"])
def test_numbers_in_ones_own_assets_are_checked(case: str, delivery: Any) -> None:
    """As arguments are: which asset, what is wrong; and nothing of the network has changed."""
    change, says = UNUSABLE[case]
    n = two_with_coal()
    change(n)
    p2p.assign_prosumers(n, "bus")
    p2p.add_trades(n, [("a prosumer", "b prosumer")], capacity=1e4)
    before = n.copy()
    with pytest.raises(p2p.DataError, match=says):
        p2p.CentralizedMarket(delivery=delivery).optimize(n)
    assert n.equals(before)


def test_what_stores_nothing_only_dispatches() -> None:
    """8 MWh at first, worth 4 MWh of coal at 10; nothing can be added at an efficiency of 0."""
    n = two_with_coal()
    n.add(
        "StorageUnit", "store", bus="b", p_nom=10.0, state_of_charge_initial=8.0, max_hours=4.0,
        efficiency_store=0.0, efficiency_dispatch=0.5,
    )  # fmt: skip
    assert solve(n) == pytest.approx(10 * 76, rel=1e-9)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("attribute", ["price0", "price1", "congestion"])
def test_a_column_of_trades_that_is_missing(attribute: str) -> None:
    n = p2p.load_grid("three_node")
    del n.c["Link"].static[attribute]
    with pytest.raises(p2p.DataError, match=f"n.links has no column '{attribute}'"):
        p2p.PeerToPeerMarket().optimize(n)


@pytest.mark.parametrize("component", ["Link", "Bus"])
def test_text_in_a_column_of_the_market(component: str) -> None:
    n = p2p.load_grid("three_node")
    attribute = {"Link": "price0", "Bus": "risk_attitude"}[component]
    static = n.c[component].static
    static[attribute] = static[attribute].astype(object)
    static.loc[static.index[0], attribute] = "a lot"
    with pytest.raises(p2p.DataError, match=f"{attribute} is 'a lot', which is no number"):
        p2p.PeerToPeerMarket(risk=p2p.CVaR()).optimize(n)


def test_a_lossy_link_that_stands_still_is_said_to(caplog: pytest.LogCaptureFixture) -> None:
    """With surplus=False nothing can supply what it loses; with a surplus it is PyPSA's optimum."""
    n = two_with_coal()
    n.remove("Line", "ab")
    n.add("Link", "ab", bus0="a", bus1="b", efficiency=0.9, p_nom=40.0)
    alone = pypsas(n)
    assert solve(n) == pytest.approx(2400.0, rel=1e-9)
    assert "Link 'ab' of the grid loses or makes energy" in caplog.text
    caplog.clear()
    p2p.CentralizedMarket(delivery="grid").optimize(n)
    assert n.objective == pytest.approx(alone, rel=1e-9) == 1720.0
    assert "loses or makes" not in caplog.text


def test_a_limit_of_energy_over_one_snapshot_is_certified() -> None:
    """4 MWh at 2 EUR/MWh in all, the rest is coal."""
    n = two_with_coal()
    n.add("Generator", "hydro", bus="b", p_nom=10.0, e_sum_max=4.0, marginal_cost=2.0)
    assert solve(n) == pytest.approx(8 + 76 * 10, rel=1e-9)
    assert p2p.certify(n).is_equilibrium()


@pytest.mark.parametrize("attribute", ["p_max_pu", "marginal_cost"])
def test_a_column_of_pypsas_that_is_missing(attribute: str) -> None:
    n = two_with_coal()
    del n.c["Generator"].static[attribute]
    with pytest.raises(p2p.DataError, match=f"Generator has no column '{attribute}'"):
        solve(n)


@pytest.mark.filterwarnings("ignore:Prosumers .* can trade with nobody")
def test_a_bus_that_is_not_there() -> None:
    n = two_with_coal()
    n.generators.loc["coal", "bus"] = "nowhere"
    with pytest.raises(p2p.DataError, match="'nowhere' is not a bus of the network"):
        solve(n)
