"""What a market's prosumers minimise, as programs the solvers take (MODEL.md §3, §4).

A prosumer's cost depends on her partner's quantity where a trade edge is congested: her price
a (q_mn + q_nm) + b_mn rises with both. Everything a design does about that is here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.markets.clearing.planner import Planner
from pypsa_p2p.markets.contract_terms import Terms
from pypsa_p2p.markets.envelopes import by_cover
from pypsa_p2p.solvers.arrays import NO_LABELS, Flags, Labels, Sparse, Vector, ends_by_row, sum_by
from pypsa_p2p.solvers.cover import Cover
from pypsa_p2p.solvers.curved import Curved
from pypsa_p2p.solvers.program import UNOWNED, RiskProgram
from pypsa_p2p.solvers.sides import USUAL, Shares

Matrix = npt.NDArray[np.float64]

#: Stiffness of the springs of `kept_near`, relative to the congestion coefficient.
_SPRING = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class MarketProblem:
    """A market in the columns of its compiled model.

    Attributes
    ----------
    program : RiskProgram
        As the model states it, `cross` of the partners' quantities counted.
    partner : (n, n)
        C: how much a column's own price rises with its partner's quantity, a w, EUR/MW2.
    cross : float
        1: in full (a planner's social cost); 1/2: as in the potential, whose gradient is that of
        every prosumer's own cost.
    share : (n,)
        Rosen's weight of each column's owner, 1 on average; 1 of what is nobody's.
    trades : (2, S T E)
        Columns of p0 and of p1 of every trade.
    fees : (F,)
        Columns of what fees are paid on: what is bought and what is sold over edges with a fee.
    reciprocity : (S T E,)
        Rows of (1), in the same order.
    exports : (X,)
        Columns of what leaves the grid at its connections, where nothing may come in.
    priced : (rows,)
        1 of the prosumers' balances, whose multipliers are prices of energy, else 0.
    reported : (rows,)
        Whether a row's multiplier is reported: of all balances, and (1).
    terms : Terms or None
        The contracts traded.
    covers : (G,) or ()
        Envelopes of the groups that are no boxes: in `program` they may hold any probabilities.
    aside : (A,)
        Columns that only tell what the groups' risk is, and are nobody's decision or cost.
    curved : tuple of Curved
        Those of them that cost what curves say.
    by_prosumer : RiskProgram or None
        With contracts: `program` with a group for every prosumer, whoever's risk is taken.
    covers_by_prosumer : (N,) or ()
        With contracts: the prosumers' own `covers`.
    paid : (S T E,) or None
        Where payments are part of everybody's risk: trades that are paid in the scenario at a price
        of it. None where they are no part of it.
    planner : Planner or None
        Who compares the prosumers' costs otherwise than by their sum.
    """

    program: RiskProgram
    partner: Sparse
    cross: float
    share: Vector
    trades: Labels
    fees: Labels = field(default_factory=lambda: NO_LABELS)
    reciprocity: Labels
    exports: Labels
    priced: Vector
    reported: Flags
    terms: Terms | None = None
    covers: tuple[Cover | None, ...] = ()
    aside: Labels = field(default_factory=lambda: NO_LABELS)
    curved: tuple[Curved, ...] = ()
    by_prosumer: RiskProgram | None = None
    covers_by_prosumer: tuple[Cover | None, ...] = ()
    paid: Flags | None = None
    planner: Planner | None = None

    @property
    def even(self) -> bool:
        """Whether all prosumers have the same weight."""
        return bool((self.share == 1.0).all())

    def true(self, x: Vector) -> RiskProgram:
        """The program whose costs at x are the prosumers' own costs Pi (7) there."""
        return self._with_partners(self.program, x)

    @property
    def weighed_by(self) -> Shares:
        """What tells whether a cell is weighed.

        Where envelopes are no boxes its probability relative to the actual one; curves weigh
        every scenario, however little.
        """
        if not self.covers:
            return USUAL
        scenarios = self.program.group.size // self.program.groups
        covered = np.repeat([*(own is not None for own in self.covers), False], scenarios)
        curves = [own is not None and bool(own.curves) for own in self.covers]
        none = np.where(covered, ACCURACY.no_price * self.program.probability, ACCURACY.no_price)
        some = np.where(
            np.repeat([*curves, False], scenarios),
            ACCURACY.no_share * self.program.probability,
            np.inf,
        )
        return Shares(none=np.minimum(none, some), some=some)

    def risk_adjusted_cost(self, x: Vector) -> float:
        """What is minimised, weights left out, EUR: what each measure makes of the costs at x."""
        true = self.true(x)
        costs = true.costs(x)
        risk = true.tail(costs).value
        by_group = costs.reshape(true.groups, -1)
        missing = 0.0
        for cover, theirs in by_cover(self.covers):
            missing += float((cover.worst(by_group[theirs])[0] - risk[theirs]).sum())
        return true.objective(x) + missing

    def slope(self, x: Vector) -> Vector:
        """What a unit more of each column costs whoever decides it, times her weight, (n,)."""
        return np.asarray(self.program.P @ x + self.program.c) * self.share

    def costs_by_prosumer(self, x: Vector) -> Matrix:
        """Pi (7) of every prosumer, (S, N), EUR, of the market's own columns."""
        if self.by_prosumer is None:
            raise TypeError("a problem with contracts is needed")
        costs = self._with_partners(self.by_prosumer, x).costs(x)
        return costs.reshape(self.by_prosumer.groups, -1)[:-1].T

    def payments(self, program: RiskProgram, x: Vector, price: Vector) -> Vector:
        """What every cell of `program` pays at prices of its scenario, (S T E,), EUR, (K,)."""
        spent = (-price * x[self.trades]).ravel()  # p0 is what she sells
        return sum_by(program.cell[self.trades].ravel(), spent, program.group.size)

    def payments_by_prosumer(self, x: Vector, price: Vector) -> Matrix:
        """What every prosumer pays at such prices for what is paid in the scenario, EUR, (S, N)."""
        if self.by_prosumer is None or self.paid is None:
            raise TypeError("a problem with contracts and payments at risk is needed")
        spent = self.payments(self.by_prosumer, x, np.where(self.paid, price, 0.0))
        return spent.reshape(self.by_prosumer.groups, -1)[:-1].T

    def _with_partners(self, program: RiskProgram, x: Vector) -> RiskProgram:
        if not self.partner.nnz:
            return program
        missing = (1.0 - self.cross) * np.asarray(self.partner @ x)
        return replace(program, c=program.c + missing)

    def scaled(self) -> RiskProgram:
        """What is minimised: every prosumer's cost times her weight."""
        return self._weighted(self.program.P.tocsc(copy=True), self.program.c)

    def given(self, x: Vector, mirrored: Flags) -> RiskProgram:
        r"""What prosumers minimise near trades x, each against her partners' quantities there.

        Each prosumer's cost holds her own decisions only, so that it is weighted by her own
        risk-adjusted probabilities, and has the value and the slope of her true cost at x:

        .. math:: a (\hat q_{mn} + \hat q_{nm}) \hat q_{mn}
            + a (2 \hat q_{mn} + k \hat q_{nm}) (q_{mn} - \hat q_{mn})
            + \tfrac{h}{2} a (q_{mn} - \hat q_{mn})^2

        where k, 2 `cross`, is 1 if she minds her own cost only. With h = 2 the partner stays
        where she is; with h = 1 she moves against her, as she has to where nothing is left over,
        which leads to the equilibrium in fewer rounds.

        Parameters
        ----------
        x : (n,)
        mirrored : (n,)
            Where h is 1; elsewhere it is 2.
        """
        steep = np.asarray(self.partner.sum(axis=1)).ravel() * mirrored
        P = (self.without_partners() - sp.diags(steep)).tocsc()
        P.eliminate_zeros()
        beside = np.asarray(self.partner @ x)
        minded = 2.0 * self.cross  # k: how much of her partner's cost she minds beside her own
        c = self.program.c + minded * beside + steep * x
        more = -0.5 * steep * x**2 - (minded - 1.0) * beside * x
        return self._weighted(P, c, self._by_cell(more))

    @property
    def coupled(self) -> Labels:
        """Columns whose price moves with a partner's quantity."""
        return np.flatnonzero(np.diff(self.partner.tocsr().indptr))

    def kept_near(self, program: RiskProgram, x: Vector) -> RiskProgram:
        """A program with the coupled columns drawn towards x, by springs in further columns.

        A spring costs nothing where it is at rest, so that a solution at x solves `program`
        too. It is weighted by the scenario's probability whether anybody weighs that or not.
        """
        at, n = self.coupled, x.size
        here = sp.csr_matrix((np.ones(at.size), (np.arange(at.size), at)), (at.size, n))
        slope = np.asarray(self.partner.sum(axis=1)).ravel()[at]
        stiff = _SPRING * slope * program.per_column(program.probability)[at]
        free = np.full(at.size, np.inf)
        return replace(
            program,
            P=sp.block_diag([program.P, sp.diags(stiff)], format="csc"),
            c=np.append(program.c, np.zeros(at.size)),
            A=sp.bmat([[program.A, None], [here, -sp.identity(at.size)]], format="csr"),
            lower=np.append(program.lower, x[at]),
            upper=np.append(program.upper, x[at]),
            x_lower=np.append(program.x_lower, -free),
            x_upper=np.append(program.x_upper, free),
            cell=np.append(program.cell, np.full(at.size, UNOWNED)),
        )

    def without_partners(self) -> Sparse:
        """P without the products of partners' quantities, (n, n)."""
        P = self.program.P
        return P - P.multiply(self.partner != 0) if self.partner.nnz else P

    def spent(self, x: Vector) -> Flags:
        """Columns of trades of which nothing is left over to be sold at the import price."""
        p0, p1 = x[self.trades]
        spent = np.zeros(x.size, dtype=bool)
        spent[self.trades] = p0 + p1 <= ACCURACY.no_surplus * np.maximum(1.0, np.abs(p0))
        return spent

    def _weighted(self, P: Sparse, c: Vector, more: Vector | None = None) -> RiskProgram:
        P.data = P.data * np.repeat(self.share, np.diff(P.indptr))
        constant = self.program.constant if more is None else self.program.constant + more
        cells = self.program.cell
        of_cell = np.ones(constant.size)
        if self.program.groups > 2:  # a cell is one prosumer's, who has one weight
            of_cell[cells[cells >= 0]] = self.share[cells >= 0]
        return replace(self.program, P=P, c=c * self.share, constant=constant * of_cell)

    def _by_cell(self, by_column: Vector) -> Vector:
        owned = self.program.cell >= 0
        cells = self.program.constant.size
        return sum_by(self.program.cell[owned], by_column[owned], cells)

    def own_duals(self, row_dual: Vector) -> Vector:
        """Multipliers in each prosumer's own units, (rows,), of the weighted problem's.

        (1) is in those of the prosumer at bus0. Other rows that prosumers of different weights
        share keep the common multiplier, and so do those of who has no weight.
        """
        if self.even:
            return row_dual
        filled, least, most = ends_by_row(self.program.A.tocsr(), self.share)
        unit = np.ones(row_dual.size)
        unit[filled] = np.where(least == most, least, 1.0)
        unit[self.reciprocity] = self.share[self.trades[0]]
        return row_dual / _or_one(unit)

    def reciprocity1(self, own_dual: Vector) -> Vector | None:
        """zeta of (1) in the units of the prosumers at bus1, (S T E,), by `own_duals`.

        None where all weights are equal: it is that of the prosumers at bus0.
        """
        if self.even:
            return None
        ratio = _or_one(self.share[self.trades[0]]) / _or_one(self.share[self.trades[1]])
        return own_dual[self.reciprocity] * ratio


def _or_one(share: Vector) -> Vector:
    """Weights to divide by."""
    return np.where(share > 0.0, share, 1.0)


def risk_program(
    compiled: CompiledModel,
    probability: Vector,
    envelope: tuple[Matrix, Matrix],
    fixed_cost: Matrix,
) -> RiskProgram:
    """The market as min sum_g R_g, its groups the prosumers or, where there is one, all of them.

    Parameters
    ----------
    probability : (S,)
    envelope : (G, S) each
        Least and most risk-adjusted probability of every prosumer, or of the community.
    fixed_cost : (S, N)
        What no decision changes, EUR.
    """
    least, most = (np.append(end.ravel(), probability) for end in envelope)
    scenarios, groups = probability.size, len(envelope[0])
    of_prosumer = compiled.owner if groups > 1 else np.minimum(compiled.owner, 0)
    group = np.where(of_prosumer == UNOWNED, groups, of_prosumer)
    cell = np.where(compiled.scenario < 0, UNOWNED, group * scenarios + compiled.scenario)
    constant = fixed_cost if groups > 1 else fixed_cost.sum(axis=1, keepdims=True)
    unowned = np.zeros((scenarios, 1))  # a risk-neutral group of its own
    by_column = np.append(probability, 1.0)[compiled.scenario]
    qp = compiled.program
    P = qp.P.tocsc(copy=True)
    P.data = P.data / np.repeat(by_column, np.diff(P.indptr))
    return RiskProgram(
        P=P,
        c=qp.c / by_column,
        A=qp.A,
        lower=qp.lower,
        upper=qp.upper,
        x_lower=qp.x_lower,
        x_upper=qp.x_upper,
        cell=cell,
        constant=np.hstack([constant, unowned]).T.ravel(),
        group=np.repeat(np.arange(groups + 1), scenarios),
        probability=np.tile(probability, groups + 1),
        least=least,
        most=most,
    )


def separates(compiled: CompiledModel, program: RiskProgram) -> bool:
    """Whether no row and no variable ties scenarios together."""
    if (compiled.scenario < 0).any():
        return False
    _, least, most = ends_by_row(program.A.tocsr(), compiled.scenario)
    return bool((least == most).all())
