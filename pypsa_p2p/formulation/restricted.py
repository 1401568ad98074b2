"""A compiled market among some of its prosumers: a coalition by itself (MODEL.md §10).

What the others own leaves the model with all that they trade, as if they had never been there:
the market of a network without them, without reading and compiling that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.common.names import NAME, PROSUMER
from pypsa_p2p.formulation.compiled import CompiledModel
from pypsa_p2p.formulation.places import Places, Posed, Positions
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.solvers.arrays import Flags, Labels, Sparse, lines_of, picked


class Coalitions:
    """A compiled market, of which that of any of its prosumers alone can be had.

    Raises
    ------
    MarketError
        More than trades ties prosumers to each other, or to the grid.
    """

    def __init__(self, posed: Posed) -> None:
        _require_own_rows(posed)
        data = posed.data
        arrays = {
            name: one
            for name, one in vars(data).items()
            if isinstance(one, xr.DataArray) and name != "closed"  # of contracts, not of edges
        }
        self._posed = posed
        self._arrays = xr.Dataset(arrays)
        self._ends = data.ends

    @property
    def prosumers(self) -> pd.Index:
        """Names of all of them, (N,)."""
        return self._posed.data.prosumers

    def market(self, members: Labels) -> Posed:
        """The market of some prosumers: of what is theirs, and of their trades with each other.

        What is nobody's is left out.

        Parameters
        ----------
        members : (k,)
            Positions of the prosumers, ascending.
        """
        data, compiled, places, plain = self._posed
        inside = _flags(len(data.prosumers) + 1, members)  # the last: nobody
        edges = np.flatnonzero(inside[self._ends[0]] & inside[self._ends[1]])
        theirs = inside[compiled.owner]
        columns = np.flatnonzero(theirs & ~_abroad(compiled, places, edges))
        rows = np.flatnonzero(
            _touched(compiled.program.A, _flags(theirs.size, columns))
            | (places.priced & _touched(compiled.program.A, theirs))  # may have no column left
        )
        return Posed(
            self._data(members, edges),
            _compiled(compiled, members, rows, columns),
            _places(places, members, edges, _Renamed(rows, columns, compiled)),
            plain,
        )

    def _data(self, members: Labels, edges: Labels) -> MarketData:
        """The data of some prosumers and edges."""
        data, names = self._posed.data, self.prosumers[members]
        chosen = self._arrays.isel({PROSUMER: members, NAME: edges})
        arrays: dict[str, Any] = {str(name): array for name, array in chosen.data_vars.items()}
        assets = {
            component: whose[np.isin(whose.to_numpy(), names)]
            for component, whose in data.assets.items()
        }
        return replace(data, **arrays, assets=assets, closed=_closed(data, assets))


def _closed(data: MarketData, assets: Mapping[str, xr.DataArray]) -> xr.DataArray | None:
    """When retail contracts among these assets are closed, (scenario, snapshot, name)."""
    if data.closed is None:
        return None
    theirs = data.closed.indexes[NAME].isin(assets["Generator"].indexes[NAME])
    return data.closed.isel({NAME: np.flatnonzero(theirs)})


def _require_own_rows(posed: Posed) -> None:
    """Refuse a market in which more than trades tie prosumers to each other, or to the grid.

    Raises
    ------
    MarketError
        Naming the constraints.
    """
    compiled, places = posed.compiled, posed.places
    A = compiled.program.A.tocsr()
    filled = np.flatnonzero(np.diff(A.indptr))
    of_entry, starts = compiled.owner[A.indices], A.indptr[filled]
    tying = np.zeros(A.shape[0], dtype=bool)
    tying[filled] = np.minimum.reduceat(of_entry, starts) < np.maximum.reduceat(of_entry, starts)
    tying[places.reciprocity.ravel()] = False
    if tying.any():
        found: Any = compiled.model.constraints.get_label_position(compiled.row_labels[tying])
        names = dict.fromkeys(name for name, _ in found)
        raise MarketError(
            f"Constraints {listed(names)} tie prosumers to each other beside their trades. What a "
            "coalition may use of what is shared nobody has said, so that it has no cost of its "
            "own. Give every prosumer limits of her own."
        )


class _Renamed:
    """New positions of the rows and columns that are kept; -1 of all others, and of -1."""

    def __init__(self, rows: Labels, columns: Labels, compiled: CompiledModel) -> None:
        self.rows, self.columns = rows, columns
        self._row = np.full(compiled.row_labels.size + 1, -1)
        self._column = np.full(compiled.column_labels.size + 1, -1)
        self._row[rows] = np.arange(rows.size)
        self._column[columns] = np.arange(columns.size)

    def row(self, old: Positions) -> Positions:
        return np.asarray(self._row[old])

    def column(self, old: Positions) -> Positions:
        return np.asarray(self._column[old])


def _abroad(compiled: CompiledModel, places: Places, edges: Labels) -> Flags:
    """Columns of trades over other edges than these, and of what fees are paid on there."""
    left = np.setdiff1d(np.arange(places.reciprocity.shape[-1]), edges)
    quantities = np.concatenate([q[..., left].ravel() for q in places.quantity])
    flags = _flags(compiled.owner.size, quantities)
    if places.fees.size:
        A = compiled.program.A.tocsr()
        beside = _touched(A, flags)[lines_of(A)] & _flags(flags.size, places.fees)[A.indices]
        flags[A.indices[beside]] = True
    return flags


def _flags(size: int, at: Labels) -> Flags:
    flags = np.zeros(size, dtype=bool)
    flags[at] = True
    return flags


def _touched(A: Sparse, columns: Flags) -> Flags:
    """Rows with an entry in some of these columns, (rows,)."""
    rows = A.tocsr()
    return _flags(rows.shape[0], lines_of(rows)[columns[rows.indices]])


def _compiled(
    compiled: CompiledModel, members: Labels, rows: Labels, columns: Labels
) -> CompiledModel:
    """The rows and columns that are kept, their owners counted among the members."""
    program = compiled.program
    place = np.full(compiled.owner.max(initial=-1) + 2, -1)
    place[members] = np.arange(members.size)
    return replace(
        compiled,
        program=replace(
            program,
            P=picked(program.P.tocsc(), columns, columns),
            c=program.c[columns],
            A=picked(program.A.tocsr(), rows, columns),
            lower=program.lower[rows],
            upper=program.upper[rows],
            x_lower=program.x_lower[columns],
            x_upper=program.x_upper[columns],
        ),
        column_labels=compiled.column_labels[columns],
        row_labels=compiled.row_labels[rows],
        scenario=compiled.scenario[columns],
        owner=place[compiled.owner[columns]],
        capacities=np.flatnonzero(_flags(compiled.owner.size, compiled.capacities)[columns]),
    )


def _places(places: Places, members: Labels, edges: Labels, new: _Renamed) -> Places:
    """Where the rows and columns that are kept stand now."""
    output = new.column(places.output)
    theirs = (output >= 0).any(axis=(0, 1))
    fees = new.column(places.fees)
    here, there = (new.column(one[..., edges]) for one in places.quantity)
    of0, of1 = (new.row(one[..., edges]) for one in places.capacity)
    return replace(
        places,
        generators=places.generators[np.flatnonzero(theirs)],
        output=output[..., theirs],
        energy=new.row(places.energy[..., members]),
        quantity=(here, there),
        fees=fees[fees >= 0],
        reciprocity=new.row(places.reciprocity[..., edges]),
        capacity=(of0, of1),
        priced=places.priced[new.rows],
        reported=places.reported[new.rows],
        partner=picked(places.partner.tocsr(), new.columns, new.columns),
    )
