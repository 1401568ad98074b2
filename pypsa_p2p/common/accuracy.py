"""How exact everything is: every threshold of the package, and what each is relative to.

A market in kW, W, kEUR or MEUR is the same market. So no threshold here is a MW, a EUR or a
EUR/MWh. Solvers, ties and agents see a market in its own units (`units`), in which typical
powers and prices are 1, and their thresholds are shares of those; what judges an answer from
outside (the certificate) takes them relative to what it finds at the answer (MODEL.md §7).

How they depend on each other: solvers are asked for `solver` and believed at `good`, or at
`acceptable` where no other does better; choosing among optima takes multipliers below `no_price`
for none, which must exceed what solvers leave in them; all of it so that results keep `promised`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Thresholds, each with what it is relative to."""

    # ------------------------------------------------------------------ what is promised
    #: Of results and certificates: relative to the market's own scale.
    promised: float = 1e-6
    #: Of an equilibrium that agents' algorithms or samples found.
    sampled: float = 1e-5
    #: Error of prices, relative to the largest, that is worth a warning.
    price_warning: float = 1e-5

    # ------------------------------------------------------------------ rounding
    #: Of sums and products of numbers of one size, relative to them.
    rounding: float = 1e-12
    #: Of a difference, a sum of many or a mass of probability: relative to their terms.
    differences: float = 1e-13
    #: EUR/MWh in any unit: `marginal_cost` of trade edges, since PyPSA builds no objective where
    #: nothing at all costs anything; and what markets take for nothing.
    next_to_nothing: float = 1e-100
    nothing: float = 1e-50
    #: What tells a number from 0 where logarithms or quotients are taken.
    tiny: float = 1e-300

    # ------------------------------------------------------------------ quadratic programs
    #: Residual and gap asked of solvers: prices need more than the objective does.
    solver: float = 1e-11
    #: Gap relative to the objective; near what rounding allows, so that the absolute one holds.
    solver_gap: float = 1e-14
    #: Error of a proof of infeasibility that PIQP may stop at.
    no_ray: float = 1e-12
    #: Residual, and hundredth of the error of prices, at which no other solver is asked.
    good: float = 1e-9
    #: Weight of the error of prices beside the residuals.
    of_prices: float = 1e-2
    #: Residual above which there is no answer: of quadratic programs, and of risk programs.
    acceptable: float = 1e-8
    acceptable_risk: float = 1e-7
    #: Regularisation of PIQP at least, and where it stalls; tried in turn.
    piqp: tuple[tuple[float, float], ...] = ((1e-9, 1e-11), (1e-8, 1e-10))
    #: Regularisation of Clarabel, tried in turn: much for faces without interior, little for
    #: multipliers without limit, which much lets drift.
    clarabel: tuple[float, float] = (1e-7, 1e-10)
    #: Limits and costs farther away than this, in the market's own units, are tried without first:
    #: they seldom bind or are paid, and hide all else from an interior point. In the certificate:
    #: relative to the largest price of the answer.
    far: float = 1e3
    #: Bounds this close, relative to them, fix a column: it has no interior to speak of.
    fixed: float = 1e-11
    #: Bounds and rows that contradict each other by more than this have no solution.
    contradiction: float = 1e-9
    #: Weights of rows in a proof, relative to the largest, that are none.
    no_weight: float = 1e-7
    #: Weights that name no culprit; and what a balance may miss without being one.
    minor_weight: float = 1e-3
    missing: float = 1e-6
    #: Eigenvalues of a block of P, relative to its largest, that are none.
    no_curvature: float = 1e-14

    # ------------------------------------------------------------------ the interior point
    #: Of residuals and gap.
    interior: float = 1e-10
    #: Error at which degenerate programs may go no further; the caller checks.
    interior_nearly: float = 1e-7
    #: Regularisation of the Newton system: on x and eta, which have no curvature of their own,
    #: and on rows and cells, which may depend on each other.
    proximal: float = 1e-6
    dual_proximal: float = 1e-9
    #: Stiffness of a row, in units of the system, below which it has none.
    no_stiffness: float = 1e-20
    #: Multipliers beyond this are those of no feasible program.
    diverged: float = 1e12

    # ------------------------------------------------------------------ one among many optima
    #: A multiplier, per unit of probability, that holds nothing in place.
    no_price: float = 1e-6
    #: Differences of costs, relative to the largest, that are rounding; costs this close are tied.
    tied: float = 1e-9
    #: A Newton step this small leaves an error of its square.
    settled: float = 1e-6
    #: Residual of the last step that will do (all points on the face are optimal), and of those
    #: before it, which need be no more exact than the square of what they move.
    tie_good: float = 1e-7
    tie_rough: float = 1e-3
    #: Curvature around the iterate that trades lack of their own; it moves no fixed point.
    tie_proximal: float = 1e-6
    #: What is added to equations between multipliers, squared, so that they have one solution.
    no_ray_left: float = 1e-9
    #: Curvature of a column, relative to its probability, or of a pair, that determines nothing.
    flat: float = 1e-9

    # ------------------------------------------------------------------ answers to each other
    #: Change of trades at which they are fixed, what rounding may leave, and where answers near
    #: the trades have settled: they move slowly.
    fixed_point: float = 1e-9
    fixed_point_nearly: float = 1e-7
    fixed_point_near: float = 1e-6
    #: Singular values of past changes, relative to the largest, that tell nothing.
    mixing: float = 1e-10
    #: A surplus, relative to what is traded, that is none.
    no_surplus: float = 1e-4
    #: Residual, in the market's own units, of conditions that nothing minimises: asked of Newton's
    #: method, and believed.
    complementary: float = 1e-11
    complementary_nearly: float = 1e-8
    #: What regularises a step of it, times the error left and at most, and where it is singular.
    step_proximal: float = 1e-3
    step_proximals: tuple[float, ...] = (1e-6, 1e-4, 1e-2)
    #: Share of the decrease that a straight line promises which makes a step long enough.
    step_enough: float = 1e-4
    #: Equilibria no farther apart are one.
    one_equilibrium: float = 1e-6

    # ------------------------------------------------------------------ contracts
    #: A probability this close, relatively, to an end of its envelope or to a price is at it: by
    #: sorting, and by an interior point.
    at_end: float = 1e-9
    at_end_found: float = 1e-7
    #: Multipliers, relative to the largest, that are none in what makes up a probability.
    no_share: float = 1e-8
    #: Costs this close, relative to the largest, are equal; tried in turn, since PyPSA's solver
    #: may move dispatch a bit.
    equal_costs: tuple[float, ...] = (0.0, 1e-9, 3e-9, 1e-8, 1e-7)
    equal_costs_on_curves: tuple[float, ...] = (3e-7, 1e-6, 1e-5)
    #: What a constant payoff may vary by, relative to its size.
    constant_payoff: float = 1e-9

    # ------------------------------------------------------------------ the grid
    #: What is this near to its limit is at it.
    at_limit: float = 1e-7
    #: Prices that are none, and accuracy of those that are, relative to the largest.
    no_grid_price: float = 1e-9
    grid_price: float = 1e-10
    #: Efficiencies that make up for each other.
    efficiency: float = 1e-9
    #: Limits farther away than this, relative to the largest power, have no multiplier.
    near_limit: float = 1e-3
    #: Effect on a flow, relative to what causes it, that is none.
    no_effect: float = 1e-9
    #: Of limits in the AC power flow.
    power_flow: float = 1e-6
    #: Mismatch asked of pandapower's power flow, MVA: its own files are in MW.
    pandapower: float = 1e-9

    # ------------------------------------------------------------------ costs compared
    #: What a cell counts for at least in a step of Newton's method, of its probability times the
    #: largest weight: springs, at rest at a solution.
    spring: float = 0.1
    #: Of the market's money: gains below it, differences of costs, are known relative to it only.
    small_gain: float = 1e-3

    # ------------------------------------------------------------------ certificates
    #: How far a decision may move where it is worked out what moving it gains, in largest powers.
    reach: float = 1e3

    # ------------------------------------------------------------------ the model left to PyPSA
    #: How far variables may move from the market's solution.
    room: float = 1e-8
    #: Factors between the market's units and those PyPSA's solver sees, so that `room` is far
    #: above its tolerances: of quantities, and of the largest cost.
    magnification: float = 1e2
    largest_cost: float = 1.0
    #: Costs, relative to the largest, that decide nothing there.
    small_cost: float = 1e-4

    # ------------------------------------------------------------------ agents' algorithms
    #: On movement, disagreement and exploitability, by default.
    agents: float = 1e-8
    #: A trade this close to its capacity is at it; a start may break (1) by so much.
    full: float = 1e-9
    start_slack: float = 1e-7
    #: Numbers this close, relative to them or to typical ones, are one to agents. Far above what
    #: rounding leaves in data of other units, so that a run is the same in any.
    told_apart: float = 1e-11
    #: How exactly risk-averse agents work out tau / p: a share of the last residual, and at best.
    care: float = 1e-3
    reply: float = 1e-9
    #: Below this tau / p, powers follow from quantities by cost, not from the weighted knapsack.
    unseen: float = 1e-6
    #: Errors of prices that agents agreed on, in typical prices.
    agreed: float = 1e-3
    #: Curvature of a reply, relative to its cost, at least.
    reply_curvature: float = 1e-10

    # ------------------------------------------------------------------ data and reports
    #: Of the sum of probabilities, and of sums of data that a file keeps as text.
    probability: float = 1e-9
    stored: float = 1e-9
    #: Of symmetry, diagonal and least eigenvalue of a correlation.
    correlation: float = 1e-8
    #: A quantity closer to a limit than this share of the range counts as at it.
    inside: float = 1e-4
    #: Quantities and differences in a report that are rounding, relative to the largest.
    reported: float = 1e-9
    #: What is exactly 0 is drawn here: a logarithm shows no zero.
    drawn: float = 1e-16

    def __post_init__(self) -> None:
        """What is asked of solvers is tighter than what is believed, and that than the promise."""
        order = (self.solver, self.good, self.acceptable, self.acceptable_risk, self.promised)
        if list(order) != sorted(order):
            raise ValueError(f"{order} do not rise from what solvers are asked to the promise")


ACCURACY: Final = Accuracy()
