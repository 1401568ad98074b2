"""A market is the same market in any unit: MW or W, EUR or MEUR (MODEL.md §7)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from tests.laws.unit_markets import (
    DESIGNS,
    NOT_CERTIFIED,
    design_of,
    drawn,
    of_trades,
    priced,
    route_of,
    settled,
)
from tests.laws.units import UNITS, Unit, in_units, market_in_units, results_in_units

#: What is promised, relative to the largest of its kind.
PROMISED = 1e-6
#: Of results, by kind: one scale each.
COSTS = ("cost", "expected_cost", "value_at_risk", "risk_adjusted_cost", "social_cost")
POWERS = ("demand", "generation", "renewable", "net_import", "quantity")
PRICES = ("nodal_price", "trade_price", "capacity_price", "grid_price")
PROBABILITIES = ("risk_adjusted_probability", "contract_price")
VOLUMES = ("contract", "insurance")
KINDS = (COSTS, POWERS, PRICES, PROBABILITIES, VOLUMES)

MARKETS = 200


@dataclass(frozen=True)
class Reference:
    """A market in MW and EUR: not solved, its answer, and where prices can be no others."""

    n: pypsa.Network
    market: Any
    answer: xr.Dataset
    priced: xr.DataArray


@lru_cache(maxsize=1)
def reference(seed: int) -> Reference:
    """Drawn and solved once for all units."""
    n, market = drawn(seed)
    solved = n.copy()
    answer = settled(solved, market)
    return Reference(n, market, answer, priced(solved, answer))


def differences(found: xr.Dataset, wanted: xr.Dataset, where: xr.DataArray) -> dict[str, float]:
    """By variable, how far it is off, relative to the largest of its kind; nan is equal to nan."""
    off = {}
    for kind in KINDS:
        here = {name: wanted[name] for name in kind if name in wanted}
        if kind == PRICES:
            trades = of_trades(where, wanted)
            here = {k: v.where(trades if "trade" in v.dims else where) for k, v in here.items()}
        scale = max((float(abs(values).max()) for values in here.values()), default=0.0)
        for name, values in here.items():
            missing = values.isnull()
            gap = (found[name] - values).where(~missing)
            if kind != PRICES:
                assert not (found[name].isnull() ^ missing).any(), f"{name} is missing somewhere"
            assert not gap.isnull().where(~missing, False).any(), f"{name} is missing somewhere"
            worst = float(abs(gap).max()) if gap.notnull().any() else 0.0
            off[name] = worst / scale if scale else worst
    return off


def compared(seed: int, unit: Unit) -> tuple[dict[str, float], p2p.Certificate | None]:
    """How far the answer in other units is off, and its certificate."""
    wanted = reference(seed)
    n = in_units(wanted.n, unit.power, unit.money)
    market = market_in_units(wanted.market, unit.power, unit.money)
    found = settled(n, market, route_of(seed))
    expected = results_in_units(wanted.answer, unit.power, unit.money)
    off = differences(found, expected, wanted.priced)
    return off, None if design_of(seed) in NOT_CERTIFIED else p2p.certify(n)


def test_there_and_back() -> None:
    """Every number that `in_units` changes, it changes back."""
    n, _ = drawn(list(DESIGNS).index("ieee14"))
    back = in_units(in_units(n, 1e3, 1e-6), 1e-3, 1e6)
    for component in n.all_components:
        of, again = n.c[component], back.c[component]
        pd.testing.assert_frame_equal(of.static, again.static, check_dtype=False, rtol=1e-12)
        for attribute, table in of.dynamic.items():
            pd.testing.assert_frame_equal(table, again.dynamic[attribute], rtol=1e-12)


@pytest.mark.parametrize("transformer", [True, False])
def test_the_grid_is_the_same(transformer: bool) -> None:
    """Flows by PyPSA's linear power flow, phase shift included, with x in Ohm as it is.

    Without transformers, whose x is per unit of their rating, they are the same at any voltage.
    """
    n = pypsa.Network()
    n.add("Bus", ["a", "b", "c"], v_nom=110.0)
    for ends, x in (("ab", 3.0), ("bc", 5.0)):
        n.add("Line", ends, bus0=ends[0], bus1=ends[1], x=x, r=0.1, s_nom=50.0)
    if transformer:
        n.add("Transformer", "ca", bus0="c", bus1="a", x=0.1, r=0.01, s_nom=40.0, phase_shift=5.0)
    else:
        n.add("Line", "ca", bus0="c", bus1="a", x=7.0, r=0.1, s_nom=50.0)
    n.add("Load", "load", bus="c", p_set=30.0)
    n.add("Generator", "plant", bus="a", p_set=30.0, control="Slack")
    other = in_units(n, 1e6, 1.0)
    if not transformer:
        other.c["Bus"].static["v_nom"] = 110.0
    for each in (n, other):
        each.lpf()
    flows, scaled = (each.c["Line"].dynamic["p0"].to_numpy() for each in (n, other))
    assert np.abs(flows).min() > 1
    np.testing.assert_allclose(scaled, 1e6 * flows, rtol=1e-9)


def cases() -> list[Any]:
    """Markets in every unit."""
    return [
        pytest.param(seed, name, id=f"{design_of(seed)} {seed} in {name}")
        for seed in range(MARKETS)
        for name in UNITS
    ]


@pytest.mark.parametrize(("seed", "unit"), cases())
def test_a_market_is_the_same_in_any_unit(seed: int, unit: str) -> None:
    """Costs, dispatch, prices, tau and contracts to 1e-6 of the largest of their kind."""
    off, certificate = compared(seed, UNITS[unit])
    assert max(off.values()) <= PROMISED, {k: v for k, v in off.items() if v > PROMISED}
    assert certificate is None or certificate.is_equilibrium(), certificate
