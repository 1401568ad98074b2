"""`allocate`: what it refuses, chooses, keeps and leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.markets.on_record import RecordedMarket
from pypsa_p2p.studies.allocation.games import drawn_coalitions, members_of
from tests.by_hand.markets import add_seller_and_buyer
from tests.conformance.markets import meshed
from tests.reference.instances import network, random_instance
from tests.unit.markets import tables

AVERSE = p2p.PeerToPeerMarket(risk=p2p.CVaR())


@cache
def n() -> pypsa.Network:
    """Three nodes, solved; nobody changes it."""
    grid = p2p.load_grid("three_node")
    AVERSE.optimize(grid)
    return grid


@cache
def many() -> pypsa.Network:
    """Thirteen prosumers, more than all coalitions are solved of."""
    found = network(random_instance(2, 13, 2))
    p2p.PeerToPeerMarket().optimize(found)
    return found


def allocated(network: pypsa.Network, *arguments: Any, **options: Any) -> xr.Dataset:
    return p2p.allocate(network, *arguments, **{"progress": False, **options})


@pytest.fixture
def solves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Coalitions whose markets are solved from here on."""
    found: list[tuple[str, ...]] = []
    cost = RecordedMarket.social_cost

    def counting(market: RecordedMarket, compiled: Any, places: Any, data: Any) -> float:
        found.append(tuple(data.prosumers))
        return cost(market, compiled, places, data)

    monkeypatch.setattr(RecordedMarket, "social_cost", counting)
    return found


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "fair"}, "method must be one of 'market', 'shapley', .*, not 'fair'"),
        ({"method": "mid_market", "weights": 2.0}, "weights belong to method 'nash'"),
        ({"buy": 0.3}, "buy: retail prices belong to rules by the hour"),
        ({"method": "nash", "sell": 0.1}, "sell: retail prices belong to rules"),
        ({"weights": 2.0}, "weights belong to method 'nash'"),
        ({"method": "nash", "weights": {"0": 1, "1": 1}}, "lacks '2' along 'prosumer'"),
        ({"method": "nash", "weights": {"0": 1, "1": 1, "2": 1, "x": 1}}, "the unknown 'x'"),
        ({"method": "nash", "weights": [1, 0, 1]}, "weights 0 at position 1 must be a finite"),
        ({"method": "nash", "weights": -1}, "weights -1 must be a finite number above 0"),
        ({"coalitions": [["0", "4"]]}, "coalitions: '4' is no prosumer; there are '0', '1', '2'"),
        ({"coalitions": [[]]}, "coalitions is empty: give at least one name"),
        ({"coalitions": [["0", "0"]]}, "coalitions repeats '0'"),
        ({"coalitions": "0"}, "coalitions must be groups of names"),
        ({"coalitions": [["0"]], "samples": 5}, "give one of the two"),
        ({"coalitions": [["0"]], "method": "shapley"}, "the Shapley value takes all"),
        ({"samples": 1}, "samples: 1 must be a whole number of at least 2"),
        ({"samples": 5, "method": "nucleolus"}, "needs every coalition.* samples leaves some out"),
        ({"seed": -1}, "seed: -1 must be a whole number"),
        ({"workers": 0}, "workers: 0 must be a whole number of at least 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(p2p.MarketError, match=message):
        allocated(n(), **arguments)


def test_retail_prices_that_a_rule_cannot_take(solves: list[tuple[str, ...]]) -> None:
    """They are refused before any coalition is solved."""
    with pytest.raises(p2p.DataError, match=r"Argument sell is missing, .* give sell"):
        allocated(n(), "mid_market", buy=0.3)
    with pytest.raises(p2p.DataError, match="bill_sharing needs prices at which"):
        allocated(n(), "bill_sharing", buy=1, sell=2)
    assert not solves


def test_no_market() -> None:
    with pytest.raises(p2p.MarketError, match="holds no solved market"):
        p2p.allocate(p2p.load_grid("three_node"))
    with pytest.raises(p2p.DataError, match=r"must be a pypsa\.Network"):
        p2p.allocate("three_node")  # type: ignore[arg-type]


def test_data_that_changed() -> None:
    changed = n().copy()
    changed.generators["p_nom"] *= 2.0
    with pytest.raises(p2p.MarketError, match="Changed after the market was solved"):
        allocated(changed)


@cache
def delivered() -> pypsa.Network:
    """Two of whom one line of 1 MW keeps 5 MWh."""
    grid = pypsa.Network()
    grid.add("Bus", ["west", "east"])
    grid.add("Line", "line", bus0="west", bus1="east", x=0.1, s_nom=1)
    add_seller_and_buyer(grid)
    p2p.PeerToPeerMarket(delivery="grid").optimize(grid)
    return grid


def test_a_grid_that_delivers(solves: list[tuple[str, ...]]) -> None:
    """1 MWh, made for 2 and bought at 3, leaves 25 forgone; the line's rent of 7 is not in it.

    Her last MWh is worth 10 to the buyer, who pays 7 for the grid besides.
    """
    d, r = allocated(delivered()), p2p.results(delivered())
    assert d.allocation.values == pytest.approx([2 - 3, 25 + 3], abs=1e-6)
    assert d.transfer.values == pytest.approx([-3, 3], abs=1e-6)
    assert float(d.allocation.sum()) == pytest.approx(float(r.social_cost), abs=1e-9)
    assert float(r.grid_payment.sum()) == pytest.approx(7, abs=1e-6)
    assert np.isnan(d.core_excess)
    assert np.isnan(d.saving).all()
    assert d.worst_coalition.item() == ""
    assert d.coalition.values.tolist() == ["A + B"]
    assert d.coalition_cost.values == pytest.approx([27], abs=1e-6)
    assert "how much of the grid a coalition may use" in d.attrs["why_no_coalitions"]
    assert d.attrs["coalitions"] == "none"
    assert not solves


def test_a_grid_that_delivers_to_the_averse() -> None:
    """With insured contracts, a generator of the grid's own and rent that stays over."""
    grid = meshed(1, limit=1.5)
    hedged = p2p.Contracts(insurance_price=0.6)
    p2p.PeerToPeerMarket(delivery="grid", risk=p2p.CVaR(), contracts=hedged).optimize(grid)
    d, r = allocated(grid), p2p.results(grid)
    assert float(r.congestion_rent_now.sum()) > 1.0
    assert float(d.allocation.sum()) == pytest.approx(float(r.social_cost), abs=1e-8)
    paid = r.payment_now.sum("scenario")
    assert d.transfer.values == pytest.approx(paid.values, abs=1e-12)
    assert float(abs(paid).max()) > 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({"method": method}, f"no method '{method}' for delivery='grid': how much of the grid")
            for method in ("shapley", "nucleolus", "nash", "mid_market")
        ),
        ({"coalitions": [["A"]]}, "with delivery='grid' coalitions have no cost of their own"),
        ({"samples": 3}, "with delivery='grid' coalitions have no cost of their own"),
    ],
)
def test_coalitions_on_a_grid_that_delivers(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(p2p.MarketError, match=message):
        allocated(delivered(), **arguments)


def test_unequal_weights() -> None:
    grid = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(equilibrium="generalized", weights=[1, 2, 3]).optimize(grid)
    with pytest.raises(p2p.MarketError, match="generalized equilibria of unequal weights"):
        allocated(grid, "shapley")


def capped(m: pypsa.Network) -> None:
    carriers = m.c.carriers.static
    generation = carriers.index.get_level_values(-1) == "flexible generation"
    carriers.loc[generation, "co2_emissions"] = 1.0
    m.add("GlobalConstraint", "cap", sense="<=", constant=5.0)


def limiting(m: pypsa.Network, _: pd.Index) -> None:
    m.model.add_constraints(m.model["Generator-p"].sum() <= 100.0, name="all together")


def charging(m: pypsa.Network, _: pd.Index) -> None:
    m.model.objective = m.model.objective.expression + 0.5 * m.model["Generator-p"].sum()


@pytest.mark.parametrize(
    ("change", "extra", "message"),
    [
        (capped, None, "Constraints 'GlobalConstraint-cap' tie prosumers to each other"),
        (lambda m: None, limiting, "Constraints 'all together' .* are not its own"),
        (lambda m: None, charging, "Solved anew, the market of all costs .* not on record"),
    ],
    ids=["a cap for all", "constraints of the user", "costs of the user"],
)
def test_what_nobody_knows_of_a_coalition(
    change: Callable[[pypsa.Network], None], extra: Any, message: str
) -> None:
    grid = p2p.load_grid("three_node")
    change(grid)
    p2p.PeerToPeerMarket().optimize(grid, extra_functionality=extra)
    with pytest.raises(p2p.MarketError, match=message):
        allocated(grid, coalitions=[])


def test_a_coalition_without_a_solution() -> None:
    """What the shop uses somebody else has to make: she alone cannot."""
    grid = pypsa.Network()
    p2p.add_prosumers(
        grid, ["shop", "mill", "dam"], demand=[1, 0, 0], demand_min=[1, 0, 0],
        demand_max=[1, 0, 0], utility_quadratic=0, generation_max=[0, 2, 2], marginal_cost=5,
    )  # fmt: skip
    p2p.add_trades(grid, "complete", capacity=3)
    p2p.PeerToPeerMarket().optimize(grid)
    with pytest.raises(p2p.MarketError, match=r"Coalition 'shop' alone: .* balance of 'shop'"):
        allocated(grid)


def test_somebody_with_nothing_but_a_load() -> None:
    """Without her trades there is nothing in her balance."""
    grid = pypsa.Network()
    grid.add("Bus", ["flat", "mill"], carrier="prosumer")
    grid.add("Load", "flat", bus="flat", p_set=1.0)
    grid.add("Generator", "mill", bus="mill", p_nom=2.0, marginal_cost=5.0)
    p2p.add_trades(grid, "complete", capacity=3)
    p2p.PeerToPeerMarket().optimize(grid)
    with pytest.raises(p2p.MarketError, match=r"Coalition 'flat' alone: .* balance of 'flat'"):
        allocated(grid)


# ------------------------------------------------------------------ which coalitions


def test_given_coalitions() -> None:
    d = allocated(n(), "nucleolus", coalitions=[("1", "0"), {"0", "1"}, ["0", "1", "2"]])
    assert d.coalition.values.tolist() == ["0", "1", "2", "0 + 1", "0 + 1 + 2"]
    assert (d.attrs["coalitions"], d.attrs["coalitions_known"]) == ("given", 5)
    assert float(d.allocation.sum()) == pytest.approx(float(d.coalition_cost[-1]), abs=1e-9)
    whole = allocated(n(), "nucleolus")
    assert float(d.core_excess) < float(whole.core_excess) - 0.1  # fewer may complain
    assert whole.attrs["coalitions"] == "all"


def test_worst_coalition() -> None:
    d = allocated(n(), "shapley")
    excess = (d.member * d.allocation).sum("prosumer") - d.coalition_cost
    proper = excess[d.member.sum("prosumer") < 3]
    assert float(d.core_excess) == pytest.approx(float(proper.max()), abs=1e-9)
    assert d.worst_coalition.item() == proper.idxmax().item()


def test_many_prosumers(solves: list[tuple[str, ...]]) -> None:
    """Beyond 12 what the market charges is exact, and coalitions are drawn."""
    d, r = allocated(many(), samples=10), p2p.results(many())
    exact = (r.risk_adjusted_cost + r.payment_now.sum("scenario")).values
    assert d.allocation.values == pytest.approx(exact, abs=1e-12)
    assert len(solves) == 13 + 1 + 13 + 10  # alone, all, all but one, drawn
    assert (d.attrs["coalitions"], d.attrs["coalitions_known"]) == ("drawn", 37)
    assert float(d.core_excess) <= 1e-6
    xr.testing.assert_identical(d, allocated(many(), samples=10))
    other = allocated(many(), samples=10, seed=1).coalition
    assert set(other.values) != set(d.coalition.values)
    with pytest.raises(p2p.MarketError, match="up to 12 prosumers, and there are 13"):
        allocated(many(), "least_core")


def test_shapley_of_many() -> None:
    d = allocated(many(), "shapley", samples=3)
    assert d.attrs["coalitions"] == "drawn"
    assert float(d.transfer.sum()) == pytest.approx(0.0, abs=1e-8)
    assert d.standard_error.shape == (13,)
    assert d.standard_error.attrs["unit"] == "EUR"


def test_drawn_shapley_of_few() -> None:
    """Drawn orders of three are soon all there are."""
    drawn, exact = allocated(n(), "shapley", samples=200), allocated(n(), "shapley")
    assert "standard_error" not in exact
    apart = abs(drawn.allocation - exact.allocation)
    assert (apart < 4 * drawn.standard_error).all()
    assert float(apart.max()) > 0


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_no_more_coalitions_are_drawn_than_there_are(count: int) -> None:
    drawn = drawn_coalitions(count, 1000, seed=0)
    sizes = members_of(drawn, count).sum(axis=1)
    assert len(set(drawn)) == len(drawn) == max(0, 2**count - 2 - count)
    assert all(1 < size < count for size in sizes)


def test_one_prosumer() -> None:
    grid = pypsa.Network()
    p2p.add_prosumers(grid, ["a"], demand=2, demand_max=2, utility_quadratic=1, fixed_cost=3)
    p2p.PeerToPeerMarket().optimize(grid)
    for method in ("market", "nucleolus"):
        d = allocated(grid, method)
        assert d.allocation.values == pytest.approx([7.0])  # 2^2 forgone, and 3
        assert np.isnan(float(d.core_excess))
        assert d.worst_coalition.item() == ""


# ------------------------------------------------------------------ what is kept, and left alone


def test_the_network_stays_as_it_is() -> None:
    grid = n()
    before, meta, model = tables(grid), dict(grid.meta), grid.model
    allocated(grid, "shapley")
    assert grid.meta == meta
    assert grid.model is model
    for name, table in tables(grid).items():
        pd.testing.assert_frame_equal(table, before[name], obj=name)


def test_kept_costs(tmp_path: Path, solves: list[tuple[str, ...]]) -> None:
    """What is there is not solved again, by no method; a line that broke off is."""
    first = allocated(n(), coalitions=[["0", "1"]], store=tmp_path)
    assert len(solves) == 5
    again = allocated(n(), "shapley", store=tmp_path)
    assert solves[5:] == [("0", "2"), ("1", "2")]
    xr.testing.assert_identical(again, allocated(n(), "shapley"))
    solves.clear()
    allocated(n(), "nucleolus", store=tmp_path)
    assert not solves
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-8])
    xr.testing.assert_identical(allocated(n(), "shapley", store=tmp_path), again)
    assert solves == [("1", "2")]
    solves.clear()
    other = p2p.load_grid("three_node")
    p2p.PeerToPeerMarket(risk=p2p.CVaR(0.5)).optimize(other)
    allocated(other, store=tmp_path)
    assert len(solves) == 7
    assert float(first.coalition_cost[-1]) == pytest.approx(float(again.coalition_cost[-1]))


