"""`results`: names, dims, units; numbers recomputed by hand from the tables; copies and files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.markets.base import Market
from tests.reference.instances import Instance, network, random_instance
from tests.reference.solve import risk_of

S, T, P, E = "scenario", "snapshot", "prosumer", "trade"
VARIABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "demand": ((S, T, P), "MW"),
    "generation": ((S, T, P), "MW"),
    "renewable": ((S, T, P), "MW"),
    "net_import": ((S, T, P), "MW"),
    "quantity": ((S, T, E), "MW"),
    "nodal_price": ((S, T, P), "EUR/MWh"),
    "price_unique": ((S, T, P), "1"),
    "import_price": ((S, T, P), "EUR/MWh"),
    "trade_price": ((S, T, E), "EUR/MWh"),
    "capacity_price": ((S, T, E), "EUR/MWh"),
    "cost": ((S, P), "EUR"),
    "fee": ((S, P), "EUR"),
    "fee_revenue": ((S,), "EUR"),
    "payment": ((S, P), "EUR"),
    "payment_now": ((S, P), "EUR"),
    "bill": ((S, P), "EUR"),
    "net_cost": ((S, P), "EUR"),
    "expected_cost": ((P,), "EUR"),
    "expected_net_cost": ((P,), "EUR"),
    "net_cost_value_at_risk": ((P,), "EUR"),
    "risk_adjusted_net_cost": ((P,), "EUR"),
    "value_at_risk": ((P,), "EUR"),
    "risk_adjusted_cost": ((P,), "EUR"),
    "risk_adjusted_probability": ((S, P), "1"),
    "social_cost": ((), "EUR"),
    "social_cost_without_fees": ((), "EUR"),
}
OF_CONTRACTS = {
    "contract": ((S, P), "EUR"),
    "insurance": ((S, P), "EUR"),
    "contract_price": ((S,), "1"),
    "at_cap": ((S,), "1"),
}
#: Money of scenarios that prosumers weigh differently has no one price.
OF_ONE_PRICE = {
    "payment", "bill", "net_cost", "expected_net_cost", "net_cost_value_at_risk",
    "risk_adjusted_net_cost",
}  # fmt: skip
THETA = 0.7
MARKETS: dict[str, Market] = {
    "neutral": p2p.CentralizedMarket(),
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=THETA)),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(weight=THETA), contracts=p2p.Contracts()),
    "certain": p2p.PeerToPeerMarket(),
}
EVERY = pytest.mark.parametrize("key", MARKETS)


@cache
def instance(key: str) -> Instance:
    """Three prosumers with congestion where the design allows it, two snapshots."""
    return random_instance(
        11, 3, 1 if key == "certain" else 3, 2, congestion=key in ("neutral", "certain")
    )


@cache
def solved(key: str) -> tuple[pypsa.Network, xr.Dataset]:
    n = network(instance(key))
    assert MARKETS[key].optimize(n) == ("ok", "optimal")
    return n, p2p.results(n)


@EVERY
def test_names_dims_and_units(key: str) -> None:
    n, r = solved(key)
    wanted = VARIABLES | (OF_CONTRACTS if key == "contracts" else {})
    assert set(r.data_vars) == set(wanted)
    for name, (dims, unit) in wanted.items():
        assert set(r[name].dims) == set(dims), name
        assert r[name].attrs["unit"] == unit, name
        assert r[name].attrs["long_name"], name
        differ = key == "averse" and name in OF_ONE_PRICE
        assert bool(r[name].isnull().any()) == differ, name
        assert differ or np.isfinite(r[name]).all(), name
    data = instance(key)
    assert r.indexes[P].tolist() == list(data.names)
    assert r.indexes[T].equals(n.snapshots)
    assert r.sizes[S] == len(data.probability)
    assert r.sizes[E] == 2 * len(data.edges)
    pairs = set(zip(r["buyer"].values.tolist(), r["seller"].values.tolist(), strict=True))
    names = data.names
    edges = {(names[i], names[j]) for i, j in data.edges}
    assert pairs == edges | {(j, i) for i, j in edges}


@EVERY
def test_power_is_what_pypsa_has(key: str) -> None:
    """Balance to 1e-8; p0 and p1 are minus what the ends buy; renewables are as given."""
    n, r = solved(key)
    supply = r.generation + r.renewable + r.net_import
    np.testing.assert_allclose(r.demand, supply, atol=1e-8)
    data = instance(key)
    first = data.names[data.edges[0, 0]], data.names[data.edges[0, 1]]
    column = f"{first[0]} - {first[1]}"
    for scenario in r.indexes[S]:
        label = (scenario, column) if n.has_scenarios else column
        bought = r.quantity.sel(scenario=scenario)
        for table, (buyer, seller) in (("p0", first), ("p1", first[::-1])):
            one = bought.where((r.buyer == buyer) & (r.seller == seller), drop=True)
            np.testing.assert_array_equal(one.squeeze(E), -n.links_t[table][label])
    by_buyer = r.quantity.groupby("buyer").sum().rename(buyer=P)
    xr.testing.assert_allclose(by_buyer.sel(prosumer=r[P]).drop_vars(P), r.net_import.drop_vars(P))
    renewable = data.renewable.transpose(1, 2, 0)
    np.testing.assert_allclose(r.renewable.transpose(S, T, P), renewable, atol=1e-8)


@EVERY
def test_cost_by_hand(key: str) -> None:
    """(7) term by term from the instance's own numbers and the reported decisions."""
    _, r = solved(key)
    data = instance(key)
    position = {name: k for k, name in enumerate(data.names)}
    price = {}
    for k, (i, j) in enumerate(data.edges.tolist()):
        price[i, j] = data.price[k], data.congestion[k]
        price[j, i] = data.price[len(data.edges) + k], data.congestion[k]
    bought = {
        (position[b], position[s]): r.quantity.isel(trade=k).transpose(S, T).to_numpy()
        for k, (b, s) in enumerate(zip(r.buyer.values, r.seller.values, strict=True))
    }
    for k, name in enumerate(data.names):
        one = r.sel(prosumer=name)
        D, G = (one[v].transpose(S, T).to_numpy() for v in ("demand", "generation"))
        Q = sum(q for (buyer, _), q in bought.items() if buyer == k)
        hourly = 0.5 * data.a[k] * G**2 + data.b[k] * G + data.d[k]
        hourly += data.utility_quadratic[k] * (D - data.demand[k]) ** 2 - data.usage_benefit[k]
        hourly += data.import_price[:, :, k] * Q
        for (buyer, seller), q in bought.items():
            if buyer == k:
                b, a = price[buyer, seller]
                hourly += (a * (q + bought[seller, buyer]) + b) * q
        np.testing.assert_allclose(one.cost, hourly @ data.weighting, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(one.expected_cost, data.probability @ one.cost.to_numpy())


@EVERY
def test_risk_by_hand(key: str) -> None:
    """R = (1 - theta) E + theta CVaR of what is left after contracts, plus their premium."""
    n, r = solved(key)
    data = instance(key)
    averse = key in ("averse", "contracts")
    total = 0.0
    for k, name in enumerate(data.names):
        one = r.sel(prosumer=name)
        paid, premium = one.cost.to_numpy(), 0.0
        if key == "contracts":
            paid = paid - one.contract.to_numpy()
            premium = float((r.contract_price * one.contract).sum())
        chi = data.risk_attitude[k] if averse else 0.0
        wanted = risk_of(data.probability, paid, chi, THETA if averse else 1.0) + premium
        assert float(one.risk_adjusted_cost) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        total += wanted
        assert float(one.risk_adjusted_probability.sum()) == pytest.approx(1.0, abs=1e-9)
        at_least = data.probability[paid >= float(one.value_at_risk) - 1e-7].sum()
        assert at_least >= 1 - chi - 1e-9, "value at risk: the tail above it holds 1 - chi"
    assert float(r.social_cost) == pytest.approx(total, rel=1e-9)
    assert n.objective == pytest.approx(total, rel=1e-6)


@EVERY
def test_payments_and_contracts_cancel(key: str) -> None:
    _, r = solved(key)
    np.testing.assert_allclose(r.payment.sum(P), 0.0, atol=1e-6)
    if key == "contracts":
        np.testing.assert_allclose(r.contract.sum(P), 0.0, atol=1e-8)
        np.testing.assert_allclose((r.contract * r.contract_price).sum(S), 0.0, atol=1e-8)
        assert float(r.contract_price.sum()) == pytest.approx(1.0, abs=1e-9)
        assert not r.insurance.any()


@EVERY
def test_results_survive_netcdf(key: str, tmp_path: Path) -> None:
    """Values, coordinates and attributes, twice over."""
    _, r = solved(key)
    r.to_netcdf(tmp_path / "results.nc")
    with xr.open_dataset(tmp_path / "results.nc") as read:
        xr.testing.assert_allclose(read.load(), r)
        for name in r:
            assert read[name].attrs == r[name].attrs
        assert read.attrs == r.attrs


@pytest.mark.parametrize("key", ["averse", "contracts", "certain"])
def test_results_of_copies_and_of_networks_from_files(key: str, tmp_path: Path) -> None:
    """Everything results need lies in PyPSA's own tables."""
    n, r = solved(key)
    n.model.solver_model = None
    xr.testing.assert_identical(p2p.results(n.copy()), r)
    n.export_to_netcdf(tmp_path / "network.nc")
    xr.testing.assert_allclose(p2p.results(pypsa.Network(tmp_path / "network.nc")), r)


def test_results_of_a_copied_and_reloaded_network_solved_as_a_hook(tmp_path: Path) -> None:
    n = network(instance("averse"))
    n.optimize(extra_functionality=MARKETS["averse"], log_to_console=False)
    n.model.solver_model = None
    xr.testing.assert_identical(p2p.results(n.copy()), p2p.results(n))
    n.export_to_netcdf(tmp_path / "network.nc")
    xr.testing.assert_allclose(p2p.results(pypsa.Network(tmp_path / "network.nc")), p2p.results(n))


def test_a_later_solve_without_a_market_has_no_results() -> None:
    """PyPSA's own optimum of the same network is no market: nothing stale may be reported."""
    n = network(instance("certain"))
    MARKETS["certain"].optimize(n)
    n.optimize(log_to_console=False)
    with pytest.raises(MarketError, match="market"):
        p2p.results(n)


def test_a_failed_solve_after_a_good_one_has_no_results() -> None:
    n = network(instance("certain"))
    MARKETS["certain"].optimize(n)
    n.add("Load", "smelter", bus="p0", p_set=1000.0)
    with pytest.raises(MarketError, match="infeasible"):
        MARKETS["certain"].optimize(n)
    with pytest.raises(MarketError):
        p2p.results(n)


def test_the_last_market_solved_is_the_one_reported() -> None:
    n = network(instance("contracts"))
    for key in ("contracts", "averse"):
        MARKETS[key].optimize(n)
    assert "contract" not in p2p.results(n)
    assert float(p2p.results(n).social_cost) == pytest.approx(
        float(solved("averse")[1].social_cost)
    )


def test_results_read_and_write_nothing() -> None:
    n, _ = solved("averse")
    before = {c.name: c.static.copy() for c in n.components}
    p2p.results(n)
    for component in n.components:
        pd.testing.assert_frame_equal(component.static, before[component.name])


def test_renewable_is_what_must_be_taken_whatever_its_carrier() -> None:
    """p_min_pu = p_max_pu by the user's own hand; what may be curtailed, or has no capacity, not.

    The sun does not shine in the first snapshot: solved alone, nothing changes side.
    """
    n = network(instance("averse"))
    before = solved("averse")[1].renewable.sel(prosumer="p0")
    series = {"p_min_pu": [0.0, 0.3], "p_max_pu": [0.0, 0.3]}
    n.add("Generator", "panels", bus="p0", carrier="solar", p_nom=2.0, **series)
    n.add("Generator", "mill", bus="p0", carrier="renewable", p_nom=1.0, p_max_pu=[0.0, 0.5])
    n.add("Generator", "plan", bus="p0", carrier="flexible generation", p_nom=0.0, p_min_pu=1.0)
    for snapshots in (n.snapshots, n.snapshots[:1], n.snapshots[1:]):
        MARKETS["averse"].optimize(n, snapshots)
        r = p2p.results(n)
        own = r.renewable.sel(prosumer="p0") - before.sel(snapshot=snapshots)
        wanted = pd.Series([0.0, 0.6], n.snapshots)[snapshots].to_numpy()
        np.testing.assert_allclose(own.transpose(S, T), np.tile(wanted, (3, 1)), atol=1e-8)
        np.testing.assert_allclose(r.demand, r.generation + r.renewable + r.net_import, atol=1e-8)


def test_elastic_demand_without_room_stays_demand() -> None:
    """Its limits coincide, as a must-take generator's do; its carrier says what it is."""
    n = pypsa.Network(snapshots=pd.RangeIndex(1))
    fixed = {"demand": 3.0, "demand_min": 2.0, "demand_max": 2.0, "utility_quadratic": 1.0}
    p2p.add_prosumers(n, ["a"], **fixed, generation_max=9.0)
    p2p.CentralizedMarket().optimize(n)
    r = p2p.results(n).squeeze()
    assert (float(r.demand), float(r.generation), float(r.renewable)) == (
        pytest.approx(2.0),
        pytest.approx(2.0),
        0.0,
    )


def test_a_rolling_horizon_is_refused() -> None:
    """Its results would be those of its last window alone; the first is solved and kept."""
    n = network(instance("averse"))
    with pytest.raises(
        MarketError, match=r"other snapshots.*rolling.*market\.optimize\(n, window\)"
    ):
        n.optimize.optimize_with_rolling_horizon(
            horizon=1, extra_functionality=MARKETS["averse"], log_to_console=False
        )
    assert p2p.results(n).indexes[T].equals(n.snapshots[:1])


def test_windows_one_by_one(route: str) -> None:
    """`market.optimize` in a loop; as a hook, of copies, or of a part of what was solved."""
    n, market = network(instance("averse")), MARKETS["averse"]
    parts = []
    for k in range(2):
        window = n.snapshots[k : k + 1]
        one = n if route == "direct" else network(instance("averse"))
        if route == "direct":
            market.optimize(n, window)
        else:
            one.optimize(window, extra_functionality=market, log_to_console=False)
        parts.append(p2p.results(one))
        assert parts[-1].indexes[T].equals(window)
        assert float(parts[-1].social_cost) == pytest.approx(one.objective, rel=1e-6)
    for one in (n, network(instance("averse"))):
        one.optimize(extra_functionality=market, log_to_console=False)
        one.optimize(n.snapshots[1:], extra_functionality=market, log_to_console=False)
        again = p2p.results(one)
        np.testing.assert_allclose(again.cost.sum(), parts[1].cost.sum(), rtol=1e-5)
