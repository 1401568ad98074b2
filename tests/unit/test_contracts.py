"""What `Contracts` stores, reads from a network, and refuses before anything is changed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pypsa
import pytest
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.solvers.tail import worst
from tests.unit.test_markets import build

SCENARIOS = pd.Index(["wet", "dry"], dtype=object)
PROSUMERS = pd.Index(["a", "b", "c"], dtype=object)
PAYOFF = pd.DataFrame([[1.0, 2.0]], ["forward"], ["dry", "wet"])
AVERSE = p2p.CVaR()


@pytest.fixture(scope="module")
def n() -> pypsa.Network:
    """For what leaves it as it was."""
    return build(scenarios=True)


def terms(**given: Any) -> Any:
    return p2p.Contracts(**given).terms(SCENARIOS, PROSUMERS)


@pytest.mark.parametrize(
    "price",
    [
        [0.6, 0.9],
        (0.6, 0.9),
        np.array([0.6, 0.9]),
        {"dry": 0.9, "wet": 0.6},
        pd.Series({"dry": 0.9, "wet": 0.6}),
        xr.DataArray([0.9, 0.6], coords={"scenario": ["dry", "wet"]}),
    ],
    ids=["list", "tuple", "array", "mapping", "Series", "DataArray"],
)
@pytest.mark.parametrize("argument", ["insurance_price", "price"])
def test_prices_by_scenario(argument: str, price: Any) -> None:
    contracts = p2p.Contracts(**{argument: price})
    assert contracts == p2p.Contracts(**{argument: copy.copy(price)})
    assert hash(contracts) == hash(p2p.Contracts(**{argument: copy.copy(price)}))
    read = contracts.terms(SCENARIOS, PROSUMERS)
    np.testing.assert_array_equal(getattr(read, argument), [0.6, 0.9])


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (2, [[2, 2, 2], [2, 2, 2]]),
        ([1, 2, 3], [[1, 2, 3], [1, 2, 3]]),
        ({"c": 3, "a": 1, "b": 2}, [[1, 2, 3], [1, 2, 3]]),
        (xr.DataArray([4.0, 5.0], coords={"scenario": ["dry", "wet"]}), [[5, 5, 5], [4, 4, 4]]),
        (pd.DataFrame([[1, 2, 3], [4, 5, 6]], ["dry", "wet"], list("abc")), [[4, 5, 6], [1, 2, 3]]),
    ],
    ids=["number", "sequence", "mapping", "by scenario", "DataFrame"],
)
def test_limits(limit: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(terms(limit=limit).limit, wanted)


@pytest.mark.parametrize(
    ("payoff", "names", "wanted"),
    [
        (None, ["wet", "dry"], [[1, 0], [0, 1]]),
        (["dry"], ["dry"], [[0, 1]]),
        ("dry", ["dry"], [[0, 1]]),
        (PAYOFF, ["forward"], [[2, 1]]),
        (xr.DataArray(PAYOFF, dims=["contract", "scenario"]), ["forward"], [[2, 1]]),
        (xr.DataArray(PAYOFF, dims=["contract", "scenario"]).T, ["forward"], [[2, 1]]),
        (pd.Series({"dry": 1.0, "wet": 0.5}), ["contract"], [[0.5, 1]]),
    ],
    ids=["none", "names", "a name", "DataFrame", "DataArray", "transposed", "Series"],
)
def test_payoffs(payoff: Any, names: list[str], wanted: Any) -> None:
    contracts = p2p.Contracts(payoff=payoff)
    assert contracts == p2p.Contracts(payoff=copy.copy(payoff))
    assert len({contracts, p2p.Contracts(payoff=copy.copy(payoff))}) == 1
    read = contracts.terms(SCENARIOS, PROSUMERS)
    assert read.names.tolist() == names
    np.testing.assert_array_equal(read.payoff, wanted)


def test_different_contracts_differ() -> None:
    assert p2p.Contracts(limit=1) != p2p.Contracts(limit=2)
    assert p2p.Contracts(payoff=PAYOFF) != p2p.Contracts(payoff=2 * PAYOFF)
    assert p2p.Contracts() == p2p.Contracts(price="clearing")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"price": "market"}, "'clearing', 'paper' or numbers"),
        ({"price": None}, "'clearing', 'paper' or numbers"),
        ({"limit": True}, "limit True must be a number of at least 0, or infinite"),
        ({"limit": -1}, "limit -1 must be a number of at least 0, or infinite"),
        ({"limit": {"a": 1, "b": -1}}, "limit -1 of prosumer 'b' must"),
        ({"limit": {("dry", "a"): 1, ("wet", "b"): 1}}, "nan of scenario 'dry' of prosumer 'b'"),
        ({"insurance_price": [0.9, -0.1]}, "insurance_price -0.1 at position 1 must .* above 0"),
        ({"insurance_price": np.nan}, "insurance_price nan must be a finite number above 0"),
        ({"price": {"dry": np.inf}}, "price inf of scenario 'dry' must be a finite number"),
        ({"insurance_price": {0.3, 0.4}}, "insurance_price is {.*}: give a number"),
        ({"price": pd.Series([0.1, 0.2], ["dry", "dry"])}, "price repeats scenario 'dry'"),
        ({"payoff": xr.DataArray([1.0, 2.0], dims="scenario")}, "payoff has no labels"),
        ({"payoff": xr.DataArray([1.0], coords={"contract": ["x"]})}, "paid in each scenario"),
    ],
)
def test_forms_refused_when_given(given: dict[str, Any], says: str) -> None:
    with pytest.raises(MarketError, match=says):
        p2p.Contracts(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"insurance_price": {"dry": 0.9}}, "lacks 'wet'"),
        ({"insurance_price": 0.4}, "sums to 0.8.*sure profit"),
        ({"insurance_price": {"wet": 0.1, "dry": 0.95}}, "least averse.*0.625.*Raise the lowest"),
        ({"price": [0.1, 0.2, 0.3]}, "3 values"),
        ({"limit": {"a": 1, "b": 2, "z": 3}}, "lacks 'c' and has the unknown 'z'"),
        ({"payoff": ["dry", "foggy"]}, "once each, from 'wet', 'dry'"),
        ({"payoff": ["dry", "dry"]}, "once each"),
        ({"payoff": []}, "nothing"),
        ({"payoff": 2.0}, "paid in each scenario"),
        ({"payoff": PAYOFF[["dry"]]}, "lacks 'wet'"),
        ({"payoff": pd.concat([PAYOFF, PAYOFF])}, "payoff repeats contract 'forward'"),
        ({"payoff": PAYOFF, "limit": pd.DataFrame([[1, 2, 3]], ["x"], list("abc"))}, "'forward'"),
    ],
)
def test_refused_before_anything_changes(
    n: pypsa.Network, given: dict[str, Any], says: str
) -> None:
    columns, meta = list(n.buses), copy.deepcopy(n.meta)
    with pytest.raises(MarketError, match=says):
        p2p.PeerToPeerMarket(risk=AVERSE, contracts=p2p.Contracts(**given)).optimize(n)
    assert list(n.buses) == columns
    assert n.meta == meta
    assert n._model is None


def test_a_hook_refuses_before_it_touches_the_model() -> None:
    n = build(scenarios=True)
    n.optimize.create_model(include_objective_constant=False)
    variables = list(n.model.variables)
    market = p2p.PeerToPeerMarket(risk=AVERSE, contracts=p2p.Contracts(limit=[1, 2]))
    with pytest.raises(MarketError, match="limit has 2 values"):
        market(n, n.snapshots)
    assert list(n.model.variables) == variables


def test_the_community_has_no_partner(n: pypsa.Network) -> None:
    risk = p2p.CVaR(attitude=0.4)
    for given in ({"limit": 1}, {"payoff": ["dry"]}):
        market = p2p.CentralizedMarket(
            aggregate="community", risk=risk, contracts=p2p.Contracts(**given)
        )
        with pytest.raises(MarketError, match="contracts inside it cancel"):
            market.optimize(n)


def test_unequal_weights_need_complete_contracts(n: pypsa.Network) -> None:
    market = p2p.PeerToPeerMarket(
        equilibrium="generalized",
        weights=[1, 2, 3],
        risk=AVERSE,
        contracts=p2p.Contracts(limit=1),
    )
    with pytest.raises(MarketError, match="contracts must be complete"):
        market.optimize(n)


def test_mixed_with_the_expectation_insurance_has_a_lower_floor(n: pypsa.Network) -> None:
    """tau >= (1 - .5) .5 = .25 in any case, so that insurance at .2 is bought without end."""
    insured = p2p.Contracts(insurance_price=[0.2, 2.0])
    market = p2p.CentralizedMarket(risk=p2p.CVaR(weight=0.5), contracts=insured)
    with pytest.raises(MarketError, match="insure without end"):
        market.optimize(n)


def test_contracts_of_a_certain_network() -> None:
    """One scenario: nothing to hedge, the contract on it costs what it pays."""
    n = build(scenarios=False)
    offer = p2p.Contracts(insurance_price=1.5, limit=2.0)
    p2p.PeerToPeerMarket(risk=AVERSE, contracts=offer).optimize(n)
    r = p2p.results(n)
    assert r.contract_price.to_numpy() == pytest.approx([1.0])
    np.testing.assert_allclose(r.contract, 0, atol=1e-9)
    np.testing.assert_array_equal(r.insurance, 0)


def test_envelopes_share_ties_by_room() -> None:
    """.2 is left for two tied scenarios with rooms .3 and .1: .15 and .05."""
    values = np.array([5.0, 1.0, 1.0, 0.0])
    tau = worst(values, np.full(4, 0.1), np.array([0.5, 0.4, 0.2, 0.9])).probability
    np.testing.assert_allclose(tau, [0.5, 0.25, 0.15, 0.1], atol=1e-15)


def test_a_network_solved_again_without_contracts_has_none() -> None:
    n = build(scenarios=True)
    p2p.PeerToPeerMarket(risk=AVERSE, contracts=p2p.Contracts(limit=1)).optimize(n)
    assert {"contract", "insurance"} <= set(n.buses)
    p2p.PeerToPeerMarket(risk=AVERSE).optimize(n)
    assert not {"contract", "insurance"} & set(n.buses)
    assert "contract" not in p2p.results(n)
