"""What the agents' algorithms converge to, and how they stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.equilibrium import gauss_seidel
from pypsa_p2p.equilibrium.admm import ADMM
from pypsa_p2p.equilibrium.game.game import read_game
from pypsa_p2p.equilibrium.gauss_seidel import GaussSeidel, Jacobi, turns_of
from pypsa_p2p.equilibrium.running import Iterate
from pypsa_p2p.equilibrium.solving import Equilibrium, solve_equilibrium
from pypsa_p2p.equilibrium.starts import least_trades
from pypsa_p2p.network.reading import read_market
from tests.equilibrium.test_best_response import game_of, two_prosumers
from tests.reference.best_response import exploitability
from tests.reference.instances import Instance, network, random_instance
from tests.reference.package import as_solution
from tests.reference.solve import Risk, solve


def played(
    instance: Instance, method: Any, *, surplus: bool = True, risk: p2p.CVaR | None = None
) -> tuple[Equilibrium, xr.Dataset]:
    n = network(instance)
    market = p2p.PeerToPeerMarket(risk=risk, surplus=surplus)
    found = solve_equilibrium(n, market, method, progress=False)
    return found, p2p.results(n)


def gains(instance: Instance, r: xr.Dataset, risk: Risk | None = None) -> float:
    """The largest exploitability, EUR, by a general solver on each agent's own problem."""
    s = as_solution(instance, r)
    return float(exploitability(instance, s.demand, s.generation, s.quantity, s.cost, risk).max())


def misaligned(eq: Equilibrium) -> float:
    links = eq.n.c["Link"].dynamic
    difference = links["mu_reciprocity"] - links["mu_reciprocity1"]
    return float(np.abs(difference.to_numpy()).max())


# --- best responses -------------------------------------------------------------------------


@pytest.mark.parametrize("congestion", [False, True])
@pytest.mark.parametrize("method", [GaussSeidel(), Jacobi(), GaussSeidel(regularisation=1.0)])
def test_from_no_trade_best_responses_stop_at_a_dearer_equilibrium(
    method: Any, congestion: bool
) -> None:
    """Certified as a generalized equilibrium, not as the variational one, and 1 EUR dearer."""
    instance = random_instance(2, 6, 3, 2, congestion=congestion)
    eq, r = played(instance, method)
    assert eq.converged
    assert eq.history.exploitability[-1] <= 1e-8
    assert gains(instance, r) < 1e-6
    variational = solve(instance, "peer-to-peer").social_cost
    assert float(r.social_cost) > variational + 1.0
    assert misaligned(eq) > 0.1
    found = p2p.certify(eq.n)
    assert found.is_equilibrium(equilibrium="generalized"), found
    assert not found.is_equilibrium(equilibrium="variational")


def test_risk_averse_best_responses_stop_at_an_equilibrium() -> None:
    instance = random_instance(2, 4, 4, 1, congestion=True)
    eq, r = played(instance, GaussSeidel(), risk=p2p.CVaR())
    assert eq.converged
    assert gains(instance, r, ("CVaR", None, 1.0)) < 1e-6


def test_two_prosumers_at_an_equilibrium_that_is_not_variational() -> None:
    """m has 6 MW of sun and wants 1, n has nothing and wants 4; ã = 1/2, b = 1, p0 = 0, kappa = 5.

    Except that b = -4 for m: a MW sold is counted at b = -4, so selling costs her 4 a MW.
    Alone she sells x until her marginal utility 1 - (6 - x) = x - 5 is -4: x = 1. n, who sees
    b = 1, takes it all, q = 1, and would pay zeta_n = (4 - 1) - 1 = 2 for more, while
    zeta_m = 0: nobody can move alone. lambda_m = -4, lambda_n = 3. Costs
    1/2 (5 - 1)^2 + 4 = 12 for m, 1/2 (1 - 4)^2 + 1 = 5.5 for n, together 17.5.

    At the variational equilibrium one zeta holds for both: x - 5 = -4 + zeta for m and
    4 - x = 1 + zeta for n, so x = 2, zeta = 1. Costs 1/2 3^2 + 8 + 1/2 2^2 + 2 = 16.5.
    """
    instance = two_prosumers()
    instance = replace(instance, price=np.array([-4.0, 1.0]))
    eq, r = played(instance, GaussSeidel())
    assert eq.converged
    assert r.quantity.to_numpy().ravel() == pytest.approx([-1, 1])
    assert float(r.social_cost) == pytest.approx(17.5)
    links = eq.n.c["Link"].dynamic
    assert links["mu_reciprocity"].to_numpy().ravel() == pytest.approx([0])
    assert links["mu_reciprocity1"].to_numpy().ravel() == pytest.approx([2])
    assert r.nodal_price.to_numpy().ravel() == pytest.approx([-4, 3])
    eq, r = played(instance, ADMM())
    assert eq.converged
    assert r.quantity.to_numpy().ravel() == pytest.approx([-2, 2], abs=1e-6)
    assert r.trade_price.to_numpy().ravel() == pytest.approx([1, 1], abs=1e-6)
    assert float(r.social_cost) == pytest.approx(16.5, abs=1e-6)


