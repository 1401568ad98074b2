"""What is decided before the scenario is known: certificates reject what is off by a little."""

from __future__ import annotations

import pypsa
import pytest

import pypsa_p2p as p2p
from tests.by_hand.markets import three_node_in_two_stages

OFF = 1e-3


def committed() -> pypsa.Network:
    """Three nodes that trade at both times, with risk; node 0 commits what she generates."""
    n = three_node_in_two_stages(friction=0.2, imbalance=(5.0, 0.5))
    market = p2p.PeerToPeerMarket(surplus=False, risk=p2p.CVaR(), here_and_now=("0 generation",))
    market.optimize(n)
    return n


@pytest.fixture(scope="module")
def solved() -> pypsa.Network:
    """Solved once, and left as it is."""
    n = committed()
    assert p2p.certify(n).is_equilibrium()
    return n


def perturbed(
    n: pypsa.Network, component: str, attribute: str, changes: dict[tuple[str, str], float]
) -> bool:
    """Whether a network passes with some numbers of one table changed; it is put back."""
    table = n.c[component].dynamic[attribute]
    kept = table.copy()
    for column, by in changes.items():
        table.loc[n.snapshots[0], column] += by
    found = p2p.certify(n)
    n.c[component].dynamic[attribute] = kept
    return found.is_equilibrium()


def test_a_quantity_that_differs_by_scenario(solved: pypsa.Network) -> None:
    """Day ahead all scenarios trade the same: bought by 1 and sold by 0 in one of them alone."""
    edge = "0 - 1 day-ahead"
    changes = {("0", edge): OFF}
    assert not perturbed(solved, "Link", "p0", changes)
    solved.c["Link"].dynamic["p0"].loc[:, ("0", edge)] += OFF
    passes = perturbed(solved, "Link", "p1", {("0", edge): -OFF})
    solved.c["Link"].dynamic["p0"].loc[:, ("0", edge)] -= OFF
    assert not passes


def test_a_wrong_price_day_ahead(solved: pypsa.Network) -> None:
    """Off in its sum over scenarios. In its parts it is no price: any split has the same sum."""
    edge = "0 - 2 day-ahead"
    assert not perturbed(solved, "Link", "mu_reciprocity", {("1", edge): OFF})
    split = {("1", edge): OFF, ("2", edge): -OFF}
    assert perturbed(solved, "Link", "mu_reciprocity", split)


def test_a_wrong_price_of_capacity(solved: pypsa.Network) -> None:
    """The capacity of both times of trade is in the condition of the edge day ahead too."""
    for edge in ("1 - 2", "1 - 2 day-ahead"):
        assert not perturbed(solved, "Link", "mu_capacity0", {("0", edge): OFF})


def test_an_output_that_differs_by_scenario(solved: pypsa.Network) -> None:
    """Imbalance makes up for it, so that balances hold."""
    output = solved.c["Generator"].dynamic["p"]
    kept = output.copy()
    output.loc[:, ("0", "0 generation")] += OFF
    output.loc[:, ("0", "0 imbalance sold")] -= OFF
    found = p2p.certify(solved)
    solved.c["Generator"].dynamic["p"] = kept
    assert found.residuals["balances and limits"] > 1e-6
    assert not found.is_equilibrium()


def test_output_committed_at_the_wrong_level(solved: pypsa.Network) -> None:
    """The same in all scenarios, and made up for, but not what is best."""
    output = solved.c["Generator"].dynamic["p"]
    kept = output.copy()
    for scenario in solved.scenarios:
        output.loc[:, (scenario, "0 generation")] += 10 * OFF
        output.loc[:, (scenario, "0 imbalance sold")] -= 10 * OFF
    found = p2p.certify(solved)
    solved.c["Generator"].dynamic["p"] = kept
    assert found.residuals["other assets at nodal prices"] > 1e-6 or not found.is_equilibrium()
    assert not found.is_equilibrium()


def test_it_survives_a_file(solved: pypsa.Network, tmp_path: object) -> None:
    """Certified, and with the same results, from netCDF."""
    path = f"{tmp_path}/stages.nc"
    solved.export_to_netcdf(path)
    again = pypsa.Network(path)
    assert p2p.certify(again).is_equilibrium()
    one, other = p2p.results(solved), p2p.results(again)
    assert set(one) == set(other)
    for name in ("day_ahead_price", "quantity", "trade_price", "payment_now", "cost"):
        gap = abs(one[name] - other[name].reindex_like(one[name])).max()
        assert float(gap) < 1e-9, name


def test_data_that_change_later(solved: pypsa.Network) -> None:
    """When trades are decided is part of what was solved."""
    n = committed()
    static = n.components.links.static
    static["decided"] = static["decided"].where(static["bus0"] != "1", "real-time")
    with pytest.raises(p2p.P2PError):
        p2p.results(n)
