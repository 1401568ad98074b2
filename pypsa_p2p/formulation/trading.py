"""Bilateral trade as linopy variables and constraints (MODEL.md §2).

In PyPSA's signs ``Link-p`` is p0, minus what the prosumer at bus0 buys over the edge, and
``Link-p1`` is p1, minus what the prosumer at bus1 buys. Both in MW, dims (scenario, name,
snapshot) with ``name`` the trade edges.
"""

from __future__ import annotations

from typing import Any

import linopy
import numpy as np
import xarray as xr
from linopy.constraints import Constraint

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.linopy_state import add_constraints, add_free_variables, change
from pypsa_p2p.common.names import NAME
from pypsa_p2p.formulation.fees import define_fees, fee_terms
from pypsa_p2p.formulation.rows import total_cost
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Labels

#: p1, the power entering a trade edge at bus1; PyPSA writes it to ``n.links_t.p1``.
QUANTITY1 = "Link-p1"
RECIPROCITY = "Link-p1-reciprocity"
CAPACITY0 = "Link-p-capacity0"
CAPACITY1 = "Link-p1-capacity1"
_PYPSA_LIMITS = {"Link-fix-p-lower": -np.inf, "Link-fix-p-upper": np.inf}
NODAL_BALANCE = "nodal_balance"  # how PyPSA's names of its balances end


def define_trading(m: linopy.Model, data: MarketData, surplus: bool) -> None:
    """Turn PyPSA's lossless p2p Links into bilateral trades: (1), (2), (3), and fees on them.

    Raises
    ------
    MarketError
        The model holds a market already.
    """
    if QUANTITY1 in m.variables:
        raise MarketError(
            "The model holds a market already. Build it anew, n.optimize.create_model(), and give "
            "it one market."
        )
    frozen = [name for name, rows in m.constraints.items() if not isinstance(rows, Constraint)]
    if frozen:
        raise MarketError(
            f"Constraints {listed(frozen)} are frozen and cannot be turned into trades: build the "
            "model without freeze_constraints and sparse."
        )
    define_quantity_variables(m, data)
    define_reciprocity_constraints(m, data, surplus)
    define_capacity_constraints(m, data)
    define_exchange(m, data)
    if data.charged:
        define_fees(m, data, quantities(m, data))


def define_quantity_variables(m: linopy.Model, data: MarketData) -> None:
    """p1 of every trade edge, MW: the second of the two quantities of an edge."""
    p0 = quantity0(m, data)
    add_free_variables(m, QUANTITY1, {str(dim): p0.indexes[dim] for dim in p0.dims})


def define_reciprocity_constraints(m: linopy.Model, data: MarketData, surplus: bool) -> None:
    r"""Nobody sells what the other does not sell: :math:`q_{mn} + q_{nm} \le 0` (1).

    In PyPSA's signs p0 + p1 >= 0, the surplus that is sold at the import price; an equality
    where no surplus is allowed. Its dual is :math:`\zeta`, EUR/MW: the
    price of the edge times probability and hours.
    """
    labels = np.stack([q.to_numpy() for q in quantities(m, data)], axis=-1)
    zero = xr.zeros_like(m[QUANTITY1].labels, dtype=float)
    add_constraints(m, RECIPROCITY, labels, 1.0, ">=" if surplus else "=", zero)


def define_capacity_constraints(m: linopy.Model, data: MarketData) -> None:
    r"""Trade capacity :math:`q_{mn} \le \kappa_{mn}` of each direction (2).

    Where a pair trades day ahead too, the capacity of its edge in real time is that of both,
    :math:`q_{mn} + r_{mn} \le \kappa_{mn}` (MODEL.md §12).

    PyPSA's own limits of ``Link-p`` give way to them: the upper one would bound what the
    prosumer at bus0 sells, which (2) does not.
    """
    p0, p1 = quantities(m, data)
    beside = _day_ahead(p0, p1, data)
    rows = ((CAPACITY0, p0, data.capacity0), (CAPACITY1, p1, data.capacity1))
    for (name, p, capacity), ahead in zip(rows, beside, strict=True):
        least = _as_model(-capacity, data, p)
        labels = np.stack([p.to_numpy(), *ahead], axis=-1)
        add_constraints(m, name, labels, 1.0, ">=", least)
    for name, nowhere in _PYPSA_LIMITS.items():
        limit = m.constraints[name]
        rhs = limit.rhs.transpose(..., NAME).copy()
        rhs[..., rhs.indexes[NAME].isin(data.edges)] = nowhere
        change(limit, rhs=rhs.transpose(*limit.rhs.dims).to_numpy())


