"""Data changed after a solve are noticed, whatever the form; untouched ones never are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypsa
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.network.checksums import checksums, require_unchanged
from pypsa_p2p.network.reading import read_market
from tests.reference.instances import network, random_instance

Change = Callable[[pypsa.Network], object]


def _set(component: str, column: str | list[str], new: Callable[[Any], Any]) -> Change:
    """Put new values in place of those of a column."""

    def change(n: pypsa.Network) -> None:
        static = n.c[component].static
        static[column] = new(static[column])

    return change


def _set_probability(n: pypsa.Network) -> None:
    table = n.scenario_weightings
    table["weight"] = [0.5, 0.25, 0.25]


def _set_weighting(n: pypsa.Network) -> None:
    table = n.snapshot_weightings
    table["objective"] = [1.0, 7.0]


CHANGES: dict[str, Change] = {
    "probability": _set_probability,
    "weighting": _set_weighting,
    "price1": _set("Link", "price1", lambda old: old + 1e-3),
    "price0": _set("Link", "price0", lambda old: old.to_numpy()[::-1]),
    "congestion": _set("Link", "congestion", lambda old: 0.3),
    "import_price": lambda n: n.buses_t["import_price"].__imul__(1.001),
    "usage_benefit": _set("Bus", "usage_benefit", lambda old: 5.0),
    "fixed_cost": _set("Bus", "fixed_cost", lambda old: 5.0),
    "marginal_cost of Generator": _set("Generator", "marginal_cost", lambda old: 0.2),
    "marginal_cost_quadratic of Generator": _set(
        "Generator", "marginal_cost_quadratic", lambda old: 0.2
    ),
    "owners of Generator": _set("Generator", "bus", lambda old: "p0"),
    "bus0 of trade edges": _set(
        "Link", ["bus0", "bus1"], lambda old: old[["bus1", "bus0"]].to_numpy()
    ),
}


def three() -> pypsa.Network:
    """Three prosumers, three scenarios, two snapshots."""
    return network(random_instance(11, 3, 3, 2))


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_named(what: str) -> None:
    n = three()
    kept = checksums(n, read_market(n), "trades")
    CHANGES[what](n)
    with pytest.raises(MarketError, match=f"Changed after .*{what}.*solve the market again"):
        require_unchanged(n, read_market(n), "trades", kept)


def test_attitudes_are_not_the_networks_matter() -> None:
    n = three()
    kept = checksums(n, read_market(n), "trades")
    n.buses["risk_attitude"] = 0.9
    require_unchanged(n, read_market(n), "trades", kept)


def test_another_prosumer_is_a_change() -> None:
    n = three()
    kept = checksums(n, read_market(n), "trades")
    p2p.add_prosumers(n, ["late"], demand=0.0, demand_max=0.0, utility_quadratic=0.0)
    with pytest.raises(MarketError, match="Changed after"):
        require_unchanged(n, read_market(n), "trades", kept)


@pytest.mark.parametrize("scenarios", [1, 3])
def test_copies_and_files_are_unchanged(scenarios: int, tmp_path: Path) -> None:
    """Text rounds numbers in the last digit: that is no change."""
    n = network(random_instance(11, 3, scenarios, 2))
    kept = checksums(n, read_market(n), "trades")
    n.export_to_netcdf(tmp_path / "network.nc")
    rounded = n.copy()
    _set("Generator", "marginal_cost_quadratic", lambda old: old * (1 + 1e-15))(rounded)
    for again in (n.copy(), pypsa.Network(tmp_path / "network.nc"), rounded):
        require_unchanged(again, read_market(again), "trades", kept)
