"""Coal committed, and wind sold, before the wind is known.

A wind farm, a factory with coal at 30 and gas at 70 EUR/MWh, and a village that can do without some
of what it wants. Tomorrow there is much wind, some, or none. What is decided the day before?

    python examples/15_before_the_scenario_is_known.py
"""

from __future__ import annotations

import pypsa
import xarray as xr

import pypsa_p2p as p2p

WIND = {"storm": 12.0, "breeze": 6.0, "calm": 0.0}
NAMES = ["farm", "factory", "village"]


def community(*, ahead: bool) -> pypsa.Network:
    """Three who trade in real time, or day ahead with imbalance for what then is different."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        NAMES,
        demand=[0, 6, 6],
        demand_max=[0, 6, 6],
        utility_quadratic=[0, 20, 10],
        risk_attitude=[0.2, 0.5, 0.7],
    )
    n.add("Generator", "coal", bus="factory", p_nom=8.0, marginal_cost=30.0)
    n.add("Generator", "gas", bus="factory", p_nom=8.0, marginal_cost=70.0)
    wind = xr.DataArray(
        [[power, 0.0, 0.0] for power in WIND.values()],
        {"scenario": list(WIND), "prosumer": NAMES},
    )
    probability = {"storm": 0.3, "breeze": 0.4, "calm": 0.3}
    p2p.set_scenarios(n, probability, xr.Dataset({"renewable": wind}))
    decided = "day-ahead" if ahead else "real-time"
    p2p.add_trades(n, "complete", capacity=10.0, decided=decided)
    p2p.add_imbalance(n, buy=120.0, sell=0.0)
    return n


def main() -> None:
    """Costs, coal and prices, decided in the scenario and before."""
    hedged = {"risk": p2p.CVaR(), "contracts": p2p.Contracts()}
    markets = {
        "in the scenario": (False, ()),
        "coal before": (False, ("coal",)),
        "coal and trades before": (True, ("coal",)),
    }
    for name, (ahead, shared) in markets.items():
        n = community(ahead=ahead)
        p2p.PeerToPeerMarket(surplus=False, here_and_now=shared, **hedged).optimize(n)
        assert p2p.certify(n).is_equilibrium()
        r = p2p.results(n)
        coal = n.generators_t.p.T.xs("coal", level="name").groupby(level="scenario").sum()
        output = ", ".join(f"{coal.loc[scenario].item():.1f}" for scenario in WIND)
        print(f"{name:24} social cost {float(r.social_cost):7.1f} EUR, coal {output} MW")
    price = r.day_ahead_price.sel(trade="village <- farm (day-ahead)").item()
    print(f"\nThe village pays the farm {price:.2f} EUR/MWh, whatever the weather.")


if __name__ == "__main__":
    main()