def test_a_store_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(p2p.P2PError, match="is no folder to write to"):
        allocated(n(), store=tmp_path / "file")


def test_several_processes() -> None:
    xr.testing.assert_identical(allocated(n(), "shapley", workers=2), allocated(n(), "shapley"))


def test_what_agents_found() -> None:
    """Their equilibrium is the market's, to their tolerance."""
    grid = p2p.load_grid("three_node")
    p2p.solve_equilibrium(grid, AVERSE, p2p.ADMM(tolerance=1e-8), progress=False)
    ours, theirs = allocated(n(), coalitions=[]), allocated(grid, coalitions=[])
    assert theirs.allocation.values == pytest.approx(ours.allocation.values, abs=1e-4)


def test_a_network_that_was_kept(tmp_path: Path) -> None:
    grid, path = n().copy(), tmp_path / "n.nc"
    grid.model.solver_model = None
    grid.export_to_netcdf(path)
    d = allocated(pypsa.Network(path), "shapley")
    xr.testing.assert_allclose(d, allocated(n(), "shapley"), atol=1e-9)
    d.to_netcdf(tmp_path / "d.nc")
    xr.testing.assert_allclose(xr.load_dataset(tmp_path / "d.nc"), d)


def test_the_hook_beside_an_idle_grid() -> None:
    """PyPSA's model has constraints of lines on which nothing flows: they are nobody's own."""
    grid, market = meshed(1, limit=5.0), p2p.PeerToPeerMarket(surplus=False)
    grid.optimize(extra_functionality=market, log_to_console=False)
    by_hook = allocated(grid, coalitions=[])
    market.optimize(grid)
    xr.testing.assert_allclose(by_hook, allocated(grid, coalitions=[]), atol=1e-6)


def test_some_snapshots() -> None:
    """The market on record is that of the snapshots it was solved for."""
    data = random_instance(4, 3, 2, 2)
    both, first = network(data), network(data)
    p2p.PeerToPeerMarket().optimize(both, both.snapshots[:1])
    first.set_snapshots(first.snapshots[:1])
    p2p.PeerToPeerMarket().optimize(first)
    xr.testing.assert_allclose(allocated(both), allocated(first), atol=1e-8)


def test_a_bar(terminal: pytest.CaptureFixture[str]) -> None:
    p2p.allocate(n())
    assert "7/7" in terminal.readouterr().err
    allocated(n())
    assert "7/7" not in terminal.readouterr().err
