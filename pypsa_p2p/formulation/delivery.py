"""Trades that must be deliverable over the physical grid (MODEL.md §6)."""

from __future__ import annotations

import linopy
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from linopy.constants import TERM_DIM

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.linopy_state import add_constraints
from pypsa_p2p.common.names import NAME
from pypsa_p2p.formulation.rows import NO_VARIABLE
from pypsa_p2p.formulation.trading import NODAL_BALANCE, QUANTITY1, quantities
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.sites import Sites

#: What each prosumer takes from the grid, and what leaves it at each connection, MW;
#: PyPSA writes them to n.buses_t.net_import and n.buses_t.surplus.
NET_IMPORT = "Bus-net_import"
SURPLUS = "Bus-surplus"

Labels = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def define_delivery(m: linopy.Model, data: MarketData, sites: Sites) -> None:
    """Let the grid carry what is traded and retailed: net imports leave it, and so does surplus.

    Raises
    ------
    MarketError
        A prosumer sits at a bus that nothing connects.
    """
    define_net_import(m, data, sites)
    define_surplus(m, sites)
    define_withdrawal(m, sites)


def define_net_import(m: linopy.Model, data: MarketData, sites: Sites) -> None:
    r"""What a prosumer takes from the grid, MW.

    It is :math:`Q_n = \sum_m q_{mn}` of all her partners, and what she imports from her retailer
    less what she exports to him. In PyPSA's signs Q + sum p0 + sum p1 = sum p of her retail
    contracts, over the edges at which she is at bus0, at bus1.
    """
    sent = quantities(m, data)
    like = _like(data.prosumers, _powers(m))
    labels = _variable(m, like, NET_IMPORT, -np.inf).to_numpy()
    ends = np.append(data.bus0.to_numpy(), data.bus1.to_numpy())
    nothing = _edges_last(_powers(m))[..., :0]
    traded = np.concatenate([nothing, *map(_edges_last, sent)], axis=-1)
    terms = _grouped(traded, data.prosumers.get_indexer(pd.Index(ends)), len(data.prosumers))
    axis = like.dims.index(NAME)
    whose = data.prosumers.get_indexer(pd.Index(sites.retail))
    retail = _grouped(_retail(m, sites), whose, len(data.prosumers))
    rows = [labels[..., None], *(np.moveaxis(each, -2, axis) for each in (terms, retail))]
    signs = np.repeat([1.0, -1.0], [1 + terms.shape[-1], retail.shape[-1]])
    add_constraints(m, f"{NET_IMPORT}-balance", np.concatenate(rows, axis=-1), signs, "=", like)


def define_surplus(m: linopy.Model, sites: Sites) -> None:
    """What leaves the grid at its connection, MW: the surplus, less what the grid itself takes.

    Nothing comes in there: lines that lose energy and loads that are nobody's live on what is
    traded and not taken, or on generators of the grid. Where the balances alone see to that, on
    a grid that keeps and takes nothing, the variable is free, so that the grid price at the
    connection is 0. Between several parts of a grid nothing flows: none may import.
    """
    balanced = len(sites.connections) == 1 and _passes_all_on(m, sites)
    _variable(m, _like(sites.connections, _powers(m)), SURPLUS, -np.inf if balanced else 0.0)


def _powers(m: linopy.Model) -> xr.DataArray:
    """Labels of powers, for their dims: of trades, or of generators where there are none."""
    labels: xr.DataArray = m["Link-p" if QUANTITY1 in m.variables else "Generator-p"].labels
    return labels


def _retail(m: linopy.Model, sites: Sites) -> Labels:
    """Labels of the power of all retail contracts, last."""
    if sites.retail.empty:
        some = m[NET_IMPORT].labels.transpose(..., NAME).to_numpy()
        return some[..., :0]
    return _edges_last(m["Generator-p"].labels.sel({NAME: sites.retail.index}))


def _passes_all_on(m: linopy.Model, sites: Sites) -> bool:
    """Whether the balances of all the grid's buses add up to nothing: no losses, no assets."""
    labels, coefficients = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for name in _balances(m):
        balance = m.constraints[name]
        here = balance.data.isel({NAME: balance.indexes[NAME].isin(sites.part)})
        if (here["rhs"].where(here["labels"] >= 0, 0.0) != 0).any():
            return False
        used = ((here["vars"] >= 0) & (here["labels"] >= 0)).to_numpy()
        labels.append(here["vars"].to_numpy()[used])
        coefficients.append(here["coeffs"].to_numpy()[used])
    total = np.bincount(np.concatenate(labels), np.concatenate(coefficients))
    return bool(np.abs(total).max(initial=0.0) <= ACCURACY.efficiency)