def _day_ahead(
    p0: xr.DataArray, p1: xr.DataArray, data: MarketData
) -> tuple[list[Labels], list[Labels]]:
    """Labels of what each end of an edge in real time bought day ahead; none where nobody did."""
    ahead_of = data.ahead_of
    if (ahead_of < 0).all():
        return [], []
    axis = p0.dims.index(NAME)
    both = np.concatenate([p0.to_numpy(), p1.to_numpy()], axis=axis)
    there = np.expand_dims(ahead_of >= 0, tuple(range(1, both.ndim - axis)))
    labels = np.where(there, np.take(both, ahead_of, axis=axis), -1)
    first, second = np.split(labels, 2, axis=axis)
    return [first], [second]


def define_exchange(m: linopy.Model, data: MarketData) -> None:
    """Let bus1 receive -p1 where PyPSA's balance (3) says p0: the surplus p0 + p1 leaves."""
    p0, p1 = quantity0(m, data).labels.to_numpy(), m[QUANTITY1].labels.to_numpy()
    other = np.full(max(int(p0.max()), int(p1.max())) + 2, -1)  # the last: label -1, no term
    other[p0] = p1
    for name in [name for name in m.constraints if name.endswith(NODAL_BALANCE)]:
        balance = m.constraints[name]
        labels, coeffs = balance.vars.to_numpy(), balance.coeffs.to_numpy()
        replacement = other[np.where(labels < other.size - 1, labels, -1)]
        at_bus1 = (replacement >= 0) & (coeffs > 0)
        change(
            balance,
            vars=np.where(at_bus1, replacement, labels),
            coeffs=np.where(at_bus1, -coeffs, coeffs),
        )


def quantity0(m: linopy.Model, data: MarketData) -> linopy.Variable:
    """p0 of every trade edge, MW: PyPSA's ``Link-p`` of the p2p Links."""
    p0: linopy.Variable = m["Link-p"].sel({NAME: data.edges})
    return p0


def quantities(m: linopy.Model, data: MarketData) -> list[xr.DataArray]:
    """Labels of p0 and p1 in the model; none where there are no trade edges."""
    return [quantity0(m, data).labels, m[QUANTITY1].labels] if len(data.edges) else []


def trade_cost(m: linopy.Model, data: MarketData, cross: float) -> Any:
    r"""Expected cost of trading, EUR (6), (7).

    .. math:: \sum_\omega p_\omega \sum_t w_t \sum_n \sum_m
        (a_{mn} q_{mn} + \mathrm{cross}\, a_{mn} q_{nm} + b_{mn} + p^0_n) q_{mn}
        + f_{mn} |q_{mn}|

    `cross` is 1 in the social cost (8) and 1/2 in the potential whose minimiser is the
    risk-neutral variational equilibrium (MODEL.md §4).
    """
    p0, p1 = quantities(m, data)
    hours = data.probability * data.weighting
    linear0 = -(data.price0 + _at(data.import_price, data.bus0)) * hours
    linear1 = -(data.price1 + _at(data.import_price, data.bus1)) * hours
    a = data.congestion * hours
    terms = [
        (linear0, p0),
        (linear1, p1),
        (a, p0, p0),
        (a, p1, p1),
        (2 * cross * a, p0, p1),
    ]
    of_trades = [(_as_model(c, data, p0), *factors) for c, *factors in terms]
    return total_cost(m, [*of_trades, *fee_terms(m, data)])


def _at(by_prosumer: xr.DataArray, ends: xr.DataArray) -> xr.DataArray:
    """Values of the prosumers at the given ends of the edges, `prosumer` becoming `name`."""
    return by_prosumer.sel(prosumer=ends).drop_vars("prosumer")


def _as_model(array: xr.DataArray, data: MarketData, like: xr.DataArray) -> xr.DataArray:
    """`array` (scenario, snapshot, name) with the dims, in their order, of the model's variable."""
    return data.for_model(array).transpose(*like.dims)
