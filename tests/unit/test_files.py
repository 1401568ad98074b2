"""What PyPSA's files leave out of a market: nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.files import limits_off_default, off_default


def sunny_or_not() -> pypsa.Network:
    """Series that in one scenario hold PyPSA's default alone: 0 at night, all of it at noon."""
    n = pypsa.Network(snapshots=range(2))
    names = ["house", "farm"]
    p2p.add_prosumers(
        n,
        names,
        demand=[4, 2],
        demand_max=10,
        utility_quadratic=5,
        marginal_cost_quadratic=1,
        risk_attitude=[0.2, 0.8],
    )
    p2p.add_trades(n, "complete", capacity=5, price=1)
    labels = {"scenario": ["noon", "night"], "prosumer": names}
    data = {
        "renewable": xr.DataArray([[6.0, 1.0], [0.0, 0.0]], labels),
        "generation_max": xr.DataArray([[0.0, 8.0], [0.0, 4.0]], labels),
        "demand": xr.DataArray([[4.0, 2.0], [0.0, 3.0]], labels),
        "marginal_cost": xr.DataArray([[10.0, 0.0], [10.0, 5.0]], labels),
        "import_price": xr.DataArray([[0.0, 0.0], [1.0, 1.0]], labels),
    }
    p2p.set_scenarios(n, {"noon": 0.6, "night": 0.4}, xr.Dataset(data))
    return n


def test_a_market_survives_files(tmp_path: Path) -> None:
    n = sunny_or_not()
    market = p2p.PeerToPeerMarket(risk=p2p.CVaR())
    market.optimize(n)
    before = p2p.results(n)
    n.export_to_netcdf(str(tmp_path / "market.nc"))
    again = pypsa.Network(str(tmp_path / "market.nc"))
    for c in n.components:
        for attribute, table in c.dynamic.items():
            if len(table.columns):
                read = again.c[c.name].dynamic[attribute][table.columns]
                np.testing.assert_array_equal(read.to_numpy(), table.to_numpy(), str(attribute))
    xr.testing.assert_allclose(p2p.results(again), before, rtol=1e-12, atol=1e-12)
    assert p2p.certify(again).is_equilibrium()
    market.optimize(again)
    assert again.objective == pytest.approx(n.objective, rel=1e-9)
    assert float(before["renewable"].sel(scenario="night").sum()) == 0


def test_only_series_of_nothing_but_the_default_move() -> None:
    values = np.array([[0.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    moved = off_default(values, 0.0)
    assert (moved[:, 0] > 0).all()
    assert (moved[:, 0] < 1e-300).all()
    np.testing.assert_array_equal(moved[:, 1:], values[:, 1:])


def test_limits_keep_their_order() -> None:
    labels = {"scenario": ["a", "b"], "snapshot": [0, 1]}
    lower = xr.DataArray([[0.0, 0.0], [0.5, 0.0]], labels)
    upper = xr.DataArray([[0.0, 0.3], [1.0, 1.0]], labels)
    low, high = limits_off_default(lower, upper)
    assert bool((low <= high).all())
    assert bool((low == high).sel(scenario="a", snapshot=0))
    np.testing.assert_allclose(low, lower, rtol=0, atol=1e-15)
    np.testing.assert_allclose(high, upper, rtol=0, atol=1e-15)
    assert bool((low.sel(scenario="a") != 0).all())
    assert bool((high.sel(scenario="b") != 1).all())
