"""What must hold of private reports in every market."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.studies.privacy.certificate import exploitability
from pypsa_p2p.studies.privacy.costs import cost_of_reports
from pypsa_p2p.studies.privacy.deviations import best_deviations, equilibrium_deviations
from pypsa_p2p.studies.privacy.price_noise import shared_noise
from pypsa_p2p.studies.privacy.reporting import drawn
from pypsa_p2p.studies.privacy.solving import _chosen
from pypsa_p2p.studies.privacy.truth import Truth, truth_of
from tests.by_hand.privacy import LOSS, MARKET, NAMES, four

REPORTS = p2p.PrivateReports(loss=LOSS, sensitivity=2.0, distance=0.15)
SEEDS = [0, 1]


@cache
def hourly(reverse: bool = False, megawatt: float = 1.0) -> pypsa.Network:
    """Two scenarios, three snapshots of unlike weights, unlike prices at the two ends of trades."""
    n = pypsa.Network(snapshots=pd.RangeIndex(3))
    n.snapshot_weightings["objective"] = [1.0, 2.0, 0.5]
    rng = np.random.default_rng(3)
    names = pd.Index(["a", "b", "c", "d", "e"])
    column = {
        "utility_quadratic": rng.uniform(0.4, 1.5, 5) / megawatt**2,
        "marginal_cost": rng.uniform(0.1, 2, 5) / megawatt,
        "marginal_cost_quadratic": rng.uniform(0.2, 0.6, 5) / megawatt**2,
        "usage_benefit": rng.uniform(0, 3, 5),
    }
    demand = pd.DataFrame(rng.uniform(5, 15, (3, 5)) * megawatt, n.snapshots, names)
    renewable = rng.uniform(0, 6, (2, 3, 5)) * megawatt
    cost = rng.uniform(0, 1, 5) / megawatt  # delta_n = cost_n - cost_0: no circle earns money
    order = names[::-1] if reverse else names
    p2p.add_prosumers(
        n,
        order,
        demand=demand[order],
        demand_min=-80 * megawatt,
        demand_max=100 * megawatt,
        generation_min=[-100 * megawatt, -100 * megawatt, -100 * megawatt, -100 * megawatt, 0]
        if not reverse
        else [0] + [-100 * megawatt] * 4,
        generation_max=[100 * megawatt] * 4 + [0] if not reverse else [0] + [100 * megawatt] * 4,
        **{name: pd.Series(values, names).reindex(order) for name, values in column.items()},
    )
    table = pd.DataFrame(np.repeat(cost[:, None], 5, axis=1), names, names)
    ring = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a")]
    p2p.add_trades(n, ring, capacity=1000 * megawatt, price=table)
    sun = xr.DataArray(
        renewable,
        coords={"scenario": ["dry", "wet"], "snapshot": n.snapshots, "prosumer": names},
    )
    p2p.set_scenarios(n, {"dry": 0.3, "wet": 0.7}, xr.Dataset({"renewable": sun}))
    return n


@cache
def truth(which: str = "four") -> Truth:
    return truth_of(four() if which == "four" else hourly(), MARKET)


@cache
def seen() -> xr.Dataset:
    """The equilibrium of the four whose reports everybody sees."""
    return p2p.solve_reports(four(), MARKET, REPORTS)


def of_hours(**options: object) -> p2p.PrivateReports:
    given = {"loss": [2.0, 3.0, 1.0, 4.0, 2.5], "sensitivity": 0.8, "distance": 0.2, **options}
    return p2p.PrivateReports(**given)


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_the_market_costs_what_the_closed_form_says(noise: str) -> None:
    """(P1) in scenarios and snapshots, with prices that differ between prosumers."""
    g = p2p.solve_reports(hourly(), MARKET, of_hours(noise=noise), samples=2)
    assert not g.attrs["local"]
    assert float(abs(g.beyond_formula).max()) < 1e-6
    assert float(abs(g.sampled_cost - g.truthful_cost).max()) > 1e-2
    prices = truth("hourly").price
    assert float(np.ptp(prices, axis=-1).max()) > 0.1


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_expectation_is_the_mean_of_many_draws(noise: str) -> None:
    """(P2) against 4e5 draws of (P1), within four standard errors."""
    reports = replace(REPORTS, noise=noise)
    g = p2p.solve_reports(four(), MARKET, reports)
    rng, count = np.random.default_rng(0), 400_000
    scale = np.sqrt(g.noise_variance.values[0, 0])
    law = rng.normal if noise == "gaussian" else rng.laplace
    width = scale if noise == "gaussian" else scale / np.sqrt(2)
    shift = (g.deviation.values[0, 0] + law(0.0, width, (count, 4)))[:, None]
    many = replace(truth(), weight=np.array(1 / count))
    np.testing.assert_allclose(cost_of_reports(many, shift), g.expected_cost, atol=0.06)


def test_draws_have_the_law_asked_for() -> None:
    """Mean beta, variance v, and the fourth moment, 3 v^2 or 6 v^2, which tells the laws apart."""
    for noise, fourth in (("gaussian", 3.0), ("laplace", 6.0)):
        g = p2p.solve_reports(four(), MARKET, replace(REPORTS, noise=noise))
        draws = np.array([drawn(g, truth().data, seed).values[0, 0] for seed in range(1500)])
        noise_part = draws - g.deviation.values[0, 0]
        v = g.noise_variance.values[0, 0]
        np.testing.assert_allclose(noise_part.mean(axis=0), 0.0, atol=0.25)
        np.testing.assert_allclose(noise_part.var(axis=0) / v, 1.0, atol=0.15)
        np.testing.assert_allclose((noise_part**4).mean() / (v**2).mean(), fourth, rtol=0.3)


@pytest.mark.parametrize("seed", SEEDS)
def test_deviations_are_unique(seed: int) -> None:
    """From any start best answers to the others, one after the other, come to the same."""
    rng, market = np.random.default_rng(seed), truth("hourly")
    distance = rng.uniform(0.05, 0.6, market.net_import.shape)
    found = equilibrium_deviations(market, distance)
    beta = rng.uniform(-5, 5, found.shape)
    w, total = market.noise_cost, market.total
    for _ in range(60):
        for who in range(beta.shape[-1]):
            others = beta.sum(axis=-1) - beta[..., who]
            slope = market.net_import[..., who] / total[..., 0]
            slope = slope - market.response[..., who] * others / total[..., 0] ** 2
            best = -slope / (2 * w[..., who])
            beta[..., who] = np.clip(best, -distance[..., who], distance[..., who])
    np.testing.assert_allclose(found, beta, atol=1e-9)
    grid = np.linspace(-4, 4, 81)
    crossing = [best_deviations(market, np.full_like(total, t), distance).sum(-1) - t for t in grid]
    assert (np.diff(crossing, axis=0) < 0).all()


@pytest.mark.parametrize(
    "options", [{}, {"noise": "laplace"}, {"observer": "price", "most_noise": 2}]
)
def test_nobody_gains_alone_and_who_errs_is_told(options: dict[str, object]) -> None:
    market, reports = truth("hourly"), of_hours(**options)
    chosen = _chosen(market, reports)
    assert np.abs(exploitability(market, chosen)).max() < 1e-9
    other = replace(chosen, deviation=chosen.deviation * 0.5)
    assert exploitability(market, other).max() > 1e-5
    louder = replace(chosen, variance=chosen.variance * 1.5)
    assert exploitability(market, louder).max() > 1e-2


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
@pytest.mark.parametrize("which", ["four", "hourly"])
def test_the_price_of_privacy_is_a_slope(noise: str, which: str) -> None:
    """mu_n = -dE J_n/dA_n, by finite differences."""
    n = four() if which == "four" else hourly()
    names = NAMES if which == "four" else list("abcde")
    base = dict(zip(names, [2.0, 3.0, 1.0, 4.0, 2.5], strict=False))
    at = {
        step: p2p.solve_reports(
            n,
            MARKET,
            p2p.PrivateReports(
                loss={who: loss + step for who, loss in base.items()}, sensitivity=1.0, noise=noise
            ),
        )
        for step in (-1e-4, 0.0, 1e-4)
    }
    slope = (at[-1e-4].by_noise - at[1e-4].by_noise) / 2e-4
    np.testing.assert_allclose(at[0.0].privacy_price, slope, rtol=1e-6)
    np.testing.assert_allclose(at[0.0].privacy_loss, list(base.values()), rtol=1e-9)


def test_the_price_of_shared_privacy_is_a_slope() -> None:
    """One price: what a unit more of variance behind the price costs, over hours and agents."""
    rng = np.random.default_rng(1)
    cost, most = rng.uniform(0.2, 2, (6, 4)), rng.uniform(3, 9, (6, 4))
    needed = np.full(6, 2.0)
    total = {x: (cost * shared_noise(cost, most, needed + x)[0]).sum() for x in (-1e-5, 1e-5)}
    variance, price = shared_noise(cost, most, needed)
    np.testing.assert_allclose(price, (total[1e-5] - total[-1e-5]) / 2e-5, rtol=1e-4)
    np.testing.assert_allclose((needed / variance.sum(axis=1)).sum(), 1.0, rtol=1e-12)
    unlimited, _ = shared_noise(cost, np.full_like(most, np.inf), needed)
    assert ((unlimited > 0).sum(axis=1) == 1).all()


def test_order_and_units_change_nothing() -> None:
    g = p2p.solve_reports(hourly(), MARKET, of_hours(loss=2.0))
    other = p2p.solve_reports(hourly(reverse=True), MARKET, of_hours(loss=2.0))
    kilowatt = of_hours(loss=2.0, sensitivity=800.0, distance=200.0)
    small = p2p.solve_reports(hourly(megawatt=1000.0), MARKET, kilowatt)
    for name in ("deviation", "noise_variance", "expected_cost", "privacy_price"):
        np.testing.assert_allclose(other[name].sel(prosumer=g.prosumer), g[name], atol=1e-6)
    np.testing.assert_allclose(small.deviation / 1e3, g.deviation, atol=1e-6)
    np.testing.assert_allclose(small.expected_cost, g.expected_cost, rtol=1e-6)
    np.testing.assert_allclose(small.privacy_price, g.privacy_price, rtol=1e-6)


def test_a_planner_hears_the_same() -> None:
    """Without congestion both designs have the same prices."""
    planner = p2p.CentralizedMarket(surplus=False)
    xr.testing.assert_allclose(p2p.solve_reports(four(), planner, REPORTS), seen())


def test_more_privacy_costs_more_and_the_truth_nothing() -> None:
    truthful = p2p.PrivateReports(loss=np.inf, sensitivity=2.0, distance=0.0)
    g = p2p.solve_reports(four(), MARKET, truthful)
    np.testing.assert_allclose(g.expected_cost, g.truthful_cost)
    m = p2p.report(four(), g)
    np.testing.assert_array_equal(m.loads.p_set, four().loads.p_set)


def test_the_network_stays_as_it_is() -> None:
    n = four()
    before = {c.name: c.static.copy() for c in n.components if len(c.static)}
    g = p2p.solve_reports(n, MARKET, REPORTS)
    p2p.report(n, g, seed=1)
    for name, static in before.items():
        pd.testing.assert_frame_equal(n.c[name].static, static)
    assert "p2p" not in n.meta


def _edit(column: str, value: object, component: str = "links") -> Callable[[pypsa.Network], None]:
    def edit(n: pypsa.Network) -> None:
        getattr(n, component)[column] = value

    return edit


def _storage(n: pypsa.Network) -> None:
    n.add("StorageUnit", "battery", bus="w", p_nom=1.0, max_hours=2.0)


def _linear(n: pypsa.Network) -> None:
    n.add("Generator", "diesel", bus="x", p_nom=50.0, marginal_cost=3.0)


def _island(n: pypsa.Network) -> None:
    n.remove(
        "Link", [name for name in n.links.index if "z" in (n.links.bus0[name], n.links.bus1[name])]
    )


def _inelastic(n: pypsa.Network) -> None:
    n.remove("Generator", "y elastic demand")


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        (_edit("congestion", 0.1), "congestion > 0"),
        (_edit("fee0", 0.1), "fees"),
        (_edit("p_nom", 1.0), "capacity"),
        (lambda n: p2p.add_retail(n, import_price=9.0, export_price=1.0), "retail"),
        (_edit("decided", "day-ahead"), "day ahead"),
        (_storage, "'battery'"),
        (_linear, "'diesel'"),
        (_island, "'z'"),
        (_inelastic, "'y'"),
        (_edit("p_nom_extendable", True, "generators"), "capacities are given"),
        (_edit("ramp_limit_up", 0.5, "generators"), "ramp_limit_up"),
    ],
    ids=["congestion", "fee", "capacity", "retail", "ahead", "storage", "linear", "island",
         "inelastic", "investment", "ramps"],
)  # fmt: skip
def test_networks_without_a_closed_form(edit: Callable[[pypsa.Network], None], names: str) -> None:
    n = four()
    edit(n)
    with pytest.raises(p2p.P2PError, match=names):
        p2p.solve_reports(n, MARKET, REPORTS)


@pytest.mark.parametrize(
    ("market", "names"),
    [
        (p2p.PeerToPeerMarket(), "surplus=True"),
        (p2p.PeerToPeerMarket(surplus=False, risk=p2p.CVaR()), "risk="),
        (
            p2p.PeerToPeerMarket(surplus=False, risk=p2p.CVaR(), contracts=p2p.Contracts()),
            "contracts",
        ),
        (p2p.PeerToPeerMarket(surplus=False, delivery="grid"), "delivery='grid'"),
        (p2p.PeerToPeerMarket(surplus=False, here_and_now=("w generation",)), "here_and_now="),
        (
            p2p.PeerToPeerMarket(surplus=False, equilibrium="generalized", weights=[1, 2, 1, 1]),
            "weights",
        ),
    ],
    ids=["surplus", "risk", "contracts", "grid", "ahead", "weights"],
)
def test_designs_without_a_closed_form(market: p2p.Market, names: str) -> None:
    with pytest.raises(p2p.MarketError, match=names):
        p2p.solve_reports(four(), market, REPORTS)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"loss": 0.0}, "loss"),
        ({"sensitivity": -1.0}, "sensitivity"),
        ({"distance": [0.1, -0.1, 0, 0]}, "distance"),
        ({"noise": "uniform"}, "noise"),
        ({"observer": "nobody"}, "observer"),
        ({"observer": "price", "noise": "laplace"}, "Laplace"),
        ({"most_noise": 1.0}, "most_noise"),
        ({"loss": None}, "loss"),
    ],
    ids=str,
)
def test_options_that_cannot_be(options: dict[str, object], names: str) -> None:
    with pytest.raises(p2p.MarketError, match=names):
        p2p.PrivateReports(**{"loss": 1.0, "sensitivity": 1.0, **options})


def test_too_little_noise_to_hide_behind() -> None:
    reports = replace(REPORTS, observer="price", most_noise=0.5)
    with pytest.raises(p2p.MarketError, match="most_noise"):
        p2p.solve_reports(four(), MARKET, reports)


def test_settle_refuses_another_network() -> None:
    n, m = four(), four(utility_quadratic=[0.5, 0.8, 0.4, 2])
    MARKET.optimize(m)
    with pytest.raises(p2p.DataError, match="marginal_cost_quadratic"):
        p2p.settle(n, m)
    with pytest.raises(p2p.MarketError, match="buy"):
        p2p.settle(n, m, buy=1.0)


def test_settle_of_true_reports_is_settle() -> None:
    n, m = four(), four()
    MARKET.optimize(m)
    of_both, alone = p2p.settle(n, m), p2p.settle(m)
    xr.testing.assert_allclose(of_both[list(alone)], alone)
    np.testing.assert_allclose(of_both.cost, p2p.results(m).cost)


def test_reports_of_another_network() -> None:
    g = seen()
    with pytest.raises(p2p.DataError, match="other labels"):
        p2p.report(hourly(), g)


def test_a_result_survives_netcdf(tmp_path: object) -> None:
    g = seen()
    g.to_netcdf(f"{tmp_path}/g.nc")
    with xr.open_dataset(f"{tmp_path}/g.nc") as again:
        assert again.attrs["local"] == 0
        np.testing.assert_allclose(again.expected_cost, g.expected_cost)


def test_a_farm_without_demand_has_nothing_to_report() -> None:
    """She responds by her generator alone; her noise costs nobody, and no price hides behind it."""
    n = four(
        demand=[12, 10, 14, 0],
        demand_min=[-60, -60, -60, 0],
        demand_max=[80, 80, 80, 0],
        utility_quadratic=[0.5, 0.8, 0.4, 0],
    )
    for observer in ("reports", "price"):
        g = p2p.solve_reports(n, MARKET, replace(REPORTS, observer=observer), samples=1)
        farm = g.sel(prosumer="z")
        assert not g.attrs["local"]
        assert farm.deviation.item() == 0.0
        assert farm.by_noise.item() == 0.0
        assert float(abs(g.beyond_formula).max()) < 1e-6
        assert float(abs(g.exploitability).max()) < 1e-9
    assert farm.noise_variance.item() == 0.0


def test_demand_at_a_limit_in_some_hours() -> None:
    """Noise would cost nothing there, and none is best; who needs none there is heard."""
    snapshots = pd.RangeIndex(2)
    most = pd.DataFrame({who: [80.0, 6.0 if who == "x" else 80.0] for who in NAMES}, snapshots)
    n = four(snapshots=snapshots, demand_max=most)
    with pytest.raises(p2p.MarketError, match="'x' is at a limit in some hours"):
        p2p.solve_reports(n, MARKET, REPORTS)
    far = pd.DataFrame({who: [2.0, 0.0 if who == "x" else 2.0] for who in NAMES}, snapshots)
    g = p2p.solve_reports(n, MARKET, replace(REPORTS, sensitivity=far))
    assert g.attrs["local"]
    assert float(abs(g.exploitability).max()) < 1e-9
    np.testing.assert_allclose(g.privacy_loss, LOSS)


def test_everybody_at_limits() -> None:
    n = four(
        demand_max=4, demand_min=0, renewable=1.0, generation_max=[50, 0, 0, 0], generation_min=0
    )
    with pytest.raises(p2p.MarketError, match="Fewer than two"):
        p2p.solve_reports(n, MARKET, REPORTS)
