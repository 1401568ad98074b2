"""Numbers others have published, by other programs on other models (MODEL.md §9)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.by_hand.markets import twins
from tests.reference.instances import three_node
from tests.reference.package import solved

TO_SIX_DIGITS = {"rtol": 0, "atol": 1e-6}


def hedged(
    attitude: float | dict[str, float] | None = None, weight: float = 1.0, price: str = "clearing"
) -> p2p.PeerToPeerMarket:
    """Prosumers averse to risk with complete contracts; nothing leaves the community."""
    risk = p2p.CVaR(attitude=attitude, weight=weight)
    return p2p.PeerToPeerMarket(risk=risk, contracts=p2p.Contracts(price=price), surplus=False)


def test_recorded_optimum_of_the_author(route: str) -> None:
    """8.068164492, recorded for the three-node market at probabilities of .333 each.

    Together they are .999. Weighing by .333 in a tail of 1 - chi is weighing by 1/3 in a tail of
    (1 - chi) / .999, so attitudes of 1 - (1 - chi) / .999 make it a market whose probabilities
    sum to 1. The optimum is 8.0681637855; probabilities of 1/3 would give 8.0748864.
    """
    instance = three_node()
    attitude = 1 - (1 - instance.risk_attitude) / 0.999
    by_name = dict(zip(instance.names, attitude.tolist(), strict=True))
    _, r = solved(instance, hedged(by_name), route)
    social = float(r["social_cost"])
    assert social == pytest.approx(8.0681637855, abs=1e-8)
    assert social == pytest.approx(8.068164492, abs=1e-6)  # the author's solver stopped .7e-6 away


def test_contract_prices_of_table_two(route: str) -> None:
    """Shilov et al. 2020, chi = (.3, .4, .5): 1/3 / .7 in the two worst scenarios, else the rest.

    Their table charges 1/3 / .7 in the best one too: phi = tau - alpha = .047619 - .476190.
    """
    attitude = {"node0": 0.3, "node1": 0.4, "node2": 0.5}
    _, clearing = solved(three_node(), hedged(attitude), route)
    _, printed = solved(three_node(), hedged(attitude, price="paper"), route)
    worst_first = np.argsort(-clearing["cost"].sum("prosumer").to_numpy())
    law = [0.476190, 0.476190, 0.047619]
    price = clearing["contract_price"].to_numpy()[worst_first]
    np.testing.assert_allclose(price, law, **TO_SIX_DIGITS)
    np.testing.assert_allclose(printed["contract_price"], 0.476190, **TO_SIX_DIGITS)
    phi = printed["risk_adjusted_probability"] - printed["contract_price"]
    for who in attitude:
        of_hers = phi.sel(prosumer=who).to_numpy()[worst_first]
        np.testing.assert_allclose(of_hers, [0, 0, -0.428571], **TO_SIX_DIGITS)


def producer_and_consumer() -> pypsa.Network:
    """Gérard, Leclère, Philpott 2018: what is sold is decided before the weather, and after it.

    The producer makes x at 11.5/2 x^2, the same in both scenarios, and after the weather is known
    x_r at c/2 x_r^2, c = (1, 3.5). The consumer values y at V y - r/2 y^2, V = (4, 9.6), r = (2,
    10): a tilde = r/2, D* = V/r, b tilde = V^2 / (2 r).
    """
    c, v, r = np.array([1.0, 3.5]), np.array([4.0, 9.6]), np.array([2.0, 10.0])

    def by_scenario(producer: object, consumer: object) -> xr.DataArray:
        both = np.stack([np.broadcast_to(x, 2) for x in (producer, consumer)], axis=1)
        return xr.DataArray(both, dims=("scenario", "prosumer"), coords=labels).astype(float)

    labels = {"scenario": ["wet", "dry"], "prosumer": ["producer", "consumer"]}
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        labels["prosumer"],
        demand=[0, 1],
        demand_max=[0, 10],
        utility_quadratic=1.0,
        generation_max=[10, 0],
    )
    p2p.add_trades(n, "complete", capacity=10)
    n.add(
        "Generator",
        "x",
        bus="producer",
        p_nom_extendable=True,
        p_nom_max=10.0,
        p_min_pu=1.0,
        p_max_pu=1.0,
        marginal_cost_quadratic=11.5 / 2,
    )
    data = {
        "demand": by_scenario(0, v / r),
        "utility_quadratic": by_scenario(1, r / 2),
        "usage_benefit": by_scenario(0, v**2 / (2 * r)),
        "marginal_cost_quadratic": by_scenario(c / 2, 0),
    }
    p2p.set_scenarios(n, {"wet": 0.5, "dry": 0.5}, xr.Dataset(data))
    return n


def test_complete_market_of_gerard_leclere_philpott(route: str) -> None:
    """Their risked equilibrium with complete contracts, chi = 1/3: three parts in four are wet.

    Prices are money of the scenario, what it is worth now over the scenario's own price; over its
    probability they would be 1.871742 and 1.078184.
    """
    n, market = producer_and_consumer(), hedged(1 / 3)
    if route == "hook":
        n.optimize(extra_functionality=market, include_objective_constant=False)
    else:
        market.optimize(n)
    r = p2p.results(n)
    assert float(r["social_cost"]) == pytest.approx(-2.95736457, abs=1e-8)
    x = n.generators["p_nom_opt"].xs("x", level="name")
    np.testing.assert_allclose(x, 0.12825769, rtol=0, atol=1e-7)
    np.testing.assert_allclose(r["contract_price"], [0.75, 0.25], **TO_SIX_DIGITS)
    worth_now = n.buses_t.marginal_price.loc["now"].unstack("scenario")[["wet", "dry"]]
    prices = worth_now / r["contract_price"].to_numpy()
    for who in ("producer", "consumer"):
        np.testing.assert_allclose(prices.loc[who], [1.24782821, 2.15636896], **TO_SIX_DIGITS)


@pytest.mark.parametrize(
    ("market", "cost", "x", "prices"),
    [
        ("neutral", -3.17908792, 0.14555712, [1.236295, 2.111519]),
        ("hedged", -2.95736457, 0.12825769, [1.24782821, 2.15636896]),
    ],
)
def test_gerard_leclere_philpott_with_an_asset_decided_here_and_now(
    market: str, cost: float, x: float, prices: list[float], route: str
) -> None:
    """What is sold before the weather, of a plant that stands: the same as one that is built."""
    n = producer_and_consumer()
    static = n.c["Generator"].static
    plant = static.index.get_level_values("name") == "x"
    for column, value in {"p_nom_extendable": False, "p_nom": 10.0, "p_min_pu": 0.0}.items():
        static.loc[plant, column] = value
    of = p2p.PeerToPeerMarket() if market == "neutral" else hedged(1 / 3)
    of = replace(of, here_and_now=("x",))
    if route == "hook":
        n.optimize(extra_functionality=of, include_objective_constant=False)
    else:
        of.optimize(n)
    r = p2p.results(n)
    assert float(r["social_cost"]) == pytest.approx(cost, abs=1e-8)
    np.testing.assert_allclose(n.generators_t.p.T.xs("x", level="name"), x, rtol=0, atol=1e-7)
    np.testing.assert_allclose(r["nodal_price"][:, 0, 0], prices, rtol=0, atol=1e-6)
    assert p2p.certify(n).is_equilibrium()


def test_contract_prices_of_philpott_ferris_wets(route: str) -> None:
    """2016, ten equal scenarios, .8 of the expectation and .2 of CVaR at .9, the worst tenth.

    .8 x .1 = .08 in every scenario, and .2 more in the worst. As a CVaR of 1 - .2 it would be .5
    in each of the two worst.
    """
    costs = [4.0, 9.0, 1.0, 7.0, 10.0, 2.0, 6.0, 3.0, 8.0, 5.0]
    instance = twins(costs)
    _, r = solved(instance, hedged(0.9, weight=0.2), route)
    price = r["contract_price"].sel(scenario=instance.scenarios)
    expected = [0.28 if cost == max(costs) else 0.08 for cost in costs]
    np.testing.assert_allclose(price, expected, **TO_SIX_DIGITS)
