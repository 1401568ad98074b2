"""linopy's two semantics, and the model options PyPSA passes on to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import linopy
import numpy as np
import pytest

import pypsa_p2p as p2p
from pypsa_p2p.common.errors import P2PError
from pypsa_p2p.markets.base import Market
from tests.conformance.assets import Battery
from tests.reference.instances import network, random_instance

INSTANCE = random_instance(5, 3, 2, 2)
MARKETS = {
    "averse": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts()),
    "centralized": p2p.CentralizedMarket(surplus=False),
}


@pytest.fixture(params=["legacy", "v1"])
def semantics(request: pytest.FixtureRequest) -> Iterator[str]:
    before = linopy.options["semantics"]
    linopy.options["semantics"] = request.param
    yield request.param
    linopy.options["semantics"] = before


def answer(market: Market, route: str, *, battery: bool, **options: Any) -> Any:
    n = network(INSTANCE)
    if battery:
        Battery(0, cyclic=True).add(n, INSTANCE.names[0])
    if route == "direct":
        status = market.optimize(n, **options)
    else:
        status = n.optimize(extra_functionality=market, log_to_console=False, **options)
    assert tuple(status) == ("ok", "optimal")
    return p2p.results(n)


@pytest.mark.parametrize("battery", [False, True], ids=["plain", "battery"])
@pytest.mark.parametrize("key", MARKETS)
def test_semantics(semantics: str, key: str, battery: bool, route: str) -> None:
    """Same results whichever way linopy aligns."""
    found = answer(MARKETS[key], route, battery=battery)
    linopy.options["semantics"] = "legacy" if semantics == "v1" else "v1"
    other = answer(MARKETS[key], "direct", battery=battery)
    for name in other:
        np.testing.assert_allclose(found[name], other[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"freeze_constraints": True},
        {"set_names_in_solver_io": False},
        {"chunk": {"snapshot": 1}},
        {"chunk": "auto"},
    ],
)
@pytest.mark.filterwarnings("ignore:Model.freeze_constraints is deprecated:FutureWarning")
def test_model_options(options: dict[str, Any], route: str) -> None:
    """They change how linopy stores the model, not what it says; or they are refused in words."""
    market = MARKETS["averse"]
    given = options if route == "direct" else {"model_kwargs": options}
    try:
        found = answer(market, route, battery=False, **given)
    except P2PError as refusal:
        assert next(iter(options)) in str(refusal)  # noqa: PT017  (either way is right)
        return
    wanted = answer(market, "direct", battery=False)
    assert float(found.social_cost) == pytest.approx(float(wanted.social_cost), rel=1e-6)
    np.testing.assert_allclose(found.demand, wanted.demand, atol=1e-6)


@pytest.mark.parametrize("option", ["solver_name", "nonsense"])
def test_unknown_model_options(option: str) -> None:
    """Arguments of `n.optimize` that a direct solve has no use for are named in the refusal."""
    with pytest.raises(P2PError, match=option):
        MARKETS["averse"].optimize(network(INSTANCE), **{option: "highs"})


def test_sparse_models(route: str) -> None:
    """Model(sparse=True) exists under v1 only: it works, or is refused by name."""
    before = linopy.options["semantics"]
    linopy.options["semantics"] = "v1"
    try:
        test_model_options({"sparse": True}, route)
    finally:
        linopy.options["semantics"] = before
