"""What solvers see of a market is the same in whatever units it is written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from pypsa_p2p.markets.clearing.convex import MarketSolution
from pypsa_p2p.markets.clearing.own_units import OwnUnits
from pypsa_p2p.markets.clearing.problem import MarketProblem
from pypsa_p2p.markets.contract_terms import Terms
from pypsa_p2p.solvers.program import RiskProgram
from tests.unit.solver_markets import random_market

ARRAYS = ("c", "lower", "upper", "x_lower", "x_upper", "constant")
FREE = np.empty(0, dtype=np.int64)


def problem_of(program: RiskProgram) -> MarketProblem:
    """A market without congestion; for its units all columns are alike."""
    n = program.c.size
    return MarketProblem(
        program=program,
        partner=sparse.csr_matrix((n, n)),
        cross=1.0,
        share=np.ones(n),
        trades=FREE.reshape(2, 0),
        reciprocity=FREE,
        exports=FREE,
        priced=np.zeros(program.A.shape[0]),
        reported=np.zeros(program.A.shape[0], dtype=bool),
    )


def rewritten(program: RiskProgram, power: float, money: float) -> RiskProgram:
    """The same program where one MW is `power` and one EUR is `money`."""
    return replace(
        program,
        P=program.P * (money / power**2),
        c=program.c * (money / power),
        lower=program.lower * power,
        upper=program.upper * power,
        x_lower=program.x_lower * power,
        x_upper=program.x_upper * power,
        constant=program.constant * money,
    )


@pytest.mark.parametrize(("power", "money"), [(1e6, 1.0), (1.0, 1e-6), (1e3, 1e-3), (1e-3, 1e2)])
def test_solvers_see_the_same_numbers(power: float, money: float) -> None:
    program = random_market(6, 5, seed=8)
    other = rewritten(program, power, money)
    seen, seen_other = (
        OwnUnits.of(problem_of(p)).problem(problem_of(p)).program for p in (program, other)
    )
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(seen_other, name), getattr(seen, name), rtol=1e-12)
    np.testing.assert_allclose(seen_other.P.data, seen.P.data, rtol=1e-12)


def test_rows_written_in_other_units_are_the_same() -> None:
    """A row of emissions in g instead of t, with what it allows."""
    program = random_market(4, 3, seed=1)
    factor = np.where(np.arange(program.A.shape[0]) % 7 == 0, 1e6, 1.0)
    other = replace(
        program,
        A=sparse.diags(factor) @ program.A,
        lower=program.lower * factor,
        upper=program.upper * factor,
    )
    seen, seen_other = (
        OwnUnits.of(problem_of(p)).problem(problem_of(p)).program for p in (program, other)
    )
    np.testing.assert_allclose(seen_other.A.toarray(), seen.A.toarray(), rtol=1e-12)
    np.testing.assert_allclose(seen_other.upper, seen.upper, rtol=1e-12)


def test_constants_are_left_out_and_put_back() -> None:
    """1e9 EUR in every scenario: solvers see nothing of it, the objective has it."""
    program = random_market(3, 4, seed=2)
    dear = replace(program, constant=program.constant + 1e9)
    own, own_dear = (OwnUnits.of(problem_of(p)) for p in (program, dear))
    seen = own.problem(problem_of(program)).program.constant
    seen_dear = own_dear.problem(problem_of(dear)).program.constant
    np.testing.assert_allclose(seen_dear, seen, atol=1e-6)  # 1e9 holds no more digits
    rows, columns = program.A.shape
    found = MarketSolution(
        status="optimal",
        solver="none",
        x=np.zeros(columns),
        row_dual=np.zeros(rows),
        risk_adjusted_probability=np.zeros((0, 0)),
        objective=2.0,
    )
    back = own_dear.solution(found, problem_of(dear))
    groups = int(program.group.max()) + 1
    assert back.objective - own.solution(found, problem_of(program)).objective == pytest.approx(
        1e9 * groups, rel=1e-9
    )


def test_contracts_are_counted_in_what_they_pay() -> None:
    """Limit 4 units of a contract that pays 500 or -250: 2000 EUR at most, in units of money."""
    program = random_market(2, 2, seed=3)
    terms = Terms(
        names=["forward"],
        payoff=np.array([[500.0, -250.0]]),
        limit=np.full((1, 2), 4.0),
        insurance_price=None,
        price="clearing",
        every_scenario=False,
    )
    problem = replace(problem_of(program), terms=terms)
    own = OwnUnits.of(problem)
    seen = own.problem(problem).terms
    assert seen is not None and seen.limit is not None
    np.testing.assert_allclose(seen.payoff, [[1.0, -0.5]])
    np.testing.assert_allclose(seen.limit * own.units.money, 2000.0)


def test_the_unit_of_power_is_that_of_loads_not_of_limits() -> None:
    """Limits of 1e9, one of them for every column, decide nothing."""
    program = random_market(4, 3, seed=4)
    usual = OwnUnits.of(problem_of(program)).units
    wide = replace(program, x_upper=np.full(program.c.size, 1e9))
    assert OwnUnits.of(problem_of(wide)).units == usual
