"""Between which ends nodal prices may lie, where several would do (MODEL.md §4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pypsa
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import OWN_MULTIPLIERS, PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.units import Numbers, Units
from pypsa_p2p.formulation.places import rows_of_balances
from pypsa_p2p.markets.clearing.own_units import typical_units
from pypsa_p2p.markets.record import recorded, recorded_risk
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.certificate.grid import require_known_grid
from pypsa_p2p.solution.certificate.rebuilt import HeldMarket, rebuild
from pypsa_p2p.solution.money import Money
from pypsa_p2p.solution.results import results
from pypsa_p2p.solution.solved_market import partners_share
from pypsa_p2p.solvers.arrays import largest_entries
from pypsa_p2p.solvers.limits import probability_of
from pypsa_p2p.solvers.multipliers import Optimum


def price_range(n: pypsa.Network) -> xr.Dataset:
    """The least and the greatest nodal price that would do, of each prosumer.

    Where demand and supply are steps or at their limits, or constraints couple hours, an optimum
    has many prices. `results` reports one of them by one rule; this tells how far each could go,
    risk-adjusted probabilities as they are. The ends of one price need not go with those of
    another.

    Parameters
    ----------
    n : pypsa.Network
        Solved with a market.

    Returns
    -------
    xarray.Dataset
        ``least`` and ``greatest`` (scenario, snapshot, prosumer), EUR/MWh of the scenario;
        infinite where there is no end, both the nodal price where it is unique, NaN where there
        is none, or where it is one of a range in a scenario she does not weigh (but for the
        community's risk as one).

    Raises
    ------
    MarketError
        No market is solved, or one with losses on its grid, with constraints of
        the user's own, or in which both ends of an edge have prices of their own (unequal weights,
        and answers of Gauss-Seidel and Jacobi).
    ConvergenceError
        The linear programs that find the ends were not solved, or what was solved is no optimum.

    Examples
    --------
    One MWh is wanted at any price up to 40, offered at 10 and, by somebody else, at 30:

    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> p2p.add_prosumers(n, ["cheap", "dear", "buyer"], demand=[0, 0, 1], demand_max=[0, 0, 1],
    ...     utility_quadratic=0, generation_max=[1, 1, 0], marginal_cost=[10, 30, 0])
    >>> n.generators.loc["buyer elastic demand", "marginal_cost"] = 40
    >>> p2p.add_trades(n, "complete", capacity=5)
    >>> p2p.PeerToPeerMarket().optimize(n)
    ('ok', 'optimal')
    >>> p2p.results(n).nodal_price.values.ravel().round(6)
    array([20., 20., 20.])
    >>> ends = price_range(n)
    >>> ends.least.values.ravel().round(6), ends.greatest.values.ravel().round(6)
    (array([10., 10., 10.]), array([30., 30., 30.]))
    """
    settings = recorded(n)
    _require_known(settings)
    r = results(n)
    ends = {"least": r["nodal_price"].copy(), "greatest": r["nodal_price"].copy()}
    wanted = ~r["price_unique"] & r["nodal_price"].notnull()
    if bool(wanted.any()):
        found = _ends(n, settings, wanted)
        for name, values in zip(ends, found, strict=True):
            ends[name] = values.where(wanted, ends[name]).transpose(SCENARIO, SNAPSHOT, PROSUMER)
    for name, values in ends.items():
        values.attrs = {"unit": "EUR/MWh", "long_name": f"{name} nodal price that would do"}
    return xr.Dataset(ends)


def _require_known(settings: Mapping[str, Any]) -> None:
    require_known_grid(settings, "price_range")
    if settings.get(OWN_MULTIPLIERS, False):
        raise MarketError(
            "price_range is not available where the two ends of an edge have prices of their own: "
            "in generalized equilibria of unequal weights, and in what Gauss-Seidel or Jacobi "
            "found. Solve the variational equilibrium, by market.optimize(n) or ADMM."
        )


def _ends(
    n: pypsa.Network, settings: Mapping[str, Any], wanted: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray]:
    """Least and greatest of the prices wanted; NaN elsewhere."""
    data = read_market(n, n.snapshots[settings["snapshots"]], grid=settings["delivery"] == "grid")
    measure, attitude = recorded_risk(settings, data)
    may_hold = measure.envelope(data.probability, attitude)
    shared = settings.get("here_and_now", ())
    game = rebuild(n, data, settings["surplus"], may_hold, here_and_now=shared)
    money = Money.of(n, data)
    theirs = sorted(set(settings["constraints"]) - set(game.compiled.model.constraints))
    if theirs:
        raise MarketError(
            f"price_range does not know constraints {listed(theirs)}, which are no part of the "
            "market: solve it without them, or ask what they cost by their own multipliers."
        )
    # The community as one dispatches every scenario as if it were certain.
    certain = ~money.weighed.any(PROSUMER) & settings["together"]
    weight = money.tau.where(~certain, data.probability)
    by_prosumer = weight.transpose(PROSUMER, SCENARIO).to_numpy()
    slope = _slope(game, partners_share(settings))
    row = largest_entries(game.program.A)
    units = typical_units(game.program, row, np.append(game.trades, game.fees))
    optimum = _optimum(game, slope, by_prosumer, row, units)
    rows = rows_of_balances(game.compiled, data.prosumers)
    known = (wanted & (money.weighed | certain)).transpose(*wanted.dims).to_numpy() & (rows >= 0)
    place = np.full(game.compiled.row_labels.size, -1)
    place[optimum.free] = np.arange(optimum.free.size)
    at = np.where(known, place[rows], -1)
    asked = at >= 0
    unit = optimum.of_row[rows] * units.price / row[rows]
    worth = weight.where(weight > 0.0) * data.weighting
    unit = unit / worth.transpose(*wanted.dims).to_numpy()
    ends = np.full((2, *at.shape), np.nan)
    reached = np.stack(optimum.face.nearest_possible().reach(at[asked]))
    ends[:, asked] = reached * unit[asked] + 0.0  # no -0
    return wanted.copy(data=ends[0]), wanted.copy(data=ends[1])


def _slope(game: HeldMarket, share: float) -> Numbers:
    """What one MW more of everything costs whoever decides, EUR/MW, not weighted by risk.

    `share` of the partner's quantity counts, see `partners_share`; the game holds each one's own.
    """
    terms, owner = sp.coo_matrix(game.program.P), game.compiled.owner
    of_partner = owner[terms.row] != owner[terms.col]
    counted = terms.data * np.where(of_partner, share, 1.0)
    curvature = sp.csr_matrix((counted, (terms.row, terms.col)), terms.shape)
    return np.asarray(curvature @ game.held + game.program.c)


def _optimum(
    game: HeldMarket, slope: Numbers, weight: Numbers, row: Numbers, units: Units
) -> Optimum:
    """The market at its answer, in units in which prices, powers and coefficients are about 1.

    Parameters
    ----------
    weight : (N, S)
        What money of each scenario is worth to each prosumer.
    row : (rows,)
        Largest coefficient of every row.
    """
    program, price, power = game.program, units.price, units.power
    nobody = program.probability[weight.size :]
    scaled = replace(
        program,
        P=program.P * (power / price),
        c=program.c / price,
        A=sp.diags(1.0 / row) @ program.A,
        lower=program.lower / (row * power),
        upper=program.upper / (row * power),
        x_lower=program.x_lower / power,
        x_upper=program.x_upper / power,
    )
    of_column, of_row = probability_of(program)
    return Optimum(
        program=scaled,
        x=game.held / power,
        gradient=slope / price * program.per_column(np.append(weight.ravel(), nobody)),
        row_dual=np.zeros(row.size),
        of_column=of_column,
        of_row=of_row,
        priced=game.is_balance.astype(float),
        tidy=game.is_balance,
        held=np.zeros(row.size, dtype=bool),
        known=False,
    )