@pytest.mark.parametrize("congestion", [False, True])
@pytest.mark.parametrize("method", [GaussSeidel, Jacobi])
def test_from_the_variational_equilibrium_nobody_moves(method: Any, congestion: bool) -> None:
    instance = random_instance(3, 6, 3, 2, congestion=congestion)
    eq, r = played(instance, method(start="variational"))
    assert eq.converged and eq.iterations <= 2
    wanted = solve(instance, "peer-to-peer").social_cost
    assert float(r.social_cost) == pytest.approx(wanted, abs=1e-6)


def test_random_starts_end_at_different_equilibria() -> None:
    instance = random_instance(1, 6, 3, 1)
    costs = []
    for seed in range(3):
        eq, r = played(instance, GaussSeidel(start="random", seed=seed))
        assert eq.converged and gains(instance, r) < 1e-6
        costs.append(float(r.social_cost))
    assert np.ptp(costs) > 0.1


def test_an_array_and_an_order_as_start() -> None:
    instance = random_instance(0, 4, 2, 2, congestion=True)
    _, r = played(instance, GaussSeidel(start="random", seed=4))
    order = list(reversed(instance.names))
    eq, again = played(instance, GaussSeidel(start=r.quantity, order=order))
    assert eq.iterations <= 2
    assert again.quantity.to_numpy() == pytest.approx(r.quantity.to_numpy(), abs=1e-6)


def test_turns_give_what_one_by_one_gives() -> None:
    """Prosumers answer together only if the order of their turns could not be told."""
    game = game_of(random_instance(7, 9, 2, 1, congestion=True))
    order = np.random.default_rng(0).permutation(9)
    turns = turns_of(game, order)
    assert sorted(np.concatenate(turns).tolist()) == list(range(9))
    turn_of = {int(k): i for i, who in enumerate(turns) for k in who}
    place = np.argsort(order)
    for m, k in zip(game.buyer, game.seller, strict=True):
        assert (place[m] < place[k]) == (turn_of[int(m)] < turn_of[int(k)])


# --- ADMM -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "surplus"),
    [
        *product(
            [(False, None), (True, None), (False, p2p.CVaR()), (False, p2p.CVaR(weight=0.6))],
            (True, False),
        )
    ],
)
def test_admm_finds_the_direct_solution(
    market: tuple[bool, p2p.CVaR | None], surplus: bool
) -> None:
    congestion, risk = market
    instance = random_instance(1 + surplus, 4, 3, 2, congestion=congestion)
    eq, r = played(instance, ADMM(), surplus=surplus, risk=risk)
    assert eq.converged
    n = network(instance)
    p2p.PeerToPeerMarket(risk=risk, surplus=surplus).optimize(n)
    direct = p2p.results(n)
    seen = direct.risk_adjusted_probability > 1e-4
    assert float(r.social_cost) == pytest.approx(float(direct.social_cost), abs=5e-6)
    assert float(abs(r.demand - direct.demand).where(seen).max()) < 1e-5
    # The direct solve's own error: its cost is flat there, 3e-5 MW for 1e-9 of objective.
    assert float(abs(r.generation - direct.generation).where(seen).max()) < 1e-4
    tau = abs(r.risk_adjusted_probability - direct.risk_adjusted_probability)
    assert float(tau.max()) < 1e-5
    assert misaligned(eq) < 1e-12
    assert not eq.n.meta["p2p"]["own_multipliers"]


