"""Agents play in units of their own: the same game, whatever the user's units are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.equilibrium.game.best_response import best_response, exploitability, multipliers
from pypsa_p2p.equilibrium.scaling import GameUnits, scaled, units_of
from pypsa_p2p.equilibrium.solving import Equilibrium, solve_equilibrium
from tests.equilibrium.test_best_response import game_of, random_point, two_prosumers
from tests.reference.instances import Array, Instance, money_scaled, network, random_instance

#: W and cents: how many of them a MW and a EUR are.
WATTS, CENTS = 1e6, 100.0


def in_watts_and_cents(instance: Instance) -> Instance:
    """The same market, its powers in W and its money in cents."""
    powers = (
        "demand", "demand_min", "demand_max", "generation_min", "generation_max", "renewable",
        "capacity",
    )  # fmt: skip
    prices, slopes = ("b", "price", "import_price"), ("a", "utility_quadratic", "congestion")
    changed = {name: WATTS * getattr(instance, name) for name in powers}
    changed |= {name: getattr(instance, name) / WATTS for name in prices}
    changed |= {name: getattr(instance, name) / WATTS**2 for name in slopes}
    return money_scaled(replace(instance, **changed), CENTS)


def played(
    instance: Instance, method: Any, *, risk: p2p.CVaR | None = None, **options: Any
) -> Equilibrium:
    market = p2p.PeerToPeerMarket(risk=risk)
    return solve_equilibrium(network(instance), market, method, progress=False, **options)


def bought(eq: Equilibrium) -> Array:
    return p2p.results(eq.n).quantity.transpose("scenario", "snapshot", "trade").to_numpy()


# --- the units ------------------------------------------------------------------------------


def test_units_by_hand() -> None:
    """Loads of 1 and 4 MW and 6 MW of sun: typically 4 MW. An hour.

    m and n have elastic demand of curvature 2 ã = 1 EUR/MW2h, 4 EUR/MWh at 4 MW, and no marginal
    cost but that; both generations are fixed at 0. b + p0 = 1 on both sides of the edge:
    typically 2.5 EUR/MWh, 10 EUR.
    """
    units = units_of(game_of(two_prosumers()))
    assert (units.power, units.hours) == (4.0, 1.0)
    assert units.hourly_price == pytest.approx(2.5)
    assert units.money == pytest.approx(10)
    assert units.curvature == pytest.approx(2.5 / 4)


def test_units_follow_the_users() -> None:
    instance = random_instance(3, 5, 3, 2, congestion=True)
    found, small = units_of(game_of(instance)), units_of(game_of(in_watts_and_cents(instance)))
    assert small.power == pytest.approx(WATTS * found.power)
    assert small.money == pytest.approx(CENTS * found.money)
    assert small.hours == found.hours


def test_without_loads_the_least_limits_are_typical() -> None:
    """m sells up to 1e9 MW over an edge of 5, n may take up to 8: not 1e9 MW but the least, 5."""
    game = game_of(two_prosumers())
    nothing, edge = np.zeros_like(game.load), np.full_like(game.price, 5.0)
    lower, upper = np.zeros_like(game.lower), np.zeros_like(game.upper)
    generators = game.generators.get_indexer(["p0 generation", "p1 elastic demand"])
    upper[..., generators[0]], lower[..., generators[1]] = 1e9, -8.0
    game = replace(game, load=nothing, lower=lower, upper=upper, capacity=edge)
    assert units_of(game).power == 5.0
    assert units_of(replace(game, capacity=0 * edge, upper=0 * upper)).power == 8.0


def test_a_market_of_nothing_has_units() -> None:
    base = two_prosumers()
    nothing = {name: 0 * getattr(base, name) for name in ("demand", "renewable", "capacity")}
    free = {name: 0 * getattr(base, name) for name in ("utility_quadratic", "price", "a")}
    units = units_of(game_of(replace(base, demand_max=np.zeros(2), **nothing, **free)))
    assert units == GameUnits()


# --- the game in them -----------------------------------------------------------------------


@pytest.mark.parametrize("congestion", [False, True])
def test_a_game_in_other_units_is_the_same_game(congestion: bool) -> None:
    """Costs but for constants, best responses and multipliers are those of the user's units."""
    game = game_of(random_instance(2, 5, 3, 2, congestion=congestion), risk=p2p.CVaR())
    units = GameUnits(power=3.7, money=0.02, hours=1.3)
    own, point = scaled(game, units), random_point(game, 1)
    costs = units.money * own.costs(point / units.power) + game.constants
    np.testing.assert_allclose(costs, game.costs(point), rtol=0, atol=1e-9)
    assert game.probability @ own.fixed_cost == pytest.approx(np.zeros(5), abs=1e-9)
    response, price = best_response(game, point)
    found, found_price = best_response(own, point / units.power)
    np.testing.assert_allclose(units.power * found, response, rtol=0, atol=1e-9)
    np.testing.assert_allclose(units.hourly_price * found_price, price, rtol=0, atol=1e-9)
    both = (multipliers(own, point / units.power), multipliers(game, point))
    for theirs, here in zip(*both, strict=True):
        np.testing.assert_allclose(units.hourly_price * theirs, here, rtol=0, atol=1e-9)


