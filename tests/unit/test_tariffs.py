"""Network tariffs as fees: by distance, voltage level and zone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pypsa
import pytest

import pypsa_p2p as p2p

Fees = Callable[[pypsa.Network], pd.DataFrame]


def feeder() -> pypsa.Network:
    """A street at 0.4 kV with a and b, works c at 20 kV 3 km off, d at 110 kV, e beyond all."""
    n = pypsa.Network()
    n.add("Bus", ["street", "works", "tower", "isle"], v_nom=[0.4, 20.0, 110.0, 0.4],
          x=[0.0, 3.0, 3.0, 9.0], y=[0.0, 4.0, 4.0, 9.0])  # fmt: skip
    n.add("Line", "short", bus0="works", bus1="street", x=0.1, length=3.0)
    n.add("Line", "long", bus0="works", bus1="street", x=0.1, length=7.0)
    n.add("Line", "off", bus0="works", bus1="isle", x=0.1, length=1.0, active=False)
    n.add("Transformer", "T", bus0="tower", bus1="works", x=0.1)
    where = {"a": "street", "b": "street", "c": "works", "d": "tower", "e": "isle"}
    p2p.add_prosumers(n, list(where), demand=1.0, demand_max=2.0, utility_quadratic=1.0,
                      grid_bus=where)  # fmt: skip
    return n


def test_along_the_grid_the_shortest_way_counts() -> None:
    fee = p2p.distance_fees(feeder(), 0.5, along="grid")
    assert fee.loc["a", ["a", "b", "c", "d"]].tolist() == [0.0, 0.0, 1.5, 1.5]
    assert fee.drop(index="e")["e"].isna().all()
    assert fee.equals(fee.T)


def test_coordinates_in_degrees_and_in_metres(monkeypatch: pytest.MonkeyPatch) -> None:
    n = feeder()
    of_degrees = p2p.distance_fees(n, 1.0).loc["a", "c"]
    assert of_degrees == pytest.approx(6371.0 * np.radians(5.0), rel=2e-3)  # flat near 0, 0
    n.buses[["x", "y"]] *= 1000.0
    monkeypatch.setattr(pypsa.Network, "srid", 3035)
    assert p2p.distance_fees(n, 2.0).loc["a", "c"] == pytest.approx(2.0 * 5.0)


def test_levels_from_ones_own_up_to_the_partners() -> None:
    fee = p2p.voltage_fees(feeder(), {20.0: 1.0, 0.4: 3.0, 110: 0.25})
    assert fee.loc["a", [*"bcd"]].tolist() == [3.0, 4.0, 4.25]
    assert fee.loc["c", [*"acd"]].tolist() == [1.0, 1.0, 1.25]
    assert fee.loc["d", [*"acd"]].tolist() == [0.25, 0.25, 0.25]


def test_zones() -> None:
    zone = {"a": "east", "b": "east", "c": "west", "d": "west", "e": "isle"}
    n = feeder()
    assert p2p.zone_fees(n, zone, inside=0.5, across=2.0).loc["a", [*"bce"]].tolist() == [
        0.5, 2.0, 2.0
    ]  # fmt: skip
    names = ("east", "west", "isle")
    across = {(one, other): 10.0 * i + j for i, one in enumerate(names)
              for j, other in enumerate(names) if i != j}  # fmt: skip
    fee = p2p.zone_fees(n, pd.Series(zone), across=across)
    assert fee.loc["c", [*"ade"]].tolist() == [10.0, 0.0, 12.0]
    assert fee.loc["a", "c"] == 1.0


def test_tariffs_add_up_in_a_market() -> None:
    n = feeder()
    fee = p2p.voltage_fees(n, {0.4: 3.0, 20.0: 1.0, 110.0: 0.25}) + p2p.distance_fees(
        n, 0.5, along="grid"
    )
    p2p.add_trades(n, [("c", "a"), ("a", "b")], capacity=1.0, fee=fee)
    assert n.links.fee0.tolist() == [1.0 + 1.5, 3.0]  # c, a
    assert n.links.fee1.tolist() == [4.0 + 1.5, 3.0]  # a, b
    with pytest.raises(p2p.DataError, match=r"fee lacks \('a', 'e'\)"):  # no way leads there
        p2p.add_trades(n, [("a", "e")], capacity=1.0, fee=fee)


REFUSED: list[tuple[Fees, str]] = [
    (lambda n: p2p.distance_fees(n, -1.0), "distance_fees: rate"),
    (lambda n: p2p.distance_fees(n, 1.0, along="air"), "along is 'air'"),  # type: ignore[arg-type]
    (lambda n: p2p.distance_fees(pypsa.Network(), 1.0), "has no prosumers"),
    (lambda n: p2p.voltage_fees(n, {0.4: 1.0, 20.0: 1.0}), r"tariff lacks .*110.* kV, where 'd'"),
    (lambda n: p2p.voltage_fees(n, {0.4: -1.0}), "the tariff of 0.4 kV"),
    (lambda n: p2p.voltage_fees(n, 3.0), "tariff is 3"),  # type: ignore[arg-type]
    (lambda n: p2p.zone_fees(n, {"a": "east"}), "zone lacks 'b'"),
    (lambda n: p2p.zone_fees(n, dict(zip("abcde", "xxxyy", strict=True)), across={("x", "y"): 1}),
     r"across lacks \('y', 'x'\)"),
    (lambda n: p2p.zone_fees(n, dict.fromkeys("abcde", "x"), inside=-1.0), "zone_fees: inside"),
]  # fmt: skip


@pytest.fixture(scope="module")
def network() -> pypsa.Network:
    return feeder()


@pytest.mark.parametrize(("fees", "message"), REFUSED)
def test_what_makes_no_tariff(fees: Fees, message: str, network: pypsa.Network) -> None:
    with pytest.raises(p2p.P2PError, match=message):
        fees(network)


def test_places_nobody_has_drawn() -> None:
    n = feeder()
    n.buses[["x", "y"]] = 0.0
    with pytest.raises(p2p.DataError, match="have no coordinates"):
        p2p.distance_fees(n, 1.0)
    n.lines["length"] = 0.0
    with pytest.raises(p2p.DataError, match="No line has a length"):
        p2p.distance_fees(n, 1.0, along="grid")