def test_admm_finds_the_risk_averse_equilibrium_with_congestion() -> None:
    """The fixed point of the problem with the partner's quantity held (MODEL.md section 4).

    With theta < 1 every scenario counts for everybody, so it is one point.
    """
    instance = random_instance(1, 4, 3, 1, congestion=True)
    eq, r = played(instance, ADMM(), risk=p2p.CVaR(weight=0.6))
    wanted = solve(instance, "peer-to-peer", ("CVaR", None, 0.6))
    assert eq.converged
    assert float(r.social_cost) == pytest.approx(wanted.social_cost, abs=1e-4)
    assert as_solution(instance, r).demand == pytest.approx(wanted.demand, abs=1e-4)
    assert gains(instance, r, ("CVaR", None, 0.6)) < 1e-6


@pytest.mark.parametrize(
    "method", [ADMM(relaxation=1.0), ADMM(adaptive=False, penalty=0.5), ADMM(penalty=100.0)]
)
def test_admm_goes_there_whatever_its_settings(method: ADMM) -> None:
    instance = random_instance(4, 4, 2, 1, congestion=True)
    eq, r = played(instance, method)
    assert eq.converged
    wanted = solve(instance, "peer-to-peer").social_cost
    assert float(r.social_cost) == pytest.approx(wanted, abs=5e-6)


# --- how it is run --------------------------------------------------------------------------


def test_history() -> None:
    """Every prosumer tells every partner one number an hour and scenario."""
    instance = random_instance(0, 5, 3, 2)
    edges = len(instance.edges)
    for method in (GaussSeidel(), Jacobi(), ADMM()):
        eq, r = played(instance, method)
        history = eq.history
        assert dict(history.sizes) == {"iteration": eq.iterations}
        assert history.iteration.to_numpy().tolist() == list(range(1, eq.iterations + 1))
        assert (history.messages == 2 * edges).all()
        assert (history.numbers == 2 * edges * 3 * 2).all()
        assert history.residual[-1] <= method.tolerance < history.residual[0]
        assert float(history.social_cost[-1]) == pytest.approx(float(r.social_cost))
        assert eq.n.objective == pytest.approx(float(r.social_cost))
        own = {"primal_residual", "dual_residual", "penalty"}
        assert own <= set(history) if isinstance(method, ADMM) else "movement" in history
        assert all({"unit", "long_name"} <= set(history[name].attrs) for name in history)


