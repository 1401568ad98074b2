"""Private reports: numbers of an independent program, for four prosumers whose limits never bind.

Their curvatures, costs and targets give B_n = (2.666667, 3.125, 2.361111, 2.5), B = 10.652778, and
at the truth prices of 3.859713168 EUR/MWh.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.studies.privacy.costs import cost_of_deviations, cost_of_reports
from pypsa_p2p.studies.privacy.noise import gaussian_noise, laplace_noise
from pypsa_p2p.studies.privacy.reporting import with_reports
from pypsa_p2p.studies.privacy.truth import Truth, truth_of
from tests.by_hand.privacy import LOSS, MARKET, NAMES, four

TRUE_COST = [22.946902, 10.312682, 34.985364, 1.698489]
NET_IMPORT = [1.040765, -2.811604, 5.220122, -3.449283]
SHIFT = [0.189, -0.198, 0.961, 0.157]


@cache
def seen() -> xr.Dataset:
    """The equilibrium of the four whose reports everybody sees."""
    return solved(four(), distance=0.15)


def solved(n: pypsa.Network, **options: object) -> xr.Dataset:
    """The equilibrium of reports, with the bounds used throughout."""
    given = {"loss": LOSS, "sensitivity": 2.0, **options}
    return p2p.solve_reports(n, MARKET, p2p.PrivateReports(**given))


@cache
def true_market() -> Truth:
    """Of the four."""
    return truth_of(four(), MARKET)


def test_the_truth_and_how_it_responds() -> None:
    truth = true_market()
    np.testing.assert_allclose(truth.response[0, 0], [2.666667, 3.125, 2.361111, 2.5], atol=1e-6)
    np.testing.assert_allclose(truth.total, 10.652778, atol=1e-6)
    np.testing.assert_allclose(truth.price, 3.859713168, atol=1e-7)
    np.testing.assert_allclose(truth.net_import[0, 0], NET_IMPORT, atol=1e-6)
    np.testing.assert_allclose(truth.cost, TRUE_COST, atol=1e-6)
    np.testing.assert_allclose(
        truth.noise_cost[0, 0], [0.488251, 0.786231, 0.389597, 0.988985], atol=1e-6
    )
    assert not truth.local


def test_the_price_is_linear_in_the_sum_of_reports() -> None:
    """lambda = (sum y + sum b/a - sum B delta)/B, here with b = 1 of every trade and delta = 0.

    y = 11, 8, 14, 6 MW and b/a = 1/3, 1.25, 1/3, .2: (39 + 2.116667)/10.652778 = 3.859713.
    """
    lambda_0 = (39 + 0.2 / 0.6 + 0.5 / 0.4 + 0.3 / 0.9 + 0.1 / 0.5) / true_market().total
    np.testing.assert_allclose(lambda_0, 3.859713168, atol=1e-7)


def test_what_a_report_costs_in_the_market_itself() -> None:
    """(P1): known reports, the market solved on them, and costs at the true targets."""
    n = four()
    data = true_market().data
    drawn = np.random.default_rng(0).normal(0, 1.5, 4)
    np.testing.assert_allclose(drawn, SHIFT, atol=5e-4)
    shift = xr.DataArray(
        drawn[None, None],
        coords={"scenario": data.scenarios, "snapshot": data.snapshots, "prosumer": data.prosumers},
    )
    m = with_reports(n, data, shift)
    MARKET.optimize(m)
    np.testing.assert_allclose(p2p.results(m).nodal_price, 3.96376323, atol=1e-7)
    cost = p2p.settle(n, m).net_cost.isel(scenario=0)
    np.testing.assert_allclose(cost, [23.0585421, 10.0346308, 35.8848638, 1.3508174], atol=1e-6)
    as_reported = p2p.results(m).net_cost.isel(scenario=0)
    assert abs(as_reported - cost).max() > 0.1  # what a bug would give: utility at the report


def test_deviations_without_bounds() -> None:
    g = solved(four(), loss=np.inf)
    np.testing.assert_allclose(
        g.deviation[0, 0], [-0.107467, 0.157803, -0.623342, 0.157317], atol=1e-6
    )
    np.testing.assert_allclose(g.deviation.sum(), -0.415689, atol=1e-6)
    np.testing.assert_allclose(
        g.by_deviation, [-0.036868, 0.127256, -0.050073, 0.157442], atol=1e-6
    )
    np.testing.assert_allclose(g.social_cost - g.truthful_social_cost, 0.197756, atol=1e-6)
    assert float(abs(g.noise_variance).max()) == 0.0
    assert float(abs(g.distance_price).max()) == 0.0


def test_deviations_within_bounds() -> None:
    g = solved(four(), loss=np.inf, distance=0.15)
    np.testing.assert_allclose(g.deviation[0, 0], [-0.096440, 0.15, -0.15, 0.15], atol=1e-6)
    np.testing.assert_allclose(g.by_deviation, [0.009849, 0.003824, 0.035216, 0.005126], atol=1e-6)
    np.testing.assert_allclose(g.by_deviation.sum(), 0.054016, atol=1e-6)
    assert (g.distance_price[0, 0].values > 0).tolist() == [False, True, True, True]


def test_noise_that_everybody_sees() -> None:
    g = seen()
    np.testing.assert_allclose(g.noise_variance[0, 0], [4, 2, 4, 1], atol=1e-9)
    np.testing.assert_allclose(g.privacy_loss, LOSS, atol=1e-12)
    np.testing.assert_allclose(g.privacy_price, [3.906005, 1.572463, 3.116776, 0.494493], atol=1e-6)
    np.testing.assert_allclose(g.by_noise, [1.953003, 1.572463, 1.558388, 0.988985], atol=1e-6)
    np.testing.assert_allclose(
        g.from_others, [-0.082245, -0.123919, -0.072821, -0.110150], atol=1e-6
    )
    np.testing.assert_allclose(
        g.expected_cost, [24.827508, 11.765050, 36.506146, 2.582451], atol=1e-6
    )
    np.testing.assert_allclose(g.social_cost - g.truthful_social_cost, 5.737718, atol=1e-6)
    np.testing.assert_allclose(g.price_variance, 0.096932, atol=1e-6)


def test_social_cost_of_privacy() -> None:
    """(P3): sum of a~ (beta^2 + v) less (T^2 + sum v)/(2 B)."""
    g = seen()
    beta, v = g.deviation.values.ravel(), g.noise_variance.values.ravel()
    curvature = np.array([0.5, 0.8, 0.4, 1.0])
    total = true_market().total.item()
    expected = curvature @ (beta**2 + v) - (beta.sum() ** 2 + v.sum()) / (2 * total)
    np.testing.assert_allclose(g.social_cost - g.truthful_social_cost, expected, atol=1e-9)


def test_noise_behind_the_price() -> None:
    """V = 7 = 2^2/(2 * 2/7): the cheapest, the third, is full at 4, the first adds 3."""
    g = solved(four(), loss=2 / 7, observer="price", most_noise=4.0)
    np.testing.assert_allclose(g.noise_variance[0, 0], [3, 0, 4, 0], atol=1e-9)
    np.testing.assert_allclose(g.privacy_price, 0.488251, atol=1e-6)
    np.testing.assert_allclose(g.privacy_loss, 2 / 7, atol=1e-12)


def test_one_loss_over_three_hours() -> None:
    """w = (.5, .8, .3), as hours of the first prosumer count; losses add up to A."""
    hours = np.array([0.5, 0.8, 0.3]) / 0.4882506729
    snapshots = pd.RangeIndex(3)
    n = four(snapshots=snapshots)
    n.snapshot_weightings["objective"] = hours
    far = pd.DataFrame(np.repeat([[2.0], [1.0], [3.0]], 4, axis=1), snapshots, NAMES)
    g = solved(n, loss=1.5, sensitivity=far, distance=0.0)
    first = g.sel(prosumer="w")
    np.testing.assert_allclose(first.noise_variance[0], [3.725801, 1.472752, 7.214982], atol=1e-6)
    np.testing.assert_allclose(first.privacy_price, 3.470398, atol=1e-6)
    np.testing.assert_allclose(first.by_noise, 5.205597, atol=1e-6)
    np.testing.assert_allclose(g.privacy_loss, 1.5, atol=1e-12)


def test_noise_of_two_laws() -> None:
    """A = .367879 = 1 + e^-1 - 1, Delta = 2: Gaussian variance 5.436564, Laplace 8."""
    w, far, loss = np.array([[0.5]]), np.array([[2.0]]), np.exp([-1.0])
    np.testing.assert_allclose(gaussian_noise(w, far, loss)[0], 5.436564, atol=1e-6)
    variance, price = laplace_noise(w, far, loss)
    np.testing.assert_allclose(variance, 8.0, atol=1e-9)
    np.testing.assert_allclose(price, 12.655814, atol=1e-6)


def test_a_demand_at_its_limit_says_nothing() -> None:
    """The second may use 6 MW at most, at any price: B_2 = 1/a alone, and nobody hears her."""
    n = four(demand_max=[80, 6, 80, 80])
    truth = truth_of(n, MARKET)
    assert truth.local
    np.testing.assert_allclose(truth.response[0, 0], [2.666667, 2.5, 2.361111, 2.5], atol=1e-6)
    g = solved(n, distance=0.15)
    assert g.attrs["local"]
    second = g.sel(prosumer="x")
    assert second.deviation.item() == 0.0
    assert second.privacy_price.item() == 0.0
    np.testing.assert_allclose(second.noise_variance, 2.0)
    few = solved(n, loss=200.0, distance=0.01)
    shift = few.deviation + 0.1
    m = with_reports(n, truth.data, shift)
    MARKET.optimize(m)
    cost = p2p.settle(n, m).net_cost.isel(scenario=0)
    np.testing.assert_allclose(cost, cost_of_reports(truth, shift.values), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_nobody_gains_by_deciding_anew(seed: int) -> None:
    """Best responses by brute force: (P2) at other deviations and other noise is no cheaper."""
    n, rng = four(), np.random.default_rng(seed)
    distance = rng.uniform(0.05, 0.5, 4)
    g = solved(n, distance=distance)
    truth, found = true_market(), g.deviation.values
    for who in range(4):
        for other in np.linspace(-distance[who], distance[who], 201):
            trial = found.copy()
            trial[0, 0, who] = other
            saved = cost_of_deviations(truth, found) - cost_of_deviations(truth, trial)
            assert saved[who] < 1e-9
    assert float(abs(g.exploitability).max()) < 1e-9
