"""Fixtures that several folders of tests share."""

from __future__ import annotations

import pytest

from tests.reference.package import ROUTES


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    """The two ways to solve a market: as a hook of `n.optimize`, and directly."""
    return str(request.param)


#: Modules whose parametrised cases are many and alike: half of them are in the ordinary run, the
#: others are slow (``-m "slow or not slow"`` runs all).
THINNED = {
    "test_agreement",
    "test_assets",
    "test_both_semantics",
    "test_certificate_delivery",
    "test_certificate_rejects",
    "test_contracts_in_full",
    "test_delivery",
    "test_equilibrium",
    "test_generalized",
    "test_grid",
    "test_investment",
    "test_prices",
    "test_tiny_markets",
    "test_user_constraints",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark half of the cases of each test in `THINNED`, in the Thue-Morse sequence.

    That keeps some of every parameter's values, also of those that alternate from case to case.
    """
    seen: dict[str, int] = {}
    for item in items:
        if item.path.stem not in THINNED or not hasattr(item, "callspec"):
            continue
        test = f"{item.path}::{item.originalname}"  # type: ignore[attr-defined]
        seen[test] = seen.get(test, -1) + 1
        if seen[test].bit_count() % 2:
            item.add_marker(pytest.mark.slow)
