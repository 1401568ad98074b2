"""The closed-form best response against a general solver, and its numbers by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.equilibrium.game.best_response import best_response, dispatch, gains, multipliers
from pypsa_p2p.equilibrium.game.game import Game, read_game
from pypsa_p2p.equilibrium.game.knapsack import Knapsack, solve_knapsacks
from pypsa_p2p.equilibrium.starts import feasible_start, random_trades
from pypsa_p2p.network.reading import read_market
from tests.reference.best_response import exploitability as reference_exploitability
from tests.reference.instances import Array, Instance, network, random_instance


def game_of(instance: Instance, **options: object) -> Game:
    n = network(instance)
    return read_game(n, p2p.PeerToPeerMarket(**options), read_market(n))


def random_point(game: Game, seed: int) -> Array:
    return feasible_start(game, random_trades(game, np.zeros_like(game.price), seed))


# --- the knapsack ---------------------------------------------------------------------------


def test_knapsack_by_hand() -> None:
    """min 1/2 x^2 + (y^2 - 4 y), x + y = 3, 0 <= x, y <= 2: x = y's marginal 2y - 4 has no
    solution inside y <= 2 (x = 2/3 would need y = 7/3), so y = 2, x = 1 and the price is x = 1."""
    x, price = solve_knapsacks(
        Knapsack(*(np.array(v, float) for v in ([1, 2], [0, -4], [0, 0], [2, 2])), np.array(3.0))
    )
    assert x == pytest.approx([1, 2], abs=1e-15)
    assert price == pytest.approx(1)


def test_knapsack_jumps_where_costs_are_linear() -> None:
    """Costs 1, 2 and 2 per unit, limits 0..1 each, total 1.5: the first is full, the other two
    share 0.5 in proportion, or as near as possible to (0.4, 0): (0.45, 0.05)."""
    problem = Knapsack(
        np.zeros(3), np.array([1.0, 2.0, 2.0]), np.zeros(3), np.ones(3), np.array(1.5)
    )
    x, price = solve_knapsacks(problem)
    assert x == pytest.approx([1, 0.25, 0.25])
    assert price == pytest.approx(2)
    x, price = solve_knapsacks(problem, near=np.array([0.0, 0.4, 0.0]))
    assert x == pytest.approx([1, 0.45, 0.05])


@pytest.mark.parametrize("linear", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_knapsack_is_optimal(pieces: int, linear: float) -> None:
    """Marginal cost is the price inside the limits, not below it at l, not above it at u."""
    rng = np.random.default_rng(pieces)
    shape = (40, 5, pieces)
    h = rng.uniform(0.1, 2.0, shape) * (rng.random(shape) >= linear)
    c = np.round(rng.normal(size=shape), 1)
    lower = rng.normal(size=shape)
    upper = lower + rng.uniform(0.0, 3.0, shape) * (rng.random(shape) > 0.2)
    share = rng.uniform(0.0, 1.0, shape[:-1])
    total = (1 - share) * lower.sum(axis=-1) + share * upper.sum(axis=-1)
    near = rng.normal(size=shape)
    x, price = solve_knapsacks(Knapsack(h, c, lower, upper, total), near=near)
    slope = h * x + c - price[..., None]
    assert x.sum(axis=-1) == pytest.approx(total, abs=1e-12)
    assert (x >= lower - 1e-13).all() and (x <= upper + 1e-13).all()
    assert (slope[x > lower + 1e-12] <= 1e-12).all()
    assert (slope[x < upper - 1e-12] >= -1e-12).all()


def test_limits_far_away_leave_no_rounding() -> None:
    """Limits of 1e9 that do not bind, so that kinks are far away: the same x as with 10."""
    rng = np.random.default_rng(0)
    h, c = rng.uniform(0.1, 2.0, (40, 5)), rng.normal(size=(40, 5))
    total = rng.normal(size=40)
    wide = np.full_like(h, 10.0)
    wanted, wanted_price = solve_knapsacks(Knapsack(h, c, -wide, wide, total))
    x, price = solve_knapsacks(Knapsack(h, c, -1e8 * wide, 1e8 * wide, total))
    np.testing.assert_allclose(x, wanted, rtol=0, atol=1e-13)
    np.testing.assert_allclose(price, wanted_price, rtol=0, atol=1e-13)


# --- against a general solver ---------------------------------------------------------------


@pytest.mark.parametrize("congestion", [False, True])
@pytest.mark.parametrize("risk", [None, p2p.CVaR(), p2p.CVaR(weight=0.6)])
@pytest.mark.parametrize("surplus", [True, False])
def test_exploitability_is_that_of_each_agents_own_problem(
    congestion: bool, risk: p2p.CVaR | None, surplus: bool
) -> None:
    """Her CVaR problem, solved as a cone program, gains what the scenario-wise minimum gains."""
    for seed in range(2):
        instance = random_instance(seed, 4, 3, 2, congestion=congestion)
        game = game_of(instance, risk=risk, surplus=surplus)
        point = random_point(game, seed)
        costs = game.costs(point)
        held, _ = game.risk_adjusted(costs)
        _, quantity = game.parted(point)
        wanted = reference_exploitability(
            instance,
            np.empty(0),
            np.empty(0),
            quantity,
            costs.T,
            None if risk is None else ("CVaR", None, risk.weight),
            surplus,
        )
        gain = gains(game, point, held)
        assert gain == pytest.approx(wanted, abs=1e-7)
        if surplus:
            assert gain.max() > 1e-2  # the point is no equilibrium: there is something to find


def test_costs_are_those_of_results() -> None:
    instance = random_instance(3, 5, 3, 2, congestion=True)
    n = network(instance)
    market = p2p.PeerToPeerMarket()
    market.optimize(n)
    r = p2p.results(n)
    game = read_game(n, market, read_market(n))
    quantity = r.quantity.transpose("scenario", "snapshot", "trade").to_numpy()
    point = dispatch(game, game.joined(np.zeros_like(game.lower), quantity))
    assert game.costs(point) == pytest.approx(r.cost.transpose("scenario", "prosumer").to_numpy())


def test_linear_costs_are_best_responses_too() -> None:
    """a = 0 in generation and trades: a jump of the supply curve, exact all the same."""
    instance = random_instance(1, 4, 2, 1)
    instance = replace(instance, a=np.zeros(4))
    game = game_of(instance)
    point = random_point(game, 0)
    response, _ = best_response(game, point)
    own = game.pieces.costs(response, game.pieces.facing(point))
    costs = game.costs(point)
    wanted = reference_exploitability(
        instance, np.empty(0), np.empty(0), game.parted(point)[1], costs.T
    )
    assert game.probability @ (costs - own) == pytest.approx(wanted, abs=1e-7)


def test_staying_put_is_a_best_response_to_a_best_response() -> None:
    """Ties are broken towards what she has, so a second answer moves nothing."""
    game = game_of(random_instance(5, 5, 2, 2, symmetric_prices=True))
    point = random_point(game, 1)
    for prosumer in range(5):
        pieces = game.pieces.take(np.array([prosumer]))
        own, _ = best_response(game, point, pieces)
        pieces.put(point, own)
        again, _ = best_response(game, point, pieces)
        assert again == pytest.approx(own, abs=1e-12)


def test_regularised_response_by_hand() -> None:
    """One edge, m sells to n. n has D* = 4, ã = 1/2, no generation: marginal utility 4 - D.

    b = 1: she would buy 3 of the 3.5 offered, where 4 - q = 1. With regularisation 1 and
    nothing bought before, 4 - q = 1 + q, so 1.5. m stays as she is.
    """
    game = game_of(two_prosumers())
    offered = np.zeros_like(game.price)
    offered[..., 0] = -3.5  # what m sells to n
    point = dispatch(game, game.joined(np.zeros_like(game.lower), offered))
    pieces = game.pieces.take(np.array([1]))
    for regularisation, wanted in ((0.0, 3.0), (1.0, 1.5)):
        own, price = best_response(game, point, pieces, regularisation=regularisation)
        assert own[0, 0, 0, pieces.trades[0]] == pytest.approx([wanted])
        assert price[0, 0] == pytest.approx([4 - wanted])


def two_prosumers() -> Instance:
    """m has 6 MW of sun and wants 1, n has nothing and wants 4; ã = 1/2 for both, one edge."""
    base = random_instance(0, 2, 1, 1)
    one = np.ones(2)
    return replace(
        base,
        demand=np.array([1.0, 4.0])[:, None, None],
        demand_min=0 * one,
        demand_max=10 * one,
        generation_max=0 * one,
        a=one,
        b=0 * one,
        d=0 * one,
        utility_quadratic=one / 2,
        usage_benefit=0 * one,
        renewable=np.array([6.0, 0.0])[:, None, None],
        capacity=np.array([5.0]),
        price=np.ones(2),
        congestion=np.zeros(1),
        import_price=np.zeros((1, 1, 2)),
    )


def test_multipliers_make_each_prosumer_stationary() -> None:
    """(22) with her own multipliers, complementary to (1) and (2), at a best-response point."""
    game = game_of(random_instance(4, 5, 3, 2, congestion=True))
    point = random_point(game, 3)
    for _ in range(200):
        for prosumer in range(5):
            pieces = game.pieces.take(np.array([prosumer]))
            pieces.put(point, best_response(game, point, pieces)[0])
    price, zeta, xi = multipliers(game, point)
    _, quantity = game.parted(point)
    partner = game.partner(quantity)
    stationary = game.congestion * (2 * quantity + partner) + game.price + zeta + xi
    assert stationary == pytest.approx(price[..., game.buyer], abs=1e-7)
    assert (zeta >= 0).all() and (xi >= 0).all()
    assert np.abs(zeta * (quantity + partner)).max() < 1e-7
    assert np.abs(xi * (game.capacity - quantity)).max() < 1e-7


# --- what is refused ------------------------------------------------------------------------


def test_refusals_name_the_asset() -> None:
    market = p2p.PeerToPeerMarket()
    instance = random_instance(0, 3, 1, 1)

    def refused(match: str, component: str, name: str, **attributes: object) -> None:
        n = network(instance)
        n.add("Bus", "island")
        n.add(component, name, **attributes)
        with pytest.raises(p2p.MarketError, match=match):
            read_game(n, market, read_market(n))

    refused("tank", "Store", "tank", bus="p0", e_nom=1)
    refused("reservoir", "StorageUnit", "reservoir", bus="p0", p_nom=1, inflow=1)
    refused("tank", "Store", "tank", bus="p1", e_nom=1)
    refused("heater", "Link", "heater", bus0="p0", bus1="island", p_nom=1)
    refused("cable", "Line", "cable", bus0="p0", bus1="island", s_nom=1, x=0.1)
    refused("nobody's", "Generator", "nobody's", bus="island", p_nom=1)
    refused("slow.*ramp_limit_up", "Generator", "slow", bus="p0", p_nom=1, ramp_limit_up=0.1)
    refused("concave.*", "Generator", "concave", bus="p0", p_nom=1, marginal_cost_quadratic=-1)
    refused("cap", "GlobalConstraint", "cap", sense="<=", constant=1)
