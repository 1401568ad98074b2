"""Sampled scenarios: the same for a seed, distributed and correlated as asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr
from scipy import stats

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import DataError
from pypsa_p2p.network.scenarios.copula import sample_copula
from pypsa_p2p.network.scenarios.sampling import draw_trade_prices, sample_scenarios


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
    with pytest.raises(DataError, match="number 0 must be a whole number of at least 1"):
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


WIND, LOAD, PRICE = ("renewable", "a"), ("demand", "a"), "import_price"
MARGINALS = {
    WIND: stats.beta(1.6, 3.0, scale=8.0),
    ("renewable", "b"): 0.0,
    LOAD: stats.norm(20.0, 3.0),
    ("demand", "b"): stats.uniform(1.0, 4.0),
    PRICE: [30.0, 10.0, 25.0, 70.0, 11.0],
}


def matrix(*entries: tuple[object, object, float]) -> pd.DataFrame:
    """A correlation matrix of the keys in its entries."""
    keys = list(dict.fromkeys(key for first, second, _ in entries for key in (first, second)))
    labels = pd.Index(keys, tupleize_cols=False)
    values = np.eye(len(keys))
    for first, second, r in entries:
        i, j = keys.index(first), keys.index(second)
        values[i, j] = values[j, i] = r
    return pd.DataFrame(values, index=labels, columns=labels)


PAIRS = [(WIND, PRICE, -0.7), (WIND, LOAD, 0.3), (LOAD, PRICE, 0.2)]
COUPLED = matrix(*PAIRS)


def drawn_copula(number: int = 4000, seed: int = 3) -> xr.Dataset:
    return sample_copula(MARGINALS, COUPLED, number=number, seed=seed)


def numbers(drawn: xr.Dataset, key: tuple[str, str] | str) -> np.ndarray:
    return (drawn[key] if isinstance(key, str) else drawn[key[0]].sel(prosumer=key[1])).values


def test_a_copula_keeps_its_marginals() -> None:
    """Kolmogorov-Smirnov, as above; samples come back with their own quantiles."""
    drawn = drawn_copula()
    for key in (WIND, LOAD, ("demand", "b")):
        assert stats.kstest(numbers(drawn, key), MARGINALS[key].cdf).statistic < 0.03
    assert (numbers(drawn, ("renewable", "b")) == 0.0).all()
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    expected = np.quantile(MARGINALS[PRICE], levels)
    np.testing.assert_allclose(np.quantile(numbers(drawn, PRICE), levels), expected, atol=2.0)
    assert numbers(drawn, PRICE).min() >= 10.0 and numbers(drawn, PRICE).max() <= 70.0


def test_a_copula_has_its_rank_correlations() -> None:
    """Spearman's rho is 6/pi arcsin(r/2), Kendall's tau 2/pi arcsin(r), whatever the marginals."""
    drawn = drawn_copula()
    for first, second, r in [*PAIRS, (LOAD, ("demand", "b"), 0.0)]:
        pair = numbers(drawn, first), numbers(drawn, second)
        rho, tau = stats.spearmanr(*pair).statistic, stats.kendalltau(*pair).statistic
        assert rho == pytest.approx(6 / np.pi * np.arcsin(r / 2), abs=0.05)
        assert tau == pytest.approx(2 / np.pi * np.arcsin(r), abs=0.04)


def test_perfect_correlation_is_a_function() -> None:
    """r = 1, a singular C: both numbers are the same quantile, u = z."""
    keys = {("demand", "a"): stats.uniform(), ("demand", "b"): stats.uniform(2.0, 10.0)}
    drawn = sample_copula(keys, matrix((*keys, 1.0)), number=50, seed=1)["demand"]
    np.testing.assert_allclose(drawn.sel(prosumer="b"), 2 + 10 * drawn.sel(prosumer="a"), atol=1e-6)
    assert float(drawn.sel(prosumer="a").std()) > 0.2


def test_a_copula_is_the_same_for_a_seed() -> None:
    xr.testing.assert_identical(drawn_copula(), drawn_copula())
    assert not np.allclose(numbers(drawn_copula(), LOAD), numbers(drawn_copula(seed=4), LOAD))
    for number in (1, 7):
        xr.testing.assert_allclose(
            drawn_copula(number), drawn_copula().isel(scenario=slice(number)), rtol=1e-12
        )


def test_what_the_matrix_leaves_out_does_not_change_the_rest() -> None:
    """The order of the matrix is of no effect; without one all is independent."""
    turned = COUPLED.iloc[::-1, [2, 0, 1]]
    xr.testing.assert_identical(
        sample_copula(MARGINALS, turned, number=9, seed=3), drawn_copula(number=9)
    )
    alone, eye = (
        sample_copula(MARGINALS, c, number=9, seed=3) for c in (None, matrix((WIND, PRICE, 0.0)))
    )
    xr.testing.assert_identical(alone, eye)


def test_a_history_gives_marginals_and_correlations() -> None:
    """A table's own columns and rank correlations, columns of everyone with the prosumer ""."""
    rng = np.random.default_rng(1)
    wind = rng.uniform(0, 5, 800)
    table = pd.DataFrame(
        {("renewable", "a"): wind, ("import_price", ""): 50 - wind + rng.normal(0, 2, 800)}
    )
    c = 2 * np.sin(np.pi / 6 * table.corr("spearman"))
    drawn = sample_copula(dict(table.items()), c, number=4000, seed=2)
    assert drawn["import_price"].dims == ("scenario",)
    rank = stats.spearmanr(numbers(drawn, WIND), numbers(drawn, PRICE)).statistic
    assert rank == pytest.approx(table.corr("spearman").iloc[0, 1], abs=0.04)


