"""Wrong calls of all public functions: each is refused by name, and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p

mpl.use("Agg")
Call = Callable[[Any], object]

#: What somebody may pass by mistake. Some of it is right for some argument: see `RIGHT`.
WRONG: dict[str, Any] = {
    "None": None, "text": "x", "5": 5, "-1": -1, "nan": np.nan, "inf": np.inf, "huge": 10**400,
    "True": True, "[]": [], "()": (), "{}": {}, "mixed": [1, "a"], "mapping": {"a": 1},
    "series": pd.Series(dtype=float), "bytes": b"x", "object": object(),
}  # fmt: skip
NUMBERS = frozenset({"5", "-1"})
AVERSE = p2p.PeerToPeerMarket(risk=p2p.CVaR())


#: The network of the call, and what it was before.
LAST: list[tuple[pypsa.Network, pypsa.Network]] = []
#: Networks for the next call, as long as those before were refused and have left them as they are.
KEPT: dict[str, pypsa.Network] = {}


@cache
def untouched() -> pypsa.Network:
    return p2p.load_grid("three_node")


def grid() -> pypsa.Network:
    n = KEPT.get("grid") or p2p.load_grid("three_node")
    KEPT["grid"] = n
    LAST[:] = [(n, untouched())]
    return n


@cache
def solved() -> pypsa.Network:
    n = p2p.load_grid("three_node")
    AVERSE.optimize(n)
    return n


@cache
def two() -> pypsa.Network:
    return prosumers()


def prosumers(**given: Any) -> pypsa.Network:
    n = pypsa.Network()
    LAST[:] = [(n, pypsa.Network())]
    p2p.add_prosumers(
        n, ["a", "b"], **{"demand": 1, "demand_max": 9, "utility_quadratic": 1, **given}
    )
    LAST.clear()
    return n


def pair() -> pypsa.Network:
    """Two prosumers whom a refused call leaves as they are."""
    n = KEPT.get("pair") or prosumers()
    KEPT["pair"] = n
    LAST[:] = [(n, two())]
    return n


def table(**given: Any) -> pd.DataFrame:
    columns = {"demand": 2.0, "demand_min": 1.0, "demand_max": 3.0, "renewable_capacity": 1.0}
    return pd.DataFrame({**columns, "renewable_kind": "wind", **given}, index=["a", "b"])


def drawn(**given: Any) -> xr.Dataset:
    return p2p.sample_scenarios(table(), **{"number": 2, "seed": 1, **given})


def swept(**given: Any) -> xr.Dataset:
    arguments = {"markets": AVERSE, "over": {"attitude": [0.1]}, "progress": False, **given}
    return p2p.sweep(grid(), **arguments)


def named(names: Any) -> None:
    p2p.add_prosumers(pypsa.Network(), names, demand=1, demand_max=2, utility_quadratic=1)


def hedged(**given: Any) -> object:
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts(**given))
    return market.optimize(grid())


def trading(n: pypsa.Network, argument: str, value: Any) -> None:
    p2p.add_trades(n, "complete", **{"capacity": 1, argument: value})


def by_agents(method: Callable[..., Any], argument: str, value: Any) -> p2p.Equilibrium:
    given = method(**{"max_iterations": 2, argument: value})
    return p2p.solve_equilibrium(grid(), p2p.PeerToPeerMarket(), given, progress=False)


CALLS: dict[str, Call] = {
    **{
        f.__name__: f
        for f in (
            p2p.results, p2p.certify, p2p.price_range, p2p.compare, p2p.fairness,
            p2p.release_prosumers, p2p.check_power_flow, p2p.power_flow_violations, p2p.load_grid,
            p2p.allocate,
        )
    },
    **{
        f"allocate {a}": lambda v, a=a: p2p.allocate(
            solved(), **{"method": "nash", "progress": False, a: v}
        )
        for a in (
            "method", "buy", "sell", "weights", "coalitions", "samples", "seed", "store", "workers",
        )
    },
    "compare of": lambda v: p2p.compare({"a": solved()}, of=v),
    "compare reference": lambda v: p2p.compare({"a": solved()}, reference=v),
    "compare network": lambda v: p2p.compare({"a": v}),
    "fairness of": lambda v: p2p.fairness(solved(), of=v),
    "assign_prosumers": lambda v: p2p.assign_prosumers(grid(), v),
    "names": named,
    "edges": lambda v: p2p.add_trades(pair(), v, capacity=1),
    **{
        f"add_trades {a}": lambda v, a=a: trading(pair(), a, v)
        for a in ("capacity", "price", "congestion")
    },
    **{
        f"add_prosumers {a}": lambda v, a=a: prosumers(**{a: v})
        for a in (
            "demand", "demand_min", "demand_max", "utility_quadratic", "generation_max",
            "generation_min", "marginal_cost", "renewable", "risk_attitude", "import_price",
            "fixed_cost", "usage_benefit", "grid_bus",
        )
    },
    **{
        f"market {a}": lambda v, a=a: p2p.PeerToPeerMarket(**{a: v})
        for a in ("risk", "contracts", "surplus", "delivery", "equilibrium")
    },
    "CVaR attitude": lambda v: p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=v)).optimize(grid()),
    "CVaR weight": lambda v: p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=v)).optimize(grid()),
    **{
        f"contracts {a}": lambda v, a=a: hedged(**{a: v})
        for a in ("insurance_price", "limit", "price")
    },
    "snapshots": lambda v: AVERSE.optimize(grid(), v),
    "scenarios": lambda v: p2p.set_scenarios(pair(), v),
    "scenario data": lambda v: p2p.set_scenarios(pair(), {"x": 0.5, "y": 0.5}, v),
    "sample": lambda v: p2p.sample_scenarios(v, number=2, seed=1),
    **{
        f"sample {a}": lambda v, a=a: drawn(**{a: v})
        for a in ("number", "seed", "demand_deviation", "capacity_factor", "correlation")
    },
    "history": lambda v: p2p.scenarios_from_history(v, number=2),
    "equilibria": lambda v: p2p.sample_equilibria(grid(), v, progress=False),
    "solve_equilibrium": lambda v: p2p.solve_equilibrium(grid(), v, progress=False),
    **{f"ADMM {a}": lambda v, a=a: by_agents(p2p.ADMM, a, v) for a in ("penalty", "tolerance")},
    **{
        f"Gauss-Seidel {a}": lambda v, a=a: by_agents(p2p.GaussSeidel, a, v)
        for a in ("regularisation", "start", "order", "tolerance")
    },
    **{
        f"sweep {a}": lambda v, a=a: swept(**{a: v})
        for a in (
            "markets", "over", "apply", "keep", "store", "shard", "collect", "workers", "client",
        )
    },
    **{
        f"plot.{f.__name__}": f
        for f in (
            p2p.plot.trades, p2p.plot.prices, p2p.plot.costs, p2p.plot.risk, p2p.plot.convergence,
        )
    },
    "plot ax": lambda v: p2p.plot.trades(solved(), ax=v),
    "plot scenario": lambda v: p2p.plot.trades(solved(), scenario=v),
    "plot colour": lambda v: p2p.plot.trades(solved(), colour=v),
}  # fmt: skip
#: What is right after all: defaults, and numbers where numbers are asked for.
RIGHT: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "compare of", "compare reference", "fairness of", "market risk", "market contracts",
            "CVaR attitude", "contracts insurance_price", "contracts limit", "contracts price",
            "snapshots", "ADMM penalty", "Gauss-Seidel start", "Gauss-Seidel order", "sweep apply",
            "sweep store", "sweep shard", "sweep client", "plot ax", "plot scenario",
            "sample capacity_factor", "sample correlation", "scenario data", "solve_equilibrium",
        ),
        frozenset({"None"}),
    ),
    **dict.fromkeys(("allocate buy", "allocate sell"), frozenset({"None"})),
    **dict.fromkeys(("allocate weights", "allocate samples"), frozenset({"None", "5"})),
    "allocate coalitions": frozenset({"None", "[]", "()", "{}", "series"}),
    "allocate seed": frozenset({"5"}),
    "allocate store": frozenset({"None", "text"}),
    "names": frozenset({"text"}),
    "market surplus": frozenset({"True"}),
    "add_trades price": NUMBERS,
    "sample seed": frozenset({"5"}),
    "sample number": frozenset({"5"}),
    "sample demand_deviation": frozenset({"5"}),
    "sweep over": frozenset({"None", "{}"}),
    "sweep keep": frozenset({"[]", "()", "{}", "series"}),
    "sample capacity_factor": frozenset({"None", "{}"}),
    "sample correlation": frozenset({"None", "{}"}),
    "contracts insurance_price": frozenset({"None", "5"}),
    "contracts limit": frozenset({"None", "5", "inf", "huge"}),  # without limit
    "contracts price": NUMBERS | {"None"},
    "ADMM penalty": frozenset({"None", "5"}),
    "ADMM tolerance": frozenset({"5"}),
    "Gauss-Seidel tolerance": frozenset({"5"}),
    "Gauss-Seidel regularisation": frozenset({"5"}),
    "sweep store": frozenset({"None", "text"}),
    "sweep workers": frozenset(),
    **dict.fromkeys(("add_trades capacity", "add_trades congestion"), frozenset({"5"})),
    "add_prosumers demand": NUMBERS,
    "add_prosumers demand_min": NUMBERS,
    "scenarios": frozenset({"mapping"}),  # of probability 1
    "add_prosumers generation_min": frozenset({"-1"}),
    "add_prosumers demand_max": frozenset({"5"}),
    **dict.fromkeys(
        (
            "add_prosumers utility_quadratic", "add_prosumers generation_max",
            "add_prosumers renewable",
        ),
        frozenset({"5"}),
    ),
    **dict.fromkeys(
        (
            "add_prosumers marginal_cost", "add_prosumers import_price",
            "add_prosumers fixed_cost", "add_prosumers usage_benefit",
        ),
        NUMBERS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_wrong_calls(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error of anybody else's, and nothing is taken in silence."""
    monkeypatch.chdir(tmp_path)
    taken, foreign, changed = [], {}, []
    for name, value in WRONG.items():
        if call in ("sweep workers", "allocate workers") and name == "5":
            continue  # five processes
        LAST.clear()
        try:
            CALLS[call](value)
        except p2p.P2PError:
            if all(n.equals(before) for n, before in LAST):
                continue
            changed.append(name)
        except Exception as error:
            foreign[name] = f"{type(error).__name__}: {error}"
        else:
            taken.append(name)
        KEPT.clear()
    assert not foreign
    assert not changed
    assert set(taken) <= RIGHT.get(call, frozenset()), taken


