"""Sampled scenarios: the same for a seed, within their bounds, correlated as asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from pypsa_p2p.errors import DataError
from pypsa_p2p.sampling import draw_trade_prices, sample_scenarios


def prosumers() -> pd.DataFrame:
    """Two wind parks, a solar plant and one prosumer with neither."""
    return pd.DataFrame(
        {
            "demand": [10.0, 20.0, 40.0, 5.0],
            "demand_min": [8.0, 18.5, 20.0, 1.0],
            "demand_max": [12.0, 21.0, 60.0, 9.0],
            "renewable_capacity": [8.0, 0.0, 4.0, 6.0],
            "renewable_kind": ["wind", "", "wind", "solar"],
        },
        index=["a", "b", "c", "d"],
    )


def many(**options: object) -> xr.Dataset:
    return sample_scenarios(prosumers(), number=4000, seed=3, **options)


def test_same_seed_same_scenarios() -> None:
    xr.testing.assert_identical(many(), many())


def test_another_seed_gives_other_scenarios() -> None:
    other = sample_scenarios(prosumers(), number=4000, seed=4)
    assert not np.allclose(many()["demand"], other["demand"])


def test_first_scenarios_stay_when_there_are_more() -> None:
    few = sample_scenarios(prosumers(), number=5, seed=3)
    xr.testing.assert_identical(few, many().isel(scenario=slice(5)))


def test_draws_stay_within_their_bounds() -> None:
    table, drawn = prosumers(), many()
    assert (drawn["demand"].min("scenario").values >= table["demand_min"]).all()
    assert (drawn["demand"].max("scenario").values <= table["demand_max"]).all()
    assert (drawn["renewable"].min("scenario").values >= 0.0).all()
    assert (drawn["renewable"].max("scenario").values <= table["renewable_capacity"]).all()
    assert (drawn["renewable"].sel(prosumer="b") == 0.0).all()


def test_marginals_are_the_stated_distributions() -> None:
    """Kolmogorov-Smirnov: a distance above 0.03 would have probability 1e-3 with 4000 draws."""
    drawn = many()
    factor = drawn["renewable"].sel(prosumer="a").values / 8.0
    assert stats.kstest(factor, stats.beta(1.6, 3.0).cdf).statistic < 0.03
    wide = drawn["demand"].sel(prosumer="c").values  # limits five deviations away
    assert stats.kstest(wide, stats.norm(40.0, 4.0).cdf).statistic < 0.03


def test_a_tight_limit_moves_the_mean_of_demand() -> None:
    """Demand of b may fall by 1.5 MW and rise by 1 MW around 20: its mean is below 20."""
    cut = stats.truncnorm(-0.75, 0.5, loc=20.0, scale=2.0).mean()
    assert cut < 19.9
    mean = float(many()["demand"].sel(prosumer="b").mean())
    assert mean == pytest.approx(cut, abs=0.05)


def rank_correlation(drawn: xr.Dataset, first: tuple[str, str], second: tuple[str, str]) -> float:
    one, other = (drawn[kind].sel(prosumer=name).values for kind, name in (first, second))
    return float(stats.spearmanr(one, other).statistic)


def test_correlations_are_the_stated_ones() -> None:
    """Spearman's rho of a Gaussian copula is 6/pi arcsin(r/2)."""
    drawn = many(correlation={"demand": 0.6, "wind": 0.8, "wind-demand": -0.4})
    expected = {
        (("demand", "a"), ("demand", "b")): 0.6,
        (("renewable", "a"), ("renewable", "c")): 0.8,
        (("demand", "b"), ("renewable", "c")): -0.4,
        (("renewable", "a"), ("renewable", "d")): 0.0,
    }
    for pair, r in expected.items():
        assert rank_correlation(drawn, *pair) == pytest.approx(
            6 / np.pi * np.arcsin(r / 2), abs=0.05
        )


def test_capacity_factor_can_be_changed_and_added() -> None:
    table = prosumers().replace({"renewable_kind": {"solar": "tidal"}})
    drawn = sample_scenarios(table, number=4000, seed=3, capacity_factor={"tidal": (30.0, 10.0)})
    assert float(drawn["renewable"].sel(prosumer="d").mean()) == pytest.approx(6 * 0.75, abs=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"renewable_kind": ["wind", "", "tidal", "solar"]}, "renewable_kind of 'c'"),
        ({"demand": [13.0, 20.0, 40.0, 5.0]}, "demand of 'a'"),
        ({"demand": [10.0, 20.0, 40.0, 0.0], "demand_min": 0.0}, "demand of 'd'"),
    ],
)
def test_unusable_tables_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sample_scenarios(prosumers().assign(**change), number=2, seed=1)


def test_unusable_options_are_refused() -> None:
    with pytest.raises(DataError, match="'demand_max'"):
        sample_scenarios(prosumers().drop(columns="demand_max"), number=2, seed=1)
    with pytest.raises(DataError, match="at least one scenario"):
        sample_scenarios(prosumers(), number=0, seed=1)
    with pytest.raises(DataError, match="contradict"):
        sample_scenarios(prosumers(), number=2, seed=1, correlation={"demand": -0.5})


EDGES = [("P1", "P2"), ("P2", "P3"), ("P3", "P1")] * 50


def test_uniform_prices_are_one() -> None:
    drawn = draw_trade_prices(EDGES, rule="uniform", seed=1, grid_connection="P1")
    assert (drawn == 1.0).all(axis=None)


def test_heterogeneous_prices_follow_the_paper() -> None:
    drawn = draw_trade_prices(EDGES, rule="heterogeneous", seed=1, grid_connection="P1")
    connected, between, last = drawn.iloc[0::3], drawn.iloc[1::3], drawn.iloc[2::3]
    assert (connected["price0"] == 1.0).all() and (last["price1"] == 1.0).all()
    for from_grid in (connected["price1"], last["price0"]):
        assert from_grid.between(1.0, 2.0).all() and from_grid.std() > 0.2
    assert between.min(axis=None) >= 0.0 and between.max(axis=None) <= 1.0
    assert not np.allclose(between["price0"], between["price1"])


def test_unknown_rule_of_prices_is_refused() -> None:
    with pytest.raises(DataError, match="'flat'"):
        draw_trade_prices(EDGES, rule="flat", seed=1, grid_connection="P1")
