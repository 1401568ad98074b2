"""The certificate sees the same errors in any unit, and beside constants and limits of 1e9."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.equilibrium.cases import SETTINGS
from tests.laws.unit_markets import of_trades, priced
from tests.laws.units import UNITS, in_units
from tests.reference.instances import network, random_instance
from tests.reference.package import market_of

#: What a right number is off by, relatively, to be a wrong one.
WRONG = 1.001
#: In which table the largest number is changed.
PERTURBED = {
    "demand": ("Generator", "p", " elastic demand"),
    "generation": ("Generator", "p", " generation"),
    "load": ("Load", "p", ""),
    "what bus0 buys": ("Link", "p0", ""),
    "what bus1 buys": ("Link", "p1", ""),
    "nodal price": ("Bus", "marginal_price", ""),
    "trade price": ("Link", "mu_reciprocity", ""),
    "capacity price": ("Link", "mu_capacity", ""),
    "tau": ("Bus", "risk_adjusted_probability", ""),
}
MARKETS = {
    "neutral": ("neutral", True, "peer-to-peer"),
    "planned": ("neutral", True, "centralized"),
    "averse": ("averse", False, "peer-to-peer"),
    "contracts": ("contracts", False, "peer-to-peer"),
}


def market(name: str) -> tuple[pypsa.Network, Any]:
    """A network of four prosumers in MW and EUR, not solved, and its market."""
    setting, congestion, design = MARKETS[name]
    data = random_instance(11, 4, 3, 2, congestion=congestion)
    return network(data), market_of(data, design=design, **SETTINGS[setting])


@cache
def solved(name: str, unit: str) -> pypsa.Network:
    """Solved once; copy it before changing it."""
    n, asked = market(name)
    twin = in_units(n, UNITS[unit].power, UNITS[unit].money)
    asked.optimize(twin)
    return twin


def perturbed(n: pypsa.Network, what: str) -> pypsa.Network:
    """A copy in which the largest number of a table is a thousandth larger."""
    n = n.copy()
    component, attribute, suffix = PERTURBED[what]
    if what == "tau":
        _shift_tau(n)
        return n
    if what == "capacity price":  # of the end where it is one
        ends = ("mu_capacity0", "mu_capacity1")
        attribute = max(ends, key=lambda end: n.c["Link"].dynamic[end].abs().to_numpy().max())
    table = n.c[component].dynamic[attribute]
    chosen = [column for column in table if str(column[-1]).endswith(suffix)]
    sizes = table[chosen].abs().stack(list(range(table.columns.nlevels)), future_stack=True)
    snapshot, *column = sizes.idxmax()
    assert sizes.max() > 0
    table.loc[snapshot, tuple(column)] *= WRONG
    return n


def _shift_tau(n: pypsa.Network) -> None:
    """The largest tau a thousandth larger, and the same prosumer's least so much smaller."""
    tau = n.c["Bus"].static["risk_adjusted_probability"]
    scenario, prosumer = tau.idxmax()
    others = tau.xs(prosumer, level="name").drop(scenario)
    by = (WRONG - 1) * tau[scenario, prosumer]
    tau[scenario, prosumer] += by
    tau[others.idxmax(), prosumer] -= by
    n.c["Bus"].static["risk_adjusted_probability"] = tau


# --------------------------------------------------------------------------------- any unit


@pytest.mark.parametrize(("name", "unit"), [*product(MARKETS, UNITS)])
def test_right_answers_are_certified(name: str, unit: str) -> None:
    found = p2p.certify(solved(name, unit))
    assert found.is_equilibrium(), found


@pytest.mark.parametrize(("name", "what", "unit"), [*product(MARKETS, PERTURBED, UNITS)])
def test_wrong_answers_are_refused(name: str, what: str, unit: str) -> None:
    """A thousandth in one place, in any unit; 1e-3 W or 1e-3 MEUR would be something else."""
    found = p2p.certify(perturbed(solved(name, unit), what))
    assert not found.is_equilibrium(), found
    assert not found.is_equilibrium(1e-5), found


@pytest.mark.parametrize(("name", "unit"), [*product(MARKETS, UNITS)])
def test_the_same_numbers_in_any_unit(name: str, unit: str) -> None:
    """What one wrong price amounts to is relative, hence one number."""
    wanted = p2p.certify(perturbed(solved(name, "MW, EUR"), "nodal price"))
    found = p2p.certify(perturbed(solved(name, unit), "nodal price"))
    assert found.kkt_residual == pytest.approx(wanted.kkt_residual, rel=1e-4)