@pytest.mark.parametrize("meta", [5, {}, {"objective": 1.0}, None])
def test_what_a_market_left_and_somebody_changed(meta: Any) -> None:
    n = solved().copy()
    n.meta["p2p"] = meta
    with pytest.raises(p2p.MarketError, match=r"[Ss]olve"):
        p2p.results(n)


def test_snapshots_that_repeat() -> None:
    n = prosumers()
    n.set_snapshots(pd.Index(["now", "now"]))
    p2p.add_trades(n, "complete", capacity=1)
    with pytest.raises(p2p.DataError, match=r"n\.snapshots repeats 'now'"):
        p2p.PeerToPeerMarket().optimize(n)


@pytest.mark.parametrize(
    "correlation", [{"Wind": 0.9}, {"wind": 2.0}, {"wind-sun-demand": 0.1}, {5: 0.1}]
)
def test_correlations_of_nothing(correlation: Any) -> None:
    with pytest.raises(p2p.DataError, match="correlation"):
        drawn(correlation=correlation)


@pytest.mark.parametrize("shape", [(-1, 2), (1, 2, 3), ("a", 1), 5])
def test_no_distribution(shape: Any) -> None:
    with pytest.raises(p2p.DataError, match="capacity_factor of 'wind'"):
        drawn(capacity_factor={"wind": shape})
