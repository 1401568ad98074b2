"""Published DC costs of pglib-opf, to the five digits they are printed with."""

from __future__ import annotations

import pytest

import pypsa_p2p as p2p
from tests.pglib.cases import Case, published
from tests.pglib.solving import solved

_MOST = 500  # buses; larger ones by `python -m tests.pglib --up-to 2000`
CASES = [pytest.param(case, id=case.short) for case in published() if case.buses <= _MOST]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Prosumers .* can trade with nobody")
def test_published_cost(case: Case) -> None:
    found = solved(case)
    assert found.cost == pytest.approx(case.cost, rel=6e-5)
    assert found.cost == pytest.approx(found.pypsas, rel=1e-7)
    assert p2p.certify(found.n).is_equilibrium()