# ---------------------------------------------------------------------------- idle numbers

HUGE = 1e9
#: Markets with a number of 1e9 that decides nothing.
IDLE = (
    "usage benefit",
    "fixed cost",
    "trade capacity",
    "demand limit",
    "dear plant",
    "contract limit",
)


def idle(name: str, what: str) -> tuple[pypsa.Network, Any]:
    """A market in which `what` is 1e9: a constant, or a limit that is out of reach."""
    n, asked = market(name)
    buses, links = n.c["Bus"].static, n.c["Link"].static
    if what in ("usage benefit", "fixed cost"):
        buses.loc[pd.IndexSlice[:, "p0"], what.replace(" ", "_")] += HUGE
    elif what == "trade capacity":
        links.loc[pd.IndexSlice[:, unbinding(name)], "p_nom"] = HUGE
    elif what == "demand limit":
        least = n.c["Generator"].dynamic["p_min_pu"]
        least.loc[:, pd.IndexSlice[:, f"{unlimited(name)} elastic demand"]] = -HUGE
    elif what == "dear plant":
        n.add("Generator", "dear plant", bus="p1", p_nom=HUGE, marginal_cost=1e4)
    else:
        asked = p2p.PeerToPeerMarket(risk=asked.risk, contracts=p2p.Contracts(limit=HUGE))
    return n, asked


def unbinding(name: str) -> str:
    """The trade edge farthest from its capacity."""
    n = solved(name, "MW, EUR")
    links, taken = n.c["Link"].static["p_nom"], n.c["Link"].dynamic
    used = pd.concat([taken["p0"].abs(), taken["p1"].abs()]).max()
    room = (links - used).groupby(level="name").min()
    assert room.max() > 0.1
    return str(room.idxmax())


def unlimited(name: str) -> str:
    """The prosumer farthest from her limit of demand."""
    n = solved(name, "MW, EUR")
    generators = n.c["Generator"].dynamic
    room = (generators["p"] - generators["p_min_pu"]).min().groupby(level="name").min()
    room = room[room.index.str.endswith(" elastic demand")]
    assert room.max() > 0.1
    return str(room.idxmax()).removesuffix(" elastic demand")


@cache
def solved_idle(name: str, what: str) -> pypsa.Network:
    n, asked = idle(name, what)
    asked.optimize(n)
    return n


CASES = [
    (name, what)
    for name in ("neutral", "averse", "contracts")
    for what in IDLE
    if what != "contract limit" or name == "contracts"
]


@pytest.mark.parametrize("case", CASES)
def test_idle_numbers_change_no_answer(case: tuple[str, str]) -> None:
    """And the answer is certified. Costs keep 1e-6 of those without the constant."""
    name, what = case
    n = solved_idle(name, what)
    r, wanted = p2p.results(n), p2p.results(solved(name, "MW, EUR"))
    where = priced(solved(name, "MW, EUR"), wanted)
    for variable in ("demand", "generation", "quantity", "nodal_price", "trade_price"):
        scale = float(abs(wanted[variable]).max())
        there = {"nodal_price": where, "trade_price": of_trades(where, wanted)}.get(variable, True)
        off = abs(r[variable] - wanted[variable]).where(there, 0.0)
        assert float(off.max()) <= 1e-6 * scale, variable
    tau = "risk_adjusted_probability"
    xr.testing.assert_allclose(r[tau], wanted[tau], rtol=0, atol=1e-6)
    hours = float(n.snapshot_weightings["objective"].sum())
    constant = {"usage benefit": -HUGE * hours, "fixed cost": HUGE * hours}.get(what, 0.0)
    cost = r["cost"].copy()
    cost.loc[{"prosumer": "p0"}] -= constant
    scale = float(abs(wanted["cost"]).max())
    np.testing.assert_allclose(cost, wanted["cost"], rtol=0, atol=1e-6 * scale)
    found = p2p.certify(n)
    assert found.is_equilibrium(), found


@pytest.mark.parametrize(("case", "wrong"), [*product(CASES, PERTURBED)])
def test_idle_numbers_do_not_blind(case: tuple[str, str], wrong: str) -> None:
    """The same errors are seen: what decides nothing is no scale."""
    found = p2p.certify(perturbed(solved_idle(*case), wrong))
    assert not found.is_equilibrium(), found
    assert not found.is_equilibrium(1e-5), found
