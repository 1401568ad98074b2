"""An existing grid whose lines and global constraints bind beside a market, on both routes.

North has coal at 10 EUR/MWh and 1 t/MWh, south gas at 50 EUR/MWh and 0.2 t/MWh and a town that
takes 3 MW over a line of 1 MW. The prosumers, whose assets stood on this grid, trade apart: "the
sun" generates at G + 1/2 G^2 EUR/h what "the mill" takes, 2 MW: 4 EUR/h. All over two snapshots
of two hours.

- Line: 1 MW of coal and 2 MW of gas cost 110 EUR/h. 440 + 16 = 456 EUR (a line without limit:
  30 EUR/h, 136 EUR); prices 10 and 50 EUR/MWh.
- 4.5 t in four hours: x + 0.2 (3 - x) = 1.125 t/h, so x = 0.65625 MW of coal, 123.75 EUR/h;
  495 + 16 = 511 EUR. 40 EUR/MWh for 0.8 t/MWh: 50 EUR/t; prices 60 EUR/MWh in both places.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p

MARKETS = {
    "neutral": p2p.CentralizedMarket(),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
}
SCENARIOS: dict[str, Mapping[Hashable, float] | None] = {
    "certain": None,
    "names with spaces": {"a wet year": 0.25, "dry - or so": 0.75},
    "numbers": {1: 0.25, 2: 0.75},
}


def grid(scenarios: Mapping[Hashable, float] | None, limit: float | None) -> pypsa.Network:
    n = pypsa.Network(snapshots=pd.RangeIndex(2))
    n.snapshot_weightings.loc[:, :] = 2.0
    n.add("Carrier", ["coal", "gas"], co2_emissions=[1.0, 0.2])
    n.add("Bus", ["north", "south"])
    n.add("Line", "tie", bus0="north", bus1="south", x=0.1, s_nom=1.0)
    n.add("Generator", "coal", bus="north", carrier="coal", p_nom=10.0, marginal_cost=10.0)
    n.add("Generator", "gas", bus="south", carrier="gas", p_nom=10.0, marginal_cost=50.0)
    n.add("Load", "town", bus="south", p_set=3.0)
    cost = {"marginal_cost": 1.0, "marginal_cost_quadratic": 0.5}
    n.add("Generator", "panels", bus="north", p_nom=10.0, p_max_pu=0.4, **cost)
    n.add("Load", "saw", bus="south", p_set=2.0)
    if limit is not None:
        n.add("GlobalConstraint", "climate", sense="<=", constant=limit)
    owner = {"panels": "the sun", "saw": "the mill"}
    p2p.assign_prosumers(n, owner, risk_attitude=0.4, import_price=0.5)
    p2p.add_trades(n, [("the sun", "the mill")], capacity=5.0, price=0.1)
    if scenarios is not None:
        p2p.set_scenarios(n, scenarios)
    return n


@pytest.mark.parametrize("market", MARKETS.values(), ids=MARKETS.keys())
@pytest.mark.parametrize("scenarios", SCENARIOS.values(), ids=SCENARIOS.keys())
@pytest.mark.parametrize(
    ("limit", "total", "flow", "prices"),
    [(None, 456.0, 1.0, (10.0, 50.0)), (4.5, 511.0, 0.65625, (60.0, 60.0))],
    ids=["line", "emissions"],
)
def test_limits_of_the_grid_bind(
    market: p2p.PeerToPeerMarket | p2p.CentralizedMarket,
    scenarios: Mapping[Hashable, float] | None,
    limit: float | None,
    total: float,
    flow: float,
    prices: tuple[float, float],
    route: str,
) -> None:
    """The grid's cost is nobody's: it is in the objective and not in `results`."""
    n = grid(scenarios, limit)
    if route == "direct":
        status = market.optimize(n)
    else:
        status = n.optimize(extra_functionality=market, log_to_console=False)
    assert tuple(status) == ("ok", "optimal")
    assert n.objective == pytest.approx(total, rel=1e-7)
    assert n.lines_t.p0.to_numpy() == pytest.approx(flow, abs=1e-6)
    assert n.lines_t.p1.to_numpy() == pytest.approx(-flow, abs=1e-6)

    r = p2p.results(n)
    assert float(r.social_cost) == pytest.approx(16.0, rel=1e-6)
    assert r.generation.sel(prosumer="the sun").to_numpy() == pytest.approx(2.0, abs=1e-6)
    assert r.demand.sel(prosumer="the mill").to_numpy() == pytest.approx(2.0, abs=1e-6)
    assert r.nodal_price.to_numpy() == pytest.approx(3.0, abs=1e-5)
    labels = ["certain"] if scenarios is None else [str(label) for label in scenarios]
    assert r.indexes["scenario"].tolist() == labels

    weights = [1.0] if scenarios is None else scenarios.values()
    for label, weight in zip(labels, weights, strict=True):
        for bus, price in zip(("north", "south"), prices, strict=True):
            column = bus if scenarios is None else (label, bus)
            found = n.buses_t.marginal_price[column] / weight
            assert found.to_numpy() == pytest.approx(price, abs=1e-4)
    if limit is not None and scenarios is None:  # PyPSA has no mu by scenario
        assert float(n.global_constraints.mu["climate"]) == pytest.approx(-50.0, abs=1e-3)
