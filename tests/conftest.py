"""Fixtures that several folders of tests share."""

from __future__ import annotations

import pytest

from tests.naming import case_name
from tests.reference.package import ROUTES


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    """The two ways to solve a market: as a hook of `n.optimize`, and directly."""
    return str(request.param)


#: Modules whose parametrised cases are many and alike: one in so many is in the ordinary run, the
#: others are slow (``-m "slow or not slow"`` runs all).
THINNED = {
    "by_hand/test_three_node": 2,
    "by_hand/test_tiny_markets": 2,
    "conformance/test_assets": 4,
    "conformance/test_both_semantics": 4,
    "conformance/test_delivery": 4,
    "conformance/test_delivery_by_hand": 4,
    "conformance/test_delivery_says": 4,
    "conformance/test_grid": 4,
    "conformance/test_investment": 4,
    "conformance/test_investment_by_hand": 4,
    "conformance/test_investment_laws": 4,
    "conformance/test_investment_refused": 4,
    "conformance/test_markets": 4,
    "conformance/test_user_constraints": 4,
    "equilibrium/test_algorithms": 4,
    "equilibrium/test_certificate": 4,
    "equilibrium/test_certificate_contracts": 4,
    "equilibrium/test_certificate_delivery": 4,
    "equilibrium/test_certificate_rejects": 4,
    "equilibrium/test_prices": 4,
    "integration/test_existing_models": 4,
    "laws/test_agreement": 4,
    "laws/test_contracts": 4,
    "laws/test_contracts_in_full": 4,
    "laws/test_equilibrium": 4,
    "laws/test_generalized": 4,
    "laws/test_invariance": 4,
    "laws/test_risk": 4,
    "laws/test_ties": 4,
    "unit/test_objective": 2,
    "unit/test_results": 2,
    "unit/test_ties": 2,
}


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Cases without `ids` are called by what they are."""
    return case_name(val, argname)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow all but some cases of each test in `THINNED`, by the Thue-Morse sequence.

    That keeps some of every parameter's values, also of those that alternate from case to case.
    """
    seen: dict[str, int] = {}
    for item in items:
        share = THINNED.get(f"{item.path.parent.name}/{item.path.stem}", 1)
        if share == 1 or not hasattr(item, "callspec"):
            continue
        test = f"{item.path}::{item.originalname}"  # type: ignore[attr-defined]
        place = seen[test] = seen.get(test, -1) + 1
        odd = place.bit_count() % 2 or (share == 4 and (place // 2).bit_count() % 2)
        if odd:
            item.add_marker(pytest.mark.slow)