def test_results_balance() -> None:
    _, r = played(random_instance(0, 5, 3, 2, congestion=True), GaussSeidel())
    balance = r.generation + r.renewable + r.net_import - r.demand
    assert float(abs(balance).max()) < 1e-9
    reverse = r.quantity.roll(trade=r.sizes["trade"] // 2).to_numpy()
    assert float((r.quantity + reverse).max()) < 1e-9


def test_direct_is_the_default() -> None:
    eq, r = played(random_instance(0, 4, 2, 1), None)
    assert eq.converged and eq.method is None and eq.iterations == 1
    assert float(eq.history.social_cost[0]) == pytest.approx(float(r.social_cost))
    assert int(eq.history.messages.sum()) == 0


@pytest.mark.parametrize("risk", [None, p2p.CVaR()])
def test_a_warm_start_shortens(risk: p2p.CVaR | None) -> None:
    instance = random_instance(2, 4, 3, 1, congestion=risk is None)
    n = network(instance)
    market = p2p.PeerToPeerMarket(risk=risk)
    cold = solve_equilibrium(n, market, ADMM(), progress=False)
    again = solve_equilibrium(n, market, ADMM(), warm_start=cold, progress=False)
    assert again.converged and again.iterations < cold.iterations / 4
    solved = network(instance)
    market.optimize(solved)
    direct = solve_equilibrium(n, market, ADMM(), warm_start=solved, progress=False)
    assert direct.iterations < cold.iterations / 2
    first = solve_equilibrium(n, market, GaussSeidel(start="zero"), progress=False)
    second = solve_equilibrium(n, market, GaussSeidel(), warm_start=first, progress=False)
    assert second.iterations <= 2 <= first.iterations


def test_an_interrupt_keeps_the_best_iterate(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = GaussSeidel.iterates

    def interrupted(self: GaussSeidel, *args: Any) -> Iterator[Iterate]:
        for k, iterate in enumerate(original(self, *args)):
            if k == 4:
                raise KeyboardInterrupt
            # the last one before the interrupt is made to look worse than the one before
            yield replace(iterate, residual=1.0) if k == 3 else iterate

    instance = random_instance(0, 6, 3, 2, congestion=True)
    monkeypatch.setattr(gauss_seidel.GaussSeidel, "iterates", interrupted)
    eq, r = played(instance, GaussSeidel())
    assert not eq.converged and eq.iterations == 4
    assert float(r.social_cost) == pytest.approx(float(eq.history.social_cost[2]))
    assert "interrupted" in caplog.text
    monkeypatch.setattr(gauss_seidel.GaussSeidel, "iterates", original)
    eq, r = played(instance, GaussSeidel(max_iterations=3))
    assert not eq.converged and "last iteration" in caplog.text
    assert not eq.n.meta["p2p"]["converged"]


def test_progress_goes_to_stderr(terminal: pytest.CaptureFixture[str]) -> None:
    n = network(random_instance(0, 3, 1, 1))
    solve_equilibrium(n, p2p.PeerToPeerMarket(), Jacobi())
    seen = terminal.readouterr()
    assert "Jacobi" in seen.err and not seen.out
    solve_equilibrium(n, p2p.PeerToPeerMarket(), Jacobi(), progress=False)
    assert not terminal.readouterr().err


def test_some_snapshots() -> None:
    instance = random_instance(0, 4, 2, 3)
    n = network(instance)
    market = p2p.PeerToPeerMarket()
    solve_equilibrium(n, market, ADMM(), snapshots=n.snapshots[1:], progress=False)
    r = p2p.results(n)
    assert r.sizes["snapshot"] == 2
    direct = network(instance)
    market.optimize(direct, direct.snapshots[1:])
    assert n.objective == pytest.approx(direct.objective, abs=1e-5)


# --- what is refused ------------------------------------------------------------------------


def test_refusals() -> None:
    n = network(random_instance(0, 3, 2, 1))
    market = p2p.PeerToPeerMarket()

    def refused(match: str, market: Any, method: Any, **options: Any) -> None:
        with pytest.raises(p2p.MarketError, match=match):
            solve_equilibrium(n, market, method, progress=False, **options)

    fixed = p2p.PeerToPeerMarket(surplus=False)
    refused("never leave their start", fixed, GaussSeidel())
    refused("never leave their start", fixed, Jacobi())
    refused("PeerToPeerMarket", p2p.CentralizedMarket(), ADMM())
    refused("method must be", market, "admm")
    generalized = p2p.PeerToPeerMarket(equilibrium="generalized")
    refused("variational equilibrium only", generalized, ADMM())
    weighted = replace(generalized, weights=[1.0, 2.0, 3.0])
    refused("that weights select", weighted, GaussSeidel())
    refused("order must name every", market, GaussSeidel(order=["p0", "p1"]))
    refused("shape", market, GaussSeidel(start=np.zeros((1, 1, 2))))
    refused("buys more from", market, GaussSeidel(start=np.ones((2, 1, 6))))
    refused("holds no solved market", market, ADMM(), warm_start=n)


@pytest.mark.parametrize(
    ("method", "settings", "match"),
    [
        (
            GaussSeidel,
            {"start": "nowhere"},
            "'zero', 'variational', 'random' or an array.*'nowhere'",
        ),
        (GaussSeidel, {"start": {"a": 1.0}}, "not a dict"),
        (GaussSeidel, {"start": [1.0, 2.0]}, "not 1 dimensions"),
        (GaussSeidel, {"regularisation": -1.0}, "regularisation -1.0 must be a finite number"),
        (GaussSeidel, {"regularisation": np.inf}, "regularisation inf must be a finite number"),
        (GaussSeidel, {"seed": "x"}, "seed 'x' must be a whole number of at least 0"),
        (GaussSeidel, {"seed": -1}, "seed -1 must"),
        (GaussSeidel, {"order": "ab"}, "order must be a sequence of names, not 'ab'"),
        (GaussSeidel, {"order": [0, 1]}, "not 0, 1"),
        (GaussSeidel, {"order": ["p0", "p0", "p1"]}, "order must name every prosumer once.*'p0'"),
        (GaussSeidel, {"max_iterations": 2.5}, "max_iterations 2.5 must be a whole number"),
        (Jacobi, {"damping": 0.7}, r"damping 0.7 must be a number in \(0, 0.5\]; beyond half"),
        (Jacobi, {"damping": "x"}, "damping 'x' must"),
        (Jacobi, {"seed": 0.5}, "seed 0.5 must be a whole number"),
        (Jacobi, {"start": "nowhere"}, "start must be"),
        (ADMM, {"relaxation": 2.0}, r"relaxation 2.0 must be a number in \(0, 2\)"),
        (ADMM, {"penalty": 0.0}, "penalty 0.0 must be a finite number above 0"),
        (ADMM, {"penalty": "x"}, "penalty 'x' must"),
        (ADMM, {"tolerance": np.float64(-1)}, r"tolerance -1.0 must be a number in \[0, 1\]"),
        (ADMM, {"tolerance": np.nan}, "tolerance nan must"),
        (ADMM, {"adaptive": "x"}, "adaptive 'x' must be True or False"),
        (ADMM, {"max_iterations": True}, "max_iterations True must"),
    ],
)
def test_settings_are_refused_on_construction(
    method: Any, settings: dict[str, Any], match: str
) -> None:
    with pytest.raises(p2p.MarketError, match=f"^{method.__name__}: .*{match}"):
        method(**settings)


def test_numpys_numbers_are_numbers() -> None:
    method = GaussSeidel(seed=np.int64(3), tolerance=np.float32(0.5), order=np.array(["b", "a"]))
    assert method.order == ("b", "a")
    assert ADMM(adaptive=np.bool_(False), max_iterations=np.int32(7)).max_iterations == 7


def test_a_prosumer_left_short_is_named() -> None:
    instance = replace(two_prosumers(), demand_min=np.array([0.0, 1.0]))
    with pytest.raises(p2p.MarketError, match=r"p1.*start='least' or 'variational'"):
        played(instance, GaussSeidel(start="zero"))
    eq, _ = played(instance, GaussSeidel(start="variational"))
    assert eq.converged
    narrow = replace(instance, capacity=np.array([0.5]))
    with pytest.raises(p2p.MarketError, match=r"p1.*cannot balance"):
        played(narrow, ADMM())
    with pytest.raises(p2p.MarketError, match="no trades within capacities let prosumers 'p1' all"):
        played(narrow, GaussSeidel())


@pytest.mark.parametrize("method", [GaussSeidel(), Jacobi(), GaussSeidel(start="random")])
def test_who_depends_on_trade_starts_with_the_least_of_it(method: Any) -> None:
    """p1 has no source of her own and needs 1 MW: p0 sells her that from the start."""
    instance = replace(two_prosumers(), demand_min=np.array([0.0, 1.0]))
    eq, r = played(instance, method)
    assert eq.converged
    assert (r.demand.sel(prosumer="p1") >= 1.0 - 1e-7).all()
    assert eq.history.exploitability[-1] <= 1e-6
    assert p2p.certify(eq.n).is_equilibrium(equilibrium="generalized")


def test_least_trades_share_a_need() -> None:
    """Three in a row, the last needs 2 MW: both edges carry them, and no more than that."""
    n = pypsa.Network()
    p2p.add_prosumers(
        n,
        ["a", "b", "c"],
        demand=[0.0, 0.0, 2.0],
        demand_min=[0.0, 0.0, 2.0],
        demand_max=[0.0, 0.0, 3.0],
        utility_quadratic=1.0,
        generation_max=[5.0, 0.0, 0.0],
        marginal_cost=1.0,
    )
    p2p.add_trades(n, [("a", "b"), ("b", "c")], capacity=4.0)
    data = read_market(n)
    game = read_game(n, p2p.PeerToPeerMarket(), data)
    np.testing.assert_allclose(least_trades(game)[0, 0], [-2, -2, 2, 2], atol=1e-9)


@pytest.mark.parametrize("name", ["three_node", "ieee14", "ieee30", "ieee57"])
@pytest.mark.parametrize("method", [GaussSeidel(), Jacobi()])
def test_bundled_markets_start_without_an_argument(name: str, method: Any) -> None:
    n = p2p.load_grid(name, market=True)
    eq = solve_equilibrium(n, p2p.PeerToPeerMarket(), method, progress=False)
    assert eq.converged
    assert p2p.certify(n).is_equilibrium(equilibrium="generalized")
