"""What retailers sell flows over the grid, too, from its connection: by hand."""

from __future__ import annotations

import pypsa
import pytest

import pypsa_p2p as p2p


def over_a_line(*, sun: float = 0.0, loss_in_link: bool = False) -> pypsa.Network:
    """Two homes behind a line of 1 MW to the connection; 80 and 300 EUR/MWh; a plant at 400."""
    n = pypsa.Network()
    n.add("Bus", ["station", "street"], v_nom=20.0)
    n.add("Line", "line", bus0="station", bus1="street", x=0.1, s_nom=1.0)
    if loss_in_link:
        n.add("Bus", "yard", v_nom=20.0)
        n.add("Link", "dc", bus0="street", bus1="yard", efficiency=0.5, p_nom=1.0)
    n.add("Generator", "slack", bus="station", control="Slack", p_nom=0.0)
    p2p.add_prosumers(
        n, ["home", "roof"], demand=[2, 0], demand_min=[2, 0], demand_max=[2, 0],
        utility_quadratic=0.0, generation_max=[2, 0], marginal_cost=400, renewable=[0, sun],
        grid_bus="street",
    )  # fmt: skip
    p2p.add_retail(n, import_price=300, export_price=80)
    p2p.add_trades(n, "complete", capacity=5.0)
    return n


def solved(n: pypsa.Network, route: str):
    market = p2p.PeerToPeerMarket(delivery="grid", surplus=False)
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)
    certificate = p2p.certify(n)
    assert certificate.is_equilibrium(), certificate
    return p2p.results(n).squeeze()


@pytest.mark.parametrize("loss_in_link", [False, True])
def test_imports_fill_the_line(loss_in_link: bool, route: str) -> None:
    """1 MW comes in at 300, the rest is her own at 400: the line is worth 100 EUR/MWh.

    Where retail were no matter of the grid, she would import 2 MW.
    """
    r = solved(over_a_line(loss_in_link=loss_in_link), route)
    home = r.sel(prosumer="home")
    assert float(r.retail_import.sum()) == pytest.approx(1.0, abs=1e-6)
    assert float(home.nodal_price) == pytest.approx(400.0, abs=1e-3)
    assert float(home.grid_price) == pytest.approx(100.0, abs=1e-3)
    assert float(home.grid_payment) == pytest.approx(100.0, abs=1e-3)
    assert float(r.congestion_rent) == pytest.approx(100.0, abs=1e-3)
    assert float(r.social_cost) == pytest.approx(700.0, abs=1e-4)


def test_nobody_escapes_the_line_by_not_trading(route: str) -> None:
    """Alone, too, she imports 1 MW and makes 1 MW: nothing is saved by trading, nothing lost."""
    n = over_a_line()
    solved(n, route)
    alone = p2p.without_trades(n)
    assert p2p.certify(alone).is_equilibrium()
    assert float(p2p.results(alone).social_cost) == pytest.approx(700.0, abs=1e-4)
    grid_price = p2p.results(alone).grid_price.sel(prosumer="home").item()
    assert grid_price == pytest.approx(100.0, abs=1e-3)
    assert p2p.savings(n).saving_now.to_numpy() == pytest.approx([0.0, 0.0], abs=1e-3)


def test_exports_fill_the_line(route: str) -> None:
    """Of 5 MW of sun 2 are the neighbour's and 1 leaves; the rest has no way out: no market."""
    r = solved(over_a_line(sun=3.0), route)
    assert float(r.retail_export.sum()) == pytest.approx(1.0, abs=1e-6)
    assert float(r.net_import.sel(prosumer="home")) == pytest.approx(2.0, abs=1e-6)
    with pytest.raises(p2p.MarketError, match="infeasible"):
        solved(over_a_line(sun=5.0), route)


def test_the_power_flow_has_what_is_retailed() -> None:
    n = over_a_line()
    n.lines["r"] = 0.01
    solved(n, "direct")
    check = p2p.check_power_flow(n)
    assert float(check.connection.squeeze()) == pytest.approx(1.0 + float(check.losses.sum()))