def define_withdrawal(m: linopy.Model, sites: Sites) -> None:
    """Put net imports and surplus into PyPSA's balances of the grid's buses.

    What retailers sell to prosumers comes in at their connections, and what they buy leaves there.
    """
    at = pd.Index([*sites.bus, *sites.connections], dtype=object)
    from_retailers = pd.Index(sites.retail.map(sites.connection), dtype=object)
    reached: set[object] = set()
    for name in _balances(m):
        balance = m.constraints[name]
        buses = balance.indexes[NAME]
        others = [dim for dim in balance.labels.dims if dim != NAME]
        variables = [m[kind].labels.transpose(*others, NAME) for kind in (NET_IMPORT, SURPLUS)]
        taken = np.concatenate([labels.to_numpy() for labels in variables], axis=-1)
        out = _grouped(taken, buses.get_indexer(at), len(buses))
        into = _grouped(_retail(m, sites), buses.get_indexer(from_retailers), len(buses))
        more = xr.DataArray(np.concatenate([out, into], -1), dims=(*others, NAME, TERM_DIM))
        signs = np.repeat([-1.0, 1.0], [out.shape[-1], into.shape[-1]])
        balance.update(lhs=_with_terms(balance, more, signs, m))
        row = (balance.labels >= 0).any(others)
        reached |= set(buses[row.to_numpy()])
    nowhere = at[~at.isin(reached)]
    if len(nowhere):
        raise MarketError(
            f"Buses {listed(nowhere.unique())} of the grid are connected to nothing, so that no "
            "trade can be delivered there. Connect them, or move the prosumers' grid_bus."
        )


def _balances(m: linopy.Model) -> list[str]:
    """PyPSA's balances of buses, one constraint for each number of terms."""
    return [name for name in m.constraints if name.endswith(NODAL_BALANCE)]


def _with_terms(
    balance: linopy.constraints.Constraint,
    labels: xr.DataArray,
    signs: Numbers,
    m: linopy.Model,
) -> linopy.LinearExpression:
    """The left-hand side with further variables, by label, each with its sign."""
    terms = balance.lhs.data
    *dims, term = terms.vars.dims
    more = labels.transpose(*dims, term)
    data = xr.Dataset(
        {
            "vars": ((*dims, term), np.concatenate([terms.vars, more], axis=-1)),
            "coeffs": (
                (*dims, term),
                np.concatenate([terms.coeffs, (more.to_numpy() >= 0) * signs], axis=-1),
            ),
            "const": terms["const"],
        },
        coords={dim: terms.indexes[dim] for dim in dims},
    )
    return linopy.LinearExpression(data, m)


def _like(names: pd.Index, p0: xr.DataArray) -> xr.DataArray:
    """Zeros over the given names, with the other dims, in their order, of the trades."""
    coords = {dim: names if dim == NAME else p0.indexes[dim] for dim in p0.dims}
    shape = [len(index) for index in coords.values()]
    return xr.DataArray(np.zeros(shape), coords={d: pd.Index(i, name=d) for d, i in coords.items()})


def _variable(m: linopy.Model, like: xr.DataArray, name: str, lower: float) -> xr.DataArray:
    coords = [like.indexes[dim] for dim in like.dims]
    labels: xr.DataArray = m.add_variables(
        lower=lower, coords=coords, dims=like.dims, name=name
    ).labels
    return labels


def _edges_last(labels: xr.DataArray) -> Labels:
    return labels.transpose(..., NAME).to_numpy()


def _grouped(labels: Labels, group: Labels, groups: int) -> Labels:
    """Labels (..., k) by group, (..., groups, most in one), padded; group -1 is left out."""
    kept = np.flatnonzero(group >= 0)
    place = pd.Series(group[kept]).groupby(group[kept]).cumcount().to_numpy()
    width = int(place.max(initial=-1)) + 1
    out = np.full((*labels.shape[:-1], groups, width), NO_VARIABLE)
    out[..., group[kept], place] = labels[..., kept]
    return out