def test_constants_do_not_hide_a_gain() -> None:
    """1e9 EUR/h that nobody can change, and she still has as much to gain, relatively."""
    instance = random_instance(2, 4, 3, 2)
    dear = replace(instance, d=np.array([1e9, 0.0, 3e9, 1e9]))
    for risk in (None, p2p.CVaR()):
        game, same = (
            scaled(game, units_of(game))
            for game in (game_of(instance, risk=risk), game_of(dear, risk=risk))
        )
        point = random_point(game, 0)
        gain = exploitability(game, point)
        assert gain.max() > 1e-2
        np.testing.assert_allclose(exploitability(same, point), gain, rtol=0, atol=1e-12)


def test_a_rounding_is_no_reason_to_move() -> None:
    """p0 may buy at 0.3 from p1 and at 0.1 + 0.2 from p2: the same, in any units.

    Else she would take all from one or the other. She takes as much of both as is nearest to
    the nothing she has: half of her 2 MW each.
    """
    instance = three_around_one()
    for market, unit in ((instance, 1.0), (in_watts_and_cents(instance), WATTS)):
        game = game_of(market)
        own = scaled(game, units_of(game))
        offered = np.zeros_like(own.price)
        offered[..., own.edges :] = -5.0 * unit / units_of(game).power
        pieces = own.pieces.take(np.array([0]))
        found, _ = best_response(own, own.joined(np.zeros_like(own.lower), offered), pieces)
        power = units_of(game).power / unit
        assert power * found[0, 0, 0, pieces.trades[0]] == pytest.approx([1, 1])


def three_around_one() -> Instance:
    """p0 wants 2 MW whatever they cost and has none; p1 and p2 could sell them to her."""
    base = random_instance(0, 3, 1, 1)
    return replace(
        base,
        demand=np.array([2.0, 1.0, 1.0])[:, None, None],
        demand_min=np.array([2.0, 0.0, 0.0]),
        demand_max=np.full(3, 2.0),
        generation_max=np.array([0.0, 9.0, 9.0]),
        renewable=np.zeros((3, 1, 1)),
        edges=np.array([[0, 1], [0, 2]]),
        capacity=np.full(2, 5.0),
        price=np.array([0.3 - 0.2, 0.1, 0.1, 0.1]),
        congestion=np.zeros(2),
        import_price=np.full((1, 1, 3), 0.2),
    )


# --- runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "same"),
    [
        (p2p.ADMM(penalty=2.0), {"penalty": 2.0 * CENTS / WATTS**2}),
        (p2p.GaussSeidel(regularisation=0.5), {"regularisation": 0.5 * CENTS / WATTS**2}),
        (p2p.Jacobi(regularisation=0.5), {"regularisation": 0.5 * CENTS / WATTS**2}),
        (p2p.GaussSeidel(start="random", seed=2), {}),
    ],
)
def test_settings_are_in_the_users_units(method: Any, same: dict[str, float]) -> None:
    """The same in W and cents is the same run, and its history is in W and cents."""
    instance = random_instance(1, 4, 2, 2, congestion=True)
    eq = played(instance, method)
    small = played(in_watts_and_cents(instance), replace(method, **same))
    assert eq.converged and small.iterations == eq.iterations
    assert isinstance(small.method, type(method)) and small.method == replace(method, **same)
    for name, unit in {"social_cost": CENTS, "penalty": CENTS / WATTS**2, "residual": 1.0}.items():
        if name in eq.history:
            np.testing.assert_allclose(small.history[name], unit * eq.history[name], rtol=1e-6)
    np.testing.assert_allclose(bought(small) / WATTS, bought(eq), rtol=0, atol=1e-8)


def test_a_start_is_in_the_users_units() -> None:
    """Where best responses stop depends on it: an array of W starts as the same one of MW."""
    instance = random_instance(0, 4, 2, 2, congestion=True)
    start = bought(played(instance, p2p.GaussSeidel(start="random", seed=4))) / 2
    eq = played(instance, p2p.GaussSeidel(start=start))
    small = played(in_watts_and_cents(instance), p2p.GaussSeidel(start=WATTS * start))
    assert eq.converged and small.iterations == eq.iterations
    np.testing.assert_allclose(bought(small) / WATTS, bought(eq), rtol=0, atol=1e-8)
    assert np.abs(bought(eq) - bought(played(instance, p2p.GaussSeidel()))).max() > 1e-2


def test_a_warm_start_is_in_the_users_units() -> None:
    instance = in_watts_and_cents(random_instance(2, 4, 3, 1))
    cold = played(instance, p2p.ADMM(), risk=p2p.CVaR())
    again = played(instance, p2p.ADMM(), risk=p2p.CVaR(), warm_start=cold)
    assert again.converged and again.iterations < cold.iterations / 4


def test_the_default_penalty_suits_the_market() -> None:
    """A typical price over a typical power, so that W take as many iterations as MW."""
    instance = random_instance(1, 4, 3, 1, congestion=True)
    eq, small = played(instance, p2p.ADMM()), played(in_watts_and_cents(instance), p2p.ADMM())
    assert eq.converged and small.iterations == eq.iterations
    assert float(eq.history.penalty[0]) == pytest.approx(units_of(game_of(instance)).curvature)