def test_a_network_takes_a_copula() -> None:
    drawn = drawn_copula(number=3)
    n = pypsa.Network()
    p2p.add_prosumers(n, ["a", "b"], demand=2.0, demand_max=60.0, utility_quadratic=1.0)
    p2p.set_scenarios(n, dict.fromkeys(drawn.scenario.values, 1 / 3), drawn)
    assert n.loads_t.p_set["2", "b demand"].item() == float(drawn["demand"].sel(prosumer="b")[2])


@pytest.mark.parametrize(
    ("marginals", "message"),
    [
        ({}, "mapping from"),
        ([1.0], "mapping from"),
        ({("demand", "a", "x"): 1.0}, "no key of marginals"),
        ({7: 1.0}, "7 is no key of marginals"),
        ({("demand", "a"): 1.0, "demand": 2.0}, "'demand' both by prosumer and for all"),
        ({("demand", "a"): 1.0, ("renewable", "b"): 1.0}, r"lacks \('demand', 'b'\)"),
        ({"demand": "much"}, "marginal of 'demand' is 'much'"),
        ({"demand": [1.0, np.nan]}, "'demand' needs samples"),
        ({"demand": []}, "'demand' needs samples"),
        ({"demand": stats.beta}, r"family.*as in stats.beta"),
        ({"demand": stats.poisson}, r"family.*as in stats.poisson"),
        ({"demand": stats.norm(0.0, -1.0)}, "'demand' gives quantiles that are no finite"),
    ],
)
def test_unusable_marginals_are_refused(marginals: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sample_copula(marginals, number=2, seed=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("correlation", "message"),
    [
        (np.eye(2), "must be a DataFrame"),
        (matrix((WIND, "temperature", 0.1)), "names 'temperature'"),
        (COUPLED.iloc[:2], "same keys, once each"),
        (COUPLED.iloc[[0, 0, 1], [0, 0, 1]], "same keys, once each"),
        (COUPLED * 2, "ones on its diagonal"),
        (COUPLED.where(np.tri(3, dtype=bool), 0.0), "must be symmetric"),
        (COUPLED * np.nan, "must be symmetric"),
        (matrix((WIND, PRICE, 0.9), (WIND, LOAD, 0.9), (LOAD, PRICE, -0.9)), "contradict"),
    ],
)
def test_unusable_correlations_are_refused(correlation: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sample_copula(MARGINALS, correlation, number=2, seed=1)  # type: ignore[arg-type]


def test_no_draw_is_refused() -> None:
    with pytest.raises(DataError, match="number 0 must be a whole number of at least 1"):
        sample_copula(MARGINALS, number=0, seed=1)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(DataError, match=r"seed .* must be a whole number of at least 0"):
        sample_copula(MARGINALS, number=2, seed=seed)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"seed .* must be a whole number of at least 0"):
        draw_trade_prices(
            [("a", "b")],
            rule="heterogeneous",
            seed=seed,  # type: ignore[arg-type]
            grid_connection="a",
        )
